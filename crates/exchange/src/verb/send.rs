//! `DeliveryService.Send` and `SendStream`: judge, record, receipt.
//!
//! The page beside it is docs/life-of-a-message.md. Messages of one sender that lie in one partition are recorded in the order in
//! which they came, those that come while a record is under way together in the next one. A message that could not be recorded
//! for sure holds up those that follow it in its stream with the same ordering key, until it is sent again.

use std::{collections::BTreeMap, sync::Arc};

use airut_domain::{
    delivery::{self, Cleared, Submission},
    id::{MessageId, PartnerId},
    keys::{Digest, commitment},
    mailbox::{Known, Void},
    message::{Accepted, Item, OrderKey, Terms},
    partition::{Partition, Position, Topic},
    receipt::Statement,
    record::Kind,
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
    time::Timestamp,
};
use airut_log::KeyRing;
use airut_telemetry::span;
use airut_wire::{log_v1, v1};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::turns::{Broken, Turn};
use crate::{
    fold::{AcceptedItem, Decided},
    gateway::Gateway,
    lanes::Lane,
    planted::planted,
    quotas::InFlight,
};

/// As many messages go into one record at the most, and as many bytes of them.
const MOST_MESSAGES: usize = 512;
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// A message to be sent.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Who calls.
    pub(crate) caller: VerifiedPartner,
    /// What they send.
    pub(crate) request: v1::SendRequest,
    /// W3C trace context of the call; empty when it is not traced.
    pub(crate) traceparent: String,
}

/// What became of a message.
pub(crate) type Outcome = Result<v1::Receipt, Refusal>;

/// Where the outcome goes.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// To a call of its own.
    Call(oneshot::Sender<Outcome>),
    /// To a stream, which has room for it.
    Stream(mpsc::OwnedPermit<(String, Outcome)>),
}

/// The messages of one sender that lie in one partition.
pub(crate) type SendLane = (Partition, PartnerId);

/// A judged message that waits for its record.
#[derive(Debug)]
pub(crate) struct Waiting {
    recipient: PartnerId,
    terms: Arc<Terms>,
    item: Item,
    salt: [u8; 16],
    payload_sha256: Digest,
    body: Vec<u8>,
    traceparent: String,
    /// Its turn in its stream; none when it came alone.
    turn: Option<Turn>,
    reply: ReplyTo,
    /// Its place among the messages of its sender that are under way.
    _in_flight: InFlight,
}

/// Messages that go into one record.
struct Group {
    recipient: PartnerId,
    terms: Arc<Terms>,
    messages: Vec<Waiting>,
}

impl Waiting {
    fn reply(self, outcome: Outcome) {
        let failed = outcome.as_ref().is_err_and(|refusal| refusal.retry_after.is_some());
        if let (Some(turn), true) = (&self.turn, failed) {
            turn.fail(self.item.order, &self.item.id);
        }
        self.reply.send(self.item.id.to_string(), outcome);
    }
}

impl ReplyTo {
    fn send(self, id: String, outcome: Outcome) {
        match self {
            // Whoever has left needs no outcome; it is on record.
            Self::Call(reply) => drop(reply.send(outcome)),
            Self::Stream(permit) => drop(permit.send((id, outcome))),
        }
    }
}

