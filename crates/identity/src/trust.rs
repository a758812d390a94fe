//! The server's own identity and whom it trusts, loaded from files.
//!
//! Loading finds every fault that can be found without a peer, and names the file: what is loaded works. Faults leave
//! what was loaded before in force.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use airut_domain::{refusal::Reason, time::Timestamp};
use aws_lc_rs::digest;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem, pem::PemObject};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList, x509::SubjectPublicKeyInfo};

use crate::{
    certificate::{self, moment, name_text},
    gate::Gate,
    settings::{Clock, HandshakeClock, TlsSettings, unix_time},
    stranger::reason_of_chain,
};

/// The largest file that is read. National revocation lists have tens of thousands of entries of about 40 bytes.
const FILE_BYTES: u64 = 32 << 20;

/// Why the files can't be used. The one at fault is named.
#[derive(Debug, thiserror::Error)]
pub enum LoadFault {
    /// It could not be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The server's certificate and key don't belong together, or can't be used.
    #[error("{} and {}: {fault}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        fault: String,
    },
    /// There is nobody to trust.
    #[error("no client authority is configured: nobody could connect")]
    NoAuthority,
    /// An authority has no revocation list.
    #[error("{}: there is no revocation list by {authority}: all of its clients would be refused", path.display())]
    NoRevocationList {
        /// The authority's file.
        path: PathBuf,
        /// Its name.
        authority: String,
    },
    /// An authority's newest revocation list is not signed by it.
    #[error("{}: is not signed by {authority} of {}, although it bears its name", list.display(), path.display())]
    ForeignRevocationList {
        /// The list's file.
        list: PathBuf,
        /// The authority's file.
        path: PathBuf,
        /// The authority's name.
        authority: String,
    },
    /// Loading did not come to its end: the process is shutting down, or a bug.
    #[error("loading was not finished: {0}")]
    Unfinished(#[source] tokio::task::JoinError),
}

/// When what was loaded ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The earliest end among the server's certificate and its intermediates.
    pub certificate_not_after: Timestamp,
    /// The earliest time by which a revocation list should have been replaced. From then on its authority's clients are
    /// refused. `None` only if no list says so, which webpki does not accept.
    pub crl_next_update: Option<Timestamp>,
}

/// The files' contents.
pub(crate) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_cas: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

