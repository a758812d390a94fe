//! The synthetic officials who may be chosen at the desk of `airut dev`. None of them exists.

use airut_desk::{Official, Role};

/// The organisations that have an office at the desk: ids and names.
pub(super) const ORGANISATIONS: [(&str, &str); 4] = [
    ("kela", "Kela"),
    ("pirkanmaa", "Pirkanmaan hyvinvointialue"),
    ("varsinais-suomi", "Varsinais-Suomen hyvinvointialue"),
    ("helsinki", "Helsingin kaupunki"),
];

/// What Kela's officials read at the desk; the rest of what Kela receives goes to its systems.
pub(super) const COLLECTED_BY_KELA: [&str; 4] =
    ["address-notice", "dead-letter-notice", "death-notice", "social-assistance-document"];

/// Subject, name, organisation, title, unit, telephone, roles.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static [Role]);

const CASE_WORK: &[Role] = &[Role::Documents, Role::Requests, Role::Notices];
const SOCIAL_WORK: &[Role] = &[Role::Queries, Role::Documents, Role::Requests, Role::Notices];
const SUPERVISION: &[Role] = &[Role::Documents, Role::Requests, Role::Notices, Role::Supervisor];

const ROWS: [Row; 8] = [
    ("aino", "Aino Esimerkki", "kela", "case-worker", "Perustoimeentulotuki, Tampere", "020 000 0001", CASE_WORK),
    ("eero", "Eero Esimerkki", "kela", "case-worker", "Perustoimeentulotuki, Turku", "020 000 0002", CASE_WORK),
    ("eeva", "Eeva Esimerkki", "kela", "supervisor", "Perustoimeentulotuki, Tampere", "020 000 0003", SUPERVISION),
    (
        "vaino",
        "Väinö Esimerkki",
        "pirkanmaa",
        "social-worker",
        "Aikuissosiaalityö, Tampere",
        "03 000 0001",
        SOCIAL_WORK,
    ),
    (
        "onni",
        "Onni Esimerkki",
        "pirkanmaa",
        "benefit-processor",
        "Etuuskäsittely, Nokia",
        "03 000 0002",
        &[Role::Queries],
    ),
    ("helmi", "Helmi Esimerkki", "pirkanmaa", "supervisor", "Aikuissosiaalityö, Tampere", "03 000 0003", SUPERVISION),
    (
        "sofia",
        "Sofia Exempel",
        "varsinais-suomi",
        "social-worker",
        "Vuxensocialarbete, Åboland",
        "02 000 0001",
        SOCIAL_WORK,
    ),
    ("ilona", "Ilona Esimerkki", "helsinki", "social-worker", "Aikuissosiaalityö, Kallio", "09 000 0001", SOCIAL_WORK),
];

/// All of them, by their organisation's name.
pub(super) fn officials() -> Vec<(String, Vec<Official>)> {
    let official = |(subject, name, organisation, title, unit, telephone, roles): Row| Official {
        subject: subject.to_owned(),
        name: name.to_owned(),
        organisation: organisation.to_owned(),
        title: title.to_owned(),
        unit: unit.to_owned(),
        telephone: telephone.to_owned(),
        roles: roles.iter().copied().collect(),
    };
    let of = |id: &str| ROWS.iter().filter(|row| row.2 == id).copied().map(official).collect();
    ORGANISATIONS.iter().map(|(id, name)| ((*name).to_owned(), of(id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organisations_have_the_names_that_the_exchange_knows_them_by() {
        let registry = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/exchange/partners");
        let partners = crate::partners::read(&registry).expect("the registry is right");
        for (id, name) in ORGANISATIONS {
            let partner = partners.iter().find(|partner| partner.id.as_str() == id).expect("it is a partner");
            assert_eq!(partner.name, name);
        }
    }
}
