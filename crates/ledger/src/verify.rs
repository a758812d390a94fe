//! `airut ledger verify`: checks a log and its ledger against each other and against what was signed, trusting neither.
//!
//! One pass, in constant memory, over `airut.order`, every partition and every entry at once: the runs say which record
//! comes next, the log has the record, the ledger its leaf, the tree its hash. Three witnesses for each entry: where
//! one was changed, the other two say which. What was changed in all of them the signed checkpoints tell.
//!
//! Where `airut.order` itself was changed it can not say what comes next. Then the ledger's own order is followed up to
//! the next checkpoint: if the root that was signed there is the root of what was followed, that order was the right
//! one.
//!
//! It changes nothing. For a log that nobody writes to meanwhile.

mod audit;
mod conclude;

mod compared;
mod entries;
mod finding;
mod records;

use std::{fs, io, path::Path, path::PathBuf};

use airut_log::{Log, ReadError};

pub use self::finding::Finding;
use self::{
    audit::{Audit, Fault},
    entries::Entries,
};
use crate::{
    FILE, keyfile,
    note::{Checkpoint, InvalidKey, VerifierKey},
    store::{Reader, StoreError},
};

/// What is known from outside the data directory. Who can change everything in it can also make a new key and sign
/// anew: only what was kept elsewhere tells.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// The verifier key; that of the directory when none is given.
    pub key: Option<VerifierKey>,
    /// A checkpoint kept outside, as a signed note, such as that of a receipt. Tells whether the ledger was cut off or
    /// another was put in its place.
    pub checkpoint: Option<String>,
}

/// What a verification came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many entries were compared.
    pub entries: u64,
    /// How many records of the log were read.
    pub records: u64,
    /// How many checkpoints in the log were found in order.
    pub checkpoints: u64,
    /// The largest checkpoint that was found in order.
    pub checkpoint: Option<Checkpoint>,
    /// How many records of the log are not yet in it, though they will be entries.
    pub unsigned: u64,
    /// What is wrong: the first thousand.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_total: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.findings_total == 0
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The ledger's file can't be read at all.
    #[error("{}: {cause}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// There is no key to verify with.
    #[error("{}: {error}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds no key.
    #[error("{}: {error}", path.display())]
    InvalidKey {
        /// The file.
        path: PathBuf,
        /// Why.
        error: InvalidKey,
    },
    /// The beginning of the order is trimmed away, so where the entries stand can't be computed.
    #[error("airut.order starts at {0}: the order before it is trimmed away")]
    OrderTrimmed(u64),
}

/// Verifies the log and the ledger in this directory. Takes some microseconds for each record, and blocks its thread
/// while it reads: for a command line.
///
/// # Errors
/// [`VerifyError`] when there is nothing to verify. Whatever is wrong with what there is is in the report.
pub async fn verify(log: &Log, dir: &Path, outside: Outside) -> Result<Report, VerifyError> {
    let path = dir.join(FILE);
    let ledger = |error: StoreError| VerifyError::Ledger { path: path.clone(), cause: error.to_string() };
    let key = match outside.key {
        Some(key) => key,
        None => read_key(&dir.join(keyfile::VERIFIER))?,
    };
    let entries = Reader::open(&path).and_then(Entries::new).map_err(ledger)?;
    let audit = Audit::begin(log, key, entries, outside.checkpoint).await?;
    audit.run().await.map_err(|fault| match fault {
        Fault::Log(error) => error.into(),
        Fault::Ledger(error) => ledger(error),
    })
}

fn read_key(path: &Path) -> Result<VerifierKey, VerifyError> {
    let text = fs::read_to_string(path).map_err(|error| VerifyError::NoKey { path: path.to_owned(), error })?;
    text.trim().parse().map_err(|error| VerifyError::InvalidKey { path: path.to_owned(), error })
}
