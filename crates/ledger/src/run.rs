//! The ledger at work: read, order, read the order back, store, sign.
//!
//! The order matters, and each step is durable before the next begins:
//! 1. what the log has new is taken in from its tail;
//! 2. a run that orders it is appended to `airut.order`;
//! 3. only what comes back from `airut.order` gives leaves their place, and those are stored with the tree;
//! 4. only a stored tree is signed, and only when every order record that came has been applied;
//! 5. the checkpoint is appended to `airut.order`, and only then shown.
//!
//! A ledger that dies between two of them begins again at 1 from what it has stored. An append whose outcome is unknown
//! is simply made again: a run says up to where, so a second one adds nothing. When it can not take in more than a
//! bound, it reads what it needs from the log directly instead of from the tail, and so gets on with constant memory
//! after any pause.

use std::{sync::Arc, time::Duration};

use airut_domain::{
    id::Incarnation,
    partition::{Partition, Position, Topic},
    record::{Order, Stored},
    time::Timestamp,
};
use airut_log::{Cause, ReadError, Tail, TailError};
use tokio::{
    select,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    LoadError, Shared,
    inbox::{Gathered, Inbox, Passed, TakeError, Then},
    note::Checkpoint,
    order::{Fold, Segment},
    status::{Health, Signed, Status, StopReason},
    store::{Batch, RecordedNote, Store, StoreError},
};

/// How long a ledger that stands by leaves it to the active one to order and to sign what has come.
const STANDBY: Duration = Duration::from_secs(2);

/// How long leaves are gathered before they are ordered: at most five runs, transactions and checkpoints a second.
const GATHER: Duration = Duration::from_millis(200);
/// How long to wait before the log or the file is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How much is read from the log directly at once, in bytes.
const READ_BYTES: usize = 4 << 20;

const ORDER: Partition = Partition::only(Topic::Order);

/// Why one stretch of work ended.
#[derive(Debug)]
enum Fault {
    /// The file failed: everything is forgotten and read from it again.
    Storage(StoreError),
    /// There is no going on.
    Stop(StopReason),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

impl From<TakeError> for Fault {
    fn from(error: TakeError) -> Self {
        Self::Stop(StopReason::Record(error.to_string()))
    }
}

/// Works until `shutdown`, or until it must stop.
pub(crate) async fn run(shared: &Shared, shutdown: &CancellationToken) -> Result<(), StopReason> {
    let mut failed_before = false;
    loop {
        let mut progressed = false;
        let fault = match Work::begin(shared).await {
            Ok(mut work) => {
                let outcome = work.drive(shutdown).await;
                progressed = work.progressed;
                outcome
            }
            Err(fault) => Err(fault),
        };
        match fault {
            Ok(()) => return Ok(()),
            Err(Fault::Stop(reason)) => return Err(reason),
            Err(Fault::Storage(error)) if failed_before && !progressed => {
                return Err(StopReason::Storage(error.to_string()));
            }
            Err(Fault::Storage(error)) => {
                tracing::warn!(%error, "the ledger's file failed; opening it anew");
                shared.status.send_modify(|status| status.health = Health::Starting);
                failed_before = true;
                sleep(RETRY).await;
            }
        }
    }
}

/// One stretch of work, from an opening of the file to the next.
struct Work<'a> {
    shared: &'a Shared,
    /// None only while it is lent to a thread that may block.
    store: Option<Store>,
    inbox: Inbox,
    tail: Tail,
    /// Where the fold of `airut.order` stands; the store may be behind where nothing but checkpoints came.
    fold: Fold,
    /// Up to where the runs go that were appended, whether or not they have come back.
    ordered: Fold,
    /// Where `airut.order` ended at the beginning, once the log has said so: nothing is ordered or signed before all of
    /// it is known.
    begun_at: Option<u64>,
    /// The largest checkpoint, from the log or signed here.
    signed: Option<Signed>,
    /// When the first leaf came that no run orders yet.
    unordered_since: Option<Instant>,
    unsigned_since: Option<Timestamp>,
    /// When leaves were last stored here.
    last_stored: Option<Instant>,
    last_signed: Option<Instant>,
    /// What the log last refused.
    read_trouble: Option<String>,
    append_trouble: Option<String>,
    /// Whether the file took anything.
    progressed: bool,
}

