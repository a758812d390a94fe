//! The stored form of the records of `airut.messages`.

use std::time::Duration;

use airut_domain::{
    message::{
        Accepted, Attempt, Event, Expired, Extended, Item, LeasesEnded, MOST_ITEMS, Offer, Offered, OnDead, OrderKey,
        Outcome, Place, Redriven, Settled, Settlement, Terms, Transferred,
    },
    time::Timestamp,
};

use super::{PbKind, Unreadable, digest, optional, optional_digest, parse};
use crate::log_v1 as pb;

/// An event for its record.
pub(super) fn event(event: &Event) -> PbKind {
    match event {
        Event::Accepted(accepted) => PbKind::MessagesAccepted(self::accepted(accepted)),
        Event::Offered(offered) => PbKind::MessagesOffered(pb::MessagesOffered {
            recipient: offered.recipient.to_string(),
            stream: offered.stream.to_string(),
            lease_ms: millis(offered.lease),
            messages: places(&offered.messages),
        }),
        Event::Extended(extended) => PbKind::LeasesExtended(pb::LeasesExtended {
            recipient: extended.recipient.to_string(),
            lease_ms: millis(extended.lease),
            offers: offers(&extended.offers),
        }),
        Event::Settled(settled) => PbKind::MessagesSettled(pb::MessagesSettled {
            recipient: settled.recipient.to_string(),
            settlements: settled.settlements.iter().map(settlement).collect(),
        }),
        Event::LeasesEnded(ended) => PbKind::LeasesEnded(pb::LeasesEnded {
            offers: offers(&ended.offers),
            counts: ended.attempt == Attempt::Counts,
        }),
        Event::Expired(expired) => PbKind::MessagesExpired(pb::MessagesExpired { messages: places(&expired.messages) }),
        Event::Transferred(transferred) => PbKind::MessagesTransferred(pb::MessagesTransferred {
            from: transferred.from.to_string(),
            to: transferred.to.to_string(),
            contract_version: transferred.contract_version,
            end_user: transferred.end_user.0.to_vec(),
            offers: offers(&transferred.offers),
        }),
        Event::Redriven(redriven) => PbKind::MessagesRedriven(pb::MessagesRedriven {
            by: redriven.by.to_string(),
            messages: places(&redriven.messages),
            expire_ms: redriven.expires.as_millis(),
        }),
    }
}

fn accepted(accepted: &Accepted) -> pb::MessagesAccepted {
    let Terms { message_type, purpose, legal_basis, contract_version, subject_key, attempts, back_off, on_dead } =
        &accepted.terms;
    pb::MessagesAccepted {
        sender: accepted.sender.to_string(),
        recipient: accepted.recipient.to_string(),
        message_type: message_type.to_string(),
        purpose: purpose.to_string(),
        legal_basis: legal_basis.to_string(),
        contract_version: *contract_version,
        subject_key: subject_key.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempts: *attempts,
        back_off_ms: millis(*back_off),
        blocks: *on_dead == OnDead::Blocks,
        items: accepted.items.iter().map(item).collect(),
    }
}

fn item(item: &Item) -> pb::messages_accepted::Item {
    pb::messages_accepted::Item {
        message_id: item.id.to_string(),
        fingerprint: item.fingerprint.0.to_vec(),
        commitment: item.commitment.0.to_vec(),
        subject: item.subject.map(|subject| subject.0.to_vec()).unwrap_or_default(),
        end_user: item.end_user.0.to_vec(),
        case: item.case.0.to_vec(),
        order: item.order.map(|order| order.0.to_vec()).unwrap_or_default(),
        expire_ms: item.expires.as_millis(),
        size_bytes: item.size_bytes,
    }
}

fn settlement(settlement: &Settlement) -> pb::messages_settled::Settlement {
    use pb::messages_settled::Outcome as PbOutcome;
    let (outcome, delay_ms, code) = match &settlement.outcome {
        Outcome::Accepted => (PbOutcome::Accepted, 0, String::new()),
        Outcome::Returned(delay) => (PbOutcome::Returned, delay.map_or(0, millis), String::new()),
        Outcome::Rejected(code) => (PbOutcome::Rejected, 0, code.to_string()),
    };
    pb::messages_settled::Settlement { offer: Some(offer(&settlement.offer)), outcome: outcome.into(), delay_ms, code }
}

fn places(places: &[Place]) -> Vec<pb::Offer> {
    places.iter().map(|place| offer(&Offer { place: *place, number: 0 })).collect()
}

fn offers(offers: &[Offer]) -> Vec<pb::Offer> {
    offers.iter().map(offer).collect()
}

