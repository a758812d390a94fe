//! A log that fails.

use std::time::Duration;

use airut_domain::{
    partition::Topic,
    refusal::{Class, Reason},
};
use airut_log::Faults;
use tokio::time::sleep;

use crate::support::{Sandbox, history, request, statement};

const REFUSES: Faults = Faults {
    refuse: 1.0,
    lose_acknowledgement: 0.0,
    lose_record: 0.0,
    fail_read: 0.0,
    append_delay: Duration::ZERO,
    acknowledgement_delay: Duration::ZERO,
    tail_delay: Duration::ZERO,
};

#[tokio::test(start_paused = true)]
async fn a_log_that_can_not_be_written_stops_every_disclosure_until_it_can() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    let answered = sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    sandbox.faults(REFUSES);
    let repeat = sandbox.ask(0, "pirkanmaa", request("q-1")).refusal().await;
    assert_eq!((repeat.reason, repeat.reason.class()), (Reason::LogUnavailable, Class::Unavailable));
    assert!(repeat.retry_after.is_some());
    for (partner, query) in [("pirkanmaa", "q-2"), ("elo", "q-3")] {
        assert_eq!(sandbox.ask(0, partner, request(query)).refusal().await.reason, Reason::LogUnavailable);
    }
    sandbox.faults(Faults::default());
    assert_eq!(statement(&sandbox.ask(0, "pirkanmaa", request("q-1")).response().await), statement(&answered));
    sandbox.ask(0, "pirkanmaa", request("q-2")).response().await;
    assert_eq!(sandbox.ask(0, "elo", request("q-3")).refusal().await.reason, Reason::NoContract);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_can_not_be_recorded_is_not_disclosed() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(3));
    let question = kela.question().await;
    sandbox.faults(REFUSES);
    kela.answer(&question, history()).await;
    assert_eq!(asked.refusal().await.reason, Reason::LogUnavailable);
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked"]);
    sandbox.faults(Faults::default());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(sandbox.story("pirkanmaa", "q-1")[..2], ["asked", "not disclosed (NoAnswer)"]);
}

#[tokio::test(start_paused = true)]
async fn a_question_whose_outcome_is_unknown_is_asked_once() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    sandbox.faults(Faults { lose_acknowledgement: 1.0, ..Faults::default() });
    let unknown = sandbox.ask(0, "pirkanmaa", request("q-1")).refusal().await;
    assert_eq!((unknown.reason, unknown.reason.class()), (Reason::OutcomeUnknown, Class::Unavailable));
    assert!(unknown.retry_after.is_some());
    sandbox.faults(Faults::default());
    sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    let story = sandbox.story("pirkanmaa", "q-1");
    assert_eq!(story, ["asked", "answered", "repeated"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_outcome_is_unknown_is_disclosed_once_it_is_read() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    sandbox.faults(Faults { lose_acknowledgement: 1.0, ..Faults::default() });
    kela.answer(&question, history()).await;
    asked.response().await;
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_never_comes_in_discloses_nothing_and_the_id_serves_again() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    sandbox.faults(Faults { lose_record: 1.0, ..Faults::default() });
    assert_eq!(sandbox.ask(0, "pirkanmaa", request("q-1")).refusal().await.reason, Reason::OutcomeUnknown);
    assert!(sandbox.ground.records(Topic::Queries).is_empty());
    sandbox.faults(Faults::default());
    sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_can_not_be_read_for_a_while_is_read_when_it_can() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    sandbox.faults(Faults { fail_read: 1.0, ..Faults::default() });
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    sleep(Duration::from_secs(3)).await;
    sandbox.faults(Faults::default());
    asked.response().await;
}
