//! Appends: one idempotent producer, and a new one when that one can't go on.
//!
//! Durability is the brokers': `acks=all` with `min.insync.replicas`. What it must never do: say that a record is *not
//! written* when a broker may have it.
//!
//! librdkafka knows of each failed message whether a broker may have it, but rdkafka does not pass that on, and the error
//! alone does not say: a message that times out in the queue has the same error as one that was sent, and one refused by
//! the broker may have been taken by an earlier try whose answer was lost. So only what never left this process, or what
//! no try could ever have got past a broker, is called not written.

use std::{
    sync::{
        Arc, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use airut_domain::{
    partition::{Partition, Position},
    time::Timestamp,
};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{context::Context, dispose, record, settings::KafkaSettings};
use crate::{AppendError, Cause, MAX_RECORD_BYTES, OpenError, Stats, Unstamped};

/// What a record takes of the queue's room besides its bytes: bounds their number as well.
const RECORD_ROOM: usize = 256;
/// How long a record may wait for its acknowledgement, retries included, before its outcome is called unknown.
/// librdkafka looks for such records once a second.
const DELIVERY_BOUND: Duration = Duration::from_secs(10);
/// How long to wait for room in the queue.
const ROOM_BOUND: Duration = Duration::from_secs(10);
/// The least time between two producers.
const RENEWAL: Duration = Duration::from_millis(500);

type Outcome = Result<(Position, Timestamp), AppendError>;

/// Appends records. See the module.
pub(super) struct Producer {
    settings: KafkaSettings,
    room: Arc<Semaphore>,
    capacity: usize,
    counters: Arc<Counters>,
    current: RwLock<ThreadedProducer<Deliveries>>,
    /// When the current one was made. Held by whoever makes a new one.
    made: tokio::sync::Mutex<Instant>,
}

#[derive(Default)]
struct Counters {
    records: AtomicU64,
    renewed: AtomicU64,
}

/// Who waits for a record's delivery, and its room in the queue.
pub(super) struct Waiting {
    partition: Partition,
    answer: oneshot::Sender<Outcome>,
    _room: OwnedSemaphorePermit,
}

impl Producer {
    /// A producer. Does not wait for any broker.
    pub(super) fn new(settings: &KafkaSettings, context: Context) -> Result<Self, OpenError> {
        let capacity = settings.queue_bytes.clamp(1, u32::MAX as usize);
        let counters = Arc::new(Counters::default());
        let deliveries = Deliveries { context, is_fatal: AtomicBool::new(false), counters: Arc::clone(&counters) };
        let producer = create(&config(settings)?, deliveries)?;
        Ok(Self {
            settings: settings.clone(),
            room: Arc::new(Semaphore::new(capacity)),
            capacity,
            counters,
            current: RwLock::new(producer),
            made: tokio::sync::Mutex::new(Instant::now()),
        })
    }

    /// Appends a record. Bounded in time: 10 s for room in the queue and 10 s, or a little more, for the acknowledgement.
    pub(super) async fn append(&self, name: &str, partition: Partition, record: Unstamped) -> Outcome {
        let size_bytes = record.size();
        if size_bytes > MAX_RECORD_BYTES {
            return Err(AppendError::TooLarge { size_bytes });
        }
        let room = self.room(size_bytes).await?;
        self.renew_if_fatal().await?;
        let (answer, outcome) = oneshot::channel();
        let waiting = Box::new(Waiting { partition, answer, _room: room });
        if let Err((error, waiting)) = self.send(name, &record, waiting) {
            if super::code(&error) != Some(RDKafkaErrorCode::Fatal) {
                return Err(AppendError::NotWritten(Cause::new(error)));
            }
            // It can't go on since a moment ago, and did not take the record.
            self.renew_if_fatal().await?;
            self.send(name, &record, waiting).map_err(|(error, _)| AppendError::NotWritten(Cause::new(error)))?;
        }
        outcome.await.unwrap_or_else(|_| Err(AppendError::OutcomeUnknown(Cause::new("the producer has ended"))))
    }

    /// What it has done. librdkafka does not say which records were acknowledged together, so each counts by itself.
    pub(super) fn stats(&self) -> Stats {
        let records = self.counters.records.load(Ordering::Relaxed);
        Stats {
            commits: records,
            records,
            queued_bytes: self.capacity - self.room.available_permits(),
            reopened: self.counters.renewed.load(Ordering::Relaxed),
        }
    }

    /// Waits until what is queued was acknowledged or given up. Blocks, no longer than the latter takes.
    pub(super) fn flush(&self) {
        if let Err(error) = self.current().flush(DELIVERY_BOUND + Duration::from_secs(2)) {
            tracing::warn!(%error, "not every record was acknowledged before the log closed");
        }
    }

    /// What connects to the brokers, for whoever asks them for the first time.
    pub(super) fn client<T>(&self, ask: impl FnOnce(&rdkafka::client::Client<Deliveries>) -> T) -> T {
        ask(self.current().client())
    }

    /// Waits for room in the queue, first come, first served. A record larger than the whole queue gets it when it is
    /// empty.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
        let wanted = u32::try_from((bytes + RECORD_ROOM).min(self.capacity)).expect("the capacity fits");
        match timeout(ROOM_BOUND, Arc::clone(&self.room).acquire_many_owned(wanted)).await {
            Ok(room) => Ok(room.expect("the semaphore is never closed")),
            Err(_) => Err(AppendError::NotWritten(Cause::new("too much waits to be acknowledged"))),
        }
    }

    /// Hands the record to librdkafka, which copies it and never blocks. An error means that it did not take it.
    fn send(&self, name: &str, record: &Unstamped, waiting: Box<Waiting>) -> Result<(), (KafkaError, Box<Waiting>)> {
        let number = super::cluster::number(waiting.partition);
        let message = BaseRecord::<(), [u8], _>::with_opaque_to(name, waiting)
            .partition(number)
            .payload(&record.body)
            .headers(record::headers(record));
        let current = self.current();
        current.send(message).map_err(|(error, message)| {
            if super::code(&error) == Some(RDKafkaErrorCode::Fatal) {
                current.client().context().is_fatal.store(true, Ordering::Relaxed);
            }
            (error, message.delivery_opaque)
        })
    }

    /// Makes a new producer when the current one has met an error that librdkafka calls fatal: after that it takes
    /// nothing any more. Waits at least the bound between two.
    async fn renew_if_fatal(&self) -> Result<(), AppendError> {
        if !self.is_fatal() {
            return Ok(());
        }
        let mut made = self.made.lock().await;
        if !self.is_fatal() {
            return Ok(());
        }
        sleep_until(*made + RENEWAL).await;
        *made = Instant::now();
        let refused = |error: OpenError| AppendError::NotWritten(Cause::new(error));
        let config = config(&self.settings).map_err(refused)?;
        let deliveries = self.client(|client| client.context().successor());
        let new = spawn_blocking(move || create(&config, deliveries)).await;
        let new = new.map_err(|error| AppendError::NotWritten(Cause::new(error)))?.map_err(refused)?;
        let old = std::mem::replace(&mut *self.current.write().expect("nobody panics while holding it"), new);
        self.counters.renewed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("the producer met a fatal error; there is a new one");
        dispose(old);
        Ok(())
    }

    fn is_fatal(&self) -> bool {
        self.client(|client| client.context().is_fatal.load(Ordering::Relaxed))
    }

    fn current(&self) -> RwLockReadGuard<'_, ThreadedProducer<Deliveries>> {
        self.current.read().expect("nobody panics while holding it")
    }
}

