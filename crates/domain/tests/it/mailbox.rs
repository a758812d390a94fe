//! The mailboxes of a partition beside a model of them, for any records in any order, and the invariants at the top of
//! `mailbox`, each by a rule of its own.
//!
//! `AIRUT_PROPTEST_CASES` sets the number of cases; each has up to 48 records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use airut_domain::{
    id::{Incarnation, MessageId, MessageType, PartnerId},
    keys::Digest,
    mailbox::{Batch, Effects, Known, Mailbox, Phase, Verdict, Void},
    member::Types,
    message::{
        Accepted, Attempt, Event, Expired, Extended, Item, LeasesEnded, Offer, Offered, OnDead, OrderKey, Outcome,
        Place, REMEMBERED, Redriven, Settled, Settlement, Terms, Transferred,
    },
    partition::{Partition, Position, Topic},
    query::At,
    time::Timestamp,
};
use proptest::prelude::*;

use crate::{
    cases_or,
    model::{Model, said},
};

const PARTITION: Partition = Partition { topic: Topic::Messages, number: 3 };
const PARTNERS: [&str; 4] = ["kela", "pirkanmaa", "helsinki", "elo"];
const GATEWAYS: [&str; 2] = ["gateway-0", "gateway-1"];

/// A record, as yet without the places and offers that it speaks of: those are chosen from what is there when it comes.
#[derive(Clone, Debug)]
enum Draft {
    Accepted {
        sender: usize,
        recipient: usize,
        blocks: bool,
        attempts: u32,
        back_off: u64,
        items: Vec<Sent>,
    },
    Offered {
        who: Who,
        stream: u8,
        lease: u64,
        picks: Vec<Pick>,
    },
    Extended {
        who: Who,
        lease: u64,
        picks: Vec<(Pick, Which)>,
    },
    Settled {
        who: Who,
        picks: Vec<(Pick, Which, Outcome)>,
    },
    LeasesEnded {
        counts: bool,
        picks: Vec<(Pick, Which)>,
    },
    Expired {
        picks: Vec<Pick>,
    },
    Transferred {
        who: Who,
        to: usize,
        picks: Vec<(Pick, Which)>,
    },
    Redriven {
        who: Who,
        by_sender: bool,
        life: u64,
        picks: Vec<Pick>,
    },
    /// The gateway starts anew from what it kept.
    Restart,
}

/// A message of few ids, contents and keys, so that they meet.
#[derive(Clone, Debug)]
struct Sent {
    id: u8,
    content: u8,
    key: Option<u8>,
    life: u64,
}

/// Who speaks: whose the first message is, or anybody.
#[derive(Clone, Copy, Debug)]
enum Who {
    Theirs,
    Any(usize),
}

/// A message: of those for which the record makes sense, or any, or none at all.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Apt(usize),
    Any(usize),
    Absurd(u64, u32),
}

/// Which offer of it.
#[derive(Clone, Copy, Debug)]
enum Which {
    Latest,
    Before,
    Absurd(u32),
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        12 => (0..64_usize).prop_map(Pick::Apt),
        4 => (0..64_usize).prop_map(Pick::Any),
        1 => (0..60_u64, 0..1_100_u32).prop_map(|(offset, item)| Pick::Absurd(offset, item)),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        10 => Just(Which::Latest),
        2 => Just(Which::Before),
        1 => prop::sample::select(vec![0, 1, 7, u32::MAX]).prop_map(Which::Absurd),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![8 => Just(Who::Theirs), 1 => (0..4_usize).prop_map(Who::Any)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Accepted),
        3 => prop::option::of(0..4_000_u64).prop_map(|delay| Outcome::Returned(delay.map(Duration::from_secs))),
        2 => prop::sample::select(vec!["WRONG_COUNTY", "BROKEN"])
            .prop_map(|code| Outcome::Rejected(code.parse().expect("a code"))),
    ]
}

/// In seconds: mostly a while, now and then none or beyond what is allowed.
fn lease() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 5..120_u64, 1 => 0..4_u64, 1 => 3_000..9_000_u64]
}

