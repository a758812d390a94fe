//! The magic recipients of `airut dev`: what a sender sees of each, and that they are nowhere else.

use std::{fs, time::Duration};

use airut_client::Client;
use airut_testkit::{eventually, now};
use airut_wire::v1::{
    MessageState::{self, Dead, Delivered},
    SendRequest, TrackResponse,
    track_response::Kind::{self, Accepted, Expired, LeaseEnded, Offered, Rejected},
};

use crate::{
    cli::run,
    support::{Data, Exchange, PATIENCE, airut, dev, notice, persons, receipt_keys},
};

/// What is sent to `magic-expire` has this long.
const EXPIRES_IN: Duration = Duration::from_secs(2);

fn practice(recipient: &str, person: &str) -> SendRequest {
    SendRequest {
        recipient: recipient.to_owned(),
        message_type: "practice-message".to_owned(),
        ..notice(&format!("to-{recipient}"), person)
    }
}

/// Sends it and waits until it has come to its end.
async fn end(sender: &Client, data: &Data, message: &SendRequest) -> TrackResponse {
    sender.send(message, &receipt_keys(data.path()), PATIENCE).await.unwrap();
    let mut tracked = TrackResponse::default();
    eventually(PATIENCE, async || {
        tracked = sender.track("", &message.message_id, PATIENCE).await.unwrap();
        [Dead, Delivered].contains(&tracked.state())
    })
    .await;
    tracked
}

#[track_caller]
fn assert_ended(tracked: &TrackResponse, state: MessageState, kinds: &[Kind]) {
    let steps: Vec<Kind> = tracked.steps.iter().map(|step| step.kind()).collect();
    assert_eq!((tracked.state(), steps.as_slice()), (state, kinds), "{tracked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_county_sees_what_each_magic_recipient_makes_of_its_messages() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let county = exchange.client(data.path(), "pirkanmaa").await;
    let person = &persons(data.path())[0];

    let rejected = end(&county, &data, &practice("magic-reject", person)).await;
    assert_ended(&rejected, Dead, &[Accepted, Offered, Rejected]);
    assert_eq!(rejected.steps[2].code, "MAGIC_REJECT");
    assert!(!rejected.steps[2].text.is_empty());

    let duplicated = end(&county, &data, &practice("magic-duplicate", person)).await;
    assert_ended(&duplicated, Delivered, &[Accepted, Offered, LeaseEnded, Offered, Kind::Delivered]);
    let attempts: Vec<i32> = duplicated.steps.iter().map(|step| step.attempt).collect();
    assert_eq!(attempts, [0, 1, 1, 2, 2], "{duplicated:?}");

    let stalled = end(&county, &data, &practice("magic-stall", person)).await;
    let attempts = [Offered, LeaseEnded].repeat(3);
    assert_ended(&stalled, Dead, &[&[Accepted][..], &attempts].concat());

    let expires = Some(airut_wire::timestamp(now() + EXPIRES_IN));
    let expired = SendRequest { expire_time: expires, ..practice("magic-expire", person) };
    assert_ended(&end(&county, &data, &expired).await, Dead, &[Accepted, Expired]);

    let letters = county.list_dead_letters(&Default::default(), PATIENCE).await.unwrap().dead_letters;
    let mut codes: Vec<&str> = letters.iter().map(|letter| letter.code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["ATTEMPTS_EXHAUSTED", "EXPIRED", "MAGIC_REJECT"]);
    assert!(exchange.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn kela_may_send_them_what_it_sends_to_counties() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let kela = exchange.client(data.path(), "kela").await;
    let person = &persons(data.path())[0];
    for (message_type, purpose, legal_basis) in [
        ("social-work-need", "social-work", "1301/2014"),
        ("immigrant-two-months", "social-assistance", "1412/1997"),
        ("information-request-reminder", "social-assistance", "1412/1997"),
        ("reduced-basic-amount", "social-assistance", "1412/1997"),
        ("supplementary-assistance-need", "social-assistance", "1412/1997"),
        ("unemployed-over-25", "social-assistance", "1412/1997"),
        ("unemployed-under-25", "social-assistance", "1412/1997"),
    ] {
        let mut message = practice("magic-reject", person);
        message.message_id = format!("a-{message_type}");
        message.message_type = message_type.to_owned();
        message.payload = fs::read(data.join(&format!("samples/{message_type}.json"))).unwrap();
        let context = message.context.as_mut().unwrap();
        (context.purpose, context.legal_basis) = (purpose.to_owned(), legal_basis.to_owned());
        assert_ended(&end(&kela, &data, &message).await, Dead, &[Accepted, Offered, Rejected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_laid_out_for_an_exchange_that_is_none_of_development_has_no_magic() {
    let data = Data::new();
    let mut prepare = airut();
    prepare.args(["dev", "--prepare", "--data"]).arg(data.path());
    assert!(run(prepare, "").await.status.success());
    for directory in ["partners", "message-types"] {
        for file in fs::read_dir(data.join(directory)).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains("magic") && !text.contains("practice"), "{text}");
        }
    }
    assert!(!data.join("pki/magic-reject.crt").exists());
}
