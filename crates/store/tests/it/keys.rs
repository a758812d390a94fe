//! Keys: one of each id, wrapped, rotated while others read and write, and erased.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use airut_domain::{
    id::KeyId,
    time::{Date, Timestamp, parse_date},
};
use airut_store::{
    Clock, EraseOutcome, Erased, Family, KEPT_FOR, KeyError, KeyStore, Memory, Objects, Random, Settings, Wrapping,
    key_id,
};
use bytes::Bytes;
use futures::future::join_all;

use crate::support::{name, places, private_directory};

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn day(text: &str) -> Date {
    parse_date(text).unwrap()
}

fn message_key(day: &str, partner: &str) -> KeyId {
    key_id(Family::Message, self::day(day), &partner.parse().unwrap())
}

/// The numbered wrapping keys, of which one is active.
fn wrapping(active: u8, numbers: &[u8]) -> Wrapping {
    let key = |number: u8| (id(&format!("wrapping-{number}")), [number; 32]);
    Wrapping::new(key(active).0, numbers.iter().map(|number| key(*number))).unwrap()
}

fn store(objects: &Objects, wrapping: Wrapping) -> KeyStore {
    KeyStore::new(objects.clone(), wrapping, Clock::system(), Random::system())
}

/// What two keys are compared by.
fn mark(key: &airut_store::DataKey) -> [u8; 32] {
    key.derive("test", &[])
}

/// A clock that the test turns.
fn clock() -> (Clock, Arc<AtomicI64>) {
    let millis = Arc::new(AtomicI64::new(1_795_000_000_000));
    let read = Arc::clone(&millis);
    (Clock::new(move || Timestamp::from_millis(read.load(Ordering::SeqCst))), millis)
}

