//! Information requests, to and from the protocol.

use airut_domain::{
    context::{Context, Text},
    document::DocumentKey,
    id::{CommandId, DocumentId, PartnerId, RequestId},
    identity_code::IdentityCode,
    refusal::Refusal,
    request::{MOST_DOCUMENTS, Request, RequestKey, RequestKind, State},
    time::{Date, Timestamp, format_date, parse_date},
};

use crate::{
    question::Faults,
    receipt::timestamp,
    v1::{
        self, InformationRequestKind as PbKind, InformationRequestState as PbState, information_request_step as step,
    },
};

/// The longest texts, in characters.
const LONGEST_QUESTION: usize = 4000;
const LONGEST_ANSWER: usize = 8000;
const LONGEST_REMARK: usize = 1000;

/// The longest telephone number, in characters.
const LONGEST_TELEPHONE: usize = 32;

/// A request that is to be created.
pub struct Creation {
    /// The requester's id.
    pub request_id: RequestId,
    /// Who is to answer.
    pub responder: PartnerId,
    /// What is asked for.
    pub kind: RequestKind,
    /// The person it is about.
    pub subject: IdentityCode,
    /// Who asks and why.
    pub context: Context,
    /// When the answer is due, if it says.
    pub due: Option<Date>,
    /// What is said, without the due date.
    pub step: v1::InformationRequestStep,
}

/// Something that a party wants to do to a request.
pub struct Doing {
    /// Who asks; none for the caller.
    pub requester: Option<PartnerId>,
    /// The requester's id.
    pub request_id: RequestId,
    /// The caller's id for what it does.
    pub command_id: CommandId,
    /// Who does it and why.
    pub context: Context,
    /// The version that it was made for.
    pub expected: Option<u32>,
    /// What.
    pub wish: Wish,
    /// What is said, without the due date.
    pub step: v1::InformationRequestStep,
}

/// What a party wants to do to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Wish {
    Respond { documents: Vec<DocumentId> },
    Return { due: Option<Date> },
    Close,
    Transfer { to: PartnerId, due: Option<Date> },
    Cancel,
}

/// Which request is to be shown.
pub struct Reading {
    /// Who asks; none for the caller.
    pub requester: Option<PartnerId>,
    /// The requester's id.
    pub request_id: RequestId,
    /// Who reads and why.
    pub context: Context,
}

/// Which requests are to be listed.
pub struct Listing {
    /// In one of these states.
    pub states: Vec<State>,
    /// With this other party.
    pub partner: Option<PartnerId>,
    /// About this person, and who asks and why.
    pub subject: Option<(IdentityCode, Context)>,
    /// Due on this day or later.
    pub due_from: Option<Date>,
    /// Due on this day or earlier.
    pub due_to: Option<Date>,
    /// At most so many.
    pub size: usize,
}

/// The page sizes.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;

/// Reads a request that is to be created, reporting every field at fault at once.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn creation(request: v1::CreateInformationRequestRequest) -> Result<Creation, Refusal> {
    let mut faults = Faults::default();
    let request_id = faults.identifier("request_id", &request.request_id);
    let responder = faults.identifier("responder", &request.responder);
    let kind = match kind_from(request.kind) {
        Some(kind) => Some(kind),
        None if request.kind == 0 => faults.add("kind", "is required"),
        None => faults.add("kind", "must be one of the known kinds"),
    };
    let subject = faults.field("subject_id", &request.subject_id, str::parse);
    let context = faults.context(request.context.as_ref());
    let due = faults.optional("due_date", &request.due_date, date);
    let question = request.question.unwrap_or_default();
    faults.text("question.text", &question.text, LONGEST_QUESTION, Needed::Yes);
    faults.text("question.background", &question.background, LONGEST_QUESTION, Needed::No);
    if let Some(period) = &question.period {
        faults.period("question.period", period);
    }
    faults.contact(request.contact.as_ref());
    let created = step::Created { question: Some(question), due_date: String::new() };
    let step = said(context.as_ref(), request.contact, step::Action::Created(created));
    let complete = || {
        Some(Creation {
            request_id: request_id?,
            responder: responder?,
            kind: kind?,
            subject: subject?,
            context: context?,
            due: due?,
            step,
        })
    };
    let complete = complete();
    faults.finish(complete)
}

