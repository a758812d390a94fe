//! The connections there are: their bounds, and who may stay.
//!
//! Every accepted socket takes a [`Place`] before anything else is done for it and gives it back when it is dropped, so
//! that the bounds hold by construction. Once its handshake is done its [`Standing`] is kept and renewed for as long as
//! it is open; a connection that has lost it is cut.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use airut_domain::{
    id::PartnerId,
    partner::PresentedCertificate,
    refusal::Reason,
    registry::{Registry, Unidentified, VerifiedPartner},
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::{certificate, settings::Bounds, stranger::Prefix, trust::Trust};

/// What the open connections are judged by at one moment.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) trust: Arc<Trust>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) now: Timestamp,
}

/// What a connection is known by, and the way to end it.
pub(crate) struct Facts {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) certificate: PresentedCertificate,
    pub(crate) opened: Timestamp,
    token: CancellationToken,
    reason: OnceLock<Reason>,
}

impl Facts {
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        certificate: PresentedCertificate,
        opened: Timestamp,
    ) -> Arc<Self> {
        Arc::new(Self { chain, certificate, opened, token: CancellationToken::new(), reason: OnceLock::new() })
    }

    /// Ends the connection. The first reason given stays.
    pub(crate) fn cut(&self, reason: Reason) {
        // The reason first: whoever sees the token cancelled finds it.
        self.reason.get_or_init(|| reason);
        self.token.cancel();
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(crate) fn identify(&self, registry: &Registry) -> Result<VerifiedPartner, Unidentified> {
        let found = registry.identify(&self.certificate);
        match self.reason.get() {
            None => found,
            Some(reason) => Err(Unidentified {
                refusal: airut_domain::refusal::Refusal::new(*reason),
                partner: found.ok().map(|verified| verified.id().clone()),
            }),
        }
    }
}

/// What a connection was last found to be, and by what.
#[derive(Clone)]
struct Standing {
    trust: Arc<Trust>,
    registry: Arc<Registry>,
    /// When a certificate of its chain ends, so that the chain is to be judged anew.
    judge_chain_at: Timestamp,
    /// The partner it was identified as, if it ever was.
    partner: Option<PartnerId>,
}

impl Standing {
    fn is_current(&self, view: &View) -> bool {
        self.partner.is_some() && self.chain_is_current(view) && Arc::ptr_eq(&self.registry, &view.registry)
    }

    fn chain_is_current(&self, view: &View) -> bool {
        Arc::ptr_eq(&self.trust, &view.trust) && view.now < self.judge_chain_at
    }

    /// The standing that follows, or why the connection must go.
    fn renewed(&self, facts: &Facts, view: &View, unidentified_time: Duration) -> Result<Self, Reason> {
        let mut judge_chain_at = self.judge_chain_at;
        if !self.chain_is_current(view) {
            view.trust.recheck(&facts.chain, view.now)?;
            judge_chain_at = next_end(&facts.chain, view.now);
        }
        let partner = match (&self.partner, view.registry.identify(&facts.certificate)) {
            (Some(before), Ok(found)) if before == found.id() => Some(before.clone()),
            // It was another's when its streams were opened.
            (Some(_), Ok(_)) => return Err(Reason::CertificateUnknown),
            (Some(_), Err(lost)) => return Err(lost.refusal.reason),
            (None, Ok(found)) => Some(found.id().clone()),
            (None, Err(_)) if view.now.since(facts.opened) < unidentified_time => None,
            (None, Err(unknown)) => return Err(unknown.refusal.reason),
        };
        let View { trust, registry, now: _ } = view.clone();
        Ok(Self { trust, registry, judge_chain_at, partner })
    }
}

/// The first moment after `now` at which a certificate of the chain is no longer valid.
fn next_end(chain: &[CertificateDer<'_>], now: Timestamp) -> Timestamp {
    let ends = chain.iter().filter_map(|der| certificate::not_after(der).ok());
    let ended = ends.map(|last_second| last_second + Duration::from_secs(1));
    ended.filter(|end| *end > now).min().unwrap_or(Timestamp::from_millis(i64::MAX))
}

/// Every connection there is.
pub(crate) struct Connections {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: usize,
    prefixes: HashMap<Prefix, Tally>,
    next_id: u64,
    open: BTreeMap<u64, (Arc<Facts>, Standing)>,
}

/// Connections of one prefix.
#[derive(Default)]
struct Tally {
    all: usize,
    in_handshake: usize,
}

/// A connection's place among the others, given back when dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    prefix: Prefix,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    Handshake,
    Open { id: u64 },
}

/// A bound was reached.
#[derive(Debug)]
pub(crate) struct Full;

