//! The simulated log: in memory, deterministic, and as unkind as a real one may be.
//!
//! For a tokio `current_thread` runtime with paused time. It draws every delay and fault from the generator it was
//! given, so the same seed and the same calls give the same log, byte for byte; for that it keeps no unordered map, and
//! no two tasks race for a random number outside the runtime's own order. It delays appends, their acknowledgements and
//! what each tail sees of each partition (so the order between partitions differs from tail to tail, never that within
//! one), refuses appends and reads, and leaves outcomes unknown: of records that are in, that come in only after the
//! caller was told, and that never do.
//!
//! Like a real engine it goes its own way with what it was handed: a caller that leaves, or is crashed by the
//! simulation, can still find its record in the log.

use std::{
    collections::BTreeMap,
    ops::Range,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use airut_domain::{
    keys::Digest,
    partition::{Partition, Position},
    record::{Stored, leaf_bytes},
    time::Timestamp,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    AppendError, Bounds, Cause, Clock, LogId, MAX_RECORD_BYTES, Positions, ReadError, Stats, TAIL_BATCH, TailError,
    TrimError, Unstamped,
};

/// How unkind a simulated log is. Probabilities lie between 0 and 1; delays are drawn evenly between none and the
/// longest. The default is none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// An append is told that it is not written, and is not.
    pub refuse: f64,
    /// An append is told that its outcome is unknown, before or after the record comes in.
    pub lose_acknowledgement: f64,
    /// An append is told that its outcome is unknown, and the record never comes in.
    pub lose_record: f64,
    /// A read, a trim or a tail is told that the log can't be reached.
    pub fail_read: f64,
    /// The longest until an appended record is in.
    pub append_delay: Duration,
    /// The longest from there, or from the call where the outcome is left unknown, until the caller is told.
    pub acknowledgement_delay: Duration,
    /// The longest until a record that is in is seen by a tail, per tail and partition.
    pub tail_delay: Duration,
}

/// A simulated log and what drives it. Cheap to clone: all clones are the same log.
#[derive(Clone)]
pub struct Simulation(Arc<Shared>);

struct Shared {
    identity: LogId,
    clock: Clock,
    state: Mutex<State>,
    /// Wakes the tails in the order in which they came to wait; a watch channel would draw the order by chance.
    changes: Notify,
}

struct State {
    rng: ChaCha8Rng,
    faults: Faults,
    partitions: BTreeMap<Partition, Contents>,
    appended: u64,
}

/// A partition: `records` begin at `start`.
struct Contents {
    start: u64,
    records: Vec<Arc<Stored>>,
    stamp: Timestamp,
}

/// What becomes of an append. Drawn at once, so that it does not depend on what happens meanwhile.
enum Fate {
    Refused { told_after: Duration },
    Vanishes { told_after: Duration },
    Unacknowledged { in_after: Duration, told_after: Duration },
    Acknowledged { in_after: Duration, told_after: Duration },
}

impl Simulation {
    /// An empty log. The identity and everything that chance decides come from `rng`; the stamps from `clock`.
    pub fn new(mut rng: ChaCha8Rng, clock: Clock, faults: Faults) -> Self {
        let mut identity = [0; 16];
        rng.fill_bytes(&mut identity);
        let empty = || Contents { start: 0, records: Vec::new(), stamp: Timestamp::from_millis(i64::MIN) };
        let partitions = Partition::all().map(|partition| (partition, empty())).collect();
        let state = Mutex::new(State { rng, faults, partitions, appended: 0 });
        Self(Arc::new(Shared { identity: LogId(identity), clock, state, changes: Notify::new() }))
    }

    /// From now on, be so unkind. What was drawn before stays.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Every record there is, partition by partition.
    pub fn records(&self) -> Vec<Arc<Stored>> {
        self.state().partitions.values().flat_map(|contents| contents.records.iter().cloned()).collect()
    }

    /// SHA-256 over every record there is, with its position, stamp and body.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for record in self.records() {
            let leaf = leaf_bytes(record.position, record.stamp, &record.header);
            for part in [leaf.as_slice(), &record.body, record.traceparent.as_bytes()] {
                bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        Digest::of(&bytes)
    }

    pub(crate) fn identity(&self) -> LogId {
        self.0.identity
    }

