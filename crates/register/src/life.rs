//! What a person's history is made of, before it is told as decisions and payments.

use airut_domain::time::Date;
use time::Duration;

use crate::{
    benefits::{self, Benefit},
    calendar::Month,
    dice::Dice,
    person::Person,
};

/// How many calendar years before this one the register keeps.
const YEARS_KEPT: i32 = 3;

/// Unemployment's older benefits were paid up to this month; the general social security benefit is since.
const LAST_OF_OLD_UNEMPLOYMENT: Month = Month::new(2026, 4);

/// Months on a benefit. Spells of one benefit never overlap in one life.
pub(crate) struct Spell {
    pub(crate) benefit: &'static Benefit,
    pub(crate) from: Month,
    /// Included; may lie ahead.
    pub(crate) to: Month,
    /// A month, in cents of 2026.
    pub(crate) cents: i64,
    /// Whether it had begun before the register's memory.
    pub(crate) beginning: Beginning,
    pub(crate) ending: Ending,
    /// Withheld for tax, in per cent.
    pub(crate) withheld: i64,
    pub(crate) recovery: Option<Recovery>,
    /// Decides what differs between spells.
    pub(crate) habit: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    Known,
    BeforeMemory,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It runs out.
    RunsOut,
    /// It is ended by a decision.
    Terminated,
}

/// What was paid without ground in a spell, and is taken off its payments.
pub(crate) struct Recovery {
    /// The month in which recovery was decided; payments for the months after it are reduced.
    pub(crate) decided: Month,
    pub(crate) total: i64,
    pub(crate) instalment: i64,
}

/// A cost on one day, and what is reimbursed of it.
pub(crate) struct Reimbursement {
    pub(crate) benefit: &'static Benefit,
    pub(crate) day: Date,
    pub(crate) cents: i64,
    pub(crate) habit: u64,
}

/// An application that was turned down.
pub(crate) struct Rejection {
    pub(crate) benefit: &'static Benefit,
    pub(crate) decided: Date,
}

/// An application under way that nothing else in the life accounts for.
pub(crate) struct Application {
    pub(crate) benefit: &'static Benefit,
    pub(crate) filed: Date,
    pub(crate) habit: u64,
}

/// A time of being insured.
pub(crate) struct Insured {
    pub(crate) benefit: &'static Benefit,
    pub(crate) from: Date,
    pub(crate) to: Option<Date>,
}

/// A year's medicine costs.
pub(crate) struct MedicineCosts {
    pub(crate) year: i32,
    pub(crate) accrued: i64,
    pub(crate) reached: Option<Date>,
}

/// A person's history. Its order is fixed, because ids are numbered by it.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) spells: Vec<Spell>,
    pub(crate) reimbursements: Vec<Reimbursement>,
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) applications: Vec<Application>,
    pub(crate) insured: Vec<Insured>,
    pub(crate) medicine: Vec<MedicineCosts>,
}

/// A life being made, as seen on one day.
pub(crate) struct Story {
    pub(crate) person: Person,
    pub(crate) dice: Dice,
    pub(crate) today: Date,
    pub(crate) life: Life,
}

impl Story {
    pub(crate) fn this_month(&self) -> Month {
        Month::of(self.today)
    }

    pub(crate) fn age(&self) -> i32 {
        self.person.age(self.today)
    }

    /// A time on a benefit, from `from` to `to` months after this one, with an amount drawn from the benefit's range.
    /// Months that the register no longer remembers are left out.
    pub(crate) fn spell(&mut self, benefit: &'static Benefit, from: i32, to: i32) {
        let month = self.this_month();
        self.spell_of(benefit, month.plus(from), month.plus(to));
    }

    /// The same between calendar months.
    pub(crate) fn spell_of(&mut self, benefit: &'static Benefit, from: Month, to: Month) {
        let memory = Month::new(self.today.year() - YEARS_KEPT, 1);
        // Drawn whether used or not, so that the rest of the story does not depend on the day.
        let (cents, withheld) = (self.dice.cents(&benefit.cents), self.dice.between(benefit.withheld.clone()));
        let habit = self.dice.habit();
        if to < memory || to < from {
            return;
        }
        let beginning = if from < memory { Beginning::BeforeMemory } else { Beginning::Known };
        let withheld = i64::from(withheld);
        let (from, ending, recovery) = (from.max(memory), Ending::RunsOut, None);
        self.life.spells.push(Spell { benefit, from, to, cents, beginning, ending, withheld, recovery, habit });
    }

