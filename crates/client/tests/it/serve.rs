use std::{
    collections::BTreeSet,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use airut_client::{Client, Question, Unable};
use airut_wire::v1::{
    Context, Matter, ServeRequest, ServeResponse,
    serve_request::{self, Answer, Message, answer::Result as Answered},
    serve_response,
};
use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::exchange::{Exchange, Opened};

/// A synthetic person.
const SUBJECT: &str = "010190-900P";

fn question(id: &str) -> ServeResponse {
    let context = Context {
        end_user: "official".into(),
        end_user_role: "social-worker".into(),
        purpose: "social-assistance".into(),
        legal_basis: "1412/1997".into(),
        case_id: "case".into(),
    };
    let question = serve_response::Question {
        question_id: id.into(),
        asker: "pirkanmaa".into(),
        subject_id: SUBJECT.into(),
        context: Some(context),
        scopes: vec![],
        deadline: Some(Default::default()),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
    };
    ServeResponse { message: Some(serve_response::Message::Question(question)) }
}

fn matter_of(question: &Question) -> Vec<Matter> {
    vec![Matter { matter_id: question.question_id.clone(), ..Default::default() }]
}

fn serve<H, F>(client: Client, max_in_flight: u16, handler: H) -> (JoinHandle<()>, CancellationToken)
where
    H: Fn(Question) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Vec<Matter>, Unable>> + Send + 'static,
{
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let max_in_flight = NonZeroU16::new(max_in_flight).unwrap();
    let serving = tokio::spawn(async move { client.serve(max_in_flight, handler, stopped).await });
    (serving, stop)
}

/// Waits for a stream and lets it be open.
async fn accept(exchange: &mut Exchange) -> Opened {
    let mut opened = exchange.opened.recv().await.unwrap();
    match opened.inbound.message().await.unwrap().unwrap().message {
        Some(Message::Open(_)) => {}
        other => panic!("{other:?}"),
    }
    let open = serve_response::Opened { stream_id: "gateway-1/1".into() };
    let open = ServeResponse { message: Some(serve_response::Message::Opened(open)) };
    opened.outbound.send(Ok(open)).await.unwrap();
    opened
}

async fn put(opened: &Opened, id: &str) {
    opened.outbound.send(Ok(question(id))).await.unwrap();
}

async fn answer(opened: &mut Opened) -> Answer {
    match opened.inbound.message().await.unwrap() {
        Some(ServeRequest { message: Some(Message::Answer(answer)) }) => answer,
        other => panic!("{other:?}"),
    }
}

fn matters(id: &str) -> Option<Answered> {
    let matter = Matter { matter_id: id.into(), ..Default::default() };
    Some(Answered::Matters(serve_request::Matters { matters: vec![matter] }))
}

#[tokio::test(start_paused = true)]
async fn a_question_reaches_the_handler_and_its_answer_the_exchange() {
    let mut exchange = Exchange::start();
    let (_serving, _stop) = serve(exchange.client(), 8, |question| async move {
        assert_eq!(question.subject.as_str(), SUBJECT);
        assert_eq!(question.asker.as_str(), "pirkanmaa");
        assert!(question.traceparent.starts_with("00-0af7"));
        Ok(matter_of(&question))
    });
    let mut opened = accept(&mut exchange).await;
    put(&opened, "a").await;
    assert_eq!(answer(&mut opened).await, Answer { question_id: "a".into(), result: matters("a") });
}

#[tokio::test(start_paused = true)]
async fn questions_are_handled_at_once_up_to_the_bound_and_answered_as_they_get_ready() {
    let mut exchange = Exchange::start();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let first_waits = Arc::new(Semaphore::new(0));
    let handler = {
        let (running, most, gate) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&first_waits));
        move |question: Question| {
            let (running, most, gate) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&gate));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if question.question_id == "0" {
                    drop(gate.acquire().await.unwrap());
                }
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(matter_of(&question))
            }
        }
    };
    let (_serving, _stop) = serve(exchange.client(), 3, handler);
    let mut opened = accept(&mut exchange).await;
    for id in 0..20 {
        put(&opened, &id.to_string()).await;
    }
    let mut answered = BTreeSet::new();
    for _ in 1..20 {
        answered.insert(answer(&mut opened).await.question_id);
    }
    assert!(!answered.contains("0"), "the first question waits and holds nobody up");
    first_waits.add_permits(1);
    assert_eq!(answer(&mut opened).await.question_id, "0");
    assert_eq!(answered.len(), 19);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_or_panics_is_a_failure_and_no_more() {
    let mut exchange = Exchange::start();
    let (_serving, _stop) = serve(exchange.client(), 8, |question: Question| async move {
        match question.question_id.as_str() {
            "unable" => Err(Unable),
            "panic" => panic!("as the test wants it"),
            _ => Ok(matter_of(&question)),
        }
    });
    let mut opened = accept(&mut exchange).await;
    for id in ["unable", "panic"] {
        put(&opened, id).await;
        let failure = Some(Answered::Failure(serve_request::Failure {}));
        assert_eq!(answer(&mut opened).await, Answer { question_id: id.into(), result: failure });
    }
    put(&opened, "fine").await;
    assert_eq!(answer(&mut opened).await.result, matters("fine"));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_can_not_be_read_is_a_failure() {
    let mut exchange = Exchange::start();
    let (_serving, _stop) = serve(exchange.client(), 8, |question: Question| async move { Ok(matter_of(&question)) });
    let mut opened = accept(&mut exchange).await;
    let Some(serve_response::Message::Question(good)) = question("a").message else { panic!("a question") };
    let bad = serve_response::Question { subject_id: "nobody".into(), ..good };
    let bad = ServeResponse { message: Some(serve_response::Message::Question(bad)) };
    opened.outbound.send(Ok(bad)).await.unwrap();
    assert_eq!(answer(&mut opened).await.result, Some(Answered::Failure(serve_request::Failure {})));
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_is_opened_again() {
    let mut exchange = Exchange::start();
    let (_serving, _stop) = serve(exchange.client(), 8, |question: Question| async move { Ok(matter_of(&question)) });
    let first = accept(&mut exchange).await;
    exchange.cut();
    let mut second = accept(&mut exchange).await;
    put(&second, "a").await;
    assert_eq!(answer(&mut second).await.result, matters("a"));

    // One that the exchange ends in good order is opened again as well.
    drop((first, second));
    let mut third = accept(&mut exchange).await;
    put(&third, "b").await;
    assert_eq!(answer(&mut third).await.result, matters("b"));
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_does_not_open_is_tried_less_and_less_often() {
    let mut exchange = Exchange::start();
    let (_serving, _stop) = serve(exchange.client(), 8, |_| async { Err(Unable) });
    let start = Instant::now();
    for _ in 0..10 {
        drop(exchange.opened.recv().await.unwrap());
    }
    assert!(start.elapsed() > Duration::from_secs(15), "{:?}", start.elapsed());
    let before = Instant::now();
    drop(exchange.opened.recv().await.unwrap());
    assert!(before.elapsed() <= Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn stopping_answers_what_it_has_and_closes_the_stream() {
    let mut exchange = Exchange::start();
    let (started, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let handler = {
        let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
        move |question: Question| {
            let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
            async move {
                started.add_permits(1);
                drop(gate.acquire().await.unwrap());
                Ok(matter_of(&question))
            }
        }
    };
    let (serving, stop) = serve(exchange.client(), 8, handler);
    let mut opened = accept(&mut exchange).await;
    put(&opened, "a").await;
    drop(started.acquire().await.unwrap());
    stop.cancel();
    gate.add_permits(1);
    assert_eq!(answer(&mut opened).await.result, matters("a"));
    assert_eq!(opened.inbound.message().await.unwrap(), None, "the responder ended its side");
    drop(opened);
    serving.await.unwrap();
    assert!(exchange.opened.try_recv().is_err(), "and opened no other");
}

#[tokio::test(start_paused = true)]
async fn stopping_is_not_held_up_by_a_handler_or_an_exchange_that_hangs() {
    let mut exchange = Exchange::start();
    let (serving, stop) = serve(exchange.client(), 8, |_| std::future::pending());
    let opened = accept(&mut exchange).await;
    put(&opened, "a").await;
    let start = Instant::now();
    stop.cancel();
    serving.await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_wait_for_a_stream() {
    let exchange = Exchange::start();
    let (serving, stop) = serve(exchange.client(), 8, |_| async { Err(Unable) });
    tokio::task::yield_now().await;
    stop.cancel();
    serving.await.unwrap();
}
