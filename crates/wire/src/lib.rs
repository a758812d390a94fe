//! The protocol and the stored form of records.
//!
//! Generated code lives in [`v1`] and [`log_v1`]. This crate holds the only conversions between it and the domain, and the
//! one map of refusals to gRPC statuses. Nothing else in the workspace looks at a protobuf field to decide something.

#[allow(missing_docs, clippy::all, unreachable_pub)]
/// The public protocol, generated from `proto/airut/v1`.
pub mod v1 {
    tonic::include_proto!("airut.v1");
}

#[allow(missing_docs, clippy::all, unreachable_pub)]
/// The stored form of records, generated from `proto/airut/log/v1`.
pub mod log_v1 {
    tonic::include_proto!("airut.log.v1");
}

/// Descriptors of every proto file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

mod answer;
mod asked;
mod document;
mod matter;
mod message;
mod partner;
mod question;
mod receipt;
pub mod record;
pub mod request;
mod status;

pub use answer::{AnswerFault, answer_from, disclosure};
pub use asked::{AskedQuestion, QuestionFault};
pub use document::{document, document_id};
pub use matter::matter;
pub use message::{
    context, delivery_from, delivery_id, duration, is_worth_retrying, lease, outcome, refusal, refusal_from,
    settlement, span, submission, taken_types,
};
pub use partner::{counterpart, fingerprint, kind_from, message_type, partner, partner_from, partner_id};
pub use question::{asked_question, category, question, scopes};
pub use receipt::{ReceiptFault, receipt, receipt_from, timestamp, timestamp_from};
pub use status::{reason_of, retry_after_of, status};
