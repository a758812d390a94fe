//! `DocumentService.GetUpload` and `FetchDocument`: how far a document has come, for its sender; its content, for its recipient.
//!
//! A fetch is on record before its first byte. With each part that leaves, the gateway checks in the same poll that the registry is current and the
//! recipient may still be given it.

use std::time::Duration;

use airut_domain::{
    delivery,
    document::{Document, DocumentKey, Fetched, Phase, SEGMENT_BYTES},
    id::PartnerId,
    identity_code::IdentityCode,
    query::Access,
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
};
use airut_telemetry::span;
use airut_wire::{
    log_v1,
    v1::{self, fetch_document_response as f},
};
use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;

use super::send_document::{field, partition_of};
use crate::{
    documents::{Shelf, VaultError},
    edge::Unanswered,
    fold::Accepted,
    gateway::{Gateway, Unproposed},
};

/// A chunk has at most so many bytes.
const CHUNK: usize = 256 * 1024;

/// As many chunks wait to be taken. With the segment that they are part of and the next one, that is what a fetch takes in memory.
const QUEUE: usize = 4;

/// A recipient that takes nothing for this long is gone. It may fetch the rest later.
const SILENCE: Duration = Duration::from_secs(60);

/// What a recipient is given, as it leaves.
type Given = Result<v1::FetchDocumentResponse, Refusal>;

/// A fetch that may be recorded.
struct Fetch {
    key: DocumentKey,
    document: Document,
    recipient: PartnerId,
    context: airut_domain::context::Context,
    from: u64,
    length: u64,
}

impl Gateway {
    /// How far a document of the caller's has come.
    pub(crate) async fn get_upload(
        &self,
        caller: &VerifiedPartner,
        request: &v1::GetUploadRequest,
    ) -> Result<v1::GetUploadResponse, Refusal> {
        let document_id = airut_wire::document_id("document_id", &request.document_id)?;
        let key = DocumentKey { sender: caller.id().clone(), document_id };
        let document = self.document_as_it_stands(&key)?.ok_or(Refusal::new(Reason::NotFound))?;
        let (state, received, reason) = match &document.phase {
            Phase::Uploading { .. } => {
                let count = self.vault.count(document.begun, document.size_bytes).await;
                let count = count.map_err(|cause| self.unstored(document.begun, &cause))?;
                (v1::UploadState::Uploading, (count * SEGMENT_BYTES).min(document.size_bytes), "")
            }
            Phase::Stored { .. } => (v1::UploadState::Held, document.size_bytes, ""),
            Phase::Announced { .. } => (v1::UploadState::Stored, document.size_bytes, ""),
            Phase::Rejected { why, .. } => (v1::UploadState::Rejected, 0, why.reason().code()),
            Phase::Expired { .. } => (v1::UploadState::Expired, 0, ""),
            Phase::Erased { .. } => (v1::UploadState::Erased, 0, ""),
        };
        let fetched = match &document.phase {
            Phase::Announced { fetched, .. } => *fetched,
            Phase::Uploading { .. }
            | Phase::Stored { .. }
            | Phase::Rejected { .. }
            | Phase::Expired { .. }
            | Phase::Erased { .. } => None,
        };
        Ok(v1::GetUploadResponse {
            state: state.into(),
            received_bytes: signed(received),
            size_bytes: signed(document.size_bytes),
            expire_time: document.until().map(airut_wire::timestamp),
            fetch_time: fetched.map(airut_wire::timestamp),
            reason: reason.to_owned(),
        })
    }

