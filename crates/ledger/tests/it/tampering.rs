//! One byte changed anywhere, and what verification says of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use airut_domain::{
    keys::Digest,
    merkle::leaf_hash,
    partition::{Partition, Position, Topic},
    record::{Kind, Order, Stored, leaf_bytes},
};
use airut_ledger::{Finding, Outside, Report, verify};
use airut_log::Log;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::support::{Bench, fill, notes, open_log, records, settings};

/// A sound data directory, and copies of it to tamper with.
pub(crate) struct Original {
    pub(crate) bench: Bench,
}

impl Original {
    /// Two tiles of leaf hashes and a bit, in several runs.
    pub(crate) async fn make() -> Self {
        let bench = Bench::new();
        let log = bench.log();
        let running = bench.ledger(&log);
        for (from, to) in [(0, 120), (120, 200), (200, 540)] {
            fill(&log, from..to).await;
            running.signed(to).await;
        }
        running.stop().await;
        drop(log);
        let original = Self { bench };
        settle(&original.bench.dir.path().join("log.sqlite"));
        settle(&original.bench.ledger_dir().join("ledger.sqlite"));
        assert!(report(original.bench.dir.path()).await.is_sound());
        original
    }

    pub(crate) fn copy(&self) -> Tampered {
        let dir = tempfile::tempdir().unwrap();
        copy_all(self.bench.dir.path(), dir.path());
        Tampered { dir }
    }

    /// The report on a copy after this was done to it.
    async fn with(&self, tamper: impl FnOnce(&Tampered)) -> Report {
        let copy = self.copy();
        tamper(&copy);
        report(copy.dir.path()).await
    }

    pub(crate) fn entry_of(&self, position: Position) -> Option<u64> {
        let file = Connection::open(self.bench.ledger_dir().join("ledger.sqlite")).unwrap();
        let sql = "SELECT idx FROM entries JOIN partitions ON partitions.id = entries.partition \
                   WHERE topic = ? AND number = ? AND position = ?";
        let place = params![position.partition.topic.name(), position.partition.number, integer(position.offset)];
        file.query_row(sql, place, |row| row.get(0)).ok().map(count)
    }
}

pub(crate) struct Tampered {
    pub(crate) dir: TempDir,
}

impl Tampered {
    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("log.sqlite")
    }

    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.dir.path().join("ledger/ledger.sqlite")
    }

    fn log(&self, sql: &str) {
        assert_eq!(Connection::open(self.log_path()).unwrap().execute(sql, []).unwrap(), 1, "{sql}");
    }

    fn ledger(&self, sql: &str) {
        assert_eq!(Connection::open(self.ledger_path()).unwrap().execute(sql, []).unwrap(), 1, "{sql}");
    }

    /// Changes a record as somebody would who knows that the row has a digest, and makes it fit.
    fn rewrite(&self, position: Position, change: impl FnOnce(&mut Stored)) {
        let file = Connection::open(self.log_path()).unwrap();
        let table = position.partition.to_string();
        let select = format!("SELECT stamp, header, body, traceparent FROM \"{table}\" WHERE position = ?");
        let mut record = file
            .query_row(&select, [integer(position.offset)], |row| {
                let stamp = airut_domain::time::Timestamp::from_millis(row.get(0)?);
                Ok(Stored { position, stamp, header: row.get(1)?, body: row.get(2)?, traceparent: row.get(3)? })
            })
            .unwrap();
        change(&mut record);
        let leaf = leaf_bytes(position, record.stamp, &record.header);
        let (length, traceparent) =
            ((leaf.len() as u64).to_be_bytes(), (record.traceparent.len() as u64).to_be_bytes());
        let parts = [&length, leaf.as_slice(), &traceparent, record.traceparent.as_bytes(), &record.body];
        let digest = i64::from_be_bytes(*Digest::of_parts(&parts).0.first_chunk().unwrap());
        let update = format!(
            "UPDATE \"{table}\" SET stamp = ?, header = ?, body = ?, traceparent = ?, digest = ? WHERE position = ?"
        );
        let stamp = record.stamp.as_millis();
        let values = params![stamp, record.header, record.body, record.traceparent, digest, integer(position.offset)];
        assert_eq!(file.execute(&update, values).unwrap(), 1);
    }
}

