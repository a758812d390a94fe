//! A small day: what the scenario promises to check it checks, on each log that is here.

#![allow(clippy::unwrap_used)]

mod support;

use airut_testkit::kafka::Installation;
use support::{is_whole, load};

/// As many messages: enough for each flow to have some, and for keys to meet.
const MESSAGES: &str = "4000";

#[test]
fn a_small_day_on_the_embedded_log_loses_doubles_and_inverts_nothing() {
    is_whole(&load(&["day", "--messages", MESSAGES]), 4000);
}

#[test]
fn a_small_day_on_kafka_loses_doubles_and_inverts_nothing() {
    if airut_testkit::require("kafka", Installation::find()).is_some() {
        let summary = load(&["day", "--messages", MESSAGES, "--log", "kafka", "--baseline"]);
        is_whole(&summary, 4000);
        assert!(summary["ratio"].as_f64().unwrap() > 0.0, "{summary}");
    }
}
