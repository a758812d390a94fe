//! Receipts: signed once per batch over a Merkle root, each with its path.
//!
//! A receipt is given only for an [`Accepted`](crate::fold::Accepted) record. The statement depends on the record alone, so
//! the same receipt given again says the same, whichever gateway signs it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use airut_domain::{
    id::KeyId,
    keys::Digest,
    merkle,
    receipt::{Receipt, Statement, signed_bytes},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::sync::{mpsc, oneshot};

use crate::{fold::Folds, world::World};

/// As many orders go into one signature at the most. Each is for one receipt, or for those of one record.
const LARGEST_BATCH: usize = 256;

/// As many orders may wait to be signed; beyond that, callers wait.
const LONGEST_QUEUE: usize = 4096;

/// A gateway's receipt key.
pub struct ReceiptKey {
    pair: Ed25519KeyPair,
    id: KeyId,
}

/// The receipt key's file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Reading or writing it.
    #[error("receipt key {path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// It does not hold a key.
    #[error("receipt key {0}: must hold 32 bytes in base64")]
    Content(String),
}

impl ReceiptKey {
    /// A key from 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        let id = key_id(&Digest::of(pair.public_key().as_ref()).to_string());
        Self { id, pair }
    }

    /// Reads the key's file, or makes one, readable by its owner alone.
    ///
    /// # Errors
    /// [`KeyError`], naming the file.
    pub fn open_or_create(path: &Path, world: &World) -> Result<Self, KeyError> {
        let file = |cause| KeyError::File { path: path.display().to_string(), cause };
        match fs::read_to_string(path) {
            Ok(text) => {
                let seed: Option<[u8; 32]> =
                    BASE64_STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
                seed.map(|seed| Self::from_seed(&seed)).ok_or(KeyError::Content(path.display().to_string()))
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let seed = world.random();
                let mut key =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
                key.write_all(BASE64_STANDARD.encode(seed).as_bytes()).and_then(|()| key.sync_all()).map_err(file)?;
                Ok(Self::from_seed(&seed))
            }
            Err(cause) => Err(file(cause)),
        }
    }

    /// The key's id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The line by which a partner knows the key: its id and the public key in base64.
    pub fn public_line(&self) -> String {
        format!("{} {}\n", self.id, BASE64_STANDARD.encode(self.pair.public_key().as_ref()))
    }
}

/// A key's id from its digest, in hexadecimal: the first sixteen digits, or the next ones where those have the shape of somebody's
/// identity code, which one key of some hundred thousand has.
fn key_id(digest: &str) -> KeyId {
    let id = |from: usize| format!("receipt-{}", &digest[from..from + 16]).parse().ok();
    (0..=digest.len() - 16).find_map(id).expect("no digest is nothing but identity codes")
}

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiptKey({})", self.id)
    }
}

/// Statements that became known together, each with the salt of its commitment.
struct Order {
    statements: Vec<(Statement, [u8; 16])>,
    reply: oneshot::Sender<Vec<Receipt>>,
}

/// Signs receipts in batches: whatever waits when the signer is free is signed together.
#[derive(Clone, Debug)]
pub(crate) struct Signer(mpsc::Sender<Order>);

impl Signer {
    /// Starts the signing task; it ends when the last handle is dropped.
    pub(crate) fn start(key: ReceiptKey, folds: Arc<Folds>, world: &World) -> Self {
        let (queue, mut orders) = mpsc::channel::<Order>(LONGEST_QUEUE);
        world.spawn(async move {
            let mut batch = Vec::with_capacity(LARGEST_BATCH);
            while orders.recv_many(&mut batch, LARGEST_BATCH).await > 0 {
                let (mut statements, mut replies) = (Vec::new(), Vec::with_capacity(batch.len()));
                for order in batch.drain(..) {
                    replies.push((order.reply, order.statements.len()));
                    statements.extend(order.statements);
                }
                let mut receipts = sign(&key, &folds.checkpoint(), statements).into_iter();
                for (reply, count) in replies {
                    // A caller that has left needs none.
                    drop(reply.send(receipts.by_ref().take(count).collect()));
                }
            }
        });
        Self(queue)
    }

    /// A receipt for the statement. `None` when the gateway is going down.
    pub(crate) async fn sign(&self, statement: Statement, commitment_salt: [u8; 16]) -> Option<Receipt> {
        self.sign_each(vec![(statement, commitment_salt)]).await?.into_iter().next()
    }

    /// A receipt for each statement, in their order. `None` when the gateway is going down.
    pub(crate) async fn sign_each(&self, statements: Vec<(Statement, [u8; 16])>) -> Option<Vec<Receipt>> {
        let (reply, receipts) = oneshot::channel();
        self.0.send(Order { statements, reply }).await.ok()?;
        receipts.await.ok()
    }
}

fn sign(key: &ReceiptKey, checkpoint: &str, statements: Vec<(Statement, [u8; 16])>) -> Vec<Receipt> {
    if statements.is_empty() {
        return Vec::new();
    }
    let leaf = |(statement, _): &(Statement, _)| merkle::leaf_hash(statement.to_text().as_bytes());
    let leaves: Vec<Digest> = statements.iter().map(leaf).collect();
    let (root, paths) = merkle::paths(&leaves);
    let signature = key.pair.sign(&signed_bytes(root));
    let receipt = |((index, batch_path), (statement, commitment_salt))| Receipt {
        statement,
        commitment_salt,
        key_id: key.id.clone(),
        batch_index: index,
        batch_size: leaves.len() as u64,
        batch_path,
        signature: signature.as_ref().to_vec(),
        checkpoint: checkpoint.to_owned(),
    };
    (0..).zip(paths).zip(statements).map(receipt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_whose_digest_has_the_shape_of_an_identity_code_has_an_id_all_the_same() {
        let digest = format!("010190a9090{}", "e".repeat(53));
        assert!(airut_domain::identity_code::IdentityCode::occurs_in(&digest));
        assert_eq!(key_id(&digest).as_str(), "receipt-10190a9090eeeeee");
        let usual = "f".repeat(64);
        assert_eq!(key_id(&usual).as_str(), "receipt-ffffffffffffffff");
    }
}
