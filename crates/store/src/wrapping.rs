//! Wrapping keys: the configured keys that data keys are sealed with where they are stored.
//!
//! There may be several, of which one is active. New data keys are wrapped by the active one, and all of them unwrap. So a
//! wrapping key is replaced while everything runs: the new one is given to every process, then made active, then every
//! data key is wrapped anew, and only then the old one goes.

use std::{collections::BTreeMap, fmt};

use airut_domain::id::KeyId;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// A data key's secret bytes.
pub(crate) const SECRET_LEN: usize = 32;

/// What is stored of it: ciphertext and tag.
pub(crate) const WRAPPED_LEN: usize = SECRET_LEN + 16;

/// The wrapping keys of a process.
pub struct Wrapping {
    active: KeyId,
    keys: BTreeMap<KeyId, LessSafeKey>,
}

/// There is no wrapping key of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no wrapping key {0}")]
pub struct NoSuchKey(pub KeyId);

impl Wrapping {
    /// These keys, each of 32 secret bytes, of which one wraps what is new.
    ///
    /// # Errors
    /// When the active key is not among them.
    pub fn new(active: KeyId, keys: impl IntoIterator<Item = (KeyId, [u8; 32])>) -> Result<Self, NoSuchKey> {
        let cipher = |secret: &[u8; 32]| UnboundKey::new(&AES_256_GCM, secret).expect("the key has 256 bits");
        let keys: BTreeMap<_, _> = keys.into_iter().map(|(id, key)| (id, LessSafeKey::new(cipher(&key)))).collect();
        if keys.contains_key(&active) { Ok(Self { active, keys }) } else { Err(NoSuchKey(active)) }
    }

    /// The key that wraps what is new.
    pub fn active(&self) -> &KeyId {
        &self.active
    }

    /// Every key.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }

    /// Wraps the secret of the data key with this id, under the active key. No nonce may serve twice; there are far fewer
    /// data keys than random nonces are safe for (four billion under one wrapping key).
    pub(crate) fn wrap(&self, id: &KeyId, secret: &[u8; SECRET_LEN], nonce: [u8; NONCE_LEN]) -> [u8; WRAPPED_LEN] {
        let mut wrapped = [0; WRAPPED_LEN];
        let (ciphertext, tag) = wrapped.split_at_mut(SECRET_LEN);
        ciphertext.copy_from_slice(secret);
        let key = self.keys.get(&self.active).expect("checked when made");
        let sealed = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(id, &self.active), ciphertext)
            .expect("32 bytes are far fewer than AES-GCM takes");
        tag.copy_from_slice(sealed.as_ref());
        wrapped
    }

    /// The secret of the data key with this id; none when it was not wrapped for it by that key.
    pub(crate) fn unwrap(
        &self,
        id: &KeyId,
        wrapping: &KeyId,
        nonce: [u8; NONCE_LEN],
        wrapped: &[u8; WRAPPED_LEN],
    ) -> Result<Option<[u8; SECRET_LEN]>, NoSuchKey> {
        let key = self.keys.get(wrapping).ok_or_else(|| NoSuchKey(wrapping.clone()))?;
        let mut wrapped = *wrapped;
        let opened = key.open_in_place(Nonce::assume_unique_for_key(nonce), aad(id, wrapping), &mut wrapped);
        Ok(opened.ok().and_then(|secret| secret.first_chunk().copied()))
    }
}

impl fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapping({} of {})", self.active, self.keys.len())
    }
}

/// The data key's id and the wrapping key's, so that neither is taken for another. An id has no newline.
fn aad(id: &KeyId, wrapping: &KeyId) -> Aad<Vec<u8>> {
    Aad::from(format!("airut data key v1\n{id}\n{wrapping}").into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = KeyId> {
        "[a-z]{1,8}/20[0-9]{2}-[01][0-9]-[0-3][0-9]/[a-z-]{1,20}".prop_filter_map("no id", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn a_wrapped_key_unwraps_for_its_id_and_wrapping_key_alone(
            id in ids(), other in ids(), secret: [u8; 32], nonce: [u8; 12], one: [u8; 32], two: [u8; 32],
        ) {
            prop_assume!(id != other && one != two);
            let (a, b): (KeyId, KeyId) = ("wrapping-1".parse().unwrap(), "wrapping-2".parse().unwrap());
            let wrapping = Wrapping::new(a.clone(), [(a.clone(), one), (b.clone(), two)]).unwrap();
            let wrapped = wrapping.wrap(&id, &secret, nonce);
            prop_assert_eq!(wrapping.unwrap(&id, &a, nonce, &wrapped), Ok(Some(secret)));
            prop_assert_eq!(wrapping.unwrap(&other, &a, nonce, &wrapped), Ok(None));
            prop_assert_eq!(wrapping.unwrap(&id, &b, nonce, &wrapped), Ok(None));
            prop_assert!(!wrapped.windows(4).any(|part| secret.windows(4).any(|known| known == part)));
            // The same secret under another name for the same key does not open either.
            let renamed = Wrapping::new(b.clone(), [(b.clone(), one)]).unwrap();
            prop_assert_eq!(renamed.unwrap(&id, &b, nonce, &wrapped), Ok(None));
            prop_assert_eq!(renamed.unwrap(&id, &a, nonce, &wrapped), Err(NoSuchKey(a)));
        }

        #[test]
        fn a_flipped_bit_is_noticed(secret: [u8; 32], nonce: [u8; 12], at in 0..WRAPPED_LEN * 8) {
            let (id, key): (KeyId, KeyId) = ("query/2026-11-27/kela".parse().unwrap(), "w".parse().unwrap());
            let wrapping = Wrapping::new(key.clone(), [(key.clone(), [7; 32])]).unwrap();
            let mut wrapped = wrapping.wrap(&id, &secret, nonce);
            wrapped[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(wrapping.unwrap(&id, &key, nonce, &wrapped), Ok(None));
        }
    }

    #[test]
    fn an_active_key_must_be_there_and_debug_shows_none() {
        let (a, b): (KeyId, KeyId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(Wrapping::new(a.clone(), [(b.clone(), [1; 32])]).unwrap_err(), NoSuchKey(a));
        assert_eq!(format!("{:?}", Wrapping::new(b.clone(), [(b, [1; 32])]).unwrap()), "Wrapping(b of 1)");
    }
}