    /// A time of unemployment. From May 2026 on, whichever benefit it began with, it is the general social security
    /// benefit.
    pub(crate) fn unemployment(&mut self, began_with: &'static Benefit, from: i32, to: i32) {
        let month = self.this_month();
        let (from, to) = (month.plus(from), month.plus(to));
        self.spell_of(began_with, from, to.min(LAST_OF_OLD_UNEMPLOYMENT));
        let general = from.max(LAST_OF_OLD_UNEMPLOYMENT.plus(1));
        self.spell_of(&benefits::GENERAL_SOCIAL_SECURITY_BENEFIT, general, to);
    }

    /// Ends the last spell by a decision, if it has ended.
    pub(crate) fn terminated(&mut self) {
        let month = self.this_month();
        if let Some(spell) = self.life.spells.last_mut().filter(|spell| spell.to < month) {
            spell.ending = Ending::Terminated;
        }
    }

    /// Recovers what was overpaid in the last spell, from its payments for the months since `months_ago`, if it was and
    /// is being paid then.
    pub(crate) fn overpaid(&mut self, months_ago: i32) {
        let decided = self.this_month().plus(-months_ago);
        let share = i64::from(self.dice.between(8..=20));
        let months = i64::from(self.dice.between(3..=14));
        if let Some(spell) = self.life.spells.last_mut().filter(|spell| spell.from < decided && decided < spell.to) {
            let instalment = (spell.cents * share / 100).max(100);
            // The last instalment is a smaller one.
            let total = instalment * months + instalment / 3;
            spell.recovery = Some(Recovery { decided, total, instalment });
        }
    }

    pub(crate) fn reimbursed(&mut self, benefit: &'static Benefit, days_ago: i32) {
        let day = self.days_ago(days_ago);
        let (cents, habit) = (self.dice.cents(&benefit.cents), self.dice.habit());
        self.life.reimbursements.push(Reimbursement { benefit, day, cents, habit });
    }

    pub(crate) fn rejected(&mut self, benefit: &'static Benefit, days_ago: i32) {
        let decided = crate::calendar::banking_day_until(self.days_ago(days_ago));
        self.life.rejections.push(Rejection { benefit, decided });
    }

    pub(crate) fn applied(&mut self, benefit: &'static Benefit, days_ago: i32) {
        let (filed, habit) = (self.days_ago(days_ago), self.dice.habit());
        self.life.applications.push(Application { benefit, filed, habit });
    }

    pub(crate) fn insured(&mut self, from: Date, to: Option<Date>) {
        for benefit in [&benefits::HEALTH_INSURANCE, &benefits::RESIDENCE_BASED_SOCIAL_SECURITY] {
            self.life.insured.push(Insured { benefit, from, to });
        }
    }

    /// Medicine costs of the years kept: on average this per cent of the annual limit, but not beyond it.
    pub(crate) fn medicine_costs(&mut self, percent: i32) {
        for year in self.today.year() - YEARS_KEPT..=self.today.year() {
            let limit = benefits::medicine_cost_limit(year);
            let pace = limit * i64::from(self.dice.between(percent / 2..=percent * 3 / 2)) / 100;
            let days_passed = if year < self.today.year() { 365 } else { i64::from(self.today.ordinal()) };
            let accrued = (pace * days_passed / 365).min(limit);
            let reached = (accrued == limit).then(|| {
                // On this day of the year the pace has led to the limit; never after today.
                let days = limit * 365 / pace;
                Month::new(year, 1).first() + Duration::days(days.clamp(1, days_passed.min(365)) - 1)
            });
            if accrued > 0 {
                self.life.medicine.push(MedicineCosts { year, accrued, reached });
            }
        }
    }

    pub(crate) fn days_ago(&self, days: i32) -> Date {
        self.today - Duration::days(i64::from(days))
    }
}
