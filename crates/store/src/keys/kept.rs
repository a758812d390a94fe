//! Data keys in memory: for a while, so that sealing does not wait for the store, and no longer, so that an erased key
//! stops opening.
//!
//! Who looks for a key that others look for waits for what they find.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airut_domain::{id::KeyId, time::Timestamp};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::KeyError;
use crate::{DataKey, objects::BOUND};

/// How long a process may go on opening with a key after it was erased elsewhere.
pub const KEPT_FOR: Duration = Duration::from_secs(60);

/// As many keys are kept. Beyond that, the first by id go.
const MOST: usize = 4096;

type Found = Result<DataKey, KeyError>;
type Looking = Shared<BoxFuture<'static, Found>>;

#[derive(Default)]
pub(super) struct Kept(Mutex<BTreeMap<KeyId, Entry>>);

struct Entry {
    since: Timestamp,
    /// How it was looked for. A key that was only found may not be durable yet, and is looked for anew to seal with.
    looked: Absent,
    what: What,
}

enum What {
    /// It was found, or is known to be erased, which is for good.
    Known(Found),
    /// Somebody looks for it.
    Looking(Looking),
}

/// What to do about a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    Fail,
    Make,
}

impl Kept {
    /// The key: as it is kept, or else as `look` finds it.
    pub(super) async fn get_or(
        &self,
        id: &KeyId,
        now: Timestamp,
        absent: Absent,
        look: impl FnOnce() -> BoxFuture<'static, Found>,
    ) -> Found {
        let looking = match self.known(id, now, absent, look) {
            Ok(known) => return known,
            Err(looking) => looking,
        };
        let found = looking.clone().await;
        self.settle(id, &looking, &found);
        found
    }

    pub(super) fn forget(&self, id: &KeyId) {
        self.lock().remove(id);
    }

    fn known(
        &self,
        id: &KeyId,
        now: Timestamp,
        absent: Absent,
        look: impl FnOnce() -> BoxFuture<'static, Found>,
    ) -> Result<Found, Looking> {
        let mut kept = self.lock();
        if let Some(Entry { since, looked, what }) = kept.get(id)
            && (*looked == Absent::Make || absent == Absent::Fail)
        {
            match what {
                What::Known(found) if is_within(KEPT_FOR, *since, now) => return Ok(found.clone()),
                // One that everybody has left stands still; it is not waited for once its time is up.
                What::Looking(looking) if is_within(BOUND, *since, now) => return Err(looking.clone()),
                What::Known(_) | What::Looking(_) => {}
            }
        }
        if kept.len() >= MOST {
            kept.retain(|_, entry| is_within(KEPT_FOR, entry.since, now));
            while kept.len() >= MOST {
                kept.pop_first();
            }
        }
        let looking = look().shared();
        kept.insert(id.clone(), Entry { since: now, looked: absent, what: What::Looking(looking.clone()) });
        Err(looking)
    }

    /// Keeps what was found from when the looking began: what was erased since is not kept for longer.
    fn settle(&self, id: &KeyId, looking: &Looking, found: &Found) {
        let mut kept = self.lock();
        let Some(entry) = kept.get_mut(id) else { return };
        if !matches!(&entry.what, What::Looking(ours) if ours.ptr_eq(looking)) {
            return;
        }
        match found {
            Ok(_) | Err(KeyError::Erased(_)) => entry.what = What::Known(found.clone()),
            Err(_) => drop(kept.remove(id)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that stepped back makes nothing last longer.
fn is_within(bound: Duration, since: Timestamp, now: Timestamp) -> bool {
    now >= since && now.since(since) < bound
}
