//! Objects in memory: deterministic, without tasks or threads, and able to fail on demand.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use airut_domain::keys::Digest;
use bytes::Bytes;

use super::{Created, ObjectError, ObjectMeta, PAGE, Swapped, Version, error, is_below};
use crate::ObjectName;

/// The memory. Cheap to clone: every clone sees the same objects, and is down when the others are.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    is_down: Arc<AtomicBool>,
}

#[derive(Default)]
struct State(BTreeMap<ObjectName, Bytes>);

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A way to the same objects that does not go down with this one.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { state: Arc::clone(&self.state), is_down: Arc::default() }
    }

    /// Makes every operation fail from now on, as if the server were gone.
    pub fn go_down(&self) {
        self.is_down.store(true, Ordering::SeqCst);
    }

    /// Lets operations work again. What was there is there.
    pub fn come_up(&self) {
        self.is_down.store(false, Ordering::SeqCst);
    }

    pub(super) fn create(&self, name: &ObjectName, bytes: Bytes) -> Result<Created, ObjectError> {
        let mut state = self.up(name)?;
        if state.0.contains_key(name) {
            return Ok(Created::There);
        }
        state.0.insert(name.clone(), bytes);
        Ok(Created::Made)
    }

    pub(super) fn replace(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        self.up(name)?.0.insert(name.clone(), bytes);
        Ok(())
    }

    pub(super) fn swap(&self, name: &ObjectName, seen: &Version, bytes: Bytes) -> Result<Swapped, ObjectError> {
        let mut state = self.up(name)?;
        if state.0.get(name).is_none_or(|there| version(there) != *seen) {
            return Ok(Swapped::Changed);
        }
        state.0.insert(name.clone(), bytes);
        Ok(Swapped::Done)
    }

    pub(super) fn look(&self, name: &ObjectName) -> Result<Option<(Bytes, Version)>, ObjectError> {
        Ok(self.up(name)?.0.get(name).map(|bytes| (bytes.clone(), version(bytes))))
    }

    pub(super) fn list(&self, prefix: &ObjectName, after: Option<&ObjectName>) -> Result<Vec<ObjectMeta>, ObjectError> {
        let state = self.up(prefix)?;
        let from = Bound::Excluded(after.map_or(prefix, |after| after.max(prefix)));
        let below =
            state.0.range((from, Bound::Unbounded)).filter(|(name, _)| is_below(prefix.as_str(), name.as_str()));
        let listed = below.map(|(name, bytes)| ObjectMeta { name: name.clone(), size_bytes: bytes.len() as u64 });
        Ok(listed.take(PAGE).collect())
    }

    pub(super) fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        self.up(name)?.0.remove(name);
        Ok(())
    }

    fn up(&self, name: &ObjectName) -> Result<MutexGuard<'_, State>, ObjectError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(error(name, "the store is down"));
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the objects are is nobody's business.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} objects", self.0.len())
    }
}

fn version(bytes: &Bytes) -> Version {
    Version(Digest::of(bytes).to_string())
}
