//! Those who collect messages, as they are in life: diligent, slow, silent, contradictory and gone, each at several gateways at once;
//! and those who redrive what was given up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{id::PartnerId, message::Outcome, partner::Partner, refusal::Refusal};
use airut_wire::v1::{
    self, collect_request as ask, collect_response as told,
    settlement::{Accepted, Outcome as How, Rejected, Returned},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    deliveries::{Pushed, TEXT},
    run::{Dice, Life, Run},
};
use crate::{
    Collecting,
    support::{message, partner, partners},
};

/// What a collector asked for, by delivery.
type Asked = Arc<Mutex<BTreeMap<String, Vec<Outcome>>>>;

/// How a collector is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As they are in life.
    Any,
    /// It takes in everything: so it is seen whether everything comes.
    Diligent,
}

/// Collects in one stream after the other, until everything is over; a diligent one from then on.
pub(super) async fn collector(run: Run, partner: &'static str, manner: Manner) {
    let mut dice = run.dice();
    let goes_on = || (manner == Manner::Any && !run.is_over()) || (manner == Manner::Diligent && !run.is_closed());
    while goes_on() {
        let Some(life) = run.any_life(&mut dice) else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let Some(collector) = life.caller(partner) else {
            sleep(Duration::from_millis(700)).await;
            continue;
        };
        let (to_gateway, from) = mpsc::channel(8);
        let (to, from_gateway) = mpsc::channel(4);
        let gateway = life.gateway.clone();
        let collecting = Collecting { collector, from, to, traceparent: String::new() };
        life.fate.spawn(Box::pin(async move { gateway.collect(collecting).await }));
        let stay = match manner {
            Manner::Any => Duration::from_secs(1) + dice.up_to(Duration::from_secs(14)),
            Manner::Diligent => Duration::from_secs(300),
        };
        let stream = Stream { run: run.clone(), life, partner, manner, to_gateway, asked: Asked::default() };
        stream.collect(&mut dice, from_gateway, Instant::now() + stay).await;
        sleep(dice.up_to(Duration::from_millis(800))).await;
    }
}

/// A collector's side of a stream.
struct Stream {
    run: Run,
    life: Life,
    partner: &'static str,
    manner: Manner,
    to_gateway: mpsc::Sender<v1::CollectRequest>,
    asked: Asked,
}

impl Stream {
    async fn collect(
        self,
        dice: &mut Dice,
        mut from_gateway: mpsc::Receiver<Result<v1::CollectResponse, Refusal>>,
        until: Instant,
    ) {
        let mut credit = if self.manner == Manner::Diligent { 64 } else { 1 + dice.below(8) };
        let lease = Duration::from_millis(1_000 + dice.below(7_000));
        let types = if self.manner == Manner::Diligent { Vec::new() } else { types(dice) };
        let open = ask::Open {
            credit: i32::try_from(credit).unwrap(),
            lease: Some(airut_wire::duration(lease)),
            message_types: types.clone(),
        };
        self.say(ask::Message::Open(open)).await;
        let mut id = String::new();
        let mut fresh = true;
        loop {
            let over = || self.manner == Manner::Any && self.run.is_over();
            let slice = until.min(Instant::now() + Duration::from_secs(1));
            let said = match from_gateway.try_recv() {
                Ok(said) => said,
                Err(_) => {
                    fresh = true;
                    match timeout_at(slice, from_gateway.recv()).await {
                        Ok(Some(said)) => said,
                        Ok(None) => return,
                        Err(_) if Instant::now() >= until || over() || self.run.is_closed() => return,
                        Err(_) => continue,
                    }
                }
            };
            let Ok(said) = said else { return };
            match said.message.expect("something is said") {
                told::Message::Opened(opened) => id = opened.stream_id,
                told::Message::Delivery(delivery) => {
                    let (stream, credit) = (Some(id.as_str()), usize::try_from(credit).unwrap());
                    let (life, partner) = (&self.life, self.partner);
                    let (types, delivered) = (types.as_slice(), &delivery);
                    let pushed = Pushed { life, partner, stream, types, credit, fresh, delivery: delivered };
                    self.run.deliveries.lock().unwrap().pushed(&pushed);
                    self.deal_with(dice, delivery, lease);
                }
                told::Message::Settled(settled) => {
                    for result in &settled.results {
                        let asked = self.asked.lock().unwrap().get(&result.delivery_id).cloned().unwrap_or_default();
                        self.run.deliveries.lock().unwrap().settlement_told(&asked, result);
                    }
                }
                told::Message::Extended(extended) => {
                    let mut deliveries = self.run.deliveries.lock().unwrap();
                    extended.results.iter().for_each(|result| deliveries.extension_told(result));
                }
            }
            if self.manner == Manner::Any && dice.percent(4) {
                // More is allowed at once, less only as what it has is settled: it never says so here.
                credit += dice.below(3);
                self.say(ask::Message::Credit(ask::Credit { credit: i32::try_from(credit).unwrap() })).await;
            }
            if self.manner == Manner::Any && dice.percent(6) {
                // It does not read for a while.
                sleep(dice.up_to(Duration::from_secs(5))).await;
                fresh = false;
            }
        }
    }

