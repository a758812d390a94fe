//! What must hold of every history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use airut_domain::{
    matter::{Category, Cents, Content, Matter, Outcome},
    time::{Date, Period},
};
use airut_register::{Register, benefits};
use proptest::prelude::*;
use time::{Duration, macros::date};

use crate::persons::{PERSONS, TODAY, all_of};

/// What the ids of related matters share.
fn prefix(matter: &Matter) -> &str {
    matter.matter_id.rsplit_once('-').unwrap().0
}

struct Granted {
    decided: Date,
    period: Period,
    monthly: Option<Cents>,
}

fn granted(matters: &[Matter]) -> BTreeMap<&str, Vec<Granted>> {
    let mut granted: BTreeMap<&str, Vec<Granted>> = BTreeMap::new();
    for matter in matters {
        if let Content::Decision { decided, outcome, period, monthly } = &matter.content {
            match outcome {
                Outcome::Granted | Outcome::Revised => {
                    let (decided, period, monthly) = (*decided, period.unwrap(), *monthly);
                    granted.entry(prefix(matter)).or_default().push(Granted { decided, period, monthly });
                }
                Outcome::Rejected | Outcome::Terminated => assert_eq!((*period, *monthly), (None, None)),
            }
        }
    }
    granted
}

/// An independent look at the weekday; the holidays are tested beside their rules.
fn may_be_banking_day(day: Date) -> bool {
    !matches!(day.weekday(), time::Weekday::Saturday | time::Weekday::Sunday)
}

fn check_payment(matter: &Matter, granted: &BTreeMap<&str, Vec<Granted>>, today: Date) {
    let Content::Payment { due, gross, net, period } = &matter.content else { return };
    let id = &matter.matter_id;
    assert!(may_be_banking_day(*due), "{id} is due on {due}");
    assert!(*due <= today + Duration::days(105), "{id} is due on {due}");
    assert!(Cents(0) < *net && net <= gross, "{id}: {net} of {gross}");
    let decisions = granted.get(prefix(matter)).unwrap_or_else(|| panic!("{id} has no decision"));
    let covering: Vec<_> = decisions.iter().filter(|decision| decision.period.covers(*period)).collect();
    assert_eq!(covering.len(), 1, "{id} lies in one granted decision's period");
    assert!(covering[0].decided < *due, "{id} follows its decision");
    assert!(covering[0].monthly.is_none_or(|monthly| monthly == *gross), "{id} is the amount a month");
    // What has no amount a month is paid once, for one day.
    assert_eq!(covering[0].monthly.is_none(), period.from() == period.to(), "{id}");
}

fn check_day(matter: &Matter, today: Date) {
    let id = &matter.matter_id;
    match &matter.content {
        Content::Pending { filed, .. } => assert!(*filed <= today, "{id}"),
        Content::Decision { decided, .. } => {
            assert!(*decided <= today, "{id}");
            assert!(may_be_banking_day(*decided), "{id} was decided on {decided}");
        }
        Content::Recovery { decided, total, remaining } => {
            assert!(*decided <= today, "{id}");
            assert!(Cents(0) <= *remaining && remaining <= total, "{id}: {remaining} of {total}");
        }
        Content::Insurance { from, to } => assert!(*from <= today && to.is_none_or(|to| *from < to), "{id}"),
        Content::MedicineCostCap { year, accrued, limit, reached } => {
            assert!(accrued <= limit && *year <= today.year(), "{id}");
            assert_eq!(accrued == limit, reached.is_some(), "{id}");
            assert!(reached.is_none_or(|day| day <= today && day.year() == *year), "{id}: {reached:?}");
        }
        Content::Payment { .. } => {}
    }
}

fn check_benefit(matter: &Matter) {
    let benefit = benefits::find(matter.benefit.as_str()).unwrap();
    assert!(benefit.categories.contains(&matter.category()), "{} of {}", matter.category(), benefit.id);
    if let Content::Payment { gross, .. } = &matter.content {
        // Earlier years, and amounts that vary from decision to decision, lie a little outside the range of 2026.
        let range = benefit.cents.start() * 89 / 100..=benefit.cents.end() * 104 / 100;
        assert!(range.contains(&gross.0), "{}: {gross} of {}", matter.matter_id, benefit.id);
    }
}

/// Decisions of one matter never overlap, so there is one amount for every day.
fn check_decisions(granted: &BTreeMap<&str, Vec<Granted>>) {
    for (id, decisions) in granted {
        for pair in decisions.windows(2) {
            assert_eq!(pair[0].period.to().next_day(), Some(pair[1].period.from()), "{id}");
            assert!(pair[0].decided <= pair[1].decided, "{id}");
        }
    }
}