fn config(settings: &KafkaSettings) -> Result<ClientConfig, OpenError> {
    let mut config = settings.client()?;
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        // Bodies are sealed: there is nothing to compress.
        .set("compression.codec", "none")
        // A record that comes alone leaves at once; while five requests are under way, what comes gathers by itself.
        .set("linger.ms", "0")
        // The default is 5 minutes. A record that timed out may still come in, and others after it: the folds know.
        .set("message.timeout.ms", DELIVERY_BOUND.as_millis().to_string())
        // How long a broker waits for the replicas; less than the above, or its answer would come too late.
        .set("request.timeout.ms", "9000")
        // Our own bound comes first: each record counts at least 256 bytes there, and librdkafka's never fill.
        .set("queue.buffering.max.messages", "10000000")
        .set("queue.buffering.max.kbytes", "2097151");
    Ok(config)
}

fn create(config: &ClientConfig, deliveries: Deliveries) -> Result<ThreadedProducer<Deliveries>, OpenError> {
    super::made(config.create_with_context(deliveries))
}

/// Hears of deliveries, on the producer's own thread, which must not be kept.
pub(super) struct Deliveries {
    context: Context,
    is_fatal: AtomicBool,
    counters: Arc<Counters>,
}

impl Deliveries {
    fn successor(&self) -> Self {
        let (context, counters) = (self.context.clone(), Arc::clone(&self.counters));
        Self { context, is_fatal: AtomicBool::new(false), counters }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.context.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if super::code(&error) == Some(RDKafkaErrorCode::Fatal) {
            tracing::error!(reason, "the producer can not go on");
            self.is_fatal.store(true, Ordering::Relaxed);
        }
        self.context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        let outcome = match result {
            Ok(message) => place(message.offset(), message.timestamp(), waiting.partition),
            Err((error, _)) => Err(refusal(error)),
        };
        if outcome.is_ok() {
            self.counters.records.fetch_add(1, Ordering::Relaxed);
        }
        // The caller may have gone; that is no concern of the log's. The room is given back with the rest.
        drop(waiting.answer.send(outcome));
    }
}

