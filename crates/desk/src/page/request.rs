//! One information request: what was asked and answered, who did what when, and what may be done next.

use airut_client::CallError;
use airut_domain::{time::format_date, working_day};
use airut_wire::v1::{
    self, GetInformationRequestRequest, GetInformationRequestResponse, InformationRequest,
    InformationRequestState as State, information_request_step::Action as Step,
};
use askama::Template;
use axum::{
    body::Body,
    extract::{Path, State as Of},
    response::{IntoResponse, Redirect, Response},
};

use super::{
    case_file, documents,
    requests::{CASE, QUESTION, contact, due_fits},
    rows::{kind_key, request_object, request_path, state_key},
    steps::{Attach, FormPage, Stage, id_of, new_id},
};
use crate::{
    desk::Desk,
    office::{About, DEADLINE, REQUESTS, Rights},
    official::{Role, Why},
    store::{Action, Claim, Known, TakeOver},
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        frame::Frame,
        guard::render,
        visit::Caller,
    },
};

/// Bounds of the exchange's, in characters.
const ANSWER: usize = 8000;
const REMARK: usize = 1000;

/// What is shown of a request.
pub(super) struct Shown {
    pub(super) title: String,
    pub(super) id: String,
    pub(super) person: String,
    pub(super) case: String,
    pub(super) requester: String,
    pub(super) responder: String,
    pub(super) state: String,
    pub(super) state_key: &'static str,
    pub(super) due: String,
    pub(super) overdue: bool,
    pub(super) created: String,
    pub(super) read: Option<String>,
    pub(super) answered: Option<String>,
    pub(super) steps: Vec<ShownStep>,
    /// Whom to ask at the other party, by what it said last.
    pub(super) counterpart: Option<(String, v1::Contact)>,
}

/// A step of its history.
pub(super) struct ShownStep {
    pub(super) action: String,
    pub(super) time: String,
    pub(super) partner: String,
    pub(super) end_user: String,
    pub(super) role: String,
    pub(super) contact: v1::Contact,
    /// Headings and texts.
    pub(super) texts: Vec<(String, String)>,
    pub(super) documents: Vec<ShownDocument>,
}

/// A document that belongs to a step.
pub(super) struct ShownDocument {
    pub(super) href: String,
    pub(super) name: String,
    pub(super) sender: String,
    pub(super) document_id: String,
}

#[derive(Template)]
#[template(path = "request.html")]
struct RequestPage {
    f: Frame,
    r: Shown,
    path: String,
    /// The request, as changes name it.
    of: String,
    /// What may be done next, first the usual: the last part of the address and the key of the text.
    actions: Vec<(&'static str, &'static str)>,
    claim: Option<Claim>,
    mine: bool,
    ended: bool,
    has_documents: bool,
}

/// What an official can do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Respond,
    Return,
    Close,
    Transfer,
    Cancel,
}

impl Doing {
    const ALL: [Self; 5] = [Self::Respond, Self::Close, Self::Return, Self::Transfer, Self::Cancel];

    const fn name(self) -> &'static str {
        match self {
            Self::Respond => "respond",
            Self::Return => "return",
            Self::Close => "close",
            Self::Transfer => "transfer",
            Self::Cancel => "cancel",
        }
    }

    /// The key of its text; with `-title`, `-send` and `-lead` behind it those of its form.
    const fn key(self) -> &'static str {
        match self {
            Self::Respond => "request-respond",
            Self::Return => "request-return",
            Self::Close => "request-close",
            Self::Transfer => "request-transfer",
            Self::Cancel => "request-cancel",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Respond => "request-respond-title",
            Self::Return => "request-return-title",
            Self::Close => "request-close-title",
            Self::Transfer => "request-transfer-title",
            Self::Cancel => "request-cancel-title",
        }
    }

    const fn send(self) -> &'static str {
        match self {
            Self::Respond => "request-respond-send",
            Self::Return => "request-return-send",
            Self::Close => "request-close-send",
            Self::Transfer => "request-transfer-send",
            Self::Cancel => "request-cancel-send",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Respond => "answered",
            Self::Return => "returned",
            Self::Close => "closed",
            Self::Transfer => "transferred",
            Self::Cancel => "cancelled",
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Respond => Action::AnsweredRequest,
            Self::Return => Action::ReturnedRequest,
            Self::Close => Action::ClosedRequest,
            Self::Transfer => Action::TransferredRequest,
            Self::Cancel => Action::CancelledRequest,
        }
    }

    /// Whether it can be done now. The exchange decides; this is what is offered.
    fn fits(self, request: &InformationRequest, organisation: &str) -> bool {
        let asks = request.requester == organisation;
        let waits = matches!(request.state(), State::Open | State::Returned);
        match self {
            Self::Respond => waits && request.responder == organisation,
            Self::Return | Self::Close => asks && request.state() == State::Answered,
            Self::Transfer => waits,
            Self::Cancel => asks && waits,
        }
    }
}

