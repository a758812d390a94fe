//! A life told as the matters of the protocol: decisions, payments, applications.
//!
//! What is told is always the same for the same person and day; what is wanted only decides which of it is written
//! down. So nothing here draws from the dice: what differs between matters is derived from the habit of what they
//! belong to.

use airut_domain::{
    id,
    matter::{Category, Cents, Content, Matter, Outcome, Stage},
    time::{Date, Period},
};
use time::Duration;

use crate::{
    benefits::{Benefit, Decided, Form, medicine_cost_limit},
    calendar::{Month, PayDay, banking_day_from, banking_day_until},
    dice::derived,
    life::{Application, Beginning, Ending, Life, Recovery, Reimbursement, Spell},
};

/// Payments are known for this month and two more.
const MONTHS_AHEAD: i32 = 2;

/// What is wanted, by category.
#[derive(Default)]
pub(crate) struct Wanted([Option<Period>; Category::ALL.len()]);

impl Wanted {
    /// Adds the days to those wanted of the category.
    pub(crate) fn add(&mut self, category: Category, days: Period) {
        let wanted = &mut self.0[category as usize];
        let both = |other: Period| Period::new(days.from().min(other.from()), days.to().max(other.to()));
        *wanted = Some(wanted.and_then(both).unwrap_or(days));
    }

    fn days(&self, category: Category) -> Option<Period> {
        self.0[category as usize]
    }

    fn has(&self, category: Category, day: Date) -> bool {
        self.days(category).is_some_and(|days| days.contains(day))
    }
}

/// Everything wanted of a life, as known on `today`.
pub(crate) fn tell(person: u32, life: &Life, today: Date, wanted: &Wanted) -> Vec<Matter> {
    let mut telling = Telling { person, today, wanted, matters: Vec::new() };
    for (number, spell) in life.spells.iter().enumerate() {
        telling.spell(number, spell);
    }
    for (number, reimbursement) in life.reimbursements.iter().enumerate() {
        telling.reimbursement(number, reimbursement);
    }
    for (number, rejection) in life.rejections.iter().enumerate() {
        let content = decision(rejection.decided, Outcome::Rejected, None);
        telling.matter(rejection.decided, &id_of(rejection.benefit), format_args!("x{number}-d0"), content);
    }
    for (number, application) in life.applications.iter().enumerate() {
        telling.application(number, application);
    }
    telling.insurance(life);
    telling.medicine(life);
    telling.matters
}

/// What of a spell is decided at once.
struct Segment {
    number: i32,
    from: Month,
    to: Month,
    outcome: Outcome,
    decided: Date,
    monthly: i64,
}

struct Telling<'a> {
    person: u32,
    today: Date,
    wanted: &'a Wanted,
    matters: Vec<Matter>,
}

