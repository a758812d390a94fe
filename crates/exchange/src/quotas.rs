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

impl InFlight {
    /// What the exchange itself sends on a partner's behalf is not counted.
    pub(crate) const fn uncounted() -> Self {
        Self(None)
    }
}

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

#[cfg(test)]
mod tests {
    use airut_domain::{
        partner::{Kind, Partner},
        registry::{Entry, Registry},
    };

    use super::*;
    use crate::support::{BEGAN, partner};

    const NONE: Quota = Quota { messages_per_second: None, in_flight: None, stored_messages: None, stored_bytes: None };

    fn sender(quota: Option<Quota>) -> VerifiedPartner {
        let mut registry = Registry::default();
        let partner = Partner { quota, ..partner("kela", Kind::Kela, vec![]) };
        registry.insert(Entry { version: 1, partner, source: None });
        registry.current(&"kela".parse().unwrap()).unwrap()
    }

    /// Whether a message of ten bytes passes, and what it holds then.
    fn passes(quotas: &Quotas, sender: &VerifiedPartner, now: Timestamp, stored: Totals) -> Option<InFlight> {
        match quotas.admit(sender, 10, now, || stored) {
            Ok(in_flight) => Some(in_flight),
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::QuotaExceeded);
                assert!(refusal.retry_after.is_some(), "it may be tried again");
                None
            }
        }
    }

    #[test]
    fn who_has_no_quota_is_not_counted() {
        let quotas = Quotas::default();
        let stored = || panic!("nobody needs to know");
        assert!(quotas.admit(&sender(None), 10, BEGAN, stored).is_ok());
        assert!(quotas.lock().is_empty());
    }

    #[test]
    fn a_burst_passes_and_then_as_many_as_the_rate_refills() {
        let (quotas, kela) = (Quotas::default(), sender(Some(Quota { messages_per_second: Some(2), ..NONE })));
        let passed =
            |now, tries| (0..tries).filter(|_| passes(&quotas, &kela, now, Totals::default()).is_some()).count();
        assert_eq!(passed(BEGAN, 20), 8, "four seconds' worth");
        assert_eq!(passed(BEGAN + Duration::from_millis(499), 3), 0);
        assert_eq!(passed(BEGAN + Duration::from_millis(500), 3), 1, "what was refused took nothing");
        // Time that is cut up refills as much as the same time at once.
        let steps = (1..=10).map(|step| passed(BEGAN + Duration::from_millis(500 + step * 100), 1));
        assert_eq!(steps.sum::<usize>(), 2);
        assert_eq!(passed(BEGAN + Duration::from_secs(3_600), 20), 8, "no more than a burst is saved up");
        assert_eq!(passed(BEGAN, 1), 0, "a clock that was set back refills nothing");
    }

    #[test]
    fn a_place_in_flight_is_free_again_when_it_is_dropped() {
        let (quotas, kela) = (Quotas::default(), sender(Some(Quota { in_flight: Some(2), ..NONE })));
        let pass = || passes(&quotas, &kela, BEGAN, Totals::default());
        let (first, second) = (pass().unwrap(), pass().unwrap());
        assert!(pass().is_none());
        drop(first);
        let third = pass().unwrap();
        assert!(pass().is_none());
        drop((second, third));
        assert_eq!(quotas.lock().values().map(|sent| sent.in_flight).sum::<u32>(), 0);
    }

    #[test]
    fn what_is_refused_for_its_rate_has_no_place_in_flight() {
        let quota = Quota { messages_per_second: Some(1), in_flight: Some(100), ..NONE };
        let (quotas, kela) = (Quotas::default(), sender(Some(quota)));
        let held: Vec<_> = (0..10).filter_map(|_| passes(&quotas, &kela, BEGAN, Totals::default())).collect();
        assert_eq!((held.len(), quotas.lock()[kela.id()].in_flight), (4, 4));
    }

    #[test]
    fn what_has_not_ended_counts_against_what_may_be_stored() {
        let quota = Quota { stored_messages: Some(3), stored_bytes: Some(100), ..NONE };
        let (quotas, kela) = (Quotas::default(), sender(Some(quota)));
        for (messages, bytes, expected) in [(2, 90, true), (3, 0, false), (0, 91, false), (0, u64::MAX, false)] {
            let passed = passes(&quotas, &kela, BEGAN, Totals { messages, bytes }).is_some();
            assert_eq!(passed, expected, "{messages} messages of {bytes} bytes");
        }
    }

    #[test]
    fn each_sender_has_its_own() {
        let quotas = Quotas::default();
        let kela = sender(Some(Quota { in_flight: Some(1), ..NONE }));
        let mut registry = Registry::default();
        let other = Partner { quota: kela.partner().quota, ..partner("vero", Kind::Other, vec![]) };
        registry.insert(Entry { version: 1, partner: other, source: None });
        let vero = registry.current(&"vero".parse().unwrap()).unwrap();
        let held = passes(&quotas, &kela, BEGAN, Totals::default());
        assert!(held.is_some() && passes(&quotas, &vero, BEGAN, Totals::default()).is_some());
    }
}
