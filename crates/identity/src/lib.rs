//! The mTLS edge: who is calling.
//!
//! A connection is let in by one check, [`Listener`]'s handshake (TLS 1.3, a client certificate of a trusted
//! authority, not expired, not revoked), and a call by a second, [`caller`] (the certificate belongs to exactly one
//! active partner of the registry as it is now). The second returns [`airut_domain::registry::VerifiedPartner`], which
//! whatever acts for a partner demands, so that a skipped check does not compile. Both are repeated for as long as a
//! connection is open: one whose certificate is revoked, expired or no longer a partner's is cut.
//!
//! This crate must never let a peer in on what it says of itself, wait on a stranger without a bound, or keep what a
//! stranger sent.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod listener;
pub use listener::{BindFault, Handle, Incoming, Listener};

mod connection;
pub use connection::{Connection, Peer, caller};

mod settings;
pub use settings::{Bounds, Clock, TlsSettings};

mod trust;
pub use trust::{Expiry, LoadFault};

mod gate;
mod open;

mod stranger;
pub use stranger::{Prefix, Stranger};

mod certificate;
pub use certificate::{Unreadable, presented};

pub mod dev_ca;
