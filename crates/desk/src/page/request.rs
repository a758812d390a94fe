//! One information request: what was asked and answered, who did what when, and what may be done next.

mod command;

pub(super) use command::respond_with_fault;
pub(crate) use command::{form, step};

use airut_wire::v1::{
    self, GetInformationRequestRequest, GetInformationRequestResponse, InformationRequestState as State,
    information_request_step::Action as Step,
};
use askama::Template;
use axum::{
    body::Body,
    extract::{Path, State as Of},
    response::{IntoResponse, Redirect, Response},
};

use self::command::Doing;
use super::{
    case_file, documents,
    rows::{kind_key, request_object, request_path, state_key},
};
use crate::{
    desk::Desk,
    office::{About, Change, DEADLINE, REQUESTS, Rights},
    official::{Role, Why},
    store::{Action, Claim, Known, TakeOver},
    web::{fault::Fault, form::Fields, frame::Frame, guard::render, visit::Caller},
};

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
    /// The changes that concern it, as they are told.
    news_of: String,
    /// What may be done next, first the usual: the last part of the address and the key of the text.
    actions: Vec<(&'static str, &'static str)>,
    claim: Option<Claim>,
    mine: bool,
    ended: bool,
    has_documents: bool,
}

/// Where a request is.
pub(crate) type Place = Path<(String, String)>;

pub(crate) async fn show(caller: Caller, Path((requester, id)): Place) -> Result<Response, Fault> {
    let Read { request, case, told } = read(&caller, &requester, &id, Action::ReadRequest).await?;
    let head = request.information_request.clone().unwrap_or_default();
    let claim = caller.office.store.claimed(&request_object(&requester, &id)).await?;
    let mine = claim.as_ref().is_some_and(|claim| claim.subject == caller.official.subject);
    let fitting = Doing::ALL.into_iter().filter(|doing| doing.fits(&head, &caller.office.id));
    let r = shown(&caller, request, case).await?;
    let documents = || r.steps.iter().flat_map(|step| &step.documents);
    let has_documents = documents().next().is_some();
    // A document has its name from its own notice, which may come later than the answer.
    let to_come = documents().filter(|document| document.href.is_empty() && document.sender != caller.office.id);
    let to_come = to_come.map(|document| Change::Document((document.sender.clone(), document.document_id.clone())));
    let news = std::iter::once(Change::Request((requester.clone(), id.clone()))).chain(to_come);
    Ok(render(&RequestPage {
        f: Frame { told, ..caller.frame_named(format!("{} {id}", r.title)) },
        path: caller.to(&request_path(&requester, &id)),
        news_of: news.map(|change| change.told_as()).collect::<Vec<_>>().join(" "),
        actions: fitting.map(|doing| (doing.name(), doing.key())).collect(),
        claim,
        mine,
        ended: !matches!(head.state(), State::Open | State::Returned | State::Answered),
        has_documents,
        r,
    }))
}

/// A request as it was read.
struct Read {
    request: GetInformationRequestResponse,
    /// The case in which it was read.
    case: String,
    /// The number of the newest change that it has in it.
    told: u64,
}

/// Reads a request from the exchange, on record at both.
async fn read(caller: &Caller, requester: &str, id: &str, action: Action) -> Result<Read, Fault> {
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
            let told = office.put_request(head).unwrap_or(caller.told);
            if known.person != request.subject_id {
                office.store.remember(&object, Known { person: request.subject_id.clone(), ..known }).await?;
            }
            Ok(Read { request, case, told })
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
    Ok(read(caller, requester, id, Action::ReadRequest).await?.request.subject_id)
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
    let there = caller.to(&request_path(&requester, &id));
    caller.office.changes().tell(Change::Request((requester, id)));
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

/// The request for the case file.
pub(crate) async fn pdf(caller: Caller, Path((requester, id)): Place) -> Result<Response, Fault> {
    let Read { request, case, .. } = read(&caller, &requester, &id, Action::ExportedRequest).await?;
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
    let Read { request, case, .. } = read(&caller, &requester, &id, Action::ReadRequest).await?;
    let shown = shown(&caller, request, case.clone()).await?;
    let all: Vec<(String, String)> = shown
        .steps
        .iter()
        .flat_map(|step| &step.documents)
        .map(|document| (document.sender.clone(), document.document_id.clone()))
        .collect();
    documents::all(&desk, &caller, &id, &case, all).await
}
