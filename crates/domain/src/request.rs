//! The life of an information request: one party asks, the other answers, the first closes it or returns it for completion.
//!
//! ```text
//! created ─▶ open ──respond──▶ answered ──close──▶ closed
//!             ▲ ╲                ╱  ▲
//!     transfer╰─╯╲              ╱   │respond
//!                 ╲   return◀──╯    │
//!                  ╲     ▼          │
//!                   ╲  returned ────╯      open or returned: cancel ─▶ cancelled
//!                    ╰───▲ transfer ─▶ open
//! ```
//!
//! Each command is a record, and of concurrent ones the first in the partition wins. What was asked and answered lies sealed in the records'
//! bodies; here is what can be known without them. It never asks whether something is overdue: that follows from the due date and the clock of whoever asks.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::Date;

use crate::{
    document::DocumentKey,
    id::{CommandId, KeyId, PartnerId, RequestId},
    keys::Digest,
    partition::Position,
    query::{Access, At},
    refusal::Reason,
    time::Timestamp,
    working_day,
};

/// A request that nobody has closed ends after this.
pub const LONGEST: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// How long a request is remembered, and can be read, after its end.
pub const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// As many commands a request may have.
pub const MOST_STEPS: usize = 200;

/// As many documents an answer may have.
pub const MOST_DOCUMENTS: usize = 50;

/// A request is due within so many working days, unless it says otherwise: as long as Kela has to decide.
pub const USUAL_WORKING_DAYS: u16 = 7;

/// The furthest due date, in working days.
pub const MOST_WORKING_DAYS: u16 = 60;

/// Whose request: ids are the requester's own, so no partner can meet another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// Who asks.
    pub requester: PartnerId,
    /// Its id for the request.
    pub request_id: RequestId,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RequestKind {
    /// A statement by social welfare authorities.
    Statement,
    /// A report on supplementary and preventive social assistance.
    AssistanceReport,
    /// Information on a service need assessment.
    ServiceNeedAssessment,
    /// Needs for multidisciplinary cooperation.
    MultidisciplinaryCooperation,
}

/// A request is put to a partner. The sealed body has the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Whose request.
    pub key: RequestKey,
    /// Who is to answer.
    pub responder: PartnerId,
    /// What is asked for.
    pub kind: RequestKind,
    /// When the answer is due.
    pub due: Date,
    /// Keyed digest of content and context: a repeat must have the same.
    pub fingerprint: Digest,
    /// Who asks about whom and why.
    pub access: Access,
}

/// One of the parties does something. The sealed body has what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose request.
    pub key: RequestKey,
    /// Who does it.
    pub by: PartnerId,
    /// Its id for what it does: a repeat is recognised by it.
    pub command_id: CommandId,
    /// Keyed digest of content and context: a repeat must have the same.
    pub fingerprint: Digest,
    /// The version that it was made for; none where it does not matter.
    pub expected: Option<u32>,
    /// Who does it about whom and why.
    pub access: Access,
    /// What it does.
    pub action: Action,
}

/// What a party does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The responder answers.
    Respond {
        /// With these documents, which it has sent to the requester.
        documents: Vec<DocumentKey>,
    },
    /// The requester returns it for completion.
    Return {
        /// When the answer is due now.
        due: Date,
    },
    /// The requester has what it needs.
    Close,
    /// Either passes it on to whom it should have gone to.
    Transfer {
        /// To whom.
        to: PartnerId,
        /// When the answer is due now; as it was, when none.
        due: Option<Date>,
    },
    /// The requester needs it no more.
    Cancel,
}

/// A party is shown what the request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose request.
    pub key: RequestKey,
    /// The offset, in the same partition, of the record that created it.
    pub created: u64,
    /// Who reads.
    pub by: PartnerId,
    /// The version that is shown.
    pub version: u32,
    /// Who reads about whom and why.
    pub access: Access,
}

/// The responder has been reminded that the answer was due, or may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reminded {
    /// Whose request.
    pub key: RequestKey,
    /// The offset of the record that created it.
    pub created: u64,
    /// The day it was due.
    pub due: Date,
    /// Whether a notice has gone out: only by contract.
    pub notice: Notice,
}

/// Whether a notice has gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// It is in the responder's mailbox.
    Sent,
    /// The contracts do not grant it.
    NotGranted,
}

