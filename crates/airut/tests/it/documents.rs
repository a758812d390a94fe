//! Documents over the real binary: what is sent is what is fetched, however often it is cut and whoever is killed meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Cursor, SeekFrom},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use airut_client::{Client, FetchError, ReceiptKeys, SendError, UploadError};
use airut_domain::{keys::Digest, receipt::Statement, refusal::Reason};
use airut_testkit::{eventually, free_ports};
use airut_wire::v1::{self, UploadState};
use aws_lc_rs::digest;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::run,
    processes::Cluster,
    support::{Data, Exchange, PATIENCE, airut, client, dev, ledger_verify, persons, receipt_keys, seed, tell},
};

/// The size of a segment.
const SEGMENT: u64 = 4 << 20;

/// Kills in one run, unless `AIRUT_CRASH_KILLS` says how many.
const KILLS: u32 = 12;

/// Those who send at once.
const SENDERS: u64 = 4;

/// A document while it goes through a gateway may take so much of its memory, in MiB.
const GROWTH_MIB: u64 = 64;

/// Content made up as it is read: a PDF by its first line, and the same wherever it is read from.
#[derive(Clone, Debug)]
struct Made {
    block: Arc<Vec<u8>>,
    size: u64,
    at: u64,
}

impl Made {
    fn new(seed: u64, size: u64) -> Self {
        // No segment is a whole number of blocks, so that no two are the same.
        let mut block = vec![0; 65_521];
        StdRng::seed_from_u64(seed).fill(&mut block[..]);
        Self { block: Arc::new(block), size, at: 0 }
    }

    fn fill(&self, from: u64, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            let at = (from as usize + filled) % self.block.len();
            let length = (self.block.len() - at).min(bytes.len() - filled);
            bytes[filled..filled + length].copy_from_slice(&self.block[at..at + length]);
            filled += length;
        }
        let first = b"%PDF-1.7\n";
        let within = first.len().saturating_sub(from as usize).min(bytes.len());
        bytes[..within].copy_from_slice(&first[first.len() - first.len().saturating_sub(from as usize)..][..within]);
    }

    fn sha256(&self) -> Digest {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut part = vec![0; 1 << 20];
        let mut at = 0;
        while at < self.size {
            let length = (self.size - at).min(1 << 20);
            self.fill(at, &mut part[..length as usize]);
            hash.update(&part[..length as usize]);
            at += length;
        }
        Digest::from_slice(hash.finish().as_ref()).unwrap()
    }
}

impl AsyncRead for Made {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(buf.remaining()).min(1 << 16);
        let mut part = vec![0; length];
        self.fill(self.at, &mut part);
        buf.put_slice(&part);
        self.at += length as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Made {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let SeekFrom::Start(at) = position else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = at.min(self.size);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.at))
    }
}

fn context() -> v1::Context {
    v1::Context {
        end_user: "official-17".to_owned(),
        end_user_role: "social-worker".to_owned(),
        purpose: "social-assistance".to_owned(),
        legal_basis: "1412/1997".to_owned(),
        case_id: "case-118".to_owned(),
    }
}

fn metadata(id: &str, subject: &str, size: u64, sha256: Digest) -> v1::DocumentMetadata {
    v1::DocumentMetadata {
        document_id: id.to_owned(),
        recipient: "kela".to_owned(),
        document_type: "social-assistance-document".to_owned(),
        subject_id: subject.to_owned(),
        context: Some(context()),
        file_name: "tiliote.pdf".to_owned(),
        content_type: "application/pdf".to_owned(),
        size_bytes: size as i64,
        sha256: sha256.0.to_vec(),
    }
}

fn request(id: &str) -> v1::FetchDocumentRequest {
    v1::FetchDocumentRequest {
        sender: "pirkanmaa".to_owned(),
        document_id: id.to_owned(),
        context: Some(context()),
        offset: 0,
        length: 0,
    }
}

