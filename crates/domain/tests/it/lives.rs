//! The life of a query, for any records in any order: `apply` is total, and keeps what it promises.

use std::time::Duration;

use airut_domain::{
    id::StreamId,
    keys::Digest,
    partition::{Partition, Position, Topic},
    query::{
        Access, Answered, Asked, At, Event, NotDisclosed, Phase, Query, QueryKey, Repeated, Rerouted, SERVED, Verdict,
        WhyNot, apply,
    },
    time::Timestamp,
};
use proptest::prelude::*;

use crate::cases;

/// A record, with offsets and deadlines relative to where it comes to lie.
#[derive(Clone, Copy, Debug)]
enum Draft {
    Asked { content: u8, stream: u8, patience: u64 },
    Rerouted { from: u8, to: u8 },
    Answered { back: u64, stream: u8 },
    NotDisclosed { back: u64, why: WhyNot },
    Repeated { content: u8 },
}

fn draft() -> impl Strategy<Value = Draft> {
    let why = prop::sample::select(vec![
        WhyNot::NoAnswer,
        WhyNot::Late,
        WhyNot::CallerLeft,
        WhyNot::RightLost,
        WhyNot::ResponderFailed,
        WhyNot::RegistryStale,
    ]);
    prop_oneof![
        4 => (0..2_u8, 0..3_u8, 0..5_000_u64).prop_map(|(content, stream, patience)| Draft::Asked { content, stream, patience }),
        1 => (0..3_u8, 0..3_u8).prop_map(|(from, to)| Draft::Rerouted { from, to }),
        4 => (1..4_u64, 0..3_u8).prop_map(|(back, stream)| Draft::Answered { back, stream }),
        3 => (1..4_u64, why).prop_map(|(back, why)| Draft::NotDisclosed { back, why }),
        2 => (0..2_u8).prop_map(|content| Draft::Repeated { content }),
    ]
}

/// How long after the one before a record comes: mostly at once, now and then beyond what is served or remembered.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        8 => (0..2_000_u64).prop_map(Duration::from_millis),
        2 => (0..700_u64).prop_map(Duration::from_secs),
        1 => (0..9_u64).prop_map(|days| Duration::from_secs(days * 24 * 60 * 60)),
    ]
}

fn stream(number: u8) -> StreamId {
    format!("stream-{number}").parse().expect("valid")
}

fn event(draft: Draft, at: At) -> Event {
    let key = QueryKey { asker: "pirkanmaa".parse().expect("valid"), query_id: "q-1".parse().expect("valid") };
    let access = || Access {
        purpose: "social-assistance".parse().expect("valid"),
        legal_basis: "1412/1997".parse().expect("valid"),
        contract_version: 1,
        subject: Digest::default(),
        subject_key: "subject-2026".parse().expect("valid"),
        end_user: Digest::default(),
        case: Digest::default(),
    };
    let fingerprint = |content| Digest([content; 32]);
    let earlier = |back| at.position.offset.saturating_sub(back);
    match draft {
        Draft::Asked { content, stream: number, patience } => Event::Asked(Asked {
            key,
            fingerprint: fingerprint(content),
            responder: "kela".parse().expect("valid"),
            stream: stream(number),
            deadline: at.time + Duration::from_millis(patience),
            access: access(),
            scopes: vec![],
            withheld: vec![],
        }),
        Draft::Rerouted { from, to } => Event::Rerouted(Rerouted { key, from: stream(from), to: stream(to) }),
        Draft::Answered { back, stream: number } => Event::Answered(Answered {
            key,
            asked: earlier(back),
            stream: stream(number),
            commitment: Digest::default(),
            withheld: 0,
        }),
        Draft::NotDisclosed { back, why } => Event::NotDisclosed(NotDisclosed { key, asked: earlier(back), why }),
        Draft::Repeated { content } => {
            Event::Repeated(Repeated { key, fingerprint: fingerprint(content), access: access() })
        }
    }
}

