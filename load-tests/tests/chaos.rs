//! A small chaos: what was killed meanwhile shows in nothing that was promised.

#![allow(clippy::unwrap_used)]

mod support;

use airut_testkit::kafka::Installation;
use serde_json::Value;
use support::{is_whole, load};

/// Messages are paced, so that something is killed while they go, on however fast a machine.
fn is_survived(summary: &Value, messages: u64) {
    is_whole(summary, messages);
    assert!(summary["kills"].as_u64().unwrap() >= 1, "{summary}");
    assert_eq!(summary["repeated_receipts"], messages / 10, "{summary}");
}

#[test]
fn a_gateway_on_the_embedded_log_that_is_killed_again_and_again_loses_nothing() {
    let summary =
        load(&["chaos", "--messages", "2000", "--rate", "200", "--every", "1", "--kills", "3", "--lease", "5"]);
    is_survived(&summary, 2000);
}

#[test]
fn gateways_and_brokers_that_are_killed_again_and_again_lose_nothing() {
    if airut_testkit::require("kafka", Installation::find()).is_some() {
        let paced = ["--messages", "3000", "--rate", "160", "--every", "2", "--kills", "3", "--lease", "5"];
        let summary = load(&[["chaos", "--log", "kafka"].as_slice(), &paced].concat());
        is_survived(&summary, 3000);
    }
}
