//! The partner definitions that the exchange is delivered with.

use std::{collections::BTreeMap, fs, path::Path};

use airut_domain::{
    matter::Category,
    partner::{CertificateName, Kind, Partner},
};
use airut_register::benefits;

/// By the name of their file.
fn partners() -> BTreeMap<String, Partner> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/exchange/partners");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let partner = toml::from_str(&text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), partner)
    };
    files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).map(read).collect()
}

#[test]
fn every_definition_is_without_fault_and_named_like_its_file() {
    for (file, partner) in partners() {
        assert_eq!(partner.faults(), []);
        assert_eq!(partner.id.as_str(), file);
        assert!(partner.certificates.iter().any(|certificate| {
            certificate.issuer == "C=FI, O=Airut development, CN=Airut development CA"
                && certificate.name == CertificateName::Uri(format!("urn:airut:partner:{file}"))
        }));
    }
}

#[test]
fn every_kind_of_partner_is_there() {
    let partners = partners();
    let kind = |id: &str| partners[id].kind;
    assert_eq!(kind("kela"), Kind::Kela);
    assert_eq!(kind("pirkanmaa"), Kind::WellbeingServicesCounty);
    assert_eq!(kind("varsinais-suomi"), Kind::WellbeingServicesCounty);
    assert_eq!(kind("pohjois-pohjanmaa"), Kind::WellbeingServicesCounty);
    assert_eq!(kind("helsinki"), Kind::Municipality);
    assert_eq!(kind("pension-provider"), Kind::PensionProvider);
    assert_eq!(kind("unemployment-fund"), Kind::UnemploymentFund);
    assert_eq!(kind("bank"), Kind::Bank);
    assert_eq!(kind("foreign-institution"), Kind::ForeignInstitution);
    for id in ["incomes-register", "tax-administration", "dvv", "kanta", "credit-register"] {
        assert_eq!(kind(id), Kind::Authority);
    }
    assert_eq!(kind("auditor"), Kind::Auditor);
    assert_eq!(kind("operator"), Kind::Operator);
    assert!(["kela", "auditor", "operator"].into_iter().all(|id| partners[id].contracts.is_empty()));
}

#[test]
fn contracts_name_partners_that_exist_and_benefits_that_the_register_has() {
    let partners = partners();
    for (id, partner) in &partners {
        for contract in &partner.contracts {
            assert!(partners.contains_key(contract.responder.as_str()), "{id}: {}", contract.responder);
            for grant in &contract.grants {
                for benefit in grant.benefits.iter() {
                    let known = benefits::find(benefit.as_str()).unwrap_or_else(|| panic!("{id}: {benefit}"));
                    assert!(known.categories.contains(&grant.category), "{id}: {} of {benefit}", grant.category);
                }
            }
        }
    }
}

#[test]
fn social_assistance_is_granted_and_something_of_it_withheld() {
    let partners = partners();
    let categories = |id: &str| -> Vec<Category> {
        let contracts = &partners[id].contracts;
        let fits = |c: &&airut_domain::partner::Contract| {
            c.purpose.as_str() == "social-assistance" && c.legal_basis.as_str() == "1412/1997"
        };
        contracts.iter().find(fits).unwrap().grants.iter().map(|grant| grant.category).collect()
    };
    for id in ["pirkanmaa", "helsinki"] {
        let granted = categories(id);
        for category in [Category::Pending, Category::Decision, Category::Payment, Category::MedicineCostCap] {
            assert!(granted.contains(&category), "{id}: {category}");
        }
        assert!(!granted.contains(&Category::Insurance), "{id}");
    }
    assert!(!categories("pirkanmaa").contains(&Category::Recovery));
    assert!(categories("helsinki").contains(&Category::Recovery));
}
