//! `DeliveryService.Settle`, `Extend` and `Transfer`: what a recipient says of its deliveries, at any gateway.
//!
//! Each is a record before it is answered, and what it came to is for the fold to say: the first settlement of a delivery counts.

use std::collections::BTreeMap;

use airut_domain::{
    delivery,
    id::PartnerId,
    mailbox::Void,
    message::{Extended, Offer, Outcome, Settled, Settlement, Transferred},
    message_type::Service,
    partition::Partition,
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
    time::Timestamp,
};
use airut_wire::{log_v1, v1};
use prost::Message;
use tokio::sync::oneshot;

use crate::{gateway::Gateway, lanes::Lane, planted::planted};

/// As many deliveries may be spoken of at once.
pub(crate) const MOST_AT_ONCE: usize = 1000;

/// The settlements of one partner that lie in one partition.
pub(crate) type SettleLane = (Partition, PartnerId);

/// A settlement, and what it says for people.
type Said = (Settlement, String);

/// Settlements that came together and wait for their record.
#[derive(Debug)]
pub(crate) struct Settling {
    settlements: Vec<Said>,
    traceparent: String,
    reply: oneshot::Sender<Vec<Ended>>,
}

/// What became of one settlement: how its delivery ended, or why it does not count, and how the delivery was settled before.
type Ended = Result<Outcome, (Refusal, Option<Outcome>)>;

impl Gateway {
    /// Settles deliveries: one result for each, in their order.
    ///
    /// When the future is dropped they may or may not be settled.
    pub(crate) async fn settle(
        &self,
        recipient: &PartnerId,
        settlements: Vec<v1::Settlement>,
        traceparent: &str,
    ) -> Vec<v1::SettlementResult> {
        let ids: Vec<String> = settlements.iter().map(|settlement| settlement.delivery_id.clone()).collect();
        let mut results: Vec<Ended> = Vec::with_capacity(ids.len());
        let mut partitions: BTreeMap<Partition, (Vec<usize>, Vec<Said>)> = BTreeMap::new();
        for (index, settlement) in settlements.into_iter().enumerate() {
            match airut_wire::settlement(settlement) {
                Ok((partition, settlement, text)) => {
                    let (indexes, settlements) = partitions.entry(partition).or_default();
                    indexes.push(index);
                    settlements.push((settlement, text));
                    // Until it is known.
                    results.push(Err((Refusal::new(Reason::OutcomeUnknown), None)));
                }
                Err(refusal) => results.push(Err((refusal, None))),
            }
        }
        let mut waiting = Vec::with_capacity(partitions.len());
        for (partition, (indexes, settlements)) in partitions {
            let (reply, told) = oneshot::channel();
            let lane = (partition, recipient.clone());
            let settling = Settling { settlements, traceparent: traceparent.to_owned(), reply };
            if self.settling.push(&lane, [settling]) == Lane::Idle {
                let gateway = self.clone();
                self.spawn(self.calls.track_future(async move { gateway.drive_settling(lane).await }));
            }
            waiting.push((indexes, told));
        }
        for (indexes, told) in waiting {
            for (index, result) in indexes.into_iter().zip(told.await.unwrap_or_default()) {
                let unrecorded = result.as_ref().is_err_and(|(refusal, _)| refusal.retry_after.is_some());
                let presumed = unrecorded && planted!(SettledUnrecorded);
                results[index] = if presumed { Ok(Outcome::Accepted) } else { result };
            }
        }
        ids.into_iter().zip(results).map(|(id, result)| settlement_result(id, result)).collect()
    }

    /// Records what waits in a lane, one record after the other, until nothing does.
    async fn drive_settling(&self, lane: SettleLane) {
        // Whoever waits for the outcome is told that it is unknown.
        let mut driver = self.settling.drive(&lane, drop);
        loop {
            let _turn = driver.turn().await;
            let mut items = 0;
            let turn = driver.take(|settling| {
                items += settling.settlements.len();
                items <= MOST_AT_ONCE
            });
            if turn.is_empty() {
                return;
            }
            self.record_settlements(&lane, turn).await;
        }
    }

