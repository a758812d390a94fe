//! What was read of the log and is not in the tree yet: leaves that wait for their place, and the order records that
//! give it.
//!
//! Bounded: who fills it asks [`Inbox::is_full`] first and then takes no more from the tail. It never leaves out a
//! record: offsets must follow each other without a gap, and a record that this build can not read is an error.

use std::collections::{BTreeMap, VecDeque};

use airut_domain::{
    id::Incarnation,
    partition::{Partition, Position, Topic},
    record::{Header, Kind, Order, Runs, Stored, leaf_bytes},
    time::Timestamp,
};
use airut_wire::record::{Unreadable, decode};

use crate::{
    order::{Fold, Segment, ordered_partitions},
    store::NewLeaf,
};

/// How much an inbox takes in, and gives out at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many leaves wait at most before no more is taken from the tail, which gives about a thousand at once.
    pub(crate) leaves: usize,
    /// How many of their bytes.
    pub(crate) leaf_bytes: usize,
    /// How many order records wait at most.
    pub(crate) orders: usize,
    /// How many leaves go into one transaction.
    pub(crate) batch_leaves: usize,
    /// How many of their bytes, or a single larger one.
    pub(crate) batch_bytes: usize,
}

impl Default for Bounds {
    /// Those of a ledger that takes in ten thousand records a second, in some 40 MiB.
    fn default() -> Self {
        Self { leaves: 50_000, leaf_bytes: 32 << 20, orders: 4096, batch_leaves: 10_000, batch_bytes: 8 << 20 }
    }
}

/// Why a record could not be taken in. The ledger must stop: it can not know what it leaves out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TakeError {
    /// The offset is not the next one.
    #[error("the log gives {found} where {expected} comes next")]
    Gap {
        /// What should have come.
        expected: u64,
        /// What came.
        found: Position,
    },
    /// This build does not know what the record says.
    #[error("the record {position} is {error}")]
    Unreadable {
        /// Its place.
        position: Position,
        /// Why.
        error: Unreadable,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    bounds: Bounds,
    lanes: BTreeMap<Partition, Lane>,
    leaves: usize,
    bytes: usize,
    orders: VecDeque<OrderRecord>,
    next_order: u64,
    /// Who wrote the newest record of `airut.order`.
    last_author: Option<Incarnation>,
}

/// The records of one partition.
#[derive(Debug)]
struct Lane {
    /// The offset that comes next.
    next: u64,
    leaves: VecDeque<NewLeaf>,
}

/// A record of `airut.order`.
#[derive(Debug)]
struct OrderRecord {
    offset: u64,
    stamp: Timestamp,
    order: Order,
}

/// What the order records put next.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The next leaves of the tree.
    pub(crate) leaves: Vec<NewLeaf>,
    /// The checkpoints that were passed.
    pub(crate) checkpoints: Vec<Passed>,
    /// Why no more.
    pub(crate) then: Then,
}

/// A checkpoint of `airut.order`, unverified.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// The record's offset.
    pub(crate) offset: u64,
    /// When the log took it.
    pub(crate) stamp: Timestamp,
    /// The note.
    pub(crate) note: String,
    /// How many of the leaves gathered with it come before it.
    pub(crate) leaves_before: usize,
}

/// Why no more was gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Every order record has been applied.
    Done,
    /// It is enough for one transaction.
    Full,
    /// These records have been ordered and not come yet.
    Missing(Segment),
}

impl Inbox {
    /// An empty one that goes on where the fold stands.
    pub(crate) fn new(fold: &Fold, bounds: Bounds) -> Self {
        let lane = |partition| (partition, Lane { next: fold.end(partition), leaves: VecDeque::new() });
        let lanes = ordered_partitions().map(lane).collect();
        Self { bounds, lanes, leaves: 0, bytes: 0, orders: VecDeque::new(), next_order: fold.next, last_author: None }
    }

    /// Where to go on reading in each partition.
    pub(crate) fn positions(&self) -> BTreeMap<Partition, u64> {
        let mut positions: BTreeMap<_, _> =
            self.lanes.iter().map(|(partition, lane)| (*partition, lane.next)).collect();
        positions.insert(Partition::only(Topic::Order), self.next_order);
        positions
    }

    /// Up to where the partition was taken in.
    pub(crate) fn next(&self, partition: Partition) -> u64 {
        self.lanes.get(&partition).map_or(self.next_order, |lane| lane.next)
    }

    /// Whether no more is to be taken from the tail.
    pub(crate) fn is_full(&self) -> bool {
        let Bounds { leaves, leaf_bytes, orders, .. } = self.bounds;
        self.leaves >= leaves || self.bytes >= leaf_bytes || self.orders.len() >= orders
    }

    /// Whether every order record that came has been applied.
    pub(crate) fn orders_are_applied(&self) -> bool {
        self.orders.is_empty()
    }

