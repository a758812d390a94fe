//! Settlements that the exchange has not confirmed, and which of them to send next.
//!
//! A settlement is kept until the exchange has said what became of it, and sent again over the next stream when it has not: the
//! first settlement of a delivery counts, and the same again gets the same answer.

use std::collections::{HashMap, VecDeque};

use airut_wire::v1;
use tokio::sync::oneshot;

use super::lease::SettleError;
use crate::error::Refused;

/// As many go into one message: the exchange takes no more.
const MOST_AT_ONCE: usize = 1000;

/// As many messages of settlements may be on their way: while they are, further settlements gather into fuller ones.
const MOST_UNDER_WAY: usize = 16;

#[derive(Debug)]
struct Unconfirmed {
    settlement: v1::Settlement,
    stream: u64,
    on_its_way: bool,
    reply: oneshot::Sender<Result<(), SettleError>>,
}

#[derive(Debug, Default)]
pub(super) struct Settlements {
    unconfirmed: HashMap<String, Unconfirmed>,
    waiting: VecDeque<String>,
    /// Messages that were sent on this stream and have no answer.
    under_way: usize,
}

/// What an answer comes to.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    /// The streams that brought what is settled now, whatever came of it.
    pub(super) streams: Vec<u64>,
    /// One that is to be settled again, after a while.
    pub(super) again: Option<Refused>,
}

impl Settlements {
    pub(super) fn is_empty(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.unconfirmed.len()
    }

    pub(super) fn add(
        &mut self,
        stream: u64,
        settlement: v1::Settlement,
        reply: oneshot::Sender<Result<(), SettleError>>,
    ) {
        let id = settlement.delivery_id.clone();
        self.waiting.push_back(id.clone());
        self.unconfirmed.insert(id, Unconfirmed { settlement, stream, on_its_way: false, reply });
    }

    /// Whether there is something to send.
    pub(super) fn may_send(&self) -> bool {
        self.under_way < MOST_UNDER_WAY && !self.waiting.is_empty()
    }

    /// What to send next.
    pub(super) fn next(&mut self) -> Vec<v1::Settlement> {
        let most = self.waiting.len().min(MOST_AT_ONCE);
        self.under_way += 1;
        let mut next = Vec::with_capacity(most);
        for id in self.waiting.drain(..most) {
            let unconfirmed = self.unconfirmed.get_mut(&id).expect("what waits is not confirmed");
            unconfirmed.on_its_way = true;
            next.push(unconfirmed.settlement.clone());
        }
        next
    }

    /// Takes in an answer.
    pub(super) fn confirm(&mut self, results: Vec<v1::SettlementResult>) -> Confirmed {
        self.under_way = self.under_way.saturating_sub(1);
        let mut confirmed = Confirmed::default();
        for result in results {
            // One that is not on its way was answered twice, or is nobody's.
            let Some(unconfirmed) = self.unconfirmed.get_mut(&result.delivery_id).filter(|one| one.on_its_way) else {
                continue;
            };
            let refused = result.refusal.map(Refused::from);
            if let Some(refused) = refused.as_ref().filter(|refused| refused.may_pass()) {
                unconfirmed.on_its_way = false;
                self.waiting.push_back(result.delivery_id);
                confirmed.again = Some(refused.clone());
                continue;
            }
            let Some(unconfirmed) = self.unconfirmed.remove(&result.delivery_id) else { continue };
            confirmed.streams.push(unconfirmed.stream);
            if let Some(refused) = &refused {
                tracing::warn!(delivery = result.delivery_id, %refused, "a settlement does not count");
            }
            // Whoever settled need not have waited.
            drop(unconfirmed.reply.send(refused.map_or(Ok(()), |refused| Err(SettleError::Refused(refused)))));
        }
        confirmed
    }

    /// The stream is lost: what has no answer is sent again.
    pub(super) fn lost(&mut self) {
        self.under_way = 0;
        for (id, unconfirmed) in self.unconfirmed.iter_mut().filter(|(_, one)| one.on_its_way) {
            unconfirmed.on_its_way = false;
            self.waiting.push_back(id.clone());
        }
    }
}
