//! What a load balancer is told: each role under its service's name, and the process as a whole.
//!
//! A gateway serves while its folds keep up with the log and its registry is current; a ledger while it signs. A process that
//! says otherwise goes on as well as it can: what it may not do it refuses by itself.
//!
//! What was found is told for as long as the registry may be gone by without being read again. So a process that stood still,
//! and does not know yet for how long, says that it does not serve until it has looked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use airut_domain::{partition::Partition, time::Timestamp};
use airut_exchange::{Gateway, REGISTRY_CURRENT, World};
use airut_ledger::Health as LedgerHealth;
use airut_log::Log;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus as Told,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService, WatchStream},
};

use super::tasks::{GAUGES, float};

/// A gateway whose folds are this many records behind the log does not serve.
const LAG: u64 = 10_000;

/// When the roles were last looked at.
#[derive(Clone)]
pub(super) struct Looked {
    world: World,
    /// In milliseconds since 1970.
    at: Arc<AtomicI64>,
}

impl Looked {
    pub(super) fn new(world: &World) -> Self {
        Self { world: world.clone(), at: Arc::new(AtomicI64::new(world.now().as_millis())) }
    }

    fn began(&self, at: Timestamp) {
        self.at.store(at.as_millis(), Ordering::Release);
    }

    fn is_current(&self) -> bool {
        let (at, now) = (Timestamp::from_millis(self.at.load(Ordering::Acquire)), self.world.now());
        // A clock that was set back says nothing until the roles have been looked at by it.
        at <= now && now.since(at) <= REGISTRY_CURRENT
    }
}

/// The standard service, which tells what was found last, unless that is too old.
pub(super) struct Current {
    found: HealthService,
    looked: Looked,
}

/// The service that tells what the reporter is told.
pub(super) fn service(reporter: HealthReporter, looked: Looked) -> HealthServer<Current> {
    HealthServer::new(Current { found: HealthService::from_health_reporter(reporter), looked })
}

#[tonic::async_trait]
impl Health for Current {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let mut told = self.found.check(request).await?;
        if told.get_ref().status() == Told::Serving && !self.looked.is_current() {
            told.get_mut().set_status(Told::NotServing);
        }
        Ok(told)
    }

    type WatchStream = WatchStream;

    /// Whoever watches is told of each change as it is found: a second late.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<WatchStream>, Status> {
        self.found.watch(request).await
    }
}

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
            Self::Gateway(..) => &[
                "airut.v1.QueryService",
                "airut.v1.DeliveryService",
                "airut.v1.DocumentService",
                "airut.v1.InformationRequestService",
                "airut.v1.PartnerService",
            ],
            Self::Ledger(_) => &["airut.v1.LedgerService"],
        }
    }

    async fn look(&self) -> ServingStatus {
        let serves = match self {
            Self::Gateway(gateway, log) => {
                lag(gateway, log).await.is_some_and(|lag| lag <= LAG) && gateway.is_current()
            }
            Self::Ledger(status) => matches!(status.borrow().health, LedgerHealth::Signing),
        };
        if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

/// Tells each role's health until told to stop, and the first one's as that of the process.
pub(super) async fn watch(reporter: HealthReporter, roles: Vec<Watched>, looked: Looked, stop: CancellationToken) {
    let mut told: BTreeMap<usize, ServingStatus> = BTreeMap::new();
    while !stop.is_cancelled() {
        let began = looked.world.now();
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
        looked.began(began);
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
