//! The desk scenario: officials at one desk at the pace of people, each with a page open that is told of changes, beside the desk's bare `/health`.
//!
//! Every official reads a page at its own time, and how long it took counts from then. As browsers do, a page opens its stream of changes anew, and a list
//! is asked for again when a change is told. At the end the access log must have an entry for each page that is not shown without one.

mod browser;
mod fill;
mod official;
mod seen;

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::{
    browser::Browser,
    official::{Office, Pace, Seat},
    seen::{Kind, Seen},
};
use crate::{
    exchange::{self, Engine, Exchange, Shape},
    measure::fsync_p50_ms,
    options::Output,
};

/// So many officials sign in at once.
const SIGNING_IN: usize = 8;

/// How long the desk may take until it shows all that there is.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Options of the desk scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Officials who are signed in, each with a session and a stream of changes of their own.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1500))]
    users: u32,
    /// Pages a second, of all of them together: each reads one every USERS / PAGES seconds.
    #[arg(long = "pages", value_name = "PAGES", default_value_t = 40.0)]
    pages_per_second: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
    /// Seconds before it is measured.
    #[arg(long, default_value_t = 20.0)]
    warm_up: f64,
    /// Information requests that there are.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Notices that have come, to Kela and to the county each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    notices: u64,
    /// How the result is told. The last line is JSON either way.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Fixes who reads what when. Told in any case.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.pages_per_second > 0.0, "--pages: must be more than 0");
    let temporary = tempfile::tempdir()?;
    let data = temporary.path().join("data");
    exchange::lay_out(&data)?;
    let exchange = Exchange::start(Shape::plain(Engine::Embedded), &data)?;
    fill::fill(&exchange.addresses[0], &data, options.requests, options.notices).await?;
    let seats = sign_in(options, exchange.desk()?).await?;
    all_is_shown(&seats, options).await?;
    let fsync_ms = fsync_p50_ms(temporary.path())?;
    let persons = std::fs::read_to_string(data.join("persons.txt"))?.lines().map(str::to_owned).collect::<Vec<_>>();

    let before = entries(&seats).await?;
    let measured = measure(options, &exchange, seats, persons.into()).await?;
    let entries = entries(&measured.seats).await? - before;
    exchange.stop_and_verify(match options.output {
        Output::Human => Stdio::inherit(),
        Output::Json => std::io::stderr().into(),
    })?;
    measured.tell(options, entries, fsync_ms)
}

/// Has everybody sign in, each in a browser of their own.
async fn sign_in(options: &Options, address: &str) -> anyhow::Result<Vec<Seat>> {
    let mut seats = Vec::new();
    let mut signing_in = JoinSet::new();
    for number in 0..options.users {
        if signing_in.len() >= SIGNING_IN {
            seats.extend(signing_in.join_next().await.transpose()?.transpose()?);
        }
        let address = address.to_owned();
        signing_in.spawn(async move {
            let (office, official) = official::who(number);
            let browser = Browser::signed_in(&address, official).await?;
            anyhow::Ok(Seat { number, office, official, browser })
        });
    }
    while let Some(seat) = signing_in.join_next().await {
        seats.push(seat??);
    }
    seats.sort_by_key(|seat| seat.number);
    Ok(seats)
}

