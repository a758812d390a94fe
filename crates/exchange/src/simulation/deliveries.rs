//! What the exchange promises of messages, by rules of this file's own and a model that reads the log.
//!
//! - A receipt is for a message that is on record as accepted, and verifies; every repeat's receipt states the same.
//! - What is pushed is on record as offered to that stream, and is that message to the byte; it is pushed by a registry read
//!   lately, within a right that was in force at some time of the last ten seconds, with a higher attempt number than before.
//! - It is pushed no more once an acceptance of it was confirmed to anybody, nor while it is another collector's. A collector has
//!   at most as many as its credit, and is pushed only what it said it takes.
//! - Whatever is told of a settlement, an extension, a transfer or a redrive is what the records say.
//! - Of one ordering key the messages are taken in in the order of their acceptance, and those of one stream are accepted in the
//!   order in which they were sent. A dead letter is passed over, or waited for, as its type says.
//! - In the end each is delivered, a dead letter that both parties see with what was said of it, or kept back by one.
//! - Of each dead letter its sender is told by one notice, where both parties had the right to it from then on; of nothing else.
//! - What a recipient says of a rejection is in no header.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use airut_domain::{
    delivery::{Direction, Right},
    keys::{Digest, commitment},
    mailbox::{Phase, Void},
    merkle,
    message::{Event, Offer, OnDead, OrderKey, Outcome, Place},
    partition::{Partition, Position, format_place},
    partner::{Partner, State},
    receipt::{Statement, signed_bytes},
    record::{Header, Kind, Stored},
    time::Timestamp,
};
use airut_log::{Positions, Writer};
use airut_wire::{log_v1, v1};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message as _;

use super::{
    model::{Message, Model},
    promises::{Deeds, GRACE_MS, shows_identity},
    run::{Life, Weather},
};
use crate::support::{Ground, opened, receipt_key};

/// What every text of a rejection begins with.
pub(super) const TEXT: &str = "lives elsewhere";

/// The type of the notices of dead letters.
const NOTICE: &str = "dead-letter-notice";

/// Where nothing goes wrong, whoever leaves has nothing any more after this.
const GIVEN_BACK: Duration = Duration::from_secs(4);

/// What is over by itself has ended after this.
const SWEPT: Duration = Duration::from_secs(8);

/// Gateways that do not know of each other yet offer in vain now and then; nobody does so over and over.
const MOST_IN_VAIN: u64 = 600;

/// A message's place in the log.
type At = (Partition, Place);

pub(super) struct Deliveries {
    ground: Ground,
    weather: Weather,
    reader: Writer,
    broken: Vec<String>,
    deeds: Deeds,
    count: u64,
    read: BTreeMap<Partition, u64>,
    models: BTreeMap<Partition, Model>,
    /// What was accepted, with the commitment to it.
    sent: BTreeMap<At, (v1::SendRequest, Digest)>,
    keys: BTreeMap<At, OrderKey>,
    /// What was sent or offered in vain: which item, to which stream, and why it does not count.
    void: BTreeMap<(At, Option<String>), Void>,
    /// Messages that others of their key need not wait for: passed on, or dead letters at some time.
    left_order: BTreeSet<At>,
    /// Dead letters: the record that made each of them one, and when.
    died: BTreeMap<At, (u64, Timestamp)>,
    /// The ids of notices that there may be.
    notices: BTreeSet<String>,
    receipts: BTreeMap<String, Statement>,
    /// Settlements that counted.
    settled: BTreeMap<(Partition, Offer), Outcome>,
    /// What was said of the rejection that counted last.
    texts: BTreeMap<At, String>,
    redriven: BTreeMap<At, Counted>,
    transferred: BTreeMap<At, Counted>,
    confirmed: BTreeSet<At>,
    pushed: BTreeMap<At, u32>,
    /// What each stream was pushed.
    held: BTreeMap<String, BTreeSet<(Partition, Offer)>>,
    left: Vec<(String, Timestamp)>,
    definitions: BTreeMap<String, Vec<(Timestamp, Partner)>>,
    /// The ids of each key of a stream of messages, in the order in which they were sent.
    streamed: BTreeMap<String, Vec<String>>,
}

