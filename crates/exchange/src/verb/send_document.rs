//! `DocumentService.SendDocument`: judge, begin, store, scan, announce, receipt.
//!
//! The page beside it is docs/life-of-a-document.md. Each step is a record, and where a document stands is what the fold says. So the verb looks there
//! before each step: a document that was begun before goes on from where it is, at whichever gateway, and one that is done has its receipt.

use std::time::Duration;

use airut_domain::{
    delivery::{self, Asks},
    document::{Begun, Document, DocumentKey, Phase, Rejected, Stored, Submission, Void as DocumentVoid, WhyRejected},
    keys::{Digest, commitment},
    media_type::Look,
    message_type::Service,
    partition::{Partition, Position, Topic},
    query::Access,
    receipt::Statement,
    record::Kind,
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
};
use airut_log::KeyRing;
use airut_telemetry::span;
use airut_wire::v1::{self, send_document_request as s};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    documents::{Put, Segment, Shelf, VaultError},
    edge::Unanswered,
    fold::Void,
    gateway::{Gateway, Unproposed},
};

/// A sender that says nothing for this long is gone. It may go on later.
const SILENCE: Duration = Duration::from_secs(60);

/// The largest chunk, in bytes.
const LARGEST_CHUNK: usize = 1024 * 1024;

/// As many segments are being stored while further content comes.
const STORED_AT_ONCE: usize = 2;

/// How often a document may turn out to be somewhere else than it was before the caller is told to come back.
const TRIES: usize = 8;

/// What a sender says, as it comes.
pub(crate) struct Content {
    messages: Streaming<v1::SendDocumentRequest>,
    left: CancellationToken,
    draining: CancellationToken,
}

impl Content {
    pub(crate) fn new(
        messages: Streaming<v1::SendDocumentRequest>,
        left: CancellationToken,
        draining: CancellationToken,
    ) -> Self {
        Self { messages, left, draining }
    }

    /// The document, and from which byte on its content comes.
    async fn begin(&mut self) -> Result<s::Begin, Unanswered> {
        match self.next().await? {
            Some(s::Message::Begin(begin)) => Ok(begin),
            Some(s::Message::Chunk(_)) | None => Err(protocol("begin", "comes first").into()),
        }
    }

    /// The next part of the content; none at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Unanswered> {
        match self.next().await? {
            None => Ok(None),
            Some(s::Message::Begin(_)) => Err(protocol("begin", "comes once").into()),
            Some(s::Message::Chunk(chunk)) if chunk.len() > LARGEST_CHUNK => {
                Err(field("chunk", format!("must have at most {LARGEST_CHUNK} bytes")).into())
            }
            Some(s::Message::Chunk(chunk)) => Ok(Some(chunk)),
        }
    }

    async fn next(&mut self) -> Result<Option<s::Message>, Unanswered> {
        let message = tokio::select! {
            biased;
            () = self.draining.cancelled() => return Err(Unanswered::Unwritten(Refusal::new(Reason::NotServing))),
            // Nobody is there to be told, nor refused.
            () = self.left.cancelled() => return Err(Unanswered::Unwritten(Refusal::new(Reason::OutcomeUnknown))),
            message = tokio::time::timeout(SILENCE, self.messages.next()) => message,
        };
        match message {
            Err(_) => Err(protocol("chunk", "must follow within 60 seconds; go on where GetUpload says").into()),
            Ok(None) => Ok(None),
            Ok(Some(Ok(message))) => match message.message {
                Some(message) => Ok(Some(message)),
                None => Err(protocol("message", "says nothing").into()),
            },
            Ok(Some(Err(broken))) if broken.code() == tonic::Code::OutOfRange => {
                Err(field("chunk", format!("must have at most {LARGEST_CHUNK} bytes")).into())
            }
            Ok(Some(Err(_))) => Err(Unanswered::Unwritten(Refusal::new(Reason::OutcomeUnknown))),
        }
    }
}

/// A document as it was read.
pub(crate) struct Read {
    pub(crate) key: DocumentKey,
    pub(crate) partition: Partition,
    submission: Submission,
    fingerprint: Digest,
    /// The metadata as received: the sealed body of its first record.
    body: Vec<u8>,
    /// From which byte on its content comes.
    offset: u64,
}

