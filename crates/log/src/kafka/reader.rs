//! Reads ranges of records, with a few consumers kept for it. They block, and so run on threads that may.
//!
//! A consumer is assigned one partition from one offset for each read, and nothing between reads, or it would go on
//! fetching what nobody wants. librdkafka drops what it had fetched for an earlier assignment; should it not, the record
//! is not the expected one, and the read is tried once more with a new consumer before it is called damaged.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use airut_domain::{
    partition::{Partition, Position},
    record::Stored,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{cluster, context::Context, record, settings::KafkaSettings};
use crate::{Bounds, Cause, ReadError, size};

/// How many reads run at once; more wait.
const READERS: usize = 2;
/// How long a read may take to give its next record.
const BOUND: Duration = Duration::from_secs(10);

pub(super) struct Readers {
    settings: KafkaSettings,
    idle: Mutex<Vec<BaseConsumer<Context>>>,
    room: Arc<Semaphore>,
}

/// Why a read ended early.
enum Failure {
    /// Something else came than the next record as we write it.
    Unexpected,
    /// The record's checksum is not that of its bytes.
    Corrupt,
    Kafka(Cause),
}

impl Readers {
    pub(super) fn new(settings: &KafkaSettings) -> Arc<Self> {
        let (settings, idle) = (settings.clone(), Mutex::default());
        Arc::new(Self { settings, idle, room: Arc::new(Semaphore::new(READERS)) })
    }

    /// Reads records of a partition that are known to be there, at least one.
    pub(super) async fn read(
        self: &Arc<Self>,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let readers = Arc::clone(self);
        let read = spawn_blocking(move || {
            let batch = readers.read_now(partition, &offsets, bounds);
            drop(room);
            batch
        });
        read.await.unwrap_or_else(|error| Err(ReadError::Unavailable(Cause::new(error))))
    }

    fn read_now(
        &self,
        partition: Partition,
        offsets: &Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let idle = self.idle().pop();
        let failed = match idle.map(|consumer| self.read_with(consumer, partition, offsets, bounds)) {
            Some(Ok(batch)) => return Ok(batch),
            Some(Err(failure)) => Some(failure),
            None => None,
        };
        if let Some(Failure::Kafka(cause)) = failed {
            return Err(ReadError::Unavailable(cause));
        }
        let consumer = self.consumer()?;
        self.read_with(consumer, partition, offsets, bounds).map_err(|failure| match failure {
            Failure::Unexpected | Failure::Corrupt => ReadError::Damaged(Position { partition, offset: offsets.start }),
            Failure::Kafka(cause) => ReadError::Unavailable(cause),
        })
    }

    /// Only a consumer that worked is used again.
    fn read_with(
        &self,
        consumer: BaseConsumer<Context>,
        partition: Partition,
        offsets: &Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, Failure> {
        self.assign(&consumer, partition, offsets.start)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for offset in offsets.clone().take(bounds.records.max(1)) {
            let record = match next(&consumer, Position { partition, offset }) {
                Ok(record) => record,
                Err(_) if !batch.is_empty() => return Ok(batch),
                Err(failure) => return Err(failure),
            };
            bytes += size(&record);
            if bytes > bounds.bytes && !batch.is_empty() {
                break;
            }
            batch.push(Arc::new(record));
        }
        consumer.unassign().map_err(Failure::from)?;
        self.idle().push(consumer);
        Ok(batch)
    }

    fn assign(&self, consumer: &BaseConsumer<Context>, partition: Partition, offset: u64) -> Result<(), Failure> {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&self.settings.name(partition.topic), cluster::number(partition), offset)?;
        Ok(consumer.assign(&list)?)
    }

    fn consumer(&self) -> Result<BaseConsumer<Context>, ReadError> {
        let unavailable = |error| ReadError::Unavailable(Cause::new(error));
        let mut config = self.settings.consumer().map_err(unavailable)?;
        config
            .set("queued.max.messages.kbytes", "8192")
            .set("queued.min.messages", "1000")
            // After a read the consumer may ask for what is not there yet; the next read waits for that answer.
            .set("fetch.wait.max.ms", "10");
        super::made(config.create_with_context(Context::default())).map_err(unavailable)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<BaseConsumer<Context>>> {
        self.idle.lock().expect("nobody panics while holding it")
    }
}

/// The record at this position, which must be the next that the consumer gives.
fn next(consumer: &BaseConsumer<Context>, position: Position) -> Result<Stored, Failure> {
    use RDKafkaErrorCode as Code;
    let until = Instant::now() + BOUND;
    loop {
        match consumer.poll(until.saturating_duration_since(Instant::now())) {
            None => return Err(Failure::Kafka(Cause::new("the brokers do not give the record"))),
            Some(Ok(message)) => {
                if message.offset() < i64::try_from(position.offset).unwrap_or(i64::MAX) {
                    continue;
                }
                let is_next = u64::try_from(message.offset()) == Ok(position.offset)
                    && message.partition() == cluster::number(position.partition);
                return record::stored(&message, position).filter(|_| is_next).ok_or(Failure::Unexpected);
            }
            Some(Err(error)) => match super::code(&error) {
                Some(Code::BadMessage) => return Err(Failure::Corrupt),
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::TopicAuthorizationFailed) => {
                    return Err(error.into());
                }
                // One broker's connection, which is made again, or of the group that is never joined.
                _ => {}
            },
        }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(Cause::new(error))
    }
}
