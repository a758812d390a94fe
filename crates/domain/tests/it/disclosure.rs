//! For any contract, question and answer: what is disclosed lies within the grant, by rules of this file's own.
//!
//! `AIRUT_PROPTEST_CASES` sets the number of cases: 50,000 unless said otherwise, a million by hand.

use std::collections::BTreeSet;

use airut_domain::{
    context::{Context, Text},
    id::Benefit,
    identity_code::IdentityCode,
    judge::judge,
    matter::{Category, Cents, Content, Matter, Outcome, Stage},
    minimise::minimise,
    partner::{Contract, Grant, Kind, Partner, State},
    question::{Question, Withheld, WithheldWhy},
    refusal::Reason,
    registry::{Entry, Registry, VerifiedPartner},
    time::{Date, Period, parse_date},
};
use proptest::prelude::*;

use crate::cases;

const BENEFITS: [&str; 4] =
    ["basic-social-assistance", "general-housing-allowance", "student-aid", "sickness-allowance"];
const PURPOSES: [&str; 2] = ["social-assistance", "social-work"];
const LEGAL_BASES: [&str; 2] = ["1412/1997", "1301/2014"];

fn benefit() -> impl Strategy<Value = Benefit> {
    prop::sample::select(&BENEFITS[..]).prop_map(|benefit| benefit.parse().expect("valid"))
}

fn category() -> impl Strategy<Value = Category> {
    prop::sample::select(&Category::ALL[..])
}

/// A day of 2023 to 2029: today lies in the middle.
fn day() -> impl Strategy<Value = Date> {
    (2023..2030_i32, 1..=365_u16)
        .prop_map(|(year, day)| Date::from_ordinal_date(year, day).expect("a day of every year"))
}

fn period() -> impl Strategy<Value = Period> {
    (day(), day()).prop_map(|(one, other)| Period::new(one.min(other), one.max(other)).expect("ordered"))
}

fn grant() -> impl Strategy<Value = Grant> {
    let benefits = prop::collection::btree_set(benefit(), 0..4);
    (category(), benefits, 0..30_u16, 0..20_u16).prop_map(|(category, benefits, months_back, months_ahead)| Grant {
        category,
        benefits: benefits.into(),
        months_back,
        months_ahead,
    })
}

fn contract() -> impl Strategy<Value = Contract> {
    let (purpose, legal_basis) = (prop::sample::select(&PURPOSES[..]), prop::sample::select(&LEGAL_BASES[..]));
    let grants = prop::collection::vec(grant(), 0..5);
    (purpose, legal_basis, grants).prop_map(|(purpose, legal_basis, grants)| Contract {
        purpose: purpose.parse().expect("valid"),
        legal_basis: legal_basis.parse().expect("valid"),
        responder: "kela".parse().expect("valid"),
        grants,
    })
}

fn question() -> impl Strategy<Value = Question> {
    let (purpose, legal_basis) = (prop::sample::select(&PURPOSES[..]), prop::sample::select(&LEGAL_BASES[..]));
    let categories = prop::collection::btree_set(category(), 0..4);
    (purpose, legal_basis, categories, prop::option::of(period())).prop_map(
        |(purpose, legal_basis, categories, period)| {
            let text = || Text::new("text").expect("valid");
            Question {
                query_id: "q-1".parse().expect("valid"),
                subject: IdentityCode::temporary(parse_date("1985-06-15").expect("a date"), 900).expect("in range"),
                context: Context {
                    end_user: text(),
                    end_user_role: text(),
                    purpose: purpose.parse().expect("valid"),
                    legal_basis: legal_basis.parse().expect("valid"),
                    case_id: text(),
                },
                categories,
                period,
            }
        },
    )
}

