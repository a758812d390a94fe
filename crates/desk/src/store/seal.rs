//! Sealing what says something of a person. The key lies in a file of its own; with it destroyed, what was sealed is gone.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use serde::{Serialize, de::DeserializeOwned};

use super::Error;

/// Why the key's file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// What is in it.
    #[error("must hold 64 hexadecimal digits")]
    Format,
}

/// The desk's key.
pub struct SealingKey {
    aead: LessSafeKey,
    subjects: hmac::Key,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// The key in a file.
    ///
    /// # Errors
    /// It can not be read, or is none.
    pub fn load(path: &Path) -> Result<Self, KeyFault> {
        let text = fs::read_to_string(path)?;
        let bytes: [u8; 32] =
            hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(KeyFault::Format)?;
        Ok(Self::new(&bytes))
    }

    /// The key in a file, which is made, for its owner alone, where there is none.
    ///
    /// # Errors
    /// It can not be read or written, or is none.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyFault> {
        use io::Write;
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let mut bytes = [0; 32];
                aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
                file.write_all(format!("{}\n", hex::encode(bytes)).as_bytes())?;
                file.sync_all()?;
                Ok(Self::new(&bytes))
            }
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(cause) => Err(cause.into()),
        }
    }

    fn new(bytes: &[u8; 32]) -> Self {
        // A key for each use.
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let derived = |label: &[u8]| hmac::sign(&root, label);
        let aead = UnboundKey::new(&AES_256_GCM, derived(b"airut desk seal").as_ref()).expect("32 bytes");
        let subjects = hmac::Key::new(hmac::HMAC_SHA256, derived(b"airut desk subject").as_ref());
        Self { aead: LessSafeKey::new(aead), subjects }
    }

    /// Seals a value for its place, in which alone it opens.
    pub(super) fn seal<T: Serialize>(&self, place: &str, value: &T) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = nonce.to_vec();
        let mut text = serde_json::to_vec(value).expect("texts and numbers");
        let tag =
            self.aead.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text);
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.expect("it is far from the algorithm's bounds").as_ref());
        sealed
    }

    /// Opens what was sealed for this place.
    pub(super) fn open<T: DeserializeOwned>(&self, place: &str, sealed: &[u8]) -> Result<T, Error> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Sealed)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.aead.open_in_place(nonce, Aad::from(place), &mut text).map_err(|_| Error::Sealed)?;
        serde_json::from_slice(opened).map_err(|_| Error::Sealed)
    }

    /// What a person is known by in the clear: the same for the same person, and nothing to be read out of it.
    pub(super) fn subject(&self, identity_code: &str) -> [u8; 16] {
        let tag = hmac::sign(&self.subjects, identity_code.as_bytes());
        *tag.as_ref().first_chunk().expect("32 bytes")
    }
}
