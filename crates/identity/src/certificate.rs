//! What identity is decided by, read from a certificate's DER.
//!
//! Names are read as they stand and all of them are kept: which one counts, and that several partners' names in one
//! certificate are too many, is for the registry to say. Reading must never panic, whatever the bytes, and takes time
//! linear in their number: a stranger's certificate is read too, to name its issuer.

use std::collections::BTreeSet;

use airut_domain::{
    partner::{CertificateName, Fingerprint, PresentedCertificate},
    time::Timestamp,
};
use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name},
};

/// The bytes are not one whole X.509 certificate whose names can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an X.509 certificate whose names can be read")]
pub struct Unreadable;

/// Reads what identity is decided by. Nothing is verified here.
///
/// The issuer becomes text in the order of the certificate: `C=FI, O=Airut development, CN=Airut development CA`.
/// `openssl x509 -noout -issuer -nameopt sep_comma_plus_space,sname,esc_2253,utf8` prints the same, for partner files
/// to be written with. Attributes have OpenSSL's short names, or their dotted number; those that share a place are
/// joined by ` + `. In values, characters that would be ambiguous are escaped as in RFC 4514 (`\,`), and a value that
/// is not UTF-8, printable, IA5 or numeric text is `#`, its tag and its bytes in hexadecimal. So names that differ,
/// other than in a text's encoding, never give the same text.
pub fn presented(der: &[u8]) -> Result<PresentedCertificate, Unreadable> {
    let certificate = parse(der)?;
    Ok(PresentedCertificate {
        issuer: name_text(certificate.issuer()),
        names: names(&certificate)?,
        fingerprint: Fingerprint::of(der),
    })
}

/// The last second in which the certificate is valid.
pub(crate) fn not_after(der: &[u8]) -> Result<Timestamp, Unreadable> {
    Ok(moment(parse(der)?.validity().not_after.timestamp()))
}

/// A moment from the seconds that ASN.1 times come in.
pub(crate) fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Unreadable> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<BTreeSet<CertificateName>, Unreadable> {
    let mut names = BTreeSet::new();
    for attribute in certificate.subject().iter_attributes() {
        match attribute_name(attribute.attr_type()) {
            Some("organizationIdentifier") => {
                names.insert(CertificateName::OrganizationIdentifier(value_text(attribute)));
            }
            Some("serialNumber") => {
                names.insert(CertificateName::SerialNumber(value_text(attribute)));
            }
            Some(_) | None => {}
        }
    }
    // A list of names that is there twice, or can't be read, could hide a second partner's name.
    let alternatives = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::URI(uri) = name {
            names.insert(CertificateName::Uri((*uri).to_owned()));
        }
        if matches!(name, GeneralName::Invalid(..)) {
            return Err(Unreadable);
        }
    }
    Ok(names)
}

/// A distinguished name as text; see [`presented`].
pub(crate) fn name_text(name: &X509Name<'_>) -> String {
    let place = |rdn: &RelativeDistinguishedName<'_>| rdn.iter().map(attribute_text).collect::<Vec<_>>().join(" + ");
    name.iter_rdn().map(place).collect::<Vec<_>>().join(", ")
}

fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    let kind = attribute_name(kind).map_or_else(|| dotted(kind), str::to_owned);
    match attribute.as_str() {
        Ok(text) => format!("{kind}={}", escaped(text)),
        Err(_) => format!("{kind}={}", value_text(attribute)),
    }
}

/// The value without escapes. `as_str` knows the four string types above; x509-parser's other ways to a text panic at
/// types they don't know.
fn value_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    attribute.as_str().map_or_else(
        |_| format!("#{:02x}{}", attribute.attr_value().tag().0, hex::encode(attribute.as_slice())),
        str::to_owned,
    )
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let first = at == 0;
        let last = at + c.len_utf8() == value.len();
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.extend(['\\', c]),
            '#' if first => text.push_str("\\#"),
            ' ' if first || last => text.push_str("\\ "),
            _ if c.is_control() => c.to_string().bytes().for_each(|byte| text.push_str(&format!("\\{byte:02X}"))),
            _ => text.push(c),
        }
    }
    text
}

/// OpenSSL's short name, by the encoded object identifier.
fn attribute_name(kind: &Oid<'_>) -> Option<&'static str> {
    Some(match kind.as_bytes() {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x04] => "SN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "street",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x55, 0x04, 0x0c] => "title",
        [0x55, 0x04, 0x2a] => "GN",
        [0x55, 0x04, 0x61] => "organizationIdentifier",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        _ => return None,
    })
}

