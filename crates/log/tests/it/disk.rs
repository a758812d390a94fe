//! A disk that is full or can't be written: nothing is acknowledged, everybody is told the truth, and it recovers by
//! itself.

use std::{path::Path, process::Command};

use airut_domain::{keys::Digest, partition::Position, record::leaf_bytes, time::Timestamp};
use airut_log::{AppendError, Embedded, Log, Positions, Unstamped};
use futures::future::join_all;

use crate::{
    crashes::{child, given_directory},
    support::{append, by_partition, contents, lacking, open, partition, record, settings, take, try_append},
};

#[tokio::test]
async fn a_full_log_says_that_nothing_was_written_and_takes_more_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Embedded { max_file_bytes: Some(400_000), ..settings(directory.path()) };
    let log = Log::embedded(settings).unwrap();
    let mut tail = log.tail(&Positions::new());
    let mut written = 0;
    let refused = loop {
        match try_append(&log, partition(0), "x".repeat(1000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NotWritten(_)), "{refused}");
    for outcome in join_all((0..50).map(|i| try_append(&log, partition(i % 12), "x".repeat(5000)))).await {
        assert!(matches!(outcome, Err(AppendError::NotWritten(_))));
    }
    assert_eq!(contents(&log, partition(0)).await.len(), written);
    by_partition(&take(&mut tail, written).await, &Positions::new());
    log.trim(partition(0), written as u64 / 2).await.unwrap();
    let position = append(&log, partition(0), "there is room again").await;
    assert_eq!(position.offset, written as u64);
    assert_eq!(take(&mut tail, 1).await[0].position, position);
    assert_eq!(log.stats().reopened, 0);
}

/// A file system of 2 MiB, as long as it lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(directory.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0.path()).status().unwrap().success());
    }
}

#[tokio::test]
async fn a_full_disk_says_that_nothing_was_written_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount() else { return lacking("mount") };
    std::fs::write(disk.0.path().join("ballast"), vec![0; 1_500_000]).unwrap();
    let log = open(disk.0.path());
    let mut tail = log.tail(&Positions::new());
    let mut written = 0;
    let refused = loop {
        match try_append(&log, partition(0), "x".repeat(2000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NotWritten(_)), "{refused}");
    assert!(try_append(&log, partition(1), "x".repeat(9000)).await.is_err());
    std::fs::remove_file(disk.0.path().join("ballast")).unwrap();
    assert_eq!(append(&log, partition(0), "there is room again").await.offset, written);
    by_partition(&take(&mut tail, written as usize + 1).await, &Positions::new());
    drop((log, tail));
    assert_eq!(contents(&open(disk.0.path()), partition(0)).await.len(), written as usize + 1);
}

/// Writes beyond this many bytes of any file fail with `EFBIG` from now on, which SQLite takes for an I/O error.
fn limit_files(bytes: impl std::fmt::Display) {
    let this = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &this, &format!("--fsize={bytes}:")]).status().unwrap();
    assert!(status.success());
}

fn wal_bytes(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("log-wal")).unwrap().len()
}

#[tokio::test]
#[ignore = "the child of the test below"]
async fn append_while_writes_fail() {
    let Some(directory) = given_directory() else { return };
    let log = open(&directory);
    let mut tail = log.tail(&Positions::new());
    append(&log, partition(0), "first").await;

    // Room to open the file anew, none for the record: that it is not there is found out at once.
    limit_files(wal_bytes(&directory) + 6000);
    let refused = try_append(&log, partition(0), "x".repeat(20_000)).await.unwrap_err();
    assert!(matches!(refused, AppendError::NotWritten(_)), "{refused}");
    assert_eq!(log.stats().reopened, 1);

    // Not even room to open it anew: unknown, and afterwards nothing is begun.
    limit_files(wal_bytes(&directory).min(4096 * 4));
    let refused = try_append(&log, partition(0), "unknown").await.unwrap_err();
    assert!(matches!(refused, AppendError::OutcomeUnknown(_)), "{refused}");
    for outcome in join_all((0..50).map(|i| try_append(&log, partition(i % 12), i))).await {
        assert!(matches!(outcome, Err(AppendError::NotWritten(_))));
    }

    // What if it had come through? Then the tail sees it as soon as the log opens again, by itself: nobody appends.
    let other = child("disk::write_behind_the_logs_back", &directory);
    let mut unlimited = Command::new("prlimit");
    unlimited.arg("--fsize=unlimited:").arg(other.get_program()).args(other.get_args());
    assert!(unlimited.status().unwrap().success());
    assert_eq!(log.end(partition(0)).await.unwrap(), 1);
    limit_files("unlimited");
    let seen = take(&mut tail, 2).await;
    assert_eq!(seen[1].body, record("behind").body);
    assert_eq!(append(&log, partition(0), "last").await.offset, 2);
    assert_eq!(take(&mut tail, 1).await[0].body, record("last").body);
    let found = contents(&log, partition(0)).await;
    assert_eq!(found[..2], seen);
    assert_eq!(log.stats().reopened, 2);
    drop((log, tail));
    assert_eq!(contents(&open(&directory), partition(0)).await, found);
}

/// Writes the next record of the partition as the log does, and is not the log.
#[test]
#[ignore = "the child of the child of the test below"]
fn write_behind_the_logs_back() {
    let Some(directory) = given_directory() else { return };
    let Unstamped { header, body, traceparent } = record("behind");
    let (position, stamp) = (Position { partition: partition(0), offset: 1 }, Timestamp::from_millis(i64::MAX / 2));
    let leaf = leaf_bytes(position, stamp, &header);
    let (length, trace_length) = ((leaf.len() as u64).to_be_bytes(), (traceparent.len() as u64).to_be_bytes());
    let digest = Digest::of_parts(&[&length, &leaf, &trace_length, traceparent.as_bytes(), &body]);
    let digest = i64::from_be_bytes(*digest.0.first_chunk().unwrap());
    let row = rusqlite::params![1, stamp.as_millis(), header, body, traceparent, digest];
    let connection = rusqlite::Connection::open(directory.join("log")).unwrap();
    connection.execute("INSERT INTO \"airut.queries/0\" VALUES (?, ?, ?, ?, ?, ?)", row).unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_is_told_truthfully_and_recovered_from() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        return lacking("prlimit");
    }
    let directory = tempfile::tempdir().unwrap();
    let test = child("disk::append_while_writes_fail", directory.path());
    // The signal that comes with EFBIG would end the process; a shell can have it ignored.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(test.get_program()).args(test.get_args());
    shell.envs(test.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
    let outcome = shell.output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(
        outcome.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&outcome.stderr)
    );
}