impl<'a> Work<'a> {
    async fn begin(shared: &'a Shared) -> Result<Self, Fault> {
        let files = Arc::clone(&shared.files);
        let (store, signed) = blocking(move || files.load()).await?.map_err(|error| match error {
            LoadError::Storage(error) => Fault::Storage(error),
            LoadError::Disagrees(what) => Fault::Stop(StopReason::Disagrees(what)),
        })?;
        let fold = store.fold().clone();
        let inbox = Inbox::new(&fold, shared.bounds);
        let unsigned_since = store.stamp_of(signed.as_ref().map_or(0, |signed| signed.size))?;
        Ok(Self {
            // What comes is gathered for longer than that anyhow.
            tail: shared.log.tail(&inbox.positions()).unhurried(),
            store: Some(store),
            inbox,
            ordered: fold.clone(),
            fold,
            begun_at: None,
            signed,
            unordered_since: None,
            unsigned_since,
            last_stored: None,
            last_signed: None,
            read_trouble: None,
            append_trouble: None,
            progressed: false,
            shared,
        })
    }

    async fn drive(&mut self, shutdown: &CancellationToken) -> Result<(), Fault> {
        while !shutdown.is_cancelled() {
            if self.begun_at.is_none() {
                self.begun_at = self.end(ORDER).await?;
            }
            if self.inbox.is_full() {
                self.read_order().await?;
            }
            let more = self.fold_some().await?;
            self.publish();
            if more {
                continue;
            }
            self.order_if_due().await;
            self.sign_if_due().await;
            self.publish();
            let due = self.next_due();
            select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                batch = self.tail.next(), if !self.inbox.is_full() => match batch {
                    Ok(batch) => self.take(&batch)?,
                    Err(TailError::Unavailable(cause)) => self.read_trouble(&cause).await,
                    Err(error) => return Err(stop(&error)),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: &[Arc<Stored>]) -> Result<(), Fault> {
        self.read_trouble = None;
        batch.iter().try_for_each(|record| self.inbox.take(record))?;
        if self.unordered_since.is_none() && self.inbox.has_leaf_beyond(&self.ordered) {
            self.unordered_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Reads what `airut.order` has new past the tail, which is not listened to while the inbox is full.
    async fn read_order(&mut self) -> Result<(), Fault> {
        let from = self.inbox.next(ORDER);
        let Some(to) = self.end(ORDER).await? else { return Ok(()) };
        self.read(Segment { partition: ORDER, from, to }).await
    }

    async fn read(&mut self, segment: Segment) -> Result<(), Fault> {
        let Segment { partition, from, to } = segment;
        match self.shared.log.read(partition, from..to, READ_BYTES).await {
            Ok(batch) => return self.take(&batch),
            Err(ReadError::Unavailable(cause)) => self.read_trouble(&cause).await,
            Err(error) => return Err(stop(&error)),
        }
        Ok(())
    }

    /// Where the partition ends; none when the log can't say at the moment.
    async fn end(&mut self, partition: Partition) -> Result<Option<u64>, Fault> {
        match self.shared.log.end(partition).await {
            Ok(end) => return Ok(Some(end)),
            Err(ReadError::Unavailable(cause)) => self.read_trouble(&cause).await,
            Err(error) => return Err(stop(&error)),
        }
        Ok(None)
    }

    /// Tells that the log can't be read, and waits until it is tried again.
    async fn read_trouble(&mut self, cause: &Cause) {
        self.read_trouble = Some(cause.to_string());
        self.publish();
        sleep(RETRY).await;
    }

    /// Stores what the order records at hand put next; whether there is more to do at once.
    async fn fold_some(&mut self) -> Result<bool, Fault> {
        let before = self.size();
        let Gathered { leaves, checkpoints, then } = self.inbox.gather(&mut self.fold);
        let checkpoints: Vec<(Passed, Checkpoint)> =
            checkpoints.into_iter().map(|passed| self.open(passed, before)).collect::<Result<_, _>>()?;
        for (passed, checkpoint) in &checkpoints {
            self.remember(passed, checkpoint);
        }
        self.unsigned_since = self.unsigned_since.or_else(|| leaves.iter().map(|leaf| leaf.stamp).min());
        if !leaves.is_empty() || !checkpoints.is_empty() {
            let checkpoint = self.signed.as_ref().map(Signed::to_recorded);
            self.store(Batch { leaves, fold: self.fold.clone(), checkpoint }, checkpoints).await?;
            if self.stands_by() {
                // The other is at work: what is left waits for it anew.
                self.unordered_since = self.inbox.has_leaf_beyond(&self.fold).then(Instant::now);
            }
        }
        match then {
            Then::Done => Ok(false),
            Then::Full => Ok(true),
            Then::Missing(segment) => self.miss(segment).await,
        }
    }

    /// Verifies a checkpoint that `airut.order` holds, as far as it can be without the tree.
    fn open(&self, passed: Passed, size_before: u64) -> Result<(Passed, Checkpoint), Fault> {
        let position = Position { partition: ORDER, offset: passed.offset };
        let opened = self.shared.files.key.verifier().open(&passed.note);
        let checkpoint =
            opened.map_err(|error| disagrees(format_args!("{position} is no checkpoint of this ledger: {error}")))?;
        let size = size_before + passed.leaves_before as u64;
        if checkpoint.size > size {
            let what = format_args!("{position} has {} leaves, where the order gives {size}", checkpoint.size);
            return Err(disagrees(what));
        }
        Ok((passed, checkpoint))
    }

    /// Keeps a checkpoint that the log holds, if it is the largest.
    fn remember(&mut self, passed: &Passed, checkpoint: &Checkpoint) {
        if self.signed.as_ref().is_none_or(|signed| signed.size < checkpoint.size) {
            let Passed { stamp, note, .. } = passed;
            let Checkpoint { size, root, .. } = *checkpoint;
            self.signed = Some(Signed { note: note.as_str().into(), size, root, stamp: *stamp });
        }
    }

    /// Makes the leaves durable, and compares the checkpoints with the tree.
    async fn store(&mut self, batch: Batch, checkpoints: Vec<(Passed, Checkpoint)>) -> Result<(), Fault> {
        let mut store = self.store.take().expect("it is put back after each use");
        let appends = !batch.leaves.is_empty();
        let work = move || -> Result<Store, Fault> {
            if appends {
                store.append(batch)?;
            }
            for (passed, checkpoint) in checkpoints {
                if store.root_at(checkpoint.size)? != checkpoint.root {
                    let (offset, size) = (passed.offset, checkpoint.size);
                    let what = format_args!("{ORDER}/{offset} has another root than the tree of {size} leaves");
                    return Err(disagrees(what));
                }
            }
            Ok(store)
        };
        self.store = Some(blocking(work).await??);
        self.progressed |= appends;
        self.last_stored = if appends { Some(Instant::now()) } else { self.last_stored };
        Ok(())
    }

    /// Records that were ordered have not come yet: the tail brings them, unless it is not listened to.
    async fn miss(&mut self, segment: Segment) -> Result<bool, Fault> {
        let Some(end) = self.end(segment.partition).await? else { return Ok(true) };
        if segment.to > end {
            let what = format_args!("a run goes up to {}/{}, and the log ends at {end}", segment.partition, segment.to);
            return Err(disagrees(what));
        }
        if !self.inbox.is_full() {
            return Ok(false);
        }
        self.read(segment).await?;
        Ok(true)
    }

    /// Whether everything is known that was ordered before this stretch of work began.
    fn is_caught_up(&self) -> bool {
        self.begun_at.is_some_and(|begun_at| self.fold.next >= begun_at)
    }

    fn size(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.edge().size())
    }

    /// Whether another ledger is at work whom this one stands by for: of two, the one whose id comes first, which is the one
    /// that was started first. Two that order and sign at once do no harm, they only say everything twice; so who has heard
    /// nothing from the other for a while simply goes to work, and steps back when it hears from it again.
    fn stands_by(&self) -> bool {
        let first = |author: &Incarnation| author < self.shared.writer.author();
        // Where no other process can be alive, the other is an earlier life of this one.
        !self.shared.log.is_exclusive() && self.inbox.last_author().is_some_and(first)
    }

    fn order_due(&self) -> Option<Instant> {
        let since = self.unordered_since.filter(|_| self.is_caught_up())?;
        let wait = match (self.stands_by(), self.inbox.is_full()) {
            (true, _) => STANDBY,
            (false, true) => Duration::ZERO,
            (false, false) => GATHER,
        };
        Some(since + wait)
    }

    fn sign_due(&self) -> Option<Instant> {
        let unsigned = self.size() > self.signed.as_ref().map_or(0, |signed| signed.size);
        let ready = unsigned && self.is_caught_up() && self.inbox.orders_are_applied();
        if ready && self.stands_by() {
            return self.last_stored.map(|stored| stored + STANDBY);
        }
        ready.then(|| self.last_signed.map_or_else(Instant::now, |last| last + GATHER))
    }

    fn next_due(&self) -> Option<Instant> {
        self.order_due().into_iter().chain(self.sign_due()).min()
    }

    /// Orders all that came, if it is time.
    async fn order_if_due(&mut self) {
        if self.order_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        // Another ledger's runs, and our own of an earlier life, may have come meanwhile.
        self.ordered.join(&self.fold);
        if self.inbox.has_leaf_beyond(&self.ordered) {
            let run = self.inbox.run_beyond(&self.ordered);
            let ends = run.runs.clone();
            if self.append(Order::Run(run)).await.is_none() {
                return;
            }
            ends.into_iter().for_each(|(partition, end)| self.ordered.take(partition, end));
        }
        self.append_trouble = None;
        self.unordered_since = None;
    }

    /// Signs the stored tree, if there is more of it than was signed, and it is time.
    async fn sign_if_due(&mut self) {
        if self.sign_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let edge = self.store.as_ref().expect("it is put back after each use").edge();
        let (size, root) = (edge.size(), edge.root());
        let note = self.shared.files.key.sign(size, root);
        let Some(stamp) = self.append(Order::Checkpoint(note.clone())).await else { return };
        self.append_trouble = None;
        self.signed = Some(Signed { note: note.into(), size, root, stamp });
        self.last_signed = Some(Instant::now());
    }

    /// Appends a record to `airut.order`, and gives its stamp. None when the log did not take it, or may not have: it
    /// is tried again.
    async fn append(&mut self, order: Order) -> Option<Timestamp> {
        match self.shared.writer.append(ORDER, order, "").await {
            Ok(recorded) => Some(recorded.stamp()),
            Err(error) => {
                tracing::warn!(%error, "the ledger's order was not taken by the log; trying again");
                self.append_trouble = Some(error.to_string());
                self.publish();
                sleep(RETRY).await;
                None
            }
        }
    }

    /// Tells where the ledger stands, to those who watch, when something changed.
    fn publish(&mut self) {
        let size = self.size();
        if self.signed.as_ref().map_or(0, |signed| signed.size) >= size {
            self.unsigned_since = self.inbox.oldest();
        }
        let trouble = self.append_trouble.as_ref().or(self.read_trouble.as_ref());
        let health = match trouble {
            Some(cause) => Health::LogUnavailable(cause.clone()),
            None if self.is_caught_up() => Health::Signing,
            None => Health::Starting,
        };
        // Until all that was signed before is known, what was shown stays.
        let signed = self.signed.as_ref().filter(|_| self.is_caught_up());
        let unsigned_since = self.unsigned_since;
        self.shared.status.send_if_modified(|shown| {
            let checkpoint = signed.cloned().or_else(|| shown.checkpoint.clone());
            let status = Status { size, checkpoint, unsigned_since, health };
            let changed = *shown != status;
            *shown = status;
            changed
        });
    }
}

impl Signed {
    /// As it is stored.
    fn to_recorded(&self) -> RecordedNote {
        RecordedNote { note: self.note.to_string(), stamp: self.stamp }
    }
}

/// Does work that blocks on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Fault::Storage(StoreError::Ending)),
    }
}

fn stop(error: &impl ToString) -> Fault {
    Fault::Stop(StopReason::Log(error.to_string()))
}

fn disagrees(what: std::fmt::Arguments<'_>) -> Fault {
    Fault::Stop(StopReason::Disagrees(what.to_string()))
}
