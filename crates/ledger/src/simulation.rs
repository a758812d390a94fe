//! The ledger on a log that delays, reorders between partitions, refuses, and loses acknowledgements, killed again and
//! again, with so little room that it has to read past its tail. The seed of a failure is in its message.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use airut_domain::{
    member,
    partition::{Partition, Topic},
    record::{Header, Kind, RULES, Refused},
    refusal::Reason,
    time::Timestamp,
};
use airut_log::{Clock, Faults, Log, Random, Simulation, Unstamped};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use airut_wire::record::decode;

use crate::{
    FILE, Ledger, Outside, Settings, Status, StopReason, inbox::Bounds, note::Checkpoint, store::Reader, verify,
};

const TINY: Bounds = Bounds { leaves: 40, leaf_bytes: 8000, orders: 6, batch_leaves: 7, batch_bytes: 900 };
const RECORDS: u64 = 300;

/// Simulated time; nothing takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

fn faults() -> Faults {
    Faults {
        refuse: 0.05,
        lose_acknowledgement: 0.05,
        lose_record: 0.05,
        fail_read: 0.02,
        append_delay: Duration::from_millis(30),
        acknowledgement_delay: Duration::from_millis(30),
        tail_delay: Duration::from_millis(60),
    }
}

fn record(number: u64) -> (Partition, Unstamped) {
    let author = "gateway-1".parse().unwrap();
    let (partition, kind) = if number.is_multiple_of(5) {
        (Partition::only(Topic::Members), Kind::Member(member::Event::Heartbeat("gateway-1".parse().unwrap())))
    } else {
        let refused = Refused {
            partner: None,
            reason: Reason::NoContract,
            method: String::new(),
            fields: Vec::new(),
            count: number,
            span: Duration::ZERO,
            stranger: None,
        };
        (Partition { topic: Topic::Refusals, number: u32::try_from(number % 4).unwrap() }, Kind::Refusal(refused))
    };
    let header = Header { rules: RULES, nonce: [0; 16], author, body: None, kind };
    (partition, Unstamped { header: airut_wire::record::encode(&header), ..Unstamped::default() })
}

/// Appends every record at least once, in bursts.
async fn write(log: Log, mut rng: ChaCha8Rng) {
    for number in 0..RECORDS {
        let (partition, record) = record(number);
        while log.append(partition, record.clone()).await.is_err() {}
        if rng.next_u64().is_multiple_of(200) {
            sleep(Duration::from_millis(rng.next_u64() % 3000)).await;
        }
    }
}

/// Runs the ledger for one short life after the other until `done` says so; gives the checkpoints that were shown.
async fn live(ledger: &mut Ledger, rng: &mut ChaCha8Rng, mut done: impl FnMut(&Ledger) -> bool) -> Vec<Checkpoint> {
    let mut shown = Vec::new();
    while !done(ledger) {
        let life = Duration::from_millis(rng.next_u64() % 2000);
        let outcome = timeout(life, ledger.run(CancellationToken::new())).await;
        // A killed one's last transaction may still be under way, and then the next one's first fails.
        assert!(matches!(outcome, Err(_) | Ok(Err(StopReason::Storage(_)))), "{outcome:?}");
        if let Some(signed) = &ledger.status().borrow().checkpoint {
            shown.push(ledger.verifier_key().open(&signed.note).unwrap());
        }
    }
    shown
}

/// A simulated log, and a place for ledgers that have one key.
struct Ground {
    dir: TempDir,
    simulation: Simulation,
}

impl Ground {
    fn new(rng: &mut ChaCha8Rng, faults: Faults) -> Self {
        let begun = Instant::now();
        let clock = Clock::new(move || {
            Timestamp::from_millis(i64::try_from(begun.elapsed().as_millis()).unwrap() + 1_795_000_000_000)
        });
        let simulation = Simulation::new(ChaCha8Rng::from_rng(rng), clock, faults);
        Self { dir: tempfile::tempdir().unwrap(), simulation }
    }

    fn log(&self) -> Log {
        Log::simulated(&self.simulation)
    }

    fn dir_of(&self, number: u32) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    /// Opens the ledger of this number; the first makes the key, the others are given it.
    fn ledger(&self, number: u32, bounds: Bounds) -> Ledger {
        let dir = self.dir_of(number);
        if number > 1 {
            fs::create_dir_all(&dir).unwrap();
            for file in ["ledger.key", "ledger.vkey"] {
                fs::copy(self.dir_of(1).join(file), dir.join(file)).unwrap();
            }
        }
        let settings = Settings {
            dir,
            origin: "airut.example/simulated".parse().unwrap(),
            log: self.log(),
            author: format!("ledger-{number}").parse().unwrap(),
            random: Random::system(),
        };
        Ledger::open_with(settings, bounds).unwrap()
    }

    fn leaves(&self) -> usize {
        self.simulation.records().iter().filter(|record| record.position.partition.topic == Topic::Refusals).count()
    }

    fn all_signed(&self, ledger: &Ledger) -> bool {
        let leaves = self.leaves() as u64;
        ledger.status().borrow().checkpoint.as_ref().is_some_and(|signed| signed.size == leaves)
    }

    /// How many records of `airut.order` a ledger has written.
    fn written_by(&self, number: u32) -> usize {
        let author = format!("ledger-{number}");
        let records = self.simulation.records();
        let orders = records.iter().filter(|record| record.position.partition.topic == Topic::Order);
        orders.filter(|record| decode(&record.header).unwrap().author.as_str() == author).count()
    }
}

