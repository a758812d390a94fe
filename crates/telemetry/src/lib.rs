//! Names of spans and metrics, trace context in records, and the setting up of logs, traces and metrics.
//!
//! Labels name organisations, never persons: nothing in here takes a document, a name or an identity code.

mod setup;
mod trace;

pub use setup::{LogFormat, Settings, SetupError, Telemetry, start};
pub use trace::{Span, Traced, continue_from, traceparent};