/// The object identifier in numbers; hexadecimal when one of them exceeds 64 bits. Not `to_id_string`, whose big
/// numbers take time quadratic in a length that a stranger chooses.
fn dotted(kind: &Oid<'_>) -> String {
    match kind.iter() {
        Some(arcs) => arcs.map(|arc| arc.to_string()).collect::<Vec<_>>().join("."),
        None => format!("#{}", hex::encode(kind.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CustomExtension, DnType, DnValue, Issuer, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn signed(shape: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        shape(&mut params);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).unwrap())
    }

    const ORGANIZATION_IDENTIFIER: [u64; 4] = [2, 5, 4, 97];

    #[test]
    fn every_name_that_can_identify_is_kept() {
        let der = signed(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CustomDnType(ORGANIZATION_IDENTIFIER.to_vec()), "NTRFI-0246246-0");
            name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "FI02462460");
            name.push(DnType::CommonName, "not identifying");
            params.subject_alt_names = vec![uri("urn:a"), SanType::DnsName("x".try_into().unwrap()), uri("urn:b")];
        });
        let expected = BTreeSet::from([
            CertificateName::OrganizationIdentifier("NTRFI-0246246-0".into()),
            CertificateName::SerialNumber("FI02462460".into()),
            CertificateName::Uri("urn:a".into()),
            CertificateName::Uri("urn:b".into()),
        ]);
        assert_eq!(presented(&der).unwrap().names, expected);
    }

    #[test]
    fn issuers_that_differ_never_read_the_same() {
        let text = |shape: &dyn Fn(&mut rcgen::DistinguishedName)| {
            presented(&signed(|params| shape(&mut params.distinguished_name))).unwrap().issuer
        };
        let honest = text(&|name| {
            name.push(DnType::OrganizationName, "A");
            name.push(DnType::CommonName, "B");
        });
        assert_eq!(honest, "O=A, CN=B");
        assert_eq!(text(&|name| name.push(DnType::OrganizationName, "A, CN=B")), r"O=A\, CN=B");
        assert_eq!(text(&|name| name.push(DnType::OrganizationName, " #x\n ")), r"O=\ #x\0A\ ");
        assert_eq!(text(&|name| name.push(DnType::OrganizationName, "#13")), r"O=\#13");
        assert_eq!(text(&|name| name.push(DnType::CustomDnType(vec![1, 3, 6, 1]), "é")), "1.3.6.1=é");
        let wide = DnValue::BmpString("AB".try_into().unwrap());
        assert_eq!(text(&|name| name.push(DnType::CommonName, wide.clone())), "CN=#1e00410042");
    }

    #[test]
    fn a_second_list_of_names_is_refused() {
        let alternatives = vec![0x30, 0x07, 0x86, 0x05, b'u', b'r', b'n', b':', b'c'];
        let der = signed(|params| {
            params.subject_alt_names = vec![uri("urn:a")];
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], alternatives)];
        });
        assert_eq!(presented(&der), Err(Unreadable));
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let mut der = signed(|params| params.subject_alt_names = vec![uri("urn:a")]);
        assert!(presented(&der).is_ok());
        der.push(0);
        assert_eq!(presented(&der), Err(Unreadable));
    }

    /// A certificate that has something of everything, the same for all cases.
    fn rich() -> &'static [u8] {
        static DER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        DER.get_or_init(|| {
            let ca = KeyPair::generate().unwrap();
            let mut authority = CertificateParams::default();
            authority.distinguished_name.push(DnType::CountryName, "FI");
            authority.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "a@b");
            let issuer = Issuer::new(authority, ca);
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CustomDnType(ORGANIZATION_IDENTIFIER.to_vec()), "AI:FI-x");
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "1");
            params.subject_alt_names = vec![uri("urn:a"), SanType::IpAddress([127, 0, 0, 1].into())];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &issuer).unwrap().der().to_vec()
        })
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = (presented(&bytes), not_after(&bytes));
        }

        #[test]
        fn mutated_certificates_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in proptest::option::weighted(0.1, any::<prop::sample::Index>()),
        ) {
            let mut der = rich().to_vec();
            for (at, byte) in changes {
                let at = at.index(der.len());
                der[at] = byte;
            }
            if let Some(cut) = cut {
                der.truncate(cut.index(der.len()));
            }
            let _ = (presented(&der), not_after(&der));
        }
    }
}
