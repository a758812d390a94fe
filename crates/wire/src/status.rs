//! The one place where a gRPC status is made.
//!
//! Every error carries `google.rpc.ErrorInfo` with the reason's code, a request id and a link to the reason's page; fields at
//! fault as `BadRequest`; a delay as `RetryInfo` where trying again can help. What happened inside stays in the log.

use std::time::Duration;

use airut_domain::refusal::{Class, Reason, Refusal};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// Where the pages of docs/errors/ are published.
const PAGES: &str = "https://airut.example/errors";

/// The status of a refusal. `request_id` is found in the logs as well.
pub fn status(refusal: &Refusal, request_id: &str) -> Status {
    let reason = refusal.reason;
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.code(), "airut", [("rules".to_owned(), airut_domain::record::RULES.to_string())]);
    details.set_request_info(request_id, "");
    details.set_help(vec![tonic_types::HelpLink::new(reason.sentence(), format!("{PAGES}/{}", reason.code()))]);
    if !refusal.violations.is_empty() {
        let violation = |v: &airut_domain::refusal::Violation| FieldViolation::new(v.field.as_ref(), &v.fault);
        details.set_bad_request(refusal.violations.iter().map(violation).collect::<Vec<_>>());
    }
    if let Some(delay) = refusal.retry_after {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(reason.class()), sentence(refusal), details)
}

/// The reason in a status that an exchange gave.
pub fn reason_of(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info()?;
    (info.domain == "airut").then(|| Reason::from_code(&info.reason)).flatten()
}

/// The delay after which to try again, in a status that an exchange gave.
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

pub(crate) fn sentence(refusal: &Refusal) -> String {
    let fields: Vec<String> = refusal.violations.iter().map(|v| format!("{} {}", v.field, v.fault)).collect();
    if fields.is_empty() { refusal.reason.sentence().to_owned() } else { fields.join("; ") }
}

pub(crate) const fn code(class: Class) -> Code {
    match class {
        Class::Unauthenticated => Code::Unauthenticated,
        Class::PermissionDenied => Code::PermissionDenied,
        Class::NotFound => Code::NotFound,
        Class::InvalidArgument => Code::InvalidArgument,
        Class::AlreadyExists => Code::AlreadyExists,
        Class::FailedPrecondition => Code::FailedPrecondition,
        Class::ResourceExhausted => Code::ResourceExhausted,
        Class::DeadlineExceeded => Code::DeadlineExceeded,
        Class::Unavailable => Code::Unavailable,
    }
}
