//! Lanes: what waits for the log, in order. What is for one lane is taken together when the record before it is decided, so that
//! a burst becomes few records, and a single message waits for nobody. Where many lanes are busy they take turns, and what gathers
//! meanwhile goes into fewer and larger records.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// As many have a record under way before others wait, each [`LONGEST_TURN`] at the most: a partition that the log is slow to write
/// holds up its own lanes, and not the others.
pub(crate) const ABREAST: usize = 4;
pub(crate) const LONGEST_TURN: Duration = Duration::from_millis(20);

/// What waits, by lane. A lane is there for as long as somebody drives along it.
#[derive(Debug)]
pub(crate) struct Lanes<K, W> {
    waiting: Mutex<BTreeMap<K, VecDeque<W>>>,
    turns: Semaphore,
}

impl<K, W> Default for Lanes<K, W> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(ABREAST) }
    }
}

/// Whoever drives along a lane. When it ends before the lane is idle, as by a panic, the lane is idle all the same: what waits is
/// abandoned, and who comes next drives anew.
pub(crate) struct Driver<'a, K: Ord + Clone, W> {
    lanes: &'a Lanes<K, W>,
    lane: &'a K,
    abandon: fn(W),
    is_idle: bool,
}

impl<'a, K: Ord + Clone, W> Driver<'a, K, W> {
    /// Waits for the lane's turn, and no longer than it must. To be held until its record is decided.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'a>> {
        tokio::time::timeout(LONGEST_TURN, self.lanes.turns.acquire()).await.ok()?.ok()
    }

    /// The next work of the lane, in order, for as long as `fits` says so, and at least one. When there is none the lane is idle.
    pub(crate) fn take(&mut self, fits: impl FnMut(&W) -> bool) -> Vec<W> {
        let taken = self.lanes.take(self.lane, fits);
        self.is_idle = taken.is_empty();
        taken
    }

    /// Puts work back to the front of the lane, in its order.
    pub(crate) fn put_back(&self, work: Vec<W>) {
        let mut lanes = self.lanes.lock();
        let waiting = lanes.entry(self.lane.clone()).or_default();
        work.into_iter().rev().for_each(|work| waiting.push_front(work));
    }
}

impl<K: Ord + Clone, W> Drop for Driver<'_, K, W> {
    fn drop(&mut self) {
        if !self.is_idle {
            let waiting = self.lanes.lock().remove(self.lane);
            waiting.into_iter().flatten().for_each(self.abandon);
        }
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
    /// Puts work at the end of a lane. Whoever finds it idle must [drive](Self::drive) along it until there is nothing to take.
    pub(crate) fn push(&self, lane: &K, work: impl IntoIterator<Item = W>) -> Lane {
        let mut lanes = self.lock();
        if let Some(waiting) = lanes.get_mut(lane) {
            waiting.extend(work);
            return Lane::Driven;
        }
        lanes.insert(lane.clone(), work.into_iter().collect());
        Lane::Idle
    }

    /// Drives along a lane that was found idle; `abandon` is told of what waits should that end too early.
    pub(crate) const fn drive<'a>(&'a self, lane: &'a K, abandon: fn(W)) -> Driver<'a, K, W> {
        Driver { lanes: self, lane, abandon, is_idle: false }
    }

    fn take(&self, lane: &K, mut fits: impl FnMut(&W) -> bool) -> Vec<W> {
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, VecDeque<W>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut driver = lanes.drive(&'a', |work| panic!("{work} is abandoned"));
        assert_eq!(driver.take(|work| *work < 3), [1, 2]);
        driver.put_back(vec![2]);
        assert_eq!(driver.take(|_| false), [2]);
        assert_eq!(driver.take(|_| true), [3]);
        assert!(driver.take(|_| true).is_empty());
        assert_eq!(lanes.push(&'a', [4]), Lane::Idle);
        drop(driver);
        assert_eq!(lanes.push(&'a', [5]), Lane::Driven, "another one drives along it by now");
    }

    #[test]
    fn what_a_driver_leaves_is_abandoned_and_the_next_one_begins_anew() {
        let lanes: Lanes<char, Box<dyn FnOnce()>> = Lanes::default();
        let told = std::rc::Rc::new(std::cell::Cell::new(0));
        let work = |number| -> Box<dyn FnOnce()> {
            let told = std::rc::Rc::clone(&told);
            Box::new(move || told.set(told.get() + number))
        };
        assert_eq!(lanes.push(&'a', [work(1), work(10)]), Lane::Idle);
        drop(lanes.drive(&'a', |work| work()).take(|_| false));
        assert_eq!(told.get(), 10, "the first was taken");
        assert_eq!(lanes.push(&'a', [work(100)]), Lane::Idle);
    }
}
