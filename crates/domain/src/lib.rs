//! The nouns and rules of Airut, pure.
//!
//! Everything that decides something lives here as a function of its arguments: who a certificate belongs to
//! ([`registry::Registry::identify`]), what a contract allows ([`judge::judge`]), who may change the registry
//! ([`change::judge`]), what of an answer may be shown
//! ([`minimise::minimise`]) and what a record means after the ones before it ([`query::apply`], [`registry::apply`] …).
//! This crate must never read a clock, a file, a socket or a random number: two processes that read the same log must
//! come to the same state, byte for byte.

pub mod file_name;
pub mod id;
pub mod identity_code;
pub mod time;
pub mod working_day;

pub mod context;
pub mod matter;
pub mod partner;
pub mod question;
pub mod registry;

pub mod change;
pub mod delivery;
pub mod judge;
pub mod minimise;
pub mod refusal;

pub mod document;
pub mod keys;
pub mod mailbox;
pub mod media_type;
pub mod member;
pub mod merkle;
pub mod message;
pub mod message_type;
pub mod partition;
pub mod query;
pub mod receipt;
pub mod record;
pub mod request;
