//! What the verbs of documents ask of the folds.

use airut_domain::{
    document::{Document, DocumentKey, Phase},
    partition::{Position, Topic},
    time::Timestamp,
};

use super::{
    Folds, StoreError,
    entities::{Entity, Entry},
};

/// Documents by when they end by themselves.
const ENDS: u8 = b'e';

/// Documents whose recipient does not know of them yet, by when they were stored.
const HELD: u8 = b'h';

impl Entity for Document {
    type Key = DocumentKey;
    const TOPIC: Topic = Topic::Documents;

    fn origin(&self) -> Position {
        self.begun
    }

    fn forget_at(&self) -> Option<Timestamp> {
        Self::forget_at(self)
    }

    fn entries(&self, _: &DocumentKey) -> Vec<Entry> {
        let place = |entry: Entry| entry.bytes(&self.begun.partition.number.to_be_bytes()).number(self.begun.offset);
        let ends = self.until().map(|until| place(Entry::list(Topic::Documents, ENDS).moment(until)));
        let held = match &self.phase {
            Phase::Stored { at, .. } => Some(place(Entry::list(Topic::Documents, HELD).moment(*at))),
            Phase::Uploading { .. }
            | Phase::Announced { .. }
            | Phase::Rejected { .. }
            | Phase::Expired { .. }
            | Phase::Erased { .. } => None,
        };
        ends.into_iter().chain(held).collect()
    }
}

/// What is known of the record that a document began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The fold has not come to it.
    Unread,
    /// Its document has not ended.
    Lives,
    /// Its document has ended.
    Ended,
    /// Its document is forgotten, or never was.
    Forgotten,
}

impl Folds {
    /// What is known of the record that a document began with.
    pub(crate) fn document_origin(&self, begun: Position) -> Result<Origin, StoreError> {
        let shared = self.lock();
        let read = shared.state.cursor.positions.get(&begun.partition).copied().unwrap_or(0);
        if begun.offset >= read {
            return Ok(Origin::Unread);
        }
        let found = shared.state.store_ref().entities().begun_by::<Document>(begun)?;
        Ok(match found {
            None => Origin::Forgotten,
            Some((_, document)) if document.until().is_some() => Origin::Lives,
            Some(_) => Origin::Ended,
        })
    }

    /// A document as it stands.
    pub(crate) fn document(&self, key: &DocumentKey, now: Timestamp) -> Result<Option<Document>, StoreError> {
        self.lock().state.entity(key, now)
    }

    /// Documents whose time is over by `now`, the first ones, at most so many.
    pub(crate) fn overdue_documents(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(DocumentKey, Document)>, StoreError> {
        let ended = self.first_documents(ENDS, limit)?;
        Ok(ended.into_iter().filter(|(_, document)| document.until().is_some_and(|until| until <= now)).collect())
    }

    /// Documents whose recipient does not know of them yet, the earliest, at most so many.
    pub(crate) fn held_documents(&self, limit: usize) -> Result<Vec<(DocumentKey, Document)>, StoreError> {
        self.first_documents(HELD, limit)
    }

    fn first_documents(&self, list: u8, limit: usize) -> Result<Vec<(DocumentKey, Document)>, StoreError> {
        let shared = self.lock();
        let list = Entry::list(Topic::Documents, list);
        let found = shared.state.store_ref().entities().list::<Document>(&list, None, limit)?;
        Ok(found.into_iter().map(|(_, key, document)| (key, document)).collect())
    }
}