/// Nobody has closed it for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapsed {
    /// Whose request.
    pub key: RequestKey,
    /// The offset of the record that created it.
    pub created: u64,
}

/// A record of `airut.requests`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Created(Created),
    Command(Command),
    Read(Read),
    Reminded(Reminded),
    Lapsed(Lapsed),
}

impl Event {
    /// Whose request it is about.
    pub const fn key(&self) -> &RequestKey {
        match self {
            Self::Created(Created { key, .. })
            | Self::Command(Command { key, .. })
            | Self::Read(Read { key, .. })
            | Self::Reminded(Reminded { key, .. })
            | Self::Lapsed(Lapsed { key, .. }) => key,
        }
    }

    /// The partners that it names: they may see it in the ledger.
    pub fn parties(&self) -> Vec<&PartnerId> {
        let requester = &self.key().requester;
        let others: Vec<&PartnerId> = match self {
            Self::Created(created) => vec![&created.responder],
            Self::Command(Command { by, action: Action::Transfer { to, .. }, .. }) => vec![by, to],
            Self::Command(Command { by, .. }) | Self::Read(Read { by, .. }) => vec![by],
            Self::Reminded(_) | Self::Lapsed(_) => Vec::new(),
        };
        std::iter::once(requester).chain(others.into_iter().filter(|other| *other != requester)).collect()
    }

    /// The word for it in logs, traces and listings.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "request created",
            Self::Command(Command { action: Action::Respond { .. }, .. }) => "request answered",
            Self::Command(Command { action: Action::Return { .. }, .. }) => "request returned",
            Self::Command(Command { action: Action::Close, .. }) => "request closed",
            Self::Command(Command { action: Action::Transfer { .. }, .. }) => "request transferred",
            Self::Command(Command { action: Action::Cancel, .. }) => "request cancelled",
            Self::Read(_) => "request read",
            Self::Reminded(_) => "request reminded",
            Self::Lapsed(_) => "request lapsed",
        }
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// The responder is to answer.
    Open,
    /// The requester is to close it or to return it.
    Answered,
    /// The responder is to complete its answer.
    Returned,
    /// The requester has what it needed.
    Closed,
    /// The requester needed it no more.
    Cancelled,
    /// Nobody closed it for too long.
    Lapsed,
}

impl State {
    /// All of them, in the order in which listings have them.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Returned, Self::Answered, Self::Closed, Self::Cancelled, Self::Lapsed];

    /// Whether the responder is to do something.
    pub const fn waits_for_responder(self) -> bool {
        matches!(self, Self::Open | Self::Returned)
    }

    /// Whether it has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::Cancelled | Self::Lapsed)
    }
}

/// A party's part in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It asks.
    Requester,
    /// It is to answer.
    Responder,
}

/// A step of a request's life that its parties see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The offset of its record.
    pub offset: u64,
    /// The partition's time then.
    pub at: Timestamp,
    /// Who took it.
    pub by: PartnerId,
    /// Its id; none for the first step.
    pub command_id: Option<CommandId>,
    /// Keyed digest of content and context.
    pub fingerprint: Digest,
    /// What it was; none for the first step.
    pub action: Option<Action>,
}

/// A request as its partition knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The record that created it.
    pub created: Position,
    /// Who is to answer.
    pub responder: PartnerId,
    /// Those that it was passed on from, and the offset of the record that did.
    pub former: Vec<(PartnerId, u64)>,
    /// What is asked for.
    pub kind: RequestKind,
    /// When the answer is due.
    pub due: Date,
    /// Where it stands.
    pub state: State,
    /// The data subject, as a pseudonym under the year's key.
    pub subject: Digest,
    /// That key's id.
    pub subject_key: KeyId,
    /// What has been done, the creation first.
    pub steps: Vec<Step>,
    /// When the responder first read what it has to answer.
    pub read: Option<Timestamp>,
    /// For which due date the responder was reminded.
    pub reminded: Option<Date>,
    /// The last record that changed what its parties see, and its time.
    pub changed: (u64, Timestamp),
}

impl Request {
    /// How many steps it has had.
    pub fn version(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// When it was created.
    pub fn created_at(&self) -> Timestamp {
        self.steps.first().map_or(self.changed.1, |step| step.at)
    }

    /// What part the partner has in it, if any.
    pub fn part_of(&self, key: &RequestKey, partner: &PartnerId) -> Option<Part> {
        if key.requester == *partner {
            Some(Part::Requester)
        } else {
            (self.responder == *partner).then_some(Part::Responder)
        }
    }

    /// Whether the answer should have come by now.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.state.waits_for_responder() && now >= working_day::end_of(self.due)
    }

