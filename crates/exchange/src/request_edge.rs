//! `InformationRequestService` over gRPC: who calls, and in which trace. It decides nothing else.

use std::pin::Pin;

use airut_domain::refusal::{Reason, Refusal};
use airut_wire::v1::{
    self, CancelInformationRequestRequest, CancelInformationRequestResponse, CloseInformationRequestRequest,
    CloseInformationRequestResponse, CreateInformationRequestRequest, CreateInformationRequestResponse,
    GetInformationRequestRequest, GetInformationRequestResponse, ListInformationRequestsRequest,
    ListInformationRequestsResponse, RespondInformationRequestRequest, RespondInformationRequestResponse,
    ReturnInformationRequestRequest, ReturnInformationRequestResponse, TransferInformationRequestRequest,
    TransferInformationRequestResponse, WatchInformationRequestsRequest, WatchInformationRequestsResponse,
    information_request_service_server::{InformationRequestService, InformationRequestServiceServer},
};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    CallerOf, Gateway,
    edge::{Call, Edge, method},
    verb::request_watch::Watching,
};

/// A message is refused beyond this size: the longest texts with room for what is around them.
const LARGEST_MESSAGE: usize = 256 * 1024;

/// A request with all that was said may have this size: as many steps as there may be.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Changes that wait to be sent to a watcher; further ones are not looked for.
const STREAM_QUEUE: usize = 64;

/// As many streams a partner may watch at each gateway.
const MOST_WATCHERS: usize = 64;

/// The service, to be mounted on a server.
pub fn request_service(
    gateway: Gateway,
    caller_of: CallerOf,
) -> InformationRequestServiceServer<impl InformationRequestService> {
    InformationRequestServiceServer::new(RequestEdge(Edge { gateway, caller_of }))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_ANSWER)
}

struct RequestEdge(Edge);

/// A command of a party: all are carried out alike.
macro_rules! command {
    ($edge:expr, $name:literal, $request:expr, $response:ident) => {
        $edge
            .carry_out(
                method!("airut.v1.InformationRequestService", $name),
                $request,
                |call: Call, request| async move {
                    let done = call.gateway.do_to_request(&call.caller, request, &call.traceparent).await?;
                    Ok($response { information_request: done })
                },
            )
            .await
    };
}

#[tonic::async_trait]
impl InformationRequestService for RequestEdge {
    async fn create_information_request(
        &self,
        request: Request<CreateInformationRequestRequest>,
    ) -> Result<Response<CreateInformationRequestResponse>, Status> {
        let method = method!("airut.v1.InformationRequestService", "CreateInformationRequest");
        let verb = |call: Call, request| async move {
            let created = call.gateway.create_request(&call.caller, request, &call.traceparent).await?;
            Ok(CreateInformationRequestResponse { information_request: created })
        };
        self.0.carry_out(method, request, verb).await
    }

    async fn get_information_request(
        &self,
        request: Request<GetInformationRequestRequest>,
    ) -> Result<Response<GetInformationRequestResponse>, Status> {
        let method = method!("airut.v1.InformationRequestService", "GetInformationRequest");
        let verb = |call: Call, request| async move {
            Ok(call.gateway.get_request(&call.caller, request, &call.traceparent).await?)
        };
        self.0.carry_out(method, request, verb).await
    }

    async fn list_information_requests(
        &self,
        request: Request<ListInformationRequestsRequest>,
    ) -> Result<Response<ListInformationRequestsResponse>, Status> {
        let method = method!("airut.v1.InformationRequestService", "ListInformationRequests");
        let verb = |call: Call, request| async move {
            Ok(call.gateway.list_requests(&call.caller, request, &call.traceparent).await?)
        };
        self.0.carry_out(method, request, verb).await
    }

    async fn respond_information_request(
        &self,
        request: Request<RespondInformationRequestRequest>,
    ) -> Result<Response<RespondInformationRequestResponse>, Status> {
        command!(self.0, "RespondInformationRequest", request, RespondInformationRequestResponse)
    }

    async fn return_information_request(
        &self,
        request: Request<ReturnInformationRequestRequest>,
    ) -> Result<Response<ReturnInformationRequestResponse>, Status> {
        command!(self.0, "ReturnInformationRequest", request, ReturnInformationRequestResponse)
    }

    async fn close_information_request(
        &self,
        request: Request<CloseInformationRequestRequest>,
    ) -> Result<Response<CloseInformationRequestResponse>, Status> {
        command!(self.0, "CloseInformationRequest", request, CloseInformationRequestResponse)
    }

    async fn transfer_information_request(
        &self,
        request: Request<TransferInformationRequestRequest>,
    ) -> Result<Response<TransferInformationRequestResponse>, Status> {
        command!(self.0, "TransferInformationRequest", request, TransferInformationRequestResponse)
    }

    async fn cancel_information_request(
        &self,
        request: Request<CancelInformationRequestRequest>,
    ) -> Result<Response<CancelInformationRequestResponse>, Status> {
        command!(self.0, "CancelInformationRequest", request, CancelInformationRequestResponse)
    }

    type WatchInformationRequestsStream =
        Pin<Box<dyn Stream<Item = Result<WatchInformationRequestsResponse, Status>> + Send>>;

    async fn watch_information_requests(
        &self,
        request: Request<WatchInformationRequestsRequest>,
    ) -> Result<Response<Self::WatchInformationRequestsStream>, Status> {
        let request_id = self.0.request_id();
        let gateway = self.0.gateway.clone();
        let watcher = gateway.reception.current_caller(request.extensions(), &self.0.caller_of).await;
        let watcher = watcher.map_err(|refusal| self.0.status(&refusal, &request_id))?;
        let v1::WatchInformationRequestsRequest { resume_token } = request.into_inner();
        // Each watcher has a handle on the word of changes.
        if gateway.folds.watchers(watcher.id()) >= MOST_WATCHERS {
            let method = method!("airut.v1.InformationRequestService", "WatchInformationRequests");
            let refusal = Refusal::new(Reason::TooManyInFlight);
            let refusal = gateway.reception.refuse(watcher.id(), method.path, refusal).await;
            return Err(self.0.status(&refusal, &request_id));
        }
        let (to, told) = mpsc::channel(STREAM_QUEUE);
        let watching = async move { gateway.watch_requests(Watching { watcher, resume_token, to }).await };
        self.0.gateway.spawn(self.0.gateway.streams.track_future(watching));
        let told = ReceiverStream::new(told)
            .map(move |told| told.map_err(|refusal| airut_wire::status(&refusal, &request_id)));
        Ok(Response::new(Box::pin(told)))
    }
}
