//! Sending messages, by calls and over streams that are lost.

use std::{collections::BTreeMap, time::Duration};

use airut_client::{CallError, Client, Outcomes, ReceiptError, ReceiptKeys, SendError, Sender, SenderSettings};
use airut_domain::{
    keys::Digest,
    merkle,
    partition::{Partition, Position, Topic},
    receipt::{Receipt, Statement, signed_bytes},
    refusal::{Reason, Refusal},
    time::Timestamp,
};
use airut_wire::v1::{self, SendRequest, SendStreamResponse, send_stream_response::Outcome};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use crate::exchange::{Exchange, Sending};

/// Long enough for whatever would happen to happen; time is paused.
const A_WHILE: Duration = Duration::from_secs(5);

/// Whoever signs receipts.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn keys(&self) -> ReceiptKeys {
        format!("receipts-1 {}\n", BASE64_STANDARD.encode(self.0.public_key().as_ref())).parse().unwrap()
    }

    /// Receipts for messages at these offsets, as one batch.
    fn sign(&self, messages: &[(u64, &SendRequest)]) -> Vec<v1::Receipt> {
        let statement = |(offset, message): &(u64, &SendRequest)| Statement {
            id: message.message_id.clone(),
            recipient: message.recipient.parse().unwrap(),
            payload_sha256: Digest::of(&message.payload),
            accept_time: Timestamp::from_millis(1_795_329_318_042),
            position: Position { partition: Partition { topic: Topic::Messages, number: 0 }, offset: *offset },
            item: Some(0),
        };
        let statements: Vec<Statement> = messages.iter().map(statement).collect();
        let leaves: Vec<Digest> = statements.iter().map(|s| merkle::leaf_hash(s.to_text().as_bytes())).collect();
        let (root, paths) = merkle::paths(&leaves);
        let signature = self.0.sign(&signed_bytes(root)).as_ref().to_vec();
        let receipt = |((index, batch_path), statement)| Receipt {
            statement,
            commitment_salt: [1; 16],
            key_id: "receipts-1".parse().unwrap(),
            batch_index: index,
            batch_size: leaves.len() as u64,
            batch_path,
            signature: signature.clone(),
            checkpoint: String::new(),
        };
        (0..).zip(paths).zip(statements).map(receipt).map(|receipt| airut_wire::receipt(&receipt)).collect()
    }

    fn one(&self, message: &SendRequest) -> v1::Receipt {
        self.sign(&[(7, message)]).remove(0)
    }
}

fn message(id: &str, key: &str) -> SendRequest {
    SendRequest {
        message_id: id.into(),
        recipient: "pirkanmaa".into(),
        ordering_key: key.into(),
        payload: format!("payload of {id}").into_bytes(),
        ..SendRequest::default()
    }
}

fn outcome(id: &str, outcome: Outcome) -> SendStreamResponse {
    SendStreamResponse { message_id: id.into(), outcome: Some(outcome) }
}

fn refusal(reason: Reason) -> Outcome {
    Outcome::Refusal(airut_wire::refusal(&Refusal::new(reason)))
}

async fn next(sending: &mut Sending) -> SendRequest {
    sending.inbound.message().await.unwrap().expect("the stream is open").message.unwrap()
}

async fn tell(sending: &Sending, id: &str, what: Outcome) {
    sending.outbound.send(Ok(outcome(id, what))).await.unwrap();
}

fn small(window: usize) -> SenderSettings {
    SenderSettings { window, ..SenderSettings::default() }
}

/// An exchange that follows the rules of a stream, and fails as often as the seed says.
struct Model {
    random: StdRng,
    signer: Signer,
    accepted: BTreeMap<String, u64>,
    /// The ids of each key, in the order of their acceptance.
    keys: BTreeMap<String, Vec<String>>,
    streams: usize,
    refused: usize,
}

impl Model {
    /// Serves streams until the sender has no more to send, and the streams are gone.
    async fn serve(mut self, mut exchange: Exchange) -> Self {
        while let Some(sending) = exchange.sending.recv().await {
            self.streams += 1;
            if self.stream(sending).await {
                return self;
            }
            exchange.cut();
        }
        self
    }

