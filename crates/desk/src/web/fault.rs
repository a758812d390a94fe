//! Why a page can not be shown. The guard makes a page of it, in the visitor's language.

use airut_client::CallError;
use airut_domain::refusal::{Class, Reason};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::language::Texts;

/// Why.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// There is no such page, or what it would show is not the visitor's: which of the two, nobody is told.
    NotFound,
    /// The official may not do this.
    Forbidden,
    /// Nobody is signed in. The page is shown after signing in.
    SignIn,
    /// The form is not one that the desk gave this visitor, or is of an earlier session.
    Forged,
    /// More than a form may hold.
    TooLarge,
    /// The request makes no sense, which no page of the desk would send.
    Malformed,
    /// The exchange can't be reached, or is not sure.
    Unreachable,
    /// The exchange refused.
    Refused(Option<Reason>),
    /// Too much at once.
    Busy,
    /// The sign-in did not work out.
    SignInFailed(&'static str),
    /// The desk's own file.
    Store,
}

impl Fault {
    /// The status of the answer.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden | Self::Forged | Self::SignInFailed(_) => StatusCode::FORBIDDEN,
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unreachable | Self::Busy | Self::Store => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(_) => StatusCode::CONFLICT,
        }
    }

    /// The last part of the keys of its texts: `fault-…` and `fault-…-text`.
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Forbidden => "forbidden",
            Self::SignIn => "sign-in",
            Self::Forged => "forged",
            Self::TooLarge => "too-large",
            Self::Malformed => "malformed",
            Self::Unreachable => "unreachable",
            Self::Refused(_) => "refused",
            Self::Busy => "busy",
            Self::SignInFailed(key) => key,
            Self::Store => "store",
        }
    }

    /// The exchange's reason, where it is one.
    pub(crate) const fn reason(&self) -> Option<Reason> {
        if let Self::Refused(reason) = self { *reason } else { None }
    }

    /// Why a form could not be sent, in words.
    pub(crate) fn not_sent(&self, t: &Texts) -> String {
        match (self.reason(), self) {
            (Some(reason), _) => t.reason(reason.code()),
            (None, Self::NotFound) => t.of("not-sent-gone"),
            (None, _) => t.of("not-sent-unreachable"),
        }
    }

    /// All keys, for the test of texts.
    #[cfg(test)]
    pub(crate) const KEYS: [&'static str; 13] = [
        "not-found",
        "forbidden",
        "sign-in",
        "forged",
        "too-large",
        "malformed",
        "unreachable",
        "refused",
        "busy",
        "store",
        "sign-in-failed",
        "sign-in-organisation",
        "sign-in-provider",
    ];
}

impl From<CallError> for Fault {
    fn from(fault: CallError) -> Self {
        Self::from(&fault)
    }
}

impl From<&CallError> for Fault {
    fn from(fault: &CallError) -> Self {
        match fault.reason() {
            Some(reason) => match reason.class() {
                Class::NotFound => Self::NotFound,
                Class::Unavailable | Class::DeadlineExceeded => Self::Unreachable,
                Class::Unauthenticated
                | Class::PermissionDenied
                | Class::InvalidArgument
                | Class::AlreadyExists
                | Class::FailedPrecondition
                | Class::ResourceExhausted => Self::Refused(Some(reason)),
            },
            None if matches!(fault, CallError::Refused(refused) if !refused.may_pass()) => Self::Refused(None),
            None => Self::Unreachable,
        }
    }
}

impl From<crate::store::Error> for Fault {
    fn from(cause: crate::store::Error) -> Self {
        tracing::error!(%cause, "the desk's file");
        Self::Store
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