    async fn say(&self, message: ask::Message) {
        drop(self.to_gateway.send(v1::CollectRequest { message: Some(message) }).await);
    }

    /// What becomes of a delivery, in a task of its own.
    fn deal_with(&self, dice: &mut Dice, delivery: v1::Delivery, lease: Duration) {
        let deeds = match self.manner {
            Manner::Any => deeds(dice, lease),
            Manner::Diligent => vec![(Duration::ZERO, Deed::Settle(accepted()))],
        };
        let (run, partner, asked) = (self.run.clone(), self.partner, Arc::clone(&self.asked));
        // It does not keep the stream open.
        let to_gateway = self.to_gateway.downgrade();
        let mut dice = run.dice();
        let elsewhere = self.manner == Manner::Any && dice.percent(40);
        tokio::spawn(async move {
            for (delay, deed) in deeds {
                sleep(delay).await;
                let here = to_gateway.upgrade().filter(|_| !elsewhere);
                match deed {
                    Deed::Settle(how) => {
                        let settlement =
                            v1::Settlement { delivery_id: delivery.delivery_id.clone(), outcome: Some(how) };
                        settle(&run, &mut dice, partner, here, &asked, settlement).await;
                    }
                    Deed::Extend(lease) => {
                        extend(&run, &mut dice, partner, here, delivery.delivery_id.clone(), lease).await;
                    }
                    Deed::PassOn => transfer(&run, &mut dice, partner, &delivery.delivery_id).await,
                }
            }
        });
    }
}

/// What it takes: mostly everything, now and then one type alone, or one that its partner does not get.
fn types(dice: &mut Dice) -> Vec<String> {
    let named: &[&str] = match dice.below(10) {
        0..7 => &[],
        7 => &["notice"],
        8 => &["blocking-notice", "dead-letter-notice"],
        _ => &["notice", "rumour"],
    };
    named.iter().map(|name| (*name).to_owned()).collect()
}

/// What a collector does with a delivery.
enum Deed {
    Settle(How),
    Extend(Duration),
    PassOn,
}

fn accepted() -> How {
    How::Accepted(Accepted {})
}

/// What it does, one after the other, each after a while.
fn deeds(dice: &mut Dice, lease: Duration) -> Vec<(Duration, Deed)> {
    let soon = dice.up_to(Duration::from_millis(400));
    let returned = |dice: &mut Dice| {
        let delay = dice.percent(50).then(|| airut_wire::duration(dice.up_to(Duration::from_secs(3))));
        How::Returned(Returned { delay })
    };
    let rejected = |dice: &mut Dice| {
        let text = format!("{TEXT}, {}", dice.below(1_000_000));
        How::Rejected(Rejected { code: "WRONG_COUNTY".into(), text })
    };
    match dice.below(100) {
        0..48 => vec![(soon, Deed::Settle(accepted()))],
        48..58 => vec![(soon, Deed::Settle(returned(dice)))],
        58..67 => vec![(soon, Deed::Settle(rejected(dice)))],
        67..73 => {
            let longer = Duration::from_secs(2) + dice.up_to(Duration::from_secs(6));
            vec![(soon, Deed::Extend(longer)), (lease, Deed::Settle(accepted()))]
        }
        73..78 => vec![],
        78..86 => {
            let how = if dice.percent(60) { accepted() } else { rejected(dice) };
            vec![(lease + dice.up_to(Duration::from_secs(3)), Deed::Settle(how))]
        }
        86..93 => {
            let (first, second) = (accepted(), if dice.percent(50) { rejected(dice) } else { returned(dice) });
            let (first, second) = if dice.percent(50) { (first, second) } else { (second, first) };
            vec![(soon, Deed::Settle(first)), (dice.up_to(Duration::from_millis(400)), Deed::Settle(second))]
        }
        _ => vec![(soon, Deed::PassOn)],
    }
}

