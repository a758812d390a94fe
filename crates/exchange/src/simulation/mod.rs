//! The simulation: the real verbs and folds of several gateways on a simulated log, in one thread and from one seed.
//!
//! Callers retry, collide and leave; responders are slow, silent, wrong and come and go; partners are suspended and their
//! contracts narrowed; the log delays, refuses and loses; gateways are frozen or die at any await, and others take their place.
//! Meanwhile and at the end [`promises`] holds what callers were given, and what is on record, to what the exchange promises, by
//! rules of its own. The same seed gives the same log, byte for byte.
//!
//! `AIRUT_SIM_SEED` plays one seed, `AIRUT_SIM_SEEDS` that many.

mod fate;
mod players;
mod promises;
mod run;

use std::ops::Range;

use self::{
    promises::Deeds,
    run::{Played, Weather, play},
};
use crate::planted::{Bug, plant};

/// Seeds that are played in each weather unless said otherwise.
const USUAL: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seeds() -> Range<u64> {
    match number("AIRUT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("AIRUT_SIM_SEEDS").unwrap_or(USUAL),
    }
}

/// Plays a seed; what came of it, or what was broken.
fn outcome(seed: u64, weather: Weather) -> Result<Played, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play(seed, weather))
}

fn holds(seed: u64, weather: Weather) -> Played {
    outcome(seed, weather)
        .unwrap_or_else(|broken| panic!("AIRUT_SIM_SEED={seed} in {weather:?} weather: {}", broken.join("\n")))
}

/// Plays all seeds; what has happened in them.
fn all_hold(weather: Weather) -> Deeds {
    let mut deeds = Deeds::new();
    for seed in seeds() {
        for (deed, count) in holds(seed, weather).deeds {
            *deeds.entry(deed).or_default() += count;
        }
    }
    deeds
}

#[test]
fn every_promise_holds_on_a_slow_log() {
    all_hold(Weather::Fair);
}

#[test]
fn every_promise_holds_through_faults_crashes_and_freezes() {
    let deeds = all_hold(Weather::Foul);
    // What is not played is not shown.
    let expected = [
        "asked first",
        "asked anew",
        "asked in vain",
        "query rerouted",
        "query answered",
        "query repeated",
        "given",
        "not disclosed (NoAnswer)",
        "not disclosed (Late)",
        "not disclosed (CallerLeft)",
        "not disclosed (RightLost)",
        "not disclosed (ResponderFailed)",
        "not disclosed (RegistryStale)",
        "refused (QUERY_ID_REUSED)",
        "refused (GRANT_CHANGED)",
        "refused (NO_RESPONDER)",
        "refused (MISSING_FIELD)",
        "refused (NO_CONTRACT)",
        "right changed",
        "crashed",
        "frozen",
    ];
    if seeds().count() >= 50 {
        let missing: Vec<_> = expected.iter().filter(|deed| !deeds.contains_key(**deed)).collect();
        assert!(missing.is_empty(), "{missing:?} never happened; what did: {deeds:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_log_byte_for_byte() {
    for weather in [Weather::Fair, Weather::Foul] {
        for seed in seeds().take(8) {
            assert_eq!(holds(seed, weather), holds(seed, weather), "AIRUT_SIM_SEED={seed} in {weather:?} weather");
        }
    }
}

#[test]
fn every_planted_bug_is_found_for_what_it_is() {
    const WITHIN: u64 = 40;
    let bugs = [
        (Bug::StaleRegistry, "without having read the registry lately"),
        (Bug::RightNotRechecked, "given beyond the right"),
        (Bug::RepeatUnrecorded, "given again without a record of it"),
        (Bug::SecondAskedAccepted, "given before it was on record"),
        (Bug::NotMinimised, "goes beyond its question"),
        (Bug::LeavingUnrecorded, "and 0 recorded as not"),
        (Bug::NeverEnded, "never ended"),
    ];
    for (bug, how) in bugs {
        plant(Some(bug));
        let both = (0..WITHIN).flat_map(|seed| [(seed, Weather::Fair), (seed, Weather::Foul)]);
        let is_found =
            |(seed, weather)| outcome(seed, weather).is_err_and(|broken| broken.iter().any(|b| b.contains(how)));
        let found = both.into_iter().any(is_found);
        plant(None);
        assert!(found, "{bug:?} is not found within {WITHIN} seeds");
    }
}