impl Telling<'_> {
    /// Writes down a matter of one day, if it is wanted.
    fn matter(&mut self, day: Date, benefit: &id::Benefit, id: std::fmt::Arguments<'_>, content: Content) {
        let matter = Matter { matter_id: String::new(), benefit: benefit.clone(), content };
        if self.wanted.has(matter.category(), day) {
            self.matters.push(Matter { matter_id: format!("{:06}-{id}", self.person), ..matter });
        }
    }

    fn spell(&mut self, number: usize, spell: &Spell) {
        let benefit = &id_of(spell.benefit);
        for segment in segments(spell) {
            if segment.decided > self.today {
                self.undecided(number, spell, benefit, &segment);
                return;
            }
            let period = Period::new(segment.from.first(), segment.to.last()).expect("ordered");
            let content = decision(segment.decided, segment.outcome, Some((period, segment.monthly)));
            self.matter(segment.decided, benefit, format_args!("{number}-d{}", segment.number), content);
            if let Form::Monthly(payday, _) = spell.benefit.form {
                self.payments(number, spell, benefit, &segment, payday);
            }
        }
        if spell.ending == Ending::Terminated {
            let decided = banking_day_until(spell.to.last() - Duration::days((spell.habit % 9) as i64));
            let content = decision(decided, Outcome::Terminated, None);
            self.matter(decided, benefit, format_args!("{number}-t"), content);
        }
        if let (Some(recovery), Form::Monthly(payday, _)) = (&spell.recovery, spell.benefit.form) {
            self.recovery(number, spell, benefit, recovery, payday);
        }
    }

    /// A segment that nothing is decided about yet is applied for, unless it follows by itself.
    fn undecided(&mut self, number: usize, spell: &Spell, benefit: &id::Benefit, segment: &Segment) {
        let handling = 6 + (derived(spell.habit, segment.number) % 12) as i64;
        let filed = segment.decided - Duration::days(handling);
        if segment.outcome == Outcome::Granted && filed <= self.today {
            let stage = stage(filed, self.today, spell.habit);
            let content = Content::Pending { filed, applied_from: Some(segment.from.first()), stage };
            self.matter(filed, benefit, format_args!("{number}-a{}", segment.number), content);
        }
    }

    fn payments(&mut self, number: usize, spell: &Spell, benefit: &id::Benefit, segment: &Segment, payday: PayDay) {
        let Some(days) = self.wanted.days(Category::Payment) else { return };
        // Only months whose payments can lie in those days: paid at most a month early or in arrears, or when decided.
        let first = segment.from.max(Month::of(days.from()).plus(-3));
        let last = segment.to.min(Month::of(days.to()).plus(1)).min(Month::of(self.today).plus(MONTHS_AHEAD));
        for month in first.to(last).map(Month::from) {
            let due = due(spell, segment, payday, month);
            if !days.contains(due) {
                continue;
            }
            let gross = segment.monthly;
            let net = gross - gross * spell.withheld / 100 - instalment(spell, month);
            let content = Content::Payment { due, gross: Cents(gross), net: Cents(net), period: month.days() };
            let id = format_args!("{number}-p{}{:02}", month.year(), month.number()).to_string();
            self.matter(due, benefit, format_args!("{id}"), content);
        }
    }

    fn recovery(&mut self, number: usize, spell: &Spell, benefit: &id::Benefit, recovery: &Recovery, payday: PayDay) {
        let decided = banking_day_from(recovery.decided.day(1 + (spell.habit % 25) as u8));
        let paid_back: i64 = segments(spell)
            .filter(|segment| segment.decided <= self.today)
            .flat_map(|segment| {
                let months = segment.from.to(segment.to).map(Month::from);
                let paid = months.take_while(|month| due(spell, &segment, payday, *month) <= self.today);
                paid.map(|month| instalment(spell, month)).collect::<Vec<_>>()
            })
            .sum();
        let (total, remaining) = (Cents(recovery.total), Cents(recovery.total - paid_back));
        let content = Content::Recovery { decided, total, remaining };
        self.matter(decided, benefit, format_args!("{number}-r"), content);
    }

    fn reimbursement(&mut self, number: usize, reimbursement: &Reimbursement) {
        let Reimbursement { benefit, day, cents, habit } = reimbursement;
        let benefit = &id_of(benefit);
        let filed = *day + Duration::days((habit % 20) as i64);
        let decided = banking_day_from(filed + Duration::days(2 + (derived(*habit, 1) % 15) as i64));
        if decided > self.today {
            if filed <= self.today {
                let content =
                    Content::Pending { filed, applied_from: Some(*day), stage: stage(filed, self.today, *habit) };
                self.matter(filed, benefit, format_args!("s{number}-a0"), content);
            }
            return;
        }
        // It has no amount a month: it is paid once, for one day.
        let period = Period::day(*day);
        let granted = Content::Decision { decided, outcome: Outcome::Granted, period: Some(period), monthly: None };
        self.matter(decided, benefit, format_args!("s{number}-d0"), granted);
        let due = banking_day_from(decided + Duration::days(1));
        let paid = Content::Payment { due, gross: Cents(*cents), net: Cents(*cents), period };
        self.matter(due, benefit, format_args!("s{number}-p0"), paid);
    }

    fn application(&mut self, number: usize, application: &Application) {
        let Application { benefit, filed, habit } = application;
        let benefit = &id_of(benefit);
        // One in four does not say from when.
        let applied_from = (habit % 4 != 0).then(|| Month::of(*filed).first());
        let content = Content::Pending { filed: *filed, applied_from, stage: stage(*filed, self.today, *habit) };
        self.matter(*filed, benefit, format_args!("y{number}-a0"), content);
    }

    fn insurance(&mut self, life: &Life) {
        let Some(days) = self.wanted.days(Category::Insurance) else { return };
        for (number, insured) in life.insured.iter().enumerate() {
            if insured.from <= days.to() && insured.to.is_none_or(|to| days.from() <= to) {
                self.matters.push(Matter {
                    matter_id: format!("{:06}-i{number}", self.person),
                    benefit: id_of(insured.benefit),
                    content: Content::Insurance { from: insured.from, to: insured.to },
                });
            }
        }
    }

    fn medicine(&mut self, life: &Life) {
        let Some(days) = self.wanted.days(Category::MedicineCostCap) else { return };
        for costs in life.medicine.iter().filter(|c| (days.from().year()..=days.to().year()).contains(&c.year)) {
            self.matters.push(Matter {
                matter_id: format!("{:06}-c{}", self.person, costs.year),
                benefit: id_of(&crate::benefits::REIMBURSEMENT_OF_MEDICINE_COSTS),
                content: Content::MedicineCostCap {
                    year: costs.year,
                    accrued: Cents(costs.accrued),
                    limit: Cents(medicine_cost_limit(costs.year)),
                    reached: costs.reached,
                },
            });
        }
    }
}

