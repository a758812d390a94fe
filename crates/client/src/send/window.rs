//! The messages of a sender that have no outcome yet, and which of them to send next.
//!
//! The order within a key is the order in which messages were given to the sender, whatever happens on the way. What a stream was
//! given arrives in order. When the exchange refuses a message and trying again may help, it refuses those of the same key that
//! follow in that stream as well, until that message comes again. So here the whole key waits until each of its messages that were
//! sent has an outcome; then all that were refused are sent again, in order, before anything new. When the stream is lost, all that
//! have no outcome are sent again, in order: those that were accepted get the same receipt.

use std::collections::{BTreeMap, HashMap};

use airut_domain::refusal::Reason;
use airut_wire::v1::{self, send_stream_response::Outcome};
use bytes::Bytes;

use super::{Encoded, SendError, SendOutcome};
use crate::{
    error::{CallError, Refused},
    receipt::{ReceiptKeys, Sent, Verifier},
};

/// Messages without an outcome. Each has a `T` that goes with its outcome.
#[derive(Debug)]
pub(super) struct Window<T> {
    slots: HashMap<String, Slot<T>>,
    /// What number the next message gets.
    next: u64,
    /// What is to be sent again, before anything new.
    again: BTreeMap<u64, String>,
    /// Keys that wait for outcomes.
    held: HashMap<u64, Held>,
    /// How many were sent on this stream and have no outcome.
    sent: usize,
    /// As many may be: less than `most` while the exchange is short of room.
    limit: usize,
    most: usize,
    verifier: Verifier,
}

#[derive(Debug)]
struct Slot<T> {
    number: u64,
    key: u64,
    sent: Sent,
    bytes: Bytes,
    state: State,
    ticket: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On this stream.
    Sent,
    /// In `again`.
    Again,
    /// In `held`, refused itself or given to the sender later.
    Held,
}

/// A key that waits for the outcomes of what was sent of it.
#[derive(Debug, Default)]
struct Held {
    awaiting: usize,
    /// What is then sent again, with what it was refused for.
    messages: BTreeMap<u64, (String, Option<Reason>)>,
}

/// What a message from the exchange comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told<T> {
    /// A message has its outcome.
    Outcome(T, SendOutcome),
    /// A message was refused, and will be sent again.
    Again(Refused),
    /// This stream holds up a key for the sake of a message that has its outcome: only another stream helps.
    HeldUpForNothing,
    /// It is about no message that was sent.
    OutOfTurn,
}

