//! The stored form of a record's header.

mod document;
mod message;
mod request;
mod stream;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use airut_domain::{
    document as documents,
    id::{self, Benefit},
    keys::Digest,
    member,
    partition::{Partition, Topic},
    partner::Partner,
    query::{self, QueryKey, WhyNot},
    question::{Scope, Withheld},
    record::{BodyRef, Header, Kind, Order, RULES, Refused, Runs},
    refusal::Reason,
    registry::PartnerApplied,
    time::{Period, Timestamp, format_date, parse_date},
};
use prost::Message;

use crate::{
    log_v1::{self as pb, record_header::Kind as PbKind},
    v1,
};

/// Why a stored header can not be read. Whoever folds the log must stop, unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Made by rules that this build does not know.
    #[error("made under rules {0}, and this build knows up to {RULES}")]
    Rules(u32),
    /// A kind that this build does not know.
    #[error("of a kind that this build does not know")]
    Kind,
    /// Not protobuf.
    #[error("not a record header")]
    Encoding,
    /// A field is not what it must be.
    #[error("field {0} is missing or not valid")]
    Field(&'static str),
}

/// The bytes of a header as they are stored.
pub fn encode(header: &Header) -> Vec<u8> {
    let body = header.body.as_ref();
    pb::RecordHeader {
        rules: header.rules,
        nonce: header.nonce.to_vec(),
        author: header.author.to_string(),
        body_sha256: body.map(|b| b.sha256.0.to_vec()).unwrap_or_default(),
        body_key: body.map(|b| b.key.to_string()).unwrap_or_default(),
        kind: Some(kind(&header.kind)),
    }
    .encode_to_vec()
}

/// Reads a stored header.
///
/// # Errors
/// [`Unreadable`], for anything that this build did not or could not have written.
pub fn decode(bytes: &[u8]) -> Result<Header, Unreadable> {
    let header = pb::RecordHeader::decode(bytes).map_err(|_| Unreadable::Encoding)?;
    if header.rules == 0 || header.rules > RULES {
        return Err(Unreadable::Rules(header.rules));
    }
    let body = match (header.body_sha256.as_slice(), header.body_key.as_str()) {
        ([], "") => None,
        (sha256, key) => Some(BodyRef { sha256: digest(sha256, "body_sha256")?, key: parse(key, "body_key")? }),
    };
    Ok(Header {
        rules: header.rules,
        nonce: header.nonce.as_slice().try_into().map_err(|_| Unreadable::Field("nonce"))?,
        author: parse(&header.author, "author")?,
        body,
        kind: kind_from(header.kind.ok_or(Unreadable::Kind)?)?,
    })
}

/// A partner's definition as it is stored: JSON.
pub fn definition(partner: &Partner) -> String {
    serde_json::to_string(partner).expect("a partner is plain data")
}

/// Reads a stored definition.
///
/// # Errors
/// When it is not one.
pub fn partner(definition: &str) -> Result<Partner, Unreadable> {
    serde_json::from_str(definition).map_err(|_| Unreadable::Field("definition"))
}

fn kind(kind: &Kind) -> PbKind {
    match kind {
        Kind::Message(event) => message::event(event),
        Kind::Query(event) => query_event(event),
        Kind::Document(event) => document::event(event),
        Kind::Request(event) => request::event(event),
        Kind::Refusal(refused) => PbKind::Refused(pb::Refused {
            partner: refused.partner.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: refused.reason.code().to_owned(),
            method: refused.method.clone(),
            fields: refused.fields.clone(),
            count: refused.count,
            span_ms: u64::try_from(refused.span.as_millis()).unwrap_or(u64::MAX),
            stranger: refused.stranger.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        }),
        Kind::Partner(applied) => PbKind::PartnerApplied(pb::PartnerApplied {
            version: applied.version,
            definition: definition(&applied.partner),
            by: applied.by.as_ref().map(ToString::to_string).unwrap_or_default(),
            source_sha256: applied.source.map(|source| source.0.to_vec()).unwrap_or_default(),
        }),
        Kind::Member(event) => member_event(event),
        Kind::Order(Order::Run(Runs { runs })) => {
            let run = |(partition, end): &(Partition, u64)| pb::runs::Run {
                topic: partition.topic.name().to_owned(),
                partition: partition.number,
                end: *end,
            };
            PbKind::Runs(pb::Runs { runs: runs.iter().map(run).collect() })
        }
        Kind::Order(Order::Checkpoint(note)) => PbKind::Checkpoint(pb::Checkpoint { note: note.clone() }),
    }
}

