//! The check of a certificate chain, within a handshake and again afterwards.

use std::{cell::RefCell, sync::Arc};

use airut_domain::refusal::Reason;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::stranger::{issuer, reason_of_chain};

/// Why a chain was refused, and its issuer.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) reason: Reason,
    pub(crate) issuer: Option<String>,
}

tokio::task_local! {
    /// Where the handshake that the running task polls learns why its peer's chain was refused. rustls tells only the
    /// error and shares one verifier among all connections, but calls it from within the poll of the handshake's own
    /// future. An error of ours would carry the issuer too, but the peer would no longer be sent the alert that fits.
    pub(crate) static REJECTED: RefCell<Option<Rejected>>;
}

/// webpki's verifier, telling the handshake what it refused.
#[derive(Debug)]
pub(crate) struct Gate(pub(crate) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Gate {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now).inspect_err(|error| {
            let rejected = Rejected { reason: reason_of_chain(error), issuer: issuer(end_entity) };
            // Outside of a handshake of ours nobody asks.
            let _ = REJECTED.try_with(|slot| slot.replace(Some(rejected)));
        })
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    /// TLS 1.2 is not offered; delegated all the same.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }
}
