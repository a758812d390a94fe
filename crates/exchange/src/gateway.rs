//! A gateway: the parts that verbs work with, and the tasks that keep them current.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{
    id::{Incarnation, PartnerId},
    keys::Digest,
    member,
    partition::{Partition, Topic},
    query::{NotDisclosed, WhyNot},
    refusal::{Reason, Refusal},
};
use airut_log::{AppendError, HeaderWriter, KeyRing, Log, Positions, ReadError, Recorded, Writer};
use airut_store::{KeyStore, Objects};
use airut_telemetry::span;
use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bodies::Bodies,
    documents::{Passing, Scan, Slots, Vault},
    fold::{Accepted, Decided, FoldError, Folds, Store, StoreError, Unaccepted, Void},
    lanes::Lanes,
    message_types::Catalogue,
    planted::planted,
    quotas::Quotas,
    receipts::{ReceiptKey, Signer},
    reception::Reception,
    refusals::Refusals,
    verb,
    world::World,
};

/// As many calls may be under way at once; further ones are told to come back.
pub(crate) const MOST_IN_FLIGHT: usize = 4096;

/// How often a gateway says that it is up, and makes sure that it has read the registry to its end.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How often queries whose time is up are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// A query's owner ends it first; others wait this long, and up to twice that, after its deadline.
const OWNER_FIRST: Duration = Duration::from_secs(2);

/// As many overdue queries are ended in one sweep.
const SWEPT_AT_ONCE: usize = 256;

/// How long open streams, and then the folds, have to end when the gateway stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where a gateway keeps its folds.
#[derive(Clone, Debug)]
pub enum FoldStore {
    /// In memory: for the simulation. They are rebuilt from the log at every start.
    Memory,
    /// In this file.
    File(PathBuf),
}

/// What a gateway is made of.
#[derive(Debug)]
pub struct Settings {
    /// The log.
    pub log: Log,
    /// The keys of pseudonyms and partitions.
    pub ring: Arc<KeyRing>,
    /// The keys that bodies are sealed with.
    pub keys: KeyStore,
    /// What is too large for the log.
    pub objects: Objects,
    /// The key that signs receipts.
    pub receipt_key: ReceiptKey,
    /// The message types in force.
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    /// Where the folds are kept.
    pub folds: FoldStore,
    /// The content scan of documents, where there is one.
    pub scan: Option<Scan>,
    /// This life of the process: no two may have the same.
    pub incarnation: Incarnation,
    /// Time, randomness and a place to run tasks.
    pub world: World,
}

/// Why a gateway did not start or can not go on.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The fold's file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that can not be taken in.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// It failed before it had read the log.
    #[error("while the log was read: {0}")]
    Starting(Arc<GatewayError>),
    /// The log can not be read.
    #[error("the log can not be read: {0}")]
    Log(#[from] ReadError),
    /// The log can not be trimmed.
    #[error("the log can not be trimmed: {0}")]
    Trim(String),
    /// The fold's file is ahead of the log.
    #[error(
        "the fold's file stands at {partition} offset {position}, and the log ends at {end}: it belongs to another log"
    )]
    Ahead {
        /// The partition.
        partition: Partition,
        /// Where the fold stands.
        position: u64,
        /// Where the log ends.
        end: u64,
    },
}

/// A running gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