fn draft() -> impl Strategy<Value = Draft> {
    let sent = (0..8_u8, 0..2_u8, prop::option::of(0..2_u8), prop_oneof![1 => 0..60_u64, 5 => 60..200_000_u64])
        .prop_map(|(id, content, key, life)| Sent { id, content, key, life });
    let sent = prop::collection::vec(sent, 0..5);
    let picks = || prop::collection::vec(pick(), 0..4);
    let offers = || prop::collection::vec((pick(), which()), 0..4);
    prop_oneof![
        6 => (0..2_usize, 1..4_usize, any::<bool>(), 1..4_u32, 0..100_u64, sent).prop_map(
            |(sender, recipient, blocks, attempts, back_off, items)| {
                Draft::Accepted { sender, recipient, blocks, attempts, back_off, items }
            }
        ),
        8 => (who(), 0..3_u8, lease(), picks())
            .prop_map(|(who, stream, lease, picks)| Draft::Offered { who, stream, lease, picks }),
        1 => (who(), lease(), offers()).prop_map(|(who, lease, picks)| Draft::Extended { who, lease, picks }),
        7 => (who(), prop::collection::vec((pick(), which(), outcome()), 0..4))
            .prop_map(|(who, picks)| Draft::Settled { who, picks }),
        3 => (any::<bool>(), offers()).prop_map(|(counts, picks)| Draft::LeasesEnded { counts, picks }),
        1 => picks().prop_map(|picks| Draft::Expired { picks }),
        1 => (who(), 1..4_usize, offers()).prop_map(|(who, to, picks)| Draft::Transferred { who, to, picks }),
        2 => (who(), any::<bool>(), 0..200_000_u64, picks())
            .prop_map(|(who, by_sender, life, picks)| Draft::Redriven { who, by_sender, life, picks }),
        1 => Just(Draft::Restart),
    ]
}

/// How long after the one before a record comes: mostly soon, now and then after leases, expiry or memory have ended.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        20 => (0..2_000_u64).prop_map(Duration::from_millis),
        6 => (0..200_u64).prop_map(Duration::from_secs),
        2 => (0..30_u64).prop_map(|hours| Duration::from_secs(hours * 3600)),
        1 => (0..16_u64).prop_map(|days| Duration::from_secs(days * 24 * 3600)),
    ]
}

fn partner(number: usize) -> PartnerId {
    PARTNERS[number % PARTNERS.len()].parse().expect("valid")
}

fn gateway(number: usize) -> Incarnation {
    GATEWAYS[number % GATEWAYS.len()].parse().expect("valid")
}

fn item(sent: &Sent, now: Timestamp) -> Item {
    Item {
        id: format!("m-{}", sent.id).parse().expect("valid"),
        fingerprint: Digest([sent.content; 32]),
        commitment: Digest::default(),
        subject: None,
        end_user: Digest::default(),
        case: Digest::default(),
        order: sent.key.map(|key| OrderKey([key; 16])),
        expires: now + Duration::from_secs(sent.life),
        size_bytes: 100 + u32::from(sent.id),
    }
}

