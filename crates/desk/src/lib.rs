//! The desk: a thin client in the browser for an organisation's officials.
//!
//! It speaks the exchange's public API and nothing else, as any partner's system does, and adds the signed-in official to the context of every call. An
//! organisation's office takes in what arrives and follows its information requests; pages show that, and ask the exchange for the rest when it is
//! looked at. No personal data is in an address, a log line or a metric.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod settings;

mod desk;

mod office;
mod official;
pub mod oidc;
mod session;
mod store;

mod language;
mod page;
mod web;

pub use desk::{Desk, Running, StartError};
pub use language::Language;
pub use office::{Office, OfficeSettings, OpenError};
pub use official::{Official, Role};
pub use oidc::OidcSettings;
pub use session::Limits;
pub use settings::{Now, Settings, SignIn};
pub use store::{KeyFault, SealingKey};
