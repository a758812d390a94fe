//! A running process: its roles, started in order and stopped in good order.
//!
//! The socket is bound early, and accepts only once the folds have caught up. The same code starts `serve`, `dev` and the
//! tests.

mod health;
mod tasks;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use airut_client::Client;
use airut_domain::{id::Incarnation, registry::Registry};
use airut_exchange::{
    CallerOf, Catalogue, CatalogueFiles, FoldStore, Gateway, GatewayError, ReceiptKey, Reception, Settings, Stranger,
    World, delivery_service, document_service, partner_service, query_service, request_service,
};
use airut_identity::{Bounds, Listener, Peer, TlsSettings};
use airut_ledger::Ledger;
use airut_log::{EdgeRing, Embedded, KeyRing, Log};
use airut_register::Register;
use airut_store::{KeyStore, Objects};
use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::config::{Config, LogConfig, Role};

/// How long calls that are under way may take when the process is told to stop.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the ledger has to sign the last records.
const LAST_CHECKPOINT: Duration = Duration::from_secs(2);

/// How long after its file failed the ledger is run again.
const LEDGER_AGAIN: Duration = Duration::from_secs(2);

/// How long the rest of the process has to let go of the log.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// Strangers that wait to be counted; beyond that they are only added up.
const STRANGERS: usize = 256;

/// Calls of one connection that may be under way at once.
const STREAMS_PER_CONNECTION: u32 = 1024;

/// A running process.
pub struct Node {
    /// Where gRPC is served: by a gateway and by a ledger.
    pub address: Option<SocketAddr>,
    log: Option<Log>,
    gateway: Option<Gateway>,
    /// Keeps the registry current in a process without a gateway.
    follower: Option<JoinHandle<Result<(), GatewayError>>>,
    ledger: Option<RunningLedger>,
    server: Option<JoinHandle<Result<(), tonic::transport::Error>>>,
    register: Option<JoinHandle<()>>,
    desk: Option<airut_desk::Running>,
    /// What runs beside: gauges, health, reloads, trimming.
    tasks: TaskTracker,
    /// Takes no more calls.
    closing: CancellationToken,
    /// Ends everything that runs on its own.
    stopping: CancellationToken,
    health: HealthReporter,
}

/// The ledger at work.
struct RunningLedger {
    task: JoinHandle<Result<(), airut_ledger::StopReason>>,
    status: watch::Receiver<airut_ledger::Status>,
    stop: CancellationToken,
}

