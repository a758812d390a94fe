//! The key ring: one TOML file with every secret that the log's content depends on.
//!
//! Some keys must stay for as long as anything made with them matters. The partition key never changes, or a thing
//! would be looked for where it is not. Wrapping and commitment keys rotate: one of each is active, the others still open
//! and recognise what was made with them. Subjects have a key per calendar year, so that their pseudonyms fall apart
//! when a year's key is destroyed. What bodies are sealed with is not here: it is in the key store, under the wrapping
//! keys.
//!
//! Nothing secret may leave through `Debug`, an error or a log line; a file that others may read is refused.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use airut_domain::{
    id::KeyId,
    identity_code::IdentityCode,
    keys::{Digest, MacKey, commitment},
    message::OrderKey,
    partition::{Partition, Topic, partition_of},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use airut_store::Wrapping;

use crate::{Cause, EdgeRing, Random, edge_ring};

/// For how many years after the first one a new ring has subject keys.
const YEARS_AHEAD: i32 = 10;

/// For how many years a ledger needs the subject key of a year that is over: for as long as the log law has the ledger's
/// entries kept.
pub const SUBJECT_YEARS: i32 = 12;

/// Every secret key of a log. Of a running process the wrapping keys are read anew when the file has changed; for the
/// others it is started anew.
pub struct KeyRing {
    keys: Keys,
    macs: Macs,
}

/// The keys, as they stand in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Which partition a thing lies in. Never changes.
    partition: Secret,
    /// Fingerprints of content and context.
    fingerprint: Secret,
    /// End users and cases.
    access: Secret,
    /// Callers that no partner is known for.
    stranger: Secret,
    /// Data subjects, by year: `subject-2026`.
    subject: BTreeMap<KeyId, Secret>,
    /// Salts of commitments.
    commitment: Rotating<Secret>,
    /// Data keys, where they are stored.
    wrapping: Rotating<Secret>,
}

/// The keys, ready for use.
struct Macs {
    partition: MacKey,
    fingerprint: MacKey,
    access: MacKey,
    subject: BTreeMap<KeyId, MacKey>,
    commitment: Rotating<MacKey>,
}

/// Keys of which one makes what is new, and all serve what is old.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotating<K> {
    active: KeyId,
    keys: BTreeMap<KeyId, K>,
}

/// 32 secret bytes; hexadecimal in the file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Secret([u8; 32]);

/// Why a key ring can't be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// Others than its owner may read or write the file.
    #[error("{} has mode {mode:03o}: nobody but its owner may read or write it (chmod 600)", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not a key ring. The fault is not quoted, because it may be a secret.
    #[error("{} is not a key ring: see line {line}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where the fault is, counted from 1.
        line: usize,
    },
    /// The file is of a build that had the keys of bodies in the ring.
    #[error(
        "{} is of an earlier build, which sealed otherwise: begin with a new data directory",
        path.display()
    )]
    Earlier {
        /// The file.
        path: PathBuf,
    },
    /// A key that is named active is not there.
    #[error("{} names {key} as active and does not have it", path.display())]
    NoActiveKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: KeyId,
    },
    /// The file can't be read or written.
    #[error("can not use {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Cause,
    },
}

/// Why a ring's wrapping keys can't be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// There is none of this id.
    #[error("the key ring has no wrapping key {0}")]
    NoSuchKey(KeyId),
    /// The key wraps what is new.
    #[error("wrapping key {0} is active: make another one active first")]
    Active(KeyId),
}

/// The ring has no subject key for this year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key ring has no subject key for {0}")]
pub struct NoSubjectKey(pub i32);

impl KeyRing {
    /// A new ring, with subject keys from the year before `year` to ten years after it.
    pub fn generate(random: &Random, year: i32) -> Self {
        let secret = || Secret(random.bytes());
        let rotating = |active: KeyId| Rotating { keys: BTreeMap::from([(active.clone(), secret())]), active };
        Self::new(Keys {
            partition: secret(),
            fingerprint: secret(),
            access: secret(),
            stranger: secret(),
            subject: (year - 1..=year + YEARS_AHEAD).map(|year| (subject_key(year), secret())).collect(),
            commitment: rotating("commitment-1".parse().expect("a valid id")),
            wrapping: rotating(wrapping_key(1)),
        })
    }

