//! Small runs in an open loop: whoever misbehaves meanwhile, every promise to every partner is kept. How much the others notice of it a
//! test on a shared machine can't say.

#![allow(clippy::unwrap_used)]

mod support;

use support::{is_whole, keeps_promises, load};

#[test]
fn a_steady_load_is_measured_from_when_each_message_was_to_be_sent() {
    let summary = load(&["steady", "--seconds", "3", "--warm-up", "1", "--times", "6", "--arrivals", "even"]);
    is_whole(&summary, 416);
    let steady = &summary["phases"][0];
    assert!(steady["messages"].as_u64().unwrap() > 250, "{summary}");
    assert!(steady["p99_ms"].as_f64().unwrap() >= steady["push_p99_ms"].as_f64().unwrap(), "{summary}");
}

#[test]
fn a_partner_that_floods_is_held_to_its_quota_and_whatever_was_accepted_comes() {
    let flags = ["--seconds", "3", "--warm-up", "1", "--times", "3", "--quota", "20"];
    let summary = load(&[["flood"].as_slice(), &flags].concat());
    keeps_promises(&summary);
    let flood = &summary["flood"];
    let [sent, accepted, refused] = ["sent", "accepted", "refused"].map(|field| flood[field].as_u64().unwrap());
    assert!(accepted > 0 && refused > accepted && sent == accepted + refused, "{summary}");
    assert!(summary["phases"].as_array().unwrap().len() == 2 && summary["p99_ratio"].is_f64(), "{summary}");
}

#[test]
fn a_recipient_that_reads_nothing_gets_everything_once_it_reads() {
    let summary = load(&["slow-reader", "--seconds", "3", "--warm-up", "1", "--times", "6"]);
    is_whole(&summary, 729);
    assert!(summary["held"].as_u64().unwrap() > 0, "{summary}");
    assert!(summary["resident_mib"].is_u64() && summary["p99_ratio"].is_f64(), "{summary}");
}
