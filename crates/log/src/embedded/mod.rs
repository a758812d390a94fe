//! The embedded log: one SQLite file on one machine, written by one thread, read by any number of tails.
//!
//! One process at a time: a lock on the file `<log>-lock` says so (on a file of its own, because SQLite's locks on the
//! log are dropped when any other descriptor of it is closed). The lock goes with the process, however that ends.

mod committer;
mod file;
mod published;
mod readers;
mod tail;

use std::{
    collections::VecDeque,
    fs::{self, File, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
};

use airut_domain::{
    partition::{Partition, Position},
    record::Stored,
    time::Timestamp,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

pub(crate) use self::tail::Tail;
use self::{
    committer::{Append, Command, Committer, Counters, Storage, Trim},
    published::{Found, Published},
    readers::Readers,
};
use crate::{
    AppendError, Bounds, Cause, Clock, LogId, MAX_RECORD_BYTES, OpenError, Positions, Random, ReadError, Stats,
    TrimError, Unstamped,
};

/// What a queued command takes of the queue's room besides its bytes: bounds their number as well.
const COMMAND_BYTES: usize = 256;

/// Where the embedded log lies and what it may use.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The file. Its directory must exist; `-wal`, `-shm` and `-lock` are put beside it.
    pub path: PathBuf,
    /// Stamps the records.
    pub clock: Clock,
    /// Gives a new log its identity.
    pub random: Random,
    /// The most that may wait to be written, every record counting 256 bytes besides its own. Who appends more waits.
    pub queue_bytes: usize,
    /// The most that is kept in memory of what was written last, for tails to be served from.
    pub recent_bytes: usize,
    /// The most that the file may take, without its WAL. None: what the disk has.
    pub max_file_bytes: Option<u64>,
}

impl Embedded {
    /// The log at this path, with the bounds that suit a gateway: 32 MiB queued, 32 MiB in memory, no bound on the
    /// file.
    pub fn at(path: impl Into<PathBuf>, clock: Clock, random: Random) -> Self {
        let (queue_bytes, recent_bytes) = (32 * 1024 * 1024, 32 * 1024 * 1024);
        Self { path: path.into(), clock, random, queue_bytes, recent_bytes, max_file_bytes: None }
    }
}

pub(crate) struct Engine {
    identity: LogId,
    published: Arc<Published>,
    readers: Arc<Readers>,
    changes: watch::Receiver<()>,
    /// None when opened for reading only.
    writer: Option<Writer>,
    /// None when a log is read that has no lock file.
    lock: Option<File>,
}

struct Writer {
    queue: Sender<Command>,
    room: Arc<Semaphore>,
    capacity: usize,
    counters: Arc<Counters>,
    thread: JoinHandle<()>,
}

impl Engine {
    pub(crate) fn open(settings: Embedded) -> Result<Self, OpenError> {
        let fault = |error: io::Error| OpenError::Storage { path: settings.path.clone(), cause: error.into() };
        let path = absolute(&settings.path).map_err(fault)?;
        let lock = File::options().create(true).truncate(false).write(true).open(lock_path(&path)).map_err(fault)?;
        take(&path, lock.try_lock())?;
        let opened = file::open(&path, settings.max_file_bytes, LogId(settings.random.bytes()))?;
        let published = Arc::new(Published::new(&opened.heads, settings.recent_bytes));
        let (sender, queue) = mpsc::channel();
        let (changes, changed) = watch::channel(());
        let counters = Arc::new(Counters::default());
        let committer = Committer {
            path: path.clone(),
            max_bytes: settings.max_file_bytes,
            clock: settings.clock.clone(),
            identity: opened.identity,
            queue,
            published: Arc::clone(&published),
            changes,
            counters: Arc::clone(&counters),
            heads: opened.heads,
            storage: Storage::Open(opened.file),
            trims: VecDeque::new(),
            written_since_checkpoint: 0,
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(|| committer.run()).map_err(fault)?;
        let capacity = settings.queue_bytes.clamp(1, u32::MAX as usize);
        let room = Arc::new(Semaphore::new(capacity));
        Ok(Self {
            identity: opened.identity,
            published,
            readers: Arc::new(Readers::new(path, Vec::new())),
            changes: changed,
            writer: Some(Writer { queue: sender, room, capacity, counters, thread }),
            lock: Some(lock),
        })
    }

    pub(crate) fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let fault = |error: io::Error| OpenError::Storage { path: path.to_owned(), cause: error.into() };
        let path = fs::canonicalize(path).map_err(fault)?;
        // A copy of a log may come without the lock's file. A log that somebody writes to has one.
        let lock = match File::open(lock_path(&path)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fault(error)),
        };
        lock.as_ref().map_or(Ok(()), |lock| take(&path, lock.try_lock_shared()))?;
        let opened = file::open_read_only(&path)?;
        Ok(Self {
            identity: opened.identity,
            published: Arc::new(Published::new(&opened.heads, 0)),
            readers: Arc::new(Readers::new(path, vec![opened.connection])),
            changes: watch::channel(()).1,
            writer: None,
            lock,
        })
    }

    pub(crate) fn identity(&self) -> LogId {
        self.identity
    }

    pub(crate) async fn append(
        &self,
        partition: Partition,
        record: Unstamped,
    ) -> Result<(Position, Timestamp), AppendError> {
        assert!(self.published.span(partition).is_some(), "no partition {partition}");
        let size_bytes = record.size();
        if size_bytes > MAX_RECORD_BYTES {
            return Err(AppendError::TooLarge { size_bytes });
        }
        let writer = self.writer.as_ref().ok_or_else(|| AppendError::NotWritten(read_only()))?;
        let room = writer.room(size_bytes).await;
        let (answer, outcome) = oneshot::channel();
        let append = Command::Append(Append { partition, record, answer, room });
        writer.queue.send(append).map_err(|_| AppendError::NotWritten(ended()))?;
        outcome.await.unwrap_or_else(|_| Err(AppendError::OutcomeUnknown(ended())))
    }

    pub(crate) fn tail(self: &Arc<Self>, from: &Positions) -> Tail {
        let mut positions = self.published.starts();
        positions.extend(from);
        Tail::new(Arc::clone(self), self.changes.clone(), positions)
    }

    pub(crate) async fn read(
        &self,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        match self.published.find(partition, offsets, bounds)? {
            Found::InMemory(records) => Ok(records),
            Found::InFile(offsets) => self.readers.read(partition, offsets, bounds).await,
        }
    }

    pub(crate) fn span(&self, partition: Partition) -> Result<Range<u64>, ReadError> {
        self.published.span(partition).ok_or(ReadError::NoSuchPartition(partition))
    }

    pub(crate) async fn trim(&self, partition: Partition, before: u64) -> Result<(), TrimError> {
        self.published.span(partition).ok_or(TrimError::NoSuchPartition(partition))?;
        let writer = self.writer.as_ref().ok_or_else(|| TrimError::Unavailable(read_only()))?;
        let room = writer.room(0).await;
        let (answer, outcome) = oneshot::channel();
        let trim = Command::Trim(Trim { partition, before, answer, room });
        writer.queue.send(trim).map_err(|_| TrimError::Unavailable(ended()))?;
        outcome.await.unwrap_or_else(|_| Err(TrimError::Unavailable(ended())))
    }

    pub(crate) fn stats(&self) -> Stats {
        let Some(writer) = &self.writer else { return Stats::default() };
        Stats {
            commits: writer.counters.commits.load(Ordering::Relaxed),
            records: writer.counters.records.load(Ordering::Relaxed),
            queued_bytes: writer.capacity - writer.room.available_permits(),
            reopened: writer.counters.reopened.load(Ordering::Relaxed),
        }
    }
}