/// The parts of a gateway; only this crate sees into them.
pub struct Parts {
    pub(crate) world: World,
    pub(crate) log: Log,
    pub(crate) writer: Writer,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) keys: KeyStore,
    pub(crate) objects: Objects,
    pub(crate) folds: Arc<Folds>,
    pub(crate) signer: Signer,
    pub(crate) reception: Reception,
    pub(crate) incarnation: Incarnation,
    /// What each partner's file said when this gateway last saw to it.
    pub(crate) files: Mutex<BTreeMap<PartnerId, Digest>>,
    pub(crate) catalogue: Arc<ArcSwap<Catalogue>>,
    pub(crate) quotas: Quotas,
    /// Messages that wait to be recorded.
    pub(crate) sending: Lanes<verb::send::SendLane, verb::send::Waiting>,
    /// Settlements that wait to be recorded.
    pub(crate) settling: Lanes<verb::settle::SettleLane, verb::settle::Settling>,
    pub(crate) bodies: Arc<Bodies>,
    /// Where documents lie.
    pub(crate) vault: Vault,
    /// Documents that come in, and that go out.
    pub(crate) uploads: Slots,
    pub(crate) fetches: Slots,
    /// Documents that are let pass just now.
    pub(crate) passing: Passing,
    pub(crate) scan: Option<Scan>,
    /// Bounds the calls under way; closed when the gateway stops.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) calls: TaskTracker,
    /// Ends the calls that only wait for something to come. Ended with `stop` at the latest.
    pub(crate) draining: CancellationToken,
    /// Ends the streams and whatever runs on its own.
    pub(crate) stop: CancellationToken,
    pub(crate) streams: TaskTracker,
    /// Ends the folds, after everything that waits for their word.
    stop_folds: CancellationToken,
    folding: TaskTracker,
    failure: watch::Sender<Option<Arc<GatewayError>>>,
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gateway({})", self.incarnation)
    }
}

/// Why a proposed record does not count, for the verb that proposed it.
#[derive(Debug)]
pub(crate) enum Unproposed {
    /// The fold says so.
    Void(Void),
    /// It is not, or may not be, in the log: what to tell the caller.
    Unwritten(Refusal),
}

impl Gateway {
    /// Starts a gateway: reads the log up to where it ends now, then keeps up with it. Returns once that end is reached, so
    /// that what it serves is never older than its start.
    ///
    /// # Errors
    /// [`GatewayError`] when the folds can not be opened or the log not be read.
    pub async fn start(settings: Settings) -> Result<Self, GatewayError> {
        let Settings { log, ring, keys, objects, receipt_key, catalogue, folds, scan, incarnation, world } = settings;
        let store = match folds {
            FoldStore::Memory => Store::memory(),
            FoldStore::File(path) => Store::file(&path, log.identity())?,
        };
        let bodies = Arc::new(Bodies::default());
        let folds = Arc::new(Folds::open(incarnation.clone(), store, Arc::clone(&bodies))?);
        let asked = world.now();
        let ends = ends(&log, &folds.positions()).await?;
        let headers = HeaderWriter::new(log.clone(), incarnation.clone(), world.randomness().clone());
        let writer = Writer::new(headers.clone(), keys.clone());
        let refusals = Refusals::new(headers, ring.edge(), world.clone());
        let reception = Reception::new(folds.current(), refusals, world.clone());
        let stop = CancellationToken::new();
        let gateway = Self(Arc::new(Parts {
            signer: Signer::start(receipt_key, Arc::clone(&folds), &world),
            reception,
            files: Mutex::default(),
            catalogue,
            quotas: Quotas::default(),
            sending: Lanes::default(),
            settling: Lanes::default(),
            bodies,
            vault: Vault::new(objects.clone(), keys.clone(), world.randomness().clone()),
            uploads: Slots::default(),
            fetches: Slots::default(),
            passing: Passing::default(),
            scan,
            in_flight: Arc::new(Semaphore::new(MOST_IN_FLIGHT)),
            calls: TaskTracker::new(),
            draining: stop.child_token(),
            stop,
            streams: TaskTracker::new(),
            stop_folds: CancellationToken::new(),
            folding: TaskTracker::new(),
            failure: watch::Sender::new(None),
            world,
            log,
            writer,
            ring,
            keys,
            objects,
            folds,
            incarnation,
        }));
        gateway.spawn(gateway.folding.track_future(gateway.clone().fold()));
        tokio::select! {
            biased;
            () = gateway.folds.reached(&ends) => {}
            cause = gateway.failed() => return Err(GatewayError::Starting(cause)),
        }
        gateway.folds.registry_was_read(asked);
        gateway.bury_the_dead().await;
        gateway.spawn(gateway.streams.track_future(gateway.clone().keep_current()));
        gateway.spawn(gateway.streams.track_future(gateway.clone().sweep()));
        gateway.spawn(gateway.streams.track_future(gateway.clone().sweep_messages()));
        gateway.spawn(gateway.streams.track_future(gateway.clone().tell_of_dead_letters()));
        gateway.spawn(gateway.streams.track_future(gateway.clone().sweep_requests()));
        gateway.spawn(gateway.streams.track_future(gateway.clone().pass_documents()));
        gateway.spawn(gateway.streams.track_future(gateway.clone().end_documents()));
        let counts = gateway.reception.clone().write_counts(gateway.stop.clone());
        gateway.spawn(gateway.streams.track_future(counts));
        Ok(gateway)
    }

