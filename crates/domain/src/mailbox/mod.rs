//! The mailboxes of one partition of `airut.messages`: what its records so far mean.
//!
//! A message waits, is offered, and ends as delivered or as a dead letter, which may be redriven. What holds always:
//!
//! 1. A message that was accepted is waiting, offered, delivered or dead until it is forgotten: none is lost.
//! 2. After an accepted settlement there is no further offer.
//! 3. Of the messages with one ordering key only the earliest that is neither delivered nor out of order is offered.
//! 4. A lease ends by its settlement, by its time, or by the word of the gateway that gave it; by nothing else.
//! 5. The id of a message is known until it ended and [`REMEMBERED`](crate::message::REMEMBERED) has passed.
//!
//! Time is the partition's: the greatest stamp of its records so far.

mod apply;
mod batch;
mod index;

pub use batch::{Batch, Message, Phase, Step, StepKind, Why};
use index::{Inbox, Live};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::{PartnerId, StreamId},
    keys::Digest,
    member::Types,
    message::{Offer, OnDead, OrderKey, Outcome, Place},
    query::At,
    time::Timestamp,
};

/// What is known of an id that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its message.
    pub place: Place,
    /// Keyed digest of content and context.
    pub fingerprint: Digest,
    /// When it was accepted.
    pub at: Timestamp,
}

/// What the fold says of one message of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts. For an offer: which one it is.
    Accepted(u32),
    /// It does not count.
    Void(Void),
}

/// Why something does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Void {
    /// The same message was accepted before: its life goes on.
    Repeat(Known),
    /// Another message was accepted with this id.
    IdReused(Known),
    /// There is no such message.
    Unknown,
    /// It is not, or no longer, this partner's.
    NotTheirs,
    /// It does not wait: it is offered, delivered or dead.
    NotWaiting,
    /// An earlier message of its ordering key has not ended.
    OutOfOrder,
    /// Its time is over.
    Expired,
    /// The time for it has not come.
    TooEarly,
    /// The lease has ended, and the message was offered again or ended otherwise.
    LeaseLost,
    /// This offer was settled before, like this.
    Settled(Outcome),
    /// It is not a dead letter.
    NotDead,
}

/// What a record came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// One for each of the record's messages, in their order.
    pub verdicts: Vec<Verdict>,
    /// The batches that changed, by offset.
    pub changed: BTreeSet<u64>,
    /// Batches whose messages have all been delivered: they are given away, to be remembered elsewhere.
    pub finished: Vec<(u64, Batch)>,
    /// Batches that are forgotten.
    pub forgotten: Vec<(u64, Batch)>,
    /// Partners that may be offered something now.
    pub woken: BTreeSet<PartnerId>,
}

impl Effects {
    fn finished(&self, offset: u64) -> Option<Arc<Batch>> {
        let finished = self.finished.iter().find(|(known, _)| *known == offset);
        finished.map(|(_, batch)| Arc::new(batch.clone()))
    }
}

/// What a partner has in a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that have not ended.
    pub messages: u64,
    /// Their payloads.
    pub bytes: u64,
}

/// The mailboxes of one partition.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    /// By the offset of the record that accepted them: those in which something has not been delivered.
    batches: BTreeMap<u64, Live>,
    // What follows is derived from them.
    orders: BTreeMap<OrderKey, BTreeSet<Place>>,
    inboxes: BTreeMap<PartnerId, Inbox>,
    leases: BTreeSet<(Timestamp, Place)>,
    expiring: BTreeSet<(Timestamp, Place)>,
    forgetting: BTreeSet<(Timestamp, u64)>,
    died: BTreeSet<(u64, Place)>,
    sent: BTreeMap<PartnerId, Totals>,
}

impl Mailbox {
    /// A batch as it was kept, at the start.
    pub fn restore(&mut self, offset: u64, batch: Batch, time: Timestamp) {
        let places = batch.places(offset);
        self.batches.insert(offset, Live { batch, open: 0, dead: 0 });
        places.clone().for_each(|place| self.enter_order(place));
        places.for_each(|place| self.index(place, time));
        self.forget_later(offset);
    }

    /// The batches in which something has not been delivered, by offset.
    pub fn batches(&self) -> impl Iterator<Item = (u64, &Batch)> {
        self.batches.iter().map(|(offset, live)| (*offset, &live.batch))
    }

    /// The batch that the record at this offset accepted, unless all of it was delivered.
    pub fn batch(&self, offset: u64) -> Option<&Batch> {
        self.batches.get(&offset).map(|live| &live.batch)
    }

    /// The message at this place, unless all of its batch was delivered.
    pub fn message(&self, place: Place) -> Option<(&Batch, &Message)> {
        let batch = self.batch(place.offset)?;
        batch.message(place.item).map(|message| (batch, message))
    }

