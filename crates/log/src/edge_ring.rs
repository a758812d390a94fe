//! The two keys of the log that a process needs which knows callers and opens no body: the ledger's.
//!
//! They are part of the key ring, in a file of their own, so that whoever runs the ledger never has the rest.

use std::{fmt, path::Path};

use airut_domain::{
    keys::{Digest, MacKey},
    partition::{Partition, Topic, partition_of},
};
use serde::{Deserialize, Serialize};

use crate::keyring::{KeyRingError, Secret, load, save};

/// Where refusals lie, and whom strangers are known as again.
pub struct EdgeRing {
    keys: Keys,
    partition: MacKey,
    stranger: MacKey,
}

/// The keys, as they stand in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// Which partition a thing lies in.
    pub(crate) partition: Secret,
    /// Callers that no partner is known for.
    pub(crate) stranger: Secret,
}

impl EdgeRing {
    pub(crate) fn new(keys: Keys) -> Self {
        let (partition, stranger) = (keys.partition.mac(), keys.stranger.mac());
        Self { keys, partition, stranger }
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
        assert_eq!(text.lines().count(), 2);
        assert!(
            matches!(EdgeRing::load(&whole), Err(KeyRingError::Syntax { .. })),
            "the whole ring is not for the ledger"
        );
        assert_eq!(format!("{edge:?}"), "EdgeRing(hidden)");
    }
}
