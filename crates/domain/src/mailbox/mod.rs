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

mod batch;
mod index;

pub use batch::{Batch, Message, Phase, Step, StepKind, Why};
use index::{Inbox, Live};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    id::{Incarnation, MessageId, PartnerId, StreamId},
    keys::Digest,
    message::{
        Accepted, Attempt, Event, Expired, Extended, Item, LONGEST_WAIT, LeasesEnded, Offer, Offered, OnDead, OrderKey,
        Outcome, Place, Redriven, Settled, Settlement, Transferred,
    },
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

impl Verdict {
    /// The verdict on an offer; where nothing is known here of its message, what its finished batch says.
    fn or_before(
        self,
        recipient: &PartnerId,
        offer: Offer,
        at: At,
        finished: &mut impl FnMut(u64) -> Option<Arc<Batch>>,
    ) -> Self {
        if self != Self::Void(Void::Unknown) {
            return self;
        }
        let batch =
            finished(offer.place.offset).filter(|batch| batch.forget_at().is_none_or(|forget| at.time < forget));
        let Some(batch) = batch else { return self };
        let Some(message) = batch.message(offer.place.item) else { return self };
        Self::Void(match message.settled_before(offer.number) {
            _ if batch.recipient_of(message) != recipient => Void::NotTheirs,
            Some(before) => Void::Settled(before),
            None => Void::LeaseLost,
        })
    }
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

