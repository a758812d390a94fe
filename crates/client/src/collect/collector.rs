//! A collector as whoever takes messages in sees it: what it gives, and how it ends. Its stream is the work of a task of its own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airut_wire::v1;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lease::Lease;
use crate::error::CallError;

/// How a [`Collector`] works.
#[derive(Clone, Debug)]
pub struct CollectorSettings {
    /// How many deliveries may be unsettled at once, in the queue or taken: 1 to 65536.
    pub credit: u32,
    /// How long a delivery may take until it is settled, from when it is offered: 1 second to 1 hour.
    pub lease: Duration,
    /// Only messages of these types are collected, at most 64; when none is named, all. The exchange refuses what is no name of a
    /// type.
    pub message_types: Vec<String>,
    /// How long deliveries that were taken may take until they are settled, and these settlements confirmed, once the collector is
    /// to stop.
    pub stop_within: Duration,
    /// When no stream could be opened for this long, or the exchange says that trying again does not help, the collector gives
    /// up. `None`: never, it tries for ever.
    pub patience: Option<Duration>,
}

impl Default for CollectorSettings {
    fn default() -> Self {
        Self {
            credit: 256,
            lease: Duration::from_secs(30),
            message_types: Vec::new(),
            stop_within: Duration::from_secs(10),
            patience: None,
        }
    }
}

/// A message in its recipient's hands.
#[derive(Debug)]
pub struct Collected {
    /// The message, and what the exchange says of it. Above attempt 1 it may have been delivered before.
    pub delivery: v1::Delivery,
    /// To settle it by.
    pub lease: Lease,
}

/// Collects messages over a stream. Made by [`Client::collector`].
#[derive(Debug)]
pub struct Collector {
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
    /// A collector that is dropped stops.
    pub(super) _stops: DropGuard,
    pub(super) task: JoinHandle<Result<(), CollectError>>,
}

/// How a collector ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// It gave up, as the settings say.
    #[error(transparent)]
    GaveUp(#[from] CallError),
    /// It stopped, and could not see to everything in time.
    #[error("{unsettled} deliveries were not settled, and {unconfirmed} settlements not confirmed")]
    Unfinished {
        /// Deliveries that were taken and not settled. They will be delivered again.
        unsettled: usize,
        /// Settlements that may or may not count.
        unconfirmed: usize,
    },
}

impl Collector {
    /// The next delivery; `None` once the collector is to stop, or has given up.
    ///
    /// Each delivery must be settled within its lease: accepted, returned or rejected. A settlement is kept until the exchange has
    /// confirmed it, over as many streams as that takes. One whose stream was lost may be delivered again before, so whoever takes
    /// messages in must recognise those that it has taken in already, by their sender and id.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Collected> {
        loop {
            if let Some(collected) = self.try_next() {
                return Some(collected);
            }
            if self.stop.is_cancelled() || self.shared.queue().ended {
                return None;
            }
            // What came since then has left a permit.
            self.shared.came.notified().await;
        }
    }

    /// A delivery, if there is one already.
    pub fn try_next(&mut self) -> Option<Collected> {
        if self.stop.is_cancelled() { None } else { self.shared.queue().take() }
    }

    /// Stops: takes no further delivery, waits until those that were taken are settled and the settlements confirmed, at most as
    /// long as the settings say. What nobody has taken is given back without a word.
    ///
    /// When the future is dropped it goes on in the background.
    ///
    /// # Errors
    /// See [`CollectError`].
    pub async fn close(self) -> Result<(), CollectError> {
        self.stop.cancel();
        match self.task.await {
            Ok(ended) => ended,
            Err(_) => Err(CallError::Unreachable("the collector's task has ended".to_owned()).into()),
        }
    }
}

/// What the collector and its task share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) came: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) deliveries: VecDeque<Collected>,
    /// Deliveries that were taken, and of which nothing was heard.
    pub(super) in_hand: usize,
    pub(super) ended: bool,
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Forgets what nobody has taken.
    pub(super) fn clear(&mut self) {
        self.deliveries.drain(..).for_each(|collected| collected.lease.forget());
    }

    pub(super) fn take(&mut self) -> Option<Collected> {
        let taken = self.deliveries.pop_front();
        self.in_hand += usize::from(taken.is_some());
        taken
    }
}
