//! The typed layer: commands become records whose bodies are sealed, and nothing of them shows.

use std::sync::Arc;

use airut_domain::{
    id::KeyId,
    keys::Digest,
    member,
    partition::{Partition, Topic},
    query::{Answered, Event, QueryKey},
    record::{Header, Kind, RULES, Stored},
    time::Timestamp,
};
use airut_log::{AppendError, Clock, HeaderWriter, KeyRing, Log, Positions, Random, UnsealError, Writer};
use airut_store::{KeyError, KeyStore, Memory, Objects};
use airut_wire::record::decode;

use crate::support::{open, partition, take};

const BODY: &[u8] = b"010190-900P receives basic social assistance";

/// 2026-11-27.
const DAY: Timestamp = Timestamp::from_millis(1_795_760_000_000);

/// A writer with a key ring and a key store of its own.
fn writer(log: &Log) -> Writer {
    writer_on(log, &Memory::new(), &KeyRing::generate(&Random::system(), 2026))
}

fn writer_on(log: &Log, memory: &Memory, ring: &KeyRing) -> Writer {
    let clock = Clock::new(|| DAY);
    let keys = KeyStore::new(Objects::memory(memory), ring.wrapping(), clock, Random::system());
    Writer::new(HeaderWriter::new(log.clone(), "gateway-1".parse().unwrap(), Random::system()), keys)
}

fn command() -> Answered {
    let key = QueryKey { asker: "pirkanmaa".parse().unwrap(), query_id: "q-1".parse().unwrap() };
    let commitment = Digest::of(b"a commitment");
    Answered { key, asked: 0, stream: "gateway-1/1".parse().unwrap(), commitment, withheld: 0 }
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
    assert_eq!(header.kind, Kind::Query(Event::Answered(recorded.into_command())));
    assert_eq!(writer.open_body(&stored, &header).await.unwrap(), b"");
}

#[tokio::test]
async fn a_body_is_stored_sealed_and_opens_with_the_key_store_only() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let writer = writer(&log);
    let (stored, header) = sealed(&log, &writer).await;
    let reference = header.body.as_ref().unwrap();
    assert_eq!(reference.sha256, Digest::of(&stored.body));
    assert_eq!(reference.key.as_str(), "query/2026-11-27/pirkanmaa", "the asker reads it");
    assert_eq!(writer.open_body(&stored, &header).await.unwrap(), BODY);
    let stranger = self::writer(&log);
    assert!(matches!(stranger.open_body(&stored, &header).await, Err(UnsealError::Key(KeyError::Missing(_)))));
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
        assert_eq!(writer.open_body(&changed, &header).await.unwrap_err(), UnsealError::Changed);
    }
    let unknown: KeyId = "query/2026-11-26/pirkanmaa".parse().unwrap();
    let mut other = header.clone();
    other.body.as_mut().unwrap().key = unknown.clone();
    let missing = UnsealError::Key(KeyError::Missing(unknown));
    assert_eq!(writer.open_body(&stored, &other).await.unwrap_err(), missing);
    let other = Header { nonce: [0; 16], ..header.clone() };
    assert!(matches!(writer.open_body(&stored, &other).await, Err(UnsealError::Forged(_))));
    let other = Header { body: None, ..header };
    assert_eq!(writer.open_body(&stored, &other).await.unwrap_err(), UnsealError::Unexpected);
}

#[tokio::test]
async fn without_its_key_a_record_is_not_written_and_an_erased_one_opens_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let (memory, ring) = (Memory::new(), Arc::new(KeyRing::generate(&Random::system(), 2026)));
    let writer = writer_on(&log, &memory, &ring);
    memory.go_down();
    let refused = writer.append(partition(3), command(), Some(BODY), "").await.unwrap_err();
    assert!(matches!(refused, AppendError::NotWritten(_)), "{refused}");
    assert_eq!(log.end(partition(3)).await.unwrap(), 0, "nothing is written");
    writer.append(partition(3), command(), None, "").await.expect("what has no body needs no key");
    memory.come_up();
    let (stored, header) = sealed(&log, &writer).await;
    assert_eq!(writer.open_body(&stored, &header).await.unwrap(), BODY);

    let erasing = KeyStore::new(Objects::memory(&memory), ring.wrapping(), Clock::system(), Random::system());
    let id = &header.body.as_ref().unwrap().key;
    erasing.erase(id).await.unwrap();
    let later = writer_on(&log, &memory, &ring);
    let erased = KeyError::Erased(id.clone());
    assert_eq!(later.open_body(&stored, &header).await.unwrap_err(), UnsealError::Key(erased.clone()));
    let refused = later.append(partition(3), command(), Some(BODY), "").await.unwrap_err();
    assert!(refused.to_string().contains(&erased.to_string()), "{refused}");
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
