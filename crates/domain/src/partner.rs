//! Partners, the certificates they are known by, and their contracts.
//!
//! The same types are read from `deploy/exchange/partners/*.toml` and written, as JSON, into the records of
//! `airut.partners`. Nothing in them is personal data.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    delivery::{Direction, Quota, Right},
    id::{Benefit, LegalBasis, PartnerId, Purpose},
    identity_code::IdentityCode,
    keys::Digest,
    matter::Category,
    refusal::Violation,
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
    /// Certificates that never identify it again, whether or not a revocation list names them. Only ever added to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<Fingerprint>,
    /// How its certificates are recognised. A certificate that fits two partners is refused.
    #[serde(default, rename = "certificate")]
    pub certificates: Vec<CertificateMatch>,
    /// What it may ask.
    #[serde(default, rename = "contract")]
    pub contracts: Vec<Contract>,
    /// What it may send and receive.
    #[serde(default, rename = "delivery", skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<Right>,
    /// How much it may send at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// What kind of organisation a partner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// An unemployment fund.
    UnemploymentFund,
    /// An authority of the state: the Tax Administration, the Digital and Population Data Services Agency.
    Authority,
    /// A bank.
    Bank,
    /// An insurance company.
    InsuranceCompany,
    /// A social security institution abroad, or whoever speaks for it.
    ForeignInstitution,
    /// An auditor: reads every entry of the ledger, asks nothing.
    Auditor,
    /// Whoever keeps the registry of partners: changes any definition, asks nothing.
    Operator,
    /// Anybody else.
    Other,
}

/// Every kind, with its name.
const KINDS: [(Kind, &str); 12] = [
    (Kind::Kela, "kela"),
    (Kind::WellbeingServicesCounty, "wellbeing-services-county"),
    (Kind::Municipality, "municipality"),
    (Kind::PensionProvider, "pension-provider"),
    (Kind::UnemploymentFund, "unemployment-fund"),
    (Kind::Authority, "authority"),
    (Kind::Bank, "bank"),
    (Kind::InsuranceCompany, "insurance-company"),
    (Kind::ForeignInstitution, "foreign-institution"),
    (Kind::Auditor, "auditor"),
    (Kind::Operator, "operator"),
    (Kind::Other, "other"),
];

/// A text that names no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a kind of partner")]
pub struct NoKind;

impl FromStr for Kind {
    type Err = NoKind;

    fn from_str(text: &str) -> Result<Self, NoKind> {
        KINDS.into_iter().find(|(_, name)| *name == text).map(|(kind, _)| kind).ok_or(NoKind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.into_iter().find(|(kind, _)| kind == self).map(|(_, name)| name);
        f.write_str(name.expect("every kind has a name"))
    }
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

impl CertificateName {
    /// The name itself.
    pub fn text(&self) -> &str {
        match self {
            Self::OrganizationIdentifier(text) | Self::SerialNumber(text) | Self::Uri(text) => text,
        }
    }
}

/// What of a certificate identity is decided by, read from the certificate itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// The issuer's distinguished name.
    pub issuer: String,
    /// Every name in it that can identify an organisation.
    pub names: BTreeSet<CertificateName>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
}

impl PresentedCertificate {
    /// Whether one of the partner's matches recognises it.
    pub fn fits(&self, partner: &Partner) -> bool {
        partner.certificates.iter().any(|known| known.issuer == self.issuer && self.names.contains(&known.name))
    }
}

/// SHA-256 of a whole certificate. Written as 64 lower-case hexadecimal digits; read with either case, and with the colons that
/// `openssl x509 -fingerprint -sha256` prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(Digest);

/// Why a text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a SHA-256 fingerprint: 64 hexadecimal digits")]
pub struct NoFingerprint;

impl Fingerprint {
    /// The fingerprint of a certificate's DER.
    pub fn of(der: &[u8]) -> Self {
        Self(Digest::of(der))
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let bytes = hex::decode(text.replace(':', "")).map_err(|_| NoFingerprint)?;
        Digest::from_slice(&bytes).map(Self).ok_or(NoFingerprint)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NoFingerprint;

    fn try_from(text: String) -> Result<Self, NoFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
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

/// As many matches a partner may have: certificates that overlap, a few issuers, some to spare.
pub const MOST_CERTIFICATES: usize = 16;

/// A fault in a partner's definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct Fault {
    /// Where, such as `contract[0].grant[2].benefits`.
    pub field: String,
    /// What is wrong there.
    pub fault: String,
}

impl Fault {
    /// The fault as one of a request whose `partner` the definition is. What is written singly in a file, a table each, is a list
    /// with a plural name there: `partner.contracts[0].grants[2].benefits`.
    pub fn in_request(&self) -> Violation {
        let plural = |part: &str| {
            let (name, rest) = part.split_at(part.find('[').unwrap_or(part.len()));
            match name {
                "certificate" | "contract" | "grant" => format!("{name}s{rest}"),
                "delivery" => format!("deliveries{rest}"),
                // Words are joined with a hyphen there, with an underscore here.
                _ => part.replace('-', "_"),
            }
        };
        let path: Vec<String> = self.field.split('.').map(plural).collect();
        Violation { field: format!("partner.{}", path.join(".")).into(), fault: self.fault.clone() }
    }
}

impl Partner {
    /// Whether one of the certificates' matches stands for another's already: a certificate that fits both would be nobody's.
    pub fn faults_beside<'a>(&self, others: impl Iterator<Item = &'a Self> + Clone) -> Vec<Fault> {
        let taken = |known: &CertificateMatch| {
            others.clone().any(|other| other.id != self.id && other.certificates.contains(known))
        };
        let clashes = self.certificates.iter().enumerate().filter(|(_, known)| taken(known));
        let fault = |c| Fault { field: format!("certificate[{c}]"), fault: "is another partner's already".to_owned() };
        clashes.map(|(c, _)| fault(c)).collect()
    }

