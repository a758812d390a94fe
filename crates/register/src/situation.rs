//! Situations in life, how common they are at which age, and which benefits they bring.

use airut_domain::time::Date;

use crate::{
    benefits::{
        self, BASIC_SOCIAL_ASSISTANCE, BASIC_UNEMPLOYMENT_ALLOWANCE, Benefit, CARE_ALLOWANCE_FOR_PENSIONERS,
        CHILD_BENEFIT, CHILD_HOME_CARE_ALLOWANCE, CHILD_MAINTENANCE_ALLOWANCE, CONSCRIPTS_ALLOWANCE,
        DISABILITY_ALLOWANCE_FOR_ADULTS, DISABILITY_ALLOWANCE_UNDER_16, DISABILITY_PENSION, EARLY_OLD_AGE_PENSION,
        GENERAL_HOUSING_ALLOWANCE, GENERAL_SOCIAL_SECURITY_BENEFIT, GUARANTEE_PENSION,
        HOUSING_ALLOWANCE_FOR_PENSIONERS, HOUSING_SUPPLEMENT, LABOUR_MARKET_SUBSIDY, NATIONAL_PENSION, OLD_AGE_PENSION,
        PARENTAL_ALLOWANCE, PREGNANCY_ALLOWANCE, PRIVATE_DAY_CARE_ALLOWANCE, REHABILITATION_ALLOWANCE,
        SICKNESS_ALLOWANCE, STUDENT_LOAN_GUARANTEE, STUDY_GRANT, SURVIVORS_PENSION,
    },
    calendar::Month,
    dice::Dice,
    life::{Life, Story},
    person::Person,
};

/// What decides which benefits a person has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    /// Known to the register by insurance alone.
    WithoutBenefits,
    /// At work, with a reimbursement or a sick leave now and then.
    Employed,
    Student,
    Conscript,
    YoungUnemployed,
    Unemployed,
    /// Unemployed, on social assistance.
    Poor,
    /// The same, paying back housing allowance.
    InDebt,
    /// Expecting, or with a child under three.
    NewParent,
    /// At work, with children.
    Parent,
    SingleParent,
    /// Caretaker of a child with a disability.
    Caretaker,
    Disabled,
    /// Ill for long: from sickness allowance to rehabilitation, perhaps to a pension.
    LongIll,
    DisabilityPensioner,
    /// Retired, with an earnings-related pension too large for Kela to add to.
    WellPensioned,
    OldAgePensioner,
    EarlyPensioner,
    /// Retired without an earnings-related pension.
    NationalPensioner,
    Survivor,
}

use Situation::*;

/// By age: weights out of about a hundred.
const UNDER_23: &[(u32, Situation)] =
    &[(42, Student), (8, Conscript), (14, YoungUnemployed), (10, Poor), (16, Employed), (6, NewParent), (4, Disabled)];
const UNDER_30: &[(u32, Situation)] = &[
    (24, Student),
    (14, Unemployed),
    (12, Poor),
    (24, Employed),
    (14, NewParent),
    (5, Parent),
    (3, SingleParent),
    (4, Disabled),
];
const UNDER_50: &[(u32, Situation)] = &[
    (4, WithoutBenefits),
    (20, Employed),
    (13, Unemployed),
    (10, Poor),
    (2, InDebt),
    (13, NewParent),
    (20, Parent),
    (7, SingleParent),
    (3, Caretaker),
    (2, Disabled),
    (3, LongIll),
    (3, DisabilityPensioner),
];
const UNDER_65: &[(u32, Situation)] = &[
    (8, WithoutBenefits),
    (36, Employed),
    (16, Unemployed),
    (8, Poor),
    (1, InDebt),
    (6, LongIll),
    (14, DisabilityPensioner),
    (4, Survivor),
    (3, Disabled),
    (4, Caretaker),
];
const FROM_65: &[(u32, Situation)] =
    &[(30, WellPensioned), (33, OldAgePensioner), (8, EarlyPensioner), (17, NationalPensioner), (12, Survivor)];