/// A command of the protocol as something to be done.
pub trait IntoDoing {
    /// Reads it, reporting every field at fault at once.
    ///
    /// # Errors
    /// A refusal with a violation per field; none repeats a value.
    fn into_doing(self) -> Result<Doing, Refusal>;
}

/// What all commands have.
struct Common {
    requester: String,
    request_id: String,
    command_id: String,
    context: Option<v1::Context>,
    contact: Option<v1::Contact>,
    expected_version: i32,
}

impl Common {
    fn read(self, mut faults: Faults, wish: Option<Wish>, action: step::Action) -> Result<Doing, Refusal> {
        let requester = faults.optional("requester", &self.requester, str::parse);
        let request_id = faults.identifier("request_id", &self.request_id);
        let command_id = faults.identifier("command_id", &self.command_id);
        let context = faults.context(self.context.as_ref());
        faults.contact(self.contact.as_ref());
        let expected = match u32::try_from(self.expected_version) {
            Ok(version) => Some(Some(version).filter(|version| *version > 0)),
            Err(_) => faults.add("expected_version", "must not be negative"),
        };
        let step = said(context.as_ref(), self.contact, action);
        let complete = || {
            Some(Doing {
                requester: requester?,
                request_id: request_id?,
                command_id: command_id?,
                context: context?,
                expected: expected?,
                wish: wish?,
                step,
            })
        };
        let complete = complete();
        faults.finish(complete)
    }
}

impl IntoDoing for v1::RespondInformationRequestRequest {
    fn into_doing(self) -> Result<Doing, Refusal> {
        let mut faults = Faults::default();
        let needed = if self.document_ids.is_empty() { Needed::Yes } else { Needed::No };
        faults.text("text", &self.text, LONGEST_ANSWER, needed);
        if self.document_ids.len() > MOST_DOCUMENTS {
            faults.add::<()>("document_ids", "must be at most 50");
        }
        let mut documents: Vec<DocumentId> = Vec::with_capacity(self.document_ids.len().min(MOST_DOCUMENTS));
        for id in self.document_ids.iter().take(MOST_DOCUMENTS) {
            match faults.identifier::<DocumentId>("document_ids", id) {
                Some(id) if documents.contains(&id) => {
                    faults.add::<()>("document_ids", "must not have one twice");
                }
                Some(id) => documents.push(id),
                None => {}
            }
        }
        let action = step::Action::Responded(step::Responded { text: self.text, documents: Vec::new() });
        let common = Common {
            requester: self.requester,
            request_id: self.request_id,
            command_id: self.command_id,
            context: self.context,
            contact: self.contact,
            expected_version: self.expected_version,
        };
        common.read(faults, Some(Wish::Respond { documents }), action)
    }
}

impl IntoDoing for v1::ReturnInformationRequestRequest {
    fn into_doing(self) -> Result<Doing, Refusal> {
        let mut faults = Faults::default();
        faults.text("text", &self.text, LONGEST_QUESTION, Needed::Yes);
        let due = faults.optional("due_date", &self.due_date, date);
        let action = step::Action::Returned(step::Returned { text: self.text, due_date: String::new() });
        let common = Common {
            requester: String::new(),
            request_id: self.request_id,
            command_id: self.command_id,
            context: self.context,
            contact: self.contact,
            expected_version: self.expected_version,
        };
        common.read(faults, due.map(|due| Wish::Return { due }), action)
    }
}

impl IntoDoing for v1::CloseInformationRequestRequest {
    fn into_doing(self) -> Result<Doing, Refusal> {
        let mut faults = Faults::default();
        faults.text("text", &self.text, LONGEST_REMARK, Needed::No);
        let common = Common {
            requester: String::new(),
            request_id: self.request_id,
            command_id: self.command_id,
            context: self.context,
            contact: None,
            expected_version: self.expected_version,
        };
        common.read(faults, Some(Wish::Close), step::Action::Closed(step::Closed { text: self.text }))
    }
}

