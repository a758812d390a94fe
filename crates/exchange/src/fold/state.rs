//! What the records so far mean: one `apply` per record, pure but for reading a query's row.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use airut_domain::{
    document::{self, Document},
    id::PartnerId,
    keys::Digest,
    mailbox,
    member::Members,
    partition::{Partition, Position, Topic},
    query::{self, At, Phase, Query, QueryKey},
    record::{Header, Kind, Order, Stored},
    refusal::Reason,
    registry::{self, Entry, Registry},
    request::{self, Request},
    time::Timestamp,
};
use airut_log::{Positions, TailError};
use airut_wire::record::{Unreadable, decode};
use serde::{Deserialize, Serialize};

use super::{
    entities::Entity,
    kept::Kept,
    mailboxes::Mailboxes,
    store::{Among, Store, StoreError, earliest_day},
};
use crate::planted::planted;

/// Why a record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Void {
    /// A query's record.
    Query(query::Void),
    /// A document's record.
    Document(document::Void),
    /// An information request's record.
    Request(request::Void),
    /// A partner's definition made from an older version.
    Superseded,
    /// A partner's definition made by somebody who may not.
    NotEntitled,
}

impl Void {
    /// What to tell the caller whose record is void, where that is a refusal.
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Query(void) => void.refusal(),
            Self::Document(void) => void.reason(),
            Self::Request(void) => void.reason(),
            Self::Superseded | Self::NotEntitled => Reason::OutcomeUnknown,
        }
    }
}

/// What the fold says of a record.
pub(crate) type Verdict = Result<(), Void>;

/// What the fold says of a record, or of each message that it speaks of.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// Of the record.
    Whole(Verdict),
    /// Of each message, in the record's order.
    Each(Vec<mailbox::Verdict>),
}

/// Why the fold can not go on. The process must stop, unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A record that this build can not read.
    #[error("record {position} is {cause}")]
    Unreadable {
        /// Where.
        position: String,
        /// Why.
        cause: Unreadable,
    },
    /// A record of a kind that does not belong to its topic.
    #[error("record {0} does not belong to its topic")]
    Misplaced(String),
    /// The offsets of a partition have a gap.
    #[error("record {position} follows offset {expected}: records are missing in between")]
    Gap {
        /// The record found.
        position: String,
        /// The offset expected.
        expected: u64,
    },
    /// The fold's own file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log can not be read.
    #[error("the log can not be read: {0}")]
    Tail(TailError),
}

/// The state of every partition that a gateway folds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cursor: Cursor,
    pub(crate) registry: Arc<Registry>,
    pub(crate) small: Small,
    pub(crate) kept: Kept,
    pub(crate) mailboxes: Mailboxes,
    open: BTreeMap<QueryKey, Open>,
    store: Store,
}

/// A query that waits for its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// The record that asked.
    pub(crate) asked: Position,
    /// When it ends without an answer.
    pub(crate) deadline: Timestamp,
}

/// How far the fold has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The next offset to read, by partition.
    pub(crate) positions: Positions,
    /// The partition's time: its greatest stamp.
    pub(crate) times: BTreeMap<Partition, Timestamp>,
}

/// State that is small enough to be kept and written as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Small {
    /// The partners' versions, definitions as the log has them, and the digests of what their files last gave.
    partners: BTreeMap<PartnerId, (u32, String, Option<Digest>)>,
    pub(crate) members: Members,
    /// How far the ledger has ordered each partition.
    ordered: BTreeMap<Partition, u64>,
    /// How far the ledger had ordered each partition when it signed its newest checkpoint.
    pub(crate) sealed: BTreeMap<Partition, u64>,
    /// The ledger's newest checkpoint, a signed note.
    pub(crate) checkpoint: String,
}

/// A record with its verdict.
pub(crate) struct Applied {
    pub(crate) header: Arc<Header>,
    pub(crate) word: Word,
    /// The query's phase, when the record changed it.
    pub(crate) phase: Option<Phase>,
    /// Partners that may be offered messages now.
    pub(crate) woken: BTreeSet<PartnerId>,
    /// Partners whose information requests have changed.
    pub(crate) concerned: BTreeSet<PartnerId>,
}