fn query_event(event: &query::Event) -> PbKind {
    let QueryKey { asker, query_id } = event.key();
    let (asker, query_id) = (asker.to_string(), query_id.to_string());
    match event {
        query::Event::Asked(asked) => PbKind::QueryAsked(query_asked(asked, asker, query_id)),
        query::Event::Rerouted(rerouted) => PbKind::QueryRerouted(pb::QueryRerouted {
            asker,
            query_id,
            from: rerouted.from.to_string(),
            to: rerouted.to.to_string(),
        }),
        query::Event::Answered(answered) => PbKind::QueryAnswered(pb::QueryAnswered {
            asker,
            query_id,
            asked: answered.asked,
            stream: answered.stream.to_string(),
            commitment: answered.commitment.0.to_vec(),
            withheld: answered.withheld,
        }),
        query::Event::NotDisclosed(not) => PbKind::QueryNotDisclosed(pb::QueryNotDisclosed {
            asker,
            query_id,
            asked: not.asked,
            why: why(not.why).into(),
        }),
        query::Event::Repeated(repeated) => PbKind::QueryRepeated(pb::QueryRepeated {
            asker,
            query_id,
            fingerprint: repeated.fingerprint.0.to_vec(),
            access: Some(access(&repeated.access)),
        }),
    }
}

const fn why(why: WhyNot) -> pb::query_not_disclosed::Why {
    use pb::query_not_disclosed::Why;
    match why {
        WhyNot::NoAnswer => Why::NoAnswer,
        WhyNot::Late => Why::Late,
        WhyNot::CallerLeft => Why::CallerLeft,
        WhyNot::RightLost => Why::RightLost,
        WhyNot::ResponderFailed => Why::ResponderFailed,
        WhyNot::RegistryStale => Why::RegistryStale,
    }
}

fn access(access: &query::Access) -> pb::Access {
    pb::Access {
        purpose: access.purpose.to_string(),
        legal_basis: access.legal_basis.to_string(),
        contract_version: access.contract_version,
        subject: access.subject.0.to_vec(),
        subject_key: access.subject_key.to_string(),
        end_user: access.end_user.0.to_vec(),
        case: access.case.0.to_vec(),
    }
}

fn query_asked(asked: &query::Asked, asker: String, query_id: String) -> pb::QueryAsked {
    let benefits: BTreeSet<&Benefit> = asked.scopes.iter().flat_map(|scope| scope.benefits.iter()).collect();
    let benefits: Vec<&Benefit> = benefits.into_iter().collect();
    pb::QueryAsked {
        asker,
        query_id,
        fingerprint: asked.fingerprint.0.to_vec(),
        responder: asked.responder.to_string(),
        stream: asked.stream.to_string(),
        deadline_ms: asked.deadline.as_millis(),
        access: Some(access(&asked.access)),
        scopes: asked.scopes.iter().map(|scope| self::scope(scope, &benefits)).collect(),
        withheld: asked.withheld.iter().map(withheld).collect(),
        benefits: benefits.into_iter().map(ToString::to_string).collect(),
    }
}

fn scope(scope: &Scope, listed: &[&Benefit]) -> pb::Scope {
    let place = |benefit| listed.binary_search(&benefit).expect("every scope's benefits are listed, in order");
    let places =
        scope.benefits.iter().map(|benefit| u32::try_from(place(benefit)).expect("a list of benefits is short"));
    pb::Scope {
        category: crate::question::category(scope.category),
        benefits: places.collect(),
        start_date: format_date(scope.period.from()),
        end_date: format_date(scope.period.to()),
    }
}

fn withheld(withheld: &Withheld) -> pb::Withheld {
    let v1::Withheld { category, reason } = crate::answer::withheld(withheld);
    pb::Withheld { category, reason }
}

fn member_event(event: &member::Event) -> PbKind {
    match event {
        member::Event::Heartbeat(gateway) => PbKind::Heartbeat(pb::Heartbeat { gateway: gateway.to_string() }),
        member::Event::Left(gateway) => PbKind::Left(pb::Left { gateway: gateway.to_string() }),
        member::Event::StreamOpened(opened) => PbKind::StreamOpened(stream::opened(opened)),
        member::Event::StreamClosed(stream) => PbKind::StreamClosed(pb::StreamClosed { stream: stream.to_string() }),
    }
}

