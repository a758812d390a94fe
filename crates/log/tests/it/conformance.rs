//! What every engine promises, as functions over a place where a log can be made and opened again.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use airut_domain::{
    partition::{Partition, Topic},
    record::Stored,
    time::Timestamp,
};
use airut_log::{AppendError, Log, MAX_RECORD_BYTES, Positions, ReadError, TailError, TrimError, Unstamped};
use futures::{future::join_all, poll};

use crate::support::{append, by_partition, contents, partition, record, soon, take};

/// A place for one log, empty at first. Each call opens the log that lies there; the one before is gone by then.
pub(crate) struct Place(Box<dyn Fn() -> Pin<Box<dyn Future<Output = Log>>>>);

impl Place {
    pub(crate) fn new<F: Future<Output = Log> + 'static>(open: impl Fn() -> F + 'static) -> Self {
        Self(Box::new(move || Box::pin(open())))
    }

    async fn open(&self) -> Log {
        soon((self.0)()).await
    }
}

/// The suite as tests of one engine. `place` gives a fresh place, and may keep what must live as long.
macro_rules! conformance {
    (#[$runtime:meta] $place:expr) => {
        conformance! { @ #[$runtime] $place;
            a_record_is_read_back_as_it_was_appended
            offsets_have_no_gap_and_stamps_never_decrease
            who_was_told_of_a_record_finds_it_before_the_end
            every_tail_sees_every_record_once_in_partition_order
            a_tail_begins_where_it_is_told_to
            a_tail_waits_for_what_is_not_there_yet
            a_cancelled_wait_of_a_tail_loses_nothing
            a_tail_far_behind_catches_up
            acknowledged_records_are_found_again_when_the_log_is_opened_again
            a_read_gives_no_more_than_asked_for_and_always_makes_progress
            what_is_trimmed_is_told_precisely_and_offsets_go_on
            a_trimmed_log_opened_again_goes_on_where_it_was
            a_trim_beyond_the_end_is_refused
            a_tail_that_would_begin_beyond_the_end_is_refused
            partitions_that_are_not_there_are_refused
            the_largest_record_is_taken_and_a_larger_one_is_not
            an_append_that_its_caller_left_is_whole_or_not_there
        }
    };
    (@ #[$runtime:meta] $place:expr; $($promise:ident)*) => {$(
        #[$runtime]
        async fn $promise() {
            let (place, _kept) = $place;
            $crate::conformance::$promise(&place).await;
        }
    )*};
}
pub(crate) use conformance;

pub(crate) async fn a_record_is_read_back_as_it_was_appended(place: &Place) {
    let log = place.open().await;
    for partition in Partition::all() {
        let (position, stamp) = soon(log.append(partition, record(partition))).await.unwrap();
        let Unstamped { header, body, traceparent } = record(partition);
        let expected = Stored { position, stamp, header, body, traceparent };
        assert_eq!(*contents(&log, partition).await[0], expected);
    }
    let bare = Unstamped::default();
    let (position, _) = soon(log.append(partition(0), bare)).await.unwrap();
    assert_eq!(position.offset, 1);
    assert!(contents(&log, partition(0)).await[1].body.is_empty());
}

pub(crate) async fn offsets_have_no_gap_and_stamps_never_decrease(place: &Place) {
    let log = place.open().await;
    let appends = (0..300).map(|i| append(&log, partition(i % 3), i));
    let mut positions = join_all(appends).await;
    positions.sort();
    for number in 0..3 {
        let records = contents(&log, partition(number)).await;
        let offsets: Vec<u64> = records.iter().map(|record| record.position.offset).collect();
        assert_eq!(offsets, (0..100).collect::<Vec<_>>());
        let stamps: Vec<Timestamp> = records.iter().map(|record| record.stamp).collect();
        assert!(stamps.is_sorted());
        assert!(offsets.iter().all(|offset| {
            positions.contains(&airut_domain::partition::Position { partition: partition(number), offset: *offset })
        }));
    }
}

pub(crate) async fn who_was_told_of_a_record_finds_it_before_the_end(place: &Place) {
    let log = place.open().await;
    for i in 0..20 {
        let position = append(&log, partition(0), i).await;
        assert_eq!(log.end(partition(0)).await.unwrap(), position.offset + 1);
    }
    assert_eq!(log.start(partition(0)).await.unwrap(), 0);
    assert_eq!(log.end(partition(1)).await.unwrap(), 0);
}