impl State {
    /// Takes up where the store left off.
    pub(crate) fn open(store: Store) -> Result<Self, StoreError> {
        let (cursor, small, kept): (Cursor, Small, Kept) = store.load()?;
        let open = store.open_queries()?;
        let mut registry = Registry::default();
        for (version, definition, source) in small.partners.values() {
            let partner = airut_wire::record::partner(definition).map_err(|_| StoreError::Row)?;
            registry.insert(Entry { version: *version, partner, source: *source });
        }
        let mailboxes = Mailboxes::open(&store, &cursor)?;
        Ok(Self { cursor, registry: Arc::new(registry), small, kept, mailboxes, open, store })
    }

    /// Takes in the next record of its partition.
    pub(crate) fn apply(&mut self, stored: &Stored) -> Result<Applied, FoldError> {
        let position = stored.position;
        let expected = self.cursor.positions.get(&position.partition).copied();
        if let Some(expected) = expected.filter(|expected| *expected != position.offset) {
            return Err(FoldError::Gap { position: position.to_string(), expected });
        }
        let unreadable = |cause| FoldError::Unreadable { position: position.to_string(), cause };
        let header = Arc::new(decode(&stored.header).map_err(unreadable)?);
        let time = self.cursor.times.entry(position.partition).or_default();
        *time = (*time).max(stored.stamp);
        let at = At { position, time: *time };

        let (mut woken, mut concerned) = (BTreeSet::new(), BTreeSet::new());
        let whole = |(verdict, phase)| (Word::Whole(verdict), phase);
        let (word, phase) = match (position.partition.topic, &header.kind) {
            (Topic::Messages, Kind::Message(event)) => {
                let Self { mailboxes, store, kept, .. } = self;
                let effects = mailboxes.apply(store, kept, at, &header.author, event)?;
                woken = effects.woken;
                (Word::Each(effects.verdicts), None)
            }
            (Topic::Queries, Kind::Query(event)) => whole(self.apply_query(at, event)?),
            (Topic::Documents, Kind::Document(event)) => whole((self.apply_document(at, event)?, None)),
            (Topic::Requests, Kind::Request(event)) => {
                let (verdict, parties) = self.apply_request(at, event)?;
                concerned = parties;
                whole((verdict, None))
            }
            (Topic::Partners, Kind::Partner(applied)) => whole((self.apply_partner(applied), None)),
            (Topic::Members, Kind::Member(event)) => {
                self.small.members.apply(at.time, event);
                self.kept.member(position, event, &self.small.members);
                whole((Ok(()), None))
            }
            (Topic::Order, Kind::Order(order)) => {
                self.apply_order(order);
                whole((Ok(()), None))
            }
            (Topic::Refusals, Kind::Refusal(_)) => whole((Ok(()), None)),
            (
                Topic::Messages
                | Topic::Queries
                | Topic::Documents
                | Topic::Requests
                | Topic::Partners
                | Topic::Members
                | Topic::Order
                | Topic::Refusals,
                Kind::Message(_)
                | Kind::Query(_)
                | Kind::Document(_)
                | Kind::Request(_)
                | Kind::Partner(_)
                | Kind::Member(_)
                | Kind::Order(_)
                | Kind::Refusal(_),
            ) => return Err(FoldError::Misplaced(position.to_string())),
        };
        self.cursor.positions.insert(position.partition, position.offset + 1);
        Ok(Applied { header, word, phase, woken, concerned })
    }

    /// The query as it stands; `None` when there is none, or it is time to forget it.
    pub(crate) fn query(&self, key: &QueryKey, time: Timestamp) -> Result<Option<Query>, StoreError> {
        let among = if self.open.contains_key(key) { Among::Open } else { Among::Ended };
        let query = self.store.query(key, among)?;
        Ok(query.filter(|query| query.forget_at().is_none_or(|at| time < at)))
    }

    /// A document or an information request as it stands; `None` when there is none, or it is time to forget it.
    pub(crate) fn entity<T: Entity>(&self, key: &T::Key, time: Timestamp) -> Result<Option<T>, StoreError> {
        Ok(self.store.entities().get::<T>(key)?.filter(|row| is_remembered(row, time)))
    }

    /// Open queries whose deadline has passed by `now`, at most `limit`.
    pub(crate) fn overdue(&self, now: Timestamp, limit: usize) -> Vec<(QueryKey, Open)> {
        let due = self.open.iter().filter(|(_, open)| open.deadline <= now);
        due.take(limit).map(|(key, open)| (key.clone(), *open)).collect()
    }

