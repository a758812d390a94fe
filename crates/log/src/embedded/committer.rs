//! The one thread that writes.
//!
//! It takes all that is queued, up to a bound, writes it in one transaction, and only after the commit has synced makes
//! it known to the tails and then to the callers: the slower the disk, the more records share one sync.
//!
//! A commit that failed where it may have come through makes the file suspect: it is opened anew, what is found beyond
//! the known end is made known like any other record, and the callers are told which it was. Only while the file can't
//! be opened is the outcome called unknown. Until it can, nothing is written, and whoever appends is told so at once.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use airut_domain::{
    partition::{Partition, Position},
    record::Stored,
    time::Timestamp,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::{
    file::{self, Failure, File, Head, Heads, TRIM_ROWS},
    published::Published,
};
use crate::{AppendError, Bounds, Cause, Clock, LogId, TrimError, Unstamped, size};

/// The most that one transaction takes.
const BATCH: Bounds = Bounds { records: 4096, bytes: 8 * 1024 * 1024 };
/// How much is written before the WAL is moved into the file, by estimate. More would make the pauses longer (2 ms each
/// on an idle disk), less would make them meet one append in a hundred even when they come one at a time.
const CHECKPOINT_BYTES: usize = 4 * 1024 * 1024;
/// What a commit writes per partition besides the records: parts of pages that were full of others.
const PARTITION_BYTES: usize = 6 * 1024;
/// How long to wait before a suspect file that could not be opened is tried again.
const RETRY: Duration = Duration::from_millis(200);

pub(super) enum Command {
    Append(Append),
    Trim(Trim),
}

pub(super) struct Append {
    pub(super) partition: Partition,
    pub(super) record: Unstamped,
    pub(super) answer: oneshot::Sender<Result<(Position, Timestamp), AppendError>>,
    /// Its room in the queue.
    pub(super) room: OwnedSemaphorePermit,
}

pub(super) struct Trim {
    pub(super) partition: Partition,
    pub(super) before: u64,
    pub(super) answer: oneshot::Sender<Result<(), TrimError>>,
    /// Its room in the queue.
    pub(super) room: OwnedSemaphorePermit,
}

/// What the writer has done since the log was opened.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) reopened: AtomicU64,
}

pub(super) struct Committer {
    pub(super) path: PathBuf,
    pub(super) max_bytes: Option<u64>,
    pub(super) clock: Clock,
    pub(super) identity: LogId,
    pub(super) queue: Receiver<Command>,
    pub(super) published: Arc<Published>,
    pub(super) changes: watch::Sender<()>,
    pub(super) counters: Arc<Counters>,
    /// Where the partitions stand, as far as was made known.
    pub(super) heads: Heads,
    pub(super) storage: Storage,
    pub(super) trims: VecDeque<Trim>,
    pub(super) written_since_checkpoint: usize,
}

pub(super) enum Storage {
    Open(File),
    /// A write failed; closed, and to be opened anew at this time or later.
    Suspect {
        cause: Cause,
        retry_at: Instant,
    },
}

/// A record in its place, and who waits for it.
struct Waiting {
    position: Position,
    stamp: Timestamp,
    answer: oneshot::Sender<Result<(Position, Timestamp), AppendError>>,
    room: OwnedSemaphorePermit,
}

