//! The mailboxes of every partition, with what they leave to others: the ids of all messages, and finished batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use airut_domain::{
    id::{Incarnation, MessageId, PartnerId},
    mailbox::{Batch, Effects, Known, Mailbox, Totals},
    message::Event,
    partition::{Partition, Topic},
    query::At,
    time::Timestamp,
};

use super::{
    batches::{BatchKey, Row, day_of},
    ids::{Ids, Used},
    kept::Kept,
    state::{Cursor, encode},
    store::{Store, StoreError},
};
use crate::planted::{self, planted};

/// The mailboxes of every partition.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    partitions: BTreeMap<Partition, Mailbox>,
    ids: Ids,
    /// Batches that have changed and are not finished.
    changed: BTreeSet<BatchKey>,
}

impl Mailboxes {
    /// The mailboxes as they were kept.
    pub(super) fn open(store: &Store, cursor: &Cursor) -> Result<Self, StoreError> {
        let partitions = Partition::all().filter(|partition| partition.topic == Topic::Messages);
        let mut partitions: BTreeMap<_, _> = partitions.map(|partition| (partition, Mailbox::default())).collect();
        let mut ids = Ids::default();
        store.live_batches(|(partition, offset), batch| {
            ids.add(partition, offset, &batch);
            let time = cursor.times.get(&partition).copied().unwrap_or_default();
            if let Some(mailbox) = partitions.get_mut(&partition) {
                mailbox.restore(offset, batch, time);
            }
        })?;
        store.finished_batches(|(partition, offset), batch| {
            if let Some(day) = day_of(batch) {
                ids.add_finished(partition, offset, batch, day);
            }
        })?;
        Ok(Self { partitions, ids, changed: BTreeSet::new() })
    }

    /// The mailboxes of a partition.
    pub(crate) fn of(&self, partition: Partition) -> &Mailbox {
        self.partitions.get(&partition).expect("every partition of the messages has mailboxes")
    }

    /// Each partition's.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Partition, &Mailbox)> {
        self.partitions.iter().map(|(partition, mailbox)| (*partition, mailbox))
    }

    /// What has not ended of what was sent to the partner.
    pub(crate) fn inbox(&self, recipient: &PartnerId) -> Totals {
        sum(self.partitions.values().map(|mailbox| mailbox.inbox(recipient)))
    }

    /// What has not ended of what the partner sent.
    pub(crate) fn sent(&self, sender: &PartnerId) -> Totals {
        sum(self.partitions.values().map(|mailbox| mailbox.sent(sender)))
    }

    /// Takes in a record of the messages.
    pub(super) fn apply(
        &mut self,
        store: &mut Store,
        kept: &mut Kept,
        at: At,
        author: &Incarnation,
        event: &Event,
    ) -> Result<Effects, StoreError> {
        let partition = at.position.partition;
        let event = planted::read(event);
        let Self { partitions, ids, changed } = self;
        let mailbox = partitions.get_mut(&partition).expect("every partition of the messages has mailboxes");
        let author = planted::author(mailbox, event, author);
        let mut fault = None;
        let known = |mailbox: &Mailbox, sender: &PartnerId, id: &MessageId| {
            let used = ids.used(sender, id).filter(|used| used.partition == partition);
            let found = find(mailbox, store, used, sender, id, at.time);
            found.unwrap_or_else(|cause| {
                fault = Some(cause);
                None
            })
        };
        let mut unread = None;
        let finished = |offset| {
            store.finished_at((partition, offset)).unwrap_or_else(|cause| {
                unread = Some(cause);
                None
            })
        };
        let effects = mailbox.apply(at, author, event, known, finished);
        if let Some(cause) = fault.or(unread) {
            return Err(cause);
        }
        if let (Event::Accepted(_), Some(batch)) = (event, mailbox.batch(at.position.offset)) {
            ids.add(partition, at.position.offset, batch);
        }
        kept.messages(at.position, event, &effects);
        changed.extend(effects.changed.iter().map(|offset| (partition, *offset)));
        for (offset, batch) in &effects.finished {
            changed.remove(&(partition, *offset));
            if let Some(forget_at) = batch.forget_at() {
                ids.finish(partition, *offset, batch, forget_at.day() + 1);
                kept.batch_finished(partition, *offset, forget_at, at.time);
            }
            store.put_batch((partition, *offset), Row::Finished(Arc::new(batch.clone())));
        }
        for (offset, batch) in &effects.forgotten {
            changed.remove(&(partition, *offset));
            ids.remove(partition, *offset, batch);
            store.put_batch((partition, *offset), Row::Gone);
        }
        Ok(effects)
    }

    /// The batch at this place, finished or not; none when it is forgotten by the partition's time, or never was.
    pub(crate) fn batch(
        &self,
        store: &Store,
        key: BatchKey,
        day: Option<i64>,
    ) -> Result<Option<Arc<Batch>>, StoreError> {
        match (self.of(key.0).batch(key.1), day) {
            (Some(batch), _) => Ok(Some(Arc::new(batch.clone()))),
            (None, Some(day)) => store.finished_batch(key, day),
            (None, None) => Ok(None),
        }
    }

    /// Everything that is known of an id: in which partition, at which place.
    pub(crate) fn known(
        &self,
        store: &Store,
        times: &BTreeMap<Partition, Timestamp>,
        sender: &PartnerId,
        id: &MessageId,
    ) -> Result<Option<(Partition, Known, Option<i64>)>, StoreError> {
        for used in self.ids.used(sender, id) {
            let mailbox = self.of(used.partition);
            let time = times.get(&used.partition).copied().unwrap_or_default();
            if let Some(known) = find(mailbox, store, std::iter::once(used), sender, id, time)? {
                return Ok(Some((used.partition, known, used.day)));
            }
        }
        Ok(None)
    }

    /// The rows of what has changed, for the store.
    pub(super) fn take_changed(&mut self) -> Vec<(BatchKey, Row)> {
        let changed = std::mem::take(&mut self.changed);
        let row = |key: BatchKey| {
            let batch = self.partitions.get(&key.0)?.batch(key.1)?;
            Some((key, Row::Live(encode(batch))))
        };
        changed.into_iter().filter_map(row).collect()
    }

    /// Forgets the ids of days that every partition has left behind.
    pub(super) fn forget_before(&mut self, day: i64) {
        self.ids.forget_before(day);
    }
}

/// The message that has this id, of those that may.
fn find(
    mailbox: &Mailbox,
    store: &Store,
    used: impl Iterator<Item = Used>,
    sender: &PartnerId,
    id: &MessageId,
    time: Timestamp,
) -> Result<Option<Known>, StoreError> {
    for Used { partition, place, day } in used.filter(|used| used.day.is_none() || !planted!(IdsForgottenEarly)) {
        let finished;
        let batch = match (mailbox.batch(place.offset), day) {
            (Some(batch), _) => batch,
            (None, None) => continue,
            (None, Some(day)) => {
                let Some(batch) = store.finished_batch((partition, place.offset), day)? else { continue };
                finished = batch;
                &*finished
            }
        };
        let forgotten = batch.forget_at().is_some_and(|at| at <= time);
        let message = batch.message(place.item).filter(|message| message.id == *id && batch.sender == *sender);
        if let (Some(message), false) = (message, forgotten) {
            return Ok(Some(Known { place, fingerprint: message.fingerprint, at: batch.at }));
        }
    }
    Ok(None)
}

fn sum(totals: impl Iterator<Item = Totals>) -> Totals {
    totals.fold(Totals::default(), |sum, totals| Totals {
        messages: sum.messages + totals.messages,
        bytes: sum.bytes + totals.bytes,
    })
}