/// How often something is on record, and how often somebody was told so.
#[derive(Default)]
struct Counted {
    recorded: u64,
    told: u64,
}

/// A delivery as a collector got it.
pub(super) struct Pushed<'a> {
    pub(super) life: &'a Life,
    pub(super) partner: &'a str,
    /// The stream; none for a pull.
    pub(super) stream: Option<&'a str>,
    /// What its collector takes; everything when there is none.
    pub(super) types: &'a [String],
    pub(super) credit: usize,
    /// Whether it has just been pushed; otherwise it has waited for a slow reader.
    pub(super) fresh: bool,
    pub(super) delivery: &'a v1::Delivery,
}

impl Deliveries {
    pub(super) fn new(ground: Ground, weather: Weather) -> Self {
        Self {
            weather,
            reader: ground.writer("reader"),
            ground,
            broken: Vec::new(),
            deeds: Deeds::new(),
            count: 0,
            read: BTreeMap::new(),
            models: BTreeMap::new(),
            sent: BTreeMap::new(),
            keys: BTreeMap::new(),
            void: BTreeMap::new(),
            left_order: BTreeSet::new(),
            died: BTreeMap::new(),
            notices: BTreeSet::new(),
            receipts: BTreeMap::new(),
            settled: BTreeMap::new(),
            texts: BTreeMap::new(),
            redriven: BTreeMap::new(),
            transferred: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            pushed: BTreeMap::new(),
            held: BTreeMap::new(),
            left: Vec::new(),
            definitions: BTreeMap::new(),
            streamed: BTreeMap::new(),
        }
    }

    pub(super) fn broken(&mut self, how: impl fmt::Display) {
        let now = self.ground.now();
        self.broken.push(format!("{now}: {how}"));
    }

    pub(super) fn done(&mut self, what: impl Into<String>) {
        *self.deeds.entry(what.into()).or_default() += 1;
    }

    pub(super) fn deeds(&self) -> &Deeds {
        &self.deeds
    }

    pub(super) fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// Reads what has come into the log.
    pub(super) fn read(&mut self) {
        let count = self.ground.log().stats().records;
        if std::mem::replace(&mut self.count, count) == count {
            return;
        }
        let mut records = self.ground.simulation.records();
        records.retain(|stored| {
            let next = self.read.entry(stored.position.partition).or_default();
            let is_new = stored.position.offset == *next;
            *next += u64::from(is_new);
            is_new
        });
        records.iter().for_each(|stored| self.read_record(stored));
        if self.weather == Weather::Fair {
            self.check_left();
        }
    }

    fn read_record(&mut self, stored: &Stored) {
        if shows_identity(stored) {
            self.broken(format_args!("{} shows an identity code", stored.position));
        }
        let shows = |bytes: &[u8]| bytes.windows(TEXT.len()).any(|window| window == TEXT.as_bytes());
        if shows(&stored.header) || shows(&stored.body) || shows(stored.traceparent.as_bytes()) {
            self.broken(format_args!("{} shows what was said of a rejection", stored.position));
        }
        let Ok(header) = airut_wire::record::decode(&stored.header) else {
            return self.broken(format_args!("{} can not be read", stored.position));
        };
        match &header.kind {
            Kind::Message(event) => self.read_message(stored, &header, event),
            Kind::Partner(applied) => {
                self.done("right changed");
                let versions = self.definitions.entry(applied.partner.id.to_string()).or_default();
                if versions.len() + 1 == usize::try_from(applied.version).unwrap() {
                    versions.push((stored.stamp, applied.partner.clone()));
                }
            }
            Kind::Member(airut_domain::member::Event::StreamClosed(stream)) => {
                self.left.push((stream.to_string(), stored.stamp));
            }
            Kind::Refusal(refused) => self.done(format!("refused ({})", refused.reason)),
            Kind::Query(_) | Kind::Document(_) | Kind::Request(_) | Kind::Member(_) | Kind::Order(_) => {}
        }
    }

