//! Documents: what is sent is stored sealed, its recipient learns of it, and fetches what was sent, on record.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use airut_domain::{
    delivery::{Direction, Right},
    document::Event,
    keys::Digest,
    partition::Topic,
    partner::Partner,
    record::Kind,
    refusal::Reason,
};
use airut_exchange::{FoldStore, Gateway, Scan, delivery_service, document_service};
use airut_store::Objects;
use airut_wire::v1::{
    self,
    delivery_service_client::DeliveryServiceClient,
    delivery_service_server::{DeliveryService, DeliveryServiceServer},
    document_service_client::DocumentServiceClient,
    document_service_server::{DocumentService, DocumentServiceServer},
    fetch_document_response as f, send_document_request as s,
};
use bytes::Bytes;

use crate::{
    edge::identified,
    support::{Sandbox, partners, person, right, soon},
};

const MIB: usize = 1024 * 1024;

type Client<S> = DocumentServiceClient<DocumentServiceServer<S>>;

fn client(sandbox: &Sandbox, at: usize, partner: &'static str) -> Client<impl DocumentService> {
    let caller_of: airut_exchange::CallerOf = Arc::new(move |_, registry| identified(registry, partner));
    DocumentServiceClient::new(document_service(sandbox.gateways[at].clone(), caller_of))
}

fn mailbox(
    sandbox: &Sandbox,
    partner: &'static str,
) -> DeliveryServiceClient<DeliveryServiceServer<impl DeliveryService>> {
    let caller_of: airut_exchange::CallerOf = Arc::new(move |_, registry| identified(registry, partner));
    DeliveryServiceClient::new(delivery_service(sandbox.gateways[0].clone(), caller_of))
}

/// `pirkanmaa` may send papers to `kela`.
fn parties() -> Vec<Partner> {
    let papers =
        |direction, with: &str| Right { message_types: ["paper".parse().unwrap()].into(), ..right(direction, &[with]) };
    let mut partners = partners();
    partners[0].deliveries.push(papers(Direction::Receive, "kind:wellbeing-services-county"));
    partners[1].deliveries.push(papers(Direction::Send, "kela"));
    partners
}

async fn sandbox(gateways: usize) -> Sandbox {
    let sandbox = Sandbox::with_gateways(gateways).await;
    sandbox.apply(parties()).await;
    sandbox
}

/// A PDF by its first line, and nothing to be compressed after it.
fn pdf(bytes: usize) -> Bytes {
    let mut content = b"%PDF-1.7\n".to_vec();
    let mut state = 1u64;
    while content.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&state.to_be_bytes());
    }
    content.truncate(bytes);
    content.into()
}

fn context() -> v1::Context {
    v1::Context {
        end_user: "meri.virtanen".into(),
        end_user_role: "social-worker".into(),
        purpose: "social-work".into(),
        legal_basis: "1301/2014".into(),
        case_id: "case-1".into(),
    }
}

fn metadata(id: &str, content: &[u8]) -> v1::DocumentMetadata {
    v1::DocumentMetadata {
        document_id: id.into(),
        recipient: "kela".into(),
        document_type: "paper".into(),
        subject_id: person(0).as_str().into(),
        context: Some(context()),
        file_name: "tiliote.pdf".into(),
        content_type: "application/pdf".into(),
        size_bytes: content.len().try_into().unwrap(),
        sha256: Digest::of(content).0.to_vec(),
    }
}

fn begin(metadata: v1::DocumentMetadata, offset: i64) -> v1::SendDocumentRequest {
    let begin = s::Begin { metadata: Some(metadata), offset };
    v1::SendDocumentRequest { message: Some(s::Message::Begin(begin)) }
}

fn said(metadata: v1::DocumentMetadata, offset: usize, content: &Bytes) -> Vec<v1::SendDocumentRequest> {
    let chunk = |from: usize| {
        let chunk = content.slice(from..(from + MIB).min(content.len()));
        v1::SendDocumentRequest { message: Some(s::Message::Chunk(chunk)) }
    };
    let chunks = (offset..content.len()).step_by(MIB).map(chunk);
    std::iter::once(begin(metadata, offset.try_into().unwrap())).chain(chunks).collect()
}

