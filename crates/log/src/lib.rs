//! The log: every step of a message's life is one record in it.
//!
//! Everything else folds the log, so all that the exchange promises rests on what is promised here, by every engine:
//!
//! 1. An append that returned is durable: synced, or acknowledged by enough replicas, before it returned.
//! 2. The records of a partition keep their order, and their offsets have no gap. Their stamps never decrease while the
//!    clock that gives them does not step back: on Kafka, when a partition's leader moves, that is another broker's.
//! 3. Every tail sees every record of every partition, in partition order, exactly once, from where it began.
//! 4. What was acknowledged every later opening finds again, at the same position, until it is trimmed away.
//! 5. What was not acknowledged is told as either *not written* (it is not there and never will be) or *outcome
//!    unknown* (it may be there, now or later). A record whose outcome is unknown reaches the tails like any other if
//!    it is there.
//!
//! A record is opaque here, a header and a body; [`Writer`] is the typed layer above, which builds headers and seals
//! bodies.
//!
//! What this crate must never do: acknowledge before the record is durable, show a tail what a crash could take back,
//! grow without bound while the disk is slow or full, or put a record's content into an error or a log line.
//!
//! There are three engines: *embedded*, one SQLite file on one machine ([`Log::embedded`]); *Kafka*, for any number of
//! processes ([`Log::kafka`]); and *simulated*, in memory and deterministic, with faults on demand
//! ([`Log::simulated`]). One conformance suite, `tests/it/conformance.rs`, holds all to the list above.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;

mod embedded;
mod kafka;
mod simulated;

mod edge_ring;
mod keyring;
mod seal;
mod writer;

use std::{collections::BTreeMap, fmt, ops::Range, path::Path, sync::Arc};

use airut_domain::{
    partition::{Partition, Position},
    record::Stored,
    time::Timestamp,
};

pub use airut_store::{Clock, Random};

pub use self::{
    edge_ring::EdgeRing,
    embedded::Embedded,
    error::{AppendError, Cause, OpenError, ReadError, TailError, TrimError},
    kafka::{KafkaCertificate, KafkaSettings, KafkaTls},
    keyring::{KeyRing, KeyRingError, NoSubjectKey, RotationError, SUBJECT_YEARS},
    seal::UnsealError,
    simulated::{Faults, Simulation},
    writer::{HeaderWriter, Recorded, Writer},
};

/// The most that header, body and traceparent of a record may have together. Every engine takes as much.
pub const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// What a record takes in memory besides its bytes, roughly.
const RECORD_BYTES: usize = 192;

/// The most that a tail gives at once: at least one record, and no more bytes unless that one has more.
const TAIL_BATCH: Bounds = Bounds { records: 1024, bytes: 4 * 1024 * 1024 };

/// The most records that a read gives at once.
const READ_RECORDS: usize = 4096;

/// Where to begin in each partition: the offset of the first record wanted.
pub type Positions = BTreeMap<Partition, u64>;

/// The log. Cheap to clone; it is closed when the last clone and the last tail of it are gone, which waits until what
/// is queued has been written.
#[derive(Clone)]
pub struct Log(Engine);

#[derive(Clone)]
enum Engine {
    Embedded(Arc<embedded::Engine>),
    Kafka(Arc<kafka::Engine>),
    Simulated(Simulation),
}

impl Log {
    /// Opens the embedded log, or creates it with a random identity. Blocks while it reads and syncs what an earlier
    /// process left unfinished, which is bounded by the WAL.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when a process has it open; the others when the file is not a log, or not one of this
    /// build.
    pub fn embedded(settings: Embedded) -> Result<Self, OpenError> {
        embedded::Engine::open(settings).map(|engine| Self(Engine::Embedded(Arc::new(engine))))
    }

