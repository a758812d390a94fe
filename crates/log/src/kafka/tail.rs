//! A tail: one consumer with every partition assigned by hand.
//!
//! What librdkafka does behind the calls, and is relied on here: the consumer fetches ahead into a queue with a bound,
//! whether polled or not, and stops there; polling is what hands out records, errors and log lines alike; a partition
//! whose offset the broker does not have stops for good after one error (`auto.offset.reset=error`), and that error does
//! not say which partition it was; making a consumer is quick, dropping one blocks.
//!
//! What it must never do: go on behind a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant},
};

use airut_domain::{
    partition::{Partition, Position},
    record::Stored,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Engine, cluster, context::Context, dispose, record};
use crate::{Cause, OpenError, Positions, ReadError, TAIL_BATCH, TailError, size};

/// What a tail may fetch ahead.
const AHEAD_KIB: u32 = 16 * 1024;
/// What a broker waits for before it answers a tail that is in no hurry, though no longer than it keeps any fetch: as much
/// as it gives of a partition at once.
const GATHERED_BYTES: u32 = 1024 * 1024;
/// How often to tell that no broker answers.
const DOWN: Duration = Duration::from_secs(1);

pub(crate) struct Tail {
    engine: Arc<Engine>,
    /// The next offset of each partition.
    positions: BTreeMap<Partition, u64>,
    /// The partitions that begin at their start, of which nothing was asked yet.
    from_start: BTreeSet<Partition>,
    pace: Pace,
    stage: Stage,
    /// What was taken from the consumer and did not fit into a batch.
    held: Option<Event>,
    /// When it was last told that no broker answers.
    told: Option<Instant>,
}

/// When a broker answers a fetch.
#[derive(Clone, Copy)]
enum Pace {
    /// With the first record that comes.
    Prompt,
    /// When much has come, or its time is over.
    Unhurried,
}

enum Stage {
    /// To be started by the next call.
    Idle,
    /// Goes on when the call that began it is cancelled.
    Starting(JoinHandle<Result<Started, TailError>>),
    Following(Follower),
    /// Something is wrong; finding out what. Goes on likewise.
    Examining(JoinHandle<TailError>),
}

struct Started {
    follower: Follower,
    positions: BTreeMap<Partition, u64>,
}

/// The consumer; dropped where that may block.
struct Follower(Option<StreamConsumer<Context>>);

/// What comes out of a consumer.
enum Event {
    Record(Arc<Stored>),
    /// Of no partition of ours, or given before.
    Nothing,
    /// Not what was written at this place.
    Damaged(Position),
    Error(KafkaError),
}

impl Tail {
    pub(super) fn new(engine: Arc<Engine>, from: &Positions) -> Self {
        let mut positions = engine.known_starts();
        let from_start = positions.keys().copied().filter(|partition| !from.contains_key(partition)).collect();
        positions.extend(from);
        Self { engine, positions, from_start, pace: Pace::Prompt, stage: Stage::Idle, held: None, told: None }
    }

    /// From the next start on.
    pub(crate) fn be_unhurried(&mut self) {
        self.pace = Pace::Unhurried;
    }

    /// Cancel safe: what takes more than one step goes on in a task of its own, and records are taken from the consumer
    /// only where nothing is left to wait for.
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<Stored>>, TailError> {
        loop {
            match &mut self.stage {
                Stage::Idle => self.start()?,
                Stage::Starting(starting) => {
                    let started = starting.await.unwrap_or_else(|error| Err(TailError::Unavailable(Cause::new(error))));
                    self.stage = Stage::Idle;
                    let Started { follower, positions } = started?;
                    self.positions = positions;
                    self.from_start.clear();
                    self.stage = Stage::Following(follower);
                }
                Stage::Following(follower) => {
                    let event = match self.held.take() {
                        Some(event) => event,
                        None => follower.next(&self.positions, &self.engine).await,
                    };
                    if let Some(batch) = self.take(event)? {
                        return Ok(batch);
                    }
                }
                Stage::Examining(examining) => {
                    let found = examining.await.unwrap_or_else(|error| TailError::Unavailable(Cause::new(error)));
                    self.stage = Stage::Idle;
                    return Err(found);
                }
            }
        }
    }

