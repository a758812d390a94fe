//! Whoever misbehaves on the real port, the others are served; and whoever is not let in is told apart, at a bounded price.
//!
//! Attackers come from networks of their own (Linux has all of 127/8 on one machine), because some bounds are a network's.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use airut_client::{CallError, Client, Settings};
use airut_domain::{
    record::{Header, Kind, Refused},
    refusal::Reason,
};
use airut_identity::dev_ca::{DevCa, Issued, Leaf};
use airut_testkit::{eventually, now, require};
use airut_wire::v1::{
    GetInclusionProofRequest, ServeRequest, ServeResponse, ledger_service_client::LedgerServiceClient,
    query_service_client::QueryServiceClient, serve_request, serve_response,
};
use futures::{StreamExt, stream};
use prost::{Message, bytes::Bytes};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::support::{
    Data, Exchange, LOCALHOST, PATIENCE, QUERY, airut, ask, channel, connect, connect_as, dev, entries, gauge,
    grpc_frame, http_request, http2, persons, question, seed, tell,
};

/// While others misbehave a caller is answered within this, but for one in a hundred. Generous: what is left of a small
/// machine is what the attackers, who run on it as well, leave.
const P99: Duration = Duration::from_secs(15);

/// So many questions are asked once an attack has come to its end, while what it holds is held.
const HELD: usize = 20;

/// A suspended partner has lost what it had open within this.
const CUT_WITHIN: Duration = Duration::from_secs(10);

/// HTTP/2's greeting, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An attacker's network.
fn network(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 66, number, 1).into()
}

/// Lets an attack run its course, while a partner asks and asks, over its one connection and over new ones, and then some more
/// while what the attack holds is still held. Every question must be answered.
async fn others_are_served<T>(exchange: &Exchange, data: &Path, what: &str, attack: impl Future<Output = T>) -> T {
    let subject = persons(data).pop().unwrap();
    let kept = channel(data, exchange.address, "pirkanmaa").await;
    eventually(PATIENCE, async || ask(&kept, &question(&format!("{what}-first"), &subject), PATIENCE).await.is_ok())
        .await;
    let began = Instant::now();
    let mut times = Vec::new();
    let mut attack = std::pin::pin!(attack);
    let mut held = None;
    let mut answered_before = 0;
    while held.is_none() || times.len() < answered_before + HELD {
        let asked = Instant::now();
        let request = question(&format!("{what}-{}", times.len()), &subject);
        let over_new_connection = times.len().is_multiple_of(4);
        let mut asking = std::pin::pin!(async {
            let channel = match over_new_connection {
                true => channel(data, exchange.address, "pirkanmaa").await,
                false => kept.clone(),
            };
            let answer = ask(&channel, &request, PATIENCE).await;
            answer.unwrap_or_else(|status| panic!("{what}: {} is not answered: {status}", request.query_id));
        });
        loop {
            tokio::select! {
                () = &mut asking => break,
                outcome = &mut attack, if held.is_none() => {
                    (held, answered_before) = (Some(outcome), times.len());
                }
            }
        }
        times.push(asked.elapsed());
    }
    let took = began.elapsed();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    tell(&format!("{what}: {took:.1?}, {} others' questions answered meanwhile, 99 % within {p99:.0?}", times.len()));
    assert!(p99 < P99, "{what}: {p99:?}");
    held.expect("it ran to its end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_oversized_messages_end_their_own_connection_only() {
    let mut random = StdRng::seed_from_u64(seed());
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let mut garbage = malformed();
    for _ in 0..20 {
        let mut noise = vec![0; 40_000];
        random.fill_bytes(&mut noise);
        garbage.push([PREFACE, &noise].concat());
        garbage.push(noise);
    }
    others_are_served(&exchange, data.path(), "garbage", async {
        for bytes in &garbage {
            let mut tls = connect_as(data.path(), network(1), exchange.address, "helsinki").await.unwrap();
            // It may be cut before it has said all.
            drop(tls.write_all(bytes).await);
            drop(tls.flush().await);
            ends(&mut tls).await;
        }
        for message in
            [grpc_frame(&vec![7; 5 << 20]), Bytes::from_static(&[0, 1, 0, 0, 0]), Bytes::from_static(&[9; 5])]
        {
            let status = grpc_status(&exchange, data.path(), message).await;
            assert!(status.as_deref().is_some_and(|status| status != "0"), "{status:?}");
        }
    })
    .await;
    assert!(exchange.stop().await.success());
}

/// Frames that no HTTP/2 peer may send, after a good greeting.
fn malformed() -> Vec<Vec<u8>> {
    let frames: [&[u8]; 6] = [
        b"\xff\xff\xff\0\0\0\0\0\x01",     // DATA of 16 MiB on a stream that is not open
        b"\0\0\x04\x09\x04\0\0\0\x01abcd", // CONTINUATION of nothing
        b"\0\0\x05\x04\0\0\0\0\0abcde",    // SETTINGS of an odd length
        b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0", // WINDOW_UPDATE by nothing
        b"\0\0\x06\x01\x05\0\0\0\x01\xff\xff\xff\xff\xff\xff", // HEADERS that HPACK can not read
        b"\0\0\x04\x03\0\0\0\0\0\0\0\0\0", // RST_STREAM of the connection
    ];
    frames.map(|frame| [PREFACE, frame].concat()).into()
}

/// Reads until the other side ends the connection, in whatever way.
async fn ends(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = [0; 4096];
    let reading = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, reading).await.expect("it ends the connection");
}

