//! One run: an exchange, its weather, and a clock that goes on until everything has ended.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{keys::Digest, partner::Partner, time::Timestamp};
use airut_log::{Clock, Faults};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    fate::{Fate, Odds},
    players,
    promises::{Deeds, Promises},
};
use crate::{
    FoldStore, Gateway, World,
    support::{Ground, caught_up, partners},
};

/// What the exchange has to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// Delays, and nothing else: then everything that was recorded as disclosed can be accounted for.
    Fair,
    /// All that can happen.
    Foul,
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
}

/// How long the partners play.
const PLAY: Duration = Duration::from_secs(40);

/// How long everything may take to end after that: what nobody answers ends at its deadline, half of the longest at most, and what
/// its own gateway does not end a little later.
const QUIET: Duration = Duration::from_secs(45);

/// How often the promises are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A run, as all who play in it share it.
#[derive(Clone)]
pub(super) struct Run(Arc<Shared>);

pub(super) struct Shared {
    pub(super) ground: Ground,
    pub(super) weather: Weather,
    pub(super) promises: Mutex<Promises>,
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

    pub(super) fn slots(&self) -> usize {
        self.slots.lock().unwrap().len()
    }

    pub(super) fn is_over(&self) -> bool {
        *self.phase.lock().unwrap() == Phase::Over
    }

    /// What may befall a gateway now.
    fn odds(&self) -> Odds {
        match (self.weather, *self.phase.lock().unwrap()) {
            (Weather::Foul, Phase::Play) => Odds { wait: 8, freeze: 700, crash: 1_500 },
            (Weather::Fair, Phase::Play) => Odds { wait: 8, ..Odds::default() },
            (Weather::Fair | Weather::Foul, Phase::Opening | Phase::Over) => Odds::default(),
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
    fn done(&self, what: &str, times: u64) {
        (0..times).for_each(|_| self.promises.lock().unwrap().done(what));
    }

    fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
        self.ground.simulation.set_faults(faults);
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
pub(super) async fn play(seed: u64, weather: Weather) -> Result<Played, Vec<String>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let ground = Ground::new(rng.next_u64());
    let count = usize::try_from(2 + rng.next_u64() % 2).unwrap();
    let run = Run(Arc::new(Shared {
        promises: Mutex::new(Promises::new(ground.clone())),
        ground,
        weather,
        rng: Mutex::new(rng),
        slots: Mutex::new(vec![None; count]),
        faults: Mutex::default(),
        phase: Mutex::new(Phase::Opening),
    }));
    open(&run).await;
    run.enter(Phase::Play);
    let mut players = vec![tokio::spawn(weather_changes(run.clone())), tokio::spawn(look(run.clone()))];
    for slot in 0..count {
        players.push(tokio::spawn(keep_alive(run.clone(), slot)));
        players.push(tokio::spawn(players::responder(run.clone(), slot)));
    }
    players.push(tokio::spawn(players::responder(run.clone(), 0)));
    players.push(tokio::spawn(players::administrator(run.clone())));
    for partner in ["pirkanmaa", "helsinki", "pirkanmaa", "helsinki", "elo"] {
        players.push(tokio::spawn(players::caller(run.clone(), partner)));
    }
    sleep(PLAY).await;
    run.enter(Phase::Over);
    run.set_faults(Faults::default());
    for player in players {
        match timeout(3 * QUIET, player).await {
            Ok(Ok(())) => {}
            Ok(Err(panicked)) => run.broken(format_args!("a player fell: {panicked}")),
            Err(_) => run.broken("a player plays on"),
        }
    }
    sleep(QUIET).await;
    close(&run).await;
    let mut promises = run.promises.lock().unwrap();
    promises.at_the_end(weather);
    match promises.take_broken() {
        broken if broken.is_empty() => {
            Ok(Played { digest: run.ground.simulation.digest(), deeds: promises.deeds().clone() })
        }
        broken => Err(broken),
    }
}

/// Everything is up, and the partners in force, before anything goes wrong.
async fn open(run: &Run) {
    for slot in 0..run.slots() {
        begin_life(run, slot).await;
    }
    let life = run.life(0).expect("it has just begun");
    life.gateway.apply_partners(partners()).await.expect("nothing goes wrong yet");
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
        sleep(dice.up_to(Duration::from_secs(4))).await;
    }
    run.set_faults(Faults::default());
}

async fn look(run: Run) {
    while !run.is_over() {
        sleep(LOOK).await;
        run.promises.lock().unwrap().read();
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
