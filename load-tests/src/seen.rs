//! What has been seen of a run's messages: when each was to be sent, got its receipt and came, and whether any promise was broken.
//!
//! Shared by all senders and collectors. What it finds it counts, and never decides: the report does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use airut_client::SendOutcome;
use airut_domain::{
    keys::{Digest, commitment},
    partition::Position,
    receipt::Receipt,
};
use airut_wire::v1;
use anyhow::Context;
use hdrhistogram::Histogram;

use crate::{
    flows::{FLOWS, Flow, Material, number_of},
    plan::Plan,
};

/// The longest latency told apart, in microseconds.
pub(crate) const LONGEST_US: u64 = 3_600_000_000;

/// Different reasons kept of refusals.
const REASONS: usize = 100;

/// Everything that was seen.
pub(crate) struct Seen {
    /// The run's name, in the id of each of its messages.
    pub(crate) run: String,
    pub(crate) began: Instant,
    flow_of: Vec<usize>,
    slots: Vec<Slot>,
    came: Mutex<Came>,
    /// Why messages have no receipt.
    refused: Mutex<BTreeMap<String, u64>>,
    receipts: AtomicU64,
    repeated: AtomicU64,
    changed: AtomicU64,
}

/// One message. Times are in microseconds from the start, 0 for not yet.
#[derive(Default)]
struct Slot {
    intended: AtomicU64,
    received: AtomicU64,
    came: AtomicU64,
    times: AtomicU64,
    receipt: OnceLock<Promised>,
    in_ledger: AtomicBool,
}

/// What a receipt promises, checked: id, recipient, payload and signature.
#[derive(Debug, PartialEq, Eq)]
struct Promised {
    /// Digest of all that it states.
    statement: Digest,
    position: Position,
    item: Option<u32>,
    commitment: Digest,
}

/// What has come.
#[derive(Debug)]
struct Came {
    messages: u64,
    duplicates: u64,
    unflagged: u64,
    inversions: u64,
    altered: u64,
    foreign: u64,
    /// The latest message that came of each ordering key.
    latest: HashMap<String, u64>,
    last: Instant,
}

/// What it comes to.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Messages that came.
    pub(crate) messages: u64,
    /// Those that had a receipt, or were planned, and did not.
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    /// Of them those that were said to be first attempts.
    pub(crate) unflagged: u64,
    pub(crate) inversions: u64,
    /// Not what was sent.
    pub(crate) altered: u64,
    /// Of another run or somebody else: given back.
    pub(crate) foreign: u64,
    pub(crate) receipts: u64,
    /// Messages of the plan that have none.
    pub(crate) without_receipt: u64,
    /// Further receipts for the same id, and how many of them say something else than the first.
    pub(crate) repeated: u64,
    pub(crate) changed: u64,
    pub(crate) refused: BTreeMap<String, u64>,
}

/// When a message was to be sent, got its receipt and came: microseconds from the start, 0 for not yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) intended: u64,
    pub(crate) received: u64,
    pub(crate) came: u64,
}

/// How long messages took, in microseconds.
#[derive(Debug)]
pub(crate) struct Latency {
    /// From when each was to be sent to the collector's hand.
    pub(crate) whole: Histogram<u64>,
    /// From its receipt in the sender's hand to the collector's; 1 where the message was quicker.
    pub(crate) push: Histogram<u64>,
}

/// Whose a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours,
    Foreign,
}

impl Seen {
    /// Nothing yet of these messages, and of so many more that are not planned.
    pub(crate) fn new(run: String, plan: &Plan, unplanned: usize) -> Self {
        let came = Came {
            messages: 0,
            duplicates: 0,
            unflagged: 0,
            inversions: 0,
            altered: 0,
            foreign: 0,
            latest: HashMap::new(),
            last: Instant::now(),
        };
        Self {
            run,
            began: Instant::now(),
            flow_of: plan.flow_of.clone(),
            slots: (0..plan.len() + unplanned).map(|_| Slot::default()).collect(),
            came: Mutex::new(came),
            refused: Mutex::default(),
            receipts: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            changed: AtomicU64::new(0),
        }
    }

    fn micros(&self) -> u64 {
        micros(self.began.elapsed())
    }