/// What is applied for at which age, whatever the situation.
const APPLIED_FOR_UNDER_30: &[(u32, &Benefit)] = &[
    (3, &BASIC_SOCIAL_ASSISTANCE),
    (2, &GENERAL_HOUSING_ALLOWANCE),
    (2, &GENERAL_SOCIAL_SECURITY_BENEFIT),
    (2, &STUDY_GRANT),
    (2, &HOUSING_SUPPLEMENT),
    (1, &STUDENT_LOAN_GUARANTEE),
    (1, &CONSCRIPTS_ALLOWANCE),
    (1, &DISABILITY_ALLOWANCE_FOR_ADULTS),
    (1, &CHILD_BENEFIT),
];
const APPLIED_FOR_UNDER_50: &[(u32, &Benefit)] = &[
    (3, &BASIC_SOCIAL_ASSISTANCE),
    (2, &GENERAL_HOUSING_ALLOWANCE),
    (2, &GENERAL_SOCIAL_SECURITY_BENEFIT),
    (2, &SICKNESS_ALLOWANCE),
    (1, &PARENTAL_ALLOWANCE),
    (1, &CHILD_BENEFIT),
    (1, &CHILD_HOME_CARE_ALLOWANCE),
    (1, &PRIVATE_DAY_CARE_ALLOWANCE),
    (1, &CHILD_MAINTENANCE_ALLOWANCE),
    (1, &DISABILITY_ALLOWANCE_UNDER_16),
    (1, &REHABILITATION_ALLOWANCE),
];
const APPLIED_FOR_UNDER_65: &[(u32, &Benefit)] = &[
    (2, &BASIC_SOCIAL_ASSISTANCE),
    (2, &GENERAL_SOCIAL_SECURITY_BENEFIT),
    (2, &SICKNESS_ALLOWANCE),
    (2, &REHABILITATION_ALLOWANCE),
    (2, &DISABILITY_PENSION),
    (1, &EARLY_OLD_AGE_PENSION),
    (1, &SURVIVORS_PENSION),
];
const APPLIED_FOR_FROM_65: &[(u32, &Benefit)] = &[
    (1, &NATIONAL_PENSION),
    (1, &OLD_AGE_PENSION),
    (1, &GUARANTEE_PENSION),
    (1, &SURVIVORS_PENSION),
    (3, &HOUSING_ALLOWANCE_FOR_PENSIONERS),
    (3, &CARE_ALLOWANCE_FOR_PENSIONERS),
    (1, &BASIC_SOCIAL_ASSISTANCE),
];

/// The life of a person as seen on `today`.
pub(crate) fn life(person: Person, seed: u64, today: Date) -> Life {
    let dice = Dice::new(seed, u64::from(person.number));
    let mut story = Story { person, dice, today, life: Life::default() };
    let situation = story.person.demonstrates().unwrap_or_else(|| draw(&mut story));
    insurance(&mut story);
    benefits_of(situation, &mut story);
    care(situation, &mut story);
    application(&mut story);
    story.life
}

fn draw(story: &mut Story) -> Situation {
    let choices = match story.age() {
        ..23 => UNDER_23,
        23..30 => UNDER_30,
        30..50 => UNDER_50,
        50..65 => UNDER_65,
        65.. => FROM_65,
    };
    let drawn = story.dice.choose(choices);
    // Few women serve.
    let serves = !story.person.is_woman() || story.dice.happens(10);
    if drawn == Conscript && !serves { Student } else { drawn }
}

fn benefits_of(situation: Situation, story: &mut Story) {
    match situation {
        WithoutBenefits | WellPensioned => {}
        Employed => employed(story),
        Student => student(story),
        Conscript => conscript(story),
        YoungUnemployed => young_unemployed(story),
        Unemployed => unemployed(story),
        Poor => poor(story),
        InDebt => in_debt(story),
        NewParent => new_parent(story),
        Parent => parent(story),
        SingleParent => single_parent(story),
        Caretaker => caretaker(story),
        Disabled => disabled(story),
        LongIll => long_ill(story),
        DisabilityPensioner => disability_pensioner(story),
        OldAgePensioner => pensioner(story, &OLD_AGE_PENSION),
        EarlyPensioner => pensioner(story, &EARLY_OLD_AGE_PENSION),
        NationalPensioner => national_pensioner(story),
        Survivor => survivor(story),
    }
}