impl RunningLedger {
    fn start(ledger: Ledger) -> Self {
        let (status, stop) = (ledger.status(), CancellationToken::new());
        Self { task: tokio::spawn(run_ledger(ledger, stop.clone())), status, stop }
    }

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
        std::fs::create_dir_all(&config.data).with_context(|| config.data.display().to_string())?;
        let world = World::system();
        let health = HealthReporter::new();
        let mut node = Self {
            address: None,
            log: None,
            gateway: None,
            follower: None,
            ledger: None,
            server: None,
            register: None,
            desk: None,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            stopping: CancellationToken::new(),
            health,
        };
        if config.roles.contains(&Role::Gateway) || config.roles.contains(&Role::Ledger) {
            let mut routes = Routes::builder();
            let looked = health::Looked::new(&world);
            routes.add_service(health::service(node.health.clone(), looked.clone()));
            add_reflection(&mut routes)?;
            node.open_edge(config, &world, routes, looked).await?;
        }
        if config.roles.contains(&Role::Register) {
            node.register = Some(start_register(config, node.address, &world, node.stopping.clone()).await?);
        }
        if let Some(settings) = &config.desk {
            let (mut settings, clock) = (settings.clone(), world.clock().clone());
            for office in settings.offices.iter_mut().filter(|office| office.exchange.server.is_empty()) {
                office.exchange.server = node.address.context("desk.server")?.to_string();
            }
            let started = airut_desk::Running::start(settings, airut_desk::Now::new(move || clock.now())).await;
            node.desk = Some(started.context("desk")?);
        }
        Ok(node)
    }

    /// Where the desk is served, where it is among the roles.
    pub fn desk_address(&self) -> Option<SocketAddr> {
        self.desk.as_ref().map(airut_desk::Running::address)
    }

    /// Starts what is called from outside: gateway, ledger, or both.
    async fn open_edge(
        &mut self,
        config: &Config,
        world: &World,
        mut routes: RoutesBuilder,
        looked: health::Looked,
    ) -> anyhow::Result<()> {
        let log = open_log(config, world).await?;
        self.log = Some(log.clone());
        let caller_of: CallerOf = Arc::new(caller_of);
        let role = if config.roles.contains(&Role::Gateway) { Role::Gateway } else { Role::Ledger };
        let author: Incarnation = format!("{}-{}", role.name(), uuid::Uuid::now_v7()).parse().context("incarnation")?;
        let reception = match role {
            Role::Gateway => {
                let seen = CatalogueFiles::read(&config.message_types);
                let seen = seen.map_err(|fault| anyhow::anyhow!("message_types: {fault}"))?;
                let loaded = Catalogue::try_from(seen.clone());
                let loaded = loaded.map_err(|faults| anyhow::anyhow!("message_types: {}", faults.join("\n  ")))?;
                let catalogue = Arc::new(ArcSwap::from_pointee(loaded));
                let ring = Arc::new(KeyRing::load(&config.keys.ring).context("keys.ring")?);
                let store = open_store(config, Arc::clone(&ring), &author, world).await?;
                let watching =
                    tasks::watch_ring(store.keys.clone(), ring, config.keys.ring.clone(), self.stopping.clone());
                self.tasks.spawn(watching);
                let gateway = start_gateway(config, &log, &author, Arc::clone(&catalogue), store, world).await?;
                let watching =
                    tasks::watch_message_types(catalogue, config.message_types.clone(), seen, self.stopping.clone());
                self.tasks.spawn(watching);
                tasks::apply_partners(&gateway, &config.partners).await?;
                routes.add_service(query_service(gateway.clone(), Arc::clone(&caller_of)));
                routes.add_service(delivery_service(gateway.clone(), Arc::clone(&caller_of)));
                routes.add_service(document_service(gateway.clone(), Arc::clone(&caller_of)));
                routes.add_service(request_service(gateway.clone(), Arc::clone(&caller_of)));
                self.gateway = Some(gateway.clone());
                gateway.reception().clone()
            }
            Role::Ledger | Role::Desk | Role::Register => self.follow_registry(config, &log, &author, world).await?,
        };
        let (strangers, refused) = mpsc::channel(STRANGERS);
        let (clock, registry) = (world.clock().clone(), reception.registry_handle());
        let now = Arc::new(move || clock.now());
        let listener = Listener::bind(config.listen, tls(config), registry, now, strangers).context("listen")?;
        self.address = Some(listener.address());
        if let Some(gateway) = &self.gateway {
            let trust = listener.handle();
            let check = Arc::new(move |pem: &[u8]| trust.check(pem));
            routes.add_service(partner_service(gateway.clone(), Arc::clone(&caller_of), check));
        }
        if config.roles.contains(&Role::Ledger) {
            let ledger = open_ledger(config, &log, &author, world)?;
            routes.add_service(ledger.service(ledger_edge(&reception, &caller_of)));
            self.ledger = Some(RunningLedger::start(ledger));
        }
        self.tasks.spawn(tasks::count_strangers(reception, refused, self.stopping.clone()));
        self.tasks.spawn(tasks::edge_gauges(listener.handle(), log.clone(), self.stopping.clone()));
        self.start_tasks(config, &log, world, looked).await;
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 * 1024)
            .tcp_nodelay(true)
            .add_routes(routes.routes())
            .serve_with_incoming_shutdown(listener.accept(), self.closing.clone().cancelled_owned());
        self.server = Some(tokio::spawn(server));
        Ok(())
    }

    /// What a ledger without a gateway knows its callers by.
    async fn follow_registry(
        &mut self,
        config: &Config,
        log: &Log,
        author: &Incarnation,
        world: &World,
    ) -> anyhow::Result<Reception> {
        let ring = EdgeRing::load(&config.keys.edge).context("keys.edge")?;
        let opened = Reception::open(log.clone(), ring, author.clone(), world.clone()).await;
        let (reception, follower) = opened.context("the registry")?;
        self.follower = Some(tokio::spawn(follower.run(self.stopping.clone())));
        self.tasks.spawn(reception.clone().write_counts(self.stopping.clone()));
        Ok(reception)
    }

    /// Starts what runs beside the gateway and the ledger.
    async fn start_tasks(&self, config: &Config, log: &Log, world: &World, looked: health::Looked) {
        let stop = || self.stopping.clone();
        let mut roles = Vec::new();
        if let Some(gateway) = &self.gateway {
            self.tasks.spawn(tasks::watch_partners(gateway.clone(), config.partners.clone(), stop()));
            self.tasks.spawn(tasks::trim(gateway.clone(), stop()));
            self.tasks.spawn(tasks::erase_old_keys(gateway.clone(), config.retention, stop()));
            self.tasks.spawn(tasks::inbox_gauges(gateway.clone(), world.clone(), stop()));
            roles.push(health::Watched::Gateway(gateway.clone(), log.clone()));
        }
        if let Some(ledger) = &self.ledger {
            self.tasks.spawn(tasks::checkpoint_gauges(ledger.status.clone(), world.clone(), stop()));
            roles.push(health::Watched::Ledger(ledger.status.clone()));
        }
        // The first role speaks for the process as well.
        self.health.set_service_status("", ServingStatus::Serving).await;
        self.tasks.spawn(health::watch(self.health.clone(), roles, looked, stop()));
    }

    /// The gateway, where it is among the roles.
    pub fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// Resolves when the process can not go on, with the reason.
    pub async fn failed(&mut self) -> anyhow::Error {
        let gateway = async {
            match &self.gateway {
                None => std::future::pending().await,
                Some(gateway) => anyhow::Error::new(gateway.failed().await),
            }
        };
        tokio::select! {
            cause = gateway => cause,
            cause = ended(self.server.as_mut(), "the server") => cause,
            cause = ended(self.follower.as_mut(), "the registry") => cause,
            cause = ended(self.ledger.as_mut().map(|ledger| &mut ledger.task), "the ledger") => cause,
        }
    }

    /// Stops in good order: no new calls, open ones finished, folds and tree written, the log closed.
    pub async fn stop(mut self) {
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.closing.cancel();
        self.stopping.cancel();
        if let Some(desk) = self.desk.take() {
            desk.stop().await;
        }
        if let Some(register) = self.register.take() {
            end(register, "register").await;
        }
        let began = Instant::now();
        if let Some(gateway) = self.gateway.take() {
            gateway.stop(DRAIN).await;
        }
        let left = DRAIN.saturating_sub(began.elapsed()).max(Duration::from_secs(1));
        // Streams that do not end by themselves are cut when the process ends.
        if let Some(mut server) = self.server.take()
            && !server.is_finished()
            && tokio::time::timeout(left, &mut server).await.is_err()
        {
            server.abort();
        }
        if let Some(ledger) = self.ledger.take() {
            ledger.end().await;
        }
        if let Some(follower) = self.follower.take() {
            end(follower, "registry").await;
        }
        self.tasks.close();
        if tokio::time::timeout(CLOSED_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("tasks are left behind");
        }
        if let Some(log) = self.log.take() {
            close(log).await;
        }
    }
}

