//! The accessibility statement (Act 306/2019), with a form for feedback: for everybody, before signing in too.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};

use crate::{
    desk::Desk,
    official::Role,
    store::Feedback,
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        frame::Frame,
        guard::render,
        visit::{Caller, Visit},
    },
};

/// In characters.
const TEXT: usize = 2000;
const REPLY_TO: usize = 200;

#[derive(Template)]
#[template(path = "accessibility.html")]
struct StatementPage {
    f: Frame,
    form: Form,
}

#[derive(Template)]
#[template(path = "feedback.html")]
struct FeedbackPage {
    f: Frame,
    all: Vec<(String, Feedback)>,
}

pub(crate) async fn show(visit: Visit) -> Response {
    statement(&visit, form(&visit, Fields::default(), Sent::No))
}

fn form(visit: &Visit, given: Fields, sent: Sent) -> Form {
    let mut form = Form::new(visit.texts(), given, sent);
    form.area("feedback", TEXT, Needed::Yes);
    form.line("reply-to", REPLY_TO, Needed::No);
    form
}

fn statement(visit: &Visit, form: Form) -> Response {
    let status = if form.has_errors() { http::StatusCode::UNPROCESSABLE_ENTITY } else { http::StatusCode::OK };
    (status, render(&StatementPage { f: visit.frame("accessibility-title"), form })).into_response()
}

/// Takes feedback in. It is of the whole desk, so every organisation's supervisors read it.
pub(crate) async fn feedback(State(desk): State<Desk>, visit: Visit, fields: Fields) -> Result<Response, Fault> {
    let form = form(&visit, fields.clone(), Sent::Yes);
    if !form.is_good() {
        return Ok(statement(&visit, form));
    }
    let said = Feedback {
        time: desk.now(),
        text: fields.text("feedback").to_owned(),
        reply_to: fields.text("reply-to").to_owned(),
        language: visit.language.code().to_owned(),
    };
    desk.keep_feedback(said).await?;
    Ok(Redirect::to(&visit.to("/accessibility?done=feedback")).into_response())
}

pub(crate) async fn received(State(desk): State<Desk>, caller: Caller) -> Result<Response, Fault> {
    caller.may(Role::Supervisor)?;
    let t = caller.texts();
    let all = desk.feedback().await?.into_iter().map(|said| (t.moment(said.time), said)).collect();
    Ok(render(&FeedbackPage { f: caller.frame("feedback-title"), all }))
}