/// Waits until every office has taken in what there is for it.
async fn all_is_shown(seats: &[Seat], options: &Options) -> anyhow::Result<()> {
    let began = Instant::now();
    for office in Office::ALL {
        let Some(seat) = seats.iter().find(|seat| seat.office == office) else { continue };
        for (page, expected) in [("/fi/requests?tab=all", options.requests), ("/fi/notices", options.notices)] {
            while seat.browser.count(page).await? < expected {
                ensure!(began.elapsed() < SHOWN_WITHIN, "{page} does not show all of {expected} to {}", seat.official);
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    Ok(())
}

/// How many entries the access log has, by those who are here.
async fn entries(seats: &[Seat]) -> anyhow::Result<u64> {
    let mut officials: Vec<&Seat> = seats.iter().collect();
    officials.sort_by_key(|seat| seat.official);
    officials.dedup_by_key(|seat| seat.official);
    let mut entries = 0;
    for seat in officials {
        entries += seat.browser.count("/fi/log").await?;
    }
    Ok(entries)
}

/// What a run found.
struct Measured {
    seen: Arc<Seen>,
    seats: Vec<Seat>,
    seed: u64,
    /// In MiB, after the warm-up and then every half second.
    memory: Vec<u64>,
    /// Of the exchange with its desk, in milliseconds a page.
    processor_ms: f64,
}

async fn measure(
    options: &Options,
    exchange: &Exchange,
    seats: Vec<Seat>,
    persons: Arc<[String]>,
) -> anyhow::Result<Measured> {
    let seed = options.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let began = Instant::now();
    let warm_up = Duration::from_secs_f64(options.warm_up);
    let seen = Arc::new(Seen::new(began + warm_up));
    let pace = Pace {
        began,
        every: Duration::from_secs_f64(f64::from(options.users) / options.pages_per_second),
        until: began + warm_up + Duration::from_secs_f64(options.seconds),
        requests: options.requests,
        notices: options.notices,
        persons,
        seed,
    };
    let mut working = JoinSet::new();
    for seat in seats {
        working.spawn(seat.work(pace.clone(), Arc::clone(&seen)));
    }
    tokio::time::sleep(warm_up).await;
    let processor = || Ok::<_, anyhow::Error>(exchange.processor_seconds()?.get("exchange").copied().unwrap_or(0.0));
    let used = processor()?;
    let mut memory = Vec::new();
    while Instant::now() < pace.until {
        memory.push(exchange.resident_mib()?);
        tokio::time::sleep(LOOK).await;
    }
    memory.push(exchange.resident_mib()?);
    let used = processor()? - used;
    let mut seats = Vec::new();
    while let Some(seat) = working.join_next().await {
        seats.push(seat?);
    }
    #[allow(clippy::cast_precision_loss, reason = "a mean")]
    let pages = seen.figures_of(Kind::is_page).count.max(1) as f64;
    Ok(Measured { seen, seats, seed, memory, processor_ms: used * 1000.0 / pages })
}

impl Measured {
    /// Tells it.
    ///
    /// # Errors
    /// A page was not what it should be, or one was shown without an entry.
    fn tell(&self, options: &Options, entries: u64, fsync_ms: f64) -> anyhow::Result<()> {
        let failures = self.seen.failures();
        if options.output == Output::Human {
            self.tell_people(options, fsync_ms);
        }
        println!("{}", self.json(options, entries, fsync_ms));
        ensure!(failures.is_empty(), "not as it should be: {failures:?}");
        let shown = self.seen.recorded();
        ensure!(entries == shown, "{shown} pages were shown that are to be on record, and {entries} are");
        Ok(())
    }

    fn tell_people(&self, options: &Options, fsync_ms: f64) {
        let Options { users, pages_per_second, seconds, .. } = options;
        println!(
            "\n{users} officials, {pages_per_second} pages a second, {seconds} s, seed {}; fsync p50 {fsync_ms:.2} ms\n",
            self.seed
        );
        println!(
            "{:>16} {:>8} {:>9} {:>9} {:>9} {:>12} {:>12}",
            "", "times", "p50 ms", "p99 ms", "max ms", "p50:health", "p99:health"
        );
        let health = self.seen.figures(Kind::Health);
        let rows = Kind::ALL.into_iter().map(|kind| (kind.name(), self.seen.figures(kind)));
        for (name, figures) in rows.chain([("all pages", self.seen.figures_of(Kind::is_page))]) {
            if figures.count > 0 {
                println!(
                    "{name:>16} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>12.1} {:>12.1}",
                    figures.count,
                    figures.p50,
                    figures.p99,
                    figures.max,
                    figures.p50 / health.p50,
                    figures.p99 / health.p99,
                );
            }
        }
        let [warm, quarters @ .., end] = self.memory_mib();
        println!("\nin memory: {warm} MiB after the warm-up, {quarters:?} on the way, {end} at the end");
        println!("processor time of the exchange with its desk: {:.1} ms a page", self.processor_ms);
        println!("{} pages are on record in the access log", self.seen.recorded());
    }

    /// After the warm-up, after each quarter of what was measured.
    fn memory_mib(&self) -> [u64; 5] {
        let last = self.memory.len().saturating_sub(1);
        std::array::from_fn(|quarter| self.memory.get(last * quarter / 4).copied().unwrap_or_default())
    }

    fn json(&self, options: &Options, entries: u64, fsync_ms: f64) -> Value {
        let (pages, health) = (self.seen.figures_of(Kind::is_page), self.seen.figures(Kind::Health));
        let [warm, quarters @ .., end] = self.memory_mib();
        let kinds = Kind::ALL.into_iter().map(|kind| (kind.name().to_owned(), self.seen.figures(kind).json()));
        json!({
            "scenario": "desk", "users": options.users, "pages_per_second": options.pages_per_second,
            "seconds": options.seconds, "seed": self.seed, "pages": pages.count, "failures": self.seen.failures(),
            "p50_ms": pages.p50, "p99_ms": pages.p99, "max_ms": pages.max,
            "p50_ratio": pages.p50 / health.p50, "p99_ratio": pages.p99 / health.p99,
            "kinds": kinds.collect::<serde_json::Map<_, _>>(),
            "to_be_recorded": self.seen.recorded(), "recorded": entries,
            "resident_mib": {"warm": warm, "quarters": quarters, "end": end},
            "processor_ms": self.processor_ms, "fsync_p50_ms": fsync_ms,
        })
    }
}
