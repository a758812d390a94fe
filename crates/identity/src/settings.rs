//! What an operator sets: the files, and how much of everything there may be.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use airut_domain::time::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// Says what time it is. Certificates and revocation lists are judged by it, in handshakes and afterwards alike.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where the server's identity and its trust lie, all of them PEM files of at most 32 MiB, and the bounds of the edge.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The server's certificate, its intermediates after it.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities whose client certificates are let in. At least one.
    pub client_cas: Vec<PathBuf>,
    /// Their revocation lists. Each authority needs one: without it nothing could be revoked, and its clients would
    /// all be refused as [`airut_domain::refusal::Reason::RevocationUnknown`]. Intermediates' lists belong here too.
    pub crls: Vec<PathBuf>,
    /// How much of everything.
    pub bounds: Bounds,
}

/// How much of everything there may be, so that no stranger, and no partner, uses up what others need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a handshake may take.
    pub handshake_time: Duration,
    /// Handshakes under way. While there are as many, further connections wait in the kernel's queue.
    pub handshakes: usize,
    /// Handshakes under way from one address prefix. Further ones are closed.
    pub handshakes_per_prefix: usize,
    /// Connections, handshakes among them. Further ones are closed.
    pub connections: usize,
    /// Connections from one address prefix, handshakes among them. Further ones are closed.
    pub connections_per_prefix: usize,
    /// Connections whose certificate is valid but no active partner's. Further ones are closed.
    pub unidentified: usize,
    /// How long such a connection stays, for its calls to be answered with the reason.
    pub unidentified_time: Duration,
    /// How often the files are read to see whether they changed.
    pub file_poll: Duration,
    /// How often the open connections are looked at when nothing calls for it sooner.
    pub recheck: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake_time: Duration::from_secs(10),
            handshakes: 256,
            handshakes_per_prefix: 64,
            connections: 16_384,
            connections_per_prefix: 4_096,
            unidentified: 256,
            unidentified_time: Duration::from_secs(60),
            file_poll: Duration::from_secs(2),
            recheck: Duration::from_secs(1),
        }
    }
}

/// The clock as rustls wants it.
pub(crate) struct HandshakeClock(pub(crate) Clock);

impl TimeProvider for HandshakeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time((self.0)()))
    }
}

impl fmt::Debug for HandshakeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeClock")
    }
}

/// A moment in the type that certificates are judged by; before 1970 it is 1970.
pub(crate) fn unix_time(moment: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(moment.since(Timestamp::from_millis(0)))
}
