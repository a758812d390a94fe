//! What remains to be compared once every entry and record was: what the ledger's file says of itself, and the
//! checkpoints that are not in the log.

use airut_domain::partition::Position;

use super::{
    Report,
    audit::{Audit, Fault, ORDER, Signs},
    finding::Finding,
    records::Records,
};
use crate::{note::Checkpoint, store::RowFault};

/// How many of SQLite's own messages are reported.
const FILE_MESSAGES: u32 = 20;

impl Audit {
    pub(super) fn conclude(mut self) -> Result<Report, Fault> {
        self.check_state();
        self.check_positions()?;
        self.check_outside();
        match self.compared.entries.reader().integrity(FILE_MESSAGES) {
            Ok(messages) => messages.into_iter().for_each(|message| self.compared.findings.add(Finding::File(message))),
            Err(RowFault::Damaged) => self.compared.findings.add(Finding::File("damaged".to_owned())),
            Err(RowFault::Unreadable(error)) => return Err(Fault::Ledger(error.into())),
        }
        let records = self.records.values().chain([&self.order]).map(|records| records.passed).sum();
        let signed = self.largest.as_ref().map_or(0, |checkpoint| checkpoint.size);
        Ok(Report {
            entries: self.compared.next(),
            records,
            checkpoints: self.checkpoints,
            checkpoint: self.largest,
            unsigned: (self.compared.next() + self.unordered).saturating_sub(signed),
            findings: self.compared.findings.kept,
            findings_total: self.compared.findings.total,
        })
    }

    /// Compares what the ledger's file says of itself with what was found.
    fn check_state(&mut self) {
        let (state, found) = (self.compared.entries.state(), self.compared.next());
        let (stored, order_next) = (state.size, state.order_next);
        let (identity, recorded) = (state.identity.clone(), state.checkpoint.clone());
        if identity.log != self.log_id {
            self.compared.findings.add(Finding::OtherLog { found: identity.log, expected: self.log_id.clone() });
        }
        let expected = self.key.to_string();
        if identity.key != expected {
            self.compared.findings.add(Finding::OtherKey { found: identity.key, expected });
        }
        if order_next > self.order.end() {
            self.compared.findings.add(Finding::Position { partition: ORDER, stored: order_next });
        }
        if found < stored {
            self.compared.findings.add(Finding::Size { stored, found });
        }
        if let (rows, Ok(())) = self.compared.entries.reader().rows(stored, 1)
            && let [row] = rows.as_slice()
        {
            self.compared.findings.add(Finding::BeyondEnd { entry: row.index, size: stored });
        }
        if let Some(recorded) = recorded {
            match self.key.open(&recorded.note) {
                Ok(checkpoint) => self.check_recorded(checkpoint),
                Err(error) => self.compared.findings.add(Finding::CheckpointInvalid { position: None, error }),
            }
        }
        let signed = self.largest.as_ref().map_or(0, |largest| largest.size);
        if stored < signed {
            self.compared.findings.add(Finding::Behind { size: stored, signed });
        }
    }

    fn check_recorded(&mut self, checkpoint: Checkpoint) {
        let (size, found) = (checkpoint.size, self.compared.next());
        if size > found {
            self.compared.findings.add(Finding::CheckpointBeyondEnd { position: None, size, found });
        } else {
            let fits = self.compared.awaited.get(&size) == Some(&Some(checkpoint.root));
            self.judge(None, checkpoint, fits);
        }
    }

    /// The ledger took in each partition up to somewhere between its last entry and its next.
    fn check_positions(&mut self) -> Result<(), Fault> {
        for (partition, stored) in self.compared.entries.reader().ends()? {
            let after_last = self.compared.last_in.get(&partition).is_none_or(|last| stored > *last);
            let next = self.compared.first_out.get(&partition).copied();
            let end = self.records.get(&partition).map_or(0, Records::next);
            if !after_last || stored > next.unwrap_or(end) {
                self.compared.findings.add(Finding::Position { partition, stored });
            }
        }
        Ok(())
    }

    fn check_outside(&mut self) {
        let Some(Checkpoint { size, root, .. }) = self.outside.take() else { return };
        let found = self.compared.next();
        if size > found {
            self.compared.findings.add(Finding::Truncated { size, found });
        } else if self.compared.awaited.get(&size) != Some(&Some(root)) {
            self.compared.findings.add(Finding::Forked { size });
        }
    }

    /// Takes note of whether a checkpoint fits the entries. After the first that does not, none will.
    pub(super) fn judge(&mut self, position: Option<Position>, checkpoint: Checkpoint, fits: bool) {
        let (size, since) = (checkpoint.size, self.largest.as_ref().map_or(0, |largest| largest.size));
        if fits {
            if size >= since {
                self.largest = Some(checkpoint);
            }
        } else if self.signs == Signs::Fit {
            self.signs = Signs::Forked;
            self.compared.findings.add(Finding::CheckpointForked { position, size, since });
        }
    }
}
