//! Who is refused, and for what reason of its own.

use std::{sync::Arc, time::Duration};

use airut_domain::{partner::CertificateName, refusal::Reason, registry::Registry};
use airut_identity::{
    Prefix, Stranger, caller,
    dev_ca::{DevCa, ISSUER, Leaf},
};
use airut_testkit::{Pki, now};
use rustls::{
    ClientConfig, HandshakeKind,
    client::{Resumption, danger::HandshakeSignatureValid},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Answer, Client, Edge, partner, suspended, tls};

const LOCAL: Prefix = Prefix::V4([127, 0, 0]);

fn told(reason: Reason, issuer: Option<&str>) -> Stranger {
    Stranger { reason, issuer: issuer.map(str::to_owned), prefix: LOCAL }
}

#[tokio::test]
async fn a_partner_is_served_under_its_name() {
    let edge = Edge::start().await;
    let (mut one, mut other) = (edge.client("pirkanmaa").await, edge.client("helsinki").await);
    assert_eq!(one.get("/who").await.unwrap(), Answer::caller("pirkanmaa"));
    assert_eq!(other.get("/who").await.unwrap(), Answer::caller("helsinki"));
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let mut edge = Edge::start().await;
    let anonymous = edge.pki.anonymous_client();
    assert_eq!(edge.refused(anonymous).await, told(Reason::CertificateMissing, None));
}

#[tokio::test]
async fn another_authority_is_refused_even_under_the_same_name() {
    let mut edge = Edge::start().await;
    let elsewhere = Pki::new();
    let mut config = edge.pki.client(&elsewhere.partner("pirkanmaa"));
    // A client chooses by the issuer's name, which here is the same.
    config.resumption = Resumption::disabled();
    assert_eq!(edge.refused(config).await, told(Reason::CertificateUntrusted, Some(ISSUER)));
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_refused() {
    let mut edge = Edge::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "131052-308T has chosen this name");
    let der = params.self_signed(&key).unwrap().der().clone();
    let config = presenting(&edge.pki, vec![der], &key.serialize_der());
    assert_eq!(edge.refused(config).await, told(Reason::CertificateUntrusted, None), "no identity code is told");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let mut edge = Edge::start().await;
    let leaf = Leaf::of(&"pirkanmaa".parse().unwrap(), now()).expired(now());
    let issued = edge.pki.ca().issue_as("expired", &leaf).unwrap();
    let config = edge.pki.client(&issued);
    assert_eq!(edge.refused(config).await, told(Reason::CertificateExpired, Some(ISSUER)));
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let mut edge = Edge::start().await;
    let issued = edge.pki.partner("pirkanmaa");
    let reopened = DevCa::open_or_create(edge.pki.path(), now()).unwrap();
    reopened.revoke(&issued.certificate, now()).unwrap();
    edge.handle.reload().await.unwrap();
    let config = edge.pki.client(&issued);
    assert_eq!(edge.refused(config).await, told(Reason::CertificateRevoked, Some(ISSUER)));
    let renewed = edge.pki.partner("pirkanmaa");
    assert!(edge.client_of(&renewed).await.unwrap().get("/who").await.is_ok(), "its successor is not");
}