/// What an accepted record must have found.
fn check(prior: Option<&Query>, at: At, event: &Event) -> Result<(), TestCaseError> {
    let phase = prior.map(|query| &query.phase);
    match event {
        Event::Asked(asked) => {
            let is_free = match prior {
                None => true,
                Some(query) => {
                    matches!(query.phase, Phase::Unanswered { .. }) && query.fingerprint == asked.fingerprint
                }
            };
            prop_assert!(is_free, "asked while the id is in use");
        }
        Event::Rerouted(rerouted) => {
            let waits = matches!(phase, Some(Phase::Open { stream, .. }) if *stream == rerouted.from);
            prop_assert!(waits, "rerouted from where it was not");
        }
        Event::Answered(answered) => {
            let waits = matches!(phase, Some(Phase::Open { stream, .. }) if *stream == answered.stream);
            prop_assert!(waits, "answered what does not wait there");
            prop_assert_eq!(
                prior.map(|query| query.asked.offset),
                Some(answered.asked),
                "the answer to another asking"
            );
        }
        Event::NotDisclosed(not) => {
            prop_assert_eq!(prior.map(|query| query.asked.offset), Some(not.asked));
            match phase {
                Some(Phase::Open { deadline, .. }) => {
                    prop_assert!(not.why != WhyNot::NoAnswer || at.time >= *deadline, "ended before its time");
                }
                Some(Phase::Answered { .. }) => prop_assert_ne!(not.why, WhyNot::NoAnswer),
                Some(Phase::Unanswered { .. }) | None => prop_assert!(false, "ended twice"),
            }
        }
        Event::Repeated(repeated) => {
            prop_assert_eq!(prior.map(|query| query.fingerprint), Some(repeated.fingerprint));
            let served =
                matches!(phase, Some(Phase::Answered { at: answered, .. }) if at.time.since(*answered) <= SERVED);
            prop_assert!(served, "repeated what is not served");
        }
    }
    Ok(())
}

/// What an accepted record must have made.
fn check_next(prior: Option<&Query>, next: Option<&Query>, at: At, event: &Event) -> Result<(), TestCaseError> {
    let asked = prior.map(|query| query.asked);
    match event {
        Event::Asked(_) => {
            prop_assert_eq!(next.map(|query| query.asked), Some(at.position));
            prop_assert!(next.is_some_and(|query| query.forget_at().is_none()), "what is open is not forgotten");
        }
        Event::Rerouted(rerouted) => {
            let put_to = |query: &Query| matches!(&query.phase, Phase::Open { stream, .. } if *stream == rerouted.to);
            prop_assert!(next.is_some_and(put_to));
            prop_assert_eq!(next.map(|query| query.asked), asked);
        }
        Event::Answered(_) => {
            let answered = Phase::Answered { answer: at.position, at: at.time };
            prop_assert_eq!(next.map(|query| &query.phase), Some(&answered));
            prop_assert_eq!(next.map(|query| query.asked), asked);
        }
        Event::NotDisclosed(not) => match prior.map(|query| &query.phase) {
            Some(Phase::Open { .. }) => {
                let ended = Phase::Unanswered { why: not.why, at: at.time };
                prop_assert_eq!(next.map(|query| &query.phase), Some(&ended));
            }
            Some(_) | None => prop_assert_eq!(next, None, "the answer stays on record"),
        },
        Event::Repeated(_) => prop_assert_eq!(next, None),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_query_lives_as_it_should_whatever_is_recorded(
        records in prop::collection::vec((draft(), pause()), 0..24),
    ) {
        let partition = Partition { topic: Topic::Queries, number: 3 };
        let mut time = Timestamp::from_millis(1_795_334_400_000);
        let mut state: Option<Query> = None;
        let mut answers_since_asked = 0;
        for (offset, (draft, pause)) in (0..).zip(records) {
            time = time + pause;
            let at = At { position: Position { partition, offset }, time };
            let event = event(draft, at);
            let prior = state.take().filter(|query| query.forget_at().is_none_or(|forget| time < forget));
            let (verdict, next) = apply(prior.as_ref(), at, &event);
            prop_assert_eq!(apply(prior.as_ref(), at, &event), (verdict, next.clone()), "pure");
            match verdict {
                Verdict::Accepted => {
                    check(prior.as_ref(), at, &event)?;
                    check_next(prior.as_ref(), next.as_ref(), at, &event)?;
                }
                Verdict::Void(_) => prop_assert_eq!(&next, &None, "what does not count changes nothing"),
            }
            match (&event, verdict) {
                (Event::Asked(_), Verdict::Accepted) => answers_since_asked = 0,
                (Event::Answered(_), Verdict::Accepted) => answers_since_asked += 1,
                _ => {}
            }
            prop_assert!(answers_since_asked <= 1, "answered twice");
            state = next.or(prior);
        }
    }
}
