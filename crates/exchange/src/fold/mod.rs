//! The folds of a gateway: what every record so far means, and who waits for what it means.
//!
//! One task takes each record from the log's tail, once and in partition order, applies it and tells whoever waits: the verb
//! that appended it, the verbs that wait for its query to end, the stream that it puts a question to. Only this module makes
//! an [`Accepted`]; what discloses, pushes or gives a receipt demands one, so the wrong order does not compile.
//!
//! It must never skip a record, and never act on one that `apply` did not accept.

mod batches;
mod changes;
mod documents;
mod entities;
mod fingerprints;
mod ids;
mod kept;
mod mailboxes;
mod messages;
mod requests;
mod state;
mod store;
mod told;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airut_domain::{
    id::{Incarnation, PartnerId, StreamId},
    keys::Digest,
    member::{self, StreamKind, StreamOpened},
    message,
    partition::{Partition, Position},
    query::{self, Answered, Event, Phase, Query, QueryKey, WhyNot},
    question::{Scope, Withheld},
    record::{Header, Kind, Stored},
    registry::Registry,
    time::Timestamp,
};
use airut_log::{Positions, Recorded, Tail, TailError};
pub(crate) use changes::Changes;
pub(crate) use documents::Origin;
pub(crate) use messages::{AcceptedItem, AsOffered, Decided, Died, Lapsed};
pub(crate) use requests::{Change, ListPlace, Wanted};
pub use state::FoldError;
pub(crate) use state::Void;
use state::{Open, State, Word};
pub(crate) use store::Store;
pub use store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use told::Shared;

use crate::{bodies::Bodies, reception::Current};

/// How often the fold's file is written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How long to wait before the log is read again when it could not be.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// As many records are taken in before others may run.
const AT_ONCE: usize = 64;

/// How long to wait for the fold's word on an own record. It comes within milliseconds unless the log stalls.
const DECIDED_WITHIN: Duration = Duration::from_secs(30);

/// Verdicts on own records that nobody has asked for yet. They are asked for at once, unless the append's outcome was unknown.
const KEPT_VERDICTS: usize = 16_384;

/// The registry is current if its end was known to be read this recently.
pub const REGISTRY_CURRENT: Duration = Duration::from_secs(10);

/// Proof that the fold accepted a record.
#[derive(Clone, Debug)]
pub(crate) struct Accepted<T> {
    command: T,
    position: Position,
    stamp: Timestamp,
}

impl<T> Accepted<T> {
    pub(crate) fn command(&self) -> &T {
        &self.command
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn stamp(&self) -> Timestamp {
        self.stamp
    }
}

/// Why a record of one's own is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unaccepted {
    /// The fold says that it does not count.
    Void(Void),
    /// The fold has not come to it in time.
    Undecided,
}

/// An accepted answer with the record that holds it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) accepted: Accepted<Answered>,
    pub(crate) header: Arc<Header>,
    pub(crate) stored: Arc<Stored>,
}

/// How a query ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Answered(Box<Answer>),
    Unanswered(WhyNot),
}

/// A question for a stream of this gateway.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) key: QueryKey,
    pub(crate) asked: Position,
    /// The record that asked and its header, if it has just been read; else it is to be read from the log.
    pub(crate) fresh: Option<(Arc<Stored>, Arc<Header>)>,
}

/// A stream that this gateway holds.
#[derive(Debug)]
struct Attached {
    opened: StreamOpened,
    /// Where a responder's questions go; none for a collector.
    questions: Option<mpsc::Sender<Push>>,
}

/// What a record that asked says, for the gateway that puts the question to the responder.
#[derive(Debug)]
pub(crate) struct Narrowed {
    pub(crate) scopes: Vec<Scope>,
    pub(crate) withheld: Vec<Withheld>,
    pub(crate) deadline: Timestamp,
}

/// The folds of one gateway.
#[derive(Debug)]
pub struct Folds {
    own: Incarnation,
    shared: Mutex<Shared>,
    bodies: Arc<Bodies>,
    registry: Arc<Current>,
    progress: Changes,
    members: Changes,
}

