//! Each receipt follows its sync, seen from outside: in the system calls of the real process.
//!
//! What is shown for each of several queries: the record that asks and the record that answers are each written to the log's
//! WAL (both name the query's id, in clear, in their headers); after each of these two writes an `fsync` or `fdatasync` of
//! the WAL begins, and returns without an error; and only after the second one has returned are the bytes of the answer, which
//! hold the receipt, handed to the caller's socket. Then the same is looked for in the same trace with its syncs taken out, to
//! show that it would have been missed.
//!
//! What a sync is worth is the disk's business. That nothing is lost when the WAL is cut anywhere, the log's own tests show.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use airut_testkit::{eventually, require};
use prost::Message;

use crate::support::{Data, Exchange, PATIENCE, ask, channel, dev, persons, question, run_by, tell};

/// Queries in the trace.
const QUERIES: usize = 5;

/// What is handed to the caller's socket at once and is larger is an answer: whatever else HTTP/2 has to say is smaller.
const ANSWER_BYTES: usize = 600;

/// An answer of this size goes out at once.
const AT_ONCE_BYTES: usize = 8 * 1024;

const CALLS: &str = "trace=pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fsync,fdatasync,sync_file_range";

/// Something that the process did, in the order in which its system calls were entered and came back.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Bytes that name these queries are handed to the WAL.
    Write(Vec<usize>),
    /// A thread begins a sync of the WAL.
    SyncBegins(u32),
    /// Its sync has succeeded.
    SyncReturns(u32),
    /// This many bytes are handed to the caller's socket.
    Send(usize),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_receipt_follows_the_sync_of_its_record() {
    let can_trace = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if require("strace", can_trace.ok().filter(|status| status.success())).is_none() {
        return;
    }
    let data = Data::new();
    let trace = data.join("trace");
    // As a grandchild (-D), so that the process is ours; descriptors with their files and peers (-yy); whole strings (-s).
    let strace = ["strace", "-D", "-f", "-yy", "-s", "1000000", "-e", "signal=none", "-e", CALLS, "-o"];
    let strace = [&strace[..], &[trace.to_str().unwrap()]].concat();
    let exchange = Exchange::start(run_by(&strace, &dev(data.path()))).await;
    let ids: Vec<String> = (0..QUERIES).map(|number| format!("synced-query-{number}")).collect();
    ask_one_after_another(&exchange, data.path(), &ids).await;
    let trace = end(exchange, &trace).await;

    let steps = steps(&trace, &ids);
    assert_eq!(receipts_after_their_syncs(&steps), Ok(QUERIES), "{steps:#?}");
    let is_sync = |step: &&Step| matches!(step, Step::SyncBegins(_) | Step::SyncReturns(_));
    let unsynced: Vec<Step> = steps.iter().filter(|step| !is_sync(step)).cloned().collect();
    assert_eq!(receipts_after_their_syncs(&unsynced), Err("query 0 was answered after 0 syncs".to_owned()));
    tell(&format!("{QUERIES} receipts, each after the two syncs of its query"));
}

/// Asks over one connection, about somebody of whom there is neither too little nor too much to tell.
async fn ask_one_after_another(exchange: &Exchange, data: &Path, ids: &[String]) {
    let channel = channel(data, exchange.address, "pirkanmaa").await;
    let mut subjects = persons(data).into_iter();
    let mut subject = String::new();
    // The register may not have connected yet: then somebody else is asked about.
    eventually(PATIENCE, async || {
        subject = subjects.next().unwrap();
        let answer = ask(&channel, &question(&format!("before-{}", subjects.len()), &subject), PATIENCE).await;
        answer.is_ok_and(|answer| (3 * ANSWER_BYTES..AT_ONCE_BYTES).contains(&answer.encoded_len()))
    })
    .await;
    for id in ids {
        ask(&channel, &question(id, &subject), PATIENCE).await.unwrap();
    }
}

/// Stops it, and reads the trace once it is whole.
async fn end(exchange: Exchange, trace: &Path) -> String {
    // A process number takes five places at least.
    let last = format!("{:<5} +++ exited with 0 +++", exchange.pid());
    assert!(exchange.stop().await.success());
    let mut text = String::new();
    eventually(PATIENCE, async || {
        text = String::from_utf8_lossy(&fs::read(trace).unwrap()).into_owned();
        text.contains(&last)
    })
    .await;
    text
}

