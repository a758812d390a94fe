//! A collector's stream, kept open.
//!
//! One task has the stream. Deliveries wait in a queue until they are taken; what is taken is settled over the same task. The
//! exchange is told how many deliveries may be unsettled, counting those of earlier streams: a stream that is lost often does not
//! fill the memory. What waits in the queue when a stream is lost is dropped, for the exchange gives it to somebody else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use airut_wire::v1::{
    self, CollectRequest, CollectResponse, collect_request as ask, collect_response as told,
    delivery_service_client::DeliveryServiceClient,
};
use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    collector::{CollectError, Collected, Collector, CollectorSettings, Shared},
    lease::{Lease, Said, SettleError},
    settling::Settlements,
};
use crate::{connect::Client, error::CallError, retry::Backoff};

/// How a lost stream is opened again: for ever, less and less eagerly. `tries` is of no consequence here.
const STREAMS: Backoff = Backoff { tries: u32::MAX, first: Duration::from_millis(200), most: Duration::from_secs(15) };

/// The greatest hint of the exchange that is believed.
const LONGEST_HINT: Duration = Duration::from_secs(60);

/// How long opening a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// How long the exchange may take to end a stream that we have ended.
const END_WITHIN: Duration = Duration::from_secs(5);

/// As many things are taken in one after the other, before something else has its turn.
const BATCH: usize = 1000;

/// Requests that wait for the connection.
const OUTBOUND: usize = 16;

impl Client {
    /// Collects messages until `stop` is cancelled or the collector is dropped, and opens its stream again whenever it is lost, for
    /// ever unless the settings say otherwise. Must be called within a tokio runtime.
    pub fn collector(&self, settings: CollectorSettings, stop: &CancellationToken) -> Collector {
        let stop = stop.child_token();
        let shared = Arc::<Shared>::default();
        let (leases_say, said) = mpsc::unbounded_channel();
        let credit = settings.credit.clamp(1, 65_536);
        let driver = Driver {
            client: self.clone(),
            credit: credit as usize,
            settings,
            stop: stop.clone(),
            stops_at: None,
            shared: Arc::clone(&shared),
            leases_say,
            said,
            heard: Vec::new(),
            settlements: Settlements::default(),
            extensions: HashMap::new(),
            to_extend: Vec::new(),
            stream: 0,
            older: 0,
            told_credit: 0,
            settle_again: None,
            refusals: 0,
            open_until: Instant::now(),
        };
        let task = tokio::spawn(driver.run());
        Collector { shared, _stops: stop.clone().drop_guard(), stop, task }
    }
}

/// The task behind a collector.
struct Driver {
    client: Client,
    credit: usize,
    settings: CollectorSettings,
    stop: CancellationToken,
    /// Set once it is to stop: until when.
    stops_at: Option<Instant>,
    shared: Arc<Shared>,
    leases_say: mpsc::UnboundedSender<Said>,
    said: mpsc::UnboundedReceiver<Said>,
    heard: Vec<Said>,
    settlements: Settlements,
    extensions: HashMap<String, oneshot::Sender<Result<(), SettleError>>>,
    to_extend: Vec<(Duration, Vec<String>)>,
    /// The number of this stream.
    stream: u64,
    /// Deliveries of earlier streams that are in somebody's hands, or whose settlement is not confirmed.
    older: usize,
    /// What the exchange was last told of the credit.
    told_credit: usize,
    /// The exchange could not record settlements: until when they wait.
    settle_again: Option<Instant>,
    /// How often that was so since it last confirmed one.
    refusals: u32,
    /// When a stream was last open.
    open_until: Instant,
}

/// Why a stream ended.
enum Ended {
    /// There is nothing left to do.
    Stopped,
    /// It was told to stop before the stream was open.
    Unopened,
    Lost {
        opened: bool,
        fault: CallError,
    },
}