    fn start(&mut self) -> Result<(), TailError> {
        let unknown = self.positions.keys().find(|partition| !self.engine.has(**partition));
        if let Some(partition) = unknown {
            return Err(TailError::NoSuchPartition(*partition));
        }
        let start = start(Arc::clone(&self.engine), self.positions.clone(), self.from_start.clone(), self.pace);
        self.stage = Stage::Starting(tokio::spawn(start));
        Ok(())
    }

    /// A batch that begins with this event, if it is a record. Never waits.
    fn take(&mut self, event: Event) -> Result<Option<Vec<Arc<Stored>>>, TailError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut event = Some(event);
        while let Some(next) = event {
            match next {
                Event::Nothing => {}
                Event::Record(record) if batch.is_empty() || bytes + size(&record) <= TAIL_BATCH.bytes => {
                    bytes += size(&record);
                    self.positions.insert(record.position.partition, record.position.offset + 1);
                    batch.push(record);
                }
                // For the next call. What goes wrong behind records is told after them.
                later if !batch.is_empty() => {
                    self.held = Some(later);
                    break;
                }
                Event::Damaged(position) => self.examine(Some(position)),
                Event::Error(error) => self.handle(error)?,
                Event::Record(_) => unreachable!("a record fits into an empty batch"),
            }
            if batch.len() == TAIL_BATCH.records {
                break;
            }
            event = match &self.stage {
                Stage::Following(follower) => follower.next_now(&self.positions, &self.engine),
                Stage::Idle | Stage::Starting(_) | Stage::Examining(_) => None,
            };
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn handle(&mut self, error: KafkaError) -> Result<(), TailError> {
        use RDKafkaErrorCode as Code;
        match super::code(&error) {
            // One broker's connection, which is made again; others may lead by now.
            Some(Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve | Code::DestroyBroker) => {
                Ok(())
            }
            // Of the group that we never join.
            Some(
                Code::GroupAuthorizationFailed
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator,
            ) => Ok(()),
            // The consumer goes on by itself when they are back. Said several times a second; passed on less often.
            Some(Code::AllBrokersDown) if self.told.is_some_and(|told| told.elapsed() < DOWN) => Ok(()),
            Some(Code::AllBrokersDown) => {
                self.told = Some(Instant::now());
                Err(TailError::Unavailable(Cause::new(error)))
            }
            _ => {
                tracing::debug!(%error, "a tail is interrupted");
                self.examine(None);
                Ok(())
            }
        }
    }

    /// Finds out why the tail can't go on; the consumer is of no more use.
    fn examine(&mut self, damaged: Option<Position>) {
        let examine = examine(Arc::clone(&self.engine), self.positions.clone(), damaged);
        self.stage = Stage::Examining(tokio::spawn(examine));
        self.held = None;
    }
}

impl Follower {
    fn new(consumer: StreamConsumer<Context>) -> Self {
        Self(Some(consumer))
    }