    /// Reads a ring from its file.
    ///
    /// # Errors
    /// [`KeyRingError`], which names the file and never quotes it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyRingError> {
        let path = path.as_ref();
        let keys: Keys = load(path)?;
        for rotating in [&keys.commitment, &keys.wrapping] {
            if !rotating.keys.contains_key(&rotating.active) {
                return Err(KeyRingError::NoActiveKey { path: path.to_owned(), key: rotating.active.clone() });
            }
        }
        Ok(Self::new(keys))
    }

    /// Writes the ring to a file that only its owner may read, in place of one that may be there. After a crash the
    /// file is the old one or the new one; when this returns, the new one, durably.
    ///
    /// # Errors
    /// [`KeyRingError::File`], and then the old file is still there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyRingError> {
        save(path.as_ref(), &self.keys)
    }

    /// The keys of it that a process needs which opens no body.
    pub fn edge(&self) -> EdgeRing {
        let Keys { partition, stranger, subject, .. } = &self.keys;
        let (partition, stranger, subject) = (partition.clone(), stranger.clone(), subject.clone());
        EdgeRing::new(edge_ring::Keys { partition, stranger, subject })
    }

    /// The wrapping keys.
    pub fn wrapping(&self) -> Wrapping {
        let Rotating { active, keys } = &self.keys.wrapping;
        let keys = keys.iter().map(|(id, secret)| (id.clone(), secret.0));
        Wrapping::new(active.clone(), keys).expect("checked when loaded")
    }

    /// Whether the other ring has the same wrapping keys, and the same active one.
    pub fn wraps_like(&self, other: &Self) -> bool {
        self.keys.wrapping == other.keys.wrapping
    }

    /// Adds a wrapping key, which is not active, and gives its id: `wrapping-2` after `wrapping-1`.
    pub fn add_wrapping_key(&mut self, random: &Random) -> KeyId {
        let keys = &mut self.keys.wrapping.keys;
        let number = |id: &KeyId| id.as_str().strip_prefix("wrapping-").and_then(|number| number.parse::<u32>().ok());
        let id = wrapping_key(1 + keys.keys().filter_map(number).max().unwrap_or(0));
        keys.insert(id.clone(), Secret(random.bytes()));
        id
    }

    /// Makes this wrapping key the one that wraps what is new.
    ///
    /// # Errors
    /// When the ring does not have it.
    pub fn activate_wrapping_key(&mut self, id: &KeyId) -> Result<(), RotationError> {
        if !self.keys.wrapping.keys.contains_key(id) {
            return Err(RotationError::NoSuchKey(id.clone()));
        }
        self.keys.wrapping.active = id.clone();
        Ok(())
    }

    /// Removes a wrapping key. What is still wrapped by it opens no more.
    ///
    /// # Errors
    /// When the ring does not have it, or it is active.
    pub fn remove_wrapping_key(&mut self, id: &KeyId) -> Result<(), RotationError> {
        if self.keys.wrapping.active == *id {
            return Err(RotationError::Active(id.clone()));
        }
        self.keys.wrapping.keys.remove(id).map(drop).ok_or_else(|| RotationError::NoSuchKey(id.clone()))
    }

    /// The years that there are subject keys for.
    pub fn years(&self) -> impl Iterator<Item = i32> {
        self.keys.subject.keys().filter_map(year_of)
    }

    /// Destroys the subject key of a year, here. Returns whether there was one. A gateway needs those of last year, this
    /// year and the coming ones.
    pub fn forget_year(&mut self, year: i32) -> bool {
        self.macs.subject.remove(&subject_key(year));
        forget_year(&mut self.keys.subject, year)
    }

    /// Where the thing with this key lies.
    pub fn partition_of(&self, topic: Topic, parts: &[&[u8]]) -> Partition {
        partition_of(&self.macs.partition, topic, parts)
    }

    /// Keyed digest of a call's content and context.
    pub fn fingerprint(&self, content: &[u8]) -> Digest {
        self.macs.fingerprint.mac("fingerprint", &[content])
    }

    /// The data subject's pseudonym in this year, and the key it is made with.
    ///
    /// # Errors
    /// When the ring has no key for the year.
    pub fn subject(&self, code: &IdentityCode, year: i32) -> Result<(Digest, KeyId), NoSubjectKey> {
        subject(&self.macs.subject, code, year)
    }

    /// Keyed digest of an end user, as its partner names them.
    pub fn end_user(&self, end_user: &str) -> Digest {
        self.macs.access.mac("end user", &[end_user.as_bytes()])
    }

    /// Keyed digest of a case.
    pub fn case(&self, case: &str) -> Digest {
        self.macs.access.mac("case", &[case.as_bytes()])
    }

    /// Keyed digest of an ordering key between two partners.
    pub fn ordering(&self, sender: &str, recipient: &str, key: &str) -> OrderKey {
        let mac = self.macs.access.mac("ordering key", &[sender.as_bytes(), recipient.as_bytes(), key.as_bytes()]);
        OrderKey(*mac.0.first_chunk().expect("32 bytes"))
    }

    /// The salt of a new commitment. The parts must be the caller's secret or random in part (a fingerprint is enough),
    /// and the same again when the same receipt is given again.
    pub fn commitment_salt(&self, parts: &[&[u8]]) -> [u8; 16] {
        salt(self.macs.commitment.active().0, parts)
    }

    /// The salt that a recorded commitment to this payload was made with, whichever of the ring's keys was active then.
    /// `None` when it is no commitment to this payload with these parts.
    pub fn salt_of(&self, recorded: Digest, payload: Digest, parts: &[&[u8]]) -> Option<[u8; 16]> {
        let salts = self.macs.commitment.keys.values().map(|key| salt(key, parts));
        salts.into_iter().find(|salt| commitment(salt, payload) == recorded)
    }

    fn new(keys: Keys) -> Self {
        let macs = keys.macs();
        Self { keys, macs }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(hidden)")
    }
}

