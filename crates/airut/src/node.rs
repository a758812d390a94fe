//! A running process: its roles, started in order and stopped in good order.
//!
//! The socket is bound early, and accepts only once the folds have caught up. The same code starts `serve`, `dev` and the
//! tests.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use airut_client::Client;
use airut_domain::{id::Incarnation, partition::Partition, registry::Registry};
use airut_exchange::{CallerOf, Change, FoldStore, Gateway, ReceiptKey, Settings, Stranger, World, query_service};
use airut_identity::{Bounds, Listener, Peer, TlsSettings};
use airut_ledger::Ledger;
use airut_log::{Embedded, KeyRing, Log};
use airut_register::Register;
use anyhow::{Context, bail};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use crate::{
    config::{Config, LogConfig, Role},
    partners,
};

/// How long calls that are under way may take when the process is told to stop.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the ledger has to sign the last records.
const LAST_CHECKPOINT: Duration = Duration::from_secs(2);

/// How long after its file failed the ledger is run again.
const LEDGER_AGAIN: Duration = Duration::from_secs(2);

/// How long the rest of the process has to let go of the log.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// How often the partners' files are looked at.
const PARTNERS_POLL: Duration = Duration::from_secs(2);

/// How often gauges are set.
const GAUGES: Duration = Duration::from_secs(1);

/// How often the log is trimmed.
const TRIM: Duration = Duration::from_secs(60 * 60);

/// Strangers that wait to be counted; beyond that they are only added up.
const STRANGERS: usize = 256;

/// Calls of one connection that may be under way at once.
const STREAMS_PER_CONNECTION: u32 = 1024;

/// A running process.
pub struct Node {
    /// Where gRPC is served.
    pub address: SocketAddr,
    log: Log,
    gateway: Gateway,
    ledger: Option<RunningLedger>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    register: Option<JoinHandle<()>>,
    /// What runs beside: gauges, reloads, trimming.
    tasks: TaskTracker,
    /// Takes no more calls.
    closing: CancellationToken,
    /// Ends everything that runs on its own.
    stopping: CancellationToken,
    health: tonic_health::server::HealthReporter,
}

/// The ledger at work.
struct RunningLedger {
    task: JoinHandle<Result<(), airut_ledger::StopReason>>,
    status: watch::Receiver<airut_ledger::Status>,
    stop: CancellationToken,
}

impl RunningLedger {
    /// Ends it once the last records are under a checkpoint, or after a while.
    async fn end(mut self) {
        let signed = self.status.wait_for(|status| status.unsigned_since.is_none());
        if tokio::time::timeout(LAST_CHECKPOINT, signed).await.is_err() {
            tracing::warn!("the last records are not under a checkpoint yet; the next start signs them");
        }
        self.stop.cancel();
        end(self.task, "ledger").await;
    }
}

