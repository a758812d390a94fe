//! Rows of lists: what is shown of a request, a document or a notice before it is opened. Nothing of a person is in them.

use std::collections::BTreeMap;

use airut_wire::v1::{InformationRequest, InformationRequestKind as Kind, InformationRequestState as State};

use crate::{
    language::Texts,
    office::Rights,
    official::Official,
    store::{Claim, Item},
    web::guard::encoded,
};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct RequestRow {
    pub(crate) href: String,
    pub(crate) title: String,
    pub(crate) id: String,
    pub(crate) counterpart: String,
    pub(crate) state: String,
    pub(crate) state_key: &'static str,
    pub(crate) due: String,
    pub(crate) overdue: bool,
    pub(crate) read: bool,
    pub(crate) claim: Option<String>,
    pub(crate) mine: bool,
}

/// A document or a notice that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct ItemRow {
    pub(crate) href: String,
    pub(crate) title: String,
    pub(crate) id: String,
    pub(crate) sender: String,
    pub(crate) accepted: String,
    pub(crate) opened: bool,
    pub(crate) handled: Option<String>,
    pub(crate) claim: Option<String>,
    pub(crate) mine: bool,
}

/// What rows are made with.
pub(crate) struct Rows<'a> {
    pub(crate) t: &'static Texts,
    pub(crate) rights: &'a Rights,
    pub(crate) organisation: &'a str,
    pub(crate) official: &'a Official,
    pub(crate) claims: &'a BTreeMap<String, Claim>,
}

impl Rows<'_> {
    pub(crate) fn request(&self, request: &InformationRequest) -> RequestRow {
        let other = if request.requester == self.organisation { &request.responder } else { &request.requester };
        let object = request_object(&request.requester, &request.request_id);
        let (claim, mine) = self.claim(&object);
        RequestRow {
            href: format!("/{}{}", self.t.language().code(), request_path(&request.requester, &request.request_id)),
            title: self.t.of(kind_key(request.kind())),
            id: request.request_id.clone(),
            counterpart: self.rights.name(other).to_owned(),
            state: self.t.of(state_key(request.state())),
            state_key: state_key(request.state()),
            due: self.t.day(&request.due_date),
            overdue: request.overdue,
            read: request.read_time.is_some(),
            claim,
            mine,
        }
    }

    pub(crate) fn item(&self, item: &Item) -> ItemRow {
        let (claim, mine) = self.claim(&item.object());
        let rest = match item.kind {
            crate::store::ItemKind::Notice => format!("/notices/{}", item.number),
            crate::store::ItemKind::Document => document_path(&item.sender, &item.object_id),
        };
        ItemRow {
            href: format!("/{}{rest}", self.t.language().code()),
            title: self.rights.title(self.t, &item.message_type),
            id: if item.object_id.is_empty() { item.message_id.clone() } else { item.object_id.clone() },
            sender: self.rights.name(&item.sender).to_owned(),
            accepted: self.t.moment(item.accepted),
            opened: item.opened.is_some(),
            handled: item.handled.map(|at| self.t.moment(at)),
            claim,
            mine,
        }
    }

    fn claim(&self, object: &str) -> (Option<String>, bool) {
        let claim = self.claims.get(object);
        (claim.map(|claim| claim.name.clone()), claim.is_some_and(|claim| claim.subject == self.official.subject))
    }
}

/// What a request is called in claims and in the access log.
pub(crate) fn request_object(requester: &str, request_id: &str) -> String {
    format!("request/{requester}/{request_id}")
}

/// Where a request is.
pub(crate) fn request_path(requester: &str, request_id: &str) -> String {
    format!("/requests/{}/{}", encoded(requester), encoded(request_id))
}

/// Where a document is.
pub(crate) fn document_path(sender: &str, document_id: &str) -> String {
    format!("/documents/{}/{}", encoded(sender), encoded(document_id))
}

/// The key of a kind's text.
pub(crate) const fn kind_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified | Kind::Statement => "kind-statement",
        Kind::AssistanceReport => "kind-assistance-report",
        Kind::ServiceNeedAssessment => "kind-service-need-assessment",
        Kind::MultidisciplinaryCooperation => "kind-multidisciplinary-cooperation",
    }
}

/// The key of a state's text.
pub(crate) const fn state_key(state: State) -> &'static str {
    match state {
        State::Unspecified | State::Open => "state-open",
        State::Returned => "state-returned",
        State::Answered => "state-answered",
        State::Closed => "state-closed",
        State::Cancelled => "state-cancelled",
        State::Lapsed => "state-lapsed",
    }
}

/// Whether a request waits for this organisation.
pub(crate) fn waits_for(request: &InformationRequest, organisation: &str) -> bool {
    match request.state() {
        State::Open | State::Returned => request.responder == organisation,
        State::Answered => request.requester == organisation,
        State::Unspecified | State::Closed | State::Cancelled | State::Lapsed => false,
    }
}
