use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use airut_domain::{
    keys::Digest,
    merkle,
    partition::{Partition, Topic},
    record::leaf_bytes,
};
use airut_ledger::{Health, Outside, StopReason, verify};
use airut_log::Log;
use rusqlite::Connection;
use tokio::time::timeout;

use crate::support::{Bench, PATIENCE, Running, fill, notes, records};

/// The leaves in the order of the ledger's file, which is not part of the contract: only to compare.
fn stored_leaves(bench: &Bench) -> Vec<Vec<u8>> {
    let file = Connection::open(bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let mut select = file.prepare("SELECT leaf FROM entries ORDER BY idx").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_but_order_and_heartbeats_is_a_leaf_once_under_the_signed_root() {
    let bench = Bench::new();
    let log = bench.log();
    let running = bench.ledger(&log);
    fill(&log, 0..700).await;
    let signed = running.signed(700).await;
    let ledger = running.stop().await;

    let leaves = stored_leaves(&bench);
    let mut expected = BTreeSet::new();
    for partition in Partition::all().filter(|partition| partition.topic != Topic::Order) {
        for record in records(&log, partition).await {
            if airut_wire::record::decode(&record.header).unwrap().kind.is_leaf() {
                expected.insert(leaf_bytes(record.position, record.stamp, &record.header));
            }
        }
    }
    assert_eq!((leaves.len(), expected.len()), (700, 700));
    assert_eq!(leaves.iter().cloned().collect::<BTreeSet<_>>(), expected);
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
    assert_eq!((signed.size, signed.root), (700, merkle::root(&hashes)));
    let opened = ledger.verifier_key().open(&signed.note).unwrap();
    assert_eq!((opened.size, opened.root), (signed.size, signed.root));
    // Gateways find it in the log.
    assert_eq!(notes(&log).await.last().map(|(_, note)| note.as_str()), Some(&*signed.note));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_in_a_signed_checkpoint_within_a_second() {
    let bench = Bench::new();
    let log = bench.log();
    let running = bench.ledger(&log);
    for number in 0..6 {
        fill(&log, number..number + 1).await;
        let recorded = Instant::now();
        running.signed(number + 1).await;
        assert!(recorded.elapsed() < Duration::from_secs(1), "took {:?}", recorded.elapsed());
    }
    assert_eq!(running.status.borrow().unsigned_since, None);
    assert_eq!(running.status.borrow().health, Health::Signing);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_errors_of_its_file_in_a_row_stop_the_signing_and_it_can_be_run_again() {
    let bench = Bench::new();
    let log = bench.log();
    let running = bench.ledger(&log);
    fill(&log, 0..30).await;
    let before = running.signed(30).await;
    let file = Connection::open(bench.ledger_dir().join("ledger.sqlite")).unwrap();
    file.execute_batch("CREATE TRIGGER bad BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, 'no space'); END")
        .unwrap();
    fill(&log, 30..60).await;

    let (ledger, outcome) = running.ended().await;
    assert!(matches!(outcome, Err(StopReason::Storage(_))), "{outcome:?}");
    let status = ledger.status().borrow().clone();
    assert!(matches!(status.health, Health::Stopped(StopReason::Storage(_))), "{status:?}");
    assert_eq!(status.checkpoint, Some(before.clone()));
    assert_eq!(notes(&log).await.last().map(|(_, note)| note.as_str()), Some(&*before.note));

    file.execute_batch("DROP TRIGGER bad").unwrap();
    let running = Running::start(ledger);
    assert_eq!(running.signed(60).await.size, 60);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_error_of_its_file_is_got_over() {
    let bench = Bench::new();
    let log = bench.log();
    let running = bench.ledger(&log);
    fill(&log, 0..30).await;
    running.signed(30).await;
    // Somebody holds the write lock for longer than a transaction waits.
    let mut file = Connection::open(bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let lock = file.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    fill(&log, 30..60).await;
    let mut status = running.status.clone();
    timeout(PATIENCE, status.wait_for(|status| status.health == Health::Starting)).await.unwrap().unwrap();
    lock.rollback().unwrap();
    assert_eq!(running.signed(60).await.size, 60);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_verifies_offline() {
    let bench = Bench::filled(900).await;
    let log = Log::embedded_read_only(bench.dir.path().join("log.sqlite")).unwrap();
    let report = verify(&log, &bench.ledger_dir(), Outside::default()).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.entries, report.unsigned), (900, 0));
    assert_eq!(report.checkpoint.map(|checkpoint| checkpoint.size), Some(900));
    assert!(report.checkpoints > 0);
}
