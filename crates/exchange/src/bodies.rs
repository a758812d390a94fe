//! The bodies of accepted messages, for those who push them: a fresh record's from memory, an older one's from the log.
//!
//! A record holds many messages, sealed together. It is opened once and kept for as long as there is room. A backlog is delivered in
//! the order in which it was accepted, so what follows a record that must be read is read with it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use airut_domain::{
    message::Event,
    partition::Partition,
    record::{Header, Kind, Stored},
};
use airut_wire::log_v1;
use bytes::Bytes;
use prost::Message;

use crate::gateway::Gateway;

/// What opened records may take in memory.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// As many bytes of a partition are read at once, and as many records.
const READ_BYTES: usize = 1024 * 1024;
const READ_RECORDS: u64 = 256;

/// The messages of one record, each as it was received.
pub(crate) type Opened = Arc<Vec<Bytes>>;

/// Records that were read lately.
#[derive(Debug, Default)]
pub(crate) struct Bodies(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<(Partition, u64), Body>,
    /// In the order in which they came.
    order: VecDeque<(Partition, u64)>,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum Body {
    Sealed(Arc<Stored>, Arc<Header>),
    Opened(Arc<Header>, Opened),
}

impl Bodies {
    /// Keeps a record that was just read.
    pub(crate) fn keep(&self, stored: &Arc<Stored>, header: &Arc<Header>) {
        let key = (stored.position.partition, stored.position.offset);
        self.put(key, Body::Sealed(Arc::clone(stored), Arc::clone(header)), stored.body.len());
    }

    fn put(&self, key: (Partition, u64), body: Body, bytes: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!((&body, kept.records.get(&key)), (Body::Sealed(..), Some(Body::Opened(..)))) {
            return;
        }
        if kept.records.insert(key, body).is_none() {
            kept.order.push_back(key);
            kept.bytes += bytes;
        }
        while kept.bytes > MOST_BYTES && kept.order.len() > 1 {
            let Some(oldest) = kept.order.pop_front() else { return };
            let size = match kept.records.remove(&oldest) {
                Some(Body::Sealed(stored, _)) => stored.body.len(),
                // The seal takes a few bytes more; the sum of what is kept stays about right.
                Some(Body::Opened(_, messages)) => messages.iter().map(Bytes::len).sum(),
                None => 0,
            };
            kept.bytes = kept.bytes.saturating_sub(size);
        }
    }

    fn find(&self, key: (Partition, u64)) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).records.get(&key).cloned()
    }
}

impl Gateway {
    /// The messages that the record at this offset accepted. None when it can not be read now.
    pub(crate) async fn messages_at(&self, partition: Partition, offset: u64) -> Option<Opened> {
        let (stored, header) = match self.bodies.find((partition, offset)) {
            Some(Body::Opened(_, opened)) => return Some(opened),
            Some(Body::Sealed(stored, header)) => (stored, header),
            None => self.read_on(partition, offset).await?,
        };
        let opened = self.writer.open_body(&stored, &header).await.map_err(|cause| cause.to_string());
        let bodies =
            opened.and_then(|body| log_v1::MessageBodies::decode(Bytes::from(body)).map_err(|cause| cause.to_string()));
        match bodies {
            Ok(bodies) => {
                let opened = Arc::new(bodies.messages);
                self.bodies.put((partition, offset), Body::Opened(header, Arc::clone(&opened)), stored.body.len());
                Some(opened)
            }
            Err(cause) => {
                tracing::error!(%cause, position = %stored.position, "recorded messages can not be opened");
                None
            }
        }
    }

    /// The header of the record at this offset, which accepted messages. None when it can not be read now.
    pub(crate) async fn header_at(&self, partition: Partition, offset: u64) -> Option<Arc<Header>> {
        match self.bodies.find((partition, offset)) {
            Some(Body::Opened(header, _) | Body::Sealed(_, header)) => Some(header),
            None => {
                let (stored, header) = self.read_on(partition, offset).await?;
                self.bodies.keep(&stored, &header);
                Some(header)
            }
        }
    }

    /// A record as it lies in the log, with its header; those after it that accepted messages are kept.
    async fn read_on(&self, partition: Partition, offset: u64) -> Option<(Arc<Stored>, Arc<Header>)> {
        let read = self.log.read(partition, offset..offset + READ_RECORDS, READ_BYTES).await;
        let records = read.map_err(|cause| tracing::warn!(%cause, "records can not be read")).ok()?;
        let mut wanted = None;
        for stored in records {
            let Ok(header) = airut_wire::record::decode(&stored.header).map(Arc::new) else { continue };
            if stored.position.offset == offset {
                wanted = Some((stored, header));
            } else if matches!(header.kind, Kind::Message(Event::Accepted(_))) {
                self.bodies.keep(&stored, &header);
            }
        }
        wanted
    }

    /// A record as it lies in the log, with its header.
    pub(crate) async fn read_record(&self, partition: Partition, offset: u64) -> Option<(Arc<Stored>, Arc<Header>)> {
        let read = self.log.read(partition, offset..offset + 1, usize::MAX).await;
        let stored =
            read.map_err(|cause| tracing::warn!(%cause, "a record can not be read")).ok()?.into_iter().next()?;
        let header = airut_wire::record::decode(&stored.header).ok()?;
        Some((stored, Arc::new(header)))
    }
}
