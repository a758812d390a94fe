//! The tree of RFC 6962 in tiles, pure.
//!
//! A tile holds up to 256 neighbouring hashes of one level, as C2SP tlog-tiles cuts a tree: tile `(0, n)` the leaf
//! hashes `256 n ..`, tile `(1, n)` the roots of 256 full tiles of level 0, and so on. A proof reads parts of a few
//! tiles instead of the tree, and a full tile never changes again. Only the right edge, one unfinished tile a level, is
//! kept in memory.

use std::ops::Range;

use airut_domain::{
    keys::Digest,
    merkle::{self, node_hash},
};

/// How many hashes a full tile holds.
const WIDTH: usize = 1 << HEIGHT;

/// How many levels of the tree a tile spans.
const HEIGHT: u32 = 8;

/// The name of a tile: its level, counted from the leaves, and its place in the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TileId {
    /// 0 for leaf hashes. At most 7: a tree has fewer than 2^64 leaves.
    pub(crate) level: u8,
    /// Counted from 0, from the left. Below 2^56.
    pub(crate) index: u64,
}

impl TileId {
    /// The entries that the hash at `place` of this tile stands for.
    pub(crate) fn entries_below(self, place: usize) -> Range<u64> {
        let span = HEIGHT * u32::from(self.level);
        let hash = (self.index << HEIGHT) + place as u64;
        hash << span..(hash + 1) << span
    }
}

/// The right edge of a tree: all that is needed to append to it and to know its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    /// The unfinished tile of each level, with fewer than 256 hashes.
    levels: Vec<Vec<Digest>>,
}

impl Edge {
    /// The edge of a tree with `size` leaves, from its tiles.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn load<E>(
        size: u64,
        mut read: impl FnMut(TileId, Range<usize>) -> Result<Vec<Digest>, E>,
    ) -> Result<Self, E> {
        let mut levels = Vec::new();
        let mut hashes = size;
        while hashes > 0 {
            let level = u8::try_from(levels.len()).expect("8 levels hold every u64");
            let width = usize::try_from(hashes % WIDTH as u64).expect("below 256");
            let tile = TileId { level, index: hashes >> HEIGHT };
            levels.push(if width == 0 { Vec::new() } else { read(tile, 0..width)? });
            hashes >>= HEIGHT;
        }
        Ok(Self { size, levels })
    }

    /// How many leaves the tree has.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Tiles that it completes are put into `full`, the lowest first.
    pub(crate) fn push(&mut self, leaf: Digest, full: &mut Vec<(TileId, Vec<Digest>)>) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::with_capacity(WIDTH));
            }
            let tile = &mut self.levels[level];
            tile.push(hash);
            if tile.len() < WIDTH {
                return;
            }
            hash = merkle::root(tile);
            let done = std::mem::replace(tile, Vec::with_capacity(WIDTH));
            let level = u8::try_from(level).expect("8 levels hold every u64");
            full.push((TileId { level, index: self.tiles_before(level) - 1 }, done));
        }
    }

    /// The unfinished tiles that hold anything, the lowest first.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (TileId, &[Digest])> {
        (0..).zip(&self.levels).filter(|(_, tile)| !tile.is_empty()).map(|(level, tile)| {
            let id = TileId { level, index: self.tiles_before(level) };
            (id, tile.as_slice())
        })
    }

    /// The root of the tree; that of no leaves is SHA-256 of nothing.
    pub(crate) fn root(&self) -> Digest {
        // The widths of the unfinished tiles are the digits of the size, so cut into full subtrees they are the tree's
        // decomposition, the largest subtree first; the smallest ones are joined first.
        let mut subtrees = Vec::new();
        for tile in self.levels.iter().rev() {
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let (subtree, after) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(merkle::root(subtree));
                rest = after;
            }
        }
        subtrees.into_iter().rev().reduce(|right, left| node_hash(left, right)).unwrap_or_else(|| merkle::root(&[]))
    }

    fn tiles_before(&self, level: u8) -> u64 {
        self.size.checked_shr(HEIGHT * (u32::from(level) + 1)).unwrap_or(0)
    }
}

/// The root that the tree had with `size` leaves, read from the tiles of a tree that has at least as many. `read` gives
/// the hashes at these places of a tile, all of them.
///
/// # Errors
/// Those of `read`.
pub(crate) fn root_at<E>(
    size: u64,
    mut read: impl FnMut(TileId, Range<usize>) -> Result<Vec<Digest>, E>,
) -> Result<Digest, E> {
    if size == 0 { Ok(merkle::root(&[])) } else { range_root(0..size, &mut read) }
}

/// The inclusion path of the leaf at `index` in the tree of `size` leaves, the lowest hash first, as in RFC 6962
/// section
/// 2.1.1. `index` must be below `size`.
///
/// # Errors
/// Those of `read`.
pub(crate) fn path<E>(
    index: u64,
    size: u64,
    mut read: impl FnMut(TileId, Range<usize>) -> Result<Vec<Digest>, E>,
) -> Result<Vec<Digest>, E> {
    assert!(index < size, "a path leads from a leaf of the tree");
    let mut path = Vec::new();
    let mut range = 0..size;
    while range.end - range.start > 1 {
        let middle = split(&range);
        let (inside, beside) = if index < middle {
            (range.start..middle, middle..range.end)
        } else {
            (middle..range.end, range.start..middle)
        };
        path.push(range_root(beside, &mut read)?);
        range = inside;
    }
    path.reverse();
    Ok(path)
}

