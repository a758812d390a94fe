//! Receipts and moments, to and from the protocol.

use airut_domain::{
    keys::Digest,
    partition::parse_place,
    receipt::{Receipt, Statement},
    time::Timestamp,
};

use crate::v1;

/// A moment for the protocol.
pub fn timestamp(moment: Timestamp) -> prost_types::Timestamp {
    let millis = moment.as_millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).expect("less than a second");
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// A moment from the protocol.
pub fn timestamp_from(moment: prost_types::Timestamp) -> Timestamp {
    Timestamp::from_millis(moment.seconds.saturating_mul(1000).saturating_add(i64::from(moment.nanos / 1_000_000)))
}

/// A receipt for the protocol.
pub fn receipt(receipt: &Receipt) -> v1::Receipt {
    let statement = &receipt.statement;
    v1::Receipt {
        id: statement.id.clone(),
        recipient: statement.recipient.to_string(),
        payload_sha256: statement.payload_sha256.0.to_vec(),
        accept_time: Some(timestamp(statement.accept_time)),
        position: statement.place(),
        key_id: receipt.key_id.to_string(),
        signature: receipt.signature.clone(),
        batch_index: i64::try_from(receipt.batch_index).unwrap_or(i64::MAX),
        batch_size: i64::try_from(receipt.batch_size).unwrap_or(i64::MAX),
        batch_path: receipt.batch_path.iter().map(|hash| hash.0.to_vec()).collect(),
        commitment_salt: receipt.commitment_salt.to_vec(),
        checkpoint: receipt.checkpoint.clone(),
    }
}

/// A field of a receipt that is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("receipt.{0} is missing or not valid")]
pub struct ReceiptFault(pub &'static str);

/// Reads a receipt, as a client does before it checks it.
///
/// # Errors
/// The first field that is not what the protocol says.
pub fn receipt_from(receipt: v1::Receipt) -> Result<Receipt, ReceiptFault> {
    let fault = ReceiptFault;
    let (position, item) = parse_place(&receipt.position).ok_or(fault("position"))?;
    let path: Option<Vec<Digest>> = receipt.batch_path.iter().map(|hash| Digest::from_slice(hash)).collect();
    Ok(Receipt {
        statement: Statement {
            id: receipt.id,
            recipient: receipt.recipient.parse().map_err(|_| fault("recipient"))?,
            payload_sha256: Digest::from_slice(&receipt.payload_sha256).ok_or(fault("payload_sha256"))?,
            accept_time: timestamp_from(receipt.accept_time.ok_or(fault("accept_time"))?),
            position,
            item,
        },
        commitment_salt: receipt.commitment_salt.as_slice().try_into().map_err(|_| fault("commitment_salt"))?,
        key_id: receipt.key_id.parse().map_err(|_| fault("key_id"))?,
        batch_index: u64::try_from(receipt.batch_index).map_err(|_| fault("batch_index"))?,
        batch_size: u64::try_from(receipt.batch_size).map_err(|_| fault("batch_size"))?,
        batch_path: path.ok_or(fault("batch_path"))?,
        signature: receipt.signature,
        checkpoint: receipt.checkpoint,
    })
}
