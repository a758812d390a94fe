//! What a verification can find, each with the entry or the record that it concerns.

use airut_domain::partition::{Partition, Position};
use airut_wire::record::Unreadable;

use crate::note::InvalidNote;

/// The most findings that are kept; all are counted.
const KEPT: usize = 1000;

/// Something that is not as it was signed, or not as it was written. Shown as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A record of the log is not there, or not what was written.
    #[error("{}: the log's record {position} is missing or damaged", At(*.entry))]
    RecordDamaged {
        /// The record.
        position: Position,
        /// Its entry, where it has one.
        entry: Option<u64>,
    },
    /// Many records in a row are not there.
    #[error("the log's records {partition}/{from} to {partition}/{last} are missing or damaged")]
    RecordsDamaged {
        /// The partition.
        partition: Partition,
        /// The first offset.
        from: u64,
        /// The last offset.
        last: u64,
    },
    /// The header of a record can't be read.
    #[error("{}: the log's record {position} is {error}", At(*.entry))]
    RecordUnreadable {
        /// The record.
        position: Position,
        /// Its entry, where it has one.
        entry: Option<u64>,
        /// Why.
        error: Unreadable,
    },
    /// The body of a record is not the one that its header names.
    #[error("{}: the body of the log's record {position} is not the one that its header names", At(*.entry))]
    Body {
        /// The record.
        position: Position,
        /// Its entry, where it has one yet.
        entry: Option<u64>,
    },
    /// The log's record differs from the leaf, and the tree has the leaf: the log was changed.
    #[error("entry {entry}: the log's record {position} was changed after the ledger took it in")]
    RecordChanged {
        /// The record.
        position: Position,
        /// Its entry.
        entry: u64,
    },
    /// A stored leaf is not the one that the tree has.
    #[error("entry {entry}: the stored leaf of {position} was changed")]
    LeafChanged {
        /// The entry.
        entry: u64,
        /// The record that it is of.
        position: Position,
    },
    /// The columns beside a leaf do not say what the leaf says.
    #[error("entry {entry}: it is not filed under {position}, the record that it is of")]
    Misfiled {
        /// The entry.
        entry: u64,
        /// The record that its leaf is of.
        position: Position,
    },
    /// The tree has another hash than the leaf, and the leaf is the log's record: the tree was changed.
    #[error("entry {entry}: the tree's hash of {position} was changed")]
    HashChanged {
        /// The entry.
        entry: u64,
        /// The record that it is of.
        position: Position,
    },
    /// An entry has no row.
    #[error("entry {entry}: it is missing from the ledger")]
    EntryMissing {
        /// The entry.
        entry: u64,
    },
    /// An entry's row is numbered as another.
    #[error("entry {entry}: it is stored under the number {stored_as}")]
    Misnumbered {
        /// The entry.
        entry: u64,
        /// The number in its row.
        stored_as: u64,
    },
    /// Rows of the table `entries` can't be read.
    #[error("entries {first} to {last}: the table entries is damaged there and can not be read")]
    EntriesUnreadable {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// An entry is not the one that `airut.order` puts at its place.
    #[error("entry {entry}: {run} puts {expected} there, and the ledger has {found}")]
    Order {
        /// The entry.
        entry: u64,
        /// The run of `airut.order`.
        run: Position,
        /// The record that it puts there.
        expected: Position,
        /// The record that is there.
        found: Position,
    },
    /// An entry is of a record that came before in its partition.
    #[error("entry {entry}: {position} is out of order in its partition")]
    OutOfOrder {
        /// The entry.
        entry: u64,
        /// The record that it is of.
        position: Position,
    },
    /// A record that comes between two entries of its partition has none.
    #[error("the log's record {position} was left out before entry {entry}")]
    LeftOut {
        /// The record.
        position: Position,
        /// The entry after it.
        entry: u64,
    },
    /// Entries that no run of `airut.order` puts there.
    #[error("entries {first} to {last}: no record of airut.order puts them there")]
    Unordered {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A tile is not there, too short or can't be read.
    #[error("entries {first} to {last}: tile {index} of level {level} of the tree is missing or damaged")]
    TileDamaged {
        /// Its level.
        level: u8,
        /// Its place in the level.
        index: u64,
        /// The first entry below it.
        first: u64,
        /// The last that it can stand for.
        last: u64,
    },
    /// An inner hash of the tree is not the one of the entries below it.
    #[error("entries {first} to {last}: the hash over them in level {level} of the tree was changed")]
    InnerHashChanged {
        /// The level of its tile.
        level: u8,
        /// The first entry below it.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A record of `airut.order` names records that the log does not have.
    #[error("{run} orders records up to {partition}/{end}, and the log ends before")]
    RunBeyondEnd {
        /// The record of `airut.order`.
        run: Position,
        /// The partition.
        partition: Partition,
        /// Up to where.
        end: u64,
    },
    /// A checkpoint is not signed, or not with the key.
    #[error("{}: {error}", Which(*.position))]
    CheckpointInvalid {
        /// Its record in `airut.order`; none for the one in the ledger's file.
        position: Option<Position>,
        /// Why.
        error: InvalidNote,
    },
    /// A checkpoint was signed for a tree that these entries do not give.
    #[error("{}: signed at {size} entries with another root: something in entries {since} to {} was changed, \
             in the log and the ledger alike", Which(*.position), size.saturating_sub(1))]
    CheckpointForked {
        /// Its record in `airut.order`; none for the one in the ledger's file.
        position: Option<Position>,
        /// How many entries it covers.
        size: u64,
        /// The entry after the last one that a checkpoint still fits.
        since: u64,
    },
    /// A checkpoint covers more entries than there are.
    #[error("{}: signed at {size} entries, and there are {found}", Which(*.position))]
    CheckpointBeyondEnd {
        /// Its record in `airut.order`; none for the one in the ledger's file.
        position: Option<Position>,
        /// How many entries it covers.
        size: u64,
        /// How many there are.
        found: u64,
    },
    /// The ledger's file has fewer entries than were signed. The log still has them all.
    #[error("the ledger's file ends at entry {size}, and {signed} entries were signed")]
    Behind {
        /// How many entries the file has.
        size: u64,
        /// How many were signed.
        signed: u64,
    },
    /// The ledger does not have as many entries as it says.
    #[error("the ledger says that it has {stored} entries, and has {found}")]
    Size {
        /// How many it says.
        stored: u64,
        /// How many there are.
        found: u64,
    },
    /// Rows beyond the ledger's end.
    #[error("entry {entry}: it lies beyond the ledger's end at {size}")]
    BeyondEnd {
        /// The first of them.
        entry: u64,
        /// How many entries the ledger says that it has.
        size: u64,
    },
    /// Up to where a partition is said to be in the tree is not so.
    #[error("the ledger says that it took in {partition} up to {stored}, which is not so")]
    Position {
        /// The partition.
        partition: Partition,
        /// The offset that it says.
        stored: u64,
    },
    /// The ledger is another log's.
    #[error("the ledger is that of the log {found}, not of {expected}")]
    OtherLog {
        /// The log that it names.
        found: String,
        /// This log.
        expected: String,
    },
    /// The ledger was signed with another key.
    #[error("the ledger was signed with {found}, not with {expected}")]
    OtherKey {
        /// The verifier key that it names.
        found: String,
        /// The verifier key that was given.
        expected: String,
    },
    /// What SQLite finds wrong with the ledger's file.
    #[error("the ledger's file: {0}")]
    File(String),
    /// The checkpoint from outside is not signed with the key.
    #[error("the checkpoint from outside: {0}")]
    OutsideInvalid(InvalidNote),
    /// The checkpoint from outside covers more entries than there are: the end was cut off.
    #[error("the checkpoint from outside covers {size} entries, and there are only {found}: the ledger was cut off")]
    Truncated {
        /// How many it covers.
        size: u64,
        /// How many there are.
        found: u64,
    },
    /// The checkpoint from outside has another root: somebody was shown another ledger.
    #[error(
        "the checkpoint from outside has another root at {size} entries: this is not the ledger that it was signed for"
    )]
    Forked {
        /// How many entries it covers.
        size: u64,
    },
}

/// `entry 7`, or words for a record without one.
struct At(Option<u64>);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(entry) => write!(f, "entry {entry}"),
            None => f.write_str("not in the ledger"),
        }
    }
}

/// Which checkpoint.
struct Which(Option<Position>);

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(position) => write!(f, "the checkpoint {position}"),
            None => f.write_str("the checkpoint in the ledger's file"),
        }
    }
}

/// Findings, counted without bound and kept within one.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<Finding>,
    pub(super) total: u64,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.total += 1;
        if self.kept.len() < KEPT {
            self.kept.push(finding);
        }
    }
}