impl Gateway {
    /// Judges a message and has it recorded. The outcome goes to `reply` once it is on record; what comes of the message does not
    /// depend on anybody waiting for it. Messages are recorded in the order of these calls, as far as order is promised. Returns why
    /// it was refused, if it was at once.
    pub(crate) async fn send(
        &self,
        sending: Sending,
        broken: Option<Arc<Broken>>,
        reply: ReplyTo,
        method: &'static str,
    ) -> Option<Reason> {
        let turn = broken.map(Turn::take);
        let early = Early::of(&sending, &self.ring);
        let (caller, traceparent) = (sending.caller.clone(), sending.traceparent.clone());
        // A repeat is as good as the first, whatever has become of its time or of the right to send it.
        let admitted = match self.read_message(&sending) {
            Err(refusal) => Err(refusal),
            Ok((read, Some((position, known)))) => {
                let outcome = self.receipt_again(position, known, caller.id(), &read).await;
                early.reply(turn.as_ref(), reply, outcome);
                return None;
            }
            Ok((read, None)) => self.judge_message(sending, read).and_then(|judged| {
                let stored = || self.folds.sent(&judged.sender);
                let in_flight = self.quotas.admit(&caller, judged.item.size_bytes, self.world.now(), stored)?;
                Ok((judged, in_flight))
            }),
        };
        let (judged, in_flight) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let refusal = self.reception.refuse(caller.id(), method, refusal).await;
                let reason = refusal.reason;
                early.reply(turn.as_ref(), reply, Err(refusal));
                return Some(reason);
            }
        };
        self.put_in_lane(judged, turn, reply, traceparent, in_flight);
        None
    }

    /// Sends a message that the exchange made on the sender's behalf, if the contracts of both parties grant it; otherwise
    /// nothing is sent and nothing recorded.
    pub(crate) async fn send_on_behalf(&self, caller: VerifiedPartner, request: v1::SendRequest) -> Option<Outcome> {
        let sending = Sending { caller, request, traceparent: String::new() };
        let (read, known) = self.read_message(&sending).ok()?;
        if known.is_some() {
            return None;
        }
        let judged = self.judge_on_behalf(sending, read).ok()?;
        let (reply, told) = oneshot::channel();
        self.put_in_lane(judged, None, ReplyTo::Call(reply), String::new(), InFlight::uncounted());
        Some(told.await.unwrap_or(Err(Refusal::new(Reason::OutcomeUnknown))))
    }

    /// What comes of the message does not depend on anybody waiting for it.
    fn put_in_lane(
        &self,
        judged: Judged,
        turn: Option<Turn>,
        reply: ReplyTo,
        traceparent: String,
        in_flight: InFlight,
    ) {
        let Judged { sender, partition, recipient, terms, item, salt, payload_sha256, body } = judged;
        let lane = (partition, sender);
        let waiting = Waiting {
            recipient,
            terms,
            item,
            salt,
            payload_sha256,
            body,
            traceparent,
            turn,
            reply,
            _in_flight: in_flight,
        };
        if self.sending.push(&lane, [waiting]) == Lane::Idle {
            let gateway = self.clone();
            self.spawn(self.calls.track_future(async move { gateway.drive_sending(lane).await }));
        }
    }

    /// Reads a message, and finds out whether its id was used before: by the same message, or by another one.
    fn read_message(&self, sending: &Sending) -> Result<(Read, Option<(Partition, Known)>), Refusal> {
        let submission = airut_wire::submission(&sending.request)?;
        let payload_sha256 = Digest::of(&sending.request.payload);
        let fingerprint = self.ring.fingerprint(&fingerprint_text(&submission, payload_sha256));
        let known = self.folds.known_message(sending.caller.id(), &submission.message_id).map_err(|cause| {
            tracing::error!(%cause, "the fold can not be read");
            Refusal::new(Reason::NotServing)
        })?;
        if known.is_some_and(|(_, known)| known.fingerprint != fingerprint) && !planted!(ReceiptForReusedId) {
            return Err(Refusal::new(Reason::MessageIdReused));
        }
        Ok((Read { submission, payload_sha256, fingerprint }, known))
    }

    fn judge_message(&self, sending: Sending, read: Read) -> Result<Judged, Refusal> {
        let _span = span::judge(&sending.traceparent);
        let Sending { caller, request, .. } = sending;
        let now = self.world.now();
        let catalogue = self.catalogue.load();
        let cleared = delivery::judge(&caller, &self.folds.registry(), catalogue.types(), &read.submission, now)?;
        catalogue.check(cleared.definition(), &read.submission.content_type, &request.payload)?;
        self.described(&cleared, read, request.encode_to_vec(), now)
    }

    fn judge_on_behalf(&self, sending: Sending, read: Read) -> Result<Judged, Refusal> {
        let Sending { caller, request, .. } = sending;
        let now = self.world.now();
        let catalogue = self.catalogue.load();
        let registry = self.folds.registry();
        let cleared = delivery::judge_on_behalf(&caller, &registry, catalogue.types(), &read.submission, now)?;
        self.described(&cleared, read, request.encode_to_vec(), now)
    }

    /// All that a message's record says of it.
    fn described(&self, cleared: &Cleared, read: Read, body: Vec<u8>, now: Timestamp) -> Result<Judged, Refusal> {
        let Read { submission, payload_sha256, fingerprint } = read;
        let (sender, recipient) = (cleared.sender().clone(), submission.recipient.clone());
        let context = &submission.context;
        let mut terms = cleared.terms().clone();
        let subject = match &submission.subject {
            None => None,
            Some(subject) => {
                let (subject, key) = self.ring.subject(subject, now.date().year()).map_err(|cause| {
                    tracing::error!(%cause, "the key ring must be renewed");
                    Refusal::new(Reason::NotServing)
                })?;
                terms.subject_key = Some(key);
                Some(subject)
            }
        };
        let order = submission.ordering_key.as_ref();
        let order = order.map(|key| self.ring.ordering(sender.as_str(), recipient.as_str(), key.as_str()));
        let id = submission.message_id.clone();
        let salt = self.ring.commitment_salt(&salt_parts(&sender, &id, &fingerprint));
        let partition = match &order {
            Some(order) => self.ring.partition_of(Topic::Messages, &[recipient.as_str().as_bytes(), &order.0]),
            None => self.ring.partition_of(Topic::Messages, &[sender.as_str().as_bytes(), id.as_str().as_bytes()]),
        };
        let item = Item {
            id,
            fingerprint,
            commitment: commitment(&salt, payload_sha256),
            subject,
            end_user: self.ring.end_user(context.end_user.as_str()),
            case: self.ring.case(context.case_id.as_str()),
            order,
            expires: cleared.expires(),
            size_bytes: u32::try_from(submission.size_bytes).unwrap_or(u32::MAX),
        };
        Ok(Judged { sender, partition, recipient, terms: Arc::new(terms), item, salt, payload_sha256, body })
    }

    /// Records what waits in a lane, one record after the other, until nothing does.
    async fn drive_sending(&self, lane: SendLane) {
        let mut driver = self.sending.drive(&lane, |waiting| waiting.reply(Err(Refusal::new(Reason::OutcomeUnknown))));
        loop {
            let _turn = driver.turn().await;
            let (mut messages, mut bytes) = (0, 0);
            let turn = driver.take(|waiting| {
                messages += 1;
                bytes += waiting.body.len();
                messages <= MOST_MESSAGES && bytes <= MOST_BYTES
            });
            if turn.is_empty() {
                return;
            }
            let turn = turn.into_iter().filter_map(|waiting| {
                let held_up = waiting.turn.as_ref().is_some_and(|turn| turn.is_held_up(&waiting.item));
                if held_up {
                    waiting.reply.send(waiting.item.id.to_string(), Err(Refusal::new(Reason::PredecessorFailed)));
                    return None;
                }
                Some(waiting)
            });
            let (groups, later) = grouped(turn);
            driver.put_back(later);
            let records = groups.into_iter().map(|group| self.record_messages(&lane, group));
            futures::future::join_all(records).await;
        }
    }

    /// Records messages together, and gives each its receipt, or what was found against it.
    async fn record_messages(&self, (partition, sender): &SendLane, mut group: Group) {
        let accepted = Accepted {
            sender: sender.clone(),
            recipient: group.recipient.clone(),
            terms: Terms::clone(&group.terms),
            items: group.messages.iter().map(|waiting| waiting.item.clone()).collect(),
        };
        let messages = group.messages.iter_mut().map(|waiting| std::mem::take(&mut waiting.body).into()).collect();
        let body = log_v1::MessageBodies { messages }.encode_to_vec();
        let traceparent = group.messages.first().map(|waiting| waiting.traceparent.clone()).unwrap_or_default();
        match self.propose_each(*partition, accepted, Some(&body), &traceparent).await {
            Ok(decided) => self.give_receipts(*partition, sender, group.messages, decided).await,
            Err(refusal) => group.messages.into_iter().for_each(|waiting| waiting.reply(Err(refusal.clone()))),
        }
    }

    async fn give_receipts(
        &self,
        partition: Partition,
        sender: &PartnerId,
        messages: Vec<Waiting>,
        decided: Decided<Accepted>,
    ) {
        let mut accepted = Vec::with_capacity(messages.len());
        for (waiting, item) in messages.into_iter().zip(decided.items) {
            match item {
                Ok(item) => accepted.push((waiting, item)),
                Err(Void::Repeat(known)) => {
                    let parts = salt_parts(sender, &waiting.item.id, &waiting.item.fingerprint);
                    let salt = self.recorded_salt(partition, known, &parts, waiting.payload_sha256).await;
                    let outcome = match salt {
                        Ok(salt) => {
                            let (id, recipient) = (&waiting.item.id, &waiting.recipient);
                            self.sign_again(partition, known, id, recipient, waiting.payload_sha256, salt).await
                        }
                        Err(refusal) => Err(refusal),
                    };
                    waiting.reply(outcome);
                }
                Err(Void::IdReused(_)) => {
                    // Its record says so.
                    waiting.reply(Err(Refusal::new(Reason::MessageIdReused)));
                }
                Err(void) => {
                    tracing::error!(?void, "a message that can not be void is");
                    waiting.reply(Err(Refusal::new(Reason::OutcomeUnknown)));
                }
            }
        }
        let statements = accepted.iter().map(|(waiting, item)| (statement(waiting, *item), waiting.salt)).collect();
        let Some(receipts) = self.signer.sign_each(statements).await else {
            let unknown = Refusal::new(Reason::OutcomeUnknown);
            return accepted.into_iter().for_each(|(waiting, _)| waiting.reply(Err(unknown.clone())));
        };
        for ((waiting, _), receipt) in accepted.into_iter().zip(receipts) {
            waiting.reply(Ok(airut_wire::receipt(&receipt)));
        }
    }

    /// The receipt of a message that was accepted before: it says the same.
    async fn receipt_again(&self, partition: Partition, known: Known, sender: &PartnerId, read: &Read) -> Outcome {
        let Read { submission, payload_sha256, fingerprint } = read;
        let parts = salt_parts(sender, &submission.message_id, fingerprint);
        let salt = match self.recorded_salt(partition, known, &parts, *payload_sha256).await {
            Err(_) if planted!(ReceiptForReusedId) => self.ring.commitment_salt(&parts),
            salt => salt?,
        };
        self.sign_again(partition, known, &submission.message_id, &submission.recipient, *payload_sha256, salt).await
    }

    async fn sign_again(
        &self,
        partition: Partition,
        known: Known,
        id: &MessageId,
        recipient: &PartnerId,
        payload_sha256: Digest,
        salt: [u8; 16],
    ) -> Outcome {
        let statement = Statement {
            id: id.to_string(),
            recipient: recipient.clone(),
            payload_sha256,
            accept_time: if planted!(RepeatsReceiptIsNew) { self.world.now() } else { known.at },
            position: Position { partition, offset: known.place.offset },
            item: Some(known.place.item),
        };
        let receipt = self.signer.sign(statement, salt).await.ok_or(Refusal::new(Reason::NotServing))?;
        Ok(airut_wire::receipt(&receipt))
    }

    /// The salt that the recorded commitment was made with, whichever key was active then.
    async fn recorded_salt(
        &self,
        partition: Partition,
        known: Known,
        parts: &[&[u8]],
        payload_sha256: Digest,
    ) -> Result<[u8; 16], Refusal> {
        let header = self.header_at(partition, known.place.offset).await.ok_or(Refusal::new(Reason::LogUnavailable))?;
        let recorded = match &header.kind {
            Kind::Message(airut_domain::message::Event::Accepted(accepted)) => {
                let item = usize::try_from(known.place.item).ok().and_then(|place| accepted.items.get(place));
                item.map(|item| item.commitment)
            }
            Kind::Message(_)
            | Kind::Query(_)
            | Kind::Document(_)
            | Kind::Request(_)
            | Kind::Refusal(_)
            | Kind::Partner(_)
            | Kind::Member(_)
            | Kind::Order(_) => None,
        };
        recorded.and_then(|recorded| self.ring.salt_of(recorded, payload_sha256, parts)).ok_or_else(|| {
            tracing::error!(%partition, offset = known.place.offset, "a message is not what its record commits to");
            Refusal::new(Reason::NotServing)
        })
    }
}