    /// The gateway's folds.
    pub fn folds(&self) -> &Arc<Folds> {
        &self.folds
    }

    /// The keys that bodies are sealed with.
    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// What is too large for the log.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Whether the registry is known to have been read to its end lately.
    pub fn is_current(&self) -> bool {
        self.folds.registry_is_current(self.world.now())
    }

    /// Resolves when the gateway can not go on, with the reason. The process must then stop, unhealthy.
    pub async fn failed(&self) -> Arc<GatewayError> {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(cause) = failure.borrow_and_update().clone() {
                return cause;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes no new calls, finishes those under way within `patience`, says goodbye and writes the folds.
    pub async fn stop(&self, patience: Duration) {
        self.in_flight.close();
        self.calls.close();
        self.draining.cancel();
        if tokio::time::timeout(patience, self.calls.wait()).await.is_err() {
            tracing::warn!("calls still under way are left to another gateway");
        }
        self.stop.cancel();
        self.streams.close();
        if tokio::time::timeout(GOODBYE, self.streams.wait()).await.is_err() {
            tracing::warn!("streams are left open");
        }
        let left = member::Event::Left(self.incarnation.clone());
        if let Err(cause) = self.writer.append(Partition::only(Topic::Members), left, None, "").await {
            tracing::debug!(%cause, "the goodbye is not recorded; the others will notice");
        }
        self.stop_folds.cancel();
        self.folding.close();
        if tokio::time::timeout(GOODBYE, self.folding.wait()).await.is_err() {
            tracing::warn!("the folds are not written; they are caught up from the log at the next start");
        }
    }

    /// Who calls, and the record of whom it refuses.
    pub fn reception(&self) -> &Reception {
        &self.reception
    }

    /// Runs a task of the gateway, until the gateway is stopped at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.world.spawn(task);
    }

    /// Proposes a record: appends it, reads it back, and returns what the fold says.
    ///
    /// When the future is dropped the record may or may not be in the log.
    pub(crate) async fn propose<T>(
        &self,
        partition: Partition,
        command: T,
        body: Option<&[u8]>,
        traceparent: &str,
    ) -> Result<Accepted<T>, Unproposed>
    where
        T: Clone + Into<airut_domain::record::Kind>,
    {
        let recorded = self.append(partition, command, body, traceparent).await.map_err(Unproposed::Unwritten)?;
        self.folds.decide(recorded).await.map_err(|unaccepted| match unaccepted {
            Unaccepted::Void(void) => Unproposed::Void(void),
            Unaccepted::Undecided => Unproposed::Unwritten(Refusal::new(Reason::OutcomeUnknown)),
        })
    }

    /// Proposes a record of messages: appends it, reads it back, and returns what the fold says of each.
    ///
    /// When the future is dropped the record may or may not be in the log.
    pub(crate) async fn propose_each<T>(
        &self,
        partition: Partition,
        command: T,
        body: Option<&[u8]>,
        traceparent: &str,
    ) -> Result<Decided<T>, Refusal>
    where
        T: Clone + Into<airut_domain::record::Kind>,
    {
        #[cfg(test)]
        let (kind, items) = crate::planted::spoken_of(&command.clone().into());
        let recorded = self.append(partition, command, body, traceparent).await?;
        planted!(
            ReceiptBeforeVerdict,
            if kind == "messages accepted" {
                return Ok(Decided::presumed(recorded, items));
            }
        );
        planted!(
            PushedBeforeVerdict,
            if kind == "messages offered" {
                return Ok(Decided::presumed(recorded, items));
            }
        );
        self.folds.decide_each(recorded).await.map_err(|_| Refusal::new(Reason::OutcomeUnknown))
    }

    async fn append<T>(
        &self,
        partition: Partition,
        command: T,
        body: Option<&[u8]>,
        traceparent: &str,
    ) -> Result<Recorded<T>, Refusal>
    where
        T: Clone + Into<airut_domain::record::Kind>,
    {
        let record = span::record(partition.topic, traceparent);
        let send = span::send(&record, partition);
        // What follows from the record continues from its append; where spans go nowhere, from the caller's own.
        let from_here = airut_telemetry::traceparent(&send);
        let appended = self.writer.append(partition, command, body, from_here.as_deref().unwrap_or(traceparent)).await;
        let recorded = appended.map_err(|cause| unwritten(&cause))?;
        span::sent(&send, recorded.position());
        Ok(recorded)
    }

    async fn fold(self) {
        let tail = self.log.tail(&self.folds.positions());
        if let Err(cause) = self.folds.run(tail, self.stop_folds.clone()).await {
            tracing::error!(%cause, "the folds can not go on");
            self.folds.end();
            self.failure.send_replace(Some(Arc::new(cause.into())));
            self.stop.cancel();
        }
    }

    /// Where no other process can be alive, those that did not say goodbye are gone, and their streams with them: questions
    /// need not wait for them to be missed.
    async fn bury_the_dead(&self) {
        if !self.log.is_exclusive() {
            return;
        }
        for gateway in self.folds.gateways().into_iter().filter(|gateway| *gateway != self.incarnation) {
            let left = member::Event::Left(gateway);
            if let Err(unproposed) = self.propose(Partition::only(Topic::Members), left, None, "").await {
                tracing::debug!(?unproposed, "a gateway that is gone stays listed until it is missed");
            }
        }
    }

    /// Says that the gateway is up, and makes sure every now and then that it has read the registry to its end.
    async fn keep_current(self) {
        let registry = Partition::only(Topic::Partners);
        while !self.stop.is_cancelled() {
            let asked = self.world.now();
            if let Ok(end) = self.log.end(registry).await {
                let ends = Positions::from([(registry, end)]);
                if tokio::time::timeout(HEARTBEAT, self.folds.reached(&ends)).await.is_ok() {
                    self.folds.registry_was_read(asked);
                }
            }
            let beat = member::Event::Heartbeat(self.incarnation.clone());
            let mut events = self.folds.unknown_streams();
            events.insert(0, beat);
            for event in events {
                if let Err(cause) = self.writer.append(Partition::only(Topic::Members), event, None, "").await {
                    tracing::warn!(%cause, "no heartbeat");
                    break;
                }
            }
            drop(tokio::time::timeout(HEARTBEAT, self.stop.cancelled()).await);
        }
    }

    /// Ends queries that nobody has ended: their gateway died, or could not write.
    async fn sweep(self) {
        while !self.stop.is_cancelled() {
            let patience = self.world.jittered(OWNER_FIRST);
            let now = self.world.now();
            for (key, open) in self.folds.overdue(now, SWEPT_AT_ONCE) {
                if now.since(open.deadline) < patience || planted!(NeverEnded) {
                    continue;
                }
                let partition = verb::partition_of(&self.ring, &key);
                let not = NotDisclosed { key, asked: open.asked.offset, why: WhyNot::NoAnswer };
                // Somebody else may have ended it meanwhile, or the log be down: the next sweep sees.
                if let Err(Unproposed::Unwritten(_)) = self.propose(partition, not, None, "").await {
                    break;
                }
            }
            drop(tokio::time::timeout(SWEEP, self.stop.cancelled()).await);
        }
    }
}

/// What to tell a caller whose record is not, or may not be, in the log.
pub(crate) fn unwritten(cause: &AppendError) -> Refusal {
    tracing::warn!(%cause, "a record could not be written");
    Refusal::new(match cause {
        AppendError::NotWritten(_) | AppendError::TooLarge { .. } => Reason::LogUnavailable,
        AppendError::OutcomeUnknown(_) => Reason::OutcomeUnknown,
    })
}

async fn ends(log: &Log, positions: &Positions) -> Result<Positions, GatewayError> {
    let mut ends = Positions::new();
    for partition in Partition::all() {
        let end = log.end(partition).await?;
        let position = positions.get(&partition).copied().unwrap_or(0);
        if position > end {
            return Err(GatewayError::Ahead { partition, position, end });
        }
        ends.insert(partition, end);
    }
    Ok(ends)
}
