//! The connection: HTTP/2 over TLS 1.3 with a client certificate, made when first needed and re-made when lost.
//!
//! tonic is built without its own TLS, as everywhere in the workspace: tokio-rustls makes the stream and tonic gets it.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    settings::Settings,
    trace::{TraceContext, Traced},
};

/// The port when none is given.
const DEFAULT_PORT: u16 = 7443;

/// Why a client could not be made. Nothing has been sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server's address can't be read.
    #[error("server address {0:?} must be HOST, HOST:PORT or https://HOST:PORT")]
    Address(String),
    /// The server's name can't be in a certificate.
    #[error("server name {0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// A PEM file can't be read, or does not hold what it should.
    #[error("{path}: {fault}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: rustls_pki_types::pem::Error,
    },
    /// A PEM file holds no certificate.
    #[error("{0}: has no certificate in it")]
    NoCertificate(PathBuf),
    /// The certificates and the key can't be used together.
    #[error("certificate and key: {0}")]
    Credentials(rustls::Error),
}

/// A partner's connection to the exchange. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    trace: TraceContext,
}

impl Client {
    /// A client with these settings. The certificate files are read once to see that they are good; the connection is
    /// made by the first call, and re-made by the first call after it was lost, each time with the files as they then
    /// are, so a renewed certificate needs no restart.
    ///
    /// # Errors
    /// When the settings or the files can't be used. An exchange that is down or refuses is found out by the first
    /// call.
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        let address = Address::parse(&settings.server)?;
        let dialer = Arc::new(Dialer::new(settings.clone(), address)?);
        dialer.tls().await?;

        let timeouts = settings.timeouts;
        let endpoint = Endpoint::from(dialer.address.uri())
            .http2_keep_alive_interval(timeouts.keepalive_interval)
            .keep_alive_timeout(timeouts.keepalive)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let dialer = Arc::clone(&dialer);
            async move { dialer.dial(timeouts.connect).await.map(TokioIo::new) }
        }));
        Ok(Self::over(channel))
    }

    /// The connection, for services that this library has no calls for, such as `grpc.health.v1`. It knows of no trace.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A client over an existing channel, which decides how it is connected.
    pub fn over(channel: Channel) -> Self {
        Self { channel, trace: TraceContext::default() }
    }

    /// The same connection, whose calls each tell the exchange their W3C trace context, which it continues. `current` is asked
    /// for it by each call, in the task that makes the call.
    #[must_use]
    pub fn with_trace_context(&self, current: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self { channel: self.channel.clone(), trace: TraceContext::told_by(current) }
    }

    /// The connection, for a call.
    pub(crate) fn traced(&self) -> Traced {
        Traced::new(self.channel.clone(), self.trace.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Address {
    fn parse(text: &str) -> Result<Self, ConnectError> {
        let fault = || ConnectError::Address(text.to_owned());
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = url.parse().map_err(|_| fault())?;
        let authority = uri.authority().ok_or_else(fault)?;
        let bare = uri.scheme_str() == Some("https") && uri.path() == "/" && uri.query().is_none();
        if !bare || authority.as_str().contains('@') {
            return Err(fault());
        }
        // A port that is there and no number would otherwise pass for none.
        let written = authority.as_str().strip_prefix(authority.host()).is_some_and(|rest| !rest.is_empty());
        let port = if written { authority.port_u16().ok_or_else(fault)? } else { DEFAULT_PORT };
        Ok(Self { host: authority.host().trim_matches(['[', ']']).to_owned(), port })
    }

    fn uri(&self) -> Uri {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("https://{host}:{}", self.port).parse().expect("made of the parts of a URI")
    }
}

struct Dialer {
    settings: Settings,
    address: Address,
    name: ServerName<'static>,
}

impl Dialer {
    fn new(settings: Settings, address: Address) -> Result<Self, ConnectError> {
        let name = settings.server_name.clone().unwrap_or_else(|| address.host.clone());
        let name = ServerName::try_from(name.clone()).map_err(|_| ConnectError::ServerName(name))?;
        Ok(Self { settings, address, name })
    }

    async fn dial(&self, within: Duration) -> io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(within, self.dial_unbounded())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn dial_unbounded(&self) -> io::Result<TlsStream<TcpStream>> {
        let tls = self.tls().await.map_err(io::Error::other)?;
        let tcp = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        tcp.set_nodelay(true)?;
        let stream = tls.connect(self.name.clone(), tcp).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok(stream),
            Some(_) | None => Err(io::Error::new(io::ErrorKind::InvalidData, rustls::Error::NoApplicationProtocol)),
        }
    }

    /// Reads the files: they may have been renewed since the last connection.
    async fn tls(&self) -> Result<TlsConnector, ConnectError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.settings.ca).await? {
            roots.add(authority).map_err(ConnectError::Credentials)?;
        }
        let chain = certificates(&self.settings.certificate).await?;
        let key = private_key(&self.settings.key).await?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(ConnectError::Credentials)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(ConnectError::Credentials)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // The exchange gives no tickets: every connection shows its certificate.
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

async fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let pem = read(path).await?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|fault| ConnectError::Pem { path: path.clone(), fault })?;
    if certificates.is_empty() { Err(ConnectError::NoCertificate(path.clone())) } else { Ok(certificates) }
}

async fn private_key(path: &PathBuf) -> Result<PrivateKeyDer<'static>, ConnectError> {
    PrivateKeyDer::from_pem_slice(&read(path).await?).map_err(|fault| ConnectError::Pem { path: path.clone(), fault })
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, ConnectError> {
    let fault = |fault| ConnectError::Pem { path: path.clone(), fault: rustls_pki_types::pem::Error::Io(fault) };
    tokio::fs::read(path).await.map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme_and_port() {
        let address = |host: &str, port| Address { host: host.into(), port };
        assert_eq!(Address::parse("127.0.0.1:7443").unwrap(), address("127.0.0.1", 7443));
        assert_eq!(Address::parse("airut.example").unwrap(), address("airut.example", 7443));
        assert_eq!(Address::parse("https://airut.example:443/").unwrap(), address("airut.example", 443));
        assert_eq!(Address::parse("[::1]:99").unwrap(), address("::1", 99));
        assert_eq!(Address::parse("[::1]:99").unwrap().uri(), "https://[::1]:99");
        for wrong in ["", "http://airut.example", "airut.example/path", "me@airut.example", "a b", "airut.example:x"] {
            assert!(matches!(Address::parse(wrong), Err(ConnectError::Address(_))), "{wrong}");
        }
    }
}