impl Gateway {
    /// Takes a document in, from wherever it has come to, and gives its receipt when all of it is stored and its recipient knows of it.
    ///
    /// When the future is dropped the document stays where it was; a further call with the same document goes on.
    pub(crate) async fn send_document(
        &self,
        caller: &VerifiedPartner,
        mut content: Content,
        traceparent: &str,
    ) -> Result<v1::Receipt, Unanswered> {
        let begin = content.begin().await?;
        let read = self.read_document(caller, begin)?;
        let mut content = Some(content);
        // Where this call's upload began.
        let mut begun: Option<Position> = None;
        for _ in 0..TRIES {
            let document = self.document_as_it_stands(&read.key)?;
            let Some(document) = document.filter(|document| !is_ended(document) || begun == Some(document.begun))
            else {
                begun = self.begin_document(caller, &read, traceparent).await?.or(begun);
                continue;
            };
            if document.fingerprint != read.fingerprint {
                return Err(Refusal::new(Reason::DocumentIdReused).into());
            }
            begun = Some(document.begun);
            match &document.phase {
                Phase::Uploading { .. } => {
                    // What was said is used up, and yet it is not stored: another call has begun it anew.
                    let Some(content) = content.take() else { break };
                    self.judge_document(caller, &read, traceparent)?;
                    self.upload(&read, &document, content, traceparent).await?;
                }
                Phase::Stored { .. } => self.announce(&read.key, &document, traceparent).await?,
                Phase::Announced { stored, at, .. } => {
                    let stored = Position { partition: read.partition, offset: *stored };
                    return Ok(self.document_receipt(&read, document.begun, stored, *at).await?);
                }
                Phase::Rejected { why, .. } => return Err(Refusal::new(why.reason()).into()),
                Phase::Expired { .. } => break,
                Phase::Erased { .. } => return Err(Refusal::new(Reason::DocumentGone).into()),
            }
        }
        Err(Refusal::new(Reason::OutcomeUnknown).into())
    }

    /// The document as the fold knows it.
    pub(crate) fn document_as_it_stands(&self, key: &DocumentKey) -> Result<Option<Document>, Refusal> {
        self.folds.document(key, self.world.now()).map_err(|cause| {
            tracing::error!(%cause, "the fold can not be read");
            Refusal::new(Reason::NotServing)
        })
    }

    fn read_document(&self, caller: &VerifiedPartner, begin: s::Begin) -> Result<Read, Refusal> {
        let metadata = begin.metadata.unwrap_or_default();
        let submission = airut_wire::document(&metadata)?;
        let offset = u64::try_from(begin.offset).ok().filter(|offset| *offset <= submission.size_bytes);
        let offset = offset.ok_or_else(|| field("offset", "must be 0 to the document's size".to_owned()))?;
        let body = metadata.encode_to_vec();
        let key = DocumentKey { sender: caller.id().clone(), document_id: submission.document_id.clone() };
        Ok(Read {
            partition: partition_of(&self.ring, &key),
            key,
            submission,
            fingerprint: self.ring.fingerprint(&body),
            body,
            offset,
        })
    }

    /// What the record that begins it says of it, if its sender may send it.
    fn judge_document(&self, caller: &VerifiedPartner, read: &Read, traceparent: &str) -> Result<Begun, Refusal> {
        let _span = span::judge(traceparent);
        let (now, submission) = (self.world.now(), &read.submission);
        let context = &submission.context;
        let catalogue = self.catalogue.load();
        let asks = Asks {
            message_type: &submission.document_type,
            recipient: &submission.recipient,
            purpose: &context.purpose,
            legal_basis: &context.legal_basis,
        };
        let granted = delivery::grant(caller, &self.folds.registry(), catalogue.types(), &asks)?;
        let definition = granted.definition();
        delivery::require_service(definition, Service::Documents, "document_type")?;
        let mut faults = Vec::new();
        let mut fault = |field: &'static str, fault: String| faults.push(Violation { field: field.into(), fault });
        if submission.size_bytes > definition.max_bytes.into() {
            fault("size_bytes", format!("must be at most {}", definition.max_bytes));
        }
        if !definition.content_types.contains(&submission.content_type) {
            let known: Vec<&str> = definition.content_types.iter().map(String::as_str).collect();
            fault("content_type", format!("must be {}", known.join(" or ")));
        }
        if !faults.is_empty() {
            return Err(Refusal::fields(faults));
        }
        let (subject, subject_key) = self.ring.subject(&submission.subject, now.date().year()).map_err(|cause| {
            tracing::error!(%cause, "the key ring must be renewed");
            Refusal::new(Reason::NotServing)
        })?;
        let salt = self.ring.commitment_salt(&salt_parts(&read.key, &read.fingerprint));
        Ok(Begun {
            key: read.key.clone(),
            recipient: submission.recipient.clone(),
            document_type: submission.document_type.clone(),
            fingerprint: read.fingerprint,
            commitment: commitment(&salt, submission.sha256),
            size_bytes: submission.size_bytes,
            keep: definition.keep(),
            access: Access {
                purpose: context.purpose.clone(),
                legal_basis: context.legal_basis.clone(),
                contract_version: caller.version(),
                subject,
                subject_key,
                end_user: self.ring.end_user(context.end_user.as_str()),
                case: self.ring.case(context.case_id.as_str()),
            },
        })
    }