impl Keys {
    fn macs(&self) -> Macs {
        let Rotating { active, keys } = &self.commitment;
        Macs {
            partition: self.partition.mac(),
            fingerprint: self.fingerprint.mac(),
            access: self.access.mac(),
            subject: macs(&self.subject),
            commitment: Rotating { active: active.clone(), keys: macs(keys) },
        }
    }
}

impl<K> Rotating<K> {
    fn active(&self) -> (&K, &KeyId) {
        (self.keys.get(&self.active).expect("checked when loaded"), &self.active)
    }
}

impl Secret {
    pub(crate) fn mac(&self) -> MacKey {
        MacKey::new(&self.0)
    }
}

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut secret = [0; 32];
        hex::decode_to_slice(text, &mut secret).map_err(|_| "must be 64 hexadecimal digits")?;
        Ok(Self(secret))
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        hex::encode(secret.0)
    }
}

fn salt(key: &MacKey, parts: &[&[u8]]) -> [u8; 16] {
    *key.mac("commitment salt", parts).0.first_chunk().expect("32 bytes")
}

fn subject_key(year: i32) -> KeyId {
    format!("subject-{year}").parse().expect("a valid id")
}

pub(crate) fn year_of(key: &KeyId) -> Option<i32> {
    key.as_str().strip_prefix("subject-")?.parse().ok()
}

fn wrapping_key(number: u32) -> KeyId {
    format!("wrapping-{number}").parse().expect("a valid id")
}

pub(crate) fn macs(keys: &BTreeMap<KeyId, Secret>) -> BTreeMap<KeyId, MacKey> {
    keys.iter().map(|(id, secret)| (id.clone(), secret.mac())).collect()
}

/// A data subject's pseudonym in a year, and the key it is made with.
pub(crate) fn subject(
    keys: &BTreeMap<KeyId, MacKey>,
    code: &IdentityCode,
    year: i32,
) -> Result<(Digest, KeyId), NoSubjectKey> {
    let id = subject_key(year);
    let key = keys.get(&id).ok_or(NoSubjectKey(year))?;
    Ok((key.mac("subject", &[code.as_str().as_bytes()]), id))
}

/// Removes the subject key of a year from a file's keys. Returns whether there was one.
pub(crate) fn forget_year(keys: &mut BTreeMap<KeyId, Secret>, year: i32) -> bool {
    keys.remove(&subject_key(year)).is_some()
}

