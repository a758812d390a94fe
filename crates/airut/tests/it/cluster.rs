//! Each role as a process of its own, two gateways, on a real Kafka: who served, and who died meanwhile, shows nowhere.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use airut_testkit::{Jaeger, eventually};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::{
    crash::{Book, all_are_in_the_ledger, callers},
    processes::{Cluster, serves},
    support::{PATIENCE, airut, ask, channel, client, persons, question, receipt_keys, seed, tell},
};

/// How long things are killed and frozen, in seconds, unless `AIRUT_CHAOS_SECONDS` says otherwise.
const CHAOS_SECONDS: u64 = 25;

/// Callers at once.
const CALLERS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_asked_at_one_gateway_is_answered_through_another_and_proved_by_a_third_process() {
    let Some(mut cluster) = Cluster::start(1).await else { return };
    // The only register left is at the first gateway.
    assert!(cluster.member("register-2").running.take().unwrap().stop().await.success());
    let subject = persons(cluster.data.path()).remove(0);
    let second = client(cluster.data.path(), cluster.gateways[1], "pirkanmaa").await;
    let mut answer = None;
    eventually(PATIENCE, async || {
        answer = second.query(&question("across", &subject), PATIENCE).await.ok();
        answer.is_some()
    })
    .await;
    let book = Book::new(receipt_keys(cluster.data.path()));
    book.enter(&question("across", &subject), &answer.unwrap());
    // The same from the other gateway.
    let first = client(cluster.data.path(), cluster.gateways[0], "pirkanmaa").await;
    let again = first.query(&question("across", &subject), PATIENCE).await.unwrap();
    book.enter(&question("across", &subject), &again);
    let county = cluster.ledger("pirkanmaa").await;
    all_are_in_the_ledger(&county, &cluster.data.join("ledger"), &book.promises()).await;

    for (address, service) in [
        (cluster.gateways[0], "airut.v1.QueryService"),
        (cluster.member("ledger").address(), "airut.v1.LedgerService"),
        (cluster.member("ledger").address(), ""),
    ] {
        let health = HealthClient::new(channel(cluster.data.path(), address, "pirkanmaa").await);
        eventually(PATIENCE, async || serves(&health, service).await == Some(true)).await;
    }
    cluster.member("register-2").start().await;
    cluster.stop_and_verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_or_frozen_every_receipt_stays_and_every_answer_is_the_same() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let mut random = StdRng::seed_from_u64(seed());
    let seconds = std::env::var("AIRUT_CHAOS_SECONDS").map_or(CHAOS_SECONDS, |text| text.parse().expect("seconds"));
    let book = Arc::new(Book::new(receipt_keys(cluster.data.path())));
    let (_at, gateways) = watch::channel(cluster.gateways.clone());
    let stop = CancellationToken::new();
    let callers = callers(CALLERS, &cluster.data, &book, &gateways, &stop, &mut random);

    let (began, mut strikes) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        let answered = book.len() + random.random_range(1..40);
        eventually(2 * PATIENCE, async || book.len() >= answered).await;
        strikes.push(cluster.strike(&mut random).await);
    }
    stop.cancel();
    for caller in callers {
        caller.await.unwrap();
    }

    let kept = cluster.keeps(&book).await;
    tell(&format!("{} strikes in {:.0?} ({}): {kept}", strikes.len(), began.elapsed(), strikes.join(", ")));
    cluster.stop_and_verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_gateways_and_brokers_and_a_lost_fold_change_nothing() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let mut random = StdRng::seed_from_u64(seed());
    let book = Arc::new(Book::new(receipt_keys(cluster.data.path())));
    let (_at, gateways) = watch::channel(cluster.gateways.clone());
    let stop = CancellationToken::new();
    let callers = callers(CALLERS, &cluster.data, &book, &gateways, &stop, &mut random);
    let more = async |book: &Book| {
        let answered = book.len() + 20;
        eventually(2 * PATIENCE, async || book.len() >= answered).await;
    };

    for name in ["gateway-1", "gateway-2"] {
        more(&book).await;
        let stopped = cluster.member(name).running.take().unwrap().stop().await;
        assert!(stopped.success(), "{name} ends with {stopped}");
        // It has to read all of the log again.
        fs::remove_file(cluster.data.join(name).join("folds.sqlite")).unwrap();
        cluster.member(name).start().await;
    }
    for broker in 0..cluster.kafka.size() {
        more(&book).await;
        let kafka = Arc::clone(&cluster.kafka);
        // Killed: its partitions elect other leaders, and elect it again when it is back.
        tokio::task::spawn_blocking(move || kafka.restart(broker)).await.unwrap();
    }
    more(&book).await;
    stop.cancel();
    for caller in callers {
        caller.await.unwrap();
    }
    tell(&format!("two gateways and three brokers restarted: {}", cluster.keeps(&book).await));
    cluster.stop_and_verify().await;
}

