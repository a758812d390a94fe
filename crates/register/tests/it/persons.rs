//! Who is in the register, and how it is asked.

use std::{collections::BTreeSet, sync::Arc};

use airut_client::Question;
use airut_domain::{
    context::{Context, Text},
    identity_code::IdentityCode,
    keys::Digest,
    matter::{Category, Content, Matter, Outcome},
    question::Scope,
    time::{Date, Period, Timestamp},
};
use airut_register::Register;
use prost::Message;
use time::macros::date;

pub(crate) const TODAY: Date = date!(2026 - 11 - 22);
pub(crate) const PERSONS: u32 = 10_000;

pub(crate) fn question(subject: IdentityCode, categories: &[Category], period: Period) -> Question {
    let scope = |category: &Category| Scope { category: *category, benefits: Arc::default(), period };
    let text = |text| Text::new(text).unwrap();
    Question {
        question_id: "q1".into(),
        asker: "pirkanmaa".parse().unwrap(),
        subject,
        context: Context {
            end_user: text("official"),
            end_user_role: text("social-worker"),
            purpose: "social-assistance".parse().unwrap(),
            legal_basis: "1412/1997".parse().unwrap(),
            case_id: text("case"),
        },
        scopes: categories.iter().map(scope).collect(),
        deadline: Timestamp::from_millis(0),
        traceparent: String::new(),
    }
}

pub(crate) fn always() -> Period {
    Period::new(date!(1900 - 01 - 01), date!(2100 - 12 - 31)).unwrap()
}

/// Everything that the register knows of a person.
pub(crate) fn all_of(register: &Register, person: usize) -> Vec<Matter> {
    let question = question(register.identity_codes()[person], &Category::ALL, always());
    register.answer(&question).into_iter().map(|matter| Matter::try_from(matter).unwrap()).collect()
}

fn benefits_of(matters: &[Matter]) -> BTreeSet<&str> {
    matters.iter().map(|matter| matter.benefit.as_str()).collect()
}

#[test]
fn codes_are_distinct_temporary_and_of_adults() {
    let register = Register::generate(1, PERSONS, TODAY);
    let codes = register.identity_codes();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), PERSONS as usize);
    assert!(codes.iter().all(IdentityCode::is_temporary));
    assert!(
        codes.iter().all(|code| code
            .birth_date()
            .replace_year(code.birth_date().year() + 18)
            .is_ok_and(|d| d <= TODAY)
            || code.birth_date().day() == 29)
    );
}

#[test]
fn both_sexes_and_all_ages_are_there() {
    let register = Register::generate(1, PERSONS, TODAY);
    let women = register.identity_codes().iter().filter(|code| code.as_str().as_bytes()[9].is_multiple_of(2)).count();
    assert!((4_800..5_200).contains(&women), "{women}");
    for decade in 193..=200 {
        let born = register.identity_codes().iter().filter(|code| code.birth_date().year() / 10 == decade).count();
        assert!(born > 400, "{born} born in the {decade}0s");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let digest = |seed| {
        let register = Register::generate(seed, 500, TODAY);
        let answers = register.identity_codes().iter().flat_map(|code| {
            let matters = register.answer(&question(*code, &Category::ALL, always()));
            matters.into_iter().map(|matter| matter.encode_to_vec())
        });
        let bytes: Vec<u8> = answers.flatten().collect();
        assert!(bytes.len() > 500_000);
        Digest::of(&bytes)
    };
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

#[test]
fn codes_do_not_depend_on_the_day_or_on_how_many_there_are() {
    let few = Register::generate(7, 100, TODAY);
    let later = Register::generate(7, PERSONS, date!(2027 - 06 - 01));
    assert_eq!(few.identity_codes(), &later.identity_codes()[..100]);
    let other = Register::generate(8, 100, TODAY);
    assert_eq!(
        few.identity_codes()[..10],
        other.identity_codes()[..10],
        "demonstrations are the same under every seed"
    );
    assert_ne!(few.identity_codes()[10..], other.identity_codes()[10..]);
}

#[test]
fn a_stranger_is_not_known() {
    let register = Register::generate(1, 100, TODAY);
    let stranger = Register::generate(1, 101, TODAY).identity_codes()[100];
    assert!(register.answer(&question(stranger, &Category::ALL, always())).is_empty());
}

#[test]
fn only_the_categories_and_months_asked_for_are_answered() {
    let register = Register::generate(1, 200, TODAY);
    let days = Period::new(date!(2026 - 03 - 10), date!(2026 - 05 - 20)).unwrap();
    for person in 0..200 {
        let question = question(register.identity_codes()[person], &[Category::Payment, Category::Pending], days);
        let answered: Vec<Matter> =
            register.answer(&question).into_iter().map(|matter| matter.try_into().unwrap()).collect();
        let months = Period::new(date!(2026 - 03 - 01), date!(2026 - 05 - 31)).unwrap();
        let asked = all_of(&register, person).into_iter().filter(|matter| {
            matches!(matter.category(), Category::Payment | Category::Pending)
                && matter.clone().within(months).is_some()
        });
        assert_eq!(answered, asked.collect::<Vec<_>>());
    }
}

#[test]
fn periods_at_the_ends_of_the_calendar_are_answered() {
    let register = Register::generate(1, 10, TODAY);
    let ages = Period::new(Date::MIN, Date::MAX).unwrap();
    let asked = register.answer(&question(register.identity_codes()[0], &Category::ALL, ages));
    assert_eq!(asked.len(), all_of(&register, 0).len());
}

#[test]
fn the_first_person_has_a_story_to_tell() {
    let register = Register::generate(1, 10, TODAY);
    let matters = all_of(&register, 0);
    let benefits = benefits_of(&matters);
    for benefit in ["basic-social-assistance", "general-housing-allowance", "general-social-security-benefit"] {
        assert!(benefits.contains(benefit), "{benefit}");
    }
    let has = |f: fn(&Content) -> bool| matters.iter().any(|matter| f(&matter.content));
    assert!(has(|content| matches!(content, Content::Recovery { remaining, .. } if remaining.0 > 0)));
    assert!(has(|content| matches!(content, Content::Pending { .. })));
    assert!(has(|content| matches!(content, Content::Decision { outcome: Outcome::Rejected, .. })));
    assert!(has(|content| matches!(content, Content::Payment { due, .. } if *due > TODAY)), "a payment is to come");
}

#[test]
fn the_demonstrations_are_what_they_are_said_to_be() {
    let register = Register::generate(1, 10, TODAY);
    let expected: [&[&str]; 10] = [
        &["basic-social-assistance", "general-housing-allowance"],
        &["child-benefit", "child-maintenance-allowance"],
        &["national-pension", "guarantee-pension", "care-allowance-for-pensioners"],
        &["study-grant", "student-loan-guarantee"],
        &["sickness-allowance"],
        &["parental-allowance"],
        &["conscripts-allowance"],
        &["health-insurance", "residence-based-social-security"],
        &["basic-social-assistance"],
        &["survivors-pension", "old-age-pension"],
    ];
    for (person, expected) in expected.iter().enumerate() {
        let matters = all_of(&register, person);
        let benefits = benefits_of(&matters);
        assert!(expected.iter().all(|benefit| benefits.contains(benefit)), "person {person} has {benefits:?}");
    }
    assert!(all_of(&register, 7).iter().all(|matter| matter.category() == Category::Insurance));
}
