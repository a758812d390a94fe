//! The day scenario: a day's messages in the proportions of a year, sent and collected by every partner at once over mTLS, as fast
//! as they are taken; then every message, every order, every receipt and the ledger are checked.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use airut_client::{Client, Collected, CollectorSettings, ReceiptKeys, SenderSettings, Settings};
use airut_wire::v1;
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::exchange::{Engine, Exchange};

/// A flow: its type, who sends it to whom, why, and how many messages of it there were in 2024.
struct Flow {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    purpose: &'static str,
    legal_basis: &'static str,
    a_year: u64,
}

const fn flow(
    name: &'static str,
    [from, to]: [&'static str; 2],
    [purpose, legal_basis]: [&'static str; 2],
    a_year: u64,
) -> Flow {
    Flow { name, from, to, purpose, legal_basis, a_year }
}

const TAX: [&str; 2] = ["taxation", "1558/1995"];
const ABROAD: [&str; 2] = ["international-social-security", "352/2010"];
const POPULATION: [&str; 2] = ["population-data", "661/2009"];
const FUNDS: [&str; 2] = ["unemployment-security", "1290/2002"];
const PENSIONS: [&str; 2] = ["pension-processing", "395/2006"];

/// Kela's flows of 2024, but for queries.
const FLOWS: [Flow; 21] = [
    flow("salary-notification", ["incomes-register", "kela"], ["benefit-processing", "53/2018"], 63_898_685),
    flow("benefit-notification", ["incomes-register", "kela"], ["benefit-processing", "53/2018"], 60_938_573),
    flow("benefit-report", ["kela", "incomes-register"], ["income-reporting", "53/2018"], 31_732_268),
    flow("tax-information-request", ["kela", "tax-administration"], TAX, 8_440_312),
    flow("tax-information-response", ["tax-administration", "kela"], TAX, 8_418_260),
    flow("foreign-change", ["foreign-institution", "kela"], ABROAD, 2_309_176),
    flow("foreign-insurance", ["foreign-institution", "kela"], ABROAD, 101_450),
    flow("foreign-pension", ["foreign-institution", "kela"], ABROAD, 5_623),
    flow("address-notice", ["dvv", "kela"], POPULATION, 1_533_116),
    flow("resident-notice", ["dvv", "kela"], POPULATION, 87_816),
    flow("death-notice", ["dvv", "kela"], POPULATION, 81_410),
    flow("birth-notice", ["dvv", "kela"], POPULATION, 43_725),
    flow("eessi-received", ["foreign-institution", "kela"], ABROAD, 1_114_360),
    flow("eessi-sent", ["kela", "foreign-institution"], ABROAD, 320_541),
    flow("fund-notification", ["unemployment-fund", "kela"], FUNDS, 1_434_466),
    flow("fund-request", ["unemployment-fund", "kela"], FUNDS, 625_461),
    flow("fund-delivery", ["kela", "unemployment-fund"], FUNDS, 1_354_005),
    flow("medical-certificate", ["kanta", "kela"], ["benefit-processing", "703/2023"], 1_076_630),
    flow("pension-decision", ["pension-provider", "kela"], PENSIONS, 636_500),
    flow("wageless-period", ["kela", "pension-provider"], PENSIONS, 840_678),
    flow("bank-payment", ["kela", "bank"], ["benefit-payment", "731/2001"], 54_713),
];

/// Nothing has come for so long: what has not come is lost.
const QUIET: Duration = Duration::from_secs(60);

/// Options of the day scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What carries the log.
    #[arg(long = "log", value_enum, default_value_t = Engine::Embedded)]
    engine: Engine,
    /// How many messages the day has.
    #[arg(long, default_value_t = 1_500_000)]
    messages: u64,
    /// The size of each payload, in bytes: samples are filled up with blanks.
    #[arg(long, default_value_t = 1024)]
    payload_bytes: usize,
    /// How many deliveries each recipient may have unsettled.
    #[arg(long, default_value_t = 8192)]
    credit: u32,
    /// The data directory; a temporary one when not given.
    #[arg(long)]
    data: Option<PathBuf>,
}

/// What has been seen of the day.
struct Seen {
    /// When each message was sent, got its receipt, and came first, in microseconds from the start; 0 for not yet.
    sent: Vec<AtomicU64>,
    receipts: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
    came: Mutex<Came>,
    began: Instant,
}

/// What has come.
struct Came {
    /// How often each message was delivered.
    times: Vec<u8>,
    messages: u64,
    duplicates: u64,
    unflagged: u64,
    inversions: u64,
    /// The latest message that was settled of each ordering key.
    latest: HashMap<String, u64>,
    latency: Histogram<u64>,
    last: Instant,
}

impl Seen {
    fn new(messages: u64) -> anyhow::Result<Self> {
        let count = usize::try_from(messages)?;
        let came = Came {
            times: vec![0; count],
            messages: 0,
            duplicates: 0,
            unflagged: 0,
            inversions: 0,
            latest: HashMap::new(),
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3)?,
            last: Instant::now(),
        };
        Ok(Self {
            sent: (0..count).map(|_| AtomicU64::new(0)).collect(),
            receipts: AtomicU64::new(0),
            refused: Mutex::default(),
            came: Mutex::new(came),
            began: Instant::now(),
        })
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn take(&self, recipient: &str, collected: &Collected) -> anyhow::Result<()> {
        let delivery = &collected.delivery;
        let message = delivery.message.as_ref().context("a delivery has its message")?;
        let number: u64 =
            message.message_id.rsplit('-').next().and_then(|number| number.parse().ok()).context("an id")?;
        let index = usize::try_from(number)?;
        let now = self.micros();
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.last = Instant::now();
        came.times[index] = came.times[index].saturating_add(1);
        if came.times[index] > 1 {
            came.duplicates += 1;
            came.unflagged += u64::from(delivery.attempt < 2);
            return Ok(());
        }
        came.messages += 1;
        let sent = self.sent[index].load(Ordering::Relaxed);
        came.latency.saturating_record(now.saturating_sub(sent).max(1));
        if !message.ordering_key.is_empty() {
            let key = format!("{}\0{recipient}\0{}", delivery.sender, message.ordering_key);
            let before = came.latest.insert(key, number);
            came.inversions += u64::from(before.is_some_and(|before| before > number));
        }
        Ok(())
    }
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let data = options.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let exchange = Exchange::start(options.engine, &data)?;
    let (plans, material) = plans(options, &data)?;
    let material = Arc::new(material);
    let seen = Arc::new(Seen::new(options.messages)?);
    let stop = CancellationToken::new();
    let mut collectors = Vec::new();
    let mut recipients: Vec<&str> = FLOWS.iter().map(|flow| flow.to).collect();
    recipients.sort_unstable();
    recipients.dedup();
    for recipient in recipients {
        let client = client(&exchange.address, &data, recipient).await?;
        collectors.push(tokio::spawn(collect(client, recipient, options.credit, Arc::clone(&seen), stop.clone())));
    }
    let before = exchange.processor_seconds()?;
    let mut senders = Vec::new();
    for (sender, plan) in plans {
        let client = client(&exchange.address, &data, sender).await?;
        let keys = ReceiptKeys::load(data.join("pki/receipt-keys.txt"))?;
        senders.push(tokio::spawn(send(client, keys, plan, Arc::clone(&material), Arc::clone(&seen))));
    }
    let seconds = watch(options.messages, &seen).await;
    let after = exchange.processor_seconds()?;
    for sender in senders {
        sender.await??;
    }
    stop.cancel();
    for collector in collectors {
        collector.await??;
    }
    println!("the exchange is stopped and its ledger verified:");
    exchange.stop_and_verify()?;
    tell(options, &seen, seconds, &before, &after)
}

/// Tells how it goes, until everything has come or nothing comes any more. Returns how long it took, in seconds.
async fn watch(messages: u64, seen: &Seen) -> f64 {
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (came, last) = {
            let came = seen.came.lock().unwrap_or_else(PoisonError::into_inner);
            (came.messages, came.last)
        };
        if came >= messages || last.elapsed() > QUIET {
            return last.duration_since(seen.began).as_secs_f64();
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            let rate = came as f64 / seen.began.elapsed().as_secs_f64();
            let left = (messages - came) as f64 / rate.max(1.0);
            println!("{came} of {messages} delivered, {rate:.0} a second, about {left:.0} s left");
        }
    }
}

