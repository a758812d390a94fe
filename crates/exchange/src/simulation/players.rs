//! Those who use the exchange, as they are in life: callers that retry, collide and leave, responders of every kind, and an
//! administrator who takes rights and gives them back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{
    matter::{Content, Matter},
    partner::Partner,
    query::LONGEST,
    refusal::Refusal,
    time::Timestamp,
};
use airut_wire::v1::{self, serve_request, serve_response};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::run::{Dice, Life, Run};
use crate::{
    Answering, Asking,
    support::{date, history, person, request},
};

/// Calls of one caller at the most.
const CALLS: u64 = 12;

/// How often a caller tries to get an answer to the same question.
const TRIES: u64 = 4;

/// How a call ended.
enum Called {
    Given,
    Refused(Refusal),
    /// The gateway was not there, or died.
    Broken,
    /// The caller did not wait for the answer.
    Left,
    /// The partner is suspended.
    TurnedAway,
}

/// Asks one question after the other.
pub(super) async fn caller(run: Run, partner: &'static str) {
    let mut dice = run.dice();
    for _ in 0..CALLS {
        sleep(dice.up_to(Duration::from_secs(5))).await;
        if run.is_over() {
            return;
        }
        let request = question(&mut dice);
        for _ in 0..TRIES {
            let retry_after = match call(&run, &mut dice, partner, &request).await {
                Called::Given | Called::TurnedAway => None,
                Called::Refused(refusal) => refusal.retry_after,
                Called::Broken => Some(Duration::from_millis(200)),
                Called::Left => dice.percent(50).then_some(Duration::from_millis(100)),
            };
            let Some(delay) = retry_after else { break };
            sleep(delay).await;
        }
    }
}

/// One of few, so that they meet; with the same id it mostly has the same content.
fn question(dice: &mut Dice) -> v1::QueryBenefitsRequest {
    let number = dice.below(24);
    let subject_id = person(u16::try_from(number % 5).unwrap()).as_str().into();
    let categories = match number % 3 {
        0 => vec![v1::Category::Decision.into(), v1::Category::Insurance.into()],
        _ => vec![],
    };
    let period = match number % 4 {
        0 => Some(v1::Period { start_date: "2026-09-15".into(), end_date: "2026-11-20".into() }),
        _ => None,
    };
    let mut request = v1::QueryBenefitsRequest { subject_id, categories, period, ..request(&format!("q-{number}")) };
    if dice.percent(10) {
        request.context.as_mut().unwrap().case_id = "another case".into();
    }
    if dice.percent(3) {
        request.context.as_mut().unwrap().end_user.clear();
    }
    request
}

async fn call(run: &Run, dice: &mut Dice, partner: &str, request: &v1::QueryBenefitsRequest) -> Called {
    let slot = usize::try_from(dice.below(run.slots() as u64)).unwrap();
    let (patience, stay) = (patience(dice), dice.percent(20).then(|| dice.up_to(Duration::from_secs(2))));
    let Some(life) = run.life(slot) else { return Called::Broken };
    let Some(caller) = life.gateway.folds().registry().current(&partner.parse().unwrap()) else {
        return Called::TurnedAway;
    };
    let (reply, mut answer) = oneshot::channel();
    let deadline = run.ground.now() + patience;
    let asking = Asking { caller, request: request.clone(), deadline, traceparent: String::new() };
    let gateway = life.gateway.clone();
    life.fate.spawn(Box::pin(async move { gateway.query_benefits(asking, reply).await }));
    let told = match stay {
        None => answer.await.ok(),
        Some(stay) => match timeout(stay, &mut answer).await {
            Ok(told) => told.ok(),
            Err(_) => {
                // What was sent before it left was given.
                answer.close();
                let Ok(told) = answer.try_recv() else { return Called::Left };
                Some(told)
            }
        },
    };
    match told {
        Some(Ok(response)) => {
            given(run, &life, partner, request, &response);
            Called::Given
        }
        Some(Err(refusal)) => Called::Refused(refusal),
        None => {
            if !life.fate.has_crashed() {
                run.broken(format_args!("a call of {} was dropped by a gateway that lives", request.query_id));
            }
            Called::Broken
        }
    }
}

fn patience(dice: &mut Dice) -> Duration {
    match dice.below(10) {
        0 => dice.up_to(Duration::from_millis(200)),
        1..6 => Duration::from_secs(1) + dice.up_to(Duration::from_secs(5)),
        _ => dice.up_to(LONGEST / 2),
    }
}

fn given(
    run: &Run,
    life: &Life,
    partner: &str,
    request: &v1::QueryBenefitsRequest,
    response: &v1::QueryBenefitsResponse,
) {
    let mut promises = run.promises.lock().unwrap();
    if !life.gateway.folds().registry_is_current(life.gateway.world.now()) {
        promises.broken(format_args!("{} disclosed without having read the registry lately", life.incarnation));
    }
    promises.given(&life.incarnation, partner, request, response);
}

/// Everything that is known of a person: matters within every contract and beyond, each named after the person.
pub(super) fn truth(subject_id: &str) -> Vec<v1::Matter> {
    let insured = Matter {
        matter_id: "insured".into(),
        benefit: "health-insurance".parse().unwrap(),
        content: Content::Insurance { from: date("1990-01-01"), to: None },
    };
    let mut matters = history();
    matters.push(airut_wire::matter(&insured));
    for matter in &mut matters {
        // Nothing of a code but its individual number: ids are not secret.
        matter.matter_id = format!("{}-{}", matter.matter_id, &subject_id[7..10]);
    }
    matters
}

