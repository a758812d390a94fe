//! The disk is full: nothing is accepted or disclosed, callers are told to come back, and service returns by itself.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_client::verify_receipt;
use airut_domain::refusal::Reason;
use airut_testkit::{eventually, require};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    Data, Exchange, PATIENCE, ask, channel, dev, ledger_verify, persons, question, receipt_keys, tell,
};

/// Callers at once.
const CALLERS: usize = 48;

/// How long each waits for an answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// How long the disk stays full while it is watched.
const FULL: Duration = Duration::from_secs(4);

/// What a process that can not write may grow by.
const GROWTH_KIB: u64 = 64 * 1024;

/// A small file system, as long as it lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory.path());
        mount.output().is_ok_and(|mount| mount.status.success()).then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may hold it for another moment.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A file that takes what room is left.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(&self.0).unwrap();
        for chunk in [vec![0; 64 * 1024], vec![0; 512]] {
            loop {
                match file.write_all(&chunk) {
                    Ok(()) => {}
                    Err(full) if full.kind() == ErrorKind::StorageFull => break,
                    Err(other) => panic!("the ballast: {other}"),
                }
            }
        }
    }

    fn throw_off(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// What the callers were told, all together.
#[derive(Default)]
struct Told {
    answers: u64,
    refusals: Vec<Status>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_accepts_and_discloses_nothing_until_there_is_room() {
    let Some(disk) = require("mount", SmallDisk::mount("12m")) else { return };
    let data = Data::new();
    // The log alone: its place is the link's target, which it finds empty.
    File::create(disk.path().join("log.sqlite")).unwrap();
    symlink(disk.path().join("log.sqlite"), data.join("log.sqlite")).unwrap();
    let exchange = Exchange::start(dev(data.path())).await;
    let exchange = fill_and_empty(&disk, exchange, data.path()).await;
    assert!(exchange.stop().await.success());
    verifies(data.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_without_room_loses_nothing_and_serves_again() {
    let Some(disk) = require("mount", SmallDisk::mount("24m")) else { return };
    let data = disk.path().join("data");
    let exchange = Exchange::start(dev(&data)).await;
    let exchange = fill_and_empty(&disk, exchange, &data).await;
    assert!(exchange.stop().await.success());
    verifies(&data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_without_room_signs_nothing_and_catches_up_while_queries_go_on() {
    let Some(disk) = require("mount", SmallDisk::mount("1m")) else { return };
    let data = Data::new();
    symlink(disk.path(), data.join("ledger")).unwrap();
    let mut exchange = Exchange::start(dev(data.path())).await;
    let county = exchange.client(data.path(), "pirkanmaa").await;
    let persons = persons(data.path());
    county.query(&question("before", &persons[0]), PATIENCE).await.unwrap();

    let ballast = Ballast(disk.path().join("ballast"));
    ballast.fill();
    let mut asked = Vec::new();
    // It says so once it has given up, and so will have tried again meanwhile.
    eventually(PATIENCE, async || {
        let request = question(&format!("meanwhile-{}", asked.len()), &persons[0]);
        let response = county.query(&request, PATIENCE).await.expect("queries go on");
        asked.push(airut_wire::receipt_from(response.receipt.unwrap()).unwrap().statement.position);
        ballast.fill();
        exchange.stderr().matches("the ledger has stopped signing").count() >= 2
    })
    .await;
    let unproven = county.inclusion_proof(*asked.last().unwrap(), PATIENCE).await.unwrap_err();
    assert_eq!(unproven.reason(), Some(Reason::NotFound));
    assert!(exchange.is_running());

    ballast.throw_off();
    for position in asked {
        eventually(PATIENCE, async || county.inclusion_proof(position, PATIENCE).await.is_ok()).await;
    }
    assert!(exchange.stop().await.success());
    verifies(data.path());
}

/// Fills the disk under load, watches that nothing comes of the callers' questions, makes room again, and sees every question
/// answered with the id that it was first asked with.
async fn fill_and_empty(disk: &SmallDisk, mut exchange: Exchange, data: &Path) -> Exchange {
    let (told, stop) = (Arc::new(Mutex::new(Told::default())), CancellationToken::new());
    let callers = callers(&exchange, data, &told, &stop).await;
    let answers = || told.lock().unwrap().answers;
    let refusals = || told.lock().unwrap().refusals.len();
    eventually(PATIENCE, async || answers() >= 100).await;

    let memory_before = memory_kib(&exchange);
    let ballast = Ballast(disk.path().join("ballast"));
    ballast.fill();
    // What has room is still written: the WAL has some of its own. It is over once nobody was answered for a while.
    let mut last = (answers(), tokio::time::Instant::now());
    eventually(PATIENCE, async || {
        ballast.fill();
        if answers() > last.0 || refusals() == 0 {
            last = (answers(), tokio::time::Instant::now());
        }
        last.1.elapsed() > DEADLINE + Duration::from_secs(1)
    })
    .await;
    let (answers_before, refusals_before) = (answers(), refusals());
    let probes = probe(&exchange, data, &ballast).await;
    assert_eq!(answers(), answers_before, "something was disclosed without a record");
    let refused: Vec<Status> = told.lock().unwrap().refusals.split_off(refusals_before);
    assert!(refused.len() > CALLERS, "only {} calls were answered", refused.len());
    // A question that was recorded while there was room, and whose answer found none, stays open: who asks it again waits for
    // its end until the deadline. Whatever is asked anew is refused at once.
    probes.iter().chain(refused.iter().filter(|status| !is_late(status))).for_each(says_when_to_come_back);
    let grown = memory_kib(&exchange).saturating_sub(memory_before);
    assert!(grown < GROWTH_KIB, "it has grown by {grown} KiB");
    assert!(exchange.is_running(), "{}", exchange.stderr());

    ballast.throw_off();
    let freed = tokio::time::Instant::now();
    eventually(PATIENCE, async || answers() > answers_before).await;
    let back = freed.elapsed();
    stop.cancel();
    for caller in callers {
        caller.await.unwrap();
    }
    tell(&format!(
        "{answers_before} answers, then {} refusals in {FULL:?} of a full disk (grown by {grown} KiB); \
         the next answer {back:.1?} after there was room",
        refused.len() + probes.len()
    ));
    exchange
}

/// Asks new questions for as long as the full disk is watched.
async fn probe(exchange: &Exchange, data: &Path, ballast: &Ballast) -> Vec<Status> {
    let channel = channel(data, exchange.address, "helsinki").await;
    let subject = &persons(data)[0];
    let began = tokio::time::Instant::now();
    let mut refused = Vec::new();
    while began.elapsed() < FULL {
        ballast.fill();
        let request = question(&format!("probe-{}", refused.len()), subject);
        refused.push(ask(&channel, &request, PATIENCE).await.expect_err("answered without a record"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused
}

fn is_late(status: &Status) -> bool {
    // By the exchange's word, or by the caller's own clock.
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}

fn says_when_to_come_back(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(airut_wire::reason_of(status), Some(Reason::LogUnavailable), "{status}");
    assert!(airut_wire::retry_after_of(status).is_some_and(|delay| !delay.is_zero()), "{status}");
}

async fn callers(
    exchange: &Exchange,
    data: &Path,
    told: &Arc<Mutex<Told>>,
    stop: &CancellationToken,
) -> Vec<tokio::task::JoinHandle<()>> {
    let channel = channel(data, exchange.address, "pirkanmaa").await;
    let persons = persons(data);
    let start = |number: usize| {
        let caller = Caller {
            name: format!("disk-{number}"),
            subject: persons[number].clone(),
            channel: channel.clone(),
            told: Arc::clone(told),
        };
        tokio::spawn(caller.run(receipt_keys(data), stop.clone()))
    };
    (0..CALLERS).map(start).collect()
}

struct Caller {
    name: String,
    subject: String,
    channel: Channel,
    told: Arc<Mutex<Told>>,
}

impl Caller {
    /// Asks one question after another, each until it is answered, and tells what came of every attempt.
    async fn run(self, keys: airut_client::ReceiptKeys, stop: CancellationToken) {
        for number in 0.. {
            let request = question(&format!("{}-{number}", self.name), &self.subject);
            loop {
                match ask(&self.channel, &request, DEADLINE).await {
                    Ok(response) => {
                        verify_receipt(&response, &keys).unwrap();
                        self.told.lock().unwrap().answers += 1;
                        break;
                    }
                    Err(status) => self.told.lock().unwrap().refusals.push(status),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What it holds in memory.
fn memory_kib(exchange: &Exchange) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", exchange.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn verifies(data: &Path) {
    let verified = ledger_verify(data);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
}
