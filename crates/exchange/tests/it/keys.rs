//! Bodies and their keys: what a gateway does without its key store, and after a key was erased.

use std::{sync::Arc, time::Duration};

use airut_domain::{
    id::KeyId,
    partition::Topic,
    record::Kind,
    refusal::Reason,
    time::{Date, Timestamp},
};
use airut_exchange::{FoldStore, Retention, World, delivery_service};
use airut_log::Clock;
use airut_store::{EraseOutcome, Family, KEPT_FOR, KeyError, key_id};
use airut_wire::v1::{
    self,
    delivery_service_client::DeliveryServiceClient,
    delivery_service_server::{DeliveryService, DeliveryServiceServer},
};
use tokio::time::advance;

use crate::{
    edge::identified,
    support::{Ground, Sandbox, message, request, soon},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn client(
    sandbox: &Sandbox,
    partner: &'static str,
) -> DeliveryServiceClient<DeliveryServiceServer<impl DeliveryService>> {
    let caller_of: airut_exchange::CallerOf = Arc::new(move |_, registry| identified(registry, partner));
    DeliveryServiceClient::new(delivery_service(sandbox.gateways[0].clone(), caller_of))
}

async fn send(sandbox: &Sandbox, id: &str) -> Result<v1::Receipt, Reason> {
    let sent = soon(client(sandbox, "kela").send(message(id))).await;
    let sent = sent.map_err(|status| airut_wire::reason_of(&status).expect("a reason"))?;
    Ok(sent.into_inner().receipt.unwrap())
}

/// What `pirkanmaa` pulls, waiting for it for a while.
async fn pull(sandbox: &Sandbox) -> Vec<v1::Delivery> {
    let request = v1::PullRequest {
        max_messages: 16,
        wait: Some(airut_wire::duration(Duration::from_secs(5))),
        ..v1::PullRequest::default()
    };
    soon(client(sandbox, "pirkanmaa").pull(request)).await.unwrap().into_inner().deliveries
}

fn ids(deliveries: &[v1::Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.as_ref().unwrap().message_id.as_str()).collect()
}

/// How many records of this name the log has.
fn count(ground: &Ground, topic: Topic, name: &str) -> usize {
    ground.records(topic).iter().filter(|(_, header)| header.kind.name() == name).count()
}

fn day(ground: &Ground) -> Date {
    ground.now().date()
}

fn messages_of(day: Date) -> KeyId {
    key_id(Family::Message, day, &"pirkanmaa".parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn without_the_key_store_nothing_is_written_and_all_goes_on_once_it_is_back() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    sandbox.ground.memory.go_down();
    assert_eq!(send(&sandbox, "m-1").await.unwrap_err(), Reason::LogUnavailable);
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    assert_eq!(asked.refusal().await.reason, Reason::LogUnavailable);
    assert_eq!(count(&sandbox.ground, Topic::Messages, "messages accepted"), 0);
    assert_eq!(count(&sandbox.ground, Topic::Queries, "query asked"), 0);
    sandbox.ground.memory.come_up();
    send(&sandbox, "m-1").await.unwrap();
    sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    assert_eq!(ids(&pull(&sandbox).await), ["m-1"]);
}

#[tokio::test(start_paused = true)]
async fn messages_wait_while_their_key_can_not_be_had_and_are_not_offered_in_vain() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, "m-1").await.unwrap();
    sandbox.ground.memory.go_down();
    pass(&sandbox, KEPT_FOR).await;
    for _ in 0..10 {
        assert_eq!(pull(&sandbox).await, []);
    }
    assert_eq!(count(&sandbox.ground, Topic::Messages, "messages offered"), 0);
    sandbox.ground.memory.come_up();
    assert_eq!(ids(&pull(&sandbox).await), ["m-1"]);
    assert_eq!(count(&sandbox.ground, Topic::Messages, "leases ended"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_gateway_stops_opening_with_a_key_that_was_erased_elsewhere() {
    let sandbox = Sandbox::start().await;
    let first_day = day(&sandbox.ground);
    send(&sandbox, "erased").await.unwrap();
    // Past midnight.
    pass(&sandbox, Duration::from_secs(17 * 60 * 60)).await;
    send(&sandbox, "kept").await.unwrap();
    let elsewhere = sandbox.ground.keys(sandbox.ground.clock.clone());
    assert_eq!(elsewhere.erase(&messages_of(first_day)).await.unwrap(), EraseOutcome::Erased);
    pass(&sandbox, KEPT_FOR).await;
    assert_eq!(ids(&pull(&sandbox).await), ["kept"]);
    // The one that nobody can read stays where it is, and both parties see it.
    let track = v1::TrackRequest { sender: "kela".into(), message_id: "erased".into() };
    let tracked = soon(client(&sandbox, "pirkanmaa").track(track)).await.unwrap().into_inner();
    assert_eq!(tracked.state(), v1::MessageState::Waiting);
}

#[tokio::test(start_paused = true)]
async fn keys_are_erased_when_nothing_they_open_may_be_disclosed_any_more() {
    let sandbox = Sandbox::start().await;
    let (gateway, keys) = (&sandbox.gateways[0], sandbox.ground.keys(sandbox.ground.clock.clone()));
    let first_day = day(&sandbox.ground);
    send(&sandbox, "m-1").await.unwrap();
    sandbox.responder(0, 8).await.keeps_answering();
    sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    let answer = key_id(Family::Query, first_day, &"pirkanmaa".parse().unwrap());
    let retention = Retention::default();

    pass(&sandbox, DAY * u32::from(retention.query_days)).await;
    assert_eq!(gateway.erase_old_keys(retention).await.unwrap(), 0, "the day before they are due");
    pass(&sandbox, DAY).await;
    assert_eq!(gateway.erase_old_keys(retention).await.unwrap(), 2, "the question's key and the answer's");
    assert_eq!(keys.key(&answer).await.unwrap_err(), KeyError::Erased(answer.clone()));
    keys.key(&messages_of(first_day)).await.unwrap();

    pass(&sandbox, DAY * u32::from(retention.message_days - retention.query_days)).await;
    assert_eq!(gateway.erase_old_keys(retention).await.unwrap(), 1);
    pass(&sandbox, KEPT_FOR).await;
    let erased = keys.key(&messages_of(first_day)).await.unwrap_err();
    assert_eq!(erased, KeyError::Erased(messages_of(first_day)));
}

/// Lets time pass, and the gateway see that it has.
async fn pass(sandbox: &Sandbox, time: Duration) {
    advance(time).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    sandbox.caught_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_clock_is_far_ahead_erases_nothing() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, "m-1").await.unwrap();
    let ground = &sandbox.ground;
    let right = ground.clock.clone();
    let ahead = Clock::new(move || Timestamp::from_millis(right.now().as_millis()) + 400 * DAY);
    let world = World::new(ahead, ground.random.clone(), |task| drop(tokio::spawn(task)));
    let wrong = soon(airut_exchange::Gateway::start(ground.settings("wrong", FoldStore::Memory, world))).await.unwrap();
    assert_eq!(wrong.erase_old_keys(Retention::default()).await.unwrap(), 0);
    assert_eq!(ids(&pull(&sandbox).await), ["m-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_was_redriven_as_late_as_may_be_is_still_opened() {
    let sandbox = Sandbox::start().await;
    send(&sandbox, "m-1").await.unwrap();
    let gateway = &sandbox.gateways[0];
    let mut passed = Duration::ZERO;
    // It expires; on the last day it is redriven, and collected.
    while passed < 20 * DAY + DAY / 2 {
        pass(&sandbox, DAY / 2).await;
        passed += DAY / 2;
        gateway.erase_old_keys(Retention::LEAST).await.unwrap();
    }
    let redrive = v1::RedriveRequest { sender: "kela".into(), message_ids: vec!["m-1".into()] };
    let redriven = soon(client(&sandbox, "kela").redrive(redrive)).await.unwrap().into_inner();
    assert_eq!(redriven.results[0].refusal, None);
    assert_eq!(ids(&pull(&sandbox).await), ["m-1"]);
    let accepted = sandbox.ground.records(Topic::Messages).into_iter().filter(|(_, header)| {
        matches!(&header.kind, Kind::Message(airut_domain::message::Event::Accepted(accepted)) if accepted.sender.as_str() == "kela")
    });
    assert_eq!(accepted.count(), 1);
}
