//! The register: who is in it, and what it answers.

use std::collections::HashMap;

use airut_client::Question;
use airut_domain::{
    identity_code::IdentityCode,
    time::{Date, Period},
};
use airut_wire::v1;

use crate::{
    calendar::Month,
    history::{self, Wanted},
    person::{self, Person},
    situation,
};

/// How many persons a register can hold: as many as there are codes to draw.
pub const MOST_PERSONS: u32 = person::CODES;

/// Synthetic persons and their histories as known on one day. The persons and their codes depend on the seed alone; a
/// service that stays up makes a new register each day, with the same seed, and so knows the same persons.
#[derive(Clone, Debug)]
pub struct Register {
    seed: u64,
    today: Date,
    codes: Vec<IdentityCode>,
    numbers: HashMap<IdentityCode, u32>,
}

impl Register {
    /// Makes a register of this many persons. Histories are made when asked for: only the codes are kept.
    ///
    /// # Panics
    /// When `persons` is more than [`MOST_PERSONS`], or `today` is not in the years 1940 to 9990.
    pub fn generate(seed: u64, persons: u32, today: Date) -> Self {
        assert!(persons <= MOST_PERSONS, "there are codes for {MOST_PERSONS} persons");
        assert!((1940..=9990).contains(&today.year()), "histories reach some years back and ahead");
        let codes: Vec<_> = (0..persons).map(|number| Person::new(seed, number).code()).collect();
        let numbers = codes.iter().copied().zip(0..).collect();
        Self { seed, today, codes, numbers }
    }

    /// The persons' identity codes, in a fixed order of which the first ten suit demonstrations: (0) social assistance,
    /// unemployment, and housing allowance being paid back; (1) a single parent; (2) a pensioner without an
    /// earnings-related pension; (3) a student; (4) somebody ill for long; (5) a new parent; (6) a conscript; (7)
    /// nothing but insurance; (8) somebody young and unemployed whose social assistance was rejected, or is paid; (9) a
    /// survivor.
    pub fn identity_codes(&self) -> &[IdentityCode] {
        &self.codes
    }

    /// What the register knows of the question's subject in the categories and, to the month, the days of its scopes;
    /// nothing of a subject that it does not know. Benefits are left to the exchange to choose from.
    pub fn answer(&self, question: &Question) -> Vec<v1::Matter> {
        let Some(number) = self.numbers.get(&question.subject) else { return Vec::new() };
        let mut wanted = Wanted::default();
        for scope in &question.scopes {
            wanted.add(scope.category, whole_months(scope.period));
        }
        let life = situation::life(Person::new(self.seed, *number), self.seed, self.today);
        history::tell(*number, &life, self.today, &wanted).iter().map(airut_wire::matter).collect()
    }
}

fn whole_months(period: Period) -> Period {
    let widened = Period::new(Month::of(period.from()).first(), Month::of(period.to()).last());
    widened.expect("a month's first day is not after its last")
}