    async fn record_settlements(&self, (partition, recipient): &SettleLane, turn: Vec<Settling>) {
        let traceparent = turn.first().map(|settling| settling.traceparent.clone()).unwrap_or_default();
        let (mut settlements, mut texts, mut replies) = (Vec::new(), Vec::new(), Vec::with_capacity(turn.len()));
        for settling in turn {
            replies.push((settling.settlements.len(), settling.reply));
            for (settlement, text) in settling.settlements {
                settlements.push(settlement);
                texts.push(text);
            }
        }
        let traceparent = if planted!(TextInTheOpen) { texts.join(" ") } else { traceparent };
        let said = texts.iter().any(|text| !text.is_empty());
        let body = said.then(|| log_v1::SettlementTexts { texts }.encode_to_vec());
        let settled = Settled { recipient: recipient.clone(), settlements };
        let results: Vec<Ended> = match self.propose_each(*partition, settled, body.as_deref(), &traceparent).await {
            Err(refusal) => {
                let all = replies.iter().map(|(count, _)| count).sum();
                std::iter::repeat_with(|| Err((refusal.clone(), None))).take(all).collect()
            }
            Ok(decided) => {
                let settlements = decided.command.settlements.into_iter().zip(decided.items);
                settlements.map(|(settlement, item)| ended(settlement.outcome, item.map(drop))).collect()
            }
        };
        let mut results = results.into_iter();
        for (count, reply) in replies {
            // Whoever has left may settle again: it is told the same.
            drop(reply.send(results.by_ref().take(count).collect()));
        }
    }

    /// Extends the leases of deliveries: one result for each, in their order.
    pub(crate) async fn extend(
        &self,
        recipient: &PartnerId,
        delivery_ids: Vec<String>,
        lease: std::time::Duration,
        traceparent: &str,
    ) -> Vec<v1::ExtensionResult> {
        let mut results: Vec<Result<Timestamp, Refusal>> = Vec::with_capacity(delivery_ids.len());
        let mut partitions: BTreeMap<Partition, (Vec<usize>, Vec<Offer>)> = BTreeMap::new();
        for (index, id) in delivery_ids.iter().enumerate() {
            if let Some((partition, offer)) = airut_wire::delivery_from(id) {
                let (indexes, offers) = partitions.entry(partition).or_default();
                indexes.push(index);
                offers.push(offer);
            }
            results.push(Err(no_delivery()));
        }
        for (partition, (indexes, offers)) in partitions {
            if planted!(ExtendedUnrecorded) {
                indexes.into_iter().for_each(|index| results[index] = Ok(self.world.now() + lease));
                continue;
            }
            let extended = Extended { recipient: recipient.clone(), lease, offers };
            match self.propose_each(partition, extended, None, traceparent).await {
                Err(refusal) => indexes.into_iter().for_each(|index| results[index] = Err(refusal.clone())),
                Ok(decided) => {
                    for (index, item) in indexes.into_iter().zip(decided.items) {
                        results[index] = item.map(|item| item.stamp() + lease).map_err(|void| refusal(&void));
                    }
                }
            }
        }
        let result = |(delivery_id, result): (String, Result<Timestamp, Refusal>)| match result {
            Ok(until) => v1::ExtensionResult {
                delivery_id,
                lease_expire_time: Some(airut_wire::timestamp(until)),
                refusal: None,
            },
            Err(refusal) => v1::ExtensionResult {
                delivery_id,
                lease_expire_time: None,
                refusal: Some(airut_wire::refusal(&refusal)),
            },
        };
        delivery_ids.into_iter().zip(results).map(result).collect()
    }