fn kind_from(kind: PbKind) -> Result<Kind, Unreadable> {
    Ok(match kind {
        PbKind::MessagesAccepted(accepted) => Kind::Message(message::accepted_from(accepted)?),
        PbKind::MessagesOffered(offered) => Kind::Message(message::offered_from(offered)?),
        PbKind::LeasesExtended(extended) => Kind::Message(message::extended_from(extended)?),
        PbKind::MessagesSettled(settled) => Kind::Message(message::settled_from(settled)?),
        PbKind::LeasesEnded(ended) => Kind::Message(message::leases_ended_from(ended)?),
        PbKind::MessagesExpired(expired) => Kind::Message(message::expired_from(expired)?),
        PbKind::MessagesTransferred(transferred) => Kind::Message(message::transferred_from(transferred)?),
        PbKind::MessagesRedriven(redriven) => Kind::Message(message::redriven_from(redriven)?),
        PbKind::DocumentBegun(begun) => Kind::Document(document::begun_from(begun)?),
        PbKind::DocumentStored(stored) => Kind::Document(document::stored_from(&stored)?),
        PbKind::DocumentRejected(rejected) => Kind::Document(document::rejected_from(&rejected)?),
        PbKind::DocumentAnnounced(announced) => Kind::Document(document::announced_from(&announced)?),
        PbKind::DocumentFetched(fetched) => Kind::Document(document::fetched_from(fetched)?),
        PbKind::DocumentExpired(ended) => Kind::Document(documents::Event::Expired(document::ended_from(&ended)?)),
        PbKind::DocumentErased(ended) => Kind::Document(documents::Event::Erased(document::ended_from(&ended)?)),
        PbKind::RequestCreated(created) => Kind::Request(request::created_from(created)?),
        PbKind::RequestCommand(command) => Kind::Request(request::command_from(command)?),
        PbKind::RequestRead(read) => Kind::Request(request::read_from(read)?),
        PbKind::RequestReminded(reminded) => Kind::Request(request::reminded_from(&reminded)?),
        PbKind::RequestLapsed(lapsed) => Kind::Request(request::lapsed_from(&lapsed)?),
        PbKind::QueryAsked(asked) => Kind::Query(query::Event::Asked(query::Asked {
            key: key(&asked.asker, &asked.query_id)?,
            fingerprint: digest(&asked.fingerprint, "fingerprint")?,
            responder: parse(&asked.responder, "responder")?,
            stream: parse(&asked.stream, "stream")?,
            deadline: Timestamp::from_millis(asked.deadline_ms),
            access: access_from(asked.access)?,
            scopes: scopes_from(asked.scopes, &asked.benefits)?,
            withheld: asked.withheld.iter().map(withheld_from).collect::<Result<_, _>>()?,
        })),
        PbKind::QueryRerouted(rerouted) => Kind::Query(query::Event::Rerouted(query::Rerouted {
            key: key(&rerouted.asker, &rerouted.query_id)?,
            from: parse(&rerouted.from, "from")?,
            to: parse(&rerouted.to, "to")?,
        })),
        PbKind::QueryAnswered(answered) => Kind::Query(query::Event::Answered(query::Answered {
            key: key(&answered.asker, &answered.query_id)?,
            asked: answered.asked,
            stream: parse(&answered.stream, "stream")?,
            commitment: digest(&answered.commitment, "commitment")?,
            withheld: answered.withheld,
        })),
        PbKind::QueryNotDisclosed(not) => Kind::Query(query::Event::NotDisclosed(query::NotDisclosed {
            key: key(&not.asker, &not.query_id)?,
            asked: not.asked,
            why: why_from(not.why)?,
        })),
        PbKind::QueryRepeated(repeated) => Kind::Query(query::Event::Repeated(query::Repeated {
            key: key(&repeated.asker, &repeated.query_id)?,
            fingerprint: digest(&repeated.fingerprint, "fingerprint")?,
            access: access_from(repeated.access)?,
        })),
        PbKind::Refused(refused) => Kind::Refusal(refused_from(refused)?),
        PbKind::PartnerApplied(applied) => Kind::Partner(PartnerApplied {
            version: applied.version,
            partner: partner(&applied.definition)?,
            by: optional(&applied.by, "by")?,
            source: optional_digest(&applied.source_sha256, "source_sha256")?,
        }),
        PbKind::Heartbeat(beat) => Kind::Member(member::Event::Heartbeat(parse(&beat.gateway, "gateway")?)),
        PbKind::Left(left) => Kind::Member(member::Event::Left(parse(&left.gateway, "gateway")?)),
        PbKind::StreamOpened(opened) => Kind::Member(member::Event::StreamOpened(stream::opened_from(&opened)?)),
        PbKind::StreamClosed(closed) => Kind::Member(member::Event::StreamClosed(parse(&closed.stream, "stream")?)),
        PbKind::Runs(runs) => {
            let run = |run: pb::runs::Run| {
                let topic = Topic::from_name(&run.topic).ok_or(Unreadable::Field("topic"))?;
                Ok((Partition { topic, number: run.partition }, run.end))
            };
            Kind::Order(Order::Run(Runs { runs: runs.runs.into_iter().map(run).collect::<Result<_, _>>()? }))
        }
        PbKind::Checkpoint(checkpoint) => Kind::Order(Order::Checkpoint(checkpoint.note)),
    })
}