impl Node {
    /// Starts the roles. Returns once they serve.
    ///
    /// # Errors
    /// With the file, the setting or the address that is at fault.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        if !config.roles.contains(&Role::Gateway) {
            bail!("the embedded log is one process's: a gateway must be among its roles");
        }
        std::fs::create_dir_all(&config.data).with_context(|| config.data.display().to_string())?;
        let world = World::system();
        let incarnation: Incarnation = format!("gateway-{}", uuid::Uuid::now_v7()).parse().context("incarnation")?;
        let log = open_log(config, &world)?;
        let gateway = start_gateway(config, &log, &incarnation, &world).await?;
        apply_partners(&gateway, &config.partners).await?;

        let (strangers, refused) = mpsc::channel(STRANGERS);
        let clock = world.clock().clone();
        let listener = Listener::bind(
            config.listen,
            tls(config),
            gateway.folds().registry_handle(),
            Arc::new(move || clock.now()),
            strangers,
        )
        .context("listen")?;
        let address = listener.address();
        let (closing, stopping) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();

        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = tonic::service::Routes::builder();
        let caller_of: CallerOf = Arc::new(caller_of);
        routes.add_service(query_service(gateway.clone(), Arc::clone(&caller_of)));
        let ledger = match config.roles.contains(&Role::Ledger) {
            false => None,
            true => {
                let ledger = open_ledger(config, &log, &incarnation, &world)?;
                routes.add_service(ledger.service(ledger_edge(&gateway, &caller_of)));
                tasks.spawn(checkpoint_gauges(ledger.status(), world.clone(), stopping.clone()));
                let (status, stop) = (ledger.status(), CancellationToken::new());
                let stopped = stop.clone();
                let task = tokio::spawn(run_ledger(ledger, stopped));
                Some(RunningLedger { task, status, stop })
            }
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(airut_wire::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // What errors carry, so that tools can show it.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .context("reflection")?;
        routes.add_service(health_service).add_service(reflection);

        tasks.spawn(count_strangers(gateway.clone(), refused, stopping.clone()));
        tasks.spawn(watch_partners(gateway.clone(), config.partners.clone(), stopping.clone()));
        tasks.spawn(gauges(gateway.clone(), log.clone(), listener.handle(), stopping.clone()));
        tasks.spawn(trim(gateway.clone(), stopping.clone()));

        let server = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 * 1024)
            .tcp_nodelay(true)
            .add_routes(routes.routes())
            .serve_with_incoming_shutdown(listener.accept(), closing.clone().cancelled_owned());
        let server = tokio::spawn(server);
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;

        let register = match config.roles.contains(&Role::Register) {
            false => None,
            true => Some(start_register(config, address, &world, stopping.clone()).await?),
        };
        Ok(Self { address, log, gateway, ledger, server, register, tasks, closing, stopping, health })
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Resolves when the process can not go on, with the reason.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ledger = async {
            match &mut self.ledger {
                None => std::future::pending().await,
                Some(ledger) => (&mut ledger.task).await,
            }
        };
        tokio::select! {
            cause = self.gateway.failed() => anyhow::Error::new(cause),
            ended = &mut self.server => match ended {
                Ok(Ok(())) => anyhow::anyhow!("the server ended"),
                Ok(Err(cause)) => anyhow::Error::new(cause).context("the server ended"),
                Err(cause) => anyhow::Error::new(cause).context("the server ended"),
            },
            ended = ledger => match ended {
                Ok(Ok(())) => anyhow::anyhow!("the ledger ended"),
                Ok(Err(cause)) => anyhow::Error::new(cause).context("the ledger stopped"),
                Err(cause) => anyhow::Error::new(cause).context("the ledger ended"),
            },
        }
    }

    /// Stops in good order: no new calls, open ones finished, folds and tree written, the log closed.
    pub async fn stop(mut self) {
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        self.closing.cancel();
        self.stopping.cancel();
        if let Some(register) = self.register.take() {
            end(register, "register").await;
        }
        let began = Instant::now();
        self.gateway.stop(DRAIN).await;
        let left = DRAIN.saturating_sub(began.elapsed()).max(Duration::from_secs(1));
        // Streams that do not end by themselves are cut when the process ends.
        if !self.server.is_finished() && tokio::time::timeout(left, &mut self.server).await.is_err() {
            self.server.abort();
        }
        if let Some(ledger) = self.ledger.take() {
            ledger.end().await;
        }
        self.tasks.close();
        if tokio::time::timeout(CLOSED_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("tasks are left behind");
        }
        let Self { log, gateway, .. } = self;
        drop(gateway);
        let others_gone = async {
            while log.is_shared() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(CLOSED_WITHIN, others_gone).await.is_err() {
            tracing::warn!("the log is closed when the process ends");
        }
    }
}

/// Callers of the ledger are identified as the gateway's are, and their refusals go on record with its.
fn ledger_edge(gateway: &Gateway, caller_of: &CallerOf) -> airut_ledger::Edge {
    let (asked, refusing, caller_of) = (gateway.clone(), gateway.clone(), Arc::clone(caller_of));
    airut_ledger::Edge {
        identify: Arc::new(move |extensions| {
            let (gateway, caller_of, extensions) = (asked.clone(), Arc::clone(&caller_of), extensions.clone());
            Box::pin(async move { gateway.caller(&extensions, &caller_of).await })
        }),
        refuse: Arc::new(move |partner, method, refusal| {
            let gateway = refusing.clone();
            Box::pin(async move { gateway.refuse(&partner, method, refusal).await })
        }),
    }
}

