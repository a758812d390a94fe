//! The register as a responder, on a stream to an exchange that puts one question.

use std::sync::Arc;

use airut_client::Client;
use airut_domain::{matter::Category, time::Timestamp};
use airut_register::Register;
use airut_wire::v1::{
    Context, QueryBenefitsRequest, QueryBenefitsResponse, ServeRequest, ServeResponse,
    query_service_server::{QueryService, QueryServiceServer},
    serve_request::{Message, answer::Result as Answered},
    serve_response::{self, Opened},
};
use hyper_util::rt::TokioIo;
use tokio::{io::duplex, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};
use tower::service_fn;

use crate::persons::{TODAY, always, question};

/// The responder's side of a stream, and the way to put questions to it.
type Stream = (Streaming<ServeRequest>, mpsc::Sender<Result<ServeResponse, Status>>);

/// Gives the test each stream.
struct Exchange(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl QueryService for Exchange {
    async fn query_benefits(
        &self,
        _: Request<QueryBenefitsRequest>,
    ) -> Result<Response<QueryBenefitsResponse>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    type ServeStream = ReceiverStream<Result<ServeResponse, Status>>;

    async fn serve(&self, request: Request<Streaming<ServeRequest>>) -> Result<Response<Self::ServeStream>, Status> {
        let (questions, outbound) = mpsc::channel(4);
        self.0.send((request.into_inner(), questions)).await.unwrap();
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

fn connected(exchange: Exchange) -> Client {
    let (incoming, connections) = mpsc::channel(1);
    let serving = tonic::transport::Server::builder().add_service(QueryServiceServer::new(exchange));
    tokio::spawn(serving.serve_with_incoming(ReceiverStream::new(connections)));
    Client::over(Endpoint::from_static("http://exchange").connect_with_connector_lazy(service_fn(move |_| {
        let incoming = incoming.clone();
        async move {
            let (near, far) = duplex(64 * 1024);
            incoming.send(Ok::<_, std::io::Error>(far)).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(near))
        }
    })))
}

#[tokio::test]
async fn questions_are_answered_over_the_public_api_until_shutdown() {
    let register = Arc::new(Register::generate(1, 10, TODAY));
    let asked = question(register.identity_codes()[0], &[Category::Payment], always());
    let (streams, mut opened) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let client = connected(Exchange(streams));
    let running = tokio::spawn(airut_register::run(client, Arc::clone(&register), shutdown.clone()));

    let (mut inbound, questions) = opened.recv().await.unwrap();
    assert!(matches!(inbound.message().await.unwrap().unwrap().message, Some(Message::Open(_))));
    let message = serve_response::Message::Opened(Opened { stream_id: "gateway-1/1".into() });
    questions.send(Ok(ServeResponse { message: Some(message) })).await.unwrap();
    let context = Context {
        end_user: "official".into(),
        end_user_role: "social-worker".into(),
        purpose: "social-assistance".into(),
        legal_basis: "1412/1997".into(),
        case_id: "case".into(),
    };
    let request = QueryBenefitsRequest {
        subject_id: asked.subject.as_str().into(),
        context: Some(context),
        ..Default::default()
    };
    let (scopes, deadline) = (airut_wire::scopes(&asked.scopes), Timestamp::from_millis(0));
    let put = airut_wire::asked_question("q1".into(), "pirkanmaa".into(), request, scopes, deadline, String::new());
    questions.send(Ok(put)).await.unwrap();

    let Some(Message::Answer(answer)) = inbound.message().await.unwrap().unwrap().message else { panic!("an answer") };
    assert_eq!(answer.question_id, "q1");
    let Some(Answered::Matters(answered)) = answer.result else { panic!("matters") };
    assert_eq!(answered.matters, register.answer(&asked));

    shutdown.cancel();
    assert_eq!(inbound.message().await.unwrap(), None);
    drop((inbound, questions));
    running.await.unwrap();
}
