//! Names of objects.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest name, in bytes. S3 takes 1024, of which a prefix takes some.
const LONGEST: usize = 512;

/// An object's name: segments with slashes between, such as `keys/message/2026-11-27/pirkanmaa`.
///
/// No object's name may go on where another's ends (`a` and `a/b`): in a directory, one is a file and the other needs a
/// directory in its place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

/// Why a text is no object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an object's name has segments of A-Z a-z 0-9 . _ : - that begin with no dot, slashes between, 512 bytes at most"
)]
pub struct InvalidName;

impl ObjectName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        // A leading dot would be a hidden file of the local store, or lead out of it.
        let fits = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain);
        (text.len() <= LONGEST && text.split('/').all(fits)).then(|| Self(text.into())).ok_or(InvalidName)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_store() {
        for bad in ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.b", "a b", "ä", "a\\b", &"x".repeat(513)] {
            assert_eq!(bad.parse::<ObjectName>(), Err(InvalidName), "{bad:?}");
        }
        for good in ["a", "keys/message/2026-11-27/pirkanmaa", "a.b/c_d:e-f", &"x".repeat(512)] {
            assert_eq!(good.parse::<ObjectName>().unwrap().as_str(), good);
        }
    }
}
