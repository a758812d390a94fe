//! What a contract allows of a message. Default deny: the type must allow both parties, the sender's contract the sending and
//! the recipient's the receiving.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    context::{Context, Text},
    id::{LegalBasis, MessageId, MessageType, PartnerId, Purpose},
    identity_code::IdentityCode,
    message::{LONGEST, Terms},
    message_type::{Definition, MessageTypes, Party, Presence, Service},
    partner::{Fault, Partner},
    refusal::{Reason, Refusal, Violation},
    registry::{Registry, VerifiedPartner},
    time::Timestamp,
};

/// A right to send or to receive: these types, with these partners, for this purpose, under this act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Right {
    /// Whether to send or to receive.
    pub direction: Direction,
    /// What. There is no "all": a new type is granted by naming it.
    pub message_types: BTreeSet<MessageType>,
    /// To whom, or from whom.
    pub with: BTreeSet<Party>,
    /// Why the data is exchanged.
    pub purpose: Purpose,
    /// The act that gives the right.
    pub legal_basis: LegalBasis,
}

impl Right {
    /// Every fault that the types alone do not rule out, beside the rights that stand before it. A field begins with its dot.
    pub(crate) fn faults(&self, before: &[Self]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, fault: &str| faults.push(Fault { field: field.into(), fault: fault.into() });
        if self.message_types.is_empty() {
            fault(".message-types", "at least one is required");
        }
        if self.with.is_empty() {
            fault(".with", "at least one is required");
        }
        let same = |other: &&Self| {
            other.direction == self.direction && other.purpose == self.purpose && other.legal_basis == self.legal_basis
        };
        let shared =
            |other: &Self| !other.message_types.is_disjoint(&self.message_types) && !other.with.is_disjoint(&self.with);
        if before.iter().filter(same).any(shared) {
            fault("", "grants what another one grants already");
        }
        faults
    }
}

/// Whether a right is to send or to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To send.
    Send,
    /// To receive.
    Receive,
}

/// How much a partner may send at once. What is not said is bounded by the exchange alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quota {
    /// Messages a second, on average over a few seconds, at each gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<u32>,
    /// Messages that have been sent and have no outcome yet, at each gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Messages sent that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_messages: Option<u64>,
    /// Their payloads, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

impl Quota {
    /// Each limit by the name of its field.
    pub fn limits(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("messages-per-second", self.messages_per_second.map(u64::from)),
            ("in-flight", self.in_flight.map(u64::from)),
            ("stored-messages", self.stored_messages),
            ("stored-bytes", self.stored_bytes),
        ]
    }
}

/// A message as it was sent, but for its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Submission {
    /// The sender's id.
    pub message_id: MessageId,
    /// Who is to receive it.
    pub recipient: PartnerId,
    /// What it is.
    pub message_type: MessageType,
    /// Its ordering key. May identify a client: keyed in records.
    pub ordering_key: Option<Text>,
    /// The person it is about.
    pub subject: Option<IdentityCode>,
    /// Who sends it and why.
    pub context: Context,
    /// The payload's media type.
    pub content_type: String,
    /// The payload's size.
    pub size_bytes: usize,
    /// After this it is delivered no more.
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Submission({} {} to {}, the rest hidden)", self.message_type, self.message_id, self.recipient)
    }
}

/// Proof that a message may be sent. Only [`judge`] makes one.
#[derive(Clone, Debug)]
pub struct Cleared {
    sender: PartnerId,
    definition: Arc<Definition>,
    terms: Terms,
    expires: Timestamp,
}

impl Cleared {
    /// Who sends.
    pub fn sender(&self) -> &PartnerId {
        &self.sender
    }

