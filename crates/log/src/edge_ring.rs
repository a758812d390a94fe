//! The keys of the log that a process needs which knows callers and opens no body: the ledger's.
//!
//! They are part of the key ring, in a file of their own, so that whoever runs the ledger never has the rest. Of data
//! subjects it has the key of every year, for as long as the log law has the ledger's entries kept: only with them can it
//! be told whom an entry is about. A gateway needs only those of last year, this year and the coming ones.

use std::{collections::BTreeMap, fmt, path::Path};

use airut_domain::{
    id::KeyId,
    identity_code::IdentityCode,
    keys::{Digest, MacKey},
    partition::{Partition, Topic, partition_of},
};
use serde::{Deserialize, Serialize};

use crate::keyring::{self, KeyRingError, NoSubjectKey, Secret, load, save};

/// Where refusals lie, whom strangers are known as again, and whom the ledger's entries are about.
pub struct EdgeRing {
    keys: Keys,
    partition: MacKey,
    stranger: MacKey,
    subject: BTreeMap<KeyId, MacKey>,
}

/// The keys, as they stand in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// Which partition a thing lies in.
    pub(crate) partition: Secret,
    /// Callers that no partner is known for.
    pub(crate) stranger: Secret,
    /// Data subjects, by year: `subject-2026`.
    pub(crate) subject: BTreeMap<KeyId, Secret>,
}

impl EdgeRing {
    pub(crate) fn new(keys: Keys) -> Self {
        let (partition, stranger, subject) = (keys.partition.mac(), keys.stranger.mac(), keyring::macs(&keys.subject));
        Self { keys, partition, stranger, subject }
    }

    /// Reads the keys from their file.
    ///
    /// # Errors
    /// [`KeyRingError`], which names the file and never quotes it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyRingError> {
        load(path.as_ref()).map(Self::new)
    }

    /// Writes them to a file as [`KeyRing::save`](crate::KeyRing::save) does.
    ///
    /// # Errors
    /// [`KeyRingError::File`], and then the old file is still there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyRingError> {
        save(path.as_ref(), &self.keys)
    }

    /// Where the thing with this key lies.
    pub fn partition_of(&self, topic: Topic, parts: &[&[u8]]) -> Partition {
        partition_of(&self.partition, topic, parts)
    }

    /// The data subject's pseudonym in this year, as [`KeyRing::subject`](crate::KeyRing::subject) gives it.
    ///
    /// # Errors
    /// When there is no key for the year, or no longer.
    pub fn subject(&self, code: &IdentityCode, year: i32) -> Result<(Digest, KeyId), NoSubjectKey> {
        keyring::subject(&self.subject, code, year)
    }

    /// The years that there are subject keys for.
    pub fn years(&self) -> impl Iterator<Item = i32> {
        self.keys.subject.keys().filter_map(keyring::year_of)
    }

    /// Destroys the subject key of a year, here: nobody can tell any more whom that year's entries are about. Returns
    /// whether there was one.
    pub fn forget_year(&mut self, year: i32) -> bool {
        let forgotten = keyring::forget_year(&mut self.keys.subject, year);
        self.subject = keyring::macs(&self.keys.subject);
        forgotten
    }

    /// Keyed digest of what is known of a caller that is no partner: its certificate's issuer, its address prefix.
    pub fn stranger(&self, parts: &[&[u8]]) -> Digest {
        self.stranger.mac("stranger", parts)
    }
}

impl fmt::Debug for EdgeRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeRing(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyRing, Random};

    #[test]
    fn the_ledgers_part_of_a_ring_finds_the_same_places_and_holds_no_other_key() {
        let directory = tempfile::tempdir().unwrap();
        let (whole, part) = (directory.path().join("ring.toml"), directory.path().join("edge.toml"));
        let ring = KeyRing::generate(&Random::system(), 2026);
        ring.save(&whole).unwrap();
        ring.edge().save(&part).unwrap();
        let edge = EdgeRing::load(&part).unwrap();
        let key: [&[u8]; 1] = [b"pirkanmaa"];
        assert_eq!(edge.partition_of(Topic::Refusals, &key), ring.partition_of(Topic::Refusals, &key));
        assert_eq!(edge.stranger(&key), ring.edge().stranger(&key));
        let text = std::fs::read_to_string(&part).unwrap();
        let names: Vec<_> = text.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name)).collect();
        assert!(names.iter().all(|name| ["partition", "stranger"].contains(name) || name.starts_with("subject-")));
        assert!(
            matches!(EdgeRing::load(&whole), Err(KeyRingError::Syntax { .. })),
            "the whole ring is not for the ledger"
        );
        assert_eq!(format!("{edge:?}"), "EdgeRing(hidden)");
    }

    #[test]
    fn the_ledger_knows_subjects_of_years_that_gateways_have_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let (whole, part) = (directory.path().join("ring.toml"), directory.path().join("edge.toml"));
        let mut ring = KeyRing::generate(&Random::system(), 2026);
        let code: IdentityCode = "010190-900P".parse().unwrap();
        let known = ring.subject(&code, 2025).unwrap();
        ring.edge().save(&part).unwrap();
        ring.forget_year(2025);
        ring.save(&whole).unwrap();
        assert_eq!(KeyRing::load(&whole).unwrap().subject(&code, 2025), Err(NoSubjectKey(2025)));
        let mut edge = EdgeRing::load(&part).unwrap();
        assert_eq!(edge.subject(&code, 2025), Ok(known));
        assert_eq!(edge.years().collect::<Vec<_>>(), (2025..=2036).collect::<Vec<_>>());
        assert!(edge.forget_year(2025));
        edge.save(&part).unwrap();
        assert_eq!(EdgeRing::load(&part).unwrap().subject(&code, 2025), Err(NoSubjectKey(2025)));
    }
}
