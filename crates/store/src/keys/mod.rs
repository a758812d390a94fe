//! The key store: data keys, each an object `keys/<id>`, wrapped.
//!
//! Of one id there is one key: it is put if absent, and who loses reads the winner's. An erased key is replaced by a note
//! that it was, so that it is told from one that never was, and never made anew.
//!
//! What this must never do: seal with a key that is not durable yet, or otherwise than with a key of the store.

mod kept;
mod status;
mod stored;

use std::sync::Arc;

use airut_domain::{
    id::KeyId,
    time::{Date, Timestamp},
};
use arc_swap::ArcSwap;
use futures::{FutureExt, StreamExt, TryStreamExt};

pub use self::{
    kept::KEPT_FOR,
    status::{FamilyStatus, KeyStatus},
};
use self::{
    kept::{Absent, Kept},
    stored::StoredKey,
};
use crate::{
    Clock, Created, DataKey, Family, ObjectError, ObjectMeta, ObjectName, Objects, Random, Swapped, Version, Wrapping,
    data_key, wrapping::NoSuchKey,
};

/// Where data keys lie among the objects.
const PREFIX: &str = "keys";

/// As many objects are read or written at once by what goes through all of them.
const AT_ONCE: usize = 16;

/// For so long after a key was due to be erased, the note that it was is kept.
const NOTE_KEPT: time::Duration = time::Duration::days(400);

/// Ids that could not be read are named up to this many.
const MOST_NAMED: usize = 100;

/// The key store. Cheap to clone.
#[derive(Clone)]
pub struct KeyStore {
    source: Arc<Source>,
    kept: Arc<Kept>,
    clock: Clock,
}

/// Where keys come from.
struct Source {
    objects: Objects,
    wrapping: ArcSwap<Wrapping>,
    random: Random,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It was erased: what it sealed is gone for good.
    #[error("data key {0} was erased")]
    Erased(KeyId),
    /// There is none of this id.
    #[error("there is no data key {0}")]
    Missing(KeyId),
    /// It is wrapped by a key that this process does not have.
    #[error("data key {key} is wrapped by {wrapping}, which the key ring does not have")]
    UnknownWrappingKey {
        /// The data key.
        key: KeyId,
        /// The wrapping key.
        wrapping: KeyId,
    },
    /// What is stored is no key that was wrapped for this id.
    #[error("what is stored as data key {0} is not that key")]
    Forged(KeyId),
    /// The store can't be asked now.
    #[error("the key store can not be reached: {0}")]
    Unavailable(#[from] ObjectError),
}

/// What became of a key that was to be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseOutcome {
    /// It is erased now, durably.
    Erased,
    /// It had been, then.
    Already(Timestamp),
    /// There is none of this id.
    Missing,
}

/// What erasing by day has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Keys erased.
    pub keys: u64,
    /// Notes of erased keys that were dropped because they are old.
    pub notes_dropped: u64,
}

/// What wrapping anew has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Keys that are now under the active wrapping key, and were not.
    pub rewrapped: u64,
    /// Keys that were already.
    pub already: u64,
    /// Notes of erased keys.
    pub erased: u64,
    /// Keys that somebody else erased or wrapped meanwhile.
    pub changed: u64,
    /// Keys that could not be unwrapped, which stay as they are.
    pub unreadable: u64,
    /// Some of them.
    pub unreadable_ids: Vec<KeyId>,
}

impl KeyStore {
    /// Keys among these objects. `random` makes the keys, and must be unpredictable outside a simulation.
    pub fn new(objects: Objects, wrapping: Wrapping, clock: Clock, random: Random) -> Self {
        let source = Source { objects, wrapping: ArcSwap::from_pointee(wrapping), random };
        Self { source: Arc::new(source), kept: Arc::default(), clock }
    }

    /// Wraps and unwraps with these keys from now on. Keys in memory stay.
    pub fn set_wrapping(&self, wrapping: Wrapping) {
        self.source.wrapping.store(Arc::new(wrapping));
    }

    /// The wrapping keys in force.
    pub fn wrapping(&self) -> Arc<Wrapping> {
        self.source.wrapping.load_full()
    }

    /// The day, by the store's clock: what is sealed now is sealed with a key of this day.
    pub fn today(&self) -> Date {
        self.clock.now().date()
    }

    /// The key of this id, made if there is none: for sealing. Durable when it returns, whoever made it. Answers from
    /// memory for [`KEPT_FOR`]. Cancel safe, though the key may have been made.
    ///
    /// # Errors
    /// [`KeyError`], and then nothing may be sealed.
    pub async fn key_or_new(&self, id: &KeyId) -> Result<DataKey, KeyError> {
        self.get(id, Absent::Make).await
    }

