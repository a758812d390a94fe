use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use airut_client::{CallError, Client};
use airut_domain::refusal::{Reason, Refusal};
use airut_wire::v1::{QueryBenefitsRequest, QueryBenefitsResponse};
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, task::JoinHandle, time::Instant};
use tonic::{Code, Status, transport::Endpoint};
use tower::service_fn;

use crate::exchange::{Asked, Exchange};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ask(client: &Client, deadline: Duration) -> JoinHandle<Result<QueryBenefitsResponse, CallError>> {
    let client = client.with_trace_context(|| Some(TRACEPARENT.to_owned()));
    let request = QueryBenefitsRequest { query_id: "q1".into(), ..Default::default() };
    tokio::spawn(async move { client.query(&request, deadline).await })
}

fn answer(asked: Asked) {
    let query_id = asked.request.into_inner().query_id;
    asked.reply.send(Ok(QueryBenefitsResponse { query_id, ..Default::default() })).unwrap();
}

fn refuse(asked: Asked, reason: Reason) {
    asked.reply.send(Err(airut_wire::status(&Refusal::new(reason), "request-7"))).unwrap();
}

/// Microseconds, the unit in which tonic tells short deadlines.
fn told_deadline(asked: &Asked) -> Duration {
    let told = asked.request.metadata().get("grpc-timeout").unwrap().to_str().unwrap();
    Duration::from_micros(told.strip_suffix('u').unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn deadline_and_trace_travel_with_the_question() {
    let mut exchange = Exchange::start();
    let asking = ask(&exchange.client(), Duration::from_secs(5));
    let asked = exchange.asked.recv().await.unwrap();
    assert_eq!(told_deadline(&asked), Duration::from_secs(5));
    assert_eq!(asked.request.metadata().get("traceparent").unwrap(), TRACEPARENT);
    answer(asked);
    assert_eq!(asking.await.unwrap().unwrap().query_id, "q1");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_exchange_is_asked_again_with_the_same_id_after_the_delay_it_names() {
    let mut exchange = Exchange::start();
    let start = Instant::now();
    let asking = ask(&exchange.client(), Duration::from_secs(30));
    for _ in 0..2 {
        let asked = exchange.asked.recv().await.unwrap();
        assert_eq!(asked.request.get_ref().query_id, "q1");
        refuse(asked, Reason::NoResponder);
    }
    let asked = exchange.asked.recv().await.unwrap();
    assert_eq!(asked.request.get_ref().query_id, "q1");
    let waited = start.elapsed();
    assert!(waited >= 2 * Reason::NoResponder.retry_after().unwrap(), "{waited:?}");
    // Each try is told what is left of the one deadline.
    assert!(told_deadline(&asked) <= Duration::from_secs(30) - waited);
    answer(asked);
    assert!(asking.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_exchange_that_names_a_delay_is_asked_again() {
    let mut exchange = Exchange::start();
    let asking = ask(&exchange.client(), Duration::from_secs(30));
    refuse(exchange.asked.recv().await.unwrap(), Reason::TooManyInFlight);
    answer(exchange.asked.recv().await.unwrap());
    assert!(asking.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_help_is_not_tried_again() {
    for reason in Reason::ALL.iter().filter(|reason| reason.retry_after().is_none()) {
        let mut exchange = Exchange::start();
        let asking = ask(&exchange.client(), Duration::from_secs(30));
        refuse(exchange.asked.recv().await.unwrap(), *reason);
        let fault = asking.await.unwrap().unwrap_err();
        assert_eq!(fault.reason(), Some(*reason));
        assert_eq!(fault.request_id(), Some("request-7"));
        assert!(fault.to_string().contains(reason.sentence()), "{fault}");
        assert!(exchange.asked.try_recv().is_err(), "{reason} was tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded_however_long_the_deadline() {
    let mut exchange = Exchange::start();
    let asking = ask(&exchange.client(), Duration::from_secs(3000));
    let mut tries = 0;
    let fault = loop {
        tokio::select! {
            Some(asked) = exchange.asked.recv() => refuse(asked, Reason::OutcomeUnknown),
            () = tokio::time::sleep(Duration::from_secs(100)) => break asking.await.unwrap().unwrap_err(),
        }
        tries += 1;
    };
    assert_eq!(tries, 8);
    assert_eq!(fault.reason(), Some(Reason::OutcomeUnknown));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_not_overrun_by_waiting_to_try_again() {
    let mut exchange = Exchange::start();
    let start = Instant::now();
    let asking = ask(&exchange.client(), Duration::from_secs(3));
    refuse(exchange.asked.recv().await.unwrap(), Reason::NoResponder);
    refuse(exchange.asked.recv().await.unwrap(), Reason::NoResponder);
    assert_eq!(asking.await.unwrap().unwrap_err().reason(), Some(Reason::NoResponder));
    assert!(start.elapsed() <= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_can_not_be_reached_is_said_to_be_so_however_the_last_try_ends() {
    let tries = AtomicU32::new(0);
    let channel = Endpoint::from_static("http://exchange").connect_with_connector_lazy(service_fn(move |_| {
        let is_first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                return Err::<TokioIo<DuplexStream>, _>(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            std::future::pending().await
        }
    }));
    let start = Instant::now();

    let fault = ask(&Client::over(channel), Duration::from_secs(3)).await.unwrap().unwrap_err();
    assert_eq!(fault, CallError::Unreachable("connection refused".to_owned()));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_silent_exchange_costs_no_more_than_the_deadline() {
    let mut exchange = Exchange::start();
    let start = Instant::now();
    let asking = ask(&exchange.client(), Duration::from_secs(3));
    let _unanswered = exchange.asked.recv().await.unwrap();
    assert_eq!(asking.await.unwrap(), Err(CallError::DeadlinePassed));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_and_the_question_asked_again() {
    let mut exchange = Exchange::start();
    let asking = ask(&exchange.client(), Duration::from_secs(30));
    let unanswered = exchange.asked.recv().await.unwrap();
    exchange.cut();
    let again = exchange.asked.recv().await.unwrap();
    assert_eq!(again.request.get_ref().query_id, unanswered.request.get_ref().query_id);
    answer(again);
    assert!(asking.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_status_from_something_else_is_told_as_it_is() {
    let mut exchange = Exchange::start();
    let asking = ask(&exchange.client(), Duration::from_secs(30));
    exchange.asked.recv().await.unwrap().reply.send(Err(Status::unimplemented("a proxy says no"))).unwrap();
    let CallError::Refused(refused) = asking.await.unwrap().unwrap_err() else { panic!("a refusal") };
    assert_eq!((refused.code, refused.reason), (Code::Unimplemented, None));
    assert_eq!(refused.message, "a proxy says no");
}
