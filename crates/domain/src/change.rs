//! Changes of the registry of partners: who may ask for which, and the record that makes one. Default deny.
//!
//! Each is judged by the registry as a gateway knows it. What another change made meanwhile is for [`crate::registry::apply`]
//! to say: it voids a record that was made from an older version, or by somebody who has lost the right to.

use crate::{
    id::PartnerId,
    keys::Digest,
    partner::{
        CertificateMatch, CertificateName, Fingerprint, MOST_CERTIFICATES, Partner, PresentedCertificate, State,
    },
    refusal::{Reason, Refusal, Violation},
    registry::{Entry, PartnerApplied, Registry, VerifiedPartner, keeping_revocations},
};

/// What a partner asks of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put this definition in force. Operators only.
    Apply {
        /// The whole definition.
        partner: Partner,
        /// The version that it is made from, 0 for a new partner; none to put it in force over any.
        expected: Option<u32>,
    },
    /// Let the partner call no more. Operators only.
    Suspend(PartnerId),
    /// Let this certificate of the partner identify nobody, ever. Operators only.
    Revoke(PartnerId, Fingerprint),
    /// Let the caller be known by this certificate too. It was checked as a handshake would.
    Register(PresentedCertificate),
}

/// What has to be done for a change to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is, as this partner's entry says.
    None(Entry),
    /// To append this record.
    Append(PartnerApplied),
}

/// Whether the partner keeps the registry.
///
/// # Errors
/// [`Reason::NotAnOperator`].
pub fn require_operator(caller: &VerifiedPartner) -> Result<(), Refusal> {
    if caller.is_operator() { Ok(()) } else { Err(Refusal::new(Reason::NotAnOperator)) }
}

/// What makes the change that `by` asks for.
///
/// # Errors
/// [`Reason::PartnerSuspended`] when `by` may not call, [`Reason::NotAnOperator`], [`Reason::NotFound`] when the partner to
/// change does not exist, [`Reason::VersionChanged`] when it is not at the expected version, and [`Reason::InvalidField`] with
/// every fault of a definition, or why a certificate can not be registered.
pub fn judge(registry: &Registry, by: &PartnerId, change: &Change) -> Result<Step, Refusal> {
    let caller = registry.current(by).ok_or(Refusal::new(Reason::PartnerSuspended))?;
    let partner = match change {
        Change::Apply { partner, expected } => {
            require_operator(&caller)?;
            applied(registry, partner, *expected)?
        }
        Change::Suspend(id) => {
            require_operator(&caller)?;
            Partner { state: State::Suspended, ..known(registry, id)? }
        }
        Change::Revoke(id, fingerprint) => {
            require_operator(&caller)?;
            let mut partner = known(registry, id)?;
            partner.revoked.insert(*fingerprint);
            partner
        }
        Change::Register(certificate) => registered(registry, &caller, certificate)?,
    };
    Ok(match registry.get(&partner.id) {
        Some(entry) if entry.partner == partner => Step::None(entry.clone()),
        prior => Step::Append(PartnerApplied { version: next(prior), partner, by: Some(by.clone()), source: None }),
    })
}

/// What puts a file's definition in force, if the file says something else than when it was last applied: then it wins over what
/// the service did since, else what the service did stays. `source` is the definition's SHA-256.
pub fn from_file(registry: &Registry, partner: &Partner, source: Digest) -> Step {
    match registry.get(&partner.id) {
        Some(entry) if entry.source == Some(source) => Step::None(entry.clone()),
        prior => {
            let partner = keeping_revocations(partner.clone(), prior);
            Step::Append(PartnerApplied { version: next(prior), partner, by: None, source: Some(source) })
        }
    }
}

fn next(prior: Option<&Entry>) -> u32 {
    prior.map_or(0, |entry| entry.version) + 1
}

fn known(registry: &Registry, id: &PartnerId) -> Result<Partner, Refusal> {
    registry.get(id).map(|entry| entry.partner.clone()).ok_or(Refusal::new(Reason::NotFound))
}

fn applied(registry: &Registry, partner: &Partner, expected: Option<u32>) -> Result<Partner, Refusal> {
    let others = registry.entries().map(|entry| &entry.partner);
    let faults = partner.faults().into_iter().chain(partner.faults_beside(others));
    let violations: Vec<Violation> = faults.map(|fault| fault.in_request()).collect();
    if !violations.is_empty() {
        return Err(Refusal::fields(violations));
    }
    let prior = registry.get(&partner.id);
    let partner = keeping_revocations(partner.clone(), prior);
    let current = prior.map_or(0, |entry| entry.version);
    // Whoever tries again because the first answer was lost finds what they asked for in force.
    let is_done =
        |expected: u32| expected.checked_add(1) == Some(current) && prior.is_some_and(|entry| entry.partner == partner);
    match expected {
        Some(expected) if expected != current && !is_done(expected) => Err(Refusal::new(Reason::VersionChanged)),
        Some(_) | None => Ok(partner),
    }
}

/// The caller's definition, with a match for the certificate.
fn registered(
    registry: &Registry,
    caller: &VerifiedPartner,
    certificate: &PresentedCertificate,
) -> Result<Partner, Refusal> {
    let fault = |fault: &str| Refusal::fields(vec![Violation { field: "certificate".into(), fault: fault.to_owned() }]);
    let mut entries = registry.entries();
    if entries.any(|entry| entry.partner.revoked.contains(&certificate.fingerprint)) {
        return Err(fault("has been revoked"));
    }
    if registry.entries().any(|entry| entry.partner.id != *caller.id() && certificate.fits(&entry.partner)) {
        return Err(fault("is another partner's already"));
    }
    let mut partner = caller.partner().clone();
    if certificate.fits(&partner) {
        return Ok(partner);
    }
    if partner.certificates.len() >= MOST_CERTIFICATES {
        return Err(fault("is one too many: have those removed that are no longer used"));
    }
    let name = identifying(certificate).ok_or_else(|| fault("holds no name that identifies an organisation"))?;
    partner.certificates.push(CertificateMatch { issuer: certificate.issuer.clone(), name: name.clone() });
    match partner.faults().first() {
        None => Ok(partner),
        Some(broken) => Err(fault(&broken.fault)),
    }
}

/// The name to know a certificate by: the organisation's own identifier, which outlives a certificate, before a URI.
fn identifying(certificate: &PresentedCertificate) -> Option<&CertificateName> {
    let rank = |name: &&CertificateName| match name {
        CertificateName::OrganizationIdentifier(_) => 0,
        CertificateName::SerialNumber(_) => 1,
        CertificateName::Uri(_) => 2,
    };
    certificate.names.iter().min_by_key(rank)
}
