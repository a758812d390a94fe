//! Who the synthetic persons are: their identity codes.
//!
//! A code depends on the seed and the person's number alone, never on the day, so that a list of codes stays good. The
//! first few persons are for demonstrations and are the same under every seed.

use airut_domain::{identity_code::IdentityCode, time::Date};
use time::{Duration, macros::date};

use crate::{dice::Dice, situation::Situation};

/// The first day of birth. Whoever is born on the last is 19 in the year this was written: all are adults.
const FIRST_BIRTH: Date = date!(1936 - 01 - 01);
const LAST_BIRTH: Date = date!(2006 - 12 - 31);

/// Individual numbers 900 to 989 are drawn; 990 to 999 are kept for demonstrations.
const NUMBERS_A_DAY: u32 = 90;

/// How many codes can be drawn.
pub(crate) const CODES: u32 = (LAST_BIRTH.to_julian_day() - FIRST_BIRTH.to_julian_day() + 1) as u32 * NUMBERS_A_DAY;

/// The step from one person's code to the next's. It has no divisor in common with `CODES`, so the steps meet every
/// code once before they meet one again; it is near the golden section of `CODES`, so few persons already spread evenly
/// over all ages.
const STEP: u64 = 1_442_473;

/// A person for demonstrations: day of birth, individual number (odd for men), situation.
const DEMONSTRATIONS: [(Date, u16, Situation); 10] = [
    (date!(1991 - 03 - 14), 990, Situation::InDebt),
    (date!(1988 - 09 - 02), 992, Situation::SingleParent),
    (date!(1944 - 05 - 27), 994, Situation::NationalPensioner),
    (date!(2003 - 07 - 19), 995, Situation::Student),
    (date!(1972 - 11 - 08), 997, Situation::LongIll),
    (date!(1993 - 01 - 30), 996, Situation::NewParent),
    (date!(2006 - 02 - 11), 999, Situation::Conscript),
    (date!(1979 - 06 - 23), 991, Situation::WithoutBenefits),
    (date!(2004 - 10 - 05), 993, Situation::YoungUnemployed),
    (date!(1958 - 08 - 16), 998, Situation::Survivor),
];

/// One synthetic person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) number: u32,
    pub(crate) birth: Date,
    /// Odd for men, as in every identity code.
    pub(crate) individual: u16,
}

impl Person {
    /// The person of this number, fewer than [`CODES`].
    pub(crate) fn new(seed: u64, number: u32) -> Self {
        if let Some((birth, individual, _)) = DEMONSTRATIONS.get(number as usize) {
            return Self { number, birth: *birth, individual: *individual };
        }
        let start = Dice::new(seed, u64::MAX).habit();
        let code = (start % u64::from(CODES) + u64::from(number) * STEP) % u64::from(CODES);
        let (day, individual) = (code / u64::from(NUMBERS_A_DAY), code % u64::from(NUMBERS_A_DAY));
        let birth = FIRST_BIRTH + Duration::days(i64::try_from(day).expect("some tens of thousands"));
        Self { number, birth, individual: 900 + u16::try_from(individual).expect("less than 90") }
    }

    pub(crate) fn code(&self) -> IdentityCode {
        IdentityCode::temporary(self.birth, self.individual)
            .expect("numbers are 900 to 999 and years have a century sign")
    }

    pub(crate) fn is_woman(&self) -> bool {
        self.individual.is_multiple_of(2)
    }

    /// Full years of age.
    pub(crate) fn age(&self, today: Date) -> i32 {
        let birthday_passed =
            (u8::from(today.month()), today.day()) >= (u8::from(self.birth.month()), self.birth.day());
        today.year() - self.birth.year() - i32::from(!birthday_passed)
    }

    /// What the person demonstrates, for the first few.
    pub(crate) fn demonstrates(&self) -> Option<Situation> {
        DEMONSTRATIONS.get(self.number as usize).map(|(_, _, situation)| *situation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_meet_every_code() {
        let (mut a, mut b) = (u64::from(CODES), STEP);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        assert_eq!(a, 1);
    }

    #[test]
    fn age_counts_birthdays() {
        let person = Person { number: 0, birth: date!(1990 - 11 - 22), individual: 900 };
        assert_eq!(person.age(date!(2026 - 11 - 21)), 35);
        assert_eq!(person.age(date!(2026 - 11 - 22)), 36);
    }
}