/// The root over a range of leaves as RFC 6962 splits a tree: its start is a multiple of the power of two that covers
/// it.
fn range_root<E>(
    range: Range<u64>,
    read: &mut impl FnMut(TileId, Range<usize>) -> Result<Vec<Digest>, E>,
) -> Result<Digest, E> {
    let count = range.end - range.start;
    if !count.is_power_of_two() {
        let middle = split(&range);
        return Ok(node_hash(range_root(range.start..middle, read)?, range_root(middle..range.end, read)?));
    }
    // A full subtree: its root follows from up to 128 neighbouring hashes of one tile.
    let (level, height) = (count.ilog2() / HEIGHT, count.ilog2() % HEIGHT);
    let first = range.start >> (HEIGHT * level);
    let place = usize::try_from(first % WIDTH as u64).expect("below 256");
    let tile = TileId { level: u8::try_from(level).expect("below 8"), index: first >> HEIGHT };
    Ok(merkle::root(&read(tile, place..place + (1 << height))?))
}

/// Where RFC 6962 splits a range of at least two leaves: after the greatest power of two that is less than all of them.
const fn split(range: &Range<u64>) -> u64 {
    range.start + (1 << (range.end - range.start - 1).ilog2())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use airut_domain::merkle::leaf_hash;
    use proptest::prelude::*;

    use super::*;

    /// A tree grown leaf by leaf, with its tiles in a map.
    #[derive(Default)]
    struct Grown {
        edge: Edge,
        leaves: Vec<Digest>,
        tiles: BTreeMap<TileId, Vec<Digest>>,
    }

    impl Grown {
        fn to(size: usize) -> Self {
            let mut grown = Self::default();
            (0..size).for_each(|_| grown.grow());
            grown.write_unfinished();
            grown
        }

        fn grow(&mut self) {
            let leaf = leaf_hash(&self.leaves.len().to_be_bytes());
            let mut full = Vec::new();
            self.edge.push(leaf, &mut full);
            self.tiles.extend(full);
            self.leaves.push(leaf);
        }

        fn write_unfinished(&mut self) {
            let unfinished: Vec<_> = self.edge.unfinished().map(|(id, tile)| (id, tile.to_vec())).collect();
            self.tiles.extend(unfinished);
        }

        fn read(&self) -> impl FnMut(TileId, Range<usize>) -> Result<Vec<Digest>, Infallible> {
            |id, range| Ok(self.tiles[&id][range].to_vec())
        }
    }

    #[test]
    fn the_edge_knows_the_root_at_every_size_over_several_tiles() {
        let mut grown = Grown::default();
        assert_eq!(grown.edge.root(), merkle::root(&[]));
        for _ in 0..1100 {
            grown.grow();
            assert_eq!(grown.edge.root(), merkle::root(&grown.leaves), "at {}", grown.leaves.len());
        }
    }

    #[test]
    fn a_tree_of_three_tile_levels_gives_every_root_and_path_at_its_borders() {
        let grown = Grown::to(65_536 + 700);
        assert_eq!(grown.tiles.keys().map(|id| id.level).max(), Some(2));
        for size in [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, 65_793, 66_236] {
            let leaves = &grown.leaves[..size];
            assert_eq!(root_at(size as u64, grown.read()), Ok(merkle::root(leaves)), "root at {size}");
            for index in [0, size / 2, size - 1] {
                let path = path(index as u64, size as u64, grown.read()).unwrap();
                assert_eq!(path, merkle::path(leaves, index), "path of {index} in {size}");
            }
        }
        assert_eq!(Edge::load(66_236, grown.read()), Ok(grown.edge.clone()));
    }

    #[test]
    fn a_hash_of_a_tile_names_the_entries_below_it() {
        assert_eq!(TileId { level: 0, index: 2 }.entries_below(3), 515..516);
        assert_eq!(TileId { level: 1, index: 1 }.entries_below(1), 257 * 256..258 * 256);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn roots_and_paths_are_those_of_the_naive_tree(
            size in 1..1500_usize, at in any::<prop::sample::Index>(), earlier in any::<prop::sample::Index>(),
        ) {
            let grown = Grown::to(size);
            let before = earlier.index(size) + 1;
            let index = at.index(before);
            let leaves = &grown.leaves[..before];
            prop_assert_eq!(root_at(before as u64, grown.read()), Ok(merkle::root(leaves)));
            prop_assert_eq!(path(index as u64, before as u64, grown.read()), Ok(merkle::path(leaves, index)));
            prop_assert_eq!(Edge::load(size as u64, grown.read()), Ok(grown.edge.clone()));
        }
    }
}
