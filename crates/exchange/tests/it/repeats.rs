//! The same id again.

use std::time::Duration;

use airut_domain::{
    query::{REMEMBERED, SERVED},
    refusal::{Class, Reason},
};
use airut_wire::v1;
use tokio::time::{advance, sleep};

use crate::support::{Sandbox, history, matter_ids, request, statement};

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_same_answer_and_statement_and_is_recorded() {
    let sandbox = Sandbox::with_gateways(2).await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    kela.answer(&question, history()).await;
    let first = asked.response().await;
    sleep(SERVED - Duration::from_secs(2)).await;
    let second = sandbox.ask(1, "pirkanmaa", request("q-1")).response().await;
    assert_eq!(statement(&second), statement(&first));
    assert_eq!((second.matters, second.withheld), (first.matters, first.withheld));
    assert!(kela.hears_nothing(Duration::from_secs(1)).await, "the responder is not asked again");
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered", "repeated"]);
}

#[tokio::test(start_paused = true)]
async fn callers_of_the_same_open_query_share_its_answer() {
    let sandbox = Sandbox::with_gateways(2).await;
    let mut kela = sandbox.responder(0, 8).await;
    let first = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    let second = sandbox.ask(1, "pirkanmaa", request("q-1"));
    let third = sandbox.ask(0, "pirkanmaa", request("q-1"));
    sleep(Duration::from_millis(100)).await;
    kela.answer(&question, history()).await;
    let given = [first.response().await, second.response().await, third.response().await];
    assert!(given.iter().all(|response| statement(response) == statement(&given[0])));
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered", "repeated", "repeated"]);
}

#[tokio::test(start_paused = true)]
async fn two_that_ask_the_same_at_once_are_put_as_one_question() {
    let sandbox = Sandbox::with_gateways(2).await;
    sandbox.responder(0, 8).await.keeps_answering();
    let (first, second) = (sandbox.ask(0, "pirkanmaa", request("q-1")), sandbox.ask(1, "pirkanmaa", request("q-1")));
    assert_eq!(statement(&first.response().await), statement(&second.response().await));
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "asked: void, AskedBefore", "answered", "repeated"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_other_content_or_context_is_refused() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    let other_content = || v1::QueryBenefitsRequest { categories: vec![2], ..request("q-1") };
    let other_context = || {
        let context = v1::Context { case_id: "case-2".into(), ..request("q-1").context.unwrap() };
        v1::QueryBenefitsRequest { context: Some(context), ..request("q-1") }
    };
    let while_open = sandbox.ask(0, "pirkanmaa", other_content()).refusal().await;
    assert_eq!((while_open.reason, while_open.reason.class()), (Reason::QueryIdReused, Class::AlreadyExists));
    kela.answer(&question, history()).await;
    asked.response().await;
    assert_eq!(sandbox.ask(0, "pirkanmaa", other_context()).refusal().await.reason, Reason::QueryIdReused);
    assert_eq!(sandbox.refusals().len(), 2);
    let other_partner = sandbox.ask(0, "helsinki", other_content());
    let question = kela.question().await;
    kela.answer(&question, history()).await;
    assert_eq!(matter_ids(&other_partner.response().await), ["granted-1"], "ids are each partner's own");
}

#[tokio::test(start_paused = true)]
async fn an_id_is_spent_after_ten_minutes_and_forgotten_after_seven_days() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    let first = sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    advance(SERVED + Duration::from_secs(1)).await;
    sandbox.caught_up().await;
    let spent = sandbox.ask(0, "pirkanmaa", request("q-1")).refusal().await;
    assert_eq!((spent.reason, spent.reason.class()), (Reason::QueryIdSpent, Class::FailedPrecondition));
    advance(REMEMBERED).await;
    sleep(Duration::from_secs(5)).await;
    let anew = sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    assert_ne!(statement(&anew), statement(&first));
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered", "asked", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_id_may_be_asked_again() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(1));
    kela.question().await;
    assert_eq!(asked.refusal().await.reason, Reason::NoAnswerInTime);
    let again = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    kela.answer(&question, history()).await;
    assert_eq!(matter_ids(&again.response().await), ["granted-1", "granted-2"]);
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "not disclosed (NoAnswer)", "asked", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_an_earlier_asking_is_not_taken_for_a_later_one() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_millis(500));
    let early = kela.question().await;
    assert_eq!(asked.refusal().await.reason, Reason::NoAnswerInTime);
    let again = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let later = kela.question().await;
    // Within the second in which the exchange still knows the earlier question.
    kela.answer(&early, vec![]).await;
    sleep(Duration::from_millis(100)).await;
    kela.answer(&later, history()).await;
    assert_eq!(matter_ids(&again.response().await), ["granted-1", "granted-2"]);
    assert_eq!(
        sandbox.story("pirkanmaa", "q-1"),
        ["asked", "not disclosed (NoAnswer)", "asked", "answered: void, NotOpen", "answered"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_answer_an_earlier_asking_does_not_end_a_later_one() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_millis(500));
    let early = kela.question().await;
    asked.refusal().await;
    let again = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let later = kela.question().await;
    kela.fail(&early).await;
    sleep(Duration::from_millis(100)).await;
    kela.answer(&later, history()).await;
    again.response().await;
}
