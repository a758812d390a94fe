//! Checkpoints as C2SP signed notes (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), so that standard verifiers can
//! check them. Ed25519 only.
//!
//! A note's text must be ignored until its signature is verified: [`VerifierKey::open`] is the only way to a
//! [`Checkpoint`], and [`SigningKey::sign`] the only way to a note.

use std::{fmt, str::FromStr};

use airut_domain::keys::Digest;
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};

/// The algorithm byte of Ed25519 in key ids and encoded keys.
const ED25519: u8 = 1;

/// What precedes an encoded signing key, as in Go's `golang.org/x/mod/sumdb/note`.
const PRIVATE: &str = "PRIVATE+KEY+";

/// The largest note that is read, in bytes: sixteen of the largest signatures that the specification speaks of fit.
const LARGEST: usize = 128 << 10;

/// What a signed checkpoint says: the tree of this ledger had this root when it had this many leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger, as its operator names it: the first line of the note and the name of its key.
    pub origin: Origin,
    /// How many leaves the tree had.
    pub size: u64,
    /// Its RFC 6962 root.
    pub root: Digest,
}

/// The name of a ledger, such as `airut.example/dev`: a URL without a scheme, which nobody has to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// A text that can not name a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an origin has 1 to 255 characters, without spaces, control characters and +")]
pub struct InvalidOrigin;

/// The public half of a ledger's key, under the ledger's name. Written `name+hash+base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    origin: Origin,
    public: [u8; 32],
}

/// A ledger's signing key. Never shown.
pub struct SigningKey {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
    seed: [u8; 32],
}

/// A text that is no key of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not `name+hash+base64`.
    #[error("not a key of the form name+hash+base64")]
    Form,
    /// Of another algorithm.
    #[error("not an Ed25519 key")]
    Algorithm,
    /// The hash does not belong to the name and the key: part of it was changed.
    #[error("the key's hash does not belong to its name and bytes")]
    Hash,
}

/// Why a note is not a checkpoint of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// Not a signed note.
    #[error("not a signed note")]
    Form,
    /// Not signed with this key.
    #[error("not signed with the ledger's key")]
    NotSigned,
    /// The signature is not that of the text: one of them was changed.
    #[error("the signature does not fit the text")]
    Signature,
    /// Signed, but the text is not a checkpoint of the ledger that the key belongs to.
    #[error("signed, but not a checkpoint of this ledger")]
    Text,
}

impl Origin {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        let valid = !text.is_empty() && text.len() <= 255 && text.chars().all(fits);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidOrigin) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Checkpoint {
    /// The text that is signed: three lines.
    fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        // Further lines are extensions, which say nothing to us.
        if lines.any(str::is_empty) || (size.starts_with('0') && size != "0") || size.starts_with('+') {
            return None;
        }
        Some(Self {
            origin: origin.parse().ok()?,
            size: size.parse().ok()?,
            root: Digest::from_slice(&STANDARD.decode(root).ok()?)?,
        })
    }
}

impl VerifierKey {
    /// The ledger that the key belongs to.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Verifies a note and reads what it says. Signatures by other keys are ignored, as the specification asks.
    ///
    /// # Errors
    /// [`InvalidNote`]: nothing that the note says may be used.
    pub fn open(&self, note: &str) -> Result<Checkpoint, InvalidNote> {
        let text = self.verify(note)?;
        let checkpoint = Checkpoint::parse(text).ok_or(InvalidNote::Text)?;
        if checkpoint.origin == self.origin { Ok(checkpoint) } else { Err(InvalidNote::Text) }
    }

    /// The text of a note that this key has signed.
    fn verify<'a>(&self, note: &'a str) -> Result<&'a str, InvalidNote> {
        if note.len() > LARGEST || note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(InvalidNote::Form);
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(InvalidNote::Form)?;
        let text = &note[..=text.len()];
        let signatures = signatures.strip_suffix('\n').ok_or(InvalidNote::Form)?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let (name, bytes) = signature_line(line).ok_or(InvalidNote::Form)?;
            let Some(signature) = bytes.strip_prefix(&self.id()).filter(|_| name == self.origin.0) else { continue };
            let key = UnparsedPublicKey::new(&signature::ED25519, &self.public);
            key.verify(text.as_bytes(), signature).map_err(|_| InvalidNote::Signature)?;
            signed = true;
        }
        if signed { Ok(text) } else { Err(InvalidNote::NotSigned) }
    }

    /// The key id: the first four bytes of SHA-256 over name, newline, algorithm and key.
    fn id(&self) -> [u8; 4] {
        let hash = Digest::of_parts(&[self.origin.0.as_bytes(), b"\n", &[ED25519], &self.public]);
        *hash.0.first_chunk().expect("32 bytes")
    }
}

/// Takes `— name base64` apart.
fn signature_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
    let bytes = STANDARD.decode(signature).ok()?;
    (!name.is_empty() && bytes.len() > 4).then_some((name, bytes))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ED25519], self.public.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.origin, hex::encode(self.id()))
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (origin, id, public) = parse_key(text)?;
        let key = Self { origin, public };
        if key.id() == id { Ok(key) } else { Err(InvalidKey::Hash) }
    }
}

