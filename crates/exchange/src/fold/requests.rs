//! What the verbs of information requests ask of the folds.

use std::sync::Arc;

use airut_domain::{
    id::PartnerId,
    keys::Digest,
    partition::{Partition, Position, Topic},
    request::{Request, RequestKey, State},
    time::{Date, Timestamp},
    working_day,
};

use super::{
    Changes, Folds, StoreError,
    entities::{Entity, Entry},
};
use crate::planted::planted;

/// A party's requests by state and due date; those with one other party; those about one person.
const OF_PARTY: u8 = b's';
const WITH_PARTNER: u8 = b'c';
const ABOUT_SUBJECT: u8 = b'p';

/// A party's requests by their last change, those that it has passed on by that.
const CHANGES: u8 = b'u';

/// Requests whose responder is to be reminded, by when; requests by when they end if nobody closes them.
const REMINDERS: u8 = b'r';
const LAPSES: u8 = b'l';

/// As many are looked at for one page of a list, whatever is left out of it.
const MOST_LOOKED_AT: usize = 100_000;

/// A place in a list by due date, whatever the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPlace {
    pub(crate) due: i32,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

impl ListPlace {
    pub(crate) fn of(request: &Request) -> Self {
        let Position { partition, offset } = request.created;
        Self { due: request.due.to_julian_day(), partition: partition.number, offset }
    }

    fn bytes(self) -> Vec<u8> {
        let due = u32::try_from(self.due).unwrap_or(0);
        [&due.to_be_bytes()[..], &self.partition.to_be_bytes(), &self.offset.to_be_bytes()].concat()
    }
}

/// Which requests are wanted.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Whose.
    pub(crate) party: &'a PartnerId,
    /// In one of these states.
    pub(crate) states: &'a [State],
    /// With this other party.
    pub(crate) partner: Option<&'a PartnerId>,
    /// About a person with one of these pseudonyms; empty for all.
    pub(crate) subjects: &'a [Digest],
    /// Due within these days.
    pub(crate) due: (Option<Date>, Option<Date>),
    /// Beyond this place.
    pub(crate) after: Option<ListPlace>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// A change of a party's requests.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// It stands so now.
    Now(RequestKey, Box<Request>),
    /// It is no longer the party's.
    Gone(RequestKey),
}

impl Entity for Request {
    type Key = RequestKey;
    const TOPIC: Topic = Topic::Requests;

    fn origin(&self) -> Position {
        self.created
    }

    fn forget_at(&self) -> Option<Timestamp> {
        Self::forget_at(self)
    }

    fn entries(&self, key: &RequestKey) -> Vec<Entry> {
        let place = ListPlace::of(self).bytes();
        let mut entries = Vec::new();
        let pairs = [(&key.requester, &self.responder), (&self.responder, &key.requester)];
        for (party, other) in pairs {
            entries.push(of_party(party, self.state).bytes(&place));
            entries.push(with_partner(party, other, self.state).bytes(&place));
            entries.push(about_subject(party, self.subject, self.state).bytes(&place));
            entries.push(changes(party, self.created.partition).number(self.changed.0));
        }
        for (party, passed_on) in self.former.iter().filter(|(party, _)| *party != key.requester) {
            entries.push(changes(party, self.created.partition).number(*passed_on));
        }
        if self.state.waits_for_responder() && self.reminded != Some(self.due) {
            entries.push(Entry::list(Topic::Requests, REMINDERS).moment(working_day::end_of(self.due)).bytes(&place));
        }
        if let Some(lapses) = self.lapses_at() {
            entries.push(Entry::list(Topic::Requests, LAPSES).moment(lapses).bytes(&place));
        }
        entries
    }
}

fn of_party(party: &PartnerId, state: State) -> Entry {
    Entry::list(Topic::Requests, OF_PARTY).text(party.as_str()).bytes(&[state as u8])
}

fn with_partner(party: &PartnerId, other: &PartnerId, state: State) -> Entry {
    Entry::list(Topic::Requests, WITH_PARTNER).text(party.as_str()).text(other.as_str()).bytes(&[state as u8])
}

fn about_subject(party: &PartnerId, subject: Digest, state: State) -> Entry {
    Entry::list(Topic::Requests, ABOUT_SUBJECT).text(party.as_str()).bytes(&subject.0).bytes(&[state as u8])
}

fn changes(party: &PartnerId, partition: Partition) -> Entry {
    Entry::list(Topic::Requests, CHANGES).text(party.as_str()).bytes(&partition.number.to_be_bytes())
}

impl Folds {
    /// An information request as it stands.
    pub(crate) fn request(&self, key: &RequestKey, now: Timestamp) -> Result<Option<Request>, StoreError> {
        self.lock().state.entity(key, now)
    }

