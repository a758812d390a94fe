//! What scenarios in an open loop share: their pace, and how a quiet phase is compared with one in which somebody misbehaves.

use serde_json::json;

use crate::{
    plan::{Arrivals, LEAD, Schedule},
    report::{Phase, Story},
};

/// Messages a second on average of a day of 1.5 million.
const MEAN: f64 = 1_500_000.0 / 86_400.0;

/// Options of an open loop.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OpenLoop {
    /// How many times the mean rate of a day of 1.5 million messages, which is 17.4 a second.
    #[arg(long, default_value_t = 10.0)]
    times: f64,
    /// How messages follow each other.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Seconds before it is measured.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) warm_up: f64,
}

/// So many messages at this pace.
pub(crate) struct Paced {
    pub(crate) schedule: Schedule,
    pub(crate) messages: u64,
}

impl OpenLoop {
    /// As many messages as fill the warm-up and so many seconds more.
    pub(crate) fn paced(&self, seed: u64, seconds: f64) -> Paced {
        let schedule = Schedule { rate: self.times * MEAN, arrivals: self.arrivals, seed };
        Paced { schedule, messages: (schedule.rate * (self.warm_up + seconds)) as u64 }
    }

    /// A phase of so many seconds after the warm-up, and one as long after it, in which somebody misbehaves.
    pub(crate) fn compared(&self, seconds: f64, disturbed: &'static str) -> [Phase; 2] {
        let from = LEAD.as_secs_f64() + self.warm_up;
        let phase = |name, from: f64| Phase { name, from, to: from + seconds };
        [phase("quiet", from), phase(disturbed, from + seconds)]
    }
}

impl Paced {
    /// Says which pace it was.
    pub(crate) fn tell(&self, story: &mut Story) {
        let Schedule { rate, arrivals, seed } = self.schedule;
        story.lines.push(format!("open loop: {rate:.1} messages a second, {arrivals:?} arrivals, seed {seed}"));
        story.fields.extend([("rate".to_owned(), json!(rate)), ("seed".to_owned(), json!(seed))]);
    }
}