/// Fetches it; its digest was checked then.
async fn fetch(kela: &Client, id: &str) -> Result<u64, FetchError> {
    let mut fetching = kela.fetch_document(&request(id), PATIENCE).await?;
    let mut bytes = 0;
    while let Some(part) = fetching.next().await? {
        bytes += part.len() as u64;
    }
    Ok(bytes)
}

fn document(data: &Path, at: SocketAddr, verb: &str, partner: &str) -> Command {
    let mut command = airut();
    command.args(["document", verb, "--as", partner, "--server", &at.to_string(), "--data"]).arg(data);
    if verb != "status" {
        command.args(["--purpose", "social-assistance", "--legal-basis", "1412/1997"]);
    }
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_sent_and_fetched_from_the_command_line() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let subject = persons(data.path()).remove(0);
    let content: Vec<u8> = {
        let made = Made::new(7, 5_000_000);
        let mut content = vec![0; 5_000_000];
        made.fill(0, &mut content);
        content
    };
    let (pdf, text) = (data.join("tiliote ä.pdf"), data.join("note.txt"));
    fs::write(&pdf, &content).unwrap();
    fs::write(&text, "Hyvää päivää\n").unwrap();
    let send = |files: &[&Path], ids: &[&str]| {
        let mut send = document(data.path(), exchange.address, "send", "pirkanmaa");
        send.args(["--to", "kela", "--subject-stdin", "--output", "json"]).args(files);
        for id in ids {
            send.args(["--document-id", id]);
        }
        send
    };
    let sent = run(send(&[&pdf, &text], &["one", "two"]), &format!("{subject}\n")).await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let sent: Value = serde_json::from_slice(&sent.stdout).unwrap();
    let receipt = &sent["documents"][0]["receipt"];
    assert_eq!(receipt["payload_sha256"], Digest::of(&content).to_string());
    assert_eq!(sent["documents"][1]["document_id"], "two");
    let again = run(send(&[&pdf], &["one"]), &format!("{subject}\n")).await;
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["documents"][0]["receipt"]["position"], receipt["position"], "the same receipt");

    let dir = data.join("fetched");
    fs::create_dir(&dir).unwrap();
    let fetch = |id: &str, arguments: &[&str]| {
        let mut fetch = document(data.path(), exchange.address, "fetch", "kela");
        fetch.args(["pirkanmaa", id, "--output", "json"]).args(arguments);
        fetch
    };
    let into = dir.display().to_string();
    let fetched = run(fetch("one", &["--output-dir", &into]), "").await;
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    assert!(fs::read(dir.join("tiliote ä.pdf")).unwrap() == content);
    // A file that is there is not replaced.
    let fetched = run(fetch("one", &["--output-dir", &into]), "").await;
    assert_eq!(fetched.status.code(), Some(2));
    let part = dir.join("part").display().to_string();
    let fetched = run(fetch("one", &["--out", &part, "--range", "100-299"]), "").await;
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    assert!(fs::read(&part).unwrap() == content[100..300]);
    let nothing = run(fetch("three", &["--out", &dir.join("three").display().to_string()]), "").await;
    assert_eq!(nothing.status.code(), Some(3));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing is left beside them");

    let mut status = document(data.path(), exchange.address, "status", "pirkanmaa");
    status.args(["one", "--output", "json"]);
    let status: Value = serde_json::from_slice(&run(status, "").await.stdout).unwrap();
    assert_eq!((&status["state"], &status["received_bytes"]), (&Value::from("stored"), &Value::from(5_000_000)));
    assert!(status["fetch_time"].is_string());
    let odd = data.join("zip.pdf");
    fs::write(&odd, [b"PK\x03\x04", &content[..]].concat()).unwrap();
    let mut zip = send(&[&odd], &[]);
    zip.args(["--content-type", "application/pdf"]);
    let refused = run(zip, &subject).await;
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("CONTENT_TYPE_MISMATCH"));

    // Neither what lies in the store nor what was logged shows any of it.
    let marks = [content[4096..4160].to_vec(), "päivää".as_bytes().to_vec(), b"tiliote".to_vec()];
    let mut looked = 0;
    for file in files(&data.join("objects")) {
        let bytes = fs::read(&file).unwrap();
        looked += bytes.len();
        for mark in &marks {
            assert!(!contains(&bytes, mark), "{} shows what was sent", file.display());
        }
    }
    assert!(looked > content.len());
    let (out, err) = exchange.said().all();
    assert!(!out.contains("tiliote") && !err.contains("tiliote"));
    assert!(exchange.stop().await.success());
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    let first = mark[0];
    bytes.iter().enumerate().any(|(at, byte)| *byte == first && bytes[at..].starts_with(mark))
}

