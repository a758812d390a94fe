//! The fold of `airut.order`: which leaf comes next, and how far that is settled. Pure and total.
//!
//! Any ledger that folds the same records comes to the same order. A run says only up to where a partition is taken
//! into the tree, so of two ledgers that order at the same time the first in the log wins and the other's run adds what
//! is left: a run that ends where the fold already stands, or before, is void. For the same reason a run that was half
//! taken in before a restart is simply applied again.

use std::collections::BTreeMap;

use airut_domain::{
    partition::{Partition, Topic},
    record::Runs,
};

/// Where the fold stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    /// The offset in `airut.order` of the next record to apply.
    pub(crate) next: u64,
    /// Up to where each partition is in the tree, not included. A partition that is not here is not in it at all.
    pub(crate) ends: BTreeMap<Partition, u64>,
}

/// The next records of one partition to be taken into the tree; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The partition.
    pub(crate) partition: Partition,
    /// The first offset.
    pub(crate) from: u64,
    /// The offset after the last.
    pub(crate) to: u64,
}

impl Fold {
    /// Up to where the partition is in the tree, not included.
    pub(crate) fn end(&self, partition: Partition) -> u64 {
        self.ends.get(&partition).copied().unwrap_or(0)
    }

    /// What of the run is not in the tree yet, in its order.
    pub(crate) fn segments(&self, run: &Runs) -> Vec<Segment> {
        let mut after = self.clone();
        let mut segments = Vec::new();
        for &(partition, to) in &run.runs {
            let from = after.end(partition);
            if is_ordered(partition) && to > from {
                segments.push(Segment { partition, from, to });
                after.take(partition, to);
            }
        }
        segments
    }

    /// The partition's records are in the tree up to `to`.
    pub(crate) fn take(&mut self, partition: Partition, to: u64) {
        self.ends.insert(partition, to);
    }

    /// Goes on to wherever the other has gone further.
    pub(crate) fn join(&mut self, other: &Self) {
        for (partition, end) in &other.ends {
            let own = self.ends.entry(*partition).or_default();
            *own = (*own).max(*end);
        }
        self.next = self.next.max(other.next);
    }

    /// The record of `airut.order` at this offset has been applied whole.
    pub(crate) const fn applied(&mut self, offset: u64) {
        self.next = offset + 1;
    }
}

/// The partitions whose records the ledger orders: all but its own.
pub(crate) fn ordered_partitions() -> impl Iterator<Item = Partition> {
    Partition::all().filter(|partition| is_ordered(*partition))
}

/// Whether the partition exists and its records are ordered.
fn is_ordered(partition: Partition) -> bool {
    partition.topic != Topic::Order && partition.number < partition.topic.partitions()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queries(number: u32) -> Partition {
        Partition { topic: Topic::Queries, number }
    }

    fn apply(fold: &mut Fold, run: &Runs) -> Vec<Segment> {
        let segments = fold.segments(run);
        segments.iter().for_each(|segment| fold.take(segment.partition, segment.to));
        segments
    }

    #[test]
    fn a_run_adds_what_is_left_of_it() {
        let mut fold = Fold::default();
        let run = |runs: &[(Partition, u64)]| Runs { runs: runs.to_vec() };
        let segment = |number, from, to| Segment { partition: queries(number), from, to };
        assert_eq!(apply(&mut fold, &run(&[(queries(1), 5), (queries(0), 2)])), [segment(1, 0, 5), segment(0, 0, 2)]);
        assert_eq!(apply(&mut fold, &run(&[(queries(0), 1), (queries(1), 5)])), []);
        assert_eq!(apply(&mut fold, &run(&[(queries(0), 4), (queries(0), 6)])), [segment(0, 2, 4), segment(0, 4, 6)]);
    }

    #[test]
    fn a_run_of_the_order_itself_or_of_no_partition_is_void() {
        let run = Runs { runs: vec![(Partition::only(Topic::Order), 9), (queries(12), 9)] };
        assert_eq!(Fold::default().segments(&run), []);
    }

    proptest! {
        #[test]
        fn a_run_half_taken_continues_where_it_stopped(
            runs in proptest::collection::vec((0..4_u32, 0..50_u64), 0..12), taken in 0..60_u64,
        ) {
            let run = Runs { runs: runs.into_iter().map(|(number, end)| (queries(number), end)).collect() };
            let flat = |segments: Vec<Segment>| -> Vec<(Partition, u64)> {
                segments.iter().flat_map(|s| (s.from..s.to).map(|offset| (s.partition, offset))).collect()
            };
            let whole = flat(Fold::default().segments(&run));
            let mut half = Fold::default();
            let (before, after) = whole.split_at(whole.len().min(taken as usize));
            before.iter().for_each(|(partition, offset)| half.take(*partition, offset + 1));
            prop_assert_eq!(flat(half.segments(&run)), after);
        }
    }
}
