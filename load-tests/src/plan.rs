//! Which messages are to be sent, by whom, in which order, and in an open loop when.
//!
//! An open loop's times are fixed before anything is sent, and latency is counted from them: an exchange that falls behind does not
//! make its callers ask less, which would hide the waiting (coordinated omission).

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::flows::{FLOWS, Flow};

/// A message to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) number: u64,
    /// Its flow's index.
    pub(crate) flow: usize,
    /// Whom it is about: any number.
    pub(crate) person: usize,
    /// When, from the run's start; none for as soon as the one before is taken.
    pub(crate) at: Option<Duration>,
}

/// All messages of a run but those of a flood.
#[derive(Debug)]
pub(crate) struct Plan {
    by_sender: BTreeMap<&'static str, Vec<Planned>>,
    /// The flow of each message, by its number.
    pub(crate) flow_of: Vec<usize>,
}

/// How messages of an open loop follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// Independently of each other: now and then many at once.
    Poisson,
    /// At equal distances.
    Even,
}

/// The times of an open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Messages a second, all senders together.
    pub(crate) rate: f64,
    pub(crate) arrivals: Arrivals,
    pub(crate) seed: u64,
}

impl Schedule {
    fn times(self) -> impl FnMut() -> Duration {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut at = LEAD.as_secs_f64();
        move || {
            at += match self.arrivals {
                Arrivals::Even => 1.0 / self.rate,
                Arrivals::Poisson => -(1.0 - random.random::<f64>()).ln() / self.rate,
            };
            Duration::from_secs_f64(at)
        }
    }
}

/// Before the first message of an open loop, so that its senders are there by then.
pub(crate) const LEAD: Duration = Duration::from_millis(500);

impl Plan {
    /// So many messages of these flows, mixed as their shares say: the same in every run.
    pub(crate) fn new(
        count: u64,
        schedule: Option<Schedule>,
        is_among: impl Fn(&Flow) -> bool,
    ) -> anyhow::Result<Self> {
        let flows: Vec<(usize, &Flow)> = FLOWS.iter().enumerate().filter(|(_, flow)| is_among(flow)).collect();
        let all: u64 = flows.iter().map(|(_, flow)| flow.a_year).sum();
        let mut plan = Self { by_sender: BTreeMap::new(), flow_of: Vec::new() };
        let mut times = schedule.map(Schedule::times);
        for number in 0..count {
            let at = spread(number);
            let share = u64::try_from((u128::from(at) * u128::from(all)) >> 64)?;
            let (flow, definition) = *owner(&flows, share).context("the shares cover all numbers")?;
            let person = usize::try_from(at >> 17)?;
            let at = times.as_mut().map(|next| next());
            plan.flow_of.push(flow);
            plan.by_sender.entry(definition.from).or_default().push(Planned { number, flow, person, at });
        }
        Ok(plan)
    }

    pub(crate) fn senders(&self) -> impl Iterator<Item = &'static str> {
        self.by_sender.keys().copied()
    }

    /// What the partner sends, in order.
    pub(crate) fn of(&self, sender: &str) -> &[Planned] {
        self.by_sender.get(sender).map_or(&[], Vec::as_slice)
    }

    /// Every message, sender by sender.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Planned> {
        self.by_sender.values().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.flow_of.len()
    }
}

/// Spreads the numbers over all of `u64` as evenly as can be.
const fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whose share it is.
fn owner<'a>(flows: &'a [(usize, &'static Flow)], mut share: u64) -> Option<&'a (usize, &'static Flow)> {
    flows.iter().find(|(_, flow)| {
        let here = share < flow.a_year;
        share = share.saturating_sub(flow.a_year);
        here
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(arrivals: Arrivals) -> Plan {
        Plan::new(20_000, Some(Schedule { rate: 1000.0, arrivals, seed: 7 }), |_| true).unwrap()
    }

    #[test]
    fn flows_are_mixed_as_their_shares_say() {
        let plan = plan(Arrivals::Even);
        let all: u64 = FLOWS.iter().map(|flow| flow.a_year).sum();
        for (index, flow) in FLOWS.iter().enumerate() {
            let expected = 20_000 * flow.a_year / all;
            let count = plan.flow_of.iter().filter(|other| **other == index).count();
            assert!(count.abs_diff(usize::try_from(expected).unwrap()) <= 4, "{} has {count} of {expected}", flow.name);
        }
    }

    #[test]
    fn times_have_the_rate_that_was_asked_for_and_are_the_same_again() {
        for arrivals in [Arrivals::Poisson, Arrivals::Even] {
            let last = |plan: &Plan| plan.of("incomes-register").last().unwrap().at.unwrap();
            let seconds = (last(&plan(arrivals)) - LEAD).as_secs_f64();
            assert!((19.0..21.0).contains(&seconds), "{arrivals:?}: {seconds} s");
            assert_eq!(last(&plan(arrivals)), last(&plan(arrivals)));
        }
    }

    #[test]
    fn each_sender_has_its_messages_in_order() {
        let plan = plan(Arrivals::Poisson);
        for sender in plan.senders() {
            let planned = plan.of(sender);
            assert!(planned.windows(2).all(|two| two[0].number < two[1].number && two[0].at < two[1].at), "{sender}");
        }
    }
}
