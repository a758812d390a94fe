//! Months, and the days on which Finnish banks are open.

use std::ops::RangeInclusive;

use airut_domain::time::{Date, Period};
use time::{Duration, Weekday};

/// A calendar month, counted so that months can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Month(i32);

impl Month {
    pub(crate) fn of(date: Date) -> Self {
        Self(date.year() * 12 + i32::from(u8::from(date.month())) - 1)
    }

    /// `number` counts from 1 for January.
    pub(crate) const fn new(year: i32, number: i32) -> Self {
        Self(year * 12 + number - 1)
    }

    pub(crate) const fn plus(self, months: i32) -> Self {
        Self(self.0 + months)
    }

    /// How many months this one is after `earlier`.
    pub(crate) const fn since(self, earlier: Self) -> i32 {
        self.0 - earlier.0
    }

    pub(crate) const fn year(self) -> i32 {
        self.0.div_euclid(12)
    }

    /// 1 for January.
    pub(crate) const fn number(self) -> i32 {
        self.0.rem_euclid(12) + 1
    }

    pub(crate) const fn to(self, last: Self) -> RangeInclusive<i32> {
        self.0..=last.0
    }

    pub(crate) fn first(self) -> Date {
        self.day(1)
    }

    pub(crate) fn last(self) -> Date {
        self.day(self.name().length(self.year()))
    }

    /// A day that the month has.
    pub(crate) fn day(self, day: u8) -> Date {
        Date::from_calendar_date(self.year(), self.name(), day).expect("a day of the month, in a year of four digits")
    }

    fn name(self) -> time::Month {
        u8::try_from(self.number()).ok().and_then(|number| time::Month::try_from(number).ok()).expect("1 to 12")
    }

    /// All its days.
    pub(crate) fn days(self) -> Period {
        Period::new(self.first(), self.last()).expect("ordered")
    }
}

impl From<i32> for Month {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

/// When a monthly benefit is on the account. Kela's own days, from kela.fi/payment-dates (read in November 2026),
/// except where it pays by periods of weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayDay {
    /// The month's first banking day.
    FirstBankingDay,
    /// The month's last banking day.
    LastBankingDay,
    /// This day, or the banking day before it.
    Day(u8),
    /// The 4th, 14th or 20th, by the surname's initial, or the banking day before it.
    BySurname,
    /// The 26th; the banking day before when banks are closed on it or on its eve.
    ChildBenefit,
    /// In arrears, on some day early in the next month: stands for benefits that are paid by periods of weeks.
    Arrears,
}

impl PayDay {
    /// The day for `month`. `habit` is a number of the person's that decides what differs between people.
    pub(crate) fn due(self, month: Month, habit: u64) -> Date {
        match self {
            Self::FirstBankingDay => banking_day_from(month.first()),
            Self::LastBankingDay => banking_day_until(month.last()),
            Self::Day(day) => banking_day_until(month.day(day)),
            Self::BySurname => banking_day_until(month.day([4, 14, 20][habit as usize % 3])),
            Self::ChildBenefit => {
                let (eve, day) = (month.day(25), month.day(26));
                if is_banking_day(eve) { banking_day_until(day) } else { banking_day_until(eve) }
            }
            Self::Arrears => banking_day_from(month.plus(1).day(5 + (habit % 8) as u8)),
        }
    }
}

/// The day itself if banks are open, else the next day that they are.
pub(crate) fn banking_day_from(mut date: Date) -> Date {
    while !is_banking_day(date) {
        date += Duration::DAY;
    }
    date
}

/// The day itself if banks are open, else the last day that they were.
pub(crate) fn banking_day_until(mut date: Date) -> Date {
    while !is_banking_day(date) {
        date -= Duration::DAY;
    }
    date
}

/// Whether Finnish banks are open: not on weekends, public holidays, Midsummer Eve and Christmas Eve.
pub(crate) fn is_banking_day(date: Date) -> bool {
    if matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) {
        return false;
    }
    let fixed = matches!((u8::from(date.month()), date.day()), (1, 1 | 6) | (5, 1) | (12, 6 | 24..=26));
    let midsummer_eve =
        date.month() == time::Month::June && date.weekday() == Weekday::Friday && (19..=25).contains(&date.day());
    // Good Friday, Easter Monday, Ascension Day.
    let moving = [-2, 1, 39].contains(&(date - easter(date.year())).whole_days());
    !(fixed || midsummer_eve || moving)
}

/// Easter Sunday of a Gregorian year, by the anonymous algorithm of 1876 (Meeus, Astronomical Algorithms, chapter 8).
fn easter(year: i32) -> Date {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - b / 4 - g + 15) % 30;
    let l = (32 + 2 * (b % 4) + 2 * (c / 4) - h - c % 4) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    Month::new(year, n / 31).first() + Duration::days(i64::from(n % 31))
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn easter_falls_where_it_did() {
        assert_eq!(easter(2024), date!(2024 - 03 - 31));
        assert_eq!(easter(2025), date!(2025 - 04 - 20));
        assert_eq!(easter(2026), date!(2026 - 04 - 05));
        assert_eq!(easter(2038), date!(2038 - 04 - 25));
    }

    #[test]
    fn banks_close_on_finnish_holidays() {
        let closed = [
            date!(2026 - 01 - 01),
            date!(2026 - 01 - 06),
            date!(2026 - 04 - 03),
            date!(2026 - 04 - 06),
            date!(2026 - 05 - 01),
            date!(2026 - 05 - 14),
            date!(2026 - 06 - 19),
            date!(2024 - 12 - 06),
            date!(2026 - 12 - 24),
            date!(2026 - 11 - 22),
        ];
        for day in closed {
            assert!(!is_banking_day(day), "{day}");
        }
        assert!(is_banking_day(date!(2026 - 11 - 23)));
        assert!(is_banking_day(date!(2026 - 12 - 23)));
    }

    #[test]
    fn payment_days_keep_to_banking_days() {
        let january = Month::new(2026, 1);
        assert_eq!(PayDay::FirstBankingDay.due(january, 0), date!(2026 - 01 - 02));
        assert_eq!(PayDay::LastBankingDay.due(january, 0), date!(2026 - 01 - 30));
        assert_eq!(PayDay::Day(7).due(Month::new(2026, 2), 0), date!(2026 - 02 - 06));
        assert_eq!(PayDay::BySurname.due(Month::new(2026, 6), 2), date!(2026 - 06 - 18));
        assert_eq!(PayDay::Arrears.due(Month::new(2025, 12), 1), date!(2026 - 01 - 07));
    }

    #[test]
    fn child_benefit_is_never_paid_on_the_day_after_a_closed_one() {
        // 26 January 2026 is a Monday, 26 April 2025 a Saturday, 26 May 2026 a Tuesday.
        assert_eq!(PayDay::ChildBenefit.due(Month::new(2026, 1), 0), date!(2026 - 01 - 23));
        assert_eq!(PayDay::ChildBenefit.due(Month::new(2025, 4), 0), date!(2025 - 04 - 25));
        assert_eq!(PayDay::ChildBenefit.due(Month::new(2026, 5), 0), date!(2026 - 05 - 26));
        assert_eq!(PayDay::ChildBenefit.due(Month::new(2026, 12), 0), date!(2026 - 12 - 23));
    }
}
