//! The query scenario: queries a second and latency, beside an echo and the disk, then every receipt and the ledger verified.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use airut_client::{Client, ReceiptKeys, verify_receipt};
use airut_wire::v1;
use anyhow::{Context, ensure};
use serde_json::json;

use crate::{
    exchange,
    measure::{Measured, Until, closed_loop, fsync_p50_ms},
};

/// A call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Answers kept for checking afterwards; beyond that, one in a hundred.
const KEPT: usize = 100_000;

/// Options of the query scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
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

struct Load {
    clients: Vec<Client>,
    subjects: Vec<String>,
    kept: Mutex<Vec<v1::QueryBenefitsResponse>>,
    failure: Mutex<Option<String>>,
}

impl Load {
    async fn new(address: &str, data: &Path) -> anyhow::Result<Arc<Self>> {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(exchange::client(address, data).await?);
        }
        let subjects = std::fs::read_to_string(data.join("persons.txt"))?.lines().map(str::to_owned).collect();
        Ok(Arc::new(Self { clients, subjects, kept: Mutex::default(), failure: Mutex::default() }))
    }

    async fn ask(&self, number: u64) -> bool {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let request = request(self.subjects[index % self.subjects.len()].clone());
        match self.clients[index % self.clients.len()].query(&request, DEADLINE, None).await {
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
        let failure = self.failure.lock().expect("nobody panics while holding it").take();
        ensure!(measured.failed == 0, "{} calls failed, the last: {}", measured.failed, failure.unwrap_or_default());
        Ok(())
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
    let server = exchange::start(&data)?;
    let load = Load::new(&server.address, &data).await?;
    warm_up(&load).await?;
    let summary = match options.queries {
        Some(queries) => endure(options, queries, &server, &load).await?,
        None => compare(options, &data, &server, &load).await?,
    };
    let receipts = load.verify_receipts(&data)?;
    println!("{receipts} receipts verified; the exchange is stopped and its ledger verified:");
    server.stop()?;
    exchange::verify(&data)?;
    println!("{summary}");
    Ok(())
}

async fn warm_up(load: &Arc<Load>) -> anyhow::Result<()> {
    let asking = Arc::clone(load);
    let call = move |n| {
        let load = Arc::clone(&asking);
        async move { load.ask(n).await }
    };
    let warm = closed_loop(32, Until::Calls(2_000), call).await?;
    load.check(&warm)
}

/// Measures at each number in flight, the echo and the disk right beside.
async fn compare(
    options: &Options,
    data: &Path,
    server: &exchange::Process,
    load: &Arc<Load>,
) -> anyhow::Result<serde_json::Value> {
    let matters = load.matters_on_average();
    let echo = exchange::start_echo(data, matters)?;
    let echoing = Load::new(&echo.address, data).await?;
    let time = Until::Time(Duration::from_secs(options.seconds));
    println!("an answer has {matters} matters on average\n");
    println!(
        "in flight        queries/s   p50 ms   p99 ms |     echo/s   p50 ms   p99 ms | queries : echo   fsync p50 ms"
    );
    let mut rows = Vec::new();
    for in_flight in &options.in_flight {
        let fsync_ms = fsync_p50_ms(data)?;
        let asking = Arc::clone(load);
        let call = move |n| {
            let load = Arc::clone(&asking);
            async move { load.ask(n).await }
        };
        let queries = closed_loop(*in_flight, time, call).await?;
        load.check(&queries)?;
        let asking = Arc::clone(&echoing);
        let call = move |n| {
            let load = Arc::clone(&asking);
            async move { load.ask(n).await }
        };
        let echoes = closed_loop(*in_flight, time, call).await?;
        echoing.check(&echoes)?;
        let ratio = queries.rate() / echoes.rate();
        println!(
            "{in_flight:9} {:16.0} {:8.2} {:8.2} | {:10.0} {:8.2} {:8.2} | {ratio:14.2} {fsync_ms:14.2}",
            queries.rate(),
            queries.within_ms(0.5),
            queries.within_ms(0.99),
            echoes.rate(),
            echoes.within_ms(0.5),
            echoes.within_ms(0.99),
        );
        rows.push(json!({
            "in_flight": in_flight, "queries_per_second": queries.rate(), "p50_ms": queries.within_ms(0.5),
            "p99_ms": queries.within_ms(0.99), "echo_per_second": echoes.rate(), "echo_p99_ms": echoes.within_ms(0.99),
            "ratio_to_echo": ratio, "fsync_p50_ms": fsync_ms,
        }));
    }
    println!("\nthe exchange has {} MiB in memory", server.resident_mib()?);
    Ok(json!({ "rows": rows }))
}

/// So many queries, and what the exchange has in memory after each tenth of them.
async fn endure(
    options: &Options,
    queries: u64,
    server: &exchange::Process,
    load: &Arc<Load>,
) -> anyhow::Result<serde_json::Value> {
    let in_flight = *options.in_flight.last().context("a number in flight")?;
    println!("   queries   queries/s   p50 ms   p99 ms   memory MiB");
    let (began, mut rows) = (Instant::now(), Vec::new());
    for tenth in 1..=10_u64 {
        let asking = Arc::clone(load);
        let call = move |n| {
            let load = Arc::clone(&asking);
            async move { load.ask(n).await }
        };
        let measured = closed_loop(in_flight, Until::Calls(queries / 10), call).await?;
        load.check(&measured)?;
        let memory = server.resident_mib()?;
        let (p50, p99) = (measured.within_ms(0.5), measured.within_ms(0.99));
        println!("{:10} {:11.0} {p50:8.2} {p99:8.2} {memory:12}", queries / 10 * tenth, measured.rate());
        rows.push(json!({"queries": queries / 10 * tenth, "rate": measured.rate(), "p50_ms": p50, "p99_ms": p99, "mib": memory}));
    }
    Ok(json!({ "rows": rows, "seconds": began.elapsed().as_secs() }))
}
