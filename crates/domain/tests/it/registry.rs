//! Who may change the registry, and what no change undoes.

use std::collections::BTreeSet;

use airut_domain::{
    change::{self, Change, Step},
    delivery::{Direction, Right},
    id::PartnerId,
    keys::Digest,
    partner::{CertificateMatch, CertificateName, Contract, Fingerprint, Kind, Partner, PresentedCertificate, State},
    refusal::Reason,
    registry::{Entry, PartnerApplied, Registry, Verdict, apply},
};
use proptest::prelude::*;

use crate::cases;

const IDS: [&str; 4] = ["helsinki", "kela", "operator", "pirkanmaa"];
const ISSUER: &str = "CN=Test";

fn id() -> impl Strategy<Value = PartnerId> {
    prop::sample::select(&IDS[..]).prop_map(|id| id.parse().expect("valid"))
}

fn name(number: u8) -> CertificateName {
    CertificateName::Uri(format!("urn:{number}"))
}

fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::of(&[number])
}

fn partner() -> impl Strategy<Value = Partner> {
    let kinds = [Kind::Operator, Kind::Kela, Kind::Municipality, Kind::Auditor, Kind::Other];
    let kind = prop::sample::select(kinds.to_vec());
    let state = prop_oneof![4 => Just(State::Active), 1 => Just(State::Suspended)];
    let certificates = prop::collection::btree_set(0..6_u8, 1..4);
    let revoked = prop::collection::btree_set(0..4_u8, 0..2);
    (id(), kind, state, certificates, revoked, 0..3_u8).prop_map(|(id, kind, state, certificates, revoked, name_of)| {
        let known = |number| CertificateMatch { issuer: ISSUER.into(), name: name(number) };
        Partner {
            id,
            name: format!("name {name_of}"),
            kind,
            state,
            revoked: revoked.into_iter().map(fingerprint).collect(),
            certificates: certificates.into_iter().map(known).collect(),
            contracts: Vec::new(),
            deliveries: Vec::new(),
            quota: None,
        }
    })
}

