//! The ledger: proof of what the exchange did, by a part that only reads what the others record.
//!
//! Every record of the log but the ledger's own order and heartbeats is a leaf of one RFC 6962 tree. The log orders
//! each partition by itself, so the order between them is recorded too, as runs in `airut.order`: any ledger that folds
//! them comes to the same tree. A ledger signs only what it has read back and stored, so every checkpoint that it signs
//! is a prefix of every later one. A leaf is in a signed checkpoint within a second of its record.
//!
//! What this crate must never do: sign what is not durable, sign two trees that contradict each other, leave out a
//! record, or see a body (it has no keys for them). When its file fails twice or anything disagrees, it stops signing
//! and says so.
//!
//! In reading order: [`note`] is the checkpoints' format, `tree` and `order` are pure, `store` is the file, `inbox` and
//! `run` are the work, [`Service`] answers, and [`verify()`] checks all of it without trusting any.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod note;

mod leaf;
mod order;
mod tree;

mod store;

mod inbox;
mod run;
mod status;

mod keyfile;

mod service;

mod verify;

#[cfg(test)]
mod simulation;

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use airut_domain::id::Incarnation;
use airut_log::{HeaderWriter, Log, LogId, Random};
use airut_wire::v1::ledger_service_server::LedgerServiceServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    keyfile::KeyError,
    service::{Edge, Identify, Later, Refuse, Service},
    status::{Health, Signed, Status, StopReason},
    verify::{Finding, Outside, Report, VerifyError, verify},
};
use crate::{
    inbox::Bounds,
    note::{Origin, SigningKey, VerifierKey},
    service::Readers,
    store::{Identity, Store, StoreError},
};

/// The ledger's file, in its directory.
const FILE: &str = "ledger.sqlite";
/// Says that a process has it open.
const LOCK: &str = "ledger.lock";

/// What a ledger needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory, made when it is not there: `ledger.sqlite`, `ledger.key`, `ledger.vkey`.
    pub dir: PathBuf,
    /// The name that its checkpoints carry, such as `airut.example/dev`. Never changes.
    pub origin: Origin,
    /// What it reads, and puts its order into.
    pub log: Log,
    /// The author of its records.
    pub author: Incarnation,
    /// Gives nonces and, once, the signing key: unpredictable outside a simulation.
    pub random: Random,
}

/// A ledger that is open. One process at a time has it.
pub struct Ledger {
    shared: Shared,
    readers: Arc<Readers>,
}

/// What one stretch of work after another is done with.
struct Shared {
    files: Arc<Files>,
    log: Log,
    writer: HeaderWriter,
    random: Random,
    bounds: Bounds,
    status: watch::Sender<Status>,
}

/// The directory, locked.
struct Files {
    path: PathBuf,
    identity: Identity,
    key: SigningKey,
    /// Goes with the last who may still write.
    _lock: File,
}

/// Why a ledger can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open, or this one has already.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The directory can't be used.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file can't be read or written, or is something else.
    #[error("{}: {cause}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The file belongs to another log or another key, or does not agree with what was signed.
    #[error("{}: {what}", path.display())]
    Disagrees {
        /// The file.
        path: PathBuf,
        /// What does not agree.
        what: String,
    },
}

/// Why what is stored can't be gone on from.
enum LoadError {
    Storage(StoreError),
    Disagrees(String),
}

