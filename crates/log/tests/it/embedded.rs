//! The embedded log: the suite, group commit, backpressure, who may open it, and stamps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use airut_domain::{partition::Topic, time::Timestamp};
use airut_log::{AppendError, Clock, Embedded, Log, OpenError, Positions, Random, ReadError, TailError};
use futures::{future::join_all, poll};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::unconstrained;

use crate::{
    conformance::{Place, conformance},
    support::{append, by_partition, contents, gated, open, partition, record, settings, soon, take, try_append},
};

fn place() -> (Place, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (Place::new(move || std::future::ready(open(&path))), directory)
}

conformance! { #[tokio::test] place() }

/// The suite once more, with tails that find nothing in memory.
mod without_memory {
    use super::*;

    fn place() -> (Place, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let open = move || Log::embedded(Embedded { recent_bytes: 0, ..settings(&path) }).unwrap();
        (Place::new(move || std::future::ready(open())), directory)
    }

    conformance! { #[tokio::test(flavor = "multi_thread", worker_threads = 2)] place() }
}

#[tokio::test]
async fn appends_that_wait_together_share_one_sync() {
    let directory = tempfile::tempdir().unwrap();
    let (log, go) = gated(directory.path(), 1 << 20);
    // Unconstrained, or the runtime would have some of them wait for no other reason than that one task polls so many.
    let append = |i: u32| Box::pin(unconstrained(try_append(&log, partition(i % 12), i)));
    let mut appends: Vec<_> = (0..500).map(append).collect();
    for append in &mut appends {
        assert!(poll!(append).is_pending());
    }
    drop(go);
    for position in join_all(appends).await {
        position.unwrap();
    }
    // The first batch may have been taken before the rest was queued.
    assert!(log.stats().commits <= 2, "{:?}", log.stats());
    assert_eq!(log.stats().records, 500);
    assert_eq!(log.stats().queued_bytes, 0);
}

#[tokio::test]
async fn who_appends_to_a_full_queue_waits_and_memory_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let (log, go) = gated(directory.path(), 4096);
    let mut appends: Vec<_> = (0..100).map(|i| Box::pin(try_append(&log, partition(0), i))).collect();
    for append in &mut appends {
        assert!(poll!(append).is_pending());
    }
    assert!(log.stats().queued_bytes <= 4096);
    assert!(log.stats().queued_bytes > 3000);
    // One that leaves while it waits for room leaves nothing behind.
    drop(appends.pop());
    drop(go);
    let mut offsets: Vec<u64> = join_all(appends).await.into_iter().map(|position| position.unwrap().offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..99).collect::<Vec<_>>());
    assert_eq!(log.end(partition(0)).await.unwrap(), 99);
}

#[tokio::test]
async fn a_record_larger_than_the_queue_is_taken_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::embedded(Embedded { queue_bytes: 100, ..settings(directory.path()) }).unwrap();
    append(&log, partition(0), "x".repeat(5000)).await;
    append(&log, partition(0), "next").await;
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_log_closes() {
    let directory = tempfile::tempdir().unwrap();
    let (log, go) = gated(directory.path(), 1 << 20);
    for i in 0..50 {
        let mut append = Box::pin(log.append(partition(0), record(i)));
        assert!(poll!(&mut append).is_pending());
    }
    drop(go);
    drop(log);
    assert_eq!(contents(&open(directory.path()), partition(0)).await.len(), 50);
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let tail = log.tail(&Positions::new());
    let in_use = OpenError::InUse(directory.path().canonicalize().unwrap().join("log"));
    assert_eq!(Log::embedded(settings(directory.path())).unwrap_err(), in_use);
    assert_eq!(Log::embedded_read_only(directory.path().join("log")).unwrap_err(), in_use);
    drop(log);
    assert_eq!(Log::embedded(settings(directory.path())).unwrap_err(), in_use, "its tail holds it open");
    drop(tail);
    open(directory.path());
}

#[tokio::test]
async fn a_log_reached_through_a_link_is_the_same_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("log"), &link).unwrap();
    let refused = Log::embedded(Embedded::at(link, Clock::system(), Random::system())).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)));
    drop(log);
}

