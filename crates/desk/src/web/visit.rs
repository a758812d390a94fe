//! A request as pages see it: in which language, by whom, for which organisation.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{HeaderMap, header::COOKIE, request::Parts};
use tokio::sync::Semaphore;

use super::{fault::Fault, form::Fields, frame::Frame};
use crate::{
    desk::Desk,
    language::{Language, Texts},
    office::Office,
    official::{Official, Role},
    session::Visitor,
};

/// The cookie of sessions. Its prefix has browsers take it from this host alone, over TLS alone.
pub(crate) const SESSION: &str = "__Host-airut";

/// The cookie of a sign-in under way.
pub(crate) const SIGN_IN: &str = "__Host-airut-sign-in";

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) language: Language,
    /// The address without the language, query included: where the same page is in the other languages.
    pub(crate) rest: String,
    pub(crate) cookie: Option<String>,
    pub(crate) visitor: Option<Visitor>,
    /// A text that one's own redirect wants shown once: the last part of its key.
    pub(crate) done: Option<&'static str>,
    /// Whether the exchange can be reached, as far as is known.
    pub(crate) linked: bool,
    /// How long the session runs on without a request.
    pub(crate) idle_seconds: u64,
    /// The number of the office's newest change when the page began to be made.
    pub(crate) told: u64,
}

impl Visit {
    /// Its texts.
    pub(crate) fn texts(&self) -> &'static Texts {
        self.language.texts()
    }

    /// An address of the desk in the visitor's language.
    pub(crate) fn to(&self, rest: &str) -> String {
        format!("/{}{rest}", self.language.code())
    }

    /// What every page has in common.
    pub(crate) fn frame(&self, title: &str) -> Frame {
        Frame::new(self, self.texts().of(title))
    }

    /// The same, for a title that is no key.
    pub(crate) fn frame_named(&self, title: String) -> Frame {
        Frame::new(self, title)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        // The guard has put it there for every address that begins with a language.
        parts.extensions.get::<Self>().cloned().ok_or(Fault::NotFound)
    }
}

/// A request of someone who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) visit: Visit,
    pub(crate) official: Arc<Official>,
    pub(crate) office: Arc<Office>,
    /// Room for pages of the session that are kept up to date.
    pub(crate) live: Arc<Semaphore>,
    csrf: Arc<str>,
}

impl Caller {
    /// That the official may do this.
    pub(crate) fn may(&self, role: Role) -> Result<(), Fault> {
        if self.official.may(role) { Ok(()) } else { Err(Fault::Forbidden) }
    }

    /// That a form is one that the desk gave this visitor in this session.
    pub(crate) fn own(&self, csrf: &str) -> Result<(), Fault> {
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(csrf.as_bytes(), self.csrf.as_bytes());
        same.map_err(|_| Fault::Forged)
    }

    /// The same for the fields of a form.
    pub(crate) fn own_form(&self, fields: &Fields) -> Result<(), Fault> {
        self.own(fields.text("csrf"))
    }
}

impl std::ops::Deref for Caller {
    type Target = Visit;

    fn deref(&self) -> &Visit {
        &self.visit
    }
}

impl FromRequestParts<Desk> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Fault> {
        let visit = Visit::from_request_parts(parts, desk).await?;
        let visitor = visit.visitor.clone().ok_or(Fault::SignIn)?;
        let office = desk.office(&visitor.official.organisation).await?;
        let visit = Visit { told: office.changes().told(), ..visit };
        Ok(Self { visit, official: visitor.official, office, live: visitor.live, csrf: visitor.csrf })
    }
}

/// The value of a cookie.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = all.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}
