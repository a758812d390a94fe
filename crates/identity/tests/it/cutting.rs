//! Connections that are open when their right ends.

use std::{sync::Arc, time::Duration};

use airut_domain::{
    partner::Partner,
    refusal::Reason,
    registry::{Entry, Registry},
};
use airut_identity::{Listener, dev_ca::Leaf};
use airut_testkit::{Pki, eventually, now, system_clock};
use arc_swap::ArcSwap;
use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use crate::support::{Answer, Client, Edge, LONG, partner, suspended, tls};

#[tokio::test]
async fn a_revoked_certificate_is_cut_from_its_open_call() {
    let mut edge = Edge::start().await;
    let (mut revoked, mut other) = (edge.client("pirkanmaa").await, edge.client("helsinki").await);
    let (cut, held) = (revoked.begin("/hold").await.unwrap(), other.begin("/hold").await.unwrap());
    eventually(LONG, async || edge.handle.open() == 2).await;

    let issued = edge.pki.partner("pirkanmaa");
    edge.pki.ca().revoke(&issued.certificate, now()).unwrap();
    edge.handle.reload().await.unwrap();
    assert!(cut.await.is_err());
    revoked.is_cut().await;
    let config = edge.pki.client(&issued);
    assert_eq!(edge.refused(config).await.reason, Reason::CertificateRevoked);

    edge.release.notify_waiters();
    assert_eq!(held.await.unwrap(), Answer::caller("helsinki"), "others are not touched");
}

#[tokio::test]
async fn a_suspended_partner_is_cut_from_its_open_call() {
    let edge = Edge::start().await;
    let mut client = edge.client("pirkanmaa").await;
    let call = client.begin("/hold").await.unwrap();
    eventually(LONG, async || edge.handle.open() == 1).await;
    edge.put(&suspended("pirkanmaa"));
    edge.handle.recheck();
    assert!(call.await.is_err());
    client.is_cut().await;
}

#[tokio::test]
async fn a_certificate_that_the_registry_has_revoked_is_cut_and_its_next_calls_are_told_so() {
    let edge = Edge::start().await;
    let (mut client, mut other) = (edge.client("pirkanmaa").await, edge.client("helsinki").await);
    let (call, held) = (client.begin("/hold").await.unwrap(), other.begin("/hold").await.unwrap());
    eventually(LONG, async || edge.handle.open() == 2).await;
    let pem = std::fs::read(edge.pki.partner("pirkanmaa").certificate).unwrap();
    let fingerprint = edge.handle.check(&pem).unwrap().fingerprint;
    edge.put(&Partner { revoked: [fingerprint].into(), ..partner("pirkanmaa") });
    assert!(call.await.is_err());
    client.is_cut().await;
    let again = edge.client("pirkanmaa").await.get("/who").await.unwrap();
    assert_eq!(again, Answer::Refused(Reason::CertificateRevoked));
    edge.release.notify_waiters();
    assert_eq!(held.await.unwrap(), Answer::caller("helsinki"), "others are not touched");
}

#[tokio::test]
async fn a_certificate_is_checked_before_it_is_shown_as_it_would_be_then() {
    let edge = Edge::start().await;
    let check = |issued: &airut_identity::dev_ca::Issued| {
        edge.handle.check(&std::fs::read(&issued.certificate).unwrap()).map(|presented| presented.names)
    };
    let next = edge.pki.ca().issue_as("next", &Leaf::of(&"next".parse().unwrap(), now())).unwrap();
    assert_eq!(check(&next).unwrap().len(), 2);
    let expired = edge.pki.ca().issue_as("old", &Leaf::nameless(now()).expired(now())).unwrap();
    assert_eq!(check(&expired), Err(Reason::CertificateExpired));
    let elsewhere = Pki::new();
    assert_eq!(check(&elsewhere.partner("next")), Err(Reason::CertificateUntrusted));
    assert_eq!(check(&edge.pki.ca().server()), Err(Reason::CertificateInvalid), "no client's");
    edge.pki.ca().revoke(&next.certificate, now()).unwrap();
    edge.handle.reload().await.unwrap();
    assert_eq!(check(&next), Err(Reason::CertificateRevoked));
    for nothing in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(edge.handle.check(nothing.as_bytes()).is_err());
    }
}

#[tokio::test]
async fn a_suspended_partner_is_cut_without_being_told_of_it() {
    let edge = Edge::start().await;
    let mut client = edge.client("pirkanmaa").await;
    client.get("/who").await.unwrap();
    edge.put(&suspended("pirkanmaa"));
    client.is_cut().await;
}