    /// The record that begins it; none when somebody else was faster.
    async fn begin_document(
        &self,
        caller: &VerifiedPartner,
        read: &Read,
        traceparent: &str,
    ) -> Result<Option<Position>, Unanswered> {
        let begun = self.judge_document(caller, read, traceparent)?;
        match self.propose(read.partition, begun, Some(&read.body), traceparent).await {
            Ok(begun) => Ok(Some(begun.position())),
            Err(Unproposed::Void(Void::Document(DocumentVoid::BegunBefore | DocumentVoid::StoredBefore))) => Ok(None),
            Err(Unproposed::Void(void)) => Err(Refusal::new(void.reason()).into()),
            Err(Unproposed::Unwritten(refusal)) => Err(Unanswered::Unwritten(refusal)),
        }
    }

    /// Takes in what is missing of the content, and records that all of it is stored, or why it is not what its sender said.
    async fn upload(
        &self,
        read: &Read,
        document: &Document,
        content: Content,
        traceparent: &str,
    ) -> Result<(), Unanswered> {
        let slot = self.uploads.take(&read.key.sender).ok_or(Refusal::new(Reason::TooManyInFlight))?;
        let received = self.receive(read, document, content).await;
        drop(slot);
        match received {
            Ok(()) => {}
            Err(Unreceived::Rejected(why)) => {
                return Err(self.reject_document(&read.key, document.begun, why, traceparent).await.into());
            }
            Err(Unreceived::Vault(cause)) => return Err(self.unstored(document.begun, &cause).into()),
            Err(Unreceived::Unanswered(unanswered)) => return Err(unanswered),
        }
        let stored = Stored { key: read.key.clone(), begun: document.begun.offset };
        match self.propose(read.partition, stored, None, traceparent).await {
            Ok(_) => {
                metrics::counter!("airut_documents_stored_total").increment(1);
                Ok(())
            }
            // Somebody else has stored it, or ended it: where it stands says which.
            Err(Unproposed::Void(_)) => Ok(()),
            Err(Unproposed::Unwritten(refusal)) => Err(Unanswered::Unwritten(refusal)),
        }
    }

    async fn receive(&self, read: &Read, document: &Document, content: Content) -> Result<(), Unreceived> {
        let shelf = std::sync::Arc::new(self.vault.shelf(document.begun, document.size_bytes).await?);
        let mut received = Received::new(&read.submission.content_type);
        let there = shelf.count().await?;
        let start = (0..there).map(|number| shelf.length(number)).sum();
        if read.offset > start {
            return Err(field("offset", format!("must be at most {start}, as GetUpload says")).into());
        }
        // What was stored before is read back: what is checked is what lies there.
        for number in 0..there {
            received.take(&shelf.read(number).await?)?;
        }
        let parts = Parts { content, left: start - read.offset, rest: Bytes::new() };
        store(&shelf, there, parts, &mut received).await?;
        if received.digest() != read.submission.sha256 {
            return Err(Unreceived::Rejected(WhyRejected::WrongDigest));
        }
        if shelf.count().await? != shelf.segments() {
            return Err(VaultError::Unavailable("a segment that was stored is missing".to_owned()).into());
        }
        Ok(())
    }