    /// What it is.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// What its record says of it; without the key of the subjects' pseudonyms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When it is delivered no more.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// Whether the message may be sent by this service.
///
/// # Errors
/// [`Reason::NoContract`] when the sender may not send this to the recipient for this purpose, or the recipient not receive
/// it; the fields at fault when it is not as its type says.
pub fn judge(
    sender: &VerifiedPartner,
    registry: &Registry,
    types: &MessageTypes,
    message: &Submission,
    now: Timestamp,
) -> Result<Cleared, Refusal> {
    let (granted, context) = (grant(sender, registry, types, &message.asks())?, &message.context);
    let definition = &granted.definition;
    require_service(definition, Service::Messages, "message_type")?;
    let faults = faults(definition, message, now);
    if !faults.is_empty() {
        return Err(Refusal::fields(faults));
    }
    Ok(cleared(sender, definition, context, message.expires, now))
}

/// Whether what the exchange says on the sender's behalf may be sent: the claim check of a document, say, which no partner may send by itself. Its size and
/// form are the exchange's own.
///
/// # Errors
/// As [`judge`].
pub fn judge_on_behalf(
    sender: &VerifiedPartner,
    registry: &Registry,
    types: &MessageTypes,
    message: &Submission,
    now: Timestamp,
) -> Result<Cleared, Refusal> {
    let granted = grant(sender, registry, types, &message.asks())?;
    if granted.definition.service == Service::Messages {
        return judge(sender, registry, types, message, now);
    }
    Ok(cleared(sender, &granted.definition, &message.context, message.expires, now))
}

fn cleared(
    sender: &VerifiedPartner,
    definition: &Arc<Definition>,
    context: &Context,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Cleared {
    Cleared {
        sender: sender.id().clone(),
        terms: Terms {
            message_type: definition.name.clone(),
            purpose: context.purpose.clone(),
            legal_basis: context.legal_basis.clone(),
            contract_version: sender.version(),
            subject_key: None,
            attempts: definition.attempts,
            back_off: definition.back_off(),
            on_dead: definition.on_dead,
        },
        expires: expires.unwrap_or(now + definition.lifetime()).min(now + LONGEST),
        definition: Arc::clone(definition),
    }
}

/// What a right is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// What it is.
    pub message_type: &'a MessageType,
    /// To whom.
    pub recipient: &'a PartnerId,
    /// Why.
    pub purpose: &'a Purpose,
    /// Under which act.
    pub legal_basis: &'a LegalBasis,
}

impl Submission {
    const fn asks(&self) -> Asks<'_> {
        let Context { purpose, legal_basis, .. } = &self.context;
        Asks { message_type: &self.message_type, recipient: &self.recipient, purpose, legal_basis }
    }
}

/// Proof that the sender may send what is of this type to the recipient, and the recipient receive it. Only [`grant`] makes one.
#[derive(Clone, Debug)]
pub struct Granted {
    definition: Arc<Definition>,
}

impl Granted {
    /// The type.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }
}

/// Whether a partner may send what is of this type to another one, and that one receive it, for this purpose under this act.
///
/// # Errors
/// [`Reason::NoContract`] when it may not.
pub fn grant(
    sender: &VerifiedPartner,
    registry: &Registry,
    types: &MessageTypes,
    asks: &Asks<'_>,
) -> Result<Granted, Refusal> {
    let Asks { message_type, recipient, purpose, legal_basis } = asks;
    let no_contract = Refusal::new(Reason::NoContract);
    let recipient = registry.get(recipient).map(|entry| &entry.partner);
    let recipient = recipient.filter(|recipient| {
        may(sender.partner(), Direction::Send, message_type, recipient, purpose, legal_basis)
            && may(recipient, Direction::Receive, message_type, sender.partner(), purpose, legal_basis)
    });
    let Some(recipient) = recipient else { return Err(no_contract) };
    let Some(definition) = types.find(message_type) else {
        let fault = "is not in the exchange's list of message types".to_owned();
        return Err(Refusal::fields(vec![Violation { field: "message_type".into(), fault }]));
    };
    if !allows(definition, sender.partner(), recipient) {
        return Err(no_contract);
    }
    Ok(Granted { definition: Arc::clone(definition) })
}

/// Each type is carried by one service: what is a document is no message, and nobody can send its claim check by itself.
///
/// # Errors
/// The field, when the type is another service's.
pub fn require_service(definition: &Definition, service: Service, field: &'static str) -> Result<(), Refusal> {
    if definition.service == service {
        return Ok(());
    }
    let name = match definition.service {
        Service::Messages => "DeliveryService",
        Service::Documents => "DocumentService",
        Service::Requests => "InformationRequestService",
    };
    Err(Refusal::fields(vec![Violation { field: field.into(), fault: format!("is sent by {name}") }]))
}

