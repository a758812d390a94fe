//! The query scenario: queries a second and latency, beside a baseline, then every receipt and the ledger verified.
//!
//! The baseline is what the engine leaves to be done: on the embedded log an echo, and the disk's fsync told; on Kafka bare
//! round trips on the same broker. Queries and baseline take turns, so that what else the machine does falls on both.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use airut_client::{Client, ReceiptKeys, verify_receipt};
use airut_wire::v1;
use anyhow::{Context, ensure};
use serde_json::json;

use crate::{
    exchange::{self, Engine, Exchange, Shape},
    measure::{Measured, Until, closed_loop, fsync_p50_ms, median},
    process::{Process, processor_seconds},
    raw::{Raw, Sizes},
};

/// A call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait before the first query is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Answers kept for checking afterwards; beyond that, one in a hundred.
const KEPT: usize = 100_000;

/// Options of the query scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What carries the log. On Kafka queries run beside bare round trips of rdkafka on the same broker, with records of the
    /// same sizes; on the embedded log beside an echo over the same mTLS, and the disk.
    #[arg(long = "log", value_enum, default_value_t = Engine::Embedded)]
    engine: Engine,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// How often queries and baseline take turns at each number in flight; what is told are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Numbers in flight.
    #[arg(long, value_delimiter = ',', default_value = "1,64,512")]
    in_flight: Vec<usize>,
    /// Instead: so many queries at the last of the numbers in flight, with the exchange's memory told along the way.
    #[arg(long)]
    queries: Option<u64>,
    /// The data directory; a temporary one when not given.
    #[arg(long)]
    data: Option<PathBuf>,
}

pub(crate) struct Load {
    clients: Vec<Client>,
    subjects: Vec<String>,
    kept: Mutex<Vec<v1::QueryBenefitsResponse>>,
    failure: Mutex<Option<String>>,
}