/// Reads `name+hash+base64`: the name, the hash, and the 32 bytes behind the algorithm byte.
fn parse_key(text: &str) -> Result<(Origin, [u8; 4], [u8; 32]), InvalidKey> {
    let mut parts = text.splitn(3, '+');
    let mut part = || parts.next().ok_or(InvalidKey::Form);
    let origin = part()?.parse().map_err(|_| InvalidKey::Form)?;
    let id = hex::decode(part()?).ok().and_then(|id| id.try_into().ok()).ok_or(InvalidKey::Form)?;
    let encoded = STANDARD.decode(part()?).map_err(|_| InvalidKey::Form)?;
    let key = encoded.strip_prefix(&[ED25519]).ok_or(InvalidKey::Algorithm)?;
    Ok((origin, id, key.try_into().map_err(|_| InvalidKey::Algorithm)?))
}

impl SigningKey {
    /// The key of this ledger from 32 secret bytes.
    pub fn from_seed(origin: Origin, seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32 bytes are an Ed25519 seed");
        let public = pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        Self { verifier: VerifierKey { origin, public }, pair, seed }
    }

    /// The public half.
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs that the tree has this root at this size.
    pub fn sign(&self, size: u64, root: Digest) -> String {
        self.sign_text(&Checkpoint { origin: self.verifier.origin.clone(), size, root }.to_text())
    }

    fn sign_text(&self, text: &str) -> String {
        let signature = [&self.verifier.id(), self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n— {} {}\n", self.verifier.origin, STANDARD.encode(signature))
    }

    /// The key as it is kept in its file, secret: `PRIVATE+KEY+name+hash+base64`, which Go's note package reads as
    /// well.
    pub(crate) fn to_secret_text(&self) -> String {
        let seed = STANDARD.encode([&[ED25519], self.seed.as_slice()].concat());
        format!("{PRIVATE}{}+{}+{seed}", self.verifier.origin, hex::encode(self.verifier.id()))
    }

    /// Reads what [`to_secret_text`](Self::to_secret_text) wrote.
    pub(crate) fn from_secret_text(text: &str) -> Result<Self, InvalidKey> {
        let (origin, id, seed) = parse_key(text.strip_prefix(PRIVATE).ok_or(InvalidKey::Form)?)?;
        let key = Self::from_seed(origin, seed);
        if key.verifier.id() == id { Ok(key) } else { Err(InvalidKey::Hash) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, hidden)", self.verifier)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The reference implementation's own example (golang.org/x/mod/sumdb/note).
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key() -> SigningKey {
        SigningKey::from_seed("airut.example/test".parse().unwrap(), [7; 32])
    }

    #[test]
    fn the_reference_key_signs_the_reference_note() {
        let key = SigningKey::from_secret_text(SKEY).unwrap();
        assert_eq!(key.verifier().to_string(), VKEY);
        assert_eq!(key.to_secret_text(), SKEY);
        let note = key.sign_text(TEXT);
        assert_eq!(note, format!("{TEXT}\n{SIGNATURE}"));
        assert_eq!(VKEY.parse::<VerifierKey>().unwrap().verify(&note), Ok(TEXT));
        // Signed in order, but what it says is not a checkpoint.
        assert_eq!(key.verifier().open(&note), Err(InvalidNote::Text));
    }

    #[test]
    fn a_checkpoint_has_the_specified_three_lines() {
        // The example of c2sp.org/tlog-checkpoint.
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint = Checkpoint::parse(text).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.to_text(), text);
        for wrong in ["020852163", "+20852163", "-1", "", "2e7"] {
            assert_eq!(Checkpoint::parse(&text.replace("20852163", wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn signatures_of_others_are_ignored_and_do_not_count() {
        let (own, other) = (key(), SigningKey::from_seed("witness.example".parse().unwrap(), [8; 32]));
        let note = own.sign(3, Digest::of(b"root"));
        let (text, own_line) = note.rsplit_once("\n\n").unwrap();
        let other_note = other.sign_text(&format!("{text}\n"));
        let other_line = other_note.rsplit_once("\n\n").unwrap().1;
        assert!(own.verifier().open(&format!("{text}\n\n{other_line}{own_line}")).is_ok());
        assert_eq!(own.verifier().open(&other_note), Err(InvalidNote::NotSigned));
        // Another ledger's checkpoint, though rightly signed with our key, is not ours.
        let foreign = Checkpoint { origin: "airut.example/other".parse().unwrap(), size: 3, root: Digest::of(b"root") };
        assert_eq!(own.verifier().open(&own.sign_text(&foreign.to_text())), Err(InvalidNote::Text));
    }

    proptest! {
        #[test]
        fn a_note_with_any_byte_changed_is_refused(
            size in any::<u64>(), at in any::<prop::sample::Index>(), with in any::<u8>(),
        ) {
            let (key, root) = (key(), Digest::of(&size.to_be_bytes()));
            let note = key.sign(size, root);
            let expected = Checkpoint { origin: key.verifier().origin().clone(), size, root };
            prop_assert_eq!(key.verifier().open(&note), Ok(expected));
            let mut bytes = note.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = with;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            if changed != note {
                prop_assert!(key.verifier().open(&changed).is_err());
            }
        }

        #[test]
        fn random_texts_never_panic(text in "\\PC{0,40}\n?\n?(— \\PC{0,20})?\n?", key_text in "\\PC{0,60}") {
            let _ = key().verifier().open(&text);
            let _ = key_text.parse::<VerifierKey>();
            let _ = SigningKey::from_secret_text(&format!("{PRIVATE}{key_text}"));
        }
    }
}
