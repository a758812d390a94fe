//! Forms: what was sent, and what a field asks for. A field says what is wrong with it, and the whole form at once.

use airut_domain::{identity_code::IdentityCode, time::parse_date};
use axum::extract::{FromRequest, Request};

use super::{fault::Fault, guard::LARGEST_FORM};
use crate::language::Texts;

/// A form may take so long to come in.
const SLOWEST: std::time::Duration = std::time::Duration::from_secs(30);

/// More than any form of the desk has, with a box for each of many documents.
const MOST_FIELDS: usize = 500;

/// The fields of a form as they were sent. Line ends are those of one character, and no value has white space around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn parse(body: &[u8]) -> Self {
        let pairs = form_pairs(body).map(|(name, value)| (name, tidy(&value)));
        Self(pairs.collect())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Sets a field that has no value yet.
    pub(crate) fn or(mut self, name: &str, value: &str) -> Self {
        if !self.has(name) {
            self.0.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Adds a value to those that a field has.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Those of a form that came in parts.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, tidy(&value))).collect())
    }

    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Fault;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Fault> {
        let body = tokio::time::timeout(SLOWEST, axum::body::to_bytes(request.into_body(), LARGEST_FORM)).await;
        let body = body.map_err(|_| Fault::Malformed)?.map_err(|_| Fault::TooLarge)?;
        let fields = Self::parse(&body);
        if fields.0.len() > MOST_FIELDS { Err(Fault::TooLarge) } else { Ok(fields) }
    }
}

/// The pairs of `application/x-www-form-urlencoded`.
fn form_pairs(body: &[u8]) -> impl Iterator<Item = (String, String)> {
    let parts = body.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        (decoded(&part[..at]), decoded(part.get(at + 1..).unwrap_or_default()))
    })
}

fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
                match hex {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = &after[2..];
                    }
                    None => bytes.push(b'%'),
                }
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tidy(value: &str) -> String {
    value.replace("\r\n", "\n").replace('\r', "\n").trim().to_owned()
}

/// A line for at most so many characters is drawn short.
const TELEPHONE_OR_CODE: usize = 32;

/// Whether a field must be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    Yes,
    No,
}

/// How a field is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Line,
    Area,
    Day,
    Choice,
    Checks,
}

/// One of several values of a field.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) label: String,
    pub(crate) chosen: bool,
}

/// A field of a form, for templates.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) label: String,
    pub(crate) hint: Option<String>,
    pub(crate) value: String,
    pub(crate) error: Option<String>,
    /// In characters; 0 for none.
    pub(crate) most: usize,
    pub(crate) needed: bool,
    pub(crate) choices: Vec<Choice>,
}

impl Field {
    pub(crate) fn is_area(&self) -> bool {
        self.kind == Kind::Area
    }

    pub(crate) fn is_day(&self) -> bool {
        self.kind == Kind::Day
    }

    pub(crate) fn is_choice(&self) -> bool {
        self.kind == Kind::Choice
    }

    pub(crate) fn is_checks(&self) -> bool {
        self.kind == Kind::Checks
    }

    /// The values that are sent on when the form has been checked.
    pub(crate) fn values(&self) -> Vec<&str> {
        if self.choices.is_empty() {
            return vec![&self.value];
        }
        self.choices.iter().filter(|choice| choice.chosen).map(|choice| choice.value.as_str()).collect()
    }

    /// What it says, for people.
    pub(crate) fn shown(&self, t: &Texts) -> String {
        if self.kind == Kind::Day {
            return t.day(&self.value);
        }
        if self.choices.is_empty() {
            return self.value.clone();
        }
        let chosen = self.choices.iter().filter(|choice| choice.chosen).map(|choice| choice.label.as_str());
        chosen.collect::<Vec<_>>().join(", ")
    }

