//! Partners, the certificates they are known by, and their contracts.
//!
//! The same types are read from `deploy/exchange/partners/*.toml` and written, as JSON, into the records of
//! `airut.partners`. Nothing in them is personal data.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Benefit, LegalBasis, PartnerId, Purpose},
    matter::Category,
    time::{Date, Period, add_months},
};

/// An organisation that exchanges messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Partner {
    /// Its id, used everywhere.
    pub id: PartnerId,
    /// Its name as people write it.
    pub name: String,
    /// What kind of organisation it is.
    pub kind: Kind,
    /// Whether it may call.
    #[serde(default)]
    pub state: State,
    /// How its certificates are recognised. A certificate that fits two partners is refused.
    #[serde(default, rename = "certificate")]
    pub certificates: Vec<CertificateMatch>,
    /// What it may ask.
    #[serde(default, rename = "contract")]
    pub contracts: Vec<Contract>,
}

/// What kind of organisation a partner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Kela itself.
    Kela,
    /// A wellbeing services county (hyvinvointialue).
    WellbeingServicesCounty,
    /// A city or municipality.
    Municipality,
    /// An earnings-related pension provider.
    PensionProvider,
    /// An auditor: reads every entry of the ledger, asks nothing.
    Auditor,
    /// Anybody else.
    Other,
}

/// Whether a partner may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It may.
    #[default]
    Active,
    /// It may not, until further notice.
    Suspended,
}

/// How a certificate is recognised: its issuer, and one name in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CertificateMatch {
    /// The issuer's distinguished name as x509 tools print it, such as `C=FI, O=Airut, CN=Airut development CA`.
    pub issuer: String,
    /// The name that must be there.
    #[serde(flatten)]
    pub name: CertificateName,
}

/// A name in a certificate that identifies an organisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateName {
    /// The subject's organizationIdentifier (2.5.4.97), such as `NTRFI-0246246-0`.
    OrganizationIdentifier(String),
    /// The subject's serialNumber (2.5.4.5).
    SerialNumber(String),
    /// A URI among the subject's alternative names.
    Uri(String),
}

/// What of a certificate identity is decided by, read from the certificate itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// The issuer's distinguished name.
    pub issuer: String,
    /// Every name in it that can identify an organisation.
    pub names: BTreeSet<CertificateName>,
    /// SHA-256 of the whole certificate, hexadecimal.
    pub fingerprint: String,
}

/// A right: for this purpose, under this act, these things from this responder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Contract {
    /// Why the data is needed.
    pub purpose: Purpose,
    /// The act that gives the right.
    pub legal_basis: LegalBasis,
    /// The partner that answers.
    pub responder: PartnerId,
    /// What may be seen.
    #[serde(rename = "grant")]
    pub grants: Vec<Grant>,
}

/// One category of content, for which benefits, and how far back and ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grant {
    /// The category.
    pub category: Category,
    /// The benefits. There is no "all": a new benefit is granted by naming it.
    pub benefits: Arc<BTreeSet<Benefit>>,
    /// Whole months back from the day of asking, that day included. At most 1200.
    pub months_back: u16,
    /// Whole months ahead. At most 1200.
    #[serde(default)]
    pub months_ahead: u16,
}

impl Grant {
    /// The days that may be seen when asked on `today`.
    pub fn window(&self, today: Date) -> Period {
        Period::new(
            add_months(today, -i32::from(self.months_back.min(1200))),
            add_months(today, i32::from(self.months_ahead.min(1200))),
        )
        .unwrap_or(Period::day(today))
    }
}

/// A fault in a partner's definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct Fault {
    /// Where, such as `contract[0].grant[2].benefits`.
    pub field: String,
    /// What is wrong there.
    pub fault: String,
}

impl Partner {
    /// Every fault that the types alone do not rule out.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: String, fault: &str| faults.push(Fault { field, fault: fault.to_owned() });
        if self.name.trim().is_empty() {
            fault("name".into(), "is required");
        }
        if self.certificates.is_empty() {
            fault("certificate".into(), "at least one is required, or nobody can call as this partner");
        }
        for (c, contract) in self.contracts.iter().enumerate() {
            let rivals = self.contracts[..c].iter();
            if rivals.into_iter().any(|r| r.purpose == contract.purpose && r.legal_basis == contract.legal_basis) {
                fault(format!("contract[{c}]"), "another contract has the same purpose and legal basis");
            }
            if contract.grants.is_empty() {
                fault(format!("contract[{c}].grant"), "at least one is required");
            }
            for (g, grant) in contract.grants.iter().enumerate() {
                if contract.grants[..g].iter().any(|other| other.category == grant.category) {
                    fault(format!("contract[{c}].grant[{g}].category"), "is granted twice");
                }
                if grant.benefits.is_empty() {
                    fault(format!("contract[{c}].grant[{g}].benefits"), "at least one is required");
                }
                if grant.months_back > 1200 || grant.months_ahead > 1200 {
                    fault(format!("contract[{c}].grant[{g}]"), "months-back and months-ahead go up to 1200");
                }
            }
        }
        faults
    }
}
