//! Collecting by type: several systems of one organisation share its mailbox, and each gets what it can take in.

use std::{collections::BTreeSet, time::Duration};

use airut_domain::{member::Event, partition::Topic, record::Kind, refusal::Reason};
use airut_wire::v1::{self, collect_request as ask};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    delivery::{Collector, accepted, client, id, keyed, reason, send},
    support::{Sandbox, message, soon},
};

/// Well under the two seconds after which anybody may offer what its own stream has not.
const PROMPTLY: Duration = Duration::from_secs(1);

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A collector of `pirkanmaa` that takes these types.
async fn collects(sandbox: &Sandbox, at: usize, types: &[&str]) -> Collector {
    let open = ask::Open { credit: 100, message_types: named(types), ..ask::Open::default() };
    let collector = Collector::open_as(sandbox, at, "pirkanmaa", open).await;
    sandbox.caught_up().await;
    collector
}

fn blocking(message: v1::SendRequest) -> v1::SendRequest {
    v1::SendRequest { message_type: "blocking-notice".into(), ..message }
}

#[tokio::test(start_paused = true)]
async fn each_stream_gets_the_messages_of_its_types_and_gets_them_promptly() {
    const EACH: usize = 20;
    let sandbox = Sandbox::with_gateways(2).await;
    let mut desk = collects(&sandbox, 0, &["notice"]).await;
    let mut cases = collects(&sandbox, 1, &["blocking-notice", "rumour"]).await;
    let began = Instant::now();
    for number in 0..EACH {
        send(&sandbox, message(&format!("n-{number}"))).await;
        send(&sandbox, blocking(message(&format!("b-{number}")))).await;
    }
    for (collector, prefix) in [(&mut desk, "n-"), (&mut cases, "b-")] {
        let mut came = BTreeSet::new();
        for _ in 0..EACH {
            let delivery = collector.delivery().await;
            assert!(id(&delivery).starts_with(prefix), "{} is none of its types", id(&delivery));
            came.insert(id(&delivery).to_owned());
        }
        assert_eq!(came.len(), EACH);
        assert!(began.elapsed() < PROMPTLY, "it took {:?}", began.elapsed());
    }
    assert!(desk.hears_nothing(Duration::from_secs(5)).await && cases.hears_nothing(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_every_type_shares_with_each_of_one_type() {
    const EACH: usize = 20;
    let sandbox = Sandbox::start().await;
    let mut streams = [
        collects(&sandbox, 0, &["notice"]).await,
        collects(&sandbox, 0, &["blocking-notice"]).await,
        collects(&sandbox, 0, &[]).await,
    ];
    for number in 0..EACH {
        send(&sandbox, message(&format!("n-{number}"))).await;
        send(&sandbox, blocking(message(&format!("b-{number}")))).await;
    }
    let mut came = Vec::new();
    for stream in &mut streams {
        let mut types = Vec::new();
        while let Ok(delivery) = tokio::time::timeout(PROMPTLY / 3, stream.delivery()).await {
            types.push(delivery.message.unwrap().message_type);
        }
        came.push(types);
    }
    assert_eq!(came.iter().map(Vec::len).sum::<usize>(), 2 * EACH, "something is not delivered promptly");
    let only = |types: &[String], name: &str| !types.is_empty() && types.iter().all(|known| known == name);
    assert!(only(&came[0], "notice") && only(&came[1], "blocking-notice"), "{came:?}");
    assert_eq!(came[2].iter().collect::<BTreeSet<_>>().len(), 2, "a share of both: {:?}", came[2]);
}

#[tokio::test(start_paused = true)]
async fn what_no_stream_takes_waits_and_is_delivered_once_one_does() {
    let sandbox = Sandbox::start().await;
    let mut desk = collects(&sandbox, 0, &["notice"]).await;
    send(&sandbox, blocking(message("b-1"))).await;
    send(&sandbox, message("n-1")).await;
    assert_eq!(id(&desk.delivery().await), "n-1");
    assert!(desk.hears_nothing(Duration::from_secs(20)).await);
    let began = Instant::now();
    let mut cases = collects(&sandbox, 0, &["blocking-notice"]).await;
    let delivery = cases.delivery().await;
    assert_eq!((id(&delivery), delivery.attempt), ("b-1", 1));
    assert!(began.elapsed() < PROMPTLY, "it took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_of_another_type_holds_up_those_behind_it_in_its_key() {
    let sandbox = Sandbox::start().await;
    let mut cases = collects(&sandbox, 0, &["blocking-notice"]).await;
    send(&sandbox, keyed("n-1", "key")).await;
    send(&sandbox, blocking(keyed("b-1", "key"))).await;
    assert!(cases.hears_nothing(Duration::from_secs(20)).await);
    let mut desk = collects(&sandbox, 0, &["notice"]).await;
    let delivery = desk.delivery().await;
    assert!(cases.hears_nothing(Duration::from_secs(5)).await, "the one before it is not settled");
    desk.settle(&delivery, accepted()).await;
    assert_eq!(id(&cases.delivery().await), "b-1");
}

#[tokio::test(start_paused = true)]
async fn a_pull_gets_only_the_types_that_it_names() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, blocking(message("b-1"))).await;
    send(&sandbox, message("n-1")).await;
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let mut pulled = async |types: &[&str]| -> Vec<String> {
        let pull = v1::PullRequest { max_messages: 10, message_types: named(types), ..v1::PullRequest::default() };
        let deliveries = soon(county.pull(pull)).await.unwrap().into_inner().deliveries;
        deliveries.iter().map(|delivery| id(delivery).to_owned()).collect()
    };
    assert_eq!(pulled(&["rumour"]).await, [""; 0]);
    assert_eq!(pulled(&["notice", "rumour"]).await, ["n-1"]);
    assert_eq!(pulled(&[]).await, ["b-1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_type_is_refused_by_its_field() {
    let sandbox = Sandbox::start().await;
    for (types, fault) in [
        (named(&["notice", "a b"]), "message_types[1] may contain"),
        (named(&["a"; 65]), "message_types must have at most 64"),
    ] {
        let (says, said) = mpsc::channel(1);
        let open = ask::Message::Open(ask::Open { message_types: types.clone(), ..ask::Open::default() });
        says.send(v1::CollectRequest { message: Some(open) }).await.unwrap();
        let mut county = client(&sandbox, 0, "pirkanmaa");
        let mut hears = soon(county.collect(ReceiverStream::new(said))).await.unwrap().into_inner();
        let pull = v1::PullRequest { max_messages: 1, message_types: types, ..v1::PullRequest::default() };
        let refused = [
            (soon(hears.message()).await.unwrap_err(), format!("open.{fault}")),
            (soon(county.pull(pull)).await.unwrap_err(), fault.to_owned()),
        ];
        for (status, fault) in refused {
            assert_eq!(reason(&status), Reason::InvalidField);
            assert!(status.message().contains(&fault), "{status}");
        }
    }
    assert_eq!(sandbox.refusals().len(), 4, "each is on record");
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_takes_is_on_record() {
    let sandbox = Sandbox::start().await;
    let _desk = collects(&sandbox, 0, &["notice", "blocking-notice"]).await;
    let _all = collects(&sandbox, 0, &[]).await;
    let records = sandbox.ground.records(Topic::Members);
    let taken = records.into_iter().filter_map(|(_, header)| match header.kind {
        Kind::Member(Event::StreamOpened(opened)) => {
            Some(opened.types.names().map(ToString::to_string).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(taken.collect::<Vec<_>>(), [named(&["blocking-notice", "notice"]), Vec::new()]);
}
