//! Sending messages: one by one, or many over a stream.

mod one;
mod stream;
mod window;

pub use stream::{Outcomes, Sender, SenderSettings};

use airut_domain::receipt::Receipt;
use airut_wire::v1;
use bytes::Bytes;
use prost::Message;

use crate::{
    error::{CallError, Refused},
    receipt::{ReceiptError, Sent},
};

/// Why a message has no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The exchange refused it, and trying again does not help. It was not accepted.
    #[error("{0}")]
    Refused(Refused),
    /// The exchange accepted it, and its receipt proves nothing.
    #[error("accepted, but {0}")]
    Receipt(ReceiptError),
    /// An earlier message with this id has no outcome yet. This one was not sent.
    #[error("a message with this id is under way")]
    UnderWay,
    /// It is not known whether it was accepted: the same message may be sent again with the same id.
    #[error("{0}")]
    Unknown(CallError),
}

impl From<CallError> for SendError {
    fn from(fault: CallError) -> Self {
        match fault {
            CallError::Refused(refused) if !refused.may_pass() => Self::Refused(refused),
            CallError::Refused(_) | CallError::DeadlinePassed | CallError::Unreachable(_) | CallError::Tls(_) => {
                Self::Unknown(fault)
            }
        }
    }
}

/// What became of one message of a [`Sender`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendOutcome {
    /// Its id.
    pub message_id: String,
    /// Its receipt, checked; or why it has none.
    pub result: Result<Receipt, SendError>,
}

/// A message as it goes over a stream: encoded once, however often it is sent.
#[derive(Debug)]
struct Encoded {
    message_id: String,
    sent: Sent,
    /// What its ordering key hashes to; 0 when it has none. That two keys hash to the same costs waiting, not order.
    key: u64,
    bytes: Bytes,
}

impl Encoded {
    fn of(message: v1::SendRequest) -> Self {
        let sent = Sent::of(&message);
        let key = key(&message.ordering_key);
        let request = v1::SendStreamRequest { message: Some(message) };
        let bytes = request.encode_to_vec().into();
        let message_id = request.message.map(|message| message.message_id).unwrap_or_default();
        Self { message_id, sent, key, bytes }
    }
}

fn key(ordering_key: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if ordering_key.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    ordering_key.hash(&mut hasher);
    hasher.finish().max(1)
}
