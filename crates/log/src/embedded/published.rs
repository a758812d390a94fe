//! What the writer has made known: where each partition starts and ends, and the newest records, shared by every tail.
//!
//! Bounded: the oldest records leave memory first, and who is behind them reads the file. The writer never waits for a
//! reader longer than it takes to copy pointers.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Bound, Range},
    sync::{Arc, Mutex, MutexGuard},
};

use airut_domain::{partition::Partition, record::Stored};

use super::file::{Head, Heads};
use crate::{Bounds, ReadError, TailError, size};

pub(super) struct Published(Mutex<State>);

struct State {
    partitions: BTreeMap<Partition, Known>,
    /// The partition of each record in memory, in the order in which they came.
    order: VecDeque<Partition>,
    bytes: usize,
    max_bytes: usize,
}

/// What is known of a partition: it holds `start..end`, and `recent` are the last of those.
struct Known {
    start: u64,
    end: u64,
    recent: VecDeque<Arc<Stored>>,
}

/// Where records asked for are to be had.
pub(super) enum Found {
    /// Here they are; none when there are none yet.
    InMemory(Vec<Arc<Stored>>),
    /// In the file, at these offsets.
    InFile(Range<u64>),
}

/// What a tail has not seen yet.
pub(super) enum Unseen {
    Nothing,
    InMemory(Vec<Arc<Stored>>),
    InFile(Partition, Range<u64>),
}

impl Published {
    pub(super) fn new(heads: &Heads, max_bytes: usize) -> Self {
        let known = |head: &Head| Known { start: head.start, end: head.end, recent: VecDeque::new() };
        let partitions = heads.iter().map(|(partition, head)| (*partition, known(head))).collect();
        Self(Mutex::new(State { partitions, order: VecDeque::new(), bytes: 0, max_bytes }))
    }

    /// Takes in records just made durable: the next ones of their partitions, in order.
    pub(super) fn add(&self, records: &[Arc<Stored>]) {
        let mut state = self.lock();
        for record in records {
            state.add(record);
        }
        state.evict();
    }

    /// Takes in that a partition was trimmed.
    pub(super) fn trimmed(&self, partition: Partition, start: u64) {
        let mut state = self.lock();
        let known = state.partitions.get_mut(&partition).expect("the writer trims what is there");
        known.start = known.start.max(start);
    }

    /// The offsets that the partition holds; `None` when there is no such partition.
    pub(super) fn span(&self, partition: Partition) -> Option<Range<u64>> {
        self.lock().partitions.get(&partition).map(|known| known.start..known.end)
    }

    /// The partitions and where they start.
    pub(super) fn starts(&self) -> BTreeMap<Partition, u64> {
        self.lock().partitions.iter().map(|(partition, known)| (*partition, known.start)).collect()
    }

    pub(super) fn find(&self, partition: Partition, offsets: Range<u64>, bounds: Bounds) -> Result<Found, ReadError> {
        self.lock().find(partition, offsets, bounds)
    }

    /// What comes next for a tail that stands at these positions, beginning with the partition after the one given, so
    /// that none starves.
    pub(super) fn unseen(
        &self,
        positions: &BTreeMap<Partition, u64>,
        after: Partition,
        bounds: Bounds,
    ) -> Result<Unseen, TailError> {
        let state = self.lock();
        let later = positions.range((Bound::Excluded(after), Bound::Unbounded));
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (partition, from) in later.chain(positions.range(..=after)) {
            state.check_not_beyond(*partition, *from)?;
            let room = Bounds {
                records: bounds.records.saturating_sub(batch.len()),
                bytes: bounds.bytes.saturating_sub(bytes),
            };
            if room.records == 0 || room.bytes == 0 {
                break;
            }
            match state.find(*partition, *from..u64::MAX, room)? {
                Found::InMemory(records) => {
                    bytes += records.iter().map(|record| size(record)).sum::<usize>();
                    batch.extend(records);
                }
                Found::InFile(offsets) if batch.is_empty() => return Ok(Unseen::InFile(*partition, offsets)),
                Found::InFile(_) => break,
            }
        }
        Ok(if batch.is_empty() { Unseen::Nothing } else { Unseen::InMemory(batch) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl State {
    fn add(&mut self, record: &Arc<Stored>) {
        let place = record.position;
        let known = self.partitions.get_mut(&place.partition).expect("the writer knows every partition");
        assert_eq!(known.end, place.offset, "a record of {} out of order", place.partition);
        known.end += 1;
        known.recent.push_back(Arc::clone(record));
        self.order.push_back(place.partition);
        self.bytes += size(record);
    }

    fn evict(&mut self) {
        while self.bytes > self.max_bytes {
            let Some(partition) = self.order.pop_front() else { return };
            let known = self.partitions.get_mut(&partition).expect("it was added to");
            let record = known.recent.pop_front().expect("one for each in the order");
            self.bytes -= size(&record);
        }
    }

    fn find(&self, partition: Partition, offsets: Range<u64>, bounds: Bounds) -> Result<Found, ReadError> {
        let known = self.partitions.get(&partition).ok_or(ReadError::NoSuchPartition(partition))?;
        if offsets.start < known.start {
            return Err(ReadError::Trimmed { partition, start: known.start });
        }
        let end = offsets.end.min(known.end);
        if offsets.start >= end {
            return Ok(Found::InMemory(Vec::new()));
        }
        let first = known.end - known.recent.len() as u64;
        let Some(skipped) = offsets.start.checked_sub(first) else {
            return Ok(Found::InFile(offsets.start..end.min(first)));
        };
        let skipped = usize::try_from(skipped).expect("less than what is in memory");
        let count = usize::try_from(end - offsets.start).expect("less than what is in memory");
        Ok(Found::InMemory(bounds.cut(known.recent.iter().skip(skipped).take(count))))
    }

    fn check_not_beyond(&self, partition: Partition, from: u64) -> Result<(), TailError> {
        let known = self.partitions.get(&partition).ok_or(TailError::NoSuchPartition(partition))?;
        if from > known.end { Err(TailError::BeyondEnd { partition, end: known.end }) } else { Ok(()) }
    }
}
