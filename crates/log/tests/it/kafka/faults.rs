//! Brokers that freeze and die while records are appended and followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use airut_domain::{
    partition::{Partition, Position},
    record::Stored,
};
use airut_log::{AppendError, KafkaSettings, Log, OpenError, Positions, ReadError, Tail, TailError};
use airut_testkit::eventually;
use futures::future::join_all;

use super::{
    cluster::{ONE, THREE},
    open,
};
use crate::support::{by_partition, contents, end, partition, soon, try_append};

/// How many records are under way at once.
const WINDOW: u32 = 60;
/// Within which brokers that are back must be of use, on a machine that does other things too.
const BACK: Duration = Duration::from_secs(60);

/// What was appended: the place of each record that was acknowledged, and the texts of all.
#[derive(Default)]
struct Appended {
    acknowledged: BTreeMap<Position, u32>,
    count: u32,
}

impl Appended {
    /// Appends so many windows of records, and looks at the ends after each; gives the number not acknowledged.
    async fn windows(&mut self, log: &Log, windows: u32) -> u32 {
        let mut failed = 0;
        for _ in 0..windows {
            let texts = self.count..self.count + WINDOW;
            self.count += WINDOW;
            let appends = texts.map(async |text| (text, try_append(log, partition(text % 12), text).await));
            for (text, outcome) in join_all(appends).await {
                match outcome {
                    Ok(position) => assert_eq!(self.acknowledged.insert(position, text), None, "{position} twice"),
                    Err(AppendError::OutcomeUnknown(_) | AppendError::NotWritten(_)) => failed += 1,
                    Err(other @ AppendError::TooLarge { .. }) => panic!("{other}"),
                }
            }
        }
        failed
    }

    /// Appends until every record of a window is acknowledged.
    async fn until_it_works(&mut self, log: &Log) {
        eventually(BACK, async || self.windows(log, 1).await == 0).await;
    }

    /// Nothing acknowledged is lost or elsewhere, nothing is there twice, and the tail saw exactly what is there.
    async fn check(&self, log: &Log, tail: &mut Tail) {
        let mut there = BTreeMap::new();
        for number in 0..12 {
            for record in contents(log, partition(number)).await {
                there.insert(record.position, record);
            }
        }
        let text = |text: u32| format!("header {text}").into_bytes();
        for (position, appended) in &self.acknowledged {
            let found = there.get(position).map(|record| &record.header);
            assert_eq!(found, Some(&text(*appended)), "{position}");
        }
        let different: BTreeSet<_> = there.values().map(|record| &record.header).collect();
        assert_eq!(different.len(), there.len(), "a record is there twice");
        let seen = follow(tail, there.len()).await;
        by_partition(&seen, &Positions::new());
        let seen: BTreeMap<_, _> = seen.into_iter().map(|record| (record.position, record)).collect();
        assert_eq!(seen, there);
    }
}

