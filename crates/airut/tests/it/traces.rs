//! What an operator sees of a running exchange: traces, metrics, health, and the services that reflection lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use airut_client::Client;
use airut_domain::refusal::Reason;
use airut_testkit::{available, eventually};
use airut_wire::v1::{self, delivery_service_client::DeliveryServiceClient};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    desk::Visitor,
    support::{Data, Exchange, PATIENCE, dev, http_get, notice, persons, question},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Takes the spans that an exchange exports.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves on a port of the system's choice, and gives its URL.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

/// An exchange whose spans are taken.
async fn traced() -> (Data, Collector, Exchange) {
    let (data, collector) = (Data::new(), Collector::default());
    let mut command = dev(data.path());
    command.args(["--otlp-endpoint", &collector.serve().await]).env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let exchange = Exchange::start(command).await;
    (data, collector, exchange)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_one_trace_from_the_callers_own_through_the_register_and_back() {
    let (data, collector, exchange) = traced().await;
    let county = exchange.client(data.path(), "pirkanmaa").await;
    let subject = persons(data.path()).remove(0);

    let caller = format!("00-{TRACE}-{CALLER}-01");
    of(&county, &caller).query(&question("traced-1", &subject), PATIENCE).await.unwrap();
    let pension = exchange.client(data.path(), "pension-provider").await;
    of(&pension, &caller).query(&question("refused-1", &subject), PATIENCE).await.unwrap_err();
    let untraced = format!("00-{}-{CALLER}-00", "7".repeat(32));
    of(&county, &untraced).query(&question("untraced-1", &subject), PATIENCE).await.unwrap();
    let rpc = "airut.v1.QueryService/QueryBenefits";
    eventually(PATIENCE, async || collector.spans().iter().any(|span| span.name == rpc)).await;
    // What is left is exported as it stops.
    assert!(exchange.stop().await.success());

    let mut spans = collector.spans();
    // The magic recipients pull all the time, in traces of their own.
    spans.retain(|span| span.name != "airut.v1.DeliveryService/Pull");
    let foreign: Vec<_> = spans.iter().filter(|span| hex::encode(&span.trace_id) != TRACE).collect();
    assert!(foreign.is_empty(), "spans of no caller's: {foreign:#?}");
    let tree = tree(&spans);
    let record = |parent: &str| format!("{parent} > record > send airut.queries");
    let asked = record(&format!("caller > {rpc}"));
    let answered = record(&asked);
    for path in [
        format!("caller > {rpc}"),
        format!("caller > {rpc} > judge"),
        asked.clone(),
        format!("{asked} > process airut.queries"),
        format!("caller > {rpc} > await answer"),
        format!("{asked} > answer"),
        format!("{asked} > minimise"),
        answered.clone(),
        format!("{answered} > process airut.queries"),
        format!("caller > {rpc} > disclose"),
    ] {
        assert!(tree.contains(&path), "{path} is missing in\n{tree:#?}");
    }
    assert_attributes(&spans);
    let refused = spans.iter().find(|span| span.attributes.iter().any(|attribute| attribute.key == "error.type"));
    assert_eq!(text(refused.expect("a call was refused"), "error.type"), "NO_CONTRACT");

    let told = format!("{spans:?}");
    for person in persons(data.path()) {
        assert!(!told.contains(&person), "an identity code is in a span");
    }
    for personal in ["official-17", "case-118", "social-worker"] {
        assert!(!told.contains(personal), "{personal} is in a span");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_desk_and_what_it_asks_of_the_exchange_are_one_trace() {
    let (data, collector, exchange) = traced().await;
    let subject = persons(data.path()).remove(0);

    let aino = Visitor::at(exchange.desk_address(), "aino").await;
    let request = aino.ask(&subject, "What was granted since June?").await;
    // A browser's header has no say, and neither does what is at no address or a method that nobody knows.
    let caller = format!("00-{TRACE}-{CALLER}-01");
    assert_eq!(aino.send("GET", &format!("/en{request}"), &[("traceparent", &caller)], b"").await.status, 200);
    assert_eq!(aino.get("/en/requests/kela/131052-308T").await.status, 404);
    assert_eq!(aino.get(&format!("/en/requests/{subject}")).await.status, 404);
    assert_eq!(aino.send(&subject, "/en/requests", &[], b"").await.status, 403);
    assert!(exchange.stop().await.success());

    let spans = collector.spans();
    let tree = tree(&spans);
    let service = "airut.v1.InformationRequestService";
    for path in [
        "nobody > GET /requests/new".to_owned(),
        format!("nobody > POST /requests/new > {service}/CreateInformationRequest > record > send airut.requests"),
        format!("nobody > GET /requests/{{requester}}/{{id}} > {service}/GetInformationRequest"),
        "nobody > _OTHER /requests".to_owned(),
    ] {
        assert!(tree.contains(&path), "{path} is missing in\n{tree:#?}");
    }
    assert!(!tree.iter().any(|path| path.contains("caller")), "{tree:#?}");
    let page = |route: &str, status: i64| {
        let is_it = |span: &&Span| span.name == route && number(span, "http.response.status_code") == Some(status);
        spans.iter().find(is_it).unwrap_or_else(|| panic!("{route} with {status} is missing in\n{tree:#?}"))
    };
    assert_eq!(text(page("POST /requests/new", 303), "airut.organisation"), "kela");
    assert_eq!(text(page("GET /requests/{requester}/{id}", 404), "error.type"), "not-found");
    assert_eq!(page("GET /requests/{requester}/{id}", 200).kind(), SpanKind::Server);

    let told = format!("{spans:?}");
    for personal in [subject.as_str(), "131052", "aino", "TT-118", "since June"] {
        assert!(!told.contains(personal), "{personal} is in a span");
    }
}

/// Each span as the path of names that leads to it from the caller.
fn tree(spans: &[Span]) -> BTreeSet<String> {
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|span| (span.span_id.as_slice(), span)).collect();
    let path = |span: &Span| {
        let mut names = vec![span.name.clone()];
        let mut parent = &span.parent_span_id;
        while let Some(span) = by_id.get(parent.as_slice()) {
            names.push(span.name.clone());
            parent = &span.parent_span_id;
        }
        names.push(if hex::encode(parent) == CALLER { "caller".to_owned() } else { "nobody".to_owned() });
        names.reverse();
        names.join(" > ")
    };
    spans.iter().map(path).collect()
}

fn assert_attributes(spans: &[Span]) {
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} is missing"));
    let rpc = named("airut.v1.QueryService/QueryBenefits");
    assert_eq!(rpc.kind(), SpanKind::Server);
    assert_eq!(text(rpc, "rpc.system"), "grpc");
    assert_eq!(text(rpc, "rpc.service"), "airut.v1.QueryService");
    assert_eq!(text(rpc, "rpc.method"), "QueryBenefits");
    for (name, kind) in [("send airut.queries", SpanKind::Producer), ("process airut.queries", SpanKind::Consumer)] {
        let span = named(name);
        assert_eq!(span.kind(), kind);
        assert_eq!(text(span, "messaging.system"), "airut");
        assert_eq!(text(span, "messaging.destination.name"), "airut.queries");
        let position = text(span, "messaging.message.id");
        assert!(airut_domain::partition::parse_position(&position).is_some(), "{position}");
    }
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

fn number(span: &Span, key: &str) -> Option<i64> {
    if let Some(Value::IntValue(number)) = attribute(span, key) { Some(number) } else { None }
}

fn text(span: &Span, key: &str) -> String {
    match attribute(span, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_have_the_names_that_the_operators_page_explains() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let county = exchange.client(data.path(), "pirkanmaa").await;
    county.query(&question("q-1", &persons(data.path())[0]), PATIENCE).await.unwrap();
    let refused = county.query(&question("q-2", "nonsense"), PATIENCE).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::InvalidField));

    let mut send = DeliveryServiceClient::new(channel(data.path(), exchange.address, "kela").await);
    send.send(notice("n-1", &persons(data.path())[0])).await.unwrap();
    let mut collect = DeliveryServiceClient::new(channel(data.path(), exchange.address, "pirkanmaa").await);
    let open = v1::collect_request::Message::Open(v1::collect_request::Open {
        credit: 1,
        ..v1::collect_request::Open::default()
    });
    let open = tokio_stream::iter([v1::CollectRequest { message: Some(open) }]).chain(tokio_stream::pending());
    let mut collected = collect.collect(open).await.unwrap().into_inner();
    let delivered =
        |told: v1::CollectResponse| matches!(told.message, Some(v1::collect_response::Message::Delivery(_)));
    while !delivered(collected.message().await.unwrap().unwrap()) {}

    http_get(exchange.desk_address(), "/fi/sign-in").unwrap();

    // Gauges are set every second.
    let address = exchange.metrics_address();
    let usual = || airut_telemetry::metrics::names().filter(|name| !airut_telemetry::metrics::RARE.contains(name));
    let complete = |page: &str| usual().all(|name| page.contains(&format!("# TYPE {name} ")));
    eventually(PATIENCE, async || complete(&http_get(address, "/metrics").unwrap())).await;
    let page = http_get(address, "/metrics").unwrap();
    let value = |series: &str| page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    assert_eq!(value(r#"airut_refusals_total{reason="INVALID_FIELD"}"#), Some(1.0));
    assert_eq!(value(r#"airut_refusals_total{reason="NO_CONTRACT"}"#), Some(0.0));
    assert_eq!(value("airut_streams_open{kind=\"answers\"}"), Some(1.0));
    assert_eq!(value("airut_disclosures_total"), Some(1.0));
    assert_eq!(value(r#"airut_inbox_depth{partner="pirkanmaa"}"#), Some(1.0));
    let in_a_day = (airut_testkit::now().as_millis() / 1000 + 86_400) as f64;
    for expiry in ["airut_certificate_expiry_timestamp_seconds", "airut_crl_next_update_timestamp_seconds"] {
        assert!(value(expiry).unwrap() > in_a_day, "{expiry}");
    }

    let pages = include_str!("../../../../docs/operating.md");
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(pages.contains(&format!("`{name}")), "docs/operating.md does not explain {name}");
    }
    check_with_promtool(page.split_once("\r\n\r\n").unwrap().1);
}

/// Lets Prometheus's own tool look over a page of metrics.
fn check_with_promtool(page: &str) {
    if !available("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{}\n{page}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served_to_partners() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let channel = channel(data.path(), exchange.address, "helsinki").await;

    let check = HealthCheckRequest { service: String::new() };
    let health = HealthClient::new(channel.clone()).check(check).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);

    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("airut.v1.QueryBenefitsRequest".to_owned()),
        MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned()),
    ];
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::iter(questions.map(ask))).await.unwrap();
    let answers: Vec<_> = answers.into_inner().map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let MessageResponse::ListServicesResponse(services) = &answers[0] else { panic!("{answers:?}") };
    let services: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["airut.v1.QueryService", "airut.v1.LedgerService", "grpc.health.v1.Health"] {
        assert!(services.contains(&service), "{service} is not in {services:?}");
    }
    for service in services.iter().filter(|service| service.starts_with("airut.")) {
        let served = async || {
            let check = HealthCheckRequest { service: (*service).to_owned() };
            let told = HealthClient::new(channel.clone()).check(check).await;
            told.is_ok_and(|told| told.into_inner().status() == ServingStatus::Serving)
        };
        eventually(PATIENCE, served).await;
    }
    for answer in &answers[1..] {
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    }
}

/// A connection of a client that knows only what standard tools know.
async fn channel(data: &Path, address: SocketAddr, partner: &str) -> Channel {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let file = |name: String| data.join("pki").join(name);
    let certificates = |name| CertificateDer::pem_file_iter(file(name)).unwrap().map(Result::unwrap);
    let mut roots = RootCertStore::empty();
    certificates("ca.crt".to_owned()).for_each(|authority| roots.add(authority).unwrap());
    let chain = certificates(format!("{partner}.crt")).collect();
    let key = PrivateKeyDer::from_pem_file(file(format!("{partner}.key"))).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: http::Uri| {
        let tls = tls.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            tls.connect(address.ip().into(), stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_shared(format!("https://{address}")).unwrap().connect_with_connector(dial).await.unwrap()
}

/// The client, within this trace.
fn of(client: &Client, context: &str) -> Client {
    let context = context.to_owned();
    client.with_trace_context(move || Some(context.clone()))
}
