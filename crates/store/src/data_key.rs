//! Data keys: what bodies are sealed with, and how the keys are named.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use airut_domain::{
    id::{KeyId, PartnerId},
    keys::{Digest, MacKey},
    time::{Date, parse_date},
};

/// What a data key seals. Each family is kept for as long as its bodies may still be disclosed, and no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Messages and what is said of their settlement.
    Message,
    /// Questions and answers.
    Query,
    /// Information requests.
    Request,
    /// Documents.
    Document,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Message, Self::Query, Self::Request, Self::Document];

    /// What ids of its keys begin with.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Query => "query",
            Self::Request => "request",
            Self::Document => "document",
        }
    }
}

/// The longest id that the domain takes.
const LONGEST: usize = 64;

/// The id of the key for what this partner is to read of this day: `message/2026-11-27/pirkanmaa`. A partner's id that is
/// too long, or has characters besides letters, digits, `_` and `-`, is replaced by the start of its digest.
pub fn key_id(family: Family, day: Date, partner: &PartnerId) -> KeyId {
    // Written out: it is done for every body, and the time crate's formatting takes as long as the sealing.
    let mut id = String::with_capacity(LONGEST);
    let (year, month, day) = (day.year(), u8::from(day.month()), day.day());
    write!(id, "{}/{year:04}-{month:02}-{day:02}/", family.name()).expect("a text takes what is written");
    let partner = partner.as_str();
    let plain = partner.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if plain && id.len() + partner.len() <= LONGEST {
        id.push_str(partner);
    } else {
        id.push_str(&letters(partner));
    }
    id.parse().expect("letters, digits, dashes and slashes, none of them an identity code")
}

/// Family and day of a data key's id; none when it is no such id.
pub(crate) fn parts(id: &KeyId) -> Option<(Family, Date)> {
    let (family, rest) = id.as_str().split_once('/')?;
    let family = Family::ALL.into_iter().find(|known| known.name() == family)?;
    Some((family, parse_date(rest.split_once('/')?.0)?))
}

/// 128 bits of the text's digest, in letters: digits could look like an identity code. The colon is in no plain id.
fn letters(text: &str) -> String {
    let nibbles = Digest::of(text.as_bytes()).0.into_iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
    std::iter::once(':').chain(nibbles.map(|nibble| char::from(b'a' + nibble))).collect()
}

/// A data key. Its bytes never leave this crate: what seals is derived from it. Cheap to clone.
#[derive(Clone)]
pub struct DataKey(Arc<MacKey>);

impl DataKey {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(Arc::new(MacKey::new(secret)))
    }

    /// A key of 32 bytes for one use, told by the label, and one thing, told by the parts.
    pub fn derive(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.0.mac(label, parts).0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day() -> Date {
        parse_date("2026-11-27").unwrap()
    }

    #[test]
    fn keys_are_named_for_family_day_and_partner() {
        let id = key_id(Family::Message, day(), &"pirkanmaa".parse().unwrap());
        assert_eq!(id.as_str(), "message/2026-11-27/pirkanmaa");
        assert_eq!(parts(&id), Some((Family::Message, day())));
        for odd in ["wrapping-1", "body-1", "paper/2026-11-27/a", "query/2026-11-99/a", "query/2026-11-27"] {
            assert_eq!(parts(&odd.parse().unwrap()), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn every_partner_has_a_key_of_its_own_that_is_an_objects_name(
            one in "[A-Za-z0-9._:/-]{1,64}", two in "[A-Za-z0-9._:/-]{1,64}",
        ) {
            let (Ok(a), Ok(b)) = (one.parse::<PartnerId>(), two.parse::<PartnerId>()) else { return Ok(()) };
            for family in Family::ALL {
                let (a, b) = (key_id(family, day(), &a), key_id(family, day(), &b));
                prop_assert_eq!(a == b, one == two);
                let name = format!("keys/{a}").parse::<crate::ObjectName>();
                prop_assert!(name.is_ok());
                // No key's object lies below another's.
                prop_assert_eq!(a.as_str().matches('/').count(), 2);
                prop_assert_eq!(parts(&a), Some((family, day())));
            }
        }
    }
}
