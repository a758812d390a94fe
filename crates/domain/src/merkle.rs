//! Merkle trees as in RFC 6962, section 2.1: over the ledger's leaves, and over a batch of receipts.

use crate::keys::Digest;

/// The hash of a leaf's bytes.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], leaf])
}

/// The hash of an inner node.
pub fn node_hash(left: Digest, right: Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
}

/// The root over leaf hashes; that of no leaves is SHA-256 of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(root(left), root(right))
        }
    }
}

/// The hashes that lead from the leaf at `index` to the root, the lowest first. Empty when there is no such leaf.
pub fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut below, beside) =
        if index < middle { (path(left, index), root(right)) } else { (path(right, index - middle), root(left)) };
    below.push(beside);
    below
}

/// The root, and for each leaf the path to it: every hash is made once.
pub fn paths(leaves: &[Digest]) -> (Digest, Vec<Vec<Digest>>) {
    let mut paths: Vec<Vec<Digest>> = leaves.iter().map(|_| Vec::new()).collect();
    let root = climb(leaves, &mut paths);
    (root, paths)
}

fn climb(leaves: &[Digest], paths: &mut [Vec<Digest>]) -> Digest {
    if leaves.len() < 2 {
        return root(leaves);
    }
    let middle = split(leaves.len());
    let (left, right) = paths.split_at_mut(middle);
    let (left_root, right_root) = (climb(&leaves[..middle], left), climb(&leaves[middle..], right));
    left.iter_mut().for_each(|path| path.push(right_root));
    right.iter_mut().for_each(|path| path.push(left_root));
    node_hash(left_root, right_root)
}

/// The root that a path leads to from the leaf hash at `index` of a tree with `size` leaves; `None` when the path has not the
/// length that such a tree demands (RFC 9162, section 2.1.3.2).
pub fn root_from_path(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(*beside, hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, *beside);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// The greatest power of two below `size`, which is at least 2.
const fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn known_roots() {
        // RFC 6962's test vectors: the empty tree, and the leaf of no bytes.
        assert_eq!(root(&[]).to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let empty = leaf_hash(&[]);
        assert_eq!(empty.to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let two = root(&[empty, leaf_hash(&[0])]);
        assert_eq!(two.to_string(), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    }

    proptest! {
        #[test]
        fn every_path_leads_to_the_root_and_no_other_leaf_does(count in 1..80_usize, at in any::<prop::sample::Index>()) {
            let leaves = leaves(count);
            let index = at.index(count);
            let path = path(&leaves, index);
            let (together, all) = paths(&leaves);
            prop_assert_eq!((together, &all[index]), (root(&leaves), &path));
            let (index, size) = (index as u64, count as u64);
            let leaf = leaves[index as usize];
            prop_assert_eq!(root_from_path(leaf, index, size, &path), Some(root(&leaves)));
            prop_assert_ne!(root_from_path(leaf_hash(b"other"), index, size, &path), Some(root(&leaves)));
            if count > 1 {
                prop_assert_eq!(root_from_path(leaf, index, size, &path[1..]).filter(|r| *r == root(&leaves)), None);
            }
        }
    }
}
