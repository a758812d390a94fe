//! A small day: what the scenario promises to check it checks, on each log that is here.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use airut_testkit::kafka::Installation;
use serde_json::Value;

/// As many messages: enough for each flow to have some, and for keys to meet.
const MESSAGES: &str = "4000";

fn day(log: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airut-load"));
    let output = command.args(["day", "--messages", MESSAGES, "--log", log]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

fn is_whole(summary: &Value) {
    for (field, expected) in [("messages", 4000), ("receipts", 4000), ("lost", 0), ("inversions", 0)] {
        assert_eq!(summary[field], expected, "{field} in {summary}");
    }
    assert_eq!(summary["unflagged_duplicates"], 0, "{summary}");
}

#[test]
fn a_small_day_on_the_embedded_log_loses_doubles_and_inverts_nothing() {
    is_whole(&day("embedded"));
}

#[test]
fn a_small_day_on_kafka_loses_doubles_and_inverts_nothing() {
    if airut_testkit::require("kafka", Installation::find()).is_some() {
        is_whole(&day("kafka"));
    }
}
