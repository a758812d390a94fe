//! What strangers and idlers may take, and that others are served meanwhile.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use airut_domain::refusal::Reason;
use airut_identity::{Bounds, Prefix, dev_ca::Leaf};
use airut_testkit::{eventually, now};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Answer, Client, Edge, LONG, tls};

async fn silent(edge: &Edge, count: usize) -> Vec<TcpStream> {
    stream::iter(0..count).then(|_| TcpStream::connect(edge.address)).try_collect().await.unwrap()
}

#[tokio::test]
async fn slow_handshakes_from_one_network_leave_others_served() {
    let mut edge = Edge::bounded(Bounds { handshakes_per_prefix: 4, handshakes: 8, ..Bounds::default() }).await;
    let silent = silent(&edge, 20).await;
    for _ in 0..16 {
        let stranger = edge.stranger().await;
        assert_eq!((stranger.reason, stranger.prefix), (Reason::TooManyInFlight, Prefix::V4([127, 0, 0])));
    }
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    let mut elsewhere = Client::connect_from([127, 0, 9, 1], edge.address, config).await.unwrap();
    assert_eq!(elsewhere.get("/who").await.unwrap(), Answer::caller("pirkanmaa"));
    drop(silent);
}

#[tokio::test]
async fn handshakes_that_say_nothing_end_and_there_are_never_more_than_the_bound() {
    let handshake_time = Duration::from_millis(200);
    let mut edge = Edge::bounded(Bounds { handshake_time, handshakes: 4, ..Bounds::default() }).await;
    let begun = Instant::now();
    let silent = silent(&edge, 12).await;
    let mut client = edge.client("pirkanmaa").await;
    assert_eq!(client.get("/who").await.unwrap(), Answer::caller("pirkanmaa"));
    assert!(begun.elapsed() >= handshake_time * 3, "twelve by four take three rounds");
    for mut stream in silent {
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "it was closed");
        assert_eq!(edge.stranger().await.reason, Reason::HandshakeFailed);
    }
}

#[tokio::test]
async fn a_handshake_that_trickles_ends_as_well() {
    let mut edge = Edge::bounded(Bounds { handshake_time: Duration::from_millis(200), ..Bounds::default() }).await;
    let (mut reader, mut writer) = TcpStream::connect(edge.address).await.unwrap().into_split();
    let trickle = tokio::spawn(async move {
        // The beginning of a handshake message of 512 bytes.
        for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc].into_iter().chain(std::iter::repeat(3)) {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(matches!(reader.read(&mut [0]).await, Ok(0) | Err(_)));
    assert_eq!(edge.stranger().await.reason, Reason::HandshakeFailed);
    trickle.abort();
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_is_given_back() {
    let mut edge = Edge::bounded(Bounds { connections: 3, ..Bounds::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(edge.client("pirkanmaa").await);
    }
    for client in &mut clients {
        client.get("/who").await.unwrap();
    }
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    assert_eq!(edge.refused(config.clone()).await.reason, Reason::TooManyInFlight);

    clients.pop();
    let handle = edge.handle.clone();
    eventually(LONG, async || handle.open() == 2).await;
    assert!(Client::connect(edge.address, config).await.unwrap().get("/who").await.is_ok());
}

#[tokio::test]
async fn connections_of_one_network_are_bounded() {
    let mut edge = Edge::bounded(Bounds { connections_per_prefix: 2, ..Bounds::default() }).await;
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    let mut clients = [edge.client("pirkanmaa").await, edge.client("pirkanmaa").await];
    for client in &mut clients {
        client.get("/who").await.unwrap();
    }
    assert_eq!(edge.refused(config.clone()).await.reason, Reason::TooManyInFlight);
    let mut elsewhere = Client::connect_from([127, 0, 9, 1], edge.address, config).await.unwrap();
    assert!(elsewhere.get("/who").await.is_ok());
}

#[tokio::test]
async fn connections_that_are_no_partners_are_few_and_do_not_stay() {
    let mut edge = Edge::bounded(Bounds { unidentified: 2, ..Bounds::default() }).await;
    let issued = edge.pki.ca().issue_as("nameless", &Leaf::nameless(now())).unwrap();
    let mut unknown = [edge.client_of(&issued).await.unwrap(), edge.client_of(&issued).await.unwrap()];
    for client in &mut unknown {
        assert_eq!(client.get("/who").await.unwrap(), Answer::Refused(Reason::CertificateUnknown));
    }
    let config = edge.pki.client(&issued);
    assert_eq!(edge.refused(config).await.reason, Reason::CertificateUnknown);
    let mut partner = edge.client("pirkanmaa").await;
    assert!(partner.get("/who").await.is_ok());

    edge.advance(Duration::from_secs(61));
    for client in &mut unknown {
        client.is_cut().await;
    }
    assert!(partner.get("/who").await.is_ok(), "a partner stays");
}

#[tokio::test]
async fn a_flood_of_strangers_is_counted_when_nobody_listens() {
    let mut edge = Edge::start().await;
    edge.strangers.close();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let _ = stream.write_all(b"garbage, garbage").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let handle = edge.handle.clone();
    eventually(LONG, async || handle.untold() == 50).await;
    assert!(edge.client("pirkanmaa").await.get("/who").await.is_ok());
}

#[tokio::test]
async fn a_thousand_idle_connections_leave_others_served() {
    const IDLE: usize = 1000;
    if !files_suffice("bounds::a_thousand_idle_connections_leave_others_served", IDLE * 2 + 200) {
        return;
    }
    let edge = Edge::start().await;
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    let connect = |_| {
        let (address, config) = (edge.address, config.clone());
        async move { tls(TcpStream::connect(address).await?, config).await }
    };
    let idle: Vec<_> = stream::iter(0..IDLE).map(connect).buffer_unordered(16).try_collect().await.unwrap();
    let handle = edge.handle.clone();
    eventually(LONG, async || handle.open() == IDLE).await;
    assert_eq!(edge.client("helsinki").await.get("/who").await.unwrap(), Answer::caller("helsinki"));
    drop(idle);
}

/// Whether this process may open so many files. If not, runs the test again in a process that may.
fn files_suffice(test: &str, needed: usize) -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    if soft == "unlimited" || soft.parse::<usize>().unwrap() >= needed {
        return true;
    }
    let script = format!("ulimit -n {needed} && exec \"$0\" --exact {test}");
    let status = Command::new("sh").args(["-c", &script]).arg(std::env::current_exe().unwrap()).status().unwrap();
    assert!(status.success(), "the same test with more open files, see above");
    false
}