    fn read_message(&mut self, stored: &Stored, header: &Header, event: &Event) {
        let Position { partition, offset } = stored.position;
        let said = self.models.entry(partition).or_default().apply(offset, stored.stamp, &header.author, event);
        let body = opened(&self.reader, stored, header).unwrap_or_default();
        let counted: Vec<usize> = (0..said.len()).filter(|index| said[*index].is_ok()).collect();
        let kind = header.kind.name();
        for verdict in &said {
            self.done(match verdict {
                Ok(_) => kind.to_owned(),
                Err(void) => format!("{kind}: void ({})", name(void)),
            });
        }
        match event {
            Event::Accepted(accepted) => {
                for (item, void) in (0..).zip(&said).filter_map(|(item, said)| Some((item, said.as_ref().err()?))) {
                    self.void.insert(((partition, Place { offset, item }), None), void.clone());
                }
                let messages = log_v1::MessageBodies::decode(body.as_slice()).unwrap_or_default().messages;
                for index in counted {
                    let sent = messages.get(index).and_then(|body| v1::SendRequest::decode(body.clone()).ok());
                    let place = Place { offset, item: u32::try_from(index).unwrap() };
                    let item = &accepted.items[index];
                    self.sent.insert((partition, place), (sent.unwrap_or_default(), item.commitment));
                    self.keys.extend(item.order.map(|key| ((partition, place), key)));
                }
            }
            Event::Settled(settled) => {
                let texts = log_v1::SettlementTexts::decode(body.as_slice()).unwrap_or_default().texts;
                for index in counted {
                    let settlement = &settled.settlements[index];
                    let at = (partition, settlement.offer.place);
                    self.settled.insert((partition, settlement.offer), settlement.outcome.clone());
                    self.done(match settlement.outcome {
                        Outcome::Accepted => "taken in",
                        Outcome::Returned(_) => "returned",
                        Outcome::Rejected(_) => "rejected",
                    });
                    match settlement.outcome {
                        Outcome::Accepted => self.check_order(at),
                        Outcome::Rejected(_) => {
                            let text = texts.get(index).cloned().unwrap_or_default();
                            self.texts.insert(at, text);
                        }
                        Outcome::Returned(_) => {}
                    }
                }
            }
            Event::Transferred(transferred) => {
                for index in counted {
                    let at = (partition, transferred.offers[index].place);
                    self.transferred.entry(at).or_default().recorded += 1;
                }
            }
            Event::Redriven(redriven) => {
                for index in counted {
                    self.redriven.entry((partition, redriven.messages[index])).or_default().recorded += 1;
                }
            }
            Event::Offered(offered) => {
                for (place, said) in offered.messages.iter().zip(&said) {
                    let key = ((partition, *place), Some(offered.stream.to_string()));
                    match said {
                        Ok(_) => drop(self.void.remove(&key)),
                        Err(void) => drop(self.void.insert(key, void.clone())),
                    }
                }
            }
            Event::Extended(_) | Event::LeasesEnded(_) | Event::Expired(_) => {}
        }
        let out_of_the_way = |message: &&Message| {
            message.passed_on.is_some() || (message.is_dead() && message.terms.on_dead == OnDead::Frees)
        };
        let out_of_the_way = self.models[&partition].messages.iter().filter(out_of_the_way);
        self.left_order.extend(out_of_the_way.map(|message| (partition, message.place)));
        for message in &self.models[&partition].messages {
            let at = (partition, message.place);
            if message.is_dead() {
                let (died_in, _) = *self.died.entry(at).or_insert((offset, stored.stamp));
                self.notices.insert(notice(at, died_in));
            } else {
                self.died.remove(&at);
            }
        }
    }

    fn find(&self, (partition, place): At) -> Option<&Message> {
        self.models.get(&partition)?.find(place)
    }

