//! One run: an exchange, its weather, and a clock that goes on until everything has ended.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{keys::Digest, partner::Partner, registry::VerifiedPartner, time::Timestamp};
use airut_log::{Clock, Faults};
use airut_wire::v1;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    collectors::{self, Manner},
    deliveries::{Deliveries, Expected},
    fate::{Fate, Odds},
    players,
    promises::{Deeds, Promises},
    requests, senders,
};
use crate::{
    FoldStore, Gateway, World,
    support::{Ground, caught_up, partners, requesting_partners},
};

/// What the exchange has to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// Delays, and nothing else: then everything that was recorded as disclosed can be accounted for.
    Fair,
    /// All that can happen.
    Foul,
}

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Play {
    /// Questions and answers.
    Queries,
    /// Messages.
    Messages,
    /// Information requests.
    Requests,
}

/// How far a run has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything is set up.
    Opening,
    /// Everybody plays.
    Play,
    /// What was begun ends, and nothing goes wrong any more.
    Over,
    /// Everything has ended.
    Closed,
}

/// How long the partners play.
const PLAY: Duration = Duration::from_secs(40);

/// How long everything may take to end after that: what nobody answers ends at its deadline, half of the longest at most, and what
/// its own gateway does not end a little later.
const QUIET: Duration = Duration::from_secs(45);

/// Where nothing goes wrong, everything still takes its time: whoever goes round in a circle is seen, and ends.
const CALM: Faults = Faults {
    refuse: 0.0,
    lose_acknowledgement: 0.0,
    lose_record: 0.0,
    fail_read: 0.0,
    append_delay: Duration::from_millis(4),
    acknowledgement_delay: Duration::ZERO,
    tail_delay: Duration::ZERO,
};

/// How often the promises are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A run, as all who play in it share it.
#[derive(Clone)]
pub(super) struct Run(Arc<Shared>);

pub(super) struct Shared {
    pub(super) ground: Ground,
    pub(super) weather: Weather,
    play: Play,
    pub(super) promises: Mutex<Promises>,
    pub(super) deliveries: Mutex<Deliveries>,
    pub(super) told: Mutex<requests::Told>,
    rng: Mutex<ChaCha8Rng>,
    slots: Mutex<Vec<Option<Life>>>,
    faults: Mutex<Faults>,
    phase: Mutex<Phase>,
}

impl std::ops::Deref for Run {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// One life of a gateway.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) gateway: Gateway,
    pub(super) fate: Fate,
    pub(super) incarnation: String,
}

impl Life {
    /// The partner as the gateway knows it; none while it is suspended.
    pub(super) fn caller(&self, partner: &str) -> Option<VerifiedPartner> {
        self.gateway.folds().registry().current(&partner.parse().unwrap())
    }

    /// An answer of the gateway; none when it dies first. What waits in its memory then is never dropped, as a process's would be.
    pub(super) async fn answer<T>(&self, mut told: oneshot::Receiver<T>) -> Option<T> {
        loop {
            match timeout(Duration::from_millis(100), &mut told).await {
                Ok(answer) => return answer.ok(),
                Err(_) if self.fate.has_crashed() => return None,
                Err(_) => {}
            }
        }
    }
}

/// Chance, to each who plays its own.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// A number below this one.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// What happens this often in a hundred times.
    pub(super) fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }

    /// A time up to this one.
    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap() + 1))
    }

    /// One of them.
    pub(super) fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }
}

impl Shared {
    pub(super) fn dice(&self) -> Dice {
        Dice(ChaCha8Rng::from_rng(&mut *self.rng.lock().unwrap()))
    }

    /// The gateway of this slot, when it is alive.
    pub(super) fn life(&self, slot: usize) -> Option<Life> {
        self.slots.lock().unwrap()[slot].clone().filter(|life| !life.fate.has_crashed())
    }

