//! What the verbs of delivery ask of the folds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, MutexGuard},
};

use airut_domain::{
    id::{MessageId, MessageType, PartnerId, StreamId},
    mailbox::{Batch, Known, Message, Phase, Totals, Verdict, Void},
    member::Types,
    message::{Offer, Place, Terms},
    partition::{Partition, Position},
    time::Timestamp,
};
use airut_log::Recorded;

use super::{Changes, Folds, StoreError, Unaccepted, Word, told::Shared};
use crate::planted::planted;

/// Proof that the fold accepted what a record says of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptedItem {
    position: Position,
    stamp: Timestamp,
    item: u32,
    offer: u32,
}

impl AcceptedItem {
    /// The record that says it.
    pub(crate) fn position(self) -> Position {
        self.position
    }

    /// Its stamp.
    pub(crate) fn stamp(self) -> Timestamp {
        self.stamp
    }

    /// The place in the record.
    pub(crate) fn item(self) -> u32 {
        self.item
    }

    /// For an offer, which one of its message it is.
    pub(crate) fn offer(self) -> u32 {
        self.offer
    }
}

/// A record of messages, with the fold's word on each.
#[derive(Debug)]
pub(crate) struct Decided<T> {
    pub(crate) command: T,
    /// In the record's order.
    pub(crate) items: Vec<Result<AcceptedItem, Void>>,
}

#[cfg(test)]
impl<T> Decided<T> {
    /// As if the fold had said that all of it counts.
    pub(crate) fn presumed(recorded: Recorded<T>, items: usize) -> Self {
        let (position, stamp) = (recorded.position(), recorded.stamp());
        let item = |item| Ok(AcceptedItem { position, stamp, item: u32::try_from(item).unwrap(), offer: 1 });
        Self { command: recorded.into_command(), items: (0..items).map(item).collect() }
    }
}

/// An offer whose lease has ended.
#[derive(Clone, Debug)]
pub(crate) struct Lapsed {
    pub(crate) offer: Offer,
    pub(crate) stream: StreamId,
    pub(crate) until: Timestamp,
    /// Whether the stream is held by this gateway.
    pub(crate) own: bool,
}

/// A dead letter, and the record that made it one.
#[derive(Clone, Debug)]
pub(crate) struct Died {
    pub(crate) offset: u64,
    pub(crate) place: Place,
    pub(crate) at: Timestamp,
    pub(crate) message_type: MessageType,
    pub(crate) recipient: PartnerId,
}

/// What is known of a message that is being offered.
#[derive(Clone, Debug)]
pub(crate) struct AsOffered {
    pub(crate) sender: PartnerId,
    /// The same for messages of one record that follow each other.
    pub(crate) terms: Arc<Terms>,
    pub(crate) at: Timestamp,
    pub(crate) redriven: bool,
}

/// A message whose time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overdue {
    pub(crate) place: Place,
    pub(crate) expires: Timestamp,
}

impl Folds {
    /// The fold's word on each message of an own record.
    ///
    /// Dropping the future forgets the question, not the record.
    pub(crate) async fn decide_each<T>(&self, recorded: Recorded<T>) -> Result<Decided<T>, Unaccepted> {
        let (position, stamp) = (recorded.position(), recorded.stamp());
        let Word::Each(verdicts) = self.word(position).await? else { return Err(Unaccepted::Undecided) };
        let item = |(item, verdict)| match verdict {
            Verdict::Accepted(offer) => Ok(AcceptedItem { position, stamp, item, offer }),
            Verdict::Void(void) => Err(void),
        };
        Ok(Decided { command: recorded.into_command(), items: (0..).zip(verdicts).map(item).collect() })
    }

    /// What is known of an id that was used before: where, and by which content.
    pub(crate) fn known_message(
        &self,
        sender: &PartnerId,
        id: &MessageId,
    ) -> Result<Option<(Partition, Known)>, StoreError> {
        let shared = self.lock();
        let state = &shared.state;
        let known = state.mailboxes.known(state.store_ref(), &state.cursor.times, sender, id)?;
        Ok(known.map(|(partition, known, _)| (partition, known)))
    }

