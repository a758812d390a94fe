//! Collecting messages: over a stream that is kept open, or by pulling.

mod collector;
mod lease;
mod settling;
mod stream;

pub use collector::{CollectError, Collected, Collector, CollectorSettings};
pub use lease::{Lease, SettleError, Settling};
