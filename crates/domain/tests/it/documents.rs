//! The life of a document, for any records in any order: `apply` is total, and keeps what it promises.

use std::time::Duration;

use airut_domain::{
    document::{
        Announced, Begun, Document, DocumentKey, Ended, Event, Fetched, Phase, Rejected, Stored, UPLOAD, Void,
        WhyRejected, apply,
    },
    keys::Digest,
    message::Place,
    partition::{Partition, Position, Topic},
    query::{Access, At},
    time::Timestamp,
};
use proptest::prelude::*;

use crate::cases;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the documents here are kept.
const KEEP: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// A record, of the document that is there or of another one: `right` says which.
#[derive(Clone, Copy, Debug)]
enum Draft {
    Begun { content: u8 },
    Stored { right: bool },
    Rejected { right: bool },
    Announced { right: bool },
    Fetched { right: bool, by_recipient: bool },
    Expired { right: bool },
    Erased { right: bool },
}

fn draft() -> impl Strategy<Value = Draft> {
    let right = || prop::bool::weighted(0.8);
    prop_oneof![
        4 => (0..2_u8).prop_map(|content| Draft::Begun { content }),
        4 => right().prop_map(|right| Draft::Stored { right }),
        1 => right().prop_map(|right| Draft::Rejected { right }),
        4 => right().prop_map(|right| Draft::Announced { right }),
        4 => (right(), right()).prop_map(|(right, by_recipient)| Draft::Fetched { right, by_recipient }),
        2 => right().prop_map(|right| Draft::Expired { right }),
        2 => right().prop_map(|right| Draft::Erased { right }),
    ]
}

/// How long after the one before a record comes: mostly at once, now and then beyond an upload's time, what is kept or remembered.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        8 => (0..10_000_u64).prop_map(Duration::from_millis),
        2 => (0..26_u64).prop_map(|hours| Duration::from_secs(hours * 60 * 60)),
        1 => (0..9_u32).prop_map(|days| DAY * days),
    ]
}

fn event(draft: Draft, prior: Option<&Document>, at: At) -> Event {
    let key = DocumentKey { sender: "pirkanmaa".parse().expect("valid"), document_id: "d-1".parse().expect("valid") };
    let access = Access {
        purpose: "social-assistance".parse().expect("valid"),
        legal_basis: "1412/1997".parse().expect("valid"),
        contract_version: 1,
        subject: Digest::default(),
        subject_key: "subject-2026".parse().expect("valid"),
        end_user: Digest::default(),
        case: Digest::default(),
    };
    let begun = |right: bool| match prior {
        Some(document) if right => document.begun.offset,
        Some(_) | None => at.position.offset + 1,
    };
    let partition = Partition { topic: Topic::Messages, number: 0 };
    match draft {
        Draft::Begun { content } => Event::Begun(Begun {
            key,
            recipient: "kela".parse().expect("valid"),
            document_type: "social-assistance-document".parse().expect("valid"),
            fingerprint: Digest([content; 32]),
            commitment: Digest::default(),
            size_bytes: 5,
            keep: KEEP,
            access,
        }),
        Draft::Stored { right } => Event::Stored(Stored { key, begun: begun(right) }),
        Draft::Rejected { right } => {
            Event::Rejected(Rejected { key, begun: begun(right), why: WhyRejected::WrongDigest })
        }
        Draft::Announced { right } => {
            let claim_check = (partition, Place { offset: 1, item: 0 });
            Event::Announced(Announced { key, begun: begun(right), claim_check })
        }
        Draft::Fetched { right, by_recipient } => {
            let by = if by_recipient { "kela" } else { "helsinki" }.parse().expect("valid");
            Event::Fetched(Fetched { key, begun: begun(right), by, access, from: 0, length: 5 })
        }
        Draft::Expired { right } => Event::Expired(Ended { key, begun: begun(right) }),
        Draft::Erased { right } => Event::Erased(Ended { key, begun: begun(right) }),
    }
}

