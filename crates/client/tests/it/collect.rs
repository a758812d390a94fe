//! Collecting messages over streams that are lost.

use std::time::Duration;

use airut_client::{CollectError, Collected, Collector, CollectorSettings, SettleError};
use airut_domain::refusal::{Reason, Refusal};
use airut_wire::v1::{
    self, CollectResponse, SendRequest, Settlement, SettlementResult, collect_request as from, collect_response as to,
    settlement::{Accepted, Outcome, Rejected, Returned},
};
use tokio_util::sync::CancellationToken;

use crate::exchange::{Collecting, Exchange};

/// Long enough for whatever would happen to happen; time is paused.
const A_WHILE: Duration = Duration::from_secs(5);

fn collector(exchange: &Exchange, credit: u32) -> Collector {
    let settings = CollectorSettings { credit, ..CollectorSettings::default() };
    exchange.client().collector(settings, &CancellationToken::new())
}

async fn tell(stream: &Collecting, message: to::Message) {
    stream.outbound.send(Ok(CollectResponse { message: Some(message) })).await.unwrap();
}

async fn hear(stream: &mut Collecting) -> from::Message {
    let heard = tokio::time::timeout(A_WHILE, stream.inbound.message()).await.expect("it says something");
    heard.unwrap().expect("the stream is open").message.unwrap()
}

/// Waits for a stream and lets it be open; gives its credit as well.
async fn open(exchange: &mut Exchange) -> (Collecting, i32) {
    let mut stream = exchange.collecting.recv().await.unwrap();
    let from::Message::Open(open) = hear(&mut stream).await else { panic!("it opens first") };
    tell(&stream, to::Message::Opened(to::Opened { stream_id: "gateway-1/1".into() })).await;
    (stream, open.credit)
}

async fn deliver(stream: &Collecting, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        let message = Some(SendRequest { message_id: format!("m-{id}"), ..SendRequest::default() });
        let delivery = v1::Delivery { delivery_id: id, attempt: 1, message, ..v1::Delivery::default() };
        tell(stream, to::Message::Delivery(delivery)).await;
    }
}

async fn settlements(stream: &mut Collecting) -> Vec<Settlement> {
    match hear(stream).await {
        from::Message::Settlements(settlements) => settlements.settlements,
        other @ (from::Message::Open(_) | from::Message::Credit(_) | from::Message::Extension(_)) => {
            panic!("no settlements: {other:?}")
        }
    }
}

async fn credit(stream: &mut Collecting) -> i32 {
    match hear(stream).await {
        from::Message::Credit(credit) => credit.credit,
        other @ (from::Message::Open(_) | from::Message::Settlements(_) | from::Message::Extension(_)) => {
            panic!("no credit: {other:?}")
        }
    }
}

async fn confirm(stream: &Collecting, settlements: &[Settlement], refused: Option<Reason>) {
    let refusal = refused.map(|reason| airut_wire::refusal(&Refusal::new(reason)));
    let result = |settlement: &Settlement| SettlementResult {
        delivery_id: settlement.delivery_id.clone(),
        outcome: if refused.is_some() { 0 } else { 1 },
        refusal: refusal.clone(),
    };
    tell(stream, to::Message::Settled(to::Settled { results: settlements.iter().map(result).collect() })).await;
}

async fn take(collector: &mut Collector) -> Collected {
    tokio::time::timeout(A_WHILE, collector.next()).await.expect("it has one").expect("it goes on")
}

