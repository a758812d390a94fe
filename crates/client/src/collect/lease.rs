//! A delivery in its recipient's hands, until it is settled.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use airut_domain::refusal::Reason;
use airut_wire::v1::{
    self,
    settlement::{Accepted, Outcome, Rejected, Returned},
};
use tokio::sync::{mpsc, oneshot};

use crate::error::Refused;

/// A delivery that is to be settled once. What is dropped without a word is returned, to be delivered again when its type says.
#[must_use]
#[derive(Debug)]
pub struct Lease {
    delivery_id: String,
    /// Which of the collector's streams brought it.
    stream: u64,
    /// Unbounded, because nothing needs to bound it: a delivery is settled once, and there are as many as the credit says.
    said: mpsc::UnboundedSender<Said>,
    settled: bool,
}

/// What became of a settlement: `Ok` once it is on record and counts. It goes on when this is dropped.
#[derive(Debug)]
pub struct Settling(oneshot::Receiver<Result<(), SettleError>>);

/// Why a settlement does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The exchange refused it for good. Its reason is [`Reason::LeaseLost`] when the message was offered again meanwhile, or has
    /// ended otherwise, and [`Reason::SettledOtherwise`] when the delivery was settled before in another way.
    #[error("{0}")]
    Refused(Refused),
    /// The collector ended before the exchange confirmed it: it may count.
    #[error("the collector ended before the exchange confirmed it")]
    Unknown,
}

impl SettleError {
    /// The exchange's reason, where it gave one that this build knows.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refused) => refused.reason,
            Self::Unknown => None,
        }
    }
}

/// What is said of a delivery.
#[derive(Debug)]
pub(super) enum Said {
    Settle { stream: u64, settlement: v1::Settlement, reply: oneshot::Sender<Result<(), SettleError>> },
    Extend { delivery_id: String, lease: Duration, reply: oneshot::Sender<Result<(), SettleError>> },
    PassedOn { stream: u64 },
}

impl Lease {
    pub(super) fn new(delivery_id: &str, stream: u64, said: mpsc::UnboundedSender<Said>) -> Self {
        Self { delivery_id: delivery_id.to_owned(), stream, said, settled: false }
    }

    /// The exchange's id of this delivery.
    pub fn delivery_id(&self) -> &str {
        &self.delivery_id
    }

    /// The message was taken in.
    pub fn accept(self) -> Settling {
        self.settle(Outcome::Accepted(Accepted {}))
    }

    /// It could not be taken in now: deliver it again, after `delay` of at most an hour, or when its type says.
    pub fn return_after(self, delay: Option<Duration>) -> Settling {
        self.settle(Outcome::Returned(Returned { delay: delay.map(airut_wire::duration) }))
    }

    /// It can never be taken in. `code` says why in a word for programs (A-Z 0-9 _, at most 64), `text` for people at the sender
    /// (at most 1000 characters, kept sealed). With a code or text that is against this the settlement does not count.
    pub fn reject(self, code: impl Into<String>, text: impl Into<String>) -> Settling {
        self.settle(Outcome::Rejected(Rejected { code: code.into(), text: text.into() }))
    }

    /// It was passed on to another recipient with [`Client::transfer`](crate::Client::transfer): there is nothing left to settle.
    pub fn passed_on(mut self) {
        self.settled = true;
        drop(self.said.send(Said::PassedOn { stream: self.stream }));
    }

    /// Has the lease end after `lease` from now, 1 second to 1 hour, instead of when it would. Not tried again over another stream:
    /// when its stream is lost, the delivery was given back.
    ///
    /// Cancel safe; the lease may be extended.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn extend(&self, lease: Duration) -> Result<(), SettleError> {
        let (reply, told) = oneshot::channel();
        let extend = Said::Extend { delivery_id: self.delivery_id.clone(), lease, reply };
        // A collector that has ended drops what it is told, and the reply with it.
        drop(self.said.send(extend));
        told.await.unwrap_or(Err(SettleError::Unknown))
    }

    fn settle(mut self, outcome: Outcome) -> Settling {
        Settling(self.say(outcome))
    }

    fn say(&mut self, outcome: Outcome) -> oneshot::Receiver<Result<(), SettleError>> {
        self.settled = true;
        let (reply, told) = oneshot::channel();
        let settlement = v1::Settlement { delivery_id: std::mem::take(&mut self.delivery_id), outcome: Some(outcome) };
        drop(self.said.send(Said::Settle { stream: self.stream, settlement, reply }));
        told
    }

    /// Lets go of a delivery that nobody has seen: the exchange gives it to somebody else by itself.
    pub(super) fn forget(mut self) {
        self.settled = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            drop(self.say(Outcome::Returned(Returned { delay: None })));
        }
    }
}

impl Future for Settling {
    type Output = Result<(), SettleError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|told| told.unwrap_or(Err(SettleError::Unknown)))
    }
}
