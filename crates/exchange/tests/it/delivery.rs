//! Delivery: what is sent is collected, in order, until it is settled, and both parties can see what became of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use airut_domain::{
    delivery::Quota, message::Event, partition::Topic, partner::Partner, record::Kind, refusal::Reason,
};
use airut_exchange::delivery_service;
use airut_log::Faults;
use airut_wire::v1::{
    self, collect_request as ask, collect_response as told,
    delivery_service_client::DeliveryServiceClient,
    delivery_service_server::{DeliveryService, DeliveryServiceServer},
    send_stream_response::Outcome,
    settlement::{Accepted, Outcome as How, Rejected, Returned},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::{
    edge::identified,
    support::{Sandbox, message, partners, soon, suspended},
};

pub(crate) type Client<S> = DeliveryServiceClient<DeliveryServiceServer<S>>;

pub(crate) fn client(sandbox: &Sandbox, at: usize, partner: &'static str) -> Client<impl DeliveryService> {
    let caller_of: airut_exchange::CallerOf = Arc::new(move |_, registry| identified(registry, partner));
    DeliveryServiceClient::new(delivery_service(sandbox.gateways[at].clone(), caller_of))
}

/// A collector's side of its stream. It leaves when it is dropped.
pub(crate) struct Collector {
    says: mpsc::Sender<v1::CollectRequest>,
    hears: Streaming<v1::CollectResponse>,
    /// Deliveries that came while something else was waited for.
    came: VecDeque<v1::Delivery>,
}

impl Collector {
    async fn open(sandbox: &Sandbox, at: usize, partner: &'static str, credit: i32) -> Self {
        let open = ask::Open { credit, ..ask::Open::default() };
        Self::open_as(sandbox, at, partner, open).await
    }

    pub(crate) async fn open_as(sandbox: &Sandbox, at: usize, partner: &'static str, open: ask::Open) -> Self {
        let (says, said) = mpsc::channel(64);
        let mut client = client(sandbox, at, partner);
        says.send(v1::CollectRequest { message: Some(ask::Message::Open(open)) }).await.unwrap();
        let hears = soon(client.collect(ReceiverStream::new(said))).await.unwrap().into_inner();
        let mut collector = Self { says, hears, came: VecDeque::new() };
        assert!(matches!(collector.hear().await, told::Message::Opened(_)));
        collector
    }

    async fn hear(&mut self) -> told::Message {
        soon(self.hears.message()).await.unwrap().expect("the stream is open").message.unwrap()
    }

    pub(crate) async fn delivery(&mut self) -> v1::Delivery {
        if let Some(delivery) = self.came.pop_front() {
            return delivery;
        }
        match self.hear().await {
            told::Message::Delivery(delivery) => delivery,
            other => panic!("no delivery: {other:?}"),
        }
    }

    /// Whether nothing comes for this long.
    pub(crate) async fn hears_nothing(&mut self, time: Duration) -> bool {
        self.came.is_empty() && tokio::time::timeout(time, self.hears.message()).await.is_err()
    }

    pub(crate) async fn settle(&mut self, delivery: &v1::Delivery, how: How) -> v1::SettlementResult {
        let settlement = v1::Settlement { delivery_id: delivery.delivery_id.clone(), outcome: Some(how) };
        let settlements = ask::Message::Settlements(ask::Settlements { settlements: vec![settlement] });
        self.says.send(v1::CollectRequest { message: Some(settlements) }).await.unwrap();
        loop {
            match self.hear().await {
                told::Message::Settled(mut settled) => return settled.results.remove(0),
                told::Message::Delivery(delivery) => self.came.push_back(delivery),
                other => panic!("not settled: {other:?}"),
            }
        }
    }
}

pub(crate) fn accepted() -> How {
    How::Accepted(Accepted {})
}

pub(crate) fn id(delivery: &v1::Delivery) -> &str {
    &delivery.message.as_ref().unwrap().message_id
}

pub(crate) fn keyed(id: &str, key: &str) -> v1::SendRequest {
    v1::SendRequest { ordering_key: key.into(), ..message(id) }
}

pub(crate) async fn send(sandbox: &Sandbox, message: v1::SendRequest) -> v1::Receipt {
    soon(client(sandbox, 0, "kela").send(message)).await.unwrap().into_inner().receipt.unwrap()
}

async fn track(sandbox: &Sandbox, partner: &'static str, message_id: &str) -> v1::TrackResponse {
    let request = v1::TrackRequest { sender: "kela".into(), message_id: message_id.into() };
    soon(client(sandbox, 0, partner).track(request)).await.unwrap().into_inner()
}

fn steps(tracked: &v1::TrackResponse) -> Vec<&'static str> {
    tracked.steps.iter().map(|step| step.kind().as_str_name().trim_start_matches("KIND_")).collect()
}

