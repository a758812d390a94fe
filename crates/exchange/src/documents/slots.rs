//! How many documents may be on their way at once, each of which takes a few segments of memory, and which of them are being passed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use airut_domain::{id::PartnerId, partition::Position};

/// As many documents may be on their way through a gateway, in one direction.
const MOST: usize = 32;

/// As many of them may be one partner's.
const MOST_OF_ONE: usize = 8;

/// The documents that are on their way in one direction, by partner.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(Arc<Mutex<BTreeMap<PartnerId, usize>>>);

/// A document's place among them. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    partner: PartnerId,
}

impl Slots {
    /// A place, unless all are taken, or all that one partner may have.
    pub(crate) fn take(&self, partner: &PartnerId) -> Option<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= MOST || taken.get(partner).is_some_and(|own| *own >= MOST_OF_ONE) {
            return None;
        }
        *taken.entry(partner.clone()).or_default() += 1;
        Some(Slot { slots: self.clone(), partner: partner.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.partner) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.partner);
            }
        }
    }
}

/// Documents that this gateway lets pass just now: each is scanned once at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passing(Arc<Mutex<BTreeSet<Position>>>);

/// A document that passes. Others may let it pass when this is dropped.
#[derive(Debug)]
pub(crate) struct Passes(Passing, Position);

impl Passing {
    /// Begins, unless somebody is at it.
    pub(crate) fn begin(&self, document: Position) -> Option<Passes> {
        let mut passing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passing.insert(document).then(|| Passes(self.clone(), document))
    }
}

impl Drop for Passes {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_partner_does_not_take_all_the_places_and_each_is_given_back() {
        let slots = Slots::default();
        let partner = |number: usize| -> PartnerId { format!("county-{number}").parse().unwrap() };
        let mut taken: Vec<Slot> = (0..MOST_OF_ONE).map(|_| slots.take(&partner(0)).unwrap()).collect();
        assert!(slots.take(&partner(0)).is_none());
        taken.extend((MOST_OF_ONE..MOST).map(|number| slots.take(&partner(number)).unwrap()));
        assert!(slots.take(&partner(99)).is_none());
        taken.pop();
        drop(slots.take(&partner(99)).unwrap());
        drop(taken);
        assert!(slots.0.lock().unwrap().is_empty());
    }
}
