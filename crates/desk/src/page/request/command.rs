//! What may be done with an information request: the form of each command, filled in, checked, sent.

use airut_client::CallError;
use airut_domain::{time::format_date, working_day};
use airut_wire::v1::{self, InformationRequest, InformationRequestState as State};
use axum::{
    extract::{Path, State as Of},
    response::{IntoResponse, Redirect, Response},
};

use super::why;
use crate::{
    desk::Desk,
    office::{About, DEADLINE, REQUESTS},
    official::{Role, Why},
    page::{
        documents,
        requests::{CASE, QUESTION, contact, due_fits},
        rows::{request_object, request_path},
        steps::{Attach, FormPage, Stage, id_of, new_id},
    },
    store::{Action, Known},
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        visit::Caller,
    },
};

/// Bounds of the exchange's, in characters.
const ANSWER: usize = 8000;
const REMARK: usize = 1000;

/// What an official can do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Respond,
    Return,
    Close,
    Transfer,
    Cancel,
}

impl Doing {
    pub(super) const ALL: [Self; 5] = [Self::Respond, Self::Close, Self::Return, Self::Transfer, Self::Cancel];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Respond => "respond",
            Self::Return => "return",
            Self::Close => "close",
            Self::Transfer => "transfer",
            Self::Cancel => "cancel",
        }
    }

    /// The key of its text; with `-title`, `-send` and `-lead` behind it those of its form.
    pub(super) const fn key(self) -> &'static str {
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
    pub(super) fn fits(self, request: &InformationRequest, organisation: &str) -> bool {
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
pub(in crate::page) async fn respond_with_fault(
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