/// Whether a message of this type that a partner received may be passed on to another one: the type must allow that one, and
/// its contract the receiving from the sender, for some purpose.
pub fn may_receive(
    definition: &Definition,
    sender: &Partner,
    recipient: &Partner,
    purpose: &Purpose,
    basis: &LegalBasis,
) -> bool {
    allows(definition, sender, recipient)
        && may(recipient, Direction::Receive, &definition.name, sender, purpose, basis)
}

fn allows(definition: &Definition, sender: &Partner, recipient: &Partner) -> bool {
    definition.from.iter().any(|party| party.means(sender)) && definition.to.iter().any(|party| party.means(recipient))
}

fn may(
    partner: &Partner,
    direction: Direction,
    message_type: &MessageType,
    other: &Partner,
    purpose: &Purpose,
    legal_basis: &LegalBasis,
) -> bool {
    partner.deliveries.iter().any(|right| {
        right.direction == direction
            && right.purpose == *purpose
            && right.legal_basis == *legal_basis
            && right.message_types.contains(message_type)
            && right.with.iter().any(|party| party.means(other))
    })
}

fn faults(definition: &Definition, message: &Submission, now: Timestamp) -> Vec<Violation> {
    let mut faults = Vec::new();
    let mut fault = |field: &'static str, fault: String| faults.push(Violation { field: field.into(), fault });
    if message.size_bytes > definition.max_bytes as usize {
        fault("payload", format!("must have at most {} bytes", definition.max_bytes));
    }
    if !definition.content_types.contains(&message.content_type) {
        let known: Vec<&str> = definition.content_types.iter().map(String::as_str).collect();
        fault("content_type", format!("must be {}", known.join(" or ")));
    }
    presence(definition.subject, message.subject.is_some(), "subject_id", &mut fault);
    presence(definition.ordering, message.ordering_key.is_some(), "ordering_key", &mut fault);
    if message.expires.is_some_and(|expires| expires <= now) {
        fault("expire_time", "must lie ahead".to_owned());
    }
    if message.expires.is_some_and(|expires| expires > now + LONGEST) {
        fault("expire_time", "must be at most 14 days ahead".to_owned());
    }
    faults
}

fn presence(presence: Presence, there: bool, field: &'static str, fault: &mut impl FnMut(&'static str, String)) {
    match (presence, there) {
        (Presence::Required, false) => fault(field, "is required".to_owned()),
        (Presence::None, true) => fault(field, "must be empty for this message type".to_owned()),
        (Presence::Required, true) | (Presence::None, false) | (Presence::Optional, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(direction: Direction, types: &[&str], with: &[&str]) -> Right {
        Right {
            direction,
            message_types: types.iter().map(|name| name.parse().expect("a name")).collect(),
            with: with.iter().map(|party| party.parse().expect("a party")).collect(),
            purpose: "social-work".parse().expect("a purpose"),
            legal_basis: "1301/2014".parse().expect("an act"),
        }
    }

    #[test]
    fn a_right_grants_something_and_nothing_twice() {
        let fields = |right: &Right, before: &[Right]| -> Vec<String> {
            right.faults(before).into_iter().map(|fault| fault.field).collect()
        };
        let empty = right(Direction::Send, &[], &[]);
        assert_eq!(fields(&empty, &[]), [".message-types", ".with"]);
        let before = [right(Direction::Receive, &["a", "b"], &["kela", "kind:bank"])];
        assert_eq!(fields(&right(Direction::Receive, &["b", "c"], &["kela"]), &before), [""]);
        for other in [
            right(Direction::Send, &["b"], &["kela"]),
            right(Direction::Receive, &["c"], &["kela"]),
            right(Direction::Receive, &["b"], &["dvv"]),
            Right { legal_basis: "1412/1997".parse().expect("an act"), ..right(Direction::Receive, &["b"], &["kela"]) },
        ] {
            assert_eq!(fields(&other, &before), [""; 0], "{other:?}");
        }
    }
}