/// Makes a record of a draft: of what the model says is there.
fn event(draft: &Draft, model: &Model, now: Timestamp) -> Option<Event> {
    let any = |pick: usize| model.messages.get(pick % model.messages.len().max(1)).map(|message| message.place);
    let place = |pick: Pick, apt: &dyn Fn(&crate::model::Message) -> bool| match pick {
        Pick::Apt(number) => {
            let apt: Vec<Place> = model.messages.iter().filter(|m| apt(m)).map(|message| message.place).collect();
            apt.get(number % apt.len().max(1)).copied().or_else(|| any(number))
        }
        Pick::Any(number) => any(number),
        Pick::Absurd(offset, item) => Some(Place { offset, item }),
    };
    let offer = |(pick, which): (Pick, Which), apt: &dyn Fn(&crate::model::Message) -> bool| {
        let place = place(pick, apt)?;
        let latest = model.find(place).map_or(0, crate::model::Message::latest);
        let number = match which {
            Which::Latest => latest,
            Which::Before => latest.saturating_sub(1),
            Which::Absurd(number) => number,
        };
        Some(Offer { place, number })
    };
    let theirs = |first: Option<Place>, who: Who| match (who, first.and_then(|place| model.find(place))) {
        (Who::Theirs, Some(message)) => message.recipient.clone(),
        (Who::Theirs, None) => partner(1),
        (Who::Any(number), _) => partner(number),
    };
    let held = |message: &crate::model::Message| message.is_offered();
    Some(match draft {
        Draft::Accepted { sender, recipient, blocks, attempts, back_off, items } => Event::Accepted(Accepted {
            sender: partner(*sender),
            recipient: partner(*recipient),
            terms: Terms {
                message_type: message_type(*attempts),
                purpose: "social-work".parse().expect("valid"),
                legal_basis: "1301/2014".parse().expect("valid"),
                contract_version: 1,
                subject_key: None,
                attempts: *attempts,
                back_off: Duration::from_secs(*back_off),
                on_dead: if *blocks { OnDead::Blocks } else { OnDead::Frees },
            },
            items: items.iter().map(|sent| item(sent, now)).collect(),
        }),
        Draft::Offered { who, stream, lease, picks } => {
            let ready = |message: &crate::model::Message| message.is_waiting() && model.is_first(message);
            let messages: Vec<Place> = picks.iter().filter_map(|pick| place(*pick, &ready)).collect();
            Event::Offered(Offered {
                recipient: theirs(messages.first().copied(), *who),
                stream: format!("stream-{stream}").parse().expect("valid"),
                lease: Duration::from_secs(*lease),
                messages,
            })
        }
        Draft::Extended { who, lease, picks } => {
            let offers: Vec<Offer> = picks.iter().filter_map(|pick| offer(*pick, &held)).collect();
            let recipient = theirs(offers.first().map(|offer| offer.place), *who);
            Event::Extended(Extended { recipient, lease: Duration::from_secs(*lease), offers })
        }
        Draft::Settled { who, picks } => {
            let settlement = |(pick, which, outcome): &(Pick, Which, Outcome)| {
                Some(Settlement { offer: offer((*pick, *which), &held)?, outcome: outcome.clone() })
            };
            let settlements: Vec<Settlement> = picks.iter().filter_map(settlement).collect();
            let recipient = theirs(settlements.first().map(|settlement| settlement.offer.place), *who);
            Event::Settled(Settled { recipient, settlements })
        }
        Draft::LeasesEnded { counts, picks } => Event::LeasesEnded(LeasesEnded {
            offers: picks.iter().filter_map(|pick| offer(*pick, &held)).collect(),
            attempt: if *counts { Attempt::Counts } else { Attempt::DoesNotCount },
        }),
        Draft::Expired { picks } => {
            let late = |message: &crate::model::Message| message.is_waiting() && message.expires <= now;
            Event::Expired(Expired { messages: picks.iter().filter_map(|pick| place(*pick, &late)).collect() })
        }
        Draft::Transferred { who, to, picks } => {
            let offers: Vec<Offer> = picks.iter().filter_map(|pick| offer(*pick, &held)).collect();
            Event::Transferred(Transferred {
                from: theirs(offers.first().map(|offer| offer.place), *who),
                to: partner(*to),
                contract_version: 1,
                end_user: Digest::default(),
                offers,
            })
        }
        Draft::Redriven { who, by_sender, life, picks } => {
            let dead = |message: &crate::model::Message| message.is_dead();
            let messages: Vec<Place> = picks.iter().filter_map(|pick| place(*pick, &dead)).collect();
            let first = messages.first().copied();
            let sender = first.and_then(|place| model.find(place)).map(|message| message.sender.clone());
            let by = sender.filter(|_| *by_sender).unwrap_or_else(|| theirs(first, *who));
            Event::Redriven(Redriven { by, messages, expires: now + Duration::from_secs(*life) })
        }
        Draft::Restart => return None,
    })
}

/// The mailboxes, with what they leave to others, kept as simply as can be.
#[derive(Default)]
struct Beside {
    mailbox: Mailbox,
    finished: Vec<(u64, Batch)>,
}