    /// How many queries are open.
    pub(crate) fn open_queries(&self) -> usize {
        self.open.len()
    }

    /// The greatest offset of the partition, at most `limit`, before which no record is needed for a rebuild. What lies before
    /// `start` is gone already.
    ///
    /// # Errors
    /// When the fold's file can not be read.
    pub(crate) fn trimmable(&mut self, partition: Partition, start: u64, limit: u64) -> Result<u64, StoreError> {
        let time = self.cursor.times.get(&partition).copied().unwrap_or_default();
        let open = self.open.values().filter(|open| open.asked.partition == partition).map(|open| open.asked.offset);
        let mut limit = limit.min(open.min().unwrap_or(limit));
        if partition.topic == Topic::Messages {
            let unfinished = self.mailboxes.of(partition).batches().next().map(|(offset, _)| offset);
            limit = limit.min(unfinished.unwrap_or(limit));
        }
        if matches!(partition.topic, Topic::Documents | Topic::Requests) {
            limit = limit.min(self.store.entities().earliest(partition)?.unwrap_or(limit));
        }
        Ok(self.kept.trimmable(partition, time, start, limit))
    }

    /// A digest of all that the fold knows: the same records give the same digest, in every process and after every rebuild.
    pub(crate) fn digest(&self) -> Result<Digest, StoreError> {
        let times = &self.cursor.times;
        let mut parts = vec![encode(&self.cursor), encode(&self.small)];
        self.store.for_each(|partition, key, query| {
            let time = times.get(&partition).copied().unwrap_or_default();
            if query.forget_at().is_none_or(|at| time < at) {
                parts.push(encode(&(partition, key, query)));
            }
        })?;
        let mut batches = BTreeMap::new();
        self.store.finished_batches(|key, batch| {
            let time = times.get(&key.0).copied().unwrap_or_default();
            if batch.forget_at().is_some_and(|at| time < at) {
                batches.insert(key, encode(batch));
            }
        })?;
        for (partition, mailbox) in self.mailboxes.all() {
            batches.extend(mailbox.batches().map(|(offset, batch)| ((partition, offset), encode(batch))));
        }
        parts.extend(batches.iter().map(encode_entry));
        self.digest_entities::<Document>(&mut parts)?;
        self.digest_entities::<Request>(&mut parts)?;
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(Digest::of_parts(&parts))
    }

    fn digest_entities<T: Entity>(&self, parts: &mut Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.store.entities().for_each::<T>(|key, row| {
            let time = self.cursor.times.get(&row.origin().partition).copied().unwrap_or_default();
            if is_remembered(row, time) {
                parts.push(encode(&(key, row)));
            }
        })
    }

    /// Has the store written up to this point of the log.
    pub(crate) fn flush(&mut self) {
        if !self.store.is_ready() {
            return;
        }
        for (key, row) in self.mailboxes.take_changed() {
            self.store.put_batch(key, row);
        }
        if let Some(day) = earliest_day(&self.cursor, Topic::Messages) {
            self.mailboxes.forget_before(day + 1);
        }
        self.store.flush(&self.cursor, &self.small, &self.kept);
    }

    /// The store, for reading.
    pub(crate) fn store_ref(&self) -> &Store {
        &self.store
    }

    /// The store, for its writing.
    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    fn apply_query(&mut self, at: At, event: &query::Event) -> Result<(Verdict, Option<Phase>), StoreError> {
        let key = event.key();
        let prior = self
            .query(key, at.time)?
            .filter(|_| !(matches!(event, query::Event::Asked(_)) && planted!(SecondAskedAccepted)));
        let (verdict, next) = query::apply(prior.as_ref(), at, event);
        let phase = next.as_ref().map(|query| query.phase.clone());
        if let (query::Event::Asked(_), None, Some(prior)) = (event, &next, &prior) {
            self.kept.asked_in_vain(at.position, prior);
        }
        if let Some(query) = next {
            match (&query.phase, query.forget_at()) {
                (Phase::Open { deadline, .. }, _) => {
                    self.open.insert(key.clone(), Open { asked: query.asked, deadline: *deadline });
                }
                (Phase::Answered { .. } | Phase::Unanswered { .. }, forget_at) => {
                    self.open.remove(key);
                    forget_at.iter().for_each(|forget_at| self.kept.query_ended(&query, *forget_at, at.time));
                }
            }
            self.store.put(at.position.partition, key.clone(), query);
        }
        let verdict = match verdict {
            query::Verdict::Accepted => Ok(()),
            query::Verdict::Void(void) => Err(Void::Query(void)),
        };
        Ok((verdict, phase))
    }