impl Writer {
    /// Waits for room in the queue, first come, first served. A command larger than the whole queue gets it when it is
    /// empty.
    async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let wanted = (bytes + COMMAND_BYTES).min(self.capacity);
        let wanted = u32::try_from(wanted).expect("the capacity fits");
        Arc::clone(&self.room).acquire_many_owned(wanted).await.expect("the semaphore is never closed")
    }
}

/// Waits for what is queued to be written, so that the log can be opened again at once.
impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(Writer { queue, thread, .. }) = self.writer.take() {
            drop(queue);
            // A panic of the writer was its own report.
            drop(thread.join());
        }
        // Closing would do, but for a process forked at this moment, which holds the descriptor until it runs its
        // program.
        if let Some(Err(error)) = self.lock.as_ref().map(File::unlock) {
            tracing::warn!(%error, "the log's lock could not be given back");
        }
    }
}

fn take(path: &Path, lock: Result<(), TryLockError>) -> Result<(), OpenError> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Storage { path: path.to_owned(), cause: error.into() }),
    }
}

/// The path without links, so that one log has one lock however it is named. The file itself may not be there yet.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(error)?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(fs::canonicalize(directory.unwrap_or(Path::new(".")))?.join(name))
        }
        found => found,
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

fn read_only() -> Cause {
    Cause::new("the log is open for reading only")
}

fn ended() -> Cause {
    Cause::new("the log's writer has ended")
}