    /// Records that a recipient is given a document, or a part of it, and begins to give it.
    pub(crate) async fn fetch_document(
        &self,
        caller: &VerifiedPartner,
        request: v1::FetchDocumentRequest,
        traceparent: &str,
    ) -> Result<mpsc::Receiver<Given>, Unanswered> {
        let fetch = self.judge_fetch(caller, &request, traceparent)?;
        let slot = self.fetches.take(caller.id()).ok_or(Refusal::new(Reason::TooManyInFlight))?;
        let begun = fetch.document.begun;
        let metadata = self.document_metadata(begun).await?;
        let unstored = |cause: VaultError| match cause {
            VaultError::Erased => Refusal::new(Reason::DocumentGone),
            VaultError::Unavailable(_) => self.unstored(begun, &cause),
        };
        let shelf = self.vault.stored(begun, fetch.document.size_bytes).await.map_err(unstored)?;
        // What can not be read is found out before the record says that it was given.
        let first = shelf.read(fetch.from / SEGMENT_BYTES).await.map_err(unstored)?;
        let fetched = self.record_fetch(caller, &fetch, &metadata, request.context.as_ref(), traceparent).await?;
        let (to, given) = mpsc::channel(QUEUE);
        let (gateway, traceparent) = (self.clone(), traceparent.to_owned());
        let giving = async move {
            gateway.give_document(&fetched, &fetch, shelf, first, metadata, &to, &traceparent).await;
            drop(slot);
        };
        self.spawn(self.streams.track_future(giving));
        Ok(given)
    }

    fn judge_fetch(
        &self,
        caller: &VerifiedPartner,
        request: &v1::FetchDocumentRequest,
        traceparent: &str,
    ) -> Result<Fetch, Refusal> {
        let _span = span::judge(traceparent);
        let sender = airut_wire::partner_id("sender", &request.sender)?;
        let document_id = airut_wire::document_id("document_id", &request.document_id)?;
        let context = airut_wire::context(request.context.as_ref())?;
        let key = DocumentKey { sender, document_id };
        let document = self.document_as_it_stands(&key)?.filter(|document| document.recipient == *caller.id());
        let document = document.ok_or(Refusal::new(Reason::NotFound))?;
        match &document.phase {
            Phase::Announced { .. } => {}
            Phase::Erased { .. } => return Err(Refusal::new(Reason::DocumentGone)),
            Phase::Uploading { .. } | Phase::Stored { .. } | Phase::Rejected { .. } | Phase::Expired { .. } => {
                return Err(Refusal::new(Reason::NotFound));
            }
        }
        let size = document.size_bytes;
        let from = u64::try_from(request.offset).ok().filter(|from| *from < size);
        let from = from.ok_or_else(|| field("offset", format!("must be 0 to {}", size - 1)))?;
        let length = match u64::try_from(request.length) {
            Ok(0) => size - from,
            Ok(length) if length <= size - from => length,
            Ok(_) | Err(_) => return Err(field("length", format!("must be 0 to {}", size - from))),
        };
        let fetch = Fetch { key, document, recipient: caller.id().clone(), context, from, length };
        if self.may_fetch(&fetch) { Ok(fetch) } else { Err(Refusal::new(Reason::NoContract)) }
    }

    /// Whether the recipient is active, and its contract grants receiving the document for its purpose, now.
    fn may_fetch(&self, fetch: &Fetch) -> bool {
        let (registry, catalogue) = (self.folds.registry(), self.catalogue.load());
        let recipient = registry.current(&fetch.recipient);
        let (Some(recipient), Some(sender)) = (recipient, registry.get(&fetch.key.sender)) else { return false };
        let Some(definition) = catalogue.types().find(&fetch.document.document_type) else { return false };
        let (purpose, basis) = (&fetch.context.purpose, &fetch.context.legal_basis);
        delivery::may_receive(definition, &sender.partner, recipient.partner(), purpose, basis)
    }