fn ids(settlements: &[Settlement]) -> Vec<&str> {
    let mut ids: Vec<&str> = settlements.iter().map(|settlement| settlement.delivery_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(start_paused = true)]
async fn settlements_that_were_not_confirmed_are_said_again_over_the_next_stream() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 8);
    let (mut stream, credit) = open(&mut exchange).await;
    assert_eq!(credit, 8);
    deliver(&stream, ["1".into(), "2".into(), "3".into()]).await;
    let (first, second, third) = (take(&mut collector).await, take(&mut collector).await, take(&mut collector).await);
    assert_eq!(first.delivery.message.unwrap().message_id, "m-1");
    let first = first.lease.accept();
    let second = second.lease.return_after(Some(Duration::from_secs(9)));
    let said = settlements(&mut stream).await;
    assert_eq!(ids(&said), ["1", "2"]);
    exchange.cut();
    // While no stream is open.
    let third = third.lease.reject("WRONG_COUNTY", "not here");

    let (mut stream, _) = open(&mut exchange).await;
    let mut said = Vec::new();
    while said.len() < 3 {
        said.extend(settlements(&mut stream).await);
    }
    assert_eq!(ids(&said), ["1", "2", "3"]);
    let of = |id: &str| said.iter().find(|one| one.delivery_id == id).unwrap().outcome.clone().unwrap();
    assert_eq!(of("1"), Outcome::Accepted(Accepted {}));
    let delay = Some(airut_wire::duration(Duration::from_secs(9)));
    assert_eq!(of("2"), Outcome::Returned(Returned { delay }));
    assert_eq!(of("3"), Outcome::Rejected(Rejected { code: "WRONG_COUNTY".into(), text: "not here".into() }));
    confirm(&stream, &said, None).await;
    assert_eq!((first.await, second.await, third.await), (Ok(()), Ok(()), Ok(())));
    assert_eq!(collector.close().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_when_a_stream_is_lost_counts_against_the_credit_of_the_next() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 3);
    let (stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into(), "2".into(), "3".into()]).await;
    let (first, second) = (take(&mut collector).await, take(&mut collector).await);
    exchange.cut();
    let (mut stream, opened_with) = open(&mut exchange).await;
    assert_eq!(opened_with, 1);
    // Nobody took the third, and the exchange gives it to somebody else.
    assert!(tokio::time::timeout(A_WHILE, collector.next()).await.is_err());

    drop(first.lease.accept());
    let said = settlements(&mut stream).await;
    confirm(&stream, &said, None).await;
    assert_eq!(credit(&mut stream).await, 2);
    let second = second.lease.accept();
    let said = settlements(&mut stream).await;
    confirm(&stream, &said, Some(Reason::LeaseLost)).await;
    assert_eq!(credit(&mut stream).await, 3);
    assert_eq!(second.await.unwrap_err().reason(), Some(Reason::LeaseLost));
}