    fn came(&self) -> MutexGuard<'_, Came> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, message_id: &str) -> Option<(u64, &Slot)> {
        let number = number_of(message_id, &self.run)?;
        Some((number, self.slots.get(usize::try_from(number).ok()?)?))
    }

    /// A message is to be sent at this time, or now. Of one that is sent again the first time counts.
    pub(crate) fn intend(&self, number: u64, at: Option<Duration>) {
        let at = at.map_or_else(|| self.micros(), micros);
        if let Some(slot) = usize::try_from(number).ok().and_then(|number| self.slots.get(number)) {
            // Fails for one that has a time.
            let _ = slot.intended.compare_exchange(0, at, Relaxed, Relaxed);
        }
    }

    /// A message has its outcome.
    pub(crate) fn settle(&self, outcome: SendOutcome) -> anyhow::Result<()> {
        match outcome.result {
            Ok(receipt) => self.promise(&receipt),
            Err(cause) => {
                self.refuse(cause.to_string());
                Ok(())
            }
        }
    }

    /// A message was refused for this.
    pub(crate) fn refuse(&self, cause: String) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REASONS || refused.contains_key(&cause) {
            *refused.entry(cause).or_default() += 1;
        }
    }

    /// A message has a receipt, which was checked.
    pub(crate) fn promise(&self, receipt: &Receipt) -> anyhow::Result<()> {
        let statement = &receipt.statement;
        let (_, slot) = self.slot(&statement.id).with_context(|| format!("a receipt for {}", statement.id))?;
        let promised = Promised {
            statement: Digest::of(statement.to_text().as_bytes()),
            position: statement.position,
            item: statement.item,
            commitment: commitment(&receipt.commitment_salt, statement.payload_sha256),
        };
        match slot.receipt.set(promised) {
            Ok(()) => {
                slot.received.store(self.micros(), Relaxed);
                self.receipts.fetch_add(1, Relaxed);
            }
            Err(again) => {
                self.repeated.fetch_add(1, Relaxed);
                self.changed.fetch_add(u64::from(slot.receipt.get() != Some(&again)), Relaxed);
            }
        }
        Ok(())
    }

    /// A message has come.
    pub(crate) fn take(&self, delivery: &v1::Delivery, material: &Material) -> anyhow::Result<Whose> {
        let message = delivery.message.as_ref().context("a delivery has its message")?;
        let now = self.micros();
        let whole = material.is_whole(message);
        let mut came = self.came();
        let Some((number, slot)) = self.slot(&message.message_id) else {
            came.foreign += 1;
            return Ok(Whose::Foreign);
        };
        came.last = Instant::now();
        if slot.times.fetch_add(1, Relaxed) > 0 {
            came.duplicates += 1;
            came.unflagged += u64::from(delivery.attempt < 2);
            return Ok(Whose::Ours);
        }
        slot.came.store(now, Relaxed);
        came.messages += 1;
        came.altered += u64::from(!whole);
        if !message.ordering_key.is_empty() {
            let key = format!("{}\0{}\0{}", delivery.sender, message.recipient, message.ordering_key);
            let before = came.latest.insert(key, number);
            came.inversions += u64::from(before.is_some_and(|before| before > number));
        }
        Ok(Whose::Ours)
    }

    /// The ledger has a record that accepted this message, at this place and with this commitment. Whether it is the one that the
    /// receipt names: of a message that was sent twice there may be another, which counts for nothing.
    pub(crate) fn find(&self, message_id: &str, (position, item): (&str, usize), commitment: Digest) {
        let Some((_, slot)) = self.slot(message_id) else { return };
        let Some(promised) = slot.receipt.get() else { return };
        let is_it = usize::try_from(promised.item.unwrap_or_default()) == Ok(item)
            && promised.commitment == commitment
            && promised.position.to_string() == position;
        if is_it {
            slot.in_ledger.store(true, Relaxed);
        }
    }

    /// How many receipts name what was not found in the ledger.
    pub(crate) fn not_in_ledger(&self) -> usize {
        self.slots.iter().filter(|slot| slot.receipt.get().is_some() && !slot.in_ledger.load(Relaxed)).count()
    }

    /// How many messages came.
    pub(crate) fn came_count(&self) -> u64 {
        self.came().messages
    }

    /// When one last came.
    pub(crate) fn last(&self) -> Instant {
        self.came().last
    }

    /// How many have a receipt and have not come.
    pub(crate) fn outstanding(&self) -> usize {
        self.slots.iter().filter(|slot| slot.receipt.get().is_some() && slot.times.load(Relaxed) == 0).count()
    }

    pub(crate) fn counts(&self) -> Counts {
        let is_absent = |slot: &&Slot| slot.times.load(Relaxed) == 0;
        let planned = &self.slots[..self.flow_of.len()];
        let unplanned = &self.slots[self.flow_of.len()..];
        let promised = unplanned.iter().filter(|slot| slot.receipt.get().is_some());
        let lost = planned.iter().filter(is_absent).count() + promised.filter(is_absent).count();
        let without_receipt = planned.iter().filter(|slot| slot.receipt.get().is_none()).count();
        let came = self.came();
        Counts {
            messages: came.messages,
            lost: lost as u64,
            duplicates: came.duplicates,
            unflagged: came.unflagged,
            inversions: came.inversions,
            altered: came.altered,
            foreign: came.foreign,
            receipts: self.receipts.load(Relaxed),
            without_receipt: without_receipt as u64,
            repeated: self.repeated.load(Relaxed),
            changed: self.changed.load(Relaxed),
            refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The messages of the plan that are of these flows, and were sent.
    pub(crate) fn times<'a>(&'a self, is_among: impl Fn(&Flow) -> bool + 'a) -> impl Iterator<Item = Times> + 'a {
        let planned = self.flow_of.iter().zip(&self.slots).filter(move |(flow, _)| is_among(&FLOWS[**flow]));
        let times = planned.map(|(_, slot)| Times {
            intended: slot.intended.load(Relaxed),
            received: slot.received.load(Relaxed),
            came: slot.came.load(Relaxed),
        });
        times.filter(|times| times.intended > 0)
    }
}

impl Latency {
    /// Of those that came.
    pub(crate) fn of(messages: impl Iterator<Item = Times>) -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds");
        let mut latency = Self { whole: empty(), push: empty() };
        for times in messages.filter(|times| times.came > 0) {
            latency.whole.saturating_record(times.came.saturating_sub(times.intended).max(1));
            if times.received > 0 {
                latency.push.saturating_record(times.came.saturating_sub(times.received).max(1));
            }
        }
        latency
    }
}

/// At least 1: 0 is for what has not been.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}
