//! One partition of the log, read from its start to its end past any damage.

use std::{collections::VecDeque, sync::Arc};

use airut_domain::{
    keys::Digest,
    partition::Partition,
    record::{Kind, Stored, leaf_bytes},
};
use airut_log::{Log, ReadError};
use airut_wire::record::{Unreadable, decode};

/// How much of a partition is in memory at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How many records after a damaged one are tried one by one, before the search takes wider steps.
const TRIES: u64 = 4096;

/// See the module.
pub(super) struct Records {
    log: Log,
    partition: Partition,
    /// The first offset that is not trimmed away.
    start: u64,
    end: u64,
    /// The offset that comes next.
    next: u64,
    /// What comes before is known to be damaged.
    damaged_until: u64,
    buffer: VecDeque<Arc<Stored>>,
    /// How many records were there.
    pub(super) passed: u64,
}

/// What comes next.
pub(super) enum Head {
    /// A record as it was written.
    Record(Arc<Stored>),
    /// Nothing up to this offset, because it was trimmed away.
    Trimmed(u64),
    /// Nothing readable up to this offset.
    Damaged(u64),
}

/// A record, looked at.
pub(super) enum Looked {
    /// It is an entry of the ledger, with this leaf.
    Leaf(Vec<u8>, Body),
    /// It is none.
    NotALeaf(Box<Kind>, Body),
    /// It can't be read.
    Unreadable(Unreadable),
}

/// What is to be said of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// It is the one that the header names, or there is none, as the header says.
    Fits,
    /// It is another.
    Differs,
}

impl Records {
    pub(super) async fn new(log: &Log, partition: Partition) -> Result<Self, ReadError> {
        let (start, end) = (log.start(partition).await?, log.end(partition).await?);
        Ok(Self {
            log: log.clone(),
            partition,
            start,
            end,
            next: 0,
            damaged_until: 0,
            buffer: VecDeque::new(),
            passed: 0,
        })
    }

    /// The offset that comes next.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// One past the last offset.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// What comes next before the offset `to`; none when there is nothing.
    pub(super) async fn head(&mut self, to: u64) -> Result<Option<Head>, ReadError> {
        let to = to.min(self.end);
        if self.next >= to {
            return Ok(None);
        }
        if self.next < self.start {
            return Ok(Some(Head::Trimmed(self.start.min(to))));
        }
        if self.next >= self.damaged_until && self.buffer.is_empty() {
            match self.log.read(self.partition, self.next..self.end, CHUNK_BYTES).await {
                Ok(batch) => self.buffer.extend(batch),
                Err(ReadError::Damaged(_)) => self.damaged_until = self.readable_after(self.next).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(match self.buffer.front() {
            Some(record) if self.next >= self.damaged_until => Some(Head::Record(Arc::clone(record))),
            _ => Some(Head::Damaged(self.damaged_until.min(to).max(self.next + 1))),
        })
    }

    /// Goes on at this offset.
    pub(super) fn pass(&mut self, to: u64) {
        self.next = self.next.max(to);
        while self.buffer.front().is_some_and(|record| record.position.offset < self.next) {
            self.buffer.pop_front();
            self.passed += 1;
        }
    }

    /// The next offset after a damaged one that can be read; the end when none is found.
    async fn readable_after(&self, damaged: u64) -> Result<u64, ReadError> {
        for offset in (damaged + 1..self.end).take(usize::try_from(TRIES).unwrap_or(usize::MAX)) {
            if self.is_readable(offset).await? {
                return Ok(offset);
            }
        }
        // Wider and wider steps, and then back to the first: a damaged number can pretend to any distance.
        let (mut bad, mut step) = (damaged + TRIES, TRIES);
        while bad + step < self.end {
            if self.is_readable(bad + step).await? {
                return self.first_readable(bad, bad + step).await;
            }
            bad += step;
            step = step.saturating_mul(2);
        }
        if self.end > bad + 1 && self.is_readable(self.end - 1).await? {
            return self.first_readable(bad, self.end - 1).await;
        }
        Ok(self.end)
    }

    /// The border between a damaged and a readable offset.
    async fn first_readable(&self, mut bad: u64, mut good: u64) -> Result<u64, ReadError> {
        while good - bad > 1 {
            let middle = bad.midpoint(good);
            if self.is_readable(middle).await? { good = middle } else { bad = middle }
        }
        Ok(good)
    }

    async fn is_readable(&self, offset: u64) -> Result<bool, ReadError> {
        match self.log.read(self.partition, offset..offset + 1, CHUNK_BYTES).await {
            Ok(batch) => Ok(!batch.is_empty()),
            Err(ReadError::Damaged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Looks at a record as the ledger does.
pub(super) fn look(record: &Stored) -> Looked {
    let header = match decode(&record.header) {
        Ok(header) => header,
        Err(error) => return Looked::Unreadable(error),
    };
    let fits = match &header.body {
        None => record.body.is_empty(),
        Some(body) => Digest::of(&record.body) == body.sha256,
    };
    let body = if fits { Body::Fits } else { Body::Differs };
    if header.kind.is_leaf() {
        Looked::Leaf(leaf_bytes(record.position, record.stamp, &record.header), body)
    } else {
        Looked::NotALeaf(Box::new(header.kind), body)
    }
}
