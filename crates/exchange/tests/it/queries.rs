//! A query's way from the question to its final record.

use std::time::Duration;

use airut_domain::{
    partition::Topic,
    query::Event,
    record::Kind,
    refusal::{Class, Reason},
};
use airut_exchange::Asking;
use airut_log::Faults;
use airut_wire::v1;
use tokio::{sync::oneshot, time::sleep};

use crate::support::{Asked, Sandbox, history, matter_ids, request, statement};

#[tokio::test(start_paused = true)]
async fn a_granted_query_is_answered_minimised_and_its_receipt_verifies() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    assert_eq!((question.asker.as_str(), question.subject_id), ("pirkanmaa", request("").subject_id));
    assert_eq!(question.scopes.len(), 2, "narrowed to the contract");
    let question = v1::serve_response::Question { subject_id: String::new(), ..question };
    kela.answer(&question, history()).await;
    let response = asked.response().await;
    assert_eq!(matter_ids(&response), ["granted-1", "granted-2"]);
    sandbox.verify(&response, "gateway-0");
    assert_eq!(statement(&response).recipient.as_str(), "pirkanmaa");
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_contract_does_not_grant_is_withheld_and_never_in_the_log() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    let categories = vec![v1::Category::Decision.into(), v1::Category::Recovery.into()];
    let response =
        sandbox.ask(0, "pirkanmaa", v1::QueryBenefitsRequest { categories, ..request("q-1") }).response().await;
    assert_eq!(matter_ids(&response), ["granted-1"]);
    let withheld: Vec<_> = response.withheld.iter().map(|w| (w.category(), w.reason())).collect();
    use v1::{Category, withheld::Reason};
    let expected = [(Category::Decision, Reason::OtherBenefits), (Category::Recovery, Reason::NotInContract)];
    assert_eq!(withheld, expected);
    let bodies = sandbox.bodies(Topic::Queries).concat();
    let holds = |text: &str| bodies.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("granted-1"), "the answer is in the log");
    assert!(!holds("beyond-"), "and nothing else of it");
}

#[tokio::test(start_paused = true)]
async fn headers_hold_nothing_of_the_person_the_official_or_the_case() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    let v1::QueryBenefitsRequest { subject_id, context, .. } = request("q-1");
    let v1::Context { end_user, case_id, .. } = context.unwrap();
    for stored in sandbox.ground.simulation.records() {
        for secret in [&subject_id, &end_user, &case_id] {
            let in_clear = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!in_clear(&stored.header) && !in_clear(&stored.body), "{}", stored.position);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn missing_context_is_refused_naming_each_field_and_recorded_before_it_is_answered() {
    let sandbox = Sandbox::start().await;
    sandbox.faults(Faults { append_delay: Duration::from_millis(50), ..Faults::default() });
    let context = Some(v1::Context { purpose: "social-assistance".into(), ..v1::Context::default() });
    let refusal = sandbox.ask(0, "pirkanmaa", v1::QueryBenefitsRequest { context, ..request("q-1") }).refusal().await;
    assert_eq!((refusal.reason, refusal.reason.class()), (Reason::MissingField, Class::InvalidArgument));
    let missing = ["context.end_user", "context.end_user_role", "context.legal_basis", "context.case_id"];
    assert_eq!(refusal.violations.iter().map(|violation| violation.field.as_ref()).collect::<Vec<_>>(), missing);
    let recorded = sandbox.refusals();
    assert_eq!(recorded.len(), 1, "on record when it is answered");
    assert_eq!(recorded[0].partner.as_ref().unwrap().as_str(), "pirkanmaa");
    assert_eq!((recorded[0].reason, recorded[0].count), (Reason::MissingField, 1));
    assert_eq!(recorded[0].fields, missing);
}

#[tokio::test(start_paused = true)]
async fn what_no_contract_grants_is_refused_and_recorded() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    let no_contract = sandbox.ask(0, "elo", request("q-1")).refusal().await;
    assert_eq!((no_contract.reason, no_contract.reason.class()), (Reason::NoContract, Class::PermissionDenied));
    let categories = vec![v1::Category::Insurance.into()];
    let asked = v1::QueryBenefitsRequest { categories, ..request("q-2") };
    let nothing = sandbox.ask(0, "pirkanmaa", asked).refusal().await;
    assert_eq!((nothing.reason, nothing.reason.class()), (Reason::NothingGranted, Class::PermissionDenied));
    let recorded: Vec<_> = sandbox.refusals().iter().map(|refused| refused.reason).collect();
    assert_eq!(recorded.len(), 2);
    assert!(recorded.contains(&Reason::NoContract) && recorded.contains(&Reason::NothingGranted));
    assert!(sandbox.ground.records(Topic::Queries).is_empty(), "nothing was asked");
}

#[tokio::test(start_paused = true)]
async fn without_a_responder_the_caller_is_told_when_to_come_back() {
    let sandbox = Sandbox::start().await;
    let refusal = sandbox.ask(0, "pirkanmaa", request("q-1")).refusal().await;
    assert_eq!((refusal.reason, refusal.reason.class()), (Reason::NoResponder, Class::Unavailable));
    assert!(refusal.retry_after.is_some());
    assert_eq!(sandbox.refusals()[0].reason, Reason::NoResponder);
}