    /// Some gateway, if the one that is thought of is alive.
    pub(super) fn any_life(&self, dice: &mut Dice) -> Option<Life> {
        self.life(usize::try_from(dice.below(self.slots() as u64)).unwrap())
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.lock().unwrap().len()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.phase.lock().unwrap(), Phase::Over | Phase::Closed)
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.phase.lock().unwrap() == Phase::Closed
    }

    /// What may befall a gateway now.
    fn odds(&self) -> Odds {
        match (self.weather, *self.phase.lock().unwrap()) {
            (Weather::Foul, Phase::Play) => Odds { wait: 8, freeze: 700, crash: 1_500 },
            (Weather::Fair, Phase::Play) => Odds { wait: 8, ..Odds::default() },
            (Weather::Fair | Weather::Foul, Phase::Opening | Phase::Over | Phase::Closed) => Odds::default(),
        }
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap() = phase;
        self.slots.lock().unwrap().iter().flatten().for_each(|life| life.fate.face(self.odds()));
    }

    /// A promise was broken.
    pub(super) fn broken(&self, how: impl fmt::Display) {
        self.promises.lock().unwrap().broken(how);
    }

    /// Something has happened so many times.
    pub(super) fn done(&self, what: &str, times: u64) {
        (0..times).for_each(|_| self.promises.lock().unwrap().done(what));
    }

    fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
        self.ground.simulation.set_faults(faults);
    }

    /// Where everything that was given is accounted for by its time, nobody sees the log that late.
    pub(super) fn may_be_foggy(&self) -> bool {
        self.play == Play::Queries || self.weather == Weather::Foul
    }

    /// Lets whatever comes into the log now be seen late, by some tails very late; the returned function ends it.
    pub(super) fn fog(&self) -> impl FnOnce() + '_ {
        let faults = *self.faults.lock().unwrap();
        self.ground.simulation.set_faults(Faults { tail_delay: Duration::from_secs(25), ..faults });
        move || self.ground.simulation.set_faults(*self.faults.lock().unwrap())
    }
}

/// What came of a run in which no promise was broken.
#[derive(Debug, PartialEq)]
pub(super) struct Played {
    /// The log's digest.
    pub(super) digest: Digest,
    pub(super) deeds: Deeds,
}

/// Plays a seed. Gives what came of it, or what was broken.
pub(super) async fn play(play: Play, seed: u64, weather: Weather) -> Result<Played, Vec<String>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let ground = Ground::new(rng.next_u64());
    let count = usize::try_from(2 + rng.next_u64() % 2).unwrap();
    let run = Run(Arc::new(Shared {
        promises: Mutex::new(Promises::new(ground.clone())),
        deliveries: Mutex::new(Deliveries::new(ground.clone(), weather)),
        told: Mutex::default(),
        ground,
        weather,
        play,
        rng: Mutex::new(rng),
        slots: Mutex::new(vec![None; count]),
        faults: Mutex::default(),
        phase: Mutex::new(Phase::Opening),
    }));
    open(&run).await;
    run.enter(Phase::Play);
    let mut players = vec![tokio::spawn(weather_changes(run.clone())), tokio::spawn(look(run.clone()))];
    players.extend((0..count).map(|slot| tokio::spawn(keep_alive(run.clone(), slot))));
    players.extend(match play {
        Play::Queries => those_of_queries(&run),
        Play::Messages => those_of_messages(&run),
        Play::Requests => those_of_requests(&run),
    });
    sleep(PLAY).await;
    run.enter(Phase::Over);
    run.set_faults(CALM);
    for player in players {
        match timeout(3 * QUIET, player).await {
            Ok(Ok(())) => {}
            Ok(Err(panicked)) => run.broken(format_args!("a player fell: {panicked}")),
            Err(_) => run.broken("a player plays on"),
        }
    }
    if play == Play::Messages {
        collect_the_rest(&run).await;
    }
    sleep(QUIET).await;
    run.enter(Phase::Closed);
    close(&run).await;
    if play == Play::Messages {
        both_parties_see_all(&run).await;
    }
    if play == Play::Requests {
        requests::at_the_end(&run);
    }
    let mut promises = run.promises.lock().unwrap();
    let mut deliveries = run.deliveries.lock().unwrap();
    match play {
        Play::Queries => promises.at_the_end(weather),
        Play::Messages => deliveries.at_the_end(),
        // By itself, below.
        Play::Requests => {}
    }
    let mut broken = promises.take_broken();
    broken.append(&mut deliveries.take_broken());
    if !broken.is_empty() {
        return Err(broken);
    }
    let mut deeds = promises.deeds().clone();
    deeds.extend(deliveries.deeds().clone());
    Ok(Played { digest: run.ground.simulation.digest(), deeds })
}