fn tell(
    options: &Options,
    seen: &Seen,
    seconds: f64,
    before: &BTreeMap<&'static str, f64>,
    after: &BTreeMap<&'static str, f64>,
) -> anyhow::Result<()> {
    let came = seen.came.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = seen.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let receipts = seen.receipts.load(Ordering::Relaxed);
    let lost = options.messages - came.messages;
    let rate = came.messages as f64 / seconds;
    println!("\n{} messages in {seconds:.1} s: {rate:.0} a second", came.messages);
    println!(
        "lost {lost}, delivered again {} ({} not flagged), inversions {}",
        came.duplicates, came.unflagged, came.inversions
    );
    println!("{receipts} receipts, each verified; refused: {refused:?}");
    let milliseconds = |micros: u64| micros as f64 / 1000.0;
    let [p50, p99] = [0.5, 0.99].map(|quantile| milliseconds(came.latency.value_at_quantile(quantile)));
    println!("from sending to the collector's hand: p50 {p50:.0} ms, p99 {p99:.0} ms");
    let mut micros = BTreeMap::new();
    for (part, used) in after {
        let each = (used - before.get(part).copied().unwrap_or_default()) * 1e6 / options.messages as f64;
        println!("processor time of the {part}: {each:.1} µs a message");
        micros.insert(*part, each);
    }
    let summary = json!({
        "messages": came.messages, "seconds": seconds, "lost": lost, "duplicates": came.duplicates,
        "unflagged_duplicates": came.unflagged, "inversions": came.inversions, "receipts": receipts,
        "a_second": rate, "p50_ms": p50, "p99_ms": p99, "processor_us": micros,
    });
    println!("{summary}");
    ensure!(lost == 0 && came.inversions == 0 && came.unflagged == 0, "the promises are broken");
    ensure!(receipts == options.messages, "{} messages have no receipt", options.messages - receipts);
    Ok(())
}

