//! Killed at random moments under load, again and again: what was promised before a kill holds after it.
//!
//! What SIGKILL can not show, because the kernel keeps what a process has written, the suite `sync` shows: that each receipt
//! follows its sync. The log's own tests cut its files at every byte.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use airut_client::{Checkpoint, Client, ReceiptKeys, verify_inclusion, verify_receipt};
use airut_domain::{
    keys::{Digest, commitment},
    partition::Topic,
    query::Event,
    receipt::Statement,
    record::Kind,
    refusal::Reason,
};
use airut_ledger::note::VerifierKey;
use airut_testkit::eventually;
use airut_wire::v1::{QueryBenefitsRequest, QueryBenefitsResponse};
use futures::{StreamExt, TryStreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Data, Exchange, PATIENCE, client, dev, entries, gauge, ledger_verify, persons, question, receipt_keys, seed, tell,
};

/// Kills in one run, unless `AIRUT_CRASH_KILLS` says how many.
const KILLS: u32 = 24;

/// Callers at once.
const CALLERS: u64 = 32;

/// How long a caller waits for one attempt.
const ATTEMPT: Duration = Duration::from_millis(1900);

/// How long before its last look an id may have been answered and still be asked for: ten minutes, less what the look takes.
const SERVED: Duration = Duration::from_secs(8 * 60);

/// Checks under way at once.
const AT_ONCE: usize = 24;

/// Every promise that was made.
pub(crate) struct Book {
    keys: ReceiptKeys,
    promises: Mutex<BTreeMap<String, Promise>>,
    /// Receipts, those of repeats included.
    pub(crate) receipts: AtomicU64,
}

/// What the first receipt for an id said. A receipt is only entered after its signature and its content's digest were
/// checked, so that equal statements mean equal content.
#[derive(Clone)]
pub(crate) struct Promise {
    subject: String,
    statement: Statement,
    commitment: Digest,
    given: Instant,
}

impl Book {
    pub(crate) fn new(keys: ReceiptKeys) -> Self {
        Self { keys, promises: Mutex::default(), receipts: AtomicU64::new(0) }
    }

    /// Enters what a caller was given. Every receipt for an id must say the same.
    pub(crate) fn enter(&self, request: &QueryBenefitsRequest, response: &QueryBenefitsResponse) {
        verify_receipt(response, &self.keys).expect("a good receipt");
        let receipt = airut_wire::receipt_from(response.receipt.clone().unwrap()).unwrap();
        let statement = receipt.statement;
        let commitment = commitment(&receipt.commitment_salt, statement.payload_sha256);
        let given = Instant::now();
        self.receipts.fetch_add(1, Ordering::Relaxed);
        let promise = Promise { subject: request.subject_id.clone(), statement: statement.clone(), commitment, given };
        let mut promises = self.promises.lock().unwrap();
        let first = promises.entry(request.query_id.clone()).or_insert(promise);
        assert_eq!(first.statement, statement, "two receipts for one id say different things");
        assert_eq!(first.commitment, commitment);
    }

    pub(crate) fn len(&self) -> usize {
        self.promises.lock().unwrap().len()
    }

    pub(crate) fn promises(&self) -> Vec<(String, Promise)> {
        self.promises.lock().unwrap().iter().map(|(id, promise)| (id.clone(), promise.clone())).collect()
    }
}

/// One who asks, and asks again, whatever becomes of the exchange.
struct Caller {
    data: PathBuf,
    persons: Arc<Vec<String>>,
    book: Arc<Book>,
    /// The gateways that there are: any will do.
    gateways: watch::Receiver<Vec<SocketAddr>>,
    connected: Option<(SocketAddr, Client)>,
    random: StdRng,
}