/// What was promised of each document.
#[derive(Default)]
struct Promised {
    receipts: Mutex<BTreeMap<String, (Statement, u64)>>,
    /// Given up on purpose: they must be nowhere.
    abandoned: Mutex<Vec<String>>,
    cuts: AtomicU64,
    /// Bytes given, repeats included.
    given: AtomicU64,
}

impl Promised {
    fn len(&self) -> usize {
        self.receipts.lock().unwrap().len()
    }

    fn enter(&self, id: &str, size: u64, statement: Statement) {
        let mut receipts = self.receipts.lock().unwrap();
        let (first, _) = receipts.entry(id.to_owned()).or_insert_with(|| (statement.clone(), size));
        assert_eq!(*first, statement, "two receipts for one document say different things");
    }
}

/// One who sends documents, breaks off at random points, and goes on.
struct Sender {
    data: std::path::PathBuf,
    gateways: Vec<SocketAddr>,
    subject: String,
    keys: ReceiptKeys,
    promised: Arc<Promised>,
    random: StdRng,
}

impl Sender {
    async fn run(mut self, name: String, stop: CancellationToken) {
        for number in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let id = format!("{name}-{number}");
            // Around whole segments, where off by one would be, or anywhere.
            let near = self.random.random_range(1..4) * SEGMENT + self.random.random_range(0..3) - 1;
            let size = if self.random.random_bool(0.5) { near } else { self.random.random_range(20..12_000_000) };
            let made = Made::new(self.random.random(), size);
            let metadata = metadata(&id, &self.subject, size, made.sha256());
            let abandons = self.random.random_bool(0.1);
            self.send(&metadata, &made, abandons).await;
        }
    }

    async fn send(&mut self, metadata: &v1::DocumentMetadata, made: &Made, abandons: bool) {
        let began = Instant::now();
        let id = &metadata.document_id;
        while began.elapsed() < 3 * PATIENCE {
            let gateway = *self.gateways.choose(&mut self.random).unwrap();
            let client = client(&self.data, gateway, "pirkanmaa").await;
            let cut = if abandons || self.random.random_bool(0.5) { self.random.random_range(0..400) } else { 120_000 };
            let (keys, given) = (&self.keys, &self.promised.given);
            let mut source = made.clone();
            let mut last = 0;
            let sending = client.send_document(metadata, &mut source, keys, PATIENCE, |at| {
                given.fetch_add(at.saturating_sub(last), Ordering::Relaxed);
                last = at;
            });
            match tokio::time::timeout(Duration::from_millis(cut), sending).await {
                Ok(Ok(receipt)) => return self.promised.enter(id, made.size, receipt.statement),
                Ok(Err(UploadError::Send(SendError::Unknown(_)))) => {}
                Ok(Err(fault)) => panic!("{id} is refused: {fault}"),
                Err(_cut) => {
                    self.promised.cuts.fetch_add(1, Ordering::Relaxed);
                    if abandons {
                        self.promised.abandoned.lock().unwrap().push(id.clone());
                        return;
                    }
                }
            }
        }
        panic!("{id} is not stored");
    }
}

fn senders(
    data: &Path,
    gateways: &[SocketAddr],
    promised: &Arc<Promised>,
    stop: &CancellationToken,
    random: &mut StdRng,
) -> Vec<tokio::task::JoinHandle<()>> {
    let subject = persons(data).remove(0);
    let start = |number| {
        let sender = Sender {
            data: data.to_owned(),
            gateways: gateways.to_vec(),
            subject: subject.clone(),
            keys: receipt_keys(data),
            promised: Arc::clone(promised),
            random: StdRng::seed_from_u64(random.random()),
        };
        tokio::spawn(sender.run(format!("cut-{number}"), stop.clone()))
    };
    (0..SENDERS).map(start).collect()
}

