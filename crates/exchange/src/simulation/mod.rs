//! The simulation: the real verbs and folds of several gateways on a simulated log, in one thread and from one seed.
//!
//! Of two plays one is played at a time: queries, and messages. Callers and senders retry, collide and leave; responders and
//! collectors are slow, silent, wrong and come and go; partners are suspended and their contracts narrowed; the log delays, refuses
//! and loses; gateways are frozen or die at any await, and others take their place. Meanwhile and at the end [`promises`] and
//! [`deliveries`] hold what everybody was given, and what is on record, to what the exchange promises, by rules of their own. The
//! same seed gives the same log, byte for byte.
//!
//! `AIRUT_SIM_SEED` plays one seed, `AIRUT_SIM_SEEDS` that many.

mod fate;
mod run;

mod players;
mod promises;

mod collectors;
mod deliveries;
#[allow(dead_code, reason = "the simulation needs a part of it")]
#[path = "../../../domain/tests/it/model.rs"]
mod model;
mod senders;

use std::ops::Range;

use self::{
    promises::Deeds,
    run::{Play, Played, Weather, play},
};
use crate::planted::{Bug, plant};

/// Seeds that are played in each weather unless said otherwise: a run of messages takes longer.
const fn usual(play: Play) -> u64 {
    match play {
        Play::Queries => 100,
        Play::Messages => 12,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seeds(play: Play) -> Range<u64> {
    match number("AIRUT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("AIRUT_SIM_SEEDS").unwrap_or(usual(play)),
    }
}

/// Plays a seed; what came of it, or what was broken.
fn outcome(what: Play, seed: u64, weather: Weather) -> Result<Played, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play(what, seed, weather))
}

fn holds(what: Play, seed: u64, weather: Weather) -> Played {
    outcome(what, seed, weather).unwrap_or_else(|broken| {
        panic!("AIRUT_SIM_SEED={seed}, {what:?} in {weather:?} weather: {}", broken.join("\n"))
    })
}

/// Plays all seeds; what has happened in them.
fn all_hold(what: Play, weather: Weather) -> Deeds {
    let mut deeds = Deeds::new();
    for seed in seeds(what) {
        for (deed, count) in holds(what, seed, weather).deeds {
            *deeds.entry(deed).or_default() += count;
        }
    }
    deeds
}

/// What is not played is not shown.
fn were_played(what: Play, deeds: &Deeds, expected: &[&str]) {
    if seeds(what).count() as u64 >= usual(what) / 2 {
        let missing: Vec<_> = expected.iter().filter(|deed| !deeds.contains_key(**deed)).collect();
        assert!(missing.is_empty(), "{missing:?} never happened; what did: {deeds:?}");
    }
}

#[test]
fn every_promise_of_queries_holds_on_a_slow_log() {
    all_hold(Play::Queries, Weather::Fair);
}

#[test]
fn every_promise_of_queries_holds_through_faults_crashes_and_freezes() {
    let deeds = all_hold(Play::Queries, Weather::Foul);
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
    were_played(Play::Queries, &deeds, &expected);
}

#[test]
fn every_promise_of_messages_holds_on_a_slow_log() {
    let deeds = all_hold(Play::Messages, Weather::Fair);
    were_played(Play::Messages, &deeds, &["receipt", "pushed", "taken in", "pulled"]);
}

#[test]
fn every_promise_of_messages_holds_through_faults_crashes_and_freezes() {
    let deeds = all_hold(Play::Messages, Weather::Foul);
    let expected = [
        "receipt",
        "not sent (OUTCOME_UNKNOWN)",
        "not sent (LOG_UNAVAILABLE)",
        "not sent (PREDECESSOR_FAILED)",
        "not sent (QUOTA_EXCEEDED)",
        "not sent (MESSAGE_ID_REUSED)",
        "not sent (NO_CONTRACT)",
        "messages accepted: void (repeat)",
        "messages offered: void (not waiting)",
        "pushed",
        "pushed again",
        "pushed after it was redriven",
        "pulled",
        "taken in",
        "returned",
        "rejected",
        "leases extended",
        "leases ended",
        "messages expired",
        "messages transferred",
        "messages redriven",
        "told of a settlement (it counts)",
        "told of a settlement (LEASE_LOST)",
        "told of a settlement (SETTLED_OTHERWISE)",
        "told of a settlement (OUTCOME_UNKNOWN)",
        "told of an extension",
        "told of an extension (refused)",
        "right changed",
        "crashed",
        "frozen",
    ];
    were_played(Play::Messages, &deeds, &expected);
}

#[test]
fn the_same_seed_gives_the_same_log_byte_for_byte() {
    for (what, weather) in [
        (Play::Queries, Weather::Fair),
        (Play::Queries, Weather::Foul),
        (Play::Messages, Weather::Fair),
        (Play::Messages, Weather::Foul),
    ] {
        for seed in seeds(what).take(4) {
            let (first, again) = (holds(what, seed, weather), holds(what, seed, weather));
            assert_eq!(first, again, "AIRUT_SIM_SEED={seed}, {what:?} in {weather:?} weather");
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
            |(seed, weather)| outcome(Play::Queries, seed, weather).is_err_and(|broken| broken.iter().any(|b| b.contains(how)));
        let found = both.into_iter().any(is_found);
        plant(None);
        assert!(found, "{bug:?} is not found within {WITHIN} seeds");
    }
}
