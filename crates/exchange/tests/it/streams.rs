//! Responders' streams: which one is asked, and what becomes of a question when it does not answer.

use std::time::Duration;

use airut_domain::{
    id::StreamId,
    member::{Event, SILENCE},
    partition::{Partition, Topic},
    record::Kind,
    refusal::{Class, Reason},
};
use airut_log::Faults;
use airut_wire::v1::{serve_request, serve_response};
use tokio::time::{sleep, timeout};

use crate::support::{Responder, Sandbox, history, matter_ids, request, suspended};

#[tokio::test(start_paused = true)]
async fn a_query_asked_at_one_gateway_is_answered_through_anothers_stream() {
    let sandbox = Sandbox::with_gateways(2).await;
    sandbox.responder(1, 8).await.keeps_answering();
    let response = sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    assert_eq!(matter_ids(&response), ["granted-1", "granted-2"]);
    sandbox.verify(&response, "gateway-0");
}

/// Two streams and a question put to one of them: the stream that has it, the other, and the question.
async fn asked_of_one_of_two(
    sandbox: &Sandbox,
    query_id: &str,
) -> (crate::support::Asked, Responder, Responder, serve_response::Question) {
    let (mut one, mut other) = (sandbox.responder(0, 8).await, sandbox.responder(0, 8).await);
    let asked = sandbox.ask(0, "pirkanmaa", request(query_id));
    match timeout(Duration::from_millis(200), one.question()).await {
        Ok(question) => (asked, one, other, question),
        Err(_) => {
            let question = other.question().await;
            (asked, other, one, question)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_closes_is_replaced_at_once() {
    let sandbox = Sandbox::start().await;
    let (asked, leaving, mut staying, _) = asked_of_one_of_two(&sandbox, "q-1").await;
    drop(leaving);
    let question = timeout(Duration::from_millis(500), staying.question()).await.expect("at once");
    staying.answer(&question, history()).await;
    asked.response().await;
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "rerouted", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_replaced_after_a_while_and_not_heard_any_more() {
    let sandbox = Sandbox::start().await;
    let (asked, silent, mut other, question) = asked_of_one_of_two(&sandbox, "q-1").await;
    let again = other.question().await;
    assert_eq!(again.question_id, question.question_id);
    silent.fail(&question).await;
    silent.answer(&question, vec![]).await;
    sleep(Duration::from_millis(100)).await;
    other.answer(&again, history()).await;
    assert_eq!(matter_ids(&asked.response().await), ["granted-1", "granted-2"]);
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "rerouted", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_responder_with_two_streams_is_not_asked_in_circles() {
    let sandbox = Sandbox::start().await;
    let (asked, _first, mut second, _) = asked_of_one_of_two(&sandbox, "q-1").await;
    let question = second.question().await;
    // Longer than a stream is waited for: but there is no third one to turn to.
    sleep(Duration::from_millis(5500)).await;
    second.answer(&question, history()).await;
    asked.response().await;
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "rerouted", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_slow_to_be_put_elsewhere_does_not_hold_up_its_answer() {
    let sandbox = Sandbox::start().await;
    let began = sandbox.ground.now();
    let (asked, _first, mut second, _) = asked_of_one_of_two(&sandbox, "q-1").await;
    sleep(Duration::from_millis(1500)).await;
    // The question is put to the other stream, and whoever put it there is told so only much later.
    sandbox.faults(Faults { acknowledgement_delay: Duration::from_secs(600), ..Faults::default() });
    sleep(Duration::from_secs(1)).await;
    sandbox.faults(Faults::default());
    let question = second.question().await;
    second.answer(&question, history()).await;
    asked.response().await;
    assert!(sandbox.ground.now().since(began) < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn streams_that_died_with_their_gateway_are_passed_over_one_after_the_other() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    // Three streams of a gateway that has just died without a word, which nobody has missed yet.
    let dead = sandbox.ground.writer("gateway-dead");
    for number in 0..3 {
        let opened = airut_domain::member::StreamOpened {
            stream: format!("gateway-dead/{number}").parse().unwrap(),
            holder: "gateway-dead".parse().unwrap(),
            kind: airut_domain::member::StreamKind::Answers,
            partner: "kela".parse().unwrap(),
            types: airut_domain::member::Types::All,
        };
        dead.append(Partition::only(Topic::Members), Event::StreamOpened(opened), None, "").await.unwrap();
    }
    sandbox.caught_up().await;
    for number in 0..8 {
        sandbox.ask(0, "pirkanmaa", request(&format!("q-{number}"))).response().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_responder_that_connects_in_time_is_asked_what_nobody_could_answer() {
    let sandbox = Sandbox::start().await;
    let leaving = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    sleep(Duration::from_millis(100)).await;
    drop(leaving);
    sleep(Duration::from_secs(1)).await;
    sandbox.responder(0, 8).await.keeps_answering();
    asked.response().await;
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "rerouted", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_responder_never_has_more_questions_than_it_asked_for() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 2).await;
    let asked: Vec<_> = (0..5).map(|i| sandbox.ask(0, "pirkanmaa", request(&format!("q-{i}")))).collect();
    let mut waiting = vec![kela.question().await, kela.question().await];
    for _ in 2..5 {
        assert!(kela.hears_nothing(Duration::from_secs(1)).await, "two are waiting already");
        kela.answer(&waiting.remove(0), history()).await;
        waiting.push(kela.question().await);
    }
    for question in waiting {
        kela.answer(&question, history()).await;
    }
    for asked in asked {
        asked.response().await;
    }
}

#[tokio::test(start_paused = true)]
async fn questions_whose_time_is_up_give_their_place_free() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 1).await;
    let silent = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(1));
    kela.question().await;
    assert_eq!(silent.refusal().await.reason, Reason::NoAnswerInTime);
    let asked = sandbox.ask(0, "pirkanmaa", request("q-2"));
    let question = kela.question().await;
    kela.answer(&question, history()).await;
    asked.response().await;
}

#[tokio::test(start_paused = true)]
async fn a_responder_that_does_not_listen_for_a_while_is_still_heard() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 200).await;
    let ask = |i: usize| sandbox.ask(0, "pirkanmaa", request(&format!("q-{i}")));
    let asked: Vec<_> = (0..150).map(ask).collect();
    let mut questions = Vec::new();
    for _ in 0..70 {
        questions.push(kela.question().await);
    }
    // It answers all it has before it takes the next question: more answers than wait anywhere on the way.
    sleep(Duration::from_millis(100)).await;
    for question in &questions {
        kela.answer(question, history()).await;
    }
    kela.keeps_answering();
    for asked in asked {
        asked.response().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_for_no_contract_is_refused_and_recorded() {
    let sandbox = Sandbox::start().await;
    let refusal = sandbox.connect(0, "pirkanmaa").refusal().await;
    assert_eq!((refusal.reason, refusal.reason.class()), (Reason::NotAResponder, Class::PermissionDenied));
    assert_eq!(sandbox.refusals()[0].reason, Reason::NotAResponder);
}

#[tokio::test(start_paused = true)]
async fn a_responder_that_breaks_the_protocol_is_refused_and_recorded() {
    let sandbox = Sandbox::start().await;
    let answer = || serve_request::Message::Answer(serve_request::Answer::default());
    let open = || serve_request::Message::Open(serve_request::Open { max_in_flight: 1 });
    let not_opened = sandbox.connect(0, "kela");
    not_opened.say(answer()).await;
    assert_eq!(not_opened.refusal().await.reason, Reason::ProtocolViolation);
    let mut opened_twice = sandbox.connect(0, "kela");
    opened_twice.say(open()).await;
    opened_twice.opened().await;
    opened_twice.say(open()).await;
    assert_eq!(opened_twice.refusal().await.reason, Reason::ProtocolViolation);
    for max_in_flight in [0, -1, 4097] {
        let greedy = sandbox.connect(0, "kela");
        greedy.open(max_in_flight).await;
        let refusal = greedy.refusal().await;
        assert_eq!(refusal.reason, Reason::InvalidField);
        assert_eq!(refusal.violations[0].field, "open.max_in_flight");
    }
    let says_nothing = sandbox.connect(0, "kela");
    assert_eq!(says_nothing.refusal().await.reason, Reason::ProtocolViolation);
    assert_eq!(sandbox.refusals().len(), 6);
    assert!(!sandbox.gateways[0].folds().has_responder(&"kela".parse().unwrap()), "none of them stays open");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_to_a_suspended_responder() {
    let sandbox = Sandbox::start().await;
    let kela = sandbox.responder(0, 8).await;
    sandbox.apply(vec![suspended("kela")]).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(2));
    assert_eq!(kela.refusal().await.reason, Reason::PartnerSuspended);
    assert_eq!(asked.refusal().await.reason, Reason::NoAnswerInTime);
}

/// The open streams, as the records of the members say.
fn open_streams(sandbox: &Sandbox) -> Vec<StreamId> {
    let mut members = airut_domain::member::Members::default();
    for (stored, header) in sandbox.ground.records(Topic::Members) {
        let Kind::Member(event) = header.kind else { continue };
        members.apply(stored.stamp, &event);
    }
    members
        .streams_of(&"kela".parse().unwrap(), airut_domain::member::StreamKind::Answers)
        .map(|opened| opened.stream.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_gateway_that_was_taken_to_be_gone_are_found_again() {
    let sandbox = Sandbox::with_gateways(2).await;
    sandbox.responder(1, 8).await.keeps_answering();
    sandbox.faults(Faults { refuse: 1.0, ..Faults::default() });
    sleep(2 * SILENCE).await;
    // Whichever gateway is first when the log can be written again misses the other.
    sandbox.faults(Faults::default());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(open_streams(&sandbox).len(), 1);
    sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_opening_came_into_the_log_too_late_does_not_stay_open() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(Faults { lose_acknowledgement: 1.0, append_delay: Duration::from_secs(3), ..Faults::default() });
    let unlucky = sandbox.connect(0, "kela");
    unlucky.open(8).await;
    assert_eq!(unlucky.refusal().await.reason, Reason::OutcomeUnknown);
    sleep(Duration::from_secs(4)).await;
    sandbox.faults(Faults::default());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(open_streams(&sandbox), []);
}