async fn settle(
    run: &Run,
    dice: &mut Dice,
    partner: &str,
    here: Option<mpsc::Sender<v1::CollectRequest>>,
    asked: &Asked,
    settlement: v1::Settlement,
) {
    let (_, parsed, _) = airut_wire::settlement(settlement.clone()).expect("it is well formed");
    if let Some(here) = here {
        asked.lock().unwrap().entry(settlement.delivery_id.clone()).or_default().push(parsed.outcome);
        let settlements = ask::Message::Settlements(ask::Settlements { settlements: vec![settlement] });
        drop(here.send(v1::CollectRequest { message: Some(settlements) }).await);
        return;
    }
    // Wherever there is somebody, until it is told.
    for _ in 0..4 {
        let Some(life) = run.any_life(dice) else { return };
        let (gateway, recipient): (_, PartnerId) = (life.gateway.clone(), partner.parse().unwrap());
        let (reply, results) = oneshot::channel();
        let settlements = vec![settlement.clone()];
        life.fate.spawn(Box::pin(async move {
            drop(reply.send(gateway.settle(&recipient, settlements, "").await));
        }));
        if let Some(results) = life.answer(results).await {
            run.deliveries.lock().unwrap().settlement_told(std::slice::from_ref(&parsed.outcome), &results[0]);
            let again = results[0].refusal.as_ref().and_then(|refusal| airut_wire::refusal_from(refusal).1);
            let Some(delay) = again else { return };
            sleep(delay).await;
        }
    }
}

async fn extend(
    run: &Run,
    dice: &mut Dice,
    partner: &str,
    here: Option<mpsc::Sender<v1::CollectRequest>>,
    id: String,
    lease: Duration,
) {
    if let Some(here) = here {
        let extension = ask::Extension { delivery_ids: vec![id], lease: Some(airut_wire::duration(lease)) };
        drop(here.send(v1::CollectRequest { message: Some(ask::Message::Extension(extension)) }).await);
        return;
    }
    let Some(life) = run.any_life(dice) else { return };
    let (gateway, recipient): (_, PartnerId) = (life.gateway.clone(), partner.parse().unwrap());
    let (reply, results) = oneshot::channel();
    life.fate.spawn(Box::pin(async move {
        drop(reply.send(gateway.extend(&recipient, vec![id], lease, "").await));
    }));
    if let Some(results) = life.answer(results).await {
        run.deliveries.lock().unwrap().extension_told(&results[0]);
    }
}

async fn transfer(run: &Run, dice: &mut Dice, partner: &str, delivery_id: &str) {
    let Some(life) = run.any_life(dice) else { return };
    let Some(caller) = life.caller(partner) else { return };
    let recipient = if partner == "pirkanmaa" { "helsinki" } else { "pirkanmaa" };
    let context = message("any").context;
    let request = v1::TransferRequest { delivery_id: delivery_id.into(), recipient: recipient.into(), context };
    let (reply, outcome) = oneshot::channel();
    let gateway = life.gateway.clone();
    life.fate.spawn(Box::pin(async move { drop(reply.send(gateway.transfer(&caller, request, "").await)) }));
    if let Some(Ok(_)) = life.answer(outcome).await {
        run.deliveries.lock().unwrap().transfer_told(delivery_id);
    }
}