    fn find_id(&self, id: &str) -> Vec<(At, &Message)> {
        let all = self.models.iter().flat_map(|(partition, model)| {
            model.messages.iter().map(move |message| ((*partition, message.place), message))
        });
        all.filter(|(_, message)| message.id.as_str() == id).collect()
    }

    /// A sender was given this receipt just now.
    pub(super) fn receipted(&mut self, incarnation: &str, request: &v1::SendRequest, receipt: &v1::Receipt) {
        self.read();
        if let Err(how) = self.check_receipt(incarnation, request, receipt) {
            self.broken(format_args!("{}: {how}", request.message_id));
        }
        self.done("receipt");
    }

    fn check_receipt(
        &mut self,
        incarnation: &str,
        request: &v1::SendRequest,
        receipt: &v1::Receipt,
    ) -> Result<(), String> {
        let receipt = airut_wire::receipt_from(receipt.clone()).map_err(|fault| fault.to_string())?;
        let statement = receipt.statement.clone();
        let leaf = merkle::leaf_hash(statement.to_text().as_bytes());
        let root = merkle::root_from_path(leaf, receipt.batch_index, receipt.batch_size, &receipt.batch_path);
        let signed = signed_bytes(root.ok_or("the receipt's path leads nowhere")?);
        if !has_signed(incarnation, &signed, &receipt.signature) {
            return Err("the receipt is not signed by its gateway".into());
        }
        let Position { partition, offset } = statement.position;
        let place = Place { offset, item: statement.item.ok_or("the receipt names no item")? };
        if let Some(void) = self.void.get(&((partition, place), None)) {
            return Err(format!("a receipt for what does not count ({})", name(void)));
        }
        let first = self.receipts.entry(request.message_id.clone()).or_insert_with(|| statement.clone());
        if *first != statement {
            return Err(format!("a repeat's receipt states something else: {statement:?}, not {first:?}"));
        }
        let message = self.find((partition, place)).ok_or("a receipt, and nothing is on record")?;
        let expected = Statement {
            id: message.id.to_string(),
            recipient: request.recipient.parse().unwrap(),
            payload_sha256: Digest::of(&request.payload),
            accept_time: message.accepted,
            position: statement.position,
            item: statement.item,
        };
        if statement != expected || message.id.as_str() != request.message_id {
            return Err("the receipt states something else than its record".into());
        }
        let (sent, committed) = self.sent.get(&(partition, place)).ok_or("a receipt for nothing")?;
        if sent != request {
            return Err("a receipt for something else than what is on record".into());
        }
        if *committed != commitment(&receipt.commitment_salt, statement.payload_sha256) {
            return Err("the receipt's salt does not open the record's commitment".into());
        }
        Ok(())
    }

    /// A sender was refused, to try again or for good, by a gateway that had read so far when it was asked.
    pub(super) fn refused(&mut self, request: &v1::SendRequest, reason: &str, again: bool, had_read: &Positions) {
        self.read();
        self.done(format!("not sent ({reason})"));
        let Some(statement) = self.receipts.get(&request.message_id).filter(|_| !again) else { return };
        let Position { partition, offset } = statement.position;
        let sent = self.sent.get(&(partition, Place { offset, item: statement.item.unwrap() }));
        // What it has not read yet it can not know.
        let knew = had_read.get(&partition).is_some_and(|next| *next > offset);
        if knew && sent.is_some_and(|(sent, _)| sent == request) {
            self.broken(format_args!("{}: has a receipt, and its repeat is refused ({reason})", request.message_id));
        }
    }

    /// A stream is about to carry this message, after those of its key that it has carried.
    pub(super) fn streams(&mut self, key: &str, id: &str) {
        self.streamed.entry(key.to_owned()).or_default().push(id.to_owned());
    }