async fn send(
    sandbox: &Sandbox,
    at: usize,
    metadata: v1::DocumentMetadata,
    content: &Bytes,
) -> Result<v1::Receipt, tonic::Status> {
    let said = said(metadata, 0, content);
    let sent = soon(client(sandbox, at, "pirkanmaa").send_document(tokio_stream::iter(said))).await;
    sent.map(|sent| sent.into_inner().receipt.unwrap())
}

fn request(id: &str) -> v1::FetchDocumentRequest {
    v1::FetchDocumentRequest {
        sender: "pirkanmaa".into(),
        document_id: id.into(),
        context: Some(context()),
        offset: 0,
        length: 0,
    }
}

async fn fetch(
    sandbox: &Sandbox,
    partner: &'static str,
    request: v1::FetchDocumentRequest,
) -> Result<(v1::DocumentMetadata, Vec<u8>), tonic::Status> {
    let mut parts = soon(client(sandbox, 0, partner).fetch_document(request)).await?.into_inner();
    let (mut metadata, mut content) = (None, Vec::new());
    while let Some(part) = soon(parts.message()).await? {
        match part.message.unwrap() {
            f::Message::Metadata(said) => assert!(metadata.replace(said).is_none() && content.is_empty()),
            f::Message::Chunk(chunk) => content.extend_from_slice(&chunk),
        }
    }
    Ok((metadata.expect("it comes first"), content))
}

async fn claim_checks(sandbox: &Sandbox, partner: &'static str) -> Vec<v1::SendRequest> {
    let pull = v1::PullRequest { max_messages: 100, ..v1::PullRequest::default() };
    let pulled = soon(mailbox(sandbox, partner).pull(pull)).await.unwrap().into_inner();
    pulled.deliveries.into_iter().map(|delivery| delivery.message.unwrap()).collect()
}

fn story(sandbox: &Sandbox) -> Vec<&'static str> {
    sandbox.ground.records(Topic::Documents).iter().map(|(_, header)| header.kind.name()).collect()
}

fn reason(status: &tonic::Status) -> Reason {
    airut_wire::reason_of(status).expect("a reason")
}

#[tokio::test(start_paused = true)]
async fn a_document_is_sent_its_recipient_learns_of_it_and_fetches_it_on_record() {
    let sandbox = sandbox(1).await;
    let content = pdf(9 * MIB + 17);
    let receipt = send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    assert_eq!((receipt.id.as_str(), receipt.recipient.as_str()), ("d-1", "kela"));
    assert_eq!(receipt.payload_sha256, Digest::of(&content).0);

    let checks = claim_checks(&sandbox, "kela").await;
    let [check] = &checks[..] else { panic!("{} claim checks", checks.len()) };
    assert_eq!((check.message_type.as_str(), check.recipient.as_str()), ("paper", "kela"));
    let payload: serde_json::Value = serde_json::from_slice(&check.payload).unwrap();
    assert_eq!(payload["document_id"], "d-1");
    assert_eq!(payload["sender"], "pirkanmaa");
    assert_eq!(payload["file_name"], "tiliote.pdf");
    assert_eq!(payload["sha256"], Digest::of(&content).to_string());

    let (said, fetched) = fetch(&sandbox, "kela", request("d-1")).await.unwrap();
    assert_eq!(said, metadata("d-1", &content));
    assert!(fetched == content, "what was sent");
    assert_eq!(story(&sandbox), ["document begun", "document stored", "document announced", "document fetched"]);
    let stranger = fetch(&sandbox, "helsinki", request("d-1")).await.unwrap_err();
    assert_eq!(reason(&stranger), Reason::NotFound);
    let repeated = send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    assert_eq!(repeated.position, receipt.position, "the same receipt");
    assert_eq!(story(&sandbox).len(), 4, "and nothing more on record");
    let fetches = sandbox.ground.records(Topic::Documents).into_iter().filter_map(|(_, header)| match header.kind {
        Kind::Document(Event::Fetched(fetched)) => Some((fetched.by.to_string(), fetched.from, fetched.length)),
        _ => None,
    });
    assert_eq!(fetches.collect::<Vec<_>>(), [("kela".to_owned(), 0, content.len() as u64)]);
}

