//! An exchange whose every reply the test decides, over connections that the test can cut.

use std::sync::{Arc, Mutex};

use airut_client::Client;
use airut_wire::v1::{
    self, CollectRequest, CollectResponse, QueryBenefitsRequest, QueryBenefitsResponse, SendRequest, SendResponse,
    SendStreamRequest, SendStreamResponse, ServeRequest, ServeResponse,
    delivery_service_server::{DeliveryService, DeliveryServiceServer},
    query_service_server::{QueryService, QueryServiceServer},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, copy_bidirectional, duplex},
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};
use tower::service_fn;

/// A query, as it reached the exchange, and the way to reply to it.
pub(crate) struct Asked {
    pub(crate) request: Request<QueryBenefitsRequest>,
    pub(crate) reply: oneshot::Sender<Result<QueryBenefitsResponse, Status>>,
}

/// A responder's stream, as it reached the exchange.
pub(crate) struct Opened {
    pub(crate) inbound: Streaming<ServeRequest>,
    pub(crate) outbound: mpsc::Sender<Result<ServeResponse, Status>>,
}

/// A message, as it reached the exchange by a call of its own, and the way to reply to it.
pub(crate) struct Sent {
    pub(crate) message: SendRequest,
    pub(crate) reply: oneshot::Sender<Result<SendResponse, Status>>,
}

/// A sender's stream, as it reached the exchange.
pub(crate) struct Sending {
    pub(crate) inbound: Streaming<SendStreamRequest>,
    pub(crate) outbound: mpsc::Sender<Result<SendStreamResponse, Status>>,
}

/// A collector's stream, as it reached the exchange.
pub(crate) struct Collecting {
    pub(crate) inbound: Streaming<CollectRequest>,
    pub(crate) outbound: mpsc::Sender<Result<CollectResponse, Status>>,
}

/// The test's side of the exchange.
pub(crate) struct Exchange {
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
    pub(crate) opened: mpsc::UnboundedReceiver<Opened>,
    pub(crate) sent: mpsc::UnboundedReceiver<Sent>,
    pub(crate) sending: mpsc::UnboundedReceiver<Sending>,
    pub(crate) collecting: mpsc::UnboundedReceiver<Collecting>,
    connections: Connections,
}

/// Where connections enter the server.
#[derive(Clone)]
pub(crate) struct Connections {
    server: mpsc::UnboundedSender<std::io::Result<DuplexStream>>,
    open: Arc<Mutex<Vec<AbortHandle>>>,
}

#[derive(Clone)]
struct Played {
    asked: mpsc::UnboundedSender<Asked>,
    opened: mpsc::UnboundedSender<Opened>,
    sent: mpsc::UnboundedSender<Sent>,
    sending: mpsc::UnboundedSender<Sending>,
    collecting: mpsc::UnboundedSender<Collecting>,
}

impl Exchange {
    /// Starts a server.
    pub(crate) fn start() -> Self {
        let (to_asked, asked) = mpsc::unbounded_channel();
        let (to_opened, opened) = mpsc::unbounded_channel();
        let (to_sent, sent) = mpsc::unbounded_channel();
        let (to_sending, sending) = mpsc::unbounded_channel();
        let (to_collecting, collecting) = mpsc::unbounded_channel();
        let (server, incoming) = mpsc::unbounded_channel();
        let played = Played {
            asked: to_asked,
            opened: to_opened,
            sent: to_sent,
            sending: to_sending,
            collecting: to_collecting,
        };
        let serving = tonic::transport::Server::builder()
            .add_service(QueryServiceServer::new(played.clone()))
            .add_service(DeliveryServiceServer::new(played));
        tokio::spawn(serving.serve_with_incoming(UnboundedReceiverStream::new(incoming)));
        let connections = Connections { server, open: Arc::default() };
        Self { asked, opened, sent, sending, collecting, connections }
    }

    /// A client that connects in memory.
    pub(crate) fn client(&self) -> Client {
        let connections = self.connections.clone();
        let channel = Endpoint::from_static("http://exchange").connect_with_connector_lazy(service_fn(move |_| {
            let (near, far) = duplex(64 * 1024);
            connections.enter(far);
            async move { Ok::<_, std::io::Error>(TokioIo::new(near)) }
        }));
        Client::over(channel)
    }

    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Cuts every connection, without a word to either side.
    pub(crate) fn cut(&self) {
        for connection in self.connections.open.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

impl Connections {
    /// Lets the server serve a connection.
    pub(crate) fn enter(&self, mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let (mut relay, end) = duplex(64 * 1024);
        // An error means that the test is over.
        let _ = self.server.send(Ok(end));
        let relaying = tokio::spawn(async move { drop(copy_bidirectional(&mut stream, &mut relay).await) });
        self.open.lock().unwrap().push(relaying.abort_handle());
    }
}

#[tonic::async_trait]
impl QueryService for Played {
    async fn query_benefits(
        &self,
        request: Request<QueryBenefitsRequest>,
    ) -> Result<Response<QueryBenefitsResponse>, Status> {
        let (reply, replied) = oneshot::channel();
        self.asked.send(Asked { request, reply }).unwrap_or_else(|_| panic!("the test listens"));
        match replied.await {
            Ok(reply) => reply.map(Response::new),
            Err(_) => std::future::pending().await,
        }
    }

    type ServeStream = ReceiverStream<Result<ServeResponse, Status>>;

    async fn serve(&self, request: Request<Streaming<ServeRequest>>) -> Result<Response<Self::ServeStream>, Status> {
        let (outbound, answers) = mpsc::channel(64);
        let opened = Opened { inbound: request.into_inner(), outbound };
        self.opened.send(opened).unwrap_or_else(|_| panic!("the test listens"));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tonic::async_trait]
impl DeliveryService for Played {
    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        let (reply, replied) = oneshot::channel();
        self.sent.send(Sent { message: request.into_inner(), reply }).unwrap_or_else(|_| panic!("the test listens"));
        match replied.await {
            Ok(reply) => reply.map(Response::new),
            Err(_) => std::future::pending().await,
        }
    }

    type SendStreamStream = ReceiverStream<Result<SendStreamResponse, Status>>;

    async fn send_stream(
        &self,
        request: Request<Streaming<SendStreamRequest>>,
    ) -> Result<Response<Self::SendStreamStream>, Status> {
        let (outbound, outcomes) = mpsc::channel(64);
        // An error means that the test listens no more.
        drop(self.sending.send(Sending { inbound: request.into_inner(), outbound }));
        Ok(Response::new(ReceiverStream::new(outcomes)))
    }

    type CollectStream = ReceiverStream<Result<CollectResponse, Status>>;

    async fn collect(
        &self,
        request: Request<Streaming<CollectRequest>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let (outbound, told) = mpsc::channel(64);
        drop(self.collecting.send(Collecting { inbound: request.into_inner(), outbound }));
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn pull(&self, _: Request<v1::PullRequest>) -> Result<Response<v1::PullResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn settle(&self, _: Request<v1::SettleRequest>) -> Result<Response<v1::SettleResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn extend(&self, _: Request<v1::ExtendRequest>) -> Result<Response<v1::ExtendResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn transfer(&self, _: Request<v1::TransferRequest>) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn track(&self, _: Request<v1::TrackRequest>) -> Result<Response<v1::TrackResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn list_dead_letters(
        &self,
        _: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn redrive(&self, _: Request<v1::RedriveRequest>) -> Result<Response<v1::RedriveResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}
