//! Documents, from the protocol.

use airut_domain::{
    document::{LARGEST, Submission},
    file_name::FileName,
    id::DocumentId,
    keys::Digest,
    refusal::Refusal,
};

use crate::{question::Faults, v1};

/// Reads what a document is, reporting every field at fault at once.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn document(metadata: &v1::DocumentMetadata) -> Result<Submission, Refusal> {
    let mut faults = Faults::default();
    let document_id = faults.identifier("document_id", &metadata.document_id);
    let recipient = faults.identifier("recipient", &metadata.recipient);
    let document_type = faults.identifier("document_type", &metadata.document_type);
    let subject = faults.field("subject_id", &metadata.subject_id, str::parse);
    let context = faults.context(metadata.context.as_ref());
    let file_name = faults.field("file_name", &metadata.file_name, FileName::new);
    let content_type = faults.field("content_type", &metadata.content_type, |text| Ok::<_, String>(text.to_owned()));
    let size_bytes = match u64::try_from(metadata.size_bytes) {
        Ok(0) => faults.add("size_bytes", "must be at least 1: an empty file is no document"),
        Ok(size) if size <= LARGEST => Some(size),
        Ok(_) => faults.add("size_bytes", "must be at most 1073741824"),
        Err(_) => faults.add("size_bytes", "must not be negative"),
    };
    let sha256 = match metadata.sha256.as_slice() {
        [] => faults.add("sha256", "is required"),
        bytes => Digest::from_slice(bytes).or_else(|| faults.add("sha256", "must have 32 bytes")),
    };
    let complete = || {
        Some(Submission {
            document_id: document_id?,
            recipient: recipient?,
            document_type: document_type?,
            subject: subject?,
            context: context?,
            file_name: file_name?,
            content_type: content_type?,
            size_bytes: size_bytes?,
            sha256: sha256?,
        })
    };
    let complete = complete();
    faults.finish(complete)
}

/// Reads a document's id.
///
/// # Errors
/// The field, when it is missing or not valid.
pub fn document_id(field: &'static str, text: &str) -> Result<DocumentId, Refusal> {
    let mut faults = Faults::default();
    let id = faults.identifier(field, text);
    faults.finish(id)
}