    /// The key of this id: for opening. Answers from memory for [`KEPT_FOR`]: so long may a process go on opening with a
    /// key that another has erased. Cancel safe.
    ///
    /// # Errors
    /// [`KeyError`] tells a key that was erased from one that never was.
    pub async fn key(&self, id: &KeyId) -> Result<DataKey, KeyError> {
        self.get(id, Absent::Fail).await
    }

    /// Erases a key for good. Durable when it returns; other processes go on opening with it for [`KEPT_FOR`] at most.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`], and then it may be erased or not.
    pub async fn erase(&self, id: &KeyId) -> Result<EraseOutcome, KeyError> {
        let name = name(id)?;
        let Some(bytes) = self.source.objects.read(&name).await? else { return Ok(EraseOutcome::Missing) };
        if let Some(StoredKey::Erased(at)) = StoredKey::parse(&bytes) {
            return Ok(EraseOutcome::Already(at));
        }
        // Whatever is there: what wraps it anew meanwhile swaps only what it has seen.
        self.source.objects.replace(&name, StoredKey::Erased(self.clock.now()).to_bytes()).await?;
        self.kept.forget(id);
        Ok(EraseOutcome::Erased)
    }

    /// Erases the family's keys of the days before this one. Doing it again, or at the same time elsewhere, is harmless.
    /// Old notes of erased keys are dropped, 400 days after. Cancelling it, or an error, leaves the rest for the next
    /// time.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`] when the store fails.
    pub async fn erase_before(&self, family: Family, before: Date) -> Result<Erased, KeyError> {
        let prefix = format!("{PREFIX}/{}", family.name()).parse().expect("a family's name is plain");
        let drop_before = before.saturating_sub(NOTE_KEPT);
        let (mut done, mut after) = (Erased::default(), None);
        loop {
            let page = self.source.objects.list(&prefix, after.as_ref()).await?;
            let Some(last) = page.last() else { return Ok(done) };
            after = Some(last.name.clone());
            let named = page.iter().filter_map(|object| Some((object, id_and_day(object)?)));
            let due: Vec<_> = named.filter(|(_, (.., day))| *day < before).collect();
            // Names are in the order of their days, so that nothing that is due comes after what is not.
            let is_last = due.len() < page.len();
            for (object, (id, _, day)) in due {
                if object.size_bytes != StoredKey::erased_size() {
                    if self.erase(&id).await? == EraseOutcome::Erased {
                        done.keys += 1;
                    }
                } else if day < drop_before {
                    self.source.objects.delete(&object.name).await?;
                    done.notes_dropped += 1;
                }
            }
            if is_last {
                return Ok(done);
            }
        }
    }

    /// Wraps every key under the active wrapping key. Others may read, make and erase keys meanwhile. Cancelling it, or an
    /// error, leaves the rest for the next time, which passes over what is done.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`] when the store fails.
    pub async fn rewrap(&self) -> Result<Rewrapped, KeyError> {
        let mut done = Rewrapped::default();
        let mut objects = self.pages();
        while let Some(page) = objects.try_next().await? {
            let results = futures::stream::iter(page).map(|object| self.rewrap_one(object)).buffered(AT_ONCE);
            for result in results.try_collect::<Vec<_>>().await? {
                match result {
                    Rewrap::Done => done.rewrapped += 1,
                    Rewrap::Already => done.already += 1,
                    Rewrap::Erased => done.erased += 1,
                    Rewrap::Changed => done.changed += 1,
                    Rewrap::Unreadable(id) => {
                        done.unreadable += 1;
                        if done.unreadable_ids.len() < MOST_NAMED {
                            done.unreadable_ids.extend(id);
                        }
                    }
                }
            }
        }
        Ok(done)
    }

    async fn get(&self, id: &KeyId, absent: Absent) -> Result<DataKey, KeyError> {
        let look = || {
            let (source, id) = (Arc::clone(&self.source), id.clone());
            async move {
                match absent {
                    Absent::Make => source.find_or_make(&id).await,
                    Absent::Fail => source.find(&id).await,
                }
            }
            .boxed()
        };
        self.kept.get_or(id, self.clock.now(), absent, look).await
    }

