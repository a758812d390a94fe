//! A batch of messages, and each of them, as their partition knows them. This is what is kept; the rest is derived from it.

use serde::{Deserialize, Serialize};

use crate::{
    id::{Incarnation, MessageId, PartnerId, StreamId},
    keys::Digest,
    message::{Code, DEAD_KEPT, OrderKey, Outcome, Place, REMEMBERED, Terms},
    query::At,
    time::Timestamp,
};

/// As many steps of a message are remembered; of more, the first and the latest.
const MOST_STEPS: usize = 32;

/// The messages that one record accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Who sent them.
    pub sender: PartnerId,
    /// Whom they were sent to.
    pub recipient: PartnerId,
    /// What they have in common.
    pub terms: Terms,
    /// When they were accepted.
    pub at: Timestamp,
    /// The messages, by their places among the record's items; none where an item was void.
    pub messages: Vec<Option<Message>>,
}

/// A message as its partition knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's id.
    pub id: MessageId,
    /// Keyed digest of content and context.
    pub fingerprint: Digest,
    /// The ordering key, until it is out of order.
    pub order: Option<OrderKey>,
    /// When it is delivered no more.
    pub expires: Timestamp,
    /// The payload's size.
    pub size_bytes: u32,
    /// Where it stands.
    pub phase: Phase,
    /// How often it was offered.
    pub offers: u32,
    /// How many attempts have failed since it was accepted or last redriven.
    pub attempts: u32,
    /// The settlement that counted last: of which offer, and how.
    pub settled: Option<(u32, Outcome)>,
    /// Whether it was redriven.
    pub redriven: bool,
    /// Whom it was passed on to.
    pub passed_to: Option<PartnerId>,
    /// What has happened to it since it was accepted.
    pub steps: Vec<Step>,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It waits to be offered, until then at the least.
    Waiting {
        /// Not before.
        due: Timestamp,
    },
    /// It is with a collector.
    Offered {
        /// The collector's stream.
        stream: StreamId,
        /// The gateway that holds the stream.
        holder: Incarnation,
        /// When the lease ends.
        until: Timestamp,
    },
    /// It was delivered.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// It was not: a dead letter.
    Dead {
        /// Why.
        why: Why,
        /// Since when.
        at: Timestamp,
    },
}

/// Why a message is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its recipient rejected it.
    Rejected(Code),
    /// As many attempts have failed as its type allows.
    AttemptsExhausted,
    /// Its time was over.
    Expired,
}

/// One step of a message's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What happened.
    pub kind: StepKind,
    /// When.
    pub at: Timestamp,
    /// The record that says so.
    pub offset: u64,
    /// Which offer it belongs to; 0 for none.
    pub offer: u32,
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum StepKind {
    Offered,
    Delivered,
    Returned,
    Rejected(Code),
    LeaseEnded,
    Expired,
    Transferred(PartnerId),
    Redriven(PartnerId),
}

impl Batch {
    /// When the fold may forget it; none while a message of it has not ended.
    pub fn forget_at(&self) -> Option<Timestamp> {
        let mut latest = self.at;
        for message in self.messages.iter().flatten() {
            latest = latest.max(match message.phase {
                Phase::Waiting { .. } | Phase::Offered { .. } => return None,
                Phase::Delivered { at } => at + REMEMBERED,
                Phase::Dead { .. } => message.dead_until(self.at),
            });
        }
        Some(latest)
    }

    /// Whom the message is for now.
    pub fn recipient_of<'a>(&'a self, message: &'a Message) -> &'a PartnerId {
        message.passed_to.as_ref().unwrap_or(&self.recipient)
    }

    /// The message at this place among the record's items.
    pub fn message(&self, item: u32) -> Option<&Message> {
        self.messages.get(usize::try_from(item).ok()?)?.as_ref()
    }

    pub(super) fn places(&self, offset: u64) -> impl Iterator<Item = Place> + Clone + use<> {
        (0..u32::try_from(self.messages.len()).expect("a record has at most 1024 items"))
            .map(move |item| Place { offset, item })
    }
}

impl Message {
    /// Whether it was delivered or is a dead letter.
    pub const fn has_ended(&self) -> bool {
        match self.phase {
            Phase::Waiting { .. } | Phase::Offered { .. } => false,
            Phase::Delivered { .. } | Phase::Dead { .. } => true,
        }
    }

    /// Until when it is kept as a dead letter, should it be one; `accepted` is when its batch was.
    pub fn dead_until(&self, accepted: Timestamp) -> Timestamp {
        let kept = accepted + DEAD_KEPT;
        match self.phase {
            Phase::Dead { at, .. } => (at + REMEMBERED).max(kept),
            Phase::Waiting { .. } | Phase::Offered { .. } | Phase::Delivered { .. } => kept,
        }
    }

    /// The record that made it a dead letter; none when it is not one.
    pub fn died_in(&self) -> Option<u64> {
        match self.phase {
            Phase::Dead { .. } => self.steps.last().map(|step| step.offset),
            Phase::Waiting { .. } | Phase::Offered { .. } | Phase::Delivered { .. } => None,
        }
    }

    /// How this offer of it was settled, if it was. Of a return its delay is not remembered, unless it was the last settlement.
    pub(super) fn settled_before(&self, offer: u32) -> Option<Outcome> {
        if let Some((number, outcome)) = &self.settled
            && *number == offer
        {
            return Some(outcome.clone());
        }
        self.steps.iter().filter(|step| step.offer == offer).find_map(|step| match &step.kind {
            StepKind::Delivered => Some(Outcome::Accepted),
            StepKind::Returned => Some(Outcome::Returned(None)),
            StepKind::Rejected(code) => Some(Outcome::Rejected(code.clone())),
            StepKind::Offered
            | StepKind::LeaseEnded
            | StepKind::Expired
            | StepKind::Transferred(_)
            | StepKind::Redriven(_) => None,
        })
    }

    /// Whether its latest offer was made to somebody who has passed it on: that offer is nobody's to settle.
    pub(super) fn was_passed_on_since_offered(&self) -> bool {
        let turns = |step: &&Step| matches!(step.kind, StepKind::Offered | StepKind::Transferred(_));
        self.steps.iter().rev().find(turns).is_some_and(|step| step.kind != StepKind::Offered)
    }

    pub(super) fn step(&mut self, kind: StepKind, at: At, offer: u32) {
        if self.steps.len() >= MOST_STEPS {
            self.steps.remove(1);
        }
        self.steps.push(Step { kind, at: at.time, offset: at.position.offset, offer });
    }
}