    pub(crate) async fn append(
        &self,
        partition: Partition,
        record: Unstamped,
    ) -> Result<(Position, Timestamp), AppendError> {
        let size_bytes = record.size();
        if size_bytes > MAX_RECORD_BYTES {
            return Err(AppendError::TooLarge { size_bytes });
        }
        let fate = self.state().fate(partition);
        match fate {
            Fate::Refused { told_after } => {
                sleep(told_after).await;
                Err(AppendError::NotWritten(simulated()))
            }
            Fate::Vanishes { told_after } => {
                sleep(told_after).await;
                Err(AppendError::OutcomeUnknown(simulated()))
            }
            Fate::Unacknowledged { in_after, told_after } => {
                drop(tokio::spawn(self.clone().write(partition, record, in_after)));
                sleep(told_after).await;
                Err(AppendError::OutcomeUnknown(simulated()))
            }
            Fate::Acknowledged { in_after, told_after } => {
                let written = tokio::spawn(self.clone().write(partition, record, in_after));
                let place = written.await.map_err(|error| AppendError::OutcomeUnknown(Cause::new(error)))?;
                sleep(told_after).await;
                Ok(place)
            }
        }
    }

    pub(crate) fn tail(&self, from: &Positions) -> Tail {
        let mut state = self.state();
        let rng = ChaCha8Rng::from_rng(&mut state.rng);
        let next = |partition, start| from.get(partition).copied().unwrap_or(start);
        let mut views: BTreeMap<Partition, View> = state
            .partitions
            .iter()
            .map(|(partition, contents)| (*partition, View { next: next(partition, contents.start), coming: None }))
            .collect();
        // A partition that is not there is told by the first `next`.
        views.extend(
            from.iter()
                .filter(|(partition, _)| !state.partitions.contains_key(partition))
                .map(|(partition, next)| (*partition, View { next: *next, coming: None })),
        );
        Tail { simulation: self.clone(), rng, views }
    }

    pub(crate) fn read(
        &self,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let mut state = self.state();
        let fail = state.faults.fail_read;
        if state.happens(fail) {
            return Err(ReadError::Unavailable(simulated()));
        }
        let contents = state.partitions.get(&partition).ok_or(ReadError::NoSuchPartition(partition))?;
        if offsets.start < contents.start {
            return Err(ReadError::Trimmed { partition, start: contents.start });
        }
        Ok(bounds.cut(contents.range(offsets).iter()))
    }

    pub(crate) fn span(&self, partition: Partition) -> Result<Range<u64>, ReadError> {
        let state = self.state();
        let contents = state.partitions.get(&partition).ok_or(ReadError::NoSuchPartition(partition))?;
        Ok(contents.start..contents.end())
    }

    pub(crate) fn trim(&self, partition: Partition, before: u64) -> Result<(), TrimError> {
        let mut state = self.state();
        let fail = state.faults.fail_read;
        if state.happens(fail) {
            return Err(TrimError::Unavailable(simulated()));
        }
        let contents = state.partitions.get_mut(&partition).ok_or(TrimError::NoSuchPartition(partition))?;
        if before > contents.end() {
            return Err(TrimError::BeyondEnd { partition, end: contents.end() });
        }
        let gone = before.saturating_sub(contents.start);
        contents.records.drain(..index(gone));
        contents.start += gone;
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        let appended = self.state().appended;
        Stats { commits: appended, records: appended, queued_bytes: 0, reopened: 0 }
    }

    async fn write(self, partition: Partition, record: Unstamped, after: Duration) -> (Position, Timestamp) {
        sleep(after).await;
        let now = self.0.clock.now();
        let place = self.state().add(partition, record, now);
        self.0.changes.notify_waiters();
        place
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nobody panics while holding it")
    }
}

