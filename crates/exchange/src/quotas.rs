//! Quotas: how much a partner may send at once, by its contract. They are judged by this gateway's own counts and by what its
//! folds know; what is over is what was under way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airut_domain::{
    delivery::Quota,
    id::PartnerId,
    mailbox::Totals,
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
    time::Timestamp,
};

/// A partner that has been quiet may send as much at once as in this many seconds.
const BURST_SECONDS: u32 = 4;

/// What partners that have a quota send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quotas(Arc<Mutex<BTreeMap<PartnerId, Sent>>>);

/// What one partner sends.
#[derive(Debug)]
struct Sent {
    in_flight: u32,
    /// Thousandths of a message that may be sent now.
    allowance: u64,
    since: Timestamp,
}

/// A message's place among those that its sender has under way. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Option<(Quotas, PartnerId)>);

impl Quotas {
    /// Lets a message of so many bytes pass, or says that its sender has to wait. `stored` is what has not ended of what it sent.
    pub(crate) fn admit(
        &self,
        sender: &VerifiedPartner,
        bytes: u32,
        now: Timestamp,
        stored: impl FnOnce() -> Totals,
    ) -> Result<InFlight, Refusal> {
        let Some(quota) = sender.partner().quota else { return Ok(InFlight(None)) };
        if let Some(which) = self.over(&quota, sender.id(), bytes, now, stored) {
            metrics::counter!("airut_quota_refusals_total", "partner" => sender.id().to_string(), "quota" => which)
                .increment(1);
            return Err(Refusal::new(Reason::QuotaExceeded));
        }
        Ok(InFlight(Some((self.clone(), sender.id().clone()))))
    }

    /// Which part of the quota is used up; otherwise the message is counted.
    fn over(
        &self,
        quota: &Quota,
        sender: &PartnerId,
        bytes: u32,
        now: Timestamp,
        stored: impl FnOnce() -> Totals,
    ) -> Option<&'static str> {
        if quota.stored_messages.is_some() || quota.stored_bytes.is_some() {
            let stored = stored();
            if quota.stored_messages.is_some_and(|most| stored.messages >= most) {
                return Some("stored-messages");
            }
            if quota.stored_bytes.is_some_and(|most| stored.bytes.saturating_add(bytes.into()) > most) {
                return Some("stored-bytes");
            }
        }
        let mut partners = self.lock();
        let rate = quota.messages_per_second.map(u64::from);
        let most = rate.map_or(0, |rate| rate * u64::from(BURST_SECONDS) * 1000);
        let sent = partners.entry(sender.clone()).or_insert(Sent { in_flight: 0, allowance: most, since: now });
        if quota.in_flight.is_some_and(|most| sent.in_flight >= most) {
            return Some("in-flight");
        }
        if let Some(rate) = rate {
            let earned =
                u64::try_from(now.since(sent.since).min(Duration::from_secs(3600)).as_millis()).unwrap_or(0) * rate;
            sent.allowance = sent.allowance.saturating_add(earned).min(most);
            sent.since = now;
            if sent.allowance < 1000 {
                return Some("messages-per-second");
            }
            sent.allowance -= 1000;
        }
        sent.in_flight += 1;
        None
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartnerId, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some((quotas, sender)) = self.0.take()
            && let Some(sent) = quotas.lock().get_mut(&sender)
        {
            sent.in_flight = sent.in_flight.saturating_sub(1);
        }
    }
}
