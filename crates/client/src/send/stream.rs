//! Sending many messages over one stream, kept open.
//!
//! One task has the stream and the window of messages without an outcome. It never waits for the exchange to take a message without
//! reading outcomes meanwhile: the exchange takes no message for whose outcome it has no room.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use airut_domain::refusal::Reason;
use airut_wire::v1::{SendRequest, SendStreamResponse};
use bytes::{BufMut, Bytes};
use futures::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::{
    Encoded, SendOutcome,
    window::{Told, Window},
};
use crate::{
    connect::Client,
    error::{CallError, Refused},
    receipt::ReceiptKeys,
    retry::Backoff,
};

const METHOD: &str = "/airut.v1.DeliveryService/SendStream";

/// How a lost stream is opened again. `tries` is of no consequence here: the settings' patience is.
const STREAMS: Backoff = Backoff { tries: u32::MAX, first: Duration::from_millis(100), most: Duration::from_secs(15) };

/// How long opening a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// While nothing waits, patience is looked at this often.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// Messages are taken from the caller and handed to the connection in batches of this size.
const BATCH: usize = 64;

/// Encoded messages that wait for the connection.
const OUTBOUND: usize = 256;

/// A permit stands for so many bytes of messages.
const PERMIT_BYTES: usize = 1024;

/// How a [`Sender`] works.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// As many messages may be without an outcome, or have one that was not taken: 1 to 65536. The exchange works on 4096 of a
    /// stream at once.
    pub window: usize,
    /// As many bytes of messages may be without an outcome. A single larger message passes when nothing else is under way.
    pub window_bytes: usize,
    /// When there has been no outcome for this long although messages wait, or the exchange says that trying again does not help,
    /// the sender gives up. `None`: never, it tries for ever.
    pub patience: Option<Duration>,
}

impl Default for SenderSettings {
    fn default() -> Self {
        Self { window: 4096, window_bytes: 32 << 20, patience: None }
    }
}

/// Sends messages over one stream. Made by [`Client::sender`].
#[derive(Debug)]
pub struct Sender {
    messages: mpsc::Sender<(Encoded, Ticket)>,
    outcomes: mpsc::Sender<SendOutcome>,
    bytes: Arc<Semaphore>,
    most_permits: usize,
    gave_up: Arc<OnceLock<CallError>>,
    task: JoinHandle<()>,
}

/// The outcomes of a [`Sender`]'s messages, in the order in which they become known.
#[derive(Debug)]
pub struct Outcomes(mpsc::Receiver<SendOutcome>);

/// A message's place in the window: it is free when the outcome was taken, its bytes when the outcome is known.
#[derive(Debug)]
struct Ticket {
    place: mpsc::OwnedPermit<SendOutcome>,
    bytes: OwnedSemaphorePermit,
}

impl Ticket {
    fn settle(self, outcome: SendOutcome) {
        drop(self.bytes);
        // Whoever dropped the outcomes needs none.
        drop(self.place.send(outcome));
    }
}

impl Client {
    /// A sender, and the outcomes of what it sends. `keys` check the receipts. Its stream is opened by the first message, and
    /// opened again whenever it is lost while messages wait for their outcome. Must be called within a tokio runtime.
    pub fn sender(&self, keys: ReceiptKeys, settings: SenderSettings) -> (Sender, Outcomes) {
        let most = settings.window.clamp(1, 65_536);
        let most_permits = settings.window_bytes.div_ceil(PERMIT_BYTES).clamp(1, u32::MAX as usize / 2);
        let (outcomes, taken) = mpsc::channel(most);
        // As much room as there are places: whoever has a place never waits here.
        let (messages, from) = mpsc::channel(most);
        let gave_up = Arc::<OnceLock<CallError>>::default();
        let driver = Driver {
            client: self.clone(),
            window: Window::new(most, keys),
            from,
            ended: false,
            batch: Vec::with_capacity(BATCH),
            unsent: Vec::with_capacity(BATCH),
            pause: None,
            pauses: 0,
            progress: Instant::now(),
            patience: settings.patience,
            gave_up: Arc::clone(&gave_up),
        };
        let bytes = Arc::new(Semaphore::new(most_permits));
        let task = tokio::spawn(driver.run());
        (Sender { messages, outcomes, bytes, most_permits, gave_up, task }, Outcomes(taken))
    }
}

