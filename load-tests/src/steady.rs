//! The steady scenario: an open loop at ten times the mean of 1.5 million messages a day, for as long as asked.

use crate::{
    exchange::Shape,
    open_loop::OpenLoop,
    options::Common,
    place::Place,
    plan::{LEAD, Plan},
    report::{Phase, Story},
    run::Run,
};

/// Options of the steady scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    #[command(flatten)]
    open_loop: OpenLoop,
    #[command(flatten)]
    common: Common,
}

/// Runs the scenario.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let Options { seconds, open_loop, common } = options;
    let place = Place::of(common, Shape::plain(common.engine), |_| Ok(()))?;
    let paced = open_loop.paced(common.seed(), *seconds);
    let plan = Plan::new(paced.messages, Some(paced.schedule), |_| true)?;
    let mut run = Run::begin(common, place, plan, 0).await?;
    run.until_all_came().await?;
    let from = LEAD.as_secs_f64() + open_loop.warm_up;
    let phases = vec![Phase { name: "steady", from, to: f64::INFINITY }];
    let mut story = Story { phases, ..Story::of("steady") };
    paced.tell(&mut story);
    run.finish(common, story).await
}
