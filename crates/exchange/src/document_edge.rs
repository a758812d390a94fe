//! `DocumentService` over gRPC: who calls, and in which trace. It decides nothing else.

use std::pin::Pin;

use airut_wire::v1::{
    self,
    document_service_server::{DocumentService, DocumentServiceServer},
};
use futures::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    CallerOf, Gateway,
    edge::{Edge, method},
    verb::send_document::Content,
};

/// A message is refused beyond this size: the largest chunk with room for what is around it.
const LARGEST_MESSAGE: usize = 1024 * 1024 + 64 * 1024;

/// The service, to be mounted on a server.
pub fn document_service(gateway: Gateway, caller_of: CallerOf) -> DocumentServiceServer<impl DocumentService> {
    DocumentServiceServer::new(DocumentEdge(Edge { gateway, caller_of }))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE)
}

struct DocumentEdge(Edge);

#[tonic::async_trait]
impl DocumentService for DocumentEdge {
    async fn send_document(
        &self,
        request: Request<Streaming<v1::SendDocumentRequest>>,
    ) -> Result<Response<v1::SendDocumentResponse>, Status> {
        let method = method!("airut.v1.DocumentService", "SendDocument");
        self.0
            .carry_out(method, request, |call, messages| async move {
                let content = Content::new(messages, call.left.clone(), call.gateway.draining.clone());
                let receipt = call.gateway.send_document(&call.caller, content, &call.traceparent).await?;
                Ok(v1::SendDocumentResponse { receipt: Some(receipt) })
            })
            .await
    }

    async fn get_upload(
        &self,
        request: Request<v1::GetUploadRequest>,
    ) -> Result<Response<v1::GetUploadResponse>, Status> {
        let method = method!("airut.v1.DocumentService", "GetUpload");
        self.0
            .carry_out(method, request, |call, request| async move {
                Ok(call.gateway.get_upload(&call.caller, &request).await?)
            })
            .await
    }

    type FetchDocumentStream = Pin<Box<dyn Stream<Item = Result<v1::FetchDocumentResponse, Status>> + Send>>;

    async fn fetch_document(
        &self,
        request: Request<v1::FetchDocumentRequest>,
    ) -> Result<Response<Self::FetchDocumentStream>, Status> {
        let method = method!("airut.v1.DocumentService", "FetchDocument");
        let request_id = self.0.request_id();
        let told = self
            .0
            .carry_out(method, request, |call, request| async move {
                call.gateway.fetch_document(&call.caller, request, &call.traceparent).await
            })
            .await?;
        let told = ReceiverStream::new(told.into_inner());
        let told = told.map(move |told| told.map_err(|refusal| airut_wire::status(&refusal, &request_id)));
        Ok(Response::new(Box::pin(told)))
    }
}
