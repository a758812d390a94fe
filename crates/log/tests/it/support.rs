//! What the tests share.

use std::{
    collections::BTreeMap,
    fmt::Display,
    future::Future,
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use airut_domain::{
    partition::{Partition, Position, Topic},
    record::Stored,
    time::Timestamp,
};
use airut_log::{AppendError, Clock, Embedded, Log, Positions, Random, ReadError, Tail, Unstamped};

pub(crate) fn partition(number: u32) -> Partition {
    Partition { topic: Topic::Queries, number }
}

pub(crate) fn record(text: impl Display) -> Unstamped {
    Unstamped {
        header: format!("header {text}").into_bytes(),
        body: format!("body {text}").into_bytes(),
        traceparent: format!("trace {text}"),
    }
}

/// The embedded log at `log` in this directory, with bounds that a test may change.
pub(crate) fn settings(directory: &Path) -> Embedded {
    Embedded::at(directory.join("log"), Clock::system(), Random::system())
}

pub(crate) fn open(directory: &Path) -> Log {
    Log::embedded(settings(directory)).unwrap()
}

/// A log whose writer stops before each batch until the sender says go, or is gone.
pub(crate) fn gated(directory: &Path, queue_bytes: usize) -> (Log, Sender<()>) {
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    let clock = Clock::new(move || {
        let _go_or_gone = gate.lock().unwrap().recv();
        Timestamp::from_millis(0)
    });
    let settings = Embedded { clock, queue_bytes, ..settings(directory) };
    (Log::embedded(settings).unwrap(), go)
}

pub(crate) async fn append(log: &Log, partition: Partition, text: impl Display) -> Position {
    try_append(log, partition, text).await.unwrap()
}

pub(crate) async fn try_append(log: &Log, partition: Partition, text: impl Display) -> Result<Position, AppendError> {
    soon(log.append(partition, record(text))).await.map(|(position, _)| position)
}

/// Every record of the partition that is still there.
pub(crate) async fn contents(log: &Log, partition: Partition) -> Vec<Arc<Stored>> {
    let (mut at, end) = (answered(async || log.start(partition).await).await, end(log, partition).await);
    let mut records = Vec::new();
    while at < end {
        records.extend(answered(async || log.read(partition, at..end, 1 << 20).await).await);
        at = records.last().map(|record: &Arc<Stored>| record.position.offset + 1).unwrap();
    }
    records
}

/// One past the last offset of the partition.
pub(crate) async fn end(log: &Log, partition: Partition) -> u64 {
    answered(async || log.end(partition).await).await
}

/// What the log says once it can be asked: while brokers come back and leaders move, it says that it can not.
pub(crate) async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, ReadError>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Err(ReadError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => return answer.unwrap(),
            }
        }
    };
    soon(asking).await
}

/// What the tail gives until it has given so many records.
pub(crate) async fn take(tail: &mut Tail, count: usize) -> Vec<Arc<Stored>> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(soon(tail.next()).await.unwrap());
    }
    records
}

/// The records by partition; each partition's must follow each other without a gap from where `from` says.
pub(crate) fn by_partition(records: &[Arc<Stored>], from: &Positions) -> BTreeMap<Partition, Vec<Arc<Stored>>> {
    let mut partitions: BTreeMap<Partition, Vec<Arc<Stored>>> = BTreeMap::new();
    for record in records {
        let seen = partitions.entry(record.position.partition).or_default();
        let first = from.get(&record.position.partition).copied().unwrap_or(0);
        assert_eq!(record.position.offset, first + seen.len() as u64, "a gap, a repeat or another order");
        seen.push(Arc::clone(record));
    }
    partitions
}

/// What must happen, within a bound that only a fault exceeds.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

/// Tells that a test is left out for lack of something; a failure where `AIRUT_TEST_REQUIRE` names it.
pub(crate) fn lacking(part: &str) {
    let required = std::env::var("AIRUT_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|required| required == part), "{part} is required and not there");
    #[allow(clippy::print_stderr, reason = "it is for who runs the tests")]
    {
        eprintln!("left out: there is no {part} here");
    }
}
