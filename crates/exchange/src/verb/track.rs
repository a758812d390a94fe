//! `DeliveryService.Track`, `ListDeadLetters` and `Redrive`: what became of a message, for both of its parties.

use airut_domain::{
    id::{MessageId, PartnerId},
    mailbox::{Batch, Message, Phase, Step, StepKind, Void, Why},
    message::{DEAD_KEPT, LONGEST, Offer, Place, Redriven},
    partition::{Partition, Position, parse_place},
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
};
use airut_wire::{
    log_v1,
    v1::{self, track_response as t},
};
use prost::Message as _;

use super::collect::few;
use crate::{gateway::Gateway, planted::planted};

/// The page sizes of dead letters.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

impl Gateway {
    /// What has happened to a message, for its sender, its recipient, and whoever had it before it was passed on.
    pub(crate) async fn track(
        &self,
        caller: &VerifiedPartner,
        request: v1::TrackRequest,
    ) -> Result<v1::TrackResponse, Refusal> {
        let (sender, id) = whose(caller, &request.sender, &request.message_id)?;
        let found = self.folds.tracked(&sender, &id).map_err(unread)?;
        let (partition, place, batch) = found.ok_or(Refusal::new(Reason::NotFound))?;
        let message = batch.message(place.item).ok_or(Refusal::new(Reason::NotFound))?;
        if !is_party(caller.id(), &batch, message) {
            return Err(Refusal::new(Reason::NotFound));
        }
        let accepted = Position { partition, offset: place.offset };
        let mut steps = vec![t::Step {
            kind: t::Kind::Accepted.into(),
            time: Some(airut_wire::timestamp(batch.at)),
            position: accepted.to_string(),
            ..t::Step::default()
        }];
        for step in &message.steps {
            steps.push(self.step(partition, place, step).await);
        }
        Ok(v1::TrackResponse {
            message_id: id.to_string(),
            sender: sender.to_string(),
            recipient: batch.recipient_of(message).to_string(),
            message_type: batch.terms.message_type.to_string(),
            state: state(&message.phase).into(),
            steps,
        })
    }

    async fn step(&self, partition: Partition, place: Place, step: &Step) -> t::Step {
        let (kind, code) = match &step.kind {
            StepKind::Offered => (t::Kind::Offered, String::new()),
            StepKind::Delivered => (t::Kind::Delivered, String::new()),
            StepKind::Returned => (t::Kind::Returned, String::new()),
            StepKind::Rejected(code) => (t::Kind::Rejected, code.to_string()),
            StepKind::LeaseEnded => (t::Kind::LeaseEnded, String::new()),
            StepKind::Expired => (t::Kind::Expired, String::new()),
            StepKind::Transferred(to) => (t::Kind::Transferred, to.to_string()),
            StepKind::Redriven(by) => (t::Kind::Redriven, by.to_string()),
        };
        let rejected = matches!(step.kind, StepKind::Rejected(_));
        let text = if rejected {
            self.said(partition, Offer { place, number: step.offer }, step.offset).await
        } else {
            String::new()
        };
        t::Step {
            kind: kind.into(),
            time: Some(airut_wire::timestamp(step.at)),
            position: Position { partition, offset: step.offset }.to_string(),
            attempt: i32::try_from(step.offer).unwrap_or(i32::MAX),
            code,
            text,
        }
    }

    /// What the recipient said of its rejection, which is sealed in its record; empty when it is gone.
    async fn said(&self, partition: Partition, offer: Offer, offset: u64) -> String {
        let Some((stored, header)) = self.read_record(partition, offset).await else { return String::new() };
        let airut_domain::record::Kind::Message(airut_domain::message::Event::Settled(settled)) = &header.kind else {
            return String::new();
        };
        // Of this offer: the record may settle earlier ones of the message as well, which does not count.
        let Some(index) = settled.settlements.iter().position(|settlement| settlement.offer == offer) else {
            return String::new();
        };
        let body = self.writer.open_body(&stored, &header).await.unwrap_or_default();
        let texts = log_v1::SettlementTexts::decode(body.as_slice()).unwrap_or_default().texts;
        texts.into_iter().nth(index).unwrap_or_default()
    }

