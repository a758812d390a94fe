//! A data key as it is stored: a few lines of text.
//!
//! ```text
//! airut data key v1
//! wrapped by wrapping-1
//! nonce 0f1e2d3c4b5a69788796a5b4
//! key 8c1d…
//! ```
//!
//! What is left of an erased one: `erased 2026-11-27T06:35:18.042Z` in place of the last three.

use airut_domain::{
    id::KeyId,
    time::{Timestamp, parse_timestamp},
};
use aws_lc_rs::aead::NONCE_LEN;
use bytes::Bytes;

use crate::wrapping::WRAPPED_LEN;

const FIRST_LINE: &str = "airut data key v1";

/// A stored data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoredKey {
    Wrapped { by: KeyId, nonce: [u8; NONCE_LEN], wrapped: [u8; WRAPPED_LEN] },
    Erased(Timestamp),
}

impl StoredKey {
    pub(super) fn to_bytes(&self) -> Bytes {
        let text = match self {
            Self::Wrapped { by, nonce, wrapped } => {
                format!("{FIRST_LINE}\nwrapped by {by}\nnonce {}\nkey {}\n", hex::encode(nonce), hex::encode(wrapped))
            }
            Self::Erased(at) => format!("{FIRST_LINE}\nerased {at}\n"),
        };
        text.into()
    }

    /// None when it is no data key of this version.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.strip_suffix('\n')?.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?.split('\n');
        let mut value = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let key = if text.contains("\nerased ") {
            Self::Erased(parse_timestamp(value("erased")?)?)
        } else {
            let by = value("wrapped by")?.parse().ok()?;
            Self::Wrapped { by, nonce: bytes_of(value("nonce")?)?, wrapped: bytes_of(value("key")?)? }
        };
        lines.next().is_none().then_some(key)
    }

    /// The size of what is left of an erased key: by it a listing tells which keys need not be read.
    pub(super) fn erased_size() -> u64 {
        Self::Erased(Timestamp::from_millis(0)).to_bytes().len() as u64
    }
}

fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else(nonce: [u8; 12], key in prop::array::uniform32(0_u8..), cut in 0_usize..200) {
            let mut wrapped = [0; WRAPPED_LEN];
            wrapped[..32].copy_from_slice(&key);
            let stored = StoredKey::Wrapped { by: "wrapping-1".parse().unwrap(), nonce, wrapped };
            let bytes = stored.to_bytes();
            prop_assert_eq!(StoredKey::parse(&bytes), Some(stored));
            if cut < bytes.len() {
                prop_assert_eq!(StoredKey::parse(&bytes[..cut]), None);
            }
            prop_assert_eq!(StoredKey::parse(&[&bytes[..], b"x"].concat()), None);
            prop_assert_ne!(bytes.len() as u64, StoredKey::erased_size());
        }

        #[test]
        fn every_erased_key_has_one_size(millis in 0_i64..253_402_300_799_999) {
            let erased = StoredKey::Erased(Timestamp::from_millis(millis));
            prop_assert_eq!(erased.to_bytes().len() as u64, StoredKey::erased_size());
            prop_assert_eq!(StoredKey::parse(&erased.to_bytes()), Some(erased));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(StoredKey::parse(&bytes), None);
        }
    }
}