/// Sends the beginning of a request, or more than one may be, without ending it; the status that comes back.
async fn grpc_status(exchange: &Exchange, data: &Path, body: Bytes) -> Option<String> {
    let send = http2(connect_as(data, network(2), exchange.address, "helsinki").await.unwrap()).await;
    let mut send = send.ready().await.unwrap();
    let (response, mut sending) = send.send_request(http_request(QUERY).body(()).unwrap(), false).unwrap();
    drop(sending.send_data(body, false));
    let answer = async {
        let (head, mut body) = response.await.ok()?.into_parts();
        let status = |headers: &http::HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.to_owned());
        if let Some(status) = status(&head.headers) {
            return Some(status);
        }
        while body.data().await.is_some() {}
        status(&body.trailers().await.ok()??)
    };
    timeout(PATIENCE, answer).await.expect("it answers at once")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_and_reset_leave_nothing_open() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let subject = persons(data.path()).remove(0);
    let opened = others_are_served(&exchange, data.path(), "reset", async {
        let mut opened = 0;
        // The exchange may end a connection that does this; then it goes on over another.
        for _connection in 0..100 {
            let tls = connect_as(data.path(), network(3), exchange.address, "helsinki").await.unwrap();
            let mut send = http2(tls).await;
            while let (true, Ok(mut ready)) = (opened < 2000, send.ready().await) {
                let Ok((_, mut stream)) = ready.send_request(http_request(QUERY).body(()).unwrap(), false) else {
                    break;
                };
                let request = question(&format!("reset-by-caller-{opened}"), &subject).encode_to_vec();
                drop(stream.send_data(grpc_frame(&request), true));
                // Every other one is given time to be heard.
                if opened % 2 == 0 {
                    tokio::task::yield_now().await;
                }
                stream.send_reset(h2::Reason::CANCEL);
                opened += 1;
                send = ready;
            }
        }
        opened
    })
    .await;
    assert_eq!(opened, 2000);
    let metrics = exchange.metrics_address();
    eventually(PATIENCE, async || gauge(metrics, "airut_queries_open") == Some(0.0)).await;
    assert!(exchange.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_never_end_are_ended() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let began = Instant::now();
    others_are_served(&exchange, data.path(), "half-open", async {
        let half_open = |number: u8| {
            let address = exchange.address;
            async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((network(10 + number % 4), 0).into()).unwrap();
                let mut tcp = socket.connect(address).await.unwrap();
                // The beginning of a ClientHello of 512 bytes.
                tcp.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
                ends(&mut tcp).await;
            }
        };
        futures::future::join_all((0..200).map(half_open)).await;
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(40), "they stayed for {:?}", began.elapsed());
    assert!(exchange.stop().await.success());
}

/// Connections that only stay open.
const IDLE: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_are_no_burden() {
    if require("prlimit", may_open(IDLE + 1000).then_some(())).is_none() {
        return;
    }
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let idle = others_are_served(&exchange, data.path(), "idle", async {
        let connecting = (0..IDLE)
            .map(|number| connect_as(data.path(), network(20 + (number % 8) as u8), exchange.address, "helsinki"));
        let idle: Vec<io::Result<_>> = stream::iter(connecting).buffer_unordered(32).collect().await;
        let metrics = exchange.metrics_address();
        eventually(PATIENCE, async || gauge(metrics, "airut_connections_open") >= Some(IDLE as f64)).await;
        idle
    })
    .await;
    assert_eq!(idle.iter().filter(|connected| connected.is_ok()).count(), IDLE);
    assert!(exchange.stop().await.success());
}

