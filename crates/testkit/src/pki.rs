//! A development CA in a directory that is gone with it, and TLS configurations made of its certificates.

use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use airut_domain::time::Timestamp;
use airut_identity::{
    Bounds, Clock, TlsSettings,
    dev_ca::{DevCa, Issued, Leaf},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tempfile::TempDir;

/// A throwaway PKI: every certificate of a test, real and in files.
pub struct Pki {
    dir: TempDir,
    ca: DevCa,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A new CA with a server's certificate and an empty revocation list. Makes aws-lc-rs the process's provider.
    pub fn new() -> Self {
        // Another test may have been first.
        let _ = aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let ca = DevCa::open_or_create(dir.path(), now()).expect("a CA can be made in an empty directory");
        Self { dir, ca }
    }

    /// The directory of its files.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The CA, to issue and revoke with.
    pub fn ca(&self) -> &DevCa {
        &self.ca
    }

    /// A partner's certificate; the same one each time while it is valid.
    pub fn partner(&self, id: &str) -> Issued {
        self.ca.issue(&id.parse().expect("a partner's id"), now()).expect("a certificate can be issued")
    }

    /// A client certificate that is no partner's: its subject is `CN=<name>,O=<name>,C=FI`.
    pub fn nameless(&self, name: &str) -> Issued {
        self.ca.issue_as(name, &Leaf::nameless(now())).expect("a certificate can be issued")
    }

    /// The settings of a listener that serves with this PKI.
    pub fn tls_settings(&self) -> TlsSettings {
        let Issued { certificate, key } = self.ca.server();
        TlsSettings {
            certificate,
            key,
            client_cas: vec![self.ca.certificate()],
            crls: vec![self.ca.revocation_list()],
            bounds: Bounds::default(),
        }
    }

    /// A client that trusts this CA and presents the certificate. TLS 1.3, ALPN h2.
    pub fn client(&self, issued: &Issued) -> ClientConfig {
        let (chain, key) = identity(issued);
        h2(self.client_builder().with_client_auth_cert(chain, key).expect("the certificate and key fit"))
    }

    /// A client that trusts this CA and presents nothing.
    pub fn anonymous_client(&self) -> ClientConfig {
        h2(self.client_builder().with_no_client_auth())
    }

    /// A bare server of this PKI that demands a client certificate but looks at no revocation list: for tests of
    /// clients.
    pub fn server(&self) -> ServerConfig {
        let (chain, key) = identity(&self.ca.server());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider()).build();
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has cipher suites of TLS 1.3")
            .with_client_cert_verifier(verifier.expect("there is a root"))
            .with_single_cert(chain, key)
            .expect("the certificate and key fit");
        server.alpn_protocols = vec![b"h2".to_vec()];
        server
    }

    fn client_builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has cipher suites of TLS 1.3")
            .with_root_certificates(self.roots())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for der in certificates(&self.ca.certificate()) {
            roots.add(der).expect("the CA's certificate is well formed");
        }
        roots
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn h2(mut client: ClientConfig) -> ClientConfig {
    client.alpn_protocols = vec![b"h2".to_vec()];
    client
}

fn identity(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = PrivateKeyDer::from_pem_file(&issued.key).expect("the key is there");
    (certificates(&issued.certificate), key)
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(path).expect("the file is there");
    certificates.map(|der| der.expect("the file is PEM")).collect()
}

/// The time, by the system's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    Timestamp::from_millis(i64::try_from(since.as_millis()).expect("the clock is before the year 292 million"))
}

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(now)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    #[tokio::test]
    async fn its_clients_and_its_server_trust_each_other() {
        let pki = Pki::new();
        let (near, far) = duplex(1 << 16);
        let client = TlsConnector::from(Arc::new(pki.client(&pki.partner("pirkanmaa"))));
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let server = TlsAcceptor::from(Arc::new(pki.server()));
        let (near, far) = tokio::join!(client.connect(name, near), server.accept(far));
        let (mut near, mut far) = (near.expect("the client is content"), far.expect("the server is content"));
        near.write_all(b"hello").await.expect("it is sent");
        near.flush().await.expect("it is sent");
        let mut received = [0; 5];
        far.read_exact(&mut received).await.expect("it arrives");
        assert_eq!(&received, b"hello");
    }

    #[tokio::test]
    async fn its_server_demands_a_certificate() {
        let pki = Pki::new();
        let (near, far) = duplex(1 << 16);
        let client = TlsConnector::from(Arc::new(pki.anonymous_client()));
        let name = ServerName::try_from("localhost").expect("a name");
        let server = TlsAcceptor::from(Arc::new(pki.server()));
        let (_, far) = tokio::join!(client.connect(name, near), server.accept(far));
        assert!(far.is_err());
    }
}
