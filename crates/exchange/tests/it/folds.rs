//! Folds: the same records give the same state, in memory and in files, begun anew or taken up.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{
    member,
    partition::{Partition, Topic},
    query::REMEMBERED,
    record::{Header, Kind, RULES},
};
use airut_exchange::{FoldError, FoldStore, Gateway, GatewayError, StoreError, World};
use airut_log::{Faults, Unstamped};
use tokio::{
    task::AbortHandle,
    time::{advance, sleep},
};

use crate::support::{Ground, Sandbox, caught_up, request, soon};

/// A day of queries: answered, refused, unanswered, repeated.
async fn a_day(sandbox: &Sandbox, day: usize) {
    sandbox.responder(0, 1).await.keeps_answering();
    for number in 0..6 {
        let id = format!("day-{day}-{number}");
        sandbox.ask(0, "pirkanmaa", request(&id)).response().await;
        sandbox.ask(0, "pirkanmaa", request(&id)).response().await;
        sandbox.ask(0, "elo", request(&id)).refusal().await;
    }
    let unanswered = sandbox.ask_within(0, "helsinki", request(&format!("day-{day}")), Duration::from_millis(1));
    unanswered.told().await.ok();
}

/// Stops all writing, and tells whether the gateway's folds then have the digest of the sandbox's.
async fn agrees(sandbox: &Sandbox, gateway: &Gateway) -> bool {
    sandbox.faults(Faults { refuse: 1.0, ..Faults::default() });
    sleep(Duration::from_secs(1)).await;
    sandbox.caught_up().await;
    caught_up(&sandbox.ground.simulation, gateway).await;
    let agrees = gateway.folds().digest().unwrap() == sandbox.gateways[0].folds().digest().unwrap();
    sandbox.faults(Faults::default());
    agrees
}