impl Connections {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::default() })
    }

    /// A place for a handshake.
    pub(crate) fn admit(self: &Arc<Self>, prefix: Prefix) -> Result<Place, Full> {
        let mut state = self.lock();
        let total = state.total;
        let tally = state.prefixes.entry(prefix).or_default();
        let full = total >= self.bounds.connections
            || tally.all >= self.bounds.connections_per_prefix
            || tally.in_handshake >= self.bounds.handshakes_per_prefix;
        if full {
            state.forget_if_none(prefix);
            return Err(Full);
        }
        tally.all += 1;
        tally.in_handshake += 1;
        state.total += 1;
        Ok(Place { connections: Arc::clone(self), prefix, phase: Phase::Handshake })
    }

    /// How many have finished their handshake and are open.
    pub(crate) fn open_count(&self) -> usize {
        self.lock().open.len()
    }

    /// Judges every connection whose standing is not current, and cuts those that have lost it. Blocks for a fraction
    /// of a millisecond per connection whose chain has to be judged anew.
    ///
    /// A connection that opens meanwhile is judged by what it opened with, and so is found stale by the next sweep.
    pub(crate) fn sweep(&self, view: &View) {
        let stale: Vec<(u64, Arc<Facts>, Standing)> = {
            let state = self.lock();
            let stale = state.open.iter().filter(|(_, (_, standing))| !standing.is_current(view));
            stale.map(|(id, (facts, standing))| (*id, Arc::clone(facts), standing.clone())).collect()
        };
        for (id, facts, standing) in stale {
            match standing.renewed(&facts, view, self.bounds.unidentified_time) {
                Ok(renewed) => {
                    if let Some((_, standing)) = self.lock().open.get_mut(&id) {
                        *standing = renewed;
                    }
                }
                Err(reason) => {
                    if !facts.token.is_cancelled() {
                        let partner = standing.partner.as_ref().map(PartnerId::as_str);
                        tracing::info!(partner, %reason, "connection cut");
                    }
                    facts.cut(reason);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

impl State {
    fn forget_if_none(&mut self, prefix: Prefix) {
        if self.prefixes.get(&prefix).is_some_and(|tally| tally.all == 0) {
            self.prefixes.remove(&prefix);
        }
    }
}

impl Place {
    /// Moves from handshake to open. `view` is what the handshake was judged by. Refused, with the reason why its
    /// certificate is no active partner's, when there are too many such connections already.
    pub(crate) fn open(&mut self, facts: &Arc<Facts>, view: View) -> Result<(), Reason> {
        let identified = view.registry.identify(&facts.certificate);
        let judge_chain_at = next_end(&facts.chain, view.now);
        let mut state = self.connections.lock();
        let partner = match identified {
            Ok(verified) => Some(verified.id().clone()),
            Err(unidentified) => {
                let others = state.open.values().filter(|(_, standing)| standing.partner.is_none()).count();
                if others >= self.connections.bounds.unidentified {
                    return Err(unidentified.refusal.reason);
                }
                None
            }
        };
        let id = state.next_id;
        state.next_id += 1;
        let View { trust, registry, now: _ } = view;
        state.open.insert(id, (Arc::clone(facts), Standing { trust, registry, judge_chain_at, partner }));
        if let Some(tally) = state.prefixes.get_mut(&self.prefix) {
            tally.in_handshake -= 1;
        }
        self.phase = Phase::Open { id };
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        state.total -= 1;
        if let Some(tally) = state.prefixes.get_mut(&self.prefix) {
            tally.all -= 1;
            match self.phase {
                Phase::Handshake => tally.in_handshake -= 1,
                Phase::Open { .. } => {}
            }
        }
        match self.phase {
            Phase::Handshake => {}
            Phase::Open { id } => drop(state.open.remove(&id)),
        }
        state.forget_if_none(self.prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds { connections: 4, connections_per_prefix: 3, handshakes_per_prefix: 2, ..Bounds::default() }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let connections = Connections::new(bounds());
        let (here, there) = (Prefix::V4([10, 0, 0]), Prefix::V4([10, 0, 1]));
        let first = connections.admit(here).unwrap();
        let second = connections.admit(here).unwrap();
        assert!(connections.admit(here).is_err(), "two handshakes from one prefix");
        let others = [connections.admit(there).unwrap(), connections.admit(there).unwrap()];
        assert!(connections.admit(Prefix::V4([10, 0, 2])).is_err(), "four connections in all");
        drop((first, others));
        assert!(connections.admit(here).is_ok());
        drop(second);
        assert!(connections.lock().prefixes.is_empty(), "nothing is kept of those who left");
        assert_eq!(connections.lock().total, 0);
    }
}