fn employed(story: &mut Story) {
    if story.dice.happens(25) {
        let start = story.dice.between(-30..=-2);
        let months = story.dice.between(0..=2);
        story.spell(&SICKNESS_ALLOWANCE, start, start + months);
    }
}

fn student(story: &mut Story) {
    let month = story.this_month();
    let since = story.dice.between(0..=3);
    // The academic year that runs, or the last one in summer.
    let newest = month.year() - i32::from(month.number() < 9);
    let housing = story.dice.happens(70);
    for year in newest - since..=newest {
        let (september, may) = (Month::new(year, 9), Month::new(year + 1, 5));
        story.spell_of(&STUDY_GRANT, september, may);
        story.spell_of(&STUDENT_LOAN_GUARANTEE, september, may);
        // Students had the general housing allowance up to July 2025, and have had the supplement since.
        if housing && year >= 2025 {
            story.spell_of(&HOUSING_SUPPLEMENT, september, may);
        } else if housing {
            story.spell_of(&GENERAL_HOUSING_ALLOWANCE, september, Month::new(year + 1, 7));
        }
    }
    if story.dice.happens(8) {
        let days_ago = story.dice.between(20..=300);
        story.rejected(&BASIC_SOCIAL_ASSISTANCE, days_ago);
    }
}

fn conscript(story: &mut Story) {
    let months_ago = story.dice.between(0..=10);
    let months = story.dice.choose(&[(45, 6), (15, 9), (40, 12)]);
    story.spell(&CONSCRIPTS_ALLOWANCE, -months_ago, months - months_ago - 1);
}

fn young_unemployed(story: &mut Story) {
    let months_ago = story.dice.between(0..=24);
    story.unemployment(&LABOUR_MARKET_SUBSIDY, -months_ago, 3);
    if story.dice.happens(55) {
        housing(story, months_ago);
    }
    if story.dice.happens(45) {
        assistance(story, months_ago);
    } else if story.person.demonstrates().is_some() || story.dice.happens(30) {
        let days_ago = story.dice.between(5..=200);
        story.rejected(&BASIC_SOCIAL_ASSISTANCE, days_ago);
    }
}

fn unemployed(story: &mut Story) {
    let began_with = story.dice.choose(&[(40, &BASIC_UNEMPLOYMENT_ALLOWANCE), (60, &LABOUR_MARKET_SUBSIDY)]);
    let months_ago = story.dice.between(0..=40);
    // Some have found work since.
    let left = if story.dice.happens(35) { story.dice.between(1..=12).min(months_ago) } else { -4 };
    story.unemployment(began_with, -months_ago, -left);
    story.terminated();
    if story.dice.happens(60) {
        housing(story, months_ago);
    }
    if story.dice.happens(20) {
        assistance(story, months_ago / 2);
    }
}

fn poor(story: &mut Story) {
    let months_ago = story.dice.between(1..=40);
    if story.dice.happens(75) {
        story.unemployment(&LABOUR_MARKET_SUBSIDY, -months_ago, 5);
        if story.dice.happens(10) {
            story.overpaid(3);
        }
    }
    if story.dice.happens(80) {
        housing(story, months_ago);
        if story.dice.happens(12) {
            story.overpaid(5);
        }
    }
    assistance(story, months_ago);
    if story.dice.happens(15) {
        let days_ago = story.dice.between(40..=400);
        story.rejected(&BASIC_SOCIAL_ASSISTANCE, days_ago);
    }
}

/// Social assistance, unemployment, housing allowance being paid back, and an application under way.
fn in_debt(story: &mut Story) {
    let months_ago = story.dice.between(20..=30);
    story.unemployment(&LABOUR_MARKET_SUBSIDY, -months_ago, 5);
    story.spell(&GENERAL_HOUSING_ALLOWANCE, -months_ago, 9);
    story.overpaid(4);
    assistance(story, months_ago - 6);
    story.rejected(&BASIC_SOCIAL_ASSISTANCE, months_ago * 30);
    story.applied(&REHABILITATION_ALLOWANCE, 9);
}

