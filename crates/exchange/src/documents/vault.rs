//! Where documents lie: in sealed segments, each an object that is made once and never changed.
//!
//! A document's segments are named by the record that began it, and sealed with AES-256-GCM under a key that is derived from the document's own data
//! key. To erase that key erases the document, wherever copies of its segments may be. Each segment is bound to its document, its number and the
//! document's size, so that segments can't be swapped, left out at the end or taken from another document.
//!
//! It must never replace a segment, nor say that one is stored before it is durable.

use airut_domain::{
    document::SEGMENT_BYTES,
    id::KeyId,
    partition::{Partition, Position, Topic},
};
use airut_log::Random;
use airut_store::{Created, KeyError, KeyStore, ObjectError, ObjectMeta, ObjectName, Objects, PAGE};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::{Bytes, BytesMut};

/// What sealing adds to a segment's content: the nonce before it, the tag after it.
const TAG_LEN: usize = 16;
const SEAL_BYTES: u64 = (NONCE_LEN + TAG_LEN) as u64;

/// Where documents lie among the objects.
const PREFIX: &str = "documents";

/// The data keys of documents' content. Not the family of their records' bodies: these keys have no day, but their document's own end.
const KEYS: &str = "content";

/// Why a document's content can not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// Its key was erased, and with it the document.
    #[error("its key was erased")]
    Erased,
    /// The store can not be used now, or holds something else than it should.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ObjectError> for VaultError {
    fn from(cause: ObjectError) -> Self {
        Self::Unavailable(cause.to_string())
    }
}

impl From<KeyError> for VaultError {
    fn from(cause: KeyError) -> Self {
        match cause {
            KeyError::Erased(_) => Self::Erased,
            KeyError::Missing(_)
            | KeyError::UnknownWrappingKey { .. }
            | KeyError::Forged(_)
            | KeyError::Unavailable(_) => Self::Unavailable(cause.to_string()),
        }
    }
}

/// Every document of the exchange.
#[derive(Debug)]
pub(crate) struct Vault {
    objects: Objects,
    keys: KeyStore,
    random: Random,
}

/// Documents that have something stored, and the last object that was looked at.
pub(crate) type Page = (Vec<Position>, ObjectName);

/// One document's segments, and the key that opens them.
pub(crate) struct Shelf {
    objects: Objects,
    key: LessSafeKey,
    random: Random,
    begun: Position,
    size_bytes: u64,
}

/// Whether a segment was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is stored, or was before.
    Stored,
    /// There is one of its number that says something else.
    Other,
}

impl Vault {
    pub(crate) fn new(objects: Objects, keys: KeyStore, random: Random) -> Self {
        Self { objects, keys, random }
    }

    /// The shelf of a document whose content is coming. Its key is made, if it has none.
    pub(crate) async fn shelf(&self, begun: Position, size_bytes: u64) -> Result<Shelf, VaultError> {
        let key = self.keys.key_or_new(&key_id(begun)).await?;
        Ok(self.opened(&key, begun, size_bytes))
    }

    /// The shelf of a document that is stored.
    pub(crate) async fn stored(&self, begun: Position, size_bytes: u64) -> Result<Shelf, VaultError> {
        let key = self.keys.key(&key_id(begun)).await?;
        Ok(self.opened(&key, begun, size_bytes))
    }

    fn opened(&self, key: &airut_store::DataKey, begun: Position, size_bytes: u64) -> Shelf {
        let secret = key.derive("airut document segments v1", &[]);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).expect("the key has 256 bits"));
        Shelf { objects: self.objects.clone(), key, random: self.random.clone(), begun, size_bytes }
    }

    /// How many whole segments of a document are there, from its first on.
    pub(crate) async fn count(&self, begun: Position, size_bytes: u64) -> Result<u64, VaultError> {
        count(&self.objects, begun, size_bytes).await
    }

    /// Erases a document: its key, for good, and then its segments.
    pub(crate) async fn erase(&self, begun: Position) -> Result<(), VaultError> {
        self.keys.erase(&key_id(begun)).await?;
        let (prefix, mut after) = (prefix(begun), None);
        loop {
            let page = self.objects.list(&prefix, after.as_ref()).await?;
            for object in &page {
                self.objects.delete(&object.name).await?;
            }
            match page.into_iter().last() {
                Some(last) => after = Some(last.name),
                None => return Ok(()),
            }
        }
    }

    /// Forgets that there was a key, erased or not: for a document that nothing else knows of any more.
    pub(crate) async fn forget_key(&self, begun: Position) -> Result<(), VaultError> {
        let name = format!("keys/{}", key_id(begun)).parse().expect("plain");
        Ok(self.objects.delete(&name).await?)
    }

    /// The documents that have segments, a page of objects after this one, and the page's last object; none at the end.
    pub(crate) async fn documents_after(&self, after: Option<&ObjectName>) -> Result<Option<Page>, VaultError> {
        self.page(PREFIX, '-', after).await
    }

    /// The same for documents that have a key, or the note of an erased one.
    pub(crate) async fn keys_after(&self, after: Option<&ObjectName>) -> Result<Option<Page>, VaultError> {
        self.page(&format!("keys/{KEYS}"), '/', after).await
    }

    async fn page(&self, prefix: &str, between: char, after: Option<&ObjectName>) -> Result<Option<Page>, VaultError> {
        let page = self.objects.list(&prefix.parse().expect("plain"), after).await?;
        let Some(last) = page.last() else { return Ok(None) };
        let last = last.name.clone();
        let mut found: Vec<Position> =
            page.iter().filter_map(|object| position(object.name.as_str(), prefix, between)).collect();
        found.dedup();
        Ok(Some((found, last)))
    }
}