/// What has a receipt is there as it was sent, at every gateway; what was given up is there whole or not at all.
async fn all_are_right_or_absent(data: &Path, gateways: &[SocketAddr], promised: &Promised) {
    let receipts = promised.receipts.lock().unwrap().clone();
    let abandoned = promised.abandoned.lock().unwrap().clone();
    for gateway in gateways {
        let kela = client(data, *gateway, "kela").await;
        let county = client(data, *gateway, "pirkanmaa").await;
        for (id, (statement, size)) in &receipts {
            let bytes = fetch(&kela, id).await.unwrap_or_else(|fault| panic!("{id}: {fault}"));
            assert_eq!(bytes, *size, "{id}");
            let upload = county.get_upload(id, PATIENCE).await.unwrap();
            assert_eq!((upload.state(), upload.received_bytes), (UploadState::Stored, *size as i64), "{id}");
            assert!(statement.position.partition.topic == airut_domain::partition::Topic::Documents);
        }
        for id in &abandoned {
            match fetch(&kela, id).await {
                // It was cut after its last byte.
                Ok(_) => {}
                Err(FetchError::Call(cause)) => assert_eq!(cause.reason(), Some(Reason::NotFound), "{id}: {cause}"),
                Err(cause) => panic!("{id}: {cause}"),
            }
        }
    }
}

/// One claim check for each document that has a receipt, and for no other but those that were cut after their last byte.
async fn each_was_announced_once(kela: &Client, promised: &Promised) {
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    loop {
        let pull = v1::PullRequest { max_messages: 1000, ..v1::PullRequest::default() };
        let deliveries = kela.pull(&pull, PATIENCE).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        let mut settlements = Vec::new();
        for delivery in deliveries {
            let check: Value = serde_json::from_slice(&delivery.message.unwrap().payload).unwrap();
            *told.entry(check["document_id"].as_str().unwrap().to_owned()).or_default() += 1;
            let outcome = v1::settlement::Outcome::Accepted(v1::settlement::Accepted {});
            settlements.push(v1::Settlement { delivery_id: delivery.delivery_id, outcome: Some(outcome) });
        }
        kela.settle(&settlements, PATIENCE).await.unwrap();
    }
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    let receipts = promised.receipts.lock().unwrap();
    assert!(receipts.keys().all(|id| told.contains_key(id)), "every receipt has its claim check");
    let abandoned = promised.abandoned.lock().unwrap();
    assert!(told.keys().all(|id| receipts.contains_key(id) || abandoned.contains(id)));
}

