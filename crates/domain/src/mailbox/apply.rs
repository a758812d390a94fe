//! What each record of a partition comes to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Batch, Effects, Known, Mailbox, Message, Phase, StepKind, Verdict, Void, Why};
use crate::{
    id::{Incarnation, MessageId, PartnerId},
    message::{
        Accepted, Attempt, Event, Expired, Extended, Item, LONGEST_WAIT, LeasesEnded, Offer, Offered, Outcome, Place,
        Redriven, Settled, Settlement, Transferred,
    },
    query::At,
    time::Timestamp,
};

impl Mailbox {
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