/// Where a request is.
pub(crate) type Place = Path<(String, String)>;

pub(crate) async fn show(caller: Caller, Path((requester, id)): Place) -> Result<Response, Fault> {
    let (request, case) = read(&caller, &requester, &id, Action::ReadRequest).await?;
    let head = request.information_request.clone().unwrap_or_default();
    let claim = caller.office.store.claimed(&request_object(&requester, &id)).await?;
    let mine = claim.as_ref().is_some_and(|claim| claim.subject == caller.official.subject);
    let fitting = Doing::ALL.into_iter().filter(|doing| doing.fits(&head, &caller.office.id));
    let r = shown(&caller, request, case).await?;
    let has_documents = r.steps.iter().any(|step| !step.documents.is_empty());
    Ok(render(&RequestPage {
        f: caller.frame_named(format!("{} {id}", r.title)),
        path: caller.to(&request_path(&requester, &id)),
        of: format!("{requester}/{id}"),
        actions: fitting.map(|doing| (doing.name(), doing.key())).collect(),
        claim,
        mine,
        ended: !matches!(head.state(), State::Open | State::Returned | State::Answered),
        has_documents,
        r,
    }))
}

/// Reads a request from the exchange, on record at both.
async fn read(
    caller: &Caller,
    requester: &str,
    id: &str,
    action: Action,
) -> Result<(GetInformationRequestResponse, String), Fault> {
    caller.may(Role::Requests)?;
    let office = &caller.office;
    let object = request_object(requester, id);
    // Until somebody says which case of theirs it belongs to, it is read in its own.
    let known = office.store.known(&object).await?;
    let case = if known.case_id.is_empty() { id.to_owned() } else { known.case_id.clone() };
    let rights = office.rights();
    let why = why(&rights)?;
    let about = About { person: &known.person, purpose: &why.purpose, case_id: &case };
    let entry = office.enter(&caller.official, action, &object, about).await?;
    let asked = GetInformationRequestRequest {
        requester: requester.to_owned(),
        request_id: id.to_owned(),
        context: Some(caller.official.context(&why, &case)),
        min_position: String::new(),
    };
    match office.client.get_information_request(&asked, DEADLINE).await {
        Ok(request) => {
            let head = request.information_request.clone().unwrap_or_default();
            entry.done_about(&head.position, &request.subject_id).await;
            office.put_request(head);
            if known.person != request.subject_id {
                office.store.remember(&object, Known { person: request.subject_id.clone(), ..known }).await?;
            }
            Ok((request, case))
        }
        Err(cause) => {
            entry.failed(&cause).await;
            Err(match cause.reason() {
                // An id that could be none is nobody's either.
                Some(airut_domain::refusal::Reason::InvalidField) => Fault::NotFound,
                _ => cause.into(),
            })
        }
    }
}

/// The identity code of the person a request is about.
pub(super) async fn subject(caller: &Caller, requester: &str, id: &str) -> Result<String, Fault> {
    let (request, _) = read(caller, requester, id, Action::ReadRequest).await?;
    Ok(request.subject_id)
}

/// For what purpose this organisation has requests.
fn why(rights: &Rights) -> Result<Why, Fault> {
    if rights.is_empty() {
        return Err(Fault::Unreachable);
    }
    rights.sends(REQUESTS).or_else(|| rights.receives(REQUESTS)).map(|(why, _)| why).ok_or(Fault::Forbidden)
}

