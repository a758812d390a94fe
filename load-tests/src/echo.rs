//! The baseline: a bare tonic unary echo over the same mTLS, as a process of its own, on the same protocol messages.

use std::{net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc};

use airut_domain::{registry::Registry, time::Timestamp};
use airut_identity::{Bounds, Listener, TlsSettings};
use airut_wire::v1::{
    self,
    query_service_server::{QueryService, QueryServiceServer},
};
use anyhow::Context;
use arc_swap::ArcSwap;
use futures::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// Options of the echo server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The directory of certificates that `airut dev` made.
    #[arg(long)]
    pki: PathBuf,
    /// The matters in each answer, so that it is as large as the exchange's.
    #[arg(long)]
    matters: usize,
}

struct Echo {
    response: v1::QueryBenefitsResponse,
}

#[tonic::async_trait]
impl QueryService for Echo {
    async fn query_benefits(
        &self,
        request: Request<v1::QueryBenefitsRequest>,
    ) -> Result<Response<v1::QueryBenefitsResponse>, Status> {
        let query_id = request.into_inner().query_id;
        Ok(Response::new(v1::QueryBenefitsResponse { query_id, ..self.response.clone() }))
    }

    type ServeStream = Pin<Box<dyn Stream<Item = Result<v1::ServeResponse, Status>> + Send>>;

    async fn serve(&self, _: Request<Streaming<v1::ServeRequest>>) -> Result<Response<Self::ServeStream>, Status> {
        Err(Status::unimplemented("the echo answers queries only"))
    }
}

/// Serves until killed; prints its address first.
pub(crate) async fn serve(options: &Options) -> anyhow::Result<()> {
    let settings = TlsSettings {
        certificate: options.pki.join("server.crt"),
        key: options.pki.join("server.key"),
        client_cas: vec![options.pki.join("ca.crt")],
        crls: vec![options.pki.join("crl.pem")],
        // Nobody is identified here: the handshake is all that the echo shares with the exchange.
        bounds: Bounds { unidentified_time: std::time::Duration::from_secs(3600), ..Bounds::default() },
    };
    let registry = Arc::new(ArcSwap::from_pointee(Registry::default()));
    let (strangers, _unread) = mpsc::channel(1);
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    };
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), settings, registry, Arc::new(now), strangers)?;
    let address: SocketAddr = listener.address();
    println!("{address}");
    Server::builder()
        .max_concurrent_streams(1024)
        .tcp_nodelay(true)
        .add_service(QueryServiceServer::new(Echo { response: response(options.matters) }))
        .serve_with_incoming(listener.accept())
        .await
        .context("the echo server")
}

/// An answer of about the exchange's size.
fn response(matters: usize) -> v1::QueryBenefitsResponse {
    let matter = |n: usize| v1::Matter {
        matter_id: format!("matter-{n:08}"),
        benefit: "general-housing-allowance".to_owned(),
        content: Some(v1::matter::Content::Payment(v1::matter::Payment {
            due_date: "2026-11-02".to_owned(),
            gross_cents: 41_250,
            net_cents: 41_250,
            period: Some(v1::Period { start_date: "2026-11-01".to_owned(), end_date: "2026-11-30".to_owned() }),
        })),
    };
    v1::QueryBenefitsResponse { matters: (0..matters).map(matter).collect(), ..Default::default() }
}
