//! A process without folds, such as a ledger's, knows its callers too.

use std::{sync::Arc, time::Duration};

use airut_domain::{
    refusal::{Reason, Refusal},
    registry::Unidentified,
};
use airut_exchange::{CallerOf, Follower, REGISTRY_CURRENT, Reception, Stranger};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::support::{Sandbox, suspended};

/// The registry is looked at twice a second.
const A_LOOK: Duration = Duration::from_secs(1);

async fn open(sandbox: &Sandbox) -> (Reception, Follower) {
    let ground = &sandbox.ground;
    let opened = Reception::open(ground.log(), ground.ring.edge(), "ledger-1".parse().unwrap(), ground.world());
    opened.await.unwrap()
}

/// Who calls, if everybody is Pirkanmaa.
async fn caller(reception: &Reception) -> Result<String, Reason> {
    let caller_of: CallerOf = Arc::new(|_, registry| {
        let pirkanmaa = "pirkanmaa".parse().unwrap();
        registry.current(&pirkanmaa).ok_or_else(|| {
            let refusal = Refusal::new(Reason::PartnerSuspended);
            let stranger = Stranger { reason: refusal.reason, issuer: String::new(), prefix: String::new() };
            (Unidentified { refusal, partner: Some(pirkanmaa) }, stranger)
        })
    });
    let called = reception.current_caller(&http::Extensions::new(), &caller_of).await;
    called.map(|caller| caller.id().to_string()).map_err(|refusal| refusal.reason)
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_registry_is_in_force_within_a_second_and_the_refusal_on_record() {
    let sandbox = Sandbox::start().await;
    let (reception, follower) = open(&sandbox).await;
    let stop = CancellationToken::new();
    let following = tokio::spawn(follower.run(stop.clone()));
    assert_eq!(caller(&reception).await, Ok("pirkanmaa".to_owned()));
    sandbox.apply(vec![suspended("pirkanmaa")]).await;
    sleep(A_LOOK).await;
    assert_eq!(caller(&reception).await, Err(Reason::PartnerSuspended));
    let recorded = sandbox.refusals().pop().unwrap();
    assert_eq!((recorded.partner, recorded.reason), (Some("pirkanmaa".parse().unwrap()), Reason::PartnerSuspended));
    stop.cancel();
    assert!(following.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_served_by_a_registry_that_may_be_out_of_date() {
    let sandbox = Sandbox::start().await;
    let (reception, follower) = open(&sandbox).await;
    // Nobody follows: as when the log can not be read, or the process was frozen.
    sleep(REGISTRY_CURRENT + A_LOOK).await;
    assert_eq!(caller(&reception).await, Err(Reason::RegistryStale));
    tokio::spawn(follower.run(CancellationToken::new()));
    sleep(A_LOOK).await;
    assert_eq!(caller(&reception).await, Ok("pirkanmaa".to_owned()));
}