/// Sees to it that this process, and those that it starts, may have so many files open.
fn may_open(files: usize) -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if soft.is_some_and(|soft| soft == "unlimited" || soft.parse().is_ok_and(|soft: usize| soft >= files)) {
        return true;
    }
    let raise = ["--pid", &std::process::id().to_string(), &format!("--nofile={files}:")].map(str::to_owned);
    Command::new("prlimit").args(raise).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_never_reads_holds_up_nobody() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let subject = persons(data.path()).remove(0);
    let tls = connect_as(data.path(), network(4), exchange.address, "helsinki").await.unwrap();
    let (send, connection) = h2::client::handshake(tls).await.unwrap();
    let mut connection = Box::pin(connection);
    let unread = others_are_served(&exchange, data.path(), "unread", async {
        let asking = async {
            let mut unread = Vec::new();
            for number in 0..500 {
                let mut ready = send.clone().ready().await.unwrap();
                let (response, mut stream) = ready.send_request(http_request(QUERY).body(()).unwrap(), false).unwrap();
                let request = question(&format!("never-read-{number}"), &subject).encode_to_vec();
                stream.send_data(grpc_frame(&request), true).unwrap();
                unread.push((response, stream));
            }
            // What comes is taken as far as HTTP/2's window goes, and then nothing any more.
            tokio::time::sleep(Duration::from_secs(2)).await;
            unread
        };
        let unread = tokio::select! {
            unread = asking => unread,
            ended = &mut connection => panic!("it ends the connection: {ended:?}"),
        };
        // From now on not even the socket is read.
        unread
    })
    .await;
    drop((unread, send, connection));
    let metrics = exchange.metrics_address();
    eventually(PATIENCE, async || gauge(metrics, "airut_queries_open") == Some(0.0)).await;
    assert!(exchange.stop().await.success());
}

/// Connections without a certificate.
const STRANGERS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_strangers_buys_a_bounded_number_of_records() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let began = Instant::now();
    others_are_served(&exchange, data.path(), "strangers", async {
        let ca = data.join("pki/ca.crt");
        let calling = (0..STRANGERS).map(|number| {
            let (ca, address) = (&ca, exchange.address);
            async move { is_refused(connect(network((number % 100) as u8), address, "localhost", ca, None).await).await }
        });
        stream::iter(calling).buffer_unordered(32).collect::<()>().await;
    })
    .await;
    let minutes = 2 + began.elapsed().as_secs() / 60;
    // Some wait to be counted when there are too many at once, and some of those are only added up.
    let untold = gauge(exchange.metrics_address(), "airut_strangers_untold_total").unwrap();
    assert!(exchange.stop().await.success());

    // The counts of the last minute are written when the exchange stops, and signed then or soon after the next start.
    let exchange = Exchange::start(dev(data.path())).await;
    let mut missing: Vec<Refused> = Vec::new();
    eventually(PATIENCE, async || {
        missing = refusals(&exchange, data.path()).await;
        missing.retain(|refused| refused.reason == Reason::CertificateMissing);
        // Every one is counted.
        missing.iter().map(|refused| refused.count).sum::<u64>() + untold as u64 == STRANGERS as u64
    })
    .await;
    let singly = missing.iter().filter(|refused| refused.stranger.is_some()).count();
    assert!((1..=16 * minutes as usize).contains(&singly), "{singly} records of single strangers");
    assert!(missing.len() - singly <= minutes as usize, "{} counts in {minutes} minutes", missing.len() - singly);
    tell(&format!("{STRANGERS} strangers: {} records, {untold} more only added up", missing.len()));
}

/// In TLS 1.3 a client is done before the exchange has seen its certificate: the refusal comes with the first read.
async fn is_refused(connected: io::Result<impl AsyncReadExt + Unpin>) {
    if let Ok(mut tls) = connected {
        let mut byte = [0];
        let read = timeout(PATIENCE, tls.read(&mut byte)).await.expect("it is ended");
        assert!(read.is_err(), "it is let in");
    }
}

