//! A certificate authority for development and tests.
//!
//! `airut dev` and the tests get their certificates here, so that both go through the same handshake as production.
//! Its key lies beside its certificates: it must never be trusted by an exchange that holds anybody's data.

use std::{
    fs,
    io::{self, Write},
    iter,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use airut_domain::{id::PartnerId, time::Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, DnsName, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, revocation_list::CertificateRevocationList,
};

use crate::{
    certificate::{self, moment},
    trust::is_signed_by,
};

/// The issuer of every certificate of every development CA, as [`crate::presented`] reads it.
pub const ISSUER: &str = "C=FI, O=Airut development, CN=Airut development CA";

/// How long certificates and the revocation list are valid.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What ends within this time is renewed.
const RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How far back validity begins, for clocks that are behind.
const LEEWAY: Duration = Duration::from_secs(60 * 60);

/// The name of a server on this machine.
const LOCALHOST: &str = "localhost";

/// Names in the directory that are not partners'.
const OWN_NAMES: [&str; 3] = ["ca", "server", "crl"];

/// A development CA and the directory of its files: `ca.crt`, `ca.key`, `server.crt`, `server.key`, `crl.pem` and, for
/// each partner, `<partner>.crt` and `<partner>.key`. All are PEM, keys are readable by their owner only, and each
/// file is replaced as a whole. One process at a time may write to a directory.
pub struct DevCa {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

/// What a client certificate says. Tests make odd ones of it; [`DevCa::issue`] makes a partner's.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// URIs among the alternative names.
    pub uris: Vec<String>,
    /// The subject's organizationIdentifier.
    pub organization_identifier: Option<String>,
    /// The subject's serialNumber.
    pub serial_number: Option<String>,
    /// The first moment at which it is valid.
    pub not_before: Timestamp,
    /// The last, both in whole seconds.
    pub not_after: Timestamp,
}

impl Leaf {
    /// A certificate that is valid now but names nobody.
    pub fn nameless(now: Timestamp) -> Self {
        Self {
            uris: Vec::new(),
            organization_identifier: None,
            serial_number: None,
            not_before: before(now, LEEWAY),
            not_after: now + VALIDITY,
        }
    }

    /// A partner's: the URI `urn:airut:partner:<id>` and the organizationIdentifier `AI:FI-<id>`, a local scheme in
    /// the form of ETSI EN 319 412-1.
    pub fn of(partner: &PartnerId, now: Timestamp) -> Self {
        Self {
            uris: vec![format!("urn:airut:partner:{partner}")],
            organization_identifier: Some(format!("AI:FI-{partner}")),
            ..Self::nameless(now)
        }
    }

    /// One that fits two partners.
    pub fn ambiguous(one: &PartnerId, other: &PartnerId, now: Timestamp) -> Self {
        let uris = [one, other].map(|partner| format!("urn:airut:partner:{partner}")).into();
        Self { uris, ..Self::nameless(now) }
    }

    /// The same, valid for an hour that ended a minute ago.
    pub fn expired(self, now: Timestamp) -> Self {
        let minute = Duration::from_secs(60);
        Self { not_before: before(now, minute + LEEWAY), not_after: before(now, minute), ..self }
    }
}

/// Why the development CA could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or list could not be made.
    #[error("can not make {what}: {source}")]
    Make {
        /// What of.
        what: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The name can't be that of a file here.
    #[error("{0:?} can not name a certificate's file")]
    Name(String),
    /// The name can't be a server's.
    #[error("{0:?} is not a DNS name")]
    ServerName(String),
}

impl DevCa {
    /// Opens the CA in the directory, or makes one. What is there and valid is used again; what ends within a day, or
    /// can't be used, is made anew, and with a new CA everything is. Blocks on files and on making keys.
    pub fn open_or_create(dir: &Path, now: Timestamp) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(|source| Fault::File { path: dir.to_owned(), source })?;
        let ca = match Self::opened(dir, now)? {
            Some(ca) => ca,
            None => Self::created(dir, now)?,
        };
        if !ca.list_is_current(now)? {
            ca.publish(Vec::new(), now, now + VALIDITY)?;
        }
        if !ca.is_current("server", now)? {
            ca.issue_server(&[], now)?;
        }
        Ok(ca)
    }

    /// Sees to it that the server's certificate has these DNS names besides those of this machine, where others reach it by
    /// them. One that has them is used again.
    pub fn name_server(&self, names: &[String], now: Timestamp) -> Result<Issued, Fault> {
        let has = self.server_names()?;
        if names.iter().all(|name| has.contains(name)) {
            return Ok(self.server());
        }
        self.issue_server(names, now)
    }

    /// A partner's certificate: the one that is there while it is good, else a new one.
    pub fn issue(&self, partner: &PartnerId, now: Timestamp) -> Result<Issued, Fault> {
        let name = partner.as_str();
        if self.is_current(check_name(name)?, now)? {
            return Ok(self.issued(name));
        }
        self.issue_as(name, &Leaf::of(partner, now))
    }

    /// A client certificate of any kind, as `<name>.crt` and `<name>.key`, replacing what is there.
    pub fn issue_as(&self, name: &str, leaf: &Leaf) -> Result<Issued, Fault> {
        let mut params = params(check_name(name)?, name, leaf.not_before, leaf.not_after);
        let subject = &mut params.distinguished_name;
        if let Some(identifier) = &leaf.organization_identifier {
            subject.push(DnType::CustomDnType(vec![2, 5, 4, 97]), identifier.as_str());
        }
        if let Some(number) = &leaf.serial_number {
            subject.push(DnType::CustomDnType(vec![2, 5, 4, 5]), number.as_str());
        }
        for uri in &leaf.uris {
            let uri = Ia5String::try_from(uri.as_str()).map_err(making(name))?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, params)
    }

    /// Puts a certificate of this CA on its revocation list and signs that anew.
    pub fn revoke(&self, certificate: &Path, now: Timestamp) -> Result<(), Fault> {
        let malformed = |fault| Fault::Malformed { path: certificate.to_owned(), fault };
        let pem = read(certificate)?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| malformed("holds no certificate in PEM form"))?;
        let parsed = certificate::parse(&der).map_err(|_| malformed("is not an X.509 certificate"))?;
        if !self.signed(&parsed) {
            return Err(malformed("was not issued by this CA"));
        }
        let mut revoked = self.revoked()?;
        revoked.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(parsed.raw_serial()),
            revocation_time: date(now),
            reason_code: None,
            invalidity_date: None,
        });
        self.publish(revoked, now, now + VALIDITY)
    }

    /// Signs the revocation list anew, to be replaced by `next_update`, which must be after `now`.
    pub fn renew_list(&self, now: Timestamp, next_update: Timestamp) -> Result<(), Fault> {
        self.publish(self.revoked()?, now, next_update)
    }

    /// The file of the CA's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The file of the revocation list.
    pub fn revocation_list(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// The certificate of a server on 127.0.0.1, ::1 and localhost, and where [`Self::name_server`] says.
    pub fn server(&self) -> Issued {
        self.issued("server")
    }

    fn issued(&self, name: &str) -> Issued {
        Issued { certificate: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) }
    }

    fn opened(dir: &Path, now: Timestamp) -> Result<Option<Self>, Fault> {
        let Some((der, key)) = read_pair(dir, "ca")? else { return Ok(None) };
        if !certificate::not_after(&der).is_ok_and(|end| end > now + RENEWAL) {
            return Ok(None);
        }
        let Ok(issuer) = Issuer::from_ca_cert_der(&der, key) else { return Ok(None) };
        Ok(Some(Self { dir: dir.to_owned(), issuer, certificate: der }))
    }

    fn created(dir: &Path, now: Timestamp) -> Result<Self, Fault> {
        let what = "the CA's certificate";
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making("the CA's key"))?;
        let mut params = params("Airut development", "Airut development CA", before(now, LEEWAY), now + VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key).map_err(making(what))?;
        write(&dir.join("ca.key"), Access::Owner, key.serialize_pem().as_bytes())?;
        write(&dir.join("ca.crt"), Access::Anybody, certificate.pem().as_bytes())?;
        let certificate = certificate.der().clone();
        let ca = Self { dir: dir.to_owned(), issuer: Issuer::new(params, key), certificate };
        // What an earlier CA revoked is nobody's business any more; its list must not outlive it.
        ca.publish(Vec::new(), now, now + VALIDITY)?;
        Ok(ca)
    }

    fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Issued, Fault> {
        let mut params = params("Airut development", LOCALHOST, before(now, LEEWAY), now + VALIDITY);
        for name in iter::once(LOCALHOST).chain(names.iter().map(String::as_str)) {
            let fault = || Fault::ServerName(name.to_owned());
            // What no client could ask for would be refused only then.
            DnsName::try_from(name).map_err(|_| fault())?;
            params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name).map_err(|_| fault())?));
        }
        let addresses = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("server", params)
    }

    /// The DNS names in the server's certificate.
    fn server_names(&self) -> Result<Vec<String>, Fault> {
        let Some((der, _key)) = read_pair(&self.dir, "server")? else { return Ok(Vec::new()) };
        let Ok(parsed) = certificate::parse(&der) else { return Ok(Vec::new()) };
        let Ok(Some(names)) = parsed.subject_alternative_name() else { return Ok(Vec::new()) };
        let dns = names.value.general_names.iter().filter_map(|name| {
            let GeneralName::DNSName(name) = name else { return None };
            Some((*name).to_owned())
        });
        Ok(dns.collect())
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Result<Issued, Fault> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making(name))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(making(name))?;
        let issued = self.issued(name);
        write(&issued.key, Access::Owner, key.serialize_pem().as_bytes())?;
        write(&issued.certificate, Access::Anybody, certificate.pem().as_bytes())?;
        Ok(issued)
    }

    /// Whether a certificate is there, with its key, signed by this CA, not revoked and good for another day.
    fn is_current(&self, name: &str, now: Timestamp) -> Result<bool, Fault> {
        let Some((der, _key)) = read_pair(&self.dir, name)? else { return Ok(false) };
        let Ok(parsed) = certificate::parse(&der) else { return Ok(false) };
        let revoked = self.revoked()?;
        let is_revoked = revoked.iter().any(|entry| entry.serial_number.as_ref() == parsed.raw_serial());
        let end = moment(parsed.validity().not_after.timestamp());
        Ok(self.signed(&parsed) && !is_revoked && end > now + RENEWAL)
    }

    fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        self.has_signed(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let own = certificate::parse(&self.certificate);
        own.is_ok_and(|own| is_signed_by(own.public_key(), message, signature, &provider))
    }

    /// The list's DER, if it is there and this CA's.
    fn list(&self) -> Result<Option<CertificateRevocationListDer<'static>>, Fault> {
        let Some(pem) = read_if_there(&self.revocation_list())? else { return Ok(None) };
        let Ok(der) = CertificateRevocationListDer::from_pem_slice(&pem) else { return Ok(None) };
        let signed = CertificateRevocationList::from_der(&der)
            .is_ok_and(|(_, list)| self.has_signed(list.tbs_cert_list.as_ref(), &list.signature_value.data));
        Ok(signed.then_some(der))
    }

    fn list_is_current(&self, now: Timestamp) -> Result<bool, Fault> {
        let Some(der) = self.list()? else { return Ok(false) };
        let end = CertificateRevocationList::from_der(&der).ok().and_then(|(_, list)| list.next_update());
        Ok(end.is_some_and(|end| moment(end.timestamp()) > now + RENEWAL))
    }

    fn revoked(&self) -> Result<Vec<RevokedCertParams>, Fault> {
        let Some(der) = self.list()? else { return Ok(Vec::new()) };
        let Ok((_, list)) = CertificateRevocationList::from_der(&der) else { return Ok(Vec::new()) };
        let entry = |revoked: &x509_parser::revocation_list::RevokedCertificate<'_>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(revoked.raw_serial()),
            revocation_time: revoked.revocation_date.to_datetime(),
            reason_code: None,
            invalidity_date: None,
        };
        Ok(list.iter_revoked_certificates().map(entry).collect())
    }

    fn publish(
        &self,
        revoked_certs: Vec<RevokedCertParams>,
        now: Timestamp,
        next_update: Timestamp,
    ) -> Result<(), Fault> {
        let list = CertificateRevocationListParams {
            this_update: date(now),
            next_update: date(next_update),
            crl_number: SerialNumber::from(now.as_millis().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let what = "the revocation list";
        let pem = list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(making(what))?;
        write(&self.revocation_list(), Access::Anybody, pem.as_bytes())
    }
}

fn params(organization: &str, name: &str, not_before: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    let country = "FI".try_into().expect("FI has printable characters only");
    subject.push(DnType::CountryName, DnValue::PrintableString(country));
    subject.push(DnType::OrganizationName, organization);
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A name must be one plain file name, and not take the place of the CA's own files.
fn check_name(name: &str) -> Result<&str, Fault> {
    let plain = !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.starts_with('.');
    if plain && !OWN_NAMES.contains(&name) { Ok(name) } else { Err(Fault::Name(name.to_owned())) }
}

/// A certificate and its key, if both are there and belong together.
fn read_pair(dir: &Path, name: &str) -> Result<Option<(CertificateDer<'static>, KeyPair)>, Fault> {
    let certificate = read_if_there(&dir.join(format!("{name}.crt")))?;
    let key = read_if_there(&dir.join(format!("{name}.key")))?;
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    let Ok(der) = CertificateDer::from_pem_slice(&certificate) else { return Ok(None) };
    let Some(key) = std::str::from_utf8(&key).ok().and_then(|pem| KeyPair::from_pem(pem).ok()) else { return Ok(None) };
    let together = certificate::parse(&der)
        .is_ok_and(|parsed| *parsed.public_key().subject_public_key.data == *key.public_key_raw());
    Ok(together.then_some((der, key)))
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|source| Fault::File { path: path.to_owned(), source })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Fault::File { path: path.to_owned(), source }),
    }
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Access {
    Owner,
    Anybody,
}

/// Replaces the file as a whole: a reader sees the old one or the new one.
fn write(path: &Path, access: Access, bytes: &[u8]) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match access {
        Access::Owner => 0o600,
        Access::Anybody => 0o644,
    };
    let replace = || {
        let dir = path.parent().unwrap_or(Path::new("."));
        let permissions = fs::Permissions::from_mode(mode);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    replace().map_err(|source| Fault::File { path: path.to_owned(), source })
}

fn making(what: &str) -> impl Fn(rcgen::Error) -> Fault {
    move |source| Fault::Make { what: what.to_owned(), source }
}

fn before(moment: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(moment.as_millis().saturating_sub(millis))
}

/// A date for a certificate; those that no calendar holds become 1970.
fn date(moment: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.as_millis().div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