    /// Passes a delivery on to the recipient it should have gone to, within the contracts of both.
    pub(crate) async fn transfer(
        &self,
        caller: &VerifiedPartner,
        request: v1::TransferRequest,
        traceparent: &str,
    ) -> Result<v1::TransferResponse, Refusal> {
        let (partition, offer) = airut_wire::delivery_from(&request.delivery_id).ok_or_else(no_delivery)?;
        let to = airut_wire::partner_id("recipient", &request.recipient)?;
        let context = airut_wire::context(request.context.as_ref())?;
        let registry = self.folds.registry();
        let found = self.folds.with_message(partition, offer.place, |batch, message| {
            let theirs = batch.recipient_of(message) == caller.id();
            theirs.then(|| (batch.sender.clone(), batch.terms.clone()))
        });
        let Some(Some((sender, terms))) = found else { return Err(Refusal::new(Reason::NotFound)) };
        let catalogue = self.catalogue.load();
        let definition = catalogue.types().find(&terms.message_type);
        // What a claim check names is for its recipient alone.
        if definition.is_some_and(|definition| definition.service == Service::Documents) {
            let fault = "must not be that of a document's claim check: a document is for one recipient".to_owned();
            return Err(Refusal::fields(vec![Violation { field: "delivery_id".into(), fault }]));
        }
        let (sender, recipient) = (registry.get(&sender), registry.get(&to));
        let granted = match (definition, sender, recipient) {
            (Some(definition), Some(sender), Some(recipient)) if to != *caller.id() => delivery::may_receive(
                definition,
                &sender.partner,
                &recipient.partner,
                &terms.purpose,
                &terms.legal_basis,
            ),
            _ => false,
        };
        if !granted {
            return Err(Refusal::new(Reason::NoContract));
        }
        let transferred = Transferred {
            from: caller.id().clone(),
            to,
            contract_version: caller.version(),
            end_user: self.ring.end_user(context.end_user.as_str()),
            offers: vec![offer],
        };
        let decided = self.propose_each(partition, transferred, None, traceparent).await?;
        match decided.items.into_iter().next() {
            Some(Err(void)) => Err(refusal(&void)),
            Some(Ok(_)) | None => Ok(v1::TransferResponse {}),
        }
    }
}

/// What became of a settlement. The same one again is as good as the first.
fn ended(outcome: Outcome, item: Result<(), Void>) -> Ended {
    match item {
        Ok(()) => {
            let name = match outcome {
                Outcome::Accepted => "accepted",
                Outcome::Returned(_) => "returned",
                Outcome::Rejected(_) => "rejected",
            };
            metrics::counter!("airut_settled_total", "outcome" => name).increment(1);
            Ok(outcome)
        }
        Err(Void::Settled(before)) if airut_wire::outcome(&before) == airut_wire::outcome(&outcome) => Ok(before),
        Err(Void::Settled(_)) if planted!(SettledAnew) => Ok(outcome),
        Err(Void::Settled(before)) => Err((Refusal::new(Reason::SettledOtherwise), Some(before))),
        Err(void) => Err((refusal(&void), None)),
    }
}

/// What to tell a recipient of an offer for which something does not count. Whether a message is somebody else's shows nowhere.
fn refusal(void: &Void) -> Refusal {
    match void {
        Void::Unknown | Void::NotTheirs => Refusal::new(Reason::NotFound),
        Void::Settled(_) => Refusal::new(Reason::SettledOtherwise),
        Void::LeaseLost => Refusal::new(Reason::LeaseLost),
        Void::Repeat(_)
        | Void::IdReused(_)
        | Void::NotWaiting
        | Void::OutOfOrder
        | Void::Expired
        | Void::TooEarly
        | Void::NotDead => Refusal::new(Reason::OutcomeUnknown),
    }
}

fn no_delivery() -> Refusal {
    let fault = "must be that of a delivery".to_owned();
    Refusal::fields(vec![Violation { field: "delivery_id".into(), fault }])
}

fn settlement_result(delivery_id: String, result: Ended) -> v1::SettlementResult {
    let (outcome, refusal) = match result {
        Ok(outcome) => (Some(outcome), None),
        Err((refusal, before)) => (before, Some(airut_wire::refusal(&refusal))),
    };
    v1::SettlementResult { delivery_id, outcome: outcome.as_ref().map_or(0, airut_wire::outcome), refusal }
}