    /// A collector got a delivery.
    pub(super) fn pushed(&mut self, pushed: &Pushed<'_>) {
        self.read();
        let delivery = pushed.delivery;
        if let Err(how) = self.check_pushed(pushed) {
            self.broken(format_args!("delivery {}: {how}", delivery.delivery_id));
        }
        self.done("pushed");
        if delivery.attempt > 1 {
            self.done("pushed again");
        }
        if delivery.redriven {
            self.done("pushed after it was redriven");
        }
    }

    fn check_pushed(&mut self, pushed: &Pushed<'_>) -> Result<(), String> {
        let Pushed { life, partner, stream, types, credit, fresh, delivery } = *pushed;
        let now = self.ground.now();
        let (partition, offer) = airut_wire::delivery_from(&delivery.delivery_id).ok_or("no delivery id")?;
        let at = (partition, offer.place);
        let message = self.find(at).ok_or("pushed, and nowhere on record")?.clone();
        let pull = format!("pull/{}/", life.incarnation);
        let is_its = |to: &str| stream.map_or_else(|| to.starts_with(&pull), |stream| to == stream);
        let given = usize::try_from(offer.number).unwrap().checked_sub(1).and_then(|index| message.offers.get(index));
        let counts = given.filter(|given| given.to.as_str() == partner && is_its(given.stream.as_str()));
        let Some(given) = counts else {
            let mut void =
                self.void.iter().filter(|((known, to), _)| *known == at && to.as_deref().is_some_and(is_its));
            return Err(match (void.next(), given) {
                (Some((_, void)), _) => format!("pushed, and its offer does not count ({})", name(void)),
                (None, Some(given)) => format!("pushed, and offered to {} by {}", given.to, given.stream),
                (None, None) => "pushed without an offer on record".into(),
            });
        };
        if self.sent.get(&at).map(|(sent, _)| sent) != delivery.message.as_ref() {
            return Err("another message was pushed than is on record".into());
        }
        let said = (delivery.attempt, delivery.sender.as_str(), delivery.position.clone());
        let position = Position { partition, offset: offer.place.offset };
        let expected =
            (offer.number.try_into().unwrap(), message.sender.as_str(), format_place(position, Some(offer.place.item)));
        if said != expected || delivery.accept_time != Some(airut_wire::timestamp(message.accepted)) {
            return Err("pushed with a wrong attempt, sender, time or position".into());
        }
        if !types.is_empty() && !types.iter().any(|name| name == message.terms.message_type.as_str()) {
            return Err("pushed to a collector that does not take its type".into());
        }
        if fresh && !life.gateway.folds().registry_is_current(life.gateway.world.now()) {
            return Err("pushed without having read the registry lately".into());
        }
        if fresh && !self.has_right(partner, &message, now) {
            return Err("pushed beyond the right".into());
        }
        if fresh && self.confirmed.contains(&at) {
            return Err("pushed after its acceptance was confirmed".into());
        }
        if fresh && message.latest() != offer.number {
            return Err("pushed while it is another collector's".into());
        }
        if self.pushed.insert(at, offer.number).is_some_and(|before| before >= offer.number) && fresh {
            return Err("pushed again without a higher attempt number".into());
        }
        let held = self.held.entry(given.stream.to_string()).or_default();
        held.insert((partition, offer));
        let models = &self.models;
        held.retain(|(partition, offer)| {
            let message = models.get(partition).and_then(|model| model.find(offer.place));
            message.is_some_and(|message| message.is_offered() && message.latest() == offer.number)
        });
        if held.len() > credit {
            return Err(format!("pushed beyond the credit of {credit}"));
        }
        Ok(())
    }

    /// Whether some definition that was in force lately lets the partner receive it.
    fn has_right(&self, partner: &str, message: &Message, now: Timestamp) -> bool {
        let Some(versions) = self.definitions.get(partner) else { return false };
        let ended = |version: usize| versions.get(version + 1).map(|(stamp, _)| stamp.as_millis());
        let lately = |version: usize| ended(version).is_none_or(|ended| ended >= now.as_millis() - GRACE_MS);
        versions.iter().enumerate().filter(|(version, _)| lately(*version)).any(|(_, (_, definition))| {
            definition.state == State::Active
                && definition.deliveries.iter().any(|right| {
                    right.direction == Direction::Receive && right.message_types.contains(&message.terms.message_type)
                })
        })
    }