fn certificate() -> impl Strategy<Value = PresentedCertificate> {
    (0..4_u8, prop::collection::btree_set(0..6_u8, 0..3)).prop_map(|(number, names)| PresentedCertificate {
        issuer: ISSUER.into(),
        names: names.into_iter().map(name).collect(),
        fingerprint: fingerprint(number),
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (partner(), prop::option::of(0..4_u32)).prop_map(|(partner, expected)| Change::Apply { partner, expected }),
        1 => id().prop_map(Change::Suspend),
        1 => (id(), 0..4_u8).prop_map(|(id, number)| Change::Revoke(id, fingerprint(number))),
        2 => certificate().prop_map(Change::Register),
    ]
}

/// Something that happens to the registry.
#[derive(Clone, Debug)]
enum Event {
    File(Partner),
    Asked(PartnerId, Change),
    /// A record as nobody honest writes it.
    Forged(PartnerApplied),
}

fn event() -> impl Strategy<Value = Event> {
    let forged = (partner(), 1..4_u32, id()).prop_map(|(partner, version, by)| PartnerApplied {
        version,
        partner,
        by: Some(by),
        source: None,
    });
    prop_oneof![
        2 => partner().prop_map(Event::File),
        4 => (id(), change()).prop_map(|(by, change)| Event::Asked(by, change)),
        2 => forged.prop_map(Event::Forged),
    ]
}

fn source(partner: &Partner) -> Digest {
    Digest::of(format!("{partner:?}").as_bytes())
}

/// The record that an event puts into the log, if any.
fn record(registry: &Registry, event: &Event) -> Option<PartnerApplied> {
    let step = match event {
        Event::File(partner) => change::from_file(registry, partner, source(partner)),
        Event::Asked(by, change) => change::judge(registry, by, change).ok()?,
        Event::Forged(applied) => return Some(applied.clone()),
    };
    match step {
        Step::None(_) => None,
        Step::Append(applied) => Some(applied),
    }
}

fn revoked(registry: &Registry) -> BTreeSet<Fingerprint> {
    registry.entries().flat_map(|entry| entry.partner.revoked.iter().copied()).collect()
}

/// What a partner that keeps no registry may come to change: nothing but certificates of its own, more of them.
fn only_adds(before: Option<&Entry>, after: &Entry) -> bool {
    let Some(before) = before else { return false };
    let without = |partner: &Partner| Partner { certificates: Vec::new(), ..partner.clone() };
    let kept = before.partner.certificates.iter().all(|known| after.partner.certificates.contains(known));
    kept && without(&before.partner) == without(&after.partner)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whoever_keeps_no_registry_changes_no_other_and_what_is_revoked_stays_so(
        events in prop::collection::vec(event(), 1..12),
    ) {
        let mut registry = Registry::default();
        for event in &events {
            let Some(applied) = record(&registry, event) else { continue };
            let (verdict, next) = apply(&registry, &applied);
            prop_assert_eq!(verdict == Verdict::Accepted, next.is_some());
            let Some(next) = next else { continue };
            let before = registry.clone();
            registry.insert(next.clone());
            if let Some(author) = applied.by.as_ref() {
                let author = before.current(author).expect("whoever may not call changes nothing");
                if !author.is_operator() {
                    prop_assert_eq!(author.id(), &next.partner.id);
                    prop_assert!(only_adds(before.get(author.id()), &next));
                }
            }
            prop_assert!(revoked(&registry).is_superset(&revoked(&before)));
        }
        let names: BTreeSet<CertificateName> = (0..6).map(name).collect();
        for fingerprint in revoked(&registry) {
            for names in [names.clone(), BTreeSet::from([name(0)]), BTreeSet::from([name(5)])] {
                let presented = PresentedCertificate { issuer: ISSUER.into(), names, fingerprint };
                let refused = registry.identify(&presented).expect_err("revoked");
                prop_assert_eq!(refused.refusal.reason, Reason::CertificateRevoked);
            }
        }
    }

    #[test]
    fn a_registered_certificate_identifies_the_one_that_registered_it(
        partners in prop::collection::vec(partner(), 1..5), by in id(), certificate in certificate(),
    ) {
        let mut registry = Registry::default();
        for partner in partners {
            let version = registry.get(&partner.id).map_or(0, |entry| entry.version) + 1;
            registry.insert(Entry { version, partner, source: None });
        }
        let Ok(step) = change::judge(&registry, &by, &Change::Register(certificate.clone())) else { return Ok(()) };
        if let Step::Append(applied) = step {
            let (verdict, next) = apply(&registry, &applied);
            prop_assert_eq!(verdict, Verdict::Accepted);
            registry.insert(next.expect("accepted"));
        }
        let identified = registry.identify(&certificate).expect("it is known");
        prop_assert_eq!(identified.id(), &by);
        let again = change::judge(&registry, &by, &Change::Register(certificate)).expect("it may");
        prop_assert!(matches!(again, Step::None(_)), "again changes nothing");
    }
}

fn county(id: &str, kind: Kind) -> Partner {
    Partner {
        id: id.parse().expect("valid"),
        name: id.to_owned(),
        kind,
        state: State::Active,
        revoked: BTreeSet::new(),
        certificates: vec![CertificateMatch { issuer: ISSUER.into(), name: CertificateName::Uri(format!("urn:{id}")) }],
        contracts: Vec::new(),
        deliveries: Vec::new(),
        quota: None,
    }
}

fn registry_of(partners: &[Partner]) -> Registry {
    let mut registry = Registry::default();
    for partner in partners {
        let step = change::from_file(&registry, partner, source(partner));
        take(&mut registry, &step);
    }
    registry
}

/// Takes a step to its end; gives whether there was something to do.
fn take(registry: &mut Registry, step: &Step) -> bool {
    let Step::Append(applied) = step else { return false };
    let (verdict, next) = apply(registry, applied);
    assert_eq!(verdict, Verdict::Accepted);
    registry.insert(next.expect("accepted"));
    true
}

#[test]
fn a_file_counts_again_only_once_it_says_something_else() {
    let (operator, county) = (county("operator", Kind::Operator), county("pirkanmaa", Kind::WellbeingServicesCounty));
    let mut registry = registry_of(&[operator.clone(), county.clone()]);
    let suspended = change::judge(&registry, &operator.id, &Change::Suspend(county.id.clone())).expect("may");
    assert!(take(&mut registry, &suspended));
    assert!(registry.current(&county.id).is_none());
    let same = change::from_file(&registry, &county, source(&county));
    assert!(!take(&mut registry, &same), "the file says what it said before");
    let edited = Partner { name: "Pirkanmaan hyvinvointialue".into(), ..county.clone() };
    let edited = change::from_file(&registry, &edited, source(&edited));
    assert!(take(&mut registry, &edited));
    assert!(registry.current(&county.id).is_some(), "an edited file wins");
}

#[test]
fn a_definition_made_from_another_version_changes_nothing() {
    let (operator, county) = (county("operator", Kind::Operator), county("pirkanmaa", Kind::WellbeingServicesCounty));
    let mut registry = registry_of(&[operator.clone(), county.clone()]);
    let renamed = |name: &str, expected| Change::Apply {
        partner: Partner { name: name.into(), ..county.clone() },
        expected: Some(expected),
    };
    let stale = change::judge(&registry, &operator.id, &renamed("A", 0)).expect_err("it is at 1");
    assert_eq!(stale.reason, Reason::VersionChanged);
    let step = change::judge(&registry, &operator.id, &renamed("A", 1)).expect("it is at 1");
    assert!(take(&mut registry, &step));
    let again = change::judge(&registry, &operator.id, &renamed("A", 1)).expect("its own answer was lost");
    assert!(matches!(again, Step::None(Entry { version: 2, .. })));
    let other = change::judge(&registry, &operator.id, &renamed("B", 1)).expect_err("it is at 2");
    assert_eq!(other.reason, Reason::VersionChanged);
}

#[test]
fn a_certificate_of_another_partner_is_refused_by_its_field() {
    let (operator, county) = (county("operator", Kind::Operator), county("pirkanmaa", Kind::WellbeingServicesCounty));
    let registry = registry_of(&[operator.clone(), county.clone()]);
    let mut rival = Partner { id: "helsinki".parse().expect("valid"), ..county.clone() };
    rival.certificates.push(rival.certificates[0].clone());
    let change = Change::Apply { partner: rival, expected: None };
    let refusal = change::judge(&registry, &operator.id, &change).expect_err("it is taken");
    assert_eq!(refusal.reason, Reason::InvalidField);
    let told: Vec<String> = refusal.violations.iter().map(|v| format!("{} {}", v.field, v.fault)).collect();
    assert_eq!(
        told,
        [
            "partner.certificates[1] is there twice",
            "partner.certificates[0] is another partner's already",
            "partner.certificates[1] is another partner's already",
        ]
    );
}

#[test]
fn counterparts_are_the_other_active_partners_that_contracts_and_rights_name() {
    let right = |direction, with: &[&str]| Right {
        direction,
        message_types: BTreeSet::from(["social-work-need".parse().expect("valid")]),
        with: with.iter().map(|party| party.parse().expect("a party")).collect(),
        purpose: "social-work".parse().expect("valid"),
        legal_basis: "1301/2014".parse().expect("valid"),
    };
    let contract = Contract {
        purpose: "social-work".parse().expect("valid"),
        legal_basis: "1301/2014".parse().expect("valid"),
        responder: "kela".parse().expect("valid"),
        grants: Vec::new(),
    };
    let mut pirkanmaa = county("pirkanmaa", Kind::WellbeingServicesCounty);
    pirkanmaa.contracts.push(contract);
    // Its own kind too: one is no counterpart of oneself.
    pirkanmaa.deliveries.push(right(Direction::Send, &["kind:wellbeing-services-county"]));
    pirkanmaa.deliveries.push(right(Direction::Receive, &["helsinki", "nobody"]));
    // It receives what pirkanmaa does, so what is misrouted may be passed on to it.
    let mut espoo = county("espoo", Kind::Municipality);
    espoo.deliveries.push(right(Direction::Receive, &["kela"]));
    let away = Partner { state: State::Suspended, ..county("uusimaa", Kind::WellbeingServicesCounty) };
    let registry = registry_of(&[
        pirkanmaa,
        away,
        county("kainuu", Kind::WellbeingServicesCounty),
        county("kela", Kind::Kela),
        county("helsinki", Kind::Municipality),
        county("elo", Kind::PensionProvider),
        espoo,
    ]);
    let counterparts = |id: &str| -> Vec<&str> {
        let of = &registry.get(&id.parse().expect("valid")).expect("it is there").partner;
        registry.counterparts(of).map(|partner| partner.id.as_str()).collect()
    };
    assert_eq!(counterparts("pirkanmaa"), ["espoo", "helsinki", "kainuu", "kela"]);
    assert_eq!(counterparts("kela"), [""; 0], "what others may do is not its own right");
}
