//! What is derived from the batches: who may be offered what, which leases end when, what is in each inbox.
//!
//! Every change of a message takes it out, changes it and enters it again, so that what is derived never differs from what a
//! restart would derive.

use std::collections::{BTreeMap, BTreeSet};

use super::{Batch, Effects, Mailbox, Message, Phase, Totals};
use crate::{
    id::MessageType,
    member::Types,
    message::{OnDead, Place},
    time::Timestamp,
};

/// A batch, and how many of its messages have not been delivered.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) batch: Batch,
    pub(super) open: u32,
    pub(super) dead: u32,
}

/// What waits for a partner.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    /// What may be offered, by its type: what nobody takes is not searched by those who take something else, however much it is.
    pub(super) waiting: BTreeMap<MessageType, Waiting>,
    pub(super) dead: BTreeSet<Place>,
    /// How many messages of each batch have not ended.
    pub(super) open: BTreeMap<u64, u32>,
    pub(super) totals: Totals,
}

/// What may be offered of one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    ready: BTreeSet<Place>,
    delayed: BTreeSet<(Timestamp, Place)>,
}

impl Inbox {
    /// What may be offered by `now` to whoever takes these types: what was returned first, then in the order of acceptance.
    pub(super) fn offerable(&self, now: Timestamp, types: &Types) -> impl Iterator<Item = Place> {
        let taken = self.waiting.iter().filter(|(name, _)| types.take(name)).map(|(_, waiting)| waiting);
        let delayed = taken.clone().map(move |waiting| waiting.delayed.iter().take_while(move |(due, _)| *due <= now));
        let due = in_order(delayed).map(|(_, place)| *place);
        due.chain(in_order(taken.map(|waiting| waiting.ready.iter())).copied())
    }
}

/// What several sequences have, each in order, as one in order.
fn in_order<T: Ord>(sequences: impl Iterator<Item = impl Iterator<Item = T>>) -> impl Iterator<Item = T> {
    let mut heads: Vec<_> = sequences.filter_map(|mut rest| rest.next().map(|head| (head, rest))).collect();
    std::iter::from_fn(move || {
        let first = (0..heads.len()).min_by(|one, other| heads[*one].0.cmp(&heads[*other].0))?;
        match heads[first].1.next() {
            Some(next) => Some(std::mem::replace(&mut heads[first].0, next)),
            None => Some(heads.swap_remove(first).0),
        }
    })
}

impl Mailbox {
    pub(super) fn is_first(&self, place: Place, message: &Message) -> bool {
        let Some(order) = message.order else { return true };
        // Out of order is what was redriven after its key had gone on without it.
        self.orders.get(&order).is_none_or(|waiting| waiting.first() == Some(&place) || !waiting.contains(&place))
    }

    pub(super) fn enter_order(&mut self, place: Place) {
        let Some((batch, message)) = self.message(place) else { return };
        let gone_on = match message.phase {
            Phase::Delivered { .. } => true,
            Phase::Dead { .. } => batch.terms.on_dead == OnDead::Frees,
            Phase::Waiting { .. } | Phase::Offered { .. } => message.redriven && batch.terms.on_dead == OnDead::Frees,
        };
        if let (Some(order), false) = (message.order, gone_on) {
            self.orders.entry(order).or_default().insert(place);
        }
    }

    pub(super) fn leave_order(&mut self, place: Place, time: Timestamp, effects: &mut Effects) {
        let Some(order) = self.message(place).and_then(|(_, message)| message.order) else { return };
        let Some(waiting) = self.orders.get_mut(&order) else { return };
        if waiting.first() != Some(&place) {
            waiting.remove(&place);
            return;
        }
        waiting.remove(&place);
        let Some(first) = waiting.first().copied() else {
            self.orders.remove(&order);
            return;
        };
        // It was not among those that may be offered: now it is.
        self.unindex(first);
        self.index(first, time);
        if let Some((batch, message)) = self.message(first) {
            effects.woken.insert(batch.recipient_of(message).clone());
        }
    }

    /// Enters a message into what is derived from it.
    pub(super) fn index(&mut self, place: Place, time: Timestamp) {
        self.enter(place, time, Way::In);
    }

    /// Takes it out again: to be done before it changes.
    pub(super) fn unindex(&mut self, place: Place) {
        self.enter(place, Timestamp::default(), Way::Out);
    }

