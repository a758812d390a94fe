//! The HTTP client beneath: hyper, and rustls on aws-lc-rs. It follows no redirect, which could lead a secret elsewhere, and
//! speaks unencrypted to this machine only.

use std::{error::Error, io, net::IpAddr, path::Path, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::OidcError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a whole answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How large it may be, in bytes. Descriptions and keys have some ten thousand.
const ANSWER_BYTES: usize = 256 * 1024;
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);
/// As many connections are kept that nobody uses.
const MOST_IDLE: usize = 2;

/// Makes requests.
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Unreachable(String),
    #[error("the answer is too large")]
    Large,
    #[error("neither https nor on this machine")]
    Elsewhere,
}

impl Http {
    /// A client that trusts servers with a certificate of these authorities, and no others.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, OidcError> {
        let fault = |cause: String| OidcError::Setting { setting: "ca", cause };
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|cause| fault(cause.to_string()))? {
                let certificate = certificate.map_err(|cause| fault(cause.to_string()))?;
                roots.add(certificate).map_err(|cause| fault(cause.to_string()))?;
            }
            if roots.is_empty() {
                return Err(fault("it holds no certificate".to_owned()));
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| fault(cause.to_string()))?
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

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, Fault> {
        let scheme = request.uri().scheme_str();
        if scheme != Some("https") && !(scheme == Some("http") && is_here(request.uri().host())) {
            return Err(Fault::Elsewhere);
        }
        let answer = async {
            let answer = self.0.request(request.map(|body| Full::new(body.into()))).await;
            let (head, body) = answer.map_err(|cause| Fault::Unreachable(deepest(&cause)))?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|cause| {
                if cause.is::<LengthLimitError>() { Fault::Large } else { Fault::Unreachable(deepest(&*cause)) }
            })?;
            Ok(HttpResponse::from_parts(head, body.to_bytes().to_vec()))
        };
        let late = |_| Fault::Unreachable(format!("no answer within {ANSWER:?}"));
        tokio::time::timeout(ANSWER, answer).await.map_err(late)?
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Fault>> + Send + Sync + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request))
    }
}

/// Whether the host is this machine.
pub(super) fn is_here(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What was at the bottom of an error: the layers above say "error trying to connect" and the like.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_here(Some(host)), "{host}");
        }
        for host in ["localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]", ""] {
            assert!(!is_here(Some(host)), "{host}");
        }
        assert!(!is_here(None));
    }

    #[tokio::test]
    async fn nothing_is_sent_unencrypted_to_elsewhere() {
        let http = Http::new(None).expect("it needs no files");
        for url in ["http://id.example/token", "ftp://localhost/token", "/token"] {
            let mut request = HttpRequest::new(Vec::new());
            *request.uri_mut() = url.parse().expect("it is a URL");
            assert!(matches!(http.exchange(request).await, Err(Fault::Elsewhere)), "{url}");
        }
    }
}