impl Sender {
    /// Gives a message to the stream. It waits for as long as the window is full, which is what holds back a sender that is faster
    /// than the exchange, or does not take its outcomes.
    ///
    /// Each message that was given has exactly one outcome in [`Outcomes`]. Until then it is sent again, with its id, as often as
    /// that may help: over another stream when the stream is lost, after the delay that the exchange names when it says so. However
    /// often that is, messages with the same ordering key are accepted in the order in which they were given.
    ///
    /// Cancel safe: when dropped before it is done, the message was not sent.
    ///
    /// # Errors
    /// The fault for which the sender gave up, and then always. The message was not sent.
    pub async fn send(&self, message: SendRequest) -> Result<(), CallError> {
        let place = self.outcomes.clone().reserve_owned().await;
        // Without anybody to take outcomes nobody could tell what became of the message.
        let place = place.map_err(|_| self.fault("nobody takes outcomes"))?;
        let message = Encoded::of(message);
        let permits = message.bytes.len().div_ceil(PERMIT_BYTES).clamp(1, self.most_permits);
        let permits = u32::try_from(permits).expect("bounded by most_permits");
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(permits).await.expect("it is never closed");
        // A full channel can't be, and a closed one means that the sender gave up.
        self.messages.try_send((message, Ticket { place, bytes })).map_err(|_| self.fault("the sender has ended"))
    }

    fn fault(&self, otherwise: &str) -> CallError {
        self.gave_up.get().cloned().unwrap_or_else(|| out_of_turn(otherwise))
    }

    /// Takes no further message, and waits until each has its outcome; those that were not taken yet stay in [`Outcomes`], which
    /// then ends. Without a `patience` in the settings that is for as long as the exchange can't be reached.
    ///
    /// When the future is dropped the sender goes on in the background, likewise when the sender is dropped.
    ///
    /// # Errors
    /// The fault for which the sender gave up.
    pub async fn close(self) -> Result<(), CallError> {
        let Self { messages, outcomes, bytes: _, most_permits: _, gave_up, task } = self;
        drop((messages, outcomes));
        if task.await.is_err() {
            return Err(CallError::Unreachable("the sender's task has ended".to_owned()));
        }
        gave_up.get().cloned().map_or(Ok(()), Err)
    }
}

impl Outcomes {
    /// The next outcome; `None` when the sender is closed or dropped and all were taken.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<SendOutcome> {
        self.0.recv().await
    }

    /// Up to `most` outcomes at once, as many as there are and at least one, added to `outcomes`; gives their number, 0 when the
    /// sender is closed or dropped and all were taken.
    ///
    /// Cancel safe.
    pub async fn next_many(&mut self, outcomes: &mut Vec<SendOutcome>, most: usize) -> usize {
        self.0.recv_many(outcomes, most).await
    }
}

/// The task behind a sender.
struct Driver {
    client: Client,
    window: Window<Ticket>,
    from: mpsc::Receiver<(Encoded, Ticket)>,
    /// Nothing more comes from the caller.
    ended: bool,
    batch: Vec<(Encoded, Ticket)>,
    /// What is to go to the connection next, in reverse order.
    unsent: Vec<Bytes>,
    /// The exchange said to wait: until when.
    pause: Option<Instant>,
    /// How often it has said so since it last settled a message.
    pauses: u32,
    /// When a message last had an outcome, or the first of them came.
    progress: Instant,
    patience: Option<Duration>,
    gave_up: Arc<OnceLock<CallError>>,
}

/// Why a stream ended.
enum Ended {
    /// Every message has its outcome.
    Finished,
    Lost {
        opened: bool,
        fault: CallError,
    },
}

