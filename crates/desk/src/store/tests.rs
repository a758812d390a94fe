//! What the store promises: nothing twice, nothing readable in its file, claims that hold, entries that keep their end.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

const CODE: &str = "131052-902N";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

fn open(dir: &TempDir) -> Store {
    let key = SealingKey::open_or_create(&dir.path().join("key")).unwrap();
    Store::open(&dir.path().join("office.sqlite"), key).unwrap()
}

fn notice(message_id: &str, accepted: i64, non_disclosure: Option<bool>) -> NewItem {
    let client = match non_disclosure {
        Some(ordered) => json!({"language": "fi", "non_disclosure": ordered}),
        None => json!({"language": "fi"}),
    };
    NewItem {
        kind: ItemKind::Notice,
        sender: "kela".into(),
        message_id: message_id.into(),
        message_type: "social-work-need".into(),
        object_id: String::new(),
        position: "airut.messages/0/1".into(),
        accepted: at(accepted),
        arrived: at(accepted + 1),
        body: Arrived {
            subject_id: CODE.into(),
            end_user: "Aino Esimerkki (aino)".into(),
            case_id: "TT-1".into(),
            purpose: "social-work".into(),
            legal_basis: "1301/2014".into(),
            payload: json!({"client": client, "reason": "unpaid rent"}),
        },
    }
}

fn claim_of(subject: &str) -> Claim {
    Claim { subject: subject.into(), name: subject.to_uppercase(), since: at(0) }
}

#[tokio::test]
async fn what_comes_twice_is_kept_once_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    assert!(store.keep(notice("n-1", 0, None)).await.unwrap());
    assert!(!store.keep(notice("n-1", 5, None)).await.unwrap());
    drop(store);
    let store = open(&dir);
    assert_eq!(store.waiting(ItemKind::Notice).await.unwrap(), 1);
    let (items, total) = store.items(ItemKind::Notice, false, 0, 10).await.unwrap();
    let (item, body, _) = store.item(ItemKind::Notice, items[0].number).await.unwrap().unwrap();
    assert_eq!((total, item.accepted, body.subject_id.as_str()), (1, at(0), CODE));
    assert_eq!(store.item(ItemKind::Document, item.number).await.unwrap(), None, "a notice is no document");
    store.handled(item.number, Some(at(9)), "Väinö").await.unwrap();
    assert_eq!(store.waiting(ItemKind::Notice).await.unwrap(), 0);
    assert_eq!(store.items(ItemKind::Notice, true, 0, 10).await.unwrap().1, 1);
    store.sweep(at(9), at(0)).await.unwrap();
    assert_eq!(store.items(ItemKind::Notice, true, 0, 10).await.unwrap().1, 1, "it is not old enough");
    store.sweep(at(10), at(0)).await.unwrap();
    assert_eq!(store.items(ItemKind::Notice, true, 0, 10).await.unwrap().1, 0);
}

#[tokio::test]
async fn a_non_disclosure_order_holds_for_the_person_until_it_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.keep(notice("before", 0, None)).await.unwrap();
    let ordered = async |number| store.item(ItemKind::Notice, number).await.unwrap().unwrap().2;
    assert!(!ordered(1).await);
    store.keep(notice("order", 10, Some(true))).await.unwrap();
    assert!(ordered(1).await, "what came before says nothing of it, and hides it all the same");
    store.keep(notice("after", 20, None)).await.unwrap();
    assert!(ordered(3).await);
    store.keep(notice("lifted", 30, Some(false))).await.unwrap();
    assert!(!ordered(1).await);
    assert!(ordered(2).await, "the notice that said so itself");
}

#[tokio::test]
async fn of_two_claims_the_first_holds_until_it_is_taken_over_or_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let holder =
        async |by: &str, take_over| store.claim("request/kela/1", claim_of(by), take_over).await.unwrap().subject;
    assert_eq!(holder("vaino", TakeOver::No).await, "vaino");
    assert_eq!(holder("helmi", TakeOver::No).await, "vaino");
    assert_eq!(holder("helmi", TakeOver::Yes).await, "helmi");
    store.release("request/kela/1", "vaino").await.unwrap();
    assert_eq!(store.claimed("request/kela/1").await.unwrap().map(|claim| claim.subject).as_deref(), Some("helmi"));
    store.release("request/kela/1", "helmi").await.unwrap();
    assert_eq!(store.claims().await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_entry_keeps_its_end_and_names_whom_it_was_about() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let more = Sealed { name: "Väinö Esimerkki".into(), case_id: "PIR-1".into(), ..Sealed::default() };
    let looked = |time, official: &str| Looked {
        time: at(time),
        official: official.into(),
        action: Action::ReadRequest,
        object: "request/kela/1".into(),
        more: more.clone(),
    };
    let number = store.enter(looked(0, "vaino")).await.unwrap();
    store.enter(looked(1, "helmi")).await.unwrap();
    let end = |outcome: &str| End {
        outcome: outcome.into(),
        position: Some("airut.requests/1/2".into()),
        person: CODE.into(),
    };
    store.ended(number, end("done")).await.unwrap();
    store.ended(number, end("NOT_FOUND")).await.unwrap();
    let (own, total) = store.accesses(Some("vaino"), 0, 10).await.unwrap();
    assert_eq!((total, own[0].outcome.as_deref(), own[0].more.person.as_str()), (1, Some("done"), CODE));
    let (all, total) = store.accesses(None, 0, 10).await.unwrap();
    assert_eq!((total, all[0].official.as_str(), all[0].outcome.as_deref()), (2, "helmi", None));
}

#[tokio::test]
async fn nothing_of_a_person_can_be_read_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.keep(notice("n-1", 0, None)).await.unwrap();
    store.remember("request/kela/1", Known { case_id: "PIR-1".into(), person: CODE.into() }).await.unwrap();
    let more = Sealed { name: "Väinö Esimerkki".into(), person: CODE.into(), ..Sealed::default() };
    let (official, object) = ("vaino".to_owned(), "query/1".to_owned());
    store.enter(Looked { time: at(0), official, action: Action::AskedBenefits, object, more }).await.unwrap();
    let said = Feedback { time: at(0), text: "unpaid rent".into(), reply_to: String::new(), language: "fi".into() };
    store.keep_feedback(said.clone()).await.unwrap();
    assert_eq!(store.feedback().await.unwrap(), [said]);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let file = String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()).into_owned();
        for secret in [CODE, "unpaid rent", "Esimerkki", "PIR-1", "TT-1"] {
            assert!(!file.contains(secret), "{secret}");
        }
    }
    drop(store);
    let other = SealingKey::open_or_create(&dir.path().join("another-key")).unwrap();
    let store = Store::open(&dir.path().join("office.sqlite"), other).unwrap();
    assert!(matches!(store.item(ItemKind::Notice, 1).await, Err(Error::Sealed)));
}

#[test]
fn a_key_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "not a key").unwrap();
    assert!(matches!(SealingKey::open_or_create(&path), Err(KeyFault::Format)));
}