fn those_of_queries(run: &Run) -> Vec<JoinHandle<()>> {
    let mut players = vec![tokio::spawn(players::administrator(run.clone(), definitions, &["pirkanmaa", "helsinki"]))];
    for slot in (0..run.slots()).chain([0]) {
        players.push(tokio::spawn(players::responder(run.clone(), slot)));
    }
    for partner in ["pirkanmaa", "helsinki", "pirkanmaa", "helsinki", "elo"] {
        players.push(tokio::spawn(players::caller(run.clone(), partner)));
    }
    players
}

fn those_of_messages(run: &Run) -> Vec<JoinHandle<()>> {
    let parties = &["pirkanmaa", "helsinki", "kela"];
    let mut players = vec![tokio::spawn(players::administrator(run.clone(), collectors::definitions, parties))];
    for number in 0..2 {
        players.push(tokio::spawn(senders::sender(run.clone())));
        players.push(tokio::spawn(senders::stream_sender(run.clone(), number)));
    }
    for partner in ["pirkanmaa", "pirkanmaa", "pirkanmaa", "helsinki", "helsinki", "kela"] {
        players.push(tokio::spawn(collectors::collector(run.clone(), partner, Manner::Any)));
    }
    for partner in ["pirkanmaa", "helsinki"] {
        players.push(tokio::spawn(collectors::puller(run.clone(), partner)));
    }
    for partner in ["kela", "pirkanmaa"] {
        players.push(tokio::spawn(collectors::redriver(run.clone(), partner)));
    }
    players
}

fn those_of_requests(run: &Run) -> Vec<JoinHandle<()>> {
    let parties = &["pirkanmaa", "helsinki", "kela"];
    let mut players = vec![tokio::spawn(players::administrator(run.clone(), requests::definitions, parties))];
    for (number, partner) in (0..).zip(["kela", "kela", "pirkanmaa", "pirkanmaa", "helsinki", "helsinki"]) {
        players.push(tokio::spawn(requests::party(run.clone(), partner, number)));
    }
    for partner in ["kela", "pirkanmaa", "helsinki"] {
        players.push(tokio::spawn(requests::watcher(run.clone(), partner)));
    }
    players
}

/// Everybody has all rights again, and is there to take in whatever waits.
async fn collect_the_rest(run: &Run) {
    for partner in ["pirkanmaa", "helsinki", "kela"] {
        tokio::spawn(collectors::collector(run.clone(), partner, Manner::Diligent));
    }
    // What was begun when everything still went wrong may take a right away once more.
    for time in 0..3 {
        // A file that a gateway has seen says nothing new to it, whatever others have applied since.
        let anew = |partner: Partner| Partner { name: format!("{} again {time}", partner.id), ..partner };
        let life = run.life(0).expect("nothing goes wrong any more");
        if life.gateway.apply_partners(partners().into_iter().map(anew).collect()).await.is_err() {
            run.broken("the rights can not be given back");
        }
        sleep(Duration::from_secs(8)).await;
    }
}

