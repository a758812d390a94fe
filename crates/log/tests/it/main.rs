//! The log's promises, held against each engine, and what each engine promises besides.

#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod crashes;
mod damage;
mod disk;
mod embedded;
mod kafka;
mod sealing;
mod simulated;
mod support;
