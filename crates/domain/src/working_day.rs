//! Finnish working days: every day but Saturdays, Sundays and the days that offices keep as holidays.
//!
//! A day set by law that falls on a Saturday, a Sunday, Independence Day, May Day, Christmas Eve, Midsummer Eve or another holiday
//! moves to the next working day (Act on the Calculation of Statutory Time Limits 150/1930, section 5). The church's holidays are
//! in the Church Act; Easter is found as the Gregorian calendar has it.

use std::time::Duration;

use time::{Date, Month, PrimitiveDateTime, Time, Weekday};

use crate::time::Timestamp;

/// Whether offices work on this day.
pub fn is_working_day(date: Date) -> bool {
    !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) && !is_holiday(date)
}

/// The working day that is so many working days after this day. The day itself does not count. The calendar's last day where it ends
/// before.
pub fn after(date: Date, working_days: u16) -> Date {
    let (mut date, mut left) = (date, working_days);
    while left > 0 {
        let Some(next) = date.next_day() else { return date };
        date = next;
        left -= u16::from(is_working_day(date));
    }
    date
}

/// This day if it is a working day, else the next one.
pub fn on_or_after(date: Date) -> Date {
    if is_working_day(date) { date } else { after(date, 1) }
}

/// Whether it is a holiday other than a Saturday or Sunday as such.
fn is_holiday(date: Date) -> bool {
    use Month::{December, January, June, May};
    let easter = easter(date.year());
    let days_after_easter = date.to_julian_day() - easter.to_julian_day();
    match (date.month(), date.day()) {
        // New Year's Day, Epiphany, May Day, Independence Day, Christmas Eve, Christmas Day, Boxing Day.
        (January, 1 | 6) | (May, 1) | (December, 6 | 24 | 25 | 26) => true,
        // Midsummer Eve: the Friday between 19 and 25 June.
        (June, 19..=25) if date.weekday() == Weekday::Friday => true,
        // Good Friday, Easter Monday, Ascension Day. Midsummer Day, All Saints' Day and Pentecost are Saturdays and Sundays.
        _ => matches!(days_after_easter, -2 | 1 | 39),
    }
}

/// Easter Sunday of a year of the Gregorian calendar (the anonymous algorithm, as in Meeus, Astronomical Algorithms, chapter 8).
fn easter(year: i32) -> Date {
    let (a, b, c) = (year.rem_euclid(19), year.div_euclid(100), year.rem_euclid(100));
    let (d, e) = (b / 4, b % 4);
    let g = (b - (b + 8) / 25 + 1) / 3;
    let h = (19 * a + b - d - g + 15).rem_euclid(30);
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k).rem_euclid(7);
    let m = (a + 11 * h + 22 * l) / 451;
    let from_march = h + l - 7 * m + 114;
    let (month, day) = (from_march / 31, from_march % 31 + 1);
    let month = if month == 3 { Month::March } else { Month::April };
    Date::from_calendar_date(year, month, u8::try_from(day).unwrap_or(1)).unwrap_or(Date::MIN)
}

/// The day in Finland at this moment.
pub fn today(now: Timestamp) -> Date {
    (now + offset(now)).date()
}