    /// When it ends if nobody closes it.
    pub fn lapses_at(&self) -> Option<Timestamp> {
        (!self.state.is_final()).then(|| self.created_at() + LONGEST)
    }

    /// When the fold may forget it; none while it has not ended.
    pub fn forget_at(&self) -> Option<Timestamp> {
        self.state.is_final().then(|| self.changed.1 + REMEMBERED)
    }
}

/// Why a request's record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// The same was done before, by the record at this offset.
    Repeat(u64),
    /// Something else was done with this id.
    IdReused,
    /// There is no such request, or it is not theirs.
    Unknown,
    /// Only the other party may do this.
    NotTheirPart,
    /// It can not be done in this state.
    WrongState(State),
    /// Something was done since the version that it was made for.
    Changed,
    /// It has had as many steps as it may.
    TooManySteps,
    /// The time for it has not come, or it was done already.
    NotNow,
}

impl Void {
    /// What to tell the caller whose record is void, where that is a refusal.
    pub const fn reason(self) -> Reason {
        match self {
            Self::IdReused => Reason::RequestIdReused,
            Self::Unknown => Reason::NotFound,
            Self::NotTheirPart => Reason::NotYourPart,
            Self::WrongState(_) | Self::TooManySteps => Reason::WrongState,
            Self::Changed => Reason::VersionChanged,
            Self::Repeat(_) | Self::NotNow => Reason::OutcomeUnknown,
        }
    }
}

/// What a record means after the ones before it: the request's next state when it counts. Pure and total. A request whose time to be forgotten
/// has come must be passed as `None`.
///
/// # Errors
/// Why it does not count.
pub fn apply(prior: Option<&Request>, at: At, event: &Event) -> Result<Request, Void> {
    match event {
        Event::Created(created) => apply_created(prior, at, created),
        Event::Command(command) => apply_command(prior.ok_or(Void::Unknown)?, at, command),
        Event::Read(read) => {
            let request = of(prior, read.created)?;
            let part = request.part_of(&read.key, &read.by).ok_or(Void::Unknown)?;
            // What is shown is what was judged: a step in between may have passed it on.
            if request.version() != read.version {
                return Err(Void::Changed);
            }
            let first = part == Part::Responder && request.read.is_none();
            let (read, changed) =
                if first { (Some(at.time), (at.position.offset, at.time)) } else { (request.read, request.changed) };
            // A request that has ended is forgotten by the time of its end, whoever reads it afterwards.
            let changed = if request.state.is_final() { request.changed } else { changed };
            Ok(Request { read, changed, ..request.clone() })
        }
        Event::Reminded(reminded) => {
            let request = of(prior, reminded.created)?;
            let due = request.due == reminded.due && request.reminded != Some(reminded.due);
            if !due || !request.is_overdue(at.time) {
                return Err(Void::NotNow);
            }
            Ok(Request { reminded: Some(reminded.due), ..request.clone() })
        }
        Event::Lapsed(lapsed) => {
            let request = of(prior, lapsed.created)?;
            match request.lapses_at() {
                Some(lapses) if at.time >= lapses => {
                    Ok(Request { state: State::Lapsed, changed: (at.position.offset, at.time), ..request.clone() })
                }
                Some(_) | None => Err(Void::NotNow),
            }
        }
    }
}

fn apply_created(prior: Option<&Request>, at: At, created: &Created) -> Result<Request, Void> {
    if let Some(first) = prior.and_then(|request| request.steps.first()) {
        return Err(if first.fingerprint == created.fingerprint { Void::Repeat(first.offset) } else { Void::IdReused });
    }
    let step = Step {
        offset: at.position.offset,
        at: at.time,
        by: created.key.requester.clone(),
        command_id: None,
        fingerprint: created.fingerprint,
        action: None,
    };
    Ok(Request {
        created: at.position,
        responder: created.responder.clone(),
        former: Vec::new(),
        kind: created.kind,
        due: created.due,
        state: State::Open,
        subject: created.access.subject,
        subject_key: created.access.subject_key.clone(),
        steps: vec![step],
        read: None,
        reminded: None,
        changed: (at.position.offset, at.time),
    })
}

