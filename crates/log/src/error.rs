//! What can go wrong, an enum per operation. No message ever quotes a record.

use std::{fmt, path::PathBuf, sync::Arc};

use airut_domain::partition::{Partition, Position, Topic};

/// What the engine said went wrong, for the operator. Cheap to clone, since one failed commit answers many appends.
#[derive(Clone, PartialEq, Eq)]
pub struct Cause(Arc<str>);

impl Cause {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string().into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<rusqlite::Error> for Cause {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error)
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

/// Why the log can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open, or this one has already.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{} is not a log", .0.display())]
    NotALog(PathBuf),
    /// Written by a newer build.
    #[error("{} has format {found}, and this build knows {known}", path.display())]
    Format {
        /// The log.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// This build's.
        known: i64,
    },
    /// A topic has not the number of partitions that this build gives it. Counts never change: where a thing lies is
    /// computed from them.
    #[error("{topic} has {found} partitions in the log, and this build expects {expected}")]
    Partitions {
        /// The topic.
        topic: Topic,
        /// The log's number.
        found: u32,
        /// This build's.
        expected: u32,
    },
    /// The log holds a topic that this build does not know.
    #[error("the log holds the topic {0}, which this build does not know")]
    UnknownTopic(String),
    /// The file can't be read or written.
    #[error("can not open {}: {cause}", path.display())]
    Storage {
        /// The log.
        path: PathBuf,
        /// Why.
        cause: Cause,
    },
    /// Kafka can't be reached, does not take us, or does not do as asked.
    #[error("{setting}: {cause}")]
    Kafka {
        /// The setting that the fault lies with, as the configuration names it: `log.kafka.ca`.
        setting: &'static str,
        /// Why.
        cause: Cause,
    },
    /// A topic is configured otherwise than the log's promises need. It is not changed: somebody meant it.
    #[error("the topic {topic} has {setting} = {found}, and needs {expected}")]
    TopicSetting {
        /// The topic.
        topic: String,
        /// The setting, as Kafka names it.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        expected: String,
    },
}

/// Why an append gave no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record is not in the log and never will be. Safe to try again, even with another record.
    #[error("not written to the log: {0}")]
    NotWritten(Cause),
    /// The record may be in the log, now or later. Try again with the same id, and let the fold sort it out.
    #[error("not known whether it was written to the log: {0}")]
    OutcomeUnknown(Cause),
    /// The record is larger than the log takes: never written.
    #[error("the record has {size_bytes} bytes, and at most {} are taken", crate::MAX_RECORD_BYTES)]
    TooLarge {
        /// Header, body and traceparent together.
        size_bytes: usize,
    },
}

/// Why records could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The log has no such partition.
    #[error("no partition {0}")]
    NoSuchPartition(Partition),
    /// The first of the offsets asked for is trimmed away.
    #[error("{partition} starts at {start}: what was before is trimmed away")]
    Trimmed {
        /// The partition.
        partition: Partition,
        /// The first offset that is still there.
        start: u64,
    },
    /// What is stored there is not what was written.
    #[error("the record {0} is damaged")]
    Damaged(Position),
    /// The log can't be read at the moment.
    #[error("the log can not be read: {0}")]
    Unavailable(Cause),
}

/// Why a tail can't go on. After any but [`Unavailable`](Self::Unavailable) it never will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// Asked to begin in a partition that the log does not have.
    #[error("no partition {0}")]
    NoSuchPartition(Partition),
    /// What comes next was trimmed away.
    #[error("{partition} starts at {start}: what was before is trimmed away")]
    Trimmed {
        /// The partition.
        partition: Partition,
        /// The first offset that is still there.
        start: u64,
    },
    /// Asked to begin beyond the end: whoever remembers such a position remembers another log.
    #[error("{partition} ends at {end}, before the position to begin at")]
    BeyondEnd {
        /// The partition.
        partition: Partition,
        /// One past its last offset.
        end: u64,
    },
    /// What is stored there is not what was written.
    #[error("the record {0} is damaged")]
    Damaged(Position),
    /// The log can't be read at the moment: the next call tries again.
    #[error("the log can not be read: {0}")]
    Unavailable(Cause),
    /// The log is closed, and every record of it was seen.
    #[error("the log is closed")]
    Closed,
}

impl From<ReadError> for TailError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoSuchPartition(partition) => Self::NoSuchPartition(partition),
            ReadError::Trimmed { partition, start } => Self::Trimmed { partition, start },
            ReadError::Damaged(position) => Self::Damaged(position),
            ReadError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

/// Why a prefix was not, or not wholly, trimmed away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrimError {
    /// The log has no such partition.
    #[error("no partition {0}")]
    NoSuchPartition(Partition),
    /// There is nothing yet to be trimmed so far. Nothing was.
    #[error("{partition} ends at {end}, before the offset to trim to")]
    BeyondEnd {
        /// The partition.
        partition: Partition,
        /// One past its last offset.
        end: u64,
    },
    /// The log can't be written at the moment. Part of the prefix may be gone; trimming again takes the rest.
    #[error("the log can not be trimmed: {0}")]
    Unavailable(Cause),
}