    /// What describes the field to those who do not see it beside it.
    pub(crate) fn described_by(&self) -> String {
        let parts = [
            (self.hint.is_some(), "hint"),
            (self.error.is_some(), "error"),
            (self.most > 0 && self.kind == Kind::Area, "count"),
        ];
        let ids = parts.iter().filter(|(there, _)| *there).map(|(_, part)| format!("{part}-{}", self.name));
        ids.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn is_described(&self) -> bool {
        !self.described_by().is_empty()
    }

    pub(crate) fn is_short(&self) -> bool {
        (1..=TELEPHONE_OR_CODE).contains(&self.most)
    }

    /// How long the text is, and how long it may be. The script says the same while one types.
    pub(crate) fn count_text(&self, t: &Texts) -> String {
        let (length, most) = (self.value.chars().count().to_string(), self.most.to_string());
        t.of("count-of").replace("LENGTH", &length).replace("MOST", &most)
    }
}

/// Whether what is in a form was sent, and so is to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    No,
}

/// A form that is put together field by field.
#[derive(Debug)]
pub(crate) struct Form {
    t: &'static Texts,
    given: Fields,
    sent: Sent,
    pub(crate) fields: Vec<Field>,
    /// Why it was not taken although every field is right: the key of a text.
    pub(crate) banner: Option<String>,
}

impl Form {
    pub(crate) fn new(t: &'static Texts, given: Fields, sent: Sent) -> Self {
        Self { t, given, sent, fields: Vec::new(), banner: None }
    }

    /// A line of text; gives its value.
    pub(crate) fn line(&mut self, name: &'static str, most: usize, needed: Needed) -> String {
        self.text(name, Kind::Line, most, needed)
    }

    /// Several lines of text.
    pub(crate) fn area(&mut self, name: &'static str, most: usize, needed: Needed) -> String {
        self.text(name, Kind::Area, most, needed)
    }

    /// A day; gives it as the exchange writes it.
    pub(crate) fn day(&mut self, name: &'static str, needed: Needed) -> String {
        let given = self.text(name, Kind::Day, 0, needed);
        let day = parse_date(&given).map(|_| given.clone()).or_else(|| as_people_write(&given));
        match day {
            Some(day) => {
                self.replace(name, &day);
                day
            }
            None if given.is_empty() => given,
            None => {
                self.fault(name, "error-day");
                given
            }
        }
    }

    /// An identity code, of which the check character is checked.
    pub(crate) fn identity_code(&mut self, name: &'static str) -> String {
        let given = self.text(name, Kind::Line, 11, Needed::Yes).to_uppercase();
        self.replace(name, &given);
        if !given.is_empty() && given.parse::<IdentityCode>().is_err() {
            self.fault(name, "error-identity-code");
        }
        given
    }

    /// One of several values; gives the one that was chosen.
    pub(crate) fn choice(&mut self, name: &'static str, choices: Vec<(String, String)>, needed: Needed) -> String {
        let mut given = self.given.text(name).to_owned();
        if given.is_empty() && choices.len() == 1 && needed == Needed::Yes {
            given.clone_from(&choices[0].0);
        }
        let known = choices.iter().any(|(value, _)| *value == given);
        let choices =
            choices.into_iter().map(|(value, label)| Choice { chosen: value == given, value, label }).collect();
        self.push(name, Kind::Choice, given.clone(), 0, needed, choices);
        if self.sent == Sent::Yes && !known && (needed == Needed::Yes || !given.is_empty()) {
            self.fault(name, "error-choose");
        }
        given
    }

    /// Any of several values; gives those that were chosen.
    pub(crate) fn checks(&mut self, name: &'static str, choices: Vec<(String, String)>) -> Vec<String> {
        let given: Vec<String> = self.given.all(name).map(str::to_owned).collect();
        let choices: Vec<Choice> =
            choices.into_iter().map(|(value, label)| Choice { chosen: given.contains(&value), value, label }).collect();
        let chosen = choices.iter().filter(|choice| choice.chosen).map(|choice| choice.value.clone()).collect();
        self.push(name, Kind::Checks, String::new(), 0, Needed::No, choices);
        chosen
    }

    /// Says that a field is wrong, and why: the key of a text.
    pub(crate) fn fault(&mut self, name: &str, key: &str) {
        let text = self.t.of(key);
        self.fault_text(name, text);
    }