    /// Opens the embedded log at this path for reading, without changing a byte of it. Several processes may at once,
    /// and no process can open it for writing meanwhile. Appends and trims fail; a tail that has seen every record is
    /// told that the log is closed.
    ///
    /// # Errors
    /// As [`embedded`](Self::embedded), and when there is no such file.
    pub fn embedded_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        embedded::Engine::open_read_only(path.as_ref()).map(|engine| Self(Engine::Embedded(Arc::new(engine))))
    }

    /// Opens the log on Kafka: reaches the brokers, makes the topics that are missing and checks those that are there.
    /// Bounded to about 15 s, and as much again where topics are to be made. Cancel safe, though topics may have been
    /// made. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError::Kafka`] names the setting that is at fault, [`OpenError::TopicSetting`] and
    /// [`OpenError::Partitions`] the topic.
    pub async fn kafka(settings: KafkaSettings) -> Result<Self, OpenError> {
        kafka::Engine::open(settings).await.map(|engine| Self(Engine::Kafka(Arc::new(engine))))
    }

    /// A handle on a simulated log. All handles on one simulation see the same records.
    pub fn simulated(simulation: &Simulation) -> Self {
        Self(Engine::Simulated(simulation.clone()))
    }

    /// The log's identity. Who keeps positions keeps it with them: they mean nothing in another log.
    pub fn identity(&self) -> LogId {
        match &self.0 {
            Engine::Embedded(engine) => engine.identity(),
            Engine::Kafka(engine) => engine.identity(),
            Engine::Simulated(simulation) => simulation.identity(),
        }
    }

    /// Whether there are other handles on the log in this process, tails among them: it is closed with the last.
    pub fn is_shared(&self) -> bool {
        match &self.0 {
            Engine::Embedded(engine) => Arc::strong_count(engine) > 1,
            Engine::Kafka(engine) => Arc::strong_count(engine) > 1,
            Engine::Simulated(_) => false,
        }
    }

    /// Whether this process alone can have the log open: then every other process that has written to it is gone.
    pub fn is_exclusive(&self) -> bool {
        match &self.0 {
            Engine::Embedded(_) => true,
            Engine::Kafka(_) | Engine::Simulated(_) => false,
        }
    }

    /// Appends a record, and gives its position and stamp once it is durable. Waits for room when too much is queued.
    ///
    /// Cancelling it while it waits for room leaves nothing; later, the record may be written all the same.
    ///
    /// # Errors
    /// [`AppendError`] says whether the record may be there.
    ///
    /// # Panics
    /// When the log has no such partition: [`Partition::all`] are there.
    pub async fn append(&self, partition: Partition, record: Unstamped) -> Result<(Position, Timestamp), AppendError> {
        match &self.0 {
            Engine::Embedded(engine) => engine.append(partition, record).await,
            Engine::Kafka(engine) => engine.append(partition, record).await,
            Engine::Simulated(simulation) => simulation.append(partition, record).await,
        }
    }

    /// Follows every partition, each from the offset given for it, or else from its start.
    pub fn tail(&self, from: &Positions) -> Tail {
        Tail(match &self.0 {
            Engine::Embedded(engine) => TailEngine::Embedded(engine.tail(from)),
            Engine::Kafka(engine) => TailEngine::Kafka(Box::new(engine.tail(from))),
            Engine::Simulated(simulation) => TailEngine::Simulated(Box::new(simulation.tail(from))),
        })
    }

    /// Reads records of a partition, in order from the first offset asked for. May give fewer than asked for: no more
    /// bytes than `max_bytes` (but at least one record), no more records than a bound of its own, and none beyond the
    /// end. Empty only when none of the offsets is there yet. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] when the first offset is trimmed away. A damaged record is an error only when it comes
    /// first; otherwise the batch ends before it.
    pub async fn read(
        &self,
        partition: Partition,
        offsets: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let bounds = Bounds { records: READ_RECORDS, bytes: max_bytes };
        match &self.0 {
            Engine::Embedded(engine) => engine.read(partition, offsets, bounds).await,
            Engine::Kafka(engine) => engine.read(partition, offsets, bounds).await,
            Engine::Simulated(simulation) => simulation.read(partition, offsets, bounds),
        }
    }

    /// The first offset of the partition that is not trimmed away. Cancel safe.
    ///
    /// # Errors
    /// When there is no such partition, or the log can't be asked.
    pub async fn start(&self, partition: Partition) -> Result<u64, ReadError> {
        self.span(partition).await.map(|span| span.start)
    }

    /// One past the last offset of the partition. Every record acknowledged before the call lies before it. Cancel
    /// safe.
    ///
    /// # Errors
    /// When there is no such partition, or the log can't be asked.
    pub async fn end(&self, partition: Partition) -> Result<u64, ReadError> {
        self.span(partition).await.map(|span| span.end)
    }

    /// Drops the records of the partition before this offset, for good. Offsets go on as if they were there. Trimming
    /// what is trimmed already does nothing. Cancelling it may leave it done, undone or done in part.
    ///
    /// # Errors
    /// [`TrimError::BeyondEnd`] when the partition does not reach so far.
    pub async fn trim(&self, partition: Partition, before: u64) -> Result<(), TrimError> {
        match &self.0 {
            Engine::Embedded(engine) => engine.trim(partition, before).await,
            Engine::Kafka(engine) => engine.trim(partition, before).await,
            Engine::Simulated(simulation) => simulation.trim(partition, before),
        }
    }

    /// What this log has done since it was opened.
    pub fn stats(&self) -> Stats {
        match &self.0 {
            Engine::Embedded(engine) => engine.stats(),
            Engine::Kafka(engine) => engine.stats(),
            Engine::Simulated(simulation) => simulation.stats(),
        }
    }

    async fn span(&self, partition: Partition) -> Result<Range<u64>, ReadError> {
        match &self.0 {
            Engine::Embedded(engine) => engine.span(partition),
            Engine::Kafka(engine) => engine.span(partition).await,
            Engine::Simulated(simulation) => simulation.span(partition),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match &self.0 {
            Engine::Embedded(_) => "embedded",
            Engine::Kafka(_) => "kafka",
            Engine::Simulated(_) => "simulated",
        };
        write!(f, "Log({engine} {})", self.identity())
    }
}

