//! Message types: what may be sent, by whom to whom, and how it is delivered. They are data: a file each in
//! `deploy/exchange/message-types/`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    document,
    id::{self, MessageType, PartnerId},
    identity_code::IdentityCode,
    media_type,
    message::{LONGEST, OnDead},
    partner::{Fault, Kind, Partner},
};

/// The largest payload that any type of message may allow, in bytes.
pub const LARGEST_PAYLOAD: u32 = 1024 * 1024;

/// As many attempts a type may allow.
const MOST_ATTEMPTS: u32 = 100;

/// A message type, as its file defines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Definition {
    /// Its name, used everywhere.
    pub name: MessageType,
    /// What it is, for people.
    pub title: String,
    /// What carries it.
    #[serde(default)]
    pub service: Service,
    /// Who may send it.
    pub from: BTreeSet<Party>,
    /// Who may receive it.
    pub to: BTreeSet<Party>,
    /// The payload's size at the most, in bytes.
    pub max_bytes: u32,
    /// The payload's media types.
    pub content_types: BTreeSet<String>,
    /// The JSON Schema that a payload in JSON must follow, by its file's name beside the definition.
    #[serde(default)]
    pub schema: Option<String>,
    /// Whether it is about a person.
    pub subject: Presence,
    /// Whether it has an ordering key.
    pub ordering: Presence,
    /// After so many failed attempts it is a dead letter.
    pub attempts: u32,
    /// The wait after the first failed attempt, in seconds; it doubles with each further one, up to an hour.
    pub back_off_seconds: u32,
    /// It is delivered no more after so many hours, unless its sender says otherwise.
    pub expires_hours: u32,
    /// What a dead letter means to the later messages of its ordering key.
    #[serde(default)]
    pub on_dead: OnDead,
    /// For a document: how many days it is kept once it is stored.
    #[serde(default)]
    pub keep_days: Option<u32>,
}

/// What carries what is of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// `DeliveryService`: it is a message.
    #[default]
    Messages,
    /// `DocumentService`: it is a document, of which the recipient's mailbox has the claim check. Size and media types are the document's.
    Documents,
    /// `InformationRequestService`: it is an information request.
    Requests,
}

/// Whether a message has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It must have it.
    Required,
    /// It may.
    Optional,
    /// It must not.
    None,
}

/// A partner by its id, such as `kela`, or every partner of a kind, such as `kind:wellbeing-services-county`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Party {
    /// This one.
    Partner(PartnerId),
    /// All of this kind.
    Kind(Kind),
}

/// Why a text is no party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoParty {
    /// Not a kind.
    #[error("is not a kind of partner")]
    Kind,
    /// Not a partner's id.
    #[error("{0}")]
    Id(#[from] id::Invalid),
}

impl Party {
    /// Whether the partner is meant.
    pub fn means(&self, partner: &Partner) -> bool {
        match self {
            Self::Partner(id) => *id == partner.id,
            Self::Kind(kind) => *kind == partner.kind,
        }
    }
}

impl FromStr for Party {
    type Err = NoParty;

    fn from_str(text: &str) -> Result<Self, NoParty> {
        match text.strip_prefix("kind:") {
            Some(kind) => kind.parse().map(Self::Kind).map_err(|_| NoParty::Kind),
            None => Ok(Self::Partner(text.parse()?)),
        }
    }
}

impl TryFrom<String> for Party {
    type Error = NoParty;

    fn try_from(text: String) -> Result<Self, NoParty> {
        text.parse()
    }
}

impl From<Party> for String {
    fn from(party: Party) -> Self {
        party.to_string()
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partner(id) => write!(f, "{id}"),
            Self::Kind(kind) => write!(f, "kind:{kind}"),
        }
    }
}

impl Definition {
    /// The wait after the first failed attempt.
    pub fn back_off(&self) -> Duration {
        Duration::from_secs(self.back_off_seconds.into())
    }

