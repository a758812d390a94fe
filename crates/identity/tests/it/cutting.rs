//! Connections that are open when their right ends.

use std::time::Duration;

use airut_domain::{partner::Partner, refusal::Reason};
use airut_identity::dev_ca::Leaf;
use airut_testkit::{eventually, now};

use crate::support::{Answer, Edge, LONG, partner, suspended};

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
    let successor = airut_testkit::Pki::new();
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
    eventually(LONG, async || tokio::net::TcpStream::connect(edge.address).await.is_err()).await;
    assert!(crate::support::Client::connect(edge.address, config).await.is_err(), "nobody new is let in");

    edge.put(&suspended("pirkanmaa"));
    assert!(call.await.is_err());
    tokio::time::timeout(LONG, edge.served).await.expect("the server is drained").unwrap();
}