    /// A recipient was told what became of its settlement of this delivery.
    pub(super) fn settlement_told(&mut self, asked: &[Outcome], result: &v1::SettlementResult) {
        self.read();
        let Some((partition, offer)) = airut_wire::delivery_from(&result.delivery_id) else { return };
        let recorded = self.settled.get(&(partition, offer)).cloned();
        let reason = result.refusal.as_ref().map(|refusal| refusal.reason.as_str());
        self.done(format!("told of a settlement ({})", reason.unwrap_or("it counts")));
        let same =
            |told: &Outcome| recorded.as_ref().is_some_and(|r| airut_wire::outcome(r) == airut_wire::outcome(told));
        let told_right = match reason {
            None => asked.iter().any(|asked| same(asked) && result.outcome == airut_wire::outcome(asked)),
            Some("SETTLED_OTHERWISE") => recorded.as_ref().is_some_and(|r| airut_wire::outcome(r) == result.outcome),
            // A lost lease, or what has yet to be tried again: it can not have been taken in for good by this.
            Some("LEASE_LOST" | "NOT_FOUND") => !same(&Outcome::Accepted),
            Some(_) => true,
        };
        if !told_right {
            let id = &result.delivery_id;
            self.broken(format_args!("settlement of {id}: told {reason:?} {}, on record {recorded:?}", result.outcome));
        }
        if result.outcome == airut_wire::outcome(&Outcome::Accepted) {
            self.confirmed.insert((partition, offer.place));
        }
    }

    /// A recipient was told until when its lease runs now.
    pub(super) fn extension_told(&mut self, result: &v1::ExtensionResult) {
        self.read();
        let (Some(until), Some((partition, offer))) =
            (&result.lease_expire_time, airut_wire::delivery_from(&result.delivery_id))
        else {
            return self.done("told of an extension (refused)");
        };
        self.done("told of an extension");
        let told = until.seconds * 1000 + i64::from(until.nanos / 1_000_000);
        let runs_shorter = self.find((partition, offer.place)).is_some_and(|message| {
            let until = match message.phase {
                Phase::Offered { until, .. } if message.latest() == offer.number => until,
                _ => return false,
            };
            until.as_millis() < told
        });
        if runs_shorter {
            self.broken(format_args!("{}: told of an extension that is not on record", result.delivery_id));
        }
    }

    /// A recipient was told that it has passed the delivery on.
    pub(super) fn transfer_told(&mut self, delivery_id: &str) {
        self.read();
        let Some((partition, offer)) = airut_wire::delivery_from(delivery_id) else { return };
        let counted = self.transferred.entry((partition, offer.place)).or_default();
        counted.told += 1;
        if counted.told > counted.recorded {
            self.broken(format_args!("{delivery_id}: told of a transfer that is not on record"));
        }
    }

    /// Somebody was told that the dead letter is delivered once more.
    pub(super) fn redrive_told(&mut self, id: &str) {
        self.read();
        let at: Vec<At> = self.find_id(id).into_iter().map(|(at, _)| at).collect();
        let mut recorded = 0;
        let mut told = 1;
        for at in &at {
            let counted = self.redriven.entry(*at).or_default();
            recorded += counted.recorded;
            told += counted.told;
        }
        if let Some(first) = at.first() {
            self.redriven.entry(*first).or_default().told += 1;
        }
        if told > recorded {
            self.broken(format_args!("{id}: told of a redrive that is not on record"));
        }
    }

