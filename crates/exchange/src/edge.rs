//! The gRPC edge: who calls, until when, and in which trace. It decides nothing else.

use std::{pin::Pin, sync::Arc, time::Duration};

use airut_domain::{
    query,
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
    time::Timestamp,
};
use airut_telemetry::{Traced, span};
use airut_wire::v1::{
    self,
    query_service_server::{QueryService, QueryServiceServer},
};
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::verb::query_benefits::METHOD;
use crate::{Answering, Asking, CallerOf, Gateway};

/// A caller that names no deadline waits this long.
const USUAL_DEADLINE: Duration = Duration::from_secs(10);

/// A message is refused beyond this size: a responder's answer must fit into a record.
const LARGEST_MESSAGE: usize = 3 * 1024 * 1024;

/// Messages of a stream that wait to be taken or sent.
const STREAM_QUEUE: usize = 64;

/// The service, to be mounted on a server.
pub fn query_service(gateway: Gateway, caller_of: CallerOf) -> QueryServiceServer<impl QueryService> {
    QueryServiceServer::new(Edge { gateway, caller_of })
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE)
}

pub(crate) struct Edge {
    pub(crate) gateway: Gateway,
    pub(crate) caller_of: CallerOf,
}

/// A service's method, and its whole path as refusals name it.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
}

macro_rules! method {
    ($service:literal, $name:literal) => {
        $crate::edge::Method { service: $service, name: $name, path: concat!("/", $service, "/", $name) }
    };
}
pub(crate) use method;

/// A caller's call, for whatever carries it out.
pub(crate) struct Call {
    pub(crate) gateway: Gateway,
    pub(crate) caller: VerifiedPartner,
    pub(crate) traceparent: String,
    /// Cancelled when the caller has left.
    pub(crate) left: CancellationToken,
}

/// Why a call came to nothing.
pub(crate) enum Unanswered {
    /// It is refused, which is not on record yet.
    Refused(Refusal),
    /// Its record could not be written, or nobody knows: what to answer.
    Unwritten(Refusal),
}

impl From<Refusal> for Unanswered {
    /// What the log could not take is no refusal to be recorded. To try would tell a caller whose record may be there that nothing is.
    fn from(refusal: Refusal) -> Self {
        let unwritten = matches!(refusal.reason, Reason::LogUnavailable | Reason::OutcomeUnknown);
        if unwritten { Self::Unwritten(refusal) } else { Self::Refused(refusal) }
    }
}

#[tonic::async_trait]
impl QueryService for Edge {
    async fn query_benefits(
        &self,
        request: Request<v1::QueryBenefitsRequest>,
    ) -> Result<Response<v1::QueryBenefitsResponse>, Status> {
        let began = std::time::Instant::now();
        let request_id = self.request_id();
        let answer = self.answer(request, &request_id).await;
        metrics::histogram!("airut_query_seconds").record(began.elapsed().as_secs_f64());
        answer.map(Response::new).map_err(|refusal| self.status(&refusal, &request_id))
    }

    type ServeStream = Pin<Box<dyn Stream<Item = Result<v1::ServeResponse, Status>> + Send>>;

    async fn serve(
        &self,
        request: Request<Streaming<v1::ServeRequest>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let request_id = self.request_id();
        let responder = self
            .gateway
            .reception
            .caller(request.extensions(), &self.caller_of)
            .await
            .map_err(|refusal| self.status(&refusal, &request_id))?;
        let (said, from) = mpsc::channel(STREAM_QUEUE);
        let (to, told) = mpsc::channel(STREAM_QUEUE);
        let mut messages = request.into_inner();
        self.gateway.spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    // The gateway has ended the stream: what else the responder says is for nobody.
                    () = said.closed() => return,
                    message = messages.next() => message,
                };
                // A broken message ends the stream as leaving does.
                let Some(Ok(message)) = message else { return };
                if said.send(message).await.is_err() {
                    return;
                }
            }
        });
        let gateway = self.gateway.clone();
        let serving = async move { gateway.serve(Answering { responder, from, to }).await };
        self.gateway.spawn(self.gateway.streams.track_future(serving));
        let told = ReceiverStream::new(told)
            .map(move |told| told.map_err(|refusal| airut_wire::status(&refusal, &request_id)));
        Ok(Response::new(Box::pin(told)))
    }
}

