//! Messages, to and from the protocol.

use std::{collections::BTreeSet, time::Duration};

use airut_domain::{
    context::Text,
    delivery::Submission,
    id::MessageType,
    member::{MOST_TYPES, Types},
    message::{Code, LONGEST_WAIT, Offer, Outcome, Place, Settlement},
    partition::{Partition, Topic},
    refusal::{Class, Reason, Refusal, Violation},
};

use crate::{question::Faults, receipt::timestamp_from, v1};

/// A lease that a collector does not state.
const USUAL_LEASE: Duration = Duration::from_secs(30);

/// The longest text of a rejection, in characters.
const LONGEST_TEXT: usize = 1000;

/// Reads a message but for its payload, reporting every field at fault at once.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn submission(request: &v1::SendRequest) -> Result<Submission, Refusal> {
    let mut faults = Faults::default();
    let message_id = faults.identifier("message_id", &request.message_id);
    let recipient = faults.identifier("recipient", &request.recipient);
    let message_type = faults.identifier("message_type", &request.message_type);
    let ordering_key = faults.optional("ordering_key", &request.ordering_key, Text::new);
    let subject = faults.optional("subject_id", &request.subject_id, str::parse);
    let context = faults.context(request.context.as_ref());
    let content_type = faults.field("content_type", &request.content_type, |text| Ok::<_, String>(text.to_owned()));
    if request.payload.is_empty() {
        faults.add::<()>("payload", "is required");
    }
    let complete = || {
        Some(Submission {
            message_id: message_id?,
            recipient: recipient?,
            message_type: message_type?,
            ordering_key: ordering_key?,
            subject: subject?,
            context: context?,
            content_type: content_type?,
            size_bytes: request.payload.len(),
            expires: request.expire_time.map(timestamp_from),
        })
    };
    let complete = complete();
    faults.finish(complete)
}

/// Reads who asks and why.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn context(context: Option<&v1::Context>) -> Result<airut_domain::context::Context, Refusal> {
    let mut faults = Faults::default();
    let context = faults.context(context);
    faults.finish(context)
}

/// A refusal for one item of many.
pub fn refusal(refusal: &Refusal) -> v1::Refusal {
    let violation = |violation: &Violation| v1::refusal::Violation {
        field: violation.field.to_string(),
        description: violation.fault.clone(),
    };
    v1::Refusal {
        reason: refusal.reason.code().to_owned(),
        code: crate::status::code(refusal.reason.class()).into(),
        message: crate::status::sentence(refusal),
        violations: refusal.violations.iter().map(violation).collect(),
        retry_delay: refusal.retry_after.map(duration),
    }
}

/// Reads a refusal of one item of many, as a client does: the reason, where it is known here, and when to try again.
pub fn refusal_from(refusal: &v1::Refusal) -> (Option<Reason>, Option<Duration>) {
    let retry_after = refusal.retry_delay.and_then(|delay| delay.try_into().ok());
    (Reason::from_code(&refusal.reason), retry_after)
}

/// Whether trying again with the same id can help.
pub fn is_worth_retrying(refusal: &v1::Refusal) -> bool {
    let (reason, retry_after) = refusal_from(refusal);
    retry_after.is_some() || reason.is_some_and(|reason| reason.class() == Class::Unavailable)
}

/// The id of one offer: partition, offset, item and number.
pub fn delivery_id(partition: Partition, offer: Offer) -> String {
    format!("{}.{}.{}.{}", partition.number, offer.place.offset, offer.place.item, offer.number)
}

/// Reads the id of an offer; `None` when it is none.
pub fn delivery_from(id: &str) -> Option<(Partition, Offer)> {
    let mut parts = id.split('.');
    let number = parts.next()?.parse().ok()?;
    let place = Place { offset: parts.next()?.parse().ok()?, item: parts.next()?.parse().ok()? };
    let offer = Offer { place, number: parts.next()?.parse().ok()? };
    let known = parts.next().is_none() && number < Topic::Messages.partitions() && offer.place.offset < 1 << 48;
    known.then_some((Partition { topic: Topic::Messages, number }, offer))
}