    pub(crate) fn fault_text(&mut self, name: &str, text: String) {
        if self.sent == Sent::Yes
            && let Some(field) = self.fields.iter_mut().find(|field| field.name == name && field.error.is_none())
        {
            field.error = Some(text);
        }
    }

    /// The fields that are wrong.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&'static str, &str, &str)> {
        self.fields.iter().filter_map(|field| Some((field.name, field.label.as_str(), field.error.as_deref()?)))
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.fields.iter().any(|field| field.error.is_some())
    }

    /// Whether it was sent, and all is right with it.
    pub(crate) fn is_good(&self) -> bool {
        self.sent == Sent::Yes && !self.has_errors()
    }

    fn text(&mut self, name: &'static str, kind: Kind, most: usize, needed: Needed) -> String {
        let given = self.given.text(name).to_owned();
        self.push(name, kind, given.clone(), most, needed, Vec::new());
        let length = given.chars().count();
        if given.is_empty() && needed == Needed::Yes {
            self.fault(name, "error-needed");
        } else if most > 0 && length > most {
            let text = self.t.count("error-too-long", length - most);
            self.fault_text(name, text);
        } else if given.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            self.fault(name, "error-characters");
        }
        given
    }

    fn replace(&mut self, name: &str, value: &str) {
        if let Some(field) = self.fields.iter_mut().find(|field| field.name == name) {
            value.clone_into(&mut field.value);
        }
    }

    fn push(
        &mut self,
        name: &'static str,
        kind: Kind,
        value: String,
        most: usize,
        needed: Needed,
        choices: Vec<Choice>,
    ) {
        let label = self.t.of(&format!("field-{name}"));
        let hint = self.t.find(&format!("field-{name}-hint"));
        let needed = needed == Needed::Yes;
        self.fields.push(Field { name, kind, label, hint, value, error: None, most, needed, choices });
    }
}

/// `27.11.2026` as the exchange writes it.
fn as_people_write(text: &str) -> Option<String> {
    let mut parts = text.trim().trim_end_matches('.').split('.').map(str::trim);
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str| part.parse::<u32>().ok();
    let text = format!("{:04}-{:02}-{:02}", number(year)?, number(month)?, number(day)?);
    (parts.next().is_none()).then(|| parse_date(&text).map(|_| text)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;

    #[test]
    fn fields_are_read_as_browsers_send_them() {
        let fields = Fields::parse(b"text=%C3%A4iti+%26%0D%0Ais%C3%A4%20&many=1&many=2&empty=&odd=%zz&=x");
        assert_eq!(fields.text("text"), "äiti &\nisä");
        assert_eq!(fields.all("many").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((fields.text("empty"), fields.text("odd"), fields.text("absent")), ("", "%zz", ""));
    }

    #[test]
    fn every_wrong_field_is_told_at_once() {
        let given = Fields::parse(b"text=123456&code=131052-308X&day=31.2.2026&to=nobody");
        let mut form = Form::new(Language::En.texts(), given, Sent::Yes);
        form.area("text", 5, Needed::Yes);
        form.line("case", 10, Needed::Yes);
        form.identity_code("code");
        form.day("day", Needed::No);
        form.choice("to", vec![("kela".into(), "Kela".into())], Needed::Yes);
        let wrong: Vec<&str> = form.errors().map(|(name, ..)| name).collect();
        assert_eq!(wrong, ["text", "case", "code", "day", "to"]);
        assert!(!form.is_good());
    }

    #[test]
    fn days_are_taken_as_people_write_them() {
        let mut form = Form::new(Language::Fi.texts(), Fields::parse(b"day=5.1.2026"), Sent::Yes);
        assert_eq!(form.day("day", Needed::Yes), "2026-01-05");
        assert_eq!(form.fields[0].value, "2026-01-05");
        assert!(form.is_good());
    }

    #[test]
    fn what_was_not_sent_is_not_wrong_yet() {
        let mut form = Form::new(Language::Fi.texts(), Fields::default(), Sent::No);
        form.line("case", 10, Needed::Yes);
        assert!(!form.has_errors() && !form.is_good());
    }
}