    /// The stamp of the oldest leaf that waits.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.lanes.values().filter_map(|lane| Some(lane.leaves.front()?.stamp)).min()
    }

    /// Takes in a record. One that was taken in before is passed over, since it can come both from the tail and from a
    /// read.
    pub(crate) fn take(&mut self, record: &Stored) -> Result<(), TakeError> {
        let Position { partition, offset } = record.position;
        let expected = self.next(partition);
        if offset < expected {
            return Ok(());
        }
        if offset > expected {
            return Err(TakeError::Gap { expected, found: record.position });
        }
        let unreadable = |error| TakeError::Unreadable { position: record.position, error };
        let Header { kind, author, .. } = decode(&record.header).map_err(unreadable)?;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.next += 1;
            if kind.is_leaf() {
                let bytes = leaf_bytes(record.position, record.stamp, &record.header);
                self.leaves += 1;
                self.bytes += bytes.len();
                lane.leaves.push_back(NewLeaf { position: record.position, stamp: record.stamp, bytes });
            }
        } else {
            self.next_order += 1;
            // Anything else in `airut.order` says nothing about the order.
            if let Kind::Order(order) = kind {
                self.orders.push_back(OrderRecord { offset, stamp: record.stamp, order });
                self.last_author = Some(author);
            }
        }
        Ok(())
    }

    /// Who wrote the newest record of `airut.order` that came; none while none has.
    pub(crate) fn last_author(&self) -> Option<&Incarnation> {
        self.last_author.as_ref()
    }

    /// Whether a leaf has come that lies beyond `ordered`.
    pub(crate) fn has_leaf_beyond(&self, ordered: &Fold) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|(partition, lane)| {
            lane.leaves.back().is_some_and(|leaf| leaf.position.offset >= ordered.end(*partition))
        })
    }

    /// The run that orders all that has come beyond `ordered`, leaves or not.
    pub(crate) fn run_beyond(&self, ordered: &Fold) -> Runs {
        let beyond = self.lanes.iter().filter(|(partition, lane)| lane.next > ordered.end(**partition));
        Runs { runs: beyond.map(|(partition, lane)| (*partition, lane.next)).collect() }
    }

    /// Takes out what the order records put next, up to a bound, and moves the fold along.
    pub(crate) fn gather(&mut self, fold: &mut Fold) -> Gathered {
        let mut gathered = Gathered { leaves: Vec::new(), checkpoints: Vec::new(), then: Then::Done };
        let mut room = self.bounds.batch_bytes;
        while let Some(OrderRecord { offset, stamp, order }) = self.orders.pop_front() {
            match &order {
                Order::Run(run) => {
                    let then = self.gather_run(run, fold, &mut gathered.leaves, &mut room);
                    if then != Then::Done {
                        // Half taken in: what is left of it comes next.
                        self.orders.push_front(OrderRecord { offset, stamp, order });
                        gathered.then = then;
                        return gathered;
                    }
                }
                Order::Checkpoint(note) => {
                    let leaves_before = gathered.leaves.len();
                    gathered.checkpoints.push(Passed { offset, stamp, note: note.clone(), leaves_before });
                }
            }
            fold.applied(offset);
        }
        gathered
    }

    fn gather_run(&mut self, run: &Runs, fold: &mut Fold, leaves: &mut Vec<NewLeaf>, room: &mut usize) -> Then {
        for segment in fold.segments(run) {
            let lane = self.lanes.get_mut(&segment.partition).expect("a segment is of an ordered partition");
            while lane.leaves.front().is_some_and(|leaf| leaf.position.offset < segment.to) {
                if leaves.len() >= self.bounds.batch_leaves || *room == 0 {
                    return Then::Full;
                }
                let leaf = lane.leaves.pop_front().expect("looked at before");
                fold.take(segment.partition, leaf.position.offset + 1);
                self.leaves -= 1;
                self.bytes -= leaf.bytes.len();
                *room = room.saturating_sub(leaf.bytes.len());
                leaves.push(leaf);
            }
            fold.take(segment.partition, lane.next.min(segment.to));
            if lane.next < segment.to {
                return Then::Missing(Segment { from: lane.next, ..segment });
            }
        }
        Then::Done
    }
}

#[cfg(test)]
mod tests {
    use airut_domain::{
        member,
        record::{Header, RULES},
    };
    use proptest::prelude::*;

    use super::*;

    fn stored(partition: Partition, offset: u64, kind: Kind) -> Stored {
        let author = "ledger-1".parse().unwrap();
        let header = Header { rules: RULES, nonce: [0; 16], author, body: None, kind };
        let position = Position { partition, offset };
        let stamp = Timestamp::from_millis(i64::try_from(offset).unwrap());
        let header = airut_wire::record::encode(&header);
        Stored { position, stamp, header, body: Vec::new(), traceparent: String::new() }
    }

