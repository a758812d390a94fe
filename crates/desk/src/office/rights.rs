//! What the organisation may do at the exchange, as the exchange says: offered in forms, and nothing more is offered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use airut_wire::v1::{self, delivery_right::Direction, message_type_description::Service};
use tokio_util::sync::CancellationToken;

use super::{AGAIN, DEADLINE, Office};
use crate::{language::Texts, official::Why};

/// How often they are asked for anew.
const RENEW: Duration = Duration::from_secs(60);

/// The type of information requests.
pub(crate) const REQUESTS: &str = "information-request";

/// What the organisation may do.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    partner: v1::Partner,
    names: BTreeMap<String, String>,
    counterparts: Vec<v1::Counterpart>,
    message_types: BTreeMap<String, v1::MessageTypeDescription>,
}

impl Rights {
    pub(crate) fn new(response: v1::GetSelfResponse) -> Self {
        let partner = response.partner.unwrap_or_default();
        let own = (partner.id.clone(), partner.name.clone());
        let names = response.counterparts.iter().map(|other| (other.id.clone(), other.name.clone()));
        let message_types = response.message_types.into_iter().map(|described| (described.name.clone(), described));
        Self {
            names: names.chain([own]).collect(),
            partner,
            counterparts: response.counterparts,
            message_types: message_types.collect(),
        }
    }

    /// Whether the exchange has not told them yet.
    pub fn is_empty(&self) -> bool {
        self.partner.id.is_empty()
    }

    /// An organisation's name, or its id where the name is not known.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    /// The reasons for which benefits may be looked up.
    pub fn query_reasons(&self) -> Vec<Why> {
        let whys = self
            .partner
            .contracts
            .iter()
            .map(|contract| Why { purpose: contract.purpose.clone(), legal_basis: contract.legal_basis.clone() });
        whys.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The categories that may be seen for a reason.
    pub fn categories(&self, why: &Why) -> BTreeSet<i32> {
        let contracts = self.partner.contracts.iter();
        let contracts = contracts.filter(|c| c.purpose == why.purpose && c.legal_basis == why.legal_basis);
        contracts.flat_map(|contract| contract.grants.iter().map(|grant| grant.category)).collect()
    }

    /// Why, and to whom, the organisation may send something of this type.
    pub fn sends(&self, message_type: &str) -> Option<(Why, Vec<(&str, &str)>)> {
        self.exchanges(Direction::Send, message_type)
    }

    /// Why, and from whom, it may receive something of this type.
    pub fn receives(&self, message_type: &str) -> Option<(Why, Vec<(&str, &str)>)> {
        self.exchanges(Direction::Receive, message_type)
    }

    /// The organisations to which what was misrouted may belong: those that receive what this one receives, and that it has nothing else to do with.
    pub fn siblings(&self) -> Vec<(String, String)> {
        let rights = &self.partner.deliveries;
        let others = self.counterparts.iter().filter(|other| !rights.iter().any(|right| is_with(right, other)));
        others.map(|other| (other.id.clone(), other.name.clone())).collect()
    }

    /// The types of documents that it may send.
    pub fn document_types(&self) -> BTreeSet<String> {
        self.types(Direction::Send).filter(|name| self.is_document(name)).collect()
    }

    /// Whether it has anything to do with information requests.
    pub fn has_requests(&self) -> bool {
        self.sends(REQUESTS).is_some() || self.receives(REQUESTS).is_some()
    }

    /// The types of messages that it receives, other than requests.
    pub fn received_types(&self) -> BTreeSet<String> {
        self.types(Direction::Receive).filter(|name| name != REQUESTS).collect()
    }

    /// Whether a message type is a document's.
    pub fn is_document(&self, message_type: &str) -> bool {
        self.described(message_type).is_some_and(|described| described.service() == Service::Document)
    }

    /// What the exchange says of a message type.
    pub fn described(&self, message_type: &str) -> Option<&v1::MessageTypeDescription> {
        self.message_types.get(message_type)
    }

    /// What a message type is called: in the desk's own words where it has some, else as the exchange does.
    pub fn title(&self, t: &Texts, message_type: &str) -> String {
        let described = || self.described(message_type).map(|described| described.title.clone());
        t.find(&format!("type-{message_type}")).or_else(described).unwrap_or_else(|| message_type.to_owned())
    }

    fn types(&self, direction: Direction) -> impl Iterator<Item = String> {
        let rights = self.partner.deliveries.iter().filter(move |right| right.direction == i32::from(direction));
        rights.flat_map(|right| right.message_types.iter().cloned())
    }

    fn exchanges(&self, direction: Direction, message_type: &str) -> Option<(Why, Vec<(&str, &str)>)> {
        let mut rights = self.partner.deliveries.iter();
        let right = rights.find(|right| {
            right.direction == i32::from(direction) && right.message_types.iter().any(|name| name == message_type)
        })?;
        let why = Why { purpose: right.purpose.clone(), legal_basis: right.legal_basis.clone() };
        let with = self.counterparts.iter().filter(|other| is_with(right, other));
        Some((why, with.map(|other| (other.id.as_str(), other.name.as_str())).collect()))
    }
}

/// Whether a right names this organisation, by its id or its kind.
fn is_with(right: &v1::DeliveryRight, other: &v1::Counterpart) -> bool {
    right.with.iter().any(|with| *with == other.id || with.strip_prefix("kind:") == Some(kind_name(other.kind())))
}

/// A kind as patterns of partners write it.
fn kind_name(kind: v1::partner::Kind) -> &'static str {
    use v1::partner::Kind;
    match kind {
        Kind::Unspecified => "",
        Kind::Kela => "kela",
        Kind::WellbeingServicesCounty => "wellbeing-services-county",
        Kind::Municipality => "municipality",
        Kind::PensionProvider => "pension-provider",
        Kind::Auditor => "auditor",
        Kind::Operator => "operator",
        Kind::Other => "other",
        Kind::UnemploymentFund => "unemployment-fund",
        Kind::Authority => "authority",
        Kind::Bank => "bank",
        Kind::InsuranceCompany => "insurance-company",
        Kind::ForeignInstitution => "foreign-institution",
    }
}

impl Office {
    /// Asks for the rights, again and again.
    pub(super) async fn keep_rights(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = self.client.own_entry(DEADLINE) => asked,
            };
            let wait = match asked {
                Ok(response) => {
                    *self.rights.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rights::new(response));
                    self.set_link(true);
                    RENEW
                }
                Err(cause) => {
                    tracing::warn!(organisation = self.id, %cause, "the organisation's rights are not known anew");
                    self.set_link(false);
                    AGAIN
                }
            };
            if tokio::time::timeout(wait, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}
