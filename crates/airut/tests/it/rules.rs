//! A record of newer rules than this build knows: whoever reads the log stops rather than go on without it.

use std::{process::Output, time::Duration};

use airut_domain::{
    id::Incarnation,
    member,
    partition::{Partition, Topic},
    record::{Header, Kind, RULES},
};
use airut_log::{Clock, Embedded, Log, Random, Unstamped};

use crate::{
    processes::Cluster,
    support::{Data, Exchange, PATIENCE, airut, client, dev, ledger_verify, persons, question},
};

/// A process that meets them has nothing to finish: it can not know what the others did since. This is five seconds for its
/// streams to end, and some.
const STOPS_WITHIN: Duration = Duration::from_secs(9);

/// What a process of a newer build might append. Gives where it lies, as this build's complaints name it.
async fn append_newer(log: &Log) -> String {
    let author: Incarnation = "gateway-newer".parse().unwrap();
    let kind = Kind::Member(member::Event::Left(author.clone()));
    let header = Header { rules: RULES + 1, nonce: [7; 16], author, body: None, kind };
    let record = Unstamped { header: airut_wire::record::encode(&header), ..Unstamped::default() };
    log.append(Partition::only(Topic::Members), record).await.unwrap().0.to_string()
}

/// What a complaint about the record must say.
fn is_told(said: &str, position: &str) -> bool {
    let plainly = said.lines().filter(|line| line.starts_with("airut: "));
    let rules = format!("rules {}", RULES + 1);
    plainly.into_iter().any(|line| line.contains(position) && line.contains(&rules))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_every_process_that_reads_newer_rules_stops_and_none_starts() {
    let Some(mut cluster) = Cluster::start(1).await else { return };
    let subject = persons(cluster.data.path()).remove(0);
    let county = client(cluster.data.path(), cluster.gateways[0], "pirkanmaa").await;
    county.query(&question("before", &subject), PATIENCE).await.expect("it is served");
    let log = cluster.log().await;
    let position = append_newer(&log).await;
    drop(log);

    let readers = ["gateway-1", "gateway-2", "ledger", "ledger-2"];
    for name in readers {
        let mut running = cluster.member(name).running.take().unwrap();
        let status = tokio::time::timeout(STOPS_WITHIN, running.ended()).await;
        let status = status.unwrap_or_else(|_| panic!("{name} goes on:\n{}", running.stderr()));
        assert_eq!(status.code(), Some(1), "{name} ends with {status}");
        assert!(is_told(&running.stderr(), &position), "{name} says:\n{}", running.stderr());
    }
    // It was not passed over: whoever starts again meets the same record.
    for name in readers {
        let mut serve = airut();
        serve.args(["serve", "--config"]).arg(&cluster.member(name).config);
        let said = match Exchange::try_start(serve, PATIENCE).await {
            Err(said) => said,
            // A ledger reads the log while it runs.
            Ok(mut running) => {
                assert_eq!(running.ended().await.code(), Some(1), "{name}");
                running.stderr()
            }
        };
        assert!(is_told(&said, &position), "{name} says:\n{said}");
    }
    let mut verify = airut();
    verify.args(["ledger", "verify", "--config"]).arg(cluster.data.join("ledger.toml"));
    is_not_verified(&tokio::task::spawn_blocking(move || verify.output().unwrap()).await.unwrap(), &position);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_log_a_process_that_meets_newer_rules_does_not_start() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    assert!(exchange.stop().await.success());
    let settings = Embedded::at(data.join("log.sqlite"), Clock::system(), Random::system());
    let log = Log::embedded(settings).unwrap();
    let position = append_newer(&log).await;
    drop(log);
    for _ in 0..2 {
        let Err(said) = Exchange::try_start(dev(data.path()), PATIENCE).await else { panic!("it starts") };
        assert!(is_told(&said, &position), "{said}");
    }
    is_not_verified(&ledger_verify(data.path()), &position);
}

/// Nor does this build vouch for a log that it can not read.
fn is_not_verified(verified: &Output, position: &str) {
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(!verified.status.success() && said.contains(position), "{said}");
}
