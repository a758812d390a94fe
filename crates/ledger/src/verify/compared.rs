//! The tree computed again, entry by entry, from three witnesses: the log's record, the stored leaf, and the tree's
//! hash. Where one differs, the other two say which.

use std::{collections::BTreeMap, ops::Range};

use airut_domain::{
    keys::Digest,
    merkle::leaf_hash,
    partition::{Partition, Position},
};

use super::{
    entries::{Entries, Kept},
    finding::{Finding, Findings},
    records::Body,
};
use crate::{
    store::StoreError,
    tree::{Edge, TileId},
};

/// See the module.
pub(super) struct Compared {
    pub(super) entries: Entries,
    /// What the ledger has of the next entry, once it was looked at.
    kept: Option<Kept>,
    pub(super) tree: Edge,
    /// The roots at sizes that somebody asks for at the end.
    pub(super) awaited: BTreeMap<u64, Option<Digest>>,
    /// The last record of each partition in the ledger's file, and the first that is not in it.
    pub(super) last_in: BTreeMap<Partition, u64>,
    pub(super) first_out: BTreeMap<Partition, u64>,
    pub(super) findings: Findings,
}

impl Compared {
    pub(super) fn new(entries: Entries) -> Self {
        Self {
            entries,
            kept: None,
            tree: Edge::default(),
            awaited: BTreeMap::new(),
            last_in: BTreeMap::new(),
            first_out: BTreeMap::new(),
            findings: Findings::default(),
        }
    }

    /// The index of the next entry.
    pub(super) const fn next(&self) -> u64 {
        self.tree.size()
    }

    /// How many entries the ledger's file says that it has.
    pub(super) const fn stored(&self) -> u64 {
        self.entries.state().size
    }

    /// What the ledger has of the next entry.
    pub(super) fn kept(&mut self) -> Result<&Kept, StoreError> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => self.entries.keep(self.next(), &mut self.findings)?,
        };
        Ok(self.kept.insert(kept))
    }

    /// Passes over an entry whose row is missing: the tree alone remembers it.
    pub(super) fn pass(&mut self, hash: Option<Digest>) -> Result<(), StoreError> {
        self.kept = None;
        self.push(hash.unwrap_or_default())
    }

    /// Decides what the next entry's hash is, and which of its witnesses differ.
    pub(super) fn settle(&mut self, position: Position, record: Option<&[u8]>) -> Result<(), StoreError> {
        self.kept()?;
        let Kept { row, hash: in_tree } = self.kept.take().unwrap_or_default();
        let entry = self.next();
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
        if entry < self.stored() {
            self.last_in.insert(position.partition, position.offset);
        } else {
            self.first_out.entry(position.partition).or_insert(position.offset);
        }
        self.push(hash)
    }

    /// Appends a hash to the tree, and compares the tiles that it completes.
    fn push(&mut self, hash: Digest) -> Result<(), StoreError> {
        let mut full = Vec::new();
        self.tree.push(hash, &mut full);
        let (size, stored) = (self.next(), self.stored());
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

    fn check_tile(&mut self, tile: TileId, hashes: &[Digest]) -> Result<(), StoreError> {
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

    pub(super) fn check_body(&mut self, position: Position, entry: Option<u64>, body: Body) {
        match body {
            Body::Fits => {}
            Body::Differs => self.findings.add(Finding::Body { position, entry }),
        }
    }

    pub(super) fn damaged(&mut self, partition: Partition, offsets: Range<u64>) {
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
}