    /// Messages of these types that a partner may be offered by `now`: those that were returned first, then in the order of
    /// acceptance.
    pub fn offerable(&self, recipient: &PartnerId, now: Timestamp, types: &Types) -> impl Iterator<Item = Place> {
        self.inboxes.get(recipient).into_iter().flat_map(move |inbox| inbox.offerable(now, types))
    }

    /// Offers whose lease has ended by `now`, the longest ago first.
    pub fn lapsed(&self, now: Timestamp) -> impl Iterator<Item = (Offer, &StreamId, Timestamp)> {
        let lapsed = self.leases.iter().take_while(move |(until, _)| *until <= now);
        lapsed.filter_map(|(until, place)| {
            let (_, message) = self.message(*place)?;
            let Phase::Offered { stream, .. } = &message.phase else { return None };
            Some((Offer { place: *place, number: message.offers }, stream, *until))
        })
    }

    /// Messages whose time is over by `now` and that are with nobody.
    pub fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (Place, Timestamp)> {
        let over = self.expiring.iter().take_while(move |(expires, _)| *expires <= now);
        let waiting = |place: &Place| {
            self.message(*place).is_some_and(|(_, message)| matches!(message.phase, Phase::Waiting { .. }))
        };
        over.filter(move |(_, place)| waiting(place)).map(|(expires, place)| (*place, *expires))
    }

    /// The dead letters that the partner would have received, in the order of acceptance.
    pub fn dead_letters(&self, recipient: &PartnerId) -> impl Iterator<Item = Place> {
        self.inboxes.get(recipient).into_iter().flat_map(|inbox| &inbox.dead).copied()
    }

    /// The dead letters that the partner sent, in the order of acceptance.
    pub fn dead_letters_from(&self, sender: &PartnerId) -> impl Iterator<Item = Place> {
        let dead = self.inboxes.values().flat_map(|inbox| &inbox.dead).copied();
        dead.filter(move |place| self.batch(place.offset).is_some_and(|batch| batch.sender == *sender))
    }

    /// The dead letters that records from this offset on made, in the order of those records.
    pub fn died_from(&self, offset: u64) -> impl Iterator<Item = (u64, Place)> {
        self.died.range((offset, Place { offset: 0, item: 0 })..).copied()
    }

    /// What has not ended of what was sent to the partner.
    pub fn inbox(&self, recipient: &PartnerId) -> Totals {
        self.inboxes.get(recipient).map(|inbox| inbox.totals).unwrap_or_default()
    }

    /// Since when the oldest message to the partner that has not ended has waited.
    pub fn oldest(&self, recipient: &PartnerId) -> Option<Timestamp> {
        let offset = self.inboxes.get(recipient)?.open.first_key_value()?.0;
        self.batch(*offset).map(|batch| batch.at)
    }

    /// What has not ended of what the partner sent.
    pub fn sent(&self, sender: &PartnerId) -> Totals {
        self.sent.get(sender).copied().unwrap_or_default()
    }

    /// The partners that have something here, or had.
    pub fn recipients(&self) -> impl Iterator<Item = &PartnerId> {
        self.inboxes.keys()
    }

    /// Changes a message, and all that is derived from it.
    fn change(&mut self, place: Place, time: Timestamp, change: impl FnOnce(&mut Message)) {
        self.unindex(place);
        let live = self.batches.get_mut(&place.offset).expect("the message was found");
        let message = usize::try_from(place.item).ok().and_then(|item| live.batch.messages.get_mut(item));
        change(message.and_then(Option::as_mut).expect("the message was found"));
        self.index(place, time);
    }

    /// The same for a change that may end the message, and with it let the next one of its ordering key go.
    fn change_and_free(&mut self, place: Place, at: At, effects: &mut Effects, change: impl FnOnce(&mut Message)) {
        self.forget_no_more(place.offset);
        self.change(place, at.time, change);
        effects.changed.insert(place.offset);
        let (batch, message) = self.message(place).expect("it was changed");
        let frees = match message.phase {
            Phase::Delivered { .. } => true,
            Phase::Dead { .. } => batch.terms.on_dead == OnDead::Frees,
            Phase::Waiting { .. } | Phase::Offered { .. } => false,
        };
        effects.woken.insert(batch.recipient_of(message).clone());
        if frees {
            self.leave_order(place, at.time, effects);
        }
        let live = &self.batches[&place.offset];
        if live.open == 0 && live.dead == 0 {
            let live = self.batches.remove(&place.offset).expect("it is there");
            effects.finished.push((place.offset, live.batch));
        } else {
            self.forget_later(place.offset);
        }
    }

    /// Forgets what is to be forgotten by now.
    fn forget(&mut self, time: Timestamp, effects: &mut Effects) {
        while let Some((at, offset)) = self.forgetting.first().copied() {
            if at > time {
                return;
            }
            self.forgetting.pop_first();
            let places = self.batches[&offset].batch.places(offset);
            for place in places {
                self.unindex(place);
                self.leave_order(place, time, effects);
            }
            let live = self.batches.remove(&offset).expect("it was to be forgotten");
            effects.forgotten.push((offset, live.batch));
        }
    }
}
