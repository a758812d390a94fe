//! Information requests as people and programs read them.

use airut_wire::v1::{self, information_request_step::Action};
use serde_json::{Value, json};

use crate::{
    caller::{table, word},
    lines::moment,
};

fn kind(request: &v1::InformationRequest) -> String {
    word(request.kind().as_str_name(), "INFORMATION_REQUEST_KIND_")
}

fn state(request: &v1::InformationRequest) -> String {
    word(request.state().as_str_name(), "INFORMATION_REQUEST_STATE_")
}

/// The state, and whether the answer should have come.
pub(super) fn standing(request: &v1::InformationRequest) -> String {
    let overdue = if request.overdue { ", overdue" } else { "" };
    format!("{}{overdue}", state(request))
}

pub(super) fn rows(requests: &[v1::InformationRequest]) -> String {
    let mut rows = table(&["DUE", "STATE", "KIND", "FROM", "TO", "READ", "CHANGED", "ID"]);
    for request in requests {
        rows.add_row([
            request.due_date.clone(),
            standing(request),
            kind(request),
            request.requester.clone(),
            request.responder.clone(),
            if request.read_time.is_some() { "yes" } else { "no" }.to_owned(),
            moment(request.update_time),
            request.request_id.clone(),
        ]);
    }
    rows.trim_fmt()
}

pub(super) fn as_json(request: &v1::InformationRequest) -> Value {
    json!({
        "requester": request.requester,
        "request_id": request.request_id,
        "responder": request.responder,
        "kind": kind(request),
        "state": state(request),
        "due_date": request.due_date,
        "overdue": request.overdue,
        "version": request.version,
        "create_time": moment(request.create_time),
        "update_time": moment(request.update_time),
        "read_time": moment(request.read_time),
        "position": request.position,
    })
}

/// What was said in a step: in a word what it was, the text, and what else belongs to it by its name.
fn said(step: &v1::InformationRequestStep) -> (&'static str, &str, Vec<(&'static str, String)>) {
    match &step.action {
        Some(Action::Created(created)) => {
            let question = created.question.as_ref();
            let mut more = vec![("due_date", created.due_date.clone())];
            if let Some(background) = question.map(|question| &question.background).filter(|text| !text.is_empty()) {
                more.push(("background", background.clone()));
            }
            if let Some(period) = question.and_then(|question| question.period.as_ref()) {
                more.push(("period", format!("{}/{}", period.start_date, period.end_date)));
            }
            ("asked", question.map_or("", |question| &question.text), more)
        }
        Some(Action::Responded(responded)) => {
            let document = |document: &v1::DocumentReference| {
                ("document", format!("{} {}", document.sender, document.document_id))
            };
            ("answered", &responded.text, responded.documents.iter().map(document).collect())
        }
        Some(Action::Returned(returned)) => ("returned", &returned.text, vec![("due_date", returned.due_date.clone())]),
        Some(Action::Closed(closed)) => ("closed", &closed.text, Vec::new()),
        Some(Action::Transferred(transferred)) => {
            let mut more = vec![("to", transferred.responder.clone())];
            if !transferred.due_date.is_empty() {
                more.push(("due_date", transferred.due_date.clone()));
            }
            ("passed on", &transferred.text, more)
        }
        Some(Action::Cancelled(cancelled)) => ("cancelled", &cancelled.text, Vec::new()),
        None => ("", "", Vec::new()),
    }
}

pub(super) fn shown_json(shown: &v1::GetInformationRequestResponse) -> Value {
    let step = |step: &v1::InformationRequestStep| {
        let (what, text, more) = said(step);
        let contact = step.contact.clone().unwrap_or_default();
        let mut line = json!({
            "time": moment(step.time),
            "partner": step.partner,
            "end_user": step.end_user,
            "end_user_role": step.end_user_role,
            "unit": contact.unit,
            "telephone": contact.telephone,
            "what": what,
            "text": text,
        });
        let documents: Vec<&String> =
            more.iter().filter(|(name, _)| *name == "document").map(|(_, text)| text).collect();
        if !documents.is_empty() {
            line["documents"] = json!(documents);
        }
        for (name, text) in more.iter().filter(|(name, _)| *name != "document") {
            line[*name] = json!(text);
        }
        line
    };
    json!({
        "information_request": shown.information_request.as_ref().map(as_json),
        "subject_id": shown.subject_id,
        "steps": shown.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

pub(super) fn shown_text(shown: &v1::GetInformationRequestResponse) -> String {
    let request = shown.information_request.clone().unwrap_or_default();
    let mut lines = vec![
        format!(
            "{}  {} from {} to {}: {}",
            request.request_id,
            kind(&request),
            request.requester,
            request.responder,
            standing(&request)
        ),
        format!("about {}, due {}", shown.subject_id, request.due_date),
    ];
    for step in &shown.steps {
        let (what, text, more) = said(step);
        lines.push(format!(
            "\n{}  {what} by {}, {} ({})",
            moment(step.time),
            step.partner,
            step.end_user,
            step.end_user_role
        ));
        if let Some(contact) = &step.contact {
            lines.push(format!("  {} {}", contact.unit, contact.telephone));
        }
        lines.extend(text.lines().map(|line| format!("  {line}")));
        lines.extend(more.iter().map(|(name, text)| format!("  {}: {text}", name.replace('_', " "))));
    }
    lines.join("\n")
}
