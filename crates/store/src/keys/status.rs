//! What keys there are, for people.

use std::collections::BTreeMap;

use airut_domain::{id::KeyId, time::Date};
use futures::{StreamExt, TryStreamExt};

use super::{AT_ONCE, KeyError, KeyStore, MOST_NAMED, StoredKey, id_and_day, id_of};
use crate::{Family, ObjectError, ObjectMeta};

/// What keys there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyStatus {
    /// By what they seal.
    pub families: BTreeMap<Family, FamilyStatus>,
    /// How many are wrapped by each wrapping key, those among them that the process does not have.
    pub wrapped_by: BTreeMap<KeyId, u64>,
    /// How many objects are no keys.
    pub unreadable: u64,
    /// Some of their ids.
    pub unreadable_ids: Vec<KeyId>,
}

/// The keys of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyStatus {
    /// Keys that open.
    pub keys: u64,
    /// Keys that were erased, and whose note is kept.
    pub erased: u64,
    /// The first day that there is a key of.
    pub oldest: Option<Date>,
    /// The last.
    pub newest: Option<Date>,
}

impl KeyStore {
    /// What keys there are: reads every one.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`] when the store fails.
    pub async fn status(&self) -> Result<KeyStatus, KeyError> {
        let mut status = KeyStatus::default();
        let mut objects = self.pages();
        while let Some(page) = objects.try_next().await? {
            let read = futures::stream::iter(page).map(|object| self.read_one(object)).buffered(AT_ONCE);
            for (object, stored) in read.try_collect::<Vec<_>>().await? {
                status.add(&object, stored);
            }
        }
        Ok(status)
    }

    /// The object with what it is; within, none when it is no key. Gone meanwhile: none at all.
    async fn read_one(&self, object: ObjectMeta) -> Result<(ObjectMeta, Option<Option<StoredKey>>), ObjectError> {
        let stored = self.source.look(&object.name).await?.map(|(stored, _)| stored);
        Ok((object, stored))
    }
}

impl KeyStatus {
    fn add(&mut self, object: &ObjectMeta, stored: Option<Option<StoredKey>>) {
        let Some(stored) = stored else { return };
        let (Some(stored), Some((_, family, day))) = (stored, id_and_day(object)) else {
            self.unreadable += 1;
            if self.unreadable_ids.len() < MOST_NAMED {
                self.unreadable_ids.extend(id_of(object));
            }
            return;
        };
        let of = self.families.entry(family).or_default();
        match stored {
            StoredKey::Erased(_) => of.erased += 1,
            StoredKey::Wrapped { by, .. } => {
                of.keys += 1;
                of.oldest = Some(of.oldest.map_or(day, |oldest| oldest.min(day)));
                of.newest = Some(of.newest.map_or(day, |newest| newest.max(day)));
                *self.wrapped_by.entry(by).or_default() += 1;
            }
        }
    }
}