/// What the ledger shows an auditor of refusals.
async fn refusals(exchange: &Exchange, data: &Path) -> Vec<Refused> {
    let auditor = exchange.client(data, "auditor").await;
    eventually(PATIENCE, async || auditor.checkpoint(PATIENCE).await.is_ok()).await;
    let refused = |(_, header): (_, Header)| match header.kind {
        Kind::Refusal(refused) => Some(refused),
        Kind::Message(_)
        | Kind::Query(_)
        | Kind::Partner(_)
        | Kind::Document(_)
        | Kind::Request(_)
        | Kind::Member(_)
        | Kind::Order(_) => None,
    };
    entries(&auditor).await.into_iter().filter_map(refused).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_unfit_certificate_is_refused_with_its_own_recorded_reason() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let now = now();
    let ca = DevCa::open_or_create(&data.join("pki"), now).unwrap();
    let other_ca = DevCa::open_or_create(&data.join("other"), now).unwrap();
    let (pirkanmaa, helsinki) = ("pirkanmaa".parse().unwrap(), "helsinki".parse().unwrap());
    let revoked = ca.issue_as("revoked", &Leaf::of(&helsinki, now)).unwrap();
    let before = caller(&data, &exchange, &revoked).await;
    let known = question("with-a-certificate", &persons(data.path())[0]);
    eventually(PATIENCE, async || before.query(&known, PATIENCE).await.is_ok()).await;
    ca.revoke(&revoked.certificate, now).unwrap();

    let pki = data.join("pki/ca.crt");
    is_refused(connect(LOCALHOST, exchange.address, "localhost", &pki, None).await).await;
    let handshakes = [
        other_ca.issue(&pirkanmaa, now).unwrap(),
        ca.issue_as("expired", &Leaf::of(&pirkanmaa, now).expired(now)).unwrap(),
        revoked,
    ];
    for issued in &handshakes {
        let request = question("without", &persons(data.path())[0]);
        // The revocation list is read every other second. Until then the certificate is good.
        eventually(PATIENCE, async || {
            let client = caller(&data, &exchange, issued).await;
            matches!(client.query(&request, PATIENCE).await, Err(CallError::Tls(_)))
        })
        .await;
    }
    let calls = [
        (ca.issue_as("ambiguous", &Leaf::ambiguous(&pirkanmaa, &helsinki, now)).unwrap(), Reason::CertificateAmbiguous),
        (ca.issue_as("unknown", &Leaf::of(&"nobody".parse().unwrap(), now)).unwrap(), Reason::CertificateUnknown),
    ];
    for (issued, reason) in &calls {
        let client = caller(&data, &exchange, issued).await;
        let refused = client.query(&question("without", &persons(data.path())[0]), PATIENCE).await.unwrap_err();
        assert_eq!(refused.reason(), Some(*reason), "{refused}");
    }
    let lost = before.query(&question("after", &persons(data.path())[0]), PATIENCE).await;
    assert!(lost.is_err(), "its connection was open before it was revoked");

    let expected = BTreeSet::from([
        Reason::CertificateMissing,
        Reason::CertificateUntrusted,
        Reason::CertificateExpired,
        Reason::CertificateRevoked,
        Reason::CertificateAmbiguous,
        Reason::CertificateUnknown,
    ]);
    eventually(PATIENCE, async || {
        let refusals = refusals(&exchange, data.path()).await;
        let strangers = refusals.iter().filter(|refused| refused.partner.is_none() && refused.stranger.is_some());
        strangers.map(|refused| refused.reason).collect::<BTreeSet<_>>() == expected
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_the_ledger_for_what_is_not_theirs_is_on_record() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let mut county = LedgerServiceClient::new(channel(data.path(), exchange.address, "pirkanmaa").await);
    // The first definition of a partner that was put in force: the auditor's, by its name.
    let position = "airut.partners/0/0".to_owned();
    let refused = county.get_inclusion_proof(GetInclusionProofRequest { position }).await.unwrap_err();
    assert_eq!(airut_wire::reason_of(&refused), Some(Reason::NotFound), "{refused}");
    eventually(PATIENCE, async || {
        let refusals = refusals(&exchange, data.path()).await;
        refusals.iter().any(|refused| {
            refused.partner.as_ref().is_some_and(|partner| partner.as_str() == "pirkanmaa")
                && refused.reason == Reason::NotFound
                && refused.method == "/airut.v1.LedgerService/GetInclusionProof"
        })
    })
    .await;
}

async fn caller(data: &Data, exchange: &Exchange, issued: &Issued) -> Client {
    let server = exchange.address.to_string();
    let settings = Settings::new(server, data.join("pki/ca.crt"), &issued.certificate, &issued.key);
    Client::connect(&settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_partner_loses_its_open_call_and_its_open_stream() {
    let data = Data::new();
    let exchange = without_register(&data).await;
    let (mut kela, _answers) = responder(&data, exchange.address).await;
    let county = channel(data.path(), exchange.address, "helsinki").await;
    let request = question("long", &persons(data.path())[0]);
    let call = tokio::spawn(async move { ask(&county, &request, CUT_WITHIN + Duration::from_secs(5)).await });
    let asked = timeout(PATIENCE, kela.message()).await.expect("a question comes").unwrap().unwrap();
    assert!(matches!(asked.message, Some(serve_response::Message::Question(_))));

    let began = Instant::now();
    suspend(&data, "helsinki");
    let cut = timeout(CUT_WITHIN, call).await.expect("the call is ended").unwrap().unwrap_err();
    assert_ne!(cut.code(), Code::DeadlineExceeded, "it is ended, and has not run out of time");
    let call_ended = began.elapsed();

    let began = Instant::now();
    suspend(&data, "kela");
    let ended = async { while let Ok(Some(_)) = kela.message().await {} };
    timeout(CUT_WITHIN, ended).await.expect("the stream is ended");
    tell(&format!("suspended: the call ended after {call_ended:.1?}, the stream after {:.1?}", began.elapsed()));

    let metrics = exchange.metrics_address();
    eventually(PATIENCE, async || gauge(metrics, "airut_queries_open") == Some(0.0)).await;
    for partner in ["helsinki", "kela"] {
        let again = channel(data.path(), exchange.address, partner).await;
        let refused = ask(&again, &question("suspended", &persons(data.path())[0]), PATIENCE).await.unwrap_err();
        assert_eq!(airut_wire::reason_of(&refused), Some(Reason::PartnerSuspended), "{refused}");
    }
    // Recorded under their names.
    eventually(PATIENCE, async || {
        let refusals = refusals(&exchange, data.path()).await;
        let suspended = refusals.iter().filter(|refused| refused.reason == Reason::PartnerSuspended);
        let names: BTreeSet<&str> = suspended.filter_map(|refused| Some(refused.partner.as_ref()?.as_str())).collect();
        names == BTreeSet::from(["helsinki", "kela"])
    })
    .await;
}

/// An exchange whose only responder is the test: `airut serve` on what `airut dev` has laid out.
async fn without_register(data: &Data) -> Exchange {
    assert!(Exchange::start(dev(data.path())).await.stop().await.success());
    let at = |name: &str| data.join(name).display().to_string();
    let config = format!(
        "roles = ['gateway', 'ledger']\nlisten = '127.0.0.1:0'\nmetrics_listen = '127.0.0.1:0'\n\
         data = '{}'\npartners = '{}'\nledger.origin = 'airut.example/dev'\n\
         [tls]\ncertificate = '{}'\nkey = '{}'\nclient_cas = ['{}']\ncrls = ['{}']\n\
         [keys]\nring = '{}'\nreceipt = '{}'\n",
        data.path().display(),
        at("partners"),
        at("pki/server.crt"),
        at("pki/server.key"),
        at("pki/ca.crt"),
        at("pki/crl.pem"),
        at("keys/ring.toml"),
        at("keys/receipt.key"),
    );
    fs::write(data.join("airut.toml"), config).unwrap();
    let mut serve = airut();
    serve.args(["serve", "--config"]).arg(data.join("airut.toml"));
    Exchange::start(serve).await
}

/// A responder's stream that takes questions and never answers.
async fn responder(data: &Data, address: SocketAddr) -> (Streaming<ServeResponse>, mpsc::Sender<ServeRequest>) {
    let (answers, requests) = mpsc::channel(4);
    let open = serve_request::Message::Open(serve_request::Open { max_in_flight: 16 });
    answers.send(ServeRequest { message: Some(open) }).await.unwrap();
    let channel = channel(data.path(), address, "kela").await;
    let mut stream = QueryServiceClient::new(channel).serve(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let opened = timeout(PATIENCE, stream.message()).await.expect("it is opened").unwrap().unwrap();
    assert!(matches!(opened.message, Some(serve_response::Message::Opened(_))));
    (stream, answers)
}

fn suspend(data: &Data, partner: &str) {
    let file = data.join(&format!("partners/{partner}.toml"));
    let definition = fs::read_to_string(&file).unwrap();
    fs::write(file, definition.replacen("kind =", "state = \"suspended\"\nkind =", 1)).unwrap();
}
