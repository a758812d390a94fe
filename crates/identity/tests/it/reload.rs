//! New certificates and lists while serving.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use airut_domain::{refusal::Reason, time::Timestamp};
use airut_identity::{BindFault, Bounds, Listener, LoadFault, TlsSettings};
use airut_testkit::{Pki, eventually, now, system_clock};
use tokio::sync::mpsc;

use crate::support::{Answer, Client, Edge, LONG};

#[tokio::test]
async fn a_new_server_certificate_is_used_without_dropping_an_open_call() {
    let edge = Edge::start().await;
    let mut before = edge.client("pirkanmaa").await;
    let call = before.begin("/hold").await.unwrap();
    eventually(LONG, async || edge.handle.open() == 1).await;

    let successor = Pki::new();
    for file in ["server.crt", "server.key"] {
        fs::copy(successor.path().join(file), edge.pki.path().join(file)).unwrap();
    }
    edge.handle.reload().await.unwrap();
    let issued = edge.pki.partner("helsinki");
    let mut after = Client::connect(edge.address, successor.client(&issued)).await.unwrap();
    assert_eq!(after.get("/who").await.unwrap(), Answer::caller("helsinki"));
    assert!(edge.client_of(&issued).await.is_err(), "the old certificate is no longer shown");

    edge.release.notify_waiters();
    assert_eq!(call.await.unwrap(), Answer::caller("pirkanmaa"));
    assert_eq!(before.get("/who").await.unwrap(), Answer::caller("pirkanmaa"));
}

#[tokio::test]
async fn a_broken_file_is_named_and_what_was_in_force_stays() {
    let edge = Edge::start().await;
    let elsewhere = Pki::new();
    let pem = |file: &str| fs::read(elsewhere.path().join(file)).unwrap();
    let good = fs::read(edge.pki.path().join("server.crt")).unwrap();
    let cases: [(&str, &[u8], &str); 10] = [
        ("server.crt", b"", "holds no certificate"),
        ("server.crt", &good[..good.len() / 2], "has no end"),
        ("server.crt", &pem("server.crt"), "the key is not the certificate's"),
        ("server.key", b"garbage", "holds no private key"),
        ("server.key", &pem("server.key"), "the key is not the certificate's"),
        ("ca.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not an X.509 certificate"),
        ("ca.crt", &pem("ca.crt"), "not signed by C=FI, O=Airut development, CN=Airut development CA of"),
        ("crl.pem", &pem("crl.pem"), "not signed by C=FI, O=Airut development, CN=Airut development CA of"),
        ("crl.pem", b"", "holds no revocation list"),
        ("crl.pem", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "crl.pem"),
    ];
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    for (file, content, fault) in cases {
        let path = edge.pki.path().join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let told = edge.handle.reload().await.unwrap_err().to_string();
        assert!(told.contains(fault), "{file}: {told}");
        assert!(told.contains(path.to_str().unwrap()), "{file}: {told}");
        assert!(Client::connect(edge.address, config.clone()).await.unwrap().get("/who").await.is_ok(), "{file}");
        fs::write(&path, before).unwrap();
    }
    fs::remove_file(edge.pki.path().join("crl.pem")).unwrap();
    assert!(matches!(edge.handle.reload().await, Err(LoadFault::Unreadable { .. })));
    assert!(edge.client("pirkanmaa").await.get("/who").await.is_ok());
}

#[tokio::test]
async fn what_can_not_be_used_is_refused_at_the_start() {
    let pki = Pki::new();
    let bind = |settings: TlsSettings| {
        let (teller, _) = mpsc::channel(1);
        let address = ([127, 0, 0, 1], 0).into();
        Listener::bind(address, settings, Default::default(), system_clock(), teller).err().unwrap()
    };
    let none = bind(TlsSettings { client_cas: Vec::new(), ..pki.tls_settings() });
    assert!(matches!(none, BindFault::Files(LoadFault::NoAuthority)));
    let unchecked = bind(TlsSettings { crls: Vec::new(), ..pki.tls_settings() });
    assert!(matches!(unchecked, BindFault::Files(LoadFault::NoRevocationList { .. })));
}

#[tokio::test]
async fn of_several_lists_by_one_authority_the_newest_counts() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old.pem");
    let mut revoked = None;
    let mut edge = Edge::with(|settings, pki| {
        let a_minute_ago = Timestamp::from_millis(now().as_millis() - 60_000);
        pki.ca().renew_list(a_minute_ago, now() + LONG * 60).unwrap();
        fs::copy(pki.ca().revocation_list(), &old).unwrap();
        let issued = pki.partner("pirkanmaa");
        pki.ca().revoke(&issued.certificate, now()).unwrap();
        settings.crls.insert(0, old.clone());
        revoked = Some(pki.client(&issued));
    })
    .await;
    assert_eq!(edge.refused(revoked.unwrap()).await.reason, Reason::CertificateRevoked);
    assert!(edge.client("helsinki").await.get("/who").await.is_ok());
}

#[tokio::test]
async fn changed_files_are_noticed_however_they_are_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = dir.path().join("data");
    let bounds = Bounds { file_poll: Duration::from_millis(20), ..Bounds::default() };
    let edge = Edge::with(|settings, pki| {
        publish(pki, &dir.path().join("1"), &mounted);
        settings.crls = vec![mounted.join("crl.pem")];
        settings.bounds = bounds;
    })
    .await;

    let mut client = edge.client("pirkanmaa").await;
    client.get("/who").await.unwrap();
    edge.pki.ca().revoke(&edge.pki.partner("pirkanmaa").certificate, now()).unwrap();
    publish(&edge.pki, &dir.path().join("2"), &mounted);
    client.is_cut().await;

    let mut client = edge.client("helsinki").await;
    client.get("/who").await.unwrap();
    edge.pki.ca().revoke(&edge.pki.partner("helsinki").certificate, now()).unwrap();
    fs::write(mounted.join("crl.pem"), "half of a file").unwrap();
    fs::copy(edge.pki.ca().revocation_list(), mounted.join("crl.pem")).unwrap();
    client.is_cut().await;
}

/// Puts the revocation list in place as Kubernetes does: a new directory, then a symbolic link to it replaced at once.
fn publish(pki: &Pki, version: &Path, mounted: &Path) {
    fs::create_dir(version).unwrap();
    fs::copy(pki.ca().revocation_list(), version.join("crl.pem")).unwrap();
    let link = version.with_extension("link");
    symlink(version, &link).unwrap();
    fs::rename(link, mounted).unwrap();
}
