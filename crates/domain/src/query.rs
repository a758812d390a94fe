//! The life of a query in its partition: asked, answered or not disclosed, repeated.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{KeyId, LegalBasis, PartnerId, Purpose, QueryId, StreamId},
    keys::Digest,
    partition::Position,
    question::{Scope, Withheld},
    refusal::Reason,
    time::Timestamp,
};

/// How long a repeat is served with the recorded answer, from the answer's stamp.
pub const SERVED: Duration = Duration::from_secs(10 * 60);

/// How long an id is remembered after its query ended.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest a query may stay open. A caller's later deadline is cut to it.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Whose query: ids are the asker's own, so no partner can meet another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueryKey {
    /// The asker.
    pub asker: PartnerId,
    /// The asker's id.
    pub query_id: QueryId,
}

/// A question was put to a responder's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose query.
    pub key: QueryKey,
    /// Keyed digest of content and context: a repeat must have the same.
    pub fingerprint: Digest,
    /// Who is to answer.
    pub responder: PartnerId,
    /// The responder's stream it was put to.
    pub stream: StreamId,
    /// When it ends without an answer.
    pub deadline: Timestamp,
    /// Who asked about whom and why.
    pub access: Access,
    /// What may be seen.
    pub scopes: Vec<Scope>,
    /// What was asked for and may not be seen.
    pub withheld: Vec<Withheld>,
}

/// Who asked about whom and why, without personal data: what an auditor counts by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Why.
    pub purpose: Purpose,
    /// On which legal basis.
    pub legal_basis: LegalBasis,
    /// The version of the asker's definition that granted it.
    pub contract_version: u32,
    /// The data subject, as a pseudonym under the year's key.
    pub subject: Digest,
    /// That key's id.
    pub subject_key: KeyId,
    /// The end user, keyed.
    pub end_user: Digest,
    /// The case, keyed.
    pub case: Digest,
}

/// The stream that a query was put to is silent or gone: another is asked instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerouted {
    /// Whose query.
    pub key: QueryKey,
    /// The stream that it was put to.
    pub from: StreamId,
    /// The stream that is asked now.
    pub to: StreamId,
}

/// The responder's answer, minimised: exactly what is disclosed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Whose query.
    pub key: QueryKey,
    /// The offset, in the same partition, of the record that asked: an id may be asked anew, with other scopes.
    pub asked: u64,
    /// The stream that answered.
    pub stream: StreamId,
    /// Salted commitment to the content's digest.
    pub commitment: Digest,
    /// How many things were asked for and are withheld.
    pub withheld: u32,
}

/// Nothing was disclosed, or what was recorded as disclosed was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDisclosed {
    /// Whose query.
    pub key: QueryKey,
    /// The offset, in the same partition, of the record that asked.
    pub asked: u64,
    /// Why.
    pub why: WhyNot,
}

/// Why nothing was disclosed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhyNot {
    /// No answer came before the deadline. Holds only once the partition's time has reached it.
    NoAnswer,
    /// The answer came after the deadline.
    Late,
    /// The caller had left.
    CallerLeft,
    /// The caller had lost its right.
    RightLost,
    /// The responder said that it can not answer.
    ResponderFailed,
    /// The gateway's view of the registry was too old to disclose.
    RegistryStale,
}

/// The recorded answer is to be disclosed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Whose query.
    pub key: QueryKey,
    /// Keyed digest of content and context.
    pub fingerprint: Digest,
    /// Judged anew: who asks about whom and why.
    pub access: Access,
}

/// A query as its partition knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Keyed digest of content and context.
    pub fingerprint: Digest,
    /// The record that asked.
    pub asked: Position,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a query stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Waits for its answer.
    Open {
        /// Who is to answer.
        responder: PartnerId,
        /// The stream asked.
        stream: StreamId,
        /// When it ends without an answer.
        deadline: Timestamp,
    },
    /// Has its answer.
    Answered {
        /// The record that holds it.
        answer: Position,
        /// That record's stamp.
        at: Timestamp,
    },
    /// Ended without an answer.
    Unanswered {
        /// Why.
        why: WhyNot,
        /// The stamp of the record that ended it.
        at: Timestamp,
    },
}

impl Query {
    /// When the fold may forget it; none while it is open.
    pub fn forget_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Open { .. } => None,
            Phase::Answered { at, .. } | Phase::Unanswered { at, .. } => Some(*at + REMEMBERED),
        }
    }
}

/// Where and when a record is applied.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The record's place.
    pub position: Position,
    /// The partition's time: the greatest stamp so far, this record's included.
    pub time: Timestamp,
}

/// What the fold says of a query's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It counts.
    Accepted,
    /// It does not count.
    Void(Void),
}

/// Why a query's record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Void {
    /// The same question was asked before; its life goes on.
    AskedBefore,
    /// Another question was asked with this id.
    IdReused,
    /// The id was answered, and no longer than [`SERVED`] is it answered again.
    Spent,
    /// There is no such query, or it has ended.
    NotOpen,
    /// The query was put to another stream.
    OtherStream,
    /// The time for it has not come.
    TooEarly,
    /// There is no recorded answer to repeat.
    NoAnswer,
}

