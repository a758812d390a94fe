//! The recovery scenario: how long a gateway takes to serve again after SIGKILL, on a log of millions of records.
//!
//! The log is filled past the gateway: each pair of records is a copy of what a real query left there, question and answer,
//! under another id. To the folds they are as good as asked and answered, and ten times as quickly there.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use airut_domain::{
    partition::{Partition, Topic},
    query::{Answered, Asked, Event, QueryKey},
    record::Kind,
    time::Timestamp,
};
use airut_log::{Clock, Embedded, HeaderWriter, KeyRing, Log, Random, Writer};
use airut_store::{KeyStore, Objects};
use airut_testkit::kafka::Kafka;
use anyhow::{Context, ensure};
use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    exchange::{self, Engine},
    measure::{Until, closed_loop, median},
    process::Process,
    query::Load,
};

/// The roles of the process that is killed: a responder comes with the gateway, so that queries are answered.
const ROLES: &str = "gateway,register";

/// Copies being appended at once.
const FILLING: usize = 2_000;

/// Queries in flight before the gateway is killed, and for how long.
const IN_FLIGHT: usize = 64;
const LOADED: Duration = Duration::from_secs(2);

/// How long a gateway that is ready may take to say that it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// As many bytes of a partition are searched for a query at once.
const SEARCHED_BYTES: usize = 4 << 20;

/// Options of the recovery scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Records in the log, two for each query.
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
    /// What carries the log.
    #[arg(long = "log", value_enum, default_value_t = Engine::Kafka)]
    engine: Engine,
    /// How often the gateway is killed, under load, and started again on its folds.
    #[arg(long, default_value_t = 3)]
    kills: u32,
}

/// Where the log lies, and the process on it.
struct Place {
    data: PathBuf,
    configuration: PathBuf,
    kafka: Option<Kafka>,
}

/// A process that serves.
struct Started {
    process: Process,
    /// How long it took from its start until health said so.
    within: Duration,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::prepare(options.engine, dir.path())?;
    let Started { process, .. } = place.start().await?;
    // The model for the rest.
    Load::new(&process.address, &place.data).await?.until_answered().await?;
    process.stop()?;
    let began = Instant::now();
    place.fill(options.records).await?;
    println!("{} records after {:.0} s", options.records, began.elapsed().as_secs_f64());

    fs::remove_file(place.folds()).with_context(|| place.folds().display().to_string())?;
    let mut started = place.start().await?;
    let rebuilt_s = started.tell("without folds, rebuilt from the log", &place)?;
    let mut killed = Vec::new();
    for _ in 0..options.kills {
        started = place.kill_under_load(started.process).await?;
        killed.push(started.tell("on its folds, after SIGKILL under load", &place)?);
    }
    started.process.stop()?;
    let after_sigkill_s = median(killed.into_iter());
    println!(
        "{}",
        json!({
            "records": options.records, "kills": options.kills,
            "rebuilt_s": rebuilt_s, "after_sigkill_s": after_sigkill_s,
        })
    );
    Ok(())
}

impl Place {
    fn prepare(engine: Engine, dir: &Path) -> anyhow::Result<Self> {
        let data = dir.join("data");
        exchange::lay_out(&data)?;
        let (kafka, log) = match engine {
            Engine::Embedded => (None, format!("path = '{}'\n", log_file(&data).display())),
            Engine::Kafka => {
                let kafka = exchange::start_kafka(1)?;
                let log = exchange::log_on(&kafka);
                (Some(kafka), log)
            }
        };
        let configuration = exchange::configuration(&data, (ROLES, ROLES), &log, "127.0.0.1:0", "")?;
        Ok(Self { data, configuration, kafka })
    }

    fn folds(&self) -> PathBuf {
        self.data.join(ROLES).join("folds.sqlite")
    }

    /// What the folds take on the disk, what is to be merged into their file included.
    fn folds_mib(&self) -> anyhow::Result<u64> {
        let files = fs::read_dir(self.data.join(ROLES))?.map(|file| Ok(file?.metadata()?.len()));
        let bytes: u64 = files.sum::<std::io::Result<u64>>()?;
        Ok(bytes >> 20)
    }

    async fn open_log(&self) -> anyhow::Result<Log> {
        match &self.kafka {
            Some(kafka) => exchange::open_log_on(kafka).await,
            None => Ok(Log::embedded(Embedded::at(log_file(&self.data), Clock::system(), Random::system()))?),
        }
    }

    /// Starts the process, and waits until it serves.
    async fn start(&self) -> anyhow::Result<Started> {
        let began = Instant::now();
        let process = exchange::serve(&self.configuration)?;
        while !self.is_serving(&process.address).await? {
            ensure!(began.elapsed() < PATIENCE * 60, "the gateway does not serve");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Started { process, within: began.elapsed() })
    }

