//! Lanes: what waits for the log, in order. What is for one lane is taken together when the record before it is decided, so that
//! a burst becomes few records, and a single message waits for nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What waits, by lane. A lane is there for as long as somebody drives along it.
#[derive(Debug)]
pub(crate) struct Lanes<K, W>(Mutex<BTreeMap<K, VecDeque<W>>>);

impl<K, W> Default for Lanes<K, W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// What whoever has put something into a lane must see to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Nobody drives along it yet.
    Idle,
    /// Somebody does, and will come to it.
    Driven,
}

impl<K: Ord + Clone, W> Lanes<K, W> {
    /// Puts work at the end of a lane. Whoever finds it idle must drive along it until [`take`](Self::take) gives nothing.
    pub(crate) fn push(&self, lane: &K, work: impl IntoIterator<Item = W>) -> Lane {
        let mut lanes = self.lock();
        if let Some(waiting) = lanes.get_mut(lane) {
            waiting.extend(work);
            return Lane::Driven;
        }
        lanes.insert(lane.clone(), work.into_iter().collect());
        Lane::Idle
    }

    /// The next work of a lane, in order, for as long as `fits` says so, and at least one. When there is none the lane is idle.
    pub(crate) fn take(&self, lane: &K, mut fits: impl FnMut(&W) -> bool) -> Vec<W> {
        let mut lanes = self.lock();
        let Some(waiting) = lanes.get_mut(lane) else { return Vec::new() };
        let mut taken = Vec::new();
        while waiting.front().is_some_and(|work| fits(work) || taken.is_empty()) {
            taken.extend(waiting.pop_front());
        }
        if taken.is_empty() {
            lanes.remove(lane);
        }
        taken
    }

    /// Puts work back to the front of a lane, in its order.
    pub(crate) fn put_back(&self, lane: &K, work: Vec<W>) {
        let mut lanes = self.lock();
        let waiting = lanes.entry(lane.clone()).or_default();
        work.into_iter().rev().for_each(|work| waiting.push_front(work));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, VecDeque<W>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_driven_along_by_one_until_nothing_is_left() {
        let lanes: Lanes<char, i32> = Lanes::default();
        assert_eq!(lanes.push(&'a', [1, 2]), Lane::Idle);
        assert_eq!(lanes.push(&'a', [3]), Lane::Driven);
        assert_eq!(lanes.push(&'b', [9]), Lane::Idle);
        assert_eq!(lanes.take(&'a', |work| *work < 3), [1, 2]);
        lanes.put_back(&'a', vec![2]);
        assert_eq!(lanes.take(&'a', |_| false), [2]);
        assert_eq!(lanes.take(&'a', |_| true), [3]);
        assert!(lanes.take(&'a', |_| true).is_empty());
        assert_eq!(lanes.push(&'a', [4]), Lane::Idle);
    }
}
