//! Accepting connections: bound early, handshakes bounded in number and time, everything reloaded while serving.
//!
//! One task accepts, one does each handshake, one watches the open connections and one the files. They end by
//! themselves once [`Incoming`] is dropped and the last connection is closed.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::SocketAddr,
    ops::ControlFlow,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use airut_domain::{partner::PresentedCertificate, refusal::Reason, registry::Registry};
use arc_swap::ArcSwap;
use futures::Stream;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinError,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    certificate,
    connection::{Connection, Peer},
    gate::{REJECTED, Rejected},
    open::{Connections, Facts, Full, Place, View},
    settings::{Clock, TlsSettings},
    stranger::{Prefix, Stranger, reason_of_handshake},
    trust::{Expiry, Files, Fingerprint, LoadFault, Trust},
};

/// Sockets that the kernel queues while as many handshakes are under way as may be.
const BACKLOG: u32 = 1024;

/// Connections that wait to be taken from [`Incoming`]; each still holds its place among the handshakes.
const READY: usize = 16;

/// How long to wait after the system could not give a socket, as when file descriptors have run out: asking again at
/// once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why listening could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BindFault {
    /// The files can't be used.
    #[error(transparent)]
    Files(#[from] LoadFault),
    /// The address can't.
    #[error("can not listen on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket that does not yet accept: connections wait in the kernel's queue (1024) until [`Listener::accept`].
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    settings: TlsSettings,
    clock: Clock,
    registry: Arc<ArcSwap<Registry>>,
    trust: ArcSwap<Trust>,
    /// What the files were when last looked at. Held while they are loaded: an older reload can't overtake a newer one.
    seen: Mutex<Fingerprint>,
    connections: Arc<Connections>,
    handshakes: Arc<Semaphore>,
    strangers: mpsc::Sender<Stranger>,
    untold: AtomicU64,
    recheck: Notify,
    /// No more connections will come.
    ended: CancellationToken,
}

impl Listener {
    /// Loads the files and binds the address. Must be called within a Tokio runtime. Reads files, so it may block for
    /// as long as the file system does.
    ///
    /// Refused connections are told to `strangers`. When it is full they are dropped and counted ([`Handle::untold`]):
    /// nothing here waits for whoever reads it.
    ///
    /// # Errors
    /// A file or the address can't be used.
    pub fn bind(
        address: SocketAddr,
        settings: TlsSettings,
        registry: Arc<ArcSwap<Registry>>,
        clock: Clock,
        strangers: mpsc::Sender<Stranger>,
    ) -> Result<Self, BindFault> {
        let files = Files::read(&settings)?;
        let trust = Trust::load(&settings, &files, &clock)?;
        let unusable = |source| BindFault::Address { address, source };
        let socket = listen(address).map_err(unusable)?;
        let address = socket.local_addr().map_err(unusable)?;
        let shared = Shared {
            clock,
            registry,
            trust: ArcSwap::from_pointee(trust),
            seen: Mutex::new(files.fingerprint()),
            connections: Connections::new(settings.bounds),
            handshakes: Arc::new(Semaphore::new(settings.bounds.handshakes)),
            settings,
            strangers,
            untold: AtomicU64::new(0),
            recheck: Notify::new(),
            ended: CancellationToken::new(),
        };
        Ok(Self { socket, address, shared: Arc::new(shared) })
    }

    /// The address it is bound to, with the port the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to reload and watch it, from now on.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Begins to accept. Dropping what it gives closes the socket and ends handshakes that are not done; connections
    /// that were handed over stay, and are watched until they close.
    pub fn accept(self) -> Incoming {
        let (sender, ready) = mpsc::channel(READY);
        tokio::spawn(accept(Arc::clone(&self.shared), self.socket, sender));
        tokio::spawn(watch_connections(Arc::clone(&self.shared)));
        tokio::spawn(watch_files(self.shared));
        Incoming { ready }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit both. Keep-alive finds peers that vanished when the server sends no HTTP/2 pings.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections as they come, for tonic's `serve_with_incoming_shutdown`. It never fails: what goes wrong with one
/// connection is told to the strangers' channel, and what goes wrong with accepting is waited out.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<Connection>,
}

impl Stream for Incoming {
    type Item = Result<Connection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

/// Reloads and watches a listener. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Reads the files again and puts them in force: for new handshakes at once, and open connections are judged by
    /// them before this returns. Running connections and calls that may stay are not touched. Not needed when files
    /// change: that is noticed within [`crate::Bounds::file_poll`]. Cancel safe: once begun it is carried through.
    ///
    /// # Errors
    /// The files can't be used; what was in force stays.
    pub async fn reload(&self) -> Result<(), LoadFault> {
        self.shared.blocking(Shared::reload).await.map_err(LoadFault::Unfinished)?
    }

