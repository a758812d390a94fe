//! Checking a receipt without the exchange.
//!
//! What is checked: the content is the one that was recorded, the receipt's statement is a leaf of the batch whose root
//! is signed, and the signature is by a key that the partner was given beforehand. Whether the record is in the ledger
//! is another question: [`crate::verify_inclusion`].

use std::{collections::BTreeMap, io, path::Path, str::FromStr};

use airut_domain::{
    id::KeyId,
    keys::Digest,
    merkle::{leaf_hash, root_from_path},
    receipt::{Receipt, signed_bytes},
};
use airut_wire::{
    ReceiptFault, receipt_from,
    v1::{self, QueryBenefitsResponse},
};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;

/// The exchange's receipt keys, as a partner got them over a way it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptKeys(BTreeMap<KeyId, [u8; 32]>);

/// Why a file of receipt keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptKeysError {
    /// It can't be read.
    #[error("receipt keys: {0}")]
    Read(#[from] io::Error),
    /// A line of it, counted from 1, is not a key's id and its 32 bytes in base64.
    #[error("receipt keys, line {0}: must be a key's id, a space and 32 bytes in base64")]
    Line(usize),
    /// A line of it, counted from 1, names a key that an earlier one names too.
    #[error("receipt keys, line {0}: this key's id has occurred before")]
    Twice(usize),
}

impl ReceiptKeys {
    /// Reads a file with a key a line: its id, a space, its 32 bytes in base64. Empty lines are passed over.
    ///
    /// # Errors
    /// When it can't be read, and the first line at fault.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ReceiptKeysError> {
        std::fs::read_to_string(path)?.parse()
    }
}

impl FromStr for ReceiptKeys {
    type Err = ReceiptKeysError;

    fn from_str(text: &str) -> Result<Self, ReceiptKeysError> {
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let (id, key) = key(line).ok_or(ReceiptKeysError::Line(number))?;
            if keys.insert(id, key).is_some() {
                return Err(ReceiptKeysError::Twice(number));
            }
        }
        Ok(Self(keys))
    }
}

fn key(line: &str) -> Option<(KeyId, [u8; 32])> {
    let (id, key) = line.trim().split_once(' ')?;
    Some((id.parse().ok()?, BASE64_STANDARD.decode(key.trim()).ok()?.try_into().ok()?))
}

/// Why a receipt proves nothing about a response. Never repeats content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// There is none.
    #[error("the response has no receipt")]
    Missing,
    /// It is not what the protocol says.
    #[error(transparent)]
    Malformed(#[from] ReceiptFault),
    /// It is about another query.
    #[error("the receipt is for another query")]
    OtherQuery,
    /// It is about another message.
    #[error("the receipt is for another message")]
    OtherMessage,
    /// It names another recipient.
    #[error("the receipt is for another recipient")]
    OtherRecipient,
    /// It is about other content.
    #[error("the receipt is for other content")]
    OtherContent,
    /// It is signed with a key that the partner was not given.
    #[error("the receipt's key {0} is not among the known keys")]
    UnknownKey(KeyId),
    /// Its path does not fit its batch.
    #[error("the receipt's path does not fit its batch")]
    Path,
    /// The signature does not match the statement.
    #[error("the receipt's signature does not match what it says")]
    Signature,
}

/// Checks that the receipt of a response is the exchange's and is about this response.
///
/// The content's digest is taken of the response serialised again without its receipt, so a build that does not know a
/// field of a newer exchange reports [`ReceiptError::OtherContent`].
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_receipt(response: &QueryBenefitsResponse, keys: &ReceiptKeys) -> Result<(), ReceiptError> {
    let mut content = response.clone();
    let receipt = receipt_from(content.receipt.take().ok_or(ReceiptError::Missing)?)?;
    if receipt.statement.id != response.query_id {
        return Err(ReceiptError::OtherQuery);
    }
    if receipt.statement.payload_sha256 != Digest::of(&content.encode_to_vec()) {
        return Err(ReceiptError::OtherContent);
    }
    Verifier::new(keys.clone()).verify(&receipt)
}

/// Checks that a receipt is the exchange's and is about this message.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_message_receipt(
    receipt: &v1::Receipt,
    message: &v1::SendRequest,
    keys: &ReceiptKeys,
) -> Result<(), ReceiptError> {
    let sent = Sent::of(message);
    Verifier::new(keys.clone()).verify_message(receipt.clone(), &message.message_id, &sent).map(drop)
}

/// What a message's receipt must say, besides its id.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) recipient: String,
    pub(crate) payload_sha256: Digest,
}

impl Sent {
    pub(crate) fn of(message: &v1::SendRequest) -> Self {
        Self { recipient: message.recipient.clone(), payload_sha256: Digest::of(&message.payload) }
    }
}

/// Checks receipts one after the other. Those of a batch share root and signature, and the signature is what costs: it is checked
/// once for as long as receipts of one batch follow each other.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: ReceiptKeys,
    verified: Option<(KeyId, Digest, Vec<u8>)>,
}

impl Verifier {
    pub(crate) const fn new(keys: ReceiptKeys) -> Self {
        Self { keys, verified: None }
    }