    /// Messages that a partner may be offered by `now`: those that were returned first, then in the order of acceptance.
    pub fn offerable(&self, recipient: &PartnerId, now: Timestamp) -> impl Iterator<Item = Place> {
        let inbox = self.inboxes.get(recipient);
        let delayed = inbox.into_iter().flat_map(|inbox| &inbox.delayed);
        let due = delayed.take_while(move |(due, _)| *due <= now).map(|(_, place)| *place);
        due.chain(inbox.into_iter().flat_map(|inbox| &inbox.ready).copied())
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

    /// Takes in the next record of the partition. `known` finds ids that were used before: in batches that are here, and in
    /// those that were given away as finished and are not forgotten by then; `finished` finds those by their offset. Pure but for
    /// that, and total.
    pub fn apply(
        &mut self,
        at: At,
        author: &Incarnation,
        event: &Event,
        mut known: impl FnMut(&Self, &PartnerId, &MessageId) -> Option<Known>,
        mut finished: impl FnMut(u64) -> Option<Arc<Batch>>,
    ) -> Effects {
        let mut effects = Effects::default();
        self.forget(at.time, &mut effects);
        match event {
            Event::Accepted(accepted) => self.apply_accepted(at, accepted, &mut known, &mut effects),
            Event::Offered(offered) => {
                for place in &offered.messages {
                    let verdict = self.apply_offered(at, author, offered, *place);
                    effects.verdicts.push(verdict);
                    effects.changed.insert(place.offset);
                }
            }
            Event::Extended(extended) => {
                for offer in &extended.offers {
                    let verdict = self.apply_extended(at, extended, *offer);
                    effects.verdicts.push(verdict.or_before(&extended.recipient, *offer, at, &mut finished));
                    effects.changed.insert(offer.place.offset);
                }
            }
            Event::Settled(settled) => {
                for settlement in &settled.settlements {
                    let verdict = self.apply_settled(at, settled, settlement, &mut effects);
                    // An earlier one of this record may have finished the batch.
                    let mut finished = |offset| effects.finished(offset).or_else(|| finished(offset));
                    let verdict = verdict.or_before(&settled.recipient, settlement.offer, at, &mut finished);
                    effects.verdicts.push(verdict);
                }
            }
            Event::LeasesEnded(ended) => {
                for offer in &ended.offers {
                    let verdict = self.apply_lease_ended(at, author, ended, *offer, &mut effects);
                    effects.verdicts.push(verdict);
                }
            }
            Event::Expired(Expired { messages }) => {
                for place in messages {
                    let verdict = self.apply_expired(at, *place, &mut effects);
                    effects.verdicts.push(verdict);
                }
            }
            Event::Transferred(transferred) => {
                for offer in &transferred.offers {
                    let verdict = self.apply_transferred(at, transferred, *offer, &mut effects);
                    effects.verdicts.push(verdict);
                }
            }
            Event::Redriven(redriven) => {
                for place in &redriven.messages {
                    let verdict = self.apply_redriven(at, redriven, *place, &mut effects);
                    effects.verdicts.push(verdict);
                }
            }
        }
        effects.changed.retain(|offset| self.batches.contains_key(offset));
        effects
    }

    fn apply_accepted(
        &mut self,
        at: At,
        accepted: &Accepted,
        known: &mut impl FnMut(&Self, &PartnerId, &MessageId) -> Option<Known>,
        effects: &mut Effects,
    ) {
        let offset = at.position.offset;
        let mut here: BTreeMap<&MessageId, Known> = BTreeMap::new();
        let mut messages = Vec::with_capacity(accepted.items.len());
        for (place, item) in (0..).zip(&accepted.items) {
            let place = Place { offset, item: place };
            let prior = here.get(&item.id).copied().or_else(|| known(self, &accepted.sender, &item.id));
            let (verdict, message) = match prior {
                None => {
                    here.insert(&item.id, Known { place, fingerprint: item.fingerprint, at: at.time });
                    (Verdict::Accepted(0), Some(message(item, at.time)))
                }
                Some(known) if known.fingerprint == item.fingerprint => (Verdict::Void(Void::Repeat(known)), None),
                Some(known) => (Verdict::Void(Void::IdReused(known)), None),
            };
            effects.verdicts.push(verdict);
            messages.push(message);
        }
        if here.is_empty() {
            return;
        }
        let batch = Batch {
            sender: accepted.sender.clone(),
            recipient: accepted.recipient.clone(),
            terms: accepted.terms.clone(),
            at: at.time,
            messages,
        };
        effects.woken.insert(batch.recipient.clone());
        effects.changed.insert(offset);
        self.restore(offset, batch, at.time);
    }

    fn apply_offered(&mut self, at: At, author: &Incarnation, offered: &Offered, place: Place) -> Verdict {
        let Some((batch, message)) = self.message(place) else { return Verdict::Void(Void::Unknown) };
        if *batch.recipient_of(message) != offered.recipient {
            return Verdict::Void(Void::NotTheirs);
        }
        let Phase::Waiting { due } = message.phase else { return Verdict::Void(Void::NotWaiting) };
        if message.expires <= at.time {
            return Verdict::Void(Void::Expired);
        }
        if due > at.time {
            return Verdict::Void(Void::TooEarly);
        }
        if !self.is_first(place, message) {
            return Verdict::Void(Void::OutOfOrder);
        }
        let until = at.time + offered.lease.min(LONGEST_WAIT);
        let number = message.offers + 1;
        self.change(place, at.time, |message| {
            message.offers = number;
            message.phase = Phase::Offered { stream: offered.stream.clone(), holder: author.clone(), until };
            message.step(StepKind::Offered, at, number);
        });
        Verdict::Accepted(number)
    }

    fn apply_extended(&mut self, at: At, extended: &Extended, offer: Offer) -> Verdict {
        let message = match self.on_offer(&extended.recipient, offer) {
            Ok(message) => message,
            Err(void) => return Verdict::Void(void),
        };
        let Phase::Offered { stream, holder, until } = &message.phase else { return Verdict::Void(Void::LeaseLost) };
        let until = (at.time + extended.lease.min(LONGEST_WAIT)).max(*until);
        let phase = Phase::Offered { stream: stream.clone(), holder: holder.clone(), until };
        self.change(offer.place, at.time, |message| message.phase = phase);
        Verdict::Accepted(offer.number)
    }

    fn apply_settled(&mut self, at: At, settled: &Settled, settlement: &Settlement, effects: &mut Effects) -> Verdict {
        let Settlement { offer, outcome } = settlement;
        let Some((batch, message)) = self.message(offer.place) else { return Verdict::Void(Void::Unknown) };
        if *batch.recipient_of(message) != settled.recipient {
            return Verdict::Void(Void::NotTheirs);
        }
        if let Some(before) = message.settled_before(offer.number) {
            return Verdict::Void(Void::Settled(before));
        }
        // A late settlement counts unless the message was offered again.
        if offer.number == 0 || offer.number != message.offers || message.was_passed_on_since_offered() {
            return Verdict::Void(Void::LeaseLost);
        }
        let attempts = match message.phase {
            Phase::Offered { .. } => message.attempts + 1,
            // What its lease's end counted as is decided.
            Phase::Waiting { .. } => message.attempts,
            // That it was taken in all the same is good to know; anything else changes nothing.
            Phase::Dead { .. } if *outcome == Outcome::Accepted => message.attempts,
            Phase::Dead { .. } | Phase::Delivered { .. } => return Verdict::Void(Void::LeaseLost),
        };
        let (limit, back_off) = (batch.terms.attempts, batch.terms.back_off);
        let (phase, step) = match outcome {
            Outcome::Accepted => (Phase::Delivered { at: at.time }, StepKind::Delivered),
            Outcome::Rejected(code) => {
                let why = Why::Rejected(code.clone());
                (Phase::Dead { why, at: at.time }, StepKind::Rejected(code.clone()))
            }
            Outcome::Returned(_) if attempts >= limit => {
                (Phase::Dead { why: Why::AttemptsExhausted, at: at.time }, StepKind::Returned)
            }
            Outcome::Returned(delay) => {
                let wait = delay.unwrap_or_default().max(backed_off(back_off, attempts)).min(LONGEST_WAIT);
                (Phase::Waiting { due: at.time + wait }, StepKind::Returned)
            }
        };
        let failed = matches!(outcome, Outcome::Returned(_));
        self.change_and_free(offer.place, at, effects, |message| {
            message.attempts = if failed { attempts } else { message.attempts };
            message.settled = Some((offer.number, outcome.clone()));
            message.phase = phase;
            message.step(step, at, offer.number);
        });
        Verdict::Accepted(offer.number)
    }

    fn apply_lease_ended(
        &mut self,
        at: At,
        author: &Incarnation,
        ended: &LeasesEnded,
        offer: Offer,
        effects: &mut Effects,
    ) -> Verdict {
        let Some((batch, message)) = self.message(offer.place) else { return Verdict::Void(Void::Unknown) };
        let Phase::Offered { holder, until, .. } = &message.phase else { return Verdict::Void(Void::LeaseLost) };
        if message.offers != offer.number {
            return Verdict::Void(Void::LeaseLost);
        }
        if at.time < *until && holder != author {
            return Verdict::Void(Void::TooEarly);
        }
        let (attempts, wait) = match ended.attempt {
            Attempt::DoesNotCount => (message.attempts, std::time::Duration::ZERO),
            Attempt::Counts => (message.attempts + 1, backed_off(batch.terms.back_off, message.attempts + 1)),
        };
        let phase = if attempts >= batch.terms.attempts {
            Phase::Dead { why: Why::AttemptsExhausted, at: at.time }
        } else {
            Phase::Waiting { due: at.time + wait }
        };
        self.change_and_free(offer.place, at, effects, |message| {
            message.attempts = attempts;
            message.phase = phase;
            message.step(StepKind::LeaseEnded, at, offer.number);
        });
        Verdict::Accepted(offer.number)
    }

    fn apply_expired(&mut self, at: At, place: Place, effects: &mut Effects) -> Verdict {
        let Some((_, message)) = self.message(place) else { return Verdict::Void(Void::Unknown) };
        let Phase::Waiting { .. } = message.phase else { return Verdict::Void(Void::NotWaiting) };
        if at.time < message.expires {
            return Verdict::Void(Void::TooEarly);
        }
        self.change_and_free(place, at, effects, |message| {
            message.phase = Phase::Dead { why: Why::Expired, at: at.time };
            message.step(StepKind::Expired, at, 0);
        });
        Verdict::Accepted(0)
    }

    fn apply_transferred(&mut self, at: At, transferred: &Transferred, offer: Offer, effects: &mut Effects) -> Verdict {
        match self.on_offer(&transferred.from, offer) {
            Ok(message) if matches!(message.phase, Phase::Offered { .. }) => {}
            Ok(_) => return Verdict::Void(Void::LeaseLost),
            Err(void) => return Verdict::Void(void),
        }
        self.leave_order(offer.place, at.time, effects);
        self.change_and_free(offer.place, at, effects, |message| {
            message.order = None;
            message.passed_to = Some(transferred.to.clone());
            message.attempts = 0;
            message.phase = Phase::Waiting { due: at.time };
            message.step(StepKind::Transferred(transferred.to.clone()), at, offer.number);
        });
        effects.woken.insert(transferred.to.clone());
        Verdict::Accepted(offer.number)
    }

    fn apply_redriven(&mut self, at: At, redriven: &Redriven, place: Place, effects: &mut Effects) -> Verdict {
        let Some((batch, message)) = self.message(place) else { return Verdict::Void(Void::Unknown) };
        let recipient = batch.recipient_of(message).clone();
        if batch.sender != redriven.by && recipient != redriven.by {
            return Verdict::Void(Void::NotTheirs);
        }
        let Phase::Dead { .. } = message.phase else { return Verdict::Void(Void::NotDead) };
        self.change_and_free(place, at, effects, |message| {
            message.attempts = 0;
            message.redriven = true;
            message.expires = redriven.expires;
            message.phase = Phase::Waiting { due: at.time };
            message.step(StepKind::Redriven(redriven.by.clone()), at, 0);
        });
        effects.woken.insert(recipient);
        Verdict::Accepted(0)
    }

    /// The message that this offer is the latest of, with nobody else's in between.
    fn on_offer(&self, recipient: &PartnerId, offer: Offer) -> Result<&Message, Void> {
        let (batch, message) = self.message(offer.place).ok_or(Void::Unknown)?;
        if batch.recipient_of(message) != recipient {
            return Err(Void::NotTheirs);
        }
        if let Some(before) = message.settled_before(offer.number) {
            return Err(Void::Settled(before));
        }
        if offer.number == 0 || message.offers != offer.number { Err(Void::LeaseLost) } else { Ok(message) }
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

/// A message that was just accepted.
fn message(item: &Item, time: Timestamp) -> Message {
    Message {
        id: item.id.clone(),
        fingerprint: item.fingerprint,
        order: item.order,
        expires: item.expires,
        size_bytes: item.size_bytes,
        phase: Phase::Waiting { due: time },
        offers: 0,
        attempts: 0,
        settled: None,
        redriven: false,
        passed_to: None,
        steps: Vec::new(),
    }
}

/// The wait after so many failed attempts.
fn backed_off(first: Duration, attempts: u32) -> Duration {
    let doubled = first.checked_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}