    /// Whether the sender ended the stream.
    async fn stream(&mut self, mut sending: Sending) -> bool {
        let mut broken: BTreeMap<String, String> = BTreeMap::new();
        let mut outcomes = Vec::new();
        loop {
            let first = match sending.inbound.message().await {
                Ok(Some(first)) => first,
                Ok(None) => return true,
                Err(_) => return false,
            };
            // What has come with it is decided together.
            let mut batch = vec![first.message.unwrap()];
            while batch.len() < 50
                && let Ok(Ok(Some(more))) = tokio::time::timeout(Duration::ZERO, sending.inbound.message()).await
            {
                batch.push(more.message.unwrap());
            }
            let receipts = self.decide(&batch, &mut broken, &mut outcomes);
            outcomes.extend(receipts);
            // Outcomes of different keys come in any order.
            let turn = self.random.random_range(0..=outcomes.len());
            outcomes.rotate_left(turn);
            if self.random.random_bool(0.05) {
                return false;
            }
            for response in outcomes.drain(..) {
                if sending.outbound.send(Ok(response)).await.is_err() {
                    return false;
                }
            }
        }
    }

    fn decide(
        &mut self,
        batch: &[SendRequest],
        broken: &mut BTreeMap<String, String>,
        outcomes: &mut Vec<SendStreamResponse>,
    ) -> Vec<SendStreamResponse> {
        let mut accepted = Vec::new();
        for message in batch {
            let (id, key) = (&message.message_id, &message.ordering_key);
            if let Some(first) = broken.get(key).filter(|_| !key.is_empty()) {
                if first != id {
                    self.refused += 1;
                    outcomes.push(outcome(id, refusal(Reason::PredecessorFailed)));
                    continue;
                }
                broken.remove(key);
            }
            if self.random.random_bool(0.03) {
                let reason = [Reason::LogUnavailable, Reason::OutcomeUnknown, Reason::QuotaExceeded];
                let reason = reason[self.random.random_range(0..3)];
                if reason == Reason::OutcomeUnknown && self.random.random_bool(0.5) {
                    self.accept(message);
                }
                self.refused += 1;
                broken.insert(key.clone(), id.clone());
                outcomes.push(outcome(id, refusal(reason)));
                continue;
            }
            accepted.push((self.accept(message), message));
        }
        let receipts = self.signer.sign(&accepted);
        let told = accepted.iter().zip(receipts);
        told.map(|((_, message), receipt)| outcome(&message.message_id, Outcome::Receipt(receipt))).collect()
    }

    fn accept(&mut self, message: &SendRequest) -> u64 {
        let next = self.accepted.len() as u64;
        let offset = *self.accepted.entry(message.message_id.clone()).or_insert(next);
        if offset == next {
            self.keys.entry(message.ordering_key.clone()).or_default().push(message.message_id.clone());
        }
        offset
    }
}

/// Sends so many messages, of twenty keys and of none, from a task of its own, and closes the sender.
fn send_all(sender: Sender, count: usize) -> JoinHandle<Result<(), CallError>> {
    tokio::spawn(async move {
        for number in 0..count {
            let key = if number % 4 == 0 { String::new() } else { format!("key-{}", number % 20) };
            sender.send(message(&format!("m-{number:05}"), &key)).await?;
        }
        sender.close().await
    })
}