fn kills() -> u32 {
    std::env::var("AIRUT_CRASH_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_cut_and_killed_a_document_is_stored_right_or_not_at_all() {
    let mut random = StdRng::seed_from_u64(seed());
    let data = Data::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
    let at = |data: &Data| {
        let mut dev = airut();
        dev.args([
            "dev",
            "--listen",
            &address.to_string(),
            "--metrics-listen",
            "127.0.0.1:0",
            "--desk-listen",
            "127.0.0.1:0",
            "--data",
        ]);
        dev.arg(data.path());
        dev
    };
    let mut exchange = Exchange::start(at(&data)).await;
    let promised = Arc::<Promised>::default();
    let stop = CancellationToken::new();
    let sending = senders(data.path(), &[address], &promised, &stop, &mut random);
    let (began, kills) = (Instant::now(), kills());
    for _ in 0..kills {
        let given = promised.given.load(Ordering::Relaxed) + random.random_range(1..30_000_000);
        eventually(2 * PATIENCE, async || promised.given.load(Ordering::Relaxed) >= given).await;
        assert!(exchange.is_running(), "it ended by itself:\n{}", exchange.stderr());
        exchange.kill();
        if random.random_bool(0.25) {
            crate::crash::forget_folds(data.path());
        }
        exchange = Exchange::start(at(&data)).await;
    }
    let killing = began.elapsed();
    stop.cancel();
    for sender in sending {
        sender.await.unwrap();
    }
    all_are_right_or_absent(data.path(), &[address], &promised).await;
    each_was_announced_once(&exchange.client(data.path(), "kela").await, &promised).await;
    tell(&format!(
        "{kills} kills and {} cuts in {killing:.1?}: {} documents with a receipt, all right; {} given up",
        promised.cuts.load(Ordering::Relaxed),
        promised.len(),
        promised.abandoned.lock().unwrap().len(),
    ));
    assert!(exchange.stop().await.success());
    let verified = ledger_verify(data.path());
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_on_kafka_that_are_killed_in_turn_share_what_is_stored() {
    let Some(mut cluster) = Cluster::start(1).await else { return };
    let mut random = StdRng::seed_from_u64(seed());
    let promised = Arc::<Promised>::default();
    let stop = CancellationToken::new();
    let gateways = cluster.gateways.clone();
    let sending = senders(cluster.data.path(), &gateways, &promised, &stop, &mut random);
    let (began, kills) = (Instant::now(), kills());
    for _ in 0..kills {
        let given = promised.given.load(Ordering::Relaxed) + random.random_range(1..30_000_000);
        eventually(2 * PATIENCE, async || promised.given.load(Ordering::Relaxed) >= given).await;
        let name = *["gateway-1", "gateway-2"].choose(&mut random).unwrap();
        let member = cluster.member(name);
        assert!(member.running.as_mut().unwrap().is_running(), "{name} ended by itself");
        member.running.as_mut().unwrap().kill();
        member.start().await;
    }
    let killing = began.elapsed();
    stop.cancel();
    for sender in sending {
        sender.await.unwrap();
    }
    all_are_right_or_absent(cluster.data.path(), &gateways, &promised).await;
    each_was_announced_once(&client(cluster.data.path(), gateways[0], "kela").await, &promised).await;
    tell(&format!(
        "{kills} kills and {} cuts in {killing:.1?}: {} documents with a receipt, all right at both gateways",
        promised.cuts.load(Ordering::Relaxed),
        promised.len(),
    ));
    cluster.stop_and_verify().await;
}

/// What a process has in memory at the most since this was last asked, in MiB, and what it has now.
fn memory_mib(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a process has one");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1024
    };
    // The greatest is counted anew from here on.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it is our own process");
    (value("VmHWM:"), value("VmRSS:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_goes_through_in_constant_memory() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let subject = persons(data.path()).remove(0);
    let (county, kela) = (exchange.client(data.path(), "pirkanmaa").await, exchange.client(data.path(), "kela").await);
    let keys = receipt_keys(data.path());
    let mut small = Cursor::new(b"%PDF-1.7\nfirst".to_vec());
    let first = metadata("small", &subject, 14, Digest::of(small.get_ref()));
    county.send_document(&first, &mut small, &keys, PATIENCE, |_| {}).await.unwrap();
    fetch(&kela, "small").await.unwrap();
    let (_, before) = memory_mib(exchange.pid());

    let size = 1 << 30;
    let mut made = Made::new(3, size);
    let large = metadata("large", &subject, size, made.sha256());
    let began = Instant::now();
    county.send_document(&large, &mut made, &keys, 3 * PATIENCE, |_| {}).await.unwrap();
    let (most_sent, _) = memory_mib(exchange.pid());
    let sent = began.elapsed();
    assert_eq!(fetch(&kela, "large").await.unwrap(), size);
    let (most_fetched, now) = memory_mib(exchange.pid());
    tell(&format!(
        "1 GiB sent in {sent:.1?} and fetched in {:.1?}: {before} MiB before, {most_sent} at the most while it was sent, \
         {most_fetched} while it was fetched, {now} after",
        began.elapsed() - sent
    ));
    let most = most_sent.max(most_fetched);
    assert!(most < before + GROWTH_MIB, "the gateway has grown by {} MiB", most - before);
    assert!(exchange.stop().await.success());
}