/// What the tail gives until it has given so many, through all interruptions.
async fn follow(tail: &mut Tail, count: usize) -> Vec<Arc<Stored>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match soon(tail.next()).await {
            Ok(batch) => seen.extend(batch),
            Err(error) => assert!(matches!(error, TailError::Unavailable(_)), "{error}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_leaves_outcomes_unknown_in_bounded_time_and_memory_and_then_all_goes_on() {
    let Some(kafka) = ONE.alone().await else { return };
    let settings = KafkaSettings { queue_bytes: 32 * 1024, ..kafka.settings() };
    let log = soon(open(settings.clone())).await;
    let mut tail = log.tail(&Positions::new());
    let mut appended = Appended::default();
    appended.until_it_works(&log).await;
    kafka.kafka.freeze(0);

    let began = Instant::now();
    let appends = join_all((0..500).map(|i| try_append(&log, partition(i % 12), format!("frozen {i}"))));
    let (outcomes, end, opened) = tokio::join!(appends, log.end(partition(0)), Log::kafka(settings));
    let (took, queued) = (began.elapsed(), log.stats().queued_bytes);

    kafka.kafka.thaw(0);
    assert!(took < Duration::from_secs(25), "{took:?}");
    let unknown = outcomes.iter().filter(|outcome| matches!(outcome, Err(AppendError::OutcomeUnknown(_)))).count();
    assert!(unknown > 0 && outcomes.iter().all(Result::is_err), "{unknown} unknown");
    assert!(queued <= 32 * 1024, "{queued} bytes");
    assert!(matches!(end, Err(ReadError::Unavailable(_))), "{end:?}");
    assert!(matches!(opened, Err(OpenError::Kafka { setting: "log.kafka.brokers", .. })), "{opened:?}");
    appended.until_it_works(&log).await;
    appended.check(&log, &mut tail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_by_itself_where_it_was_when_a_broker_thaws() {
    let Some(kafka) = ONE.alone().await else { return };
    let log = soon(open(kafka.settings())).await;
    let mut tail = log.tail(&Positions::new());
    eventually(BACK, async || try_append(&log, partition(0), "before").await.is_ok()).await;
    let mut seen = follow(&mut tail, 1).await;
    kafka.kafka.freeze(0);
    let waited = tokio::time::timeout(Duration::from_secs(30), tail.next()).await;
    kafka.kafka.thaw(0);
    // Told when the brokers had not answered for as long as a request may take.
    assert!(matches!(waited, Ok(Err(TailError::Unavailable(_)))), "{waited:?}");
    eventually(BACK, async || try_append(&log, partition(0), "after").await.is_ok()).await;
    let count = usize::try_from(end(&log, partition(0)).await).unwrap();
    seen.extend(follow(&mut tail, count - 1).await);
    assert_eq!(seen, contents(&log, partition(0)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_was_acknowledged_nothing_is_lost_when_one_broker_of_three_is_killed() {
    let Some(kafka) = THREE.alone().await else { return };
    let log = soon(open(kafka.settings())).await;
    let mut tail = log.tail(&Positions::new());
    let mut appended = Appended::default();
    for node in 0..3 {
        appended.until_it_works(&log).await;
        let killed = tokio::task::spawn_blocking(move || kafka.kafka.kill(node));
        appended.windows(&log, 10).await;
        killed.await.unwrap();
        appended.until_it_works(&log).await;
        let ends = acknowledged_ends(&appended);
        for (partition, acknowledged) in ends {
            assert!(end(&log, partition).await >= acknowledged, "{partition}");
        }
        // Back, it is given the lead again of what it led: leaders move with all brokers alive.
        let restarted = tokio::task::spawn_blocking(move || kafka.kafka.restart(node));
        while !restarted.is_finished() {
            appended.windows(&log, 1).await;
        }
        restarted.await.unwrap();
    }
    appended.until_it_works(&log).await;
    appended.check(&log, &mut tail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_freezes_is_replaced_and_changes_nothing_when_it_thaws() {
    let Some(kafka) = THREE.alone().await else { return };
    let log = soon(open(kafka.settings())).await;
    let mut tail = log.tail(&Positions::new());
    let mut appended = Appended::default();
    appended.until_it_works(&log).await;
    kafka.kafka.freeze(1);
    let worked = tokio::time::timeout(BACK, appended.until_it_works(&log)).await;
    kafka.kafka.thaw(1);
    assert!(worked.is_ok());
    appended.windows(&log, 10).await;
    appended.until_it_works(&log).await;
    appended.check(&log, &mut tail).await;
}

fn acknowledged_ends(appended: &Appended) -> BTreeMap<Partition, u64> {
    let mut ends = BTreeMap::new();
    for position in appended.acknowledged.keys() {
        let end: &mut u64 = ends.entry(position.partition).or_default();
        *end = (*end).max(position.offset + 1);
    }
    ends
}
