//! The exchange from outside: what callers and responders are told, and what is on record then.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

mod queries;
mod repeats;
mod requests;
mod rights;
mod streams;

mod faults;
mod partners;
mod reception;
mod refusals;

mod collected_types;
mod delivery;
mod documents;
mod edge;
mod engines;
mod folds;
mod keys;
mod message_types;
mod trimming;