    /// A message by its id, as it stands.
    pub(crate) fn tracked(
        &self,
        sender: &PartnerId,
        id: &MessageId,
    ) -> Result<Option<(Partition, Place, Arc<Batch>)>, StoreError> {
        let shared = self.lock();
        let state = &shared.state;
        let known = state.mailboxes.known(state.store_ref(), &state.cursor.times, sender, id)?;
        let Some((partition, known, day)) = known else { return Ok(None) };
        let batch = state.mailboxes.batch(state.store_ref(), (partition, known.place.offset), day)?;
        Ok(batch.map(|batch| (partition, known.place, batch)))
    }

    /// Word of messages that may be offered to the partner.
    pub(crate) fn collecting(&self, partner: &PartnerId) -> Arc<Changes> {
        Arc::clone(self.lock().collectors.entry(partner.clone()).or_default())
    }

    /// Nobody collects the partner's messages here any more, unless somebody else does.
    pub(crate) fn collects_no_more(&self, partner: &PartnerId) {
        let mut shared = self.lock();
        if shared.collectors.get(partner).is_some_and(|changes| Arc::strong_count(changes) == 1) {
            shared.collectors.remove(partner);
        }
    }

    /// Messages of these types that the partner may be offered now, at most so many, of one partition: those that `mine` says are
    /// for the asker to offer. `mine` is given the message's place and type, and since when it has been due.
    pub(crate) fn offerable(
        &self,
        partition: Partition,
        partner: &PartnerId,
        types: &Types,
        now: Timestamp,
        limit: usize,
        mut mine: impl FnMut(Place, &MessageType, Timestamp) -> bool,
    ) -> Vec<Place> {
        let types = if planted!(TypesForgotten) { &Types::All } else { types };
        let shared = self.lock();
        let mailbox = shared.state.mailboxes.of(partition);
        let mut is_mine = |place: Place| {
            let Some((batch, message)) = mailbox.message(place) else { return false };
            match message.phase {
                Phase::Waiting { due } if now < message.expires => mine(place, &batch.terms.message_type, due),
                Phase::Waiting { .. } | Phase::Offered { .. } | Phase::Delivered { .. } | Phase::Dead { .. } => false,
            }
        };
        let offerable = mailbox.offerable(partner, now, types);
        offerable.filter(|place| is_mine(*place)).take(limit).collect()
    }

    /// Of these offers, those that the stream has no more: settled, lapsed or passed on.
    pub(crate) fn no_longer_held(
        &self,
        stream: &StreamId,
        offers: impl Iterator<Item = (Partition, Offer)>,
    ) -> Vec<(Partition, Place)> {
        let shared = self.lock();
        let held = |partition: Partition, offer: Offer| {
            shared.state.mailboxes.of(partition).message(offer.place).is_some_and(|(_, message)| {
                let here = matches!(&message.phase, Phase::Offered { stream: holding, .. } if holding == stream);
                here && message.offers == offer.number
            })
        };
        let gone = offers.filter(|(partition, offer)| !held(*partition, *offer));
        gone.map(|(partition, offer)| (partition, offer.place)).collect()
    }

    /// Offers whose lease has ended by `now`, at most so many of each partition.
    pub(crate) fn lapsed(&self, now: Timestamp, limit: usize) -> Vec<(Partition, Vec<Lapsed>)> {
        let shared = self.lock();
        let own = |stream: &StreamId| shared.streams.contains_key(stream);
        let of = |(partition, mailbox): (Partition, &airut_domain::mailbox::Mailbox)| {
            let lapsed = mailbox.lapsed(now).take(limit).map(|(offer, stream, until)| Lapsed {
                offer,
                own: own(stream),
                stream: stream.clone(),
                until,
            });
            (partition, lapsed.collect())
        };
        shared.state.mailboxes.all().map(of).filter(|(_, lapsed): &(_, Vec<_>)| !lapsed.is_empty()).collect()
    }

    /// Messages whose time is over by `now`, at most so many of each partition.
    pub(crate) fn overdue_messages(&self, now: Timestamp, limit: usize) -> Vec<(Partition, Vec<Overdue>)> {
        let shared = self.lock();
        let of = |(partition, mailbox): (Partition, &airut_domain::mailbox::Mailbox)| {
            let overdue = mailbox.overdue(now).take(limit).map(|(place, expires)| Overdue { place, expires });
            (partition, overdue.collect())
        };
        shared.state.mailboxes.all().map(of).filter(|(_, overdue): &(_, Vec<_>)| !overdue.is_empty()).collect()
    }