impl Driver {
    async fn run(mut self) {
        let mut failures = 0_u32;
        while self.has_work().await {
            let (opened, fault) = match self.stream().await {
                Ended::Finished => return,
                Ended::Lost { opened, fault } => (opened, fault),
            };
            self.window.lost();
            self.pause = None;
            failures = if opened { 1 } else { failures.saturating_add(1) };
            let delay = STREAMS.delay(failures, fault.retry_after(), rand::random());
            if self.patience.is_some() && (self.is_out_of_patience(delay) || !may_pass(&fault)) {
                return self.give_up(fault).await;
            }
            tracing::warn!(%fault, failures, delay_ms = delay.as_millis(), "stream lost");
            sleep(delay).await;
        }
    }

    /// Waits until there is a message to send; tells whether there will be one.
    async fn has_work(&mut self) -> bool {
        if self.window.is_empty() {
            match self.from.recv().await {
                None => return false,
                Some((message, ticket)) => self.admit(message, ticket),
            }
            self.progress = Instant::now();
        }
        // No stream is open: what was admitted is sent by the next one.
        self.unsent.clear();
        self.window.lost();
        true
    }

    fn admit(&mut self, message: Encoded, ticket: Ticket) {
        match self.window.admit(message, ticket) {
            Ok(now) => self.unsent.extend(now),
            Err(under_way) => {
                let (ticket, outcome) = *under_way;
                ticket.settle(outcome);
            }
        }
    }

    /// One stream, from opening to end.
    async fn stream(&mut self) -> Ended {
        let (outbound, requests) = mpsc::channel(OUTBOUND);
        let mut inbound = match timeout(OPEN_WITHIN, self.open(requests)).await {
            Ok(Ok(inbound)) => inbound,
            Ok(Err(status)) => return Ended::Lost { opened: false, fault: status.into() },
            Err(_) => return Ended::Lost { opened: false, fault: CallError::DeadlinePassed },
        };
        let wake = sleep_until(self.wake_at());
        tokio::pin!(wake);
        let mut opened = false;
        loop {
            if self.window.is_empty() && self.ended {
                return Ended::Finished;
            }
            self.fill_up();
            let room = if self.pause.is_none() && self.unsent.is_empty() { self.window.room() } else { 0 };
            tokio::select! {
                response = inbound.message() => {
                    if let Err(fault) = self.hear(response, &mut inbound, wake.as_mut()) {
                        return Ended::Lost { opened, fault };
                    }
                    opened = true;
                }
                place = outbound.reserve(), if !self.unsent.is_empty() => {
                    let (Ok(place), Some(bytes)) = (place, self.unsent.pop()) else {
                        return Ended::Lost { opened, fault: out_of_turn("the connection was lost") };
                    };
                    place.send(bytes);
                    while let (Some(bytes), Ok(place)) = (self.unsent.last(), outbound.try_reserve()) {
                        place.send(bytes.clone());
                        self.unsent.pop();
                    }
                }
                taken = self.from.recv_many(&mut self.batch, room.min(BATCH)), if room > 0 && !self.ended => {
                    if self.window.is_empty() {
                        self.progress = Instant::now();
                    }
                    self.ended = taken == 0;
                    let mut batch = std::mem::take(&mut self.batch);
                    batch.drain(..).for_each(|(message, ticket)| self.admit(message, ticket));
                    self.batch = batch;
                    self.unsent.reverse();
                }
                () = wake.as_mut() => {
                    if self.pause.is_some_and(|until| Instant::now() >= until) {
                        self.pause = None;
                    }
                    if self.is_out_of_patience(Duration::ZERO) {
                        return Ended::Lost { opened, fault: CallError::DeadlinePassed };
                    }
                    wake.as_mut().reset(self.wake_at());
                }
            }
        }
    }

    async fn open(&self, requests: mpsc::Receiver<Bytes>) -> Result<Streaming<SendStreamResponse>, Status> {
        let request = Request::new(ReceiverStream::new(requests));
        let mut grpc = Grpc::new(self.client.traced());
        grpc.ready().await.map_err(|fault| Status::from_error(fault.into()))?;
        let path = http::uri::PathAndQuery::from_static(METHOD);
        Ok(grpc.streaming(request, path, Raw).await?.into_inner())
    }

