//! Bringing the registry in line with the partners' definitions.

use std::time::Duration;

use airut_domain::{
    id::PartnerId,
    partition::{Partition, Topic},
    partner::Partner,
    refusal::Refusal,
    registry::PartnerApplied,
};

use crate::gateway::{Gateway, Unproposed};

/// Another gateway may apply the same files at the same time: then what it applied is looked at again.
const TRIES: usize = 5;

/// What became of one definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was in force already.
    Unchanged(PartnerId),
    /// It is in force now, as this version.
    Applied(PartnerId, u32),
}

impl Gateway {
    /// Puts each definition in force that is not yet. Partners without a definition stay as they are: to end one, suspend it.
    ///
    /// # Errors
    /// When the log can not be written; definitions before that are in force.
    pub async fn apply_partners(&self, definitions: Vec<Partner>) -> Result<Vec<Change>, Refusal> {
        let mut changes = Vec::new();
        for partner in definitions {
            changes.push(self.apply_partner(partner).await?);
        }
        Ok(changes)
    }

    async fn apply_partner(&self, partner: Partner) -> Result<Change, Refusal> {
        let mut tries = 0;
        loop {
            let registry = self.folds.registry();
            let entry = registry.get(&partner.id);
            if entry.is_some_and(|entry| entry.partner == partner) {
                return Ok(Change::Unchanged(partner.id));
            }
            let version = entry.map_or(0, |entry| entry.version) + 1;
            let applied = PartnerApplied { version, partner: partner.clone() };
            match self.propose(Partition::only(Topic::Partners), applied, None, "").await {
                Ok(_) => return Ok(Change::Applied(partner.id, version)),
                Err(Unproposed::Unwritten(refusal)) => return Err(refusal),
                Err(Unproposed::Void(_)) if tries < TRIES => tries += 1,
                Err(Unproposed::Void(_)) => {
                    return Err(Refusal::new(airut_domain::refusal::Reason::OutcomeUnknown));
                }
            }
            tokio::time::sleep(self.world.jittered(Duration::from_millis(20))).await;
        }
    }
}