/// A month of a benefit is paid once.
fn check_months(matters: &[Matter]) {
    let mut months = BTreeSet::new();
    for matter in matters {
        if let Content::Payment { period, .. } = matter.content
            && period.from() != period.to()
        {
            assert!(months.insert((matter.benefit.clone(), period)), "{} is paid twice", matter.matter_id);
        }
    }
}

/// What was taken off tax-free payments up to today is what has been paid back.
fn check_recoveries(matters: &[Matter], today: Date) {
    for recovery in matters {
        let Content::Recovery { decided, total, remaining } = &recovery.content else { continue };
        if ["general-social-security-benefit", "labour-market-subsidy"].contains(&recovery.benefit.as_str()) {
            continue;
        }
        let mut taken = 0;
        for matter in matters.iter().filter(|matter| prefix(matter) == prefix(recovery)) {
            if let Content::Payment { due, gross, net, .. } = &matter.content
                && *due <= today
            {
                assert!(gross == net || decided < due, "{} is reduced too early", matter.matter_id);
                taken += gross.0 - net.0;
            }
        }
        assert_eq!(taken, total.0 - remaining.0, "{}", recovery.matter_id);
    }
}

fn check(matters: &[Matter], today: Date) {
    let ids: BTreeSet<_> = matters.iter().map(|matter| &matter.matter_id).collect();
    assert_eq!(ids.len(), matters.len(), "ids are unique");
    let granted = granted(matters);
    check_decisions(&granted);
    check_months(matters);
    check_recoveries(matters, today);
    for matter in matters {
        check_benefit(matter);
        check_day(matter, today);
        check_payment(matter, &granted, today);
    }
}

/// What there is among ten thousand persons, each of whom has been checked.
struct Survey {
    seen: BTreeSet<(String, Category)>,
    /// How many were paid a benefit within the last year.
    paid: BTreeMap<String, usize>,
}

static SURVEY: LazyLock<Survey> = LazyLock::new(|| {
    let register = Register::generate(1, PERSONS, TODAY);
    let year = Period::new(date!(2025 - 12 - 01), TODAY).unwrap();
    let mut survey = Survey { seen: BTreeSet::new(), paid: BTreeMap::new() };
    for person in 0..PERSONS as usize {
        let matters = all_of(&register, person);
        check(&matters, TODAY);
        survey.seen.extend(matters.iter().map(|matter| (matter.benefit.to_string(), matter.category())));
        let payments = matters.into_iter().filter(|matter| matter.category() == Category::Payment);
        let paid: BTreeSet<_> = payments.filter_map(|matter| Some(matter.within(year)?.benefit.to_string())).collect();
        for benefit in paid {
            *survey.paid.entry(benefit).or_default() += 1;
        }
    }
    survey
});

#[test]
fn every_history_of_ten_thousand_is_plausible() {
    LazyLock::force(&SURVEY);
}

#[test]
fn every_benefit_occurs_in_every_category_it_has() {
    let seen = &SURVEY.seen;
    for benefit in benefits::ALL {
        for category in benefit.categories {
            // Few benefits are being recovered at any time: it is enough that some are. What was replaced in May 2026
            // is no longer applied for.
            let replaced = ["labour-market-subsidy", "basic-unemployment-allowance"].contains(&benefit.id);
            if *category != Category::Recovery && !(replaced && *category == Category::Pending) {
                assert!(seen.contains(&(benefit.id.to_owned(), *category)), "{category} of {}", benefit.id);
            }
        }
    }
    assert!(seen.iter().filter(|(_, category)| *category == Category::Recovery).count() >= 3);
}

#[test]
fn shares_of_the_population_are_about_right() {
    // Of a hundred persons; more than in reality, so that a person drawn at random is of use.
    for (benefit, least, most) in [
        ("basic-social-assistance", 8, 22),
        ("general-housing-allowance", 10, 30),
        ("general-social-security-benefit", 10, 30),
        ("old-age-pension", 5, 20),
        ("child-benefit", 8, 30),
        ("study-grant", 2, 12),
    ] {
        let share = SURVEY.paid[benefit] * 100 / PERSONS as usize;
        assert!((least..=most).contains(&share), "{share} % are paid {benefit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn histories_are_plausible_under_every_seed_on_every_day(seed: u64, person in 0..100_usize, days in 0..3_000_i64) {
        let today = date!(2025 - 01 - 01) + Duration::days(days);
        let register = Register::generate(seed, person as u32 + 1, today);
        check(&all_of(&register, person), today);
    }
}