/// What an accepted record must have found, and what it must have made.
fn check(prior: Option<&Document>, next: &Document, at: At, event: &Event) -> Result<(), TestCaseError> {
    let phase = prior.map(|document| &document.phase);
    let ended = |phase: Option<&Phase>| matches!(phase, Some(Phase::Rejected { .. } | Phase::Expired { .. }));
    match event {
        Event::Begun(begun) => {
            prop_assert!(prior.is_none() || ended(phase), "begun while the id is in use");
            prop_assert_eq!((next.begun, next.fingerprint), (at.position, begun.fingerprint));
            prop_assert_eq!(&next.phase, &Phase::Uploading { until: at.time + UPLOAD });
        }
        Event::Stored(_) => {
            prop_assert!(matches!(phase, Some(Phase::Uploading { .. })), "stored what was not coming");
            prop_assert_eq!(&next.phase, &Phase::Stored { stored: at.position.offset, at: at.time });
        }
        Event::Rejected(_) => {
            let open = matches!(phase, Some(Phase::Uploading { .. } | Phase::Stored { .. }));
            prop_assert!(open, "rejected what its recipient knows of, or what has ended");
        }
        Event::Announced(_) => {
            prop_assert!(matches!(phase, Some(Phase::Stored { .. })), "announced what is not stored");
        }
        Event::Fetched(fetched) => {
            prop_assert_eq!(&fetched.by, &next.recipient);
            let Some(Phase::Announced { at: stored, fetched: before, .. }) = phase else {
                return Err(TestCaseError::fail("fetched what is not there"));
            };
            prop_assert!(at.time < *stored + KEEP, "fetched after its time");
            let Phase::Announced { fetched, .. } = &next.phase else { return Err(TestCaseError::fail("it stays")) };
            prop_assert_eq!(*fetched, before.or(Some(at.time)), "the first time stays");
        }
        Event::Expired(_) => {
            let due = matches!(phase, Some(Phase::Uploading { until }) if at.time >= *until);
            prop_assert!(due, "an upload that is over, or not yet");
        }
        Event::Erased(_) => {
            let stored = matches!(
                phase,
                Some(Phase::Stored { at: stored, .. } | Phase::Announced { at: stored, .. }) if at.time >= *stored + KEEP
            );
            prop_assert!(stored, "erased before its time");
        }
    }
    prop_assert_eq!(next.until().is_none(), next.forget_at().is_some(), "what has not ended is not forgotten");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_document_lives_as_it_should_whatever_is_recorded(
        records in prop::collection::vec((draft(), pause()), 0..24),
    ) {
        let partition = Partition { topic: Topic::Documents, number: 3 };
        let mut time = Timestamp::from_millis(1_795_334_400_000);
        let mut state: Option<Document> = None;
        // The record that the receipt names: for one document there is never another.
        let mut receipt: Option<(Position, u64)> = None;
        for (offset, (draft, pause)) in (0..).zip(records) {
            time = time + pause;
            let at = At { position: Position { partition, offset }, time };
            let prior = state.take().filter(|document| document.forget_at().is_none_or(|forget| time < forget));
            let event = event(draft, prior.as_ref(), at);
            let verdict = apply(prior.as_ref(), at, &event);
            prop_assert_eq!(&apply(prior.as_ref(), at, &event), &verdict, "pure");
            match &verdict {
                Ok(next) => check(prior.as_ref(), next, at, &event)?,
                Err(Void::IdReused) => {
                    let Event::Begun(begun) = &event else { return Err(TestCaseError::fail("only who begins is told so")) };
                    prop_assert!(prior.as_ref().is_some_and(|document| document.fingerprint != begun.fingerprint));
                }
                Err(_) => {}
            }
            state = verdict.ok().or(prior);
            if let Some(document) = &state
                && let Phase::Stored { stored, .. } | Phase::Announced { stored, .. } = &document.phase
            {
                let named = receipt.filter(|(begun, _)| *begun == document.begun);
                prop_assert!(named.is_none_or(|(_, named)| named == *stored), "another receipt");
                receipt = Some((document.begun, *stored));
            }
        }
    }
}