impl Beside {
    fn apply(&mut self, at: At, author: &Incarnation, event: &Event) -> Effects {
        let finished = &self.finished;
        let remembered = |batch: &Batch| batch.forget_at().is_none_or(|forget| at.time < forget);
        let known = |mailbox: &Mailbox, sender: &PartnerId, id: &MessageId| {
            let finished = finished.iter().map(|(offset, batch)| (*offset, batch));
            let mut batches = mailbox.batches().chain(finished.filter(|(_, batch)| remembered(batch)));
            batches.find_map(|(offset, batch)| known(offset, batch, sender, id))
        };
        let given_away =
            |offset| finished.iter().find(|(known, _)| *known == offset).map(|(_, batch)| Arc::new(batch.clone()));
        let effects = self.mailbox.apply(at, author, event, known, given_away);
        self.finished.extend(effects.finished.iter().cloned());
        effects
    }

    /// What a gateway has that starts anew from what is kept.
    fn restored(&self, time: Timestamp) -> Mailbox {
        let mut mailbox = Mailbox::default();
        for (offset, batch) in self.mailbox.batches() {
            mailbox.restore(offset, batch.clone(), time);
        }
        mailbox
    }
}

/// One of two types.
fn message_type(number: u32) -> MessageType {
    if number.is_multiple_of(2) { "notice" } else { "reminder" }.parse().expect("valid")
}

fn known(offset: u64, batch: &Batch, sender: &PartnerId, id: &MessageId) -> Option<Known> {
    let messages = (0..).zip(&batch.messages).filter_map(|(item, message)| Some((item, message.as_ref()?)));
    let (item, message) = messages.into_iter().find(|(_, message)| batch.sender == *sender && message.id == *id)?;
    Some(Known { place: Place { offset, item }, fingerprint: message.fingerprint, at: batch.at })
}

/// Whether both say the same. Of a message whose whole record was delivered only those who settle or extend are told how it
/// stood; everybody else, that there is none.
fn alike(
    model: &Model,
    event: &Event,
    place: Option<Place>,
    expected: &Result<u32, Void>,
    found: &Result<u32, Void>,
) -> bool {
    let told = matches!(event, Event::Settled(_) | Event::Extended(_));
    let delivered = place.and_then(|place| model.find(place)).is_some_and(crate::model::Message::is_delivered);
    expected == found || (!told && delivered && expected.is_err() && *found == Err(Void::Unknown))
}

fn places(event: &Event) -> Vec<Place> {
    let of = |offers: &[Offer]| offers.iter().map(|offer| offer.place).collect();
    match event {
        Event::Accepted(_) => Vec::new(),
        Event::Offered(Offered { messages, .. })
        | Event::Expired(Expired { messages })
        | Event::Redriven(Redriven { messages, .. }) => messages.clone(),
        Event::Extended(extended) => of(&extended.offers),
        Event::LeasesEnded(ended) => of(&ended.offers),
        Event::Transferred(transferred) => of(&transferred.offers),
        Event::Settled(settled) => settled.settlements.iter().map(|settlement| settlement.offer.place).collect(),
    }
}

