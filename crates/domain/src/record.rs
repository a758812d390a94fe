//! A record of the log: a header that anyone may read, and a sealed body.
//!
//! The header holds no personal data and nothing that can be guessed into it. It is all that `apply` and the ledger see.

use std::time::Duration;

use crate::{
    document,
    id::{Incarnation, KeyId, PartnerId},
    keys::Digest,
    member, message,
    partition::{Partition, Position},
    query,
    refusal::Reason,
    registry::PartnerApplied,
    request,
    time::Timestamp,
};

/// The number of the rules that this build follows. It is stamped on every record; a record with a higher number stops the
/// process, because two builds must never give two verdicts.
pub const RULES: u32 = 4;

/// What is known of a record without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The rules it was made under.
    pub rules: u32,
    /// Random: no two records have the same header, and the body is sealed under it.
    pub nonce: [u8; 16],
    /// The process that appended it.
    pub author: Incarnation,
    /// The sealed body, where there is one.
    pub body: Option<BodyRef>,
    /// What it says.
    pub kind: Kind,
}

/// Ties a header to its sealed body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRef {
    /// SHA-256 of the sealed body.
    pub sha256: Digest,
    /// The key of the key ring that it is sealed with.
    pub key: KeyId,
}

/// What a record says, by topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `airut.messages`
    Message(message::Event),
    /// `airut.queries`
    Query(query::Event),
    /// `airut.documents`
    Document(document::Event),
    /// `airut.requests`
    Request(request::Event),
    /// `airut.refusals`
    Refusal(Refused),
    /// `airut.partners`
    Partner(PartnerApplied),
    /// `airut.members`
    Member(member::Event),
    /// `airut.order`
    Order(Order),
}

impl Kind {
    /// Whether the record is a leaf of the ledger's tree: all are but the ledger's own order and heartbeats.
    pub const fn is_leaf(&self) -> bool {
        !matches!(self, Self::Order(_) | Self::Member(member::Event::Heartbeat(_)))
    }

    /// The partners that may see the entry in the ledger, besides auditors.
    pub fn parties(&self) -> Vec<&PartnerId> {
        match self {
            Self::Message(event) => event.parties(),
            Self::Query(event) => {
                let mut parties = vec![&event.key().asker];
                if let query::Event::Asked(asked) = event {
                    parties.push(&asked.responder);
                }
                parties
            }
            Self::Document(event) => event.parties(),
            Self::Request(event) => event.parties(),
            Self::Refusal(Refused { partner, .. }) => partner.iter().collect(),
            Self::Partner(applied) => {
                let author = applied.by.as_ref().filter(|by| **by != applied.partner.id);
                std::iter::once(&applied.partner.id).chain(author).collect()
            }
            Self::Member(member::Event::StreamOpened(opened)) => vec![&opened.partner],
            Self::Member(_) | Self::Order(_) => Vec::new(),
        }
    }

    /// The word for it in logs, traces and listings.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Message(message::Event::Accepted(_)) => "messages accepted",
            Self::Message(message::Event::Offered(_)) => "messages offered",
            Self::Message(message::Event::Extended(_)) => "leases extended",
            Self::Message(message::Event::Settled(_)) => "messages settled",
            Self::Message(message::Event::LeasesEnded(_)) => "leases ended",
            Self::Message(message::Event::Expired(_)) => "messages expired",
            Self::Message(message::Event::Transferred(_)) => "messages transferred",
            Self::Message(message::Event::Redriven(_)) => "messages redriven",
            Self::Query(query::Event::Asked(_)) => "query asked",
            Self::Query(query::Event::Rerouted(_)) => "query rerouted",
            Self::Query(query::Event::Answered(_)) => "query answered",
            Self::Query(query::Event::NotDisclosed(_)) => "query not disclosed",
            Self::Query(query::Event::Repeated(_)) => "query repeated",
            Self::Document(document::Event::Begun(_)) => "document begun",
            Self::Document(document::Event::Stored(_)) => "document stored",
            Self::Document(document::Event::Rejected(_)) => "document rejected",
            Self::Document(document::Event::Announced(_)) => "document announced",
            Self::Document(document::Event::Fetched(_)) => "document fetched",
            Self::Document(document::Event::Expired(_)) => "document expired",
            Self::Document(document::Event::Erased(_)) => "document erased",
            Self::Request(event) => event.name(),
            Self::Refusal(_) => "refused",
            Self::Partner(_) => "partner applied",
            Self::Member(member::Event::Heartbeat(_)) => "heartbeat",
            Self::Member(member::Event::Left(_)) => "gateway left",
            Self::Member(member::Event::StreamOpened(_)) => "stream opened",
            Self::Member(member::Event::StreamClosed(_)) => "stream closed",
            Self::Order(Order::Run(_)) => "order",
            Self::Order(Order::Checkpoint(_)) => "checkpoint",
        }
    }
}

