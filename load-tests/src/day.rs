//! The day scenario: a day's messages in the proportions of a year, sent and collected by every partner at once over mTLS, as fast
//! as they are taken; then every message, every order, every receipt and the ledger are checked.

use prost::Message;
use serde_json::json;

use crate::{
    bare,
    exchange::{Engine, Shape},
    options::Common,
    place::Place,
    plan::Plan,
    report::Story,
    run::Run,
};

/// As many different messages the baseline has.
const SAMPLE: u64 = 10_000;

/// Options of the day scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How many messages the day has.
    #[arg(long, default_value_t = 1_500_000)]
    messages: u64,
    /// Has bare rdkafka produce and consume as many of the same messages over mTLS afterwards, and tells the ratio. With --log kafka.
    #[arg(long, conflicts_with = "target")]
    baseline: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let common = &options.common;
    let place = Place::of(common, Shape::plain(common.engine), |_| Ok(()))?;
    anyhow::ensure!(!options.baseline || common.engine == Engine::Kafka, "--baseline needs --log kafka");
    let plan = Plan::new(options.messages, None, |_| true)?;
    let mut run = Run::begin(common, place, plan, 0).await?;
    run.until_all_came().await?;
    let mut story = Story::of("day");
    if options.baseline {
        run.count_no_more()?;
        let sample = Plan::new(options.messages.min(SAMPLE), None, |_| true)?;
        let sample = sample.all().map(|planned| run.material().message(planned).encode_to_vec()).collect();
        let bare = bare::rate(sample, usize::try_from(options.messages)?).await?;
        let rate = run.seen.came_count() as f64 / run.seconds();
        story.lines.push(format!("bare rdkafka: {bare:.0} a second; the day has {:.2} of that", rate / bare));
        story.fields.extend([("bare_a_second".to_owned(), json!(bare)), ("ratio".to_owned(), json!(rate / bare))]);
    }
    run.finish(common, story).await
}
