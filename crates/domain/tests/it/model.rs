//! The mailboxes of one partition in the simplest possible code: one list of messages, walked through for every question.
//!
//! It is written from what is promised, not from how the exchange does it. What it says of a record is compared with what the
//! mailbox says; the simulation of the exchange has it read the log.

use std::time::Duration;

use airut_domain::{
    id::{Incarnation, MessageId, PartnerId, StreamId},
    keys::Digest,
    mailbox::{Known, Phase, Totals, Verdict, Void, Why},
    member::Types,
    message::{
        Accepted, Attempt, DEAD_KEPT, Event, Item, LONGEST_WAIT, Offer, OnDead, OrderKey, Outcome, Place, REMEMBERED,
        Settlement, Terms,
    },
    time::Timestamp,
};

/// The mailboxes of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// The partition's time.
    pub(crate) time: Timestamp,
    /// In the order of their acceptance.
    pub(crate) messages: Vec<Message>,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) place: Place,
    pub(crate) id: MessageId,
    pub(crate) fingerprint: Digest,
    pub(crate) sender: PartnerId,
    /// Whom it is for now.
    pub(crate) recipient: PartnerId,
    pub(crate) terms: Terms,
    pub(crate) accepted: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) size_bytes: u32,
    /// Its ordering key; none once it was passed on.
    pub(crate) key: Option<OrderKey>,
    pub(crate) phase: Phase,
    /// Each time that it was offered, the first one first.
    pub(crate) offers: Vec<Given>,
    pub(crate) failed: u32,
    /// The settlement that counted last.
    pub(crate) settled: Option<(u32, Outcome)>,
    /// Those that counted before; of a return only that it was one.
    earlier: Vec<(u32, Outcome)>,
    pub(crate) redriven: bool,
    /// After how many offers it was passed on.
    pub(crate) passed_on: Option<u32>,
}

/// An offer that counted.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "who looks at what was pushed needs all of it")]
pub(crate) struct Given {
    pub(crate) to: PartnerId,
    pub(crate) stream: StreamId,
    pub(crate) at: Timestamp,
}

impl Message {
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    pub(crate) fn is_offered(&self) -> bool {
        matches!(self.phase, Phase::Offered { .. })
    }

    pub(crate) fn is_delivered(&self) -> bool {
        matches!(self.phase, Phase::Delivered { .. })
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead { .. })
    }

    /// Which offer of it is the latest; 0 for none.
    pub(crate) fn latest(&self) -> u32 {
        u32::try_from(self.offers.len()).expect("few")
    }

    /// It was redriven after its key had gone on without it.
    fn is_out_of_order(&self) -> bool {
        self.redriven && self.terms.on_dead == OnDead::Frees
    }

    /// Whether later messages of its key have to wait for it.
    fn is_in_the_way(&self) -> bool {
        match self.phase {
            Phase::Waiting { .. } | Phase::Offered { .. } => !self.is_out_of_order(),
            Phase::Dead { .. } => self.terms.on_dead == OnDead::Blocks,
            Phase::Delivered { .. } => false,
        }
    }

    /// Until when it is remembered; none while it has not ended.
    fn remembered_until(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting { .. } | Phase::Offered { .. } => None,
            Phase::Delivered { at } => Some(at + REMEMBERED),
            Phase::Dead { at, .. } => Some((at + REMEMBERED).max(self.accepted + DEAD_KEPT)),
        }
    }

    /// The wait after the attempts that have failed.
    fn back_off(&self, failed: u32) -> Duration {
        let mut wait = self.terms.back_off;
        for _ in 1..failed {
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        wait.min(LONGEST_WAIT)
    }

    fn offered_to(&self, recipient: &PartnerId, offer: Offer) -> Result<(), Void> {
        if self.recipient != *recipient {
            return Err(Void::NotTheirs);
        }
        let settled = self.settled.iter().chain(&self.earlier).find(|(number, _)| *number == offer.number);
        if let Some((_, outcome)) = settled {
            return Err(Void::Settled(outcome.clone()));
        }
        // An offer that was made before it was passed on is nobody's any more.
        let stands = offer.number == self.latest() && offer.number > self.passed_on.unwrap_or(0);
        if stands { Ok(()) } else { Err(Void::LeaseLost) }
    }
}

impl Model {
    pub(crate) fn find(&self, place: Place) -> Option<&Message> {
        self.messages.iter().find(|message| message.place == place)
    }

    fn find_mut(&mut self, place: Place) -> Result<&mut Message, Void> {
        self.messages.iter_mut().find(|message| message.place == place).ok_or(Void::Unknown)
    }

    /// Whether no earlier message of its key is in the way.
    pub(crate) fn is_first(&self, message: &Message) -> bool {
        let Some(key) = message.key else { return true };
        let earlier = |other: &&Message| other.key == Some(key) && other.place < message.place;
        message.is_out_of_order() || !self.messages.iter().filter(earlier).any(Message::is_in_the_way)
    }