    /// What must hold when everything has ended.
    pub(super) fn at_the_end(&mut self) {
        self.read();
        let now = self.ground.now();
        let mut broken = Vec::new();
        let in_vain: u64 =
            self.deeds.iter().filter(|(deed, _)| deed.starts_with("messages offered: ")).map(|(_, n)| n).sum();
        if in_vain > MOST_IN_VAIN {
            broken.push(format!("{in_vain} offers do not count"));
        }
        for id in self.receipts.keys() {
            if self.find_id(id).is_empty() {
                broken.push(format!("{id}: has a receipt, and is lost"));
            }
        }
        for (partition, model) in &self.models {
            for message in &model.messages {
                let id = &message.id;
                match message.phase {
                    Phase::Delivered { .. } | Phase::Dead { .. } => {}
                    Phase::Offered { until, .. } => {
                        if until + SWEPT < now {
                            broken.push(format!("{id}: its lease never ended"));
                        }
                    }
                    Phase::Waiting { .. } if message.expires + SWEPT < now => {
                        broken.push(format!("{id}: its time is over, and it still waits"));
                    }
                    Phase::Waiting { .. } if model.is_first(message) => {
                        let at = format_place(
                            Position { partition: *partition, offset: message.place.offset },
                            Some(message.place.item),
                        );
                        broken.push(format!("{id} at {at}: waits, and nobody is given it"));
                    }
                    Phase::Waiting { .. } => {}
                }
            }
        }
        broken.extend(self.sent_out_of_order());
        broken.extend(self.told_wrongly(now));
        broken.into_iter().for_each(|how| self.broken(how));
    }

    /// A message was taken in: those before it in its key have been, or are out of its way.
    fn check_order(&mut self, at: At) {
        let Some(key) = self.keys.get(&at).filter(|_| !self.left_order.contains(&at)) else { return };
        let earlier = self.models[&at.0].messages.iter().filter(|message| message.place < at.1);
        let mut waiting = earlier.filter(|message| {
            let other = (at.0, message.place);
            self.keys.get(&other) == Some(key) && !self.left_order.contains(&other) && !message.is_delivered()
        });
        if let Some(other) = waiting.next().map(|message| message.id.clone()) {
            self.broken(format_args!("{at:?} was taken in before {other}, which is earlier in its key"));
        }
    }

    /// Messages of a stream that were accepted before an earlier one of their key.
    fn sent_out_of_order(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for ids in self.streamed.values() {
            let mut last: Option<(At, &str)> = None;
            for id in ids {
                let Some((at, _)) = self.find_id(id).into_iter().next() else { continue };
                if let Some((before, other)) = last.filter(|(before, _)| *before > at) {
                    broken.push(format!(
                        "{id} was accepted at {at:?}, before {other} at {before:?}, which was sent earlier"
                    ));
                }
                last = Some((at, id));
            }
        }
        broken
    }

    /// Dead letters that their senders were not told of, and notices that should not be.
    fn told_wrongly(&self, now: Timestamp) -> Vec<String> {
        let mut broken = Vec::new();
        let is_notice = |message: &Message| message.terms.message_type.as_str() == NOTICE;
        for (at, (offset, died)) in &self.died {
            let Some(message) = self.find(*at).filter(|message| !is_notice(message)) else { continue };
            let had_right = self.had_right_since(message.recipient.as_str(), Direction::Send, *died)
                && self.had_right_since(message.sender.as_str(), Direction::Receive, *died);
            if had_right && *died + 2 * SWEPT < now && self.find_id(&notice(*at, *offset)).is_empty() {
                broken.push(format!("{}: is a dead letter, and its sender is not told", message.id));
            }
        }
        for message in self.models.values().flat_map(|model| &model.messages).filter(|message| is_notice(message)) {
            if !self.notices.contains(message.id.as_str()) {
                broken.push(format!("{}: a notice of nothing", message.id));
            }
        }
        broken
    }