impl IntoDoing for v1::TransferInformationRequestRequest {
    fn into_doing(self) -> Result<Doing, Refusal> {
        let mut faults = Faults::default();
        faults.text("text", &self.text, LONGEST_REMARK, Needed::Yes);
        let to: Option<PartnerId> = faults.identifier("responder", &self.responder);
        let due = faults.optional("due_date", &self.due_date, date);
        let wish = to.zip(due).map(|(to, due)| Wish::Transfer { to, due });
        let action = step::Action::Transferred(step::Transferred {
            text: self.text,
            responder: self.responder,
            due_date: String::new(),
        });
        let common = Common {
            requester: self.requester,
            request_id: self.request_id,
            command_id: self.command_id,
            context: self.context,
            contact: self.contact,
            expected_version: self.expected_version,
        };
        common.read(faults, wish, action)
    }
}

impl IntoDoing for v1::CancelInformationRequestRequest {
    fn into_doing(self) -> Result<Doing, Refusal> {
        let mut faults = Faults::default();
        faults.text("text", &self.text, LONGEST_REMARK, Needed::No);
        let common = Common {
            requester: String::new(),
            request_id: self.request_id,
            command_id: self.command_id,
            context: self.context,
            contact: None,
            expected_version: self.expected_version,
        };
        common.read(faults, Some(Wish::Cancel), step::Action::Cancelled(step::Cancelled { text: self.text }))
    }
}

/// Reads which request is to be shown.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn reading(request: &v1::GetInformationRequestRequest) -> Result<Reading, Refusal> {
    let mut faults = Faults::default();
    let requester = faults.optional("requester", &request.requester, str::parse);
    let request_id = faults.identifier("request_id", &request.request_id);
    let context = faults.context(request.context.as_ref());
    let complete = || Some(Reading { requester: requester?, request_id: request_id?, context: context? });
    let complete = complete();
    faults.finish(complete)
}

/// Reads which requests are to be listed.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn listing(request: &v1::ListInformationRequestsRequest) -> Result<Listing, Refusal> {
    let mut faults = Faults::default();
    let states: Option<Vec<State>> = request.states.iter().map(|state| state_from(*state)).collect();
    let states = states.or_else(|| faults.add("states", "must be known states"));
    let partner = faults.optional("partner", &request.partner, str::parse);
    let subject = faults.optional("subject_id", &request.subject_id, str::parse);
    let context = match (&request.context, request.subject_id.is_empty()) {
        (None, true) => Some(None),
        (context, _) => faults.context(context.as_ref()).map(Some),
    };
    let due_from = faults.optional("due_from", &request.due_from, date);
    let due_to = faults.optional("due_to", &request.due_to, date);
    let size = match usize::try_from(request.page_size) {
        Ok(0) => Some(PAGE),
        Ok(size) => Some(size.min(LARGEST_PAGE)),
        Err(_) => faults.add("page_size", "must not be negative"),
    };
    let complete = || {
        Some(Listing {
            states: states?,
            partner: partner?,
            subject: subject?.zip(context?),
            due_from: due_from?,
            due_to: due_to?,
            size: size?,
        })
    };
    let complete = complete();
    faults.finish(complete)
}

/// A request as its parties see it.
pub fn information_request(key: &RequestKey, request: &Request, now: Timestamp) -> v1::InformationRequest {
    let (offset, changed_at) = request.changed;
    let position = airut_domain::partition::Position { offset, ..request.created };
    v1::InformationRequest {
        requester: key.requester.to_string(),
        request_id: key.request_id.to_string(),
        responder: request.responder.to_string(),
        kind: kind(request.kind).into(),
        state: state(request.state).into(),
        due_date: format_date(request.due),
        overdue: request.is_overdue(now),
        version: i32::try_from(request.version()).unwrap_or(i32::MAX),
        create_time: Some(timestamp(request.created_at())),
        update_time: Some(timestamp(changed_at)),
        read_time: request.read.map(timestamp),
        position: position.to_string(),
    }
}

/// Says in a step when the answer is due.
pub fn set_due(step: &mut v1::InformationRequestStep, due: Date) {
    let due = format_date(due);
    match &mut step.action {
        Some(step::Action::Created(created)) => created.due_date = due,
        Some(step::Action::Returned(returned)) => returned.due_date = due,
        Some(step::Action::Transferred(transferred)) => transferred.due_date = due,
        Some(step::Action::Responded(_) | step::Action::Closed(_) | step::Action::Cancelled(_)) | None => {}
    }
}