async fn collect(
    client: Client,
    recipient: &'static str,
    credit: u32,
    seen: Arc<Seen>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let settings = CollectorSettings { credit, ..CollectorSettings::default() };
    let mut collector = client.collector(settings, &stop);
    while let Some(collected) = collector.next().await {
        seen.take(recipient, &collected)?;
        // That it is confirmed the collector sees to.
        drop(collected.lease.accept());
    }
    collector.close().await?;
    Ok(())
}

/// A message to be sent: its number, its flow, and whom it is about.
type Planned = (u64, usize, usize);

/// What the messages are made from.
struct Material {
    /// Media type and payload, by flow.
    samples: Vec<(&'static str, Vec<u8>)>,
    persons: Vec<String>,
}

impl Material {
    fn message(&self, (number, flow, person): Planned) -> v1::SendRequest {
        let (content_type, payload) = &self.samples[flow];
        message(&FLOWS[flow], number, &self.persons[person], content_type, payload)
    }
}

async fn send(
    client: Client,
    keys: ReceiptKeys,
    plan: Vec<Planned>,
    material: Arc<Material>,
    seen: Arc<Seen>,
) -> anyhow::Result<()> {
    let (sender, mut outcomes) = client.sender(keys, SenderSettings::default());
    let taking = Arc::clone(&seen);
    let taken = tokio::spawn(async move {
        while let Some(outcome) = outcomes.next().await {
            match outcome.result {
                Ok(_) => drop(taking.receipts.fetch_add(1, Ordering::Relaxed)),
                Err(cause) => {
                    let mut refused = taking.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    *refused.entry(cause.to_string()).or_default() += 1;
                }
            }
        }
    });
    for planned in plan {
        let message = material.message(planned);
        seen.sent[usize::try_from(planned.0)?].store(seen.micros(), Ordering::Relaxed);
        sender.send(message).await?;
    }
    sender.close().await?;
    taken.await?;
    Ok(())
}

/// What each partner sends, in order. The flows are mixed as their shares say.
fn plans(options: &Options, data: &Path) -> anyhow::Result<(BTreeMap<&'static str, Vec<Planned>>, Material)> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/exchange");
    let persons: Vec<String> = std::fs::read_to_string(data.join("persons.txt"))?.lines().map(str::to_owned).collect();
    let all: u64 = FLOWS.iter().map(|flow| flow.a_year).sum();
    let mut samples = Vec::new();
    for flow in &FLOWS {
        let (kind, file) = match flow.name {
            "eessi-received" | "eessi-sent" | "bank-payment" => ("application/xml", format!("{}.xml", flow.name)),
            _ => ("application/json", format!("{}.json", flow.name)),
        };
        let mut payload = std::fs::read(deploy.join("samples").join(&file)).context(file)?;
        payload.resize(payload.len().max(options.payload_bytes), b' ');
        samples.push((kind, payload));
    }
    let mut plans: BTreeMap<&'static str, Vec<Planned>> = BTreeMap::new();
    for number in 0..options.messages {
        // Spreads the numbers over the shares as evenly as can be, the same in every run.
        let at = u64::try_from(u128::from(number) * 0x9e37_79b9_7f4a_7c15 % (1 << 64))?;
        let mut share = u64::try_from((u128::from(at) * u128::from(all)) >> 64)?;
        let index = FLOWS.iter().position(|flow| {
            let here = share < flow.a_year;
            share = share.saturating_sub(flow.a_year);
            here
        });
        let index = index.context("the shares cover all numbers")?;
        let person = usize::try_from(at >> 17)? % persons.len();
        plans.entry(FLOWS[index].from).or_default().push((number, index, person));
    }
    Ok((plans, Material { samples, persons }))
}

fn message(flow: &Flow, number: u64, person: &str, content_type: &str, payload: &[u8]) -> v1::SendRequest {
    let about_nobody = flow.name == "bank-payment";
    // What a person's messages are about is kept in order; payments in that of their bank.
    let ordering_key = if about_nobody { "batches".to_owned() } else { format!("{}-{person}", flow.name) };
    v1::SendRequest {
        message_id: format!("{}-{number}", flow.name),
        recipient: flow.to.to_owned(),
        message_type: flow.name.to_owned(),
        ordering_key,
        subject_id: if about_nobody { String::new() } else { person.to_owned() },
        context: Some(v1::Context {
            end_user: "batch".to_owned(),
            end_user_role: "system".to_owned(),
            purpose: flow.purpose.to_owned(),
            legal_basis: flow.legal_basis.to_owned(),
            case_id: format!("case-{}", number % 100_000),
        }),
        content_type: content_type.to_owned(),
        payload: payload.to_vec(),
        expire_time: None,
    }
}

async fn client(address: &str, data: &Path, partner: &str) -> anyhow::Result<Client> {
    let pki = data.join("pki");
    let file = |kind: &str| pki.join(format!("{partner}.{kind}"));
    let settings = Settings::new(address.to_owned(), pki.join("ca.crt"), file("crt"), file("key"));
    Client::connect(&settings).await.with_context(|| partner.to_owned())
}
