//! `DeliveryService` over gRPC: who calls, and in which trace. It decides nothing else.

use std::{pin::Pin, sync::Arc, time::Duration};

use airut_domain::{
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
};
use airut_telemetry::{Traced, span};
use airut_wire::v1::{
    self,
    delivery_service_server::{DeliveryService, DeliveryServiceServer},
    send_stream_response::Outcome,
};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    CallerOf, Gateway,
    edge::{Edge, method, traceparent},
    verb::{
        collect::{Collecting, few},
        send::{ReplyTo, Sending},
        turns::Broken,
    },
};

/// A message is refused beyond this size: the largest payload with room for what is around it, or a thousand settlements with
/// their texts.
const LARGEST_MESSAGE: usize = 2 * 1024 * 1024;

/// Messages of a stream that have no outcome yet; further ones are not read.
const STREAM_WINDOW: usize = 4096;

/// A stream that sends beyond its partner's quota is not read for so long after each refusal: who goes on as fast as it can must not
/// cost the others their share of the gateway.
const OVER_QUOTA: Duration = Duration::from_millis(1);

/// Messages of a collector's stream that wait to be taken or sent.
const STREAM_QUEUE: usize = 64;

/// The service, to be mounted on a server.
pub fn delivery_service(gateway: Gateway, caller_of: CallerOf) -> DeliveryServiceServer<impl DeliveryService> {
    DeliveryServiceServer::new(DeliveryEdge(Edge { gateway, caller_of }))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE)
}

struct DeliveryEdge(Edge);

impl DeliveryEdge {
    async fn caller(&self, extensions: &http::Extensions, request_id: &str) -> Result<VerifiedPartner, Status> {
        let caller = self.0.gateway.reception.caller(extensions, &self.0.caller_of).await;
        caller.map_err(|refusal| self.0.status(&refusal, request_id))
    }
}

#[tonic::async_trait]
impl DeliveryService for DeliveryEdge {
    async fn send(&self, request: Request<v1::SendRequest>) -> Result<Response<v1::SendResponse>, Status> {
        let request_id = self.0.request_id();
        let gateway = self.0.gateway.clone();
        let sent = async {
            let caller = gateway.reception.caller(request.extensions(), &self.0.caller_of).await?;
            let method = method!("airut.v1.DeliveryService", "Send");
            let permit = self.0.admit(&caller, method.path).await?;
            let trace = traceparent(request.metadata());
            let (span, traceparent) = span::rpc(method.service, method.name, &request_id, trace);
            let (reply, outcome) = oneshot::channel();
            let sending = Sending { caller, request: request.into_inner(), traceparent };
            let verb = gateway.clone();
            let task = async move {
                let _refused = verb.send(sending, None, ReplyTo::Call(reply), method.path).await;
                drop(permit);
            };
            gateway.spawn(gateway.calls.track_future(task.traced(span.clone())));
            let outcome = outcome.await.unwrap_or_else(|_| Err(Refusal::new(Reason::NotServing)));
            outcome.inspect_err(|refusal| span::refused(&span, refusal.reason.code()))
        };
        let receipt = sent.await.map_err(|refusal| self.0.status(&refusal, &request_id))?;
        Ok(Response::new(v1::SendResponse { receipt: Some(receipt) }))
    }

    type SendStreamStream = Pin<Box<dyn Stream<Item = Result<v1::SendStreamResponse, Status>> + Send>>;