    /// Whether it receives a type of messages that the other one receives too.
    pub fn receives_what(&self, other: &Self) -> bool {
        let receives = |partner: &Self, name: &_| {
            let mut rights = partner.deliveries.iter().filter(|right| right.direction == Direction::Receive);
            rights.any(|right| right.message_types.contains(name))
        };
        let own = self.deliveries.iter().filter(|right| right.direction == Direction::Receive);
        own.flat_map(|right| &right.message_types).any(|name| receives(other, name))
    }

    /// Whether its contracts or rights name the other one: as who answers, or as one to send to or to receive from.
    pub fn deals_with(&self, other: &Self) -> bool {
        self.contracts.iter().any(|contract| contract.responder == other.id)
            || self.deliveries.iter().any(|right| right.with.iter().any(|party| party.means(other)))
    }

    /// Every fault that the types alone do not rule out.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: String, fault: &str| faults.push(Fault { field, fault: fault.to_owned() });
        if self.name.trim().is_empty() {
            fault("name".into(), "is required");
        }
        if IdentityCode::occurs_in(&self.name) {
            fault("name".into(), "must not contain a personal identity code");
        }
        if self.certificates.is_empty() {
            fault("certificate".into(), "at least one is required, or nobody can call as this partner");
        }
        if self.certificates.len() > MOST_CERTIFICATES {
            fault("certificate".into(), "at most 16 are allowed");
        }
        for (c, known) in self.certificates.iter().enumerate() {
            if self.certificates[..c].contains(known) {
                fault(format!("certificate[{c}]"), "is there twice");
            }
            if known.issuer.is_empty() {
                fault(format!("certificate[{c}].issuer"), "is required");
            }
            if IdentityCode::occurs_in(&known.issuer) || IdentityCode::occurs_in(known.name.text()) {
                fault(format!("certificate[{c}]"), "must not contain a personal identity code");
            }
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
        for (d, right) in self.deliveries.iter().enumerate() {
            for found in right.faults(&self.deliveries[..d]) {
                fault(format!("delivery[{d}]{}", found.field), &found.fault);
            }
        }
        let quota = self.quota.unwrap_or_default();
        for (field, limit) in quota.limits() {
            if limit == Some(0) {
                // A partner that may send nothing has no right to, and is not an exhausted quota.
                fault(format!("quota.{field}"), "must be at least 1");
            }
        }
        faults
    }
}
