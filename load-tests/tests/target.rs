//! An exchange that runs already is loaded as one that was started for it, but for what takes its files or its life.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use support::{is_whole, load};

/// `airut dev`, killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts it on any port; gives its address.
fn start(data: &Path) -> (Running, String) {
    let airut = Path::new(env!("CARGO_BIN_EXE_airut-load")).with_file_name("airut");
    assert!(airut.exists(), "build with --workspace");
    let mut command = Command::new(airut);
    command.arg("dev").arg("--data").arg(data).args([
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--desk-listen",
        "127.0.0.1:0",
    ]);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("https://")).expect("it says where it serves");
    std::thread::spawn(move || lines.for_each(drop));
    let address = line.split_once("https://").unwrap().1.split_whitespace().next().unwrap().to_owned();
    (running, address)
}

#[test]
fn an_exchange_that_runs_is_loaded_twice_and_the_ledger_is_looked_at_as_far_as_one_may() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, address) = start(dir.path());
    let (pki, chart) = (dir.path().join("pki"), dir.path().join("day.svg"));
    let arguments = ["day", "--messages", "300", "--target", &address, "--pki", pki.to_str().unwrap(), "--chart"];
    let arguments = [arguments.as_slice(), &[chart.to_str().unwrap()]].concat();
    is_whole(&load(&arguments), 300);
    is_drawn(&fs::read_to_string(&chart).unwrap());

    // The second run's messages are others, although the exchange remembers the first's.
    fs::remove_file(pki.join("auditor.crt")).unwrap();
    let summary = load(&arguments);
    assert_eq!((&summary["messages"], &summary["lost"]), (&Value::from(300), &Value::from(0)), "{summary}");
    assert!(summary["receipts_not_in_ledger"].is_null(), "{summary}");
}

/// A well-formed picture, with axes that have words and numbers.
fn is_drawn(svg: &str) {
    let document = roxmltree::Document::parse(svg).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    for expected in ["seconds from the start", "messages a second", "p99", "0"] {
        assert!(texts.contains(&expected), "{expected} is not among {texts:?}");
    }
}