/// What is known of a message before it is judged: enough to say what its outcome means to those after it.
struct Early {
    id: String,
    order: Option<OrderKey>,
}

impl Early {
    fn of(sending: &Sending, ring: &KeyRing) -> Self {
        let request = &sending.request;
        let key = Some(request.ordering_key.as_str()).filter(|key| !key.is_empty());
        let order = key.map(|key| ring.ordering(sending.caller.id().as_str(), &request.recipient, key));
        Self { id: request.message_id.clone(), order }
    }

    /// The outcome of a message that does not come to its lane.
    fn reply(self, turn: Option<&Turn>, reply: ReplyTo, outcome: Outcome) {
        if let (Some(turn), Ok(id)) = (turn, self.id.parse()) {
            match &outcome {
                Err(refusal) if refusal.retry_after.is_some() => turn.fail(self.order, &id),
                Ok(_) | Err(_) => turn.mend(&id),
            }
        }
        reply.send(self.id, outcome);
    }
}

/// A message as it was read.
struct Read {
    submission: Submission,
    payload_sha256: Digest,
    /// Keyed digest of content and context.
    fingerprint: Digest,
}

/// A message that may be sent, with all that its record says of it.
struct Judged {
    sender: PartnerId,
    partition: Partition,
    recipient: PartnerId,
    terms: Arc<Terms>,
    item: Item,
    salt: [u8; 16],
    payload_sha256: Digest,
    body: Vec<u8>,
}

