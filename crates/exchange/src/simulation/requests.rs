//! Information requests: parties that act at the same time at any gateway, try again, read, watch, and what they were told held against
//! what is on record, by a table of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use airut_domain::{
    partition::{Position, Topic},
    partner::{Partner, State},
    record::Kind,
    refusal::Refusal,
    request::{Action, Event},
};
use airut_wire::v1::{self, watch_information_requests_response::Change};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::run::{Dice, Life, Run};
use crate::{
    support::{person, requesting_partners},
    verb::request_watch::Watching,
};

/// What one party does at the most.
const DEEDS: u64 = 60;

/// How often the same is tried.
const TRIES: u64 = 6;

/// Requests that all of them act on.
const REQUESTS: u64 = 5;

/// What everybody was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Commands that were acknowledged: the request, who gave it, its id.
    acknowledged: BTreeSet<(String, &'static str, String)>,
    /// How often each party was shown each request, and the greatest version of it.
    shown: Vec<(String, &'static str, u32)>,
    /// Requests that a party was told of.
    watched: BTreeSet<(String, &'static str)>,
}

/// The definitions that an administrator chooses from.
pub(super) fn definitions(id: &str) -> Vec<Partner> {
    let whole = requesting_partners().into_iter().find(|partner| partner.id.as_str() == id).expect("a partner");
    let suspended = Partner { state: State::Suspended, ..whole.clone() };
    let none = Partner { deliveries: Vec::new(), ..whole.clone() };
    vec![whole.clone(), whole.clone(), whole, suspended, none]
}

/// Something that a party wants, until it is known what became of it.
#[derive(Clone)]
enum Wish {
    Create(v1::CreateInformationRequestRequest),
    Respond(v1::RespondInformationRequestRequest),
    Return(v1::ReturnInformationRequestRequest),
    Close(v1::CloseInformationRequestRequest),
    Cancel(v1::CancelInformationRequestRequest),
    Transfer(v1::TransferInformationRequestRequest),
    Read(v1::GetInformationRequestRequest),
}

/// What became of it.
enum Became {
    Done,
    Shown(Box<v1::GetInformationRequestResponse>),
    Refused(Refusal),
}

/// Acts on one request after the other.
pub(super) async fn party(run: Run, partner: &'static str, number: u64) {
    let mut dice = run.dice();
    for deed in 0..DEEDS {
        sleep(dice.up_to(Duration::from_millis(900))).await;
        if run.is_over() {
            return;
        }
        let request_id = format!("r-{}", dice.below(REQUESTS));
        let command_id = format!("{partner}-{number}-{deed}");
        let wish = wish(&mut dice, partner, &request_id, &command_id);
        for _ in 0..TRIES {
            let Some(life) = run.any_life(&mut dice) else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let delay = match call(&life, partner, &wish).await {
                None => Duration::from_millis(200),
                Some(Became::Done) => {
                    run.done("request: acknowledged", 1);
                    if !matches!(wish, Wish::Create(_)) {
                        run.told.lock().unwrap().acknowledged.insert((request_id, partner, command_id));
                    }
                    break;
                }
                Some(Became::Shown(shown)) => {
                    run.done("request: shown", 1);
                    let request = shown.information_request.unwrap();
                    let version = u32::try_from(shown.steps.len()).unwrap();
                    if version != u32::try_from(request.version).unwrap() {
                        run.broken(format_args!(
                            "{request_id} is shown at version {} with {version} steps",
                            request.version
                        ));
                    }
                    run.told.lock().unwrap().shown.push((request_id, partner, version));
                    break;
                }
                Some(Became::Refused(refusal)) => {
                    run.done(&format!("request: refused ({})", refusal.reason.code()), 1);
                    let Some(delay) = refusal.retry_after else { break };
                    delay
                }
            };
            sleep(delay).await;
        }
    }
}

fn wish(dice: &mut Dice, partner: &'static str, request_id: &str, command_id: &str) -> Wish {
    let (request_id, command_id) = (request_id.to_owned(), command_id.to_owned());
    let (requester, context, text) = ("kela".to_owned(), context(partner), "Something is said.".to_owned());
    let expected_version = if dice.percent(15) { i32::try_from(dice.below(6)).unwrap() } else { 0 };
    if dice.percent(30) {
        return Wish::Read(v1::GetInformationRequestRequest { requester, request_id, context, ..Default::default() });
    }
    match (partner, dice.below(10)) {
        ("kela", 0..=2) => {
            let number: u64 = request_id[2..].parse().unwrap();
            Wish::Create(v1::CreateInformationRequestRequest {
                responder: if number.is_multiple_of(2) { "pirkanmaa" } else { "helsinki" }.to_owned(),
                kind: v1::InformationRequestKind::Statement.into(),
                subject_id: person(u16::try_from(number).unwrap()).as_str().to_owned(),
                question: Some(v1::Question { text, ..Default::default() }),
                request_id,
                context,
                ..Default::default()
            })
        }
        ("kela", 3..=6) => Wish::Return(v1::ReturnInformationRequestRequest {
            request_id,
            command_id,
            context,
            text,
            expected_version,
            ..Default::default()
        }),
        ("kela", 7) if dice.percent(20) => {
            Wish::Close(v1::CloseInformationRequestRequest { request_id, command_id, context, text, expected_version })
        }
        ("kela", 8) if dice.percent(10) => Wish::Cancel(v1::CancelInformationRequestRequest {
            request_id,
            command_id,
            context,
            text,
            expected_version,
        }),
        (partner, 0..=6) if partner != "kela" => Wish::Respond(v1::RespondInformationRequestRequest {
            requester,
            request_id,
            command_id,
            context,
            text,
            expected_version,
            ..Default::default()
        }),
        (partner, _) => Wish::Transfer(v1::TransferInformationRequestRequest {
            requester,
            request_id,
            command_id,
            context,
            responder: if partner == "pirkanmaa" { "helsinki" } else { "pirkanmaa" }.to_owned(),
            text,
            expected_version,
            ..Default::default()
        }),
    }
}

fn context(partner: &str) -> Option<v1::Context> {
    Some(v1::Context {
        end_user: format!("somebody of {partner}"),
        end_user_role: "official".into(),
        purpose: "social-assistance".into(),
        legal_basis: "1412/1997".into(),
        case_id: "case-1".into(),
    })
}

/// What became of a call; none when the gateway died, or the partner is suspended.
async fn call(life: &Life, partner: &str, wish: &Wish) -> Option<Became> {
    let caller = life.caller(partner)?;
    let (gateway, wish) = (life.gateway.clone(), wish.clone());
    let (tell, told) = oneshot::channel();
    life.fate.spawn(Box::pin(async move {
        let done = |done: Result<_, Refusal>| done.map(|_| Became::Done);
        let became = match wish {
            Wish::Create(request) => done(gateway.create_request(&caller, request, "").await),
            Wish::Respond(request) => done(gateway.do_to_request(&caller, request, "").await),
            Wish::Return(request) => done(gateway.do_to_request(&caller, request, "").await),
            Wish::Close(request) => done(gateway.do_to_request(&caller, request, "").await),
            Wish::Cancel(request) => done(gateway.do_to_request(&caller, request, "").await),
            Wish::Transfer(request) => done(gateway.do_to_request(&caller, request, "").await),
            Wish::Read(request) => {
                let shown = gateway.get_request(&caller, request, "").await;
                shown.map(|shown| Became::Shown(Box::new(shown)))
            }
        };
        drop(tell.send(became.unwrap_or_else(Became::Refused)));
    }));
    life.answer(told).await
}

/// Watches its requests, from where it left off.
pub(super) async fn watcher(run: Run, partner: &'static str) {
    let mut dice = run.dice();
    let mut resume_token = String::new();
    while !run.is_over() {
        sleep(dice.up_to(Duration::from_secs(2))).await;
        let Some(life) = run.any_life(&mut dice) else { continue };
        let Some(watcher) = life.caller(partner) else { continue };
        let (to, mut told) = mpsc::channel(4);
        let (gateway, token) = (life.gateway.clone(), resume_token.clone());
        life.fate.spawn(Box::pin(async move {
            gateway.watch_requests(Watching { watcher, resume_token: token, to }).await;
        }));
        let leaves = run.ground.now() + dice.up_to(Duration::from_secs(10));
        while run.ground.now() < leaves && !run.is_over() {
            let Ok(Some(Ok(next))) = timeout(Duration::from_secs(1), told.recv()).await else { break };
            resume_token = next.resume_token;
            match next.change {
                Some(Change::InformationRequest(request)) => {
                    run.done("request: told of a change", 1);
                    if partner != request.requester && partner != request.responder {
                        run.broken(format_args!(
                            "{partner} is told of {}, which is {}'s",
                            request.request_id, request.responder
                        ));
                    }
                    run.told.lock().unwrap().watched.insert((request.request_id, partner));
                }
                Some(Change::Gone(gone)) => {
                    run.done("request: told that it is gone", 1);
                    if !run.told.lock().unwrap().watched.contains(&(gone.request_id.clone(), partner)) {
                        run.done("request: told that one is gone which it never saw", 1);
                    }
                }
                None => {}
            }
        }
    }
}

/// A request as the table has it.
struct Course {
    state: &'static str,
    responder: String,
    /// Who was the responder at each version, from the first.
    responders: Vec<String>,
    /// The steps, by who took them and with which id.
    taken: BTreeSet<(String, String)>,
    /// How often each party's reading counts, by version.
    read: BTreeMap<(String, u32), u64>,
}

/// What a command comes to; none when it does not count.
fn after(state: &str, responder: &str, by: &str, action: &Action) -> Option<(&'static str, Option<String>)> {
    let (asks, answers, waits) = (by == "kela", by == responder, state == "open" || state == "returned");
    match action {
        Action::Respond { .. } if answers && waits => Some(("answered", None)),
        Action::Return { .. } if asks && state == "answered" => Some(("returned", None)),
        Action::Close if asks && state == "answered" => Some(("closed", None)),
        Action::Cancel if asks && waits => Some(("cancelled", None)),
        Action::Transfer { to, .. } if (asks || answers) && waits && to.as_str() != responder => {
            Some(("open", Some(to.to_string())))
        }
        Action::Respond { .. } | Action::Return { .. } | Action::Close | Action::Cancel | Action::Transfer { .. } => {
            None
        }
    }
}

/// Holds what everybody was told against the log.
pub(super) fn at_the_end(run: &Run) {
    let mut lives: BTreeMap<String, Course> = BTreeMap::new();
    let mut places: BTreeMap<String, Position> = BTreeMap::new();
    for (stored, header) in run.ground.records(Topic::Requests) {
        let Kind::Request(event) = &header.kind else { continue };
        let id = event.key().request_id.to_string();
        let place = places.entry(id.clone()).or_insert(stored.position);
        if place.partition != stored.position.partition {
            run.broken(format_args!("{id} lies in two partitions"));
        }
        let life = lives.get_mut(&id);
        match (event, life) {
            (Event::Created(created), None) => {
                let responder = created.responder.to_string();
                let responders = vec![responder.clone()];
                let life =
                    Course { state: "open", responder, responders, taken: BTreeSet::new(), read: BTreeMap::new() };
                lives.insert(id, life);
            }
            (Event::Command(command), Some(life)) => {
                let (by, step) = (command.by.to_string(), (command.by.to_string(), command.command_id.to_string()));
                let version = u32::try_from(life.responders.len()).unwrap();
                let expected = command.expected.is_none_or(|expected| expected == version);
                let next = after(life.state, &life.responder, &by, &command.action);
                if let (Some((state, responder)), true, false) = (next, expected, life.taken.contains(&step)) {
                    life.state = state;
                    life.responder = responder.unwrap_or_else(|| life.responder.clone());
                    life.responders.push(life.responder.clone());
                    life.taken.insert(step);
                }
            }
            (Event::Read(read), Some(life)) => {
                let version = u32::try_from(life.responders.len()).unwrap();
                let by = read.by.to_string();
                if read.version == version && (by == "kela" || by == life.responder) {
                    *life.read.entry((by, version)).or_default() += 1;
                }
            }
            (Event::Created(_), Some(_))
            | (Event::Command(_) | Event::Read(_) | Event::Reminded(_) | Event::Lapsed(_), _) => {}
        }
    }
    let told = run.told.lock().unwrap();
    for (id, partner, command_id) in &told.acknowledged {
        let taken = lives.get(id).is_some_and(|life| life.taken.contains(&((*partner).to_owned(), command_id.clone())));
        if !taken {
            run.broken(format_args!("{command_id} of {partner} was acknowledged, and does not count"));
        }
    }
    let mut shown: BTreeMap<(&String, &str, u32), u64> = BTreeMap::new();
    for (id, partner, version) in &told.shown {
        *shown.entry((id, partner, *version)).or_default() += 1;
    }
    for ((id, partner, version), times) in shown {
        let Some(life) = lives.get(id) else {
            run.broken(format_args!("{id} was shown, and is not on record"));
            continue;
        };
        let responder = life.responders.get(version as usize - 1).map_or("", String::as_str);
        if partner != "kela" && partner != responder {
            run.broken(format_args!("{partner} was shown {id} at version {version}, which was {responder}'s"));
        }
        let recorded = life.read.get(&(partner.to_owned(), version)).copied().unwrap_or(0);
        if recorded < times {
            run.broken(format_args!(
                "{partner} was shown {id} {times} times at version {version}, on record {recorded}"
            ));
        }
    }
}
