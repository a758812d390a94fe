//! Acknowledgements that are lost between a broker and one of the gateways: what was recorded all the same is not recorded
//! again, and comes to one answer.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use airut_domain::{partition::Topic, refusal::Reason};
use airut_log::Log;
use airut_testkit::{eventually, kafka::Proxy};
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::{
    crash::Book,
    processes::{Cluster, records, stories},
    support::{PATIENCE, ask, channel, client, persons, question, receipt_keys, tell},
};

/// A caller is told that nobody knows within this: ten seconds for the acknowledgement, and a second until that is noticed.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_without_an_acknowledgement_is_told_as_unknown_and_comes_to_one_answer() {
    let Some((mut cluster, proxy)) = Cluster::start_behind_proxy().await else { return };
    // The only register left is at the gateway that hears everything: answers do not wait for the other one.
    assert!(cluster.member("register-1").running.take().unwrap().stop().await.success());
    let subject = persons(cluster.data.path()).remove(0);
    let (log, book) = (cluster.log().await, Book::new(receipt_keys(cluster.data.path())));
    let first = channel(cluster.data.path(), cluster.gateways[0], "pirkanmaa").await;
    eventually(PATIENCE, async || ask(&first, &question("before", &subject), PATIENCE).await.is_ok()).await;

    reconnected_in_time(&proxy, &log, &first, &book, &subject).await;
    let told = unknown(&proxy, &log, &first, &subject).await;
    proxy.heal();

    let again = question("lost", &subject);
    for gateway in cluster.gateways.clone() {
        let county = client(cluster.data.path(), gateway, "pirkanmaa").await;
        // It comes back when it is told to: until the gateway has read the registry, nothing is disclosed.
        book.enter(&again, &county.query(&again, PATIENCE).await.expect("there is an answer"));
    }
    assert_eq!(book.len(), 2, "an id has one receipt, however often it is given");
    let accepted = ["asked, accepted", "answered, accepted"];
    assert_eq!(story(&log, "cut").await, accepted);
    let lost = story(&log, "lost").await;
    let (first, later) = lost.split_at(2);
    assert_eq!(first, accepted);
    // A gateway that has not read yet what was recorded asks in vain, and then joins in; and while its registry is old it does
    // not disclose.
    let repeats = ["asked, void, AskedBefore", "repeated, accepted", "not disclosed, accepted"];
    assert!(later.iter().all(|record| repeats.contains(&record.as_str())), "{lost:?}");
    nothing_is_there_twice(&log).await;
    tell(&format!("told after {told:.1?} that nobody knows; {} bytes of answers were lost", proxy.lost_bytes()));
    drop(log);
    cluster.member("register-1").start().await;
    cluster.keeps(&book).await;
    cluster.stop_and_verify().await;
}

/// The acknowledgement of a question is lost, and the connection cut: sent again within its time, it is taken once.
async fn reconnected_in_time(proxy: &Proxy, log: &Log, gateway: &Channel, book: &Book, subject: &str) {
    let cut = question("cut", subject);
    proxy.swallow();
    let (answer, ()) = tokio::join!(ask(gateway, &cut, PATIENCE), async {
        eventually(PATIENCE, async || !story(log, "cut").await.is_empty()).await;
        proxy.heal();
    });
    book.enter(&cut, &answer.expect("it was in time"));
}

/// The acknowledgement of a question is lost for as long as it is waited for. Gives how long that was.
async fn unknown(proxy: &Proxy, log: &Log, gateway: &Channel, subject: &str) -> Duration {
    proxy.swallow();
    let asked = Instant::now();
    let refused = ask(gateway, &question("lost", subject), PATIENCE).await.expect_err("nobody can know");
    let told = asked.elapsed();
    assert!(told < TOLD_WITHIN, "told after {told:.1?}");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    let reason = refused.get_details_error_info().expect("a reason").reason;
    assert_eq!(reason, Reason::OutcomeUnknown.code());
    assert!(refused.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{refused}");
    let story = story(log, "lost").await;
    assert!(story.contains(&"asked, accepted".to_owned()), "it is on record all the same: {story:?}");
    told
}

/// The records of a query of `pirkanmaa`, each with the fold's word on it.
async fn story(log: &Log, query_id: &str) -> Vec<String> {
    stories(log).await.remove(&format!("pirkanmaa/{query_id}")).unwrap_or_default()
}

/// No record was taken twice: each has a nonce of its own.
async fn nothing_is_there_twice(log: &Log) {
    for topic in [Topic::Queries, Topic::Members, Topic::Refusals, Topic::Partners, Topic::Order] {
        let records = records(log, topic).await;
        let different: BTreeSet<_> = records.iter().map(|(stored, _)| &stored.header).collect();
        assert_eq!(different.len(), records.len(), "a record of {topic} is there twice");
    }
}