impl Shelf {
    /// How many segments the document has.
    pub(crate) fn segments(&self) -> u64 {
        segments(self.size_bytes)
    }

    /// How many bytes a segment has.
    pub(crate) fn length(&self, number: u64) -> u64 {
        length(self.size_bytes, number)
    }

    /// How many whole segments are there, from the first on.
    pub(crate) async fn count(&self) -> Result<u64, VaultError> {
        count(&self.objects, self.begun, self.size_bytes).await
    }

    /// Stores a segment, durably, unless there is one. Doing it again, or at the same time elsewhere, is harmless.
    pub(crate) async fn put(&self, number: u64, segment: Segment) -> Result<Put, VaultError> {
        let name = object_name(self.begun, number);
        let sealed = self.seal(number, segment);
        match self.objects.create(&name, sealed.clone()).await? {
            Created::Made => Ok(Put::Stored),
            Created::There => {
                let there = self.read(number).await?;
                let own = self.open(number, sealed)?;
                Ok(if there == own { Put::Stored } else { Put::Other })
            }
        }
    }

    /// Reads a segment.
    pub(crate) async fn read(&self, number: u64) -> Result<Bytes, VaultError> {
        let name = object_name(self.begun, number);
        let sealed = self.objects.read(&name).await?;
        let sealed = sealed.ok_or_else(|| VaultError::Unavailable(format!("object {name}: is missing")))?;
        self.open(number, sealed)
    }

    fn seal(&self, number: u64, segment: Segment) -> Bytes {
        let mut bytes = segment.0;
        let nonce: [u8; NONCE_LEN] = self.random.bytes();
        bytes[..NONCE_LEN].copy_from_slice(&nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), self.aad(number), &mut bytes[NONCE_LEN..])
            .expect("a segment is far smaller than AES-GCM takes");
        bytes.extend_from_slice(tag.as_ref());
        bytes.freeze()
    }

    fn open(&self, number: u64, sealed: Bytes) -> Result<Bytes, VaultError> {
        let damaged = || VaultError::Unavailable(format!("object {}: is damaged", object_name(self.begun, number)));
        let mut sealed = sealed.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let nonce: [u8; NONCE_LEN] = *sealed.first_chunk().ok_or_else(damaged)?;
        let opened =
            self.key.open_in_place(Nonce::assume_unique_for_key(nonce), self.aad(number), &mut sealed[NONCE_LEN..]);
        let length = opened.map_err(|_| damaged())?.len();
        if length as u64 != self.length(number) {
            return Err(damaged());
        }
        Ok(sealed.freeze().slice(NONCE_LEN..NONCE_LEN + length))
    }

    fn aad(&self, number: u64) -> Aad<Vec<u8>> {
        let Position { partition, offset } = self.begun;
        let text = format!("airut document segment v1\n{}/{offset}\n{number}\n{}", partition.number, self.size_bytes);
        Aad::from(text.into_bytes())
    }
}

/// A segment's content as it comes, with room for its seal.
#[derive(Debug)]
pub(crate) struct Segment(BytesMut);

impl Segment {
    /// An empty one that is to have so many bytes.
    pub(crate) fn of(length: u64) -> Self {
        let capacity = usize::try_from(length + SEAL_BYTES).expect("a segment fits into memory");
        let mut bytes = BytesMut::with_capacity(capacity);
        bytes.extend_from_slice(&[0; NONCE_LEN]);
        Self(bytes)
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        (self.0.len() - NONCE_LEN) as u64
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.0[NONCE_LEN..]
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

async fn count(objects: &Objects, begun: Position, size_bytes: u64) -> Result<u64, VaultError> {
    let found = objects.list(&prefix(begun), None).await?;
    debug_assert!(segments(size_bytes) <= PAGE as u64, "a document's segments fit on a page");
    let whole = |(number, object): &(u64, &ObjectMeta)| {
        *number < segments(size_bytes)
            && object.name == object_name(begun, *number)
            && object.size_bytes == length(size_bytes, *number) + SEAL_BYTES
    };
    Ok((0..).zip(&found).take_while(whole).count() as u64)
}

const fn segments(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(SEGMENT_BYTES)
}

fn length(size_bytes: u64, number: u64) -> u64 {
    size_bytes.saturating_sub(number * SEGMENT_BYTES).min(SEGMENT_BYTES)
}

fn key_id(begun: Position) -> KeyId {
    format!("{KEYS}/{}/{}", begun.partition.number, begun.offset).parse().expect("letters, digits and slashes")
}

fn prefix(begun: Position) -> ObjectName {
    format!("{PREFIX}/{}-{}", begun.partition.number, begun.offset).parse().expect("plain")
}

fn object_name(begun: Position, number: u64) -> ObjectName {
    format!("{}/{number:06}", prefix(begun)).parse().expect("plain")
}

/// The document that an object belongs to.
fn position(name: &str, prefix: &str, between: char) -> Option<Position> {
    let (number, rest) = name.strip_prefix(prefix)?.strip_prefix('/')?.split_once(between)?;
    let offset = rest.split('/').next()?.parse().ok()?;
    let partition = Partition { topic: Topic::Documents, number: number.parse().ok()? };
    Some(Position { partition, offset })
}
