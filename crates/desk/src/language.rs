//! What the desk says, in three languages: texts from Fluent files, dates and amounts as each language writes them.
//!
//! Every text that a person sees comes from here. A key that is missing shows as itself; a test sees to it that none is.

#[cfg(test)]
mod keys;

use std::{borrow::Borrow, sync::LazyLock};

use airut_domain::{
    time::{Date, Timestamp, parse_date},
    working_day,
};
use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use unic_langid::{LanguageIdentifier, langid};

/// A language of the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Finnish.
    Fi,
    /// Swedish.
    Sv,
    /// English.
    En,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 3] = [Self::Fi, Self::Sv, Self::En];

    /// As addresses and the `lang` attribute have it (BCP 47).
    pub const fn code(self) -> &'static str {
        match self {
            Self::Fi => "fi",
            Self::Sv => "sv",
            Self::En => "en",
        }
    }

    /// Its name in itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fi => "Suomeksi",
            Self::Sv => "På svenska",
            Self::En => "In English",
        }
    }

    /// The language of this code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The first language of an `Accept-Language` header that the desk has; Finnish where it has none.
    pub fn preferred(header: &str) -> Self {
        let mut wanted: Vec<(f32, &str)> = header
            .split(',')
            .filter_map(|range| {
                let (tag, weight) = range.split_once(";q=").unwrap_or((range, "1"));
                Some((weight.trim().parse().ok()?, tag.trim().get(..2)?))
            })
            .collect();
        wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
        wanted.iter().find_map(|(_, code)| Self::parse(code)).unwrap_or(Self::Fi)
    }

    /// Its texts.
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::Fi => &FI,
            Self::Sv => &SV,
            Self::En => &EN,
        }
    }
}

static FI: LazyLock<Texts> = LazyLock::new(|| Texts::new(Language::Fi, langid!("fi")));
static SV: LazyLock<Texts> = LazyLock::new(|| Texts::new(Language::Sv, langid!("sv")));
static EN: LazyLock<Texts> = LazyLock::new(|| Texts::new(Language::En, langid!("en")));

/// The files of a language, each with its name.
pub(crate) const fn files(language: Language) -> [(&'static str, &'static str); 4] {
    macro_rules! files {
        ($code:literal) => {
            [
                ("common.ftl", include_str!(concat!("../texts/", $code, "/common.ftl"))),
                ("pages.ftl", include_str!(concat!("../texts/", $code, "/pages.ftl"))),
                ("words.ftl", include_str!(concat!("../texts/", $code, "/words.ftl"))),
                ("accessibility.ftl", include_str!(concat!("../texts/", $code, "/accessibility.ftl"))),
            ]
        };
    }
    match language {
        Language::Fi => files!("fi"),
        Language::Sv => files!("sv"),
        Language::En => files!("en"),
    }
}

/// The texts of one language.
pub struct Texts {
    language: Language,
    bundle: FluentBundle<FluentResource>,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Texts").field(&self.language).finish()
    }
}

impl Texts {
    fn new(language: Language, id: LanguageIdentifier) -> Self {
        let mut bundle = FluentBundle::new_concurrent(vec![id]);
        // Marks around arguments would show in PDF files and in what is copied; every argument here is left to right.
        bundle.set_use_isolating(false);
        for (_, text) in files(language) {
            // What can be read of a faulty file is used; a test reads them without mercy.
            let resource = FluentResource::try_new(text.to_owned()).unwrap_or_else(|(resource, _)| resource);
            drop(bundle.add_resource(resource));
        }
        Self { language, bundle }
    }

    /// Which language it is.
    pub const fn language(&self) -> Language {
        self.language
    }

    /// The text of a key.
    pub fn of(&self, key: &str) -> String {
        self.format(key, None).unwrap_or_else(|| key.to_owned())
    }

    /// The text of a key, if there is one: for what others may have words for that the desk has none for.
    pub fn find(&self, key: &str) -> Option<String> {
        self.format(key, None)
    }

    /// The text of a key for a number, which it calls `$count`.
    pub fn count(&self, key: &str, count: impl Borrow<usize>) -> String {
        let mut args = FluentArgs::new();
        args.set("count", FluentValue::from(*count.borrow()));
        self.format(key, Some(&args)).unwrap_or_else(|| key.to_owned())
    }

    /// The text of a key with words in it.
    pub fn with(&self, key: &str, words: &[(&str, &str)]) -> String {
        let mut args = FluentArgs::new();
        for (name, word) in words {
            args.set(*name, FluentValue::from(*word));
        }
        self.format(key, Some(&args)).unwrap_or_else(|| key.to_owned())
    }

    /// The text of a key with one word in it, which it calls `$name`.
    pub fn named(&self, key: &str, name: &str) -> String {
        self.with(key, &[("name", name)])
    }