/// Answers at one gateway, one stream after the other.
pub(super) async fn responder(run: Run, slot: usize) {
    let mut dice = run.dice();
    while !run.is_over() {
        sleep(dice.up_to(Duration::from_secs(1))).await;
        let Some(life) = run.life(slot) else { continue };
        let Some(responder) = life.gateway.folds().registry().current(&"kela".parse().unwrap()) else { continue };
        let (to_gateway, from) = mpsc::channel(64);
        let (to, from_gateway) = mpsc::channel(64);
        let gateway = life.gateway.clone();
        life.fate.spawn(Box::pin(async move { gateway.serve(Answering { responder, from, to }).await }));
        let stay = if dice.percent(50) { 2 * LONGEST } else { dice.up_to(Duration::from_secs(10)) };
        drop(timeout(stay, serve(&run, &mut dice, to_gateway, from_gateway)).await);
    }
}

async fn serve(
    run: &Run,
    dice: &mut Dice,
    to_gateway: mpsc::Sender<v1::ServeRequest>,
    mut from_gateway: mpsc::Receiver<Result<v1::ServeResponse, Refusal>>,
) {
    let max_in_flight = 1 + i32::try_from(dice.below(4)).unwrap();
    let outstanding = Outstanding::default();
    let open = serve_request::Message::Open(serve_request::Open { max_in_flight });
    drop(to_gateway.send(v1::ServeRequest { message: Some(open) }).await);
    loop {
        let told = match timeout(Duration::from_secs(1), from_gateway.recv()).await {
            Ok(Some(Ok(told))) => told.message,
            Ok(Some(Err(_)) | None) => return,
            Err(_) if run.is_over() => return,
            Err(_) => None,
        };
        let Some(serve_response::Message::Question(question)) = told else { continue };
        let waiting = take_note(&outstanding, &question, run.ground.now());
        if waiting > usize::try_from(max_in_flight).unwrap() {
            run.broken(format_args!("{waiting} questions wait at a responder that takes {max_in_flight}"));
        }
        let (answers, delay) = answers(dice, &question);
        let (to_gateway, outstanding) = (to_gateway.clone(), Arc::clone(&outstanding));
        tokio::spawn(async move {
            sleep(delay).await;
            for answer in answers {
                outstanding.lock().unwrap().remove(&answer.question_id);
                let message = Some(serve_request::Message::Answer(answer));
                drop(to_gateway.send(v1::ServeRequest { message }).await);
            }
        });
    }
}

/// Questions that wait for a responder's answer, with their deadlines.
type Outstanding = Arc<Mutex<BTreeMap<String, Timestamp>>>;

/// Adds a question; gives how many wait whose time is not up.
fn take_note(outstanding: &Outstanding, question: &serve_response::Question, now: Timestamp) -> usize {
    let deadline = question.deadline.expect("every question has one");
    let millis = deadline.seconds * 1000 + i64::from(deadline.nanos / 1_000_000);
    let mut outstanding = outstanding.lock().unwrap();
    outstanding.insert(question.question_id.clone(), Timestamp::from_millis(millis));
    outstanding.retain(|_, deadline| *deadline >= now);
    outstanding.len()
}

/// What a responder says to a question, and when.
fn answers(dice: &mut Dice, question: &serve_response::Question) -> (Vec<serve_request::Answer>, Duration) {
    use serve_request::answer::Result;
    let answer = |result| serve_request::Answer { question_id: question.question_id.clone(), result: Some(result) };
    let knows = || answer(Result::Matters(serve_request::Matters { matters: truth(&question.subject_id) }));
    let soon = dice.up_to(Duration::from_millis(300));
    match dice.below(20) {
        0 => (vec![], soon),
        1 => (vec![answer(Result::Failure(serve_request::Failure {}))], soon),
        2 => (vec![answer(Result::Matters(serve_request::Matters { matters: vec![v1::Matter::default()] }))], soon),
        3 => (vec![knows(), answer(Result::Matters(serve_request::Matters::default()))], soon),
        4..8 => (vec![knows()], dice.up_to(Duration::from_secs(20))),
        _ => (vec![knows()], soon),
    }
}

/// Changes the rights of these partners; now and then in a fog, in which not every gateway comes to see it.
pub(super) async fn administrator(run: Run, definitions: fn(&str) -> Vec<Partner>, partners: &'static [&'static str]) {
    let mut dice = run.dice();
    while !run.is_over() {
        sleep(Duration::from_secs(1) + dice.up_to(Duration::from_secs(6))).await;
        let slot = usize::try_from(dice.below(run.slots() as u64)).unwrap();
        let partner = dice.one_of(partners);
        let definition = dice.one_of(&definitions(partner));
        let Some(life) = run.life(slot) else { continue };
        let gateway = life.gateway.clone();
        let apply = async move { drop(gateway.apply_partners(vec![definition]).await) };
        if dice.percent(25) && run.may_be_foggy() {
            let lift = run.fog();
            life.fate.spawn(Box::pin(apply));
            sleep(Duration::from_millis(200)).await;
            lift();
        } else {
            life.fate.spawn(Box::pin(apply));
        }
    }
}