    async fn send_stream(
        &self,
        request: Request<Streaming<v1::SendStreamRequest>>,
    ) -> Result<Response<Self::SendStreamStream>, Status> {
        let request_id = self.0.request_id();
        let mut caller = self.caller(request.extensions(), &request_id).await?;
        let gateway = self.0.gateway.clone();
        let traceparent = traceparent(request.metadata()).to_owned();
        let (outcomes, told) = mpsc::channel(STREAM_WINDOW);
        let mut messages = request.into_inner();
        let reading = async move {
            let broken = Arc::new(Broken::default());
            loop {
                // A place for the outcome comes first: a sender that does not read its outcomes is not read either.
                let Ok(place) = outcomes.clone().reserve_owned().await else { return };
                let message = tokio::select! {
                    biased;
                    () = gateway.stop.cancelled() => return,
                    message = messages.next() => message,
                };
                // A broken message ends the stream as leaving does; what was sent before goes on.
                let Some(Ok(message)) = message else { return };
                // A stream may live for days: each message goes by the registry as it is now.
                match gateway.folds.registry().current(caller.id()) {
                    Some(current) => caller = current,
                    None => {
                        drop(place);
                        return;
                    }
                }
                let request = message.message.unwrap_or_default();
                let sending = Sending { caller: caller.clone(), request, traceparent: traceparent.clone() };
                let broken = Some(Arc::clone(&broken));
                let path = method!("airut.v1.DeliveryService", "SendStream").path;
                let refused = gateway.send(sending, broken, ReplyTo::Stream(place), path).await;
                if refused == Some(Reason::QuotaExceeded) {
                    tokio::time::sleep(OVER_QUOTA).await;
                }
            }
        };
        self.0.gateway.spawn(self.0.gateway.streams.track_future(reading));
        let told = ReceiverStream::new(told).map(|(message_id, outcome)| {
            let outcome = match outcome {
                Ok(receipt) => Outcome::Receipt(receipt),
                Err(refusal) => Outcome::Refusal(airut_wire::refusal(&refusal)),
            };
            Ok(v1::SendStreamResponse { message_id, outcome: Some(outcome) })
        });
        Ok(Response::new(Box::pin(told)))
    }

    type CollectStream = Pin<Box<dyn Stream<Item = Result<v1::CollectResponse, Status>> + Send>>;

    async fn collect(
        &self,
        request: Request<Streaming<v1::CollectRequest>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let request_id = self.0.request_id();
        let collector = self.caller(request.extensions(), &request_id).await?;
        let traceparent = traceparent(request.metadata()).to_owned();
        let (said, from) = mpsc::channel(STREAM_QUEUE);
        let (to, told) = mpsc::channel(STREAM_QUEUE);
        let mut messages = request.into_inner();
        self.0.gateway.spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    // The gateway has ended the stream: what else the collector says is for nobody.
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
        let gateway = self.0.gateway.clone();
        let collecting = async move { gateway.collect(Collecting { collector, from, to, traceparent }).await };
        self.0.gateway.spawn(self.0.gateway.streams.track_future(collecting));
        let told = ReceiverStream::new(told)
            .map(move |told| told.map_err(|refusal| airut_wire::status(&refusal, &request_id)));
        Ok(Response::new(Box::pin(told)))
    }

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<v1::PullResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "Pull"), request, |call, request| async move {
                Ok(call.gateway.pull(&call.caller, request, &call.left).await?)
            })
            .await
    }

    async fn settle(&self, request: Request<v1::SettleRequest>) -> Result<Response<v1::SettleResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "Settle"), request, |call, request| async move {
                few("settlements", request.settlements.len())?;
                let results = call.gateway.settle(call.caller.id(), request.settlements, &call.traceparent).await;
                Ok(v1::SettleResponse { results })
            })
            .await
    }

    async fn extend(&self, request: Request<v1::ExtendRequest>) -> Result<Response<v1::ExtendResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "Extend"), request, |call, request| async move {
                few("delivery_ids", request.delivery_ids.len())?;
                let lease = airut_wire::lease("lease", request.lease)?;
                let results =
                    call.gateway.extend(call.caller.id(), request.delivery_ids, lease, &call.traceparent).await;
                Ok(v1::ExtendResponse { results })
            })
            .await
    }

    async fn transfer(&self, request: Request<v1::TransferRequest>) -> Result<Response<v1::TransferResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "Transfer"), request, |call, request| async move {
                Ok(call.gateway.transfer(&call.caller, request, &call.traceparent).await?)
            })
            .await
    }

    async fn track(&self, request: Request<v1::TrackRequest>) -> Result<Response<v1::TrackResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "Track"), request, |call, request| async move {
                Ok(call.gateway.track(&call.caller, request).await?)
            })
            .await
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "ListDeadLetters"), request, |call, request| async move {
                Ok(call.gateway.list_dead_letters(&call.caller, request).await?)
            })
            .await
    }

    async fn redrive(&self, request: Request<v1::RedriveRequest>) -> Result<Response<v1::RedriveResponse>, Status> {
        self.0
            .carry_out(method!("airut.v1.DeliveryService", "Redrive"), request, |call, request| async move {
                Ok(call.gateway.redrive(&call.caller, request, &call.traceparent).await?)
            })
            .await
    }
}