/// While no broker answers a caller is told so within this: ten seconds for room in the queue, ten for an acknowledgement.
const TOLD_WITHIN: Duration = Duration::from_secs(25);

/// What a gateway may grow by while no broker answers: what waits is bounded, and this is generous.
const GROWTH_MIB: u64 = 96;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_broker_answers_callers_are_told_so_and_then_served_again() {
    let Some(mut cluster) = Cluster::start(1).await else { return };
    let subject = persons(cluster.data.path()).remove(0);
    let address = cluster.gateways[0];
    let county = client(cluster.data.path(), address, "pirkanmaa").await;
    eventually(PATIENCE, async || county.query(&question("before", &subject), PATIENCE).await.is_ok()).await;
    let before = cluster.member("gateway-1").resident_mib();

    cluster.kafka.freeze(0);
    let stalled: Vec<_> = (0..200).map(|number| question(&format!("stalled-{number}"), &subject)).collect();
    let channel = channel(cluster.data.path(), address, "pirkanmaa").await;
    let asking = stalled.iter().map(|request| async {
        let asked = Instant::now();
        let refused = ask(&channel, request, 2 * TOLD_WITHIN).await.expect_err("nothing can be recorded");
        assert!(asked.elapsed() < TOLD_WITHIN, "told after {:.1?}", asked.elapsed());
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        assert!(refused.get_details_retry_info().is_some(), "{refused}");
    });
    futures::future::join_all(asking).await;
    let health = HealthClient::new(channel.clone());
    eventually(PATIENCE, async || serves(&health, "airut.v1.QueryService").await == Some(false)).await;
    let grown = cluster.member("gateway-1").resident_mib().saturating_sub(before);
    assert!(grown < GROWTH_MIB, "the gateway has grown by {grown} MiB");

    cluster.kafka.thaw(0);
    eventually(PATIENCE, async || serves(&health, "airut.v1.QueryService").await == Some(true)).await;
    // The same ids again: what had been recorded of them and what had not comes to one answer each.
    let book = Book::new(receipt_keys(cluster.data.path()));
    for request in stalled.iter().take(40) {
        eventually(PATIENCE, async || match county.query(request, PATIENCE).await {
            Ok(response) => {
                book.enter(request, &response);
                true
            }
            Err(_) => false,
        })
        .await;
    }
    all_are_in_the_ledger(&cluster.ledger("pirkanmaa").await, &cluster.data.join("ledger"), &book.promises()).await;
    cluster.stop_and_verify().await;
}