/// Follows the log: see [`Log::tail`]. Keeps the log open.
pub struct Tail(TailEngine);

enum TailEngine {
    Embedded(embedded::Tail),
    Kafka(Box<kafka::Tail>),
    Simulated(Box<simulated::Tail>),
}

impl Tail {
    /// Lets records wait for others to come along, up to 100 ms on Kafka: for who is in no hurry, and need not have the
    /// brokers answer for each record alone. Other engines give them no later than before. To be called before the first
    /// [`next`](Self::next).
    #[must_use]
    pub fn unhurried(mut self) -> Self {
        match &mut self.0 {
            TailEngine::Kafka(tail) => tail.be_unhurried(),
            TailEngine::Embedded(_) | TailEngine::Simulated(_) => {}
        }
        self
    }

    /// The next records, as soon as there are any: each record once, those of a partition in order; between partitions
    /// the order says nothing. Bounded to 1024 records and 4 MiB, but at least one record. Never holds up the writer.
    /// Cancel safe: what a cancelled call would have given the next one gives.
    ///
    /// # Errors
    /// After [`TailError::Unavailable`] the next call goes on where it was; after the others none can.
    pub async fn next(&mut self) -> Result<Vec<Arc<Stored>>, TailError> {
        match &mut self.0 {
            TailEngine::Embedded(tail) => tail.next().await,
            TailEngine::Kafka(tail) => tail.next().await,
            TailEngine::Simulated(tail) => tail.next().await,
        }
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tail")
    }
}

/// A record before the log has given it a position and a stamp.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Unstamped {
    /// The header as it will be stored.
    pub header: Vec<u8>,
    /// The sealed body; empty when there is none.
    pub body: Vec<u8>,
    /// W3C trace context of the step that appends it; empty when it is not traced.
    pub traceparent: String,
}

impl Unstamped {
    fn size(&self) -> usize {
        self.header.len() + self.body.len() + self.traceparent.len()
    }
}

impl fmt::Debug for Unstamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unstamped({} bytes)", self.size())
    }
}

/// A log's identity: random, given to it when it is made; on Kafka, a digest of the cluster's id and the topics' prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

/// Lower-case hexadecimal.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a log has done since it was opened, and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many times records were made durable: with group commit, far fewer than records. Kafka does not tell which
    /// it took together: there, as many as records.
    pub commits: u64,
    /// How many records were.
    pub records: u64,
    /// What waits to be written now, in bytes.
    pub queued_bytes: usize,
    /// How many times the file was opened anew because a write to it had failed, or a new producer took over.
    pub reopened: u64,
}

/// How much to give at once.
#[derive(Clone, Copy)]
struct Bounds {
    records: usize,
    bytes: usize,
}

impl Bounds {
    /// As many of the records as the bounds allow, and at least one.
    fn cut<'a>(self, records: impl Iterator<Item = &'a Arc<Stored>>) -> Vec<Arc<Stored>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for record in records.take(self.records.max(1)) {
            bytes += size(record);
            if bytes > self.bytes && !batch.is_empty() {
                break;
            }
            batch.push(Arc::clone(record));
        }
        batch
    }
}

/// What a record takes in memory, in bytes.
fn size(record: &Stored) -> usize {
    RECORD_BYTES + record.header.len() + record.body.len() + record.traceparent.len()
}