/// Runs the ledger. When its file fails, which a full disk does, it signs nothing until it has passed every check of a start.
async fn run_ledger(mut ledger: Ledger, stop: CancellationToken) -> Result<(), airut_ledger::StopReason> {
    loop {
        match ledger.run(stop.clone()).await {
            Err(airut_ledger::StopReason::Storage(_)) if !stop.is_cancelled() => {
                drop(tokio::time::timeout(LEDGER_AGAIN, stop.cancelled()).await);
            }
            ended => return ended,
        }
    }
}

/// Waits for a task's end. One that has ended may have been the reason to stop, and was heard already.
async fn end<T>(task: JoinHandle<T>, name: &str) {
    if task.is_finished() {
        return;
    }
    let abort = task.abort_handle();
    if tokio::time::timeout(Duration::from_secs(5), task).await.is_err() {
        tracing::warn!(name, "did not end in time");
        abort.abort();
    }
}

fn open_log(config: &Config, world: &World) -> anyhow::Result<Log> {
    match &config.log {
        LogConfig::Embedded { path } => {
            let settings = Embedded::at(path, world.clock().clone(), world.randomness().clone());
            Log::embedded(settings).with_context(|| format!("log.path: {}", path.display()))
        }
    }
}

async fn start_gateway(
    config: &Config,
    log: &Log,
    incarnation: &Incarnation,
    world: &World,
) -> anyhow::Result<Gateway> {
    let settings = Settings {
        log: log.clone(),
        ring: Arc::new(KeyRing::load(&config.keys.ring).context("keys.ring")?),
        receipt_key: ReceiptKey::open_or_create(&config.keys.receipt, world).context("keys.receipt")?,
        folds: FoldStore::File(config.data.join("folds.sqlite")),
        incarnation: incarnation.clone(),
        world: world.clone(),
    };
    Gateway::start(settings).await.context("gateway")
}

fn open_ledger(config: &Config, log: &Log, incarnation: &Incarnation, world: &World) -> anyhow::Result<Ledger> {
    let settings = airut_ledger::Settings {
        dir: config.data.join("ledger"),
        origin: config.ledger.origin.parse().context("ledger.origin")?,
        log: log.clone(),
        author: incarnation.clone(),
        random: world.randomness().clone(),
    };
    Ledger::open(settings).context("ledger")
}

async fn start_register(
    config: &Config,
    own: SocketAddr,
    world: &World,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let register = &config.register;
    let server = register.server.clone().unwrap_or_else(|| own.to_string());
    let settings = airut_client::Settings::new(server, &register.ca, &register.certificate, &register.key);
    let client = Client::connect(&settings).await.context("register")?;
    let persons = Arc::new(Register::generate(register.seed, register.persons, world.now().date()));
    Ok(tokio::spawn(airut_register::run(client, persons, stop)))
}

fn tls(config: &Config) -> TlsSettings {
    TlsSettings {
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        client_cas: config.tls.client_cas.clone(),
        crls: config.tls.crls.clone(),
        bounds: Bounds::default(),
    }
}

/// Who calls, or as whom to count them.
fn caller_of(
    extensions: &http::Extensions,
    registry: &Registry,
) -> Result<airut_domain::registry::VerifiedPartner, (airut_domain::registry::Unidentified, Stranger)> {
    airut_identity::caller(extensions, registry).map_err(|unidentified| {
        let peer = extensions.get::<Peer>();
        let stranger = Stranger {
            reason: unidentified.refusal.reason,
            issuer: peer.map(|peer| peer.certificate().issuer.clone()).unwrap_or_default(),
            prefix: peer.map(|peer| airut_identity::Prefix::from(peer.address().ip()).to_string()).unwrap_or_default(),
        };
        (unidentified, stranger)
    })
}