/// Everything that can be asked of the mailboxes, beside what the model answers.
fn compare(model: &Model, mailbox: &Mailbox, ahead: Duration) -> Result<(), TestCaseError> {
    for message in &model.messages {
        let Some((batch, found)) = mailbox.message(message.place) else {
            prop_assert!(message.is_delivered(), "{:?} is lost", message);
            continue;
        };
        prop_assert_eq!(&found.phase, &message.phase, "{:?}", message);
        prop_assert_eq!(found.offers, message.latest());
        prop_assert_eq!((found.attempts, &found.settled), (message.failed, &message.settled));
        prop_assert_eq!((found.redriven, found.passed_to.is_some()), (message.redriven, message.passed_on.is_some()));
        prop_assert_eq!((found.order, found.expires), (message.key, message.expires));
        prop_assert_eq!(batch.recipient_of(found), &message.recipient);
    }
    let count: usize = mailbox.batches().map(|(_, batch)| batch.messages.iter().flatten().count()).sum();
    let unfinished = |message: &&crate::model::Message| mailbox.batch(message.place.offset).is_some();
    prop_assert_eq!(count, model.messages.iter().filter(unfinished).count(), "something is not forgotten");

    // Offers may be prepared a little before the time comes.
    let now = model.time + ahead;
    for partner in (0..PARTNERS.len()).map(partner) {
        let all: Vec<Place> = mailbox.offerable(&partner, now, &Types::All).collect();
        for types in
            [Types::All, Types::Only([message_type(0)].into()), Types::Only([message_type(0), message_type(1)].into())]
        {
            let mut offerable: Vec<Place> = mailbox.offerable(&partner, now, &types).collect();
            let taken =
                |place: &&Place| mailbox.batch(place.offset).is_some_and(|batch| types.take(&batch.terms.message_type));
            prop_assert!(all.iter().filter(taken).eq(&offerable), "in another order than everything: {:?}", offerable);
            offerable.sort_unstable();
            let expected = model.offerable(&partner, now, &types);
            prop_assert_eq!(&offerable, &expected, "{} may be offered {:?}", &partner, &types);
        }
        let inbox = model.totals(|message| message.recipient == partner);
        prop_assert_eq!(mailbox.inbox(&partner), inbox, "the inbox of {}", &partner);
        let sent = model.totals(|message| message.sender == partner);
        prop_assert_eq!(mailbox.sent(&partner), sent, "what {} sent", &partner);
        let dead: Vec<Place> = mailbox.dead_letters(&partner).collect();
        prop_assert_eq!(dead, model.dead(|message| message.recipient == partner), "dead letters to {}", &partner);
        let mut dead: Vec<Place> = mailbox.dead_letters_from(&partner).collect();
        dead.sort_unstable();
        prop_assert_eq!(dead, model.dead(|message| message.sender == partner), "dead letters from {}", &partner);
    }
    let lapsed: Vec<_> = mailbox.lapsed(now).collect();
    prop_assert!(lapsed.is_sorted_by_key(|(_, _, until)| *until), "the longest ago first");
    let mut lapsed: Vec<Offer> = lapsed.into_iter().map(|(offer, _, _)| offer).collect();
    lapsed.sort_unstable();
    prop_assert_eq!(lapsed, model.lapsed(now));
    let mut overdue: Vec<Place> = mailbox.overdue(now).map(|(place, _)| place).collect();
    overdue.sort_unstable();
    prop_assert_eq!(overdue, model.overdue(now));
    Ok(())
}

/// What was accepted, and all that came of it, as the verdicts alone tell it.
#[derive(Default)]
struct History(BTreeMap<Place, Life>);

struct Life {
    who: (PartnerId, MessageId),
    key: Option<OrderKey>,
    blocks: bool,
    /// Out of order, or never in it.
    left_order: bool,
    taken_in: bool,
    ended: Option<Timestamp>,
}