    /// Records that a document is not what its sender said, or may not pass, and erases it. What to tell its sender.
    pub(crate) async fn reject_document(
        &self,
        key: &DocumentKey,
        begun: Position,
        why: WhyRejected,
        traceparent: &str,
    ) -> Refusal {
        let rejected = Rejected { key: key.clone(), begun: begun.offset, why };
        match self.propose(begun.partition, rejected, None, traceparent).await {
            Ok(_) => {
                metrics::counter!("airut_documents_rejected_total").increment(1);
                self.erase_content(begun).await;
                Refusal::new(why.reason())
            }
            Err(Unproposed::Void(void)) => Refusal::new(void.reason()),
            Err(Unproposed::Unwritten(refusal)) => refusal,
        }
    }

    /// Erases what is stored of a document that has ended. What is left is for the janitor.
    pub(crate) async fn erase_content(&self, begun: Position) {
        if let Err(cause) = self.vault.erase(begun).await {
            tracing::warn!(%cause, document = %begun, "what is stored of an ended document is not erased yet");
        }
    }

    /// What to tell a caller whose document can not be stored or read now.
    pub(crate) fn unstored(&self, begun: Position, cause: &VaultError) -> Refusal {
        match cause {
            // It has ended meanwhile: where it stands says how.
            VaultError::Erased => Refusal::new(Reason::OutcomeUnknown),
            VaultError::Unavailable(cause) => {
                tracing::warn!(cause, document = %begun, "the object store can not be used");
                Refusal::new(Reason::StoreUnavailable)
            }
        }
    }

    async fn document_receipt(
        &self,
        read: &Read,
        begun: Position,
        stored: Position,
        at: airut_domain::time::Timestamp,
    ) -> Result<v1::Receipt, Refusal> {
        let header = self.header_at(begun.partition, begun.offset).await;
        let header = header.ok_or(Refusal::new(Reason::LogUnavailable))?;
        let Kind::Document(airut_domain::document::Event::Begun(recorded)) = &header.kind else {
            tracing::error!(%begun, "a document is not where its fold says");
            return Err(Refusal::new(Reason::NotServing));
        };
        let parts = salt_parts(&read.key, &read.fingerprint);
        // The commitment may have been made under a key that is no longer the active one.
        let salt = self.ring.salt_of(recorded.commitment, read.submission.sha256, &parts).ok_or_else(|| {
            tracing::error!(%begun, "a document is not what its record commits to");
            Refusal::new(Reason::NotServing)
        })?;
        let statement = Statement {
            id: read.key.document_id.to_string(),
            recipient: read.submission.recipient.clone(),
            payload_sha256: read.submission.sha256,
            accept_time: at,
            position: stored,
            item: None,
        };
        let receipt = self.signer.sign(statement, salt).await.ok_or(Refusal::new(Reason::NotServing))?;
        Ok(airut_wire::receipt(&receipt))
    }
}

/// Why content did not become a stored document.
enum Unreceived {
    /// It is not what its sender said.
    Rejected(WhyRejected),
    /// The store.
    Vault(VaultError),
    /// The rest is for later, or for nobody.
    Unanswered(Unanswered),
}

impl From<VaultError> for Unreceived {
    fn from(cause: VaultError) -> Self {
        Self::Vault(cause)
    }
}

impl From<Unanswered> for Unreceived {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unanswered(unanswered)
    }
}

impl From<Refusal> for Unreceived {
    fn from(refusal: Refusal) -> Self {
        Self::Unanswered(refusal.into())
    }
}

/// What has been received, from the first byte on.
struct Received {
    hash: Hash,
    /// None for a type of which nothing can be told: no document type allows one.
    look: Option<Look>,
}

impl Received {
    fn new(content_type: &str) -> Self {
        Self { hash: Hash::new(&SHA256), look: Look::new(content_type) }
    }

    /// Takes the next whole segment, unless its content is of another type than was said.
    fn take(&mut self, segment: &[u8]) -> Result<(), Unreceived> {
        let fits = self.look.as_mut().is_some_and(|look| look.fits(segment));
        if !fits {
            return Err(Unreceived::Rejected(WhyRejected::WrongType));
        }
        self.hash.update(segment);
        Ok(())
    }

    fn may_end(&self) -> bool {
        self.look.as_ref().is_some_and(Look::may_end)
    }

    fn digest(&self) -> Digest {
        Digest::from_slice(self.hash.clone().finish().as_ref()).expect("SHA-256 has 32 bytes")
    }
}

