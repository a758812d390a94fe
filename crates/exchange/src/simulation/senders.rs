//! Those who send messages: one by one or in streams, again after whatever may pass, now and then something else under the same id.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use airut_domain::{
    refusal::{Reason, Refusal},
    registry::{Registry, Unidentified, VerifiedPartner},
};
use airut_wire::v1::{
    self, delivery_service_client::DeliveryServiceClient, delivery_service_server::DeliveryService,
    send_stream_response::Outcome,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::run::{Dice, Life, Run};
use crate::{
    CallerOf, Stranger, delivery_service,
    support::{BEGAN, message, person},
    verb::send::{ReplyTo, Sending},
};

/// Messages of one sender at the most.
const MESSAGES: u64 = 24;

/// How often a sender tries to have the same message recorded.
const TRIES: u64 = 5;

/// A sender that hears nothing for so long opens another stream.
const PATIENCE: Duration = Duration::from_secs(40);

/// When nothing goes wrong any more, a stream's messages have their outcomes after so many rounds.
const LAST_ROUNDS: u64 = 60;

/// How a call ended.
enum Sent {
    Receipt(Box<v1::Receipt>),
    Refused(Refusal),
    /// The gateway was not there, or died.
    Broken,
    /// The partner is suspended.
    TurnedAway,
}

/// Sends one message after the other.
pub(super) async fn sender(run: Run) {
    let mut dice = run.dice();
    for _ in 0..MESSAGES {
        sleep(dice.up_to(Duration::from_millis(2_500))).await;
        if run.is_over() {
            return;
        }
        let request = one_of_few(&mut dice);
        for _ in 0..TRIES {
            let Some(life) = run.any_life(&mut dice) else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let had_read = life.gateway.folds().positions();
            let again = match send(&life, &request).await {
                Sent::Receipt(receipt) => {
                    run.deliveries.lock().unwrap().receipted(&life.incarnation, &request, &receipt);
                    // A careful one makes sure.
                    dice.percent(20).then_some(dice.up_to(Duration::from_secs(8)))
                }
                Sent::TurnedAway => None,
                Sent::Refused(refusal) => {
                    let (reason, again) = (refusal.reason.code(), refusal.retry_after.is_some());
                    run.deliveries.lock().unwrap().refused(&request, reason, again, &had_read);
                    refusal.retry_after
                }
                Sent::Broken => Some(Duration::from_millis(200)),
            };
            let Some(delay) = again else { break };
            sleep(delay).await;
        }
    }
}

/// One of few, so that they meet; with the same id it mostly has the same content.
fn one_of_few(dice: &mut Dice) -> v1::SendRequest {
    let number = dice.below(40);
    let mut request = shaped(&format!("m-{number}"), number % 5, "shared");
    if number % 7 == 3 {
        request.expire_time = Some(airut_wire::timestamp(BEGAN + Duration::from_secs(6 + number)));
    }
    if dice.percent(8) {
        request.payload = b"{\"another\":true}".to_vec();
    }
    request
}

/// A message of one of five kinds: to whom, of which type, with which key.
fn shaped(id: &str, kind: u64, key: &str) -> v1::SendRequest {
    let (recipient, message_type, keyed) = match kind {
        0 => ("pirkanmaa", "notice", true),
        1 => ("helsinki", "notice", true),
        2 => ("pirkanmaa", "blocking-notice", true),
        3 => ("helsinki", "notice", false),
        _ => ("pirkanmaa", "notice", false),
    };
    v1::SendRequest {
        recipient: recipient.into(),
        message_type: message_type.into(),
        ordering_key: if keyed { key.into() } else { String::new() },
        subject_id: person(u16::try_from(kind).unwrap()).as_str().into(),
        ..message(id)
    }
}

async fn send(life: &Life, request: &v1::SendRequest) -> Sent {
    let Some(caller) = life.caller("kela") else { return Sent::TurnedAway };
    let (reply, outcome) = oneshot::channel();
    let sending = Sending { caller, request: request.clone(), traceparent: String::new() };
    let gateway = life.gateway.clone();
    life.fate.spawn(Box::pin(async move {
        gateway.send(sending, None, ReplyTo::Call(reply), "/airut.v1.DeliveryService/Send").await;
    }));
    match life.answer(outcome).await {
        Some(Ok(receipt)) => Sent::Receipt(Box::new(receipt)),
        Some(Err(refusal)) => Sent::Refused(refusal),
        None => Sent::Broken,
    }
}

/// Sends messages in streams, and what has no outcome again, in its order.
pub(super) async fn stream_sender(run: Run, number: usize) {
    let mut dice = run.dice();
    let (mut made, mut last_rounds) = (0, 0);
    let mut pending: VecDeque<v1::SendRequest> = VecDeque::new();
    while !(run.is_over() && pending.is_empty()) {
        let Some(life) = run.any_life(&mut dice) else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let (says, said) = mpsc::channel(64);
        let Ok(opened) = client(&life, "kela").send_stream(ReceiverStream::new(said)).await else {
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let mut hears = opened.into_inner();
        loop {
            if run.is_over() {
                last_rounds += 1;
                if last_rounds > LAST_ROUNDS {
                    run.broken(format_args!("{} has no outcome for good", pending[0].message_id));
                    return;
                }
            } else if pending.is_empty() {
                sleep(dice.up_to(Duration::from_secs(6))).await;
                for _ in 0..1 + dice.below(7) {
                    pending.push_back(next(&run, &mut dice, number, &mut made));
                }
            }
            if pending.is_empty() || dice.percent(5) {
                break;
            }
            let Some(delay) = round(&run, &life, &mut pending, &says, &mut hears).await else { break };
            sleep(delay).await;
        }
    }
}

fn next(run: &Run, dice: &mut Dice, number: usize, made: &mut u64) -> v1::SendRequest {
    let kind = dice.below(5);
    let id = format!("s-{number}-{made}");
    *made += 1;
    // One key for both types: a record has one type, so that what is sent together does not go into one record.
    let request = shaped(&id, kind, &format!("stream-{number}"));
    if !request.ordering_key.is_empty() {
        run.deliveries.lock().unwrap().streams(&format!("{} {}", request.recipient, request.ordering_key), &id);
    }
    request
}

/// Sends what is pending, in its order, and takes in an outcome for each. Gives how long to wait before the next round; none when
/// the stream has ended.
async fn round(
    run: &Run,
    life: &Life,
    pending: &mut VecDeque<v1::SendRequest>,
    says: &mpsc::Sender<v1::SendStreamRequest>,
    hears: &mut tonic::Streaming<v1::SendStreamResponse>,
) -> Option<Duration> {
    let mut delay = Duration::ZERO;
    let had_read = life.gateway.folds().positions();
    for request in pending.iter() {
        says.send(v1::SendStreamRequest { message: Some(request.clone()) }).await.ok()?;
    }
    for _ in 0..pending.len() {
        let told = timeout(PATIENCE, hears.message()).await.ok()?.ok()??;
        let index = pending.iter().position(|request| request.message_id == told.message_id)?;
        match told.outcome.expect("an outcome") {
            Outcome::Receipt(receipt) => {
                let request = pending.remove(index).expect("it was found");
                run.deliveries.lock().unwrap().receipted(&life.incarnation, &request, &receipt);
            }
            Outcome::Refusal(refusal) => {
                let again = airut_wire::refusal_from(&refusal).1;
                let mut deliveries = run.deliveries.lock().unwrap();
                deliveries.refused(&pending[index], &refusal.reason, again.is_some(), &had_read);
                drop(deliveries);
                match again {
                    Some(again) => delay = delay.max(again),
                    None => drop(pending.remove(index)),
                }
            }
        }
    }
    Some(delay)
}

type Client<S> = DeliveryServiceClient<airut_wire::v1::delivery_service_server::DeliveryServiceServer<S>>;

fn client(life: &Life, partner: &'static str) -> Client<impl DeliveryService> {
    let caller_of: CallerOf = Arc::new(move |_, registry| identified(registry, partner));
    DeliveryServiceClient::new(delivery_service(life.gateway.clone(), caller_of))
}

fn identified(registry: &Registry, partner: &str) -> Result<VerifiedPartner, (Unidentified, Stranger)> {
    let refusal = Refusal::new(Reason::PartnerSuspended);
    let stranger = Stranger { reason: refusal.reason, issuer: "CN=Test".into(), prefix: "192.0.2.0/24".into() };
    registry
        .current(&partner.parse().unwrap())
        .ok_or((Unidentified { refusal, partner: partner.parse().ok() }, stranger))
}
