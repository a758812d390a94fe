//! What is told of a connection that was refused before anybody was identified.
//!
//! It holds as little as operators need to see who is knocking: a reason, the issuer, an address prefix. Never a name
//! out of the certificate's subject, and never much text: a stranger chose it.

use std::{fmt, io, net::IpAddr};

use airut_domain::{identity_code::IdentityCode, refusal::Reason};
use rustls::{CertificateError, Error};

use crate::certificate;

/// The longest issuer that is told, in characters.
const ISSUER_CHARS: usize = 200;

/// A connection that was refused before a partner was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Why: `CertificateMissing`, `CertificateUntrusted`, `CertificateExpired`, `CertificateRevoked`,
    /// `CertificateInvalid`, `RevocationUnknown` (the exchange's own revocation list is out of date),
    /// `HandshakeFailed` (timeouts and garbage among them), `TooManyInFlight` (a bound was reached) or, beyond the
    /// bound of such connections, why the certificate is no active partner's.
    pub reason: Reason,
    /// The presented certificate's issuer as in [`certificate::presented`], if there was one: the stranger's word,
    /// unless the reason says that the certificate was issued by a trusted authority. At most 200 characters, and
    /// absent when it holds a personal identity code.
    pub issuer: Option<String>,
    /// Where it came from.
    pub prefix: Prefix,
}

/// The part of an address that one network shares: the first 24 bits of IPv4, the first 48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// `192.0.2.0/24`
    V4([u8; 3]),
    /// `2001:db8:1::/48`
    V6([u16; 3]),
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Self::V6([a, b, c])
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c]) => write!(f, "{}/48", std::net::Ipv6Addr::new(*a, *b, *c, 0, 0, 0, 0, 0)),
        }
    }
}

/// A stranger's issuer, as much of it as may be told.
pub(crate) fn issuer(certificate: &[u8]) -> Option<String> {
    let issuer = certificate::presented(certificate).ok()?.issuer;
    let issuer: String = issuer.chars().take(ISSUER_CHARS).collect();
    (!IdentityCode::occurs_in(&issuer)).then_some(issuer)
}

/// Why a certificate chain was refused.
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add errors: what has no reason of its own is invalid")]
pub(crate) fn reason_of_chain(error: &Error) -> Reason {
    use CertificateError as C;
    match error {
        Error::InvalidCertificate(fault) => match fault {
            C::Revoked => Reason::CertificateRevoked,
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                Reason::CertificateExpired
            }
            // A bad signature is what another authority of the same name leaves.
            C::UnknownIssuer | C::BadSignature => Reason::CertificateUntrusted,
            C::UnknownRevocationStatus | C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. } => {
                Reason::RevocationUnknown
            }
            _ => Reason::CertificateInvalid,
        },
        Error::InvalidCertRevocationList(_) => Reason::RevocationUnknown,
        _ => Reason::CertificateInvalid,
    }
}

/// Why a handshake failed, other than by its certificate chain.
pub(crate) fn reason_of_handshake(error: &io::Error) -> Reason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => Reason::CertificateMissing,
        // The chain was good: it is the proof of holding its key that was not.
        Some(Error::InvalidCertificate(_)) => Reason::CertificateInvalid,
        Some(_) | None => Reason::HandshakeFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_join_what_one_network_shares() {
        let prefix = |text: &str| Prefix::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(prefix("192.0.2.7").to_string(), "192.0.2.0/24");
        assert_eq!(prefix("::ffff:192.0.2.9"), prefix("192.0.2.7"));
        assert_eq!(prefix("2001:db8:1:2::3").to_string(), "2001:db8:1::/48");
    }
}