impl Load {
    pub(crate) async fn new(address: &str, data: &Path) -> anyhow::Result<Arc<Self>> {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(exchange::client(address, data).await?);
        }
        let subjects = std::fs::read_to_string(data.join("persons.txt"))?.lines().map(str::to_owned).collect();
        Ok(Arc::new(Self { clients, subjects, kept: Mutex::default(), failure: Mutex::default() }))
    }

    pub(crate) async fn ask(&self, number: u64) -> bool {
        let request = self.request(number);
        let client = usize::try_from(number).unwrap_or_default() % self.clients.len();
        match self.clients[client].query(&request, DEADLINE).await {
            Ok(response) => {
                let mut kept = self.kept.lock().expect("nobody panics while holding it");
                if kept.len() < KEPT || number.is_multiple_of(100) && kept.len() < 2 * KEPT {
                    kept.push(response);
                }
                true
            }
            Err(cause) => {
                *self.failure.lock().expect("nobody panics while holding it") = Some(cause.to_string());
                false
            }
        }
    }

    /// A new question about one of the persons.
    pub(crate) fn request(&self, number: u64) -> v1::QueryBenefitsRequest {
        let subject = usize::try_from(number).unwrap_or_default() % self.subjects.len();
        request(self.subjects[subject].clone())
    }

    /// Asks a question, and asks it again for as long as it is not answered for a passing reason.
    pub(crate) async fn answer(&self, request: &v1::QueryBenefitsRequest) -> anyhow::Result<v1::QueryBenefitsResponse> {
        Ok(self.clients[0].query(request, DEADLINE).await?)
    }

    /// Asks until there is an answer: the responder's stream may not be open yet.
    pub(crate) async fn until_answered(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.ask(0).await {
            ensure!(began.elapsed() < DEADLINE, "no query is answered: {}", self.failure().unwrap_or_default());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Queries in a closed loop.
    pub(crate) async fn measure(self: &Arc<Self>, in_flight: usize, until: Until) -> anyhow::Result<Measured> {
        let asking = Arc::clone(self);
        let call = move |number| {
            let load = Arc::clone(&asking);
            async move { load.ask(number).await }
        };
        let measured = closed_loop(in_flight, until, call).await?;
        self.check(&measured)?;
        Ok(measured)
    }

    fn matters_on_average(&self) -> usize {
        let kept = self.kept.lock().expect("nobody panics while holding it");
        kept.iter().map(|response| response.matters.len()).sum::<usize>() / kept.len().max(1)
    }

    /// Checks every receipt that was kept.
    fn verify_receipts(&self, data: &Path) -> anyhow::Result<usize> {
        let keys = ReceiptKeys::load(data.join("pki/receipt-keys.txt"))?;
        let kept = std::mem::take(&mut *self.kept.lock().expect("nobody panics while holding it"));
        for response in &kept {
            verify_receipt(response, &keys)?;
        }
        Ok(kept.len())
    }

    fn check(&self, measured: &Measured) -> anyhow::Result<()> {
        let failure = self.failure().unwrap_or_default();
        ensure!(measured.failed == 0, "{} calls failed, the last: {failure}", measured.failed);
        Ok(())
    }

    /// Why the last call that failed did.
    fn failure(&self) -> Option<String> {
        self.failure.lock().expect("nobody panics while holding it").take()
    }
}

fn request(subject_id: String) -> v1::QueryBenefitsRequest {
    let context = v1::Context {
        end_user: "official-1".to_owned(),
        end_user_role: "social-worker".to_owned(),
        purpose: "social-assistance".to_owned(),
        legal_basis: "1412/1997".to_owned(),
        case_id: "load".to_owned(),
    };
    let query_id = uuid::Uuid::now_v7().to_string();
    v1::QueryBenefitsRequest { query_id, subject_id, context: Some(context), categories: vec![], period: None }
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let data = options.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let exchange = Exchange::start(Shape::plain(options.engine), &data)?;
    let load = Load::new(&exchange.addresses[0], &data).await?;
    warm_up(&load).await?;
    let summary = match options.queries {
        Some(queries) => endure(options, queries, &exchange, &load).await?,
        None => compare(options, &data, &exchange, &load).await?,
    };
    let receipts = load.verify_receipts(&data)?;
    println!("{receipts} receipts verified; the exchange is stopped and its ledger verified:");
    exchange.stop_and_verify(Stdio::inherit())?;
    println!("{summary}");
    Ok(())
}

async fn warm_up(load: &Arc<Load>) -> anyhow::Result<()> {
    load.until_answered().await?;
    load.measure(32, Until::Calls(2_000)).await.map(drop)
}

/// What queries are measured against.
enum Baseline {
    Echo { load: Arc<Load>, server: Process },
    Raw(Arc<Raw>),
}

impl Baseline {
    async fn start(data: &Path, exchange: &Exchange, load: &Load) -> anyhow::Result<Self> {
        let matters = load.matters_on_average();
        println!("an answer has {matters} matters on average");
        let Some(kafka) = &exchange.kafka else {
            let server = exchange::start_echo(data, matters)?;
            let load = Load::new(&server.address, data).await?;
            println!("baseline: a unary echo of that size over the same mTLS\n");
            return Ok(Self::Echo { load, server });
        };
        let sizes = Sizes::of(&exchange::open_log_on(kafka).await?).await?;
        println!("baseline: produce, consume, produce, consume with rdkafka, {sizes}\n");
        Ok(Self::Raw(Arc::new(Raw::start(kafka.bootstrap(), sizes).await?)))
    }

    /// The processor time that each process has used, in seconds.
    fn processor_seconds(&self, exchange: &Exchange) -> anyhow::Result<Used> {
        let mut used = exchange.processor_seconds()?;
        if let Self::Echo { server, .. } = self {
            used.insert("echo", processor_seconds(server.id())?);
        }
        Ok(used)
    }

    async fn measure(&self, in_flight: usize, until: Until) -> anyhow::Result<Measured> {
        match self {
            Self::Echo { load, .. } => load.measure(in_flight, until).await,
            Self::Raw(raw) => {
                let raw = Arc::clone(raw);
                let call = move |number| {
                    let raw = Arc::clone(&raw);
                    async move {
                        let trip = tokio::time::timeout(DEADLINE, raw.double_round_trip(number)).await;
                        trip.is_ok_and(|trip| trip.is_ok())
                    }
                };
                let measured = closed_loop(in_flight, until, call).await?;
                ensure!(measured.failed == 0, "{} round trips failed", measured.failed);
                Ok(measured)
            }
        }
    }
}

/// Measures at each number in flight, queries and baseline in turn.
async fn compare(
    options: &Options,
    data: &Path,
    exchange: &Exchange,
    load: &Arc<Load>,
) -> anyhow::Result<serde_json::Value> {
    let baseline = Baseline::start(data, exchange, load).await?;
    let until = Until::Time(Duration::from_secs(options.seconds));
    baseline.measure(32, Until::Calls(2_000)).await?;
    println!(
        "            queries                     baseline                    queries : baseline\n\
         in flight    rate   p50 ms   p99 ms |    rate   p50 ms   p99 ms |  rate   p50   p99"
    );
    let mut rows = Vec::new();
    for in_flight in &options.in_flight {
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            let fsync_ms = fsync_p50_ms(data)?;
            let first = baseline.processor_seconds(exchange)?;
            let queries = load.measure(*in_flight, until).await?;
            let second = baseline.processor_seconds(exchange)?;
            let calls = baseline.measure(*in_flight, until).await?;
            let used = microseconds_a_call(&first, &second, &queries);
            let used_by_baseline = microseconds_a_call(&second, &baseline.processor_seconds(exchange)?, &calls);
            rounds.push(Round { queries, baseline: calls, fsync_ms, used, used_by_baseline });
        }
        rows.push(row(*in_flight, &rounds));
    }
    println!("\nthe gateway has {} MiB in memory", exchange.resident_mib()?);
    Ok(json!({ "rows": rows }))
}