    fn consumer(&self) -> &StreamConsumer<Context> {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    /// The next event. Cancel safe, as `recv` is.
    async fn next(&self, positions: &BTreeMap<Partition, u64>, engine: &Engine) -> Event {
        Event::of(self.consumer().recv().await, positions, engine)
    }

    /// The next event if there is one.
    fn next_now(&self, positions: &BTreeMap<Partition, u64>, engine: &Engine) -> Option<Event> {
        match pin!(self.consumer().recv()).poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(received) => Some(Event::of(received, positions, engine)),
            Poll::Pending => None,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        dispose(self.0.take());
    }
}

impl Event {
    fn of(
        received: Result<BorrowedMessage<'_>, KafkaError>,
        positions: &BTreeMap<Partition, u64>,
        engine: &Engine,
    ) -> Self {
        let message = match received {
            Ok(message) => message,
            Err(error) => return Self::Error(error),
        };
        let Some(partition) = engine.settings().partition(message.topic(), message.partition()) else {
            return Self::Nothing;
        };
        let position = Position { partition, offset: u64::try_from(message.offset()).expect("a record has an offset") };
        let expected = positions.get(&partition).copied().unwrap_or_default();
        if position.offset < expected {
            return Self::Nothing;
        }
        match record::stored(&message, position).filter(|_| position.offset == expected) {
            Some(record) => Self::Record(Arc::new(record)),
            None => Self::Damaged(Position { partition, offset: expected }),
        }
    }
}

/// Checks the positions against what the brokers hold, and makes a consumer that begins there.
async fn start(
    engine: Arc<Engine>,
    mut positions: BTreeMap<Partition, u64>,
    from_start: BTreeSet<Partition>,
    pace: Pace,
) -> Result<Started, TailError> {
    for (partition, position) in &mut positions {
        let span = engine.span(*partition).await?;
        // Trimmed by another process, when nobody knows; by this one before the tail was made it is known.
        if from_start.contains(partition) && !engine.has_trimmed_to(*partition, span.start) {
            *position = (*position).max(span.start);
        }
        check(*partition, *position, &span)?;
    }
    let made =
        spawn_blocking(move || consumer(&engine, &positions, pace).map(|follower| Started { follower, positions }));
    let made = made.await.map_err(|error| TailError::Unavailable(Cause::new(error)))?;
    made.map_err(|error| TailError::Unavailable(Cause::new(error)))
}

fn check(partition: Partition, position: u64, span: &Range<u64>) -> Result<(), TailError> {
    if position < span.start {
        Err(TailError::Trimmed { partition, start: span.start })
    } else if position > span.end {
        Err(TailError::BeyondEnd { partition, end: span.end })
    } else {
        Ok(())
    }
}

fn consumer(engine: &Engine, positions: &BTreeMap<Partition, u64>, pace: Pace) -> Result<Follower, OpenError> {
    let mut config = engine.settings().consumer()?;
    let awaited_bytes = match pace {
        Pace::Prompt => 1,
        Pace::Unhurried => GATHERED_BYTES,
    };
    config
        .set("queued.max.messages.kbytes", AHEAD_KIB.to_string())
        .set("fetch.min.bytes", awaited_bytes.to_string())
        // How long a broker keeps a fetch that finds less. It answers at once when there is enough; but a partition that
        // was left out of a fetch, for an error or a full queue, waits for the next.
        .set("fetch.wait.max.ms", "100");
    let consumer: StreamConsumer<Context> = super::made(config.create_with_context(Context::default()))?;
    let mut list = TopicPartitionList::new();
    let assigned = positions.iter().try_for_each(|(partition, position)| {
        let offset = Offset::Offset(i64::try_from(*position).unwrap_or(i64::MAX));
        list.add_partition_offset(&engine.settings().name(partition.topic), cluster::number(*partition), offset)
    });
    super::made(assigned.and_then(|()| consumer.assign(&list)))?;
    Ok(Follower::new(consumer))
}

/// Which partition can't go on, and why. `damaged` is where something else than the next record came.
async fn examine(engine: Arc<Engine>, positions: BTreeMap<Partition, u64>, damaged: Option<Position>) -> TailError {
    for (partition, position) in &positions {
        let span = match engine.span(*partition).await {
            Ok(span) => span,
            Err(error) => return error.into(),
        };
        if let Err(error) = check(*partition, *position, &span) {
            return error;
        }
    }
    if let Some(position) = damaged {
        return TailError::Damaged(position);
    }
    for (partition, position) in &positions {
        if let Err(error @ ReadError::Damaged(_)) = engine.read_at(*partition, *position).await {
            return error.into();
        }
    }
    TailError::Unavailable(Cause::new("the tail was interrupted"))
}
