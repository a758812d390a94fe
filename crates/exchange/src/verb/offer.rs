//! Offering messages to their recipient, for a stream or for one pull: record the offer, then open what was offered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use airut_domain::{
    delivery,
    id::{MessageType, PartnerId, StreamId},
    keys::Digest,
    member::{StreamOpened, Types},
    message::{Attempt, LeasesEnded, Offer, Offered, Place, Terms},
    partition::{Partition, Position, Topic},
    time::Timestamp,
};
use airut_wire::v1;
use bytes::Bytes;

use crate::{bodies::Opened, fold::AsOffered, gateway::Gateway, planted::planted};

/// As many messages are offered with one record.
pub(crate) const MOST_OFFERED: usize = 512;

/// A message that a stream was offered, ready to be pushed.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) partition: Partition,
    pub(crate) offer: Offer,
    /// When the message was accepted.
    pub(crate) accepted: Timestamp,
    /// When the lease ends.
    pub(crate) until: Timestamp,
    pub(crate) sender: PartnerId,
    pub(crate) terms: Arc<Terms>,
    pub(crate) delivery: v1::Delivery,
}

/// To whom messages are offered.
#[derive(Clone, Debug)]
pub(crate) struct Collects {
    pub(crate) recipient: PartnerId,
    pub(crate) stream: StreamId,
    pub(crate) lease: Duration,
    pub(crate) types: Types,
}

impl Gateway {
    /// Offers messages of one partition, and opens those that the fold says are this stream's. What can't be opened is not
    /// offered: it would be given back, and offered again, for as long as the key store is down. Should that show only later,
    /// it is given back.
    pub(crate) async fn offer(&self, collects: &Collects, partition: Partition, messages: Vec<Place>) -> Vec<Ready> {
        let messages = self.with_keys(partition, messages).await;
        if messages.is_empty() {
            return Vec::new();
        }
        let offered = Offered {
            recipient: collects.recipient.clone(),
            stream: collects.stream.clone(),
            lease: collects.lease,
            messages,
        };
        // Unwritten or void: whoever comes to it next offers it again.
        let Ok(decided) = self.propose_each(partition, offered, None, "").await else { return Vec::new() };
        let offered = decided.command.messages.into_iter().zip(decided.items);
        let offered: Vec<_> = offered.filter_map(|(place, item)| item.ok().map(|item| (place, item))).collect();
        let known = self.folds.as_offered(partition, offered.iter().map(|(place, _)| *place));
        let (mut ready, mut unopened) = (Vec::new(), Vec::new());
        let mut record: Option<(u64, Opened)> = None;
        for ((place, item), known) in offered.into_iter().zip(known) {
            if record.as_ref().is_none_or(|(offset, _)| *offset != place.offset) {
                record = self.messages_at(partition, place.offset).await.map(|opened| (place.offset, opened));
            }
            let offer = Offer { place, number: item.offer() };
            match known.zip(record.as_ref()).and_then(|(known, (_, messages))| {
                let until = item.stamp() + collects.lease;
                delivery(partition, offer, until, known, messages)
            }) {
                Some(opened) => ready.push(opened),
                None => unopened.push(offer),
            }
        }
        self.give_back(partition, unopened).await;
        ready
    }

    /// Ends offers that came to nothing through no fault of the recipient: they may be offered again at once.
    pub(crate) async fn give_back(&self, partition: Partition, offers: Vec<Offer>) {
        for some in offers.chunks(MOST_OFFERED) {
            let ended = LeasesEnded { offers: some.to_vec(), attempt: Attempt::DoesNotCount };
            if let Err(refusal) = self.propose_each(partition, ended, None, "").await {
                tracing::debug!(reason = refusal.reason.code(), "offers are not given back; their leases will end");
            }
        }
    }

    /// Of these messages those whose bodies there is a key for.
    async fn with_keys(&self, partition: Partition, places: Vec<Place>) -> Vec<Place> {
        let mut known: BTreeMap<u64, bool> = BTreeMap::new();
        let mut with_keys = Vec::with_capacity(places.len());
        for place in places {
            let has_key = match known.get(&place.offset) {
                Some(has_key) => *has_key,
                None => self.has_key(partition, place.offset).await,
            };
            known.insert(place.offset, has_key);
            with_keys.extend(has_key.then_some(place));
        }
        with_keys
    }

    async fn has_key(&self, partition: Partition, offset: u64) -> bool {
        let Some(header) = self.header_at(partition, offset).await else { return false };
        let Some(body) = &header.body else { return true };
        match self.keys.key(&body.key).await {
            Ok(_) => true,
            Err(cause) => {
                tracing::warn!(%cause, "messages wait, because they can not be opened");
                false
            }
        }
    }