    async fn is_serving(&self, address: &str) -> anyhow::Result<bool> {
        let mut health = HealthClient::new(exchange::client(address, &self.data).await?.channel());
        let asked = health.check(HealthCheckRequest { service: "airut.v1.QueryService".to_owned() });
        let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await else { return Ok(false) };
        Ok(answer.into_inner().status() == ServingStatus::Serving)
    }

    /// Kills the process while queries are under way, and starts it again.
    async fn kill_under_load(&self, mut process: Process) -> anyhow::Result<Started> {
        let load = Load::new(&process.address, &self.data).await?;
        load.until_answered().await?;
        load.measure(IN_FLIGHT, Until::Time(LOADED)).await?;
        let asked = load.request(0);
        let before = load.answer(&asked).await?;
        // What came within the last 200 ms is not in its folds' file.
        process.kill();
        let started = self.start().await?;
        let after = Load::new(&started.process.address, &self.data).await?.answer(&asked).await?;
        ensure!(before.matters == after.matters, "the same question has another answer than before");
        Ok(started)
    }

    /// Fills the log up to so many records of queries.
    async fn fill(&self, records: u64) -> anyhow::Result<()> {
        let log = self.open_log().await?;
        let filler = Arc::new(Filler::new(log, &self.data).await?);
        let copying = Arc::clone(&filler);
        let copy = move |number| {
            let filler = Arc::clone(&copying);
            async move { filler.copy(number).await.is_ok() }
        };
        let filled = closed_loop(FILLING, Until::Calls(records.div_ceil(2)), copy).await?;
        ensure!(filled.failed == 0, "{} queries could not be copied", filled.failed);
        Ok(())
    }
}

fn log_file(data: &Path) -> PathBuf {
    data.join("log.sqlite")
}

/// Appends copies of a query's two records.
struct Filler {
    writer: Writer,
    ring: Arc<KeyRing>,
    asked: (Asked, Vec<u8>),
    answered: (Answered, Vec<u8>),
}

impl Filler {
    /// Takes a query of this log for its model.
    async fn new(log: Log, data: &Path) -> anyhow::Result<Self> {
        let ring = Arc::new(KeyRing::load(data.join("keys/ring.toml"))?);
        let objects = Objects::open(&airut_store::Settings::local(data.join("objects")))?;
        let keys = KeyStore::new(objects, ring.wrapping(), Clock::system(), Random::system());
        let author = "filler".parse().context("a process's name")?;
        let writer = Writer::new(HeaderWriter::new(log.clone(), author, Random::system()), keys);
        for partition in (0..Topic::Queries.partitions()).map(|number| Partition { topic: Topic::Queries, number }) {
            let (mut asked, mut answered) = (None, None);
            for stored in log.read(partition, 0..log.end(partition).await?, SEARCHED_BYTES).await? {
                let header = airut_wire::record::decode(&stored.header)?;
                let body = writer.open_body(&stored, &header).await?;
                match header.kind {
                    Kind::Query(Event::Asked(command)) => asked = Some((command, body)),
                    Kind::Query(Event::Answered(command)) => answered = Some((command, body)),
                    Kind::Query(Event::Rerouted(_) | Event::NotDisclosed(_) | Event::Repeated(_))
                    | Kind::Message(_)
                    | Kind::Document(_)
                    | Kind::Request(_)
                    | Kind::Refusal(_)
                    | Kind::Partner(_)
                    | Kind::Member(_)
                    | Kind::Order(_) => {}
                }
            }
            if let Some((asked, answered)) =
                asked.zip(answered).filter(|(asked, answered)| asked.0.key == answered.0.key)
            {
                return Ok(Self { writer, ring, asked, answered });
            }
        }
        anyhow::bail!("the log holds no answered query")
    }

    async fn copy(&self, number: u64) -> anyhow::Result<()> {
        let (asked, question) = &self.asked;
        let (answered, answer) = &self.answered;
        let key = QueryKey { query_id: format!("copy-{number}").parse()?, ..asked.key.clone() };
        let partition =
            self.ring.partition_of(Topic::Queries, &[key.asker.as_str().as_bytes(), key.query_id.as_str().as_bytes()]);
        // It is answered before that, or the gateway would set about ending it.
        let deadline = Timestamp::from_millis(Clock::system().now().as_millis() + 60_000);
        let asked = Asked { key: key.clone(), deadline, ..asked.clone() };
        let recorded = self.writer.append(partition, asked, Some(question), "").await?;
        let answered = Answered { key, asked: recorded.position().offset, ..answered.clone() };
        self.writer.append(partition, answered, Some(answer), "").await?;
        Ok(())
    }
}

impl Started {
    /// Prints what it took, and gives it in seconds.
    fn tell(&self, how: &str, place: &Place) -> anyhow::Result<f64> {
        let seconds = self.within.as_secs_f64();
        let memory_mib = self.process.resident_mib()?;
        println!("{how}: serves after {seconds:.2} s; {memory_mib} MiB in memory, {} MiB of folds", place.folds_mib()?);
        Ok(seconds)
    }
}