async fn count_strangers(
    gateway: Gateway,
    mut refused: mpsc::Receiver<airut_identity::Stranger>,
    stop: CancellationToken,
) {
    while let Some(Some(stranger)) = stop.run_until_cancelled(refused.recv()).await {
        let stranger = Stranger {
            reason: stranger.reason,
            issuer: stranger.issuer.unwrap_or_default(),
            prefix: stranger.prefix.to_string(),
        };
        gateway.count_stranger(&stranger).await;
    }
}

/// Puts the partners' definitions in force.
async fn apply_partners(gateway: &Gateway, dir: &std::path::Path) -> anyhow::Result<()> {
    let definitions = partners::read(dir).map_err(|faults| anyhow::anyhow!("partners: {}", faults.join("\n  ")))?;
    for change in gateway.apply_partners(definitions).await.context("partners")? {
        if let Change::Applied(partner, version) = change {
            tracing::info!(%partner, version, "a partner's definition is in force");
        }
    }
    Ok(())
}

async fn watch_partners(gateway: Gateway, dir: PathBuf, stop: CancellationToken) {
    let mut last_fault = None;
    while tokio::time::timeout(PARTNERS_POLL, stop.cancelled()).await.is_err() {
        let fault = apply_partners(&gateway, &dir).await.err().map(|fault| format!("{fault:#}"));
        if let Some(fault) = fault.as_ref().filter(|fault| Some(*fault) != last_fault.as_ref()) {
            tracing::error!(%fault, "the partners' definitions are not applied");
        }
        last_fault = fault;
    }
}

async fn trim(gateway: Gateway, stop: CancellationToken) {
    while tokio::time::timeout(TRIM, stop.cancelled()).await.is_err() {
        if let Err(cause) = gateway.trim().await {
            tracing::warn!(%cause, "the log is not trimmed");
        }
    }
}

async fn gauges(gateway: Gateway, log: Log, listener: airut_identity::Handle, stop: CancellationToken) {
    while tokio::time::timeout(GAUGES, stop.cancelled()).await.is_err() {
        let positions = gateway.folds().positions();
        let mut lag = 0;
        for partition in Partition::all() {
            let end = log.end(partition).await.unwrap_or(0);
            lag += end.saturating_sub(positions.get(&partition).copied().unwrap_or(0));
        }
        metrics::gauge!("airut_fold_lag_records").set(float(lag));
        metrics::gauge!("airut_queries_open").set(float(gateway.folds().open_queries() as u64));
        metrics::gauge!("airut_connections_open").set(float(listener.open() as u64));
        metrics::gauge!("airut_log_queued_bytes").set(float(log.stats().queued_bytes as u64));
        metrics::counter!("airut_log_records_total").absolute(log.stats().records);
        metrics::counter!("airut_log_commits_total").absolute(log.stats().commits);
        metrics::counter!("airut_strangers_untold_total").absolute(listener.untold());
        let expiry = listener.expiry();
        metrics::gauge!("airut_certificate_expiry_timestamp_seconds").set(seconds(expiry.certificate_not_after));
        if let Some(next) = expiry.crl_next_update {
            metrics::gauge!("airut_crl_next_update_timestamp_seconds").set(seconds(next));
        }
    }
}

async fn checkpoint_gauges(status: watch::Receiver<airut_ledger::Status>, world: World, stop: CancellationToken) {
    while tokio::time::timeout(GAUGES, stop.cancelled()).await.is_err() {
        let status = status.borrow().clone();
        metrics::gauge!("airut_ledger_size").set(float(status.size));
        // Nothing unsigned: the newest checkpoint is as good as one signed now.
        let age = status.unsigned_since.map(|since| world.now().since(since)).unwrap_or_default();
        metrics::gauge!("airut_checkpoint_age_seconds").set(age.as_secs_f64());
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn float(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn seconds(moment: airut_domain::time::Timestamp) -> f64 {
    moment.as_millis() as f64 / 1000.0
}
