//! The ledger on a log that delays, reorders between partitions, refuses, and loses acknowledgements, killed again and
//! again, with so little room that it has to read past its tail. The seed of a failure is in its message.

use std::{collections::BTreeMap, time::Duration};

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
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{FILE, Ledger, Outside, Settings, StopReason, inbox::Bounds, note::Checkpoint, store::Reader, verify};

const TINY: Bounds = Bounds { leaves: 40, leaf_bytes: 8000, orders: 6, batch_leaves: 7, batch_bytes: 900 };
const RECORDS: u64 = 300;

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

async fn simulate(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let clock = Clock::new(move || {
        Timestamp::from_millis(i64::try_from(begun.elapsed().as_millis()).unwrap() + 1_795_000_000_000)
    });
    let simulation = Simulation::new(ChaCha8Rng::from_rng(&mut rng), clock, faults());
    let log = Log::simulated(&simulation);
    let settings = Settings {
        dir: dir.path().to_owned(),
        origin: "airut.example/simulated".parse().unwrap(),
        log: log.clone(),
        author: "ledger-1".parse().unwrap(),
        random: Random::system(),
    };
    let mut ledger = Ledger::open_with(settings, TINY).unwrap();
    let writing: Vec<_> = (0..6).map(|_| tokio::spawn(write(log.clone(), ChaCha8Rng::from_rng(&mut rng)))).collect();
    // It is down at first, and finds a backlog far larger than its room.
    sleep(Duration::from_secs(20)).await;
    let mut shown = live(&mut ledger, &mut rng, |_| writing.iter().all(|task| task.is_finished())).await;
    simulation.set_faults(Faults::default());
    let all_signed = |ledger: &Ledger| {
        let leaves =
            simulation.records().iter().filter(|record| record.position.partition.topic == Topic::Refusals).count();
        ledger.status().borrow().checkpoint.as_ref().is_some_and(|signed| signed.size == leaves as u64)
    };
    shown.extend(live(&mut ledger, &mut rng, all_signed).await);

    let report = verify(&log, dir.path(), Outside::default()).await.unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.unsigned, 0);
    let reader = Reader::open(&dir.path().join(FILE)).unwrap();
    let mut roots = BTreeMap::new();
    for Checkpoint { size, root, .. } in &shown {
        assert_eq!(reader.root_at(*size).unwrap(), *root, "shown at {size}");
        roots.insert(*size, *root);
    }
    assert!(shown.is_sorted_by_key(|checkpoint| checkpoint.size), "a ledger never goes back");
    assert!(roots.len() > 3, "it was shown at work");
}

#[test]
fn whatever_the_log_does_every_checkpoint_shown_is_a_prefix_of_one_tree() {
    for seed in 0..4 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let simulated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed))));
        assert!(simulated.is_ok(), "seed {seed}");
    }
}
