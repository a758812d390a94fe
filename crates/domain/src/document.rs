//! The life of a document in its partition: begun, stored, announced to its recipient, fetched, erased.
//!
//! The document itself lies sealed in an object store, in segments under the place of the record that began it. Here is what is known of it: who may send
//! and fetch it, how far it has come, and until when it is kept. That its recipient's mailbox has the claim check is an effect in another partition;
//! the document stays open until it is there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    file_name::FileName,
    id::{DocumentId, MessageType, PartnerId},
    identity_code::IdentityCode,
    keys::Digest,
    message::Place,
    partition::{Partition, Position},
    query::{Access, At},
    refusal::Reason,
    time::Timestamp,
};

/// The largest document, in bytes.
pub const LARGEST: u64 = 1024 * 1024 * 1024;

/// A document is stored in segments of so many bytes; the last one may be shorter.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// An upload that is not finished within this ends.
pub const UPLOAD: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest that a stored document is kept.
pub const LONGEST_KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How long an id is remembered after its document's end.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Whose document: ids are the sender's own, so no partner can meet another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentKey {
    /// The sender.
    pub sender: PartnerId,
    /// The sender's id.
    pub document_id: DocumentId,
}

/// A document as its sender describes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Submission {
    /// The sender's id.
    pub document_id: DocumentId,
    /// Who is to receive it.
    pub recipient: PartnerId,
    /// What it is.
    pub document_type: MessageType,
    /// The person it is about.
    pub subject: IdentityCode,
    /// Who sends it and why.
    pub context: Context,
    /// What the sender calls it.
    pub file_name: FileName,
    /// Its media type.
    pub content_type: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Digest,
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Submission({} {} to {}, the rest hidden)", self.document_type, self.document_id, self.recipient)
    }
}

/// An upload has begun. The sealed body says what the document is called and who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Whose document.
    pub key: DocumentKey,
    /// Who is to receive it.
    pub recipient: PartnerId,
    /// What it is, by its name among the message types.
    pub document_type: MessageType,
    /// Keyed digest of content and context: a repeat must have the same.
    pub fingerprint: Digest,
    /// Salted commitment to the content's digest.
    pub commitment: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// How long it is kept once it is stored.
    pub keep: Duration,
    /// Who sends it about whom and why.
    pub access: Access,
}

/// All of it is in the object store, and is what its sender said that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose document.
    pub key: DocumentKey,
    /// The offset, in the same partition, of the record that began it.
    pub begun: u64,
}

/// It is not what its sender said, or may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Whose document.
    pub key: DocumentKey,
    /// The offset of the record that began it.
    pub begun: u64,
    /// Why.
    pub why: WhyRejected,
}

/// Why a document is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhyRejected {
    /// Its SHA-256 is another one.
    WrongDigest,
    /// It is not of the media type that it claims.
    WrongType,
    /// The content scan found something.
    Infected,
    /// Its recipient may no longer be given it.
    NotGranted,
}

impl WhyRejected {
    /// What to tell its sender.
    pub const fn reason(self) -> Reason {
        match self {
            Self::WrongDigest => Reason::DigestMismatch,
            Self::WrongType => Reason::ContentTypeMismatch,
            Self::Infected => Reason::ContentRejected,
            Self::NotGranted => Reason::NoContract,
        }
    }
}

/// The claim check is in the recipient's mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Whose document.
    pub key: DocumentKey,
    /// The offset of the record that began it.
    pub begun: u64,
    /// The claim check: the partition of the messages, and the message's place.
    pub claim_check: (Partition, Place),
}

/// Its recipient is given it, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Whose document.
    pub key: DocumentKey,
    /// The offset of the record that began it.
    pub begun: u64,
    /// Who fetches it.
    pub by: PartnerId,
    /// Who fetches it about whom and why.
    pub access: Access,
    /// The first byte that is given.
    pub from: u64,
    /// How many bytes are.
    pub length: u64,
}

/// Its time is over: an unfinished upload ends, a stored document is erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose document.
    pub key: DocumentKey,
    /// The offset of the record that began it.
    pub begun: u64,
}

/// A record of `airut.documents`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Begun(Begun),
    Stored(Stored),
    Rejected(Rejected),
    Announced(Announced),
    Fetched(Fetched),
    Expired(Ended),
    Erased(Ended),
}

