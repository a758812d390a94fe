//! The pass itself: see the module above.

use std::{collections::BTreeMap, ops::Range};

use airut_domain::{
    merkle,
    partition::{Partition, Position, Topic},
    record::{Kind, Order, Runs, Stored, leaf_bytes},
};
use airut_log::{Log, ReadError};
use airut_wire::record::Unreadable;

use super::{
    Report, VerifyError,
    compared::Compared,
    entries::Entries,
    finding::Finding,
    records::{Head, Looked, Records, look},
};
use crate::{
    note::{Checkpoint, VerifierKey},
    order::{Fold, Segment, ordered_partitions},
    store::StoreError,
};

pub(super) const ORDER: Partition = Partition::only(Topic::Order);

pub(super) struct Audit {
    pub(super) key: VerifierKey,
    pub(super) log_id: String,
    pub(super) order: Records,
    pub(super) records: BTreeMap<Partition, Records>,
    pub(super) compared: Compared,
    fold: Fold,
    following: Following,
    pub(super) outside: Option<Checkpoint>,
    /// How many checkpoints of the log fit.
    pub(super) checkpoints: u64,
    /// The largest that fits.
    pub(super) largest: Option<Checkpoint>,
    pub(super) signs: Signs,
    /// How many records will be entries and are not ordered yet.
    pub(super) unordered: u64,
}

/// What says which entry comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Following {
    /// The runs of `airut.order`.
    Order,
    /// The entries themselves, since a run is damaged or disagrees with them.
    Ledger,
}

/// What the signed checkpoints have said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signs {
    /// All fit.
    Fit,
    /// One did not, and none after it will.
    Forked,
}

/// Why a record is not there to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    /// It was trimmed away, which is in order.
    Trimmed,
    /// It is damaged or missing.
    Damaged,
    /// The log ends before it.
    BeyondEnd,
}

/// What to do after a step along a partition.
enum Step {
    /// Go on at this offset.
    Pass(u64),
    /// There is nothing more.
    Done,
    /// The order can not be followed any more.
    Lost,
}

/// Why the pass could not go on.
pub(super) enum Fault {
    Log(ReadError),
    Ledger(StoreError),
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Log(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Ledger(error)
    }
}

impl Audit {
    pub(super) async fn begin(
        log: &Log,
        key: VerifierKey,
        entries: Entries,
        outside: Option<String>,
    ) -> Result<Self, VerifyError> {
        let start = log.start(ORDER).await?;
        if start > 0 {
            return Err(VerifyError::OrderTrimmed(start));
        }
        let mut records = BTreeMap::new();
        for partition in ordered_partitions() {
            records.insert(partition, Records::new(log, partition).await?);
        }
        let mut audit = Self {
            key,
            log_id: log.identity().to_string(),
            order: Records::new(log, ORDER).await?,
            records,
            compared: Compared::new(entries),
            fold: Fold::default(),
            following: Following::Order,
            outside: None,
            checkpoints: 0,
            largest: None,
            signs: Signs::Fit,
            unordered: 0,
        };
        audit.expect(outside);
        Ok(audit)
    }

    /// Notes which roots are wanted at the end: those of the checkpoints that are not in `airut.order`.
    fn expect(&mut self, outside: Option<String>) {
        if let Some(note) = outside {
            match self.key.open(&note) {
                Ok(checkpoint) => self.outside = Some(checkpoint),
                Err(error) => self.compared.findings.add(Finding::OutsideInvalid(error)),
            }
        }
        let stored = self.compared.entries.state().checkpoint.as_ref();
        let stored = stored.and_then(|recorded| self.key.open(&recorded.note).ok());
        self.compared.awaited.insert(0, Some(merkle::root(&[])));
        for checkpoint in stored.iter().chain(&self.outside) {
            self.compared.awaited.entry(checkpoint.size).or_insert(None);
        }
    }

    pub(super) async fn run(mut self) -> Result<Report, Fault> {
        while let Some(head) = self.order.head(u64::MAX).await? {
            let next = match head {
                Head::Record(record) => {
                    self.order_record(&record).await?;
                    record.position.offset + 1
                }
                Head::Trimmed(until) => until,
                Head::Damaged(until) => {
                    self.compared.damaged(ORDER, self.order.next()..until);
                    self.following = Following::Ledger;
                    until
                }
            };
            self.order.pass(next);
        }
        let (ordered, size) = (self.compared.next(), self.compared.stored());
        if ordered < size {
            if self.following == Following::Order {
                self.compared.findings.add(Finding::Unordered { first: ordered, last: size - 1 });
            }
            self.follow_ledger(size).await?;
        }
        for partition in ordered_partitions() {
            self.rest(partition).await?;
        }
        self.conclude()
    }

