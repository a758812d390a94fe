//! Looking things up in the ledger, and checking its proofs without it.

use std::time::Duration;

use airut_domain::{
    keys::Digest,
    merkle::{leaf_hash, root_from_path},
    partition::Position,
};
use airut_wire::v1::{
    GetCheckpointRequest, GetInclusionProofRequest, GetInclusionProofResponse, ListEntriesRequest, ListEntriesResponse,
    ledger_service_client::LedgerServiceClient,
};
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{connect::Client, error::CallError, retry::timed};

impl Client {
    /// The ledger's newest checkpoint: a C2SP signed note. Tried again like [`Client::query`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn checkpoint(&self, deadline: Duration) -> Result<String, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            LedgerServiceClient::new(channel).get_checkpoint(timed(GetCheckpointRequest {}, left)).await
        });
        Ok(response.await?.checkpoint)
    }

    /// Proof that the record at `position`, as a receipt names it, is in the ledger. Tried again like
    /// [`Client::query`].
    ///
    /// # Errors
    /// See [`CallError`]; its reason is [`airut_domain::refusal::Reason::NotFound`] also while the ledger has not
    /// counted the record yet.
    pub async fn inclusion_proof(
        &self,
        position: Position,
        deadline: Duration,
    ) -> Result<GetInclusionProofResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            let request = GetInclusionProofRequest { position: position.to_string() };
            LedgerServiceClient::new(channel).get_inclusion_proof(timed(request, left)).await
        })
        .await
    }

    /// A page of the ledger's entries. Tried again like [`Client::query`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list_entries(
        &self,
        request: &ListEntriesRequest,
        deadline: Duration,
    ) -> Result<ListEntriesResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            LedgerServiceClient::new(channel).list_entries(timed(request.clone(), left)).await
        })
        .await
    }
}

/// What a checkpoint of the ledger says (C2SP tlog-checkpoint).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries the tree has.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

/// A checkpoint's text is not what C2SP tlog-checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint's {0} is missing or not valid")]
pub struct CheckpointFault(pub &'static str);

impl Checkpoint {
    /// Reads a checkpoint. Its signatures are not looked at: the ledger's key tells whether to believe it.
    ///
    /// # Errors
    /// The first line at fault.
    pub fn parse(note: &str) -> Result<Self, CheckpointFault> {
        let (body, _signatures) = note.split_once("\n\n").ok_or(CheckpointFault("signature"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointFault("origin"))?;
        let size = lines.next().and_then(decimal).ok_or(CheckpointFault("size"))?;
        let root = lines.next().and_then(|line| Digest::from_slice(&BASE64_STANDARD.decode(line).ok()?));
        Ok(Self { origin: origin.to_owned(), size, root: root.ok_or(CheckpointFault("root"))? })
    }
}

/// A number in the only form that the format allows: digits, without a leading zero.
fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// Why a proof of inclusion proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// It lacks its entry.
    #[error("the proof has no entry")]
    NoEntry,
    /// Its path does not fit the checkpoint's tree.
    #[error("the proof's path does not fit a tree of the checkpoint's size")]
    Path,
    /// Its path leads elsewhere.
    #[error("the proof does not lead to the checkpoint's root")]
    OtherRoot,
}

/// Checks that the leaf of a proof's entry is in the tree of a checkpoint: that of the proof itself, once its signature
/// has been checked.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_inclusion(proof: &GetInclusionProofResponse, checkpoint: &Checkpoint) -> Result<(), InclusionError> {
    let entry = proof.entry.as_ref().ok_or(InclusionError::NoEntry)?;
    let index = u64::try_from(entry.index).map_err(|_| InclusionError::Path)?;
    let path: Option<Vec<Digest>> = proof.path.iter().map(|hash| Digest::from_slice(hash)).collect();
    let path = path.ok_or(InclusionError::Path)?;
    let root = root_from_path(leaf_hash(&entry.leaf), index, checkpoint.size, &path).ok_or(InclusionError::Path)?;
    if root == checkpoint.root { Ok(()) } else { Err(InclusionError::OtherRoot) }
}

#[cfg(test)]
mod tests {
    use airut_domain::merkle;
    use airut_wire::v1::Entry;

    use super::*;

    #[test]
    fn a_checkpoint_is_read() {
        let root = BASE64_STANDARD.encode([7; 32]);
        let read = Checkpoint::parse(&format!("airut.example/ledger\n42\n{root}\n\n— airut.example/ledger AAAA\n"));
        let expected = Checkpoint { origin: "airut.example/ledger".into(), size: 42, root: Digest([7; 32]) };
        assert_eq!(read, Ok(expected));
        let fault = |text: String| Checkpoint::parse(&text).unwrap_err().0;
        assert_eq!(fault(format!("o\n42\n{root}\n")), "signature");
        assert_eq!(fault(format!("\n42\n{root}\n\n")), "origin");
        assert_eq!(fault(format!("o\n042\n{root}\n\n")), "size");
        assert_eq!(fault(format!("o\n+42\n{root}\n\n")), "size");
        assert_eq!(fault("o\n42\nAAAA\n\n".into()), "root");
    }

    #[test]
    fn a_proof_holds_for_its_leaf_and_tree_only() {
        let leaves: Vec<Digest> = (0..7_u8).map(|i| leaf_hash(&[i])).collect();
        let proof = GetInclusionProofResponse {
            entry: Some(Entry { index: 3, leaf: vec![3], ..Entry::default() }),
            path: merkle::path(&leaves, 3).iter().map(|hash| hash.0.to_vec()).collect(),
            checkpoint: String::new(),
        };
        let checkpoint = Checkpoint { origin: "o".into(), size: 7, root: merkle::root(&leaves) };
        assert_eq!(verify_inclusion(&proof, &checkpoint), Ok(()));

        let change = |f: fn(&mut GetInclusionProofResponse)| {
            let mut changed = proof.clone();
            f(&mut changed);
            verify_inclusion(&changed, &checkpoint)
        };
        assert_eq!(change(|p| p.entry = None), Err(InclusionError::NoEntry));
        assert_eq!(change(|p| p.entry.as_mut().unwrap().index = 4), Err(InclusionError::OtherRoot));
        assert_eq!(change(|p| p.entry.as_mut().unwrap().index = -1), Err(InclusionError::Path));
        assert_eq!(change(|p| p.entry.as_mut().unwrap().leaf = vec![4]), Err(InclusionError::OtherRoot));
        assert_eq!(change(|p| p.path[0][0] ^= 1), Err(InclusionError::OtherRoot));
        assert_eq!(change(|p| drop(p.path.pop())), Err(InclusionError::Path));
        let other = Checkpoint { size: 16, ..checkpoint.clone() };
        assert_eq!(verify_inclusion(&proof, &other), Err(InclusionError::Path));
    }
}