impl Committer {
    /// Writes until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.append(batch);
            self.trim_some();
            if self.written_since_checkpoint >= CHECKPOINT_BYTES {
                self.checkpoint();
            }
        }
        self.close();
    }

    /// What is queued, up to the bound; empty when there is something else to do. `None` once it is over.
    fn next_batch(&mut self) -> Option<Vec<Append>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = self.wait()?;
        while let Some(command) = next {
            match command {
                Command::Append(append) => {
                    bytes += append.record.size();
                    batch.push(append);
                }
                Command::Trim(trim) => self.trims.push_back(trim),
            }
            if batch.len() >= BATCH.records || bytes >= BATCH.bytes {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        Some(batch)
    }

    /// The first command of a batch, waiting only as long as there is nothing else to do.
    fn wait(&mut self) -> Option<Option<Command>> {
        if !self.trims.is_empty() {
            return match self.queue.try_recv() {
                Ok(command) => Some(Some(command)),
                Err(TryRecvError::Empty) => Some(None),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        if matches!(self.storage, Storage::Suspect { .. }) {
            return match self.queue.recv_timeout(RETRY) {
                Ok(command) => Some(Some(command)),
                Err(RecvTimeoutError::Timeout) => Some(None),
                Err(RecvTimeoutError::Disconnected) => None,
            };
        }
        self.queue.recv().ok().map(Some)
    }

    fn append(&mut self, batch: Vec<Append>) {
        // First of all: opened anew, the file may hold more than is known, and the batch comes after that.
        if let Err(cause) = self.file() {
            for append in batch {
                answer(append.answer, Err(AppendError::NotWritten(cause.clone())), append.room);
            }
            return;
        }
        if batch.is_empty() {
            return;
        }
        let (records, waiting) = self.place(batch);
        let outcome = self.commit(&records);
        for Waiting { position, stamp, answer: to, room } in waiting {
            answer(to, outcome.clone().map(|()| (position, stamp)), room);
        }
    }

    /// Gives the records their offsets and stamps.
    fn place(&self, batch: Vec<Append>) -> (Vec<Arc<Stored>>, Vec<Waiting>) {
        let mut heads = self.heads.clone();
        let now = self.clock.now();
        let mut records = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Append { partition, record, answer, room } in batch {
            let head = heads.get_mut(&partition).expect("checked before it was queued");
            let (position, stamp) = (Position { partition, offset: head.end }, now.max(head.stamp));
            *head = Head { end: head.end + 1, stamp, ..*head };
            let Unstamped { header, body, traceparent } = record;
            records.push(Arc::new(Stored { position, stamp, header, body, traceparent }));
            waiting.push(Waiting { position, stamp, answer, room });
        }
        (records, waiting)
    }

    fn commit(&mut self, records: &[Arc<Stored>]) -> Result<(), AppendError> {
        match self.file().map_err(AppendError::NotWritten)?.commit(records) {
            Ok(()) => {
                self.written_since_checkpoint += written(records);
                self.make_known(records);
                Ok(())
            }
            Err(Failure::Full(cause)) => {
                tracing::warn!(%cause, "no room to append to the log");
                Err(AppendError::NotWritten(cause))
            }
            Err(Failure::RolledBack(cause)) => {
                self.suspect(cause.clone());
                Err(AppendError::NotWritten(cause))
            }
            Err(Failure::Unknown(cause)) => {
                self.suspect(cause.clone());
                self.find_out(records, cause)
            }
        }
    }

    /// Whether a batch whose commit failed came through: a transaction is there whole or not at all.
    fn find_out(&mut self, records: &[Arc<Stored>], cause: Cause) -> Result<(), AppendError> {
        if self.file().is_err() {
            return Err(AppendError::OutcomeUnknown(cause));
        }
        let known = |record: &Arc<Stored>| record.position.offset < self.heads[&record.position.partition].end;
        if records.iter().all(known) { Ok(()) } else { Err(AppendError::NotWritten(cause)) }
    }

    /// Tells the tails. Before the callers, so that who was told of a record finds it within the log's end.
    fn make_known(&mut self, records: &[Arc<Stored>]) {
        for record in records {
            let head = self.heads.get_mut(&record.position.partition).expect("it was placed there");
            *head = Head { end: record.position.offset + 1, stamp: record.stamp, ..*head };
        }
        self.published.add(records);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        self.changes.send_replace(());
    }

    fn suspect(&mut self, cause: Cause) {
        tracing::error!(%cause, "a write to the log failed; opening it anew");
        self.storage = Storage::Suspect { cause, retry_at: Instant::now() };
    }

    /// The file, opened anew if it is suspect and its time has come.
    fn file(&mut self) -> Result<&mut File, Cause> {
        if let Storage::Suspect { cause, retry_at } = &self.storage {
            if Instant::now() < *retry_at {
                return Err(cause.clone());
            }
            self.storage = match self.reopen() {
                Ok(file) => Storage::Open(file),
                Err(cause) => {
                    tracing::error!(%cause, "the log could not be opened anew");
                    Storage::Suspect { cause, retry_at: Instant::now() + RETRY }
                }
            };
        }
        match &mut self.storage {
            Storage::Open(file) => Ok(file),
            Storage::Suspect { cause, .. } => Err(cause.clone()),
        }
    }

    fn reopen(&mut self) -> Result<File, Cause> {
        let opened = file::open(&self.path, self.max_bytes, self.identity).map_err(Cause::new)?;
        if opened.identity != self.identity {
            return Err(Cause::new("another log has taken the file's place"));
        }
        for (partition, head) in &opened.heads {
            self.catch_up(&opened.file, *partition, *head)?;
        }
        self.counters.reopened.fetch_add(1, Ordering::Relaxed);
        tracing::info!("the log is open again");
        Ok(opened.file)
    }

    /// Makes known what a partition holds beyond what is known of it.
    fn catch_up(&mut self, file: &File, partition: Partition, head: Head) -> Result<(), Cause> {
        if head.end < self.heads[&partition].end {
            return Err(Cause::new(format_args!("{partition} ends before what was acknowledged")));
        }
        while self.heads[&partition].end < head.end {
            let offsets = self.heads[&partition].end..head.end;
            let records = file.read(partition, offsets, BATCH).map_err(Cause::new)?;
            self.make_known(&records);
        }
        self.trimmed(partition, head.start);
        Ok(())
    }

    /// One step of the trim that has waited longest, so that appends never wait for more than a step.
    fn trim_some(&mut self) {
        let Some(trim) = self.trims.pop_front() else { return };
        match self.trim_step(&trim) {
            Ok(Progress::Begun) => self.trims.push_back(trim),
            Ok(Progress::Done) => answer(trim.answer, Ok(()), trim.room),
            Err(error) => answer(trim.answer, Err(error), trim.room),
        }
    }

    fn trim_step(&mut self, trim: &Trim) -> Result<Progress, TrimError> {
        let Trim { partition, before, .. } = *trim;
        let head = self.heads[&partition];
        if before > head.end {
            return Err(TrimError::BeyondEnd { partition, end: head.end });
        }
        if before <= head.start {
            return Ok(Progress::Done);
        }
        let to = before.min(head.start + TRIM_ROWS);
        match self.file().map_err(TrimError::Unavailable)?.trim(partition, to, head.stamp) {
            Ok(()) => {
                self.written_since_checkpoint += PARTITION_BYTES;
                self.trimmed(partition, to);
                Ok(if to == before { Progress::Done } else { Progress::Begun })
            }
            Err(Failure::Full(cause)) => Err(TrimError::Unavailable(cause)),
            Err(Failure::RolledBack(cause) | Failure::Unknown(cause)) => {
                self.suspect(cause.clone());
                Err(TrimError::Unavailable(cause))
            }
        }
    }

    fn trimmed(&mut self, partition: Partition, start: u64) {
        self.heads.get_mut(&partition).expect("every partition has one").start = start;
        self.published.trimmed(partition, start);
    }

    /// Nobody waits for it: what it does was answered long before. Failing, it leaves the WAL as it was, to be tried
    /// again after as much more.
    fn checkpoint(&mut self) {
        self.written_since_checkpoint = 0;
        let Storage::Open(file) = &self.storage else { return };
        if let Err(error) = file.checkpoint() {
            tracing::warn!(%error, "the log's WAL could not be moved into its file");
        }
    }

    /// Leaves everything in the file itself, and an empty WAL. Failing, it leaves that to the next opening.
    fn close(self) {
        let Storage::Open(file) = &self.storage else { return };
        if let Err(error) = file.empty_wal() {
            tracing::warn!(%error, "the log's WAL could not be emptied");
        }
    }
}

enum Progress {
    Begun,
    Done,
}

/// The room is given back first, so that whoever is answered finds it free. The caller may have gone; that is no concern of the
/// log's.
fn answer<T>(to: oneshot::Sender<T>, outcome: T, room: OwnedSemaphorePermit) {
    drop(room);
    drop(to.send(outcome));
}

fn written(records: &[Arc<Stored>]) -> usize {
    let partitions: std::collections::BTreeSet<_> = records.iter().map(|record| record.position.partition).collect();
    records.iter().map(|record| size(record)).sum::<usize>() + partitions.len() * PARTITION_BYTES
}
