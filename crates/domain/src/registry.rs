//! The registry of partners: the fold of `airut.partners`, and who a certificate belongs to.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::PartnerId,
    keys::Digest,
    partner::{Kind, Partner, PresentedCertificate, State},
    refusal::{Reason, Refusal},
};

/// The partners at some position of `airut.partners`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    partners: BTreeMap<PartnerId, Arc<Entry>>,
}

/// A partner and how often it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1 for the first definition, one more for each accepted change.
    pub version: u32,
    /// The definition in force.
    pub partner: Partner,
    /// SHA-256 of the definition that the partner's file last gave; none while no file gave one. What the service changed since
    /// leaves it as it is, so that a file counts again only once it says something else.
    pub source: Option<Digest>,
}

/// The record of a partner's new definition. It names the version it makes, so that of two changes made from the same
/// version the first in the log wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartnerApplied {
    /// One more than the version it was made from.
    pub version: u32,
    /// The whole definition.
    pub partner: Partner,
    /// The partner that made the change over the service; none when it comes from the exchange's own files.
    pub by: Option<PartnerId>,
    /// SHA-256 of the definition that a file gave; none when the change does not come from one.
    pub source: Option<Digest>,
}

/// What the fold says of a [`PartnerApplied`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The definition is in force.
    Accepted,
    /// Made from an older version: ignored.
    Superseded,
    /// Whoever made it may not, or no longer: ignored.
    NotEntitled,
}

/// The next state of one partner.
pub fn apply(registry: &Registry, record: &PartnerApplied) -> (Verdict, Option<Entry>) {
    let prior = registry.get(&record.partner.id);
    if record.version != prior.map_or(0, |entry| entry.version) + 1 {
        return (Verdict::Superseded, None);
    }
    if !is_entitled(registry, prior, record) {
        return (Verdict::NotEntitled, None);
    }
    let partner = keeping_revocations(record.partner.clone(), prior);
    let source = record.source.or(prior.and_then(|entry| entry.source));
    (Verdict::Accepted, Some(Entry { version: record.version, partner, source }))
}

/// The files may make every change, and so may an active operator. Any other partner may add certificates to its own definition.
fn is_entitled(registry: &Registry, prior: Option<&Entry>, record: &PartnerApplied) -> bool {
    let Some(by) = &record.by else { return true };
    let Some(author) = registry.current(by) else { return false };
    author.is_operator()
        || prior.is_some_and(|prior| prior.partner.id == *by && only_adds(&prior.partner, &record.partner))
}

/// Whether all that the new definition does is to add certificates.
fn only_adds(prior: &Partner, next: &Partner) -> bool {
    let others = Partner { certificates: prior.certificates.clone(), ..next.clone() };
    others == *prior && next.certificates.starts_with(&prior.certificates)
}

/// What was revoked stays revoked, whoever forgets to say so: a file, or an operator who writes a definition anew.
pub(crate) fn keeping_revocations(mut partner: Partner, prior: Option<&Entry>) -> Partner {
    partner.revoked.extend(prior.iter().flat_map(|prior| prior.partner.revoked.iter().copied()));
    partner
}

/// Proof that a certificate belongs to exactly one partner, which was active. Only [`Registry::identify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedPartner {
    entry: Arc<Entry>,
}

impl VerifiedPartner {
    /// The partner's id.
    pub fn id(&self) -> &PartnerId {
        &self.entry.partner.id
    }

    /// The definition it was verified against.
    pub fn partner(&self) -> &Partner {
        &self.entry.partner
    }

    /// That definition's version.
    pub fn version(&self) -> u32 {
        self.entry.version
    }

    /// The entry it was verified against.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whether it may change the registry.
    pub fn is_operator(&self) -> bool {
        self.entry.partner.kind == Kind::Operator
    }
}

/// Why a certificate that the TLS handshake accepted gives no usable identity. Names the partner where one is known, so that
/// the refusal can be recorded under it.
#[derive(Clone, Debug)]
pub struct Unidentified {
    /// What to answer.
    pub refusal: Refusal,
    /// The partner that is suspended, or that the revoked certificate was one of, when that is the reason.
    pub partner: Option<PartnerId>,
}

impl Registry {
    /// Finds the one active partner that the certificate belongs to. None or several are refused, and so are a suspended one and
    /// a certificate that any partner has had revoked.
    pub fn identify(&self, certificate: &PresentedCertificate) -> Result<VerifiedPartner, Unidentified> {
        let refuse = |reason, partner| Err(Unidentified { refusal: Refusal::new(reason), partner });
        let mut entries = self.partners.values();
        if let Some(entry) = entries.find(|entry| entry.partner.revoked.contains(&certificate.fingerprint)) {
            return refuse(Reason::CertificateRevoked, Some(entry.partner.id.clone()));
        }
        let mut fitting = self.partners.values().filter(|entry| certificate.fits(&entry.partner));
        match (fitting.next(), fitting.next()) {
            (None, _) => refuse(Reason::CertificateUnknown, None),
            (Some(_), Some(_)) => refuse(Reason::CertificateAmbiguous, None),
            (Some(entry), None) => match entry.partner.state {
                State::Suspended => refuse(Reason::PartnerSuspended, Some(entry.partner.id.clone())),
                State::Active => Ok(VerifiedPartner { entry: Arc::clone(entry) }),
            },
        }
    }

    /// The partner again, from the registry as it is now, if it is still there and active. The certificate it was identified
    /// by must still be one of its own: `identify` says so, this does not.
    pub fn current(&self, id: &PartnerId) -> Option<VerifiedPartner> {
        let entry = self.partners.get(id)?;
        (entry.partner.state == State::Active).then(|| VerifiedPartner { entry: Arc::clone(entry) })
    }

    /// The partner's entry, active or not.
    pub fn get(&self, id: &PartnerId) -> Option<&Entry> {
        self.partners.get(id).map(Arc::as_ref)
    }

    /// Every entry, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.partners.values().map(Arc::as_ref)
    }

    /// Every other active partner with whom this one's own contracts and rights let it exchange anything, and those that receive something it receives
    /// too, to which what was misrouted may be passed on; by id.
    pub fn counterparts<'a>(&'a self, of: &'a Partner) -> impl Iterator<Item = &'a Partner> {
        let partners = self.entries().map(|entry| &entry.partner);
        partners.filter(|other| {
            other.id != of.id && other.state == State::Active && (of.deals_with(other) || of.receives_what(other))
        })
    }

    /// Puts an entry in its place.
    pub fn insert(&mut self, entry: Entry) {
        self.partners.insert(entry.partner.id.clone(), Arc::new(entry));
    }
}
