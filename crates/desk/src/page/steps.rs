//! Forms in two steps: fill in, check, send. What was typed goes along from step to step, and comes back whenever it could not be sent.

use airut_client::CallError;
use askama::Template;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::web::{
    fault::Fault,
    form::{Fields, Form},
    frame::Frame,
    guard::render,
};

/// Where a form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is being filled in.
    Edit,
    /// All is right, and its sender looks it over.
    Check,
    /// It is to be sent.
    Send,
}

impl Stage {
    pub(crate) fn of(fields: &Fields, form: &Form) -> Self {
        match fields.text("step") {
            _ if !form.is_good() => Self::Edit,
            "send" => Self::Send,
            "edit" => Self::Edit,
            _ => Self::Check,
        }
    }
}

/// A form in one of its steps.
#[derive(Template)]
#[template(path = "form.html")]
pub(crate) struct FormPage {
    pub(crate) f: Frame,
    pub(crate) form: Form,
    /// Where it is sent.
    pub(crate) action: String,
    /// What the button says that sends it for good: a key.
    pub(crate) send: &'static str,
    /// A paragraph before the fields; empty for none: a key.
    pub(crate) lead: &'static str,
    /// What goes along unseen.
    pub(crate) hidden: Vec<(&'static str, String)>,
    /// Where to go instead.
    pub(crate) back: String,
    pub(crate) checking: bool,
    /// The documents that may be attached to it.
    pub(crate) attach: Option<Attach>,
}

/// Where documents are attached to what is being written.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) action: String,
    /// The largest that may be.
    pub(crate) most: String,
    pub(crate) accept: String,
}

impl FormPage {
    /// Shows it: with what is wrong, where something is.
    pub(crate) fn show(self) -> Response {
        let status = match (&self.form.banner, self.form.has_errors()) {
            (Some(_), _) => StatusCode::SERVICE_UNAVAILABLE,
            (None, true) => StatusCode::UNPROCESSABLE_ENTITY,
            (None, false) => StatusCode::OK,
        };
        (status, render(&self)).into_response()
    }

    /// Shows it once more, because the exchange did not take it; nothing typed is lost, and the same command goes along.
    pub(crate) fn not_sent(mut self, fault: &CallError) -> Response {
        let fault = Fault::from(fault);
        let status = fault.status();
        self.form.banner = Some(fault.not_sent(self.f.t));
        self.checking = true;
        (status, render(&self)).into_response()
    }
}

/// An id for a command, a query or a document: new for each form, the same however often it is sent.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The id that a form carries; a new one where it carries none, or none that the exchange would take.
pub(crate) fn id_of(fields: &Fields) -> String {
    let id = fields.text("id");
    if id.parse::<uuid::Uuid>().is_ok() { id.to_owned() } else { new_id() }
}
