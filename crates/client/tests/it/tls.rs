//! Over TLS on the loopback, with certificates made for each test.

use std::{fs, path::Path, sync::Arc, time::Duration};

use airut_client::{CallError, Client, ConnectError, Settings, Timeouts};
use airut_wire::v1::{QueryBenefitsRequest, QueryBenefitsResponse};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

use crate::exchange::{Connections, Exchange};

struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".into(), "airut.test".into()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a new certificate of this authority for the client.
    fn write_client(&self, dir: &Path) -> CertificateDer<'static> {
        let (certificate, key) = self.issue();
        fs::write(dir.join("client.crt"), certificate.pem()).unwrap();
        fs::write(dir.join("client.key"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }
}

fn settings(dir: &TempDir, server: String) -> Settings {
    Settings {
        server,
        server_name: None,
        ca: dir.path().join("ca.crt"),
        certificate: dir.path().join("client.crt"),
        key: dir.path().join("client.key"),
        timeouts: Timeouts::default(),
    }
}

/// Accepts connections of clients that `clients` issued; gives the address and the certificates that it sees.
async fn listen(
    connections: Connections,
    server: &Authority,
    clients: &Authority,
) -> (String, mpsc::UnboundedReceiver<CertificateDer<'static>>) {
    let (certificate, key) = server.issue();
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, certificates) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(tcp).await {
                let _ = seen.send(stream.get_ref().1.peer_certificates().unwrap()[0].clone());
                connections.enter(stream);
            }
        }
    });
    (address, certificates)
}

async fn ask(client: &Client) -> Result<QueryBenefitsResponse, CallError> {
    client.query(&QueryBenefitsRequest::default(), Duration::from_secs(20)).await
}

/// Answers everything.
fn answer_all(mut exchange: Exchange) {
    tokio::spawn(async move {
        while let Some(asked) = exchange.asked.recv().await {
            let _ = asked.reply.send(Ok(QueryBenefitsResponse::default()));
        }
    });
}

#[tokio::test]
async fn the_partners_certificate_is_shown_and_a_renewed_one_is_used_on_the_next_connection() {
    let (authority, dir) = (Authority::new(), TempDir::new().unwrap());
    fs::write(dir.path().join("ca.crt"), authority.certificate.pem()).unwrap();
    let first = authority.write_client(dir.path());
    let mut exchange = Exchange::start();
    let (address, mut seen) = listen(exchange.connections(), &authority, &authority).await;
    let client = Client::connect(&settings(&dir, address)).await.unwrap();
    let asking = tokio::spawn({
        let client = client.clone();
        async move { ask(&client).await }
    });
    let unanswered = exchange.asked.recv().await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), first);

    let second = authority.write_client(dir.path());
    exchange.cut();
    drop(unanswered);
    answer_all(exchange);
    assert!(asking.await.unwrap().is_ok());
    assert_eq!(seen.recv().await.unwrap(), second);
}

#[tokio::test]
async fn an_exchange_of_another_authority_is_not_spoken_to_and_not_tried_again() {
    let (authority, other, dir) = (Authority::new(), Authority::new(), TempDir::new().unwrap());
    fs::write(dir.path().join("ca.crt"), other.certificate.pem()).unwrap();
    authority.write_client(dir.path());
    let exchange = Exchange::start();
    let (address, _seen) = listen(exchange.connections(), &authority, &authority).await;
    let client = Client::connect(&settings(&dir, address)).await.unwrap();
    assert!(matches!(ask(&client).await, Err(CallError::Tls(_))));
}

#[tokio::test]
async fn the_exchanges_name_must_be_in_its_certificate() {
    let (authority, dir) = (Authority::new(), TempDir::new().unwrap());
    fs::write(dir.path().join("ca.crt"), authority.certificate.pem()).unwrap();
    authority.write_client(dir.path());
    let exchange = Exchange::start();
    let (address, _seen) = listen(exchange.connections(), &authority, &authority).await;
    answer_all(exchange);
    let named = |name: &str| Settings { server_name: Some(name.into()), ..settings(&dir, address.clone()) };
    assert!(ask(&Client::connect(&named("airut.test")).await.unwrap()).await.is_ok());
    let fault = ask(&Client::connect(&named("elsewhere.test")).await.unwrap()).await;
    assert!(matches!(fault, Err(CallError::Tls(_))), "{fault:?}");
}

#[tokio::test]
async fn a_client_whose_certificate_is_refused_is_told() {
    let (authority, other, dir) = (Authority::new(), Authority::new(), TempDir::new().unwrap());
    fs::write(dir.path().join("ca.crt"), authority.certificate.pem()).unwrap();
    other.write_client(dir.path());
    let exchange = Exchange::start();
    let (address, _seen) = listen(exchange.connections(), &authority, &authority).await;
    let client = Client::connect(&settings(&dir, address)).await.unwrap();
    // TLS 1.3 lets the client speak before it learns of the refusal: its own write may fail before it reads the alert.
    let fault = ask(&client).await;
    assert!(matches!(fault, Err(CallError::Tls(_) | CallError::Unreachable(_))), "{fault:?}");
}

#[tokio::test]
async fn files_that_can_not_be_used_are_named_before_anything_is_sent() {
    let (authority, dir) = (Authority::new(), TempDir::new().unwrap());
    authority.write_client(dir.path());
    let connect = async |dir: &TempDir| Client::connect(&settings(dir, "127.0.0.1:1".into())).await.unwrap_err();
    let fault = connect(&dir).await.to_string();
    assert!(fault.contains("ca.crt"), "{fault}");

    fs::write(dir.path().join("ca.crt"), "nothing").unwrap();
    assert!(matches!(connect(&dir).await, ConnectError::NoCertificate(_)));

    fs::write(dir.path().join("ca.crt"), authority.certificate.pem()).unwrap();
    fs::write(dir.path().join("client.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(connect(&dir).await, ConnectError::Credentials(_)));
}
