//! `DeliveryService.Collect` and `Pull`: offer, push what the fold accepted as offered, settle.
//!
//! A collector has at most as many unsettled deliveries as its credit; what is opened and waits to be pushed is bounded as well, so
//! that a collector which does not read holds up nobody and fills no memory. When its stream ends, what it had not settled is
//! given back.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use airut_domain::{
    id::{MessageType, StreamId},
    mailbox::{Batch, Message, Phase},
    member::{Event, StreamKind, StreamOpened},
    message::{Offer, Place, Terms},
    partition::{Partition, Topic},
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
    time::Timestamp,
};
use airut_wire::v1::{self, collect_request::Message as From, collect_response as to};
use tokio::sync::mpsc;

use super::{
    offer::{Collects, MOST_OFFERED, Ready, StreamShares, partitions},
    settle::MOST_AT_ONCE,
};
use crate::{
    gateway::{Gateway, Unproposed},
    lanes::{ABREAST, LONGEST_TURN},
    planted::planted,
};

/// The greatest credit.
const MOST_CREDIT: usize = 65_536;

/// As many deliveries may be offered and not pushed yet.
const MOST_UNPUSHED: usize = 1024;

/// As many requests of a collector may be under way; further ones are not read until some are done.
const MOST_UNDER_WAY: usize = 64;

/// A collector that has opened a call has this long to say so in it.
const OPENING: Duration = Duration::from_secs(10);

/// How often a collector looks for what was returned for later, and for deliveries that it has lost.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// A message is its own stream's first; others offer it when it has waited for this long, and up to twice that.
const OWNER_FIRST: Duration = Duration::from_secs(2);

/// The record of an offer whose outcome was unknown is looked out for so long.
const ASTRAY: Duration = Duration::from_secs(30);

/// How often the end of a stream is tried to be recorded when the log is down.
const CLOSING_TRIES: u32 = 10;

pub(crate) const METHOD: &str = "/airut.v1.DeliveryService/Collect";

/// A collector's stream.
#[derive(Debug)]
pub struct Collecting {
    /// Who collects.
    pub collector: VerifiedPartner,
    /// What they say; it ends when they leave.
    pub from: mpsc::Receiver<v1::CollectRequest>,
    /// What they are told.
    pub to: mpsc::Sender<Result<v1::CollectResponse, Refusal>>,
    /// W3C trace context of the call; empty when it is not traced.
    pub traceparent: String,
}

/// An offer that is under way.
struct Offering {
    messages: usize,
    began: Timestamp,
}

/// What a collector's own task did for it.
enum Done {
    /// Offered messages of a partition, and what came of it.
    Offered(Partition, Vec<Place>, Vec<Ready>),
    /// Settled or extended.
    Said(Box<to::Message>),
}

/// The right to what was pushed last, within one poll: for longer it may not be relied on.
type Judged = Option<(Arc<Terms>, bool)>;

struct Collector {
    gateway: Gateway,
    collects: Collects,
    traceparent: String,
    credit: usize,
    /// Offers that are not settled, pushed or not.
    outstanding: BTreeMap<(Partition, Place), u32>,
    /// Partitions in which an offer is under way.
    offering: BTreeMap<Partition, Offering>,
    /// Messages that were offered in vain: not again before the next look.
    resting: BTreeSet<(Partition, Place)>,
    /// The same for a while longer: the record of an offer whose outcome was unknown may come in after all.
    astray: BTreeMap<(Partition, Place), Timestamp>,
    under_way: usize,
    /// Whether there may be something to offer that was not looked for.
    may_offer: bool,
    answers: VecDeque<to::Message>,
    ready: VecDeque<Ready>,
    /// Where to begin looking, so that no partition is always the first.
    first: u32,
    done: mpsc::Sender<Done>,
}

impl Gateway {
    /// Serves a collector's stream until it ends.
    pub async fn collect(&self, mut collecting: Collecting) {
        match self.open_collector(&mut collecting).await {
            Ok((mut collector, mut done)) => {
                metrics::gauge!("airut_streams_open", "kind" => "collects").increment(1);
                let end = collector.run(&mut collecting, &mut done).await;
                metrics::gauge!("airut_streams_open", "kind" => "collects").decrement(1);
                collector.close(done).await;
                if let Err(refusal) = end {
                    self.refuse_collector(&collecting, refusal).await;
                }
            }
            Err(refusal) => self.refuse_collector(&collecting, refusal).await,
        }
    }

