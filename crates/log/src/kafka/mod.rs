//! The log on Apache Kafka: the partitions are Kafka's, and so are their order, their durability and their offsets.
//!
//! One idempotent producer appends, each tail is one consumer with every partition assigned by hand, and a few consumers
//! read ranges. No groups, transactions, compaction or retention: a record stays until the log is trimmed. Which
//! partition a record belongs to is decided before it comes here, and no key goes to the broker.
//!
//! Any number of processes may have it open. What it must never do: answer from memory where a broker has to be asked,
//! hand out a record that Kafka could take back (consumers see what is replicated as `min.insync.replicas` demands), or
//! call a record not written that may be.

mod settings;

mod context;
mod record;

mod open;

mod cluster;
mod producer;
mod reader;
mod tail;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use airut_domain::{
    partition::{Partition, Position, Topic},
    record::Stored,
    time::Timestamp,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::runtime::Handle;

pub use self::settings::{KafkaCertificate, KafkaSettings, KafkaTls};
pub(crate) use self::tail::Tail;
use self::{cluster::Cluster, producer::Producer, reader::Readers, settings::setting};
use crate::{AppendError, Bounds, Cause, LogId, OpenError, Positions, ReadError, Stats, TrimError, Unstamped};

pub(crate) struct Engine {
    settings: KafkaSettings,
    identity: LogId,
    names: BTreeMap<Topic, String>,
    /// `None` once it is being dropped; so with the others that block when they are.
    clients: Option<Clients>,
    /// Where each partition started when this process last knew. Only tells how far this process itself has trimmed.
    starts: Mutex<BTreeMap<Partition, u64>>,
}

struct Clients {
    producer: Producer,
    cluster: Arc<Cluster>,
    readers: Arc<Readers>,
}

impl Engine {
    pub(crate) async fn open(settings: KafkaSettings) -> Result<Self, OpenError> {
        open::open(settings).await
    }

    pub(crate) fn identity(&self) -> LogId {
        self.identity
    }

    pub(crate) async fn append(
        &self,
        partition: Partition,
        record: Unstamped,
    ) -> Result<(Position, Timestamp), AppendError> {
        assert!(self.has(partition), "no partition {partition}");
        self.clients().producer.append(&self.names[&partition.topic], partition, record).await
    }

    pub(crate) fn tail(self: &Arc<Self>, from: &Positions) -> Tail {
        Tail::new(Arc::clone(self), from)
    }

    pub(crate) async fn read(
        &self,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let span = self.span(partition).await?;
        if offsets.start < span.start {
            return Err(ReadError::Trimmed { partition, start: span.start });
        }
        let offsets = offsets.start..offsets.end.min(span.end);
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.clients().readers.read(partition, offsets.clone(), bounds).await;
        match read {
            Ok(batch) => Ok(batch),
            // A trim may have overtaken it.
            Err(error) => match self.span(partition).await {
                Ok(Range { start, .. }) if start > offsets.start => Err(ReadError::Trimmed { partition, start }),
                _ => Err(error),
            },
        }
    }

    /// One record.
    async fn read_at(&self, partition: Partition, offset: u64) -> Result<Vec<Arc<Stored>>, ReadError> {
        self.read(partition, offset..offset + 1, Bounds { records: 1, bytes: 0 }).await
    }

    pub(crate) async fn span(&self, partition: Partition) -> Result<Range<u64>, ReadError> {
        if !self.has(partition) {
            return Err(ReadError::NoSuchPartition(partition));
        }
        self.clients().cluster.span(partition).await
    }

    pub(crate) async fn trim(&self, partition: Partition, before: u64) -> Result<(), TrimError> {
        let span = self.span(partition).await.map_err(|error| match error {
            ReadError::NoSuchPartition(partition) => TrimError::NoSuchPartition(partition),
            ReadError::Unavailable(cause) => TrimError::Unavailable(cause),
            ReadError::Trimmed { .. } | ReadError::Damaged(_) => unreachable!("no record is read"),
        })?;
        if before > span.end {
            return Err(TrimError::BeyondEnd { partition, end: span.end });
        }
        if before > span.start {
            self.clients().cluster.delete_before(partition, before).await?;
        }
        let mut starts = self.starts();
        let start = starts.entry(partition).or_default();
        *start = before.max(*start);
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        self.clients().producer.stats()
    }

    fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    fn has(&self, partition: Partition) -> bool {
        partition.number < partition.topic.partitions()
    }

    fn known_starts(&self) -> BTreeMap<Partition, u64> {
        self.starts().clone()
    }

    /// Whether this process has trimmed the partition as far as this.
    fn has_trimmed_to(&self, partition: Partition, start: u64) -> bool {
        self.starts().get(&partition).is_some_and(|known| *known >= start)
    }

    fn starts(&self) -> MutexGuard<'_, BTreeMap<Partition, u64>> {
        self.starts.lock().expect("nobody panics while holding it")
    }

    fn clients(&self) -> &Clients {
        self.clients.as_ref().expect("they are there until it is dropped")
    }
}

/// Waits for what is queued, as every engine does, and for no longer than a record may wait for its acknowledgement.
impl Drop for Engine {
    fn drop(&mut self) {
        let Some(clients) = self.clients.take() else { return };
        clients.producer.flush();
        dispose(clients);
    }
}

/// Drops a client where that may block: it waits for librdkafka's threads. The runtime waits for it when it ends, so
/// that no such thread is left when the process does.
fn dispose<T: Send + 'static>(client: T) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
        Err(_) => drop(client),
    }
}

/// Kafka's code of the error; rdkafka's own function leaves out those of admin operations.
fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    if let KafkaError::AdminOp(code) = error { Some(*code) } else { error.rdkafka_error_code() }
}

/// What librdkafka refuses when a client is made can only be a certificate or key, or an address: all else is ours.
fn made<T>(made: KafkaResult<T>) -> Result<T, OpenError> {
    made.map_err(|error| {
        let text = error.to_string();
        let files = [("ssl.ca", setting::CA), ("ssl.certificate", setting::CERTIFICATE), ("key", setting::KEY)];
        let setting =
            files.iter().find(|(word, _)| text.contains(word)).map_or(setting::BROKERS, |(_, setting)| setting);
        OpenError::Kafka { setting, cause: Cause::new(text) }
    })
}
