//! The Finnish personal identity code (henkilötunnus).
//!
//! `DDMMYYCZZZQ`: birth date, century sign, individual number, check character. Since 2023 the century signs are `+` for
//! the 1800s, `-YXWVU` for the 1900s and `ABCDEF` for the 2000s (Government Decree 690/2022; DVV). Individual numbers are
//! 002 to 899; 900 to 999 are temporary and never given to people for good, which is why all synthetic persons have one.

use std::{fmt, str::FromStr};

use crate::time::Date;

const CHECK_CHARACTERS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";

/// A valid personal identity code. Its `Debug` hides it: codes must never reach a log, an error or a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityCode([u8; 11]);

/// Why a text is not a personal identity code. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not eleven ASCII characters in the shape `DDMMYYCZZZQ`.
    #[error("must have the shape DDMMYYCZZZQ")]
    Shape,
    /// The seventh character is not a century sign.
    #[error("the seventh character must be one of + - Y X W V U A B C D E F")]
    CenturySign,
    /// No such day.
    #[error("the first six digits are not a date of that century")]
    BirthDate,
    /// Individual numbers 000 and 001 are not given.
    #[error("the individual number must be 002 to 999")]
    IndividualNumber,
    /// The check character disagrees with the digits.
    #[error("the check character does not match")]
    CheckCharacter,
}

impl IdentityCode {
    /// Builds the code of a temporary number (900 to 999), as synthetic persons have. `None` for any other individual
    /// number, or a year outside 1800 to 2099.
    pub fn temporary(birth: Date, individual: u16) -> Option<Self> {
        if !(900..=999).contains(&individual) {
            return None;
        }
        let sign = match birth.year() {
            1800..=1899 => '+',
            1900..=1999 => '-',
            2000..=2099 => 'A',
            _ => return None,
        };
        let (day, month, year) = (birth.day(), u8::from(birth.month()), birth.year() % 100);
        let digits = format!("{day:02}{month:02}{year:02}{individual:03}");
        let check = char::from(CHECK_CHARACTERS[digits.parse::<usize>().ok()? % 31]);
        format!("{}{sign}{}{check}", &digits[..6], &digits[6..]).parse().ok()
    }

    /// The code as written. Only for the subject's way to the responder; never for logs.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is accepted")
    }

    /// The day of birth.
    pub fn birth_date(&self) -> Date {
        birth_date(&self.0).expect("checked when parsed")
    }

    /// Whether the individual number is 900 to 999: given temporarily, or to a synthetic person.
    pub fn is_temporary(&self) -> bool {
        self.0[7] == b'9'
    }

    /// Whether some part of the text, upper case or lower, is a valid identity code. Identifiers that callers choose are
    /// checked with it, so that a code can't slip into what is kept in the clear. UUIDs are passed over: one in twenty
    /// thousand holds eleven characters that happen to be a valid code.
    pub fn occurs_in(text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at + 11 <= bytes.len() {
            if bytes.get(at..at + 36).is_some_and(is_uuid) {
                at += 36;
                continue;
            }
            // Nearly every window ends here: this is asked of each identifier of each record that is read.
            if bytes[at..at + 6].iter().all(u8::is_ascii_digit) {
                let mut upper = [0; 11];
                upper.copy_from_slice(&bytes[at..at + 11]);
                upper.make_ascii_uppercase();
                if check(&upper).is_ok() {
                    return true;
                }
            }
            at += 1;
        }
        false
    }
}

impl FromStr for IdentityCode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes: [u8; 11] = text.as_bytes().try_into().map_err(|_| Invalid::Shape)?;
        check(&bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for IdentityCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityCode(hidden)")
    }
}

fn is_uuid(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
}

fn check(code: &[u8; 11]) -> Result<(), Invalid> {
    let digits = (0..6).chain(7..10);
    if !digits.clone().all(|i| code[i].is_ascii_digit()) {
        return Err(Invalid::Shape);
    }
    century(code[6]).ok_or(Invalid::CenturySign)?;
    birth_date(code).ok_or(Invalid::BirthDate)?;
    if code[7..10] == *b"000" || code[7..10] == *b"001" {
        return Err(Invalid::IndividualNumber);
    }
    let number = digits.fold(0_usize, |number, i| number * 10 + usize::from(code[i] - b'0'));
    if CHECK_CHARACTERS[number % 31] != code[10] {
        return Err(Invalid::CheckCharacter);
    }
    Ok(())
}