    /// Messages that were not delivered, for both of their parties.
    pub(crate) async fn list_dead_letters(
        &self,
        caller: &VerifiedPartner,
        request: v1::ListDeadLettersRequest,
    ) -> Result<v1::ListDeadLettersResponse, Refusal> {
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) if size <= LARGEST_PAGE => size,
            Ok(_) | Err(_) => return Err(field("page_size", "must be 0 to 1000")),
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => match parse_place(token) {
                Some((Position { partition, offset }, Some(item))) => Some((partition, Place { offset, item })),
                Some(_) | None => return Err(field("page_token", "must be that of an earlier page")),
            },
        };
        let found = self.folds.dead_letters(caller.id(), after, size);
        let full = found.len() >= size;
        let last = found.last().filter(|_| full).map(|(partition, place)| {
            let position = Position { partition: *partition, offset: place.offset };
            airut_domain::partition::format_place(position, Some(place.item))
        });
        let mut dead_letters = Vec::with_capacity(found.len());
        for (partition, place) in found {
            dead_letters.extend(self.dead_letter(partition, place).await);
        }
        Ok(v1::ListDeadLettersResponse { dead_letters, next_page_token: last.unwrap_or_default() })
    }

    /// A dead letter as both of its parties see it; none when it is none any more.
    pub(crate) async fn dead_letter(&self, partition: Partition, place: Place) -> Option<v1::DeadLetter> {
        let (mut letter, rejected) = self.folds.with_message(partition, place, |batch, message| {
            let Phase::Dead { why, at } = &message.phase else { return None };
            let code = match why {
                Why::Rejected(code) => code.to_string(),
                Why::AttemptsExhausted => "ATTEMPTS_EXHAUSTED".to_owned(),
                Why::Expired => "EXPIRED".to_owned(),
            };
            let rejected = message.steps.iter().rev().find(|step| matches!(step.kind, StepKind::Rejected(_)));
            let letter = v1::DeadLetter {
                message_id: message.id.to_string(),
                sender: batch.sender.to_string(),
                recipient: batch.recipient_of(message).to_string(),
                message_type: batch.terms.message_type.to_string(),
                code,
                text: String::new(),
                dead_time: Some(airut_wire::timestamp(*at)),
                attempts: i32::try_from(message.attempts).unwrap_or(i32::MAX),
                purge_time: Some(airut_wire::timestamp(message.dead_until(batch.at))),
            };
            let rejected = matches!(why, Why::Rejected(_)).then(|| rejected.map(|step| (step.offer, step.offset)));
            let rejected = rejected.flatten();
            Some((letter, rejected))
        })??;
        if let Some((number, offset)) = rejected {
            letter.text = self.said(partition, Offer { place, number }, offset).await;
        }
        Some(letter)
    }

    /// Has dead letters delivered once more: one result for each, in their order.
    pub(crate) async fn redrive(
        &self,
        caller: &VerifiedPartner,
        request: v1::RedriveRequest,
        traceparent: &str,
    ) -> Result<v1::RedriveResponse, Refusal> {
        few("message_ids", request.message_ids.len())?;
        let mut results = Vec::with_capacity(request.message_ids.len());
        for message_id in request.message_ids {
            let refusal = self.redrive_one(caller, &request.sender, &message_id, traceparent).await.err();
            results
                .push(v1::redrive_response::Result { message_id, refusal: refusal.as_ref().map(airut_wire::refusal) });
        }
        Ok(v1::RedriveResponse { results })
    }

    async fn redrive_one(
        &self,
        caller: &VerifiedPartner,
        sender: &str,
        message_id: &str,
        traceparent: &str,
    ) -> Result<(), Refusal> {
        let (sender, id) = whose(caller, sender, message_id)?;
        let found = self.folds.tracked(&sender, &id).map_err(unread)?;
        let (partition, place, batch) = found.ok_or(Refusal::new(Reason::NotFound))?;
        let message = batch.message(place.item).ok_or(Refusal::new(Reason::NotFound))?;
        if !is_party(caller.id(), &batch, message) {
            return Err(Refusal::new(Reason::NotFound));
        }
        let catalogue = self.catalogue.load();
        let lifetime = catalogue.types().find(&batch.terms.message_type).map_or(LONGEST, |known| known.lifetime());
        let (now, latest) = (self.world.now(), batch.at + DEAD_KEPT);
        // Every message ends within 21 days; a dead letter may be kept a while longer, to be seen.
        if now >= latest {
            return Err(Refusal::new(Reason::NotADeadLetter));
        }
        let expires = (now + lifetime).min(latest);
        if planted!(RedrivenUnrecorded) {
            return Ok(());
        }
        let redriven = Redriven { by: caller.id().clone(), messages: vec![place], expires };
        let decided = self.propose_each(partition, redriven, None, traceparent).await?;
        match decided.items.into_iter().next() {
            Some(Err(Void::NotDead)) => Err(Refusal::new(Reason::NotADeadLetter)),
            Some(Err(Void::Unknown | Void::NotTheirs)) => Err(Refusal::new(Reason::NotFound)),
            Some(Err(_)) => Err(Refusal::new(Reason::OutcomeUnknown)),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

fn whose(caller: &VerifiedPartner, sender: &str, message_id: &str) -> Result<(PartnerId, MessageId), Refusal> {
    let sender = if sender.is_empty() { caller.id().clone() } else { airut_wire::partner_id("sender", sender)? };
    let id = message_id.parse().map_err(|fault: airut_domain::id::Invalid| field("message_id", &fault.to_string()))?;
    Ok((sender, id))
}

fn is_party(partner: &PartnerId, batch: &Batch, message: &Message) -> bool {
    batch.sender == *partner || batch.recipient == *partner || batch.recipient_of(message) == partner
}

const fn state(phase: &Phase) -> v1::MessageState {
    match phase {
        Phase::Waiting { .. } => v1::MessageState::Waiting,
        Phase::Offered { .. } => v1::MessageState::Offered,
        Phase::Delivered { .. } => v1::MessageState::Delivered,
        Phase::Dead { .. } => v1::MessageState::Dead,
    }
}

fn unread(cause: crate::StoreError) -> Refusal {
    tracing::error!(%cause, "the fold can not be read");
    Refusal::new(Reason::NotServing)
}

fn field(name: &'static str, fault: &str) -> Refusal {
    Refusal::fields(vec![Violation { field: name.into(), fault: fault.to_owned() }])
}
