//! The ledger's file, read entry by entry past any damage: the leaf that is stored, and the hash that the tree has for
//! it.

use std::{collections::VecDeque, ops::Range};

use airut_domain::{keys::Digest, merkle::leaf_hash, partition::Position};

use super::finding::{Finding, Findings};
use crate::{
    leaf,
    store::{Reader, RowFault, State, StoreError, StoredEntry},
    tree::TileId,
};

/// How many rows are in memory at once.
const ROWS: usize = 1024;
/// How many indexes after a damaged row are tried one by one, before the rest is given up.
const TRIES: u64 = 100_000;

/// See the module.
pub(super) struct Entries {
    reader: Reader,
    state: State,
    rows: VecDeque<StoredEntry>,
    /// Where to go on reading rows; none when there are no more.
    read_on: Option<u64>,
    /// Entries that can't be read.
    unreadable: Range<u64>,
    /// The tile of leaf hashes at hand.
    tile: Option<(TileId, Vec<Digest>)>,
}

/// What the ledger has of an entry.
#[derive(Default)]
pub(super) struct Kept {
    /// Its row.
    pub(super) row: Option<StoredEntry>,
    /// The tree's hash of it.
    pub(super) hash: Option<Digest>,
}

impl Kept {
    /// The record that the entry is of: what its leaf says, if that is in the tree, or else the columns beside it.
    pub(super) fn position(&self) -> Option<Position> {
        let row = self.row.as_ref()?;
        let in_leaf = leaf::parse(&row.leaf).map(|leaf| leaf.position);
        if self.is_genuine() { in_leaf } else { row.position.or(in_leaf) }
    }

    /// Whether the leaf is the one that is in the tree.
    pub(super) fn is_genuine(&self) -> bool {
        self.row.as_ref().is_some_and(|row| self.hash == Some(leaf_hash(&row.leaf)))
    }
}

impl Entries {
    pub(super) fn new(reader: Reader) -> Result<Self, StoreError> {
        let state = reader.state()?;
        Ok(Self { reader, state, rows: VecDeque::new(), read_on: Some(0), unreadable: 0..0, tile: None })
    }

    /// The ledger's own row.
    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    /// The file.
    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether there is nothing more to be found, whatever size the ledger says that it has.
    pub(super) fn is_exhausted(&self) -> bool {
        self.rows.is_empty() && self.read_on.is_none()
    }

    /// What there is of an entry. To be asked for one entry after the other; nothing beyond the ledger's end.
    pub(super) fn keep(&mut self, index: u64, findings: &mut Findings) -> Result<Kept, StoreError> {
        if index >= self.state.size {
            return Ok(Kept::default());
        }
        let hash = self.hash(index, findings)?;
        let row = self.row(index, hash, findings)?;
        Ok(Kept { row, hash })
    }

    fn row(
        &mut self,
        index: u64,
        hash: Option<Digest>,
        findings: &mut Findings,
    ) -> Result<Option<StoredEntry>, StoreError> {
        if self.rows.len() < 2 {
            self.read_rows(index, findings)?;
        }
        if self.unreadable.contains(&index) {
            return Ok(None);
        }
        while let Some(row) = self.rows.front() {
            if row.index == index {
                return Ok(self.rows.pop_front());
            }
            // A row whose number was changed still lies between its neighbours, and has its leaf.
            let is_it = hash.is_none_or(|hash| hash == leaf_hash(&row.leaf));
            if is_it && self.rows.get(1).is_none_or(|after| after.index == index + 1) {
                findings.add(Finding::Misnumbered { entry: index, stored_as: row.index });
                return Ok(self.rows.pop_front());
            }
            if row.index > index {
                break;
            }
            self.rows.pop_front();
        }
        findings.add(Finding::EntryMissing { entry: index });
        Ok(None)
    }

    fn read_rows(&mut self, index: u64, findings: &mut Findings) -> Result<(), StoreError> {
        let Some(from) = self.read_on else { return Ok(()) };
        let (mut rows, outcome) = self.reader.rows(from, ROWS);
        match outcome {
            Ok(()) if rows.len() < ROWS => self.read_on = None,
            Ok(()) => {
                // The last one's number could be wrong, and lead far away: it is read again.
                rows.pop();
                self.read_on = Some(behind(from, &rows));
            }
            Err(RowFault::Unreadable(error)) => return Err(error.into()),
            Err(RowFault::Damaged) => {
                let first = behind(from, &rows).max(index);
                self.read_on = self.readable_after(first)?;
                let end = self.read_on.unwrap_or(self.state.size).max(first + 1);
                self.unreadable = first..end;
                findings.add(Finding::EntriesUnreadable { first, last: end - 1 });
            }
        }
        self.rows.extend(rows);
        Ok(())
    }

    /// The next entry after a damaged one whose row can be read.
    fn readable_after(&self, damaged: u64) -> Result<Option<u64>, StoreError> {
        for index in (damaged + 1..self.state.size).take(usize::try_from(TRIES).unwrap_or(usize::MAX)) {
            match self.reader.rows(index, 1) {
                (rows, Ok(())) if !rows.is_empty() => return Ok(Some(index)),
                (_, Ok(()) | Err(RowFault::Damaged)) => {}
                (_, Err(RowFault::Unreadable(error))) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The tree's hash of an entry.
    fn hash(&mut self, index: u64, findings: &mut Findings) -> Result<Option<Digest>, StoreError> {
        let tile = TileId { level: 0, index: index >> 8 };
        if self.tile.as_ref().is_none_or(|(at, _)| *at != tile) {
            self.tile = Some((tile, self.tile(tile, findings)?));
        }
        let place = usize::try_from(index & 255).expect("below 256");
        Ok(self.tile.as_ref().and_then(|(_, hashes)| hashes.get(place).copied()))
    }

    /// The hashes of a tile; a finding when they are not as many as the ledger's size demands.
    pub(super) fn tile(&self, tile: TileId, findings: &mut Findings) -> Result<Vec<Digest>, StoreError> {
        let stored = match self.reader.tile(tile) {
            Ok(stored) => stored.unwrap_or_default(),
            Err(RowFault::Damaged) => Vec::new(),
            Err(RowFault::Unreadable(error)) => return Err(error.into()),
        };
        let (hashes, rest) = stored.as_chunks();
        let hashes: Vec<Digest> = hashes.iter().map(|hash| Digest(*hash)).collect();
        let complete = self.state.size >> (8 * u32::from(tile.level));
        let expected = complete.saturating_sub(tile.index << 8).min(256);
        if hashes.len() as u64 != expected || !rest.is_empty() {
            let (first, last) = (tile.entries_below(0).start, tile.entries_below(255).end - 1);
            findings.add(Finding::TileDamaged { level: tile.level, index: tile.index, first, last });
        }
        Ok(hashes)
    }
}

/// Where to go on behind these rows, which were read from an index on. Damaged numbers among them do not count.
fn behind(from: u64, rows: &[StoredEntry]) -> u64 {
    let ascending = rows.is_sorted_by(|one, next| one.index < next.index);
    let plausible = |row: &&StoredEntry| ascending || row.index < from + 4 * ROWS as u64;
    rows.iter().filter(plausible).map(|row| row.index.saturating_add(1)).max().unwrap_or(from + rows.len() as u64)
}
