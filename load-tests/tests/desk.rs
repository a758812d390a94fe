//! A few officials at the desk for a few seconds: every page comes, and what is to be on record is. How quickly, a test on a shared machine
//! can't say.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "what messages are promised is not looked at here")]
mod support;

use support::load;

#[test]
fn officials_get_their_pages_and_what_they_look_at_is_on_record() {
    let flags =
        ["--users", "16", "--pages", "8", "--seconds", "10", "--warm-up", "2", "--requests", "40", "--notices", "10"];
    let summary = load(&[["desk"].as_slice(), &flags].concat());
    let pages = summary["pages"].as_u64().unwrap();
    // Each reads one in each of its five spans of two seconds at the most; a busy machine makes fewer.
    assert!((1..=80).contains(&pages), "{summary}");
    assert_eq!(summary["failures"], serde_json::json!({}), "{summary}");
    assert!(summary["recorded"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["recorded"], summary["to_be_recorded"], "{summary}");
    assert!(summary["p99_ms"].as_f64().unwrap() > 0.0 && summary["p99_ratio"].is_f64(), "{summary}");
    assert!(summary["resident_mib"]["end"].is_u64(), "{summary}");
    // Somebody was the first to read something, and lists that were open then, for two seconds each, showed it.
    assert!(summary["kinds"]["renewal"]["count"].as_u64().unwrap() > 0, "{summary}");
}
