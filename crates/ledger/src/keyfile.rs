//! The ledger's key on disk: `ledger.key`, for nobody else to read, and `ledger.vkey`, for everybody who verifies.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use airut_log::Random;

use crate::note::{InvalidKey, Origin, SigningKey};

/// The signing key, in the directory of the ledger.
pub(crate) const SIGNING: &str = "ledger.key";
/// The verifier key, beside it.
pub(crate) const VERIFIER: &str = "ledger.vkey";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file can't be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds no key.
    #[error("{}: {error}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        error: InvalidKey,
    },
    /// The key belongs to a ledger of another name.
    #[error("{} is the key of {found}, not of {expected}", path.display())]
    OtherOrigin {
        /// The file.
        path: PathBuf,
        /// The ledger that it names.
        found: Origin,
        /// The ledger as it is configured.
        expected: Origin,
    },
    /// There is a ledger, but not the key that it was signed with. A new key would make every earlier checkpoint
    /// doubtful.
    #[error("{} is missing, and the ledger beside it was signed with it: restore it", .0.display())]
    Missing(PathBuf),
}

/// What to do when there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nothing was signed yet: make one.
    Create,
    /// There must be one.
    Refuse,
}

/// The key in this directory, made from `random` when there is none yet. The verifier key is written beside it.
pub(crate) fn load(dir: &Path, origin: &Origin, absent: Absent, random: &Random) -> Result<SigningKey, KeyError> {
    let path = dir.join(SIGNING);
    let key = match fs::read_to_string(&path) {
        Ok(text) => SigningKey::from_secret_text(text.trim_end())
            .map_err(|error| KeyError::Invalid { path: path.clone(), error })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match absent {
            Absent::Create => create(&path, origin, random)?,
            Absent::Refuse => return Err(KeyError::Missing(path)),
        },
        Err(error) => return Err(KeyError::Io { path, error }),
    };
    let found = key.verifier().origin();
    if found != origin {
        return Err(KeyError::OtherOrigin { path, found: found.clone(), expected: origin.clone() });
    }
    let verifier = format!("{}\n", key.verifier());
    let path = dir.join(VERIFIER);
    if fs::read_to_string(&path).ok().as_ref() != Some(&verifier) {
        write(&path, &verifier, 0o644)?;
    }
    Ok(key)
}

fn create(path: &Path, origin: &Origin, random: &Random) -> Result<SigningKey, KeyError> {
    let key = SigningKey::from_seed(origin.clone(), random.bytes());
    write(path, &format!("{}\n", key.to_secret_text()), 0o600)?;
    Ok(key)
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let new = path.with_added_extension("new");
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|error| KeyError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn origin(name: &str) -> Origin {
        name.parse().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let random = Random::system();
        let made = load(dir.path(), &origin("airut.example/a"), Absent::Create, &random).unwrap();
        let again = load(dir.path(), &origin("airut.example/a"), Absent::Refuse, &random).unwrap();
        assert_eq!(made.verifier(), again.verifier());
        let mode = fs::metadata(dir.path().join(SIGNING)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let verifier = fs::read_to_string(dir.path().join(VERIFIER)).unwrap();
        assert_eq!(verifier.trim_end().parse().as_ref(), Ok(made.verifier()));
    }

    #[test]
    fn another_ledgers_key_and_a_lost_one_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let random = Random::system();
        let lost = load(dir.path(), &origin("airut.example/a"), Absent::Refuse, &random);
        assert!(matches!(lost, Err(KeyError::Missing(_))));
        load(dir.path(), &origin("airut.example/a"), Absent::Create, &random).unwrap();
        let other = load(dir.path(), &origin("airut.example/b"), Absent::Create, &random);
        assert!(matches!(other, Err(KeyError::OtherOrigin { .. })));
        fs::write(dir.path().join(SIGNING), "PRIVATE+KEY+airut.example/a+00000000+AAAA").unwrap();
        let damaged = load(dir.path(), &origin("airut.example/a"), Absent::Create, &random);
        assert!(matches!(damaged, Err(KeyError::Invalid { .. })));
    }
}