pub(super) async fn shown(
    caller: &Caller,
    request: GetInformationRequestResponse,
    case: String,
) -> Result<Shown, Fault> {
    let (t, rights) = (caller.texts(), caller.office.rights());
    let head = request.information_request.unwrap_or_default();
    let moment = |at: Option<prost_types::Timestamp>| at.map(|at| t.moment(airut_wire::timestamp_from(at)));
    let mut steps = Vec::with_capacity(request.steps.len());
    let (mut answered, mut counterpart) = (None, None);
    for step in request.steps {
        let contact = step.contact.clone().unwrap_or_default();
        if step.partner != caller.office.id && !contact.unit.is_empty() {
            counterpart = Some((rights.name(&step.partner).to_owned(), contact.clone()));
        }
        if matches!(step.action, Some(Step::Responded(_))) {
            answered = moment(step.time);
        }
        steps.push(shown_step(caller, &rights, step, contact).await?);
    }
    // Newest last, as it went; what is read first is the question.
    Ok(Shown {
        title: t.of(kind_key(head.kind())),
        id: head.request_id,
        person: request.subject_id,
        case,
        requester: rights.name(&head.requester).to_owned(),
        responder: rights.name(&head.responder).to_owned(),
        state: t.of(state_key(State::try_from(head.state).unwrap_or_default())),
        state_key: state_key(State::try_from(head.state).unwrap_or_default()),
        due: t.day(&head.due_date),
        overdue: head.overdue,
        created: moment(head.create_time).unwrap_or_default(),
        read: moment(head.read_time),
        answered,
        steps,
        counterpart,
    })
}

async fn shown_step(
    caller: &Caller,
    rights: &Rights,
    step: v1::InformationRequestStep,
    contact: v1::Contact,
) -> Result<ShownStep, Fault> {
    let t = caller.texts();
    let text = |key: &str, text: String| (t.of(key), text);
    let due = |day: &str| text("step-due", t.day(day));
    let mut documents = Vec::new();
    let (action, texts) = match step.action {
        Some(Step::Created(created)) => {
            let question = created.question.unwrap_or_default();
            let period = question.period.map(|period| t.span(&period.start_date, &period.end_date));
            let texts = vec![
                text("step-question", question.text),
                text("step-background", question.background),
                text("step-period", period.unwrap_or_default()),
                due(&created.due_date),
            ];
            ("step-created", texts)
        }
        Some(Step::Responded(responded)) => {
            for document in responded.documents {
                documents.push(documents::reference(caller, document).await?);
            }
            ("step-responded", vec![text("step-answer", responded.text)])
        }
        Some(Step::Returned(returned)) => {
            ("step-returned", vec![text("step-missing", returned.text), due(&returned.due_date)])
        }
        Some(Step::Closed(closed)) => ("step-closed", vec![text("step-remark", closed.text)]),
        Some(Step::Transferred(transferred)) => {
            let to = rights.name(&transferred.responder).to_owned();
            ("step-transferred", vec![text("step-to", to), text("step-reason", transferred.text)])
        }
        Some(Step::Cancelled(cancelled)) => ("step-cancelled", vec![text("step-reason", cancelled.text)]),
        None => ("step-other", Vec::new()),
    };
    Ok(ShownStep {
        action: t.of(action),
        time: step.time.map(|at| t.moment(airut_wire::timestamp_from(at))).unwrap_or_default(),
        partner: rights.name(&step.partner).to_owned(),
        end_user: step.end_user,
        role: t.word("title", &step.end_user_role),
        contact,
        texts: texts.into_iter().filter(|(_, text)| !text.is_empty()).collect(),
        documents,
    })
}