fn refused_from(refused: pb::Refused) -> Result<Refused, Unreadable> {
    Ok(Refused {
        partner: optional(&refused.partner, "partner")?,
        reason: Reason::from_code(&refused.reason).ok_or(Unreadable::Field("reason"))?,
        method: refused.method,
        fields: refused.fields,
        count: refused.count,
        span: Duration::from_millis(refused.span_ms),
        stranger: optional_digest(&refused.stranger, "stranger")?,
    })
}

fn why_from(number: i32) -> Result<WhyNot, Unreadable> {
    use pb::query_not_disclosed::Why;
    match Why::try_from(number).unwrap_or(Why::Unspecified) {
        Why::Unspecified => Err(Unreadable::Field("why")),
        Why::NoAnswer => Ok(WhyNot::NoAnswer),
        Why::Late => Ok(WhyNot::Late),
        Why::CallerLeft => Ok(WhyNot::CallerLeft),
        Why::RightLost => Ok(WhyNot::RightLost),
        Why::ResponderFailed => Ok(WhyNot::ResponderFailed),
        Why::RegistryStale => Ok(WhyNot::RegistryStale),
    }
}

fn access_from(access: Option<pb::Access>) -> Result<query::Access, Unreadable> {
    let access = access.ok_or(Unreadable::Field("access"))?;
    Ok(query::Access {
        purpose: parse(&access.purpose, "access.purpose")?,
        legal_basis: parse(&access.legal_basis, "access.legal_basis")?,
        contract_version: access.contract_version,
        subject: digest(&access.subject, "access.subject")?,
        subject_key: parse(&access.subject_key, "access.subject_key")?,
        end_user: digest(&access.end_user, "access.end_user")?,
        case: digest(&access.case, "access.case")?,
    })
}

fn scopes_from(scopes: Vec<pb::Scope>, benefits: &[String]) -> Result<Vec<Scope>, Unreadable> {
    let benefits: Vec<Benefit> = benefits.iter().map(|benefit| parse(benefit, "benefits")).collect::<Result<_, _>>()?;
    scopes.into_iter().map(|scope| scope_from(scope, &benefits)).collect()
}

fn scope_from(scope: pb::Scope, listed: &[Benefit]) -> Result<Scope, Unreadable> {
    let fault = || Unreadable::Field("scopes");
    let at = |place: &u32| listed.get(*place as usize).cloned().ok_or(Unreadable::Field("scopes.benefits"));
    let benefits = scope.benefits.iter().map(at);
    let date = |text: &str| parse_date(text).ok_or_else(fault);
    Ok(Scope {
        category: crate::matter::category_from(scope.category).ok_or_else(fault)?,
        benefits: Arc::new(benefits.collect::<Result<_, _>>()?),
        period: Period::new(date(&scope.start_date)?, date(&scope.end_date)?).ok_or_else(fault)?,
    })
}

fn withheld_from(withheld: &pb::Withheld) -> Result<Withheld, Unreadable> {
    let read = crate::answer::withheld_from(withheld.category, withheld.reason);
    read.ok_or(Unreadable::Field("withheld"))
}

fn key(asker: &str, query_id: &str) -> Result<QueryKey, Unreadable> {
    Ok(QueryKey { asker: parse(asker, "asker")?, query_id: parse(query_id, "query_id")? })
}

fn parse<T: std::str::FromStr<Err = id::Invalid>>(text: &str, field: &'static str) -> Result<T, Unreadable> {
    text.parse().map_err(|_| Unreadable::Field(field))
}

fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, Unreadable> {
    Digest::from_slice(bytes).ok_or(Unreadable::Field(field))
}

/// What may be absent: then it is empty.
fn optional<T: std::str::FromStr<Err = id::Invalid>>(text: &str, field: &'static str) -> Result<Option<T>, Unreadable> {
    if text.is_empty() { Ok(None) } else { parse(text, field).map(Some) }
}

