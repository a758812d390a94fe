//! Whose data it is shows nowhere: not in logs, metrics, errors and other output, not in the files.
//!
//! Asked about are synthetic persons. Their identity codes, the name of the official who asks and the number of the case are
//! put wherever a caller can put text, in order and out of order, with logs at their most talkative; then everything that the
//! exchange has written is searched: the log, the folds, the ledger and the objects, among them the keys that bodies are sealed
//! with. Of keys nothing shows either. That spans hold nothing, the suite `traces` shows.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use airut_domain::time::{Timestamp, format_date};
use airut_identity::dev_ca::{DevCa, Leaf};
use airut_wire::v1::{
    self, QueryBenefitsRequest,
    ledger_service_client::LedgerServiceClient,
    settlement::{Accepted, Outcome, Rejected},
};
use h2::client::SendRequest;
use prost::{Message, bytes::Bytes};
use tonic::{Status, transport::Channel};

use crate::support::{
    Data, Exchange, LOCALHOST, PATIENCE, QUERY, ask, channel, connect, connect_as, dev, grpc_frame, http_get,
    http_request, http2, notice, persons, question, receipt_keys, tell,
};

const OFFICIAL: &str = "Aino Keksitty-Virkahenkilo";
const CASE: &str = "DIAARI/58213/2026";

/// In a message's payload, and in what its recipient says of it.
const PAYLOAD_TEXT: &str = "Ei paasta asioimaan, kotikaynti Keksityntie 7";
const REJECTION_TEXT: &str = "Hakijaa Toivo Keksittya ei tunneta";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_written_says_whose_data_it_is() {
    let data = Data::new();
    let mut command = dev(data.path());
    command.env("RUST_LOG", "debug");
    let exchange = Exchange::start(command).await;
    let persons = persons(data.path());
    let code = persons[0].clone();

    let channel = channel(data.path(), exchange.address, "pirkanmaa").await;
    ask_in_order(&channel, &persons).await;
    let mut answers = ask_out_of_order(&channel, &code).await;
    send_and_reject(&exchange, data.path(), &persons).await;
    put_and_answer(&exchange, data.path(), &persons[0]).await;
    answers.extend(call_as_nobody(&exchange, data.path(), &code).await);
    answers.extend(send_what_is_no_question(&exchange, data.path(), &code).await);
    let metrics = http_get(exchange.metrics_address(), "/metrics").unwrap();
    let files = files(data.path());
    let (stdout, stderr) = stop(exchange).await;

    // What is looked for can be found, and where it is looked for there is something.
    let needles = Needles::new(&persons);
    assert_eq!(needles.found_in(persons.join("\n").as_bytes()).len(), persons.len());
    let texts = format!("official={OFFICIAL}, case={CASE}, {PAYLOAD_TEXT}, {REJECTION_TEXT}");
    assert_eq!(needles.found_in(texts.as_bytes()).len(), 4);
    assert!(stdout.contains("ready") && stderr.lines().count() > 200 && metrics.contains("airut_refusals_total"));
    assert!(answers.len() > 20 && answers.iter().any(|answer| answer.contains("INVALID_FIELD")));
    for id in ["in-order-7", "in-order-request", "in-order-document"] {
        assert!(files.iter().any(|(_, bytes)| occurs(id.as_bytes(), bytes)), "{id} is kept in clear");
    }

    for (what, text) in [("standard output", &stdout), ("standard error", &stderr), ("the metrics", &metrics)] {
        needles.assert_absent(what, text.as_bytes());
    }
    answers.iter().for_each(|answer| needles.assert_absent("an answer's status", answer.as_bytes()));
    files.iter().for_each(|(name, bytes)| needles.assert_absent(name, bytes));
    let secrets = secrets(data.path());
    assert!(secrets.len() > 15, "the keys of the ring are looked for");
    for (name, bytes) in
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).chain([("output", stderr.as_bytes())])
    {
        assert!(!secrets.iter().any(|secret| occurs(secret, bytes)), "{name} holds a key of the ring");
    }
    let kept: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    tell(&format!("nothing in {} bytes of output, {} refusals and {kept} bytes of files", stderr.len(), answers.len()));
}

fn named(query_id: &str, subject: &str) -> QueryBenefitsRequest {
    let mut request = question(query_id, subject);
    let context = request.context.as_mut().unwrap();
    (context.end_user, context.case_id) = (OFFICIAL.to_owned(), CASE.to_owned());
    request
}