/// Lets go of the log once nobody else in the process holds it.
async fn close(log: Log) {
    let others_gone = async {
        while log.is_shared() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(CLOSED_WITHIN, others_gone).await.is_err() {
        tracing::warn!("the log is closed when the process ends");
    }
    // To close it may wait for the disk or for brokers.
    if tokio::task::spawn_blocking(move || drop(log)).await.is_err() {
        tracing::warn!("the log could not be closed");
    }
}

/// Why a task that runs for as long as the process has ended; pending where there is none.
async fn ended<E>(task: Option<&mut JoinHandle<Result<(), E>>>, name: &'static str) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let Some(task) = task else { return std::future::pending().await };
    match task.await {
        Ok(Ok(())) => anyhow::anyhow!("{name} ended"),
        Ok(Err(cause)) => anyhow::Error::new(cause).context(format!("{name} stopped")),
        Err(cause) => anyhow::Error::new(cause).context(format!("{name} ended")),
    }
}

/// Adds what tools ask a server for: what it can do.
fn add_reflection(routes: &mut RoutesBuilder) -> anyhow::Result<()> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(airut_wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What errors carry, so that tools can show it.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?;
    routes.add_service(reflection);
    Ok(())
}

/// Callers of the ledger are identified as the gateway's are, by a registry that is current, and their refusals are recorded.
fn ledger_edge(reception: &Reception, caller_of: &CallerOf) -> airut_ledger::Edge {
    let (asked, refusing, caller_of) = (reception.clone(), reception.clone(), Arc::clone(caller_of));
    airut_ledger::Edge {
        identify: Arc::new(move |extensions| {
            let (reception, caller_of, extensions) = (asked.clone(), Arc::clone(&caller_of), extensions.clone());
            Box::pin(async move { reception.current_caller(&extensions, &caller_of).await })
        }),
        refuse: Arc::new(move |partner, method, refusal| {
            let reception = refusing.clone();
            Box::pin(async move { reception.refuse(&partner, method, refusal).await })
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

async fn open_log(config: &Config, world: &World) -> anyhow::Result<Log> {
    match &config.log {
        LogConfig::Embedded { path } => {
            let settings = Embedded::at(path, world.clock().clone(), world.randomness().clone());
            Log::embedded(settings).with_context(|| format!("log.path: {}", path.display()))
        }
        LogConfig::Kafka(settings) => Log::kafka(settings.clone()).await.context("log"),
    }
}

/// What lies outside the log.
struct Outside {
    ring: Arc<KeyRing>,
    keys: KeyStore,
    objects: Objects,
}

/// Opens the store, and tries on a server what a directory promises.
async fn open_store(
    config: &Config,
    ring: Arc<KeyRing>,
    incarnation: &Incarnation,
    world: &World,
) -> anyhow::Result<Outside> {
    let objects = Objects::open(&config.store).context("store")?;
    let name = format!("checks/{incarnation}").parse().context("store")?;
    objects.check(&name).await.context("store")?;
    let (clock, random) = (world.clock().clone(), world.randomness().clone());
    let keys = KeyStore::new(objects.clone(), ring.wrapping(), clock, random);
    Ok(Outside { ring, keys, objects })
}

async fn start_gateway(
    config: &Config,
    log: &Log,
    incarnation: &Incarnation,
    catalogue: Arc<ArcSwap<Catalogue>>,
    Outside { ring, keys, objects }: Outside,
    world: &World,
) -> anyhow::Result<Gateway> {
    let settings = Settings {
        log: log.clone(),
        ring,
        keys,
        objects,
        catalogue,
        receipt_key: ReceiptKey::open_or_create(&config.keys.receipt, world).context("keys.receipt")?,
        folds: FoldStore::File(config.data.join("folds.sqlite")),
        scan: config.documents.scan(),
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
    own: Option<SocketAddr>,
    world: &World,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let register = &config.register;
    let server = register.server.clone().or(own.map(|own| own.to_string())).context("register.server")?;
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