impl<T> Window<T> {
    pub(super) fn new(most: usize, keys: ReceiptKeys) -> Self {
        Self {
            slots: HashMap::with_capacity(most.min(4096)),
            next: 0,
            again: BTreeMap::new(),
            held: HashMap::new(),
            sent: 0,
            limit: most,
            most,
            verifier: Verifier::new(keys),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many new messages may be sent now.
    pub(super) fn room(&self) -> usize {
        if self.again.is_empty() { self.limit.saturating_sub(self.sent) } else { 0 }
    }

    /// Takes in a new message; gives what to send of it now, which is nothing while its key waits.
    pub(super) fn admit(&mut self, message: Encoded, ticket: T) -> Result<Option<Bytes>, Box<(T, SendOutcome)>> {
        let Encoded { message_id, sent, key, bytes } = message;
        if self.slots.contains_key(&message_id) {
            return Err(Box::new((ticket, SendOutcome { message_id, result: Err(SendError::UnderWay) })));
        }
        let number = self.next;
        self.next += 1;
        let mut state = State::Sent;
        match self.held.get_mut(&key).filter(|_| key != 0) {
            Some(held) => {
                held.messages.insert(number, (message_id.clone(), None));
                state = State::Held;
            }
            None => self.sent += 1,
        }
        let now = (state == State::Sent).then(|| bytes.clone());
        self.slots.insert(message_id, Slot { number, key, sent, bytes, state, ticket });
        Ok(now)
    }

    /// The next message to be sent again.
    pub(super) fn send_again(&mut self) -> Option<Bytes> {
        if self.sent >= self.limit {
            return None;
        }
        let (_, id) = self.again.pop_first()?;
        let slot = self.slots.get_mut(&id).expect("what is sent again has no outcome");
        slot.state = State::Sent;
        self.sent += 1;
        Some(slot.bytes.clone())
    }

    /// Takes in what the exchange says.
    pub(super) fn told(&mut self, response: v1::SendStreamResponse) -> Told<T> {
        let v1::SendStreamResponse { message_id, outcome } = response;
        let Some(slot) = self.slots.get(&message_id).filter(|slot| slot.state == State::Sent) else {
            return Told::OutOfTurn;
        };
        let result = match outcome {
            None => return Told::OutOfTurn,
            Some(Outcome::Receipt(receipt)) => {
                self.verifier.verify_message(receipt, &message_id, &slot.sent).map_err(SendError::Receipt)
            }
            Some(Outcome::Refusal(refusal)) => {
                let refused = Refused::from(refusal);
                if refused.may_pass() {
                    return self.refused(message_id, refused);
                }
                Err(SendError::Refused(refused))
            }
        };
        self.sent -= 1;
        self.limit = (self.limit + 1).min(self.most);
        let slot = self.slots.remove(&message_id).expect("it was there");
        let outcome = Told::Outcome(slot.ticket, SendOutcome { message_id, result });
        if slot.key != 0 && !self.held.is_empty() {
            // Only a message that was refused can show that a stream holds up for nothing, and this one was not.
            self.one_less(slot.key);
        }
        outcome
    }

    /// Has a message sent again: at once when it has no key, else once nothing of its key is on its way.
    fn refused(&mut self, id: String, refused: Refused) -> Told<T> {
        self.sent -= 1;
        let slot = self.slots.get_mut(&id).expect("it was there");
        let (number, key) = (slot.number, slot.key);
        if key == 0 {
            slot.state = State::Again;
            self.again.insert(number, id);
            return Told::Again(refused);
        }
        slot.state = State::Held;
        if let Some(held) = self.held.get_mut(&key) {
            held.messages.insert(number, (id, refused.reason));
        } else {
            let held = self.hold(key, number, (id, refused.reason));
            self.held.insert(key, held);
        }
        if self.one_less(key) { Told::HeldUpForNothing } else { Told::Again(refused) }
    }

    /// Holds a key: what was sent of it is awaited, this message counted, and what was to be sent again waits once more.
    fn hold(&mut self, key: u64, number: u64, refused: (String, Option<Reason>)) -> Held {
        let mut held = Held { awaiting: 1, messages: BTreeMap::from([(number, refused)]) };
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.key == key) {
            match slot.state {
                State::Sent => held.awaiting += 1,
                State::Again => {
                    self.again.remove(&slot.number);
                    slot.state = State::Held;
                    held.messages.insert(slot.number, (id.clone(), None));
                }
                State::Held => {}
            }
        }
        held
    }

    /// One message of the key less is on its way. When none is left those that wait are sent again. Tells whether the first of them
    /// was refused for the sake of an earlier one, although there is none.
    fn one_less(&mut self, key: u64) -> bool {
        let Some(held) = self.held.get_mut(&key) else { return false };
        held.awaiting -= 1;
        if held.awaiting > 0 {
            return false;
        }
        let held = self.held.remove(&key).expect("it was there");
        let first = held.messages.first_key_value().and_then(|(_, (_, reason))| *reason);
        for (number, (id, _)) in held.messages {
            self.slots.get_mut(&id).expect("what waits has no outcome").state = State::Again;
            self.again.insert(number, id);
        }
        first == Some(Reason::PredecessorFailed)
    }

    /// The exchange is short of room: half as much is sent at once, until it accepts again.
    pub(super) fn narrow(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }

    /// The stream is lost: all is to be sent again.
    pub(super) fn lost(&mut self) {
        self.held.clear();
        self.sent = 0;
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state != State::Again) {
            slot.state = State::Again;
            self.again.insert(slot.number, id.clone());
        }
    }