/// SHA-256 of the files' contents: the key itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Files {
    pub(crate) fn read(settings: &TlsSettings) -> Result<Self, LoadFault> {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_cas: all(&settings.client_cas)?,
            crls: all(&settings.crls)?,
        })
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut sum = digest::Context::new(&digest::SHA256);
        let all = [&self.certificate, &self.key].into_iter().chain(&self.client_cas).chain(&self.crls);
        for bytes in all {
            sum.update(&bytes.len().to_be_bytes());
            sum.update(bytes);
        }
        Fingerprint(sum.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadFault> {
    let unreadable = |source| LoadFault::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(malformed(path, format!("is larger than {FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What is in force: how handshakes go, and how open connections are judged.
pub(crate) struct Trust {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) expiry: Expiry,
    /// As in handshakes, but a list past its time still counts. Cutting every open connection when a list is late would
    /// turn a clerk's delay into an outage; those connections were checked while it was current.
    standing: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    /// Checks the files against each other and makes them usable. `clock` is what later handshakes are judged by.
    pub(crate) fn load(settings: &TlsSettings, files: &Files, clock: &Clock) -> Result<Self, LoadFault> {
        let provider = Arc::new(default_provider());
        let chain: Vec<CertificateDer<'static>> = pems(&settings.certificate, &files.certificate, "certificate")?;
        let certificate_not_after = own_expiry(&settings.certificate, &chain, clock())?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|error| malformed(&settings.key, format!("holds no private key: {}", pem_fault(&error))))?;

        let authorities = authorities(settings, files)?;
        let lists = revocation_lists(settings, files, &authorities, &provider)?;
        check_coverage(&authorities, &lists)?;
        let crl_next_update = lists.iter().filter_map(|list| list.next_update).min();

        let verifier = || {
            let lists = lists.iter().map(|list| list.der.clone());
            WebPkiClientVerifier::builder_with_provider(roots(&authorities), Arc::clone(&provider)).with_crls(lists)
        };
        let built = "the authorities and lists were accepted one by one";
        let strict = verifier().enforce_revocation_expiration().build().expect(built);
        let standing = verifier().build().expect(built);
        let server = server_config(settings, provider.clone(), clock, strict, (chain, key))?;
        Ok(Self { server: Arc::new(server), expiry: Expiry { certificate_not_after, crl_next_update }, standing })
    }

    /// Judges the chain of a connection that is already open.
    pub(crate) fn recheck(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<(), Reason> {
        let (end_entity, intermediates) = chain.split_first().ok_or(Reason::CertificateMissing)?;
        let checked = self.standing.verify_client_cert(end_entity, intermediates, unix_time(now));
        checked.map(drop).map_err(|error| reason_of_chain(&error))
    }
}

type OwnIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn server_config(
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
    clock: &Clock,
    verifier: Arc<dyn ClientCertVerifier>,
    (chain, key): OwnIdentity,
) -> Result<ServerConfig, LoadFault> {
    let mut server = ServerConfig::builder_with_details(provider, Arc::new(HandshakeClock(Arc::clone(clock))))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has cipher suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(Gate(verifier)))
        .with_single_cert(chain, key)
        .map_err(|error| LoadFault::Identity {
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
            fault: if let rustls::Error::InconsistentKeys(_) = error {
                "the key is not the certificate's".to_owned()
            } else {
                error.to_string()
            },
        })?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the check of the certificate.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    // Early data can be replayed.
    server.max_early_data_size = 0;
    Ok(server)
}

fn own_expiry(path: &Path, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Timestamp, LoadFault> {
    let ends: Result<Vec<_>, _> = chain.iter().map(|der| certificate::not_after(der)).collect();
    let ends = ends.map_err(|fault| malformed(path, fault.to_string()))?;
    let end = ends.into_iter().min().expect("a file without a certificate was refused");
    if end < now {
        return Err(malformed(path, format!("expired at {end}")));
    }
    Ok(end)
}

struct Authority<'a> {
    path: &'a Path,
    der: CertificateDer<'static>,
}

fn authorities<'a>(settings: &'a TlsSettings, files: &Files) -> Result<Vec<Authority<'a>>, LoadFault> {
    let mut authorities = Vec::new();
    for (path, bytes) in settings.client_cas.iter().zip(&files.client_cas) {
        for der in pems::<CertificateDer<'static>>(path, bytes, "certificate")? {
            certificate::parse(&der).map_err(|fault| malformed(path, fault.to_string()))?;
            RootCertStore::empty().add(der.clone()).map_err(|fault| malformed(path, fault.to_string()))?;
            authorities.push(Authority { path, der });
        }
    }
    if authorities.is_empty() { Err(LoadFault::NoAuthority) } else { Ok(authorities) }
}