fn id_of(benefit: &Benefit) -> id::Benefit {
    benefit.id.parse().expect("every id of the list is tested to be one")
}

fn decision(decided: Date, outcome: Outcome, granted: Option<(Period, i64)>) -> Content {
    let (period, monthly) = granted.map(|(period, cents)| (period, Cents(cents))).unzip();
    Content::Decision { decided, outcome, period, monthly }
}

/// The spell in the parts that are decided one by one, in order.
fn segments(spell: &Spell) -> impl Iterator<Item = Segment> + '_ {
    let (mut from, mut last_decided) = (spell.from, Date::MIN);
    (0..).map_while(move |number| {
        if from > spell.to {
            return None;
        }
        let segment = segment(spell, number, from, segment_end(spell, from).min(spell.to), last_decided);
        (from, last_decided) = (segment.to.plus(1), segment.decided);
        Some(segment)
    })
}

fn segment_end(spell: &Spell, from: Month) -> Month {
    match spell.benefit.form {
        Form::Monthly(_, Decided::Every(months)) => from.plus(i32::from(months) - 1),
        Form::Monthly(_, Decided::Yearly) => Month::new(from.year(), 12),
        Form::Monthly(_, Decided::Once) | Form::Guarantee | Form::Once | Form::Insurance => spell.to,
    }
}

fn segment(spell: &Spell, number: i32, from: Month, to: Month, last_decided: Date) -> Segment {
    let chance = derived(spell.habit, number);
    let renewed = number > 0 || spell.beginning == Beginning::BeforeMemory;
    let yearly = matches!(spell.benefit.form, Form::Monthly(_, Decided::Yearly));
    let (outcome, decided) = match (renewed, yearly) {
        (false, _) => (Outcome::Granted, from.first() + Duration::days(3 + (chance % 30) as i64)),
        (true, true) => (Outcome::Revised, from.first() - Duration::days(12 + (chance % 14) as i64)),
        (true, false) => (Outcome::Granted, from.first() - Duration::days(4 + (chance % 10) as i64)),
    };
    let indexed = spell.benefit.cents_in(from.year(), spell.cents);
    // What is applied for again comes out a little different each time.
    let monthly = if yearly { indexed } else { indexed * (970 + (chance % 60) as i64) / 1000 };
    // A first decision that comes late may come after the next one's usual day.
    let decided = banking_day_until(decided).max(last_decided);
    Segment { number, from, to, outcome, decided, monthly }
}

/// The day of a month's payment. What was decided late is on the account two days after it was decided.
fn due(spell: &Spell, segment: &Segment, payday: PayDay, month: Month) -> Date {
    let regular = payday.due(month, spell.habit);
    let earliest = segment.decided + Duration::days(2);
    if regular < earliest { banking_day_from(earliest) } else { regular }
}

/// What is taken off a month's payment to recover what was overpaid.
fn instalment(spell: &Spell, month: Month) -> i64 {
    spell.recovery.as_ref().filter(|recovery| month > recovery.decided).map_or(0, |recovery| {
        let before = i64::from(month.since(recovery.decided) - 1) * recovery.instalment;
        (recovery.total - before).clamp(0, recovery.instalment)
    })
}

fn stage(filed: Date, today: Date, habit: u64) -> Stage {
    match ((today - filed).whole_days(), habit % 3) {
        (..2, _) => Stage::Received,
        (_, 0) => Stage::AwaitingInformation,
        (_, _) => Stage::InHandling,
    }
}
