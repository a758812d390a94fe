//! The folds on the engines that production has: what is left of a trimmed log gives the state that all of it gave.
//!
//! What takes a week is not waited for: the embedded log is stamped by a clock of the test's, and trimmed by the exchange's own
//! rule. Kafka stamps by its brokers' clocks, where nothing is a week old; there the records are let go that no fold needs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use airut_domain::{
    keys::Digest,
    partition::{Partition, Topic},
    query::REMEMBERED,
};
use airut_exchange::{FoldStore, Gateway, ReceiptKey, Settings, World};
use airut_log::{Clock, Embedded, HeaderWriter, KafkaSettings, KeyRing, Log, Random, Writer};
use airut_store::{KeyStore, Memory, Objects};
use airut_testkit::{eventually, kafka::Kafka};

use crate::{
    support::{ask, connect, partners, request},
    trimming::seal_log,
};

/// What only a fault exceeds.
const SOON: Duration = Duration::from_secs(60);

/// As many refusals come with a day's queries.
const REFUSED: u32 = 10;

/// A log, and what its gateways share.
struct Place {
    clock: Clock,
    ring: Arc<KeyRing>,
    memory: Memory,
    folds: tempfile::TempDir,
}

impl Place {
    fn new(clock: Clock) -> Self {
        let ring = Arc::new(KeyRing::generate(&Random::system(), clock.now().date().year()));
        Self { clock, ring, memory: Memory::new(), folds: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folds.path().join(name)
    }

    /// A gateway whose folds have a file of its own, which is not there yet.
    async fn gateway(&self, name: &str, log: &Log) -> Gateway {
        let settings = Settings {
            log: log.clone(),
            ring: Arc::clone(&self.ring),
            keys: self.keys(),
            objects: Objects::memory(&self.memory),
            catalogue: std::sync::Arc::default(),
            scan: None,
            receipt_key: ReceiptKey::from_seed(&[7; 32]),
            folds: FoldStore::File(self.file(name)),
            incarnation: name.parse().unwrap(),
            world: World::new(self.clock.clone(), Random::system(), |task| drop(tokio::spawn(task))),
        };
        Gateway::start(settings).await.unwrap()
    }

    fn writer(&self, log: &Log) -> Writer {
        Writer::new(HeaderWriter::new(log.clone(), "ledger".parse().unwrap(), Random::system()), self.keys())
    }

    fn keys(&self) -> KeyStore {
        let objects = Objects::memory(&self.memory);
        KeyStore::new(objects, self.ring.wrapping(), self.clock.clone(), Random::system())
    }

    /// Queries in every partition, answered and repeated, and refusals among them.
    async fn live(&self, gateway: &Gateway, day: &str) {
        eventually(SOON, async || gateway.is_current()).await;
        let mut responder = connect(gateway, "kela");
        responder.open(8).await;
        responder.opened().await;
        responder.keeps_answering();
        let mut left: Vec<u32> = (0..Topic::Queries.partitions()).collect();
        for number in 0.. {
            if left.is_empty() {
                return;
            }
            let id = format!("{day}-{number}");
            let lies_in = self.ring.partition_of(Topic::Queries, &[b"pirkanmaa", id.as_bytes()]);
            left.retain(|number| *number != lies_in.number);
            let until = self.clock.now() + SOON;
            ask(gateway, "pirkanmaa", request(&id), until).response().await;
            ask(gateway, "pirkanmaa", request(&id), until).response().await;
            // No more than are recorded singly within a minute, which is one of the machine's clock.
            if number < REFUSED {
                ask(gateway, "elo", request(&id), until).refusal().await;
            }
        }
    }
}

/// The digests of two gateways' folds when they stand at the same place, which they do between two records.
async fn digests(one: &Gateway, other: &Gateway) -> [Digest; 2] {
    let mut found = None;
    eventually(SOON, async || {
        let stand = || (one.folds().positions(), other.folds().positions());
        let before = stand();
        let digests = [one.folds().digest().unwrap(), other.folds().digest().unwrap()];
        found = (before.0 == before.1 && before == stand()).then_some(digests);
        found.is_some()
    })
    .await;
    found.unwrap()
}

async fn start(log: &Log, topic: Topic) -> u64 {
    let mut starts = 0;
    for partition in Partition::all().filter(|partition| partition.topic == topic) {
        starts += log.start(partition).await.unwrap();
    }
    starts
}

fn embedded(path: &Path, clock: &Clock) -> Log {
    Log::embedded(Embedded::at(path, clock.clone(), Random::system())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_log_a_rebuild_from_the_trim_point_has_the_running_folds_digest() {
    let passed = Arc::new(AtomicI64::new(0));
    let (began, skipped) = (Clock::system(), Arc::clone(&passed));
    let clock = Clock::new(move || began.now() + Duration::from_secs(skipped.load(Ordering::Relaxed).unsigned_abs()));
    let place = Place::new(clock.clone());
    let log = embedded(&place.file("log.sqlite"), &clock);
    let gateway = place.gateway("gateway-1", &log).await;
    gateway.apply_partners(partners()).await.unwrap();
    for day in ["first", "second", "third"] {
        place.live(&gateway, day).await;
        passed.fetch_add(i64::try_from(REMEMBERED.as_secs()).unwrap() / 2 + 86_400, Ordering::Relaxed);
    }
    place.live(&gateway, "last").await;
    seal_log(&log, &place.writer(&log)).await;
    eventually(SOON, async || !gateway.folds().checkpoint().is_empty()).await;
    gateway.trim().await.unwrap();
    for topic in [Topic::Queries, Topic::Refusals, Topic::Members] {
        assert!(start(&log, topic).await > 0, "{topic} is not trimmed");
    }

    let anew = place.gateway("gateway-2", &log).await;
    let [running, rebuilt] = digests(&gateway, &anew).await;
    assert_eq!(running, rebuilt);
    place.live(&gateway, "after").await;
    let [running, rebuilt] = digests(&gateway, &anew).await;
    assert_eq!(running, rebuilt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_a_rebuild_from_the_trim_point_has_the_running_folds_digest() {
    let Some(kafka) = tokio::task::spawn_blocking(|| Kafka::start(1)).await.unwrap() else { return };
    let settings = KafkaSettings { replication: 1, min_in_sync: 1, ..KafkaSettings::at([kafka.bootstrap()]) };
    let log = Log::kafka(settings.clone()).await.unwrap();
    let place = Place::new(Clock::system());
    let gateway = place.gateway("gateway-1", &log).await;
    gateway.apply_partners(partners()).await.unwrap();
    place.live(&gateway, "before").await;
    // The exchange's own rule keeps all of it for a week.
    seal_log(&log, &place.writer(&log)).await;
    eventually(SOON, async || !gateway.folds().checkpoint().is_empty()).await;
    gateway.trim().await.unwrap();
    assert_eq!(start(&log, Topic::Queries).await, 0);
    // No fold needs refusals, but for the last one of a partition: that holds the partition's time.
    for partition in Partition::all().filter(|partition| partition.topic == Topic::Refusals) {
        let end = log.end(partition).await.unwrap();
        log.trim(partition, end.saturating_sub(1)).await.unwrap();
    }
    assert!(start(&log, Topic::Refusals).await > 0);

    // As another process would: it does not know how far the log was trimmed.
    let other = Log::kafka(settings).await.unwrap();
    let anew = place.gateway("gateway-2", &other).await;
    let [running, rebuilt] = digests(&gateway, &anew).await;
    assert_eq!(running, rebuilt);
    place.live(&anew, "after").await;
    let [running, rebuilt] = digests(&gateway, &anew).await;
    assert_eq!(running, rebuilt);
}
