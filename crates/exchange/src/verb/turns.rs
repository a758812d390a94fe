//! The turns of the messages of a stream: what follows a message that could not be recorded for sure, with the same ordering key,
//! waits until that one is sent again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use airut_domain::{
    id::MessageId,
    message::{Item, OrderKey},
};

use crate::planted::planted;

/// The ordering keys of a stream that wait for a message to be sent again.
#[derive(Debug, Default)]
pub(crate) struct Broken(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    /// The messages that have come, counted.
    turns: u64,
    /// For which message a key waits, and since which turn.
    waiting: BTreeMap<OrderKey, (u64, MessageId)>,
}

/// A message's turn in its stream.
#[derive(Debug)]
pub(crate) struct Turn {
    broken: Arc<Broken>,
    number: u64,
}

impl Turn {
    pub(crate) fn take(broken: Arc<Broken>) -> Self {
        let mut keys = broken.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.turns += 1;
        let number = keys.turns;
        drop(keys);
        Self { broken, number }
    }

    /// Whether the message has to wait for an earlier one of its key to be sent again.
    pub(crate) fn is_held_up(&self, item: &Item) -> bool {
        let Some(order) = item.order.filter(|_| !planted!(PredecessorForgotten)) else { return false };
        let mut keys = self.keys();
        match keys.waiting.get(&order) {
            Some((_, first)) if *first == item.id => {
                keys.waiting.remove(&order);
                false
            }
            // What came before the one that failed goes on: it may have waited for its record meanwhile.
            Some((since, _)) => *since < self.number,
            None => false,
        }
    }

    /// The message was not recorded for sure: those after it wait for it.
    pub(crate) fn fail(&self, order: Option<OrderKey>, id: &MessageId) {
        let Some(order) = order else { return };
        let mut keys = self.keys();
        let waits_longer = keys.waiting.get(&order).is_some_and(|(since, _)| *since < self.number);
        if !waits_longer {
            keys.waiting.insert(order, (self.number, id.clone()));
        }
    }

    /// The message is on record, or never will be: nobody waits for it any more.
    pub(crate) fn mend(&self, id: &MessageId) {
        self.keys().waiting.retain(|_, (_, first)| first != id);
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.broken.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
