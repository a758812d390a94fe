//! Names of spans and metrics, trace context in records, and the setting up of logs, traces and metrics.
//!
//! Labels name organisations, never persons: nothing in here takes a document, a name or an identity code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod metrics;
pub mod span;

mod setup;
mod trace;

pub use setup::{LogFormat, Settings, SetupError, Telemetry, start};
pub use trace::{Traced, callers, continue_from, current, traceparent};