fn new_parent(story: &mut Story) {
    // Months since the birth; before it when negative.
    let born = story.dice.between(-2..=35);
    if story.person.is_woman() {
        story.spell(&PREGNANCY_ALLOWANCE, -born - 2, -born - 1);
    }
    let leave = story.dice.between(4..=9);
    story.spell(&PARENTAL_ALLOWANCE, -born, leave - born - 1);
    if story.dice.happens(75) {
        story.spell(&CHILD_BENEFIT, 1 - born, 17 * 12 - born);
    }
    if story.dice.happens(60) {
        let until = story.dice.between(12..=36);
        story.spell(&CHILD_HOME_CARE_ALLOWANCE, leave - born, until - born);
    } else if story.dice.happens(25) {
        story.spell(&PRIVATE_DAY_CARE_ALLOWANCE, leave - born, leave - born + 24);
    }
    if story.dice.happens(15) {
        housing(story, 6);
    }
}

fn parent(story: &mut Story) {
    let oldest = story.dice.between(3 * 12..=17 * 12 - 1);
    story.spell(&CHILD_BENEFIT, -oldest, 17 * 12 - oldest);
    if oldest < 7 * 12 && story.dice.happens(35) {
        story.spell(&PRIVATE_DAY_CARE_ALLOWANCE, -oldest / 2, 7 * 12 - oldest);
    }
}

fn single_parent(story: &mut Story) {
    let oldest = story.dice.between(2 * 12..=16 * 12);
    story.spell(&CHILD_BENEFIT, -oldest, 17 * 12 - oldest);
    let alone = story.dice.between(3..=oldest);
    story.spell(&CHILD_MAINTENANCE_ALLOWANCE, -alone, 18 * 12 - oldest);
    if story.dice.happens(70) {
        housing(story, alone.min(40));
    }
    if story.dice.happens(25) {
        assistance(story, alone.min(18));
    }
}

fn caretaker(story: &mut Story) {
    parent(story);
    let months_ago = story.dice.between(0..=48);
    story.spell(&DISABILITY_ALLOWANCE_UNDER_16, -months_ago, 24);
}

fn disabled(story: &mut Story) {
    let months_ago = story.dice.between(0..=60);
    story.spell(&DISABILITY_ALLOWANCE_FOR_ADULTS, -months_ago, 36);
    if story.dice.happens(30) {
        story.spell(&REHABILITATION_ALLOWANCE, -months_ago.min(20), 4);
    }
}

fn long_ill(story: &mut Story) {
    let months_ago = story.dice.between(6..=24);
    story.spell(&SICKNESS_ALLOWANCE, -months_ago, 11 - months_ago);
    story.terminated();
    if months_ago > 12 {
        let course = story.dice.between(2..=6);
        story.spell(&REHABILITATION_ALLOWANCE, 12 - months_ago, 12 - months_ago + course);
        if months_ago > 12 + course {
            story.spell(&DISABILITY_PENSION, 13 - months_ago + course, 24);
        } else {
            let days_ago = story.dice.between(2..=30);
            story.applied(&DISABILITY_PENSION, days_ago);
        }
    }
    if story.dice.happens(10) {
        let days_ago = story.dice.between(30..=300);
        story.rejected(&DISABILITY_PENSION, days_ago);
    }
}

fn disability_pensioner(story: &mut Story) {
    let months_ago = story.dice.between(1..=120);
    story.spell(&DISABILITY_PENSION, -months_ago, 36);
    if story.dice.happens(50) {
        story.spell(&GUARANTEE_PENSION, -months_ago, 36);
    }
    if story.dice.happens(45) {
        story.spell(&HOUSING_ALLOWANCE_FOR_PENSIONERS, -months_ago, 12);
    }
    if story.dice.happens(25) {
        story.spell(&CARE_ALLOWANCE_FOR_PENSIONERS, -months_ago / 2, 36);
    }
    if story.dice.happens(12) {
        assistance(story, 5);
    }
}

fn pensioner(story: &mut Story, pension: &'static Benefit) {
    let since = (story.age() - 65).max(0) * 12 + 6;
    story.spell(pension, -since, 24);
    if story.dice.happens(25) {
        story.spell(&HOUSING_ALLOWANCE_FOR_PENSIONERS, -since / 2, 20);
    }
    if story.age() > 75 && story.dice.happens(35) {
        let months_ago = story.dice.between(0..=60);
        story.spell(&CARE_ALLOWANCE_FOR_PENSIONERS, -months_ago, 24);
    }
}