    async fn order_record(&mut self, record: &Stored) -> Result<(), Fault> {
        let (kind, body) = match look(record) {
            Looked::NotALeaf(kind, body) => (*kind, body),
            // Another topic's record says nothing about the order.
            Looked::Leaf(..) => return Ok(()),
            Looked::Unreadable(error) => {
                self.compared.findings.add(Finding::RecordUnreadable { position: record.position, entry: None, error });
                self.following = Following::Ledger;
                return Ok(());
            }
        };
        self.compared.check_body(record.position, None, body);
        match kind {
            Kind::Order(Order::Run(run)) => self.order_run(record.position, &run).await,
            Kind::Order(Order::Checkpoint(note)) => self.order_checkpoint(record.position, &note).await,
            Kind::Message(_)
            | Kind::Query(_)
            | Kind::Document(_)
            | Kind::Request(_)
            | Kind::Refusal(_)
            | Kind::Partner(_)
            | Kind::Member(_) => Ok(()),
        }
    }

    async fn order_run(&mut self, run: Position, runs: &Runs) -> Result<(), Fault> {
        for segment in self.fold.segments(runs) {
            match self.following {
                Following::Order => self.segment(run, segment).await?,
                Following::Ledger => {}
            }
        }
        Ok(())
    }

    /// Takes the records of a segment as the next entries.
    async fn segment(&mut self, run: Position, segment: Segment) -> Result<(), Fault> {
        let Segment { partition, to, .. } = segment;
        let end = self.partition(partition).end();
        if to > end {
            self.compared.findings.add(Finding::RunBeyondEnd { run, partition, end: to });
        }
        loop {
            let head = self.partition(partition).head(to).await?;
            let next = self.partition(partition).next();
            let step = match head {
                Some(Head::Record(record)) => self.record(run, &record)?,
                Some(Head::Trimmed(until)) => self.absent(partition, next..until, Absent::Trimmed)?,
                Some(Head::Damaged(until)) => self.absent(partition, next..until, Absent::Damaged)?,
                None if next < to => self.absent(partition, next..to, Absent::BeyondEnd)?,
                None => Step::Done,
            };
            match step {
                Step::Pass(offset) => self.partition(partition).pass(offset),
                Step::Done => break,
                Step::Lost => {
                    self.following = Following::Ledger;
                    return Ok(());
                }
            }
        }
        let taken = self.partition(partition).next();
        self.fold.take(partition, taken);
        Ok(())
    }

    fn record(&mut self, run: Position, record: &Stored) -> Result<Step, Fault> {
        let position = record.position;
        let pass = Ok(Step::Pass(position.offset + 1));
        let (leaf, body) = match look(record) {
            Looked::Leaf(leaf, body) => (leaf, body),
            Looked::NotALeaf(_, body) => {
                self.compared.check_body(position, None, body);
                return pass;
            }
            Looked::Unreadable(error) => return self.unreadable(record, error).and(pass),
        };
        let kept = self.compared.kept()?;
        let found = kept.position().filter(|found| kept.is_genuine() && *found != position);
        if let Some(found) = found {
            let entry = self.compared.next();
            self.compared.findings.add(Finding::Order { entry, run, expected: position, found });
            return Ok(Step::Lost);
        }
        self.compared.check_body(position, Some(self.compared.next()), body);
        self.compared.settle(position, Some(&leaf))?;
        pass
    }

    /// A record that can't be decoded is an entry if the ledger says so.
    fn unreadable(&mut self, record: &Stored, error: Unreadable) -> Result<(), Fault> {
        let position = record.position;
        let is_entry = self.compared.kept()?.position() == Some(position);
        let entry = is_entry.then_some(self.compared.next());
        self.compared.findings.add(Finding::RecordUnreadable { position, entry, error });
        if is_entry {
            self.compared.settle(position, Some(&leaf_bytes(position, record.stamp, &record.header)))?;
        }
        Ok(())
    }

    /// A record that is not there is an entry if the ledger says so.
    fn absent(&mut self, partition: Partition, offsets: Range<u64>, why: Absent) -> Result<Step, Fault> {
        let entry = self.compared.next();
        let position = self.compared.kept()?.position();
        let Some(position) = position.filter(|p| p.partition == partition && offsets.contains(&p.offset)) else {
            return Ok(match why {
                Absent::Trimmed => Step::Pass(offsets.end),
                Absent::Damaged => {
                    self.compared.damaged(partition, offsets.clone());
                    Step::Pass(offsets.end)
                }
                Absent::BeyondEnd => Step::Done,
            });
        };
        match why {
            Absent::Trimmed => {}
            Absent::Damaged | Absent::BeyondEnd => {
                self.compared.damaged(partition, offsets.start..position.offset);
                self.compared.findings.add(Finding::RecordDamaged { position, entry: Some(entry) });
            }
        }
        self.compared.settle(position, None)?;
        Ok(Step::Pass(position.offset + 1))
    }

