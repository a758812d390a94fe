//! The registry of partners: the fold of `airut.partners`, and who a certificate belongs to.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::PartnerId,
    partner::{Partner, PresentedCertificate, State},
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
}

/// The record of a partner's new definition. It names the version it makes, so that of two changes made from the same
/// version the first in the log wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartnerApplied {
    /// One more than the version it was made from.
    pub version: u32,
    /// The whole definition.
    pub partner: Partner,
}

/// What the fold says of a [`PartnerApplied`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The definition is in force.
    Accepted,
    /// Made from an older version: ignored.
    Superseded,
}

/// The next state of one partner.
pub fn apply(prior: Option<&Entry>, record: &PartnerApplied) -> (Verdict, Option<Entry>) {
    let current = prior.map_or(0, |entry| entry.version);
    if record.version != current + 1 {
        return (Verdict::Superseded, None);
    }
    (Verdict::Accepted, Some(Entry { version: record.version, partner: record.partner.clone() }))
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
}

/// Why a certificate that the TLS handshake accepted gives no usable identity. Names the partner where one is known, so that
/// the refusal can be recorded under it.
#[derive(Clone, Debug)]
pub struct Unidentified {
    /// What to answer.
    pub refusal: Refusal,
    /// The suspended partner, when that is the reason.
    pub partner: Option<PartnerId>,
}

impl Registry {
    /// Finds the one active partner that the certificate belongs to. None or several are refused, and so is a suspended one.
    pub fn identify(&self, certificate: &PresentedCertificate) -> Result<VerifiedPartner, Unidentified> {
        let mut fitting = self.partners.values().filter(|entry| {
            let matches = &entry.partner.certificates;
            matches.iter().any(|m| m.issuer == certificate.issuer && certificate.names.contains(&m.name))
        });
        let refuse = |reason, partner| Err(Unidentified { refusal: Refusal::new(reason), partner });
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
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.partners.values().map(Arc::as_ref)
    }

    /// Puts an entry in its place.
    pub fn insert(&mut self, entry: Entry) {
        self.partners.insert(entry.partner.id.clone(), Arc::new(entry));
    }
}
