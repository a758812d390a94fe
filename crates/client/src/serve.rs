//! Answering questions: a responder's stream, kept open.
//!
//! One stream at a time is open. Each question is handled in a task of its own, at most as many at once as the exchange
//! was told, and answers leave in the order in which they are ready. When the stream is lost its questions are dropped
//! with it: the exchange puts them to another stream, or tells the asker.

use std::{num::NonZeroU16, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use airut_wire::v1::{
    self, ServeRequest, ServeResponse, query_service_client::QueryServiceClient, serve_request, serve_response,
};
use futures::FutureExt;
use tokio::{
    sync::mpsc::{self, Sender},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{Question, connect::Client, error::CallError, retry::Backoff};

/// How a lost stream is opened again: for ever, less and less eagerly. `tries` is of no consequence here.
const STREAMS: Backoff = Backoff { tries: u32::MAX, first: Duration::from_millis(200), most: Duration::from_secs(15) };

/// The greatest hint of the exchange that is believed.
const LONGEST_HINT: Duration = Duration::from_secs(60);

/// How long opening a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// How long one answer may take: no caller waits that long.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long answers under way may take once the responder is to stop, and then the exchange to end the stream.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The responder can not answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the responder can not answer")]
pub struct Unable;

/// What a handler says.
type Answered = Result<Vec<v1::Matter>, Unable>;

/// Why a stream ended.
enum Ended {
    Stopped,
    Lost { opened: bool, fault: CallError },
}

impl Client {
    /// Answers questions until `stop` is cancelled, and opens its stream again whenever it is lost, for ever. Questions
    /// are handled concurrently, at most `max_in_flight` at once (more than 4096 means 4096). A handler that panics or
    /// takes more than a minute counts as [`Unable`]; one whose stream is lost is dropped at its next await.
    ///
    /// Once stopped, no further question is taken; answers under way get 5 s.
    ///
    /// Cancel safe: dropping the future closes the stream at once.
    pub async fn serve<H, F>(&self, max_in_flight: NonZeroU16, handler: H, stop: CancellationToken)
    where
        H: Fn(Question) -> F + Send + Sync + 'static,
        F: Future<Output = Answered> + Send + 'static,
    {
        let responder = Responder { handler: Arc::new(handler), max_in_flight: max_in_flight.get().min(4096) };
        let mut failures = 0_u32;
        loop {
            let (opened, fault) = match responder.stream(self, &stop).await {
                Ended::Stopped => return,
                Ended::Lost { opened, fault } => (opened, fault),
            };
            failures = if opened { 1 } else { failures.saturating_add(1) };
            let hint = fault.retry_after().map(|hint| hint.min(LONGEST_HINT));
            let delay = STREAMS.delay(failures, hint, rand::random());
            tracing::warn!(%fault, failures, delay_ms = delay.as_millis(), "stream lost");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(delay) => {}
            }
        }
    }
}

struct Responder<H> {
    handler: Arc<H>,
    max_in_flight: u16,
}

impl<H, F> Responder<H>
where
    H: Fn(Question) -> F + Send + Sync + 'static,
    F: Future<Output = Answered> + Send + 'static,
{
    /// One stream, from opening to end.
    async fn stream(&self, client: &Client, stop: &CancellationToken) -> Ended {
        // Room for one `open` and for an answer to every question in flight.
        let (answers, requests) = mpsc::channel(usize::from(self.max_in_flight) + 1);
        let opening = timeout(OPEN_WITHIN, self.open(client, &answers, requests));
        let inbound = tokio::select! {
            () = stop.cancelled() => return Ended::Stopped,
            opened = opening => opened,
        };
        let mut inbound = match inbound {
            Ok(Ok(inbound)) => inbound,
            Ok(Err(fault)) => return Ended::Lost { opened: false, fault },
            Err(_) => return Ended::Lost { opened: false, fault: CallError::DeadlinePassed },
        };

        let mut tasks = JoinSet::new();
        let outcome = self.answer(&mut inbound, &answers, &mut tasks, stop).await;
        if matches!(outcome, Ended::Stopped) {
            // Dropped unsent would be an answer that the exchange waits for: answer, then end our side, then wait for
            // theirs.
            let answered = timeout(STOP_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
            tasks.abort_all();
            drop(answers);
            let ended = timeout(STOP_WITHIN, async { while let Ok(Some(_)) = inbound.message().await {} }).await;
            tracing::info!(answered = answered.is_ok(), ended = ended.is_ok(), "stream closed");
        }
        outcome
    }

    async fn open(
        &self,
        client: &Client,
        answers: &Sender<ServeRequest>,
        requests: mpsc::Receiver<ServeRequest>,
    ) -> Result<Streaming<ServeResponse>, CallError> {
        let open = serve_request::Open { max_in_flight: self.max_in_flight.into() };
        let open = ServeRequest { message: Some(serve_request::Message::Open(open)) };
        answers.try_send(open).expect("the channel is new and has room");
        let mut service = QueryServiceClient::new(client.traced());
        let mut inbound = service.serve(ReceiverStream::new(requests)).await?.into_inner();
        match inbound.message().await?.and_then(|first| first.message) {
            Some(serve_response::Message::Opened(opened)) => {
                tracing::info!(stream = opened.stream_id, "stream opened");
                Ok(inbound)
            }
            Some(serve_response::Message::Question(_)) | None => Err(out_of_turn("the stream did not open")),
        }
    }

    /// Takes questions and answers them until the stream is lost or the responder is to stop.
    async fn answer(
        &self,
        inbound: &mut Streaming<ServeResponse>,
        answers: &Sender<ServeRequest>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Ended {
        loop {
            let has_room = tasks.len() < usize::from(self.max_in_flight);
            let message = tokio::select! {
                () = stop.cancelled() => return Ended::Stopped,
                Some(_) = tasks.join_next() => continue,
                // While there is no room the exchange is held back by not reading.
                message = inbound.message(), if has_room => message,
            };
            match message.map(|message| message.and_then(|message| message.message)) {
                Ok(Some(serve_response::Message::Question(question))) => {
                    tasks.spawn(handled(question, Arc::clone(&self.handler), answers.clone()));
                }
                Ok(Some(serve_response::Message::Opened(_))) => {
                    return Ended::Lost { opened: true, fault: out_of_turn("the stream opened twice") };
                }
                Ok(None) => {
                    return Ended::Lost { opened: true, fault: out_of_turn("the exchange closed the stream") };
                }
                Err(status) => return Ended::Lost { opened: true, fault: status.into() },
            }
        }
    }
}

fn out_of_turn(what: &str) -> CallError {
    CallError::Unreachable(what.to_owned())
}

/// Handles one question and sends its answer. Its place among those in flight is free when the answer is on its way.
async fn handled<H, F>(question: serve_response::Question, handler: Arc<H>, answers: Sender<ServeRequest>)
where
    H: Fn(Question) -> F + Send + Sync,
    F: Future<Output = Answered> + Send,
{
    let question_id = question.question_id.clone();
    let result = match Question::try_from(question) {
        Ok(question) => answered(question, handler).await,
        Err(fault) => {
            tracing::error!(%fault, question_id, "question can not be read");
            Err(Unable)
        }
    };
    let result = match result {
        Ok(matters) => serve_request::answer::Result::Matters(serve_request::Matters { matters }),
        Err(Unable) => serve_request::answer::Result::Failure(serve_request::Failure {}),
    };
    let answer = serve_request::Answer { question_id, result: Some(result) };
    // An error means that the stream is gone, and with it whoever waited.
    let _ = answers.send(ServeRequest { message: Some(serve_request::Message::Answer(answer)) }).await;
}

async fn answered<H, F>(question: Question, handler: Arc<H>) -> Answered
where
    H: Fn(Question) -> F + Send + Sync,
    F: Future<Output = Answered> + Send,
{
    let question_id = question.question_id.clone();
    // The handler is called inside, so that a panic before its first await is caught as well.
    let handling = AssertUnwindSafe(async { handler(question).await }).catch_unwind();
    match timeout(ANSWER_WITHIN, handling).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => {
            tracing::error!(question_id, "handler panicked");
            Err(Unable)
        }
        Err(_) => {
            tracing::error!(question_id, "handler took too long");
            Err(Unable)
        }
    }
}