    /// Whether the partner has had the right to notices since then, and for as long before as anybody may go by what was: for long
    /// enough to tell of it where nothing goes wrong, and else ever since.
    fn had_right_since(&self, partner: &str, direction: Direction, since: Timestamp) -> bool {
        let Some(versions) = self.definitions.get(partner) else { return false };
        let ended = |version: usize| versions.get(version + 1).map(|(stamp, _)| stamp.as_millis());
        let grace = if self.weather == Weather::Foul { GRACE_MS } else { 2_000 };
        let later = |version: usize| ended(version).is_none_or(|ended| ended >= since.as_millis() - grace);
        let in_time = |began: Timestamp| self.weather == Weather::Foul || began <= since + SWEPT;
        let then = versions.iter().enumerate().filter(|(version, (began, _))| later(*version) && in_time(*began));
        then.map(|(_, version)| version).all(|(_, definition)| {
            let notices = |right: &Right| {
                right.direction == direction && right.message_types.iter().any(|name| name.as_str() == NOTICE)
            };
            definition.state == State::Active && definition.deliveries.iter().any(notices)
        })
    }

    /// Where nothing goes wrong, nothing stays with a collector that has gone.
    fn check_left(&mut self) {
        let now = self.ground.now();
        let (due, left) = std::mem::take(&mut self.left).into_iter().partition(|(_, at)| *at + GIVEN_BACK < now);
        self.left = left;
        let due: Vec<(String, Timestamp)> = due;
        let holds = |message: &Message, gone: &str| matches!(&message.phase, Phase::Offered { stream, .. } if stream.as_str() == gone);
        let mut messages = self.models.values().flat_map(|model| &model.messages);
        let kept = messages.find_map(|message| Some((message, due.iter().find(|(gone, _)| holds(message, gone))?)));
        if let Some(how) = kept.map(|(message, (gone, _))| format!("{gone} has left, and still holds {}", message.id)) {
            self.broken(how);
        }
    }

    /// Everything that both parties see of a message in the end must be this.
    pub(super) fn expected(&self) -> Vec<Expected> {
        let all = self.models.iter().flat_map(|(partition, model)| {
            model.messages.iter().map(move |message| ((*partition, message.place), message))
        });
        all.map(|(at, message)| Expected {
            id: message.id.to_string(),
            sender: message.sender.to_string(),
            recipient: message.recipient.to_string(),
            state: match message.phase {
                Phase::Waiting { .. } => v1::MessageState::Waiting,
                Phase::Offered { .. } => v1::MessageState::Offered,
                Phase::Delivered { .. } => v1::MessageState::Delivered,
                Phase::Dead { .. } => v1::MessageState::Dead,
            },
            text: match &message.phase {
                Phase::Dead { why: airut_domain::mailbox::Why::Rejected(_), .. } => {
                    self.texts.get(&at).cloned().unwrap_or_default()
                }
                _ => String::new(),
            },
        })
        .collect()
    }
}

/// What a notice of this dead letter is called, and nothing else.
fn notice((partition, place): At, died_in: u64) -> String {
    format!("dead-letter/{}/{died_in}/{}/{}", partition.number, place.offset, place.item)
}

/// How a message must be seen by both parties.
pub(super) struct Expected {
    pub(super) id: String,
    pub(super) sender: String,
    pub(super) recipient: String,
    pub(super) state: v1::MessageState,
    /// What was said of its rejection.
    pub(super) text: String,
}

fn has_signed(incarnation: &str, bytes: &[u8], signature: &[u8]) -> bool {
    let line = receipt_key(incarnation).public_line();
    let key = BASE64_STANDARD.decode(line.trim().rsplit(' ').next().unwrap()).unwrap();
    UnparsedPublicKey::new(&ED25519, key).verify(bytes, signature).is_ok()
}

fn name(void: &Void) -> &'static str {
    match void {
        Void::Repeat(_) => "repeat",
        Void::IdReused(_) => "id reused",
        Void::Unknown => "unknown",
        Void::NotTheirs => "not theirs",
        Void::NotWaiting => "not waiting",
        Void::OutOfOrder => "out of order",
        Void::Expired => "expired",
        Void::TooEarly => "too early",
        Void::LeaseLost => "lease lost",
        Void::Settled(_) => "settled",
        Void::NotDead => "not dead",
    }
}