fn century(sign: u8) -> Option<i32> {
    match sign {
        b'+' => Some(1800),
        b'-' | b'U'..=b'Y' => Some(1900),
        b'A'..=b'F' => Some(2000),
        _ => None,
    }
}

fn birth_date(code: &[u8; 11]) -> Option<Date> {
    let two = |i: usize| (code[i] - b'0') * 10 + (code[i + 1] - b'0');
    let month = time::Month::try_from(two(2)).ok()?;
    Date::from_calendar_date(century(code[6])? + i32::from(two(4)), month, two(0)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::date;

    use super::*;

    #[test]
    fn accepts_every_century_sign() {
        // The check character covers the digits only, so one number serves all the signs of a century.
        for sign in ['-', 'Y', 'X', 'W', 'V', 'U'] {
            let code: IdentityCode = format!("131052{sign}308T").parse().expect("valid");
            assert_eq!(code.birth_date(), date!(1952 - 10 - 13));
        }
        for sign in ['A', 'B', 'C', 'D', 'E', 'F'] {
            let code: IdentityCode = format!("131052{sign}308T").parse().expect("valid");
            assert_eq!(code.birth_date(), date!(2052 - 10 - 13));
        }
        let code: IdentityCode = "131052+308T".parse().expect("valid");
        assert_eq!(code.birth_date(), date!(1852 - 10 - 13));
    }

    #[test]
    fn names_what_is_wrong() {
        let fault = |text: &str| text.parse::<IdentityCode>().expect_err("invalid");
        assert_eq!(fault(""), Invalid::Shape);
        assert_eq!(fault("131052-308"), Invalid::Shape);
        assert_eq!(fault("13105x-308T"), Invalid::Shape);
        assert_eq!(fault("131052G308T"), Invalid::CenturySign);
        assert_eq!(fault("131352-308T"), Invalid::BirthDate);
        assert_eq!(fault("290223A308T"), Invalid::BirthDate);
        assert_eq!(fault("131052-001T"), Invalid::IndividualNumber);
        assert_eq!(fault("131052-308U"), Invalid::CheckCharacter);
        assert_eq!(fault("131052-308t"), Invalid::CheckCharacter);
    }

    #[test]
    fn debug_hides_the_code() {
        let code: IdentityCode = "131052-308T".parse().expect("valid");
        assert!(!format!("{code:?}").contains("131052"));
    }

    #[test]
    fn a_code_is_found_inside_other_text() {
        assert!(IdentityCode::occurs_in("case-131052-308t-2026"));
        assert!(!IdentityCode::occurs_in("case-131052-308u-2026"));
        assert!(IdentityCode::occurs_in("019131052b31400"));
        assert!(!IdentityCode::occurs_in("q-01913105-2308-7000-8000-131052b3140f"));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_text(text in any::<String>()) {
            let valid = text.parse::<IdentityCode>().is_ok();
            prop_assert!(!valid || IdentityCode::occurs_in(&text));
        }

        #[test]
        fn never_panics_on_code_shaped_text(text in "[0-9]{6}[-+A-Z][0-9]{3}[0-9A-Y]") {
            if let Ok(code) = text.parse::<IdentityCode>() {
                prop_assert_eq!(code.as_str(), text.as_str());
            }
        }

        #[test]
        fn temporary_codes_are_valid_and_known_as_such(
            year in 1800..2100_i32, day in 1..=365_u16, individual in 900..=999_u16,
        ) {
            let birth = Date::from_ordinal_date(year, day).expect("a day of every year");
            let code = IdentityCode::temporary(birth, individual).expect("in range");
            prop_assert!(code.is_temporary());
            prop_assert_eq!(code.birth_date(), birth);
        }

        #[test]
        fn one_wrong_digit_is_always_noticed(position in 0..9_usize, by in 1..10_u8, individual in 900..=999_u16) {
            let code = IdentityCode::temporary(date!(1985 - 06 - 15), individual).expect("in range");
            let mut bytes = *code.as_str().as_bytes().first_chunk::<11>().expect("eleven");
            let at = if position < 6 { position } else { position + 1 };
            bytes[at] = b'0' + (bytes[at] - b'0' + by) % 10;
            let text = std::str::from_utf8(&bytes).expect("ASCII");
            prop_assert!(text.parse::<IdentityCode>().is_err());
        }
    }
}