async fn all(outcomes: &mut Outcomes) -> BTreeMap<String, Vec<Result<Receipt, SendError>>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    while let Some(outcome) = outcomes.next().await {
        all.entry(outcome.message_id).or_default().push(outcome.result);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn over_lost_streams_and_refusals_each_message_has_one_outcome_and_each_key_its_order() {
    const COUNT: usize = 1500;
    let (mut streams, mut refused) = (0, 0);
    for seed in 0..20 {
        let exchange = Exchange::start();
        let random = StdRng::seed_from_u64(seed);
        let (signer, accepted, keys) = (Signer::new(), BTreeMap::new(), BTreeMap::new());
        let (sender, mut outcomes) = exchange.client().sender(signer.keys(), small(200));
        let model = Model { random, signer, accepted, keys, streams: 0, refused: 0 };
        let model = tokio::spawn(model.serve(exchange));
        let sending = send_all(sender, COUNT);
        let all = all(&mut outcomes).await;
        sending.await.unwrap().unwrap();
        let model = model.await.unwrap();

        assert_eq!(all.len(), COUNT, "seed {seed}");
        for (id, results) in &all {
            let [Ok(receipt)] = results.as_slice() else { panic!("seed {seed}, {id}: {results:?}") };
            assert_eq!(receipt.statement.position.offset, model.accepted[id]);
        }
        for (key, ids) in model.keys.iter().filter(|(key, _)| !key.is_empty()) {
            assert!(ids.is_sorted(), "seed {seed}, {key} is out of order: {ids:?}");
        }
        streams += model.streams;
        refused += model.refused;
    }
    // Or this has tested nothing.
    assert!(streams > 40 && refused > 500, "{streams} streams, {refused} refusals");
}

#[tokio::test(start_paused = true)]
async fn a_full_window_holds_back_until_outcomes_are_taken() {
    let mut exchange = Exchange::start();
    let signer = Signer::new();
    let (sender, mut outcomes) = exchange.client().sender(signer.keys(), small(3));
    for id in ["m1", "m2", "m3"] {
        sender.send(message(id, "")).await.unwrap();
    }
    assert!(tokio::time::timeout(A_WHILE, sender.send(message("m4", ""))).await.is_err());
    let mut sending = exchange.sending.recv().await.unwrap();
    for id in ["m1", "m2", "m3"] {
        let message = next(&mut sending).await;
        assert_eq!(message.message_id, id);
        tell(&sending, id, Outcome::Receipt(signer.one(&message))).await;
    }
    // They are known, and still fill the memory.
    assert!(tokio::time::timeout(A_WHILE, sender.send(message("m4", ""))).await.is_err());
    outcomes.next().await.unwrap().result.unwrap();
    sender.send(message("m4", "")).await.unwrap();
    assert_eq!(next(&mut sending).await.message_id, "m4");
    assert!(tokio::time::timeout(A_WHILE, sender.send(message("m5", ""))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn large_messages_fill_the_window_by_their_bytes() {
    let mut exchange = Exchange::start();
    let signer = Signer::new();
    let settings = SenderSettings { window_bytes: 100 << 10, ..SenderSettings::default() };
    let (sender, _outcomes) = exchange.client().sender(signer.keys(), settings);
    let large = |id: &str, bytes| SendRequest { payload: vec![b'x'; bytes], ..message(id, "") };
    // More than the window has room for, and it passes all the same: nothing else is there.
    sender.send(large("m1", 200 << 10)).await.unwrap();
    assert!(tokio::time::timeout(A_WHILE, sender.send(large("m2", 10))).await.is_err());
    let mut sending = exchange.sending.recv().await.unwrap();
    let first = next(&mut sending).await;
    tell(&sending, "m1", Outcome::Receipt(signer.one(&first))).await;
    sender.send(large("m2", 10)).await.unwrap();
    sender.send(large("m3", 90 << 10)).await.unwrap();
    assert!(tokio::time::timeout(A_WHILE, sender.send(large("m4", 20 << 10))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_and_a_receipt_that_proves_nothing_are_told() {
    let mut exchange = Exchange::start();
    let signer = Signer::new();
    let (sender, mut outcomes) = exchange.client().sender(signer.keys(), SenderSettings::default());
    for id in ["refused", "other", "forged"] {
        sender.send(message(id, "key")).await.unwrap();
    }
    let mut sending = exchange.sending.recv().await.unwrap();
    next(&mut sending).await;
    tell(&sending, "refused", refusal(Reason::NoContract)).await;
    let other = SendRequest { payload: b"something else".to_vec(), ..next(&mut sending).await };
    tell(&sending, "other", Outcome::Receipt(signer.one(&other))).await;
    let forged = next(&mut sending).await;
    tell(&sending, "forged", Outcome::Receipt(Signer::new().one(&forged))).await;
    let Err(SendError::Refused(refused)) = outcomes.next().await.unwrap().result else { panic!("it was refused") };
    assert_eq!(refused.reason, Some(Reason::NoContract));
    let mut next = async || outcomes.next().await.unwrap().result;
    assert_eq!(next().await, Err(SendError::Receipt(ReceiptError::OtherContent)));
    assert_eq!(next().await, Err(SendError::Receipt(ReceiptError::Signature)));
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_every_outcome_and_ends_the_stream() {
    let mut exchange = Exchange::start();
    let signer = Signer::new();
    let (sender, mut outcomes) = exchange.client().sender(signer.keys(), SenderSettings::default());
    sender.send(message("m1", "")).await.unwrap();
    let mut closing = tokio::spawn(sender.close());
    let mut sending = exchange.sending.recv().await.unwrap();
    let first = next(&mut sending).await;
    assert!(tokio::time::timeout(A_WHILE, &mut closing).await.is_err(), "closed without the outcome");
    tell(&sending, "m1", Outcome::Receipt(signer.one(&first))).await;
    assert_eq!(closing.await.unwrap(), Ok(()));
    assert!(matches!(sending.inbound.message().await, Ok(None) | Err(_)));
    assert!(outcomes.next().await.unwrap().result.is_ok());
    assert_eq!(outcomes.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_sender_without_patience_for_ever_gives_up_and_says_so() {
    let mut exchange = Exchange::start();
    let settings = SenderSettings { patience: Some(Duration::from_secs(30)), ..SenderSettings::default() };
    let (sender, mut outcomes) = exchange.client().sender(ReceiptKeys::default(), settings);
    let start = tokio::time::Instant::now();
    sender.send(message("m1", "")).await.unwrap();
    // It is refused for the time being, for ever.
    let serving = tokio::spawn(async move {
        while let Some(mut sending) = exchange.sending.recv().await {
            while let Ok(Some(request)) = sending.inbound.message().await {
                let id = request.message.unwrap().message_id;
                tell(&sending, &id, refusal(Reason::LogUnavailable)).await;
            }
        }
    });
    let outcome = outcomes.next().await.unwrap();
    assert_eq!(outcome.result, Err(SendError::Unknown(CallError::DeadlinePassed)));
    let waited = start.elapsed().as_secs();
    assert!((30..60).contains(&waited), "{waited} s");
    assert_eq!(sender.send(message("m2", "")).await, Err(CallError::DeadlinePassed));
    assert_eq!(sender.close().await, Err(CallError::DeadlinePassed));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_is_refused_as_such_is_told_at_once_if_it_has_no_patience_for_ever() {
    let mut exchange = Exchange::start();
    let settings = SenderSettings { patience: Some(Duration::from_secs(600)), ..SenderSettings::default() };
    let (sender, mut outcomes) = exchange.client().sender(ReceiptKeys::default(), settings);
    let start = tokio::time::Instant::now();
    sender.send(message("m1", "")).await.unwrap();
    let sending = exchange.sending.recv().await.unwrap();
    let suspended = airut_wire::status(&Refusal::new(Reason::PartnerSuspended), "request-7");
    sending.outbound.send(Err(suspended)).await.unwrap();
    let Err(SendError::Unknown(fault)) = outcomes.next().await.unwrap().result else { panic!("it gave up") };
    assert_eq!(fault.reason(), Some(Reason::PartnerSuspended));
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn send_one(client: &Client, keys: ReceiptKeys) -> JoinHandle<Result<Receipt, SendError>> {
    let client = client.clone();
    tokio::spawn(async move { client.send(&message("m1", ""), &keys, Duration::from_secs(30)).await })
}

#[tokio::test(start_paused = true)]
async fn a_single_message_is_sent_again_with_its_id_and_its_receipt_is_checked() {
    let mut exchange = Exchange::start();
    let signer = Signer::new();
    let sending = send_one(&exchange.client(), signer.keys());
    let unanswered = exchange.sent.recv().await.unwrap();
    exchange.cut();
    let refused = exchange.sent.recv().await.unwrap();
    assert_eq!(refused.message, unanswered.message);
    refused.reply.send(Err(airut_wire::status(&Refusal::new(Reason::OutcomeUnknown), ""))).unwrap();
    let accepted = exchange.sent.recv().await.unwrap();
    assert_eq!(accepted.message, unanswered.message);
    let receipt = Some(signer.one(&accepted.message));
    accepted.reply.send(Ok(v1::SendResponse { receipt })).unwrap();
    assert_eq!(sending.await.unwrap().unwrap().statement.id, "m1");

    let sending = send_one(&exchange.client(), signer.keys());
    let accepted = exchange.sent.recv().await.unwrap();
    let receipt = Some(Signer::new().one(&accepted.message));
    accepted.reply.send(Ok(v1::SendResponse { receipt })).unwrap();
    assert_eq!(sending.await.unwrap(), Err(SendError::Receipt(ReceiptError::Signature)));
}