    /// Takes the entries as the ledger has them, up to this size, and compares each with its record.
    async fn follow_ledger(&mut self, size: u64) -> Result<(), Fault> {
        let size = size.min(self.compared.stored());
        while self.compared.next() < size {
            let kept = self.compared.kept()?;
            let (position, hash) = (kept.position(), kept.hash);
            let position = position.filter(|position| self.records.contains_key(&position.partition));
            match position {
                Some(position) => self.follow_entry(position).await?,
                // Its row is missing, which was found already: the tree alone remembers it.
                None if hash.is_some() || !self.compared.entries.is_exhausted() => {
                    self.compared.pass(hash)?;
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn follow_entry(&mut self, position: Position) -> Result<(), Fault> {
        let Position { partition, offset } = position;
        let entry = self.compared.next();
        loop {
            let head = self.partition(partition).head(offset + 1).await?;
            let next = self.partition(partition).next();
            match head {
                Some(Head::Record(record)) if record.position == position => {
                    let leaf = match look(&record) {
                        Looked::Leaf(leaf, body) => {
                            self.compared.check_body(position, Some(entry), body);
                            leaf
                        }
                        Looked::NotALeaf(..) | Looked::Unreadable(_) => {
                            leaf_bytes(position, record.stamp, &record.header)
                        }
                    };
                    self.compared.settle(position, Some(&leaf))?;
                }
                Some(Head::Record(record)) => {
                    if matches!(look(&record), Looked::Leaf(..)) {
                        self.compared.findings.add(Finding::LeftOut { position: record.position, entry });
                    }
                    self.partition(partition).pass(record.position.offset + 1);
                    continue;
                }
                Some(Head::Trimmed(until) | Head::Damaged(until)) if until <= offset => {
                    self.partition(partition).pass(until);
                    continue;
                }
                Some(Head::Trimmed(_)) => self.compared.settle(position, None)?,
                None if next > offset => {
                    self.compared.findings.add(Finding::OutOfOrder { entry, position });
                    return Ok(self.compared.settle(position, None)?);
                }
                Some(Head::Damaged(_)) | None => {
                    self.compared.findings.add(Finding::RecordDamaged { position, entry: Some(entry) });
                    self.compared.settle(position, None)?;
                }
            }
            self.partition(partition).pass(offset + 1);
            return Ok(());
        }
    }

    async fn order_checkpoint(&mut self, position: Position, note: &str) -> Result<(), Fault> {
        let checkpoint = match self.key.open(note) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                self.compared.findings.add(Finding::CheckpointInvalid { position: Some(position), error });
                return Ok(());
            }
        };
        if self.following == Following::Ledger {
            self.follow_ledger(checkpoint.size).await?;
        }
        let found = self.compared.next();
        if checkpoint.size > found {
            let size = checkpoint.size;
            self.compared.findings.add(Finding::CheckpointBeyondEnd { position: Some(position), size, found });
            return Ok(());
        }
        let root = if checkpoint.size == found {
            Some(self.compared.tree.root())
        } else {
            // Overtaken by later runs on its way into the log.
            self.compared.entries.reader().root_at(checkpoint.size).ok()
        };
        let fits = root == Some(checkpoint.root);
        if fits && checkpoint.size == found && self.following == Following::Ledger {
            self.find_the_way_back();
        }
        if fits {
            self.checkpoints += 1;
        }
        self.judge(Some(position), checkpoint, fits);
        Ok(())
    }

    /// What was followed is what was signed: from here on the order is computed again.
    fn find_the_way_back(&mut self) {
        for (partition, records) in &self.records {
            self.fold.take(*partition, records.next());
        }
        self.following = Following::Order;
    }

    /// What lies beyond the order.
    async fn rest(&mut self, partition: Partition) -> Result<(), Fault> {
        while let Some(head) = self.partition(partition).head(u64::MAX).await? {
            let next = self.partition(partition).next();
            let to = match head {
                Head::Record(record) => {
                    let position = record.position;
                    match look(&record) {
                        Looked::Leaf(_, body) => {
                            self.unordered += 1;
                            self.compared.first_out.entry(partition).or_insert(position.offset);
                            self.compared.check_body(position, None, body);
                        }
                        Looked::NotALeaf(_, body) => self.compared.check_body(position, None, body),
                        Looked::Unreadable(error) => {
                            self.compared.findings.add(Finding::RecordUnreadable { position, entry: None, error });
                        }
                    }
                    position.offset + 1
                }
                Head::Trimmed(until) => until,
                Head::Damaged(until) => {
                    self.compared.damaged(partition, next..until);
                    until
                }
            };
            self.partition(partition).pass(to);
        }
        Ok(())
    }

    fn partition(&mut self, partition: Partition) -> &mut Records {
        self.records.get_mut(&partition).expect("the order names only partitions that are there")
    }
}
