//! Word that something has changed, to whoever waits for it.
//!
//! What a watch channel does, but it wakes those who wait in the order in which they came; the channel draws the order by
//! chance, and with it the simulation could not be repeated.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// How often something has changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    more: Notify,
}

impl Changes {
    /// How often so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One more time.
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.more.notify_waiters();
    }

    /// Waits until there were more changes than `seen`, which then counts them too. Cancel safe.
    pub(crate) async fn beyond(&self, seen: &mut u64) {
        loop {
            let mut more = pin!(self.more.notified());
            // Before looking: a change while we look wakes the wait below.
            more.as_mut().enable();
            let count = self.count();
            if count > *seen {
                *seen = count;
                return;
            }
            more.await;
        }
    }
}
