//! Partners' definitions, to and from the protocol.

use std::{collections::BTreeSet, fmt::Display, str::FromStr, sync::Arc};

use airut_domain::{
    delivery::{Direction, Quota, Right},
    id::{Benefit, PartnerId},
    matter::Category,
    message_type::{Definition, Service},
    partner::{CertificateMatch, CertificateName, Contract, Fault, Fingerprint, Grant, Kind, Partner, State},
    refusal::{Refusal, Violation},
};

use crate::v1::{self, certificate_match as m, partner as p};

/// A definition for the protocol, in force as this version.
pub fn partner(partner: &Partner, version: u32) -> v1::Partner {
    v1::Partner {
        id: partner.id.to_string(),
        name: partner.name.clone(),
        kind: kind(partner.kind).into(),
        state: match partner.state {
            State::Active => p::State::Active,
            State::Suspended => p::State::Suspended,
        }
        .into(),
        certificates: partner.certificates.iter().map(certificate).collect(),
        contracts: partner.contracts.iter().map(contract).collect(),
        revoked_fingerprints: partner.revoked.iter().map(ToString::to_string).collect(),
        version: i32::try_from(version).unwrap_or(i32::MAX),
        deliveries: partner.deliveries.iter().map(right).collect(),
        quota: partner.quota.map(quota),
    }
}

/// A partner for those who exchange something with it.
pub fn counterpart(partner: &Partner) -> v1::Counterpart {
    v1::Counterpart { id: partner.id.to_string(), name: partner.name.clone(), kind: kind(partner.kind).into() }
}

/// A message type as its senders and recipients are told of it.
pub fn message_type(definition: &Definition) -> v1::MessageTypeDescription {
    use v1::message_type_description::Service as S;
    let service = match definition.service {
        Service::Messages => S::Delivery,
        Service::Documents => S::Document,
        Service::Requests => S::InformationRequest,
    };
    v1::MessageTypeDescription {
        name: definition.name.to_string(),
        title: definition.title.clone(),
        service: service.into(),
        max_bytes: definition.max_bytes.into(),
        content_types: definition.content_types.iter().cloned().collect(),
    }
}

const fn kind(kind: Kind) -> p::Kind {
    match kind {
        Kind::Kela => p::Kind::Kela,
        Kind::WellbeingServicesCounty => p::Kind::WellbeingServicesCounty,
        Kind::Municipality => p::Kind::Municipality,
        Kind::PensionProvider => p::Kind::PensionProvider,
        Kind::UnemploymentFund => p::Kind::UnemploymentFund,
        Kind::Authority => p::Kind::Authority,
        Kind::Bank => p::Kind::Bank,
        Kind::InsuranceCompany => p::Kind::InsuranceCompany,
        Kind::ForeignInstitution => p::Kind::ForeignInstitution,
        Kind::Auditor => p::Kind::Auditor,
        Kind::Operator => p::Kind::Operator,
        Kind::Other => p::Kind::Other,
    }
}

fn certificate(known: &CertificateMatch) -> v1::CertificateMatch {
    let name = match known.name.clone() {
        CertificateName::OrganizationIdentifier(identifier) => m::Name::OrganizationIdentifier(identifier),
        CertificateName::SerialNumber(number) => m::Name::SerialNumber(number),
        CertificateName::Uri(uri) => m::Name::Uri(uri),
    };
    v1::CertificateMatch { issuer: known.issuer.clone(), name: Some(name) }
}

fn contract(contract: &Contract) -> v1::Contract {
    v1::Contract {
        purpose: contract.purpose.to_string(),
        legal_basis: contract.legal_basis.to_string(),
        responder: contract.responder.to_string(),
        grants: contract.grants.iter().map(grant).collect(),
    }
}

fn grant(grant: &Grant) -> v1::Grant {
    v1::Grant {
        category: crate::question::category(grant.category),
        benefits: grant.benefits.iter().map(ToString::to_string).collect(),
        months_back: grant.months_back.into(),
        months_ahead: grant.months_ahead.into(),
    }
}

fn right(right: &Right) -> v1::DeliveryRight {
    use v1::delivery_right::Direction as PbDirection;
    v1::DeliveryRight {
        direction: match right.direction {
            Direction::Send => PbDirection::Send,
            Direction::Receive => PbDirection::Receive,
        }
        .into(),
        message_types: right.message_types.iter().map(ToString::to_string).collect(),
        with: right.with.iter().map(ToString::to_string).collect(),
        purpose: right.purpose.to_string(),
        legal_basis: right.legal_basis.to_string(),
    }
}