/// At every gateway, each party sees of each message what became of it, and the dead letters are listed to both.
async fn both_parties_see_all(run: &Run) {
    let expected = {
        let mut deliveries = run.deliveries.lock().unwrap();
        deliveries.read();
        deliveries.expected()
    };
    for slot in 0..run.slots() {
        let Some(life) = run.life(slot) else { continue };
        for partner in ["kela", "pirkanmaa", "helsinki"] {
            let theirs = |expected: &&Expected| expected.sender == partner || expected.recipient == partner;
            let dead = |expected: &&Expected| expected.state == v1::MessageState::Dead;
            let listed = collectors::dead_letters(&life, partner).await.unwrap_or_default();
            let mut listed: Vec<_> = listed.into_iter().map(|letter| (letter.message_id, letter.text)).collect();
            let listable = expected.iter().filter(theirs).filter(dead);
            let mut listable: Vec<_> = listable.map(|dead| (dead.id.clone(), dead.text.clone())).collect();
            listed.sort();
            listable.sort();
            if listed != listable {
                run.broken(format_args!("{partner} sees the dead letters {listed:?}, not {listable:?}"));
            }
            for expected in expected.iter().filter(theirs) {
                let request = v1::TrackRequest { sender: expected.sender.clone(), message_id: expected.id.clone() };
                let Some(caller) = life.caller(partner) else { continue };
                match life.gateway.track(&caller, request).await {
                    Ok(tracked) if tracked.state() == expected.state => {}
                    other => run.broken(format_args!("{partner} sees of {}: {other:?}", expected.id)),
                }
            }
        }
    }
}

/// Everything is up, and the partners in force, before anything goes wrong.
async fn open(run: &Run) {
    for slot in 0..run.slots() {
        begin_life(run, slot).await;
    }
    let life = run.life(0).expect("it has just begun");
    let definitions = if run.play == Play::Requests { requesting_partners() } else { partners() };
    life.gateway.apply_partners(definitions).await.expect("nothing goes wrong yet");
    for slot in 0..run.slots() {
        let life = run.life(slot).expect("it has just begun");
        caught_up(&run.ground.simulation, &life.gateway).await;
    }
}

/// A machine's clock: on a foul day it is up to half a second off.
fn clock(run: &Run) -> Clock {
    let off = match run.weather {
        Weather::Fair => 0,
        Weather::Foul => i64::try_from(run.dice().below(1_000)).unwrap() - 500,
    };
    let clock = run.ground.clock.clone();
    Clock::new(move || Timestamp::from_millis(clock.now().as_millis() + off))
}

/// A gateway begins a life of its own, if it comes that far.
async fn begin_life(run: &Run, slot: usize) {
    let fate = Fate::new(&mut run.rng.lock().unwrap(), run.odds());
    let (clock, random, spawning) = (clock(run), run.ground.random.clone(), fate.clone());
    let world = World::new(clock, random, move |task| spawning.spawn(task));
    let incarnation = format!("gateway-{slot}-{}", run.dice().below(1_000_000));
    let settings = run.ground.settings(&incarnation, FoldStore::Memory, world);
    let (begun, life) = oneshot::channel();
    fate.spawn(Box::pin(async move { drop(begun.send(Gateway::start(settings).await)) }));
    match life.await {
        Ok(Ok(gateway)) => {
            fate.face(run.odds());
            run.slots.lock().unwrap()[slot] = Some(Life { gateway, fate, incarnation });
        }
        Ok(Err(cause)) => run.broken(format_args!("a gateway can not start: {cause}")),
        // It died before it was up.
        Err(_) => {}
    }
}

