//! What every kind of store promises.

use airut_store::{Created, MOST_BYTES, Objects, PAGE, Swapped};
use bytes::Bytes;
use futures::{StreamExt, future::join_all};

use crate::support::{name, places};

const ONE: Bytes = Bytes::from_static(b"one");
const TWO: Bytes = Bytes::from_static(b"two");

/// Runs a suite on each kind of store, and names the kind that fails.
async fn each(suite: impl AsyncFn(&Objects)) {
    for place in places() {
        println!("on {:?}", place.objects);
        suite(&place.objects).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_made_once_and_read_as_it_was_made() {
    each(async |objects| {
        let object = name("a/b.c/d_e:f-g");
        assert_eq!(objects.read(&object).await.unwrap(), None);
        assert_eq!(objects.create(&object, ONE).await.unwrap(), Created::Made);
        assert_eq!(objects.create(&object, TWO).await.unwrap(), Created::There);
        assert_eq!(objects.read(&object).await.unwrap(), Some(ONE));
        let empty = name("a/empty");
        assert_eq!(objects.create(&empty, Bytes::new()).await.unwrap(), Created::Made);
        assert_eq!(objects.read(&empty).await.unwrap(), Some(Bytes::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_make_an_object_one_does_and_all_read_the_same() {
    each(async |objects| {
        for round in 0..8 {
            let object = name(&format!("raced/{round}"));
            let made = join_all((0..16_u8).map(|who| {
                let (objects, object) = (objects.clone(), object.clone());
                tokio::spawn(async move {
                    let made = objects.create(&object, Bytes::from(vec![who; 100])).await.unwrap();
                    (who, made, objects.read(&object).await.unwrap().unwrap())
                })
            }))
            .await;
            let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
            let winners: Vec<u8> =
                made.iter().filter(|(_, made, _)| *made == Created::Made).map(|made| made.0).collect();
            assert_eq!(winners.len(), 1, "{winners:?}");
            assert!(made.iter().all(|(.., read)| read[..] == [winners[0]; 100]));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_swapped_only_as_it_was_seen() {
    each(async |objects| {
        let object = name("swapped");
        objects.create(&object, ONE).await.unwrap();
        let (_, seen) = objects.look(&object).await.unwrap().unwrap();
        assert_eq!(objects.swap(&object, &seen, TWO).await.unwrap(), Swapped::Done);
        assert_eq!(objects.swap(&object, &seen, ONE).await.unwrap(), Swapped::Changed);
        assert_eq!(objects.read(&object).await.unwrap(), Some(TWO));
        let (_, seen) = objects.look(&object).await.unwrap().unwrap();
        objects.delete(&object).await.unwrap();
        assert_eq!(objects.swap(&object, &seen, ONE).await.unwrap(), Swapped::Changed, "it is gone");
        assert_eq!(objects.read(&object).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_swap_what_they_have_seen_one_does() {
    each(async |objects| {
        let object = name("counted");
        objects.create(&object, Bytes::from_static(b"0")).await.unwrap();
        let (_, seen) = objects.look(&object).await.unwrap().unwrap();
        let swaps = (1..16_u8).map(|who| objects.swap(&object, &seen, Bytes::from(vec![who])));
        let done = join_all(swaps).await.into_iter().filter(|swap| *swap.as_ref().unwrap() == Swapped::Done).count();
        assert_eq!(done, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_and_deleted_objects_are() {
    each(async |objects| {
        let object = name("a/b");
        objects.replace(&object, ONE).await.unwrap();
        objects.replace(&object, TWO).await.unwrap();
        assert_eq!(objects.read(&object).await.unwrap(), Some(TWO));
        objects.delete(&object).await.unwrap();
        objects.delete(&object).await.unwrap();
        assert_eq!(objects.read(&object).await.unwrap(), None);
        assert_eq!(objects.create(&object, ONE).await.unwrap(), Created::Made);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_old_object_or_the_new_one_whole() {
    each(async |objects| {
        let object = name("large");
        let filled = |byte: u8| Bytes::from(vec![byte; 256 * 1024]);
        objects.replace(&object, filled(0)).await.unwrap();
        let write = async {
            for round in 1..20 {
                objects.replace(&object, filled(round)).await.unwrap();
            }
        };
        let read = async {
            for _ in 0..60 {
                let read = objects.read(&object).await.unwrap().unwrap();
                assert_eq!(read.len(), 256 * 1024);
                assert!(read.iter().all(|byte| *byte == read[0]));
            }
        };
        futures::join!(write, read);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_in_order_below_a_prefix_and_a_page_at_a_time() {
    each(async |objects| {
        let mut names: Vec<String> = (0..PAGE + 300).map(|number| format!("many/{}/{number:05}", number % 7)).collect();
        // In the order of bytes `-` comes before `/`, in that of directories after it.
        names.extend(["many/1-x/a", "many/1.y", "many-more/a"].map(str::to_owned));
        let made = names.iter().map(|text| {
            let name = self::name(text);
            async move { objects.create(&name, Bytes::from_static(b"12345")).await.unwrap() }
        });
        let made: Vec<_> = futures::stream::iter(made.collect::<Vec<_>>()).buffered(16).collect().await;
        assert!(made.into_iter().all(|made| made == Created::Made));
        names.retain(|name| name.starts_with("many/"));
        names.sort_unstable();
        let first = objects.list(&name("many"), None).await.unwrap();
        assert_eq!(first.len(), PAGE);
        assert!(first.iter().all(|object| object.size_bytes == 5));
        let second = objects.list(&name("many"), Some(&first[PAGE - 1].name)).await.unwrap();
        let third = objects.list(&name("many"), Some(&second[second.len() - 1].name)).await.unwrap();
        assert_eq!(third, []);
        let listed: Vec<&str> = first.iter().chain(&second).map(|object| object.name.as_str()).collect();
        assert_eq!(listed, names);
        assert_eq!(objects.list(&name("none"), None).await.unwrap(), []);
        assert_eq!(objects.list(&name("many-more/a"), None).await.unwrap(), [], "an object is not below itself");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_object_is_taken_and_a_larger_one_refused_by_name() {
    each(async |objects| {
        let largest = Bytes::from(vec![7; MOST_BYTES]);
        objects.create(&name("largest"), largest.clone()).await.unwrap();
        assert!(objects.read(&name("largest")).await.unwrap().unwrap() == largest);
        let refused = objects.create(&name("larger"), Bytes::from(vec![7; MOST_BYTES + 1])).await.unwrap_err();
        assert_eq!(refused.name, "larger");
        assert_eq!(objects.read(&name("larger")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_its_promises_passes_the_check_and_is_left_as_it_was() {
    each(async |objects| {
        objects.check(&name("checks/1")).await.unwrap();
        assert_eq!(objects.list(&name("checks"), None).await.unwrap(), []);
    })
    .await;
}