    async fn refuse_collector(&self, collecting: &Collecting, refusal: Refusal) {
        let refusal = self.reception.refuse(collecting.collector.id(), METHOD, refusal).await;
        // A collector that has left needs no refusal; it is on record.
        drop(collecting.to.try_send(Err(refusal)));
    }

    async fn open_collector(&self, collecting: &mut Collecting) -> Result<(Collector, mpsc::Receiver<Done>), Refusal> {
        let first = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Refusal::new(Reason::NotServing)),
            first = tokio::time::timeout(OPENING, collecting.from.recv()) => first,
        };
        let Ok(Some(v1::CollectRequest { message: Some(From::Open(open)) })) = first else {
            return Err(Refusal::new(Reason::ProtocolViolation));
        };
        let credit = credit("open.credit", open.credit)?;
        let lease = airut_wire::lease("open.lease", open.lease)?;
        let types = airut_wire::taken_types("open.message_types", &open.message_types)?;
        let recipient = collecting.collector.id().clone();
        let stream = self.new_stream("")?;
        let opened = StreamOpened {
            stream: stream.clone(),
            holder: self.incarnation.clone(),
            partner: recipient.clone(),
            kind: StreamKind::Collects,
            types: types.clone(),
        };
        self.folds.attach(opened.clone(), None);
        let announced = self.propose(Partition::only(Topic::Members), Event::StreamOpened(opened), None, "").await;
        if let Err(unproposed) = announced {
            self.folds.detach(&stream);
            return Err(match unproposed {
                Unproposed::Unwritten(refusal) => refusal,
                Unproposed::Void(_) => Refusal::new(Reason::OutcomeUnknown),
            });
        }
        // Room for every task's word at once: none ever waits for the collector.
        let (done, words) = mpsc::channel(MOST_UNDER_WAY + Topic::Messages.partitions() as usize);
        let collector = Collector {
            gateway: self.clone(),
            collects: Collects { recipient, stream, lease, types },
            traceparent: collecting.traceparent.clone(),
            credit,
            outstanding: BTreeMap::new(),
            offering: BTreeMap::new(),
            resting: BTreeSet::new(),
            astray: BTreeMap::new(),
            under_way: 0,
            may_offer: true,
            answers: VecDeque::new(),
            ready: VecDeque::new(),
            first: 0,
            done,
        };
        Ok((collector, words))
    }

    /// A stream's id that nobody has.
    pub(crate) fn new_stream(&self, prefix: &str) -> Result<StreamId, Refusal> {
        let number = u64::from_be_bytes(self.world.random());
        let id = format!("{prefix}{}/{:012x}", self.incarnation, number >> 16);
        id.parse().map_err(|_| Refusal::new(Reason::NotServing))
    }
}