/// Queries and baseline, once each.
struct Round {
    queries: Measured,
    baseline: Measured,
    fsync_ms: f64,
    used: Used,
    used_by_baseline: Used,
}

/// Processor time in microseconds a call, by process.
type Used = BTreeMap<&'static str, f64>;

/// Prints the medians of the rounds, and gives them as JSON.
fn row(in_flight: usize, rounds: &[Round]) -> serde_json::Value {
    let of_rounds = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
    let figures: [fn(&Measured) -> f64; 3] = [Measured::rate, |m| m.within_ms(0.5), |m| m.within_ms(0.99)];
    let queries = figures.map(|figure| of_rounds(&|round| figure(&round.queries)));
    let baseline = figures.map(|figure| of_rounds(&|round| figure(&round.baseline)));
    let ratio = figures.map(|figure| of_rounds(&|round| figure(&round.queries) / figure(&round.baseline)));
    let fsync_ms = of_rounds(&|round| round.fsync_ms);
    let used = medians(rounds.iter().map(|round| &round.used));
    let used_by_baseline = medians(rounds.iter().map(|round| &round.used_by_baseline));
    println!(
        "{in_flight:9} {:7.0} {:8.2} {:8.2} | {:7.0} {:8.2} {:8.2} | {:5.2} {:5.2} {:5.2}",
        queries[0], queries[1], queries[2], baseline[0], baseline[1], baseline[2], ratio[0], ratio[1], ratio[2],
    );
    println!("          processor time, µs a query: {}", listed(&used));
    println!("                       and of the baseline: {}; fsync p50 {fsync_ms:.2} ms", listed(&used_by_baseline));
    json!({
        "in_flight": in_flight, "queries_per_second": queries[0], "p50_ms": queries[1], "p99_ms": queries[2],
        "baseline_per_second": baseline[0], "baseline_p50_ms": baseline[1], "baseline_p99_ms": baseline[2],
        "ratio_of_rates": ratio[0], "ratio_of_p50": ratio[1], "ratio_of_p99": ratio[2],
        "fsync_p50_ms": fsync_ms, "processor_us_per_query": used, "processor_us_per_baseline_call": used_by_baseline,
    })
}

fn listed(used: &Used) -> String {
    let parts: Vec<String> = used.iter().map(|(process, micros)| format!("{process} {micros:.0}")).collect();
    parts.join(", ")
}

fn medians<'a>(rounds: impl Iterator<Item = &'a Used> + Clone) -> Used {
    let processes = rounds.clone().next().into_iter().flat_map(Used::keys);
    let median = |process| median(rounds.clone().filter_map(|used: &Used| used.get(process).copied()));
    processes.map(|process| (*process, median(*process))).collect()
}

/// What was used between two readings of seconds.
#[allow(clippy::cast_precision_loss, reason = "a mean")]
fn microseconds_a_call(before: &Used, after: &Used, measured: &Measured) -> Used {
    let calls = measured.calls.max(1) as f64;
    let used = |process| (after[process] - before.get(process).copied().unwrap_or_default()) * 1e6 / calls;
    after.keys().map(|process| (*process, used(*process))).collect()
}

/// So many queries, and what the exchange has in memory after each tenth of them.
async fn endure(
    options: &Options,
    queries: u64,
    exchange: &Exchange,
    load: &Arc<Load>,
) -> anyhow::Result<serde_json::Value> {
    let in_flight = *options.in_flight.last().context("a number in flight")?;
    println!("   queries   queries/s   p50 ms   p99 ms   memory MiB");
    let (began, mut rows) = (Instant::now(), Vec::new());
    for tenth in 1..=10_u64 {
        let measured = load.measure(in_flight, Until::Calls(queries / 10)).await?;
        let memory = exchange.resident_mib()?;
        let (p50, p99) = (measured.within_ms(0.5), measured.within_ms(0.99));
        println!("{:10} {:11.0} {p50:8.2} {p99:8.2} {memory:12}", queries / 10 * tenth, measured.rate());
        rows.push(json!({"queries": queries / 10 * tenth, "rate": measured.rate(), "p50_ms": p50, "p99_ms": p99, "mib": memory}));
    }
    Ok(json!({ "rows": rows, "seconds": began.elapsed().as_secs() }))
}
