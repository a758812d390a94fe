//! Identifiers: one newtype each, parsed once at the edge.
//!
//! An identifier that a caller chooses is kept in the clear, so it may not carry personal data: the character set is
//! narrow, the length bounded, and a text that contains a personal identity code is refused.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::identity_code::IdentityCode;

/// Why a text is not an identifier. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Too long.
    #[error("must have at most 64 characters")]
    TooLong,
    /// A character outside the set.
    #[error("may contain only A-Z a-z 0-9 . _ : / -")]
    Character,
    /// Looks like somebody's identity code.
    #[error("must not contain a personal identity code")]
    IdentityCode,
}

fn checked(text: &str) -> Result<Arc<str>, Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty);
    }
    if text.len() > 64 {
        return Err(Invalid::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b)) {
        return Err(Invalid::Character);
    }
    if IdentityCode::occurs_in(text) {
        return Err(Invalid::IdentityCode);
    }
    Ok(text.into())
}

macro_rules! identifier {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

identifier! {
    /// An organisation that exchanges messages, such as `pirkanmaa`.
    PartnerId;
    /// A query, chosen by the asker and unique among its queries.
    QueryId;
    /// A message, chosen by its sender and unique among its messages.
    MessageId;
    /// A document, chosen by its sender and unique among its documents.
    DocumentId;
    /// An information request, chosen by its requester and unique among its requests.
    RequestId;
    /// What a party does to an information request, chosen by it and unique among what it does to that request.
    CommandId;
    /// What a message is, by its name in the exchange's list, such as `social-work-need`.
    MessageType;
    /// One life of a gateway process, from start to end.
    Incarnation;
    /// A responder's open stream: the incarnation that holds it, and a number.
    StreamId;
    /// Why the data is needed, such as `social-assistance`.
    Purpose;
    /// The number of the act that gives the right, such as `1412/1997`.
    LegalBasis;
    /// A benefit, such as `basic-social-assistance`.
    Benefit;
    /// A key of the key ring.
    KeyId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_refuse_identity_codes_and_odd_characters() {
        assert_eq!("".parse::<QueryId>(), Err(Invalid::Empty));
        assert_eq!("x".repeat(65).parse::<QueryId>(), Err(Invalid::TooLong));
        assert_eq!("a b".parse::<QueryId>(), Err(Invalid::Character));
        assert_eq!("131052-308T".parse::<QueryId>(), Err(Invalid::IdentityCode));
        assert_eq!("q-131052-308t".parse::<QueryId>(), Err(Invalid::IdentityCode));
        assert!("0197-a:b_c.d/e".parse::<QueryId>().is_ok());
    }
}
