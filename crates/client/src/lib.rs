//! The partner's library: everything a partner needs to use the exchange over its public API.
//!
//! A [`Client`] asks ([`Client::query`]), answers ([`Client::serve`]), sends messages ([`Client::send`], [`Client::sender`]),
//! collects them ([`Client::collector`]), sends and fetches documents ([`Client::send_document`], [`Client::fetch_document`]), looks things up in the ledger and in the registry of partners, over one mutually
//! authenticated TLS 1.3 connection that it re-makes by itself. [`verify_receipt`] and [`verify_inclusion`]
//! check what the exchange promised without asking it.
//!
//! Trying again is safe only with the same id, so this crate never makes an id up, and it never tries again what can
//! not help. It must never put a request's content into an error or a log.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod settings;

mod connect;
mod error;
mod retry;
mod trace;

mod query;
mod serve;

mod collect;
mod delivery;
mod document;
mod health;
mod request;
mod send;

mod ledger;
mod partner;
mod receipt;

pub use airut_wire::AskedQuestion as Question;
pub use collect::{CollectError, Collected, Collector, CollectorSettings, Lease, SettleError, Settling};
pub use connect::{Client, ConnectError};
pub use document::{FetchError, Fetching, UploadError};
pub use error::{CallError, Refused};
pub use health::Health;
pub use ledger::{Checkpoint, CheckpointFault, InclusionError, verify_inclusion};
pub use receipt::{ReceiptError, ReceiptKeys, ReceiptKeysError, verify_message_receipt, verify_receipt};
pub use request::RequestWatch;
pub use send::{Outcomes, SendError, SendOutcome, Sender, SenderSettings};
pub use serve::Unable;
pub use settings::{Settings, Timeouts};
