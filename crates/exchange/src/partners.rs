//! Changes of the registry: what the partners' files say, and what partners ask for over the service.

use std::{sync::PoisonError, time::Duration};

use airut_domain::{
    change::{self, Step},
    id::PartnerId,
    keys::Digest,
    partition::{Partition, Topic},
    partner::Partner,
    refusal::{Reason, Refusal},
    registry::{Entry, PartnerApplied, Registry},
};

use crate::{
    edge::Unanswered,
    gateway::{Gateway, Unproposed},
};

/// Somebody else may change the same partner at the same time: then what they made of it is looked at again.
const TRIES: usize = 5;

/// What became of one file's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The file says what it said when it was last applied.
    Unchanged(PartnerId),
    /// It is in force now, as this version.
    Applied(PartnerId, u32),
}

/// A change that is in force.
enum InForce {
    /// It was already.
    Before(Entry),
    /// Since the record of this call.
    Now(Entry),
}

impl Gateway {
    /// Puts the definitions of the partners' files in force: each that says something else than when it was last applied. It then
    /// wins over what the service did since. Partners without a definition stay as they are: to end one, suspend it.
    ///
    /// Once this gateway has seen to a file it looks at it again only when it has changed, so that gateways whose files differ for a
    /// while, as they do while new ones are handed out, don't undo each other's.
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
        let source = Digest::of(airut_wire::record::definition(&partner).as_bytes());
        if self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&partner.id) == Some(&source) {
            return Ok(Change::Unchanged(partner.id));
        }
        let change = match self.change(|registry| Ok(change::from_file(registry, &partner, source)), "").await {
            Ok(InForce::Before(_)) => Change::Unchanged(partner.id.clone()),
            Ok(InForce::Now(entry)) => Change::Applied(partner.id.clone(), entry.version),
            Err(Unanswered::Refused(refusal) | Unanswered::Unwritten(refusal)) => return Err(refusal),
        };
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(partner.id, source);
        Ok(change)
    }

    /// Makes a change that a partner asks for: judges it, records it, and gives what is in force then. Judged anew when somebody
    /// else's change came first.
    ///
    /// When the future is dropped the change may or may not be in force.
    pub(crate) async fn change_registry(
        &self,
        by: &PartnerId,
        change: &change::Change,
        traceparent: &str,
    ) -> Result<Entry, Unanswered> {
        match self.change(|registry| change::judge(registry, by, change), traceparent).await? {
            InForce::Before(entry) | InForce::Now(entry) => Ok(entry),
        }
    }

    async fn change(
        &self,
        judge: impl Fn(&Registry) -> Result<Step, Refusal>,
        traceparent: &str,
    ) -> Result<InForce, Unanswered> {
        for _ in 0..=TRIES {
            let applied = match judge(&self.folds.registry()).map_err(Unanswered::Refused)? {
                Step::None(entry) => return Ok(InForce::Before(entry)),
                Step::Append(applied) => applied,
            };
            match self.propose(Partition::only(Topic::Partners), applied, None, traceparent).await {
                Ok(accepted) => {
                    let PartnerApplied { version, partner, source, .. } = accepted.command().clone();
                    return Ok(InForce::Now(Entry { version, partner, source }));
                }
                Err(Unproposed::Unwritten(refusal)) => return Err(Unanswered::Unwritten(refusal)),
                Err(Unproposed::Void(_)) => {}
            }
            tokio::time::sleep(self.world.jittered(Duration::from_millis(20))).await;
        }
        Err(Unanswered::Unwritten(Refusal::new(Reason::OutcomeUnknown)))
    }
}
