//! Receipts: what the exchange promises, in a form that can be checked without it.
//!
//! A receipt's statement is a short text. A gateway signs many at once: the statements of a batch are the leaves of a Merkle
//! tree (hashed as in RFC 6962), the root is signed with Ed25519, and each receipt carries the path from its leaf.

use crate::{
    id::{KeyId, PartnerId},
    keys::Digest,
    partition::{Position, format_place},
    time::Timestamp,
};

/// What a receipt says. The same receipt given again says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The id that the caller chose.
    pub id: String,
    /// Who was given the content.
    pub recipient: PartnerId,
    /// SHA-256 of the content.
    pub payload_sha256: Digest,
    /// The log's stamp of the record that made it final.
    pub accept_time: Timestamp,
    /// That record's place.
    pub position: Position,
    /// The place among its items, counted from 0, where it speaks of many.
    pub item: Option<u32>,
}

impl Statement {
    /// The bytes that are hashed and signed: six lines.
    pub fn to_text(&self) -> String {
        format!(
            "airut receipt v1\nid {}\nrecipient {}\npayload-sha256 {}\naccept-time {}\nposition {}\n",
            self.id,
            self.recipient,
            self.payload_sha256,
            self.accept_time,
            self.place()
        )
    }

    /// The place as text: `airut.queries/7/1042`, or `airut.messages/7/1042/3` for an item of a record.
    pub fn place(&self) -> String {
        format_place(self.position, self.item)
    }
}

/// A signed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What it says.
    pub statement: Statement,
    /// Salt of the commitment in the record's header: with it anyone can see that the record is about this content.
    pub commitment_salt: [u8; 16],
    /// The gateway's receipt key.
    pub key_id: KeyId,
    /// The leaf's place in its batch, counted from 0.
    pub batch_index: u64,
    /// How many statements the batch has.
    pub batch_size: u64,
    /// The path from the leaf to the batch's root (RFC 6962, section 2.1.1).
    pub batch_path: Vec<Digest>,
    /// Ed25519 over [`signed_bytes`] of the root.
    pub signature: Vec<u8>,
    /// The newest signed checkpoint of the ledger that the gateway knew, as a signed note; empty when it knew none yet. The
    /// ledger will include the record in a later one.
    pub checkpoint: String,
}

/// What is signed for a batch root.
pub fn signed_bytes(root: Digest) -> Vec<u8> {
    [b"airut receipt batch v1\n".as_slice(), &root.0].concat()
}