/// Questions that are answered, and asked again.
async fn ask_in_order(channel: &Channel, persons: &[String]) {
    let first = named("in-order", &persons[0]);
    airut_testkit::eventually(PATIENCE, async || ask(channel, &first, PATIENCE).await.is_ok()).await;
    for (number, person) in persons.iter().take(20).enumerate() {
        let request = named(&format!("in-order-{number}"), person);
        let first = ask(channel, &request, PATIENCE).await.unwrap();
        assert_eq!(ask(channel, &request, PATIENCE).await.unwrap().matters, first.matters);
    }
}

/// Messages with names and texts: one waits, one is taken in, one is rejected with words about a person.
async fn send_and_reject(exchange: &Exchange, data: &Path, persons: &[String]) {
    let (kela, county) = (exchange.client(data, "kela").await, exchange.client(data, "pirkanmaa").await);
    let keys = receipt_keys(data);
    for id in ["taken-in", "rejected", "waiting"] {
        let mut message = notice(id, &persons[1]);
        let context = message.context.as_mut().unwrap();
        (context.end_user, context.case_id) = (OFFICIAL.to_owned(), CASE.to_owned());
        let mut payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        payload["reason"] = PAYLOAD_TEXT.into();
        message.payload = serde_json::to_vec(&payload).unwrap();
        kela.send(&message, &keys, PATIENCE).await.unwrap();
    }
    let pull = v1::PullRequest {
        max_messages: 2,
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..v1::PullRequest::default()
    };
    let deliveries = county.pull(&pull, PATIENCE).await.unwrap();
    assert_eq!(deliveries.len(), 2);
    let rejected = Rejected { code: "UNKNOWN_CLIENT".into(), text: REJECTION_TEXT.into() };
    let outcomes = [Outcome::Accepted(Accepted {}), Outcome::Rejected(rejected)];
    let settlements = deliveries.into_iter().zip(outcomes);
    let settlements = settlements
        .map(|(delivery, outcome)| v1::Settlement { delivery_id: delivery.delivery_id, outcome: Some(outcome) });
    let settled = county.settle(&settlements.collect::<Vec<_>>(), PATIENCE).await.unwrap();
    assert!(settled.iter().all(|result| result.refusal.is_none()), "{settled:?}");
}

/// An information request and its answer with a document, whose name and content say as much.
async fn put_and_answer(exchange: &Exchange, data: &Path, code: &str) {
    let (kela, county) = (exchange.client(data, "kela").await, exchange.client(data, "pirkanmaa").await);
    let context = named("any", code).context;
    let text = format!("{PAYLOAD_TEXT}: {code}");
    let question = v1::Question { text: text.clone(), background: text.clone(), period: None };
    let created = v1::CreateInformationRequestRequest {
        request_id: "in-order-request".into(),
        responder: "pirkanmaa".into(),
        kind: v1::InformationRequestKind::Statement.into(),
        subject_id: code.into(),
        context: context.clone(),
        question: Some(question),
        due_date: String::new(),
        contact: Some(v1::Contact { unit: OFFICIAL.into(), telephone: "09 310 0".into() }),
    };
    kela.create_information_request(&created, PATIENCE).await.unwrap();
    let document = v1::DocumentMetadata {
        document_id: "in-order-document".into(),
        recipient: "kela".into(),
        document_type: "social-assistance-document".into(),
        subject_id: code.into(),
        context: context.clone(),
        file_name: format!("{PAYLOAD_TEXT}.txt"),
        content_type: "text/plain".into(),
        size_bytes: i64::try_from(text.len()).unwrap(),
        sha256: airut_domain::keys::Digest::of(text.as_bytes()).0.to_vec(),
    };
    let mut content = std::io::Cursor::new(text.clone().into_bytes());
    let keys = receipt_keys(data);
    county.send_document(&document, &mut content, &keys, PATIENCE, |_| {}).await.unwrap();
    let answer = v1::RespondInformationRequestRequest {
        requester: "kela".into(),
        request_id: "in-order-request".into(),
        command_id: "answer".into(),
        context: context.clone(),
        text,
        document_ids: vec!["in-order-document".into()],
        contact: None,
        expected_version: 0,
    };
    county.respond_information_request(&answer, PATIENCE).await.unwrap();
    let reading = v1::GetInformationRequestRequest {
        requester: "kela".into(),
        request_id: "in-order-request".into(),
        context: context.clone(),
        min_position: String::new(),
    };
    let shown = kela.get_information_request(&reading, PATIENCE).await.unwrap();
    assert_eq!(shown.subject_id, code);
    let about = v1::ListInformationRequestsRequest { subject_id: code.into(), context, ..Default::default() };
    let listed = kela.list_information_requests(&about, PATIENCE).await.unwrap();
    assert_eq!(listed.information_requests.len(), 1);
}