    fn format(&self, key: &str, args: Option<&FluentArgs<'_>>) -> Option<String> {
        let pattern = self.bundle.get_message(key)?.value()?;
        Some(self.bundle.format_pattern(pattern, args, &mut Vec::new()).into_owned())
    }

    /// The word for a value of a list that others may add to, such as a benefit; the value itself where there is none.
    pub fn word(&self, list: &str, value: &str) -> String {
        self.find(&format!("{list}-{value}")).unwrap_or_else(|| value.to_owned())
    }

    /// Why the exchange refused something, by the code of its reason.
    pub fn reason(&self, code: &str) -> String {
        self.find(&format!("reason-{code}")).unwrap_or_else(|| self.named("not-sent-refused", code))
    }

    /// A day: `27.11.2026`, in English `27 November 2026`.
    pub fn date(&self, date: Date) -> String {
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        match self.language {
            Language::Fi | Language::Sv => format!("{day}.{month}.{year}"),
            Language::En => format!("{day} {} {year}", date.month()),
        }
    }

    /// A day as the exchange writes it (ISO 8601), for people; as it is where it is none.
    pub fn day(&self, text: &str) -> String {
        parse_date(text).map_or_else(|| text.to_owned(), |date| self.date(date))
    }

    /// Two days with a dash between; an open end stays open.
    pub fn span(&self, from: &str, to: &str) -> String {
        format!("{}\u{a0}– {}", self.day(from), self.day(to)).trim_end().to_owned()
    }

    /// A moment by Finland's clocks: `27.11.2026 klo 9.05`.
    pub fn moment(&self, at: impl Borrow<Timestamp>) -> String {
        let local = working_day::wall_clock(*at.borrow());
        let (date, hour, minute) = (self.date(local.date()), local.hour(), local.minute());
        match self.language {
            Language::Fi => format!("{date} klo\u{a0}{hour}.{minute:02}"),
            Language::Sv => format!("{date} kl.\u{a0}{hour}.{minute:02}"),
            Language::En => format!("{date} at\u{a0}{hour}:{minute:02}"),
        }
    }

    /// Cents of a euro: `1 234,50 €`, in English `€1,234.50`.
    pub fn euros(&self, cents: i64) -> String {
        let (sign, cents) = (if cents < 0 { "\u{2212}" } else { "" }, cents.unsigned_abs());
        let (thousands, point) = match self.language {
            Language::Fi | Language::Sv => ('\u{a0}', ','),
            Language::En => (',', '.'),
        };
        let amount = format!("{}{point}{:02}", grouped(cents / 100, thousands), cents % 100);
        match self.language {
            Language::Fi | Language::Sv => format!("{sign}{amount}\u{a0}€"),
            Language::En => format!("{sign}€{amount}"),
        }
    }

    /// A size for people.
    pub fn size(&self, bytes: i64) -> String {
        let point = |text: String| match self.language {
            Language::Fi | Language::Sv => text.replace('.', ","),
            Language::En => text,
        };
        let tenths = |unit: i64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
        match bytes {
            ..1024 => format!("{bytes}\u{a0}B"),
            1024..1_048_576 => point(format!("{}\u{a0}kB", tenths(1024))),
            _ => point(format!("{}\u{a0}MB", tenths(1_048_576))),
        }
    }
}

fn grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(separator);
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use airut_domain::time::parse_timestamp;

    use super::*;

    #[test]
    fn amounts_and_days_are_written_as_each_language_does() {
        let [fi, sv, en] = Language::ALL.map(Language::texts);
        assert_eq!(fi.euros(123_456_789), "1\u{a0}234\u{a0}567,89\u{a0}€");
        assert_eq!(en.euros(123_450), "€1,234.50");
        assert_eq!(sv.euros(-5), "\u{2212}0,05\u{a0}€");
        assert_eq!(fi.day("2026-01-05"), "5.1.2026");
        assert_eq!(en.day("2026-01-05"), "5 January 2026");
        let at = parse_timestamp("2026-11-27T07:05:00Z").expect("a moment");
        assert_eq!(fi.moment(at), "27.11.2026 klo\u{a0}9.05");
        assert_eq!(en.moment(at), "27 November 2026 at\u{a0}9:05");
        assert_eq!(en.size(1_572_864), "1.5\u{a0}MB");
        assert_eq!(fi.size(1_536), "1,5\u{a0}kB");
    }

    #[test]
    fn the_browsers_first_language_that_the_desk_has_is_taken() {
        assert_eq!(Language::preferred("sv-FI,sv;q=0.9,en;q=0.8"), Language::Sv);
        assert_eq!(Language::preferred("de, en;q=0.3, sv;q=0.5"), Language::Sv);
        assert_eq!(Language::preferred("de"), Language::Fi);
        assert_eq!(Language::preferred(""), Language::Fi);
    }
}
