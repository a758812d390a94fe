//! Sealing of bodies: AES-256-GCM, so that who reads the log without the key store reads headers only, and nobody can
//! change a body, or move it under another header, unnoticed.
//!
//! A body is sealed under the data key of its family, its reader and its day: once that key is erased, nobody reads it.
//!
//! A sealed body is a random 96-bit nonce, the ciphertext and the tag. It is sealed under a key of its own, derived
//! from the data key and the record's random 128-bit nonce: under one key for all, random 96-bit nonces would be safe
//! for four billion bodies only. The record's nonce and the key's id are authenticated as well.

use airut_domain::{
    document,
    id::{KeyId, PartnerId},
    keys::Digest,
    message, query,
    record::{BodyRef, Header, Kind, Stored},
    request,
};
use airut_store::{DataKey, Family, KeyError, KeyStore};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Why a body could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The header knows of no body, and yet there is one.
    #[error("the header names no body, and one is stored")]
    Unexpected,
    /// The stored body is not the one that the header names.
    #[error("the stored body is not the one that its header names")]
    Changed,
    /// There is no key for it: it was erased, or can't be had now.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was not sealed with that key for that header.
    #[error("the body was not sealed with key {0} for this record")]
    Forged(KeyId),
}

/// What a record's body is, and which partner is to read it: those whose key it is sealed with. None where records have no
/// body.
pub(crate) const fn sealed_for(kind: &Kind) -> Option<(Family, &PartnerId)> {
    match kind {
        Kind::Message(message::Event::Accepted(accepted)) => Some((Family::Message, &accepted.recipient)),
        // What was said of a rejection. Its sender reads it too; it goes when the recipient's day goes.
        Kind::Message(message::Event::Settled(settled)) => Some((Family::Message, &settled.recipient)),
        Kind::Query(query::Event::Asked(asked)) => Some((Family::Query, &asked.responder)),
        Kind::Query(query::Event::Answered(answered)) => Some((Family::Query, &answered.key.asker)),
        Kind::Query(query::Event::Repeated(repeated)) => Some((Family::Query, &repeated.key.asker)),
        // What the document is called, and who sends it.
        Kind::Document(document::Event::Begun(begun)) => Some((Family::Document, &begun.recipient)),
        Kind::Document(document::Event::Fetched(fetched)) => Some((Family::Document, &fetched.by)),
        Kind::Request(request::Event::Created(created)) => Some((Family::Request, &created.responder)),
        Kind::Request(request::Event::Command(request::Command {
            action: request::Action::Transfer { to, .. },
            ..
        })) => Some((Family::Request, to)),
        // Who is to read what the requester says to the responder its header does not say.
        Kind::Request(request::Event::Command(command)) => Some((Family::Request, &command.key.requester)),
        Kind::Request(request::Event::Read(read)) => Some((Family::Request, &read.by)),
        Kind::Message(
            message::Event::Offered(_)
            | message::Event::Extended(_)
            | message::Event::LeasesEnded(_)
            | message::Event::Expired(_)
            | message::Event::Transferred(_)
            | message::Event::Redriven(_),
        )
        | Kind::Query(query::Event::Rerouted(_) | query::Event::NotDisclosed(_))
        | Kind::Document(
            document::Event::Stored(_)
            | document::Event::Rejected(_)
            | document::Event::Announced(_)
            | document::Event::Expired(_)
            | document::Event::Erased(_),
        )
        | Kind::Request(request::Event::Reminded(_) | request::Event::Lapsed(_))
        | Kind::Refusal(_)
        | Kind::Partner(_)
        | Kind::Member(_)
        | Kind::Order(_) => None,
    }
}

/// Seals a body for the record with this nonce.
pub(crate) fn seal(key: &DataKey, id: &KeyId, record: &[u8; 16], nonce: [u8; NONCE_LEN], body: &[u8]) -> Vec<u8> {
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
pub(crate) async fn open(keys: &KeyStore, stored: &Stored, header: &Header) -> Result<Vec<u8>, UnsealError> {
    let Some(BodyRef { sha256, key: id }) = &header.body else {
        return if stored.body.is_empty() { Ok(Vec::new()) } else { Err(UnsealError::Unexpected) };
    };
    if Digest::of(&stored.body) != *sha256 {
        return Err(UnsealError::Changed);
    }
    let key = keys.key(id).await?;
    unseal(&key, id, &header.nonce, &stored.body).ok_or_else(|| UnsealError::Forged(id.clone()))
}

fn unseal(key: &DataKey, id: &KeyId, record: &[u8; 16], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, ciphertext) = sealed.split_first_chunk()?;
    let mut body = ciphertext.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher(key, id, record).open_in_place(nonce, aad(id, record), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

fn cipher(key: &DataKey, id: &KeyId, record: &[u8; 16]) -> LessSafeKey {
    let derived = key.derive("airut body v1", &[record, id.as_str().as_bytes()]);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived).expect("the key has 256 bits"))
}

fn aad(id: &KeyId, record: &[u8; 16]) -> Aad<Vec<u8>> {
    Aad::from([record, id.as_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use airut_store::{Clock, Memory, Objects, Random, Wrapping};
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn key() -> (DataKey, KeyId) {
        (data_key(1), "query/2026-11-27/kela".parse().unwrap())
    }

    /// A store in memory makes a key of the bytes that it is given.
    fn data_key(byte: u8) -> DataKey {
        let (id, random) = ("a".parse::<KeyId>().unwrap(), Random::new(move |bytes| bytes.fill(byte)));
        let wrapping = Wrapping::new(id.clone(), [(id.clone(), [9; 32])]).unwrap();
        let keys = KeyStore::new(Objects::memory(&Memory::new()), wrapping, Clock::system(), random);
        keys.key_or_new(&id).now_or_never().unwrap().unwrap()
    }

    #[test]
    fn a_sealed_body_opens_only_for_its_record_and_key() {
        let (key, id) = key();
        let sealed = seal(&key, &id, &[7; 16], [3; 12], b"what was disclosed");
        assert_eq!(unseal(&key, &id, &[7; 16], &sealed).unwrap(), b"what was disclosed");
        assert_eq!(unseal(&key, &id, &[8; 16], &sealed), None);
        assert_eq!(unseal(&key, &"query/2026-11-28/kela".parse().unwrap(), &[7; 16], &sealed), None);
        assert_eq!(unseal(&data_key(2), &id, &[7; 16], &sealed), None);
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
