//! What a flipped bit or a cut file may never do: give a record that was not written.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use airut_domain::record::Stored;
use airut_log::{Log, Positions, ReadError, TailError};
use futures::{future::join_all, poll};
use tempfile::TempDir;

use crate::support::{append, contents, gated, open, partition, record, soon, take, try_append};

/// On a file system in memory where there is one: these tests open the log thousands of times.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Copies the log as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    for name in ["log", "log-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    drop(fs::remove_file(to.join("log-shm")));
}

fn wal(directory: &Path) -> PathBuf {
    directory.join("log-wal")
}

fn truncate(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// What can be read of the partition before the first error, and that error.
async fn readable(log: &Log) -> (Vec<Arc<Stored>>, Option<ReadError>) {
    let (mut records, end) = (Vec::new(), log.end(partition(0)).await.unwrap());
    while (records.len() as u64) < end {
        match soon(log.read(partition(0), records.len() as u64..end, 1 << 20)).await {
            Ok(batch) => records.extend(batch),
            Err(error) => return (records, Some(error)),
        }
    }
    (records, None)
}

#[tokio::test]
async fn a_wal_cut_at_any_byte_leaves_exactly_the_commits_that_were_whole() {
    let (whole, cut) = (directory(), directory());
    let log = open(whole.path());
    let mut ends = Vec::new();
    for i in 0..6 {
        append(&log, partition(0), i).await;
        ends.push(fs::metadata(wal(whole.path())).unwrap().len());
    }
    let expected = contents(&log, partition(0)).await;
    // Every byte about the frame's header and its end. Between, where all bytes are alike to a checksum, every fifth.
    let (first, last) = (ends[4], ends[5]);
    for length in (first..=last).filter(|at| *at < first + 200 || *at > last - 200 || at % 5 == 0) {
        copy(whole.path(), cut.path());
        truncate(&wal(cut.path()), length);
        let survive = ends.iter().filter(|end| **end <= length).count();
        let log = Log::embedded_read_only(cut.path().join("log")).unwrap();
        assert_eq!(contents(&log, partition(0)).await, expected[..survive], "cut to {length} bytes");
        drop(log);
        // The same of a log that is to go on; not at every byte, because it takes longer.
        if length % 37 == 0 {
            let log = open(cut.path());
            assert_eq!(contents(&log, partition(0)).await, expected[..survive], "cut to {length} bytes");
            assert_eq!(append(&log, partition(0), "next").await.offset, survive as u64);
            assert_eq!(take(&mut log.tail(&Positions::new()), survive + 1).await.len(), survive + 1);
        }
    }
}

#[tokio::test]
async fn a_commit_of_many_partitions_is_there_whole_or_not_at_all() {
    let (whole, cut) = (directory(), directory());
    let (log, go) = gated(whole.path(), 1 << 20);
    let before = fs::metadata(wal(whole.path())).unwrap().len();
    let mut appends: Vec<_> =
        (0..13).map(|i| Box::pin(try_append(&log, partition(i % 12), "x".repeat(5000)))).collect();
    for append in &mut appends {
        assert!(poll!(append).is_pending());
    }
    drop(go);
    join_all(appends).await;
    let after = fs::metadata(wal(whole.path())).unwrap().len();
    let mut seen = BTreeSet::new();
    for length in (before..=after).step_by(997).chain([after]) {
        copy(whole.path(), cut.path());
        truncate(&wal(cut.path()), length);
        let log = open(cut.path());
        let mut count = 0;
        for number in 0..12 {
            count += contents(&log, partition(number)).await.len();
        }
        seen.insert(count);
    }
    // The writer may have taken the first one alone, before the others were queued, or some of them.
    assert!(seen.len() as u64 == log.stats().commits + 1 && seen.len() <= 3, "{seen:?}");
}

#[tokio::test]
async fn a_checkpoint_torn_at_any_place_loses_nothing() {
    let (before, torn) = (directory(), directory());
    let log = open(before.path());
    join_all((0..300).map(|i| append(&log, partition(0), i))).await;
    let expected = contents(&log, partition(0)).await;
    copy(before.path(), torn.path());
    let old = fs::read(torn.path().join("log")).unwrap();
    let wal_bytes = fs::read(wal(torn.path())).unwrap();
    drop(log);
    let new = fs::read(before.path().join("log")).unwrap();
    assert!(new.len() > old.len(), "closing moves the WAL into the file");
    for cut in (0..new.len()).step_by(211).chain([new.len()]) {
        let mut file = new[..cut].to_vec();
        file.extend_from_slice(old.get(cut..).unwrap_or_default());
        fs::write(torn.path().join("log"), file).unwrap();
        fs::write(wal(torn.path()), &wal_bytes).unwrap();
        drop(fs::remove_file(torn.path().join("log-shm")));
        assert_eq!(contents(&open(torn.path()), partition(0)).await, expected, "torn at byte {cut}");
    }
}

#[tokio::test]
async fn a_file_cut_at_its_tail_gives_only_what_was_written() {
    let (whole, cut) = (directory(), directory());
    let log = open(whole.path());
    join_all((0..200).map(|i| append(&log, partition(0), i))).await;
    let expected = contents(&log, partition(0)).await;
    drop(log);
    let file = fs::read(whole.path().join("log")).unwrap();
    let path = cut.path().join("log");
    for length in (file.len() - 2 * 4096..file.len()).step_by(13) {
        fs::write(&path, &file[..length]).unwrap();
        let Ok(log) = Log::embedded_read_only(&path) else { continue };
        let (records, error) = readable(&log).await;
        assert_eq!(records, expected[..records.len()], "cut to {length} bytes");
        assert!(records.len() == expected.len() || error.is_some(), "cut to {length} bytes");
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_page_of_records_is_noticed_and_placed() {
    let (whole, flipped) = (directory(), directory());
    let log = open(whole.path());
    for i in 0..12 {
        append(&log, partition(0), i).await;
    }
    let expected = contents(&log, partition(0)).await;
    drop(log);
    let mut file = fs::read(whole.path().join("log")).unwrap();
    let path = flipped.path().join("log");
    let page = file.windows(8).position(|bytes| bytes == b"header 5").unwrap() / 4096 * 4096;
    let content = page + file[page..page + 4096].windows(8).position(|bytes| bytes == b"header 1").unwrap() - 64;
    let mut placed = 0;
    // What lies between the page's header and its content is free space.
    for at in (page..page + 64).chain(content..page + 4096) {
        file[at] ^= 0x11;
        fs::write(&path, &file).unwrap();
        file[at] ^= 0x11;
        let Ok(log) = Log::embedded_read_only(&path) else { continue };
        let (records, error) = readable(&log).await;
        assert_eq!(records, expected[..records.len()], "byte {at}");
        // A last row that is no longer found is missed by whoever knows where the partition ended: the ledger.
        if let Some(ReadError::Damaged(position)) = error {
            assert_eq!(position.offset, records.len() as u64, "byte {at}");
            placed += 1;
        }
    }
    // Nearly every byte belongs to a record or leads to one.
    assert!(placed > 12 * 40, "{placed}");
}

#[tokio::test]
async fn a_tail_stops_at_a_damaged_record_and_names_it() {
    let directory = directory();
    let log = open(directory.path());
    for i in 0..12 {
        append(&log, partition(0), i).await;
    }
    drop(log);
    let path = directory.path().join("log");
    let mut file = fs::read(&path).unwrap();
    let at = file.windows(6).position(|bytes| bytes == b"body 7").unwrap();
    file[at] ^= 1;
    fs::write(&path, &file).unwrap();
    let log = open(directory.path());
    let mut tail = log.tail(&Positions::new());
    let seen = take(&mut tail, 7).await;
    assert_eq!(seen.last().unwrap().body, record(6).body);
    let Err(TailError::Damaged(position)) = soon(tail.next()).await else { panic!("it is damaged") };
    assert_eq!(position.offset, 7);
}
