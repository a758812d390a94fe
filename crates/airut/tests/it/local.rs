//! `deploy/local`: what it starts serves, and what it stops is whole.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use airut_testkit::{eventually, free_ports, kafka::Installation, require};

use crate::support::{Data, PATIENCE, airut, persons, tell};

/// The ports that it uses, one after the other.
const PORTS: u16 = 30;

/// A cluster in this directory; stopped when it is dropped, for a test that has failed.
struct Local(PathBuf);

impl Local {
    async fn run(&self, script: &str, argument: Option<&str>, first_port: u16) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(root.join("deploy/local").join(script));
        command.args(argument).arg(&self.0);
        command.env("AIRUT_PORTS", first_port.to_string()).env("AIRUT_BIN", env!("CARGO_BIN_EXE_airut"));
        if std::env::var_os("AIRUT_JAEGER").is_none() {
            // Another suite says whether it is required.
            command.env("AIRUT_JAEGER", "");
        }
        tokio::task::spawn_blocking(move || command.output().expect("it can be run")).await.unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/down");
        // Where all has gone well there is nothing left to stop.
        drop(Command::new(script).arg(&self.0).output());
    }
}

/// The first of so many ports in a row that were free a moment ago.
fn free_range() -> u16 {
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let firsts = (0..100).map(|_| free_ports(1)[0]);
    firsts.into_iter().find(|first| (*first..first + PORTS).all(is_free)).expect("there are thirty ports in a row")
}

fn assert_success(what: &str, output: &Output) {
    let (said, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}:\n{said}{faults}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_cluster_comes_up_answers_and_goes_down_whole() {
    if require("kafka", Installation::find()).is_none() {
        return;
    }
    let data = Data::new();
    let (local, first_port) = (Local(data.join("local")), free_range());
    let up = local.run("up", None, first_port).await;
    assert_success("up", &up);
    tell(&String::from_utf8_lossy(&up.stdout));

    let subject = persons(&local.0.join("exchange")).remove(0);
    eventually(PATIENCE, async || {
        let mut query = airut();
        query.args(["query", "--as", "pirkanmaa", "--subject-stdin", "--data"]).arg(local.0.join("exchange"));
        query.args(["--server", &format!("127.0.0.1:{}", first_port + 21)]);
        crate::cli::run(query, &subject).await.status.success()
    })
    .await;

    assert_success("down", &local.run("down", Some("--roles"), first_port).await);
    let mut verify = airut();
    verify.args(["ledger", "verify", "--config"]).arg(local.0.join("ledger.toml"));
    let verified = tokio::task::spawn_blocking(move || verify.output().unwrap()).await.unwrap();
    assert_success("verify", &verified);
    assert_success("down", &local.run("down", None, first_port).await);
    let left = std::fs::read_dir(local.0.join("run")).unwrap().count();
    assert_eq!(left, 0, "every process has ended");
}