    async fn rewrap_one(&self, object: ObjectMeta) -> Result<Rewrap, KeyError> {
        if object.size_bytes == StoredKey::erased_size() {
            return Ok(Rewrap::Erased);
        }
        let Some(id) = id_of(&object) else { return Ok(Rewrap::Unreadable(None)) };
        let Some((stored, version)) = self.source.look(&object.name).await? else { return Ok(Rewrap::Changed) };
        let wrapping = self.wrapping();
        let secret = match stored {
            Some(StoredKey::Erased(_)) => return Ok(Rewrap::Erased),
            Some(StoredKey::Wrapped { by, .. }) if by == *wrapping.active() => return Ok(Rewrap::Already),
            Some(StoredKey::Wrapped { by, nonce, wrapped }) => wrapping.unwrap(&id, &by, nonce, &wrapped),
            None => Ok(None),
        };
        let Ok(Some(secret)) = secret else { return Ok(Rewrap::Unreadable(Some(id))) };
        let anew = self.source.wrapped(&wrapping, &id, &secret);
        Ok(match self.source.objects.swap(&object.name, &version, anew.to_bytes()).await? {
            Swapped::Done => Rewrap::Done,
            Swapped::Changed => Rewrap::Changed,
        })
    }

    /// Every object of the store, a page at a time.
    fn pages(&self) -> std::pin::Pin<Box<impl futures::Stream<Item = Result<Vec<ObjectMeta>, ObjectError>>>> {
        let prefix: ObjectName = PREFIX.parse().expect("plain");
        Box::pin(futures::stream::try_unfold(None, move |after: Option<ObjectName>| {
            let prefix = prefix.clone();
            async move {
                let page = self.source.objects.list(&prefix, after.as_ref()).await?;
                let last = page.last().map(|object| object.name.clone());
                Ok(last.map(|last| (page, Some(last))))
            }
        }))
    }
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyStore({:?}, {:?})", self.source.objects, self.wrapping())
    }
}

enum Rewrap {
    Done,
    Already,
    Erased,
    Changed,
    Unreadable(Option<KeyId>),
}

impl Source {
    /// Begins by making it: only then is a key that another process has made known to be durable.
    async fn find_or_make(&self, id: &KeyId) -> Result<DataKey, KeyError> {
        let secret = self.random.bytes();
        let stored = self.wrapped(&self.wrapping.load(), id, &secret);
        match self.objects.create(&name(id)?, stored.to_bytes()).await? {
            Created::Made => Ok(DataKey::new(&secret)),
            Created::There => self.find(id).await,
        }
    }

    async fn find(&self, id: &KeyId) -> Result<DataKey, KeyError> {
        let Some((stored, _)) = self.look(&name(id)?).await? else { return Err(KeyError::Missing(id.clone())) };
        match stored {
            None => Err(KeyError::Forged(id.clone())),
            Some(StoredKey::Erased(_)) => Err(KeyError::Erased(id.clone())),
            Some(StoredKey::Wrapped { by, nonce, wrapped }) => {
                let unwrapped = self.wrapping.load().unwrap(id, &by, nonce, &wrapped);
                let unwrapped = unwrapped
                    .map_err(|NoSuchKey(wrapping)| KeyError::UnknownWrappingKey { key: id.clone(), wrapping })?;
                unwrapped.map(|secret| DataKey::new(&secret)).ok_or_else(|| KeyError::Forged(id.clone()))
            }
        }
    }

    /// What is stored there; within, none when it is no key.
    async fn look(&self, name: &ObjectName) -> Result<Option<(Option<StoredKey>, Version)>, ObjectError> {
        let found = self.objects.look(name).await?;
        Ok(found.map(|(bytes, version)| (StoredKey::parse(&bytes), version)))
    }

    fn wrapped(&self, wrapping: &Wrapping, id: &KeyId, secret: &[u8; 32]) -> StoredKey {
        let nonce = self.random.bytes();
        StoredKey::Wrapped { by: wrapping.active().clone(), nonce, wrapped: wrapping.wrap(id, secret, nonce) }
    }
}

/// The object of a key. An id that is no object's name has none.
fn name(id: &KeyId) -> Result<ObjectName, KeyError> {
    format!("{PREFIX}/{id}").parse().map_err(|_| KeyError::Missing(id.clone()))
}

fn id_of(object: &ObjectMeta) -> Option<KeyId> {
    object.name.as_str().strip_prefix(PREFIX)?.strip_prefix('/')?.parse().ok()
}

fn id_and_day(object: &ObjectMeta) -> Option<(KeyId, Family, Date)> {
    let id = id_of(object)?;
    let (family, day) = data_key::parts(&id)?;
    Some((id, family, day))
}