    fn apply_document(&mut self, at: At, event: &document::Event) -> Result<Verdict, StoreError> {
        let stored: Option<Document> = self.store.entities().get(event.key())?;
        let prior = stored.as_ref().filter(|document| is_remembered(*document, at.time));
        match document::apply(prior, at, event) {
            Ok(next) => {
                self.store.put_entity(event.key(), stored.as_ref(), &next);
                Ok(Ok(()))
            }
            Err(void) => {
                if let (document::Event::Begun(_), Some(prior)) = (event, prior) {
                    self.kept.begun_in_vain(at.position, prior.begun.offset);
                }
                Ok(Err(Void::Document(void)))
            }
        }
    }

    fn apply_request(&mut self, at: At, event: &request::Event) -> Result<(Verdict, BTreeSet<PartnerId>), StoreError> {
        let stored: Option<Request> = self.store.entities().get(event.key())?;
        let prior = stored.as_ref().filter(|request| is_remembered(*request, at.time));
        match request::apply(prior, at, event) {
            Ok(next) => {
                let parties = [Some(event.key().requester.clone()), Some(next.responder.clone())];
                let before = prior.map(|prior| prior.responder.clone());
                self.store.put_entity(event.key(), stored.as_ref(), &next);
                Ok((Ok(()), parties.into_iter().flatten().chain(before).collect()))
            }
            Err(void) => {
                if let (request::Event::Created(_), Some(prior)) = (event, prior) {
                    self.kept.begun_in_vain(at.position, prior.created.offset);
                }
                Ok((Err(Void::Request(void)), BTreeSet::new()))
            }
        }
    }

    fn apply_partner(&mut self, applied: &registry::PartnerApplied) -> Verdict {
        let (verdict, next) = registry::apply(&self.registry, applied);
        if let Some(entry) = next {
            let stored = (entry.version, airut_wire::record::definition(&entry.partner), entry.source);
            self.small.partners.insert(entry.partner.id.clone(), stored);
            Arc::make_mut(&mut self.registry).insert(entry);
        }
        match verdict {
            registry::Verdict::Accepted => Ok(()),
            registry::Verdict::Superseded => Err(Void::Superseded),
            registry::Verdict::NotEntitled => Err(Void::NotEntitled),
        }
    }

    fn apply_order(&mut self, order: &Order) {
        match order {
            Order::Run(runs) => self.small.ordered.extend(runs.runs.iter().copied()),
            Order::Checkpoint(note) => {
                self.small.sealed = self.small.ordered.clone();
                self.small.checkpoint.clone_from(note);
            }
        }
    }
}

fn is_remembered<T: Entity>(row: &T, time: Timestamp) -> bool {
    row.forget_at().is_none_or(|at| time < at)
}

fn encode_entry<K: Serialize, V: Serialize>(entry: (K, V)) -> Vec<u8> {
    encode(&entry)
}

/// The bytes of a piece of state: a stable encoding, the same for the same value.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("state is plain data")
}

#[cfg(test)]
mod tests {
    use airut_domain::{member::Event, record::RULES};

    use super::*;

    fn heartbeat(offset: u64) -> Stored {
        let author: airut_domain::id::Incarnation = "gateway".parse().unwrap();
        let kind = Kind::Member(Event::Heartbeat(author.clone()));
        let header = airut_wire::record::encode(&Header { rules: RULES, nonce: [7; 16], author, body: None, kind });
        let position = Position { partition: Partition::only(Topic::Members), offset };
        Stored { position, stamp: Timestamp::from_millis(1), header, body: Vec::new(), traceparent: String::new() }
    }

    #[test]
    fn a_gap_or_a_repeat_in_the_offsets_stops_the_fold() {
        let mut state = State::open(Store::memory()).unwrap();
        // What is left of a log may begin anywhere; from there on nothing may be missing.
        for offset in 5..8 {
            assert!(state.apply(&heartbeat(offset)).is_ok());
        }
        for offset in [7, 9] {
            let stopped = state.apply(&heartbeat(offset)).err();
            assert!(matches!(stopped, Some(FoldError::Gap { expected: 8, .. })), "{stopped:?}");
        }
    }
}
