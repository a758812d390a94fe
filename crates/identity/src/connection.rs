//! A connection that was let in, and who is at its other end.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use airut_domain::{
    partner::PresentedCertificate,
    refusal::{Reason, Refusal},
    registry::{Registry, Unidentified, VerifiedPartner},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::open::{Facts, Place};

/// The other end of a connection: in the extensions of each of its requests. Cheap to clone.
#[derive(Clone)]
pub struct Peer {
    facts: Arc<Facts>,
    address: SocketAddr,
}

impl Peer {
    pub(crate) fn new(facts: Arc<Facts>, address: SocketAddr) -> Self {
        Self { facts, address }
    }

    /// The partner that is calling, by the registry as it is now. A connection that was cut has no partner any more,
    /// for the reason it was cut: what a call has spawned is stopped by the same check as a new call.
    ///
    /// # Errors
    /// The certificate is no active partner's, or several partners', or the connection was cut.
    pub fn identify(&self, registry: &Registry) -> Result<VerifiedPartner, Unidentified> {
        self.facts.identify(registry)
    }

    /// What its certificate says.
    pub fn certificate(&self) -> &PresentedCertificate {
        &self.facts.certificate
    }

    /// Its address, as the socket says.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the connection is cut. Not until it is closed. Cancel safe.
    pub async fn until_cut(&self) {
        self.facts.token().cancelled().await;
    }

    /// Ends the connection: its reads and writes fail from now on. The first reason given stays.
    pub fn cut(&self, reason: Reason) {
        self.facts.cut(reason);
    }
}

/// Without the certificate's names.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The partner that makes a call, from the extensions of its request and the registry as it is now. A request that came
/// by another way than [`Connection`] has no certificate.
///
/// # Errors
/// As [`Peer::identify`].
pub fn caller(extensions: &http::Extensions, registry: &Registry) -> Result<VerifiedPartner, Unidentified> {
    match extensions.get::<Peer>() {
        Some(peer) => peer.identify(registry),
        None => Err(Unidentified { refusal: Refusal::new(Reason::CertificateMissing), partner: None }),
    }
}

/// A connection whose handshake is done. It is among the open ones until it is dropped, and fails once it is cut.
pub struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    /// One for each direction, as each remembers one waker and the directions may be polled by different tasks.
    read_cut: Cut,
    write_cut: Cut,
    _place: Place,
}

impl Connection {
    pub(crate) fn new(tls: TlsStream<TcpStream>, peer: Peer, place: Place) -> Self {
        let cut = || Box::pin(peer.facts.token().clone().cancelled_owned());
        let (read_cut, write_cut) = (cut(), cut());
        Self { tls, peer, read_cut, write_cut, _place: place }
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

type Cut = Pin<Box<WaitForCancellationFutureOwned>>;

/// Fails if the connection was cut, and otherwise wakes the task when it is.
fn unless_cut(cut: &mut Cut, cx: &mut Context<'_>) -> io::Result<()> {
    match cut.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")),
        Poll::Pending => Ok(()),
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        unless_cut(&mut this.read_cut, cx)?;
        Pin::new(&mut this.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        unless_cut(&mut this.write_cut, cx)?;
        Pin::new(&mut this.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        unless_cut(&mut this.write_cut, cx)?;
        Pin::new(&mut this.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        unless_cut(&mut this.write_cut, cx)?;
        Pin::new(&mut this.tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        unless_cut(&mut this.write_cut, cx)?;
        Pin::new(&mut this.tls).poll_shutdown(cx)
    }
}
