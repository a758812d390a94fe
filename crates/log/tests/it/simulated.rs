//! The simulated log: the suite, kind and unkind, and that it keeps its word about chance.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use airut_domain::{keys::Digest, partition::Position, record::Stored, time::Timestamp};
use airut_log::{AppendError, Clock, Faults, Log, Positions, Simulation, TailError};
use futures::{future::join_all, poll};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio::time::Instant;

use crate::{
    conformance::{Place, conformance},
    support::{append, by_partition, partition, record, take, try_append},
};

fn simulation(seed: u64, faults: Faults) -> Simulation {
    let began = Instant::now();
    let clock = Clock::new(move || Timestamp::from_millis(1_000) + began.elapsed());
    Simulation::new(ChaCha8Rng::seed_from_u64(seed), clock, faults)
}

fn place_with(faults: Faults) -> (Place, ()) {
    let simulation = simulation(7, faults);
    (Place::new(move || std::future::ready(Log::simulated(&simulation))), ())
}

fn slow() -> Faults {
    Faults {
        append_delay: Duration::from_millis(20),
        acknowledgement_delay: Duration::from_millis(20),
        tail_delay: Duration::from_millis(50),
        ..Faults::default()
    }
}

fn unkind() -> Faults {
    Faults { refuse: 0.1, lose_acknowledgement: 0.1, lose_record: 0.1, fail_read: 0.1, ..slow() }
}

mod kind {
    use super::*;

    conformance! { #[tokio::test(start_paused = true)] place_with(Faults::default()) }
}

mod slow {
    use super::*;

    conformance! { #[tokio::test(start_paused = true)] place_with(slow()) }
}

/// Appends 400 records and follows them with a tail; gives what each append said, and the log's digest.
async fn play(seed: u64) -> (Vec<Result<Position, AppendError>>, Digest, Vec<Arc<Stored>>) {
    let simulation = simulation(seed, unkind());
    let log = Log::simulated(&simulation);
    let mut tail = log.tail(&Positions::new());
    let appends = join_all((0..400).map(|i| try_append(&log, partition(i % 4), i)));
    let follow = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Ok(next) = tokio::time::timeout(Duration::from_secs(5), tail.next()).await {
            match next {
                Ok(batch) => seen.extend(batch),
                Err(error) => assert!(matches!(error, TailError::Unavailable(_))),
            }
        }
        seen
    });
    let outcomes = appends.await;
    let seen = follow.await.unwrap();
    (outcomes, simulation.digest(), seen)
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_log_byte_for_byte() {
    for seed in 0..10 {
        assert_eq!(play(seed).await, play(seed).await, "seed {seed}");
    }
    assert_ne!(play(1).await.1, play(2).await.1);
}

#[tokio::test(start_paused = true)]
async fn what_callers_are_told_is_true() {
    let mut unknown = BTreeSet::new();
    for seed in 0..10 {
        let (outcomes, _, seen) = play(seed).await;
        by_partition(&seen, &Positions::new());
        for (i, outcome) in outcomes.iter().enumerate() {
            let found: Vec<Position> =
                seen.iter().filter(|stored| stored.body == record(i).body).map(|stored| stored.position).collect();
            match outcome {
                Ok(position) => assert_eq!(found, [*position]),
                Err(AppendError::NotWritten(_)) => assert_eq!(found, []),
                Err(AppendError::OutcomeUnknown(_)) => _ = unknown.insert(found.len()),
                Err(AppendError::TooLarge { .. }) => panic!("none is"),
            }
        }
    }
    assert_eq!(unknown, BTreeSet::from([0, 1]), "an unknown outcome goes either way");
}

#[tokio::test(start_paused = true)]
async fn tails_differ_in_the_order_between_partitions_only() {
    let simulation = simulation(3, slow());
    let log = Log::simulated(&simulation);
    let mut tails = [log.tail(&Positions::new()), log.tail(&Positions::new())];
    join_all((0..200).map(|i| append(&log, partition(i % 8), i))).await;
    let [first, second] = &mut tails;
    let (first, second) = (take(first, 200).await, take(second, 200).await);
    assert_ne!(first, second);
    assert_eq!(by_partition(&first, &Positions::new()), by_partition(&second, &Positions::new()));
}

#[tokio::test(start_paused = true)]
async fn a_record_comes_in_though_its_caller_has_left() {
    let simulation = simulation(3, slow());
    let log = Log::simulated(&simulation);
    let mut left = Box::pin(log.append(partition(0), record("left")));
    assert!(poll!(&mut left).is_pending());
    drop(left);
    assert_eq!(simulation.records(), []);
    assert_eq!(take(&mut log.tail(&Positions::new()), 1).await[0].body, record("left").body);
}

#[tokio::test(start_paused = true)]
async fn faults_can_be_switched_while_it_runs() {
    let simulation = simulation(3, Faults { refuse: 1.0, fail_read: 1.0, ..Faults::default() });
    let log = Log::simulated(&simulation);
    assert!(matches!(try_append(&log, partition(0), 1).await, Err(AppendError::NotWritten(_))));
    assert!(log.read(partition(0), 0..1, 1).await.is_err());
    simulation.set_faults(Faults::default());
    append(&log, partition(0), 2).await;
    assert_eq!(simulation.records().len(), 1);
}
