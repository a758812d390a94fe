//! Sealing of bodies: AES-256-GCM, so that who reads the log without its key ring reads headers only, and nobody can
//! change a body, or move it under another header, unnoticed.
//!
//! A sealed body is a random 96-bit nonce, the ciphertext and the tag. It is sealed under a key of its own, derived
//! from the body key and the record's random 128-bit nonce: under one key for all, random 96-bit nonces would be safe
//! for four billion bodies only, which a busy exchange writes within days. The record's nonce and the key's id are
//! authenticated as well.

use airut_domain::{
    id::KeyId,
    keys::{Digest, MacKey},
    record::{Header, Stored},
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::keyring::KeyRing;

/// Why a body could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The header knows of no body, and yet there is one.
    #[error("the header names no body, and one is stored")]
    Unexpected,
    /// The stored body is not the one that the header names.
    #[error("the stored body is not the one that its header names")]
    Changed,
    /// The key ring lacks the key.
    #[error("the key ring has no body key {0}")]
    UnknownKey(KeyId),
    /// It was not sealed with that key for that header.
    #[error("the body was not sealed with key {0} for this record")]
    Forged(KeyId),
}

/// Seals a body for the record with this nonce.
pub(crate) fn seal(key: &MacKey, id: &KeyId, record: &[u8; 16], nonce: [u8; NONCE_LEN], body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + body.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(body);
    let tag = cipher(key, id, record)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(id, record), &mut sealed[NONCE_LEN..])
        .expect("a body is far shorter than the 64 GiB that AES-GCM takes");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Opens the body of a record as read from the log; empty when it has none.
pub(crate) fn open(ring: &KeyRing, stored: &Stored, header: &Header) -> Result<Vec<u8>, UnsealError> {
    let Some(reference) = &header.body else {
        return if stored.body.is_empty() { Ok(Vec::new()) } else { Err(UnsealError::Unexpected) };
    };
    if Digest::of(&stored.body) != reference.sha256 {
        return Err(UnsealError::Changed);
    }
    let id = &reference.key;
    let key = ring.body_key(id).ok_or_else(|| UnsealError::UnknownKey(id.clone()))?;
    unseal(key, id, &header.nonce, &stored.body).ok_or_else(|| UnsealError::Forged(id.clone()))
}

fn unseal(key: &MacKey, id: &KeyId, record: &[u8; 16], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, ciphertext) = sealed.split_first_chunk()?;
    let mut body = ciphertext.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher(key, id, record).open_in_place(nonce, aad(id, record), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

fn cipher(key: &MacKey, id: &KeyId, record: &[u8; 16]) -> LessSafeKey {
    let derived = key.mac("airut body v1", &[record, id.as_str().as_bytes()]);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived.0).expect("the key has 256 bits"))
}

fn aad(id: &KeyId, record: &[u8; 16]) -> Aad<Vec<u8>> {
    Aad::from([record, id.as_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> (MacKey, KeyId) {
        (MacKey::new(&[1; 32]), "body-1".parse().unwrap())
    }

    #[test]
    fn a_sealed_body_opens_only_for_its_record_and_key() {
        let (key, id) = key();
        let sealed = seal(&key, &id, &[7; 16], [3; 12], b"what was disclosed");
        assert_eq!(unseal(&key, &id, &[7; 16], &sealed).unwrap(), b"what was disclosed");
        assert_eq!(unseal(&key, &id, &[8; 16], &sealed), None);
        assert_eq!(unseal(&key, &"body-2".parse().unwrap(), &[7; 16], &sealed), None);
        assert_eq!(unseal(&MacKey::new(&[2; 32]), &id, &[7; 16], &sealed), None);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let (key, id) = key();
        let sealed = seal(&key, &id, &[7; 16], [3; 12], b"what was disclosed");
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(unseal(&key, &id, &[7; 16], &flipped), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_never_open(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (key, id) = key();
            prop_assert_eq!(unseal(&key, &id, &[7; 16], &bytes), None);
        }

        #[test]
        fn what_was_sealed_opens(body in prop::collection::vec(any::<u8>(), 0..200), record: [u8; 16], nonce: [u8; 12])
        {
            let (key, id) = key();
            prop_assert_eq!(unseal(&key, &id, &record, &seal(&key, &id, &record, nonce, &body)), Some(body));
        }
    }
}