    /// How long it is delivered, unless its sender says otherwise.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.expires_hours) * 3600)
    }

    /// How long a document is kept once it is stored.
    pub fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days.unwrap_or_default()) * 24 * 3600)
    }

    /// Every fault that the types alone do not rule out.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, field: &str, fault: &str| {
            if !holds {
                faults.push(Fault { field: field.to_owned(), fault: fault.to_owned() });
            }
        };
        check(!self.title.trim().is_empty(), "title", "is required");
        check(!IdentityCode::occurs_in(&self.title), "title", "must not contain a personal identity code");
        check(!self.from.is_empty(), "from", "at least one is required");
        check(!self.to.is_empty(), "to", "at least one is required");
        match self.service {
            Service::Messages | Service::Requests => {
                check((1..=LARGEST_PAYLOAD).contains(&self.max_bytes), "max-bytes", "must be 1 to 1048576");
                check(self.keep_days.is_none(), "keep-days", "is for documents only");
            }
            Service::Documents => {
                let fits = (1..=document::LARGEST).contains(&u64::from(self.max_bytes));
                check(fits, "max-bytes", "must be 1 to 1073741824");
                let kept = !self.keep().is_zero() && self.keep() <= document::LONGEST_KEPT;
                check(kept, "keep-days", "must be 1 to 400 for a document");
                check(self.schema.is_none(), "schema", "a document has none");
                check(self.ordering == Presence::None, "ordering", "must be none for a document");
                let told = self.content_types.iter().all(|text| media_type::is_known(text));
                check(
                    told,
                    "content-types",
                    "must be types that a document's content can be told by: docs/partner-guide.md",
                );
            }
        }
        let person = self.service == Service::Messages || self.subject == Presence::Required;
        check(person, "subject", "must be required for a document or an information request");
        check(!self.content_types.is_empty(), "content-types", "at least one is required");
        let media_types = self.content_types.iter().all(|text| is_media_type(text));
        check(media_types, "content-types", "must be media types in lower case, without parameters");
        check((1..=MOST_ATTEMPTS).contains(&self.attempts), "attempts", "must be 1 to 100");
        check((1..=3600).contains(&self.back_off_seconds), "back-off-seconds", "must be 1 to 3600");
        let lifetime = self.lifetime();
        check(!lifetime.is_zero() && lifetime <= LONGEST, "expires-hours", "must be 1 to 336");
        let json = self.content_types.contains("application/json");
        check(self.schema.is_none() || json, "schema", "needs application/json among the content types");
        let plain = |file: &str| file.ends_with(".schema.json") && !file.contains(['/', '\\']);
        check(self.schema.as_deref().is_none_or(plain), "schema", "must be a file's name that ends with .schema.json");
        let held_up = self.on_dead == OnDead::Blocks && self.ordering == Presence::None;
        check(!held_up, "on-dead", "blocks needs an ordering key");
        faults
    }
}

/// Compared as it is, byte by byte: one that is written otherwise would fit no message.
fn is_media_type(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, of)| part(kind) && part(of))
}

/// Every message type of the exchange.
#[derive(Clone, Debug, Default)]
pub struct MessageTypes(BTreeMap<MessageType, Arc<Definition>>);

impl MessageTypes {
    /// The type of this name.
    pub fn find(&self, name: &MessageType) -> Option<&Arc<Definition>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.0.values()
    }
}

impl FromIterator<Definition> for MessageTypes {
    fn from_iter<I: IntoIterator<Item = Definition>>(definitions: I) -> Self {
        Self(definitions.into_iter().map(|definition| (definition.name.clone(), Arc::new(definition))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Definition {
        Definition {
            name: "social-work-need".parse().expect("a name"),
            title: "Need for social work".into(),
            service: Service::Messages,
            from: ["kela".parse().expect("a party")].into(),
            to: ["kind:wellbeing-services-county".parse().expect("a party")].into(),
            max_bytes: 1024,
            content_types: ["application/json".into()].into(),
            schema: Some("social-work-need.schema.json".into()),
            subject: Presence::Required,
            ordering: Presence::Required,
            attempts: 8,
            back_off_seconds: 30,
            expires_hours: 168,
            on_dead: OnDead::Blocks,
            keep_days: None,
        }
    }

    #[test]
    fn every_fault_of_a_type_is_told_with_its_field() {
        assert_eq!(definition().faults(), []);
        let wrong = Definition {
            title: " ".into(),
            from: BTreeSet::new(),
            to: BTreeSet::new(),
            max_bytes: LARGEST_PAYLOAD + 1,
            content_types: ["text/plain; charset=utf-8".into()].into(),
            schema: Some("../elsewhere.schema.json".into()),
            ordering: Presence::None,
            attempts: 0,
            back_off_seconds: 0,
            expires_hours: 337,
            ..definition()
        };
        let fields: Vec<String> = wrong.faults().into_iter().map(|fault| fault.field).collect();
        let expected = [
            "title",
            "from",
            "to",
            "max-bytes",
            "content-types",
            "attempts",
            "back-off-seconds",
            "expires-hours",
            "schema",
            "schema",
            "on-dead",
        ];
        assert_eq!(fields, expected);
        let document = Definition { service: Service::Documents, subject: Presence::Optional, ..definition() };
        let fields: Vec<String> = document.faults().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["keep-days", "schema", "ordering", "content-types", "subject"]);
        let named = Definition { title: "About 131052-308T".into(), ..definition() };
        assert_eq!(named.faults()[0].field, "title");
    }

    #[test]
    fn a_party_is_a_partner_or_a_kind() {
        for text in ["kela", "kind:authority"] {
            assert_eq!(text.parse::<Party>().expect("a party").to_string(), text);
        }
        assert_eq!("kind:bakery".parse::<Party>(), Err(NoParty::Kind));
        assert!("a b".parse::<Party>().is_err());
    }
}
