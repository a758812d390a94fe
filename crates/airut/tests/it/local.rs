//! `deploy/local`, as docs/operating.md walks through it: what it starts serves, and what it stops is whole.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use airut_testkit::{available, free_ports, kafka::Installation, require};

use crate::{
    guide::{Block, OPERATING, blocks, built, root, run},
    support::{Data, tell},
};

/// The ports that it uses, one after the other.
const PORTS: u16 = 30;

/// The first of them on the page.
const FIRST_PORT: u16 = 17_000;

/// A cluster in this directory; stopped when it is dropped, for a test that has failed.
struct Local(PathBuf);

impl Drop for Local {
    fn drop(&mut self) {
        // Where all has gone well there is nothing left to stop.
        drop(Command::new(root().join("deploy/local/down")).arg(&self.0).output());
    }
}

/// The block with the cluster's ports in place of the page's.
fn at(first_port: u16, block: Block) -> Block {
    // By way of marks: the two ranges may overlap.
    let mark = |number: u16| format!("<port {number}>");
    let marked = |text: String, number: u16| text.replace(&(FIRST_PORT + number).to_string(), &mark(number));
    let moved = |text: String, number: u16| text.replace(&mark(number), &(first_port + number).to_string());
    let text = (0..PORTS).fold(block.text, marked);
    Block { text: (0..PORTS).fold(text, moved), ..block }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_is_walked_through_a_cluster_on_one_machine() {
    let jaeger = std::env::var("AIRUT_JAEGER").ok().filter(|program| Path::new(program).is_file());
    let parts = (require("kafka", Installation::find()), require("jaeger", jaeger), available("curl"), available("jq"));
    let (Some(_), Some(_), true, true) = parts else { return };
    let place = Data::new();
    symlink(root().join("deploy"), place.join("deploy")).unwrap();
    let (local, first_port) = (Local(place.join("airut-local")), free_ports(PORTS)[0]);

    let page = blocks(OPERATING).into_iter().filter(|block| block.kind == "sh cluster");
    let page: Vec<Block> = page.map(|block| at(first_port, built(block))).collect();
    let environment = [("AIRUT_PORTS", first_port.to_string()), ("AIRUT_BIN", env!("CARGO_BIN_EXE_airut").to_owned())];
    let told = run(&page, place.path(), &environment).await;
    tell(&told);

    for expected in [
        "serving      airut.v1.QueryService",
        "serving      airut.v1.LedgerService",
        "airut-query: airut.v1.QueryService/QueryBenefits",
        "airut-gateway: send airut.queries",
        "airut-register: answer",
        r#"airut_streams_open{kind="answers"} 1"#,
        "  kafka-2 runs already",
        "verified: every record is in the tree",
    ] {
        assert!(told.contains(expected), "{expected} is missing in\n{told}");
    }
    let answers = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let answered = answers.filter(|answer| answer["receipt"]["verified"] == true).count();
    assert_eq!(answered, 4, "each gateway twice:\n{told}");
    let left = std::fs::read_dir(local.0.join("run")).unwrap().count();
    assert_eq!(left, 0, "every process has ended");
}
