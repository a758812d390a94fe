//! Questions to the brokers about partitions, and trimming: each answered by the partition's leader, nothing remembered.

use std::{ops::Range, sync::Arc, time::Duration};

use airut_domain::partition::Partition;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{context::Context, settings::KafkaSettings};
use crate::{Cause, OpenError, ReadError, TrimError};

/// How long one question may take, and how long it is put again while leaders move.
const QUESTION: Duration = Duration::from_secs(5);
const BOUND: Duration = Duration::from_secs(10);
/// How long to wait before it is put again.
const AGAIN: Duration = Duration::from_millis(50);
/// How many questions are under way at once: each keeps a thread waiting.
const QUESTIONS: usize = 8;

/// Asks the brokers. A connection of its own: a broker answers the requests of a connection one after the other, and
/// neither an append that waits for replicas nor a tail that waits for records may hold up the answer.
pub(super) struct Cluster {
    settings: KafkaSettings,
    admin: AdminClient<Context>,
    room: Arc<Semaphore>,
}

impl Cluster {
    pub(super) fn new(settings: &KafkaSettings) -> Result<Arc<Self>, OpenError> {
        let mut config = settings.client()?;
        // Nobody polls an admin client's main queue, and what is said there would pile up.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = super::made(config.create_with_context(Context::default()))?;
        Ok(Arc::new(Self { settings: settings.clone(), admin, room: Arc::new(Semaphore::new(QUESTIONS)) }))
    }

    pub(super) fn admin(&self) -> &AdminClient<Context> {
        &self.admin
    }

    /// The offsets that the partition holds, asked of its leader: every record acknowledged before lies within. Bounded
    /// to 15 s.
    pub(super) async fn span(self: &Arc<Self>, partition: Partition) -> Result<Range<u64>, ReadError> {
        let until = Instant::now() + BOUND;
        loop {
            match self.ask(partition).await {
                Ok((start, end)) => return Ok(offset(start)..offset(end)),
                Err(error) if is_passing(&error) && Instant::now() < until => sleep(AGAIN).await,
                Err(error) => return Err(ReadError::Unavailable(Cause::new(error))),
            }
        }
    }

    async fn ask(self: &Arc<Self>, partition: Partition) -> Result<(i64, i64), KafkaError> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let cluster = Arc::clone(self);
        let answer = spawn_blocking(move || {
            let name = cluster.settings.name(partition.topic);
            let answer = cluster.admin.inner().fetch_watermarks(&name, number(partition), QUESTION);
            drop(room);
            answer
        });
        answer.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Drops the records before the offset. librdkafka sends it to the partition's leader, and the answer comes when all
    /// replicas have dropped them.
    pub(super) async fn delete_before(&self, partition: Partition, before: u64) -> Result<(), TrimError> {
        let fault = |error: KafkaError| TrimError::Unavailable(Cause::new(error));
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(before).expect("an offset of Kafka's"));
        list.add_partition_offset(&self.settings.name(partition.topic), number(partition), offset).map_err(fault)?;
        let options = AdminOptions::new().request_timeout(Some(BOUND)).operation_timeout(Some(QUESTION));
        let answer = self.admin.delete_records(&list, &options).await.map_err(fault)?;
        answer.elements().iter().try_for_each(|partition| partition.error()).map_err(fault)
    }
}

/// The partition's number as Kafka has it.
pub(super) fn number(partition: Partition) -> i32 {
    i32::try_from(partition.number).expect("a partition's number is small")
}

fn offset(offset: i64) -> u64 {
    u64::try_from(offset).expect("the broker gives offsets")
}

/// Whether the error may go away by itself, as when a leader has moved, has only just begun to lead, or is gone: there
/// are two dozen codes for that, and one for what does not.
fn is_passing(error: &KafkaError) -> bool {
    super::code(error) != Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}