impl State {
    fn fate(&mut self, partition: Partition) -> Fate {
        assert!(self.partitions.contains_key(&partition), "no partition {partition}");
        let Faults { refuse, lose_acknowledgement, lose_record, append_delay, acknowledgement_delay, .. } = self.faults;
        // All five are drawn every time, so that one fault more or less does not shift what comes after.
        let refused = self.happens(refuse);
        let vanishes = self.happens(lose_record);
        let unacknowledged = self.happens(lose_acknowledgement);
        let in_after = draw(&mut self.rng, append_delay);
        let told_after = draw(&mut self.rng, acknowledgement_delay);
        match (refused, vanishes, unacknowledged) {
            (true, _, _) => Fate::Refused { told_after },
            (false, true, _) => Fate::Vanishes { told_after },
            (false, false, true) => Fate::Unacknowledged { in_after, told_after },
            (false, false, false) => Fate::Acknowledged { in_after, told_after },
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        happens(&mut self.rng, probability)
    }

    fn add(&mut self, partition: Partition, record: Unstamped, now: Timestamp) -> (Position, Timestamp) {
        let contents = self.partitions.get_mut(&partition).expect("checked before it was drawn");
        let position = Position { partition, offset: contents.end() };
        let stamp = now.max(contents.stamp);
        let Unstamped { header, body, traceparent } = record;
        contents.records.push(Arc::new(Stored { position, stamp, header, body, traceparent }));
        contents.stamp = stamp;
        self.appended += 1;
        (position, stamp)
    }
}

impl Contents {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    /// Those of the offsets that are there. The first must not be trimmed away.
    fn range(&self, offsets: Range<u64>) -> &[Arc<Stored>] {
        let end = offsets.end.min(self.end());
        if offsets.start >= end {
            return &[];
        }
        &self.records[index(offsets.start - self.start)..index(end - self.start)]
    }
}

/// A tail of the simulated log.
pub(crate) struct Tail {
    simulation: Simulation,
    /// The tail's own: how often it is polled has no influence on the rest.
    rng: ChaCha8Rng,
    views: BTreeMap<Partition, View>,
}

/// How a tail sees a partition.
struct View {
    /// The next offset it gives.
    next: u64,
    /// The records that are on their way, up to this offset, and when they are there.
    coming: Option<(u64, Instant)>,
}

impl Tail {
    /// Cancel safe: what was drawn stays drawn, and offsets move only when the records are given.
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<Stored>>, TailError> {
        let simulation = self.simulation.clone();
        loop {
            let mut changed = pin!(simulation.0.changes.notified());
            // Before looking: a change while we look wakes the wait below.
            changed.as_mut().enable();
            self.look()?;
            let batch = self.arrived(Instant::now())?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            let soonest = self.views.values().filter_map(|view| view.coming.map(|(_, when)| when)).min();
            let arrival = async {
                match soonest {
                    Some(when) => sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // In a fixed order: the macro would draw it from a generator that is not ours.
                biased;
                () = arrival => {}
                () = changed => {}
            }
        }
    }

    /// Draws for every partition with something new when it will be there.
    fn look(&mut self) -> Result<(), TailError> {
        let state = self.simulation.state();
        for (partition, view) in &mut self.views {
            let contents = state.partitions.get(partition).ok_or(TailError::NoSuchPartition(*partition))?;
            let end = contents.end();
            if view.next > end {
                return Err(TailError::BeyondEnd { partition: *partition, end });
            }
            if view.coming.is_none() && view.next < end {
                view.coming = Some((end, Instant::now() + draw(&mut self.rng, state.faults.tail_delay)));
            }
        }
        Ok(())
    }

    fn arrived(&mut self, now: Instant) -> Result<Vec<Arc<Stored>>, TailError> {
        let state = self.simulation.state();
        let due = self.views.iter_mut().filter_map(|(partition, view)| {
            let (end, when) = view.coming.filter(|(_, when)| *when <= now)?;
            Some((when, *partition, end, view))
        });
        // What has been there longest, so that none starves.
        let Some((_, partition, end, view)) = due.min_by_key(|(when, ..)| *when) else { return Ok(Vec::new()) };
        if happens(&mut self.rng, state.faults.fail_read) {
            return Err(TailError::Unavailable(simulated()));
        }
        let contents = &state.partitions[&partition];
        if view.next < contents.start {
            return Err(TailError::Trimmed { partition, start: contents.start });
        }
        let batch = TAIL_BATCH.cut(contents.range(view.next..end).iter());
        view.next += batch.len() as u64;
        if view.next == end {
            view.coming = None;
        }
        Ok(batch)
    }
}

fn happens(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    // The upper 53 bits make an even fraction below 1, so that 0 never happens and 1 always does.
    let fraction = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    fraction < probability
}

fn draw(rng: &mut ChaCha8Rng, longest: Duration) -> Duration {
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(rng.next_u64() % (micros + 1))
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("what is in memory can be counted")
}

fn simulated() -> Cause {
    Cause::new("simulated fault")
}