    /// Gives everything up, in order.
    pub(super) fn give_up(&mut self, fault: &CallError) -> Vec<(T, SendOutcome)> {
        let mut slots: Vec<_> = self.slots.drain().collect();
        slots.sort_unstable_by_key(|(_, slot)| slot.number);
        self.again.clear();
        self.held.clear();
        self.sent = 0;
        let outcome = |(message_id, slot): (String, Slot<T>)| {
            (slot.ticket, SendOutcome { message_id, result: Err(SendError::Unknown(fault.clone())) })
        };
        slots.into_iter().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use airut_domain::refusal::Refusal;

    use super::*;

    /// A window, and the ids of what it sends, in order.
    struct Stream {
        window: Window<()>,
        sent: Vec<String>,
    }

    impl Stream {
        fn new(most: usize) -> Self {
            Self { window: Window::new(most, ReceiptKeys::default()), sent: Vec::new() }
        }

        fn admit(&mut self, id: &str, key: &str) {
            let message = v1::SendRequest { message_id: id.into(), ordering_key: key.into(), ..Default::default() };
            let bytes = self.window.admit(Encoded::of(message), ()).expect("it is new");
            self.note(bytes);
        }

        fn send_again(&mut self) {
            while let Some(bytes) = self.window.send_again() {
                self.note(Some(bytes));
            }
        }

        fn note(&mut self, bytes: Option<Bytes>) {
            let id = |bytes: Bytes| {
                let request: v1::SendStreamRequest = prost::Message::decode(bytes).unwrap();
                request.message.unwrap().message_id
            };
            self.sent.extend(bytes.map(id));
        }

        fn refuse(&mut self, id: &str, reason: Reason) -> Told<()> {
            let outcome = Outcome::Refusal(airut_wire::refusal(&Refusal::new(reason)));
            self.window.told(v1::SendStreamResponse { message_id: id.into(), outcome: Some(outcome) })
        }

        /// A receipt, though none that anybody would believe.
        fn accept(&mut self, id: &str) {
            let outcome = Outcome::Receipt(v1::Receipt::default());
            let told = self.window.told(v1::SendStreamResponse { message_id: id.into(), outcome: Some(outcome) });
            assert!(matches!(told, Told::Outcome((), _)), "{told:?}");
        }

        #[track_caller]
        fn has_sent(&mut self, ids: &[&str]) {
            assert_eq!(std::mem::take(&mut self.sent), ids);
        }
    }

    #[test]
    fn a_key_waits_until_nothing_of_it_is_on_its_way_and_then_comes_in_order_before_what_is_new() {
        let mut stream = Stream::new(10);
        for (id, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
            stream.admit(id, key);
        }
        stream.has_sent(&["a1", "a2", "b1", "a3"]);
        assert!(matches!(stream.refuse("a1", Reason::LogUnavailable), Told::Again(_)));
        stream.admit("a4", "a");
        stream.admit("b2", "b");
        stream.has_sent(&["b2"]);
        assert!(matches!(stream.refuse("a3", Reason::PredecessorFailed), Told::Again(_)));
        stream.send_again();
        stream.has_sent(&[]);
        assert!(matches!(stream.refuse("a2", Reason::PredecessorFailed), Told::Again(_)));
        assert_eq!(stream.window.room(), 0, "nothing new before what is sent again");
        stream.send_again();
        stream.has_sent(&["a1", "a2", "a3", "a4"]);
        for id in ["b1", "b2", "a1", "a2", "a3", "a4"] {
            stream.accept(id);
        }
        assert!(stream.window.is_empty());
        assert_eq!(stream.window.room(), 10);
    }

    #[test]
    fn a_key_that_fails_again_while_it_is_sent_again_waits_again() {
        let mut stream = Stream::new(2);
        stream.admit("a1", "a");
        stream.admit("a2", "a");
        stream.refuse("a1", Reason::LogUnavailable);
        stream.admit("a3", "a");
        stream.refuse("a2", Reason::PredecessorFailed);
        stream.send_again();
        stream.has_sent(&["a1", "a2", "a1", "a2"]);
        stream.refuse("a1", Reason::LogUnavailable);
        stream.send_again();
        stream.has_sent(&[]);
        stream.refuse("a2", Reason::PredecessorFailed);
        stream.send_again();
        stream.has_sent(&["a1", "a2"]);
        stream.accept("a1");
        stream.accept("a2");
        stream.send_again();
        stream.has_sent(&["a3"]);
    }

    #[test]
    fn a_message_without_a_key_holds_up_nothing() {
        let mut stream = Stream::new(10);
        stream.admit("m1", "");
        stream.admit("m2", "");
        stream.refuse("m1", Reason::OutcomeUnknown);
        stream.send_again();
        stream.admit("m3", "");
        stream.has_sent(&["m1", "m2", "m1", "m3"]);
    }

    #[test]
    fn a_lost_stream_has_all_sent_again_in_order() {
        let mut stream = Stream::new(10);
        for (id, key) in [("a1", "a"), ("m", ""), ("a2", "a"), ("b1", "b")] {
            stream.admit(id, key);
        }
        stream.accept("m");
        stream.refuse("a1", Reason::NotServing);
        stream.admit("a3", "a");
        stream.sent.clear();
        stream.window.lost();
        stream.send_again();
        stream.has_sent(&["a1", "a2", "b1", "a3"]);
        assert_eq!(stream.window.told(v1::SendStreamResponse::default()), Told::OutOfTurn);
    }

    #[test]
    fn a_stream_that_holds_up_for_a_message_with_an_outcome_is_of_no_use() {
        let mut stream = Stream::new(10);
        stream.admit("a1", "a");
        stream.admit("a2", "a");
        stream.accept("a1");
        assert_eq!(stream.refuse("a2", Reason::PredecessorFailed), Told::HeldUpForNothing);
    }

    #[test]
    fn the_same_id_twice_at_once_is_told_and_not_sent() {
        let mut stream = Stream::new(10);
        stream.admit("m", "");
        let again = v1::SendRequest { message_id: "m".into(), ..Default::default() };
        let outcome = stream.window.admit(Encoded::of(again), ()).unwrap_err();
        assert_eq!(outcome.1.result, Err(SendError::UnderWay));
    }

    #[test]
    fn an_exchange_short_of_room_is_sent_less_at_once_until_it_accepts() {
        let mut stream = Stream::new(4);
        for id in ["m1", "m2", "m3", "m4"] {
            stream.admit(id, "");
        }
        assert_eq!(stream.window.room(), 0);
        for id in ["m1", "m2", "m3", "m4"] {
            stream.refuse(id, Reason::QuotaExceeded);
        }
        stream.window.narrow();
        stream.sent.clear();
        stream.send_again();
        stream.has_sent(&["m1", "m2"]);
        stream.accept("m1");
        stream.send_again();
        stream.has_sent(&["m3", "m4"]);
    }
}
