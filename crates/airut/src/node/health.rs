//! What a load balancer is told: each role under its service's name, and the process as a whole.
//!
//! A gateway serves while its folds keep up with the log and its registry is current; a ledger while it signs. A process that
//! says otherwise goes on as well as it can: what it may not do it refuses by itself.

use std::collections::BTreeMap;

use airut_domain::partition::Partition;
use airut_exchange::Gateway;
use airut_ledger::Health;
use airut_log::Log;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::tasks::{GAUGES, float};

/// A gateway whose folds are this many records behind the log does not serve.
const LAG: u64 = 10_000;

/// A role whose health is told.
pub(super) enum Watched {
    /// With the log whose end its folds should have reached.
    Gateway(Gateway, Log),
    /// By what it says of itself.
    Ledger(watch::Receiver<airut_ledger::Status>),
}

impl Watched {
    /// What the role serves. A gateway's services stand and fall together: all of them judge by the same registry.
    const fn services(&self) -> &'static [&'static str] {
        match self {
            Self::Gateway(..) => &["airut.v1.QueryService", "airut.v1.DeliveryService", "airut.v1.PartnerService"],
            Self::Ledger(_) => &["airut.v1.LedgerService"],
        }
    }

    async fn look(&self) -> ServingStatus {
        let serves = match self {
            Self::Gateway(gateway, log) => {
                lag(gateway, log).await.is_some_and(|lag| lag <= LAG) && gateway.is_current()
            }
            Self::Ledger(status) => matches!(status.borrow().health, Health::Signing),
        };
        if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

/// Tells each role's health until told to stop, and the first one's as that of the process.
pub(super) async fn watch(reporter: HealthReporter, roles: Vec<Watched>, stop: CancellationToken) {
    let mut told: BTreeMap<usize, ServingStatus> = BTreeMap::new();
    while !stop.is_cancelled() {
        for (number, role) in roles.iter().enumerate() {
            let status = role.look().await;
            if told.insert(number, status) == Some(status) {
                continue;
            }
            let process: &[&str] = if number == 0 { &[""] } else { &[] };
            for service in role.services().iter().chain(process) {
                tracing::info!(service, %status, "health");
                reporter.set_service_status(*service, status).await;
            }
        }
        drop(tokio::time::timeout(GAUGES, stop.cancelled()).await);
    }
}

/// How many records the gateway's folds have not taken in; none when the log can not say.
async fn lag(gateway: &Gateway, log: &Log) -> Option<u64> {
    let positions = gateway.folds().positions();
    let mut lag = 0;
    for partition in Partition::all() {
        let end = log.end(partition).await.ok()?;
        lag += end.saturating_sub(positions.get(&partition).copied().unwrap_or(0));
    }
    metrics::gauge!("airut_fold_lag_records").set(float(lag));
    metrics::gauge!("airut_queries_open").set(float(gateway.folds().open_queries() as u64));
    Some(lag)
}