    /// Puts what is to be sent again in line.
    fn fill_up(&mut self) {
        if self.pause.is_none() && self.unsent.is_empty() {
            let window = &mut self.window;
            self.unsent.extend(std::iter::from_fn(|| window.send_again()).take(BATCH));
            self.unsent.reverse();
        }
    }

    /// Takes in what has come, and whatever came with it.
    fn hear(
        &mut self,
        response: Result<Option<SendStreamResponse>, Status>,
        inbound: &mut Streaming<SendStreamResponse>,
        mut wake: std::pin::Pin<&mut Sleep>,
    ) -> Result<(), CallError> {
        let mut response = response;
        for more in (0..BATCH).rev() {
            let told = response?.ok_or_else(|| out_of_turn("the exchange closed the stream"))?;
            match self.window.told(told) {
                Told::Outcome(ticket, outcome) => {
                    ticket.settle(outcome);
                    self.progress = Instant::now();
                    self.pauses = 0;
                }
                Told::Again(refused) => {
                    if self.is_paused_by(&refused) {
                        wake.as_mut().reset(self.wake_at());
                    }
                }
                Told::HeldUpForNothing => return Err(out_of_turn("messages are held up for one that has its outcome")),
                Told::OutOfTurn => return Err(out_of_turn("an outcome for no message that was sent")),
            }
            let next = if more > 0 { inbound.message().now_or_never() } else { None };
            let Some(next) = next else { break };
            response = next;
        }
        Ok(())
    }

    /// Whether this refusal says to wait, which it does unless it is for the sake of another message.
    fn is_paused_by(&mut self, refused: &Refused) -> bool {
        if self.pause.is_some() || refused.reason == Some(Reason::PredecessorFailed) {
            return false;
        }
        self.pauses = self.pauses.saturating_add(1);
        let delay = STREAMS.delay(self.pauses, refused.retry_after, rand::random());
        self.pause = Some(Instant::now() + delay);
        if refused.code == Code::ResourceExhausted {
            self.window.narrow();
        }
        true
    }

    /// When to look again whether there is something to do although nothing has come.
    fn wake_at(&self) -> Instant {
        let patience = self.patience.map(|patience| self.progress + patience);
        // A moment that has passed, as when nothing waited for long, would have this spin.
        let patience = patience.map(|until| until.max(Instant::now() + IDLE_LOOK));
        [self.pause, patience].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    /// Whether patience has run out now, or will have after this delay.
    fn is_out_of_patience(&self, delay: Duration) -> bool {
        let waited = self.progress.elapsed() + delay;
        !self.window.is_empty() && self.patience.is_some_and(|patience| waited >= patience)
    }

    /// Ends for good: nothing more is taken, and what waits gets its outcome.
    async fn give_up(mut self, fault: CallError) {
        tracing::warn!(%fault, "the sender gives up");
        self.gave_up.get_or_init(|| fault.clone());
        self.from.close();
        for (ticket, outcome) in self.window.give_up(&fault) {
            ticket.settle(outcome);
        }
        while let Some((message, ticket)) = self.from.recv().await {
            let result = Err(super::SendError::Unknown(fault.clone()));
            ticket.settle(SendOutcome { message_id: message.message_id, result });
        }
    }
}

/// Whether another stream may fare better.
fn may_pass(fault: &CallError) -> bool {
    fault.may_pass() || *fault == CallError::DeadlinePassed
}

fn out_of_turn(what: &str) -> CallError {
    CallError::Unreachable(what.to_owned())
}

/// Messages that are encoded already go out; outcomes come in as usual.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

#[derive(Clone, Copy, Debug)]
struct AsIs;

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = SendStreamResponse;
    type Encoder = AsIs;
    type Decoder = ProstDecoder<SendStreamResponse>;

    fn encoder(&mut self) -> AsIs {
        AsIs
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<SendRequest, SendStreamResponse>::default().decoder()
    }
}