impl Driver {
    async fn run(mut self) -> Result<(), CollectError> {
        let ended = self.run_streams().await;
        let unsettled = {
            let mut queue = self.shared.queue();
            queue.clear();
            queue.ended = true;
            queue.in_hand
        };
        self.shared.came.notify_one();
        let unconfirmed = self.settlements.len();
        match ended {
            Ok(()) if unsettled == 0 && unconfirmed == 0 => Ok(()),
            Ok(()) => Err(CollectError::Unfinished { unsettled, unconfirmed }),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn run_streams(&mut self) -> Result<(), CallError> {
        let mut failures = 0_u32;
        while !self.is_done() {
            let (opened, fault) = match self.stream().await {
                Ended::Stopped => return Ok(()),
                Ended::Unopened => continue,
                Ended::Lost { opened, fault } => (opened, fault),
            };
            self.lose_stream();
            failures = if opened { 1 } else { failures.saturating_add(1) };
            let hint = fault.retry_after().map(|hint| hint.min(LONGEST_HINT));
            let delay = STREAMS.delay(failures, hint, rand::random());
            if opened {
                self.open_until = Instant::now();
            }
            if let Some(patience) = self.settings.patience {
                let may_pass = fault.may_pass() || fault == CallError::DeadlinePassed;
                if !may_pass || self.open_until.elapsed() + delay >= patience {
                    return Err(fault);
                }
            }
            tracing::warn!(%fault, failures, delay_ms = delay.as_millis(), "stream lost");
            self.wait(Instant::now() + delay).await;
        }
        Ok(())
    }

    /// Waits for the time to open a stream again, and hears what is settled meanwhile.
    async fn wait(&mut self, until: Instant) {
        while !self.is_done() {
            tokio::select! {
                () = sleep_until(until.min(self.stops_at.unwrap_or(until))) => return,
                _ = self.said.recv_many(&mut self.heard, BATCH) => self.hear(),
                () = self.stop.cancelled(), if self.stops_at.is_none() => self.begin_to_stop(),
            }
        }
    }

    /// Whether it is to stop and nothing is left to do, or no time to do it.
    fn is_done(&self) -> bool {
        self.stops_at.is_some_and(|until| {
            let finished = self.settlements.is_empty() && self.shared.queue().in_hand == 0;
            finished || Instant::now() >= until
        })
    }

    fn begin_to_stop(&mut self) {
        self.stops_at = Some(Instant::now() + self.settings.stop_within);
        let mut queue = self.shared.queue();
        queue.clear();
        queue.ended = true;
        drop(queue);
        self.shared.came.notify_one();
    }

    fn lose_stream(&mut self) {
        self.settlements.lost();
        self.settle_again = None;
        // Whoever waits for these learns that nothing is known.
        self.extensions.clear();
        self.to_extend.clear();
        let mut queue = self.shared.queue();
        queue.clear();
        self.older = queue.in_hand + self.settlements.len();
    }

    /// The credit that the exchange should know of.
    fn credit(&self) -> usize {
        if self.stops_at.is_some() { 0 } else { self.credit.saturating_sub(self.older) }
    }

    /// One stream, from opening to end.
    async fn stream(&mut self) -> Ended {
        self.stream += 1;
        let (outbound, requests) = mpsc::channel(OUTBOUND);
        let (stop, stopping) = (self.stop.clone(), self.stops_at.is_some());
        let within = Instant::now() + OPEN_WITHIN;
        let opening =
            timeout_at(self.stops_at.map_or(within, |until| until.min(within)), self.open(&outbound, requests));
        let opened = tokio::select! {
            () = stop.cancelled(), if !stopping => None,
            opened = opening => Some(opened),
        };
        let mut inbound = match opened {
            Some(Ok(Ok(inbound))) => inbound,
            Some(Ok(Err(fault))) => return Ended::Lost { opened: false, fault },
            Some(Err(_)) => return Ended::Lost { opened: false, fault: CallError::DeadlinePassed },
            None => {
                self.begin_to_stop();
                return Ended::Unopened;
            }
        };
        while !self.is_done() {
            let (stopping, wake) = (self.stops_at.is_some(), self.wake_at());
            tokio::select! {
                response = inbound.message() => {
                    if let Err(fault) = self.receive(response, &mut inbound) {
                        return Ended::Lost { opened: true, fault };
                    }
                }
                _ = self.said.recv_many(&mut self.heard, BATCH) => self.hear(),
                place = outbound.reserve(), if self.has_words() => {
                    let Ok(place) = place else {
                        return Ended::Lost { opened: true, fault: out_of_turn("the connection was lost") };
                    };
                    if let Some(word) = self.next_word() {
                        place.send(CollectRequest { message: Some(word) });
                    }
                }
                () = self.stop.cancelled(), if !stopping => self.begin_to_stop(),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if self.settle_again.is_some_and(|until| Instant::now() >= until) {
                        self.settle_again = None;
                    }
                }
            }
        }
        // End our side, then wait for theirs: what was not settled is given back by then.
        drop(outbound);
        let ended = timeout(END_WITHIN, async { while let Ok(Some(_)) = inbound.message().await {} }).await;
        tracing::info!(ended = ended.is_ok(), "stream closed");
        Ended::Stopped
    }

    async fn open(
        &mut self,
        outbound: &mpsc::Sender<CollectRequest>,
        requests: mpsc::Receiver<CollectRequest>,
    ) -> Result<Streaming<CollectResponse>, CallError> {
        self.told_credit = self.credit();
        let credit = i32::try_from(self.told_credit).unwrap_or(i32::MAX);
        let lease = Some(airut_wire::duration(self.settings.lease));
        let open = ask::Open { credit, lease, message_types: self.settings.message_types.clone() };
        let open = CollectRequest { message: Some(ask::Message::Open(open)) };
        outbound.try_send(open).expect("the channel is new and has room");
        let opening = async {
            let mut service = DeliveryServiceClient::new(self.client.traced());
            let mut inbound = service.collect(ReceiverStream::new(requests)).await?.into_inner();
            let first = inbound.message().await?.and_then(|first| first.message);
            Ok::<_, Status>((first, inbound))
        };
        match opening.await? {
            (Some(told::Message::Opened(opened)), inbound) => {
                tracing::info!(stream = opened.stream_id, "stream opened");
                Ok(inbound)
            }
            (Some(told::Message::Delivery(_) | told::Message::Settled(_) | told::Message::Extended(_)) | None, _) => {
                Err(out_of_turn("the stream did not open"))
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.settle_again, self.stops_at].into_iter().flatten().min()
    }

    /// Takes in what has come, and whatever came with it.
    fn receive(
        &mut self,
        response: Result<Option<CollectResponse>, Status>,
        inbound: &mut Streaming<CollectResponse>,
    ) -> Result<(), CallError> {
        let mut response = response;
        for more in (0..BATCH).rev() {
            let told = response?.ok_or_else(|| out_of_turn("the exchange closed the stream"))?;
            match told.message {
                Some(told::Message::Delivery(delivery)) => self.deliver(delivery),
                Some(told::Message::Settled(settled)) => self.confirm(settled.results),
                Some(told::Message::Extended(extended)) => self.extended(extended.results),
                Some(told::Message::Opened(_)) => return Err(out_of_turn("the stream opened twice")),
                // From a newer exchange; nothing that it would say unasked changes what is ours to do.
                None => {}
            }
            let next = if more > 0 { inbound.message().now_or_never() } else { None };
            let Some(next) = next else { break };
            response = next;
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: v1::Delivery) {
        if self.stops_at.is_some() {
            // It was on its way when the credit ended: given back with the stream.
            return;
        }
        let lease = Lease::new(&delivery.delivery_id, self.stream, self.leases_say.clone());
        let mut queue = self.shared.queue();
        // More than the credit come only when leases have ended by now, and the oldest ended first.
        if queue.deliveries.len() >= self.credit
            && let Some(lapsed) = queue.deliveries.pop_front()
        {
            lapsed.lease.forget();
        }
        queue.deliveries.push_back(Collected { delivery, lease });
        drop(queue);
        self.shared.came.notify_one();
    }

    fn confirm(&mut self, results: Vec<v1::SettlementResult>) {
        let confirmed = self.settlements.confirm(results);
        let older = confirmed.streams.iter().filter(|stream| **stream < self.stream).count();
        self.older = self.older.saturating_sub(older);
        match confirmed.again {
            None => self.refusals = 0,
            Some(refused) => {
                self.refusals = self.refusals.saturating_add(1);
                let hint = refused.retry_after.map(|hint| hint.min(LONGEST_HINT));
                self.settle_again = Some(Instant::now() + STREAMS.delay(self.refusals, hint, rand::random()));
            }
        }
    }

    fn extended(&mut self, results: Vec<v1::ExtensionResult>) {
        for result in results {
            if let Some(reply) = self.extensions.remove(&result.delivery_id) {
                let refused = result.refusal.map(|refusal| SettleError::Refused(refusal.into()));
                drop(reply.send(refused.map_or(Ok(()), Err)));
            }
        }
    }

    /// Takes in what the holders of leases have said.
    fn hear(&mut self) {
        let mut settled = 0;
        for said in self.heard.drain(..) {
            match said {
                Said::Settle { stream, settlement, reply } => {
                    settled += 1;
                    self.settlements.add(stream, settlement, reply);
                }
                Said::PassedOn { stream } => {
                    settled += 1;
                    self.older = self.older.saturating_sub(usize::from(stream < self.stream));
                }
                Said::Extend { delivery_id, lease, reply } => {
                    match self.to_extend.iter_mut().find(|(length, ids)| *length == lease && ids.len() < BATCH) {
                        Some((_, ids)) => ids.push(delivery_id.clone()),
                        None => self.to_extend.push((lease, vec![delivery_id.clone()])),
                    }
                    self.extensions.insert(delivery_id, reply);
                }
            }
        }
        self.shared.queue().in_hand -= settled;
    }

    fn has_words(&self) -> bool {
        let settles = self.settle_again.is_none() && self.settlements.may_send();
        settles || !self.to_extend.is_empty() || self.told_credit != self.credit()
    }

    /// What to tell the exchange next.
    fn next_word(&mut self) -> Option<ask::Message> {
        if self.settle_again.is_none() && self.settlements.may_send() {
            return Some(ask::Message::Settlements(ask::Settlements { settlements: self.settlements.next() }));
        }
        if let Some((lease, delivery_ids)) = self.to_extend.pop() {
            let lease = Some(airut_wire::duration(lease));
            return Some(ask::Message::Extension(ask::Extension { delivery_ids, lease }));
        }
        let credit = self.credit();
        if self.told_credit == credit {
            return None;
        }
        self.told_credit = credit;
        Some(ask::Message::Credit(ask::Credit { credit: i32::try_from(credit).unwrap_or(i32::MAX) }))
    }
}

fn out_of_turn(what: &str) -> CallError {
    CallError::Unreachable(what.to_owned())
}