    /// What of these types may be offered to the partner.
    pub(crate) fn offerable(&self, recipient: &PartnerId, now: Timestamp, types: &Types) -> Vec<Place> {
        let due = |message: &Message| matches!(message.phase, Phase::Waiting { due } if due <= now);
        let theirs = |message: &Message| message.recipient == *recipient && types.take(&message.terms.message_type);
        let offerable = |message: &&Message| theirs(message) && due(message) && self.is_first(message);
        self.messages.iter().filter(offerable).map(|message| message.place).collect()
    }

    /// Offers whose lease has ended.
    pub(crate) fn lapsed(&self, now: Timestamp) -> Vec<Offer> {
        let lapsed = |message: &&Message| matches!(message.phase, Phase::Offered { until, .. } if until <= now);
        let offer = |message: &Message| Offer { place: message.place, number: message.latest() };
        self.messages.iter().filter(lapsed).map(offer).collect()
    }

    /// Messages that wait though their time is over.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<Place> {
        let overdue = |message: &&Message| message.is_waiting() && message.expires <= now;
        self.messages.iter().filter(overdue).map(|message| message.place).collect()
    }

    /// The dead letters of those that are chosen.
    pub(crate) fn dead(&self, chosen: impl Fn(&Message) -> bool) -> Vec<Place> {
        self.messages.iter().filter(|message| message.is_dead() && chosen(message)).map(|dead| dead.place).collect()
    }

    /// How much of what is chosen has not ended.
    pub(crate) fn totals(&self, chosen: impl Fn(&Message) -> bool) -> Totals {
        let mut totals = Totals::default();
        for message in self.messages.iter().filter(|message| message.is_waiting() || message.is_offered()) {
            if chosen(message) {
                totals.messages += 1;
                totals.bytes += u64::from(message.size_bytes);
            }
        }
        totals
    }

    /// Takes in a record: what it says of each message, counts or does not.
    pub(crate) fn apply(
        &mut self,
        offset: u64,
        stamp: Timestamp,
        author: &Incarnation,
        event: &Event,
    ) -> Vec<Result<u32, Void>> {
        self.time = self.time.max(stamp);
        self.forget();
        let now = self.time;
        match event {
            Event::Accepted(accepted) => (0..)
                .zip(&accepted.items)
                .map(|(item, said)| self.accept(Place { offset, item }, accepted, said))
                .collect(),
            Event::Offered(offered) => offered
                .messages
                .iter()
                .map(|place| {
                    let given = Given { to: offered.recipient.clone(), stream: offered.stream.clone(), at: now };
                    self.offer(*place, given, author, now + offered.lease.min(LONGEST_WAIT))
                })
                .collect(),
            Event::Extended(extended) => extended
                .offers
                .iter()
                .map(|offer| {
                    let message = self.find_mut(offer.place)?;
                    message.offered_to(&extended.recipient, *offer)?;
                    let Phase::Offered { until, .. } = &mut message.phase else { return Err(Void::LeaseLost) };
                    *until = (now + extended.lease.min(LONGEST_WAIT)).max(*until);
                    Ok(offer.number)
                })
                .collect(),
            Event::Settled(settled) => {
                settled.settlements.iter().map(|said| self.settle(&settled.recipient, said)).collect()
            }
            Event::LeasesEnded(ended) => {
                ended.offers.iter().map(|offer| self.end_lease(*offer, ended.attempt, author)).collect()
            }
            Event::Expired(expired) => expired
                .messages
                .iter()
                .map(|place| {
                    let message = self.find_mut(*place)?;
                    if !message.is_waiting() {
                        return Err(Void::NotWaiting);
                    }
                    if now < message.expires {
                        return Err(Void::TooEarly);
                    }
                    message.phase = Phase::Dead { why: Why::Expired, at: now };
                    Ok(0)
                })
                .collect(),
            Event::Transferred(transferred) => transferred
                .offers
                .iter()
                .map(|offer| {
                    let message = self.find_mut(offer.place)?;
                    message.offered_to(&transferred.from, *offer)?;
                    if !message.is_offered() {
                        return Err(Void::LeaseLost);
                    }
                    message.recipient = transferred.to.clone();
                    message.passed_on = Some(offer.number);
                    message.key = None;
                    message.failed = 0;
                    message.phase = Phase::Waiting { due: now };
                    Ok(offer.number)
                })
                .collect(),
            Event::Redriven(redriven) => redriven
                .messages
                .iter()
                .map(|place| {
                    let message = self.find_mut(*place)?;
                    if redriven.by != message.sender && redriven.by != message.recipient {
                        return Err(Void::NotTheirs);
                    }
                    if !message.is_dead() {
                        return Err(Void::NotDead);
                    }
                    message.redriven = true;
                    message.failed = 0;
                    message.expires = redriven.expires;
                    message.phase = Phase::Waiting { due: now };
                    Ok(0)
                })
                .collect(),
        }
    }

    fn accept(&mut self, place: Place, accepted: &Accepted, item: &Item) -> Result<u32, Void> {
        let known = self.messages.iter().find(|known| known.id == item.id && known.sender == accepted.sender);
        if let Some(message) = known {
            let known = Known { place: message.place, fingerprint: message.fingerprint, at: message.accepted };
            let same = message.fingerprint == item.fingerprint;
            return Err(if same { Void::Repeat(known) } else { Void::IdReused(known) });
        }
        self.messages.push(Message {
            place,
            id: item.id.clone(),
            fingerprint: item.fingerprint,
            sender: accepted.sender.clone(),
            recipient: accepted.recipient.clone(),
            terms: accepted.terms.clone(),
            accepted: self.time,
            expires: item.expires,
            size_bytes: item.size_bytes,
            key: item.order,
            phase: Phase::Waiting { due: self.time },
            offers: Vec::new(),
            failed: 0,
            settled: None,
            earlier: Vec::new(),
            redriven: false,
            passed_on: None,
        });
        Ok(0)
    }

    fn offer(&mut self, place: Place, given: Given, author: &Incarnation, until: Timestamp) -> Result<u32, Void> {
        let now = self.time;
        let message = self.find(place).ok_or(Void::Unknown)?;
        if message.recipient != given.to {
            return Err(Void::NotTheirs);
        }
        let Phase::Waiting { due } = message.phase else { return Err(Void::NotWaiting) };
        if message.expires <= now {
            return Err(Void::Expired);
        }
        if now < due {
            return Err(Void::TooEarly);
        }
        if !self.is_first(message) {
            return Err(Void::OutOfOrder);
        }
        let message = self.find_mut(place)?;
        message.phase = Phase::Offered { stream: given.stream.clone(), holder: author.clone(), until };
        message.offers.push(given);
        Ok(message.latest())
    }

    fn settle(&mut self, recipient: &PartnerId, settlement: &Settlement) -> Result<u32, Void> {
        let Settlement { offer, outcome } = settlement;
        let now = self.time;
        let message = self.find_mut(offer.place)?;
        message.offered_to(recipient, *offer)?;
        // What a lease's end counted as is decided; of a dead letter only that it was taken in all the same is of use.
        let fails = match message.phase {
            Phase::Offered { .. } => 1,
            Phase::Waiting { .. } => 0,
            Phase::Dead { .. } if *outcome == Outcome::Accepted => 0,
            Phase::Dead { .. } | Phase::Delivered { .. } => return Err(Void::LeaseLost),
        };
        message.phase = match outcome {
            Outcome::Accepted => Phase::Delivered { at: now },
            Outcome::Rejected(code) => Phase::Dead { why: Why::Rejected(code.clone()), at: now },
            Outcome::Returned(delay) => {
                message.failed += fails;
                if message.failed >= message.terms.attempts {
                    Phase::Dead { why: Why::AttemptsExhausted, at: now }
                } else {
                    let wait = message.back_off(message.failed).max(delay.unwrap_or_default()).min(LONGEST_WAIT);
                    Phase::Waiting { due: now + wait }
                }
            }
        };
        let before = message.settled.replace((offer.number, outcome.clone()));
        message.earlier.extend(before.map(|(number, outcome)| match outcome {
            Outcome::Returned(_) => (number, Outcome::Returned(None)),
            Outcome::Accepted | Outcome::Rejected(_) => (number, outcome),
        }));
        Ok(offer.number)
    }

    fn end_lease(&mut self, offer: Offer, attempt: Attempt, author: &Incarnation) -> Result<u32, Void> {
        let now = self.time;
        let message = self.find_mut(offer.place)?;
        let Phase::Offered { holder, until, .. } = &message.phase else { return Err(Void::LeaseLost) };
        if offer.number != message.latest() {
            return Err(Void::LeaseLost);
        }
        if now < *until && author != holder {
            return Err(Void::TooEarly);
        }
        let wait = match attempt {
            Attempt::Counts => {
                message.failed += 1;
                message.back_off(message.failed)
            }
            Attempt::DoesNotCount => Duration::ZERO,
        };
        message.phase = if message.failed >= message.terms.attempts {
            Phase::Dead { why: Why::AttemptsExhausted, at: now }
        } else {
            Phase::Waiting { due: now + wait }
        };
        Ok(offer.number)
    }

    /// What one record accepted is forgotten together, when each of its messages may be.
    fn forget(&mut self) {
        let now = self.time;
        let is_due = |message: &Message| message.remembered_until().is_some_and(|until| until <= now);
        let due: Vec<u64> = self.messages.iter().map(|message| message.place.offset).collect();
        for offset in due {
            let mut of_record = self.messages.iter().filter(|message| message.place.offset == offset);
            if of_record.all(is_due) {
                self.messages.retain(|message| message.place.offset != offset);
            }
        }
    }
}

/// What the mailbox says, as the model does.
pub(crate) fn said(verdict: Verdict) -> Result<u32, Void> {
    match verdict {
        Verdict::Accepted(number) => Ok(number),
        Verdict::Void(void) => Err(void),
    }
}