    fn member(offset: u64) -> Stored {
        let gateway = "gateway-1".parse().unwrap();
        let event = if offset % 3 == 1 { member::Event::Heartbeat(gateway) } else { member::Event::Left(gateway) };
        stored(Partition::only(Topic::Members), offset, Kind::Member(event))
    }

    fn refusal(number: u32, offset: u64) -> Stored {
        // What it says does not matter, only that it is a leaf.
        let left = Kind::Member(member::Event::Left("gateway-1".parse().unwrap()));
        stored(Partition { topic: Topic::Refusals, number }, offset, left)
    }

    fn run(offset: u64, runs: Vec<(Partition, u64)>) -> Stored {
        stored(Partition::only(Topic::Order), offset, Kind::Order(Order::Run(Runs { runs })))
    }

    /// Everything that comes out when the records come in by turns of the partitions.
    fn folded(lanes: &[Vec<Stored>], turns: &[usize], bounds: Bounds) -> (Vec<NewLeaf>, Fold) {
        let mut fold = Fold::default();
        let mut inbox = Inbox::new(&fold, bounds);
        let mut left: Vec<_> = lanes.iter().map(|lane| lane.iter()).collect();
        let mut leaves = Vec::new();
        let rest = (0..lanes.len()).flat_map(|lane| vec![lane; lanes[lane].len()]);
        for turn in turns.iter().copied().chain(rest) {
            let Some(record) = left[turn].next() else { continue };
            inbox.take(record).unwrap();
            inbox.take(record).unwrap();
            loop {
                let gathered = inbox.gather(&mut fold);
                assert!(gathered.leaves.len() <= bounds.batch_leaves);
                leaves.extend(gathered.leaves);
                if gathered.then != Then::Full {
                    break;
                }
            }
        }
        (leaves, fold)
    }

    #[test]
    fn a_gap_and_a_record_of_a_newer_build_are_errors() {
        let mut inbox = Inbox::new(&Fold::default(), Bounds::default());
        inbox.take(&member(0)).unwrap();
        assert!(matches!(inbox.take(&member(2)), Err(TakeError::Gap { expected: 1, .. })));
        let unknown = Stored { header: vec![8, 99], ..member(1) };
        assert!(matches!(inbox.take(&unknown), Err(TakeError::Unreadable { .. })));
    }

    #[test]
    fn it_is_full_at_its_bound_and_a_run_of_it_makes_room() {
        let bounds = Bounds { leaves: 3, ..Bounds::default() };
        let mut fold = Fold::default();
        let mut inbox = Inbox::new(&fold, bounds);
        (0..3).for_each(|offset| inbox.take(&refusal(0, offset)).unwrap());
        assert!(inbox.is_full() && inbox.has_leaf_beyond(&fold));
        assert_eq!(inbox.oldest(), Some(Timestamp::from_millis(0)));
        let order = inbox.run_beyond(&fold);
        inbox.take(&run(0, order.runs)).unwrap();
        assert_eq!(inbox.gather(&mut fold).leaves.len(), 3);
        assert!(!inbox.is_full() && !inbox.has_leaf_beyond(&fold));
        assert_eq!((inbox.oldest(), fold.next), (None, 1));
    }

    #[test]
    fn heartbeats_alone_ask_for_no_run() {
        let mut inbox = Inbox::new(&Fold::default(), Bounds::default());
        let beat = Kind::Member(member::Event::Heartbeat("gateway-1".parse().unwrap()));
        let members = Partition::only(Topic::Members);
        (0..5).for_each(|offset| inbox.take(&stored(members, offset, beat.clone())).unwrap());
        assert!(!inbox.has_leaf_beyond(&Fold::default()));
        // With the next leaf they are ordered along, so that nobody reads them again.
        inbox.take(&refusal(1, 0)).unwrap();
        assert!(inbox.has_leaf_beyond(&Fold::default()));
        assert_eq!(inbox.run_beyond(&Fold::default()).runs.last(), Some(&(members, 5)));
    }

    proptest! {
        #[test]
        fn however_the_records_come_in_the_same_order_comes_out(
            ends in proptest::collection::vec((0..3_usize, 0..20_u64), 1..12),
            turns in proptest::collection::vec(0..4_usize, 0..60),
            others in proptest::collection::vec(0..4_usize, 0..60),
            batch_leaves in 1..9_usize,
        ) {
            let mut lanes = vec![
                (0..20).map(member).collect(),
                (0..20).map(|offset| refusal(0, offset)).collect(),
                (0..20).map(|offset| refusal(3, offset)).collect::<Vec<_>>(),
            ];
            let partitions: Vec<Partition> = lanes.iter().map(|lane| lane[0].position.partition).collect();
            let orders = (0..).zip(&ends).map(|(at, (lane, end))| run(at, vec![(partitions[*lane], *end)]));
            lanes.push(orders.collect());
            let tiny = Bounds { batch_leaves, ..Bounds::default() };
            prop_assert_eq!(folded(&lanes, &turns, Bounds::default()), folded(&lanes, &others, tiny));
        }
    }
}