/// Messages by the record that they go into, and those that must wait for the next: a record has one recipient and one kind of
/// terms, and two records that are written at once keep no order, so a key's messages are all in one of them.
fn grouped(messages: impl Iterator<Item = Waiting>) -> (Vec<Group>, Vec<Waiting>) {
    let (mut groups, mut later) = (Vec::<Group>::new(), Vec::new());
    let mut taken: BTreeMap<OrderKey, Option<usize>> = BTreeMap::new();
    for waiting in messages {
        let fits = |group: &Group| group.recipient == waiting.recipient && group.terms == waiting.terms;
        let found = groups.iter().position(fits);
        if let Some(order) = waiting.item.order {
            let next = groups.len();
            let group = taken.entry(order).or_insert(Some(found.unwrap_or(next)));
            if planted!(KeyInTwoRecords) {
                *group = Some(found.unwrap_or(next));
            }
            if group.is_none() || *group != Some(found.unwrap_or(next)) {
                *group = None;
                later.push(waiting);
                continue;
            }
        }
        match found {
            Some(found) => groups[found].messages.push(waiting),
            None => groups.push(Group {
                recipient: waiting.recipient.clone(),
                terms: Arc::clone(&waiting.terms),
                messages: vec![waiting],
            }),
        }
    }
    (groups, later)
}