async fn simulate(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let ground = Ground::new(&mut rng, faults());
    // Two at once, neither of which knows whether the other lives.
    let (mut one, mut two) = (ground.ledger(1, TINY), ground.ledger(2, TINY));
    let (mut fate_one, mut fate_two) = (ChaCha8Rng::from_rng(&mut rng), ChaCha8Rng::from_rng(&mut rng));
    let writing: Vec<_> = (0..6).map(|_| tokio::spawn(write(ground.log(), ChaCha8Rng::from_rng(&mut rng)))).collect();
    // They are down at first, and find a backlog far larger than their room.
    sleep(Duration::from_secs(20)).await;
    let written = |_: &Ledger| writing.iter().all(|task| task.is_finished());
    let (mut shown, more) =
        tokio::join!(live(&mut one, &mut fate_one, written), live(&mut two, &mut fate_two, written));
    ground.simulation.set_faults(Faults::default());
    let all_signed = |ledger: &Ledger| ground.all_signed(ledger);
    let (rest, last) =
        tokio::join!(live(&mut one, &mut fate_one, all_signed), live(&mut two, &mut fate_two, all_signed));
    shown.extend(rest);
    let others: Vec<Checkpoint> = more.into_iter().chain(last).collect();

    for number in [1, 2] {
        let report = verify(&ground.log(), &ground.dir_of(number), Outside::default()).await.unwrap();
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!(report.unsigned, 0);
    }
    let reader = Reader::open(&ground.dir_of(1).join(FILE)).unwrap();
    let mut roots = BTreeMap::new();
    for Checkpoint { size, root, .. } in shown.iter().chain(&others) {
        assert_eq!(reader.root_at(*size).unwrap(), *root, "shown at {size}");
        roots.insert(*size, *root);
    }
    for shown in [&shown, &others] {
        assert!(shown.is_sorted_by_key(|checkpoint| checkpoint.size), "a ledger never goes back");
    }
    assert!(roots.len() > 3, "it was shown at work");
}

/// Runs a ledger until its token is cancelled.
fn at_work(mut ledger: Ledger) -> (CancellationToken, JoinHandle<Ledger>) {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move {
        ledger.run(stopped).await.unwrap();
        ledger
    });
    (stop, running)
}

#[tokio::test(start_paused = true)]
async fn of_two_ledgers_one_is_at_work_and_the_other_takes_over() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let ground = Ground::new(&mut rng, Faults::default());
    let (one, two) = (ground.ledger(1, Bounds::default()), ground.ledger(2, Bounds::default()));
    let (mut signed_by_one, mut signed_by_two) = (one.status(), two.status());
    let all = |ground: &Ground| ground.leaves() as u64;
    let signed =
        |size: u64| move |status: &Status| status.checkpoint.as_ref().is_some_and(|signed| signed.size == size);
    let (stop_one, one) = at_work(one);
    write(ground.log(), ChaCha8Rng::from_rng(&mut rng)).await;
    timeout(PATIENCE, signed_by_one.wait_for(signed(all(&ground)))).await.unwrap().unwrap();
    let (stop_two, two) = at_work(two);
    write(ground.log(), ChaCha8Rng::from_rng(&mut rng)).await;
    // It keeps up, shows what the other signs, and writes nothing.
    timeout(PATIENCE, signed_by_two.wait_for(signed(all(&ground)))).await.unwrap().unwrap();
    assert_eq!(ground.written_by(2), 0);

    stop_one.cancel();
    let one = one.await.unwrap();
    write(ground.log(), ChaCha8Rng::from_rng(&mut rng)).await;
    timeout(PATIENCE, signed_by_two.wait_for(signed(all(&ground)))).await.unwrap().unwrap();
    assert!(ground.written_by(2) > 0, "it has taken over");

    // The first comes back, and the second one stands by again once it has heard from it.
    let (stop_one, one) = at_work(one);
    write(ground.log(), ChaCha8Rng::from_rng(&mut rng)).await;
    timeout(PATIENCE, signed_by_one.wait_for(signed(all(&ground)))).await.unwrap().unwrap();
    timeout(PATIENCE, signed_by_two.wait_for(signed(all(&ground)))).await.unwrap().unwrap();
    // What the second one had begun meanwhile may still come.
    tokio::time::sleep(PATIENCE).await;
    let before = ground.written_by(2);
    write(ground.log(), ChaCha8Rng::from_rng(&mut rng)).await;
    timeout(PATIENCE, signed_by_two.wait_for(signed(all(&ground)))).await.unwrap().unwrap();
    assert_eq!(ground.written_by(2), before);

    stop_one.cancel();
    stop_two.cancel();
    drop((one.await.unwrap(), two.await.unwrap()));
    for number in [1, 2] {
        let report = verify(&ground.log(), &ground.dir_of(number), Outside::default()).await.unwrap();
        assert!(report.is_sound() && report.unsigned == 0, "{:#?}", report.findings);
    }
}

#[test]
fn whatever_the_log_does_every_checkpoint_shown_is_a_prefix_of_one_tree() {
    for seed in 0..4 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let simulated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed))));
        assert!(simulated.is_ok(), "seed {seed}");
    }
}