fn quota(quota: Quota) -> v1::Quota {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    v1::Quota {
        messages_per_second: quota.messages_per_second.map(i64::from),
        in_flight: quota.in_flight.map(i64::from),
        stored_messages: quota.stored_messages.map(signed),
        stored_bytes: quota.stored_bytes.map(signed),
    }
}

/// Reads the definition in a request's field `partner`, reporting every field at fault at once.
///
/// # Errors
/// A refusal with a violation per field; none repeats a value.
pub fn partner_from(message: Option<&v1::Partner>) -> Result<Partner, Refusal> {
    let Some(message) = message else {
        return Err(Refusal::fields(vec![Violation { field: "partner".into(), fault: "is required".to_owned() }]));
    };
    let mut reading = Reading::default();
    let partner = reading.partner(message);
    let mut faults = reading.rules_broken(&partner);
    faults.splice(0..0, reading.faults);
    if faults.is_empty() { Ok(partner) } else { Err(Refusal::fields(faults)) }
}

/// A definition being read. What can not be read is noted, and something stands in its place that breaks no rule, so that the
/// rest of the definition can be held against the rules all the same.
#[derive(Default)]
struct Reading {
    faults: Vec<Violation>,
    /// A grant's category could not be read: whether another is granted twice can not be said.
    category_unread: bool,
}

impl Reading {
    fn fault(&mut self, field: String, fault: impl Display) {
        self.faults.push(Violation { field: field.into(), fault: fault.to_string() });
    }

    fn partner(&mut self, message: &v1::Partner) -> Partner {
        Partner {
            id: self.id("partner.id", &message.id, "unread"),
            name: message.name.clone(),
            kind: self.kind(message),
            state: self.state(message),
            revoked: self.fingerprints(&message.revoked_fingerprints),
            certificates: message
                .certificates
                .iter()
                .enumerate()
                .map(|(c, known)| self.certificate(c, known))
                .collect(),
            contracts: message.contracts.iter().enumerate().map(|(c, contract)| self.contract(c, contract)).collect(),
            deliveries: message.deliveries.iter().enumerate().map(|(d, right)| self.right(d, right)).collect(),
            quota: message.quota.as_ref().map(|quota| self.quota(quota)),
        }
    }

    fn right(&mut self, number: usize, right: &v1::DeliveryRight) -> Right {
        use v1::delivery_right::Direction as PbDirection;
        let at = format!("partner.deliveries[{number}]");
        let direction = match PbDirection::try_from(right.direction) {
            Ok(PbDirection::Send) => Direction::Send,
            Ok(PbDirection::Receive) => Direction::Receive,
            Ok(PbDirection::Unspecified) | Err(_) => {
                self.fault(format!("{at}.direction"), "must be to send or to receive");
                Direction::Send
            }
        };
        let (types, with) = (right.message_types.iter().enumerate(), right.with.iter().enumerate());
        Right {
            direction,
            message_types: types
                .map(|(t, name)| self.id(&format!("{at}.message_types[{t}]"), name, "unread"))
                .collect(),
            with: with.map(|(w, party)| self.id(&format!("{at}.with[{w}]"), party, "unread")).collect(),
            purpose: self.id(&format!("{at}.purpose"), &right.purpose, "unread"),
            legal_basis: self.id(&format!("{at}.legal_basis"), &right.legal_basis, "unread"),
        }
    }

    fn quota(&mut self, quota: &v1::Quota) -> Quota {
        Quota {
            messages_per_second: self.number("partner.quota.messages_per_second", quota.messages_per_second),
            in_flight: self.number("partner.quota.in_flight", quota.in_flight),
            stored_messages: self.number("partner.quota.stored_messages", quota.stored_messages),
            stored_bytes: self.number("partner.quota.stored_bytes", quota.stored_bytes),
        }
    }

    fn number<T: TryFrom<i64>>(&mut self, field: &str, number: Option<i64>) -> Option<T> {
        let read = T::try_from(number?);
        read.map_err(|_| self.fault(field.to_owned(), "is out of range")).ok()
    }

    fn kind(&mut self, message: &v1::Partner) -> Kind {
        kind_from(message.kind).unwrap_or_else(|fault| {
            self.fault("partner.kind".to_owned(), fault);
            Kind::Other
        })
    }

    fn state(&mut self, message: &v1::Partner) -> State {
        match p::State::try_from(message.state) {
            Ok(p::State::Unspecified | p::State::Active) => State::Active,
            Ok(p::State::Suspended) => State::Suspended,
            Err(_) => {
                self.fault("partner.state".to_owned(), "must be one of the known states");
                State::Suspended
            }
        }
    }

