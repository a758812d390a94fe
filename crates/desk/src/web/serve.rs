//! The socket: connections, with TLS or without, bounded in number and in how long they may take to say what they want.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Extension, Router, middleware::AddExtension};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Layer;

/// So many connections at once; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 2048;

/// A connection's place among them, which each of its requests has as an extension. What still works for a connection that is gone
/// keeps its place.
#[derive(Clone, Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "it is held")] Arc<OwnedSemaphorePermit>);

/// A handshake, and the head of a request, may take so long.
const SLOWEST: Duration = Duration::from_secs(10);

/// How long requests that are under way may take when the process is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long to wait after the system could give no connection.
const BREATH: Duration = Duration::from_millis(100);

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or does not hold what it should.
    #[error("{0}: {1}")]
    Pem(std::path::PathBuf, rustls_pki_types::pem::Error),
    /// Certificate and key can't be used together.
    #[error("certificate and key: {0}")]
    Credentials(#[from] rustls::Error),
}

/// Reads certificate and key.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &Path, fault| TlsError::Pem(path.to_owned(), fault);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|fault| pem(certificate, fault))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|fault| pem(key, fault))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    // HTTP/2 first: over one connection a browser keeps any number of pages up to date.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Service = AddExtension<Router, Place>;

/// Serves until told to stop, then for a while what is under way.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = Arc::new(GracefulShutdown::new());
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let place = Place(Arc::new(place));
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                tracing::warn!(%cause, "no connection is accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (tls, service, watcher) = (tls.clone(), Extension(place).layer(router.clone()), graceful.watcher());
        tokio::spawn(async move {
            if let Err(cause) = connection(stream, tls, service, watcher).await {
                tracing::debug!(%cause, %peer, "a connection ended");
            }
        });
    }
    drop(listener);
    let Some(graceful) = Arc::into_inner(graceful) else { return };
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests are cut off");
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: Service,
    watcher: hyper_util::server::graceful::Watcher,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => http(stream, service, watcher).await,
        Some(tls) => {
            let stream = tokio::time::timeout(SLOWEST, tls.accept(stream)).await;
            http(stream.map_err(|_| io::ErrorKind::TimedOut)??, service, watcher).await
        }
    }
}

async fn http<S>(stream: S, service: Service, watcher: hyper_util::server::graceful::Watcher) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SLOWEST).max_buf_size(64 * 1024);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100).max_header_list_size(32 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    watcher.watch(connection).await.map_err(io::Error::other)
}

/// Binds early: who can't listen need not start.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}
