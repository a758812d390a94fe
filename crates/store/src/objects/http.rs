//! The HTTP client beneath S3: hyper, and rustls on aws-lc-rs. object_store's own would bring reqwest and a second choice
//! of TLS.

use std::{error::Error, io, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector as Connector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::OpenError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take to begin. Then the request is made again, if it may.
const ANSWER: Duration = Duration::from_secs(4);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// As many connections are kept that nobody uses.
const MOST_IDLE: usize = 16;

/// Makes requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

impl Http {
    /// A client that trusts servers with a certificate of these authorities, and no others.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, OpenError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca {
            let fault = |cause: String| OpenError::File { path: path.to_owned(), cause };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|cause| fault(cause.to_string()))? {
                let certificate = certificate.map_err(|cause| fault(cause.to_string()))?;
                roots.add(certificate).map_err(|cause| fault(cause.to_string()))?;
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| OpenError::Setting(cause.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .build(connector);
        Ok(Self(client))
    }
}

impl Connector for Http {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWER, self.0.request(request)).await;
        let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
        let answer = answer.map_err(|cause| {
            let kind = if cause.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, Plain(deepest(&cause)))
        })?;
        Ok(answer.map(|body| {
            let told = |cause| HttpError::new(HttpErrorKind::Interrupted, Plain(deepest(&cause)));
            HttpResponseBody::new(body.map_err(told))
        }))
    }
}

/// What was at the bottom of an error: the layers above say "error trying to connect" and the like.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Plain(String);

fn deepest(cause: &(dyn Error + 'static)) -> String {
    let mut cause = cause;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(io) if io.get_ref().is_some() => io.to_string(),
        _ => cause.to_string(),
    }
}