fn roots(authorities: &[Authority<'_>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().map(|authority| authority.der.clone()));
    Arc::new(roots)
}

struct RevocationList {
    path: PathBuf,
    der: CertificateRevocationListDer<'static>,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    /// The authorities that bear its issuer's name, by their place, and whether the signature is theirs.
    of: Vec<(usize, Signature)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signature {
    Theirs,
    Another,
}

/// The lists, the newest first: of several by one authority webpki asks only the first.
fn revocation_lists(
    settings: &TlsSettings,
    files: &Files,
    authorities: &[Authority<'_>],
    provider: &Arc<CryptoProvider>,
) -> Result<Vec<RevocationList>, LoadFault> {
    let mut lists = Vec::new();
    for (path, bytes) in settings.crls.iter().zip(&files.crls) {
        for der in pems::<CertificateRevocationListDer<'static>>(path, bytes, "revocation list")? {
            lists.push(revocation_list(path, der, authorities, provider)?);
        }
    }
    lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
    Ok(lists)
}

fn revocation_list(
    path: &Path,
    der: CertificateRevocationListDer<'static>,
    authorities: &[Authority<'_>],
    provider: &Arc<CryptoProvider>,
) -> Result<RevocationList, LoadFault> {
    // webpki takes fewer kinds of lists than x509-parser reads, and tells which only here.
    let acceptable = WebPkiClientVerifier::builder_with_provider(roots(authorities), Arc::clone(provider))
        .with_crls([der.clone()])
        .build();
    acceptable.map_err(|fault| malformed(path, fault.to_string()))?;
    let (_, list) = CertificateRevocationList::from_der(&der)
        .map_err(|_| malformed(path, "is not an X.509 revocation list".to_owned()))?;

    let mut of = Vec::new();
    for (place, authority) in authorities.iter().enumerate() {
        let authority = certificate::parse(&authority.der).map_err(|fault| malformed(path, fault.to_string()))?;
        if authority.subject().as_raw() != list.issuer().as_raw() {
            continue;
        }
        let (tbs, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        let signed = is_signed_by(authority.public_key(), tbs, signature, provider);
        of.push((place, if signed { Signature::Theirs } else { Signature::Another }));
    }
    let this_update = moment(list.last_update().timestamp());
    let next_update = list.next_update().map(|time| moment(time.timestamp()));
    drop(list);
    Ok(RevocationList { path: path.to_owned(), der, this_update, next_update, of })
}

/// Each authority's newest list must be signed by it. webpki checks that again whenever it uses one; checked here, a
/// mix-up is a fault of one reload instead of a refusal of every client.
fn check_coverage(authorities: &[Authority<'_>], lists: &[RevocationList]) -> Result<(), LoadFault> {
    for (place, Authority { path, der }) in authorities.iter().enumerate() {
        let of_this =
            |list: &RevocationList| list.of.iter().find(|(of, _)| *of == place).map(|(_, signature)| *signature);
        let newest = lists.iter().find_map(|list| of_this(list).map(|signature| (list, signature)));
        let authority = || certificate::parse(der).map(|parsed| name_text(parsed.subject())).unwrap_or_default();
        let path = path.to_path_buf();
        match newest {
            Some((_, Signature::Theirs)) => {}
            Some((list, Signature::Another)) => {
                let list = list.path.clone();
                return Err(LoadFault::ForeignRevocationList { list, path, authority: authority() });
            }
            None => return Err(LoadFault::NoRevocationList { path, authority: authority() }),
        }
    }
    Ok(())
}

/// Whether the key made the signature, by any algorithm the provider knows. Fit for finding mix-ups only: what counts
/// in a handshake is webpki's check, which also holds the algorithm to what the certificate says.
pub(crate) fn is_signed_by(
    key: &SubjectPublicKeyInfo<'_>,
    message: &[u8],
    signature: &[u8],
    provider: &CryptoProvider,
) -> bool {
    let key: &[u8] = &key.subject_public_key.data;
    let algorithms = provider.signature_verification_algorithms.all;
    algorithms.iter().any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

/// The sections of one kind in a PEM file, of which there must be one at least.
fn pems<T: PemObject>(path: &Path, bytes: &[u8], kind: &str) -> Result<Vec<T>, LoadFault> {
    let sections: Result<Vec<T>, _> = T::pem_slice_iter(bytes).collect();
    let sections = sections.map_err(|error| malformed(path, pem_fault(&error).to_owned()))?;
    if sections.is_empty() {
        return Err(malformed(path, format!("holds no {kind} in PEM form")));
    }
    Ok(sections)
}

/// A PEM fault in words. The parser's own repeat lines of the file, which may be a key's.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum may grow")]
fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end",
        pem::Error::IllegalSectionStart { .. } => "a PEM section starts with a line that is not PEM",
        pem::Error::Base64Decode(_) => "a PEM section is not base64",
        pem::Error::NoItemsFound => "no PEM section of that kind",
        _ => "is not PEM",
    }
}

fn malformed(path: &Path, fault: String) -> LoadFault {
    LoadFault::Malformed { path: path.to_owned(), fault }
}