pub(crate) async fn every_tail_sees_every_record_once_in_partition_order(place: &Place) {
    let log = place.open().await;
    let mut early = log.tail(&Positions::new());
    join_all((0..100).map(|i| append(&log, partition(i % 5), i))).await;
    let (mut late, mut unhurried) = (log.tail(&Positions::new()), log.tail(&Positions::new()).unhurried());
    let appends = join_all((100..200).map(|i| append(&log, partition(i % 5), i)));
    let (early, late, unhurried, _) =
        tokio::join!(take(&mut early, 200), take(&mut late, 200), take(&mut unhurried, 200), appends);
    let expected: BTreeMap<_, _> = by_partition(&early, &Positions::new());
    assert_eq!(by_partition(&late, &Positions::new()), expected);
    assert_eq!(by_partition(&unhurried, &Positions::new()), expected);
    for (partition, records) in expected {
        assert_eq!(contents(&log, partition).await, records);
    }
}

pub(crate) async fn a_tail_begins_where_it_is_told_to(place: &Place) {
    let log = place.open().await;
    join_all((0..30).map(|i| append(&log, partition(i % 3), i))).await;
    let from = Positions::from([(partition(0), 4), (partition(1), 10)]);
    let mut tail = log.tail(&from);
    let seen = take(&mut tail, 6 + 10).await;
    let counts: Vec<usize> = by_partition(&seen, &from).values().map(Vec::len).collect();
    assert_eq!(counts, [6, 10]);
    append(&log, partition(1), "next").await;
    assert_eq!(take(&mut tail, 1).await[0].position.offset, 10);
}

pub(crate) async fn a_tail_waits_for_what_is_not_there_yet(place: &Place) {
    let log = place.open().await;
    let mut tail = log.tail(&Positions::new());
    assert!(poll!(std::pin::pin!(tail.next())).is_pending());
    append(&log, Partition::only(Topic::Members), "first").await;
    let seen = take(&mut tail, 1).await;
    assert_eq!(seen[0].position.partition, Partition::only(Topic::Members));
    assert!(poll!(std::pin::pin!(tail.next())).is_pending());
}