fn apply_command(request: &Request, at: At, command: &Command) -> Result<Request, Void> {
    let same = |step: &&Step| step.by == command.by && step.command_id.as_ref() == Some(&command.command_id);
    if let Some(step) = request.steps.iter().find(same) {
        // Also of one that has passed the request on since: its own step is no secret from it.
        return Err(if step.fingerprint == command.fingerprint { Void::Repeat(step.offset) } else { Void::IdReused });
    }
    let part = request.part_of(&command.key, &command.by).ok_or(Void::Unknown)?;
    let state = next(request.state, part, &command.action)?;
    if command.expected.is_some_and(|expected| expected != request.version()) {
        return Err(Void::Changed);
    }
    if request.steps.len() >= MOST_STEPS {
        return Err(Void::TooManySteps);
    }
    let mut request = Request { state, changed: (at.position.offset, at.time), ..request.clone() };
    match &command.action {
        Action::Return { due } => {
            request.due = *due;
            request.read = None;
        }
        Action::Transfer { to, due } => {
            if *to == request.responder {
                return Err(Void::WrongState(request.state));
            }
            let from = std::mem::replace(&mut request.responder, to.clone());
            request.former.retain(|(former, _)| former != to && *former != from);
            request.former.push((from, at.position.offset));
            request.due = due.unwrap_or(request.due);
            request.read = None;
            // The new one has not been reminded of anything.
            request.reminded = None;
        }
        Action::Respond { .. } | Action::Close | Action::Cancel => {}
    }
    request.steps.push(Step {
        offset: at.position.offset,
        at: at.time,
        by: command.by.clone(),
        command_id: Some(command.command_id.clone()),
        fingerprint: command.fingerprint,
        action: Some(command.action.clone()),
    });
    Ok(request)
}

/// Where a request stands after a party has done this.
///
/// # Errors
/// When the party may not, or not in this state.
pub fn next(state: State, part: Part, action: &Action) -> Result<State, Void> {
    let (by, next) = match action {
        Action::Respond { .. } => (Some(Part::Responder), State::Answered),
        Action::Return { .. } => (Some(Part::Requester), State::Returned),
        Action::Close => (Some(Part::Requester), State::Closed),
        Action::Cancel => (Some(Part::Requester), State::Cancelled),
        Action::Transfer { .. } => (None, State::Open),
    };
    if by.is_some_and(|by| by != part) {
        return Err(Void::NotTheirPart);
    }
    let fits = match action {
        Action::Respond { .. } | Action::Cancel | Action::Transfer { .. } => state.waits_for_responder(),
        Action::Return { .. } | Action::Close => state == State::Answered,
    };
    if fits { Ok(next) } else { Err(Void::WrongState(state)) }
}

/// The request that was created by this record.
fn of(prior: Option<&Request>, created: u64) -> Result<&Request, Void> {
    prior.filter(|request| request.created.offset == created).ok_or(Void::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whose_turn_it_is_may_go_on() {
        use Part::{Requester, Responder};
        let respond = Action::Respond { documents: Vec::new() };
        let give_back = Action::Return { due: Date::MIN };
        let transfer = Action::Transfer { to: "helsinki".parse().expect("an id"), due: None };
        let cases = [
            (&respond, Responder, [true, true, false, false, false, false], State::Answered),
            (&give_back, Requester, [false, false, true, false, false, false], State::Returned),
            (&Action::Close, Requester, [false, false, true, false, false, false], State::Closed),
            (&Action::Cancel, Requester, [true, true, false, false, false, false], State::Cancelled),
            (&transfer, Requester, [true, true, false, false, false, false], State::Open),
            (&transfer, Responder, [true, true, false, false, false, false], State::Open),
        ];
        for (action, part, may, then) in cases {
            for (state, may) in State::ALL.into_iter().zip(may) {
                let expected = if may { Ok(then) } else { Err(Void::WrongState(state)) };
                assert_eq!(next(state, part, action), expected, "{action:?} by {part:?} when {state:?}");
            }
        }
        for (action, part) in
            [(&respond, Requester), (&give_back, Responder), (&Action::Close, Responder), (&Action::Cancel, Responder)]
        {
            assert_eq!(next(State::Open, part, action), Err(Void::NotTheirPart), "{action:?} by {part:?}");
        }
    }
}