/// Pulls what there is, and settles it or does not.
pub(super) async fn puller(run: Run, partner: &'static str) {
    let mut dice = run.dice();
    while !run.is_over() {
        sleep(dice.up_to(Duration::from_secs(4))).await;
        let Some(life) = run.any_life(&mut dice) else { continue };
        let Some(caller) = life.caller(partner) else { continue };
        let (most, lease) = (1 + dice.below(5), Duration::from_millis(1_000 + dice.below(6_000)));
        let request = v1::PullRequest {
            max_messages: i32::try_from(most).unwrap(),
            wait: Some(airut_wire::duration(dice.up_to(Duration::from_secs(4)))),
            lease: Some(airut_wire::duration(lease)),
            message_types: types(&mut dice),
        };
        let types = request.message_types.clone();
        let (reply, pulled) = oneshot::channel();
        let gateway = life.gateway.clone();
        // Who crashes or has no more patience does not hear what it gets: it leaves as a caller does who is cut off.
        let stays = CancellationToken::new();
        life.fate.spawn(Box::pin(async move { drop(reply.send(gateway.pull(&caller, request, &stays).await)) }));
        let Some(Ok(pulled)) = life.answer(pulled).await else { continue };
        for delivery in &pulled.deliveries {
            let credit = usize::try_from(most).unwrap();
            let pushed = Pushed { life: &life, partner, stream: None, types: &types, credit, fresh: true, delivery };
            let mut deliveries = run.deliveries.lock().unwrap();
            deliveries.pushed(&pushed);
            deliveries.done("pulled");
        }
        for delivery in pulled.deliveries.into_iter().filter(|_| dice.percent(70)) {
            let settlement = v1::Settlement { delivery_id: delivery.delivery_id, outcome: Some(accepted()) };
            settle(&run, &mut run.dice(), partner, None, &Asked::default(), settlement).await;
        }
    }
}

/// Has dead letters delivered once more.
pub(super) async fn redriver(run: Run, partner: &'static str) {
    let mut dice = run.dice();
    while !run.is_over() {
        sleep(Duration::from_secs(2) + dice.up_to(Duration::from_secs(6))).await;
        let Some(life) = run.any_life(&mut dice) else { continue };
        let Some(caller) = life.caller(partner) else { continue };
        let Some(dead) = dead_letters(&life, partner).await else { continue };
        for letter in dead.into_iter().filter(|_| dice.percent(50)) {
            let request = v1::RedriveRequest { sender: letter.sender, message_ids: vec![letter.message_id.clone()] };
            let (gateway, caller) = (life.gateway.clone(), caller.clone());
            let (reply, outcome) = oneshot::channel();
            life.fate.spawn(Box::pin(async move { drop(reply.send(gateway.redrive(&caller, request, "").await)) }));
            if let Some(Ok(redriven)) = life.answer(outcome).await
                && redriven.results[0].refusal.is_none()
            {
                run.deliveries.lock().unwrap().redrive_told(&letter.message_id);
            }
        }
    }
}

/// The dead letters that a partner sees at a gateway, in pages of few; none when the gateway is gone.
pub(super) async fn dead_letters(life: &Life, partner: &str) -> Option<Vec<v1::DeadLetter>> {
    let caller = life.caller(partner)?;
    let (mut letters, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListDeadLettersRequest { page_size: 3, page_token };
        let (gateway, caller) = (life.gateway.clone(), caller.clone());
        let (reply, page) = oneshot::channel();
        life.fate.spawn(Box::pin(async move { drop(reply.send(gateway.list_dead_letters(&caller, request).await)) }));
        let page = life.answer(page).await?.ok()?;
        letters.extend(page.dead_letters);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Some(letters);
        }
    }
}

/// The definitions that an administrator chooses from: with all rights, with fewer, and suspended.
pub(super) fn definitions(id: &str) -> Vec<Partner> {
    let whole = partners().into_iter().find(|partner| partner.id.as_str() == id).expect("a partner");
    if id == "kela" {
        let quota = airut_domain::delivery::Quota {
            messages_per_second: Some(2),
            in_flight: Some(3),
            stored_messages: None,
            stored_bytes: None,
        };
        return vec![whole.clone(), Partner { quota: Some(quota), ..whole }];
    }
    let mut narrower = whole.clone();
    narrower.deliveries[0].message_types.retain(|known| known.as_str() == "notice");
    let suspended = Partner { state: airut_domain::partner::State::Suspended, ..whole.clone() };
    let none = Partner { contracts: whole.contracts.clone(), ..partner(id, whole.kind, vec![]) };
    vec![whole.clone(), whole, narrower, suspended, none]
}