const fn offer(offer: &Offer) -> pb::Offer {
    pb::Offer { offset: offer.place.offset, item: offer.place.item, number: offer.number }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Reads what a record says of messages.
pub(super) fn accepted_from(accepted: pb::MessagesAccepted) -> Result<Event, Unreadable> {
    bounded(accepted.items.len())?;
    let terms = Terms {
        message_type: parse(&accepted.message_type, "message_type")?,
        purpose: parse(&accepted.purpose, "purpose")?,
        legal_basis: parse(&accepted.legal_basis, "legal_basis")?,
        contract_version: accepted.contract_version,
        subject_key: optional(&accepted.subject_key, "subject_key")?,
        attempts: accepted.attempts,
        back_off: Duration::from_millis(accepted.back_off_ms),
        on_dead: if accepted.blocks { OnDead::Blocks } else { OnDead::Frees },
    };
    Ok(Event::Accepted(Accepted {
        sender: parse(&accepted.sender, "sender")?,
        recipient: parse(&accepted.recipient, "recipient")?,
        terms,
        items: accepted.items.iter().map(item_from).collect::<Result<_, _>>()?,
    }))
}

fn item_from(item: &pb::messages_accepted::Item) -> Result<Item, Unreadable> {
    let order = match item.order.as_slice() {
        [] => None,
        bytes => Some(OrderKey(bytes.try_into().map_err(|_| Unreadable::Field("order"))?)),
    };
    Ok(Item {
        id: parse(&item.message_id, "message_id")?,
        fingerprint: digest(&item.fingerprint, "fingerprint")?,
        commitment: digest(&item.commitment, "commitment")?,
        subject: optional_digest(&item.subject, "subject")?,
        end_user: digest(&item.end_user, "end_user")?,
        case: digest(&item.case, "case")?,
        order,
        expires: Timestamp::from_millis(item.expire_ms),
        size_bytes: item.size_bytes,
    })
}

pub(super) fn offered_from(offered: pb::MessagesOffered) -> Result<Event, Unreadable> {
    Ok(Event::Offered(Offered {
        recipient: parse(&offered.recipient, "recipient")?,
        stream: parse(&offered.stream, "stream")?,
        lease: Duration::from_millis(offered.lease_ms),
        messages: places_from(&offered.messages)?,
    }))
}

pub(super) fn extended_from(extended: pb::LeasesExtended) -> Result<Event, Unreadable> {
    Ok(Event::Extended(Extended {
        recipient: parse(&extended.recipient, "recipient")?,
        lease: Duration::from_millis(extended.lease_ms),
        offers: offers_from(&extended.offers)?,
    }))
}

pub(super) fn settled_from(settled: pb::MessagesSettled) -> Result<Event, Unreadable> {
    bounded(settled.settlements.len())?;
    Ok(Event::Settled(Settled {
        recipient: parse(&settled.recipient, "recipient")?,
        settlements: settled.settlements.into_iter().map(settlement_from).collect::<Result<_, _>>()?,
    }))
}

fn settlement_from(settlement: pb::messages_settled::Settlement) -> Result<Settlement, Unreadable> {
    use pb::messages_settled::Outcome as PbOutcome;
    let outcome = match PbOutcome::try_from(settlement.outcome).unwrap_or(PbOutcome::Unspecified) {
        PbOutcome::Unspecified => return Err(Unreadable::Field("outcome")),
        PbOutcome::Accepted => Outcome::Accepted,
        PbOutcome::Returned => {
            Outcome::Returned((settlement.delay_ms > 0).then(|| Duration::from_millis(settlement.delay_ms)))
        }
        PbOutcome::Rejected => Outcome::Rejected(settlement.code.parse().map_err(|_| Unreadable::Field("code"))?),
    };
    Ok(Settlement { offer: offer_from(&settlement.offer.ok_or(Unreadable::Field("offer"))?), outcome })
}

pub(super) fn leases_ended_from(ended: pb::LeasesEnded) -> Result<Event, Unreadable> {
    let attempt = if ended.counts { Attempt::Counts } else { Attempt::DoesNotCount };
    Ok(Event::LeasesEnded(LeasesEnded { offers: offers_from(&ended.offers)?, attempt }))
}

pub(super) fn expired_from(expired: pb::MessagesExpired) -> Result<Event, Unreadable> {
    Ok(Event::Expired(Expired { messages: places_from(&expired.messages)? }))
}

pub(super) fn transferred_from(transferred: pb::MessagesTransferred) -> Result<Event, Unreadable> {
    Ok(Event::Transferred(Transferred {
        from: parse(&transferred.from, "from")?,
        to: parse(&transferred.to, "to")?,
        contract_version: transferred.contract_version,
        end_user: digest(&transferred.end_user, "end_user")?,
        offers: offers_from(&transferred.offers)?,
    }))
}

pub(super) fn redriven_from(redriven: pb::MessagesRedriven) -> Result<Event, Unreadable> {
    Ok(Event::Redriven(Redriven {
        by: parse(&redriven.by, "by")?,
        messages: places_from(&redriven.messages)?,
        expires: Timestamp::from_millis(redriven.expire_ms),
    }))
}

const fn offer_from(offer: &pb::Offer) -> Offer {
    Offer { place: Place { offset: offer.offset, item: offer.item }, number: offer.number }
}

fn offers_from(offers: &[pb::Offer]) -> Result<Vec<Offer>, Unreadable> {
    bounded(offers.len())?;
    Ok(offers.iter().map(offer_from).collect())
}

fn places_from(places: &[pb::Offer]) -> Result<Vec<Place>, Unreadable> {
    offers_from(places).map(|offers| offers.into_iter().map(|offer| offer.place).collect())
}

fn bounded(items: usize) -> Result<(), Unreadable> {
    if items > MOST_ITEMS { Err(Unreadable::Field("items")) } else { Ok(()) }
}