impl Collector {
    async fn run(&mut self, collecting: &mut Collecting, done: &mut mpsc::Receiver<Done>) -> Result<(), Refusal> {
        let opened = to::Opened { stream_id: self.collects.stream.to_string() };
        self.answers.push_back(to::Message::Opened(opened));
        let changes = self.gateway.folds.collecting(&self.collects.recipient);
        let mut seen = changes.count();
        let stop = self.gateway.stop.clone();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if std::mem::take(&mut self.may_offer) {
                self.offer_what_fits();
            }
            let has_words = !self.answers.is_empty() || !self.ready.is_empty();
            let (may_read, to_collector) = (self.under_way < MOST_UNDER_WAY, collecting.to.clone());
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                said = collecting.from.recv(), if may_read => match said {
                    Some(said) => self.take(said)?,
                    None => return Ok(()),
                },
                Some(done) = done.recv() => self.taken(done),
                place = to_collector.reserve(), if has_words => {
                    let Ok(place) = place else { return Ok(()) };
                    if !self.say(place, &to_collector)? && !self.ready.is_empty() {
                        // The registry may be out of date: nothing is shown until it has been read.
                        tokio::time::sleep(LOOK).await;
                    }
                }
                () = changes.beyond(&mut seen) => self.may_offer = true,
                _ = look.tick() => {
                    self.may_offer = true;
                    self.let_go();
                    self.give_back_astray();
                }
            }
        }
    }

    /// Says what there is to say, for as long as there is room for it without waiting. Returns whether anything was.
    fn say(
        &mut self,
        place: mpsc::Permit<'_, Result<v1::CollectResponse, Refusal>>,
        to_collector: &mpsc::Sender<Result<v1::CollectResponse, Refusal>>,
    ) -> Result<bool, Refusal> {
        let mut said = false;
        let mut next = Some(place);
        let mut judged = None;
        while let Some(place) = next {
            let Some(word) = self.next_word(&mut judged)? else { break };
            place.send(Ok(v1::CollectResponse { message: Some(word) }));
            said = true;
            next = to_collector.try_reserve().ok();
        }
        Ok(said)
    }

    /// Offers as many messages as there is credit and room for, in every partition where no offer is under way.
    fn offer_what_fits(&mut self) {
        let under_way: usize = self.offering.values().map(|offering| offering.messages).sum();
        let taken = if planted!(CreditExceeded) { 0 } else { self.outstanding.len() + under_way };
        let room = self.credit.saturating_sub(taken).min(MOST_UNPUSHED.saturating_sub(self.ready.len() + under_way));
        if room == 0 {
            return;
        }
        let gateway = self.gateway.clone();
        let now = gateway.world.now();
        if !gateway.folds.registry_is_current(now) && !planted!(PushedByStaleRegistry) {
            return;
        }
        let streams = gateway.folds.streams_of(&self.collects.recipient, StreamKind::Collects);
        let mut shares = StreamShares::new(self.collects.stream.clone(), streams);
        let patience = gateway.world.jittered(OWNER_FIRST);
        let all = partitions().cycle().skip(self.first as usize).take(Topic::Messages.partitions() as usize);
        self.first = (self.first + 1) % Topic::Messages.partitions();
        let mut room = room;
        for partition in all {
            // As lanes do: what gathers in the other partitions meanwhile is offered together.
            let lately = |offering: &&Offering| now.since(offering.began) < LONGEST_TURN;
            if room == 0 || self.offering.values().filter(lately).count() >= ABREAST {
                return;
            }
            if self.offering.contains_key(&partition) {
                continue;
            }
            let resting = &self.resting;
            let mine = |place: Place, message_type: &MessageType, due| {
                let own = now.since(due) >= patience || shares.is_own(partition, place, message_type);
                own && !resting.contains(&(partition, place))
            };
            let Collects { recipient, types, .. } = &self.collects;
            let found = gateway.folds.offerable(partition, recipient, types, now, room.min(MOST_OFFERED), mine);
            let granted = gateway.granted(&self.collects.recipient, partition, found);
            if granted.is_empty() {
                continue;
            }
            room -= granted.len();
            self.offering.insert(partition, Offering { messages: granted.len(), began: now });
            let (gateway, collects, done) = (gateway.clone(), self.collects.clone(), self.done.clone());
            self.gateway.spawn(self.gateway.calls.track_future(async move {
                let ready = gateway.offer(&collects, partition, granted.clone()).await;
                if let Err(gone) = done.send(Done::Offered(partition, granted, ready)).await {
                    let Done::Offered(partition, _, ready) = gone.0 else { return };
                    gateway.give_back(partition, ready.iter().map(|ready| ready.offer).collect()).await;
                }
            }));
        }
    }

    fn take(&mut self, said: v1::CollectRequest) -> Result<(), Refusal> {
        match said.message {
            Some(From::Credit(changed)) => {
                self.credit = credit("credit.credit", changed.credit)?;
                self.may_offer = true;
            }
            Some(From::Settlements(settlements)) => {
                let settlements = settlements.settlements;
                few("settlements.settlements", settlements.len())?;
                let (gateway, recipient) = (self.gateway.clone(), self.collects.recipient.clone());
                let traceparent = self.traceparent.clone();
                self.say_later(async move {
                    let results = gateway.settle(&recipient, settlements, &traceparent).await;
                    to::Message::Settled(to::Settled { results })
                });
            }
            Some(From::Extension(extension)) => {
                few("extension.delivery_ids", extension.delivery_ids.len())?;
                let lease = airut_wire::lease("extension.lease", extension.lease)?;
                let (gateway, recipient) = (self.gateway.clone(), self.collects.recipient.clone());
                let traceparent = self.traceparent.clone();
                self.say_later(async move {
                    let results = gateway.extend(&recipient, extension.delivery_ids, lease, &traceparent).await;
                    to::Message::Extended(to::Extended { results })
                });
            }
            Some(From::Open(_)) | None => return Err(Refusal::new(Reason::ProtocolViolation)),
        }
        Ok(())
    }

    fn say_later(&mut self, word: impl Future<Output = to::Message> + Send + 'static) {
        self.under_way += 1;
        let done = self.done.clone();
        self.gateway.spawn(
            self.gateway.calls.track_future(async move { drop(done.send(Done::Said(Box::new(word.await))).await) }),
        );
    }

    fn taken(&mut self, done: Done) {
        self.may_offer = true;
        match done {
            Done::Offered(partition, offered, ready) => {
                self.offering.remove(&partition);
                // What does not count, or could not be recorded, would not at once either.
                self.resting.extend(offered.into_iter().map(|place| (partition, place)));
                for ready in ready {
                    self.resting.remove(&(partition, ready.offer.place));
                    self.outstanding.insert((partition, ready.offer.place), ready.offer.number);
                    self.ready.push_back(ready);
                }
            }
            Done::Said(word) => {
                self.under_way -= 1;
                if let to::Message::Settled(settled) = &*word {
                    for result in &settled.results {
                        self.settled(result);
                    }
                }
                self.answers.push_back(*word);
            }
        }
    }

    /// A settled delivery's credit is free again.
    fn settled(&mut self, result: &v1::SettlementResult) {
        let known = result.outcome != 0;
        if let (Some((partition, offer)), true) = (airut_wire::delivery_from(&result.delivery_id), known) {
            self.holds_no_more(partition, offer);
        }
    }

    /// The collector has this delivery no more; a later offer of the same message it still has.
    fn holds_no_more(&mut self, partition: Partition, offer: Offer) {
        if self.outstanding.get(&(partition, offer.place)) == Some(&offer.number) {
            self.outstanding.remove(&(partition, offer.place));
        }
    }

    /// The next thing to say: answers before deliveries. The last checks of a delivery are here, in the poll in which it leaves.
    fn next_word(&mut self, judged: &mut Judged) -> Result<Option<to::Message>, Refusal> {
        if let Some(answer) = self.answers.pop_front() {
            return Ok(Some(answer));
        }
        let folds = &self.gateway.folds;
        let now = self.gateway.world.now();
        if !folds.registry_is_current(now) && !planted!(PushedByStaleRegistry) {
            return Ok(None);
        }
        if folds.registry().current(&self.collects.recipient).is_none() && !planted!(PushedWithoutRight) {
            return Err(Refusal::new(Reason::PartnerSuspended));
        }
        while let Some(ready) = self.ready.pop_front() {
            // There is room for more to be opened.
            self.may_offer |= self.ready.len() == MOST_UNPUSHED / 2;
            if !self.may_leave(&ready, now, judged) {
                // Its lease ends, or has: nothing was shown.
                let (gateway, partition, offer) = (self.gateway.clone(), ready.partition, ready.offer);
                self.holds_no_more(partition, offer);
                self.may_offer = true;
                self.gateway.spawn(async move { gateway.give_back(partition, vec![offer]).await });
                continue;
            }
            metrics::histogram!("airut_message_delivery_seconds").record(now.since(ready.accepted).as_secs_f64());
            return Ok(Some(to::Message::Delivery(ready.delivery)));
        }
        Ok(None)
    }

    /// Whether a message that was offered may still be pushed. Those of one record, which follow each other, are judged once.
    fn may_leave(&self, ready: &Ready, now: Timestamp, judged: &mut Judged) -> bool {
        let granted = match judged {
            Some((terms, granted)) if Arc::ptr_eq(terms, &ready.terms) => *granted,
            Some(_) | None => {
                let granted = self.gateway.may_be_given(&self.collects.recipient, &ready.sender, &ready.terms);
                judged.insert((Arc::clone(&ready.terms), granted)).1
            }
        };
        now < ready.until && granted
    }

    /// Forgets deliveries that ended otherwise: lapsed, settled elsewhere, passed on.
    fn let_go(&mut self) {
        let offers = self
            .outstanding
            .iter()
            .map(|((partition, place), number)| (*partition, Offer { place: *place, number: *number }));
        let gone: BTreeSet<_> = self.gateway.folds.no_longer_held(&self.collects.stream, offers).into_iter().collect();
        if !gone.is_empty() {
            self.outstanding.retain(|key, _| !gone.contains(key));
            self.ready.retain(|ready| !gone.contains(&(ready.partition, ready.offer.place)));
        }
    }

    /// Gives back what is on record as offered to this stream though it could not know: nobody will push it, and that it is not
    /// settled is not the collector's fault.
    fn give_back_astray(&mut self) {
        let now = self.gateway.world.now();
        self.astray.extend(std::mem::take(&mut self.resting).into_iter().map(|at| (at, now)));
        self.astray.retain(|_, since| now.since(*since) < ASTRAY);
        let mut offers: BTreeMap<Partition, Vec<Offer>> = BTreeMap::new();
        for at @ (partition, place) in self.astray.keys() {
            if self.offering.contains_key(partition) || self.outstanding.contains_key(at) {
                continue;
            }
            let its = |_: &Batch, message: &Message| match &message.phase {
                Phase::Offered { stream, .. } if *stream == self.collects.stream => Some(message.offers),
                Phase::Offered { .. } | Phase::Waiting { .. } | Phase::Delivered { .. } | Phase::Dead { .. } => None,
            };
            if let Some(Some(number)) = self.gateway.folds.with_message(*partition, *place, its) {
                offers.entry(*partition).or_default().push(Offer { place: *place, number });
            }
        }
        for (partition, offers) in offers {
            let gateway = self.gateway.clone();
            self.gateway.spawn(async move { gateway.give_back(partition, offers).await });
        }
    }

    /// Gives back what is not settled, and records that the stream has ended.
    async fn close(mut self, mut words: mpsc::Receiver<Done>) {
        // What comes later than this its own task gives back; what came and was not looked at is given back here.
        words.close();
        while let Ok(done) = words.try_recv() {
            self.taken(done);
        }
        let Self { gateway, collects, outstanding, .. } = self;
        gateway.folds.collects_no_more(&collects.recipient);
        let mut offers: BTreeMap<Partition, Vec<Offer>> = BTreeMap::new();
        for ((partition, place), number) in outstanding {
            offers.entry(partition).or_default().push(Offer { place, number });
        }
        for (partition, offers) in offers.into_iter().filter(|_| !planted!(NotGivenBack)) {
            gateway.give_back(partition, offers).await;
        }
        gateway.folds.detach(&collects.stream);
        for _ in 0..CLOSING_TRIES {
            let closed = Event::StreamClosed(collects.stream.clone());
            if gateway.propose(Partition::only(Topic::Members), closed, None, "").await.is_ok() {
                return;
            }
            tokio::time::sleep(gateway.world.jittered(Duration::from_secs(1))).await;
        }
    }
}

fn credit(name: &'static str, credit: i32) -> Result<usize, Refusal> {
    let credit = usize::try_from(credit).ok().filter(|credit| *credit <= MOST_CREDIT);
    credit.ok_or_else(|| field(name, format!("must be 0 to {MOST_CREDIT}")))
}

pub(crate) fn few(name: &'static str, count: usize) -> Result<(), Refusal> {
    if (1..=MOST_AT_ONCE).contains(&count) {
        Ok(())
    } else {
        Err(field(name, format!("must have 1 to {MOST_AT_ONCE}")))
    }
}

pub(crate) fn field(name: &'static str, fault: String) -> Refusal {
    Refusal::fields(vec![Violation { field: name.into(), fault }])
}
