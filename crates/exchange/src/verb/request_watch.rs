//! `InformationRequestService.WatchInformationRequests`: of each of a party's requests its latest state, as it changes.
//!
//! The token says how far a watcher has come in each partition, so that it goes on where it left off, at any gateway. What changed twice meanwhile is
//! told once, as it stands now.

use std::time::Duration;

use airut_domain::{
    partition::{Partition, Topic},
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
};
use airut_wire::{
    request::information_request,
    v1::{self, watch_information_requests_response as w},
};
use tokio::sync::mpsc;

use super::request::fault;
use crate::{fold::Change, gateway::Gateway};

/// As many changes of a partition are looked at in one turn.
const AT_ONCE: usize = 64;

/// How often a watcher's right to watch is looked at when nothing changes.
const LOOK: Duration = Duration::from_secs(5);

/// A watcher of its own requests.
pub(crate) struct Watching {
    pub(crate) watcher: VerifiedPartner,
    pub(crate) resume_token: String,
    pub(crate) to: mpsc::Sender<Result<v1::WatchInformationRequestsResponse, Refusal>>,
}

impl Gateway {
    /// Tells of changes until the watcher leaves, may no longer watch, or the gateway stops.
    pub(crate) async fn watch_requests(&self, watching: Watching) {
        let Watching { watcher, resume_token, to } = watching;
        let changes = self.folds.watching(watcher.id());
        let told = self.tell_changes(&watcher, &resume_token, &to, &changes).await;
        drop(changes);
        self.folds.watches_no_more(watcher.id());
        if let Err(refusal) = told {
            // Whoever has left needs no reason.
            drop(to.send(Err(refusal)).await);
        }
    }

    async fn tell_changes(
        &self,
        watcher: &VerifiedPartner,
        resume_token: &str,
        to: &mpsc::Sender<Result<v1::WatchInformationRequestsResponse, Refusal>>,
        changes: &crate::fold::Changes,
    ) -> Result<(), Refusal> {
        let mut seen = changes.count();
        let mut next = match resume_token {
            "" => self.folds.request_positions(),
            token => positions_from(token)
                .ok_or_else(|| fault("resume_token", "must be one that was given with a change"))?,
        };
        let first = v1::WatchInformationRequestsResponse { resume_token: token(&next), change: None };
        if to.send(Ok(first)).await.is_err() {
            return Ok(());
        }
        loop {
            for number in 0..Topic::Requests.partitions() {
                let partition = Partition { topic: Topic::Requests, number };
                loop {
                    let after = next[number as usize].checked_sub(1);
                    let found = self.folds.changed_requests(watcher.id(), partition, after, AT_ONCE);
                    let found = found.map_err(super::request::unread)?;
                    let last = found.len() < AT_ONCE;
                    for (offset, change) in found {
                        self.may_watch(watcher)?;
                        next[number as usize] = offset + 1;
                        let change = self.told(change);
                        let told =
                            v1::WatchInformationRequestsResponse { resume_token: token(&next), change: Some(change) };
                        if to.send(Ok(told)).await.is_err() {
                            return Ok(());
                        }
                    }
                    if last {
                        break;
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Refusal::new(Reason::NotServing)),
                () = to.closed() => return Ok(()),
                _ = tokio::time::timeout(LOOK, changes.beyond(&mut seen)) => {}
            }
            self.may_watch(watcher)?;
        }
    }

    fn told(&self, change: Change) -> w::Change {
        match change {
            Change::Now(key, request) => {
                w::Change::InformationRequest(information_request(&key, &request, self.world.now()))
            }
            Change::Gone(key) => w::Change::Gone(w::Gone {
                requester: key.requester.to_string(),
                request_id: key.request_id.to_string(),
            }),
        }
    }

    /// Whether the partner may still be told, by a registry that is current.
    fn may_watch(&self, watcher: &VerifiedPartner) -> Result<(), Refusal> {
        if !self.folds.registry_is_current(self.world.now()) {
            return Err(Refusal::new(Reason::RegistryStale));
        }
        let active = self.folds.registry().current(watcher.id()).is_some();
        if active { Ok(()) } else { Err(Refusal::new(Reason::PartnerSuspended)) }
    }
}

/// How far a watcher has come, by partition.
fn token(positions: &[u64]) -> String {
    positions.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

fn positions_from(token: &str) -> Option<Vec<u64>> {
    // Twelve numbers of at most twenty digits.
    if token.len() > 21 * Topic::Requests.partitions() as usize {
        return None;
    }
    let positions: Vec<u64> = token.split('.').map(|text| text.parse().ok()).collect::<Option<_>>()?;
    (positions.len() == Topic::Requests.partitions() as usize).then_some(positions)
}