impl Edge {
    async fn answer(
        &self,
        request: Request<v1::QueryBenefitsRequest>,
        request_id: &str,
    ) -> Result<v1::QueryBenefitsResponse, Refusal> {
        let caller = self.gateway.reception.caller(request.extensions(), &self.caller_of).await?;
        let permit = self.admit(&caller, METHOD).await?;
        let deadline = deadline(request.metadata(), self.gateway.world.now());
        let trace = traceparent(request.metadata());
        let (span, traceparent) = span::rpc("airut.v1.QueryService", "QueryBenefits", request_id, trace);
        let request = request.into_inner();
        let (reply, answer) = oneshot::channel();
        let gateway = self.gateway.clone();
        // A task of its own: tonic drops this handler when the caller leaves.
        let verb = async move {
            gateway.query_benefits(Asking { caller, request, deadline, traceparent }, reply).await;
            drop(permit);
        };
        self.gateway.spawn(self.gateway.calls.track_future(verb.traced(span.clone())));
        let answer = answer.await.unwrap_or_else(|_| Err(Refusal::new(Reason::NotServing)));
        answer.inspect_err(|refusal| span::refused(&span, refusal.reason.code()))
    }

    /// The answer to whoever calls, by a registry that is current, or the status that refuses it, after the refusal's record.
    pub(crate) async fn carry_out<Q, T, F>(
        &self,
        method: Method,
        request: Request<Q>,
        verb: impl FnOnce(Call, Q) -> F,
    ) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Unanswered>> + Send + 'static,
    {
        let request_id = self.request_id();
        let caller = self.gateway.reception.current_caller(request.extensions(), &self.caller_of).await;
        let caller = caller.map_err(|refusal| self.status(&refusal, &request_id))?;
        let permit = self.admit(&caller, method.path).await;
        let permit = permit.map_err(|refusal| self.status(&refusal, &request_id))?;
        let trace = traceparent(request.metadata());
        let (span, traceparent) = span::rpc(method.service, method.name, &request_id, trace);
        let (reply, answer) = oneshot::channel();
        let (gateway, by) = (self.gateway.clone(), caller.id().clone());
        let left = CancellationToken::new();
        // Dropped with this handler.
        let _here = left.clone().drop_guard();
        let verb = verb(Call { gateway: gateway.clone(), caller, traceparent, left }, request.into_inner());
        // A task of its own: tonic drops this handler when the caller leaves.
        let task = async move {
            let answer = match verb.await {
                Ok(answer) => Ok(answer),
                Err(Unanswered::Refused(refusal)) => Err(gateway.reception.refuse(&by, method.path, refusal).await),
                Err(Unanswered::Unwritten(refusal)) => Err(refusal),
            };
            // A caller who has left needs no answer; what was done is on record.
            drop(reply.send(answer));
            drop(permit);
        };
        self.gateway.spawn(self.gateway.calls.track_future(task.traced(span.clone())));
        let answer = answer.await.unwrap_or_else(|_| Err(Refusal::new(Reason::NotServing)));
        answer.map(Response::new).map_err(|refusal| {
            span::refused(&span, refusal.reason.code());
            self.status(&refusal, &request_id)
        })
    }

    /// Bounds what is under way; when the gateway stops, no more permits are given.
    pub(crate) async fn admit(
        &self,
        caller: &VerifiedPartner,
        method: &'static str,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        match Arc::clone(&self.gateway.in_flight).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(TryAcquireError::Closed) => Err(Refusal::new(Reason::NotServing)),
            Err(TryAcquireError::NoPermits) => {
                Err(self.gateway.reception.refuse(caller.id(), method, Refusal::new(Reason::TooManyInFlight)).await)
            }
        }
    }

    pub(crate) fn request_id(&self) -> String {
        let id: [u8; 8] = self.gateway.world.random();
        format!("{:016x}", u64::from_be_bytes(id))
    }

    pub(crate) fn status(&self, refusal: &Refusal, request_id: &str) -> Status {
        tracing::info!(request_id, reason = refusal.reason.code(), "refused");
        airut_wire::status(refusal, request_id)
    }
}

/// The caller's trace context; empty when it sent none.
pub(crate) fn traceparent(metadata: &tonic::metadata::MetadataMap) -> &str {
    metadata.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// When the caller stops waiting: its own deadline (`grpc-timeout`), cut to what a query may take.
fn deadline(metadata: &tonic::metadata::MetadataMap, now: Timestamp) -> Timestamp {
    let timeout = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
    now + timeout.unwrap_or(USUAL_DEADLINE).min(query::LONGEST)
}

/// Reads `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(timeout("S"), None);
        assert_eq!(timeout("123456789S"), None);
        assert_eq!(timeout("5x"), None);
        assert_eq!(timeout(""), None);
    }
}
