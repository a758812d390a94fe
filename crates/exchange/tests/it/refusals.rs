//! Refusals are on record, and nobody can buy records without end.

use std::time::Duration;

use airut_domain::refusal::Reason;
use airut_exchange::{FIRST_STRANGERS, SINGLY, Stranger};
use tokio::time::sleep;

use crate::support::{Sandbox, request};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_partners_refusals_are_recorded_singly_up_to_a_budget_and_then_counted() {
    let sandbox = Sandbox::start().await;
    // Past the beginning of a minute of the gateway's.
    sleep(MINUTE + Duration::from_secs(1)).await;
    for number in 0..3 * SINGLY {
        let partner = if number % 3 == 0 { "pirkanmaa" } else { "elo" };
        sandbox.ask(0, partner, request(&format!("q-{number}"))).refusal().await;
    }
    let singly = |partner: &str| {
        let mut refusals = sandbox.refusals();
        refusals
            .retain(|refused| refused.count == 1 && refused.partner.as_ref().is_some_and(|p| p.as_str() == partner));
        refusals.len()
    };
    let budget = usize::try_from(SINGLY).unwrap();
    assert_eq!((singly("pirkanmaa"), singly("elo")), (budget, budget), "to each its own");
    sleep(MINUTE).await;
    let counted: Vec<_> = sandbox.refusals().into_iter().filter(|refused| refused.count > 1).collect();
    assert_eq!(counted.len(), 1);
    assert_eq!((counted[0].reason, counted[0].count), (Reason::NoContract, u64::from(SINGLY)));
    assert!(counted[0].span <= MINUTE && !counted[0].span.is_zero());
    sandbox.ask(0, "elo", request("q-anew")).refusal().await;
    assert_eq!(singly("elo"), budget + 1, "a new minute, a new budget");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_strangers_buys_a_bounded_number_of_records() {
    let sandbox = Sandbox::start().await;
    // Past the beginning of a minute of the gateway's.
    sleep(MINUTE + Duration::from_secs(1)).await;
    let reasons = [Reason::CertificateUnknown, Reason::CertificateAmbiguous, Reason::CertificateMissing];
    for number in 0..10_000 {
        let reason = reasons[number % reasons.len()];
        let prefix = format!("192.0.{}.0/24", number % 5_000);
        sandbox.gateways[0].reception().count_stranger(&Stranger { reason, issuer: "CN=Nobody".into(), prefix }).await;
    }
    assert_eq!(sandbox.refusals().len(), FIRST_STRANGERS);
    sleep(MINUTE).await;
    let recorded = sandbox.refusals();
    assert_eq!(recorded.len(), FIRST_STRANGERS + reasons.len());
    assert_eq!(recorded.iter().map(|refused| refused.count).sum::<u64>(), 10_000, "every one is counted");
    assert!(recorded.iter().all(|refused| refused.partner.is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_same_stranger_is_recorded_once_a_minute() {
    let sandbox = Sandbox::start().await;
    let stranger =
        Stranger { reason: Reason::CertificateUnknown, issuer: "CN=Nobody".into(), prefix: "192.0.2.0/24".into() };
    for _ in 0..3 {
        sandbox.gateways[0].reception().count_stranger(&stranger).await;
    }
    let recorded = sandbox.refusals();
    assert_eq!(recorded.len(), 1);
    assert!(recorded[0].stranger.is_some(), "known again, and not told by name");
}

#[tokio::test(start_paused = true)]
async fn counts_of_the_last_minute_are_written_when_the_gateway_stops() {
    let sandbox = Sandbox::start().await;
    let stranger = Stranger { reason: Reason::CertificateUnknown, issuer: String::new(), prefix: String::new() };
    for _ in 0..5 {
        sandbox.gateways[0].reception().count_stranger(&stranger).await;
    }
    sandbox.gateways[0].stop(Duration::from_secs(1)).await;
    assert_eq!(sandbox.refusals().iter().map(|refused| refused.count).sum::<u64>(), 5);
}
