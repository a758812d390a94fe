//! The stored form of the records of `airut.documents`.

use std::time::Duration;

use airut_domain::{
    document::{Announced, Begun, DocumentKey, Ended, Event, Fetched, Rejected, Stored, WhyRejected},
    message::Place,
    partition::{Partition, Topic},
};

use super::{PbKind, Unreadable, access, access_from, digest, parse};
use crate::log_v1 as pb;

/// An event for its record.
pub(super) fn event(event: &Event) -> PbKind {
    let DocumentKey { sender, document_id } = event.key();
    let (sender, document_id) = (sender.to_string(), document_id.to_string());
    let ended = |ended: &Ended, sender, document_id| pb::DocumentEnded { sender, document_id, begun: ended.begun };
    match event {
        Event::Begun(begun) => PbKind::DocumentBegun(pb::DocumentBegun {
            sender,
            document_id,
            recipient: begun.recipient.to_string(),
            document_type: begun.document_type.to_string(),
            fingerprint: begun.fingerprint.0.to_vec(),
            commitment: begun.commitment.0.to_vec(),
            size_bytes: begun.size_bytes,
            keep_ms: u64::try_from(begun.keep.as_millis()).unwrap_or(u64::MAX),
            access: Some(access(&begun.access)),
        }),
        Event::Stored(stored) => {
            PbKind::DocumentStored(pb::DocumentStored { sender, document_id, begun: stored.begun })
        }
        Event::Rejected(rejected) => PbKind::DocumentRejected(pb::DocumentRejected {
            sender,
            document_id,
            begun: rejected.begun,
            why: why(rejected.why).into(),
        }),
        Event::Announced(announced) => {
            let (partition, place) = announced.claim_check;
            PbKind::DocumentAnnounced(pb::DocumentAnnounced {
                sender,
                document_id,
                begun: announced.begun,
                partition: partition.number,
                offset: place.offset,
                item: place.item,
            })
        }
        Event::Fetched(fetched) => PbKind::DocumentFetched(pb::DocumentFetched {
            sender,
            document_id,
            begun: fetched.begun,
            by: fetched.by.to_string(),
            access: Some(access(&fetched.access)),
            from: fetched.from,
            length: fetched.length,
        }),
        Event::Expired(expired) => PbKind::DocumentExpired(ended(expired, sender, document_id)),
        Event::Erased(erased) => PbKind::DocumentErased(ended(erased, sender, document_id)),
    }
}

const fn why(why: WhyRejected) -> pb::document_rejected::Why {
    use pb::document_rejected::Why;
    match why {
        WhyRejected::WrongDigest => Why::WrongDigest,
        WhyRejected::WrongType => Why::WrongType,
        WhyRejected::Infected => Why::Infected,
        WhyRejected::NotGranted => Why::NotGranted,
    }
}

/// Reads what a record says of a document.
pub(super) fn begun_from(begun: pb::DocumentBegun) -> Result<Event, Unreadable> {
    Ok(Event::Begun(Begun {
        key: key(&begun.sender, &begun.document_id)?,
        recipient: parse(&begun.recipient, "recipient")?,
        document_type: parse(&begun.document_type, "document_type")?,
        fingerprint: digest(&begun.fingerprint, "fingerprint")?,
        commitment: digest(&begun.commitment, "commitment")?,
        size_bytes: begun.size_bytes,
        keep: Duration::from_millis(begun.keep_ms),
        access: access_from(begun.access)?,
    }))
}

pub(super) fn stored_from(stored: &pb::DocumentStored) -> Result<Event, Unreadable> {
    Ok(Event::Stored(Stored { key: key(&stored.sender, &stored.document_id)?, begun: stored.begun }))
}

pub(super) fn rejected_from(rejected: &pb::DocumentRejected) -> Result<Event, Unreadable> {
    use pb::document_rejected::Why;
    let why = match Why::try_from(rejected.why).unwrap_or(Why::Unspecified) {
        Why::Unspecified => return Err(Unreadable::Field("why")),
        Why::WrongDigest => WhyRejected::WrongDigest,
        Why::WrongType => WhyRejected::WrongType,
        Why::Infected => WhyRejected::Infected,
        Why::NotGranted => WhyRejected::NotGranted,
    };
    Ok(Event::Rejected(Rejected { key: key(&rejected.sender, &rejected.document_id)?, begun: rejected.begun, why }))
}

pub(super) fn announced_from(announced: &pb::DocumentAnnounced) -> Result<Event, Unreadable> {
    let partition = Partition { topic: Topic::Messages, number: announced.partition };
    if partition.number >= Topic::Messages.partitions() {
        return Err(Unreadable::Field("partition"));
    }
    Ok(Event::Announced(Announced {
        key: key(&announced.sender, &announced.document_id)?,
        begun: announced.begun,
        claim_check: (partition, Place { offset: announced.offset, item: announced.item }),
    }))
}

pub(super) fn fetched_from(fetched: pb::DocumentFetched) -> Result<Event, Unreadable> {
    Ok(Event::Fetched(Fetched {
        key: key(&fetched.sender, &fetched.document_id)?,
        begun: fetched.begun,
        by: parse(&fetched.by, "by")?,
        access: access_from(fetched.access)?,
        from: fetched.from,
        length: fetched.length,
    }))
}

pub(super) fn ended_from(ended: &pb::DocumentEnded) -> Result<Ended, Unreadable> {
    Ok(Ended { key: key(&ended.sender, &ended.document_id)?, begun: ended.begun })
}

fn key(sender: &str, document_id: &str) -> Result<DocumentKey, Unreadable> {
    Ok(DocumentKey { sender: parse(sender, "sender")?, document_id: parse(document_id, "document_id")? })
}
