//! Runs of `airut-load`, as a program runs it.

use std::process::Command;

use serde_json::Value;

/// Runs it for programs; what its last line says. What goes before is JSON too.
pub(crate) fn load(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airut-load"));
    let output = command.args(arguments).args(["--output", "json"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.last().unwrap().clone()
}

/// So many messages came, and every promise was kept.
pub(crate) fn is_whole(summary: &Value, messages: u64) {
    assert_eq!(summary["messages"], messages, "{summary}");
    keeps_promises(summary);
}

/// Whatever came, every promise was kept.
pub(crate) fn keeps_promises(summary: &Value) {
    for field in ["lost", "unflagged_duplicates", "inversions", "altered", "changed_receipts", "receipts_not_in_ledger"]
    {
        assert_eq!(summary[field], 0, "{field} in {summary}");
    }
    assert_eq!(summary["receipts"], summary["messages"], "{summary}");
    assert!(summary["duplicates"].is_u64() && summary["seconds"].is_f64(), "{summary}");
}