#[tokio::test(start_paused = true)]
async fn a_silent_responder_ends_the_query_at_the_callers_deadline() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let deadline = sandbox.ground.now() + Duration::from_secs(3);
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(3));
    kela.question().await;
    let refusal = asked.refusal().await;
    assert_eq!((refusal.reason, refusal.reason.class()), (Reason::NoAnswerInTime, Class::DeadlineExceeded));
    assert!(sandbox.ground.now().since(deadline) < Duration::from_millis(20));
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "not disclosed (NoAnswer)"]);
    let (ended, _) = sandbox.ground.records(Topic::Queries).pop().unwrap();
    assert!(ended.stamp >= deadline);
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_deadline_does_not_count() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(1));
    let question = kela.question().await;
    assert_eq!(asked.refusal().await.reason, Reason::NoAnswerInTime);
    kela.answer(&question, history()).await;
    sleep(Duration::from_millis(100)).await;
    let story = sandbox.story("pirkanmaa", "q-1");
    assert_eq!(story[..2], ["asked", "not disclosed (NoAnswer)"]);
    assert!(story[2..].iter().all(|step| step == "answered: void, NotOpen"), "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_recorded_at_the_last_moment_and_disclosed_to_nobody_is_told_to_be_late() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask_within(0, "pirkanmaa", request("q-1"), Duration::from_secs(1));
    let question = kela.question().await;
    sleep(Duration::from_millis(900)).await;
    // Both the answer and the end at the deadline take longer than what is left.
    sandbox.faults(Faults { tail_delay: Duration::from_millis(800), ..Faults::default() });
    kela.answer(&question, history()).await;
    assert_eq!(asked.refusal().await.reason, Reason::NoAnswerInTime);
    let story = sandbox.story("pirkanmaa", "q-1");
    let late = ["asked", "answered", "not disclosed (NoAnswer): void, NotOpen", "not disclosed (Late)"];
    // Where the answer was read in time by chance, it is late all the same when it is to be disclosed.
    assert!(story == late || story == ["asked", "answered", "not disclosed (Late)"], "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn a_responder_that_can_not_answer_or_answers_nonsense_ends_the_query() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    kela.fail(&question).await;
    assert_eq!(asked.refusal().await.reason, Reason::ResponderFailed);
    let asked = sandbox.ask(0, "pirkanmaa", request("q-2"));
    let question = kela.question().await;
    kela.answer(&question, vec![v1::Matter { benefit: "not a benefit".into(), ..history().remove(0) }]).await;
    assert_eq!(asked.refusal().await.reason, Reason::ResponderFailed);
    for query in ["q-1", "q-2"] {
        assert_eq!(sandbox.story("pirkanmaa", query), ["asked", "not disclosed (ResponderFailed)"]);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_to_nothing_and_second_answers_are_passed_over() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    let other = v1::serve_response::Question { question_id: "airut.queries/0/99".into(), ..question.clone() };
    kela.answer(&other, history()).await;
    kela.answer(&question, history()).await;
    kela.answer(&question, vec![]).await;
    assert_eq!(matter_ids(&asked.response().await), ["granted-1", "granted-2"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered"]);
}

/// Asks with a slow log, leaves after `stay`, and lets everything end.
async fn leave_after(stay: Duration) -> Vec<String> {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    let slow = Duration::from_millis(40);
    sandbox.faults(Faults { append_delay: slow, acknowledgement_delay: slow, tail_delay: slow, ..Faults::default() });
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    sleep(stay).await;
    let Asked(mut answer) = asked;
    answer.close();
    let given = answer.try_recv().is_ok();
    drop(answer);
    sleep(Duration::from_secs(2)).await;
    let mut story = sandbox.story("pirkanmaa", "q-1");
    if given {
        story.push("given".into());
    }
    story
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_at_any_moment_leaves_a_final_record() {
    let mut outcomes = std::collections::BTreeSet::new();
    for stay in (0..300).step_by(7) {
        let story = leave_after(Duration::from_millis(stay)).await;
        assert_eq!(story[..2], ["asked", "answered"], "left after {stay} ms: {story:?}");
        assert_eq!(story.len(), 3, "left after {stay} ms: {story:?}");
        outcomes.insert(story[2].clone());
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["given", "not disclosed (CallerLeft)"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_caller_that_has_left_is_recorded() {
    let sandbox = Sandbox::start().await;
    drop(sandbox.ask(0, "elo", request("q-1")));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sandbox.refusals()[0].reason, Reason::NoContract);
}

#[tokio::test(start_paused = true)]
async fn a_query_whose_gateway_is_gone_is_ended_by_another() {
    let sandbox = Sandbox::with_gateways(2).await;
    let mut kela = sandbox.responder(1, 8).await;
    let gateway = sandbox.gateways[0].clone();
    let caller = gateway.folds().registry().current(&"pirkanmaa".parse().unwrap()).unwrap();
    let deadline = sandbox.ground.now() + Duration::from_secs(3);
    let (reply, _answer) = oneshot::channel();
    let asking = Asking { caller, request: request("q-1"), deadline, traceparent: String::new() };
    let verb = tokio::spawn(async move { gateway.query_benefits(asking, reply).await });
    kela.question().await;
    verb.abort();
    sleep(Duration::from_secs(10)).await;
    let story = sandbox.story("pirkanmaa", "q-1");
    assert_eq!(story[..2], ["asked", "not disclosed (NoAnswer)"]);
    let records = sandbox.ground.records(Topic::Queries);
    assert!(
        records.iter().all(|(_, header)| matches!(header.kind, Kind::Query(Event::Asked(_) | Event::NotDisclosed(_))))
    );
    assert_eq!(sandbox.gateways[1].folds().open_queries(), 0);
}
