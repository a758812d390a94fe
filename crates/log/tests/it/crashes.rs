//! A process that appends is killed; what it was told is there.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use airut_log::{Log, Positions};

use crate::support::{append, by_partition, contents, open, partition, record, take};

const DIRECTORY: &str = "AIRUT_LOG_TEST_DIRECTORY";

/// Runs one of the ignored tests below in a process of its own, with the log in this directory.
pub(crate) fn child(test: &str, directory: &std::path::Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(DIRECTORY, directory);
    command
}

/// The directory that the parent gave; none when nobody runs this as a child.
pub(crate) fn given_directory() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the test below"]
async fn append_until_killed() {
    let Some(directory) = given_directory() else { return };
    let log = open(&directory);
    let appenders = (0..8_u32).map(|appender| tokio::spawn(append_and_tell(log.clone(), appender)));
    futures::future::join_all(appenders).await;
}

async fn append_and_tell(log: Log, appender: u32) {
    for i in 0.. {
        let position = append(&log, partition(appender % 3), format!("{appender}/{i}")).await;
        let line = format!("told {} {} {appender}/{i}\n", position.partition.number, position.offset);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_has_lost_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for life in 1..=4 {
        let mut process =
            child("crashes::append_until_killed", directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        told.extend(lines.by_ref().filter(|line| line.starts_with("told ")).take(life * 150));
        process.kill().unwrap();
        // What it managed to say before the signal counts as well, but for a line cut short.
        told.extend(lines.filter(|line| line.starts_with("told ") && line.matches(' ').count() == 3));
        process.wait().unwrap();
        let log = open(directory.path());
        for line in &told {
            check(&log, line).await;
        }
    }
    let log = open(directory.path());
    let mut total = 0;
    for number in 0..3 {
        total += contents(&log, partition(number)).await.len();
    }
    by_partition(&take(&mut log.tail(&Positions::new()), total).await, &Positions::new());
}

async fn check(log: &Log, line: &str) {
    let mut words = line.split(' ').skip(1);
    let number = words.next().unwrap().parse().unwrap();
    let offset: u64 = words.next().unwrap().parse().unwrap();
    let text = words.next().unwrap();
    let stored = log.read(partition(number), offset..offset + 1, 1).await.unwrap();
    let expected = record(text).body;
    // The last line may be cut short in the middle of its text.
    assert!(stored[0].body == expected || stored[0].body.starts_with(&expected), "{line}");
}