impl History {
    /// The invariants, in their order; `before` are the mailboxes as the record found them.
    fn check(
        &mut self,
        before: &Mailbox,
        beside: &Beside,
        at: At,
        author: &Incarnation,
        event: &Event,
        verdicts: &[Verdict],
    ) -> Result<(), TestCaseError> {
        let counted = |index: usize| matches!(verdicts[index], Verdict::Accepted(_));
        if let Event::Accepted(accepted) = event {
            let items = (0..).zip(&accepted.items).zip(verdicts);
            for ((item, said), _) in items.filter(|(_, verdict)| matches!(verdict, Verdict::Accepted(_))) {
                let who = (accepted.sender.clone(), said.id.clone());
                // 5.
                for life in self.0.values().filter(|life| life.who == who) {
                    let forgotten = life.ended.is_some_and(|ended| at.time.since(ended) >= REMEMBERED);
                    prop_assert!(forgotten, "{:?} is accepted twice", who);
                }
                let blocks = accepted.terms.on_dead == OnDead::Blocks;
                let life = Life { who, key: said.order, blocks, left_order: false, taken_in: false, ended: None };
                self.0.insert(Place { offset: at.position.offset, item }, life);
            }
        }
        for (index, place) in places(event).into_iter().enumerate().filter(|(index, _)| counted(*index)) {
            match event {
                Event::Offered(_) => {
                    let life = &self.0[&place];
                    // 2.
                    prop_assert!(!life.taken_in, "{:?} was accepted, and is offered again", place);
                    // 3.
                    let mut earlier = self.0.range(..place).filter(|(_, other)| other.key == life.key);
                    let waits = earlier.find(|(_, other)| !other.left_order && !other.taken_in);
                    let free = life.key.is_none() || life.left_order;
                    prop_assert!(free || waits.is_none(), "{:?} goes before {:?}", place, waits.map(|(at, _)| at));
                }
                Event::Settled(settled) if settled.settlements[index].outcome == Outcome::Accepted => {
                    self.0.get_mut(&place).expect("it was accepted").taken_in = true;
                }
                Event::Transferred(_) => self.0.get_mut(&place).expect("it was accepted").left_order = true,
                Event::Accepted(_)
                | Event::Extended(_)
                | Event::Settled(_)
                | Event::LeasesEnded(_)
                | Event::Expired(_)
                | Event::Redriven(_) => {}
            }
        }
        for (place, life) in &mut self.0 {
            let phase = beside.mailbox.message(*place).map(|(_, message)| &message.phase);
            match phase {
                Some(Phase::Dead { at, .. }) => {
                    life.ended = Some(*at);
                    life.left_order |= !life.blocks;
                }
                Some(Phase::Delivered { at }) => life.ended = Some(*at),
                Some(Phase::Waiting { .. } | Phase::Offered { .. }) => life.ended = None,
                None => {
                    // 1.
                    let finished = beside.finished.iter().find(|(offset, _)| *offset == place.offset);
                    if let Some(message) = finished.and_then(|(_, batch)| batch.message(place.item)) {
                        let Phase::Delivered { at } = message.phase else {
                            return Err(TestCaseError::fail(format!("{place:?} is given away undelivered")));
                        };
                        life.ended = Some(at);
                    }
                    let forgotten = life.ended.is_some_and(|ended| at.time.since(ended) >= REMEMBERED);
                    prop_assert!(finished.is_some() || forgotten, "{:?} is lost", place);
                    // A dead letter that is forgotten is in nobody's way.
                    life.left_order |= finished.is_none();
                }
            }
            // 4.
            let Some((_, was)) = before.message(*place) else { continue };
            let Phase::Offered { stream, holder, until } = &was.phase else { continue };
            let same = |phase: &Phase| matches!(phase, Phase::Offered { stream: now, .. } if now == stream);
            if phase.is_some_and(same) {
                continue;
            }
            let spoken_of = |index: usize| counted(index) && places(event)[index] == *place;
            let spoken_of = (0..verdicts.len()).any(spoken_of);
            let may_end = match event {
                Event::Settled(_) | Event::Transferred(_) => true,
                Event::LeasesEnded(_) => at.time >= *until || author == holder,
                Event::Accepted(_)
                | Event::Offered(_)
                | Event::Extended(_)
                | Event::Expired(_)
                | Event::Redriven(_) => false,
            };
            prop_assert!(spoken_of && may_end, "the lease of {:?} is gone", place);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases_or(800)))]

    #[test]
    fn the_mailboxes_do_as_their_model_whatever_is_recorded(
        records in prop::collection::vec((draft(), pause(), 0..2_usize), 0..48),
        ahead in prop_oneof![Just(0), 0..90_u64],
    ) {
        let mut time = Timestamp::from_millis(1_795_334_400_000);
        let (mut model, mut beside, mut history) = (Model::default(), Beside::default(), History::default());
        model.time = time;
        for (offset, (draft, pause, author)) in (0..).zip(&records) {
            let Some(event) = event(draft, &model, time + *pause) else {
                beside.mailbox = beside.restored(time);
                continue;
            };
            time = time + *pause;
            let at = At { position: Position { partition: PARTITION, offset }, time };
            let author = gateway(*author);
            let before = beside.mailbox.clone();
            let expected = model.apply(offset, time, &author, &event);
            let effects = beside.apply(at, &author, &event);
            let found: Vec<_> = effects.verdicts.iter().cloned().map(said).collect();
            prop_assert_eq!(expected.len(), found.len());
            let spoken_of = places(&event);
            for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
                let place = spoken_of.get(index).copied();
                prop_assert!(alike(&model, &event, place, expected, found), "{:?}: {:?}, not {:?}", event, found, expected);
            }
            history.check(&before, &beside, at, &author, &event, &effects.verdicts)?;
            let ahead = Duration::from_secs(ahead);
            compare(&model, &beside.mailbox, ahead)?;
            compare(&model, &beside.restored(time), ahead)?;
        }
    }
}