    /// A party's requests, by due date.
    pub(crate) fn list_requests(
        &self,
        wanted: &Wanted<'_>,
        now: Timestamp,
    ) -> Result<Vec<(RequestKey, Request)>, StoreError> {
        let lists: Vec<Entry> = match (wanted.subjects, wanted.partner) {
            ([], None) => wanted.states.iter().map(|state| of_party(wanted.party, *state)).collect(),
            ([], Some(other)) => wanted.states.iter().map(|state| with_partner(wanted.party, other, *state)).collect(),
            (subjects, _) => {
                let of = |subject: &Digest| {
                    wanted.states.iter().map(|state| about_subject(wanted.party, *subject, *state)).collect::<Vec<_>>()
                };
                subjects.iter().flat_map(of).collect()
            }
        };
        let (from, to) = wanted.due;
        let before = |date: Date| ListPlace { due: date.to_julian_day() - 1, partition: u32::MAX, offset: u64::MAX };
        let mut after = wanted.after.max(from.map(before));
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while found.len() < wanted.limit && looked_at < MOST_LOOKED_AT {
            let shared = self.lock();
            let place = after.map(ListPlace::bytes);
            let store = shared.state.store_ref();
            let some = store.entities().merged::<Request>(&lists, place.as_deref(), wanted.limit)?;
            drop(shared);
            let (count, last) = (some.len(), some.last().map(|(_, _, request)| ListPlace::of(request)));
            looked_at += count;
            for (_, key, request) in some {
                if to.is_some_and(|to| request.due > to) {
                    return Ok(found);
                }
                let other = if key.requester == *wanted.party { &request.responder } else { &key.requester };
                let remembered = request.forget_at().is_none_or(|at| now < at);
                if remembered && wanted.partner.is_none_or(|partner| partner == other) && found.len() < wanted.limit {
                    found.push((key, request));
                }
            }
            if count < wanted.limit {
                break;
            }
            after = last;
        }
        Ok(found)
    }

    /// Word of changes of the party's requests.
    pub(crate) fn watching(&self, party: &PartnerId) -> Arc<Changes> {
        Arc::clone(self.lock().watchers.entry(party.clone()).or_default())
    }

    /// How many watch the party's requests here.
    pub(crate) fn watchers(&self, party: &PartnerId) -> usize {
        // One handle is the fold's own.
        self.lock().watchers.get(party).map_or(0, |changes| Arc::strong_count(changes) - 1)
    }

    /// Nobody watches the party's requests here any more, unless somebody else does.
    pub(crate) fn watches_no_more(&self, party: &PartnerId) {
        let mut shared = self.lock();
        if shared.watchers.get(party).is_some_and(|changes| Arc::strong_count(changes) == 1) {
            shared.watchers.remove(party);
        }
    }

    /// Changes of the party's requests in a partition by records beyond this offset (from the first one, when there is none), the
    /// earliest first, at most so many; each with the offset that it stands at.
    pub(crate) fn changed_requests(
        &self,
        party: &PartnerId,
        partition: Partition,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreError> {
        let shared = self.lock();
        let list = changes(party, partition);
        let after = after.map(|after| list.clone().number(after));
        let found = shared.state.store_ref().entities().list::<Request>(&list, after.as_ref(), limit)?;
        let change = |(entry, key, request): (Entry, RequestKey, Request)| {
            let offset = entry.as_bytes().last_chunk().copied().map_or(0, u64::from_be_bytes);
            let theirs = request.part_of(&key, party).is_some() || planted!(ToldToWhoHadIt);
            (offset, if theirs { Change::Now(key, Box::new(request)) } else { Change::Gone(key) })
        };
        Ok(found.into_iter().map(change).collect())
    }

    /// How far the fold has come in each partition of the requests: the next offset.
    pub(crate) fn request_positions(&self) -> Vec<u64> {
        let shared = self.lock();
        let at = |number| {
            let partition = Partition { topic: Topic::Requests, number };
            shared.state.cursor.positions.get(&partition).copied().unwrap_or(0)
        };
        (0..Topic::Requests.partitions()).map(at).collect()
    }

    /// Requests whose responder is to be reminded by `now`, the first ones, at most so many.
    pub(crate) fn requests_to_remind(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RequestKey, Request)>, StoreError> {
        self.first_requests(REMINDERS, limit, |request| request.is_overdue(now))
    }

    /// Requests that nobody has closed for too long, the first ones, at most so many.
    pub(crate) fn requests_to_lapse(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RequestKey, Request)>, StoreError> {
        self.first_requests(LAPSES, limit, |request| request.lapses_at().is_some_and(|at| at <= now))
    }

    /// The first ones of a list by time whose time has come.
    fn first_requests(
        &self,
        list: u8,
        limit: usize,
        is_due: impl Fn(&Request) -> bool,
    ) -> Result<Vec<(RequestKey, Request)>, StoreError> {
        let shared = self.lock();
        let list = Entry::list(Topic::Requests, list);
        let first = |limit| shared.state.store_ref().entities().list::<Request>(&list, None, limit);
        // As a rule there is nothing to do, which the first one tells.
        if !first(1)?.first().is_some_and(|(.., request)| is_due(request)) {
            return Ok(Vec::new());
        }
        let due = first(limit)?.into_iter().filter(|(.., request)| is_due(request));
        Ok(due.map(|(_, key, request)| (key, request)).collect())
    }
}
