//! The ledger's promises, held on real files: what it signs, how it comes back, whom it shows what, and what is found
//! when something was changed.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod flips;
mod restarts;
mod service;
mod signing;
mod support;
mod tampering;