impl Void {
    /// What to tell the caller whose record is void, where that is a refusal.
    pub const fn refusal(self) -> Reason {
        match self {
            Self::IdReused => Reason::QueryIdReused,
            Self::Spent => Reason::QueryIdSpent,
            Self::AskedBefore | Self::NotOpen | Self::OtherStream | Self::TooEarly | Self::NoAnswer => {
                Reason::OutcomeUnknown
            }
        }
    }
}

/// A record of a query's life.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Asked(Asked),
    Rerouted(Rerouted),
    Answered(Answered),
    NotDisclosed(NotDisclosed),
    Repeated(Repeated),
}

impl Event {
    /// Whose query it is about.
    pub fn key(&self) -> &QueryKey {
        match self {
            Self::Asked(Asked { key, .. })
            | Self::Rerouted(Rerouted { key, .. })
            | Self::Answered(Answered { key, .. })
            | Self::NotDisclosed(NotDisclosed { key, .. })
            | Self::Repeated(Repeated { key, .. }) => key,
        }
    }
}

/// What a record means after the ones before it: the verdict, and the query's next state when that changes. Pure and
/// total. A query whose time to be forgotten has come must be passed as `None`.
pub fn apply(prior: Option<&Query>, at: At, event: &Event) -> (Verdict, Option<Query>) {
    match event {
        Event::Asked(asked) => apply_asked(prior, at, asked),
        Event::Rerouted(rerouted) => apply_rerouted(prior, rerouted),
        Event::Answered(answered) => apply_answered(prior, at, answered),
        Event::NotDisclosed(not) => apply_not_disclosed(prior, at, not),
        Event::Repeated(repeated) => (apply_repeated(prior, at, repeated), None),
    }
}

const fn void(why: Void) -> (Verdict, Option<Query>) {
    (Verdict::Void(why), None)
}

fn apply_asked(prior: Option<&Query>, at: At, asked: &Asked) -> (Verdict, Option<Query>) {
    if let Some(query) = prior {
        if query.fingerprint != asked.fingerprint {
            return void(Void::IdReused);
        }
        match &query.phase {
            Phase::Open { .. } => return void(Void::AskedBefore),
            Phase::Answered { at: answered, .. } if at.time.since(*answered) > SERVED => return void(Void::Spent),
            Phase::Answered { .. } => return void(Void::AskedBefore),
            // It ended with nothing: the same question may be put again under the same id.
            Phase::Unanswered { .. } => {}
        }
    }
    let phase =
        Phase::Open { responder: asked.responder.clone(), stream: asked.stream.clone(), deadline: asked.deadline };
    (Verdict::Accepted, Some(Query { fingerprint: asked.fingerprint, asked: at.position, phase }))
}

fn apply_rerouted(prior: Option<&Query>, rerouted: &Rerouted) -> (Verdict, Option<Query>) {
    let Some((query, responder, stream, deadline)) = open(prior) else { return void(Void::NotOpen) };
    if *stream != rerouted.from {
        return void(Void::OtherStream);
    }
    let phase = Phase::Open { responder: responder.clone(), stream: rerouted.to.clone(), deadline };
    (Verdict::Accepted, Some(Query { phase, ..query.clone() }))
}

fn apply_answered(prior: Option<&Query>, at: At, answered: &Answered) -> (Verdict, Option<Query>) {
    let Some((query, _, stream, _)) = open(prior) else { return void(Void::NotOpen) };
    // The answer to an asking that has ended is narrowed to that one's scopes, not to those of a later one.
    if query.asked.offset != answered.asked {
        return void(Void::NotOpen);
    }
    if *stream != answered.stream {
        return void(Void::OtherStream);
    }
    let phase = Phase::Answered { answer: at.position, at: at.time };
    (Verdict::Accepted, Some(Query { phase, ..query.clone() }))
}

fn apply_not_disclosed(prior: Option<&Query>, at: At, not: &NotDisclosed) -> (Verdict, Option<Query>) {
    let Some(query) = prior.filter(|query| query.asked.offset == not.asked) else { return void(Void::NotOpen) };
    match &query.phase {
        Phase::Open { deadline, .. } => {
            if not.why == WhyNot::NoAnswer && at.time < *deadline {
                return void(Void::TooEarly);
            }
            let phase = Phase::Unanswered { why: not.why, at: at.time };
            (Verdict::Accepted, Some(Query { phase, ..query.clone() }))
        }
        // The answer stays on record, for a repeat; what has changed is only whether this caller was given it.
        Phase::Answered { .. } if not.why != WhyNot::NoAnswer => (Verdict::Accepted, None),
        Phase::Answered { .. } | Phase::Unanswered { .. } => void(Void::NotOpen),
    }
}

fn apply_repeated(prior: Option<&Query>, at: At, repeated: &Repeated) -> Verdict {
    match prior {
        Some(query) if query.fingerprint != repeated.fingerprint => Verdict::Void(Void::IdReused),
        Some(Query { phase: Phase::Answered { at: answered, .. }, .. }) => {
            if at.time.since(*answered) > SERVED {
                Verdict::Void(Void::Spent)
            } else {
                Verdict::Accepted
            }
        }
        Some(_) | None => Verdict::Void(Void::NoAnswer),
    }
}

fn open(prior: Option<&Query>) -> Option<(&Query, &PartnerId, &StreamId, Timestamp)> {
    let query = prior?;
    match &query.phase {
        Phase::Open { responder, stream, deadline } => Some((query, responder, stream, *deadline)),
        Phase::Answered { .. } | Phase::Unanswered { .. } => None,
    }
}