fn statement(waiting: &Waiting, item: AcceptedItem) -> Statement {
    Statement {
        id: waiting.item.id.to_string(),
        recipient: waiting.recipient.clone(),
        payload_sha256: waiting.payload_sha256,
        accept_time: item.stamp(),
        position: item.position(),
        item: Some(item.item()),
    }
}

/// Everything that makes two messages the same, in one unambiguous text. Personal data: keyed before it is kept.
fn fingerprint_text(submission: &Submission, payload_sha256: Digest) -> Vec<u8> {
    let context = &submission.context;
    let expires = submission.expires.map(|expires| expires.as_millis().to_string()).unwrap_or_default();
    let payload = payload_sha256.to_string();
    let parts = [
        submission.recipient.as_str(),
        submission.message_type.as_str(),
        submission.ordering_key.as_ref().map_or("", |key| key.as_str()),
        submission.subject.as_ref().map_or("", |subject| subject.as_str()),
        context.end_user.as_str(),
        context.end_user_role.as_str(),
        context.purpose.as_str(),
        context.legal_basis.as_str(),
        context.case_id.as_str(),
        submission.content_type.as_str(),
        &payload,
        &expires,
    ];
    // None of the parts can contain a control character, so a NUL separates them without doubt.
    parts.join("\0").into_bytes()
}

/// What the salt of the commitment to a message's payload is made from: the same for every receipt of it.
fn salt_parts<'a>(sender: &'a PartnerId, id: &'a MessageId, fingerprint: &'a Digest) -> [&'a [u8]; 3] {
    [sender.as_str().as_bytes(), id.as_str().as_bytes(), &fingerprint.0]
}