    async fn record_fetch(
        &self,
        caller: &VerifiedPartner,
        fetch: &Fetch,
        metadata: &v1::DocumentMetadata,
        context: Option<&v1::Context>,
        traceparent: &str,
    ) -> Result<Accepted<Fetched>, Unanswered> {
        let year = self.world.now().date().year();
        let subject = metadata.subject_id.parse::<IdentityCode>().map_err(|cause| cause.to_string());
        let subject = subject.and_then(|code| self.ring.subject(&code, year).map_err(|cause| cause.to_string()));
        let (subject, subject_key) = subject.map_err(|cause| {
            tracing::error!(cause, "the key ring must be renewed");
            Refusal::new(Reason::NotServing)
        })?;
        let fetched = Fetched {
            key: fetch.key.clone(),
            begun: fetch.document.begun.offset,
            by: fetch.recipient.clone(),
            access: Access {
                purpose: fetch.context.purpose.clone(),
                legal_basis: fetch.context.legal_basis.clone(),
                contract_version: caller.version(),
                subject,
                subject_key,
                end_user: self.ring.end_user(fetch.context.end_user.as_str()),
                case: self.ring.case(fetch.context.case_id.as_str()),
            },
            from: fetch.from,
            length: fetch.length,
        };
        let context = context.map(Message::encode_to_vec).unwrap_or_default();
        let body = log_v1::ReadBody { context }.encode_to_vec();
        let partition = partition_of(&self.ring, &fetch.key);
        match self.propose(partition, fetched, Some(&body), traceparent).await {
            Ok(fetched) => Ok(fetched),
            Err(Unproposed::Void(void)) => Err(Refusal::new(void.reason()).into()),
            Err(Unproposed::Unwritten(refusal)) => Err(Unanswered::Unwritten(refusal)),
        }
    }

    /// Gives what was recorded as fetched, part by part, as fast as its recipient takes it.
    #[allow(clippy::too_many_arguments, reason = "the parts of one fetch")]
    async fn give_document(
        &self,
        fetched: &Accepted<Fetched>,
        fetch: &Fetch,
        shelf: Shelf,
        first: Bytes,
        metadata: v1::DocumentMetadata,
        to: &mpsc::Sender<Given>,
        traceparent: &str,
    ) {
        metrics::counter!("airut_documents_fetched_total").increment(1);
        let Fetched { from, length, .. } = fetched.command();
        let (mut at, end) = (*from, *from + *length);
        let said = f::Message::Metadata(metadata);
        if self.disclose_part(fetch, said, to, traceparent).await.is_err() {
            return;
        }
        let shelf = std::sync::Arc::new(shelf);
        let mut segment = first;
        loop {
            let number = at / SEGMENT_BYTES;
            let next = number + 1;
            // Read while this one is given.
            let reading = (next * SEGMENT_BYTES < end).then(|| {
                let shelf = std::sync::Arc::clone(&shelf);
                tokio::spawn(async move { shelf.read(next).await })
            });
            let begins = number * SEGMENT_BYTES;
            let within = |place: u64| usize::try_from((place - begins).min(shelf.length(number))).unwrap_or(0);
            let mut part = segment.slice(within(at)..within(end));
            while !part.is_empty() {
                let chunk = part.split_to(part.len().min(CHUNK));
                let bytes = chunk.len() as u64;
                if self.disclose_part(fetch, f::Message::Chunk(chunk), to, traceparent).await.is_err() {
                    return;
                }
                metrics::counter!("airut_document_bytes_fetched_total").increment(bytes);
            }
            let Some(reading) = reading else { return };
            at = next * SEGMENT_BYTES;
            segment = match reading.await {
                Ok(Ok(segment)) => segment,
                Ok(Err(cause)) => {
                    let refusal = self.unstored(fetch.document.begun, &cause);
                    drop(to.send(Err(refusal)).await);
                    return;
                }
                Err(_) => return,
            };
        }
    }

    /// The last checks and the disclosure, in one poll: nothing may come between them.
    async fn disclose_part(
        &self,
        fetch: &Fetch,
        part: f::Message,
        to: &mpsc::Sender<Given>,
        traceparent: &str,
    ) -> Result<(), ()> {
        let place = tokio::select! {
            biased;
            () = self.draining.cancelled() => {
                // Another gateway goes on where it was.
                drop(to.try_send(Err(Refusal::new(Reason::NotServing))));
                return Err(());
            }
            place = tokio::time::timeout(SILENCE, to.reserve()) => place,
        };
        let Ok(Ok(place)) = place else { return Err(()) };
        let _span = span::disclose(traceparent);
        let refusal = if !self.folds.registry_is_current(self.world.now()) {
            Refusal::new(Reason::RegistryStale)
        } else if !self.may_fetch(fetch) {
            Refusal::new(Reason::GrantChanged)
        } else {
            place.send(Ok(v1::FetchDocumentResponse { message: Some(part) }));
            return Ok(());
        };
        place.send(Err(refusal));
        Err(())
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