    fn enter(&mut self, place: Place, time: Timestamp, way: Way) {
        let Some((_, message)) = self.message(place) else { return };
        let first = self.is_first(place, message);
        let live = self.batches.get_mut(&place.offset).expect("it has the message");
        let (batch, message) = (&live.batch, live.batch.message(place.item).expect("it was found"));
        let recipient = batch.recipient_of(message);
        if !self.inboxes.contains_key(recipient) {
            self.inboxes.insert(recipient.clone(), Inbox::default());
        }
        let inbox = self.inboxes.get_mut(recipient).expect("it was made");
        match &message.phase {
            Phase::Waiting { due } if first => {
                let waiting = inbox.waiting.entry(batch.terms.message_type.clone()).or_default();
                match way {
                    Way::In if *due > time => drop(waiting.delayed.insert((*due, place))),
                    Way::In => drop(waiting.ready.insert(place)),
                    Way::Out => {
                        waiting.delayed.remove(&(*due, place));
                        waiting.ready.remove(&place);
                    }
                }
            }
            Phase::Offered { until, .. } => way.set(&mut self.leases, (*until, place)),
            Phase::Dead { .. } => {
                way.set(&mut inbox.dead, place);
                way.set(&mut self.died, (message.died_in().unwrap_or_default(), place));
            }
            Phase::Waiting { .. } | Phase::Delivered { .. } => {}
        }
        match message.phase {
            Phase::Waiting { .. } | Phase::Offered { .. } => {
                way.set(&mut self.expiring, (message.expires, place));
                way.count(&mut inbox.totals, message.size_bytes);
                way.count_of(&mut inbox.open, place.offset);
                if !self.sent.contains_key(&batch.sender) {
                    self.sent.insert(batch.sender.clone(), Totals::default());
                }
                way.count(self.sent.get_mut(&batch.sender).expect("it was made"), message.size_bytes);
                way.step(&mut live.open);
            }
            Phase::Dead { .. } => way.step(&mut live.dead),
            Phase::Delivered { .. } => {}
        }
    }

    fn forget_at(&self, offset: u64) -> Option<(Timestamp, u64)> {
        let live = self.batches.get(&offset).filter(|live| live.open == 0)?;
        live.batch.forget_at().map(|at| (at, offset))
    }

    pub(super) fn forget_later(&mut self, offset: u64) {
        let entry = self.forget_at(offset);
        self.forgetting.extend(entry);
    }

    pub(super) fn forget_no_more(&mut self, offset: u64) {
        if let Some(entry) = self.forget_at(offset) {
            self.forgetting.remove(&entry);
        }
    }
}

/// Whether a message enters what is derived from it, or leaves.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Way {
    fn set<T: Ord>(self, set: &mut BTreeSet<T>, entry: T) {
        match self {
            Self::In => drop(set.insert(entry)),
            Self::Out => drop(set.remove(&entry)),
        }
    }

    fn count(self, totals: &mut Totals, size_bytes: u32) {
        match self {
            Self::In => {
                totals.messages += 1;
                totals.bytes += u64::from(size_bytes);
            }
            Self::Out => {
                totals.messages -= 1;
                totals.bytes -= u64::from(size_bytes);
            }
        }
    }

    fn count_of(self, counts: &mut BTreeMap<u64, u32>, key: u64) {
        match self {
            Self::In => *counts.entry(key).or_default() += 1,
            Self::Out => {
                let left = counts.get_mut(&key).expect("it was counted");
                *left -= 1;
                if *left == 0 {
                    counts.remove(&key);
                }
            }
        }
    }

    fn step(self, count: &mut u32) {
        match self {
            Self::In => *count += 1,
            Self::Out => *count -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_offered_of_several_types_comes_in_one_order() {
        let place = |offset| Place { offset, item: 0 };
        let at = Timestamp::from_millis;
        let mut inbox = Inbox::default();
        for (name, ready, delayed) in
            [("a", [1, 4], [(7, 9), (30, 3)]), ("b", [2, 5], [(6, 8), (20, 7)]), ("c", [0, 6], [(8, 2), (9, 1)])]
        {
            let waiting = inbox.waiting.entry(name.parse().expect("valid")).or_default();
            waiting.ready.extend(ready.map(place));
            waiting.delayed.extend(delayed.map(|(due, offset)| (at(due), place(offset))));
        }
        let offerable = |types: &Types| inbox.offerable(at(10), types).map(|place| place.offset).collect::<Vec<_>>();
        assert_eq!(offerable(&Types::All), [8, 9, 2, 1, 0, 1, 2, 4, 5, 6]);
        let named = |names: &[&str]| Types::named(names.iter().map(|name| name.parse().expect("valid")).collect());
        assert_eq!(offerable(&named(&["a", "b"])), [8, 9, 1, 2, 4, 5]);
        assert_eq!(offerable(&named(&["c"])), [2, 1, 0, 6]);
        assert_eq!(offerable(&named(&["d"])), [0; 0]);
    }
}