/// Everything in one file, as after a long rest.
fn settle(path: &Path) {
    let file = Connection::open(path).unwrap();
    file.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) async fn report(dir: &Path) -> Report {
    report_with(dir, Outside::default()).await
}

async fn report_with(dir: &Path, outside: Outside) -> Report {
    let log = Log::embedded_read_only(dir.join("log.sqlite")).unwrap();
    verify(&log, &dir.join("ledger"), outside).await.unwrap()
}

fn integer(value: u64) -> i64 {
    value.try_into().unwrap()
}

fn count(value: i64) -> u64 {
    value.try_into().unwrap()
}

/// Whether some finding names the entry.
pub(crate) fn names(report: &Report, entry: u64) -> bool {
    report.findings.iter().map(ToString::to_string).any(|text| {
        let range = text.strip_prefix("entries ").and_then(|rest| rest.split_once(':')?.0.split_once(" to "));
        let range = range.map(|(first, last)| first.parse::<u64>().unwrap()..=last.parse().unwrap());
        text.starts_with(&format!("entry {entry}:")) || range.is_some_and(|range| range.contains(&entry))
    })
}

pub(crate) fn query(number: u32, offset: u64) -> Position {
    Position { partition: Partition { topic: Topic::Queries, number }, offset }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_or_missing_row_of_the_log_is_named_with_its_entry() {
    let original = Original::make().await;
    let position = query(5, 7);
    let entry = original.entry_of(position);
    assert!(entry.is_some());
    let changes = [
        "stamp = stamp + 1",
        "header = CAST(substr(header, 1, 20) || X'00' || substr(header, 22) AS BLOB)",
        "body = CAST(substr(body, 1, 3) || X'00' || substr(body, 5) AS BLOB)",
        "body = X''",
        "traceparent = replace(traceparent, '0af', '0ae')",
        "digest = digest + 1",
    ];
    let table = position.partition;
    for change in changes {
        let report =
            original.with(|copy| copy.log(&format!("UPDATE \"{table}\" SET {change} WHERE position = 7"))).await;
        assert_eq!(report.findings, [Finding::RecordDamaged { position, entry }], "{change}");
    }
    let report = original.with(|copy| copy.log(&format!("DELETE FROM \"{table}\" WHERE position = 7"))).await;
    assert_eq!(report.findings, [Finding::RecordDamaged { position, entry }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_partition_cut_off_is_named_entry_by_entry() {
    let original = Original::make().await;
    let report = original
        .with(|copy| {
            let table = query(5, 0).partition;
            let file = Connection::open(copy.log_path()).unwrap();
            assert!(file.execute(&format!("DELETE FROM \"{table}\" WHERE position >= 30"), []).unwrap() > 5);
        })
        .await;
    let lost = |offset| Some((query(5, offset), original.entry_of(query(5, offset))?));
    let expected: Vec<_> = (30..100).map_while(lost).collect();
    let found = report.findings.iter().filter_map(|finding| match finding {
        Finding::RecordDamaged { position, entry: Some(entry) } => Some((*position, *entry)),
        other => {
            assert!(matches!(other, Finding::RunBeyondEnd { .. }), "{other}");
            None
        }
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_rewritten_with_a_fitting_digest_is_named_all_the_same() {
    let original = Original::make().await;
    let position = query(3, 11);
    let entry = original.entry_of(position).unwrap();
    let changed = [Finding::RecordChanged { position, entry }];
    let stamp = |record: &mut Stored| record.stamp = record.stamp + std::time::Duration::from_millis(1);
    assert_eq!(original.with(|copy| copy.rewrite(position, stamp)).await.findings, changed);
    // Within the nonce: it still decodes.
    assert_eq!(original.with(|copy| copy.rewrite(position, |r| r.header[8] ^= 1)).await.findings, changed);
    let body = original.with(|copy| copy.rewrite(position, |record| record.body[2] ^= 1)).await;
    assert_eq!(body.findings, [Finding::Body { position, entry: Some(entry) }]);
    let unreadable = original.with(|copy| copy.rewrite(position, |record| record.header[0] = 0xff)).await;
    assert!(names(&unreadable, entry), "{unreadable:?}");
    // The trace context is no part of the proof, and says nothing about anybody.
    assert!(original.with(|copy| copy.rewrite(position, |r| r.traceparent.clear())).await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_byte_of_a_stored_leaf_names_its_entry() {
    let original = Original::make().await;
    let position = query(2, 9);
    let entry = original.entry_of(position).unwrap();
    let file = Connection::open(original.bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let leaf: Vec<u8> =
        file.query_row("SELECT leaf FROM entries WHERE idx = ?", [integer(entry)], |row| row.get(0)).unwrap();
    for at in (0..leaf.len()).step_by(9) {
        let mut changed = leaf.clone();
        changed[at] ^= 0x10;
        let update = format!("UPDATE entries SET leaf = X'{}' WHERE idx = {entry}", hex::encode(changed));
        let report = original.with(|copy| copy.ledger(&update)).await;
        assert_eq!(report.findings, [Finding::LeafChanged { entry, position }], "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_row_of_the_ledger_is_checked_too() {
    let original = Original::make().await;
    let position = query(2, 9);
    let entry = original.entry_of(position).unwrap();
    let one = |finding: Finding| vec![finding];
    let cases = [
        (format!("UPDATE entries SET position = 9000 WHERE idx = {entry}"), one(Finding::Misfiled { entry, position })),
        (format!("UPDATE entries SET partition = 99 WHERE idx = {entry}"), one(Finding::Misfiled { entry, position })),
        (format!("DELETE FROM entries WHERE idx = {entry}"), one(Finding::EntryMissing { entry })),
        (
            format!("UPDATE entries SET idx = 70000 WHERE idx = {entry}"),
            vec![Finding::EntryMissing { entry }, Finding::BeyondEnd { entry: 70000, size: 540 }],
        ),
        ("UPDATE partitions SET ordered_to = ordered_to + 1 WHERE id = 3".to_owned(), vec![]),
        ("UPDATE ledger SET checkpoint = replace(checkpoint, 'test', 'tesu')".to_owned(), vec![]),
        ("UPDATE ledger SET log = 'other'".to_owned(), vec![]),
        ("UPDATE ledger SET key = 'other'".to_owned(), vec![]),
        ("UPDATE ledger SET order_next = 99999".to_owned(), vec![]),
        ("UPDATE ledger SET size = size + 1".to_owned(), vec![]),
        ("UPDATE ledger SET size = size - 1".to_owned(), vec![]),
        ("UPDATE ledger SET size = 1 << 40".to_owned(), vec![]),
    ];
    for (sql, expected) in cases {
        let report = original.with(|copy| copy.ledger(&sql)).await;
        assert!(!report.is_sound(), "{sql}");
        assert!(report.findings_total < 10, "{sql}: {:?}", report.findings);
        if !expected.is_empty() {
            assert_eq!(report.findings, expected, "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_of_the_tree_are_named_by_the_entries_below_them() {
    let original = Original::make().await;
    let flip = |tile: i64, place: u64| {
        let byte = place * 32 + 5;
        format!(
            "UPDATE tiles \
             SET hashes = CAST(substr(hashes, 1, {byte}) || X'00FF' || substr(hashes, {byte} + 3) AS BLOB) \
             WHERE id = {tile}"
        )
    };
    for entry in [0, 255, 256, 300, 539] {
        let report = original.with(|copy| copy.ledger(&flip((entry / 256) as i64, entry % 256))).await;
        assert!(
            matches!(report.findings.as_slice(), [Finding::HashChanged { entry: e, .. }] if *e == entry),
            "{report:?}"
        );
    }
    let report = original.with(|copy| copy.ledger(&flip(1 << 56, 1))).await;
    assert_eq!(report.findings, [Finding::InnerHashChanged { level: 1, first: 256, last: 511 }]);
    let report = original.with(|copy| copy.ledger("DELETE FROM tiles WHERE id = 1")).await;
    assert_eq!(report.findings, [Finding::TileDamaged { level: 0, index: 1, first: 256, last: 511 }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_order_is_named_and_what_follows_is_still_verified() {
    let original = Original::make().await;
    let log = open_log(original.bench.dir.path());
    let order_records = records(&log, Partition::only(Topic::Order)).await;
    drop(log);
    for record in &order_records {
        let position = record.position;
        let delete = format!("DELETE FROM \"airut.order/0\" WHERE position = {}", position.offset);
        let report = original.with(|copy| copy.log(&delete)).await;
        let is_last = position.offset + 1 == order_records.len() as u64;
        if is_last {
            // A checkpoint cut off at the end: only the outside knows of it.
            assert!(report.findings.is_empty(), "{report:?}");
        } else {
            assert_eq!(report.findings, [Finding::RecordDamaged { position, entry: None }]);
        }
        assert_eq!(report.entries, 540);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_rewritten_by_one_is_named_at_the_first_entry_it_moves() {
    let original = Original::make().await;
    let log = open_log(original.bench.dir.path());
    let order_records = records(&log, Partition::only(Topic::Order)).await;
    drop(log);
    let mut rewritten = 0;
    for record in &order_records {
        let mut header = airut_wire::record::decode(&record.header).unwrap();
        let Kind::Order(Order::Run(run)) = &mut header.kind else { continue };
        let Some(segment) = run.runs.iter_mut().find(|(partition, end)| partition.topic == Topic::Queries && *end > 1)
        else {
            continue;
        };
        segment.1 -= 1;
        let report = original
            .with(|copy| copy.rewrite(record.position, |r| r.header = airut_wire::record::encode(&header)))
            .await;
        let run_named = |finding: &Finding| matches!(finding, Finding::Order { run, .. } if *run == record.position);
        // The last run has none after it that would make up for the difference.
        let expected = report.findings.iter().any(run_named) || names(&report, 539);
        assert!(expected && report.findings_total < 4, "{:?}", report.findings);
        assert_eq!(report.entries, 540);
        rewritten += 1;
    }
    assert!(rewritten >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_everywhere_alike_is_told_by_what_was_signed() {
    let original = Original::make().await;
    let position = query(4, 20);
    let entry = original.entry_of(position).unwrap();
    let report = original
        .with(|copy| {
            let mut leaf = Vec::new();
            copy.rewrite(position, |record| {
                record.header[8] ^= 1;
                leaf = leaf_bytes(position, record.stamp, &record.header);
            });
            copy.ledger(&format!("UPDATE entries SET leaf = X'{}' WHERE idx = {entry}", hex::encode(&leaf)));
            let (tile, byte) = (entry / 256, entry % 256 * 32);
            let hash = leaf_hash(&leaf);
            copy.ledger(&format!(
                "UPDATE tiles SET hashes = CAST(substr(hashes, 1, {byte}) || X'{hash}' || substr(hashes, {byte} + 33) \
                 AS BLOB) WHERE id = {tile}"
            ));
        })
        .await;
    let forked = report.findings.iter().find_map(|finding| match finding {
        Finding::CheckpointForked { since, size, .. } => Some(*since..*size),
        other => {
            assert!(matches!(other, Finding::InnerHashChanged { .. }), "{other}");
            None
        }
    });
    assert!(forked.is_some_and(|range| range.contains(&entry)), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_kept_outside_tells_what_was_cut_off_or_exchanged() {
    let bench = Bench::filled(50).await;
    let before = tempfile::tempdir().unwrap();
    copy_all(bench.dir.path(), before.path());
    let grown = |dir: PathBuf| async move {
        let log = open_log(&dir);
        let running = crate::support::Running::start(airut_ledger::Ledger::open(settings(&dir, &log)).unwrap());
        fill(&log, 50..90).await;
        running.signed(90).await;
        running.stop().await;
        notes(&log).await.last().unwrap().1.clone()
    };
    let outside = grown(bench.dir.path().to_owned()).await;
    let expect = || Outside { key: None, checkpoint: Some(outside.clone()) };

    assert!(report_with(bench.dir.path(), expect()).await.is_sound());
    let truncated = report_with(before.path(), expect()).await;
    assert_eq!(truncated.findings, [Finding::Truncated { size: 90, found: 50 }]);
    assert!(report(before.path()).await.is_sound(), "by itself it is sound");
    // The same ledger, grown another way from the same beginning.
    grown(before.path().to_owned()).await;
    assert_eq!(report_with(before.path(), expect()).await.findings, [Finding::Forked { size: 90 }]);
    let damaged = Outside { key: None, checkpoint: Some(outside.replace("90", "91")) };
    let damaged = report_with(bench.dir.path(), damaged).await;
    assert!(matches!(damaged.findings.as_slice(), [Finding::OutsideInvalid(_)]));
    // Another key than the directory's: none of its signatures count.
    let key = airut_ledger::note::SigningKey::from_seed("airut.example/test".parse().unwrap(), [9; 32]);
    let other = Outside { key: Some(key.verifier().clone()), checkpoint: None };
    assert!(!report_with(bench.dir.path(), other).await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_has_trimmed_the_ledger_still_proves() {
    let original = Original::make().await;
    let copy = original.copy();
    let log = open_log(copy.dir.path());
    for number in [2, 5] {
        log.trim(query(number, 0).partition, 20).await.unwrap();
    }
    let members = Partition::only(Topic::Members);
    log.trim(members, log.end(members).await.unwrap()).await.unwrap();
    drop(log);
    let trimmed = report(copy.dir.path()).await;
    assert!(trimmed.is_sound(), "{:?}", trimmed.findings);
    assert_eq!((trimmed.entries, trimmed.unsigned), (540, 0));

    let position = query(5, 7);
    let entry = original.entry_of(position).unwrap();
    copy.ledger(&format!("UPDATE entries SET leaf = CAST(leaf || X'00' AS BLOB) WHERE idx = {entry}"));
    assert_eq!(report(copy.dir.path()).await.findings, [Finding::LeafChanged { entry, position }]);

    // And it goes on from there.
    let log = original.bench.log();
    log.trim(position.partition, 20).await.unwrap();
    let running = original.bench.ledger(&log);
    fill(&log, 540..560).await;
    running.signed(560).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_after_the_last_checkpoint_and_an_older_file_are_told_apart() {
    let bench = Bench::filled(60).await;
    let older = tempfile::tempdir().unwrap();
    copy_all(&bench.ledger_dir(), older.path());
    let log = bench.log();
    fill(&log, 60..65).await;
    drop(log);
    let unsigned = report(bench.dir.path()).await;
    assert!(unsigned.is_sound());
    assert_eq!((unsigned.entries, unsigned.unsigned), (60, 5));

    let log = bench.log();
    let running = bench.ledger(&log);
    running.signed(65).await;
    running.stop().await;
    drop(log);
    drop(fs::remove_file(bench.ledger_dir().join("ledger.sqlite-wal")));
    fs::copy(older.path().join("ledger.sqlite"), bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let behind = report(bench.dir.path()).await;
    assert_eq!(behind.findings, [Finding::Behind { size: 60, signed: 65 }]);
}