    /// The dead letters of a partition that were made so by records beyond this place, in the order of those records, at most so
    /// many.
    pub(crate) fn died_after(&self, partition: Partition, after: (u64, Place), limit: usize) -> Vec<Died> {
        let shared = self.lock();
        let mailbox = shared.state.mailboxes.of(partition);
        let later = mailbox.died_from(after.0).filter(|died| *died > after);
        let died = later.filter_map(|(offset, place)| {
            let (batch, message) = mailbox.message(place)?;
            let Phase::Dead { at, .. } = message.phase else { return None };
            let recipient = batch.recipient_of(message).clone();
            Some(Died { offset, place, at, message_type: batch.terms.message_type.clone(), recipient })
        });
        died.take(limit).collect()
    }

    /// What is known of messages that are being offered, in their order; none of what is finished.
    pub(crate) fn as_offered(
        &self,
        partition: Partition,
        places: impl Iterator<Item = Place>,
    ) -> Vec<Option<AsOffered>> {
        let shared = self.lock();
        let mailbox = shared.state.mailboxes.of(partition);
        let mut latest: Option<(u64, Arc<Terms>)> = None;
        let of = |place: Place| {
            let (batch, message) = mailbox.message(place)?;
            let terms = match &latest {
                Some((offset, terms)) if *offset == place.offset => Arc::clone(terms),
                Some(_) | None => Arc::clone(&latest.insert((place.offset, Arc::new(batch.terms.clone()))).1),
            };
            Some(AsOffered { sender: batch.sender.clone(), terms, at: batch.at, redriven: message.redriven })
        };
        places.map(of).collect()
    }

    /// A message that is not finished, as it stands.
    pub(crate) fn with_message<T>(
        &self,
        partition: Partition,
        place: Place,
        look: impl FnOnce(&Batch, &Message) -> T,
    ) -> Option<T> {
        let shared: MutexGuard<'_, Shared> = self.lock();
        shared.state.mailboxes.of(partition).message(place).map(|(batch, message)| look(batch, message))
    }

    /// What has not ended of what was sent to the partner.
    pub fn inbox(&self, partner: &PartnerId) -> Totals {
        self.lock().state.mailboxes.inbox(partner)
    }

    /// What has not ended of what the partner sent.
    pub fn sent(&self, partner: &PartnerId) -> Totals {
        self.lock().state.mailboxes.sent(partner)
    }

    /// What has not ended of what was sent to each partner, and since when the oldest of it has waited.
    pub fn inboxes(&self) -> Vec<(PartnerId, Totals, Timestamp)> {
        let shared = self.lock();
        let mut inboxes: BTreeMap<PartnerId, (Totals, Timestamp)> = BTreeMap::new();
        for (_, mailbox) in shared.state.mailboxes.all() {
            for partner in mailbox.recipients() {
                let here = mailbox.inbox(partner);
                let oldest = mailbox.oldest(partner);
                let (totals, since) =
                    inboxes.entry(partner.clone()).or_insert((Totals::default(), Timestamp::from_millis(i64::MAX)));
                totals.messages += here.messages;
                totals.bytes += here.bytes;
                *since = oldest.unwrap_or(*since).min(*since);
            }
        }
        inboxes.into_iter().map(|(partner, (totals, since))| (partner, totals, since)).collect()
    }

    /// The dead letters that the partner sent or would have received, by their places from `after` on, at most so many.
    pub(crate) fn dead_letters(
        &self,
        partner: &PartnerId,
        after: Option<(Partition, Place)>,
        limit: usize,
    ) -> Vec<(Partition, Place)> {
        let shared = self.lock();
        let mut found = Vec::new();
        for (partition, mailbox) in shared.state.mailboxes.all() {
            let mut here: BTreeSet<Place> = mailbox.dead_letters(partner).collect();
            if !planted!(SenderSeesNoDeadLetters) {
                here.extend(mailbox.dead_letters_from(partner));
            }
            let later =
                here.into_iter().map(|place| (partition, place)).filter(|at| after.is_none_or(|after| *at > after));
            found.extend(later.take(limit - found.len()));
            if found.len() >= limit {
                break;
            }
        }
        found
    }
}
