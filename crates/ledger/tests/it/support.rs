//! A data directory with a log and a ledger, and records to fill it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use airut_domain::{
    id::PartnerId,
    keys::Digest,
    member,
    partition::{Partition, Position, Topic},
    query,
    record::{BodyRef, Header, Kind, RULES, Refused, Stored},
    refusal::Reason,
    time::Timestamp,
};
use airut_ledger::{Ledger, OpenError, Settings, Signed, StopReason};
use airut_log::{Clock, Embedded, Log, Random, Unstamped};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer, unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn log(&self) -> Log {
        open_log(self.dir.path())
    }

    pub(crate) fn ledger_dir(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub(crate) fn open(&self, log: &Log) -> Result<Ledger, OpenError> {
        Ledger::open(settings(self.dir.path(), log))
    }

    pub(crate) fn ledger(&self, log: &Log) -> Running {
        Running::start(self.open(log).unwrap())
    }

    /// A log with this many entries, all signed, closed.
    pub(crate) async fn filled(entries: u64) -> Self {
        let bench = Self::new();
        let log = bench.log();
        let running = bench.ledger(&log);
        fill(&log, 0..entries).await;
        running.signed(entries).await;
        running.stop().await;
        bench
    }
}

pub(crate) fn open_log(dir: &Path) -> Log {
    Log::embedded(Embedded::at(dir.join("log.sqlite"), Clock::system(), Random::system())).unwrap()
}

pub(crate) fn settings(dir: &Path, log: &Log) -> Settings {
    Settings {
        dir: dir.join("ledger"),
        origin: "airut.example/test".parse().unwrap(),
        log: log.clone(),
        author: "ledger-1".parse().unwrap(),
        random: Random::system(),
    }
}

/// A ledger that runs in a task.
pub(crate) struct Running {
    pub(crate) status: tokio::sync::watch::Receiver<airut_ledger::Status>,
    shutdown: CancellationToken,
    task: JoinHandle<(Ledger, Result<(), StopReason>)>,
}

impl Running {
    pub(crate) fn start(mut ledger: Ledger) -> Self {
        let shutdown = CancellationToken::new();
        let (status, token) = (ledger.status(), shutdown.clone());
        let task = tokio::spawn(async move {
            let outcome = ledger.run(token).await;
            (ledger, outcome)
        });
        Self { status, shutdown, task }
    }

    /// The first checkpoint with at least this many entries.
    pub(crate) async fn signed(&self, size: u64) -> Signed {
        let mut status = self.status.clone();
        let signed = status.wait_for(|status| status.checkpoint.as_ref().is_some_and(|signed| signed.size >= size));
        timeout(PATIENCE, signed).await.expect("signed in time").unwrap().checkpoint.clone().unwrap()
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) -> Ledger {
        self.shutdown.cancel();
        let (ledger, outcome) = self.ended().await;
        assert_eq!(outcome, Ok(()));
        ledger
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(self) -> (Ledger, Result<(), StopReason>) {
        timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap()
    }
}

/// Appends entries, many at once: queries in every partition with a body, and now and then a refusal, a stream, and a
/// heartbeat, which is no entry.
pub(crate) async fn fill(log: &Log, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let appends = numbers.map(|number| {
        let log = log.clone();
        tokio::spawn(async move {
            if number % 16 == 3 {
                let beat = Kind::Member(member::Event::Heartbeat("gateway-1".parse().unwrap()));
                append(&log, Partition::only(Topic::Members), beat, b"").await;
            }
            let (partition, kind) = entry(number);
            append(&log, partition, kind, format!("sealed body {number}").as_bytes()).await
        })
    });
    let mut positions = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        positions.push(append.await.unwrap());
    }
    positions
}

/// The partition and header of the entry of this number.
pub(crate) fn entry(number: u64) -> (Partition, Kind) {
    let asker: PartnerId = if number.is_multiple_of(2) { "pirkanmaa" } else { "helsinki" }.parse().unwrap();
    match number % 20 {
        7 => {
            let number = u32::try_from(number % 4).unwrap();
            (Partition { topic: Topic::Refusals, number }, Kind::Refusal(refused(&asker)))
        }
        13 => {
            let opened = member::StreamOpened {
                stream: format!("gateway-1/{number}").parse().unwrap(),
                holder: "gateway-1".parse().unwrap(),
                partner: "kela".parse().unwrap(),
                kind: member::StreamKind::Answers,
                types: member::Types::All,
            };
            (Partition::only(Topic::Members), Kind::Member(member::Event::StreamOpened(opened)))
        }
        _ => {
            let partition = Partition { topic: Topic::Queries, number: u32::try_from(number % 12).unwrap() };
            (partition, Kind::Query(query::Event::Repeated(repeated(&asker, number))))
        }
    }
}

pub(crate) fn refused(partner: &PartnerId) -> Refused {
    Refused {
        partner: Some(partner.clone()),
        reason: Reason::NoContract,
        method: "/airut.v1.QueryService/QueryBenefits".to_owned(),
        fields: Vec::new(),
        count: 1,
        span: Duration::ZERO,
        stranger: None,
    }
}

fn repeated(asker: &PartnerId, number: u64) -> query::Repeated {
    let access = query::Access {
        purpose: "social-assistance".parse().unwrap(),
        legal_basis: "1412/1997".parse().unwrap(),
        contract_version: 1,
        subject: Digest::of(&number.to_be_bytes()),
        subject_key: "subject-2026".parse().unwrap(),
        end_user: Digest::of(b"user"),
        case: Digest::of(b"case"),
    };
    let key = query::QueryKey { asker: asker.clone(), query_id: format!("query-{number}").parse().unwrap() };
    query::Repeated { key, fingerprint: Digest::of(b"content"), access }
}

pub(crate) async fn append(log: &Log, partition: Partition, kind: Kind, body: &[u8]) -> Position {
    let (position, _) = log.append(partition, record(kind, body)).await.unwrap();
    position
}

pub(crate) fn record(kind: Kind, body: &[u8]) -> Unstamped {
    let reference = BodyRef { sha256: Digest::of(body), key: "body-1".parse().unwrap() };
    let header = Header {
        rules: RULES,
        nonce: Random::system().bytes(),
        author: "gateway-1".parse().unwrap(),
        body: (!body.is_empty()).then_some(reference),
        kind,
    };
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    Unstamped { header: airut_wire::record::encode(&header), body: body.to_vec(), traceparent }
}

/// Every record of a partition.
pub(crate) async fn records(log: &Log, partition: Partition) -> Vec<Stored> {
    let (mut next, end) = (log.start(partition).await.unwrap(), log.end(partition).await.unwrap());
    let mut records = Vec::new();
    while next < end {
        let batch = log.read(partition, next..end, 1 << 20).await.unwrap();
        next += batch.len() as u64;
        records.extend(batch.iter().map(|record| Stored::clone(record)));
    }
    records
}

/// The checkpoints that the log holds, in its order.
pub(crate) async fn notes(log: &Log) -> Vec<(Timestamp, String)> {
    let mut notes = Vec::new();
    for record in records(log, Partition::only(Topic::Order)).await {
        let kind = airut_wire::record::decode(&record.header).unwrap().kind;
        if let Kind::Order(airut_domain::record::Order::Checkpoint(note)) = kind {
            notes.push((record.stamp, note));
        }
    }
    notes
}
