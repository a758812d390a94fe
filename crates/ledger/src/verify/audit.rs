//! The pass itself: see the module above.

use std::{collections::BTreeMap, ops::Range};

use airut_domain::{
    keys::Digest,
    merkle::{self, leaf_hash},
    partition::{Partition, Position, Topic},
    record::{Kind, Order, Runs, Stored, leaf_bytes},
};
use airut_log::{Log, ReadError};

use super::{
    Report, VerifyError,
    entries::{Entries, Kept},
    finding::{Finding, Findings},
    records::{Body, Head, Looked, Records, look},
};
use crate::{
    note::{Checkpoint, VerifierKey},
    order::{Fold, Segment, ordered_partitions},
    store::{RowFault, StoreError},
    tree::{Edge, TileId},
};

const ORDER: Partition = Partition::only(Topic::Order);
/// How many of SQLite's own messages are reported.
const FILE_MESSAGES: u32 = 20;

pub(super) struct Audit {
    key: VerifierKey,
    log_id: String,
    order: Records,
    records: BTreeMap<Partition, Records>,
    entries: Entries,
    /// What the ledger has of the next entry, once it was looked at.
    kept: Option<Kept>,
    fold: Fold,
    tree: Edge,
    following: Following,
    /// The roots at sizes that somebody asks for at the end.
    awaited: BTreeMap<u64, Option<Digest>>,
    outside: Option<Checkpoint>,
    checkpoints: u64,
    largest: Option<Checkpoint>,
    signs: Signs,
    /// The last record of each partition in the ledger's file, and the first that is not in it.
    last_in: BTreeMap<Partition, u64>,
    first_out: BTreeMap<Partition, u64>,
    /// How many records will be entries and are not ordered yet.
    unordered: u64,
    findings: Findings,
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
enum Signs {
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
            entries,
            kept: None,
            fold: Fold::default(),
            tree: Edge::default(),
            following: Following::Order,
            awaited: BTreeMap::new(),
            outside: None,
            checkpoints: 0,
            largest: None,
            signs: Signs::Fit,
            last_in: BTreeMap::new(),
            first_out: BTreeMap::new(),
            unordered: 0,
            findings: Findings::default(),
        };
        audit.expect(outside);
        Ok(audit)
    }

    /// Notes which roots are wanted at the end: those of the checkpoints that are not in `airut.order`.
    fn expect(&mut self, outside: Option<String>) {
        if let Some(note) = outside {
            match self.key.open(&note) {
                Ok(checkpoint) => self.outside = Some(checkpoint),
                Err(error) => self.findings.add(Finding::OutsideInvalid(error)),
            }
        }
        let stored = self.entries.state().checkpoint.as_ref();
        let stored = stored.and_then(|recorded| self.key.open(&recorded.note).ok());
        self.awaited.insert(0, Some(merkle::root(&[])));
        for checkpoint in stored.iter().chain(&self.outside) {
            self.awaited.entry(checkpoint.size).or_insert(None);
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
                    self.damaged(ORDER, self.order.next()..until);
                    self.following = Following::Ledger;
                    until
                }
            };
            self.order.pass(next);
        }
        let (ordered, size) = (self.tree.size(), self.entries.state().size);
        if ordered < size {
            if self.following == Following::Order {
                self.findings.add(Finding::Unordered { first: ordered, last: size - 1 });
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
                self.findings.add(Finding::RecordUnreadable { position: record.position, entry: None, error });
                self.following = Following::Ledger;
                return Ok(());
            }
        };
        self.check_body(record.position, None, body);
        match kind {
            Kind::Order(Order::Run(run)) => self.order_run(record.position, &run).await,
            Kind::Order(Order::Checkpoint(note)) => self.order_checkpoint(record.position, &note).await,
            Kind::Query(_) | Kind::Refusal(_) | Kind::Partner(_) | Kind::Member(_) => Ok(()),
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
            self.findings.add(Finding::RunBeyondEnd { run, partition, end: to });
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
                self.check_body(position, None, body);
                return pass;
            }
            Looked::Unreadable(error) => return self.unreadable(record, error).and(pass),
        };
        let kept = self.kept()?;
        let found = kept.position().filter(|found| kept.is_genuine() && *found != position);
        if let Some(found) = found {
            let entry = self.tree.size();
            self.findings.add(Finding::Order { entry, run, expected: position, found });
            return Ok(Step::Lost);
        }
        self.check_body(position, Some(self.tree.size()), body);
        self.settle(position, Some(&leaf))?;
        pass
    }

    /// A record that can't be decoded is an entry if the ledger says so.
    fn unreadable(&mut self, record: &Stored, error: airut_wire::record::Unreadable) -> Result<(), Fault> {
        let position = record.position;
        let is_entry = self.kept()?.position() == Some(position);
        let entry = is_entry.then_some(self.tree.size());
        self.findings.add(Finding::RecordUnreadable { position, entry, error });
        if is_entry {
            self.settle(position, Some(&leaf_bytes(position, record.stamp, &record.header)))?;
        }
        Ok(())
    }

    /// A record that is not there is an entry if the ledger says so.
    fn absent(&mut self, partition: Partition, offsets: Range<u64>, why: Absent) -> Result<Step, Fault> {
        let entry = self.tree.size();
        let position = self.kept()?.position();
        let Some(position) = position.filter(|p| p.partition == partition && offsets.contains(&p.offset)) else {
            return Ok(match why {
                Absent::Trimmed => Step::Pass(offsets.end),
                Absent::Damaged => {
                    self.damaged(partition, offsets.clone());
                    Step::Pass(offsets.end)
                }
                Absent::BeyondEnd => Step::Done,
            });
        };
        match why {
            Absent::Trimmed => {}
            Absent::Damaged | Absent::BeyondEnd => {
                self.damaged(partition, offsets.start..position.offset);
                self.findings.add(Finding::RecordDamaged { position, entry: Some(entry) });
            }
        }
        self.settle(position, None)?;
        Ok(Step::Pass(position.offset + 1))
    }

    /// Takes the entries as the ledger has them, up to this size, and compares each with its record.
    async fn follow_ledger(&mut self, size: u64) -> Result<(), Fault> {
        let size = size.min(self.entries.state().size);
        while self.tree.size() < size {
            let kept = self.kept()?;
            let (position, hash) = (kept.position(), kept.hash);
            let position = position.filter(|position| self.records.contains_key(&position.partition));
            match position {
                Some(position) => self.follow_entry(position).await?,
                // Its row is missing, which was found already: the tree alone remembers it.
                None if hash.is_some() || !self.entries.is_exhausted() => {
                    self.kept = None;
                    self.push(hash.unwrap_or_default())?;
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn follow_entry(&mut self, position: Position) -> Result<(), Fault> {
        let Position { partition, offset } = position;
        let entry = self.tree.size();
        loop {
            let head = self.partition(partition).head(offset + 1).await?;
            let next = self.partition(partition).next();
            match head {
                Some(Head::Record(record)) if record.position == position => {
                    let leaf = match look(&record) {
                        Looked::Leaf(leaf, body) => {
                            self.check_body(position, Some(entry), body);
                            leaf
                        }
                        Looked::NotALeaf(..) | Looked::Unreadable(_) => {
                            leaf_bytes(position, record.stamp, &record.header)
                        }
                    };
                    self.settle(position, Some(&leaf))?;
                }
                Some(Head::Record(record)) => {
                    if matches!(look(&record), Looked::Leaf(..)) {
                        self.findings.add(Finding::LeftOut { position: record.position, entry });
                    }
                    self.partition(partition).pass(record.position.offset + 1);
                    continue;
                }
                Some(Head::Trimmed(until) | Head::Damaged(until)) if until <= offset => {
                    self.partition(partition).pass(until);
                    continue;
                }
                Some(Head::Trimmed(_)) => self.settle(position, None)?,
                None if next > offset => {
                    self.findings.add(Finding::OutOfOrder { entry, position });
                    return self.settle(position, None);
                }
                Some(Head::Damaged(_)) | None => {
                    self.findings.add(Finding::RecordDamaged { position, entry: Some(entry) });
                    self.settle(position, None)?;
                }
            }
            self.partition(partition).pass(offset + 1);
            return Ok(());
        }
    }

    /// Decides what the next entry's hash is, and which of its witnesses differ.
    fn settle(&mut self, position: Position, record: Option<&[u8]>) -> Result<(), Fault> {
        self.kept()?;
        let Kept { row, hash: in_tree } = self.kept.take().unwrap_or_default();
        let entry = self.tree.size();
        let (in_log, in_row) = (record.map(leaf_hash), row.as_ref().map(|row| leaf_hash(&row.leaf)));
        if row.is_some_and(|row| row.position != Some(position)) {
            self.findings.add(Finding::Misfiled { entry, position });
        }
        let hash = match (in_log, in_row, in_tree) {
            (in_log, Some(row), Some(tree)) if row == tree => {
                if in_log.is_some_and(|log| log != tree) {
                    self.findings.add(Finding::RecordChanged { position, entry });
                }
                tree
            }
            (Some(log), Some(row), in_tree) if log == row => {
                if in_tree.is_some() {
                    self.findings.add(Finding::HashChanged { entry, position });
                }
                log
            }
            (_, None, None) | (None, None, Some(_)) => in_tree.or(in_log).unwrap_or_default(),
            (Some(log), None, Some(tree)) => {
                if log != tree {
                    self.findings.add(Finding::RecordChanged { position, entry });
                }
                tree
            }
            // The leaf alone differs, or no two agree; what was signed decides, and that is the tree.
            (in_log, Some(row), in_tree) => {
                self.findings.add(Finding::LeafChanged { entry, position });
                in_tree.or(in_log).unwrap_or(row)
            }
        };
        let taken = if entry < self.entries.state().size { &mut self.last_in } else { &mut self.first_out };
        if entry < self.entries.state().size {
            taken.insert(position.partition, position.offset);
        } else {
            taken.entry(position.partition).or_insert(position.offset);
        }
        self.push(hash)
    }

    /// Appends a hash to the tree, and compares the tiles that it completes.
    fn push(&mut self, hash: Digest) -> Result<(), Fault> {
        let mut full = Vec::new();
        self.tree.push(hash, &mut full);
        let (size, stored) = (self.tree.size(), self.entries.state().size);
        if size <= stored {
            for (tile, hashes) in full {
                self.check_tile(tile, &hashes)?;
            }
        }
        if size == stored {
            let unfinished: Vec<_> = self.tree.unfinished().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
            for (tile, hashes) in unfinished {
                self.check_tile(tile, &hashes)?;
            }
        }
        if let Some(root) = self.awaited.get_mut(&size) {
            *root = Some(self.tree.root());
        }
        Ok(())
    }

    fn check_tile(&mut self, tile: TileId, hashes: &[Digest]) -> Result<(), Fault> {
        if tile.level == 0 {
            // Compared entry by entry.
            return Ok(());
        }
        let stored = self.entries.tile(tile, &mut self.findings)?;
        for (place, (computed, stored)) in hashes.iter().zip(&stored).enumerate() {
            if computed != stored {
                let Range { start: first, end } = tile.entries_below(place);
                self.findings.add(Finding::InnerHashChanged { level: tile.level, first, last: end - 1 });
            }
        }
        Ok(())
    }

    async fn order_checkpoint(&mut self, position: Position, note: &str) -> Result<(), Fault> {
        let checkpoint = match self.key.open(note) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                self.findings.add(Finding::CheckpointInvalid { position: Some(position), error });
                return Ok(());
            }
        };
        if self.following == Following::Ledger {
            self.follow_ledger(checkpoint.size).await?;
        }
        let found = self.tree.size();
        if checkpoint.size > found {
            let size = checkpoint.size;
            self.findings.add(Finding::CheckpointBeyondEnd { position: Some(position), size, found });
            return Ok(());
        }
        let root = if checkpoint.size == found {
            Some(self.tree.root())
        } else {
            // Overtaken by later runs on its way into the log.
            self.entries.reader().root_at(checkpoint.size).ok()
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

    fn judge(&mut self, position: Option<Position>, checkpoint: Checkpoint, fits: bool) {
        let (size, since) = (checkpoint.size, self.largest.as_ref().map_or(0, |largest| largest.size));
        if fits {
            if size >= since {
                self.largest = Some(checkpoint);
            }
        } else if self.signs == Signs::Fit {
            self.signs = Signs::Forked;
            self.findings.add(Finding::CheckpointForked { position, size, since });
        }
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
                            self.first_out.entry(partition).or_insert(position.offset);
                            self.check_body(position, None, body);
                        }
                        Looked::NotALeaf(_, body) => self.check_body(position, None, body),
                        Looked::Unreadable(error) => {
                            self.findings.add(Finding::RecordUnreadable { position, entry: None, error });
                        }
                    }
                    position.offset + 1
                }
                Head::Trimmed(until) => until,
                Head::Damaged(until) => {
                    self.damaged(partition, next..until);
                    until
                }
            };
            self.partition(partition).pass(to);
        }
        Ok(())
    }

    fn conclude(mut self) -> Result<Report, Fault> {
        self.check_state();
        self.check_positions()?;
        self.check_outside();
        match self.entries.reader().integrity(FILE_MESSAGES) {
            Ok(messages) => messages.into_iter().for_each(|message| self.findings.add(Finding::File(message))),
            Err(RowFault::Damaged) => self.findings.add(Finding::File("damaged".to_owned())),
            Err(RowFault::Unreadable(error)) => return Err(Fault::Ledger(error.into())),
        }
        let records = self.records.values().chain([&self.order]).map(|records| records.passed).sum();
        let signed = self.largest.as_ref().map_or(0, |checkpoint| checkpoint.size);
        Ok(Report {
            entries: self.tree.size(),
            records,
            checkpoints: self.checkpoints,
            checkpoint: self.largest,
            unsigned: (self.tree.size() + self.unordered).saturating_sub(signed),
            findings: self.findings.kept,
            findings_total: self.findings.total,
        })
    }

    /// Compares what the ledger's file says of itself with what was found.
    fn check_state(&mut self) {
        let (state, found) = (self.entries.state(), self.tree.size());
        let (stored, identity, recorded) = (state.size, state.identity.clone(), state.checkpoint.clone());
        if identity.log != self.log_id {
            self.findings.add(Finding::OtherLog { found: identity.log, expected: self.log_id.clone() });
        }
        let expected = self.key.to_string();
        if identity.key != expected {
            self.findings.add(Finding::OtherKey { found: identity.key, expected });
        }
        if found < stored {
            self.findings.add(Finding::Size { stored, found });
        }
        if let (rows, Ok(())) = self.entries.reader().rows(stored, 1)
            && let [row] = rows.as_slice()
        {
            self.findings.add(Finding::BeyondEnd { entry: row.index, size: stored });
        }
        if let Some(recorded) = recorded {
            match self.key.open(&recorded.note) {
                Ok(checkpoint) => self.check_recorded(checkpoint),
                Err(error) => self.findings.add(Finding::CheckpointInvalid { position: None, error }),
            }
        }
        let signed = self.largest.as_ref().map_or(0, |largest| largest.size);
        if stored < signed {
            self.findings.add(Finding::Behind { size: stored, signed });
        }
    }

    fn check_recorded(&mut self, checkpoint: Checkpoint) {
        let (size, found) = (checkpoint.size, self.tree.size());
        if size > found {
            self.findings.add(Finding::CheckpointBeyondEnd { position: None, size, found });
        } else {
            let fits = self.awaited.get(&size) == Some(&Some(checkpoint.root));
            self.judge(None, checkpoint, fits);
        }
    }

    /// The ledger took in each partition up to somewhere between its last entry and its next.
    fn check_positions(&mut self) -> Result<(), Fault> {
        for (partition, stored) in self.entries.reader().ends()? {
            let after_last = self.last_in.get(&partition).is_none_or(|last| stored > *last);
            let next = self.first_out.get(&partition).copied();
            let end = self.records.get(&partition).map_or(0, Records::end);
            if !after_last || stored > next.unwrap_or(end) {
                self.findings.add(Finding::Position { partition, stored });
            }
        }
        Ok(())
    }

    fn check_outside(&mut self) {
        let Some(Checkpoint { size, root, .. }) = self.outside.take() else { return };
        let found = self.tree.size();
        if size > found {
            self.findings.add(Finding::Truncated { size, found });
        } else if self.awaited.get(&size) != Some(&Some(root)) {
            self.findings.add(Finding::Forked { size });
        }
    }

    fn check_body(&mut self, position: Position, entry: Option<u64>, body: Body) {
        match body {
            Body::Fits => {}
            Body::Differs => self.findings.add(Finding::Body { position, entry }),
        }
    }

    fn damaged(&mut self, partition: Partition, offsets: Range<u64>) {
        match offsets.end.saturating_sub(offsets.start) {
            0 => {}
            1 => {
                let position = Position { partition, offset: offsets.start };
                self.findings.add(Finding::RecordDamaged { position, entry: None });
            }
            _ => {
                let (from, last) = (offsets.start, offsets.end - 1);
                self.findings.add(Finding::RecordsDamaged { partition, from, last });
            }
        }
    }

    /// What the ledger has of the next entry.
    fn kept(&mut self) -> Result<&Kept, Fault> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => self.entries.keep(self.tree.size(), &mut self.findings)?,
        };
        Ok(self.kept.insert(kept))
    }

    fn partition(&mut self, partition: Partition) -> &mut Records {
        self.records.get_mut(&partition).expect("the order names only partitions that are there")
    }
}