impl Ledger {
    /// Opens the ledger in its directory, or makes one with a key of its own. Checks that the file belongs to the log
    /// and to the key, and that its tree has the root that was signed last. Blocks for a few file operations.
    ///
    /// # Errors
    /// [`OpenError`]: nothing is signed with what does not agree.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(settings, Bounds::default())
    }

    fn open_with(settings: Settings, bounds: Bounds) -> Result<Self, OpenError> {
        let Settings { dir, origin, log, author, random } = settings;
        let files = Files::open(&dir, &origin, log.identity(), &random)?;
        let path = files.path.clone();
        let (store, _) = files.load().map_err(|error| match error {
            LoadError::Storage(error) => OpenError::Storage { path: path.clone(), cause: error.to_string() },
            LoadError::Disagrees(what) => OpenError::Disagrees { path: path.clone(), what },
        })?;
        let status =
            Status { size: store.edge().size(), checkpoint: None, unsigned_since: None, health: Health::Starting };
        let status = watch::Sender::new(status);
        let writer = HeaderWriter::new(log.clone(), author, random.clone());
        let shared = Shared { files: Arc::new(files), log, writer, random, bounds, status };
        Ok(Self { shared, readers: Arc::new(Readers::new(path)) })
    }

    /// Orders, stores and signs until `shutdown` is cancelled. May be dropped at any point: what is signed is durable,
    /// and the next run goes on from what is stored.
    ///
    /// # Errors
    /// [`StopReason`]: it signs no more, and the status says so. After [`StopReason::Storage`] it may be run again.
    pub async fn run(&mut self, shutdown: CancellationToken) -> Result<(), StopReason> {
        let outcome = run::run(&self.shared, &shutdown).await;
        let health = match &outcome {
            Ok(()) => Health::Starting,
            Err(reason) => {
                tracing::error!(%reason, "the ledger has stopped signing");
                Health::Stopped(reason.clone())
            }
        };
        self.shared.status.send_modify(|status| status.health = health);
        outcome
    }

    /// Where the ledger stands, and every change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// The key that its checkpoints are verified with.
    pub fn verifier_key(&self) -> &VerifierKey {
        self.shared.files.key.verifier()
    }

    /// The service that answers about it, for callers that the edge identifies. Serves what was signed also when the
    /// ledger has stopped.
    pub fn service(&self, edge: Edge) -> LedgerServiceServer<Service> {
        let service = Service::new(Arc::clone(&self.readers), self.status(), edge, self.shared.random.clone());
        LedgerServiceServer::new(service)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.verifier_key())
    }
}

impl Files {
    fn open(dir: &Path, origin: &Origin, log: LogId, random: &Random) -> Result<Self, OpenError> {
        let fault = |error| OpenError::Io { path: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(fault)?;
        let lock_path = dir.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(fault)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(dir.to_owned()),
            TryLockError::Error(error) => fault(error),
        })?;
        let path = dir.join(FILE);
        let signed_before = path.exists() || dir.join(keyfile::VERIFIER).exists();
        let absent = if signed_before { keyfile::Absent::Refuse } else { keyfile::Absent::Create };
        let key = keyfile::load(dir, origin, absent, random)?;
        let identity = Identity { log: log.to_string(), key: key.verifier().to_string() };
        Ok(Self { path, identity, key, _lock: lock })
    }

    /// Opens the file, and checks it against the log, the key and the checkpoint that it holds.
    fn load(&self) -> Result<(Store, Option<Signed>), LoadError> {
        let (store, found) = Store::open(&self.path, &self.identity).map_err(LoadError::Storage)?;
        if found.log != self.identity.log {
            let what = format!("it is the ledger of the log {}, not of {}", found.log, self.identity.log);
            return Err(LoadError::Disagrees(what));
        }
        if found.key != self.identity.key {
            let what = format!("it was signed with {}, and the key is that of {}", found.key, self.identity.key);
            return Err(LoadError::Disagrees(what));
        }
        let Some(recorded) = store.checkpoint() else { return Ok((store, None)) };
        let checkpoint = self.key.verifier().open(&recorded.note);
        let checkpoint = checkpoint
            .map_err(|error| LoadError::Disagrees(format!("the checkpoint that it holds is not valid: {error}")))?;
        let size = store.edge().size();
        if checkpoint.size > size || store.root_at(checkpoint.size).map_err(LoadError::Storage)? != checkpoint.root {
            let what = format!("its tree of {size} leaves has not the root signed at {}", checkpoint.size);
            return Err(LoadError::Disagrees(what));
        }
        let (size, root) = (checkpoint.size, checkpoint.root);
        let signed = Signed { note: recorded.note.as_str().into(), size, root, stamp: recorded.stamp };
        Ok((store, Some(signed)))
    }
}