/// Where a gateway dies, another one takes its place after a while.
async fn keep_alive(run: Run, slot: usize) {
    let mut dice = run.dice();
    loop {
        sleep(Duration::from_millis(20)).await;
        let life = run.slots.lock().unwrap()[slot].clone();
        match life {
            Some(life) if life.fate.has_panicked() => run.broken(format_args!("{} panicked", life.incarnation)),
            Some(life) if !life.fate.has_crashed() => {
                if run.is_over() {
                    return run.done("frozen", life.fate.freezes());
                }
            }
            dead => {
                run.done("crashed", u64::from(dead.is_some()));
                run.done("frozen", dead.map_or(0, |life| life.fate.freezes()));
                run.slots.lock().unwrap()[slot] = None;
                sleep(dice.up_to(Duration::from_secs(5))).await;
                begin_life(&run, slot).await;
            }
        }
    }
}

async fn weather_changes(run: Run) {
    let mut dice = run.dice();
    let millis = Duration::from_millis;
    while !run.is_over() {
        let odds = |dice: &mut Dice, most: u32| if dice.percent(50) { 0.0 } else { f64::from(most) * 0.01 };
        let delays = Faults {
            append_delay: dice.up_to(millis(80)),
            acknowledgement_delay: dice.up_to(millis(80)),
            tail_delay: dice.up_to(millis(200)),
            ..Faults::default()
        };
        let faults = match run.weather {
            Weather::Fair => delays,
            // The log is down for a while.
            Weather::Foul if dice.percent(10) => Faults { refuse: 1.0, ..delays },
            Weather::Foul => Faults {
                refuse: odds(&mut dice, 10),
                lose_acknowledgement: odds(&mut dice, 15),
                lose_record: odds(&mut dice, 8),
                fail_read: odds(&mut dice, 20),
                ..delays
            },
        };
        run.set_faults(faults);
        // One time in ten the key store is down. Who has a key in memory does not notice; who has just begun its life does.
        match run.weather {
            Weather::Foul if faults.append_delay < millis(8) => run.ground.memory.go_down(),
            Weather::Foul | Weather::Fair => run.ground.memory.come_up(),
        }
        sleep(dice.up_to(Duration::from_secs(4))).await;
    }
    run.set_faults(CALM);
    run.ground.memory.come_up();
}

async fn look(run: Run) {
    while !run.is_over() {
        sleep(LOOK).await;
        match run.play {
            Play::Queries => run.promises.lock().unwrap().read(),
            Play::Messages => run.deliveries.lock().unwrap().read(),
            // What they come to is looked at in the end.
            Play::Requests => {}
        }
    }
}

/// When nothing is written any more, all folds agree, and so does one that reads the log from its beginning.
async fn close(run: &Run) {
    run.set_faults(Faults { refuse: 1.0, ..Faults::default() });
    sleep(Duration::from_secs(1)).await;
    let anew = run.ground.gateway("anew", FoldStore::Memory).await;
    let Ok(anew) = anew else { return run.broken("the log can not be read anew") };
    caught_up(&run.ground.simulation, &anew).await;
    let expected = anew.folds().digest().ok();
    for slot in 0..run.slots() {
        let Some(life) = run.life(slot) else {
            run.broken("a gateway is not alive at the end");
            continue;
        };
        caught_up(&run.ground.simulation, &life.gateway).await;
        if life.gateway.folds().digest().ok() != expected {
            run.broken(format_args!("the folds of {} disagree with a rebuild", life.incarnation));
        }
        if life.gateway.folds().open_queries() > 0 {
            run.broken(format_args!("{} still has open queries", life.incarnation));
        }
    }
}

/// The definitions that an administrator chooses from.
pub(super) fn definitions(id: &str) -> Vec<Partner> {
    use crate::support::{grant, narrower_grants, social_grants, suspended, with_grants};
    use airut_domain::matter::Category;
    let mut wider = social_grants();
    wider.push(grant(Category::Insurance, &["health-insurance"], 12, 0));
    wider.push(grant(Category::Recovery, &["basic-social-assistance"], 1, 0));
    vec![with_grants(id, social_grants()), with_grants(id, narrower_grants()), with_grants(id, wider), suspended(id)]
}