#[tokio::test]
async fn a_servers_certificate_is_refused() {
    let mut edge = Edge::start().await;
    let config = edge.pki.client(&edge.pki.ca().server());
    assert_eq!(edge.refused(config).await, told(Reason::CertificateInvalid, Some(ISSUER)));
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let mut edge = Edge::start().await;
    let chain = vec![CertificateDer::from_pem_file(edge.pki.partner("pirkanmaa").certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(edge.pki.partner("helsinki").key).unwrap();
    let config = presenting(&edge.pki, chain, key.secret_der());
    assert_eq!(edge.refused(config).await, told(Reason::CertificateInvalid, None));
}

/// A client that presents what rustls would not let it.
fn presenting(pki: &Pki, chain: Vec<CertificateDer<'static>>, key: &[u8]) -> ClientConfig {
    let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut config = pki.anonymous_client();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    config
}

#[tokio::test]
async fn identities_that_are_not_one_active_partners_are_answered_with_the_reason() {
    let edge = Edge::start().await;
    edge.put(&suspended("helsinki"));
    let ca = edge.pki.ca();
    let [pirkanmaa, helsinki] = ["pirkanmaa", "helsinki"].map(|id| id.parse().unwrap());
    let cases = [
        (ca.issue_as("both", &Leaf::ambiguous(&pirkanmaa, &helsinki, now())), Reason::CertificateAmbiguous),
        (ca.issue_as("nameless", &Leaf::nameless(now())), Reason::CertificateUnknown),
        (ca.issue(&"nobody".parse().unwrap(), now()), Reason::CertificateUnknown),
        (ca.issue(&helsinki, now()), Reason::PartnerSuspended),
    ];
    for (issued, reason) in cases {
        let mut client = edge.client_of(&issued.unwrap()).await.unwrap();
        assert_eq!(client.get("/who").await.unwrap(), Answer::Refused(reason));
    }
}

#[tokio::test]
async fn a_certificate_is_matched_by_any_kind_of_name() {
    let edge = Edge::start().await;
    let leaf = Leaf { serial_number: Some("FI02462460".into()), ..Leaf::nameless(now()) };
    let issued = edge.pki.ca().issue_as("by-number", &leaf).unwrap();
    let mut client = edge.client_of(&issued).await.unwrap();
    assert_eq!(client.get("/who").await.unwrap(), Answer::Refused(Reason::CertificateUnknown));

    let mut kela = partner("kela");
    kela.certificates[0].name = CertificateName::SerialNumber("FI02462460".into());
    edge.put(&kela);
    assert_eq!(client.get("/who").await.unwrap(), Answer::caller("kela"), "by the registry as it is now");
}

#[tokio::test]
async fn a_request_without_a_connection_of_the_edge_has_no_caller() {
    let unidentified = caller(&http::Extensions::new(), &Registry::default()).unwrap_err();
    assert_eq!(unidentified.refusal.reason, Reason::CertificateMissing);
}

#[tokio::test]
async fn an_outdated_revocation_list_refuses_new_connections_and_says_so() {
    let mut edge = Edge::start().await;
    let hour = Duration::from_secs(3600);
    edge.pki.ca().renew_list(now(), now() + hour).unwrap();
    edge.handle.reload().await.unwrap();
    assert!(edge.handle.expiry().crl_next_update.unwrap() <= now() + hour);
    let mut before = edge.client("pirkanmaa").await;
    before.get("/who").await.unwrap();

    edge.advance(hour * 2);
    let config = edge.pki.client(&edge.pki.partner("helsinki"));
    assert_eq!(edge.refused(config).await, told(Reason::RevocationUnknown, Some(ISSUER)));
    assert!(before.get("/who").await.is_ok(), "who was checked while it was current stays");

    edge.pki.ca().renew_list(now(), now() + hour * 10).unwrap();
    edge.handle.reload().await.unwrap();
    assert!(edge.client("helsinki").await.get("/who").await.is_ok());
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let mut edge = Edge::start().await;
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAnybody))
        .with_no_client_auth();
    assert_eq!(edge.refused(old).await, told(Reason::HandshakeFailed, None));
}

#[tokio::test]
async fn garbage_is_refused() {
    let mut edge = Edge::start().await;
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 4096], &[0x16, 3, 1, 0, 0]]
    {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        // The edge may close before all of it is sent.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(edge.stranger().await, told(Reason::HandshakeFailed, None));
    }
    assert!(edge.client("pirkanmaa").await.get("/who").await.is_ok());
}

#[tokio::test]
async fn sessions_are_never_resumed() {
    let edge = Edge::start().await;
    // The configuration keeps the sessions that may be resumed, so both connections use the same one.
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    for _ in 0..2 {
        let mut stream = tls(TcpStream::connect(edge.address).await.unwrap(), config.clone()).await.unwrap();
        // The server's settings come after whatever tickets it would have sent.
        assert!(stream.read_u8().await.is_ok());
        let (_, session) = stream.get_ref();
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    }
}

#[tokio::test]
async fn who_has_another_protocol_is_refused() {
    let mut edge = Edge::start().await;
    let mut config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(Client::connect(edge.address, config).await.is_err());
    assert_eq!(edge.stranger().await, told(Reason::HandshakeFailed, None));
}

#[tokio::test]
async fn a_new_ca_in_another_directory_is_another_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevCa::open_or_create(dir.path(), now()).unwrap();
    let mut edge = Edge::with(|settings, _| {
        settings.client_cas = vec![ca.certificate()];
        settings.crls = vec![ca.revocation_list()];
    })
    .await;
    let config = edge.pki.client(&edge.pki.partner("pirkanmaa"));
    assert_eq!(edge.refused(config).await.reason, Reason::CertificateUntrusted);
    let trusted = ca.issue(&"pirkanmaa".parse().unwrap(), now()).unwrap();
    assert!(edge.client_of(&trusted).await.unwrap().get("/who").await.is_ok());
}

#[derive(Debug)]
struct TrustsAnybody;

impl rustls::client::danger::ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