/// Where a delivered record is. The answer to a produce request carries the batch's first offset and, for a topic with
/// `LogAppendTime`, the broker's stamp, and librdkafka puts both on every message of the batch.
///
/// With an offset below zero it calls delivered what it only concludes to be there: when a later request of the partition
/// was acknowledged, it takes an earlier one that failed for one whose answer was lost. A broker that has seen nothing of
/// this producer takes the later one without the earlier, so the conclusion can be wrong: seen on topics just made, whose
/// leader refused the first request since it was not ready, and took the second.
fn place(offset: i64, timestamp: rdkafka::Timestamp, partition: Partition) -> Outcome {
    let unknown = |what| AppendError::OutcomeUnknown(Cause::new(what));
    let offset = u64::try_from(offset).map_err(|_| unknown("the brokers did not say where the record is"))?;
    let stamp = record::stamp(timestamp).ok_or_else(|| unknown("the brokers gave the record no stamp"))?;
    Ok((Position { partition, offset }, stamp))
}

fn refusal(error: &KafkaError) -> AppendError {
    let cause = Cause::new(error);
    match super::code(error) {
        // Of the record itself, whenever it comes: no earlier try can have got past that.
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord) => AppendError::NotWritten(cause),
        _ => AppendError::OutcomeUnknown(cause),
    }
}

#[cfg(test)]
mod tests {
    use airut_domain::partition::Topic;
    use rdkafka::{mocking::MockCluster, types::RDKafkaRespErr};

    use super::*;

    fn refused(code: RDKafkaErrorCode) -> AppendError {
        refusal(&KafkaError::MessageProduction(code))
    }

    #[test]
    fn only_what_no_broker_can_have_is_not_written() {
        use RDKafkaErrorCode as Code;
        assert!(matches!(refused(Code::MessageSizeTooLarge), AppendError::NotWritten(_)));
        // Each of these may follow a try that came through.
        for code in [Code::MessageTimedOut, Code::NotEnoughReplicas, Code::TopicAuthorizationFailed, Code::PurgeQueue] {
            assert!(matches!(refused(code), AppendError::OutcomeUnknown(_)), "{code}");
        }
    }

    #[test]
    fn a_delivery_without_a_place_is_not_called_written() {
        let partition = Partition::only(Topic::Members);
        let stamped = rdkafka::Timestamp::LogAppendTime(5);
        let position = Position { partition, offset: 3 };
        assert_eq!(place(3, stamped, partition), Ok((position, Timestamp::from_millis(5))));
        assert!(matches!(place(-1, stamped, partition), Err(AppendError::OutcomeUnknown(_))));
        let unstamped = rdkafka::Timestamp::CreateTime(5);
        assert!(matches!(place(3, unstamped, partition), Err(AppendError::OutcomeUnknown(_))));
    }

    /// The one test without a real broker: none gives a fatal error when asked to.
    #[tokio::test]
    async fn after_a_fatal_error_a_new_producer_takes_over() {
        let brokers = MockCluster::new(1).unwrap();
        let refuse = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        brokers.request_errors(rdkafka::types::RDKafkaApiKey::InitProducerId, &[refuse]);
        let settings = KafkaSettings::at([brokers.bootstrap_servers()]);
        let producer = Producer::new(&settings, Context::default()).unwrap();
        let append = || producer.append("airut.members", Partition::only(Topic::Members), Unstamped::default());
        assert!(append().await.is_err());
        assert_eq!(append().await.map(|(position, _)| position.offset), Ok(0));
        assert_eq!(producer.stats().reopened, 1);
        dispose(producer);
    }
}