fn content() -> impl Strategy<Value = Content> {
    let cents = || (0..1_000_000_i64).prop_map(Cents);
    prop_oneof![
        (day(), prop::option::of(day())).prop_map(|(filed, applied_from)| Content::Pending {
            filed,
            applied_from,
            stage: Stage::InHandling
        }),
        (day(), prop::option::of(period()), prop::option::of(cents())).prop_map(|(decided, period, monthly)| {
            Content::Decision { decided, outcome: Outcome::Granted, period, monthly }
        }),
        (day(), cents(), period()).prop_map(|(due, gross, period)| Content::Payment { due, gross, net: gross, period }),
        (day(), prop::option::of(day())).prop_map(|(from, to)| Content::Insurance { from, to }),
        (day(), cents()).prop_map(|(decided, total)| Content::Recovery { decided, total, remaining: total }),
        (2023..2030_i32, cents(), prop::option::of(day())).prop_map(|(year, accrued, reached)| {
            Content::MedicineCostCap { year, accrued, limit: accrued, reached }
        }),
    ]
}

/// An answer: everything about the benefits there are, and sometimes about one that no contract names. Each matter has an id
/// of its own.
fn answer() -> impl Strategy<Value = Vec<Matter>> {
    let known = prop_oneof![9 => benefit(), 1 => Just("unheard-of".parse().expect("valid"))];
    prop::collection::vec((known, content()), 0..8).prop_map(|matters| {
        let number =
            |(number, (benefit, content)): (usize, _)| Matter { matter_id: number.to_string(), benefit, content };
        matters.into_iter().enumerate().map(number).collect()
    })
}

fn asker(contracts: Vec<Contract>) -> VerifiedPartner {
    let id: airut_domain::id::PartnerId = "pirkanmaa".parse().expect("valid");
    let partner = Partner {
        id: id.clone(),
        name: "Pirkanmaa".into(),
        kind: Kind::WellbeingServicesCounty,
        state: State::Active,
        revoked: BTreeSet::new(),
        certificates: vec![],
        contracts,
        deliveries: Vec::new(),
        quota: None,
    };
    let mut registry = Registry::default();
    registry.insert(Entry { version: 1, partner, source: None });
    registry.current(&id).expect("active")
}

/// Year, month and day: compared as days are.
type Day = (i32, u8, u8);

fn plain(date: Date) -> Day {
    (date.year(), u8::from(date.month()), date.day())
}

/// The same day so many months later, or the last one of a month that is shorter.
fn shifted((year, month, day): Day, months: i32) -> Day {
    let index = year * 12 + i32::from(month) - 1 + months;
    let (year, month) = (index.div_euclid(12), u8::try_from(index.rem_euclid(12) + 1).expect("a month"));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    (year, month, day.min(length))
}

/// First and last day that this grant lets be seen in answer to the question.
fn visible(grant: &Grant, question: &Question, today: Date) -> (Day, Day) {
    let today = plain(today);
    let (from, to) = (shifted(today, -i32::from(grant.months_back)), shifted(today, i32::from(grant.months_ahead)));
    match question.period {
        Some(asked) => (from.max(plain(asked.from())), to.min(plain(asked.to()))),
        None => (from, to),
    }
}

/// Whether the grant lets this be shown, out of what is known.
fn may_be_shown(shown: &Matter, known: &Matter, grant: &Grant, question: &Question, today: Date) -> bool {
    let asked = question.categories.is_empty() || question.categories.contains(&grant.category);
    let (from, to) = visible(grant, question, today);
    let inside = |date: Date| from <= plain(date) && plain(date) <= to;
    let right_part = match (&shown.content, &known.content) {
        (Content::Pending { filed: day, .. }, _)
        | (Content::Decision { decided: day, .. }, _)
        | (Content::Payment { due: day, .. }, _)
        | (Content::Recovery { decided: day, .. }, _) => inside(*day) && shown == known,
        (Content::Insurance { from: start, to: end }, Content::Insurance { from: began, to: ended }) => {
            let seen_from = inside(*start) && (start == began || (plain(*began) < from && plain(*start) == from));
            let seen_to = match (end, ended) {
                (Some(end), Some(ended)) => end == ended && inside(*end),
                (None, Some(ended)) => plain(*ended) > to,
                (None, None) => true,
                (Some(_), None) => false,
            };
            seen_from && seen_to
        }
        (
            Content::MedicineCostCap { year, accrued, limit, reached },
            Content::MedicineCostCap { year: y, accrued: a, limit: l, reached: r },
        ) => {
            let told = reached.is_none() || (reached == r && reached.is_some_and(inside));
            (year, accrued, limit) == (y, a, l) && from.0 <= *year && *year <= to.0 && told
        }
        _ => false,
    };
    asked
        && from <= to
        && grant.category == shown.category()
        && grant.benefits.contains(&shown.benefit)
        && shown.benefit == known.benefit
        && right_part
}