/// Claims it, takes it over, or gives it back.
pub(crate) async fn claim(caller: Caller, Path((requester, id)): Place, fields: Fields) -> Result<Response, Fault> {
    caller.may(Role::Requests)?;
    caller.own_form(&fields)?;
    if caller.office.requests().get(&requester, &id).is_none() {
        return Err(Fault::NotFound);
    }
    let done = claimed(&caller, &request_object(&requester, &id), fields.text("claim")).await?;
    caller.office.tell(crate::office::Change::Requests);
    let there = caller.to(&request_path(&requester, &id));
    Ok(Redirect::to(&format!("{there}?done={done}")).into_response())
}

/// Does what a form with the field `claim` says; gives what to say of it.
pub(super) async fn claimed(caller: &Caller, object: &str, what: &str) -> Result<&'static str, Fault> {
    let (office, official) = (&caller.office, &caller.official);
    let by = Claim { subject: official.subject.clone(), name: official.name.clone(), since: office.now() };
    if what == "release" {
        office.store.release(object, &official.subject).await?;
        office.enter(official, Action::Released, object, About::default()).await?.done("").await;
        return Ok("released");
    }
    let take_over = if what == "take-over" { TakeOver::Yes } else { TakeOver::No };
    let holder = office.store.claim(object, by, take_over).await?;
    office.enter(official, Action::Claimed, object, About::default()).await?.done("").await;
    Ok(if holder.subject == official.subject { "claimed" } else { "taken" })
}

