//! What every page has in common: language, who is signed in, where one is, and how to get elsewhere.

use crate::{
    language::{Language, Texts},
    official::Role,
    session::Visitor,
};

use super::visit::Visit;

/// The page's frame, for templates.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) t: &'static Texts,
    pub(crate) title: String,
    pub(crate) rest: String,
    pub(crate) visitor: Option<Visitor>,
    pub(crate) done: Option<&'static str>,
    pub(crate) linked: bool,
    /// How long the session runs on without a request.
    pub(crate) idle_seconds: u64,
    /// The number of the newest change that the page shows.
    pub(crate) told: u64,
}

/// An entry of the menu.
pub(crate) struct Place {
    pub(crate) href: String,
    pub(crate) key: &'static str,
    pub(crate) here: bool,
}

/// The menu: where, the key of its text, and what one must be allowed to do. None for everybody.
const MENU: [(&str, &str, Option<Role>); 7] = [
    ("/", "menu-today", None),
    ("/queries", "menu-queries", Some(Role::Queries)),
    ("/requests", "menu-requests", Some(Role::Requests)),
    ("/documents", "menu-documents", Some(Role::Documents)),
    ("/notices", "menu-notices", Some(Role::Notices)),
    ("/log", "menu-log", None),
    ("/users-log", "menu-users-log", Some(Role::Supervisor)),
];

impl Frame {
    pub(super) fn new(visit: &Visit, title: String) -> Self {
        Self {
            t: visit.texts(),
            title,
            rest: visit.rest.clone(),
            visitor: visit.visitor.clone(),
            done: visit.done,
            linked: visit.linked,
            idle_seconds: visit.idle_seconds,
            told: visit.told,
        }
    }

    pub(crate) fn lang(&self) -> &'static str {
        self.t.language().code()
    }

    /// An address in this language.
    pub(crate) fn to(&self, rest: &str) -> String {
        format!("/{}{rest}", self.lang())
    }

    pub(crate) fn asset(&self, name: &str) -> String {
        super::assets::path(name)
    }

    pub(crate) fn csrf(&self) -> &str {
        self.visitor.as_ref().map_or("", |visitor| &visitor.csrf)
    }

    /// What is said of what was done.
    pub(crate) fn done_text(&self, done: &str) -> String {
        self.t.word("done", done)
    }

    pub(crate) fn languages(&self) -> impl Iterator<Item = (Language, String)> {
        Language::ALL.into_iter().map(|language| (language, format!("/{}{}", language.code(), self.rest)))
    }

    pub(crate) fn menu(&self) -> Vec<Place> {
        let Some(visitor) = &self.visitor else { return Vec::new() };
        let allowed = MENU.iter().filter(|(_, _, role)| role.is_none_or(|role| visitor.official.may(role)));
        let path = self.rest.split('?').next().unwrap_or_default();
        let here = |place: &str| {
            path == place || (place != "/" && path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/')))
        };
        allowed.map(|(place, key, _)| Place { href: self.to(place), key, here: here(place) }).collect()
    }
}