/// The grants of every contract for the purpose under the legal basis.
fn grants<'a>(contracts: &'a [Contract], question: &'a Question) -> impl Iterator<Item = &'a Grant> {
    let context = &question.context;
    let fits = |c: &&Contract| c.purpose == context.purpose && c.legal_basis == context.legal_basis;
    contracts.iter().filter(fits).flat_map(|contract| &contract.grants)
}

/// Whether the definition is one that the exchange puts in force.
fn is_sound(contracts: &[Contract]) -> bool {
    let keys: BTreeSet<_> = contracts.iter().map(|c| (&c.purpose, &c.legal_basis)).collect();
    let once = |contract: &Contract| {
        contract.grants.iter().map(|grant| grant.category).collect::<BTreeSet<_>>().len() == contract.grants.len()
    };
    keys.len() == contracts.len() && contracts.iter().all(once)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn nothing_outside_the_grant_is_ever_disclosed(
        contracts in prop::collection::vec(contract(), 0..4), question in question(), answer in answer(), today in day(),
    ) {
        let asker = asker(contracts.clone());
        match judge(&asker, &question, today) {
            Ok(granted) => {
                let disclosed = minimise(granted.scopes(), answer.clone());
                for shown in &disclosed {
                    let known = answer.iter().find(|known| known.matter_id == shown.matter_id).expect("nothing is made up");
                    let may = grants(&contracts, &question).any(|grant| may_be_shown(shown, known, grant, &question, today));
                    prop_assert!(may, "{shown:?} of {known:?}");
                }
                let again = minimise(granted.scopes(), disclosed.clone());
                prop_assert_eq!(&again, &disclosed, "to minimise again changes nothing");
                // What lies within is not held back, as far as the contracts are ones that may be in force.
                for known in answer.iter().filter(|_| is_sound(&contracts)) {
                    let may = grants(&contracts, &question).any(|grant| may_be_shown(known, known, grant, &question, today));
                    prop_assert!(!may || disclosed.contains(known), "{known:?} is held back");
                }
            }
            Err(refusal) => {
                let known = answer.iter();
                let mut may = known.filter(|known| {
                    is_sound(&contracts)
                        && grants(&contracts, &question).any(|grant| may_be_shown(known, known, grant, &question, today))
                });
                prop_assert!(may.next().is_none(), "refused ({refusal}) though something is granted");
            }
        }
    }

    #[test]
    fn who_has_no_contract_is_granted_nothing(
        contracts in prop::collection::vec(contract(), 0..4), question in question(), today in day(),
    ) {
        let fitting = |c: &Contract| {
            c.purpose == question.context.purpose && c.legal_basis == question.context.legal_basis
        };
        let others: Vec<_> = contracts.into_iter().filter(|contract| !fitting(contract)).collect();
        let refusal = judge(&asker(others), &question, today).expect_err("denied");
        prop_assert_eq!(refusal.reason, Reason::NoContract);
    }

    #[test]
    fn what_is_withheld_follows_from_the_question_and_the_contract(
        contracts in prop::collection::vec(contract(), 1..4), question in question(), today in day(),
    ) {
        let Ok(granted) = judge(&asker(contracts.clone()), &question, today) else { return Ok(()) };
        prop_assert!(!granted.scopes().is_empty());
        let has = |category, why| granted.withheld().contains(&Withheld { category, why });
        for category in &question.categories {
            let in_contract = grants(&contracts, &question).any(|grant| grant.category == *category);
            prop_assert!(in_contract || has(*category, WithheldWhy::NotInContract), "{category} is not told");
        }
        for scope in granted.scopes() {
            prop_assert!(has(scope.category, WithheldWhy::OtherBenefits), "a contract never names every benefit");
        }
        for withheld in granted.withheld() {
            let asked = question.categories.is_empty() || question.categories.contains(&withheld.category);
            prop_assert!(asked, "{} was not asked for", withheld.category);
        }
    }
}
