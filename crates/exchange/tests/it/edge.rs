//! The gRPC edge, called as tonic calls it.

use std::{sync::Arc, time::Duration};

use airut_domain::{
    refusal::{Reason, Refusal},
    registry::{Registry, Unidentified, VerifiedPartner},
};
use airut_exchange::{CallerOf, Stranger, query_service};
use airut_wire::v1::{
    self, ServeRequest, query_service_client::QueryServiceClient, query_service_server::QueryService,
    query_service_server::QueryServiceServer, serve_request, serve_response,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use crate::support::{Sandbox, history, matter_ids, request, soon, suspended};

type Client<S> = QueryServiceClient<QueryServiceServer<S>>;

fn client(sandbox: &Sandbox, caller_of: CallerOf) -> Client<impl QueryService> {
    QueryServiceClient::new(query_service(sandbox.gateways[0].clone(), caller_of))
}

/// A client whose certificate is this partner's, as long as the partner is active.
fn client_of(sandbox: &Sandbox, partner: &'static str) -> Client<impl QueryService> {
    client(sandbox, Arc::new(move |_, registry| identified(registry, partner)))
}

pub(crate) fn identified(registry: &Registry, partner: &str) -> Result<VerifiedPartner, (Unidentified, Stranger)> {
    let id = partner.parse().unwrap();
    let reason = match registry.get(&id) {
        Some(_) => Reason::PartnerSuspended,
        None => Reason::CertificateUnknown,
    };
    let partner = registry.get(&id).map(|entry| entry.partner.id.clone());
    let stranger = Stranger { reason, issuer: "CN=Test".into(), prefix: "192.0.2.0/24".into() };
    registry.current(&id).ok_or((Unidentified { refusal: Refusal::new(reason), partner }, stranger))
}

#[tokio::test(start_paused = true)]
async fn a_query_and_its_answer_travel_over_the_edge() {
    let sandbox = Sandbox::start().await;
    let (said, to_gateway) = mpsc::channel(8);
    let open = serve_request::Message::Open(serve_request::Open { max_in_flight: 8 });
    said.send(ServeRequest { message: Some(open) }).await.unwrap();
    let told = soon(client_of(&sandbox, "kela").serve(ReceiverStream::new(to_gateway))).await.unwrap();
    let mut told = told.into_inner();
    assert!(matches!(told.message().await.unwrap().unwrap().message, Some(serve_response::Message::Opened(_))));
    let mut pirkanmaa = client_of(&sandbox, "pirkanmaa");
    let asked = tokio::spawn(async move { pirkanmaa.query_benefits(request("q-1")).await });
    let Some(serve_response::Message::Question(question)) = soon(told.message()).await.unwrap().unwrap().message else {
        panic!("a question is put")
    };
    let result = serve_request::answer::Result::Matters(serve_request::Matters { matters: history() });
    let answer = serve_request::Answer { question_id: question.question_id, result: Some(result) };
    said.send(ServeRequest { message: Some(serve_request::Message::Answer(answer)) }).await.unwrap();
    let response = soon(asked).await.unwrap().unwrap().into_inner();
    assert_eq!(matter_ids(&response), ["granted-1", "granted-2"]);
    sandbox.gateways[0].stop(Duration::from_secs(1)).await;
    assert!(soon(told.message()).await.unwrap().is_none(), "the stream ends with its gateway");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_carries_its_reason_and_delay() {
    let sandbox = Sandbox::start().await;
    let no_contract = client_of(&sandbox, "elo").query_benefits(request("q-1")).await.unwrap_err();
    assert_eq!(
        (no_contract.code(), airut_wire::reason_of(&no_contract)),
        (Code::PermissionDenied, Some(Reason::NoContract))
    );
    let no_responder = client_of(&sandbox, "pirkanmaa").query_benefits(request("q-1")).await.unwrap_err();
    assert_eq!(no_responder.code(), Code::Unavailable);
    assert!(airut_wire::retry_after_of(&no_responder).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_travels_along() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let mut pirkanmaa = client_of(&sandbox, "pirkanmaa");
    let mut asking = Request::new(request("q-1"));
    asking.set_timeout(Duration::from_secs(3));
    let deadline = sandbox.ground.now() + Duration::from_secs(3);
    let asked = tokio::spawn(async move { pirkanmaa.query_benefits(asking).await });
    let told = kela.question().await.deadline.unwrap();
    assert_eq!(told.seconds, deadline.as_millis() / 1000);
    let status = soon(asked).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(sandbox.ground.now().since(deadline) < Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn who_is_nobody_or_suspended_is_refused_and_recorded_as_such() {
    let sandbox = Sandbox::start().await;
    sandbox.apply(vec![suspended("helsinki")]).await;
    for (caller, reason) in [("nobody", Reason::CertificateUnknown), ("helsinki", Reason::PartnerSuspended)] {
        let status = client_of(&sandbox, caller).query_benefits(request("q-1")).await.unwrap_err();
        assert_eq!((status.code(), airut_wire::reason_of(&status)), (Code::Unauthenticated, Some(reason)));
    }
    let recorded = sandbox.refusals();
    let of = |reason| recorded.iter().find(|refused| refused.reason == reason).expect("on record");
    assert!(of(Reason::CertificateUnknown).partner.is_none());
    assert_eq!(of(Reason::PartnerSuspended).partner.as_ref().unwrap().as_str(), "helsinki");
}

#[tokio::test(start_paused = true)]
async fn one_call_too_many_is_told_to_come_back_and_recorded() {
    const MOST: usize = 4096;
    let sandbox = Sandbox::start().await;
    let _silent = sandbox.responder(0, 1).await;
    let pirkanmaa = client_of(&sandbox, "pirkanmaa");
    for number in 0..MOST {
        let mut pirkanmaa = pirkanmaa.clone();
        tokio::spawn(async move { pirkanmaa.query_benefits(request(&format!("q-{number}"))).await });
    }
    sleep(Duration::from_millis(100)).await;
    let status = pirkanmaa.clone().query_benefits(request("q-too-many")).await.unwrap_err();
    assert_eq!(
        (status.code(), airut_wire::reason_of(&status)),
        (Code::ResourceExhausted, Some(Reason::TooManyInFlight))
    );
    assert!(airut_wire::retry_after_of(&status).is_some());
    assert_eq!(sandbox.refusals()[0].reason, Reason::TooManyInFlight);
    sleep(Duration::from_secs(11)).await;
    let status = pirkanmaa.clone().query_benefits(v1::QueryBenefitsRequest::default()).await.unwrap_err();
    assert_eq!(airut_wire::reason_of(&status), Some(Reason::MissingField), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_finishes_what_is_under_way_and_takes_nothing_new() {
    let sandbox = Sandbox::start().await;
    let mut kela = sandbox.responder(0, 8).await;
    let pirkanmaa = client_of(&sandbox, "pirkanmaa");
    let mut first = pirkanmaa.clone();
    let under_way = tokio::spawn(async move { first.query_benefits(request("q-1")).await });
    let question = kela.question().await;
    let gateway = sandbox.gateways[0].clone();
    let stopping = tokio::spawn(async move { gateway.stop(Duration::from_secs(20)).await });
    sleep(Duration::from_millis(10)).await;
    let status = pirkanmaa.clone().query_benefits(request("q-2")).await.unwrap_err();
    assert_eq!(airut_wire::reason_of(&status), Some(Reason::NotServing));
    kela.answer(&question, history()).await;
    soon(under_way).await.unwrap().expect("finished");
    soon(stopping).await.unwrap();
    assert!(sandbox.refusals().is_empty(), "to be told to go elsewhere is no refusal");
}