/// The code in every field in turn, alone and within a text; what is said to those that are refused.
async fn ask_out_of_order(channel: &Channel, code: &str) -> Vec<String> {
    type Put = fn(&mut QueryBenefitsRequest, String);
    const FIELDS: [Put; 8] = [
        |request, text| request.query_id = text,
        |request, text| request.subject_id = text,
        |request, text| request.context.as_mut().unwrap().end_user = text,
        |request, text| request.context.as_mut().unwrap().end_user_role = text,
        |request, text| request.context.as_mut().unwrap().purpose = text,
        |request, text| request.context.as_mut().unwrap().legal_basis = text,
        |request, text| request.context.as_mut().unwrap().case_id = text,
        |request, text| request.period = Some(v1::Period { start_date: text.clone(), end_date: text }),
    ];
    let mut statuses = Vec::new();
    for (number, put) in FIELDS.into_iter().enumerate() {
        for (form, text) in
            [code.to_owned(), format!("x {code}"), code.to_lowercase(), format!("{code}{code}")].into_iter().enumerate()
        {
            let mut request = named(&format!("out-of-order-{number}-{form}"), code);
            put(&mut request, text);
            statuses.extend(ask(channel, &request, PATIENCE).await.err());
        }
    }
    let mut ledger = LedgerServiceClient::new(channel.clone());
    let proof = v1::GetInclusionProofRequest { position: format!("airut.queries/0/{code}") };
    statuses.extend(ledger.get_inclusion_proof(proof).await.err());
    let list = v1::ListEntriesRequest { page_size: 1, page_token: code.to_owned() };
    statuses.extend(ledger.list_entries(list).await.err());
    statuses.iter().map(everything).collect()
}

/// Whom the certificate names, or who has no right, is nobody's business either.
async fn call_as_nobody(exchange: &Exchange, data: &Path, code: &str) -> Vec<String> {
    let now = airut_testkit::now();
    let ca = DevCa::open_or_create(&data.join("pki"), now).unwrap();
    let leaf = Leaf { serial_number: Some(code.to_owned()), uris: vec![format!("urn:person:{code}")], ..nameless(now) };
    ca.issue_as("somebody", &leaf).unwrap();
    let mut statuses = Vec::new();
    for partner in ["somebody", "pension-provider"] {
        let channel = channel(data, exchange.address, partner).await;
        statuses.extend(ask(&channel, &named("as-nobody", code), PATIENCE).await.err());
    }
    assert_eq!(statuses.len(), 2, "both are refused");
    statuses.iter().map(everything).collect()
}

fn nameless(now: Timestamp) -> Leaf {
    Leaf { organization_identifier: Some("AI:FI-nobody".to_owned()), ..Leaf::nameless(now) }
}

/// The code where no protocol has a place for it: in paths, headers, malformed messages and the TLS handshake.
async fn send_what_is_no_question(exchange: &Exchange, data: &Path, code: &str) -> Vec<String> {
    let tls = connect_as(data, LOCALHOST, exchange.address, "pirkanmaa").await.unwrap();
    let send = http2(tls).await;
    let whole = grpc_frame(&named("malformed", code).encode_to_vec());
    let half = Bytes::copy_from_slice(&whole[..whole.len() - 4]);
    let text = grpc_frame(format!("\u{1}{code} is not protobuf").as_bytes());
    let path = format!("/airut.v1.QueryService/{code}");
    let headers = ["traceparent", "tracestate", "user-agent", "grpc-timeout", "x-case", "content-type"];
    let mut answers = Vec::new();
    for (path, body) in [(path.as_str(), &whole), (QUERY, &half), (QUERY, &text)] {
        answers.push(post(&send, path, ("x-case", CASE), body.clone()).await);
    }
    for header in headers {
        answers.push(post(&send, QUERY, (header, code), text.clone()).await);
    }
    // The name of an unknown compression tonic says back to the caller, who knows it; it must go nowhere else.
    post(&send, QUERY, ("grpc-encoding", code), text).await;
    // In the name of the server that is asked for; it is refused on this side, after the exchange has heard it.
    let name = format!("{}.example", code.to_lowercase());
    let ca = data.join("pki/ca.crt");
    assert!(connect(LOCALHOST, exchange.address, &name, &ca, None).await.is_err());
    answers
}