/// Goes through the steps; how many queries were answered, each after the syncs of both its records.
fn receipts_after_their_syncs(steps: &[Step]) -> Result<usize, String> {
    let mut query = 0;
    let (mut begun, mut unsynced, mut synced) = (false, false, 0);
    // Syncs under way that began after a write of the query, by thread.
    let mut syncing = Vec::new();
    for step in steps {
        match step {
            Step::Write(names) if names.contains(&query) => (begun, unsynced) = (true, true),
            Step::Write(_) => {}
            Step::SyncBegins(thread) if std::mem::take(&mut unsynced) => syncing.push(*thread),
            Step::SyncBegins(_) => {}
            Step::SyncReturns(thread) => {
                let under_way = syncing.len();
                syncing.retain(|syncing| syncing != thread);
                synced += under_way - syncing.len();
            }
            Step::Send(bytes) if *bytes < ANSWER_BYTES => {}
            // The handshake, and answers before those that are looked at.
            Step::Send(_) if query == 0 && !begun => {}
            Step::Send(_) => {
                if unsynced || !syncing.is_empty() || synced < 2 {
                    return Err(format!("query {query} was answered after {synced} syncs"));
                }
                query += 1;
                (begun, unsynced, synced) = (false, false, 0);
            }
        }
    }
    Ok(query)
}

/// Reads the trace. A line is `PID call(arguments) = result`; where another thread got between, its beginning ends in
/// `<unfinished ...>`, and its end comes later as `PID <... call resumed>rest) = result`.
fn steps(trace: &str, ids: &[String]) -> Vec<Step> {
    let callers: Vec<&str> = sockets(trace);
    let mut steps = Vec::new();
    let mut unfinished: BTreeMap<u32, usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let (thread, call) = (thread.parse().expect("lines begin with a thread"), call.trim_start());
        // Short lines, such as the ends of unfinished ones, are filled with blanks before the result.
        let result = || call.rsplit_once(" = ").and_then(|(_, result)| result.split(' ').next()?.parse::<i64>().ok());
        if call.starts_with("<... ") {
            let Some(step) = unfinished.remove(&thread) else { continue };
            match &mut steps[step] {
                Step::Send(bytes) => *bytes = result().and_then(|sent| usize::try_from(sent).ok()).unwrap_or(0),
                Step::SyncBegins(_) if result() == Some(0) => steps.push(Step::SyncReturns(thread)),
                Step::Write(_) | Step::SyncBegins(_) | Step::SyncReturns(_) => {}
            }
            continue;
        }
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let descriptor = arguments.split(',').next().unwrap_or_default();
        let is_wal = descriptor.contains("/log.sqlite-wal>");
        let step = match name {
            "fsync" | "fdatasync" if is_wal => Step::SyncBegins(thread),
            "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" if is_wal => {
                Step::Write((0..ids.len()).filter(|query| call.contains(&ids[*query])).collect())
            }
            "write" | "writev" | "sendto" | "sendmsg" if callers.iter().any(|socket| descriptor.contains(socket)) => {
                Step::Send(result().and_then(|sent| usize::try_from(sent).ok()).unwrap_or(0))
            }
            _ => continue,
        };
        let synced = matches!(step, Step::SyncBegins(_)) && result() == Some(0);
        steps.push(step);
        if call.ends_with("<unfinished ...>") {
            unfinished.insert(thread, steps.len() - 1);
        } else if synced {
            steps.push(Step::SyncReturns(thread));
        }
    }
    steps
}

/// The process's sockets whose other ends are not its own: those of its callers.
fn sockets(trace: &str) -> Vec<&str> {
    let marked = trace.split("<TCP:[").skip(1).filter_map(|rest| rest.split_once(']'));
    let all: std::collections::BTreeSet<&str> = marked.map(|(ends, _)| ends).collect();
    let own =
        |ends: &str| ends.split_once("->").is_some_and(|(near, far)| all.contains(format!("{far}->{near}").as_str()));
    all.iter().copied().filter(|ends| ends.contains("->") && !own(ends)).collect()
}
