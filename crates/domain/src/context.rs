//! The context without which nobody may ask: who, in what role, for what purpose, on which legal basis, in which case.

use std::fmt;

use crate::id::{LegalBasis, Purpose};

/// Who asks and why. Every call about a person carries one, and every one of its fields is required.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    /// The named official who does the work, as the partner identifies them. Personal data: sealed or keyed in records.
    pub end_user: Text,
    /// The official's role, such as `social-worker`.
    pub end_user_role: Text,
    /// Why the data is needed.
    pub purpose: Purpose,
    /// The act that gives the right.
    pub legal_basis: LegalBasis,
    /// The case that the work belongs to. May identify a client: sealed or keyed in records.
    pub case_id: Text,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} under {}, the rest hidden)", self.purpose, self.legal_basis)
    }
}

/// A short text that a caller chose: 1 to 128 characters, none of them control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(String);

/// Why a text is not acceptable. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing there.
    #[error("is required")]
    Missing,
    /// Too long.
    #[error("must have at most 128 characters")]
    TooLong,
    /// A control character.
    #[error("must not contain control characters")]
    Control,
}

impl Text {
    /// Checks length and characters.
    pub fn new(text: &str) -> Result<Self, InvalidText> {
        if text.trim().is_empty() {
            return Err(InvalidText::Missing);
        }
        if text.chars().count() > 128 {
            return Err(InvalidText::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidText::Control);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