#[tokio::test]
async fn a_log_open_for_reading_gives_everything_and_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    assert!(Log::embedded_read_only(&path).is_err());
    let log = open(directory.path());
    join_all((0..50).map(|i| append(&log, partition(i % 2), i))).await;
    let identity = log.identity();
    drop(log);
    let before = std::fs::read(&path).unwrap();
    let log = Log::embedded_read_only(&path).unwrap();
    let beside = Log::embedded_read_only(&path).unwrap();
    assert_eq!(log.identity(), identity);
    assert_eq!(contents(&log, partition(0)).await.len(), 25);
    let mut tail = beside.tail(&Positions::new());
    by_partition(&take(&mut tail, 50).await, &Positions::new());
    assert_eq!(soon(tail.next()).await.unwrap_err(), TailError::Closed);
    assert!(matches!(try_append(&log, partition(0), "no").await, Err(AppendError::NotWritten(_))));
    assert!(log.trim(partition(0), 1).await.is_err());
    assert!(matches!(Log::embedded(settings(directory.path())), Err(OpenError::InUse(_))));
    drop((log, beside, tail));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn only_its_owner_may_read_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, partition(0), "first").await;
    for name in ["log", "log-wal"] {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_log_with_other_partitions_is_refused_and_a_missing_topic_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    append(&open(directory.path()), partition(0), "first").await;
    let change = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    change("DELETE FROM partitions WHERE topic = 'airut.refusals' AND number = 0");
    let fewer = OpenError::Partitions { topic: Topic::Refusals, found: 3, expected: 4 };
    assert_eq!(Log::embedded(settings(directory.path())).unwrap_err(), fewer);
    assert_eq!(Log::embedded_read_only(&path).unwrap_err(), fewer);
    change("INSERT INTO partitions VALUES ('airut.future', 0, 0, 0)");
    change("DELETE FROM partitions WHERE topic = 'airut.refusals'");
    let newer = OpenError::UnknownTopic("airut.future".to_owned());
    assert_eq!(Log::embedded(settings(directory.path())).unwrap_err(), newer);
    change("DELETE FROM partitions WHERE topic = 'airut.future'");
    change((0..4).map(|i| format!("DROP TABLE \"airut.refusals/{i}\";")).collect::<String>().as_str());
    let log = open(directory.path());
    append(&log, airut_domain::partition::Partition { topic: Topic::Refusals, number: 3 }, "first").await;
    assert_eq!(contents(&log, partition(0)).await.len(), 1);
}

#[tokio::test]
async fn what_is_not_a_log_of_this_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(
        &path,
        b"a letter, and a longer one than a file header, so that it is certainly nothing else".repeat(20),
    )
    .unwrap();
    assert!(matches!(Log::embedded(settings(directory.path())), Err(OpenError::NotALog(_))));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    assert!(matches!(Log::embedded(settings(directory.path())), Err(OpenError::NotALog(_))));
    assert!(matches!(Log::embedded_read_only(&path), Err(OpenError::NotALog(_))));
    std::fs::remove_file(&path).unwrap();
    drop(open(directory.path()));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let refused = Log::embedded(settings(directory.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Format { found: 2, known: 1, .. }));
}

#[tokio::test]
async fn stamps_follow_the_clock_but_never_back_not_even_in_another_life() {
    let directory = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(5000));
    let clock = {
        let now = Arc::clone(&now);
        Clock::new(move || Timestamp::from_millis(now.load(Ordering::SeqCst)))
    };
    let open = || Log::embedded(Embedded { clock: clock.clone(), ..settings(directory.path()) }).unwrap();
    let stamp = async |log: &Log| soon(log.append(partition(0), record("x"))).await.unwrap().1.as_millis();
    let log = open();
    assert_eq!(stamp(&log).await, 5000);
    now.store(4000, Ordering::SeqCst);
    assert_eq!(stamp(&log).await, 5000);
    drop(log);
    let log = open();
    assert_eq!(stamp(&log).await, 5000);
    soon(log.trim(partition(0), 3)).await.unwrap();
    drop(log);
    let log = open();
    assert_eq!(stamp(&log).await, 5000);
    now.store(6000, Ordering::SeqCst);
    assert_eq!(stamp(&log).await, 6000);
}

#[tokio::test]
async fn a_trim_of_many_records_lets_appends_through() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    for _ in 0..5 {
        join_all((0..1000).map(|i| append(&log, partition(0), i))).await;
    }
    let (trimmed, position) = tokio::join!(log.trim(partition(0), 4999), try_append(&log, partition(0), "meanwhile"));
    trimmed.unwrap();
    assert_eq!(position.unwrap().offset, 5000);
    assert_eq!(log.start(partition(0)).await.unwrap(), 4999);
    assert_eq!(contents(&log, partition(0)).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_a_trim_overtakes_is_told_of_the_trim_and_of_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::embedded(Embedded { recent_bytes: 0, ..settings(directory.path()) }).unwrap();
    for _ in 0..4 {
        join_all((0..1000).map(|i| append(&log, partition(0), i))).await;
    }
    let trim = tokio::spawn({
        let log = log.clone();
        async move { log.trim(partition(0), 4000).await }
    });
    for start in 0..4000 {
        match soon(log.read(partition(0), start..4000, 5000)).await {
            Ok(records) => assert_eq!(records[0].position.offset, start),
            Err(error) => assert!(matches!(error, ReadError::Trimmed { start: now, .. } if now > start), "{error}"),
        }
    }
    soon(trim).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_follow_a_busy_log_across_memory_and_file() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::embedded(Embedded { recent_bytes: 20_000, ..settings(directory.path()) }).unwrap();
    let tails = (0..3).map(|nth| {
        let mut tail = log.tail(&Positions::new());
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 6000 {
                seen.extend(soon(tail.next()).await.unwrap());
                tokio::time::sleep(Duration::from_millis(nth * 3)).await;
            }
            by_partition(&seen, &Positions::new())
        })
    });
    let tails: Vec<_> = tails.collect();
    for round in 0..60 {
        join_all((0..100).map(|i| append(&log, partition(i % 12), round * 100 + i))).await;
    }
    let seen = soon(join_all(tails)).await;
    let first = seen[0].as_ref().unwrap();
    assert!(seen.iter().all(|other| other.as_ref().unwrap() == first));
}