    fn fingerprints(&mut self, texts: &[String]) -> BTreeSet<Fingerprint> {
        let mut fingerprints = BTreeSet::new();
        for (number, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(fingerprint) => drop(fingerprints.insert(fingerprint)),
                Err(fault) => self.fault(format!("partner.revoked_fingerprints[{number}]"), fault),
            }
        }
        fingerprints
    }

    fn certificate(&mut self, number: usize, known: &v1::CertificateMatch) -> CertificateMatch {
        let name = match known.name.clone() {
            Some(m::Name::OrganizationIdentifier(identifier)) => CertificateName::OrganizationIdentifier(identifier),
            Some(m::Name::SerialNumber(serial)) => CertificateName::SerialNumber(serial),
            Some(m::Name::Uri(uri)) => CertificateName::Uri(uri),
            None => CertificateName::Uri(String::new()),
        };
        if name.text().is_empty() {
            self.fault(format!("partner.certificates[{number}].name"), "is required");
        }
        CertificateMatch { issuer: known.issuer.clone(), name }
    }

    fn contract(&mut self, number: usize, contract: &v1::Contract) -> Contract {
        let at = format!("partner.contracts[{number}]");
        let grants = contract.grants.iter().enumerate();
        Contract {
            // Unlike any other's, so that no two contracts seem to be for the same.
            purpose: self.id(&format!("{at}.purpose"), &contract.purpose, &format!("unread:{number}")),
            legal_basis: self.id(&format!("{at}.legal_basis"), &contract.legal_basis, &format!("unread:{number}")),
            responder: self.id(&format!("{at}.responder"), &contract.responder, "unread"),
            grants: grants.map(|(g, grant)| self.grant(&format!("{at}.grants[{g}]"), grant)).collect(),
        }
    }

    fn grant(&mut self, at: &str, grant: &v1::Grant) -> Grant {
        let category = crate::matter::category_from(grant.category).unwrap_or_else(|| {
            self.category_unread = true;
            self.fault(format!("{at}.category"), "must be one of the known categories");
            Category::Pending
        });
        let benefits = grant.benefits.iter().enumerate();
        let benefits: BTreeSet<Benefit> =
            benefits.map(|(b, benefit)| self.id(&format!("{at}.benefits[{b}]"), benefit, "unread")).collect();
        Grant {
            category,
            benefits: Arc::new(benefits),
            // More than the rules allow stays more than they allow.
            months_back: u16::try_from(grant.months_back).unwrap_or(u16::MAX),
            months_ahead: u16::try_from(grant.months_ahead).unwrap_or(u16::MAX),
        }
    }

    fn id<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str, instead: &str) -> T {
        text.parse().unwrap_or_else(|fault: T::Err| {
            let fault = if text.is_empty() { "is required".to_owned() } else { fault.to_string() };
            self.fault(field.to_owned(), fault);
            instead.parse().ok().expect("what stands instead is an identifier")
        })
    }

    fn rules_broken(&self, partner: &Partner) -> Vec<Violation> {
        let unsure = |fault: &Fault| self.category_unread && fault.field.ends_with(".category");
        partner.faults().iter().filter(|fault| !unsure(fault)).map(Fault::in_request).collect()
    }
}

/// Reads a kind of partner.
///
/// # Errors
/// Why it is none.
pub fn kind_from(kind: i32) -> Result<Kind, &'static str> {
    match p::Kind::try_from(kind) {
        Ok(p::Kind::Kela) => Ok(Kind::Kela),
        Ok(p::Kind::WellbeingServicesCounty) => Ok(Kind::WellbeingServicesCounty),
        Ok(p::Kind::Municipality) => Ok(Kind::Municipality),
        Ok(p::Kind::PensionProvider) => Ok(Kind::PensionProvider),
        Ok(p::Kind::UnemploymentFund) => Ok(Kind::UnemploymentFund),
        Ok(p::Kind::Authority) => Ok(Kind::Authority),
        Ok(p::Kind::Bank) => Ok(Kind::Bank),
        Ok(p::Kind::InsuranceCompany) => Ok(Kind::InsuranceCompany),
        Ok(p::Kind::ForeignInstitution) => Ok(Kind::ForeignInstitution),
        Ok(p::Kind::Auditor) => Ok(Kind::Auditor),
        Ok(p::Kind::Operator) => Ok(Kind::Operator),
        Ok(p::Kind::Other) => Ok(Kind::Other),
        Ok(p::Kind::Unspecified) => Err("is required"),
        Err(_) => Err("must be one of the known kinds"),
    }
}