#[tokio::test(start_paused = true)]
async fn every_stream_is_opened_for_the_same_types() {
    let mut exchange = Exchange::start();
    let message_types = vec!["social-work-need".to_owned(), "reduced-basic-amount".to_owned()];
    let settings = CollectorSettings { message_types: message_types.clone(), ..CollectorSettings::default() };
    let _collector = exchange.client().collector(settings, &CancellationToken::new());
    for _ in 0..3 {
        let mut stream = exchange.collecting.recv().await.unwrap();
        let from::Message::Open(open) = hear(&mut stream).await else { panic!("it opens first") };
        assert_eq!(open.message_types, message_types);
        tell(&stream, to::Message::Opened(to::Opened { stream_id: "gateway-1/1".into() })).await;
        exchange.cut();
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_could_not_be_recorded_is_said_again_after_a_while() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 3);
    let (mut stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into()]).await;
    let settling = take(&mut collector).await.lease.accept();
    let said = settlements(&mut stream).await;
    let start = tokio::time::Instant::now();
    confirm(&stream, &said, Some(Reason::LogUnavailable)).await;
    let again = settlements(&mut stream).await;
    assert!(start.elapsed() >= Reason::LogUnavailable.retry_after().unwrap());
    assert_eq!(again, said);
    confirm(&stream, &again, None).await;
    assert_eq!(settling.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn many_settlements_travel_in_few_messages() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 5000);
    let (mut stream, _) = open(&mut exchange).await;
    deliver(&stream, (0..5000).map(|number| number.to_string())).await;
    for _ in 0..5000 {
        drop(take(&mut collector).await.lease.accept());
    }
    let (mut settled, mut messages) = (0, 0);
    while settled < 5000 {
        let said = settlements(&mut stream).await;
        confirm(&stream, &said, None).await;
        settled += said.len();
        messages += 1;
    }
    assert!(messages <= 100, "{messages} messages");
    assert_eq!(collector.close().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_is_returned() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 3);
    let (mut stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into()]).await;
    drop(take(&mut collector).await);
    let said = settlements(&mut stream).await;
    assert_eq!(said[0].outcome, Some(Outcome::Returned(Returned { delay: None })));
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_on_is_not_settled_and_gives_its_credit_back() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 2);
    let (stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into(), "2".into()]).await;
    let (first, second) = (take(&mut collector).await, take(&mut collector).await);
    exchange.cut();
    let (mut stream, opened_with) = open(&mut exchange).await;
    assert_eq!(opened_with, 0);
    first.lease.passed_on();
    assert_eq!(credit(&mut stream).await, 1);
    let second = second.lease.accept();
    let said = settlements(&mut stream).await;
    assert_eq!(ids(&said), ["2"]);
    confirm(&stream, &said, None).await;
    assert_eq!(second.await, Ok(()));
    assert_eq!(collector.close().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_and_told_when_it_can_not_be() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 3);
    let (mut stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into()]).await;
    let lease = take(&mut collector).await.lease;
    let mut answer = async |refused: Option<Reason>| {
        let from::Message::Extension(extension) = hear(&mut stream).await else { panic!("no extension") };
        assert_eq!(extension.lease, Some(airut_wire::duration(Duration::from_secs(60))));
        let refusal = refused.map(|reason| airut_wire::refusal(&Refusal::new(reason)));
        let result = v1::ExtensionResult { delivery_id: "1".into(), lease_expire_time: None, refusal };
        tell(&stream, to::Message::Extended(to::Extended { results: vec![result] })).await;
    };
    let extend = || lease.extend(Duration::from_secs(60));
    assert_eq!(tokio::join!(extend(), answer(None)).0, Ok(()));
    let refused = tokio::join!(extend(), answer(Some(Reason::LeaseLost))).0;
    assert_eq!(refused.unwrap_err().reason(), Some(Reason::LeaseLost));
    // With the stream goes the knowledge.
    let (extended, ()) = tokio::join!(extend(), async {
        hear(&mut stream).await;
        exchange.cut();
    });
    assert_eq!(extended, Err(SettleError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_stops_takes_no_more_and_settles_what_is_in_hand() {
    let mut exchange = Exchange::start();
    let stop = CancellationToken::new();
    let mut collector = exchange.client().collector(CollectorSettings::default(), &stop);
    let (mut stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into(), "2".into()]).await;
    let first = take(&mut collector).await;
    stop.cancel();
    assert!(tokio::time::timeout(A_WHILE, collector.next()).await.unwrap().is_none());
    assert_eq!(credit(&mut stream).await, 0);
    let mut closing = tokio::spawn(collector.close());
    assert!(tokio::time::timeout(A_WHILE, &mut closing).await.is_err(), "closed with a delivery in hand");
    drop(first.lease.accept());
    let said = settlements(&mut stream).await;
    // The one that nobody took is given back with the stream.
    assert_eq!(ids(&said), ["1"]);
    confirm(&stream, &said, None).await;
    assert_eq!(stream.inbound.message().await.unwrap(), None);
    drop(stream);
    assert_eq!(closing.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_stops_while_the_exchange_is_away_says_what_it_could_not_see_to() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 8);
    let (stream, _) = open(&mut exchange).await;
    deliver(&stream, ["1".into(), "2".into()]).await;
    let (first, _second) = (take(&mut collector).await, take(&mut collector).await);
    exchange.cut();
    let settling = first.lease.accept();
    let start = tokio::time::Instant::now();
    assert_eq!(collector.close().await, Err(CollectError::Unfinished { unsettled: 1, unconfirmed: 1 }));
    assert!(start.elapsed() <= CollectorSettings::default().stop_within + A_WHILE);
    assert_eq!(settling.await, Err(SettleError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_collector_with_bounded_patience_gives_up_when_it_is_refused() {
    let mut exchange = Exchange::start();
    let settings = CollectorSettings { patience: Some(Duration::from_secs(600)), ..CollectorSettings::default() };
    let mut collector = exchange.client().collector(settings, &CancellationToken::new());
    let stream = exchange.collecting.recv().await.unwrap();
    let refused = airut_wire::status(&Refusal::new(Reason::PartnerSuspended), "request-7");
    stream.outbound.send(Err(refused)).await.unwrap();
    assert!(tokio::time::timeout(A_WHILE, collector.next()).await.unwrap().is_none());
    let Err(CollectError::GaveUp(fault)) = collector.close().await else { panic!("it gave up") };
    assert_eq!(fault.reason(), Some(Reason::PartnerSuspended));
}

#[tokio::test(start_paused = true)]
async fn deliveries_beyond_the_credit_do_not_pile_up() {
    let mut exchange = Exchange::start();
    let mut collector = collector(&exchange, 2);
    let (stream, _) = open(&mut exchange).await;
    // Their leases ended, so that the exchange offers more.
    deliver(&stream, (0..100).map(|number| number.to_string())).await;
    tokio::time::sleep(A_WHILE).await;
    let mut waiting = Vec::new();
    while let Some(collected) = collector.try_next() {
        waiting.push(collected.delivery.delivery_id.clone());
    }
    assert_eq!(waiting, ["98", "99"]);
}
