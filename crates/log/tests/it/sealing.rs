//! The typed layer: commands become records whose bodies are sealed, and nothing of them shows.

use std::sync::Arc;

use airut_domain::{
    keys::Digest,
    member,
    partition::{Partition, Topic},
    query::{Event, NotDisclosed, QueryKey, WhyNot},
    record::{Header, Kind, RULES, Stored},
};
use airut_log::{HeaderWriter, KeyRing, Log, Positions, Random, UnsealError, Writer};
use airut_wire::record::decode;

use crate::support::{open, partition, take};

const BODY: &[u8] = b"010190-900P receives basic social assistance";

fn writer(log: &Log) -> Writer {
    let ring = Arc::new(KeyRing::generate(&Random::system(), 2026));
    Writer::new(HeaderWriter::new(log.clone(), "gateway-1".parse().unwrap(), Random::system()), ring)
}

fn command() -> NotDisclosed {
    let key = QueryKey { asker: "pirkanmaa".parse().unwrap(), query_id: "q-1".parse().unwrap() };
    NotDisclosed { key, asked: 0, why: WhyNot::Late }
}

/// A record with a body, as read back.
async fn sealed(log: &Log, writer: &Writer) -> (Stored, Header) {
    let recorded = writer.append(partition(3), command(), Some(BODY), "00-trace").await.unwrap();
    let offset = recorded.position().offset;
    let stored = log.read(partition(3), offset..offset + 1, 1).await.unwrap().remove(0);
    let header = decode(&stored.header).unwrap();
    (Arc::unwrap_or_clone(stored), header)
}

#[tokio::test]
async fn a_command_is_recorded_with_a_header_that_says_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let writer = writer(&log);
    let recorded = writer.append(partition(3), command(), None, "00-trace").await.unwrap();
    let stored = take(&mut log.tail(&Positions::new()), 1).await.remove(0);
    assert_eq!((recorded.position(), recorded.stamp()), (stored.position, stored.stamp));
    assert_eq!(recorded.command(), &command());
    assert_eq!(stored.traceparent, "00-trace");
    let header = decode(&stored.header).unwrap();
    assert_eq!((header.rules, header.author.as_str(), &header.body), (RULES, "gateway-1", &None));
    assert_eq!(header.kind, Kind::Query(Event::NotDisclosed(recorded.into_command())));
    assert_eq!(writer.open_body(&stored, &header).unwrap(), b"");
}

#[tokio::test]
async fn a_body_is_stored_sealed_and_opens_with_the_ring_only() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let writer = writer(&log);
    let (stored, header) = sealed(&log, &writer).await;
    assert_eq!(header.body.as_ref().unwrap().sha256, Digest::of(&stored.body));
    assert_eq!(writer.open_body(&stored, &header).unwrap(), BODY);
    let stranger = self::writer(&log);
    assert!(matches!(stranger.open_body(&stored, &header), Err(UnsealError::Forged(_))));
    for name in ["log", "log-wal"] {
        let file = std::fs::read(directory.path().join(name)).unwrap();
        assert!(!file.windows(11).any(|bytes| bytes == &BODY[..11]), "{name}");
    }
}

#[tokio::test]
async fn a_changed_body_or_header_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let writer = writer(&log);
    let (stored, header) = sealed(&log, &writer).await;
    for at in 0..stored.body.len() {
        let mut changed = stored.clone();
        changed.body[at] ^= 1;
        assert_eq!(writer.open_body(&changed, &header).unwrap_err(), UnsealError::Changed);
    }
    let unknown = "body-9".parse().unwrap();
    let mut other = header.clone();
    other.body.as_mut().unwrap().key = "body-9".parse().unwrap();
    assert_eq!(writer.open_body(&stored, &other).unwrap_err(), UnsealError::UnknownKey(unknown));
    let other = Header { nonce: [0; 16], ..header.clone() };
    assert!(matches!(writer.open_body(&stored, &other), Err(UnsealError::Forged(_))));
    let other = Header { body: None, ..header };
    assert_eq!(writer.open_body(&stored, &other).unwrap_err(), UnsealError::Unexpected);
}

#[tokio::test]
async fn the_same_command_is_never_the_same_record_twice() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let writer = writer(&log);
    let ((first, _), (second, _)) = (sealed(&log, &writer).await, sealed(&log, &writer).await);
    assert_ne!(first.header, second.header);
    assert_ne!(first.body, second.body);
}

#[tokio::test]
#[should_panic(expected = "a record of another topic")]
async fn a_command_in_another_topics_partition_is_our_own_bug() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let beat = member::Event::Heartbeat("gateway-1".parse().unwrap());
    drop(writer(&log).append(Partition::only(Topic::Partners), beat, None, "").await);
}