    /// Has the open connections judged now. To be called when the registry has changed; without it the change is
    /// noticed within [`crate::Bounds::recheck`].
    pub fn recheck(&self) {
        self.shared.recheck.notify_one();
    }

    /// Judges a certificate that is to be used later, from its PEM with its intermediates after it, as an open connection's is:
    /// issued by a trusted authority, valid now, not revoked. Blocks for a fraction of a millisecond. Other sections of the
    /// PEM are not looked at.
    ///
    /// # Errors
    /// Why a connection that showed it would be refused.
    pub fn check(&self, pem: &[u8]) -> Result<PresentedCertificate, Reason> {
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|_| Reason::CertificateInvalid)?;
        let end_entity = chain.first().ok_or(Reason::CertificateMissing)?;
        let presented = certificate::presented(end_entity).map_err(|_| Reason::CertificateInvalid)?;
        self.shared.trust.load().recheck(&chain, (self.shared.clock)())?;
        Ok(presented)
    }

    /// When what is in force ends.
    pub fn expiry(&self) -> Expiry {
        self.shared.trust.load().expiry
    }

    /// Connections that are open, their handshake done.
    pub fn open(&self) -> usize {
        self.shared.connections.open_count()
    }

    /// Strangers that were not told because nobody took those before them, since the start.
    pub fn untold(&self) -> u64 {
        self.shared.untold.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn view(&self, trust: Arc<Trust>) -> View {
        View { trust, registry: self.registry.load_full(), now: (self.clock)() }
    }

    /// No connection is left and none will come.
    fn is_done(&self) -> bool {
        self.ended.is_cancelled() && self.connections.open_count() == 0
    }

    fn sweep(&self) {
        self.connections.sweep(&self.view(self.trust.load_full()));
    }

    fn reload(&self) -> Result<(), LoadFault> {
        let mut seen = self.seen();
        let files = Files::read(&self.settings)?;
        self.put_in_force(&files, &mut seen)
    }

    /// Should loading ever panic, what was in force stays, and so does the way to load again.
    fn seen(&self) -> MutexGuard<'_, Fingerprint> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shared::reload`], if the files are not those that were seen last.
    fn reload_if_changed(&self) -> Result<(), LoadFault> {
        let mut seen = self.seen();
        let files = Files::read(&self.settings)?;
        if files.fingerprint() == *seen { Ok(()) } else { self.put_in_force(&files, &mut seen) }
    }

    fn put_in_force(&self, files: &Files, seen: &mut Fingerprint) -> Result<(), LoadFault> {
        *seen = files.fingerprint();
        self.trust.store(Arc::new(Trust::load(&self.settings, files, &self.clock)?));
        self.sweep();
        tracing::info!("certificates and revocation lists reloaded");
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared)).await
    }

    fn tell(&self, stranger: Stranger) {
        if self.strangers.try_send(stranger).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Ends when nobody takes connections any more.
async fn accept(shared: Arc<Shared>, socket: TcpListener, ready: mpsc::Sender<Connection>) {
    let _ended = shared.ended.clone().drop_guard();
    loop {
        let next = async {
            let permit = Arc::clone(&shared.handshakes).acquire_owned().await.expect("the semaphore is never closed");
            (permit, socket.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = ready.closed() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, address)) => {
                let prefix = Prefix::from(address.ip());
                match shared.connections.admit(prefix) {
                    Ok(place) => {
                        let arrival = Arrival { stream, address, place, _permit: permit };
                        tokio::spawn(welcome(Arc::clone(&shared), arrival, ready.clone()));
                    }
                    Err(Full) => shared.tell(Stranger { reason: Reason::TooManyInFlight, issuer: None, prefix }),
                }
            }
            Err(error) => {
                if let Some(pause) = pause_after(&error) {
                    tracing::warn!(%error, "can not accept connections");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// A socket whose handshake is to be done, with its places.
struct Arrival {
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    _permit: OwnedSemaphorePermit,
}

/// How long to wait after a failure to accept: not at all when only that one connection is gone.
fn pause_after(error: &io::Error) -> Option<Duration> {
    use io::ErrorKind as K;
    let of_one = matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::Interrupted);
    (!of_one).then_some(ACCEPT_PAUSE)
}

/// Does one handshake and hands the connection over, or tells why not.
async fn welcome(shared: Arc<Shared>, arrival: Arrival, ready: mpsc::Sender<Connection>) {
    let prefix = Prefix::from(arrival.address.ip());
    let outcome = tokio::select! {
        () = ready.closed() => return,
        outcome = handshake(&shared, arrival) => outcome,
    };
    match outcome {
        // Only when nobody takes connections any more; then the connection is dropped.
        Ok((connection, _permit)) => drop(ready.send(connection).await),
        Err(Rejected { reason, issuer }) => shared.tell(Stranger { reason, issuer, prefix }),
    }
}

async fn handshake(
    shared: &Shared,
    Arrival { stream, address, mut place, _permit: permit }: Arrival,
) -> Result<(Connection, OwnedSemaphorePermit), Rejected> {
    let trust = shared.trust.load_full();
    let acceptor = TlsAcceptor::from(Arc::clone(&trust.server));
    let accepting = async {
        let done = timeout(shared.settings.bounds.handshake_time, acceptor.accept(stream)).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        done.map_err(|error| REJECTED.with(RefCell::take).unwrap_or_else(|| rejected(reason_of_handshake(&error))))
    };
    let tls: TlsStream<TcpStream> = REJECTED.scope(RefCell::new(None), accepting).await?;

    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let end_entity = chain.first().ok_or_else(|| rejected(Reason::CertificateMissing))?;
    let certificate = certificate::presented(end_entity).map_err(|_| rejected(Reason::CertificateInvalid))?;
    let issuer = crate::stranger::issuer(end_entity);
    let view = shared.view(trust);
    let facts = Facts::new(chain, certificate, view.now);
    place.open(&facts, view).map_err(|reason| Rejected { reason, issuer })?;
    let peer = Peer::new(facts, address);
    Ok((Connection::new(tls, peer, place), permit))
}

fn rejected(reason: Reason) -> Rejected {
    Rejected { reason, issuer: None }
}

/// Judges the open connections again and again, until none is left and none will come. Apart from the files' task: a
/// file system that hangs must not keep a suspended partner connected.
async fn watch_connections(shared: Arc<Shared>) {
    let mut sweeps = ticker(shared.settings.bounds.recheck);
    while !shared.is_done() {
        tokio::select! {
            _ = sweeps.tick() => {}
            () = shared.recheck.notified() => {}
        }
        if after(shared.blocking(Shared::sweep).await).is_break() {
            return;
        }
    }
}

/// Reads the files again and again, and puts them in force when they have changed.
async fn watch_files(shared: Arc<Shared>) {
    let mut looks = ticker(shared.settings.bounds.file_poll);
    let mut last_fault = String::new();
    while !shared.is_done() {
        looks.tick().await;
        let looked = shared.blocking(Shared::reload_if_changed).await;
        if after(looked.map(|outcome| report_once(outcome, &mut last_fault))).is_break() {
            return;
        }
    }
}

fn ticker(period: Duration) -> Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// Whoever stays connected must be watched, whatever happened to one look: only the end of the runtime ends it.
fn after(look: Result<(), JoinError>) -> ControlFlow<()> {
    match look {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) if error.is_panic() => {
            tracing::error!(%error, "watching over certificates and connections failed");
            ControlFlow::Continue(())
        }
        Err(_shutting_down) => ControlFlow::Break(()),
    }
}

/// A fault is reported when it appears, not with every look at the files.
fn report_once(outcome: Result<(), LoadFault>, last_fault: &mut String) {
    match outcome {
        Ok(()) => last_fault.clear(),
        Err(fault) => {
            let fault = fault.to_string();
            if fault != *last_fault {
                tracing::error!(fault, "certificates and revocation lists were not reloaded: what was in force stays");
                *last_fault = fault;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_pauses_when_descriptors_run_out_but_not_for_one_lost_connection() {
        for exhausted in [23, 24, 12, 105] {
            assert!(pause_after(&io::Error::from_raw_os_error(exhausted)).is_some(), "{exhausted}");
        }
        assert!(pause_after(&io::ErrorKind::ConnectionAborted.into()).is_none());
    }
}