impl Folds {
    /// Folds that take up where their store left off.
    pub(crate) fn open(own: Incarnation, store: Store, bodies: Arc<Bodies>) -> Result<Self, StoreError> {
        let state = State::open(store)?;
        let registry = Arc::new(Current::new(Arc::clone(&state.registry)));
        let shared = Shared::new(state);
        Ok(Self {
            own,
            shared: Mutex::new(shared),
            bodies,
            registry,
            progress: Changes::default(),
            members: Changes::default(),
        })
    }

    /// Where the fold stands: the next offset of each partition.
    pub fn positions(&self) -> Positions {
        self.lock().state.cursor.positions.clone()
    }

    /// Takes in the log from its tail until told to stop, then writes the fold's file.
    ///
    /// # Errors
    /// [`FoldError`]: the process must stop rather than go on without a record.
    pub(crate) async fn run(&self, mut tail: Tail, stop: CancellationToken) -> Result<(), FoldError> {
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = flush.tick() => self.lock().state.flush(),
                batch = tail.next() => match batch {
                    Ok(batch) => self.take_batch(&batch).await?,
                    Err(cause @ TailError::Unavailable(_)) => {
                        tracing::warn!(%cause, "the log can not be read; trying again");
                        tokio::time::sleep(READ_AGAIN).await;
                    }
                    Err(cause) => return Err(FoldError::Tail(cause)),
                }
            }
            if self.lock().state.store().must_settle() {
                self.settle().await?;
            }
        }
        self.settle().await?;
        self.lock().state.flush();
        self.settle().await
    }

    /// No record will be taken in any more: nobody need wait for the fold's word on one.
    pub(crate) fn end(&self) {
        self.lock().end();
    }

    /// Whether no record is taken in any more.
    pub(crate) fn are_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Waits until the fold has read up to these offsets.
    pub(crate) async fn reached(&self, ends: &Positions) {
        let mut seen = self.progress.count();
        let reached = |shared: &Shared| {
            let at = &shared.state.cursor.positions;
            ends.iter().all(|(partition, end)| *end == 0 || at.get(partition).is_some_and(|at| at >= end))
        };
        while !reached(&self.lock()) {
            self.progress.beyond(&mut seen).await;
        }
    }

    /// The fold's word on an own record.
    ///
    /// Dropping the future forgets the question, not the record.
    pub(crate) async fn decide<T>(&self, recorded: Recorded<T>) -> Result<Accepted<T>, Unaccepted> {
        let position = recorded.position();
        let Word::Whole(verdict) = self.word(position).await? else { return Err(Unaccepted::Undecided) };
        verdict.map_err(Unaccepted::Void)?;
        let stamp = recorded.stamp();
        Ok(Accepted { command: recorded.into_command(), position, stamp })
    }

    async fn word(&self, position: Position) -> Result<Word, Unaccepted> {
        let known = self.lock().word_or_wait(position);
        match known {
            Ok(word) => Ok(word),
            Err(waiting) => match tokio::time::timeout(DECIDED_WITHIN, waiting).await {
                Ok(Ok(word)) => Ok(word),
                Ok(Err(_)) | Err(_) => Err(Unaccepted::Undecided),
            },
        }
    }

    /// The query as it stands.
    pub(crate) fn peek(&self, key: &QueryKey, now: Timestamp) -> Option<Query> {
        self.lock().state.query(key, now).ok().flatten()
    }

    /// The query as it stands, and word of its end when it is open or not asked yet.
    pub(crate) fn query(
        &self,
        key: &QueryKey,
        now: Timestamp,
    ) -> Result<(Option<Query>, oneshot::Receiver<End>), StoreError> {
        let mut shared = self.lock();
        let query = shared.state.query(key, now)?;
        let (tell, told) = oneshot::channel();
        let ended = query.as_ref().is_some_and(|query| matches!(query.phase, Phase::Answered { .. }));
        if !ended {
            let waiting = shared.ending.entry(key.clone()).or_default();
            waiting.retain(|other| !other.is_closed());
            waiting.push(tell);
        }
        Ok((query, told))
    }

    /// Forgets those who waited for the query's end and have gone.
    pub(crate) fn unwatch(&self, key: &QueryKey) {
        let mut shared = self.lock();
        if let Some(waiting) = shared.ending.get_mut(key) {
            waiting.retain(|other| !other.is_closed());
            if waiting.is_empty() {
                shared.ending.remove(key);
            }
        }
    }

    /// The record at the place where the fold knows the query's answer to be, as an accepted answer.
    pub(crate) fn answer_at(&self, answer: Position, stored: Arc<Stored>) -> Result<Answer, FoldError> {
        let unreadable = |cause| FoldError::Unreadable { position: answer.to_string(), cause };
        let header = Arc::new(airut_wire::record::decode(&stored.header).map_err(unreadable)?);
        match (&header.kind, stored.position == answer) {
            (Kind::Query(Event::Answered(answered)), true) => Ok(accepted_answer(answered, &header, &stored)),
            _ => Err(FoldError::Misplaced(answer.to_string())),
        }
    }

    /// The registry.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.load()
    }

    /// The registry and how current it is.
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.registry)
    }

    /// Whether the registry was read to its end within the last [`REGISTRY_CURRENT`].
    pub(crate) fn registry_is_current(&self, now: Timestamp) -> bool {
        self.registry.is_current(now)
    }

    /// The registry's end, as it was at `asked`, has been read.
    pub(crate) fn registry_was_read(&self, asked: Timestamp) {
        self.registry.was_read(asked);
    }

    /// Changes of the gateways' streams, heartbeats among them.
    pub(crate) fn members(&self) -> &Changes {
        &self.members
    }

    /// The open streams of a partner for this.
    pub(crate) fn streams_of(&self, partner: &PartnerId, kind: StreamKind) -> Vec<StreamOpened> {
        self.lock().state.small.members.streams_of(partner, kind).cloned().collect()
    }

    /// The gateways heard of lately.
    pub(crate) fn gateways(&self) -> Vec<Incarnation> {
        self.lock().state.small.members.gateways().cloned().collect()
    }

    /// Whether a responder has a stream open, here or at another gateway.
    pub fn has_responder(&self, responder: &PartnerId) -> bool {
        self.lock().state.small.members.streams_of(responder, StreamKind::Answers).next().is_some()
    }

    /// The stream that an open query was put to, if it is still open.
    pub(crate) fn stream_is_open(&self, stream: &StreamId) -> bool {
        self.lock().state.small.members.is_open(stream)
    }

    /// Whether the query was put to this stream by this record, and waits for it.
    pub(crate) fn waits_for(&self, key: &QueryKey, asked: Position, stream: &StreamId, now: Timestamp) -> bool {
        self.peek(key, now).is_some_and(|query| match &query.phase {
            Phase::Open { stream: put_to, .. } => query.asked == asked && put_to == stream,
            Phase::Answered { .. } | Phase::Unanswered { .. } => false,
        })
    }

    /// The stream is held here from now on; questions put to it go to the sender.
    pub(crate) fn attach(&self, opened: StreamOpened, questions: Option<mpsc::Sender<Push>>) {
        self.lock().streams.insert(opened.stream.clone(), Attached { opened, questions });
    }

    /// The stream has ended.
    pub(crate) fn detach(&self, stream: &StreamId) {
        self.lock().streams.remove(stream);
    }

    /// What must be recorded so that the others know of exactly the streams that this gateway holds: they took it to be gone, or
    /// a record came late or never.
    pub(crate) fn unknown_streams(&self) -> Vec<member::Event> {
        let shared = self.lock();
        let members = &shared.state.small.members;
        let held = shared.streams.values().map(|attached| &attached.opened);
        let missing = held.filter(|opened| !members.is_open(&opened.stream)).cloned().map(member::Event::StreamOpened);
        let known = members.streams_held_by(&self.own).map(|opened| &opened.stream);
        let gone = known.filter(|stream| !shared.streams.contains_key(*stream)).cloned();
        missing.chain(gone.map(member::Event::StreamClosed)).collect()
    }

    /// Open queries whose deadline has passed by `now`.
    pub(crate) fn overdue(&self, now: Timestamp, limit: usize) -> Vec<(QueryKey, Open)> {
        self.lock().state.overdue(now, limit)
    }

    /// The ledger's newest checkpoint; empty when there is none yet.
    pub fn checkpoint(&self) -> String {
        self.lock().state.small.checkpoint.clone()
    }

    /// How far the ledger had ordered each partition when it signed its newest checkpoint.
    pub(crate) fn sealed(&self) -> BTreeMap<Partition, u64> {
        self.lock().state.small.sealed.clone()
    }

    /// A digest of all that the fold knows.
    ///
    /// # Errors
    /// When the fold's file can not be read.
    pub fn digest(&self) -> Result<Digest, StoreError> {
        self.lock().state.digest()
    }

    /// How many queries are open.
    pub fn open_queries(&self) -> usize {
        self.lock().state.open_queries()
    }

    /// The greatest offset of the partition, at most `limit`, before which no record is needed for a rebuild. What lies before
    /// `start` is gone already.
    ///
    /// # Errors
    /// When the fold's file can not be read.
    pub(crate) fn trimmable(&self, partition: Partition, start: u64, limit: u64) -> Result<u64, StoreError> {
        self.lock().state.trimmable(partition, start, limit)
    }

    /// The partition's time.
    pub(crate) fn time(&self, partition: Partition) -> Timestamp {
        self.lock().state.cursor.times.get(&partition).copied().unwrap_or_default()
    }

    async fn take_batch(&self, batch: &[Arc<Stored>]) -> Result<(), FoldError> {
        for some in batch.chunks(AT_ONCE) {
            self.take(some)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn take(&self, records: &[Arc<Stored>]) -> Result<(), FoldError> {
        let mut shared = self.lock();
        let mut members = false;
        for stored in records {
            let applied = shared.state.apply(stored)?;
            match &applied.header.kind {
                // Before the verdict is told: whoever waits for it goes on with the registry that it made.
                Kind::Partner(_) => self.registry.store(Arc::clone(&shared.state.registry)),
                Kind::Member(_) => members = true,
                // Before anybody is woken: who collects here will want it at once.
                Kind::Message(message::Event::Accepted(accepted))
                    if shared.collectors.contains_key(&accepted.recipient) =>
                {
                    self.bodies.keep(stored, &applied.header);
                }
                Kind::Message(_)
                | Kind::Query(_)
                | Kind::Document(_)
                | Kind::Request(_)
                | Kind::Refusal(_)
                | Kind::Order(_) => {}
            }
            shared.tell(&self.own, applied, stored);
        }
        drop(shared);
        self.progress.add();
        if members {
            self.members.add();
        }
        Ok(())
    }

    async fn settle(&self) -> Result<(), FoldError> {
        let writing = self.lock().state.store().take_writing();
        if let Some(writing) = writing {
            let written = writing.await.map_err(|_| StoreError::Writer)?;
            self.lock().state.store().settled(written)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic while it was held has already stopped the fold's task, and with it the process.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record that asked says.
pub(crate) fn narrowed(header: &Header) -> Option<Narrowed> {
    match &header.kind {
        Kind::Query(Event::Asked(query::Asked { scopes, withheld, deadline, .. })) => {
            Some(Narrowed { scopes: scopes.clone(), withheld: withheld.clone(), deadline: *deadline })
        }
        Kind::Message(_)
        | Kind::Query(_)
        | Kind::Document(_)
        | Kind::Request(_)
        | Kind::Refusal(_)
        | Kind::Partner(_)
        | Kind::Member(_)
        | Kind::Order(_) => None,
    }
}

fn accepted_answer(answered: &Answered, header: &Arc<Header>, stored: &Arc<Stored>) -> Answer {
    let accepted = Accepted { command: answered.clone(), position: stored.position, stamp: stored.stamp };
    Answer { accepted, header: Arc::clone(header), stored: Arc::clone(stored) }
}
