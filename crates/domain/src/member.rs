//! The gateways that are up and the streams they hold: `airut.members`. It informs, and never decides.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Incarnation, MessageType, PartnerId, StreamId},
    time::Timestamp,
};

/// A record of `airut.members`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A gateway is up. Repeated every few seconds; not a leaf of the ledger.
    Heartbeat(Incarnation),
    /// A gateway has gone in good order.
    Left(Incarnation),
    /// A partner has opened a stream.
    StreamOpened(StreamOpened),
    /// A partner's stream has ended.
    StreamClosed(StreamId),
}

/// A partner has opened a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpened {
    /// The stream.
    pub stream: StreamId,
    /// The gateway that holds it.
    pub holder: Incarnation,
    /// Whose it is.
    pub partner: PartnerId,
    /// What it is for.
    pub kind: StreamKind,
    /// What a recipient takes over it.
    pub types: Types,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamKind {
    /// A responder answers questions.
    Answers,
    /// A recipient collects its messages.
    Collects,
}

/// Which types of messages a recipient takes over a stream, or with one pull.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Types {
    /// Every one.
    #[default]
    All,
    /// These, and at least one.
    Only(BTreeSet<MessageType>),
}

/// As many types a recipient may name: about twice as many as there are.
pub const MOST_TYPES: usize = 64;

impl Types {
    /// These; every one when none is named.
    pub fn named(types: BTreeSet<MessageType>) -> Self {
        if types.is_empty() { Self::All } else { Self::Only(types) }
    }

    /// Those that are named: none when every type is taken.
    pub fn names(&self) -> impl Iterator<Item = &MessageType> {
        match self {
            Self::All => None,
            Self::Only(types) => Some(types),
        }
        .into_iter()
        .flatten()
    }

    /// Whether what is of this type is taken.
    pub fn take(&self, message_type: &MessageType) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.contains(message_type),
        }
    }
}

/// The fold of `airut.members`: the streams that are open, and when each gateway was last heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    heard: std::collections::BTreeMap<Incarnation, Timestamp>,
    streams: std::collections::BTreeMap<StreamId, StreamOpened>,
}

/// A gateway not heard of for this long is taken to be gone, its streams with it.
pub const SILENCE: std::time::Duration = std::time::Duration::from_secs(6);

impl Members {
    /// Takes in one record; `time` is the partition's time.
    pub fn apply(&mut self, time: Timestamp, event: &Event) {
        match event {
            Event::Heartbeat(gateway) => {
                self.heard.insert(gateway.clone(), time);
            }
            Event::Left(gateway) => self.forget(gateway),
            Event::StreamOpened(opened) => {
                self.heard.insert(opened.holder.clone(), time);
                self.streams.insert(opened.stream.clone(), opened.clone());
            }
            Event::StreamClosed(stream) => {
                self.streams.remove(stream);
            }
        }
        let silent: Vec<Incarnation> = self
            .heard
            .iter()
            .filter(|(_, heard)| time.since(**heard) > SILENCE)
            .map(|(gateway, _)| gateway.clone())
            .collect();
        silent.iter().for_each(|gateway| self.forget(gateway));
    }

    /// The open streams of a partner for this, held by gateways heard of lately.
    pub fn streams_of(&self, partner: &PartnerId, kind: StreamKind) -> impl Iterator<Item = &StreamOpened> {
        self.streams.values().filter(move |stream| stream.kind == kind && stream.partner == *partner)
    }

    /// The open streams that a gateway holds.
    pub fn streams_held_by(&self, holder: &Incarnation) -> impl Iterator<Item = &StreamOpened> {
        self.streams.values().filter(move |stream| stream.holder == *holder)
    }

    /// Whether the stream is open, as far as is known.
    pub fn is_open(&self, stream: &StreamId) -> bool {
        self.streams.contains_key(stream)
    }

    /// The gateways heard of lately.
    pub fn gateways(&self) -> impl Iterator<Item = &Incarnation> {
        self.heard.keys()
    }

    fn forget(&mut self, gateway: &Incarnation) {
        self.heard.remove(gateway);
        self.streams.retain(|_, stream| stream.holder != *gateway);
    }
}
