//! What trimming must keep, so that a fold rebuilt from the trim point has the same digest.
//!
//! A rebuild does not see what was trimmed away. That changes nothing for a query that is forgotten by now, with one
//! exception: a record that asked in vain, because its query was known then, would be accepted if its query were unknown.
//! So the two stay together, or go together.

use std::collections::BTreeMap;

use airut_domain::{
    id::StreamId,
    mailbox::{Effects, Verdict, Void},
    member::{self, Members},
    message,
    partition::{Partition, Position},
    query::Query,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// What of the log is still needed. Bookkeeping beside the state, not part of it: a rebuild may know less, as it has less.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The earliest record that asked, of the queries that are forgotten when a day begins: by partition and day.
    ended: BTreeMap<(Partition, i64), u64>,
    /// Records that asked in vain, and the record that had asked before them.
    in_vain: BTreeMap<Position, u64>,
    /// The records that opened the streams that are open.
    opened: BTreeMap<StreamId, u64>,
}

impl Kept {
    /// The query has ended; `time` is the partition's.
    pub(super) fn query_ended(&mut self, query: &Query, forget_at: Timestamp, time: Timestamp) {
        let partition = query.asked.partition;
        self.ended.retain(|(lies_in, day), _| *lies_in != partition || *day > time.day());
        let earliest = self.ended.entry((partition, forget_at.day() + 1)).or_insert(query.asked.offset);
        *earliest = query.asked.offset.min(*earliest);
    }

    /// The record at `position` asked in vain, because of this query.
    pub(super) fn asked_in_vain(&mut self, position: Position, query: &Query) {
        self.in_vain.insert(position, query.asked.offset);
    }

    /// The record at `position` would have begun what had begun already, with the record at this offset.
    pub(super) fn begun_in_vain(&mut self, position: Position, begun: u64) {
        self.in_vain.insert(position, begun);
    }

    /// A batch is finished; `time` is the partition's.
    pub(super) fn batch_finished(&mut self, partition: Partition, offset: u64, forget_at: Timestamp, time: Timestamp) {
        self.ended.retain(|(lies_in, day), _| *lies_in != partition || *day > time.day());
        let earliest = self.ended.entry((partition, forget_at.day() + 1)).or_insert(offset);
        *earliest = offset.min(*earliest);
    }

    /// A record of the messages was taken in: what it sent in vain goes with what was sent before it.
    pub(super) fn messages(&mut self, position: Position, event: &message::Event, effects: &Effects) {
        if let message::Event::Accepted(_) = event {
            let known = effects.verdicts.iter().filter_map(|verdict| match verdict {
                Verdict::Void(Void::Repeat(known) | Void::IdReused(known)) => Some(known.place.offset),
                Verdict::Void(_) | Verdict::Accepted(_) => None,
            });
            let earliest = known.filter(|offset| *offset != position.offset).min();
            self.in_vain.extend(earliest.map(|earliest| (position, earliest)));
        }
    }

    /// A record of the members was taken in.
    pub(super) fn member(&mut self, position: Position, event: &member::Event, members: &Members) {
        if let member::Event::StreamOpened(opened) = event {
            self.opened.insert(opened.stream.clone(), position.offset);
        }
        self.opened.retain(|stream, _| members.is_open(stream));
    }

    /// The greatest offset, at most `limit`, before which nothing is needed. What lies before `start` is gone already.
    pub(super) fn trimmable(&mut self, partition: Partition, time: Timestamp, start: u64, limit: u64) -> u64 {
        self.in_vain.retain(|position, _| position.partition != partition || position.offset >= start);
        let ended = self.ended.iter().filter(|((lies_in, day), _)| *lies_in == partition && *day > time.day());
        let opened =
            self.opened.values().filter(|_| partition == Partition::only(airut_domain::partition::Topic::Members));
        let needed = ended.map(|(_, asked)| asked).chain(opened).min().copied();
        let mut before = limit.min(needed.unwrap_or(limit));
        // The latest first: to keep one of them together with its query may part an earlier one from its own.
        for (position, asked) in self.in_vain.iter().rev().filter(|(position, _)| position.partition == partition) {
            if *asked < before && before <= position.offset {
                before = *asked;
            }
        }
        before
    }
}