    /// Reads the receipt of a message and checks all that it says.
    pub(crate) fn verify_message(
        &mut self,
        receipt: v1::Receipt,
        message_id: &str,
        sent: &Sent,
    ) -> Result<Receipt, ReceiptError> {
        let receipt = receipt_from(receipt)?;
        let statement = &receipt.statement;
        if statement.id != message_id {
            return Err(ReceiptError::OtherMessage);
        }
        if statement.recipient.as_str() != sent.recipient {
            return Err(ReceiptError::OtherRecipient);
        }
        if statement.payload_sha256 != sent.payload_sha256 {
            return Err(ReceiptError::OtherContent);
        }
        self.verify(&receipt)?;
        Ok(receipt)
    }

    fn verify(&mut self, receipt: &Receipt) -> Result<(), ReceiptError> {
        let key = self.keys.0.get(&receipt.key_id).ok_or_else(|| ReceiptError::UnknownKey(receipt.key_id.clone()))?;
        let leaf = leaf_hash(receipt.statement.to_text().as_bytes());
        let root = root_from_path(leaf, receipt.batch_index, receipt.batch_size, &receipt.batch_path)
            .ok_or(ReceiptError::Path)?;
        let is_verified = |(key_id, verified, signature): &(KeyId, Digest, Vec<u8>)| {
            (key_id, verified, signature) == (&receipt.key_id, &root, &receipt.signature)
        };
        if self.verified.as_ref().is_some_and(is_verified) {
            return Ok(());
        }
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed_bytes(root), &receipt.signature)
            .map_err(|_| ReceiptError::Signature)?;
        self.verified = Some((receipt.key_id.clone(), root, receipt.signature.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use airut_domain::{
        merkle,
        partition::{Partition, Position, Topic},
        receipt::Statement,
        time::Timestamp,
    };
    use airut_wire::v1::{self, Matter, Withheld};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn statement(id: &str, content: &QueryBenefitsResponse, offset: u64) -> Statement {
        Statement {
            id: id.into(),
            recipient: "pirkanmaa".parse().unwrap(),
            payload_sha256: Digest::of(&content.encode_to_vec()),
            accept_time: Timestamp::from_millis(1_795_329_318_042),
            position: Position { partition: Partition { topic: Topic::Queries, number: 7 }, offset },
            item: None,
        }
    }

    /// The response at `index` of a batch of five, as a gateway signs it.
    fn signed(index: usize) -> (QueryBenefitsResponse, ReceiptKeys) {
        let content = |i: usize| QueryBenefitsResponse {
            query_id: format!("q{i}"),
            matters: vec![Matter { matter_id: "1".into(), benefit: "child-benefit".into(), content: None }],
            withheld: vec![Withheld { category: 1, reason: 2 }],
            receipt: None,
        };
        let statements: Vec<_> = (0..5).map(|i| statement(&format!("q{i}"), &content(i), i as u64)).collect();
        let leaves: Vec<_> = statements.iter().map(|s| leaf_hash(s.to_text().as_bytes())).collect();
        let pair = Ed25519KeyPair::generate().unwrap();
        let receipt = Receipt {
            statement: statements[index].clone(),
            commitment_salt: [1; 16],
            key_id: "receipts-1".parse().unwrap(),
            batch_index: index as u64,
            batch_size: 5,
            batch_path: merkle::path(&leaves, index),
            signature: pair.sign(&signed_bytes(merkle::root(&leaves))).as_ref().to_vec(),
            checkpoint: String::new(),
        };
        let keys = format!("receipts-1 {}\n", BASE64_STANDARD.encode(pair.public_key().as_ref())).parse().unwrap();
        (QueryBenefitsResponse { receipt: Some(airut_wire::receipt(&receipt)), ..content(index) }, keys)
    }

    #[test]
    fn every_receipt_of_a_batch_verifies() {
        for index in 0..5 {
            let (response, keys) = signed(index);
            assert_eq!(verify_receipt(&response, &keys), Ok(()));
        }
    }

    #[test]
    fn any_change_to_the_content_is_noticed() {
        let change = |f: fn(&mut QueryBenefitsResponse)| {
            let (mut response, keys) = signed(2);
            f(&mut response);
            verify_receipt(&response, &keys)
        };
        assert_eq!(change(|r| r.receipt = None), Err(ReceiptError::Missing));
        assert_eq!(change(|r| r.query_id = "q9".into()), Err(ReceiptError::OtherQuery));
        assert_eq!(change(|r| r.matters[0].matter_id = "2".into()), Err(ReceiptError::OtherContent));
        assert_eq!(change(|r| r.matters[0].benefit = "study-grant".into()), Err(ReceiptError::OtherContent));
        assert_eq!(change(|r| r.matters.clear()), Err(ReceiptError::OtherContent));
        assert_eq!(change(|r| r.withheld.clear()), Err(ReceiptError::OtherContent));
    }

    #[test]
    fn any_change_to_the_receipt_is_noticed() {
        let change = |f: fn(&mut v1::Receipt)| {
            let (mut response, keys) = signed(2);
            f(response.receipt.as_mut().unwrap());
            verify_receipt(&response, &keys)
        };
        let malformed = |field| Err(ReceiptError::Malformed(ReceiptFault(field)));
        let unknown = "receipts-2".parse().unwrap();
        assert_eq!(change(|r| r.id = "q9".into()), Err(ReceiptError::OtherQuery));
        assert_eq!(change(|r| r.recipient = "helsinki".into()), Err(ReceiptError::Signature));
        assert_eq!(change(|r| r.recipient = "a b".into()), malformed("recipient"));
        assert_eq!(change(|r| r.payload_sha256[0] ^= 1), Err(ReceiptError::OtherContent));
        assert_eq!(change(|r| r.accept_time.as_mut().unwrap().seconds += 1), Err(ReceiptError::Signature));
        assert_eq!(change(|r| r.accept_time = None), malformed("accept_time"));
        assert_eq!(change(|r| r.position = "airut.queries/7/3".into()), Err(ReceiptError::Signature));
        assert_eq!(change(|r| r.position = "nowhere".into()), malformed("position"));
        assert_eq!(change(|r| r.key_id = "receipts-2".into()), Err(ReceiptError::UnknownKey(unknown)));
        assert_eq!(change(|r| r.signature[0] ^= 1), Err(ReceiptError::Signature));
        assert_eq!(change(|r| r.signature.clear()), Err(ReceiptError::Signature));
        assert_eq!(change(|r| r.batch_index = 3), Err(ReceiptError::Signature));
        assert_eq!(change(|r| r.batch_index = -1), malformed("batch_index"));
        assert_eq!(change(|r| r.batch_index = 5), Err(ReceiptError::Path));
        assert_eq!(change(|r| r.batch_size = 1), Err(ReceiptError::Path));
        assert_eq!(change(|r| r.batch_path[0][0] ^= 1), Err(ReceiptError::Signature));
        assert_eq!(change(|r| drop(r.batch_path.pop())), Err(ReceiptError::Path));
    }

    #[test]
    fn a_receipt_of_a_verified_batch_is_not_taken_at_its_word() {
        let (response, keys) = signed(2);
        let good = receipt_from(response.receipt.unwrap()).unwrap();
        let mut verifier = Verifier::new(keys);
        assert_eq!(verifier.verify(&good), Ok(()));
        assert_eq!(verifier.verify(&good), Ok(()));
        let change = |f: fn(&mut Receipt)| {
            let mut changed = good.clone();
            f(&mut changed);
            changed
        };
        assert_eq!(verifier.verify(&change(|r| r.statement.id = "q9".into())), Err(ReceiptError::Signature));
        assert_eq!(verifier.verify(&change(|r| r.batch_index = 3)), Err(ReceiptError::Signature));
        assert_eq!(verifier.verify(&change(|r| r.signature[0] ^= 1)), Err(ReceiptError::Signature));
        let unknown: KeyId = "receipts-2".parse().unwrap();
        let other = change(|r| r.key_id = "receipts-2".parse().unwrap());
        assert_eq!(verifier.verify(&other), Err(ReceiptError::UnknownKey(unknown)));
        assert_eq!(verifier.verify(&good), Ok(()));
    }

    #[test]
    fn a_receipt_for_another_message_recipient_or_payload_is_noticed() {
        let (response, keys) = signed(2);
        let receipt = response.receipt.unwrap();
        let digest = Digest::from_slice(&receipt.payload_sha256).unwrap();
        let sent = |recipient: &str, payload_sha256| Sent { recipient: recipient.into(), payload_sha256 };
        let mut verifier = Verifier::new(keys);
        let mut verify = |id: &str, sent: &Sent| verifier.verify_message(receipt.clone(), id, sent).map(drop);
        assert_eq!(verify("q2", &sent("pirkanmaa", digest)), Ok(()));
        assert_eq!(verify("q3", &sent("pirkanmaa", digest)), Err(ReceiptError::OtherMessage));
        assert_eq!(verify("q2", &sent("helsinki", digest)), Err(ReceiptError::OtherRecipient));
        assert_eq!(verify("q2", &sent("pirkanmaa", Digest::of(b""))), Err(ReceiptError::OtherContent));
    }

    #[test]
    fn another_key_under_the_same_id_is_noticed() {
        let ((response, _), (_, other)) = (signed(0), signed(0));
        assert_eq!(verify_receipt(&response, &other), Err(ReceiptError::Signature));
    }

    #[test]
    fn key_files_name_the_line_at_fault() {
        let key = BASE64_STANDARD.encode([7; 32]);
        let fault = |text: String| text.parse::<ReceiptKeys>().unwrap_err().to_string();
        assert!(format!("\na {key}\n\nb {key}\n").parse::<ReceiptKeys>().is_ok());
        assert!(fault(format!("a {key}\nb\n")).starts_with("receipt keys, line 2"));
        assert!(fault(format!("a {key}\nb {}\n", &key[4..])).starts_with("receipt keys, line 2"));
        assert!(fault(format!("a {key}\na {key}\n")).starts_with("receipt keys, line 2"));
    }
}