pub(crate) fn reason(status: &tonic::Status) -> Reason {
    airut_wire::reason_of(status).expect("a reason")
}

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_collected_and_settled_and_both_parties_see_it() {
    let sandbox = Sandbox::start().await;
    let receipt = send(&sandbox, message("m-1")).await;
    assert_eq!((receipt.id.as_str(), receipt.recipient.as_str()), ("m-1", "pirkanmaa"));
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let delivery = collector.delivery().await;
    assert_eq!((delivery.attempt, delivery.sender.as_str(), delivery.redriven), (1, "kela", false));
    assert_eq!(delivery.message, Some(message("m-1")));
    assert_eq!(delivery.position, receipt.position);
    assert_eq!(collector.settle(&delivery, accepted()).await.outcome(), v1::settlement_result::Outcome::Accepted);
    // Once more: it is as good as the first.
    assert_eq!(collector.settle(&delivery, accepted()).await.refusal, None);
    for partner in ["kela", "pirkanmaa"] {
        let tracked = track(&sandbox, partner, "m-1").await;
        assert_eq!(tracked.state(), v1::MessageState::Delivered);
        assert_eq!(steps(&tracked), ["ACCEPTED", "OFFERED", "DELIVERED"]);
    }
    let others = v1::TrackRequest { sender: "kela".into(), message_id: "m-1".into() };
    let refused = soon(client(&sandbox, 0, "helsinki").track(others)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(collector.hears_nothing(Duration::from_secs(60)).await);
}

#[tokio::test(start_paused = true)]
async fn the_same_message_again_gets_the_same_receipt_and_another_one_under_its_id_is_refused() {
    let sandbox = Sandbox::start().await;
    let receipt = send(&sandbox, message("m-1")).await;
    let again = send(&sandbox, message("m-1")).await;
    assert_eq!((again.position, again.accept_time), (receipt.position, receipt.accept_time));
    assert_eq!((again.payload_sha256, again.commitment_salt), (receipt.payload_sha256, receipt.commitment_salt));
    // In its own partition and in another one.
    for other in [v1::SendRequest { payload: b"{}".to_vec(), ..message("m-1") }, keyed("m-1", "key")] {
        let refused = soon(client(&sandbox, 0, "kela").send(other)).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::MessageIdReused);
    }
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    collector.delivery().await;
    assert!(collector.hears_nothing(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_its_receipt_though_its_time_is_over_or_the_right_to_send_it_is_gone() {
    let sandbox = Sandbox::start().await;
    let expires = airut_wire::timestamp(sandbox.ground.now() + Duration::from_secs(3));
    let expiring = v1::SendRequest { expire_time: Some(expires), ..message("m-1") };
    let receipts = [send(&sandbox, expiring.clone()).await, send(&sandbox, message("m-2")).await];
    tokio::time::sleep(Duration::from_secs(4)).await;
    let kela = partners().remove(0);
    sandbox.apply(vec![Partner { deliveries: Vec::new(), ..kela }]).await;
    for (request, receipt) in [expiring, message("m-2")].into_iter().zip(receipts) {
        let again = send(&sandbox, request).await;
        assert_eq!((again.position, again.accept_time), (receipt.position, receipt.accept_time));
    }
    let refused = soon(client(&sandbox, 0, "kela").send(message("m-3"))).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::NoContract);
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_told_by_its_field_and_nothing_is_half_accepted() {
    let sandbox = Sandbox::start().await;
    let person = message("m").subject_id;
    let expired = Some(airut_wire::timestamp(sandbox.ground.now()));
    let sent = [
        ("payload", v1::SendRequest { payload: vec![b'1'; 1001], ..message("m-1") }),
        ("content_type", v1::SendRequest { content_type: "text/html".into(), ..message("m-2") }),
        ("subject_id", v1::SendRequest { subject_id: String::new(), ..message("m-3") }),
        ("subject_id", v1::SendRequest { subject_id: "010190-123".into(), ..message("m-4") }),
        ("ordering_key", v1::SendRequest { ordering_key: "k".repeat(200), ..message("m-5") }),
        ("message_id", v1::SendRequest { message_id: format!("m-{person}"), ..message("m-6") }),
        ("message_id", v1::SendRequest { message_id: String::new(), ..message("m-7") }),
        ("expire_time", v1::SendRequest { expire_time: expired, ..message("m-8") }),
        ("context", v1::SendRequest { context: None, ..message("m-9") }),
        ("NO_CONTRACT", v1::SendRequest { message_type: "rumour".into(), ..message("m-10") }),
        ("NO_CONTRACT", v1::SendRequest { recipient: "nobody".into(), ..message("m-11") }),
    ];
    for (fault, request) in sent {
        let refused = soon(client(&sandbox, 0, "kela").send(request)).await.unwrap_err();
        let told = format!("{} {}", reason(&refused).code(), refused.message());
        assert!(told.contains(fault), "{fault}: {told}");
        assert!(!told.contains(&person), "{fault} tells whom it is about");
    }
    for credit in [-1, 65_537, i32::MAX] {
        let (says, said) = mpsc::channel(1);
        let open = ask::Message::Open(ask::Open { credit, ..ask::Open::default() });
        says.send(v1::CollectRequest { message: Some(open) }).await.unwrap();
        let mut hears =
            soon(client(&sandbox, 0, "pirkanmaa").collect(ReceiverStream::new(said))).await.unwrap().into_inner();
        let refused = soon(hears.message()).await.unwrap_err();
        assert!(refused.message().contains("open.credit must be 0 to 65536"), "{refused}");
    }
    for max_messages in [-1, 0, 1001] {
        let pull = v1::PullRequest { max_messages, ..v1::PullRequest::default() };
        let refused = soon(client(&sandbox, 0, "pirkanmaa").pull(pull)).await.unwrap_err();
        assert!(refused.message().contains("max_messages must be 1 to 1000"), "{refused}");
    }
    assert_eq!(sandbox.ground.records(Topic::Messages).len(), 0, "nothing was accepted");
    assert_eq!(sandbox.refusals().len(), 17, "each is on record");
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_key_are_delivered_one_after_the_other() {
    let sandbox = Sandbox::start().await;
    for number in 0..5 {
        send(&sandbox, keyed(&format!("m-{number}"), "case-7")).await;
    }
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 100).await;
    for number in 0..5 {
        let delivery = collector.delivery().await;
        assert_eq!(id(&delivery), format!("m-{number}"));
        assert!(collector.hears_nothing(Duration::from_secs(1)).await, "the next one before this one is settled");
        collector.settle(&delivery, accepted()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_returned_comes_again_and_after_its_attempts_is_a_dead_letter_that_either_may_redrive() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    for attempt in 1..=3 {
        let delivery = collector.delivery().await;
        assert_eq!(delivery.attempt, attempt);
        let delay = Some(prost_types::Duration { seconds: 2, nanos: 0 });
        let returned = collector.settle(&delivery, How::Returned(Returned { delay })).await;
        assert_eq!(returned.refusal, None);
        assert!(collector.hears_nothing(Duration::from_millis(1900)).await, "too early");
    }
    assert!(collector.hears_nothing(Duration::from_secs(60)).await, "there are no more attempts");
    for partner in ["kela", "pirkanmaa"] {
        let mut client = client(&sandbox, 0, partner);
        let listed = soon(client.list_dead_letters(v1::ListDeadLettersRequest::default())).await.unwrap();
        let listed = listed.into_inner().dead_letters;
        assert_eq!(listed.len(), 1, "{partner}");
        assert_eq!((listed[0].message_id.as_str(), listed[0].code.as_str()), ("m-1", "ATTEMPTS_EXHAUSTED"));
    }
    let redrive = v1::RedriveRequest { sender: String::new(), message_ids: vec!["m-1".into(), "m-2".into()] };
    let results = soon(client(&sandbox, 0, "kela").redrive(redrive)).await.unwrap().into_inner().results;
    assert_eq!(results[0].refusal, None);
    assert_eq!(results[1].refusal.as_ref().map(|refusal| refusal.reason.as_str()), Some("NOT_FOUND"));
    let delivery = collector.delivery().await;
    assert!(delivery.redriven);
    collector.settle(&delivery, accepted()).await;
    let tracked = track(&sandbox, "kela", "m-1").await;
    let attempts = ["OFFERED", "RETURNED"].repeat(3);
    assert_eq!(steps(&tracked), [&["ACCEPTED"], attempts.as_slice(), &["REDRIVEN", "OFFERED", "DELIVERED"]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_rejection_reaches_the_sender_with_its_reason() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, keyed("m-1", "key")).await;
    send(&sandbox, keyed("m-2", "key")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let delivery = collector.delivery().await;
    let rejected = Rejected { code: "WRONG_COUNTY".into(), text: "The person lives elsewhere.".into() };
    collector.settle(&delivery, How::Rejected(rejected)).await;
    let tracked = track(&sandbox, "kela", "m-1").await;
    let last = tracked.steps.last().unwrap();
    assert_eq!((last.code.as_str(), last.text.as_str()), ("WRONG_COUNTY", "The person lives elsewhere."));
    assert_eq!(tracked.state(), v1::MessageState::Dead);
    // Its key goes on without it.
    assert_eq!(id(&collector.delivery().await), "m-2");
    // In no header.
    let headers = sandbox.ground.simulation.records();
    assert!(!headers.iter().any(|stored| String::from_utf8_lossy(&stored.header).contains("lives elsewhere")));
}

#[tokio::test(start_paused = true)]
async fn of_a_dead_letter_its_sender_is_told_once_whatever_gateways_come_and_go() {
    let sandbox = Sandbox::with_gateways(2).await;
    send(&sandbox, message("m-1")).await;
    let mut county = Collector::open(&sandbox, 1, "pirkanmaa", 8).await;
    let delivery = county.delivery().await;
    let rejected = Rejected { code: "WRONG_COUNTY".into(), text: "The person lives elsewhere.".into() };
    county.settle(&delivery, How::Rejected(rejected)).await;
    let mut kela = Collector::open(&sandbox, 0, "kela", 8).await;
    let began = tokio::time::Instant::now();
    let notice = kela.delivery().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    let told = notice.message.clone().unwrap();
    assert_eq!((notice.sender.as_str(), told.message_type.as_str()), ("pirkanmaa", "dead-letter-notice"));
    assert_eq!((told.subject_id, told.recipient.as_str()), (message("m-1").subject_id, "kela"));
    let payload: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!((&payload["message_id"], &payload["message_type"]), (&"m-1".into(), &"notice".into()));
    assert_eq!((&payload["code"], &payload["recipient"]), (&"WRONG_COUNTY".into(), &"pirkanmaa".into()));
    assert_eq!(payload["text"], "The person lives elsewhere.");
    // Of a notice that is rejected nobody is told.
    kela.settle(&notice, How::Rejected(Rejected { code: "NOT_NEEDED".into(), text: String::new() })).await;
    let again = sandbox.ground.gateway("gateway-again", airut_exchange::FoldStore::Memory).await.unwrap();
    assert!(kela.hears_nothing(Duration::from_secs(60)).await);
    assert!(county.hears_nothing(Duration::from_secs(60)).await);
    again.stop(Duration::from_secs(1)).await;
    // A redriven message that dies once more is another dead letter.
    let redrive = v1::RedriveRequest { sender: "kela".into(), message_ids: vec!["m-1".into()] };
    soon(client(&sandbox, 0, "kela").redrive(redrive)).await.unwrap();
    let delivery = county.delivery().await;
    county.settle(&delivery, How::Rejected(Rejected { code: "STILL_WRONG".into(), text: String::new() })).await;
    let payload: serde_json::Value = serde_json::from_slice(&kela.delivery().await.message.unwrap().payload).unwrap();
    assert_eq!(payload["code"], "STILL_WRONG");
    assert!(sandbox.refusals().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_a_dead_letter_nobody_is_told_beyond_the_contracts() {
    let sandbox = Sandbox::start().await;
    let to_helsinki = v1::SendRequest { recipient: "helsinki".into(), ..message("m-1") };
    send(&sandbox, to_helsinki).await;
    let mut helsinki = Collector::open(&sandbox, 0, "helsinki", 8).await;
    let mut kela = Collector::open(&sandbox, 0, "kela", 8).await;
    let delivery = helsinki.delivery().await;
    helsinki.settle(&delivery, How::Rejected(Rejected { code: "WRONG".into(), text: String::new() })).await;
    assert!(kela.hears_nothing(Duration::from_secs(60)).await);
    assert!(sandbox.refusals().is_empty(), "nobody has asked for anything");
}

#[tokio::test(start_paused = true)]
async fn an_earlier_settlement_again_is_told_what_it_was_told_first() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let first = collector.delivery().await;
    let returned = || How::Returned(Returned { delay: None });
    assert_eq!(collector.settle(&first, returned()).await.outcome(), v1::settlement_result::Outcome::Returned);
    let second = collector.delivery().await;
    assert_eq!(collector.settle(&first, returned()).await.refusal, None);
    collector.settle(&second, accepted()).await;
    let again = collector.settle(&first, returned()).await;
    assert_eq!((again.outcome(), again.refusal), (v1::settlement_result::Outcome::Returned, None));
    let otherwise = collector.settle(&first, accepted()).await;
    assert_eq!(otherwise.refusal.unwrap().reason, Reason::SettledOtherwise.code());
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_blocking_type_holds_up_its_key_until_it_is_redriven() {
    let sandbox = Sandbox::start().await;
    let blocking = |id: &str| v1::SendRequest { message_type: "blocking-notice".into(), ..keyed(id, "key") };
    send(&sandbox, blocking("m-1")).await;
    send(&sandbox, blocking("m-2")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let delivery = collector.delivery().await;
    collector.settle(&delivery, How::Rejected(Rejected { code: "BROKEN".into(), text: String::new() })).await;
    assert!(collector.hears_nothing(Duration::from_secs(60)).await);
    let redrive = v1::RedriveRequest { sender: "kela".into(), message_ids: vec!["m-1".into()] };
    soon(client(&sandbox, 0, "pirkanmaa").redrive(redrive)).await.unwrap();
    for expected in ["m-1", "m-2"] {
        let delivery = collector.delivery().await;
        assert_eq!(id(&delivery), expected);
        collector.settle(&delivery, accepted()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_dies_or_says_nothing_loses_its_deliveries_to_another() {
    let sandbox = Sandbox::with_gateways(2).await;
    for number in 0..20 {
        send(&sandbox, message(&format!("m-{number}"))).await;
    }
    let mut silent = Collector::open(&sandbox, 0, "pirkanmaa", 100).await;
    for _ in 0..20 {
        assert_eq!(silent.delivery().await.attempt, 1);
    }
    let mut other = Collector::open(&sandbox, 1, "pirkanmaa", 100).await;
    drop(silent);
    for _ in 0..20 {
        let delivery = other.delivery().await;
        assert_eq!(delivery.attempt, 2);
        assert_eq!(other.settle(&delivery, accepted()).await.refusal, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_settlement_counts_until_the_message_is_offered_again() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let first = collector.delivery().await;
    // The lease has ended, and it comes again to the only collector there is.
    let second = collector.delivery().await;
    assert_eq!((id(&second), second.attempt), ("m-1", 2));
    let late = collector.settle(&first, accepted()).await;
    assert_eq!(late.refusal.map(|refusal| refusal.reason), Some("LEASE_LOST".to_owned()));
    assert_eq!(collector.settle(&second, accepted()).await.refusal, None);
    let other = collector.settle(&second, How::Returned(Returned { delay: None })).await;
    assert_eq!(other.outcome(), v1::settlement_result::Outcome::Accepted);
    assert_eq!(other.refusal.map(|refusal| refusal.reason), Some("SETTLED_OTHERWISE".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_time_is_over_is_a_dead_letter() {
    let sandbox = Sandbox::start().await;
    let expires = airut_wire::timestamp(sandbox.ground.now() + Duration::from_secs(3));
    send(&sandbox, v1::SendRequest { expire_time: Some(expires), ..message("m-1") }).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tracked = track(&sandbox, "kela", "m-1").await;
    assert_eq!(steps(&tracked), ["ACCEPTED", "EXPIRED"]);
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    assert!(collector.hears_nothing(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_messages_gets_an_outcome_for_each() {
    let sandbox = Sandbox::start().await;
    let (says, said) = mpsc::channel(64);
    let mut hears =
        soon(client(&sandbox, 0, "kela").send_stream(ReceiverStream::new(said))).await.unwrap().into_inner();
    let mut sent = std::collections::BTreeSet::new();
    for number in 0..100 {
        let id = format!("m-{number}");
        let sending = if number == 50 { v1::SendRequest { payload: Vec::new(), ..message(&id) } } else { message(&id) };
        says.send(v1::SendStreamRequest { message: Some(sending) }).await.unwrap();
        sent.insert(id);
    }
    drop(says);
    while let Some(response) = soon(hears.message()).await.unwrap() {
        assert!(sent.remove(&response.message_id));
        match response.outcome.unwrap() {
            Outcome::Receipt(receipt) => assert_eq!(receipt.id, response.message_id),
            Outcome::Refusal(refusal) => {
                assert_eq!((response.message_id.as_str(), refusal.reason.as_str()), ("m-50", "MISSING_FIELD"));
                assert_eq!(refusal.violations[0].field, "payload");
            }
        }
    }
    assert!(sent.is_empty(), "without an outcome: {sent:?}");
}

#[tokio::test(start_paused = true)]
async fn who_can_not_hold_a_stream_pulls_and_settles() {
    let sandbox = Sandbox::start().await;
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let wait = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let pull = v1::PullRequest { max_messages: 10, wait: wait(1), ..v1::PullRequest::default() };
    assert_eq!(soon(county.pull(pull.clone())).await.unwrap().into_inner().deliveries, []);
    for number in 0..3 {
        send(&sandbox, message(&format!("m-{number}"))).await;
    }
    let deliveries = soon(county.pull(pull.clone())).await.unwrap().into_inner().deliveries;
    assert_eq!(deliveries.len(), 3);
    let settle = |delivery: &v1::Delivery| v1::Settlement {
        delivery_id: delivery.delivery_id.clone(),
        outcome: Some(accepted()),
    };
    let settlements = deliveries.iter().take(2).map(settle).collect();
    let results = soon(county.settle(v1::SettleRequest { settlements })).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.refusal.is_none()), "{results:?}");
    // The third one was not settled.
    let again = v1::PullRequest { wait: wait(30), ..pull };
    let mut deliveries = Vec::new();
    while deliveries.is_empty() {
        deliveries = soon(county.pull(again.clone())).await.unwrap().into_inner().deliveries;
    }
    assert_eq!(deliveries[0].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_waits_for_no_pull_to_have_something() {
    let sandbox = Sandbox::start().await;
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let pull = v1::PullRequest {
        max_messages: 10,
        wait: Some(airut_wire::duration(Duration::from_secs(30))),
        ..v1::PullRequest::default()
    };
    let pulled = tokio::spawn(async move { soon(county.pull(pull)).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let began = tokio::time::Instant::now();
    soon(sandbox.gateways[0].stop(Duration::from_secs(20))).await;
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    assert_eq!(reason(&pulled.await.unwrap().unwrap_err()), Reason::NotServing);
}

#[tokio::test(start_paused = true)]
async fn who_left_while_its_pull_waited_is_given_nothing() {
    let sandbox = Sandbox::start().await;
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let mut leaves = client(&sandbox, 0, "pirkanmaa");
    let pull = v1::PullRequest {
        max_messages: 10,
        wait: Some(airut_wire::duration(Duration::from_secs(30))),
        ..v1::PullRequest::default()
    };
    let left = tokio::time::timeout(Duration::from_millis(100), leaves.pull(pull.clone())).await;
    assert!(left.is_err(), "nothing waits yet");
    send(&sandbox, message("m-1")).await;
    let deliveries = soon(county.pull(pull)).await.unwrap().into_inner().deliveries;
    assert_eq!(deliveries.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_fold_that_was_lost_is_rebuilt_with_the_same_digest() {
    let sandbox = Sandbox::start().await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 4).await;
    for number in 0..30 {
        send(&sandbox, keyed(&format!("m-{number}"), &format!("key-{}", number % 3))).await;
        if number % 2 == 0 {
            let delivery = collector.delivery().await;
            let how = if number % 4 == 0 { accepted() } else { How::Returned(Returned { delay: None }) };
            collector.settle(&delivery, how).await;
        }
    }
    drop(collector);
    tokio::time::sleep(Duration::from_secs(10)).await;
    sandbox.caught_up().await;
    let again = sandbox.ground.gateway("gateway-again", airut_exchange::FoldStore::Memory).await.unwrap();
    crate::support::caught_up(&sandbox.ground.simulation, &again).await;
    sandbox.caught_up().await;
    assert_eq!(again.folds().digest().unwrap(), sandbox.gateways[0].folds().digest().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_on_is_not_settled_by_whoever_did_not_get_it_yet() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let delivery = collector.delivery().await;
    let context = message("m-1").context;
    let delivery_id = delivery.delivery_id.clone();
    let transfer = v1::TransferRequest { delivery_id, recipient: "helsinki".into(), context };
    soon(client(&sandbox, 0, "pirkanmaa").transfer(transfer)).await.unwrap();
    // The delivery was another's, and is nobody's now.
    let settlement = v1::Settlement { delivery_id: delivery.delivery_id.clone(), outcome: Some(accepted()) };
    let settle = v1::SettleRequest { settlements: vec![settlement] };
    let settled = soon(client(&sandbox, 0, "helsinki").settle(settle)).await.unwrap().into_inner();
    assert_eq!(settled.results[0].refusal.as_ref().map(|refusal| refusal.reason.as_str()), Some("LEASE_LOST"));
    let mut helsinki = Collector::open(&sandbox, 0, "helsinki", 8).await;
    assert_eq!((id(&helsinki.delivery().await), delivery.attempt), ("m-1", 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_recorded_after_all_holds_up_its_key_no_more_once_it_is_sent_again() {
    let sandbox = Sandbox::start().await;
    let (says, said) = mpsc::channel(64);
    let mut hears =
        soon(client(&sandbox, 0, "kela").send_stream(ReceiverStream::new(said))).await.unwrap().into_inner();
    let mut stream = async |message: v1::SendRequest| {
        says.send(v1::SendStreamRequest { message: Some(message) }).await.unwrap();
        match soon(hears.message()).await.unwrap().expect("an outcome").outcome.unwrap() {
            Outcome::Receipt(_) => "RECEIPT".to_owned(),
            Outcome::Refusal(refusal) => refusal.reason,
        }
    };
    sandbox.faults(Faults { lose_acknowledgement: 1.0, ..Faults::default() });
    assert_eq!(stream(keyed("m-1", "key")).await, "OUTCOME_UNKNOWN");
    sandbox.faults(Faults::default());
    sandbox.caught_up().await;
    assert_eq!(stream(keyed("m-2", "key")).await, "PREDECESSOR_FAILED");
    for message in [keyed("m-1", "key"), keyed("m-2", "key"), keyed("m-3", "key")] {
        assert_eq!(stream(message).await, "RECEIPT");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_came_before_one_beyond_the_quota_is_recorded_before_it() {
    let sandbox = Sandbox::start().await;
    let quota = Quota { in_flight: Some(1), messages_per_second: None, stored_messages: None, stored_bytes: None };
    let kela = partners().remove(0);
    sandbox.apply(vec![Partner { quota: Some(quota), ..kela }]).await;
    let (says, said) = mpsc::channel(64);
    let mut hears =
        soon(client(&sandbox, 0, "kela").send_stream(ReceiverStream::new(said))).await.unwrap().into_inner();
    for id in ["m-1", "m-2"] {
        says.send(v1::SendStreamRequest { message: Some(keyed(id, "key")) }).await.unwrap();
    }
    let mut outcomes = std::collections::BTreeMap::new();
    for _ in 0..2 {
        let response = soon(hears.message()).await.unwrap().expect("an outcome");
        outcomes.insert(
            response.message_id,
            match response.outcome.unwrap() {
                Outcome::Receipt(_) => "RECEIPT".to_owned(),
                Outcome::Refusal(refusal) => refusal.reason,
            },
        );
    }
    assert_eq!((outcomes["m-1"].as_str(), outcomes["m-2"].as_str()), ("RECEIPT", "QUOTA_EXCEEDED"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_far_beyond_its_quota_is_read_slowly() {
    const MOST: usize = 200;
    let sandbox = Sandbox::start().await;
    let quota = Quota { in_flight: None, messages_per_second: Some(1), stored_messages: None, stored_bytes: None };
    let kela = partners().remove(0);
    sandbox.apply(vec![Partner { quota: Some(quota), ..kela }]).await;
    let (says, said) = mpsc::channel(MOST);
    let mut hears =
        soon(client(&sandbox, 0, "kela").send_stream(ReceiverStream::new(said))).await.unwrap().into_inner();
    let began = tokio::time::Instant::now();
    for number in 0..MOST {
        says.send(v1::SendStreamRequest { message: Some(message(&format!("m-{number}"))) }).await.unwrap();
    }
    let mut refused = 0;
    for _ in 0..MOST {
        let outcome = soon(hears.message()).await.unwrap().expect("an outcome").outcome.unwrap();
        refused += u32::from(matches!(outcome, Outcome::Refusal(_)));
    }
    assert!(refused > 150, "{refused} refused");
    assert!(began.elapsed() >= Duration::from_millis(1) * (refused - 1), "{refused} in {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_two_rejections_in_one_record_the_sender_reads_the_one_that_counted() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let first = collector.delivery().await;
    collector.settle(&first, How::Returned(Returned { delay: None })).await;
    let second = collector.delivery().await;
    let rejected = |delivery: &v1::Delivery, text: &str| v1::Settlement {
        delivery_id: delivery.delivery_id.clone(),
        outcome: Some(How::Rejected(Rejected { code: "BROKEN".into(), text: text.into() })),
    };
    let settle = v1::SettleRequest { settlements: vec![rejected(&first, "too late"), rejected(&second, "counted")] };
    soon(client(&sandbox, 0, "pirkanmaa").settle(settle)).await.unwrap();
    let tracked = track(&sandbox, "kela", "m-1").await;
    assert_eq!(tracked.steps.last().map(|step| step.text.as_str()), Some("counted"));
    let listed = soon(client(&sandbox, 0, "kela").list_dead_letters(v1::ListDeadLettersRequest::default())).await;
    assert_eq!(listed.unwrap().into_inner().dead_letters[0].text, "counted");
}

#[tokio::test(start_paused = true)]
async fn what_was_pulled_is_not_given_to_whoever_was_suspended_meanwhile() {
    let sandbox = Sandbox::with_gateways(2).await;
    send(&sandbox, message("m-1")).await;
    sandbox.caught_up().await;
    sandbox.faults(Faults { acknowledgement_delay: Duration::from_secs(20), ..Faults::default() });
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let pull = v1::PullRequest { max_messages: 10, ..v1::PullRequest::default() };
    let pulled = tokio::spawn(async move { soon(county.pull(pull)).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    sandbox.faults(Faults::default());
    sandbox.apply(vec![suspended("pirkanmaa")]).await;
    assert!(!pulled.is_finished(), "the offer is still being recorded");
    assert_eq!(reason(&pulled.await.unwrap().unwrap_err()), Reason::PartnerSuspended);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_offered_is_not_tried_over_and_over() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(Faults { append_delay: Duration::from_millis(2), ..Faults::default() });
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    send(&sandbox, keyed("m-1", "key")).await;
    let expires = airut_wire::timestamp(sandbox.ground.now() + Duration::from_secs(3));
    send(&sandbox, v1::SendRequest { expire_time: Some(expires), ..keyed("m-2", "key") }).await;
    let delivery = collector.delivery().await;
    tokio::time::sleep(Duration::from_millis(3_010)).await;
    // Now the other one is its key's first. Its time is over, and nobody has said so yet.
    collector.settle(&delivery, accepted()).await;
    assert!(collector.hears_nothing(Duration::from_secs(5)).await);
    let records = sandbox.ground.records(Topic::Messages);
    let offers = records.iter().filter(|(_, header)| matches!(&header.kind, Kind::Message(Event::Offered(_))));
    assert_eq!(offers.count(), 1);
    assert_eq!(steps(&track(&sandbox, "kela", "m-2").await), ["ACCEPTED", "EXPIRED"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_settlements_in_one_record_the_second_is_told_of_the_first() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    let delivery = collector.delivery().await;
    let settlement = |how| v1::Settlement { delivery_id: delivery.delivery_id.clone(), outcome: Some(how) };
    let other = How::Returned(Returned { delay: None });
    let settle =
        v1::SettleRequest { settlements: vec![settlement(accepted()), settlement(accepted()), settlement(other)] };
    let settled = soon(client(&sandbox, 0, "pirkanmaa").settle(settle)).await.unwrap().into_inner();
    let reasons: Vec<_> =
        settled.results.into_iter().map(|result| result.refusal.map(|refusal| refusal.reason)).collect();
    assert_eq!(reasons, [None, None, Some("SETTLED_OTHERWISE".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_offer_whose_outcome_is_unknown_is_given_back_and_not_left_to_its_lease() {
    let sandbox = Sandbox::start().await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 8).await;
    send(&sandbox, keyed("m-1", "key")).await;
    send(&sandbox, keyed("m-2", "key")).await;
    let delivery = collector.delivery().await;
    // From now on everything is recorded, and nobody hears of it.
    sandbox.faults(Faults { lose_acknowledgement: 1.0, ..Faults::default() });
    let settled = collector.settle(&delivery, accepted()).await;
    assert_eq!(settled.refusal.map(|refusal| refusal.reason), Some("OUTCOME_UNKNOWN".to_owned()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(steps(&track(&sandbox, "kela", "m-2").await)[..2], ["ACCEPTED", "OFFERED"]);
    sandbox.faults(Faults::default());
    let delivery = tokio::time::timeout(Duration::from_secs(3), collector.delivery()).await.expect("it is given back");
    assert_eq!(id(&delivery), "m-2");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_may_be_on_record_is_told_as_unknown_and_is_no_refusal() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, message("m-1")).await;
    let mut collector = Collector::open(&sandbox, 0, "pirkanmaa", 1).await;
    let delivery = collector.delivery().await;
    let context = message("m-1").context;
    let transfer =
        v1::TransferRequest { delivery_id: delivery.delivery_id.clone(), recipient: "helsinki".into(), context };
    sandbox.faults(Faults { lose_acknowledgement: 1.0, ..Faults::default() });
    let unknown = soon(client(&sandbox, 0, "pirkanmaa").transfer(transfer)).await.unwrap_err();
    sandbox.faults(Faults::default());
    assert_eq!(reason(&unknown), Reason::OutcomeUnknown);
    sandbox.caught_up().await;
    assert_eq!(sandbox.refusals(), []);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_message_is_not_shown_by_a_registry_that_may_be_out_of_date() {
    let sandbox = crate::rights::with_a_registry_that_is_not_read().await;
    let request = v1::TrackRequest { sender: "kela".into(), message_id: "m-1".into() };
    let refused = soon(client(&sandbox, 1, "pirkanmaa").track(request)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::RegistryStale);
}