/// Reads a settlement, with what it says for people.
///
/// # Errors
/// A refusal with the field.
pub fn settlement(settlement: v1::Settlement) -> Result<(Partition, Settlement, String), Refusal> {
    use v1::settlement::Outcome as From;
    let fault = |field: &'static str, fault: &str| {
        Refusal::fields(vec![Violation { field: field.into(), fault: fault.to_owned() }])
    };
    let (partition, offer) =
        delivery_from(&settlement.delivery_id).ok_or_else(|| fault("delivery_id", "must be that of a delivery"))?;
    let (outcome, text) = match settlement.outcome {
        None => return Err(fault("outcome", "is required")),
        Some(From::Accepted(_)) => (Outcome::Accepted, String::new()),
        Some(From::Returned(returned)) => {
            let delay = match returned.delay {
                None => None,
                Some(delay) => {
                    let span = span(delay, Duration::ZERO);
                    Some(span.ok_or_else(|| fault("returned.delay", "must be at most 1 hour"))?)
                }
            };
            (Outcome::Returned(delay), String::new())
        }
        Some(From::Rejected(rejected)) => {
            let code: Code = rejected.code.parse().map_err(|_| {
                fault("rejected.code", "must have 1 to 64 characters of A-Z 0-9 _, and no six digits in a row")
            })?;
            if rejected.text.chars().count() > LONGEST_TEXT {
                return Err(fault("rejected.text", "must have at most 1000 characters"));
            }
            (Outcome::Rejected(code), rejected.text)
        }
    };
    Ok((partition, Settlement { offer, outcome }, text))
}

/// How a delivery ended, for the protocol.
pub fn outcome(outcome: &Outcome) -> i32 {
    use v1::settlement_result::Outcome as To;
    match outcome {
        Outcome::Accepted => To::Accepted,
        Outcome::Returned(_) => To::Returned,
        Outcome::Rejected(_) => To::Rejected,
    }
    .into()
}

/// Reads a lease: 1 second to 1 hour; what is absent is 30 seconds.
///
/// # Errors
/// A refusal with the field.
pub fn lease(field: &'static str, lease: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(lease) = lease else { return Ok(USUAL_LEASE) };
    span(lease, Duration::from_secs(1)).ok_or_else(|| {
        Refusal::fields(vec![Violation { field: field.into(), fault: "must be 1 second to 1 hour".to_owned() }])
    })
}

/// Reads the types of the messages that a recipient takes; when none is named, all.
///
/// # Errors
/// A refusal with each name at fault; none repeats it.
pub fn taken_types(field: &'static str, names: &[String]) -> Result<Types, Refusal> {
    if names.len() > MOST_TYPES {
        let fault = format!("must have at most {MOST_TYPES}");
        return Err(Refusal::fields(vec![Violation { field: field.into(), fault }]));
    }
    let (mut types, mut faults) = (BTreeSet::new(), Vec::new());
    for (number, name) in names.iter().enumerate() {
        match name.parse::<MessageType>() {
            Ok(name) => drop(types.insert(name)),
            Err(fault) => {
                faults.push(Violation { field: format!("{field}[{number}]").into(), fault: fault.to_string() });
            }
        }
    }
    if faults.is_empty() { Ok(Types::named(types)) } else { Err(Refusal::fields(faults)) }
}

/// A span for the protocol.
pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(span).unwrap_or_default()
}

/// A span of at least `least` and at most an hour; `None` when it is another.
pub fn span(span: prost_types::Duration, least: Duration) -> Option<Duration> {
    Duration::try_from(span).ok().filter(|span| (least..=LONGEST_WAIT).contains(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_delivery_reads_back_and_nothing_else_does() {
        let partition = Partition { topic: Topic::Messages, number: 11 };
        let offer = Offer { place: Place { offset: 1042, item: 3 }, number: 2 };
        let id = delivery_id(partition, offer);
        assert_eq!(id, "11.1042.3.2");
        assert_eq!(delivery_from(&id), Some((partition, offer)));
        for text in ["", "11.1042.3", "11.1042.3.2.1", "12.1.1.1", "a.1.1.1", "1.-1.1.1", "1.281474976710656.1.1"] {
            assert_eq!(delivery_from(text), None, "{text}");
        }
    }

    #[test]
    fn each_type_that_is_none_is_told_by_its_place_and_no_type_is_every_type() {
        let read = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            taken_types("open.message_types", &names)
        };
        assert_eq!(read(&[]), Ok(Types::All));
        let taken = read(&["social-work-need", "a", "a"]).expect("two types");
        assert_eq!(taken.names().map(MessageType::as_str).collect::<Vec<_>>(), ["a", "social-work-need"]);
        let refused = read(&["a", "", "a b", "131052-308T"]).expect_err("three are none");
        let told: Vec<String> = refused.violations.iter().map(|v| format!("{} {}", v.field, v.fault)).collect();
        assert_eq!(
            told,
            [
                "open.message_types[1] must not be empty",
                "open.message_types[2] may contain only A-Z a-z 0-9 . _ : / -",
                "open.message_types[3] must not contain a personal identity code",
            ]
        );
        assert!(read(&["a"; 64]).is_ok());
        let refused = read(&["a"; 65]).expect_err("too many");
        assert_eq!(
            (refused.reason, refused.violations[0].field.as_ref()),
            (Reason::InvalidField, "open.message_types")
        );
    }
}
