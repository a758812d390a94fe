//! `DeliveryService.Pull`: what waits, for a collector that holds no stream open. Offered, leased and settled as what is pushed.

use std::{collections::BTreeMap, time::Duration};

use airut_domain::{
    id::PartnerId,
    message::Offer,
    partition::Partition,
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
    time::Timestamp,
};
use airut_wire::v1;
use tokio_util::sync::CancellationToken;

use super::{
    collect::{LOOK, field},
    offer::{Collects, MOST_OFFERED, Ready, partitions},
    settle::MOST_AT_ONCE,
};
use crate::{fold::Changes, gateway::Gateway};

/// How the streams of pulls are named. Nobody announces them; their leases end as those of a stream that was there.
pub(crate) const PULLED: &str = "pull/";

/// The longest that a pull may wait.
const LONGEST_PULL: Duration = Duration::from_secs(30);

impl Gateway {
    /// Messages that wait, for a collector that holds no stream open. Once the caller has left nothing more is offered, and what was
    /// is given back.
    pub(crate) async fn pull(
        &self,
        collector: &VerifiedPartner,
        request: v1::PullRequest,
        left: &CancellationToken,
    ) -> Result<v1::PullResponse, Refusal> {
        let most = usize::try_from(request.max_messages).unwrap_or(0);
        if !(1..=MOST_AT_ONCE).contains(&most) {
            return Err(field("max_messages", format!("must be 1 to {MOST_AT_ONCE}")));
        }
        let wait = match request.wait {
            None => Some(Duration::ZERO),
            Some(wait) => airut_wire::span(wait, Duration::ZERO).filter(|wait| *wait <= LONGEST_PULL),
        };
        let wait = wait.ok_or_else(|| field("wait", "must be at most 30 seconds".to_owned()))?;
        let lease = airut_wire::lease("lease", request.lease)?;
        let types = airut_wire::taken_types("message_types", &request.message_types)?;
        let collects = Collects { recipient: collector.id().clone(), stream: self.new_stream(PULLED)?, lease, types };
        let changes = self.folds.collecting(&collects.recipient);
        let pulled = self.pull_within(&collects, most, &changes, wait, left).await;
        drop(changes);
        self.folds.collects_no_more(collector.id());
        Ok(v1::PullResponse { deliveries: self.give(&collects.recipient, pulled?, left)? })
    }

    /// The last checks of what was pulled, in the poll in which it leaves: offering it has taken its time. What can not be given
    /// is given back.
    fn give(
        &self,
        recipient: &PartnerId,
        pulled: Vec<Ready>,
        left: &CancellationToken,
    ) -> Result<Vec<v1::Delivery>, Refusal> {
        let now = self.world.now();
        let fault = if pulled.is_empty() {
            None
        } else if left.is_cancelled() {
            Some(Reason::NotServing)
        } else if !self.folds.registry_is_current(now) {
            Some(Reason::RegistryStale)
        } else if self.folds.registry().current(recipient).is_none() {
            Some(Reason::PartnerSuspended)
        } else {
            None
        };
        let is_good = |ready: &Ready| fault.is_none() && self.may_leave(recipient, ready, now);
        let (good, withheld): (Vec<_>, Vec<_>) = pulled.into_iter().partition(is_good);
        let mut offers: BTreeMap<Partition, Vec<Offer>> = BTreeMap::new();
        for ready in withheld {
            offers.entry(ready.partition).or_default().push(ready.offer);
        }
        for (partition, offers) in offers {
            let gateway = self.clone();
            self.spawn(self.calls.track_future(async move { gateway.give_back(partition, offers).await }));
        }
        match fault {
            Some(reason) => Err(Refusal::new(reason)),
            None => Ok(good.into_iter().map(|ready| ready.delivery).collect()),
        }
    }

    /// Whether a message that was offered may still be shown: its lease runs, and the recipient's contract grants it.
    fn may_leave(&self, recipient: &PartnerId, ready: &Ready, now: Timestamp) -> bool {
        now < ready.until && self.may_be_given(recipient, &ready.sender, &ready.terms)
    }

    /// What there is now, or else what comes first. Only the waiting is cut short: what was offered is given.
    async fn pull_within(
        &self,
        collects: &Collects,
        most: usize,
        changes: &Changes,
        wait: Duration,
        left: &CancellationToken,
    ) -> Result<Vec<Ready>, Refusal> {
        let until = tokio::time::Instant::now() + wait;
        let mut seen = changes.count();
        loop {
            let pulled = self.pull_now(collects, most).await?;
            if !pulled.is_empty() || tokio::time::Instant::now() >= until {
                return Ok(pulled);
            }
            let look = until.min(tokio::time::Instant::now() + LOOK);
            tokio::select! {
                biased;
                () = left.cancelled() => return Ok(Vec::new()),
                () = self.draining.cancelled() => return Err(Refusal::new(Reason::NotServing)),
                changed = tokio::time::timeout_at(look, changes.beyond(&mut seen)) => drop(changed),
            }
        }
    }

    async fn pull_now(&self, collects: &Collects, most: usize) -> Result<Vec<Ready>, Refusal> {
        let now = self.world.now();
        if !self.folds.registry_is_current(now) {
            return Err(Refusal::new(Reason::RegistryStale));
        }
        let mut pulled = Vec::new();
        for partition in partitions() {
            let room = (most - pulled.len()).min(MOST_OFFERED);
            let Collects { recipient, types, .. } = collects;
            let found = self.folds.offerable(partition, recipient, types, now, room, |_, _, _| true);
            let granted = self.granted(&collects.recipient, partition, found);
            if granted.is_empty() {
                continue;
            }
            pulled.extend(self.offer(collects, partition, granted).await);
            if pulled.len() >= most {
                break;
            }
        }
        Ok(pulled)
    }
}
