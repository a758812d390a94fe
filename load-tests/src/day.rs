//! The day scenario: a day's messages in the proportions of a year, sent and collected by every partner at once over mTLS, as fast
//! as they are taken; then every message, every order, every receipt and the ledger are checked.

use crate::{exchange::Shape, options::Common, place::Place, plan::Plan, report::Story, run::Run};

/// Options of the day scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How many messages the day has.
    #[arg(long, default_value_t = 1_500_000)]
    messages: u64,
    #[command(flatten)]
    common: Common,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let common = &options.common;
    let place = Place::of(common, Shape::plain(common.engine), |_| Ok(()))?;
    let plan = Plan::new(options.messages, None, |_| true)?;
    let mut run = Run::begin(common, place, plan, 0).await?;
    run.until_all_came().await?;
    run.finish(common, Story::of("day")).await
}