impl Caller {
    /// Asks one question after another until told to stop, and gives none up.
    async fn run(mut self, name: String, stop: CancellationToken) {
        for number in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let subject = self.persons.choose(&mut self.random).unwrap().clone();
            let request = question(&format!("{name}-{number}"), &subject);
            let times = if self.random.random_bool(0.3) { 2 } else { 1 };
            for _ in 0..times {
                self.ask(&request).await;
            }
            self.pause(40).await;
        }
    }

    /// Asks with the same id until there is an answer. Now and then it leaves in the middle, as broken callers do.
    async fn ask(&mut self, request: &QueryBenefitsRequest) {
        let began = Instant::now();
        while began.elapsed() < 3 * PATIENCE {
            let client = self.client().await;
            let leaves = self.random.random_bool(0.1);
            let stays = if leaves { Duration::from_millis(self.random.random_range(0..60)) } else { 2 * ATTEMPT };
            match tokio::time::timeout(stays, client.query(request, ATTEMPT)).await {
                Ok(Ok(response)) => return self.book.enter(request, &response),
                Ok(Err(fault)) => {
                    // Anything but this means that something is wrong with the question, which there is not.
                    let may_pass = matches!(fault.reason(), None | Some(Reason::NoAnswerInTime)) || fault.may_pass();
                    assert!(may_pass, "{} is refused: {fault}", request.query_id);
                    self.pause(100).await;
                }
                Err(_left) => {}
            }
        }
        panic!("{} is not answered", request.query_id);
    }

    async fn client(&mut self) -> Client {
        let address = *self.gateways.borrow_and_update().choose(&mut self.random).expect("there is one at least");
        match &self.connected {
            Some((connected, client)) if *connected == address => client.clone(),
            Some(_) | None => {
                let client = client(&self.data, address, "pirkanmaa").await;
                self.connected = Some((address, client.clone()));
                client
            }
        }
    }

    async fn pause(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..most_ms))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_every_receipt_and_every_answer_stays() {
    let mut random = StdRng::seed_from_u64(seed());
    let kills = std::env::var("AIRUT_CRASH_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let data = Data::new();
    let first = Exchange::start(dev(data.path())).await;
    let book = Arc::new(Book::new(receipt_keys(data.path())));
    let (at, exchange) = watch::channel(vec![first.address]);
    let stop = CancellationToken::new();
    let callers = callers(CALLERS, &data, &book, &exchange, &stop, &mut random);

    let began = Instant::now();
    let exchange = live_and_die(first, &data, &book, &at, kills, &mut random).await;
    let killing = began.elapsed();
    stop.cancel();
    for caller in callers {
        caller.await.unwrap();
    }

    let promises = book.promises();
    let county = exchange.client(data.path(), "pirkanmaa").await;
    all_are_in_the_ledger(&county, data.path(), &promises).await;
    all_are_given_again(&county, &book, &promises).await;
    nothing_is_left_open(&exchange, &data).await;
    let receipts = book.receipts.load(Ordering::Relaxed);
    tell(&format!(
        "{kills} kills in {killing:.1?}: {} queries answered, {receipts} receipts, all found, all the same",
        promises.len(),
    ));
    assert!(exchange.stop().await.success());
    let verified = ledger_verify(data.path());
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
}

pub(crate) fn callers(
    count: u64,
    data: &Data,
    book: &Arc<Book>,
    gateways: &watch::Receiver<Vec<SocketAddr>>,
    stop: &CancellationToken,
    random: &mut StdRng,
) -> Vec<tokio::task::JoinHandle<()>> {
    let persons = Arc::new(persons(data.path()));
    let start = |number| {
        let caller = Caller {
            data: data.path().to_owned(),
            persons: Arc::clone(&persons),
            book: Arc::clone(book),
            gateways: gateways.clone(),
            connected: None,
            random: StdRng::seed_from_u64(random.random()),
        };
        tokio::spawn(caller.run(format!("crash-{number}"), stop.clone()))
    };
    (0..count).map(start).collect()
}

/// Kills and restarts it so many times; returns it in its last life. Before some lives, the last among them, the fold's file
/// is deleted, which must change nothing.
async fn live_and_die(
    first: Exchange,
    data: &Data,
    book: &Book,
    at: &watch::Sender<Vec<SocketAddr>>,
    kills: u32,
    random: &mut StdRng,
) -> Exchange {
    let mut alive = Some(first);
    for kill in 1..=kills {
        if let Some(mut exchange) = alive.take() {
            let answered = book.len() + random.random_range(1..100);
            eventually(PATIENCE, async || book.len() >= answered).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
            assert!(exchange.is_running(), "it ended by itself:\n{}", exchange.stderr());
            exchange.kill();
        }
        if kill == kills || random.random_bool(0.25) {
            forget_folds(data.path());
        }
        // Some lives end before they have begun.
        let within = if kill < kills && random.random_bool(0.2) { random.random_range(0..500) } else { 60_000 };
        match Exchange::try_start(dev(data.path()), Duration::from_millis(within)).await {
            Ok(exchange) => {
                at.send_replace(vec![exchange.address]);
                alive = Some(exchange);
            }
            Err(said) => assert!(within < 60_000, "life {kill} does not begin:\n{said}"),
        }
    }
    alive.expect("the last life is given its time")
}

pub(crate) fn forget_folds(data: &Path) {
    for file in ["folds.sqlite", "folds.sqlite-wal", "folds.sqlite-shm"] {
        // A life that was killed early may not have come to make it.
        drop(std::fs::remove_file(data.join(file)));
    }
}

/// Each receipt's record is in the ledger's signed tree, and is about what the receipt says.
pub(crate) async fn all_are_in_the_ledger(county: &Client, data: &Path, promises: &[(String, Promise)]) {
    let key = std::fs::read_to_string(data.join("ledger/ledger.vkey")).unwrap();
    let key: VerifierKey = key.trim().parse().unwrap();
    let checks = promises.iter().map(|(id, promise)| is_in_the_ledger(county, &key, id, promise));
    stream::iter(checks).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn is_in_the_ledger(county: &Client, key: &VerifierKey, id: &str, promise: &Promise) {
    let position = promise.statement.position;
    let proof = county.inclusion_proof(position, PATIENCE).await;
    let proof = proof.unwrap_or_else(|fault| panic!("{id} at {position} is not in the ledger: {fault}"));
    let signed = key.open(&proof.checkpoint).expect("signed by the ledger");
    let checkpoint = Checkpoint::parse(&proof.checkpoint).unwrap();
    assert_eq!(checkpoint.root, signed.root);
    verify_inclusion(&proof, &checkpoint).unwrap();
    let entry = proof.entry.unwrap();
    assert_eq!(entry.position, position.to_string());
    let kind = airut_wire::record::decode(&entry.header).unwrap().kind;
    let Kind::Query(Event::Answered(answered)) = kind else { panic!("{position} is {}", kind.name()) };
    assert_eq!(answered.key.query_id.as_str(), id);
    assert_eq!(answered.commitment, promise.commitment);
}

/// Each id that may still be asked for gets the same statement and content.
pub(crate) async fn all_are_given_again(county: &Client, book: &Book, promises: &[(String, Promise)]) {
    let recent = promises.iter().filter(|(_, promise)| promise.given.elapsed() < SERVED);
    let checks = recent.map(|(id, promise)| async move {
        let request = question(id, &promise.subject);
        let response = county.query(&request, PATIENCE).await.map_err(|fault| format!("{id}: {fault}"))?;
        book.enter(&request, &response);
        Ok::<_, String>(())
    });
    stream::iter(checks).buffer_unordered(AT_ONCE).try_collect::<()>().await.unwrap();
}

/// Once its deadline is past and it was looked for, no query is without an end; and in what an auditor is shown no entry and
/// no record is missing.
async fn nothing_is_left_open(exchange: &Exchange, data: &Data) {
    let metrics = exchange.metrics_address();
    eventually(PATIENCE, async || gauge(metrics, "airut_queries_open") == Some(0.0)).await;
    every_query_has_an_end(&exchange.client(data.path(), "auditor").await).await;
}

/// In what an auditor is shown no entry and no record is missing, and every query that was asked has ended.
pub(crate) async fn every_query_has_an_end(auditor: &Client) {
    let entries = entries(auditor).await;
    let (mut asked, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let mut next = BTreeMap::new();
    for (index, (entry, header)) in entries.iter().enumerate() {
        assert_eq!(entry.index, index as i64);
        let (partition, offset) = entry.position.rsplit_once('/').unwrap();
        let offset: u64 = offset.parse().unwrap();
        let expected = next.insert(partition, offset + 1).unwrap_or(0);
        // Heartbeats take offsets and are no entries.
        let has_heartbeats = partition.starts_with(Topic::Members.name());
        assert!(offset == expected || has_heartbeats, "{} follows {partition}/{expected}", entry.position);
        match &header.kind {
            Kind::Query(Event::Asked(event)) => drop(asked.insert(&event.key)),
            Kind::Query(Event::Answered(event)) => drop(ended.insert(&event.key)),
            Kind::Query(Event::NotDisclosed(event)) => drop(ended.insert(&event.key)),
            Kind::Query(Event::Rerouted(_) | Event::Repeated(_)) => {}
            Kind::Message(_)
            | Kind::Refusal(_)
            | Kind::Partner(_)
            | Kind::Document(_)
            | Kind::Request(_)
            | Kind::Member(_)
            | Kind::Order(_) => {}
        }
    }
    let endless: Vec<_> = asked.difference(&ended).collect();
    assert!(endless.is_empty(), "without an end: {endless:?}");
}