/// Says in a step which documents belong to the answer.
pub fn set_documents(step: &mut v1::InformationRequestStep, documents: &[DocumentKey]) {
    if let Some(step::Action::Responded(responded)) = &mut step.action {
        let reference = |key: &DocumentKey| v1::DocumentReference {
            sender: key.sender.to_string(),
            document_id: key.document_id.to_string(),
        };
        responded.documents = documents.iter().map(reference).collect();
    }
}

/// A kind for the protocol.
pub const fn kind(kind: RequestKind) -> PbKind {
    match kind {
        RequestKind::Statement => PbKind::Statement,
        RequestKind::AssistanceReport => PbKind::AssistanceReport,
        RequestKind::ServiceNeedAssessment => PbKind::ServiceNeedAssessment,
        RequestKind::MultidisciplinaryCooperation => PbKind::MultidisciplinaryCooperation,
    }
}

/// Reads a kind; none when it is not a known one.
pub fn kind_from(number: i32) -> Option<RequestKind> {
    match PbKind::try_from(number).ok()? {
        PbKind::Unspecified => None,
        PbKind::Statement => Some(RequestKind::Statement),
        PbKind::AssistanceReport => Some(RequestKind::AssistanceReport),
        PbKind::ServiceNeedAssessment => Some(RequestKind::ServiceNeedAssessment),
        PbKind::MultidisciplinaryCooperation => Some(RequestKind::MultidisciplinaryCooperation),
    }
}

/// A state for the protocol.
pub const fn state(state: State) -> PbState {
    match state {
        State::Open => PbState::Open,
        State::Returned => PbState::Returned,
        State::Answered => PbState::Answered,
        State::Closed => PbState::Closed,
        State::Cancelled => PbState::Cancelled,
        State::Lapsed => PbState::Lapsed,
    }
}

/// Reads a state; none when it is not a known one.
pub fn state_from(number: i32) -> Option<State> {
    match PbState::try_from(number).ok()? {
        PbState::Unspecified => None,
        PbState::Open => Some(State::Open),
        PbState::Returned => Some(State::Returned),
        PbState::Answered => Some(State::Answered),
        PbState::Closed => Some(State::Closed),
        PbState::Cancelled => Some(State::Cancelled),
        PbState::Lapsed => Some(State::Lapsed),
    }
}

/// What is said, by whom.
fn said(context: Option<&Context>, contact: Option<v1::Contact>, action: step::Action) -> v1::InformationRequestStep {
    v1::InformationRequestStep {
        time: None,
        partner: String::new(),
        end_user: context.map(|context| context.end_user.as_str().to_owned()).unwrap_or_default(),
        end_user_role: context.map(|context| context.end_user_role.as_str().to_owned()).unwrap_or_default(),
        contact,
        action: Some(action),
    }
}

fn date(text: &str) -> Result<Date, &'static str> {
    parse_date(text).ok_or("must be a date such as 2026-11-22")
}

/// Whether a text must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Yes,
    No,
}

impl Faults {
    /// A text of some lines.
    fn text(&mut self, field: &'static str, text: &str, longest: usize, needed: Needed) {
        if text.trim().is_empty() && needed == Needed::Yes {
            self.add::<()>(field, "is required");
        }
        if text.chars().count() > longest {
            self.add::<()>(field, format_args!("must have at most {longest} characters"));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.add::<()>(field, "must not contain control characters besides line breaks and tabs");
        }
    }

    fn contact(&mut self, contact: Option<&v1::Contact>) {
        let Some(contact) = contact else { return };
        self.optional("contact.unit", &contact.unit, Text::new);
        let telephone = contact.telephone.as_str();
        let known = |c: char| c.is_ascii_digit() || " +()-".contains(c);
        if telephone.chars().count() > LONGEST_TELEPHONE || !telephone.chars().all(known) {
            self.add::<()>("contact.telephone", "must have at most 32 characters of digits, spaces, + ( ) and -");
        }
    }
}