/// The form of something to be done.
pub(crate) async fn form(
    Of(desk): Of<Desk>,
    caller: Caller,
    Path((requester, id, doing)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    let (doing, head) = begun(&caller, &requester, &id, &doing)?;
    let given = given(&caller, &requester, &id).await?;
    let (form, _) = command_form(&caller, doing, &head, given, Sent::No).await?;
    let hidden = vec![("id", new_id()), ("version", head.version.to_string())];
    Ok(page(&desk, &caller, doing, &head, form, hidden, false).show())
}

/// The form of an answer, after a document could not be attached to it.
pub(super) async fn respond_with_fault(
    desk: &Desk,
    caller: &Caller,
    requester: &str,
    id: &str,
    fault: String,
) -> Result<Response, Fault> {
    let (doing, head) = begun(caller, requester, id, Doing::Respond.name())?;
    let given = given(caller, requester, id).await?;
    let (mut form, _) = command_form(caller, doing, &head, given, Sent::No).await?;
    form.banner = Some(fault);
    let hidden = vec![("id", new_id()), ("version", head.version.to_string())];
    Ok(page(desk, caller, doing, &head, form, hidden, false).show())
}

/// What a form begins with.
async fn given(caller: &Caller, requester: &str, id: &str) -> Result<Fields, Fault> {
    let object = request_object(requester, id);
    let known = caller.office.store.known(&object).await?;
    let due = working_day::after(working_day::today(caller.office.now()), 7);
    let mut given = Fields::default()
        .or("case", &known.case_id)
        .or("due", &format_date(due))
        .or("unit", &caller.official.unit)
        .or("telephone", &caller.official.telephone);
    for sent in caller.office.store.sent_for(&object).await? {
        // What was attached goes with the answer unless its box is cleared.
        given.add("documents", &sent.document_id);
    }
    Ok(given)
}

/// What the form says, checked and then sent.
pub(crate) async fn step(
    Of(desk): Of<Desk>,
    caller: Caller,
    Path((requester, id, doing)): Path<(String, String, String)>,
    fields: Fields,
) -> Result<Response, Fault> {
    let (doing, head) = begun(&caller, &requester, &id, &doing)?;
    caller.own_form(&fields)?;
    let (form, mut command) = command_form(&caller, doing, &head, fields.clone(), Sent::Yes).await?;
    let hidden = vec![("id", id_of(&fields)), ("version", fields.text("version").to_owned())];
    let stage = Stage::of(&fields, &form);
    let page = page(&desk, &caller, doing, &head, form, hidden, stage != Stage::Edit);
    if stage != Stage::Send {
        return Ok(page.show());
    }
    command.command_id = id_of(&fields);
    command.version = fields.text("version").parse().unwrap_or(0);
    let office = &caller.office;
    let object = request_object(&requester, &id);
    let known = office.store.known(&object).await?;
    let about = About { person: &known.person, purpose: &command.why.purpose, case_id: &command.case };
    let entry = office.enter(&caller.official, doing.action(), &object, about).await?;
    match carry_out(&caller, doing, &head, &command).await {
        Ok(now) => {
            entry.done(&now.position).await;
            office.store.remember(&object, Known { case_id: command.case.clone(), ..known }).await?;
            finished(&caller, doing, &head, now).await
        }
        Err(cause) => {
            entry.failed(&cause).await;
            Ok(page.not_sent(&cause))
        }
    }
}

/// Where to go once it was done.
async fn finished(
    caller: &Caller,
    doing: Doing,
    head: &InformationRequest,
    now: InformationRequest,
) -> Result<Response, Fault> {
    let office = &caller.office;
    let (requester, id) = (&head.requester, &head.request_id);
    if doing == Doing::Close || doing == Doing::Cancel || doing == Doing::Transfer {
        office.store.unclaim(&request_object(requester, id)).await?;
    }
    let gone = doing == Doing::Transfer && *requester != office.id;
    if gone {
        office.drop_request(requester, id);
    } else {
        office.put_request(now);
    }
    let there = if gone { "/requests".to_owned() } else { request_path(requester, id) };
    Ok(Redirect::to(&format!("{}?done={}", caller.to(&there), doing.done())).into_response())
}

/// What there is to do, and to which request as it is known to be. One that is not known here is not this organisation's: the exchange is asked all the
/// same when it is opened, so that the attempt is on record.
fn begun(caller: &Caller, requester: &str, id: &str, doing: &str) -> Result<(Doing, InformationRequest), Fault> {
    caller.may(Role::Requests)?;
    let doing = Doing::ALL.into_iter().find(|known| known.name() == doing).ok_or(Fault::NotFound)?;
    let head = caller.office.requests().get(requester, id).cloned().ok_or(Fault::NotFound)?;
    Ok((doing, head))
}

/// A command as the form has it.
struct Command {
    why: Why,
    case: String,
    text: String,
    due: String,
    responder: String,
    document_ids: Vec<String>,
    contact: v1::Contact,
    command_id: String,
    version: i32,
}

async fn command_form(
    caller: &Caller,
    doing: Doing,
    head: &InformationRequest,
    given: Fields,
    sent: Sent,
) -> Result<(Form, Command), Fault> {
    let (t, rights) = (caller.texts(), caller.office.rights());
    let why = why(&rights)?;
    let mut form = Form::new(t, given, sent);
    let (mut due, mut responder, mut document_ids) = (String::new(), String::new(), Vec::new());
    let text = match doing {
        Doing::Respond => {
            let object = request_object(&head.requester, &head.request_id);
            let attached = caller.office.store.sent_for(&object).await?;
            let attached: Vec<(String, String)> =
                attached.into_iter().map(|sent| (sent.document_id, sent.file_name)).collect();
            if !attached.is_empty() {
                document_ids = form.checks("documents", attached);
            }
            let needed = if document_ids.is_empty() { Needed::Yes } else { Needed::No };
            form.area("answer", ANSWER, needed)
        }
        Doing::Return => {
            let text = form.area("missing", QUESTION, Needed::Yes);
            due = form.day("due", Needed::Yes);
            due_fits(&mut form, caller, &due);
            text
        }
        Doing::Transfer => {
            let (_, others) = rights.sends(REQUESTS).unwrap_or_else(|| (why.clone(), Vec::new()));
            let mut others: Vec<(String, String)> =
                others.into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect();
            if others.is_empty() {
                others = rights.siblings();
            }
            others.retain(|(id, _)| *id != head.responder);
            responder = form.choice("responder", others, Needed::Yes);
            form.area("reason", REMARK, Needed::Yes)
        }
        Doing::Close => form.area("remark", REMARK, Needed::No),
        Doing::Cancel => form.area("reason", REMARK, Needed::No),
    };
    let case = form.line("case", CASE, Needed::Yes);
    let contact =
        if matches!(doing, Doing::Close | Doing::Cancel) { v1::Contact::default() } else { contact(&mut form) };
    let (command_id, version) = (String::new(), 0);
    Ok((form, Command { why, case, text, due, responder, document_ids, contact, command_id, version }))
}

async fn carry_out(
    caller: &Caller,
    doing: Doing,
    head: &InformationRequest,
    command: &Command,
) -> Result<InformationRequest, CallError> {
    let client = &caller.office.client;
    let (requester, request_id) = (head.requester.clone(), head.request_id.clone());
    let Command { text, due, responder, document_ids, contact, command_id, version, .. } = command;
    let (command_id, text, expected_version) = (command_id.clone(), text.clone(), *version);
    let context = Some(caller.official.context(&command.why, &command.case));
    let (contact, due_date) = (Some(contact.clone()), due.clone());
    match doing {
        Doing::Respond => {
            let document_ids = document_ids.clone();
            let respond = v1::RespondInformationRequestRequest {
                requester,
                request_id,
                command_id,
                context,
                text,
                document_ids,
                contact,
                expected_version,
            };
            client.respond_information_request(&respond, DEADLINE).await
        }
        Doing::Return => {
            let give_back = v1::ReturnInformationRequestRequest {
                request_id,
                command_id,
                context,
                text,
                due_date,
                contact,
                expected_version,
            };
            client.return_information_request(&give_back, DEADLINE).await
        }
        Doing::Close => {
            let close = v1::CloseInformationRequestRequest { request_id, command_id, context, text, expected_version };
            client.close_information_request(&close, DEADLINE).await
        }
        Doing::Transfer => {
            let transfer = v1::TransferInformationRequestRequest {
                requester,
                request_id,
                command_id,
                context,
                responder: responder.clone(),
                text,
                due_date,
                contact,
                expected_version,
            };
            client.transfer_information_request(&transfer, DEADLINE).await
        }
        Doing::Cancel => {
            let cancel =
                v1::CancelInformationRequestRequest { request_id, command_id, context, text, expected_version };
            client.cancel_information_request(&cancel, DEADLINE).await
        }
    }
}

fn page(
    desk: &Desk,
    caller: &Caller,
    doing: Doing,
    head: &InformationRequest,
    form: Form,
    hidden: Vec<(&'static str, String)>,
    checking: bool,
) -> FormPage {
    let path = request_path(&head.requester, &head.request_id);
    let may_attach = doing == Doing::Respond && !checking && !caller.office.rights().document_types().is_empty();
    let attach = may_attach.then(|| Attach {
        action: caller.to(&format!("{path}/attach")),
        most: caller.texts().size(i64::try_from(desk.settings().largest_document).unwrap_or(i64::MAX)),
        accept: documents::accepted(&caller.office.rights()),
    });
    FormPage {
        f: caller.frame(doing.title()),
        form,
        action: caller.to(&format!("{path}/{}", doing.name())),
        send: doing.send(),
        lead: "",
        hidden,
        back: caller.to(&path),
        checking,
        attach,
    }
}

/// The request for the case file.
pub(crate) async fn pdf(caller: Caller, Path((requester, id)): Place) -> Result<Response, Fault> {
    let (request, case) = read(&caller, &requester, &id, Action::ExportedRequest).await?;
    let shown = shown(&caller, request, case).await?;
    let now = caller.office.now();
    let made = case_file::made(&caller, &shown, now).map_err(|cause| {
        tracing::error!(%cause, "a case file could not be made");
        Fault::Malformed
    })?;
    Ok(documents::download(&format!("{id}.pdf"), "application/pdf", Body::from(made)))
}

/// All its documents in one file.
pub(crate) async fn documents(
    Of(desk): Of<Desk>,
    caller: Caller,
    Path((requester, id)): Place,
) -> Result<Response, Fault> {
    let (request, case) = read(&caller, &requester, &id, Action::ReadRequest).await?;
    let shown = shown(&caller, request, case.clone()).await?;
    let all: Vec<(String, String)> = shown
        .steps
        .iter()
        .flat_map(|step| &step.documents)
        .map(|document| (document.sender.clone(), document.document_id.clone()))
        .collect();
    documents::all(&desk, &caller, &id, &case, all).await
}