impl Event {
    /// Whose document it is about.
    pub const fn key(&self) -> &DocumentKey {
        match self {
            Self::Begun(Begun { key, .. })
            | Self::Stored(Stored { key, .. })
            | Self::Rejected(Rejected { key, .. })
            | Self::Announced(Announced { key, .. })
            | Self::Fetched(Fetched { key, .. })
            | Self::Expired(Ended { key, .. })
            | Self::Erased(Ended { key, .. }) => key,
        }
    }

    /// The partners that it names: they may see it in the ledger.
    pub fn parties(&self) -> Vec<&PartnerId> {
        let sender = &self.key().sender;
        match self {
            Self::Begun(Begun { recipient: other, .. }) | Self::Fetched(Fetched { by: other, .. }) => {
                vec![sender, other]
            }
            Self::Stored(_) | Self::Rejected(_) | Self::Announced(_) | Self::Expired(_) | Self::Erased(_) => {
                vec![sender]
            }
        }
    }
}

/// A document as its partition knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Keyed digest of content and context.
    pub fingerprint: Digest,
    /// The record that began it: the document's segments and its key are named by it.
    pub begun: Position,
    /// Who is to receive it.
    pub recipient: PartnerId,
    /// What it is.
    pub document_type: MessageType,
    /// Its size.
    pub size_bytes: u64,
    /// How long it is kept once it is stored.
    pub keep: Duration,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its content is still coming.
    Uploading {
        /// When it ends without.
        until: Timestamp,
    },
    /// All of it is there; its recipient does not know yet.
    Stored {
        /// The offset of the record that says so: the receipt's.
        stored: u64,
        /// That record's time.
        at: Timestamp,
    },
    /// Its recipient may fetch it.
    Announced {
        /// The offset of the record that said that all of it is there.
        stored: u64,
        /// That record's time.
        at: Timestamp,
        /// When it was first fetched.
        fetched: Option<Timestamp>,
    },
    /// It was not what its sender said, or may not pass.
    Rejected {
        /// Why.
        why: WhyRejected,
        /// When.
        at: Timestamp,
    },
    /// Its upload was not finished in time.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// It was kept as long as it may be.
    Erased {
        /// When.
        at: Timestamp,
    },
}

impl Document {
    /// When it ends by itself; none once it has ended.
    pub fn until(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Uploading { until } => Some(*until),
            Phase::Stored { at, .. } | Phase::Announced { at, .. } => Some(*at + self.keep),
            Phase::Rejected { .. } | Phase::Expired { .. } | Phase::Erased { .. } => None,
        }
    }

    /// When the fold may forget it; none while it has not ended.
    pub fn forget_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Uploading { .. } | Phase::Stored { .. } | Phase::Announced { .. } => None,
            Phase::Rejected { at, .. } | Phase::Expired { at } | Phase::Erased { at } => Some(*at + REMEMBERED),
        }
    }
}

/// Why a document's record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// The same document was begun before; its upload goes on.
    BegunBefore,
    /// The same document is stored already.
    StoredBefore,
    /// Another document was sent with this id.
    IdReused,
    /// The document was erased.
    Gone,
    /// There is no such document, or it is not there yet, or not anybody's who asks.
    Unknown,
    /// It has gone on to another state.
    NotSo,
    /// The time for it has not come.
    TooEarly,
}

impl Void {
    /// What to tell the caller whose record is void, where that is a refusal.
    pub const fn reason(self) -> Reason {
        match self {
            Self::IdReused => Reason::DocumentIdReused,
            Self::Gone => Reason::DocumentGone,
            Self::Unknown => Reason::NotFound,
            Self::BegunBefore | Self::StoredBefore | Self::NotSo | Self::TooEarly => Reason::OutcomeUnknown,
        }
    }
}