/// A gateway that can be killed, with its folds in this file.
async fn killable(ground: &Ground, incarnation: &str, path: &Path) -> (Gateway, impl FnOnce() + use<>) {
    let tasks = Arc::new(Mutex::new(Vec::<AbortHandle>::new()));
    let spawned = Arc::clone(&tasks);
    let world = World::new(ground.clock.clone(), ground.random.clone(), move |task| {
        spawned.lock().unwrap().push(tokio::spawn(task).abort_handle());
    });
    let settings = ground.settings(incarnation, FoldStore::File(path.to_owned()), world);
    let gateway = soon(Gateway::start(settings)).await.unwrap();
    (gateway, move || tasks.lock().unwrap().iter().for_each(AbortHandle::abort))
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_taken_up_again_and_again_comes_to_the_same_digest_as_memory() {
    let sandbox = Sandbox::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folds.sqlite");
    for day in 0..4 {
        let (gateway, kill) = killable(&sandbox.ground, &format!("file-{day}"), &path).await;
        a_day(&sandbox, day).await;
        // Ended in good order or killed, wherever its writing stands.
        match day % 2 {
            0 => gateway.stop(Duration::from_secs(1)).await,
            _ => kill(),
        }
        drop(gateway);
        a_day(&sandbox, day + 100).await;
    }
    let (last, _) = killable(&sandbox.ground, "file-last", &path).await;
    assert!(agrees(&sandbox, &last).await);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_lost_is_rebuilt_to_the_same_digest() {
    let sandbox = Sandbox::start().await;
    a_day(&sandbox, 0).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folds.sqlite");
    for number in 0..2 {
        let gateway = sandbox.ground.gateway(&format!("file-{number}"), FoldStore::File(path.clone())).await.unwrap();
        assert!(agrees(&sandbox, &gateway).await);
        soon(gateway.stop(Duration::from_secs(1))).await;
        drop(gateway);
        for file in ["folds.sqlite", "folds.sqlite-wal", "folds.sqlite-shm"] {
            std::fs::remove_file(dir.path().join(file)).ok();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_dropped_from_the_file() {
    let sandbox = Sandbox::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folds.sqlite");
    let gateway = sandbox.ground.gateway("file", FoldStore::File(path.clone())).await.unwrap();
    let tables = || {
        let file = rusqlite::Connection::open(&path).unwrap();
        let mut select =
            file.prepare("SELECT name FROM sqlite_schema WHERE name GLOB 'query_day_*' ORDER BY 1").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<String>, _>>().unwrap()
    };
    for day in 0..3 {
        touch_every_partition(&sandbox, day).await;
        advance(Duration::from_secs(24 * 60 * 60)).await;
    }
    caught_up(&sandbox.ground.simulation, &gateway).await;
    // A table for each day on which something may be forgotten.
    let early = written(&tables, |tables| tables.len() == 3).await;
    advance(REMEMBERED).await;
    touch_every_partition(&sandbox, 99).await;
    caught_up(&sandbox.ground.simulation, &gateway).await;
    written(&tables, |late| late.iter().all(|table| !early.contains(table))).await;
    assert!(agrees(&sandbox, &gateway).await);
}

/// The tables of the file once they are as they should be; it is written behind.
async fn written(tables: &impl Fn() -> Vec<String>, are_right: impl Fn(&[String]) -> bool) -> Vec<String> {
    for _ in 0..100 {
        let found = tables();
        if are_right(&found) {
            return found;
        }
        sleep(Duration::from_millis(200)).await;
    }
    panic!("the file has {:?}", tables());
}

/// Queries in every partition, so that the time of each goes on.
async fn touch_every_partition(sandbox: &Sandbox, day: usize) {
    sandbox.responder(0, 1).await.keeps_answering();
    let mut left: Vec<u32> = (0..Topic::Queries.partitions()).collect();
    for number in 0.. {
        let id = format!("touch-{day}-{number}");
        let lies_in = sandbox.ground.ring.partition_of(Topic::Queries, &[b"pirkanmaa", id.as_bytes()]);
        if left.contains(&lies_in.number) {
            left.retain(|number| *number != lies_in.number);
            sandbox.ask(0, "pirkanmaa", request(&id)).response().await;
        }
        if left.is_empty() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_log_or_ahead_of_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folds.sqlite");
    let ground = Ground::new(1);
    let gateway = ground.gateway("gateway-0", FoldStore::File(path.clone())).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    soon(gateway.stop(Duration::from_secs(1))).await;
    drop(gateway);
    let other = Ground::new(2).gateway("gateway-1", FoldStore::File(path.clone())).await.unwrap_err();
    assert!(matches!(other, GatewayError::Store(StoreError::OtherLog)), "{other}");
    // The same seed gives the same identity: the log as it was before anything was in it.
    let lost = Ground::new(1).gateway("gateway-2", FoldStore::File(path)).await.unwrap_err();
    assert!(matches!(lost, GatewayError::Ahead { .. }), "{lost}");
}

fn header(kind: Kind) -> Header {
    Header { rules: RULES, nonce: [7; 16], author: "newer".parse().unwrap(), body: None, kind }
}

fn heartbeat() -> Kind {
    Kind::Member(member::Event::Heartbeat("newer".parse().unwrap()))
}

async fn fails_on(topic: Topic, header: Vec<u8>) -> String {
    let ground = Ground::new(1);
    let gateway = ground.gateway("gateway-0", FoldStore::Memory).await.unwrap();
    let record = Unstamped { header, ..Unstamped::default() };
    ground.log().append(Partition::only(topic), record).await.unwrap();
    let cause = soon(gateway.failed()).await;
    assert!(matches!(*cause, GatewayError::Fold(FoldError::Unreadable { .. } | FoldError::Misplaced(_))));
    let anew = ground.gateway("gateway-1", FoldStore::Memory).await.unwrap_err();
    assert!(anew.to_string().contains(&cause.to_string()), "{anew}");
    cause.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_record_of_unknown_rules_or_kind_or_in_the_wrong_place_stops_the_gateway() {
    let newer = airut_wire::record::encode(&Header { rules: RULES + 1, ..header(heartbeat()) });
    let cause = fails_on(Topic::Members, newer).await;
    assert!(cause.contains(&format!("rules {}", RULES + 1)), "{cause}");
    // Field 999, length-delimited, empty: what a newer build might write.
    let mut unknown = vec![0x08, 0x01, 0x12, 0x10];
    unknown.extend([7; 16]);
    unknown.extend([0x1a, 0x01, b'a', 0xba, 0x3e, 0x00]);
    let cause = fails_on(Topic::Members, unknown).await;
    assert!(cause.contains("kind"), "{cause}");
    let cause = fails_on(Topic::Partners, airut_wire::record::encode(&header(heartbeat()))).await;
    assert!(cause.contains("does not belong"), "{cause}");
}
