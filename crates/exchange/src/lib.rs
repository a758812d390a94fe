//! The gateway of the exchange: its verbs, its folds, and the gRPC edge.
//!
//! A verb is one linear async function: judge, append, read back the fold's verdict, answer. Whatever it decides is a pure
//! function of `airut-domain`. It runs in a task of its own and reaches its final record whether or not its caller waits.
//!
//! What this crate must never do: disclose, push or give a receipt for anything but what the fold has accepted.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

// The tests' support is shared with the tests from outside, who name the crate.
#[cfg(test)]
extern crate self as airut_exchange;

mod bodies;
mod delivery_edge;
mod document_edge;
mod documents;
mod edge;
mod fold;
mod gateway;
mod lanes;
mod message_types;
mod partner_edge;
mod partners;
mod planted;
mod quotas;
mod receipts;
mod reception;
mod refusals;
mod request_edge;
mod retention;
mod streams;
mod sweep;
mod trim;
mod verb;
mod world;

#[cfg(test)]
mod simulation;
#[cfg(test)]
#[allow(dead_code, reason = "the simulation needs a part of it")]
#[path = "../tests/it/support.rs"]
mod support;

pub use delivery_edge::delivery_service;
pub use document_edge::document_service;
pub use documents::Scan;
pub use edge::query_service;
pub use fold::{FoldError, Folds, REGISTRY_CURRENT, StoreError};
pub use gateway::{FoldStore, Gateway, GatewayError, Settings};
pub use message_types::{Catalogue, CatalogueFiles};
pub use partner_edge::{CheckCertificate, partner_service};
pub use partners::Change;
pub use receipts::{KeyError, ReceiptKey};
pub use reception::{CallerOf, Follower, Reception};
pub use refusals::{FIRST_STRANGERS, SINGLY, Stranger};
pub use request_edge::request_service;
pub use retention::Retention;
pub use verb::{
    collect::Collecting,
    query_benefits::{Asking, Reply},
    serve::Answering,
};
pub use world::{Task, World};
