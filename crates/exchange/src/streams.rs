//! Which of a responder's streams a question is put to.

use airut_domain::{
    id::{PartnerId, StreamId},
    keys::Digest,
    member::StreamKind,
};

use crate::fold::Folds;

/// The responder's stream for this question: by rendezvous hashing, so that streams share the work and every gateway chooses
/// alike. Those that a question was put to in vain are passed over.
pub(crate) fn choose(
    folds: &Folds,
    responder: &PartnerId,
    fingerprint: Digest,
    passed_over: &[StreamId],
) -> Option<StreamId> {
    let weight = |stream: &StreamId| Digest::of_parts(&[&fingerprint.0, stream.as_str().as_bytes()]);
    let streams = folds.streams_of(responder, StreamKind::Answers).into_iter().map(|opened| opened.stream);
    streams.filter(|stream| !passed_over.contains(stream)).max_by_key(weight)
}