/// What a record means after the ones before it: the document's next state when it counts. Pure and total. A document whose time to be forgotten
/// has come must be passed as `None`.
///
/// # Errors
/// Why it does not count.
pub fn apply(prior: Option<&Document>, at: At, event: &Event) -> Result<Document, Void> {
    match event {
        Event::Begun(begun) => apply_begun(prior, at, begun),
        Event::Stored(Stored { begun, .. }) => {
            let document = of(prior, *begun)?;
            match &document.phase {
                Phase::Uploading { .. } => Ok(document.at(Phase::Stored { stored: at.position.offset, at: at.time })),
                Phase::Stored { .. } | Phase::Announced { .. } => Err(Void::StoredBefore),
                Phase::Rejected { .. } | Phase::Expired { .. } | Phase::Erased { .. } => Err(Void::NotSo),
            }
        }
        Event::Rejected(Rejected { begun, why, .. }) => {
            let document = of(prior, *begun)?;
            match &document.phase {
                Phase::Uploading { .. } | Phase::Stored { .. } => {
                    Ok(document.at(Phase::Rejected { why: *why, at: at.time }))
                }
                Phase::Announced { .. } | Phase::Rejected { .. } | Phase::Expired { .. } | Phase::Erased { .. } => {
                    Err(Void::NotSo)
                }
            }
        }
        Event::Announced(Announced { begun, .. }) => {
            let document = of(prior, *begun)?;
            match &document.phase {
                Phase::Stored { stored, at } => {
                    Ok(document.at(Phase::Announced { stored: *stored, at: *at, fetched: None }))
                }
                Phase::Uploading { .. }
                | Phase::Announced { .. }
                | Phase::Rejected { .. }
                | Phase::Expired { .. }
                | Phase::Erased { .. } => Err(Void::NotSo),
            }
        }
        Event::Fetched(fetched) => apply_fetched(prior, at, fetched),
        Event::Expired(Ended { begun, .. }) => {
            let document = of(prior, *begun)?;
            match &document.phase {
                Phase::Uploading { until } if at.time < *until => Err(Void::TooEarly),
                Phase::Uploading { .. } => Ok(document.at(Phase::Expired { at: at.time })),
                Phase::Stored { .. }
                | Phase::Announced { .. }
                | Phase::Rejected { .. }
                | Phase::Expired { .. }
                | Phase::Erased { .. } => Err(Void::NotSo),
            }
        }
        Event::Erased(Ended { begun, .. }) => {
            let document = of(prior, *begun)?;
            match &document.phase {
                Phase::Stored { at: stored, .. } | Phase::Announced { at: stored, .. } => {
                    if at.time < *stored + document.keep {
                        return Err(Void::TooEarly);
                    }
                    Ok(document.at(Phase::Erased { at: at.time }))
                }
                Phase::Uploading { .. } | Phase::Rejected { .. } | Phase::Expired { .. } | Phase::Erased { .. } => {
                    Err(Void::NotSo)
                }
            }
        }
    }
}

fn apply_begun(prior: Option<&Document>, at: At, begun: &Begun) -> Result<Document, Void> {
    if let Some(document) = prior {
        let same = document.fingerprint == begun.fingerprint;
        match &document.phase {
            // It ended with nothing, and nobody has a receipt: whatever is sent under its id now is the first.
            Phase::Rejected { .. } | Phase::Expired { .. } => {}
            Phase::Uploading { .. } | Phase::Stored { .. } | Phase::Announced { .. } | Phase::Erased { .. }
                if !same =>
            {
                return Err(Void::IdReused);
            }
            Phase::Uploading { .. } => return Err(Void::BegunBefore),
            Phase::Stored { .. } | Phase::Announced { .. } => return Err(Void::StoredBefore),
            Phase::Erased { .. } => return Err(Void::Gone),
        }
    }
    Ok(Document {
        fingerprint: begun.fingerprint,
        begun: at.position,
        recipient: begun.recipient.clone(),
        document_type: begun.document_type.clone(),
        size_bytes: begun.size_bytes,
        keep: begun.keep,
        phase: Phase::Uploading { until: at.time + UPLOAD },
    })
}

fn apply_fetched(prior: Option<&Document>, at: At, fetched: &Fetched) -> Result<Document, Void> {
    let document = of(prior, fetched.begun)?;
    if document.recipient != fetched.by {
        return Err(Void::Unknown);
    }
    match &document.phase {
        Phase::Announced { at: stored, .. } if at.time >= *stored + document.keep => Err(Void::Gone),
        Phase::Announced { stored, at: stored_at, fetched } => {
            Ok(document.at(Phase::Announced { stored: *stored, at: *stored_at, fetched: fetched.or(Some(at.time)) }))
        }
        Phase::Erased { .. } => Err(Void::Gone),
        Phase::Uploading { .. } | Phase::Stored { .. } | Phase::Rejected { .. } | Phase::Expired { .. } => {
            Err(Void::Unknown)
        }
    }
}

/// The document that was begun by this record.
fn of(prior: Option<&Document>, begun: u64) -> Result<&Document, Void> {
    prior.filter(|document| document.begun.offset == begun).ok_or(Void::Unknown)
}

impl Document {
    fn at(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }
}