fn pass(millis: &AtomicI64, span: Duration) {
    millis.fetch_add(span.as_millis().try_into().unwrap(), Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_processes_that_make_a_key_all_get_the_same() {
    for place in places() {
        println!("on {:?}", place.objects);
        for round in 0..8 {
            let wanted = message_key("2026-11-27", &format!("partner-{round}"));
            // Each has a memory of its own, as a process has; and many tasks.
            let stores: Vec<_> = (0..6).map(|_| store(&place.objects, wrapping(1, &[1]))).collect();
            let tasks = stores.iter().flat_map(|store| std::iter::repeat_n(store, 6)).map(|store| {
                let (store, wanted) = (store.clone(), wanted.clone());
                tokio::spawn(async move { mark(&store.key_or_new(&wanted).await.unwrap()) })
            });
            let marks: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
            assert!(marks.iter().all(|mark| *mark == marks[0]));
            let later = store(&place.objects, wrapping(1, &[1]));
            assert_eq!(mark(&later.key(&wanted).await.unwrap()), marks[0]);
        }
    }
}

#[tokio::test]
async fn what_is_missing_erased_forged_or_wrapped_by_another_is_told_apart() {
    for place in places() {
        let keys = store(&place.objects, wrapping(1, &[1]));
        let (a, b) = (message_key("2026-11-27", "a"), message_key("2026-11-27", "b"));
        assert_eq!(keys.key(&a).await.unwrap_err(), KeyError::Missing(a.clone()));
        keys.key_or_new(&a).await.unwrap();
        keys.key_or_new(&b).await.unwrap();

        let stranger = store(&place.objects, wrapping(2, &[2]));
        let unknown = KeyError::UnknownWrappingKey { key: a.clone(), wrapping: id("wrapping-1") };
        assert_eq!(stranger.key(&a).await.unwrap_err(), unknown);
        assert_eq!(stranger.key_or_new(&a).await.unwrap_err(), unknown, "there is one, and no other is made");

        let (of_a, of_b) = (name(&format!("keys/{a}")), name(&format!("keys/{b}")));
        let moved = place.objects.read(&of_b).await.unwrap().unwrap();
        place.objects.replace(&of_a, moved).await.unwrap();
        let fresh = store(&place.objects, wrapping(1, &[1]));
        assert_eq!(fresh.key(&a).await.unwrap_err(), KeyError::Forged(a.clone()));
        place.objects.replace(&of_a, Bytes::from_static(b"nonsense")).await.unwrap();
        assert_eq!(fresh.key_or_new(&a).await.unwrap_err(), KeyError::Forged(a.clone()));

        assert_eq!(fresh.erase(&b).await.unwrap(), EraseOutcome::Erased);
        assert!(matches!(fresh.erase(&b).await.unwrap(), EraseOutcome::Already(_)));
        assert_eq!(fresh.erase(&id("message/2026-11-27/c")).await.unwrap(), EraseOutcome::Missing);
        assert_eq!(fresh.key(&b).await.unwrap_err(), KeyError::Erased(b.clone()));
        assert_eq!(fresh.key_or_new(&b).await.unwrap_err(), KeyError::Erased(b.clone()), "it is not made anew");
        assert_eq!(fresh.key(&id("body-1")).await.unwrap_err(), KeyError::Missing(id("body-1")));
    }
}

#[tokio::test]
async fn a_key_erased_elsewhere_stops_opening_when_its_time_in_memory_is_up() {
    let objects = Objects::memory(&Memory::new());
    let (clock, millis) = clock();
    let running = KeyStore::new(objects.clone(), wrapping(1, &[1]), clock.clone(), Random::system());
    let elsewhere = KeyStore::new(objects, wrapping(1, &[1]), clock, Random::system());
    let wanted = message_key("2026-11-27", "kela");
    running.key_or_new(&wanted).await.unwrap();
    elsewhere.erase(&wanted).await.unwrap();
    pass(&millis, KEPT_FOR - Duration::from_millis(1));
    assert!(running.key(&wanted).await.is_ok());
    pass(&millis, Duration::from_millis(1));
    assert_eq!(running.key(&wanted).await.unwrap_err(), KeyError::Erased(wanted.clone()));
    assert_eq!(running.key_or_new(&wanted).await.unwrap_err(), KeyError::Erased(wanted.clone()));
}

#[tokio::test]
async fn a_store_that_is_down_gives_no_key_and_works_again_when_it_is_up() {
    let memory = Memory::new();
    let (clock, millis) = clock();
    let keys = KeyStore::new(Objects::memory(&memory), wrapping(1, &[1]), clock, Random::system());
    let wanted = message_key("2026-11-27", "kela");
    let made = mark(&keys.key_or_new(&wanted).await.unwrap());
    memory.go_down();
    assert_eq!(mark(&keys.key_or_new(&wanted).await.unwrap()), made, "from memory");
    pass(&millis, KEPT_FOR);
    assert!(matches!(keys.key_or_new(&wanted).await, Err(KeyError::Unavailable(_))));
    assert!(matches!(keys.key(&wanted).await, Err(KeyError::Unavailable(_))));
    memory.come_up();
    assert_eq!(mark(&keys.key_or_new(&wanted).await.unwrap()), made);
}

#[tokio::test]
async fn nothing_is_sealed_with_a_key_that_was_only_read_and_may_not_be_durable_yet() {
    let memory = Memory::new();
    let (writer, reader) = (Objects::memory(&memory), Objects::memory(&memory));
    let (writer, reader) = (store(&writer, wrapping(1, &[1])), store(&reader, wrapping(1, &[1])));
    let wanted = message_key("2026-11-27", "kela");
    writer.key_or_new(&wanted).await.unwrap();
    reader.key(&wanted).await.unwrap();
    memory.go_down();
    reader.key(&wanted).await.expect("to open with, it is in memory");
    assert!(matches!(reader.key_or_new(&wanted).await, Err(KeyError::Unavailable(_))), "the store has to be asked");
    writer.key(&wanted).await.expect("who made it knows that it is durable");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapping_keys_are_rotated_while_others_read_make_and_erase() {
    for place in places() {
        println!("on {:?}", place.objects);
        let objects = &place.objects;
        let partner = |number: usize| message_key("2026-11-27", &format!("partner-{number}"));
        let first = store(objects, wrapping(1, &[1]));
        let marks = join_all((0..40).map(|number| {
            let (first, id) = (first.clone(), partner(number));
            async move { mark(&first.key_or_new(&id).await.unwrap()) }
        }))
        .await;
        // Every process knows the new key before it is active, as the steps have it.
        let writer = store(objects, wrapping(1, &[1, 2]));
        let (done, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let traffic = tokio::spawn({
            let (objects, writer, marks) = (objects.clone(), writer.clone(), marks.clone());
            let (done, made) = (Arc::clone(&done), Arc::clone(&made));
            async move {
                let mut round = 0;
                while !done.load(Ordering::SeqCst) {
                    let reader = store(&objects, wrapping(1, &[1, 2]));
                    let read = reader.key(&partner(round % 40)).await.unwrap();
                    assert_eq!(mark(&read), marks[round % 40]);
                    writer.key_or_new(&partner(1000 + round)).await.unwrap();
                    if round.is_multiple_of(5) {
                        reader.erase(&partner(1000 + round)).await.unwrap();
                    }
                    round += 1;
                    made.store(round as i64, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            }
        });
        let until = async |rounds: i64| {
            while made.load(Ordering::SeqCst) < rounds {
                tokio::task::yield_now().await;
            }
        };
        until(5).await;
        writer.set_wrapping(wrapping(2, &[1, 2]));
        let rotating = store(objects, wrapping(2, &[1, 2]));
        let beside = store(objects, wrapping(2, &[1, 2]));
        let (one, two) = futures::join!(rotating.rewrap(), beside.rewrap());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.rewrapped + two.rewrapped >= 40, "{one:?} {two:?}");
        until(made.load(Ordering::SeqCst) + 5).await;
        done.store(true, Ordering::SeqCst);
        traffic.await.unwrap();
        let left = rotating.rewrap().await.unwrap();
        assert_eq!((left.unreadable, left.changed), (0, 0));
        let status = rotating.status().await.unwrap();
        assert_eq!(status.wrapped_by.keys().collect::<Vec<_>>(), [&id("wrapping-2")], "{status:?}");
        let after = store(objects, wrapping(2, &[2]));
        for (number, mark) in marks.iter().enumerate() {
            assert_eq!(self::mark(&after.key(&partner(number)).await.unwrap()), *mark);
        }
        let erased = status.families[&Family::Message].erased;
        assert_eq!(erased, (made.load(Ordering::SeqCst) as u64).div_ceil(5), "wrapping anew brought no key back");
    }
}

#[tokio::test]
async fn wrapping_anew_leaves_what_it_can_not_unwrap_and_names_it() {
    let objects = Objects::memory(&Memory::new());
    let lost = message_key("2026-11-27", "lost");
    store(&objects, wrapping(3, &[3])).key_or_new(&lost).await.unwrap();
    let keys = store(&objects, wrapping(2, &[1, 2]));
    keys.key_or_new(&message_key("2026-11-27", "kept")).await.unwrap();
    let done = keys.rewrap().await.unwrap();
    assert_eq!((done.already, done.unreadable, done.unreadable_ids), (1, 1, vec![lost.clone()]));
    assert!(store(&objects, wrapping(3, &[3])).key(&lost).await.is_ok(), "it is as it was");
}

#[tokio::test]
async fn keys_are_erased_by_family_and_day_and_no_others() {
    for place in places() {
        let keys = store(&place.objects, wrapping(1, &[1]));
        let query = |day: &str| key_id(Family::Query, self::day(day), &"kela".parse().unwrap());
        let days = ["2025-01-01", "2026-11-18", "2026-11-19", "2026-11-20"];
        for day in days {
            keys.key_or_new(&query(day)).await.unwrap();
            keys.key_or_new(&message_key(day, "kela")).await.unwrap();
        }
        let erased = keys.erase_before(Family::Query, day("2026-11-19")).await.unwrap();
        assert_eq!(erased, Erased { keys: 2, notes_dropped: 0 });
        let again = keys.erase_before(Family::Query, day("2026-11-19")).await.unwrap();
        assert_eq!(again, Erased { keys: 0, notes_dropped: 1 }, "the note of 2025 is old");
        for day in &days[1..2] {
            assert_eq!(keys.key(&query(day)).await.unwrap_err(), KeyError::Erased(query(day)));
        }
        for day in &days[2..] {
            keys.key(&query(day)).await.unwrap();
        }
        for day in days {
            keys.key(&message_key(day, "kela")).await.unwrap();
        }
        let status = keys.status().await.unwrap();
        let of = status.families[&Family::Query];
        assert_eq!(
            (of.keys, of.erased, of.oldest, of.newest),
            (2, 1, Some(day("2026-11-19")), Some(day("2026-11-20")))
        );
    }
}

#[tokio::test]
async fn raw_keys_are_nowhere_in_the_store() {
    let directory = private_directory();
    let objects = Objects::open(&Settings::local(directory.path())).unwrap();
    // The same bytes whenever random ones are asked for: the key is known.
    let random = Random::new(|bytes| bytes.fill(0xA5));
    let keys = KeyStore::new(objects.clone(), wrapping(1, &[1]), Clock::system(), random);
    let wanted = message_key("2026-11-27", "kela");
    keys.key_or_new(&wanted).await.unwrap();
    let stored = objects.read(&name(&format!("keys/{wanted}"))).await.unwrap().unwrap();
    let text = String::from_utf8(stored.to_vec()).unwrap();
    assert!(text.starts_with("airut data key v1\nwrapped by wrapping-1\n"));
    let key_line = text.lines().last().unwrap();
    assert!(!key_line.contains(&"a5".repeat(4)), "{text}");
}
