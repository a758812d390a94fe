//! What the ledger tells of itself.

use std::sync::Arc;

use airut_domain::{keys::Digest, time::Timestamp};

/// Where the ledger stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many leaves are in the stored tree, signed or not.
    pub size: u64,
    /// The newest signed checkpoint. None until the first one is signed, and while a ledger that has just started looks
    /// for the newest in the log, so that it never goes back to an older one.
    pub checkpoint: Option<Signed>,
    /// The stamp of the oldest leaf that was read and is not in a signed checkpoint; none when all are. Its age is the
    /// lag.
    pub unsigned_since: Option<Timestamp>,
    /// How it fares.
    pub health: Health,
}

/// A signed checkpoint, durable in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The C2SP signed note.
    pub note: Arc<str>,
    /// How many leaves it covers.
    pub size: u64,
    /// The root that it states.
    pub root: Digest,
    /// When the log took it.
    pub stamp: Timestamp,
}

/// How the ledger fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is not running, or reads what was ordered before it started, or opens its file anew after an error.
    Starting,
    /// It orders, and signs what it has read back.
    Signing,
    /// The log can't be read or written at the moment; it tries again and again.
    LogUnavailable(String),
    /// It signs no more. What it signed before it still proves.
    Stopped(StopReason),
}

/// Why the ledger stopped signing. Better no signature than a wrong one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// Two errors of its file in a row. It may be run again: it then begins with every check of a start.
    #[error("the ledger's file failed twice in a row: {0}")]
    Storage(String),
    /// The file, the log and the checkpoints do not agree. Somebody has to find out which of them was changed.
    #[error("the ledger disagrees: {0}")]
    Disagrees(String),
    /// The log can not be followed any more: it was trimmed, damaged, exchanged or closed.
    #[error("the log can not be followed: {0}")]
    Log(String),
    /// A record that this build does not understand, or that left a gap.
    #[error("{0}")]
    Record(String),
}