/// One refusal, or a count of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The partner refused; none before a partner is known.
    pub partner: Option<PartnerId>,
    /// Why.
    pub reason: Reason,
    /// The method called, such as `/airut.v1.QueryService/QueryBenefits`; empty when it came to none.
    pub method: String,
    /// The fields at fault.
    pub fields: Vec<String>,
    /// How many: 1 for a single refusal, more for a count over `span`.
    pub count: u64,
    /// The time that a count covers; zero for a single refusal.
    pub span: Duration,
    /// For a stranger: keyed digest of the certificate's issuer and the address prefix.
    pub stranger: Option<Digest>,
}

/// A record of `airut.order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next leaves of the tree.
    Run(Runs),
    /// A signed checkpoint, as a C2SP signed note.
    Checkpoint(String),
}

/// The next leaves of the tree, partition by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// In this order: every leaf of the partition from where the last run of it ended, up to but not including the offset.
    pub runs: Vec<(Partition, u64)>,
}

/// A record as it is stored and read back. Header and body are kept as they were read, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub position: Position,
    /// When the log took it.
    pub stamp: Timestamp,
    /// The header's stored bytes.
    pub header: Vec<u8>,
    /// The sealed body; empty when there is none.
    pub body: Vec<u8>,
    /// W3C trace context of the step that appended it; empty when it was not traced.
    pub traceparent: String,
}

/// The bytes that the ledger hashes for a record: version, topic, partition, offset, stamp and the stored header.
pub fn leaf_bytes(position: Position, stamp: Timestamp, header: &[u8]) -> Vec<u8> {
    let topic = position.partition.topic.name().as_bytes();
    let mut leaf = Vec::with_capacity(1 + 1 + topic.len() + 4 + 8 + 8 + header.len());
    leaf.push(1);
    leaf.push(u8::try_from(topic.len()).expect("topic names are short"));
    leaf.extend_from_slice(topic);
    leaf.extend_from_slice(&position.partition.number.to_be_bytes());
    leaf.extend_from_slice(&position.offset.to_be_bytes());
    leaf.extend_from_slice(&stamp.as_millis().to_be_bytes());
    leaf.extend_from_slice(header);
    leaf
}

macro_rules! kind_from {
    ($($event:ty => |$name:ident| $kind:expr;)*) => {$(
        impl From<$event> for Kind {
            fn from($name: $event) -> Self {
                $kind
            }
        }
    )*};
}

kind_from! {
    message::Accepted => |accepted| Self::Message(message::Event::Accepted(accepted));
    message::Offered => |offered| Self::Message(message::Event::Offered(offered));
    message::Extended => |extended| Self::Message(message::Event::Extended(extended));
    message::Settled => |settled| Self::Message(message::Event::Settled(settled));
    message::LeasesEnded => |ended| Self::Message(message::Event::LeasesEnded(ended));
    message::Expired => |expired| Self::Message(message::Event::Expired(expired));
    message::Transferred => |transferred| Self::Message(message::Event::Transferred(transferred));
    message::Redriven => |redriven| Self::Message(message::Event::Redriven(redriven));
    query::Asked => |asked| Self::Query(query::Event::Asked(asked));
    query::Rerouted => |rerouted| Self::Query(query::Event::Rerouted(rerouted));
    query::Answered => |answered| Self::Query(query::Event::Answered(answered));
    query::NotDisclosed => |not| Self::Query(query::Event::NotDisclosed(not));
    query::Repeated => |repeated| Self::Query(query::Event::Repeated(repeated));
    document::Begun => |begun| Self::Document(document::Event::Begun(begun));
    document::Stored => |stored| Self::Document(document::Event::Stored(stored));
    document::Rejected => |rejected| Self::Document(document::Event::Rejected(rejected));
    document::Announced => |announced| Self::Document(document::Event::Announced(announced));
    document::Fetched => |fetched| Self::Document(document::Event::Fetched(fetched));
    document::Event => |event| Self::Document(event);
    request::Created => |created| Self::Request(request::Event::Created(created));
    request::Command => |command| Self::Request(request::Event::Command(command));
    request::Read => |read| Self::Request(request::Event::Read(read));
    request::Reminded => |reminded| Self::Request(request::Event::Reminded(reminded));
    request::Lapsed => |lapsed| Self::Request(request::Event::Lapsed(lapsed));
    Refused => |refused| Self::Refusal(refused);
    PartnerApplied => |applied| Self::Partner(applied);
    member::Event => |event| Self::Member(event);
    Order => |order| Self::Order(order);
}
