//! The chaos scenario: gateways, and of a log on Kafka brokers, are killed with SIGKILL at random moments while every partner sends
//! and collects; then nothing may be lost or out of order, whatever came again must say so, and what is sent again must get the
//! receipt that it has.
//!
//! One part is gone at a time: that is what three replicas, two of them in sync, are for. A part that is back may still have to catch
//! up when the next one goes, so callers may be told to wait.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    exchange::{Engine, Exchange, Shape},
    options::Common,
    place::Place,
    plan::{Arrivals, Plan, Schedule},
    report::{Mark, Story},
    run::Run,
};

/// How long a part is gone, in milliseconds.
const GONE_MS: std::ops::Range<u64> = 100..3000;

/// How often it is looked whether killing is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Options of the chaos scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How many messages are sent.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Messages a second, all partners together; as fast as they are taken when not given.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds between a part's coming back and the next one's being killed, on average.
    #[arg(long, default_value_t = 3.0)]
    every: f64,
    /// Kill no more than so many times.
    #[arg(long)]
    kills: Option<usize>,
    /// Gateways. The embedded log has one.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    gateways: u32,
    /// Brokers, of a log on Kafka.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..))]
    brokers: u32,
    #[command(flatten)]
    common: Common,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let common = &options.common;
    anyhow::ensure!(common.target.is_empty(), "only an exchange that was started for it can be killed");
    let seed = common.seed();
    let gateways = if common.engine == Engine::Embedded { 1 } else { usize::try_from(options.gateways)? };
    let shape = Shape { engine: common.engine, gateways, brokers: options.brokers };
    let place = Place::of(common, shape, |_| Ok(()))?;
    let schedule = options.rate.map(|rate| Schedule { rate, arrivals: Arrivals::Poisson, seed });
    let mut run = Run::begin(common, place, Plan::new(options.messages, schedule, |_| true)?, 0).await?;
    run.forget_processor();
    run.progress.say(&format!("seed {seed}"));

    let killing = Killing {
        exchange: run.place.exchange.take().context("it was started")?,
        began: run.seen.began,
        every: options.every,
        most: options.kills.unwrap_or(usize::MAX),
        random: StdRng::seed_from_u64(seed),
        stop: CancellationToken::new(),
        strikes: Vec::new(),
    };
    let stop = killing.stop.clone();
    let killing = tokio::task::spawn_blocking(move || killing.run());
    // One that is killed and does not come back is found by what is missing: a run without progress ends by itself.
    let sent = run.until_all_sent().await;
    stop.cancel();
    let (exchange, marks) = killing.await??;
    run.place.exchange = Some(exchange);
    sent?;
    run.until_all_came().await?;
    run.send_again().await?;

    let mut story = Story { marks, ..Story::of("chaos") };
    story.lines.push(format!("{} kills, seed {seed}", story.marks.len()));
    story.fields.extend([("kills".to_owned(), json!(story.marks.len())), ("seed".to_owned(), json!(seed))]);
    run.finish(common, story).await
}

/// Kills one part after the other.
struct Killing {
    exchange: Exchange,
    began: Instant,
    every: f64,
    most: usize,
    random: StdRng,
    stop: CancellationToken,
    strikes: Vec<Mark>,
}

impl Killing {
    /// Until told to stop. Everything runs again then.
    fn run(mut self) -> anyhow::Result<(Exchange, Vec<Mark>)> {
        while self.strikes.len() < self.most {
            let pause = Duration::from_secs_f64(self.every * self.random.random_range(0.5..1.5));
            if self.is_stopped_within(pause) {
                break;
            }
            self.strike()?;
        }
        Ok((self.exchange, self.strikes))
    }

    /// Kills something, and starts it again after a while.
    fn strike(&mut self) -> anyhow::Result<()> {
        let victims = self.exchange.victims();
        let victim = *victims.choose(&mut self.random).context("there is something to kill")?;
        self.strikes.push(Mark { at: self.began.elapsed().as_secs_f64(), what: format!("{victim} killed") });
        self.exchange.kill(victim)?;
        // How long it is gone is the strike, not a wait for something.
        std::thread::sleep(Duration::from_millis(self.random.random_range(GONE_MS)));
        self.exchange.restart(victim).with_context(|| format!("{victim} does not come back"))
    }

    fn is_stopped_within(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while !self.stop.is_cancelled() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.stop.is_cancelled()
    }
}