/// The day and the time of day that clocks in Finland show at this moment.
pub fn wall_clock(now: Timestamp) -> PrimitiveDateTime {
    let local = now + offset(now);
    let seconds = u32::try_from(local.as_millis().div_euclid(1000).rem_euclid(86_400)).unwrap_or(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = |part: u32| u8::try_from(part).unwrap_or(0);
    let time = Time::from_hms(part(hours), part(minutes), part(seconds)).unwrap_or(Time::MIDNIGHT);
    PrimitiveDateTime::new(local.date(), time)
}

/// When the day is over in Finland.
pub fn end_of(date: Date) -> Timestamp {
    let days = i64::from(date.to_julian_day() - Date::from_julian_day(UNIX_DAY).unwrap_or(Date::MIN).to_julian_day());
    let midnight = Timestamp::from_millis((days + 1) * 86_400_000);
    // Clocks never change at midnight, so the offset of some hours before holds.
    Timestamp::from_millis(midnight.as_millis() - i64::try_from(offset(midnight).as_millis()).unwrap_or(0))
}

/// The Julian day number of 1970-01-01.
const UNIX_DAY: i32 = 2_440_588;

/// By how much Finland's clocks are ahead of UTC: three hours from the last Sunday of March to that of October, 1:00 UTC, else two
/// (Directive 2000/84/EC).
fn offset(now: Timestamp) -> Duration {
    let date = now.date();
    let change = |month: Month| {
        let last = Date::from_calendar_date(date.year(), month, 31).unwrap_or(Date::MIN);
        let sunday = last.to_julian_day() - i32::from(last.weekday().number_days_from_sunday());
        Timestamp::from_millis(i64::from(sunday - UNIX_DAY) * 86_400_000 + 3_600_000)
    };
    let summer = change(Month::March) <= now && now < change(Month::October);
    Duration::from_secs(if summer { 3 } else { 2 } * 3600)
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::time::parse_timestamp;

    /// The holidays on weekdays as calendars print them: Good Friday, Easter Monday, Ascension Day, Midsummer Eve of each year.
    const MOVING: [[Date; 4]; 7] = [
        [date!(2024 - 03 - 29), date!(2024 - 04 - 01), date!(2024 - 05 - 09), date!(2024 - 06 - 21)],
        [date!(2025 - 04 - 18), date!(2025 - 04 - 21), date!(2025 - 05 - 29), date!(2025 - 06 - 20)],
        [date!(2026 - 04 - 03), date!(2026 - 04 - 06), date!(2026 - 05 - 14), date!(2026 - 06 - 19)],
        [date!(2027 - 03 - 26), date!(2027 - 03 - 29), date!(2027 - 05 - 06), date!(2027 - 06 - 25)],
        [date!(2028 - 04 - 14), date!(2028 - 04 - 17), date!(2028 - 05 - 25), date!(2028 - 06 - 23)],
        [date!(2029 - 03 - 30), date!(2029 - 04 - 02), date!(2029 - 05 - 10), date!(2029 - 06 - 22)],
        [date!(2030 - 04 - 19), date!(2030 - 04 - 22), date!(2030 - 05 - 30), date!(2030 - 06 - 21)],
    ];

    const FIXED: [(u8, u8); 7] = [(1, 1), (1, 6), (5, 1), (12, 6), (12, 24), (12, 25), (12, 26)];

    #[test]
    fn the_working_days_of_2024_to_2030_are_those_of_the_calendar() {
        for (year, moving) in (2024..).zip(MOVING) {
            let mut day = Date::from_calendar_date(year, Month::January, 1).expect("a date");
            while day.year() == year {
                let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
                let fixed = FIXED.contains(&(u8::from(day.month()), day.day()));
                assert_eq!(is_working_day(day), !(weekend || fixed || moving.contains(&day)), "{day}");
                day = day.next_day().expect("a date");
            }
        }
    }

    #[test]
    fn a_due_date_skips_christmas_and_easter() {
        // Seven working days from the Friday before Christmas 2026: 21, 22, 23, 28, 29, 30, 31 December.
        assert_eq!(after(date!(2026 - 12 - 18), 7), date!(2026 - 12 - 31));
        assert_eq!(after(date!(2026 - 04 - 02), 1), date!(2026 - 04 - 07));
        assert_eq!(after(date!(2026 - 11 - 27), 0), date!(2026 - 11 - 27));
        assert_eq!(on_or_after(date!(2026 - 12 - 24)), date!(2026 - 12 - 28));
        assert_eq!(on_or_after(date!(2026 - 11 - 27)), date!(2026 - 11 - 27));
    }

    #[test]
    fn a_day_begins_and_ends_by_finlands_clocks() {
        let at = |text: &str| parse_timestamp(text).expect("a moment");
        assert_eq!(today(at("2026-11-27T21:59:59Z")), date!(2026 - 11 - 27));
        assert_eq!(today(at("2026-11-27T22:00:00Z")), date!(2026 - 11 - 28));
        assert_eq!(today(at("2026-07-01T20:59:59Z")), date!(2026 - 07 - 01));
        assert_eq!(today(at("2026-07-01T21:00:00Z")), date!(2026 - 07 - 02));
        assert_eq!(end_of(date!(2026 - 11 - 27)), at("2026-11-27T22:00:00Z"));
        assert_eq!(end_of(date!(2026 - 07 - 01)), at("2026-07-01T21:00:00Z"));
        // The clocks change on 29 March and 25 October 2026.
        assert_eq!(end_of(date!(2026 - 03 - 28)), at("2026-03-28T22:00:00Z"));
        assert_eq!(end_of(date!(2026 - 03 - 29)), at("2026-03-29T21:00:00Z"));
        assert_eq!(end_of(date!(2026 - 10 - 24)), at("2026-10-24T21:00:00Z"));
        assert_eq!(end_of(date!(2026 - 10 - 25)), at("2026-10-25T22:00:00Z"));
    }
    #[test]
    fn clocks_show_finlands_time() {
        let shown = |text: &str| wall_clock(parse_timestamp(text).expect("a moment")).to_string();
        assert_eq!(shown("2026-11-27T21:59:59Z"), "2026-11-27 23:59:59.0");
        assert_eq!(shown("2026-07-01T21:00:00Z"), "2026-07-02 0:00:00.0");
    }
}
