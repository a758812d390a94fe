//! A tail of the embedded log.

use std::{collections::BTreeMap, sync::Arc};

use airut_domain::{partition::Partition, record::Stored};
use tokio::sync::watch;

use super::{Engine, published::Unseen};
use crate::{TAIL_BATCH, TailError};

pub(crate) struct Tail {
    engine: Arc<Engine>,
    changes: watch::Receiver<()>,
    /// The next offset of each partition.
    positions: BTreeMap<Partition, u64>,
    /// The partition served last.
    served: Partition,
}

impl Tail {
    pub(super) fn new(engine: Arc<Engine>, changes: watch::Receiver<()>, positions: BTreeMap<Partition, u64>) -> Self {
        let (served, _) = positions.last_key_value().expect("a log has partitions");
        Self { engine, changes, served: *served, positions }
    }

    /// Cancel safe: the positions move only once there is nothing left to wait for.
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<Stored>>, TailError> {
        loop {
            // Before looking: a change while we look wakes the wait below.
            self.changes.mark_unchanged();
            let batch = match self.engine.published.unseen(&self.positions, self.served, TAIL_BATCH)? {
                Unseen::Nothing => {
                    self.changes.changed().await.map_err(|_| TailError::Closed)?;
                    continue;
                }
                Unseen::InMemory(batch) => batch,
                Unseen::InFile(partition, offsets) => self.engine.readers.read(partition, offsets, TAIL_BATCH).await?,
            };
            for record in &batch {
                self.positions.insert(record.position.partition, record.position.offset + 1);
                self.served = record.position.partition;
            }
            return Ok(batch);
        }
    }
}