/// The size of a segment.
const SEGMENT: usize = 4 * MIB;

async fn upload(sandbox: &Sandbox, at: usize, id: &str) -> v1::GetUploadResponse {
    let request = v1::GetUploadRequest { document_id: id.into() };
    soon(client(sandbox, at, "pirkanmaa").get_upload(request)).await.unwrap().into_inner()
}

/// Says only so many bytes of it, and then that this is all.
async fn send_part(
    sandbox: &Sandbox,
    at: usize,
    metadata: v1::DocumentMetadata,
    content: &Bytes,
    from: usize,
    to: usize,
) -> tonic::Status {
    let said = said(metadata, from, &content.slice(..to));
    soon(client(sandbox, at, "pirkanmaa").send_document(tokio_stream::iter(said))).await.expect_err("not all of it")
}

/// The fields at fault.
fn fields(status: &tonic::Status) -> Vec<String> {
    let details = tonic_types::StatusExt::get_details_bad_request(status);
    details.map(|details| details.field_violations.into_iter().map(|field| field.field).collect()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_where_it_was_at_another_gateway() {
    let sandbox = sandbox(2).await;
    let content = pdf(3 * SEGMENT + 5);
    let metadata = metadata("d-1", &content);
    let short = send_part(&sandbox, 0, metadata.clone(), &content, 0, 2 * SEGMENT + 77).await;
    assert_eq!((reason(&short), fields(&short)), (Reason::InvalidField, vec!["chunk".to_owned()]));
    sandbox.caught_up().await;
    let there = upload(&sandbox, 1, "d-1").await;
    assert_eq!((there.state(), there.received_bytes), (v1::UploadState::Uploading, 2 * SEGMENT as i64));
    assert!(there.expire_time.is_some() && there.fetch_time.is_none());

    let beyond = send_part(&sandbox, 1, metadata.clone(), &content, 2 * SEGMENT + 1, content.len()).await;
    assert_eq!(fields(&beyond), ["offset"]);
    // From before that: what is there is passed over.
    let said = said(metadata.clone(), SEGMENT + 9, &content);
    let sent = soon(client(&sandbox, 1, "pirkanmaa").send_document(tokio_stream::iter(said))).await.unwrap();
    let receipt = sent.into_inner().receipt.unwrap();
    assert_eq!(receipt.payload_sha256, metadata.sha256);
    sandbox.caught_up().await;
    let again = send(&sandbox, 0, metadata.clone(), &content).await.unwrap();
    assert_eq!((again.position, again.accept_time), (receipt.position, receipt.accept_time));
    assert_eq!(story(&sandbox), ["document begun", "document stored", "document announced"]);
    let (_, fetched) = fetch(&sandbox, "kela", request("d-1")).await.unwrap();
    assert!(fetched == content);
    let there = upload(&sandbox, 0, "d-1").await;
    assert_eq!((there.state(), there.received_bytes), (v1::UploadState::Stored, content.len() as i64));
    assert!(there.fetch_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_document_sent_twice_at_once_is_stored_once_and_told_of_once() {
    let sandbox = sandbox(2).await;
    let content = pdf(2 * SEGMENT + 5);
    let sends = [0, 1, 0, 1].map(|at| send(&sandbox, at, metadata("d-1", &content), &content));
    let mut receipts = Vec::new();
    for sent in futures::future::join_all(sends).await {
        match sent {
            Ok(receipt) => receipts.push(receipt.position),
            // Another call lets it pass just now.
            Err(status) => assert_eq!(reason(&status), Reason::DocumentHeld),
        }
    }
    sandbox.caught_up().await;
    receipts.push(send(&sandbox, 1, metadata("d-1", &content), &content).await.unwrap().position);
    receipts.dedup();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(claim_checks(&sandbox, "kela").await.len(), 1);
    assert!(fetch(&sandbox, "kela", request("d-1")).await.unwrap().1 == content);
}

#[tokio::test(start_paused = true)]
async fn what_a_document_is_not_is_told_precisely_and_nothing_of_it_stays() {
    let sandbox = sandbox(1).await;
    let content = pdf(SEGMENT + 100);
    let zip: Bytes = [&b"PK\x03\x04"[..], &content[..]].concat().into();
    let other = Bytes::from_static(b"%PDF-1.7\nsomething else");
    let wrong_digest = send(&sandbox, 0, metadata("d-1", &content), &flipped(&content)).await.unwrap_err();
    assert_eq!(reason(&wrong_digest), Reason::DigestMismatch);
    let there = upload(&sandbox, 0, "d-1").await;
    assert_eq!((there.state(), there.reason.as_str()), (v1::UploadState::Rejected, "DIGEST_MISMATCH"));
    let as_pdf = send(&sandbox, 0, metadata("d-2", &zip), &zip).await.unwrap_err();
    assert_eq!(reason(&as_pdf), Reason::ContentTypeMismatch);
    let text = |content: &Bytes| v1::DocumentMetadata {
        content_type: "text/plain".into(),
        file_name: "a.txt".into(),
        ..metadata("d-3", content)
    };
    // A text that ends within a character, and one with a NUL in its second segment.
    let mut long = vec![b'a'; SEGMENT + 10];
    long[SEGMENT + 5] = 0;
    for bad in [Bytes::from_static(b"p\xc3"), long.into()] {
        let refused = send(&sandbox, 0, text(&bad), &bad).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::ContentTypeMismatch);
    }
    assert!(sandbox.objects().is_empty(), "{:?}", sandbox.objects());
    // The ids may be used again, for whatever it is.
    for id in ["d-1", "d-2", "d-3"] {
        send(&sandbox, 0, metadata(id, &other), &other).await.unwrap();
    }
    let reused = send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap_err();
    assert_eq!(reason(&reused), Reason::DocumentIdReused);
    let reasons: Vec<Reason> = sandbox.refusals().iter().map(|refused| refused.reason).collect();
    let told = [Reason::DigestMismatch, Reason::ContentTypeMismatch, Reason::DocumentIdReused];
    assert!(told.iter().all(|reason| reasons.contains(reason)), "{reasons:?}");
}

fn flipped(content: &Bytes) -> Bytes {
    let mut other = content.to_vec();
    *other.last_mut().unwrap() ^= 1;
    other.into()
}

#[tokio::test(start_paused = true)]
async fn every_field_at_fault_is_named_before_anything_is_stored() {
    let sandbox = sandbox(1).await;
    let content = pdf(1000);
    let good = || metadata("d-1", &content);
    let long = "x".repeat(10_000);
    let with = |change: &dyn Fn(&mut v1::DocumentMetadata)| {
        let mut metadata = good();
        change(&mut metadata);
        metadata
    };
    let named = |name: &str| with(&|metadata| metadata.file_name = name.into());
    for (metadata, field) in [
        (with(&|metadata| metadata.size_bytes = 0), "size_bytes"),
        (with(&|metadata| metadata.size_bytes = -1), "size_bytes"),
        (with(&|metadata| metadata.size_bytes = 101 * MIB as i64), "size_bytes"),
        (with(&|metadata| metadata.size_bytes = 2 << 30), "size_bytes"),
        (with(&|metadata| metadata.sha256.truncate(31)), "sha256"),
        (with(&|metadata| metadata.sha256.clear()), "sha256"),
        (with(&|metadata| metadata.content_type = "application/zip".into()), "content_type"),
        (with(&|metadata| metadata.content_type.clear()), "content_type"),
        (with(&|metadata| metadata.subject_id = "somebody".into()), "subject_id"),
        (with(&|metadata| metadata.context.as_mut().unwrap().case_id.clear()), "context.case_id"),
        (with(&|metadata| metadata.document_id = "a b".into()), "document_id"),
        (named("../../etc/passwd"), "file_name"),
        (named("a\0.pdf"), "file_name"),
        (named("laskufdp.\u{202e}exe"), "file_name"),
        (named(""), "file_name"),
        (named(&long), "file_name"),
    ] {
        let refused = send(&sandbox, 0, metadata, &content).await.unwrap_err();
        assert_eq!(fields(&refused), [field], "{refused}");
    }
    for (metadata, expected) in [
        (with(&|metadata| metadata.recipient = "helsinki".into()), Reason::NoContract),
        (
            with(&|metadata| metadata.context.as_mut().unwrap().purpose = "pension-processing".into()),
            Reason::NoContract,
        ),
        (with(&|metadata| metadata.document_type = "notice".into()), Reason::NoContract),
    ] {
        assert_eq!(reason(&send(&sandbox, 0, metadata, &content).await.unwrap_err()), expected);
    }
    // One byte more than was said, and a chunk before the document.
    let longer = Bytes::from([&content[..], b"x"].concat());
    let refused = send(&sandbox, 0, good(), &longer).await.unwrap_err();
    assert_eq!(fields(&refused), ["chunk"]);
    let mut told = said(good(), 0, &content);
    told.reverse();
    let refused = client(&sandbox, 0, "pirkanmaa").send_document(tokio_stream::iter(told)).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::ProtocolViolation);
    assert_eq!(story(&sandbox), ["document begun"]);
    assert!(claim_checks(&sandbox, "kela").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_part_is_fetched_by_its_range_and_each_is_on_record() {
    let sandbox = sandbox(1).await;
    let content = pdf(2 * SEGMENT + 100);
    send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    let size = content.len();
    for (from, length) in [(0, 1), (SEGMENT - 1, 2), (SEGMENT, SEGMENT), (5, 2 * SEGMENT), (size - 1, 1), (3, 0)] {
        let ranged = v1::FetchDocumentRequest { offset: from as i64, length: length as i64, ..request("d-1") };
        let (_, part) = fetch(&sandbox, "kela", ranged).await.unwrap();
        let end = if length == 0 { size } else { from + length };
        assert!(part == content[from..end], "{from}, {length}");
    }
    for (from, length, field) in [(size, 0, "offset"), (0, size + 1, "length"), (9, size - 8, "length")] {
        let ranged = v1::FetchDocumentRequest { offset: from as i64, length: length as i64, ..request("d-1") };
        assert_eq!(fields(&fetch(&sandbox, "kela", ranged).await.unwrap_err()), [field]);
    }
    for (from, length, field) in [(-1, 0, "offset"), (0, -1, "length")] {
        let ranged = v1::FetchDocumentRequest { offset: from, length, ..request("d-1") };
        assert_eq!(fields(&fetch(&sandbox, "kela", ranged).await.unwrap_err()), [field]);
    }
    assert_eq!(story(&sandbox).iter().filter(|name| **name == "document fetched").count(), 6);
}

#[tokio::test(start_paused = true)]
async fn nobody_but_its_recipient_is_given_a_document_and_only_for_a_granted_purpose() {
    let sandbox = sandbox(1).await;
    let content = pdf(1000);
    send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    // Its own sender, a stranger, another's id, one that is not there: all the same.
    for (partner, sender, id) in [
        ("pirkanmaa", "pirkanmaa", "d-1"),
        ("helsinki", "pirkanmaa", "d-1"),
        ("kela", "helsinki", "d-1"),
        ("kela", "pirkanmaa", "d-2"),
    ] {
        let forged = v1::FetchDocumentRequest { sender: sender.into(), ..request(id) };
        let refused = fetch(&sandbox, partner, forged).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::NotFound, "{partner} {sender} {id}");
    }
    let other = client(&sandbox, 0, "helsinki").get_upload(v1::GetUploadRequest { document_id: "d-1".into() }).await;
    assert_eq!(reason(&other.unwrap_err()), Reason::NotFound);
    let mut otherwise = request("d-1");
    otherwise.context.as_mut().unwrap().purpose = "pension-processing".into();
    assert_eq!(reason(&fetch(&sandbox, "kela", otherwise).await.unwrap_err()), Reason::NoContract);
    let nobody = v1::FetchDocumentRequest { context: None, ..request("d-1") };
    assert_eq!(reason(&fetch(&sandbox, "kela", nobody).await.unwrap_err()), Reason::MissingField);
    // A right that is lost is lost for what was sent before.
    sandbox.apply(partners()).await;
    assert_eq!(reason(&fetch(&sandbox, "kela", request("d-1")).await.unwrap_err()), Reason::NoContract);
    assert_eq!(story(&sandbox).len(), 3, "nothing was fetched");
}

#[tokio::test(start_paused = true)]
async fn nobody_sends_a_claim_check_by_itself_and_nobody_passes_one_on() {
    let sandbox = sandbox(1).await;
    let forged = v1::SendRequest {
        message_id: "document/1/2".into(),
        recipient: "kela".into(),
        message_type: "paper".into(),
        content_type: "application/json".into(),
        payload: b"{}".to_vec(),
        subject_id: person(0).as_str().into(),
        context: Some(context()),
        ..v1::SendRequest::default()
    };
    let refused = soon(mailbox(&sandbox, "pirkanmaa").send(forged)).await.unwrap_err();
    assert_eq!(fields(&refused), ["message_type"], "{refused}");
    let content = pdf(1000);
    send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    let pull = v1::PullRequest { max_messages: 1, ..v1::PullRequest::default() };
    let pulled = soon(mailbox(&sandbox, "kela").pull(pull)).await.unwrap().into_inner();
    let transfer = v1::TransferRequest {
        delivery_id: pulled.deliveries[0].delivery_id.clone(),
        recipient: "helsinki".into(),
        context: Some(context()),
    };
    let refused = soon(mailbox(&sandbox, "kela").transfer(transfer)).await.unwrap_err();
    assert_eq!(fields(&refused), ["delivery_id"], "{refused}");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_callers_are_told_so_and_the_upload_goes_on_after_it() {
    let sandbox = sandbox(1).await;
    let content = pdf(SEGMENT + 10);
    sandbox.ground.memory.go_down();
    // Not even what it is called can be sealed.
    let refused = send(&sandbox, 0, metadata("d-0", &content), &content).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::LogUnavailable);
    sandbox.ground.memory.come_up();
    send(&sandbox, 0, metadata("d-0", &content), &content).await.unwrap();
    let before = story(&sandbox).len();
    sandbox.ground.memory.go_down();
    let refused = send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StoreUnavailable);
    let asked = client(&sandbox, 0, "pirkanmaa").get_upload(v1::GetUploadRequest { document_id: "d-1".into() }).await;
    assert_eq!(reason(&asked.unwrap_err()), Reason::StoreUnavailable);
    sandbox.ground.memory.come_up();
    send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    sandbox.ground.memory.go_down();
    let refused = fetch(&sandbox, "kela", request("d-1")).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::StoreUnavailable);
    assert_eq!(story(&sandbox).len(), before + 3, "begun, stored, announced; nothing was fetched");
}

/// So much later, and a little more for what is due then.
async fn later(sandbox: &Sandbox, time: Duration) {
    tokio::time::advance(time).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    sandbox.caught_up().await;
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_upload_ends_after_a_day_and_a_document_when_it_was_kept_long_enough() {
    let sandbox = sandbox(2).await;
    let content = pdf(2 * SEGMENT);
    send_part(&sandbox, 0, metadata("d-1", &content), &content, 0, SEGMENT).await;
    let small = pdf(1000);
    send(&sandbox, 1, metadata("d-2", &small), &small).await.unwrap();
    later(&sandbox, Duration::from_secs(24 * 3600)).await;
    assert_eq!(upload(&sandbox, 0, "d-1").await.state(), v1::UploadState::Expired);
    let left = sandbox.objects();
    assert_eq!(left.len(), 2, "the other's segment and key: {left:?}");
    assert!(fetch(&sandbox, "kela", request("d-2")).await.is_ok());

    later(&sandbox, Duration::from_secs(89 * 24 * 3600)).await;
    assert_eq!(upload(&sandbox, 0, "d-2").await.state(), v1::UploadState::Erased);
    assert_eq!(reason(&fetch(&sandbox, "kela", request("d-2")).await.unwrap_err()), Reason::DocumentGone);
    let again = send(&sandbox, 0, metadata("d-2", &small), &small).await.unwrap_err();
    assert_eq!(reason(&again), Reason::DocumentGone);
    assert!(sandbox.objects().is_empty(), "{:?}", sandbox.objects());
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_shows_nothing_and_is_gone_with_its_key() {
    let sandbox = sandbox(1).await;
    let content = pdf(SEGMENT + 40);
    send(&sandbox, 0, metadata("d-1", &content), &content).await.unwrap();
    let objects = Objects::memory(&sandbox.ground.memory);
    let names = sandbox.objects();
    assert_eq!(names.len(), 3, "two segments and a key: {names:?}");
    let known: BTreeSet<[u8; 8]> = content.chunks_exact(8).map(|part| part.try_into().unwrap()).collect();
    for name in names {
        let bytes = soon(objects.read(&name.parse().unwrap())).await.unwrap().unwrap();
        let shows = bytes.windows(8).any(|window| known.contains(window));
        assert!(!shows, "{name} shows what was sent");
    }
    let begun = sandbox.ground.records(Topic::Documents)[0].0.position;
    let key = format!("content/{}/{}", begun.partition.number, begun.offset).parse().unwrap();
    soon(sandbox.gateways[0].keys().erase(&key)).await.unwrap();
    let refused = fetch(&sandbox, "kela", request("d-1")).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::DocumentGone);
    assert_eq!(sandbox.objects().len(), 2, "the segments are there, and nobody can open them");
}

#[tokio::test(start_paused = true)]
async fn a_document_that_one_gateway_can_not_let_pass_is_passed_on_by_another() {
    let mut sandbox = sandbox(1).await;
    let mut settings = sandbox.ground.settings("gateway-9", FoldStore::Memory, sandbox.ground.world());
    // A scan that says nothing.
    settings.scan = Some(Scan { command: Vec::new(), timeout: Duration::from_secs(1) });
    sandbox.gateways.push(soon(Gateway::start(settings)).await.unwrap());
    let content = pdf(1000);
    let held = send(&sandbox, 1, metadata("d-1", &content), &content).await.unwrap_err();
    assert_eq!(reason(&held), Reason::DocumentHeld);
    assert_eq!(upload(&sandbox, 1, "d-1").await.state(), v1::UploadState::Held);
    assert_eq!(reason(&fetch(&sandbox, "kela", request("d-1")).await.unwrap_err()), Reason::NotFound);
    assert!(claim_checks(&sandbox, "kela").await.is_empty());
    tokio::time::sleep(Duration::from_secs(10)).await;
    sandbox.caught_up().await;
    assert_eq!(upload(&sandbox, 1, "d-1").await.state(), v1::UploadState::Stored);
    assert_eq!(claim_checks(&sandbox, "kela").await.len(), 1);
    let receipt = send(&sandbox, 1, metadata("d-1", &content), &content).await.unwrap();
    assert_eq!(receipt.payload_sha256, Digest::of(&content).0);
}

#[tokio::test(start_paused = true)]
async fn a_document_whose_recipient_may_no_longer_be_given_it_is_rejected() {
    let mut sandbox = sandbox(1).await;
    let mut settings = sandbox.ground.settings("gateway-9", FoldStore::Memory, sandbox.ground.world());
    settings.scan = Some(Scan { command: Vec::new(), timeout: Duration::from_secs(1) });
    sandbox.gateways.push(soon(Gateway::start(settings)).await.unwrap());
    let content = pdf(1000);
    send(&sandbox, 1, metadata("d-1", &content), &content).await.unwrap_err();
    sandbox.apply(partners()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    sandbox.caught_up().await;
    let there = upload(&sandbox, 1, "d-1").await;
    assert_eq!((there.state(), there.reason.as_str()), (v1::UploadState::Rejected, "NO_CONTRACT"));
    assert!(sandbox.objects().is_empty() && claim_checks(&sandbox, "kela").await.is_empty());
}

/// A scan command: this script.
fn script(text: &str) -> Option<Scan> {
    let command = ["sh", "-c", text].map(str::to_owned).to_vec();
    Some(Scan { command, timeout: Duration::from_secs(2) })
}

#[tokio::test]
async fn a_scan_lets_pass_rejects_or_holds() {
    let mut sandbox = sandbox(1).await;
    let content = pdf(2 * SEGMENT + 3);
    let digest = Digest::of(&content);
    for (number, (text, expected)) in [
        // It sees all of the content.
        (format!("[ $(sha256sum | cut -d' ' -f1) = {digest} ]"), None),
        ("exit 1".to_owned(), Some(Reason::ContentRejected)),
        ("cat > /dev/null; exit 1".to_owned(), Some(Reason::ContentRejected)),
        ("exit 2".to_owned(), Some(Reason::DocumentHeld)),
        ("kill -9 $$".to_owned(), Some(Reason::DocumentHeld)),
        ("exec sleep 1000".to_owned(), Some(Reason::DocumentHeld)),
        ("exec /nowhere/scan".to_owned(), Some(Reason::DocumentHeld)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("scanning-{number}");
        let mut settings = sandbox.ground.settings(&name, FoldStore::Memory, sandbox.ground.world());
        settings.scan = script(&text);
        sandbox.gateways.truncate(1);
        sandbox.gateways.push(soon(Gateway::start(settings)).await.unwrap());
        let sent = send(&sandbox, 1, metadata(&name, &content), &content).await;
        assert_eq!(sent.as_ref().err().map(reason), expected, "{text}: {sent:?}");
        if expected == Some(Reason::ContentRejected) {
            assert_eq!(upload(&sandbox, 1, &name).await.state(), v1::UploadState::Rejected);
        }
        sandbox.gateways[1].stop(Duration::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_partner_does_not_take_all_the_places() {
    let sandbox = sandbox(1).await;
    let content = pdf(2 * MIB);
    let mut open = Vec::new();
    for number in 0..9 {
        let (say, said) = tokio::sync::mpsc::channel(4);
        say.send(begin(metadata(&format!("d-{number}"), &content), 0)).await.unwrap();
        let mut client = client(&sandbox, 0, "pirkanmaa");
        let sent = tokio::spawn(async move {
            client.send_document(tokio_stream::wrappers::ReceiverStream::new(said)).await.map(drop)
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        open.push((say, sent));
    }
    let (_, ninth) = open.pop().unwrap();
    assert_eq!(reason(&soon(ninth).await.unwrap().unwrap_err()), Reason::TooManyInFlight);
    // One that says nothing is given up, and its place is free.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let (_say, silent) = open.pop().unwrap();
    assert_eq!(reason(&soon(silent).await.unwrap().unwrap_err()), Reason::ProtocolViolation);
    send(&sandbox, 0, metadata("d-8", &content), &content).await.unwrap();
}
