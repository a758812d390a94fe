//! A record as it lies on Kafka: no key, the sealed body as the value, the rest in Kafka headers. `docs/log-on-kafka.md`
//! describes it for those who read the topics with other tools.

use std::str;

use airut_domain::{partition::Position, record::Stored, time::Timestamp};
use rdkafka::{
    Message, Timestamp as KafkaTimestamp,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
};

use crate::Unstamped;

/// Holds the record's header as it is stored, byte by byte.
const HEADER: &str = "airut-header";
/// Holds the W3C trace context; absent when the record is not traced.
const TRACEPARENT: &str = "traceparent";

/// The Kafka headers of a record.
pub(super) fn headers(record: &Unstamped) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(2).insert(Header { key: HEADER, value: Some(&record.header) });
    if record.traceparent.is_empty() {
        return headers;
    }
    headers.insert(Header { key: TRACEPARENT, value: Some(&record.traceparent) })
}

/// The message as a record of this position; `None` when it is not one that we wrote.
pub(super) fn stored(message: &BorrowedMessage<'_>, position: Position) -> Option<Stored> {
    let headers = message.headers()?;
    let value = |name| headers.iter().find(|header| header.key == name).map(|header| header.value.unwrap_or_default());
    Some(Stored {
        position,
        stamp: stamp(message.timestamp())?,
        header: value(HEADER)?.to_vec(),
        body: message.payload().unwrap_or_default().to_vec(),
        traceparent: str::from_utf8(value(TRACEPARENT).unwrap_or_default()).ok()?.to_owned(),
    })
}

/// The broker's stamp. One that a producer gave is none: the topic was not as it must be when the record was taken.
pub(super) fn stamp(timestamp: KafkaTimestamp) -> Option<Timestamp> {
    match timestamp {
        KafkaTimestamp::LogAppendTime(millis) => Some(Timestamp::from_millis(millis)),
        KafkaTimestamp::CreateTime(_) | KafkaTimestamp::NotAvailable => None,
    }
}
