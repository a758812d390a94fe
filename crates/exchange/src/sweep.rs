//! What ends by itself: leases that nobody settled, messages whose time is over. Who gave a lease proposes its end first; everybody
//! else waits a while, and proposes it if nobody has.

use std::time::Duration;

use airut_domain::message::{Attempt, Expired, LeasesEnded, Offer};

use crate::{
    gateway::Gateway,
    planted::planted,
    verb::{offer::MOST_OFFERED, pull::PULLED},
};

/// How often to look.
const SWEEP: Duration = Duration::from_millis(250);

/// Others wait this long, and up to twice that, for the owner.
const OWNER_FIRST: Duration = Duration::from_secs(2);

impl Gateway {
    /// Ends what is over, until the gateway stops.
    pub(crate) async fn sweep_messages(self) {
        while !self.stop.is_cancelled() {
            self.end_leases().await;
            self.expire_messages().await;
            drop(tokio::time::timeout(SWEEP, self.stop.cancelled()).await);
        }
    }

    async fn end_leases(&self) {
        if planted!(LeasesNeverEnd) {
            return;
        }
        let early = Duration::from_secs(if planted!(LeasesEndedEarly) { 10 } else { 0 });
        let now = self.world.now() + early;
        let patience = self.world.jittered(OWNER_FIRST);
        for (partition, lapsed) in self.folds.lapsed(now, MOST_OFFERED) {
            let due = lapsed.into_iter().filter(|lapsed| lapsed.own || now.since(lapsed.until) >= patience);
            // A collector that was there and said nothing has failed; one that is gone has not.
            let silent = |lapsed: &crate::fold::Lapsed| {
                lapsed.own || lapsed.stream.as_str().starts_with(PULLED) || self.folds.stream_is_open(&lapsed.stream)
            };
            let (silent, gone): (Vec<_>, Vec<_>) = due.partition(silent);
            for (lapsed, attempt) in [(silent, Attempt::Counts), (gone, Attempt::DoesNotCount)] {
                if lapsed.is_empty() {
                    continue;
                }
                let offers: Vec<Offer> = lapsed.into_iter().map(|lapsed| lapsed.offer).collect();
                metrics::counter!("airut_redeliveries_total").increment(offers.len() as u64);
                let ended = LeasesEnded { offers, attempt };
                // Somebody else may have ended them meanwhile, or the log be down: the next look sees.
                if let Err(refusal) = self.propose_each(partition, ended, None, "").await {
                    tracing::warn!(reason = refusal.reason.code(), "leases are not ended");
                    return;
                }
            }
        }
    }

    async fn expire_messages(&self) {
        if planted!(NeverExpired) {
            return;
        }
        let now = self.world.now();
        let patience = self.world.jittered(OWNER_FIRST);
        for (partition, overdue) in self.folds.overdue_messages(now, MOST_OFFERED) {
            // Nobody owns them: the jitter keeps gateways from doing it all at once.
            let due = overdue.into_iter().filter(|overdue| now.since(overdue.expires) >= patience / 4);
            let messages: Vec<_> = due.map(|overdue| overdue.place).collect();
            if messages.is_empty() {
                continue;
            }
            if let Err(refusal) = self.propose_each(partition, Expired { messages }, None, "").await {
                tracing::warn!(reason = refusal.reason.code(), "messages are not expired");
                return;
            }
        }
    }
}