fn optional_digest(bytes: &[u8], field: &'static str) -> Result<Option<Digest>, Unreadable> {
    if bytes.is_empty() { Ok(None) } else { digest(bytes, field).map(Some) }
}

#[cfg(test)]
mod tests {
    use airut_domain::matter::Category;
    use proptest::prelude::*;

    use super::*;

    fn header(kind: Kind) -> Header {
        Header { rules: RULES, nonce: [7; 16], author: "gateway-1".parse().expect("valid"), body: None, kind }
    }

    /// Scopes that share some benefits and not others, and one of none.
    fn scopes() -> Vec<Scope> {
        let scope = |category, benefits: &[&str]| {
            let benefits = Arc::new(benefits.iter().map(|benefit| benefit.parse().expect("valid")).collect());
            let day = parse_date("2026-11-22").expect("a date");
            Scope { category, benefits, period: Period::day(day) }
        };
        vec![
            scope(Category::Payment, &["child-benefit", "study-grant", "national-pension"]),
            scope(Category::Decision, &["national-pension", "sickness-allowance"]),
            scope(Category::Pending, &[]),
        ]
    }

    #[test]
    fn a_scope_of_a_benefit_that_is_not_listed_is_refused() {
        let scope = pb::Scope { category: 1, benefits: vec![1], ..Default::default() };
        assert_eq!(scopes_from(vec![scope], &["study-grant".to_owned()]), Err(Unreadable::Field("scopes.benefits")));
    }

    #[test]
    fn a_partners_record_reads_back_with_its_author_and_its_source() {
        let partner =
            serde_json::from_value(serde_json::json!({"id": "elo", "name": "Elo", "kind": "pension-provider"}));
        let applied = |by: Option<&str>, source| PartnerApplied {
            version: 3,
            partner: Partner::clone(partner.as_ref().expect("a definition")),
            by: by.map(|by| by.parse().expect("valid")),
            source,
        };
        for applied in [applied(Some("operator"), None), applied(None, Some(Digest::of(b"a file")))] {
            let record = header(Kind::Partner(applied));
            assert_eq!(decode(&encode(&record)), Ok(record));
        }
    }

    #[test]
    fn a_definition_without_revocations_is_written_as_it_always_was() {
        // The digest of a file's definition is of these bytes: were they to change, every file would count as edited.
        let text =
            r#"{"id":"elo","name":"Elo","kind":"pension-provider","state":"active","certificate":[],"contract":[]}"#;
        assert_eq!(definition(&partner(text).expect("a definition")), text);
    }

    #[test]
    fn a_record_of_newer_rules_is_refused() {
        let beat = Kind::Member(member::Event::Heartbeat("gateway-1".parse().expect("valid")));
        let newer = Header { rules: RULES + 1, ..header(beat) };
        assert_eq!(decode(&encode(&newer)), Err(Unreadable::Rules(RULES + 1)));
    }

    #[test]
    fn a_record_of_unknown_kind_is_refused() {
        let mut bytes = pb::RecordHeader { rules: RULES, nonce: vec![0; 16], author: "a".into(), ..Default::default() }
            .encode_to_vec();
        // Field 999, length-delimited, empty: what a newer build might have written.
        bytes.extend_from_slice(&[0xba, 0x3e, 0x00]);
        assert_eq!(decode(&bytes), Err(Unreadable::Kind));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(decode(&bytes));
        }

        #[test]
        fn damaged_headers_never_panic_and_good_ones_read_back(
            position in any::<prop::sample::Index>(), by in 1..=255_u8,
        ) {
            let access = query::Access {
                purpose: "social-assistance".parse().expect("valid"),
                legal_basis: "1412/1997".parse().expect("valid"),
                contract_version: 1,
                subject: Digest::of(b"s"),
                subject_key: "subject-2026".parse().expect("valid"),
                end_user: Digest::of(b"u"),
                case: Digest::of(b"c"),
            };
            let asked = query::Asked {
                key: QueryKey { asker: "pirkanmaa".parse().expect("valid"), query_id: "q1".parse().expect("valid") },
                fingerprint: Digest::of(b"f"),
                responder: "kela".parse().expect("valid"),
                stream: "gateway-1/1".parse().expect("valid"),
                deadline: Timestamp::from_millis(1),
                access,
                scopes: scopes(),
                withheld: vec![],
            };
            let good = header(Kind::Query(query::Event::Asked(asked)));
            let mut bytes = encode(&good);
            prop_assert_eq!(decode(&bytes), Ok(good));
            let at = position.index(bytes.len());
            bytes[at] = bytes[at].wrapping_add(by);
            drop(decode(&bytes));
        }
    }
}