/// Reads the id of a partner in the field of a request.
///
/// # Errors
/// A refusal with the field.
pub fn partner_id(field: &'static str, text: &str) -> Result<PartnerId, Refusal> {
    field_from(field, text)
}

/// Reads a certificate's fingerprint in the field of a request.
///
/// # Errors
/// A refusal with the field.
pub fn fingerprint(field: &'static str, text: &str) -> Result<Fingerprint, Refusal> {
    field_from(field, text)
}

fn field_from<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|fault: T::Err| {
        let fault = if text.is_empty() { "is required".to_owned() } else { fault.to_string() };
        Refusal::fields(vec![Violation { field: field.into(), fault }])
    })
}

#[cfg(test)]
mod tests {
    use airut_domain::refusal::Reason;

    use super::*;

    fn message() -> v1::Partner {
        let grant = v1::Grant { category: 2, benefits: vec!["study-grant".into()], months_back: 3, months_ahead: 1 };
        let contract = v1::Contract {
            purpose: "social-assistance".into(),
            legal_basis: "1412/1997".into(),
            responder: "kela".into(),
            grants: vec![grant],
        };
        v1::Partner {
            id: "elo".into(),
            name: "Elo".into(),
            kind: p::Kind::PensionProvider.into(),
            state: p::State::Suspended.into(),
            certificates: vec![v1::CertificateMatch {
                issuer: "CN=Test".into(),
                name: Some(m::Name::SerialNumber("1".into())),
            }],
            contracts: vec![contract],
            revoked_fingerprints: vec!["ab".repeat(32)],
            version: 7,
            deliveries: vec![v1::DeliveryRight {
                direction: v1::delivery_right::Direction::Receive.into(),
                message_types: vec!["social-work-need".into()],
                with: vec!["kela".into(), "kind:authority".into()],
                purpose: "social-work".into(),
                legal_basis: "1301/2014".into(),
            }],
            quota: Some(v1::Quota { in_flight: Some(5), ..v1::Quota::default() }),
        }
    }

    #[test]
    fn a_definition_reads_back() {
        let read = partner_from(Some(&message())).expect("without fault");
        assert_eq!(partner(&read, 7), message());
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_path() {
        let mut wrong = message();
        (wrong.id, wrong.name, wrong.kind) = ("a b".into(), String::new(), 0);
        wrong.certificates[0].name = None;
        wrong.certificates.push(v1::CertificateMatch::default());
        wrong.contracts[0].purpose = String::new();
        wrong.contracts[0].grants[0].months_back = 5000;
        wrong.contracts[0].grants.push(v1::Grant { months_ahead: -1, ..v1::Grant::default() });
        wrong.contracts.push(v1::Contract::default());
        wrong.revoked_fingerprints.push("zz".into());
        wrong.deliveries[0].with = vec!["kind:bakery".into()];
        wrong.deliveries.push(v1::DeliveryRight { direction: 2, ..v1::DeliveryRight::default() });
        wrong.quota = Some(v1::Quota { in_flight: Some(0), stored_bytes: Some(-1), ..v1::Quota::default() });
        let refusal = partner_from(Some(&wrong)).expect_err("full of faults");
        assert_eq!(refusal.reason, Reason::InvalidField);
        let mut fields: Vec<&str> = refusal.violations.iter().map(|violation| violation.field.as_ref()).collect();
        fields.sort_unstable();
        let expected = [
            "partner.certificates[0].name",
            "partner.certificates[1].issuer",
            "partner.certificates[1].name",
            "partner.contracts[0].grants[0]",
            "partner.contracts[0].grants[1]",
            "partner.contracts[0].grants[1].benefits",
            "partner.contracts[0].grants[1].category",
            "partner.contracts[0].purpose",
            "partner.contracts[1].grants",
            "partner.contracts[1].legal_basis",
            "partner.contracts[1].purpose",
            "partner.contracts[1].responder",
            "partner.deliveries[0].with[0]",
            "partner.deliveries[1].legal_basis",
            "partner.deliveries[1].message_types",
            "partner.deliveries[1].purpose",
            "partner.deliveries[1].with",
            "partner.id",
            "partner.kind",
            "partner.name",
            "partner.quota.in_flight",
            "partner.quota.stored_bytes",
            "partner.revoked_fingerprints[1]",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn fingerprints_are_read_as_openssl_prints_them() {
        let colons = vec!["AB"; 32].join(":");
        let read = fingerprint("fingerprint", &colons).expect("a fingerprint");
        assert_eq!(read.to_string(), "ab".repeat(32));
        assert!(fingerprint("fingerprint", "ab").is_err());
    }
}
