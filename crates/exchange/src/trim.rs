//! Trimming the log: what is finished, no longer remembered and sealed by the ledger is let go.
//!
//! Nothing is trimmed that a rebuild would need: the fold, rebuilt from the trim point, has the same digest. The registry and
//! the ledger's order are never trimmed; they are small, and everything else is read by them.

use airut_domain::{
    partition::{Partition, Topic},
    query,
};

use crate::gateway::{Gateway, GatewayError};

/// As many records are looked at in one step.
const STEP_BYTES: usize = 4 << 20;

impl Gateway {
    /// Trims each partition as far as may be. Safe to run at any time, on any gateway.
    ///
    /// # Errors
    /// When the log can not be read or trimmed; what was trimmed before that is.
    pub async fn trim(&self) -> Result<(), GatewayError> {
        for partition in Partition::all() {
            match partition.topic {
                Topic::Messages
                | Topic::Queries
                | Topic::Documents
                | Topic::Requests
                | Topic::Refusals
                | Topic::Members => self.trim_partition(partition).await?,
                Topic::Partners | Topic::Order => {}
            }
        }
        Ok(())
    }

    async fn trim_partition(&self, partition: Partition) -> Result<(), GatewayError> {
        let sealed = self.folds.sealed().get(&partition).copied().unwrap_or(0);
        // The last record stays: it holds the partition's time.
        let end = self.log.end(partition).await?;
        let limit = sealed.min(end.saturating_sub(1));
        let time = self.folds.time(partition);
        let start = self.log.start(partition).await?;
        let mut before = start;
        'reading: while before < limit {
            for record in self.log.read(partition, before..limit, STEP_BYTES).await? {
                if time.since(record.stamp) <= query::REMEMBERED {
                    break 'reading;
                }
                before = record.position.offset + 1;
            }
        }
        let before = self.folds.trimmable(partition, start, before)?;
        if before > start {
            self.log.trim(partition, before).await.map_err(|cause| GatewayError::Trim(cause.to_string()))?;
        }
        Ok(())
    }
}