/// Content as it comes, of which what is stored already is passed over.
struct Parts {
    content: Content,
    /// As many bytes are still to be passed over.
    left: u64,
    rest: Bytes,
}

impl Parts {
    /// The next bytes, at most so many; none at the content's end.
    async fn next(&mut self, most: u64) -> Result<Option<Bytes>, Unanswered> {
        while self.rest.is_empty() {
            let Some(mut chunk) = self.content.chunk().await? else { return Ok(None) };
            let passed_over = self.left.min(chunk.len() as u64);
            self.left -= passed_over;
            bytes::Buf::advance(&mut chunk, usize::try_from(passed_over).expect("a part of a chunk"));
            self.rest = chunk;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Ok(Some(self.rest.split_to(most)))
    }

    /// Whether nothing follows. A sender that has said all and left is as good.
    async fn end(&mut self) -> bool {
        !matches!(self.next(1).await, Ok(Some(_)))
    }
}

/// Stores the segments from this one on as their content comes, and returns once all are durable.
async fn store(
    shelf: &std::sync::Arc<Shelf>,
    from: u64,
    mut parts: Parts,
    received: &mut Received,
) -> Result<(), Unreceived> {
    let mut storing: JoinSet<Result<Put, VaultError>> = JoinSet::new();
    for number in from..shelf.segments() {
        let mut segment = Segment::of(shelf.length(number));
        while segment.len() < shelf.length(number) {
            match parts.next(shelf.length(number) - segment.len()).await {
                Ok(Some(part)) => segment.extend(&part),
                ended => {
                    // What was begun is finished: it is where the sender may go on.
                    while let Some(put) = storing.join_next().await {
                        stored(put)?;
                    }
                    ended?;
                    return Err(field("chunk", "ended before size_bytes; go on where GetUpload says".to_owned()).into());
                }
            }
        }
        received.take(segment.content())?;
        if storing.len() >= STORED_AT_ONCE
            && let Some(put) = storing.join_next().await
        {
            stored(put)?;
        }
        metrics::counter!("airut_document_bytes_stored_total").increment(segment.len());
        let shelf = std::sync::Arc::clone(shelf);
        storing.spawn(async move { shelf.put(number, segment).await });
    }
    while let Some(put) = storing.join_next().await {
        stored(put)?;
    }
    if !received.may_end() {
        return Err(Unreceived::Rejected(WhyRejected::WrongType));
    }
    if !parts.end().await {
        return Err(field("chunk", "goes on after size_bytes".to_owned()).into());
    }
    Ok(())
}

fn stored(put: Result<Result<Put, VaultError>, JoinError>) -> Result<(), Unreceived> {
    match put {
        Ok(Ok(Put::Stored)) => Ok(()),
        // Somebody sent other content as the same document.
        Ok(Ok(Put::Other)) => Err(Unreceived::Rejected(WhyRejected::WrongDigest)),
        Ok(Err(cause)) => Err(cause.into()),
        Err(cause) => Err(VaultError::Unavailable(cause.to_string()).into()),
    }
}

/// Whether its id may be used again.
const fn is_ended(document: &Document) -> bool {
    match document.phase {
        Phase::Rejected { .. } | Phase::Expired { .. } => true,
        Phase::Uploading { .. } | Phase::Stored { .. } | Phase::Announced { .. } | Phase::Erased { .. } => false,
    }
}

/// The partition that everything about a document lies in.
pub(crate) fn partition_of(ring: &KeyRing, key: &DocumentKey) -> Partition {
    ring.partition_of(Topic::Documents, &[key.sender.as_str().as_bytes(), key.document_id.as_str().as_bytes()])
}

/// What the salt of the commitment to a document's content is made from: the same for every receipt of it.
fn salt_parts<'a>(key: &'a DocumentKey, fingerprint: &'a Digest) -> [&'a [u8]; 3] {
    [key.sender.as_str().as_bytes(), key.document_id.as_str().as_bytes(), &fingerprint.0]
}

pub(super) fn field(field: &'static str, fault: impl Into<String>) -> Refusal {
    Refusal::fields(vec![Violation { field: field.into(), fault: fault.into() }])
}

fn protocol(field: &'static str, fault: &str) -> Refusal {
    let violations = vec![Violation { field: field.into(), fault: fault.to_owned() }];
    Refusal { violations, ..Refusal::new(Reason::ProtocolViolation) }
}
