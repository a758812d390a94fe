//! Collecting messages: over a stream that is kept open, or by pulling.

mod lease;
mod settling;
mod stream;

pub use lease::{Lease, SettleError, Settling};
pub use stream::{CollectError, Collected, Collector, CollectorSettings};
