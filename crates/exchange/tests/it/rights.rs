//! A right that changes while a query is under way.

use std::time::Duration;

use airut_domain::refusal::Reason;
use airut_exchange::REGISTRY_CURRENT;
use airut_log::Faults;
use tokio::time::sleep;

use crate::support::{
    Sandbox, history, matter_ids, narrower_grants, request, social_grants, statement, suspended, with_grants,
};

#[tokio::test(start_paused = true)]
async fn a_partner_suspended_meanwhile_is_given_nothing() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    sandbox.apply(vec![suspended("pirkanmaa")]).await;
    kela.answer(&question, history()).await;
    assert_eq!(asked.refusal().await.reason, Reason::GrantChanged);
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered", "not disclosed (RightLost)"]);
}

#[tokio::test(start_paused = true)]
async fn a_contract_narrowed_meanwhile_is_given_nothing_beyond_it() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    sandbox.apply(vec![with_grants("pirkanmaa", narrower_grants())]).await;
    kela.answer(&question, history()).await;
    assert_eq!(asked.refusal().await.reason, Reason::GrantChanged);
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered", "not disclosed (RightLost)"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_narrowed_contract_still_grants_is_given() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let asked = sandbox.ask(0, "pirkanmaa", request("q-1"));
    let question = kela.question().await;
    sandbox.apply(vec![with_grants("pirkanmaa", narrower_grants())]).await;
    kela.answer(&question, history()[..1].to_vec()).await;
    assert_eq!(matter_ids(&asked.response().await), ["granted-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_judged_anew() {
    let sandbox = Sandbox::start().await;
    sandbox.responder(0, 8).await.keeps_answering();
    let first = sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    sandbox.apply(vec![with_grants("pirkanmaa", narrower_grants())]).await;
    assert_eq!(sandbox.ask(0, "pirkanmaa", request("q-1")).refusal().await.reason, Reason::GrantChanged);
    assert_eq!(sandbox.refusals().last().unwrap().reason, Reason::GrantChanged);
    sandbox.apply(vec![with_grants("pirkanmaa", social_grants())]).await;
    let again = sandbox.ask(0, "pirkanmaa", request("q-1")).response().await;
    assert_eq!(statement(&again), statement(&first));
    assert_eq!(sandbox.story("pirkanmaa", "q-1"), ["asked", "answered", "repeated"]);
}

/// A sandbox whose gateway does not come to see a change of the registry for half a minute or more, and everything else at
/// once.
pub(crate) async fn with_a_registry_that_is_not_read() -> Sandbox {
    let sandbox = Sandbox::with_gateways(2).await;
    sandbox.responder(1, 8).await.keeps_answering();
    let before = sandbox.gateways[1].folds().registry();
    sandbox.faults(Faults { tail_delay: Duration::from_secs(200), ..Faults::default() });
    let gateway = sandbox.gateways[0].clone();
    tokio::spawn(async move { gateway.apply_partners(vec![suspended("pirkanmaa")]).await });
    // Until it is in the log, and no longer: each tail has drawn by then when it will see it.
    while sandbox.ground.records(airut_domain::partition::Topic::Partners).len() < 5 {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(1)).await;
    sandbox.faults(Faults::default());
    sleep(REGISTRY_CURRENT + Duration::from_secs(5)).await;
    assert_eq!(sandbox.gateways[1].folds().registry(), before, "the seed is such that the change is not seen yet");
    sandbox
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_can_not_read_the_registry_discloses_nothing() {
    let sandbox = with_a_registry_that_is_not_read().await;
    // Nobody's right has changed here: the gateway does not know.
    for partner in ["helsinki", "pirkanmaa"] {
        assert_eq!(sandbox.ask(1, partner, request("q-1")).refusal().await.reason, Reason::RegistryStale);
        assert_eq!(sandbox.story(partner, "q-1"), ["asked", "answered", "not disclosed (RegistryStale)"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_can_read_the_registry_again_discloses_again() {
    let sandbox = with_a_registry_that_is_not_read().await;
    sandbox.ask(1, "helsinki", request("q-1")).refusal().await;
    sandbox.caught_up().await;
    sleep(Duration::from_secs(5)).await;
    sandbox.ask(1, "helsinki", request("q-1")).response().await;
    assert_eq!(sandbox.story("helsinki", "q-1"), ["asked", "answered", "not disclosed (RegistryStale)", "repeated"]);
}
