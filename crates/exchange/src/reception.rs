//! Who calls, and that whoever may not call is on record before they are told: what every service at the edge needs, in a
//! process with a gateway or without one.
//!
//! A process without folds follows the registry's topic by asking for its end twice a second. That is a read of a few bytes
//! of one small topic, and spares it a second tail of everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use airut_domain::{
    id::{Incarnation, PartnerId},
    partition::{Partition, Topic},
    record::Kind,
    refusal::{Reason, Refusal},
    registry::{self, Registry, Unidentified, VerifiedPartner},
    time::Timestamp,
};
use airut_log::{EdgeRing, HeaderWriter, Log, ReadError};
use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::{
    FoldError, GatewayError, Stranger, fold::REGISTRY_CURRENT, gateway::unwritten, refusals::Refusals, world::World,
};

/// How often a process without folds looks for changes of the registry.
const LOOK: Duration = Duration::from_millis(500);

/// As many bytes of the registry are read at once.
const READ_BYTES: usize = 4 << 20;

/// Finds the caller of a request, by its certificate and the registry as it is now, and the stranger when there is none.
pub type CallerOf =
    Arc<dyn Fn(&http::Extensions, &Registry) -> Result<VerifiedPartner, (Unidentified, Stranger)> + Send + Sync>;

/// The registry, and when it was last known to be read to its end.
#[derive(Debug)]
pub(crate) struct Current {
    registry: Arc<ArcSwap<Registry>>,
    /// In milliseconds since 1970.
    read: AtomicI64,
}

impl Current {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry: Arc::new(ArcSwap::from(registry)), read: AtomicI64::new(i64::MIN) }
    }

    pub(crate) fn handle(&self) -> Arc<ArcSwap<Registry>> {
        Arc::clone(&self.registry)
    }

    pub(crate) fn load(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    pub(crate) fn store(&self, registry: Arc<Registry>) {
        self.registry.store(registry);
    }

    /// The registry's end, as it was at `asked`, has been read.
    pub(crate) fn was_read(&self, asked: Timestamp) {
        self.read.store(asked.as_millis(), Ordering::Release);
    }

    /// Whether the registry was read to its end within the last [`REGISTRY_CURRENT`].
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        let read = Timestamp::from_millis(self.read.load(Ordering::Acquire));
        // A clock that was set back says nothing until the registry has been read by it.
        read <= now && now.since(read) <= REGISTRY_CURRENT
    }
}

/// Identifies callers and records refusals. Cheap to clone.
#[derive(Clone)]
pub struct Reception {
    current: Arc<Current>,
    refusals: Refusals,
    world: World,
}

/// Follows the registry for a process without folds.
#[derive(Debug)]
pub struct Follower {
    log: Log,
    current: Arc<Current>,
    world: World,
    next: u64,
}

impl Reception {
    pub(crate) fn new(current: Arc<Current>, refusals: Refusals, world: World) -> Self {
        Self { current, refusals, world }
    }

    /// For a process without folds: reads the registry to its end. The follower must be run from then on.
    ///
    /// # Errors
    /// When the registry can not be read.
    pub async fn open(
        log: Log,
        ring: EdgeRing,
        author: Incarnation,
        world: World,
    ) -> Result<(Self, Follower), GatewayError> {
        let current = Arc::new(Current::new(Arc::default()));
        let headers = HeaderWriter::new(log.clone(), author, world.randomness().clone());
        let refusals = Refusals::new(headers, ring, world.clone());
        let mut follower = Follower { log, current: Arc::clone(&current), world: world.clone(), next: 0 };
        follower.catch_up().await?;
        Ok((Self::new(current, refusals, world), follower))
    }

    /// The registry, for whoever follows it.
    pub fn registry_handle(&self) -> Arc<ArcSwap<Registry>> {
        self.current.handle()
    }

    /// Who calls, as the registry is now. Whoever may not is on record, or counted, when this refuses them.
    ///
    /// # Errors
    /// What to answer.
    pub async fn caller(
        &self,
        extensions: &http::Extensions,
        caller_of: &CallerOf,
    ) -> Result<VerifiedPartner, Refusal> {
        match caller_of(extensions, &self.current.load()) {
            Ok(caller) => Ok(caller),
            Err((unidentified, stranger)) => Err(self.refuse_unidentified(unidentified, &stranger).await),
        }
    }

    /// The same, for a service that shows at once what it is asked for: nothing is shown by a registry that may be out of date.
    ///
    /// # Errors
    /// What to answer.
    pub async fn current_caller(
        &self,
        extensions: &http::Extensions,
        caller_of: &CallerOf,
    ) -> Result<VerifiedPartner, Refusal> {
        if !self.current.is_current(self.world.now()) {
            return Err(Refusal::new(Reason::RegistryStale));
        }
        self.caller(extensions, caller_of).await
    }

    /// Records a partner's refusal, and returns what may then be answered: the refusal, or that the log can not be written.
    pub async fn refuse(&self, partner: &PartnerId, method: &str, refusal: Refusal) -> Refusal {
        match self.refusals.record(partner, method, &refusal).await {
            Ok(()) => refusal,
            Err(cause) => unwritten(&cause),
        }
    }

    /// Counts a handshake or a call that came to no partner's name, and records it within the budget.
    pub async fn count_stranger(&self, stranger: &Stranger) {
        if let Err(cause) = self.refusals.count(stranger).await {
            tracing::warn!(%cause, reason = stranger.reason.code(), "a stranger's refusal is not recorded");
        }
    }

    /// Writes the counts of each minute, and those of the last one when told to stop.
    pub async fn write_counts(self, stop: CancellationToken) {
        self.refusals.write_counts(stop).await;
    }

    /// Records or counts a call without a usable identity: a suspended partner's under its name, a stranger's as a stranger's.
    async fn refuse_unidentified(&self, unidentified: Unidentified, stranger: &Stranger) -> Refusal {
        let Unidentified { refusal, partner } = unidentified;
        match partner {
            Some(partner) => self.refuse(&partner, "", refusal).await,
            None => {
                self.count_stranger(stranger).await;
                refusal
            }
        }
    }
}

impl std::fmt::Debug for Reception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reception")
    }
}

impl Follower {
    /// Keeps the registry current until told to stop. While the log can not be read the registry grows old, and is then no
    /// longer gone by.
    ///
    /// # Errors
    /// A record of the registry that this build can not take in: the process must stop.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), GatewayError> {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            match self.catch_up().await {
                Err(GatewayError::Log(cause @ ReadError::Unavailable(_))) => {
                    tracing::warn!(%cause, "the registry can not be read; trying again");
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), GatewayError> {
        let topic = Partition::only(Topic::Partners);
        let asked = self.world.now();
        let end = self.log.end(topic).await?;
        while self.next < end {
            let records = self.log.read(topic, self.next..end, READ_BYTES).await?;
            let mut registry = Registry::clone(&self.current.load());
            for stored in &records {
                let position = stored.position.to_string();
                let header = airut_wire::record::decode(&stored.header)
                    .map_err(|cause| FoldError::Unreadable { position: position.clone(), cause })?;
                let Kind::Partner(applied) = header.kind else { return Err(FoldError::Misplaced(position).into()) };
                let (_, next) = registry::apply(&registry, &applied);
                next.into_iter().for_each(|entry| registry.insert(entry));
                self.next = stored.position.offset + 1;
            }
            self.current.store(Arc::new(registry));
        }
        self.current.was_read(asked);
        Ok(())
    }
}