#[tokio::test]
async fn a_partner_whose_certificate_becomes_anothers_is_cut() {
    let edge = Edge::start().await;
    let mut client = edge.client("pirkanmaa").await;
    client.get("/who").await.unwrap();
    let moved = partner("pirkanmaa").certificates;
    edge.put(&Partner { certificates: Vec::new(), ..partner("pirkanmaa") });
    edge.put(&Partner { certificates: moved, ..partner("helsinki") });
    edge.handle.recheck();
    client.is_cut().await;
    assert_eq!(edge.client("pirkanmaa").await.get("/who").await.unwrap(), Answer::caller("helsinki"));
}

#[tokio::test]
async fn a_partner_that_changes_otherwise_stays() {
    let edge = Edge::start().await;
    let mut client = edge.client("pirkanmaa").await;
    client.get("/who").await.unwrap();
    edge.put(&Partner { name: "Pirkanmaan hyvinvointialue".into(), ..partner("pirkanmaa") });
    edge.handle.reload().await.unwrap();
    assert_eq!(client.get("/who").await.unwrap(), Answer::caller("pirkanmaa"));
}

#[tokio::test]
async fn a_certificate_that_expires_is_cut() {
    let edge = Edge::start().await;
    let hour = Duration::from_secs(3600);
    let leaf = Leaf { not_after: now() + hour, ..Leaf::of(&"pirkanmaa".parse().unwrap(), now()) };
    let short = edge.pki.ca().issue_as("short", &leaf).unwrap();
    let (mut ending, mut lasting) = (edge.client_of(&short).await.unwrap(), edge.client("helsinki").await);
    ending.get("/who").await.unwrap();
    edge.advance(hour * 2);
    ending.is_cut().await;
    assert!(lasting.get("/who").await.is_ok());
}

#[tokio::test]
async fn an_authority_that_is_no_longer_trusted_loses_its_open_connections() {
    let edge = Edge::start().await;
    let mut client = edge.client("pirkanmaa").await;
    client.get("/who").await.unwrap();
    let successor = Pki::new();
    for file in ["ca.crt", "crl.pem"] {
        std::fs::copy(successor.path().join(file), edge.pki.path().join(file)).unwrap();
    }
    edge.handle.reload().await.unwrap();
    client.is_cut().await;
}

#[tokio::test]
async fn connections_are_watched_while_the_server_drains() {
    let mut edge = Edge::start().await;
    let mut client = edge.client("pirkanmaa").await;
    let call = client.begin("/hold").await.unwrap();
    eventually(LONG, async || edge.handle.open() == 1).await;
    edge.stop();
    let config = edge.pki.client(&edge.pki.partner("helsinki"));
    eventually(LONG, async || TcpStream::connect(edge.address).await.is_err()).await;
    assert!(Client::connect(edge.address, config).await.is_err(), "nobody new is let in");

    edge.put(&suspended("pirkanmaa"));
    assert!(call.await.is_err());
    timeout(LONG, edge.served).await.expect("the server is drained").unwrap();
}

#[tokio::test]
async fn both_directions_of_a_cut_connection_fail_at_once() {
    let pki = Pki::new();
    let mut registry = Registry::default();
    registry.insert(Entry { version: 1, partner: partner("pirkanmaa"), source: None });
    let registry = Arc::new(ArcSwap::from_pointee(registry));
    let (teller, _strangers) = mpsc::channel(1);
    let local = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(local, pki.tls_settings(), Arc::clone(&registry), system_clock(), teller).unwrap();
    let address = listener.address();
    let mut incoming = listener.accept();
    let stream = TcpStream::connect(address).await.unwrap();
    let client = tls(stream, pki.client(&pki.partner("pirkanmaa"))).await.unwrap();

    let connection = timeout(LONG, incoming.next()).await.unwrap().unwrap().unwrap();
    let peer = connection.peer().clone();
    assert_eq!(peer.address(), client.get_ref().0.local_addr().unwrap());
    assert_eq!(peer.identify(&registry.load()).unwrap().id().as_str(), "pirkanmaa");
    let (mut reader, mut writer) = tokio::io::split(connection);
    let reading = tokio::spawn(async move { reader.read_u8().await });
    // The client reads nothing, so that writing comes to a halt.
    let writing = tokio::spawn(async move { writer.write_all(&vec![0; 64 << 20]).await });
    tokio::task::yield_now().await;

    peer.cut(Reason::PartnerSuspended);
    timeout(LONG, peer.until_cut()).await.unwrap();
    assert!(timeout(LONG, reading).await.unwrap().unwrap().is_err());
    assert!(timeout(LONG, writing).await.unwrap().unwrap().is_err());
    let refusal = peer.identify(&registry.load()).unwrap_err().refusal;
    assert_eq!(refusal.reason, Reason::PartnerSuspended, "what its calls have spawned is stopped too");
}