    /// Of these messages those that their recipient may be given.
    pub(crate) fn granted(&self, recipient: &PartnerId, partition: Partition, places: Vec<Place>) -> Vec<Place> {
        let mut judged: BTreeMap<u64, bool> = BTreeMap::new();
        let mut granted = |place: &Place| {
            *judged.entry(place.offset).or_insert_with(|| {
                let terms =
                    self.folds.with_message(partition, *place, |batch, _| (batch.sender.clone(), batch.terms.clone()));
                terms.is_some_and(|(sender, terms)| self.may_be_given(recipient, &sender, &terms))
            })
        };
        places.into_iter().filter(|place| granted(place)).collect()
    }

    /// Whether the recipient may still be given the message: it is active, and its contract grants the receiving.
    pub(crate) fn may_be_given(&self, recipient: &PartnerId, sender: &PartnerId, terms: &Terms) -> bool {
        if planted!(PushedWithoutRight) {
            return true;
        }
        let registry = self.folds.registry();
        let (Some(recipient), Some(sender)) = (registry.current(recipient), registry.get(sender)) else { return false };
        let catalogue = self.catalogue.load();
        let Some(definition) = catalogue.types().find(&terms.message_type) else { return false };
        delivery::may_receive(definition, &sender.partner, recipient.partner(), &terms.purpose, &terms.legal_basis)
    }
}

/// A delivery ready to be pushed; none when it can not be read.
fn delivery(
    partition: Partition,
    offer: Offer,
    until: Timestamp,
    known: AsOffered,
    messages: &[Bytes],
) -> Option<Ready> {
    let item_offered = if planted!(OthersBodyPushed) { 0 } else { offer.place.item };
    let body = messages.get(usize::try_from(item_offered).ok()?)?;
    let message = <v1::SendRequest as prost::Message>::decode(body.clone()).ok()?;
    let position = Position { partition, offset: offer.place.offset };
    let delivery = v1::Delivery {
        delivery_id: airut_wire::delivery_id(partition, offer),
        attempt: i32::try_from(offer.number).unwrap_or(i32::MAX),
        lease_expire_time: Some(airut_wire::timestamp(until)),
        sender: known.sender.to_string(),
        accept_time: Some(airut_wire::timestamp(known.at)),
        position: airut_domain::partition::format_place(position, Some(offer.place.item)),
        redriven: known.redriven,
        message: Some(message),
    };
    let AsOffered { sender, terms, at: accepted, .. } = known;
    Some(Ready { partition, offer, accepted, until, sender, terms, delivery })
}

/// The partitions in which messages lie.
pub(crate) fn partitions() -> impl Iterator<Item = Partition> + Clone {
    (0..Topic::Messages.partitions()).map(|number| Partition { topic: Topic::Messages, number })
}

/// Which of several a message is for, a partner's streams or the gateways: by rendezvous hashing, so that they share the work and
/// every gateway chooses alike.
pub(crate) struct Shares {
    own: u64,
    others: Vec<u64>,
}

impl Shares {
    pub(crate) fn new<'a>(own: &str, all: impl Iterator<Item = &'a str>) -> Self {
        let hash = |name: &str| {
            let digest = Digest::of(name.as_bytes());
            u64::from_be_bytes(*digest.0.first_chunk().expect("32 bytes"))
        };
        Self { own: hash(own), others: all.filter(|name| *name != own).map(hash).collect() }
    }

    pub(crate) fn is_own(&self, partition: Partition, place: Place) -> bool {
        let message = u64::from(partition.number) << 58 ^ u64::from(place.item) << 48 ^ place.offset;
        let weight = |stream: u64| mixed(stream ^ mixed(message));
        let own = weight(self.own);
        self.others.iter().all(|other| weight(*other) < own)
    }
}

/// Which messages are a stream's to offer: each is for one of the streams that take its type, as far as is known of them.
pub(crate) struct StreamShares {
    own: StreamId,
    streams: Vec<StreamOpened>,
    by_type: BTreeMap<MessageType, Shares>,
}

impl StreamShares {
    pub(crate) const fn new(own: StreamId, streams: Vec<StreamOpened>) -> Self {
        Self { own, streams, by_type: BTreeMap::new() }
    }

    pub(crate) fn is_own(&mut self, partition: Partition, place: Place, message_type: &MessageType) -> bool {
        if let Some(shares) = self.by_type.get(message_type) {
            return shares.is_own(partition, place);
        }
        let taking = self.streams.iter().filter(|opened| opened.types.take(message_type));
        let shares = Shares::new(self.own.as_str(), taking.map(|opened| opened.stream.as_str()));
        self.by_type.entry(message_type.clone()).or_insert(shares).is_own(partition, place)
    }
}

/// Spreads the bits of a number over all 64 (the finaliser of SplitMix64).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
