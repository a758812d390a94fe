//! The ids of messages, by which repeats are recognised: all in memory, a few bytes each.
//!
//! An id is kept as 64 bits of its digest, with the place of its message; whether it really is the same id its batch says. The
//! ids of messages that are not delivered yet are together; those of finished batches by the day on which they may be
//! forgotten, to be let go all at once.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use airut_domain::{
    id::{MessageId, PartnerId},
    keys::Digest,
    mailbox::Batch,
    message::Place,
    partition::{Partition, Topic},
};

use crate::planted::planted;

/// Where an id may have been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) partition: Partition,
    pub(super) place: Place,
    /// The day on which it may be forgotten; none while its batch is not finished.
    pub(super) day: Option<i64>,
}

/// Every id that is remembered.
#[derive(Debug, Default)]
pub(super) struct Ids {
    live: Table,
    days: BTreeMap<i64, Table>,
}

/// 64 bits of digests to packed places. They are looked up and never walked through, so that their order says nothing.
#[derive(Debug, Default)]
struct Table {
    places: HashMap<u64, u64, BuildHasherDefault<Uniform>>,
    /// Further places of those that more than one id has, or an id in more than one partition.
    more: BTreeMap<u64, Vec<u64>>,
}

/// Digests are uniform already.
#[derive(Debug, Default)]
struct Uniform(u64);

impl Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, tag: u64) {
        self.0 = tag;
    }
}

impl Ids {
    /// Where the id may have been used.
    pub(super) fn used(&self, sender: &PartnerId, id: &MessageId) -> impl Iterator<Item = Used> {
        let tag = tag(sender, id);
        let live = self.live.get(tag).map(|(partition, place)| Used { partition, place, day: None });
        let days = self.days.iter().flat_map(move |(day, table)| {
            table.get(tag).map(move |(partition, place)| Used { partition, place, day: Some(*day) })
        });
        live.chain(days)
    }

    /// The batch is there, and not finished.
    pub(super) fn add(&mut self, partition: Partition, offset: u64, batch: &Batch) {
        each(offset, batch, |tag, place| self.live.insert(tag, pack(partition, place)));
    }

    /// The batch is finished and may be forgotten on that day.
    pub(super) fn finish(&mut self, partition: Partition, offset: u64, batch: &Batch, day: i64) {
        self.remove(partition, offset, batch);
        if planted!(FinishedIdsLost) {
            return;
        }
        self.add_finished(partition, offset, batch, day);
    }

    /// A batch that was finished earlier.
    pub(super) fn add_finished(&mut self, partition: Partition, offset: u64, batch: &Batch, day: i64) {
        let table = self.days.entry(day).or_default();
        each(offset, batch, |tag, place| table.insert(tag, pack(partition, place)));
    }

    /// The batch is forgotten.
    pub(super) fn remove(&mut self, partition: Partition, offset: u64, batch: &Batch) {
        each(offset, batch, |tag, place| self.live.remove(tag, pack(partition, place)));
    }

    /// Forgets what may be forgotten before this day.
    pub(super) fn forget_before(&mut self, day: i64) {
        while self.days.first_key_value().is_some_and(|(first, _)| *first < day) {
            self.days.pop_first();
        }
    }
}

impl Table {
    fn get(&self, tag: u64) -> impl Iterator<Item = (Partition, Place)> {
        let first = self.places.get(&tag);
        let more = if first.is_some() { self.more.get(&tag) } else { None };
        first.into_iter().chain(more.into_iter().flatten()).map(|packed| unpack(*packed))
    }

    fn insert(&mut self, tag: u64, packed: u64) {
        if let Some(other) = self.places.insert(tag, packed) {
            self.more.entry(tag).or_default().push(other);
        }
    }

    fn remove(&mut self, tag: u64, packed: u64) {
        let mut others = self.more.remove(&tag).unwrap_or_default();
        others.retain(|other| *other != packed);
        if self.places.get(&tag) == Some(&packed) {
            match others.pop() {
                Some(other) => drop(self.places.insert(tag, other)),
                None => drop(self.places.remove(&tag)),
            }
        }
        if !others.is_empty() {
            self.more.insert(tag, others);
        }
    }
}

fn each(offset: u64, batch: &Batch, mut visit: impl FnMut(u64, Place)) {
    for (item, message) in (0..).zip(&batch.messages) {
        if let Some(message) = message {
            visit(tag(&batch.sender, &message.id), Place { offset, item });
        }
    }
}

fn tag(sender: &PartnerId, id: &MessageId) -> u64 {
    let digest = Digest::of_parts(&[sender.as_str().as_bytes(), b"\0", id.as_str().as_bytes()]);
    u64::from_be_bytes(*digest.0.first_chunk().expect("32 bytes"))
}

/// Partition, item and offset in 64 bits: 6, 10 and 48 of them.
fn pack(partition: Partition, place: Place) -> u64 {
    debug_assert!(partition.number < 64 && place.item < 1024 && place.offset < 1 << 48);
    u64::from(partition.number) << 58 | u64::from(place.item) << 48 | place.offset
}

fn unpack(packed: u64) -> (Partition, Place) {
    let small = |bits: u64| u32::try_from(bits).expect("at most ten bits");
    let place = Place { offset: packed & ((1 << 48) - 1), item: small(packed >> 48 & 0x3ff) };
    (Partition { topic: Topic::Messages, number: small(packed >> 58) }, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_share_a_digest_are_all_found_and_let_go_singly() {
        let mut table = Table::default();
        let place = |offset| (Partition { topic: Topic::Messages, number: 11 }, Place { offset, item: 1023 });
        for offset in [5, 6, (1 << 48) - 1] {
            table.insert(7, pack(place(offset).0, place(offset).1));
        }
        let mut found: Vec<_> = table.get(7).collect();
        found.sort();
        assert_eq!(found, [place(5), place(6), place((1 << 48) - 1)]);
        table.remove(7, pack(place(6).0, place(6).1));
        assert_eq!(table.get(7).count(), 2);
        table.remove(7, pack(place((1 << 48) - 1).0, place((1 << 48) - 1).1));
        assert_eq!(table.get(7).collect::<Vec<_>>(), [place(5)]);
        table.remove(7, pack(place(5).0, place(5).1));
        assert_eq!(table.get(7).count(), 0);
    }
}