/// The caller's trace.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_through_separate_processes_is_one_trace_in_jaeger() {
    let jaeger = tokio::task::spawn_blocking(Jaeger::start).await.unwrap();
    let Some(jaeger) = jaeger.map(Arc::new) else { return };
    let endpoint = jaeger.otlp_endpoint();
    let Some(mut cluster) = Cluster::start_traced(1, Some(&endpoint)).await else { return };
    // The register that answers is not at the gateway that asks.
    assert!(cluster.member("register-2").running.take().unwrap().stop().await.success());
    let subject = persons(cluster.data.path()).remove(0);
    let second = client(cluster.data.path(), cluster.gateways[1], "pirkanmaa").await;
    eventually(PATIENCE, async || second.query(&question("ready", &subject), PATIENCE).await.is_ok()).await;

    let mut query = airut();
    query.args(["query", "--as", "pirkanmaa", "--subject-stdin", "--server", &cluster.gateways[1].to_string()]);
    query.args(["--traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01"), "--data"]).arg(cluster.data.path());
    query.args(["--otlp-endpoint", &endpoint]);
    let answered = crate::cli::run(query, &subject).await;
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));

    let expected = [
        "airut-query: airut.v1.QueryService/QueryBenefits",
        "airut-gateway: airut.v1.QueryService/QueryBenefits",
        "airut-gateway: judge",
        "airut-gateway: record",
        "airut-gateway: send airut.queries",
        "airut-gateway: process airut.queries",
        "airut-register: answer",
        "airut-gateway: minimise",
        "airut-gateway: await answer",
        "airut-gateway: disclose",
    ];
    let mut found = BTreeMap::new();
    eventually(PATIENCE, async || {
        let jaeger = Arc::clone(&jaeger);
        let page = tokio::task::spawn_blocking(move || jaeger.get(&format!("/api/traces/{TRACE}"))).await.unwrap();
        found = page.map(|page| spans(&page)).unwrap_or_default();
        expected.iter().all(|span| found.contains_key(*span))
    })
    .await;
    // The question's record and the answer's, each sent by the gateway that made it.
    assert_eq!(found["airut-gateway: send airut.queries"], 2, "{found:#?}");
    for member in &mut cluster.members {
        if let Some(running) = member.running.take() {
            assert!(running.stop().await.success());
        }
    }
}

/// The spans of Jaeger's answer about one trace, as `service: name`, and how many there are of each.
fn spans(page: &str) -> BTreeMap<String, usize> {
    let page: serde_json::Value = serde_json::from_str(page).expect("JSON");
    let trace = &page["data"][0];
    let mut spans = BTreeMap::new();
    for span in trace["spans"].as_array().into_iter().flatten() {
        let process = &trace["processes"][span["processID"].as_str().unwrap()];
        let name = format!("{}: {}", process["serviceName"].as_str().unwrap(), span["operationName"].as_str().unwrap());
        *spans.entry(name).or_default() += 1;
    }
    spans
}

impl Cluster {
    /// Kills or freezes one part for a while, and brings it back. Says which.
    async fn strike(&mut self, random: &mut StdRng) -> String {
        let hold = Duration::from_millis(random.random_range(100..3000));
        let kills = random.random_bool(0.5);
        let what = if kills { "killed" } else { "frozen" };
        let victims = ["gateway-1", "gateway-2", "register-1", "ledger", "ledger-2", "broker"];
        let name = *victims.choose(random).expect("there are some");
        if name == "broker" {
            let (broker, kafka) = (random.random_range(0..self.kafka.size()), Arc::clone(&self.kafka));
            let strike = move || {
                if kills {
                    kafka.kill(broker)
                } else {
                    kafka.freeze(broker)
                };
                // How long it is gone is the strike, not a wait for something.
                std::thread::sleep(hold);
                if kills {
                    kafka.restart(broker)
                } else {
                    kafka.thaw(broker)
                };
            };
            tokio::task::spawn_blocking(strike).await.unwrap();
            return format!("broker {what}");
        }
        let member = self.member(name);
        assert!(member.running.as_mut().unwrap().is_running(), "{name} ended by itself");
        if kills {
            member.running.as_mut().unwrap().kill();
            tokio::time::sleep(hold).await;
            member.start().await;
        } else {
            member.signal("STOP");
            tokio::time::sleep(hold).await;
            member.signal("CONT");
        }
        format!("{name} {what}")
    }
}