fn national_pensioner(story: &mut Story) {
    let since = (story.age() - 65).max(0) * 12 + 6;
    story.spell(&NATIONAL_PENSION, -since, 24);
    story.spell(&GUARANTEE_PENSION, -since, 24);
    story.spell(&HOUSING_ALLOWANCE_FOR_PENSIONERS, -since / 2, 20);
    if story.dice.happens(8) {
        story.overpaid(6);
    }
    if story.age() > 75 && (story.person.demonstrates().is_some() || story.dice.happens(45)) {
        let months_ago = story.dice.between(0..=60);
        story.spell(&CARE_ALLOWANCE_FOR_PENSIONERS, -months_ago, 24);
    }
    if story.dice.happens(10) {
        assistance(story, 4);
    }
}

fn survivor(story: &mut Story) {
    let months_ago = story.dice.between(0..=90);
    story.spell(&SURVIVORS_PENSION, -months_ago, 24);
    if story.age() >= 65 {
        pensioner(story, &OLD_AGE_PENSION);
    }
}

/// General housing allowance for this long, and on.
fn housing(story: &mut Story, months_ago: i32) {
    story.spell(&GENERAL_HOUSING_ALLOWANCE, -months_ago, 8);
}

/// Basic social assistance since about this long ago. A third needed it for a while only.
fn assistance(story: &mut Story, months_ago: i32) {
    let since = story.dice.between(0..=months_ago.max(0));
    let until = if story.dice.happens(33) { -since / 2 } else { 3 };
    story.spell(&BASIC_SOCIAL_ASSISTANCE, -since, until);
}

/// Since birth, or since the person moved to Finland; a few have been away.
fn insurance(story: &mut Story) {
    let since_birth = story.dice.happens(92) || story.person.demonstrates().is_some();
    if since_birth {
        let birth = story.person.birth;
        story.insured(birth, None);
        return;
    }
    let moved = story.dice.between(40..=40 * 90);
    let days = moved * 3;
    let away = story.dice.between(1..=days / 3);
    let from = story.days_ago(days).max(story.person.birth);
    if story.dice.happens(30) {
        let (left, back) = (story.days_ago(away * 2), story.days_ago(away));
        story.insured(from, Some(left));
        story.insured(back, None);
    } else {
        story.insured(from, None);
    }
}

/// Medicine costs and reimbursements, more of them with age and illness.
fn care(situation: Situation, story: &mut Story) {
    let ill = matches!(situation, LongIll | DisabilityPensioner | Disabled | NationalPensioner);
    let percent = match (ill, story.age()) {
        (true, _) => 90,
        (false, 65..) => 60,
        (false, 45..65) => 30,
        (false, ..45) => 8,
    };
    if situation == WithoutBenefits && story.person.demonstrates().is_some() {
        return;
    }
    story.medicine_costs(percent);
    for _ in 0..story.dice.between(0..=if ill { 4 } else { 2 }) {
        let benefit = story.dice.choose(&[
            (20, &benefits::REIMBURSEMENT_OF_MEDICINE_COSTS),
            (30, &benefits::REIMBURSEMENT_OF_PRIVATE_MEDICAL_CARE),
            (20, &benefits::REIMBURSEMENT_OF_DENTAL_CARE),
            (30, &benefits::REIMBURSEMENT_OF_TRAVEL_COSTS),
        ]);
        let days_ago = story.dice.between(1..=700);
        story.reimbursed(benefit, days_ago);
    }
}

/// Now and then something is being applied for.
fn application(story: &mut Story) {
    let choices = match story.age() {
        ..30 => APPLIED_FOR_UNDER_30,
        30..50 => APPLIED_FOR_UNDER_50,
        50..65 => APPLIED_FOR_UNDER_65,
        65.. => APPLIED_FOR_FROM_65,
    };
    let (happens, benefit) = (story.dice.happens(7), story.dice.choose(choices));
    let days_ago = story.dice.between(0..=35);
    if happens && story.person.demonstrates().is_none() {
        story.applied(benefit, days_ago);
    }
}