/// Reads a file of keys that nobody but its owner may read.
pub(crate) fn load<K: DeserializeOwned>(path: &Path) -> Result<K, KeyRingError> {
    let text = read_private(path)?;
    toml::from_str(&text).map_err(|error| {
        let path = path.to_owned();
        if is_earlier(&text) {
            return KeyRingError::Earlier { path };
        }
        KeyRingError::Syntax { path, line: line_of(&text, error.span().map_or(0, |span| span.start)) }
    })
}

/// Writes a file of keys, durably, in place of one that may be there.
pub(crate) fn save(path: &Path, keys: &impl Serialize) -> Result<(), KeyRingError> {
    let text = toml::to_string(keys).expect("ids and hexadecimal are plain data");
    write_private(path, &text).map_err(|error| KeyRingError::File { path: path.to_owned(), cause: error.into() })
}

/// Whether the file is of a build that had the keys of bodies in the ring, and none of subjects in the ledger's part.
fn is_earlier(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    let has = |key: &str| table.contains_key(key);
    has("partition") && has("stranger") && (has("body") || !has("subject"))
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Looks at the permissions of the very file that is read, not of what its name stood for a moment before.
fn read_private(path: &Path) -> Result<String, KeyRingError> {
    let fault = |error: io::Error| KeyRingError::File { path: path.to_owned(), cause: error.into() };
    let file = File::open(path).map_err(fault)?;
    let mode = file.metadata().map_err(fault)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::Permissions { path: path.to_owned(), mode });
    }
    io::read_to_string(file).map_err(fault)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    // What a crash left of an earlier attempt. A link in its place is removed, not followed.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator for tests: counts.
    fn counting() -> Random {
        let next = std::sync::atomic::AtomicU8::new(1);
        Random::new(move |bytes| bytes.fill_with(|| next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
    }

    fn code() -> IdentityCode {
        "010190-900P".parse().unwrap()
    }

    #[test]
    fn a_saved_ring_gives_the_same_digests_when_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        let ring = KeyRing::generate(&counting(), 2026);
        ring.save(&path).unwrap();
        ring.save(&path).unwrap();
        let loaded = KeyRing::load(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(loaded.fingerprint(b"content"), ring.fingerprint(b"content"));
        assert_eq!(loaded.subject(&code(), 2026), ring.subject(&code(), 2026));
        assert_eq!(loaded.partition_of(Topic::Queries, &[b"a"]), ring.partition_of(Topic::Queries, &[b"a"]));
        assert_eq!(loaded.commitment_salt(&[b"a"]), ring.commitment_salt(&[b"a"]));
    }

    #[test]
    fn a_ring_that_others_may_read_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        KeyRing::generate(&counting(), 2026).save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = KeyRing::load(&path).unwrap_err();
        assert_eq!(refused, KeyRingError::Permissions { path: path.clone(), mode: 0o640 });
        assert!(refused.to_string().contains(path.to_str().unwrap()));
    }

    #[test]
    fn a_damaged_ring_is_refused_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        KeyRing::generate(&counting(), 2026).save(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let secret = good.lines().nth(1).unwrap().split('"').nth(1).unwrap();
        fs::write(&path, good.replacen(secret, &format!("{secret}x"), 1)).unwrap();
        let refused = KeyRing::load(&path).unwrap_err();
        assert_eq!(refused, KeyRingError::Syntax { path: path.clone(), line: 2 });
        assert!(!format!("{refused} {refused:?}").contains(&secret[..8]));
        fs::write(&path, good.replacen("active = \"wrapping-1\"", "active = \"wrapping-2\"", 1)).unwrap();
        let refused = KeyRing::load(&path).unwrap_err();
        assert_eq!(refused, KeyRingError::NoActiveKey { path, key: "wrapping-2".parse().unwrap() });
    }

    #[test]
    fn a_ring_that_has_the_keys_of_bodies_is_refused_as_an_earlier_builds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        KeyRing::generate(&counting(), 2026).save(&path).unwrap();
        let of_before =
            fs::read_to_string(&path).unwrap().replace("[wrapping", "[body").replace("wrapping-1", "body-1");
        fs::write(&path, of_before).unwrap();
        assert_eq!(KeyRing::load(&path).unwrap_err(), KeyRingError::Earlier { path: path.clone() });
        let edge = format!("partition = \"{0}\"\nstranger = \"{0}\"\n", "0".repeat(64));
        fs::write(&path, edge).unwrap();
        assert_eq!(EdgeRing::load(&path).unwrap_err(), KeyRingError::Earlier { path });
    }

    #[test]
    fn wrapping_keys_are_added_made_active_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        let mut ring = KeyRing::generate(&counting(), 2026);
        ring.save(&path).unwrap();
        let first: KeyId = "wrapping-1".parse().unwrap();
        let second = ring.add_wrapping_key(&counting());
        assert_eq!((second.as_str(), ring.wrapping().active()), ("wrapping-2", &first));
        assert!(!ring.wraps_like(&KeyRing::load(&path).unwrap()));
        assert_eq!(ring.remove_wrapping_key(&first), Err(RotationError::Active(first.clone())));
        ring.activate_wrapping_key(&second).unwrap();
        ring.save(&path).unwrap();
        let mut loaded = KeyRing::load(&path).unwrap();
        assert!(ring.wraps_like(&loaded));
        loaded.remove_wrapping_key(&first).unwrap();
        assert_eq!(loaded.wrapping().ids().collect::<Vec<_>>(), [&second]);
        assert_eq!(loaded.remove_wrapping_key(&first), Err(RotationError::NoSuchKey(first.clone())));
        assert_eq!(loaded.activate_wrapping_key(&first), Err(RotationError::NoSuchKey(first)));
        assert_eq!(loaded.add_wrapping_key(&counting()).as_str(), "wrapping-3");
    }

    #[test]
    fn a_forgotten_year_is_gone_from_the_file_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        let mut ring = KeyRing::generate(&Random::system(), 2026);
        let (pseudonym, _) = ring.subject(&code(), 2026).unwrap();
        ring.save(&path).unwrap();
        let secret = fs::read_to_string(&path).unwrap();
        let secret = secret.lines().find(|line| line.starts_with("subject-2025")).unwrap().split('"').nth(1).unwrap();
        assert!(ring.forget_year(2025));
        assert!(!ring.forget_year(2025));
        assert_eq!(ring.subject(&code(), 2025), Err(NoSubjectKey(2025)));
        ring.save(&path).unwrap();
        let loaded = KeyRing::load(&path).unwrap();
        assert_eq!(loaded.subject(&code(), 2025), Err(NoSubjectKey(2025)));
        assert_eq!(loaded.subject(&code(), 2026).unwrap().0, pseudonym);
        assert_eq!(loaded.years().collect::<Vec<_>>(), (2026..=2036).collect::<Vec<_>>());
        assert!(!fs::read_to_string(&path).unwrap().contains(secret));
    }

    #[test]
    fn uses_of_a_key_and_years_of_a_subject_have_nothing_in_common() {
        let ring = KeyRing::generate(&counting(), 2026);
        assert_ne!(ring.end_user("a"), ring.case("a"));
        assert_ne!(ring.subject(&code(), 2025).unwrap().0, ring.subject(&code(), 2026).unwrap().0);
        assert!(ring.subject(&code(), 2036).is_ok());
        assert_eq!(ring.subject(&code(), 2037), Err(NoSubjectKey(2037)));
        assert_eq!(ring.subject(&code(), 2024), Err(NoSubjectKey(2024)));
    }

    #[test]
    fn the_salt_of_an_old_commitment_is_found_after_rotation() {
        let mut ring = KeyRing::generate(&counting(), 2026);
        let (payload, parts) = (Digest::of(b"payload"), [b"id".as_slice()]);
        let salt = ring.commitment_salt(&parts);
        let recorded = commitment(&salt, payload);
        let newer: KeyId = "commitment-2".parse().unwrap();
        ring.keys.commitment.keys.insert(newer.clone(), Secret([9; 32]));
        ring.keys.commitment.active = newer;
        let rotated = KeyRing::new(ring.keys);
        assert_ne!(rotated.commitment_salt(&parts), salt);
        assert_eq!(rotated.salt_of(recorded, payload, &parts), Some(salt));
        assert_eq!(rotated.salt_of(recorded, Digest::of(b"other"), &parts), None);
    }

    #[test]
    fn debug_shows_nothing_secret() {
        assert_eq!(format!("{:?}", KeyRing::generate(&counting(), 2026)), "KeyRing(hidden)");
    }
}