/// Calls, and returns all that came back as text.
async fn post(send: &SendRequest<Bytes>, path: &str, header: (&str, &str), body: Bytes) -> String {
    let request = http_request(path).header(header.0, header.1).body(()).unwrap();
    let mut send = send.clone().ready().await.unwrap();
    let (response, mut sending) = send.send_request(request, false).unwrap();
    // It may be refused before it is sent.
    drop(sending.send_data(body, true));
    let answer = async {
        let (head, mut body) = response.await?.into_parts();
        let mut text = format!("{head:?}");
        while let Some(data) = body.data().await {
            text.push_str(&String::from_utf8_lossy(&data?));
        }
        text.push_str(&format!("{:?}", body.trailers().await?));
        Ok::<_, h2::Error>(text)
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it answers");
    answer.unwrap_or_else(|error| error.to_string())
}

/// All that a status says.
fn everything(status: &Status) -> String {
    format!("{status:?}{}{:?}", String::from_utf8_lossy(status.details()), status.metadata())
}

async fn stop(exchange: Exchange) -> (String, String) {
    let said = exchange.said();
    assert!(exchange.stop().await.success());
    said.all()
}

/// The files that the exchange has made, but those that are handed to people: certificates, keys and the list of persons.
fn files(data: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for directory in [data.to_owned(), data.join("ledger"), data.join("objects")] {
        let deep = directory.ends_with("objects");
        find_files(&directory, deep, &mut files);
    }
    files.retain(|path| !path.ends_with("persons.txt"));
    let read: Vec<_> = files.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect();
    let day = format_date(airut_testkit::now().date());
    let key = format!("objects/keys/message/{day}/pirkanmaa");
    for name in ["log.sqlite", "log.sqlite-wal", "folds.sqlite", "ledger.sqlite", &key] {
        assert!(read.iter().any(|(path, _)| path.ends_with(name)), "{name} is looked into");
    }
    read
}

fn find_files(directory: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_file() => found.push(path),
            path if deep => find_files(&path, deep, found),
            _ => {}
        }
    }
}

/// Every secret of the key ring, as it is and in hexadecimal.
fn secrets(data: &Path) -> Vec<Vec<u8>> {
    let ring = fs::read_to_string(data.join("keys/ring.toml")).unwrap();
    let texts = ring.lines().filter_map(|line| line.split('"').nth(1)).filter(|text| text.len() == 64);
    let bytes = |text: &str| -> Vec<u8> {
        let digits = (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
        digits.collect::<Result<_, _>>().unwrap()
    };
    texts.flat_map(|text| [text.as_bytes().to_vec(), bytes(text)]).collect()
}

/// What must not be found.
struct Needles {
    codes: HashSet<Vec<u8>>,
    longest: usize,
}

impl Needles {
    fn new(persons: &[String]) -> Self {
        let codes: HashSet<Vec<u8>> = persons.iter().map(|code| code.to_uppercase().into_bytes()).collect();
        let longest = codes.iter().map(Vec::len).max().unwrap();
        assert!(codes.iter().all(|code| code.len() == longest), "identity codes have one length");
        Self { codes, longest }
    }

    /// In any case of letters.
    fn found_in(&self, bytes: &[u8]) -> HashSet<String> {
        let bytes = bytes.to_ascii_uppercase();
        // Looking for six digits first is quicker.
        let dated = bytes.windows(self.longest).filter(|window| window[..6].iter().all(u8::is_ascii_digit));
        let codes = dated.filter(|window| self.codes.contains(*window));
        let mut found: HashSet<String> = codes.map(|code| String::from_utf8_lossy(code).into_owned()).collect();
        let texts = [OFFICIAL, CASE, PAYLOAD_TEXT, REJECTION_TEXT]
            .into_iter()
            .filter(|text| occurs(text.to_uppercase().as_bytes(), &bytes));
        found.extend(texts.map(str::to_owned));
        found
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        let found = self.found_in(bytes);
        let Some(first) = found.iter().next() else { return };
        let text = String::from_utf8_lossy(bytes).to_uppercase();
        let line = text.lines().find(|line| line.contains(&first.to_uppercase())).unwrap_or_default();
        let line: String = line.chars().take(600).collect();
        panic!("{place} holds {} of what must not be there: {line}", found.len());
    }
}

fn occurs(needle: &[u8], bytes: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
