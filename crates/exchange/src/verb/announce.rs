//! What a stored document waits for: its content scan, and the claim check in its recipient's mailbox.
//!
//! The claim check is a message of the document's own type, sent on behalf of its sender. Its id is the place of the record that began the document, and
//! its content follows from that record's body: whichever gateway comes to it, again or at the same time, sends the same message, and the fold takes
//! it once.

use std::sync::Arc;

use airut_domain::{
    document::{Announced, Document, DocumentKey, WhyRejected},
    id::MessageId,
    mailbox::Known,
    partition::{Partition, Position},
    refusal::{Reason, Refusal},
};
use airut_wire::v1;
use prost::Message;
use serde_json::json;

use crate::{
    documents::Scanned,
    gateway::{Gateway, Unproposed},
};

impl Gateway {
    /// Lets a stored document pass, and tells its recipient of it. Returns once that is on record, or somebody else has done it.
    ///
    /// When the future is dropped the document may be held until the next sweep.
    pub(crate) async fn announce(
        &self,
        key: &DocumentKey,
        document: &Document,
        traceparent: &str,
    ) -> Result<(), Refusal> {
        let begun = document.begun;
        let Some(_passes) = self.passing.begin(begun) else { return Err(Refusal::new(Reason::DocumentHeld)) };
        self.scan(key, document, traceparent).await?;
        let Some(claim_check) = self.claim_check(key, begun).await? else {
            return Err(self.reject_document(key, begun, WhyRejected::NotGranted, traceparent).await);
        };
        let announced = Announced { key: key.clone(), begun: begun.offset, claim_check };
        match self.propose(begun.partition, announced, None, traceparent).await {
            Ok(_) | Err(Unproposed::Void(_)) => Ok(()),
            Err(Unproposed::Unwritten(refusal)) => Err(refusal),
        }
    }

    /// Has the content scanned, where there is a scan.
    async fn scan(&self, key: &DocumentKey, document: &Document, traceparent: &str) -> Result<(), Refusal> {
        let Some(scan) = &self.scan else { return Ok(()) };
        let begun = document.begun;
        let shelf = self.vault.stored(begun, document.size_bytes).await;
        let scanned = match shelf {
            Ok(shelf) => scan.scan(&Arc::new(shelf)).await,
            Err(cause) => Err(cause),
        };
        match scanned.map_err(|cause| self.unstored(begun, &cause))? {
            Scanned::Clean => Ok(()),
            Scanned::Found => Err(self.reject_document(key, begun, WhyRejected::Infected, traceparent).await),
            Scanned::Unknown(cause) => {
                tracing::warn!(cause, document = %begun, "a document is held: it could not be scanned");
                Err(Refusal::new(Reason::DocumentHeld))
            }
        }
    }

    /// Sees to it that the recipient's mailbox has the claim check: where it lies, or none when the recipient may not be given it.
    async fn claim_check(
        &self,
        key: &DocumentKey,
        begun: Position,
    ) -> Result<Option<(Partition, airut_domain::message::Place)>, Refusal> {
        let id: MessageId = claim_check_id(begun).parse().expect("letters, digits and slashes");
        if let Some((partition, known)) = self.known_claim_check(key, &id)? {
            return Ok(Some((partition, known.place)));
        }
        let registry = self.folds.registry();
        // A sender that is suspended may be active again.
        let sender = registry.current(&key.sender).ok_or(Refusal::new(Reason::DocumentHeld))?;
        let metadata = self.document_metadata(begun).await?;
        if let Some(Err(refusal)) = self.send_on_behalf(sender, claim_check(key, &id, metadata)).await {
            return Err(refusal);
        }
        // Not sent and not known: the contracts do not grant it any more.
        Ok(self.known_claim_check(key, &id)?.map(|(partition, known)| (partition, known.place)))
    }

    fn known_claim_check(&self, key: &DocumentKey, id: &MessageId) -> Result<Option<(Partition, Known)>, Refusal> {
        self.folds.known_message(&key.sender, id).map_err(|cause| {
            tracing::error!(%cause, "the fold can not be read");
            Refusal::new(Reason::NotServing)
        })
    }

    /// What a document's sender said of it.
    pub(crate) async fn document_metadata(&self, begun: Position) -> Result<v1::DocumentMetadata, Refusal> {
        let unreadable = || Refusal::new(Reason::LogUnavailable);
        let (stored, header) = self.read_record(begun.partition, begun.offset).await.ok_or_else(unreadable)?;
        let body = self.writer.open_body(&stored, &header).await.map_err(|cause| cause.to_string());
        let metadata = body.and_then(|body| v1::DocumentMetadata::decode(&body[..]).map_err(|cause| cause.to_string()));
        metadata.map_err(|cause| {
            tracing::error!(%cause, %begun, "what a document is called can not be opened");
            unreadable()
        })
    }
}

fn claim_check_id(begun: Position) -> String {
    format!("document/{}/{}", begun.partition.number, begun.offset)
}

/// The message: byte for byte the same at every gateway.
fn claim_check(key: &DocumentKey, id: &MessageId, metadata: v1::DocumentMetadata) -> v1::SendRequest {
    let payload = json!({
        "sender": key.sender.as_str(),
        "document_id": metadata.document_id,
        "file_name": metadata.file_name,
        "content_type": metadata.content_type,
        "size_bytes": metadata.size_bytes,
        "sha256": airut_domain::keys::Digest::from_slice(&metadata.sha256).map(|digest| digest.to_string()),
    });
    v1::SendRequest {
        message_id: id.to_string(),
        recipient: metadata.recipient,
        message_type: metadata.document_type,
        ordering_key: String::new(),
        subject_id: metadata.subject_id,
        context: metadata.context,
        content_type: "application/json".to_owned(),
        payload: payload.to_string().into_bytes(),
        expire_time: None,
    }
}
