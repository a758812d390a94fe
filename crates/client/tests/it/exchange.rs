//! An exchange whose every reply the test decides, over connections that the test can cut.

use std::sync::{Arc, Mutex};

use airut_client::Client;
use airut_wire::v1::{
    QueryBenefitsRequest, QueryBenefitsResponse, ServeRequest, ServeResponse,
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

/// The test's side of the exchange.
pub(crate) struct Exchange {
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
    pub(crate) opened: mpsc::UnboundedReceiver<Opened>,
    connections: Connections,
}

/// Where connections enter the server.
#[derive(Clone)]
pub(crate) struct Connections {
    server: mpsc::UnboundedSender<std::io::Result<DuplexStream>>,
    open: Arc<Mutex<Vec<AbortHandle>>>,
}

struct Played {
    asked: mpsc::UnboundedSender<Asked>,
    opened: mpsc::UnboundedSender<Opened>,
}

impl Exchange {
    /// Starts a server.
    pub(crate) fn start() -> Self {
        let (asked_sender, asked) = mpsc::unbounded_channel();
        let (opened_sender, opened) = mpsc::unbounded_channel();
        let (server, incoming) = mpsc::unbounded_channel();
        let played = QueryServiceServer::new(Played { asked: asked_sender, opened: opened_sender });
        let serving = tonic::transport::Server::builder().add_service(played);
        tokio::spawn(serving.serve_with_incoming(UnboundedReceiverStream::new(incoming)));
        Self { asked, opened, connections: Connections { server, open: Arc::default() } }
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