pub(crate) async fn a_cancelled_wait_of_a_tail_loses_nothing(place: &Place) {
    let log = place.open().await;
    let appends = async {
        for i in 0..100 {
            append(&log, partition(i % 4), i).await;
        }
    };
    let mut tail = log.tail(&Positions::new());
    let follow = async {
        let mut seen = Vec::new();
        while seen.len() < 100 {
            // One poll and away, as a `select!` would.
            if let std::task::Poll::Ready(batch) = poll!(std::pin::pin!(tail.next())) {
                seen.extend(batch.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen
    };
    let ((), seen) = soon(async { tokio::join!(appends, follow) }).await;
    assert_eq!(by_partition(&seen, &Positions::new()).len(), 4);
}

pub(crate) async fn a_tail_far_behind_catches_up(place: &Place) {
    let log = place.open().await;
    for _ in 0..4 {
        join_all((0..1000).map(|i| append(&log, partition(i % 12), i))).await;
    }
    let mut tail = log.tail(&Positions::new());
    let seen = take(&mut tail, 4000).await;
    assert_eq!(seen.len(), 4000);
    assert!(by_partition(&seen, &Positions::new()).len() == 12);
}

pub(crate) async fn acknowledged_records_are_found_again_when_the_log_is_opened_again(place: &Place) {
    let log = place.open().await;
    let identity = log.identity();
    join_all((0..60).map(|i| append(&log, partition(i % 3), i))).await;
    let before = [contents(&log, partition(0)).await, contents(&log, partition(1)).await];
    drop(log);
    let log = place.open().await;
    assert_eq!(log.identity(), identity);
    assert_eq!([contents(&log, partition(0)).await, contents(&log, partition(1)).await], before);
    assert_eq!(append(&log, partition(0), "next").await.offset, 20);
    assert_eq!(take(&mut log.tail(&Positions::new()), 61).await.len(), 61);
}

pub(crate) async fn a_read_gives_no_more_than_asked_for_and_always_makes_progress(place: &Place) {
    let log = place.open().await;
    join_all((0..50).map(|i| append(&log, partition(0), i))).await;
    let read = |offsets, bytes| soon(log.read(partition(0), offsets, bytes));
    let some = read(10..20, 1 << 20).await.unwrap();
    assert!(!some.is_empty() && some.len() <= 10);
    assert_eq!(some[0].position.offset, 10);
    assert_eq!(read(10..20, 0).await.unwrap().len(), 1);
    assert!(read(10..50, 2000).await.unwrap().len() < 40);
    assert!(read(45..100, 1 << 20).await.unwrap().len() <= 5);
    assert_eq!(read(50..60, 1 << 20).await.unwrap(), []);
    assert_eq!(read(10..10, 1 << 20).await.unwrap(), []);
}

pub(crate) async fn what_is_trimmed_is_told_precisely_and_offsets_go_on(place: &Place) {
    let log = place.open().await;
    join_all((0..50).map(|i| append(&log, partition(0), i))).await;
    let mut behind = log.tail(&Positions::new());
    soon(log.trim(partition(0), 30)).await.unwrap();
    soon(log.trim(partition(0), 20)).await.unwrap();
    assert_eq!(log.start(partition(0)).await.unwrap(), 30);
    let trimmed = ReadError::Trimmed { partition: partition(0), start: 30 };
    assert_eq!(soon(log.read(partition(0), 29..50, 1 << 20)).await.unwrap_err(), trimmed);
    assert_eq!(contents(&log, partition(0)).await.len(), 20);
    let trimmed = TailError::Trimmed { partition: partition(0), start: 30 };
    assert_eq!(soon(behind.next()).await.unwrap_err(), trimmed);
    assert_eq!(take(&mut log.tail(&Positions::new()), 20).await[0].position.offset, 30);
    soon(log.trim(partition(0), 50)).await.unwrap();
    assert_eq!(log.start(partition(0)).await.unwrap(), 50);
    assert_eq!(append(&log, partition(0), "next").await.offset, 50);
}

pub(crate) async fn a_trimmed_log_opened_again_goes_on_where_it_was(place: &Place) {
    let log = place.open().await;
    join_all((0..50).map(|i| append(&log, partition(0), i))).await;
    soon(log.trim(partition(0), 50)).await.unwrap();
    drop(log);
    let log = place.open().await;
    assert_eq!(log.start(partition(0)).await.unwrap(), 50);
    assert_eq!(log.end(partition(0)).await.unwrap(), 50);
    assert_eq!(append(&log, partition(0), "next").await.offset, 50);
}

pub(crate) async fn a_trim_beyond_the_end_is_refused(place: &Place) {
    let log = place.open().await;
    append(&log, partition(0), "only").await;
    let refused = TrimError::BeyondEnd { partition: partition(0), end: 1 };
    assert_eq!(soon(log.trim(partition(0), 2)).await.unwrap_err(), refused);
    assert_eq!(contents(&log, partition(0)).await.len(), 1);
}

pub(crate) async fn a_tail_that_would_begin_beyond_the_end_is_refused(place: &Place) {
    let log = place.open().await;
    append(&log, partition(0), "only").await;
    let mut tail = log.tail(&Positions::from([(partition(0), 2)]));
    assert_eq!(soon(tail.next()).await.unwrap_err(), TailError::BeyondEnd { partition: partition(0), end: 1 });
}

pub(crate) async fn partitions_that_are_not_there_are_refused(place: &Place) {
    let log = place.open().await;
    let nowhere = partition(99);
    assert_eq!(soon(log.read(nowhere, 0..1, 1)).await.unwrap_err(), ReadError::NoSuchPartition(nowhere));
    assert_eq!(log.end(nowhere).await.unwrap_err(), ReadError::NoSuchPartition(nowhere));
    assert_eq!(soon(log.trim(nowhere, 0)).await.unwrap_err(), TrimError::NoSuchPartition(nowhere));
    let mut tail = log.tail(&Positions::from([(nowhere, 0)]));
    assert_eq!(soon(tail.next()).await.unwrap_err(), TailError::NoSuchPartition(nowhere));
}

pub(crate) async fn the_largest_record_is_taken_and_a_larger_one_is_not(place: &Place) {
    let log = place.open().await;
    let large = |size_bytes| Unstamped { body: vec![7; size_bytes], ..Unstamped::default() };
    let refused = soon(log.append(partition(0), large(MAX_RECORD_BYTES + 1))).await.unwrap_err();
    assert_eq!(refused, AppendError::TooLarge { size_bytes: MAX_RECORD_BYTES + 1 });
    soon(log.append(partition(0), large(MAX_RECORD_BYTES))).await.unwrap();
    append(&log, partition(0), "after it").await;
    let seen = take(&mut log.tail(&Positions::new()), 2).await;
    assert_eq!(seen[0].body.len(), MAX_RECORD_BYTES);
}

pub(crate) async fn an_append_that_its_caller_left_is_whole_or_not_there(place: &Place) {
    let log = place.open().await;
    for i in 0..20 {
        let mut left = Box::pin(log.append(partition(0), record(i)));
        drop(poll!(&mut left));
    }
    append(&log, partition(0), "last").await;
    for stored in contents(&log, partition(0)).await {
        let text = String::from_utf8(stored.header.clone()).unwrap();
        assert_eq!(stored.body, record(text.trim_start_matches("header ")).body);
    }
}
