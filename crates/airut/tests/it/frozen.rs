//! A gateway, its register and the active ledger stand still for longer than anybody waits for them, and go on as if nothing had
//! happened: what they do not know they must not act on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_client::Checkpoint;
use airut_domain::{
    keys::Digest,
    merkle::{leaf_hash, root},
    partition::Topic,
    partner::State,
    query::Event,
    record::{Kind, Order},
    refusal::Reason,
    time::Timestamp,
};
use airut_exchange::REGISTRY_CURRENT;
use airut_ledger::note::VerifierKey;
use airut_log::Log;
use airut_testkit::eventually;
use airut_wire::v1::QueryBenefitsResponse;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};
use tonic_health::pb::health_client::HealthClient;

use crate::{
    crash::{Book, callers},
    processes::{Cluster, records, serves, stories},
    support::{PATIENCE, ask, channel, client, entries, persons, question, receipt_keys, seed, tell},
};

/// How long they stand still, in seconds, unless `AIRUT_FREEZE_SECONDS` says otherwise.
const FREEZE_SECONDS: u64 = 13;

/// Callers at once.
const CALLERS: u64 = 4;

/// Questions of each kind that are open when it begins, each about somebody else: enough for both registers to be given some.
const OPEN: usize = 20;

/// As long as a question may stay open at all.
const LONGEST: Duration = Duration::from_secs(60);

/// What a caller of the gateway that stood still may be told.
const HONEST: [Reason; 7] = [
    Reason::RegistryStale,
    Reason::GrantChanged,
    Reason::PartnerSuspended,
    Reason::NoAnswerInTime,
    Reason::OutcomeUnknown,
    Reason::LogUnavailable,
    Reason::NotServing,
];

type Call = JoinHandle<Result<QueryBenefitsResponse, Status>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_still_acts_on_nothing_that_it_has_not_read_when_it_goes_on() {
    let seconds = std::env::var("AIRUT_FREEZE_SECONDS").map_or(FREEZE_SECONDS, |text| text.parse().expect("seconds"));
    let freeze = Duration::from_secs(seconds);
    assert!(freeze > REGISTRY_CURRENT, "what is shorter may go unnoticed");
    let Some(mut cluster) = Cluster::start(1).await else { return };
    let log = cluster.log().await;
    let book = Arc::new(Book::new(receipt_keys(cluster.data.path())));
    let (_at, gateways) = watch::channel(cluster.gateways.clone());
    let stop = CancellationToken::new();
    let mut random = StdRng::seed_from_u64(seed());
    let callers = callers(CALLERS, &cluster.data, &book, &gateways, &stop, &mut random);
    let shown = Shown::collect(&mut cluster, &stop).await;
    more(&book).await;

    // Questions that wait for their answers: a partner's at the gateway that will stand still, and at the other one some that
    // its register has been given.
    ["register-1", "register-2"].iter().for_each(|name| cluster.member(name).signal("STOP"));
    let persons = persons(cluster.data.path());
    let helsinki = channel(cluster.data.path(), cluster.gateways[0], "helsinki").await;
    let pirkanmaa = channel(cluster.data.path(), cluster.gateways[1], "pirkanmaa").await;
    let asked = Instant::now();
    let waiting = calls(&helsinki, "waiting", &persons);
    let leased = calls(&pirkanmaa, "leased", &persons);
    eventually(PATIENCE, async || {
        let stories = stories(&log).await;
        let open = |asker: &str, name: &str| (0..OPEN).all(|n| stories.contains_key(&format!("{asker}/{name}-{n}")));
        open("helsinki", "waiting") && open("pirkanmaa", "leased")
    })
    .await;

    let health = HealthClient::new(channel(cluster.data.path(), cluster.gateways[0], "pirkanmaa").await);
    ["gateway-1", "ledger"].iter().for_each(|name| cluster.member(name).signal("STOP"));
    let frozen = Instant::now();
    let operator = client(cluster.data.path(), cluster.gateways[1], "operator").await;
    operator.suspend_partner("helsinki", PATIENCE).await.expect("it is suspended");
    let other = channel(cluster.data.path(), cluster.gateways[1], "helsinki").await;
    assert_eq!(refused(&other, "elsewhere", &persons[0]).await, Some(Reason::PartnerSuspended));
    // These lie before the gateway when it goes on, together with a question after its health.
    let late = calls(&helsinki, "late", &persons);
    let service = health.clone();
    let first_said = tokio::spawn(async move { serves(&service, "airut.v1.QueryService").await });
    // The answers are recorded after the suspension: as a gateway that knows of it would not disclose them.
    cluster.member("register-2").signal("CONT");
    more(&book).await;
    // How long they stand still is what this is about, not a wait for something.
    tokio::time::sleep_until(frozen + freeze).await;
    let (stood, all_are_over) = (frozen.elapsed(), asked.elapsed() >= LONGEST);
    ["gateway-1", "ledger", "register-1"].iter().for_each(|name| cluster.member(name).signal("CONT"));

    assert_eq!(first_said.await.unwrap(), Some(false), "it says that it serves, and does not know by what");
    eventually(PATIENCE, async || serves(&health, "airut.v1.QueryService").await == Some(true)).await;
    let anew = channel(cluster.data.path(), cluster.gateways[0], "helsinki").await;
    assert_eq!(refused(&anew, "anew", &persons[0]).await, Some(Reason::PartnerSuspended));
    let told = nothing_is_disclosed(&log, waiting.into_iter().chain(late)).await;
    for (number, call) in leased.into_iter().enumerate() {
        // A question may not stay open for longer than a minute, and at the other gateway nobody stood still.
        book.enter(&question(&format!("leased-{number}"), &persons[number]), &call.await.unwrap().expect("an answer"));
    }
    let mut void = 0;
    eventually(PATIENCE, async || {
        void = answers_in_vain(&log).await;
        // After a minute nobody answers them any more.
        void > 0 || all_are_over
    })
    .await;
    let first = client(cluster.data.path(), cluster.gateways[0], "pirkanmaa").await;
    let after = question("after", &persons[0]);
    book.enter(&after, &first.query(&after, PATIENCE).await.expect("it serves again"));

    stop.cancel();
    for caller in callers {
        caller.await.unwrap();
    }
    let kept = cluster.keeps(&book).await;
    let signed = shown.are_of_one_tree(&mut cluster, &log).await;
    tell(&format!("stood still for {stood:.0?}: {told}; {void} answers in vain; {signed}; {kept}"));
    drop(log);
    cluster.stop_and_verify().await;
}

/// Waits until callers have been given more.
async fn more(book: &Book) {
    let answered = book.len() + 10;
    eventually(2 * PATIENCE, async || book.len() >= answered).await;
}

/// Questions that are asked at once and wait as long as they may.
fn calls(gateway: &Channel, name: &str, persons: &[String]) -> Vec<Call> {
    let call = |(number, subject): (usize, &String)| {
        let (gateway, request) = (gateway.clone(), question(&format!("{name}-{number}"), subject));
        tokio::spawn(async move { ask(&gateway, &request, LONGEST).await })
    };
    persons.iter().take(OPEN).enumerate().map(call).collect()
}

/// Why a question is refused.
async fn refused(gateway: &Channel, query_id: &str, subject: &str) -> Option<Reason> {
    airut_wire::reason_of(&ask(gateway, &question(query_id, subject), PATIENCE).await.expect_err("refused"))
}

/// Of the suspended partner's calls none is answered by a record that came after its suspension's, and each is told why, unless
/// its connection was cut. Says what they were told.
async fn nothing_is_disclosed(log: &Log, calls: impl Iterator<Item = Call>) -> String {
    let suspended = suspension(log).await;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        let outcome = match tokio::time::timeout(PATIENCE, call).await.expect("each call ends").unwrap() {
            Ok(response) => {
                let receipt = airut_wire::receipt_from(response.receipt.expect("a receipt")).unwrap();
                let recorded = receipt.statement.accept_time;
                assert!(recorded <= suspended, "disclosed by a record of {recorded:?}, and suspended at {suspended:?}");
                "answered before".to_owned()
            }
            Err(status) => match airut_wire::reason_of(&status) {
                Some(reason) => {
                    assert!(HONEST.contains(&reason), "{status}");
                    reason.code().to_owned()
                }
                None => "cut".to_owned(),
            },
        };
        *told.entry(outcome).or_default() += 1;
    }
    // Else nothing was shown.
    let recorded = records(log, Topic::Queries).await.into_iter().filter(|(stored, header)| {
        let Kind::Query(Event::Answered(answered)) = &header.kind else { return false };
        answered.key.asker.as_str() == "helsinki" && stored.stamp > suspended
    });
    let recorded = recorded.count();
    assert!(recorded > 0, "no answer was recorded after the suspension");
    format!(
        "{recorded} answers recorded after a suspension, none disclosed; its {OPEN} + {OPEN} callers were told {told:?}"
    )
}

/// When the partner's suspension was recorded.
async fn suspension(log: &Log) -> Timestamp {
    let records = records(log, Topic::Partners).await;
    let suspended = records.iter().find(|(_, header)| match &header.kind {
        Kind::Partner(applied) => applied.partner.state == State::Suspended,
        Kind::Message(_)
        | Kind::Query(_)
        | Kind::Refusal(_)
        | Kind::Document(_)
        | Kind::Request(_)
        | Kind::Member(_)
        | Kind::Order(_) => false,
    });
    suspended.expect("it is on record").0.stamp
}

/// How many answers to the questions that were given to another register meanwhile are in the log, and count for nothing.
async fn answers_in_vain(log: &Log) -> usize {
    let mut void = 0;
    for (query, story) in stories(log).await {
        let accepted = story.iter().filter(|record| *record == "answered, accepted").count();
        assert!(accepted <= 1, "{query} has two answers: {story:?}");
        if query.starts_with("pirkanmaa/leased") {
            void += story.iter().filter(|record| record.starts_with("answered, void")).count();
        }
    }
    void
}

/// The checkpoints that both ledgers have shown, by the ledger.
struct Shown {
    by_ledger: BTreeMap<&'static str, Arc<Mutex<BTreeSet<String>>>>,
}

impl Shown {
    /// Asks both ledgers, again and again.
    async fn collect(cluster: &mut Cluster, stop: &CancellationToken) -> Self {
        let mut by_ledger = BTreeMap::new();
        for name in ["ledger", "ledger-2"] {
            let address = cluster.member(name).address();
            let ledger = client(cluster.data.path(), address, "auditor").await;
            let (stop, notes) = (stop.clone(), Arc::<Mutex<BTreeSet<String>>>::default());
            by_ledger.insert(name, Arc::clone(&notes));
            tokio::spawn(async move {
                let mut again = tokio::time::interval(Duration::from_millis(50));
                while stop.run_until_cancelled(again.tick()).await.is_some() {
                    // One that stands still says nothing.
                    if let Ok(note) = ledger.checkpoint(Duration::from_secs(1)).await {
                        notes.lock().unwrap().insert(note);
                    }
                }
            });
        }
        Self { by_ledger }
    }

    /// Every checkpoint that was ever shown or signed is the root of so many first leaves of one and the same tree, and so a
    /// prefix of every larger one. Says how many there were.
    async fn are_of_one_tree(&self, cluster: &mut Cluster, log: &Log) -> String {
        let key = verifier_key(&cluster.data.join("ledger/ledger/ledger.vkey"));
        let mut notes: BTreeSet<String> = BTreeSet::new();
        let mut signers = BTreeSet::new();
        for (_, header) in records(log, Topic::Order).await {
            if let Kind::Order(Order::Checkpoint(note)) = header.kind {
                notes.insert(note);
                signers.insert(header.author);
            }
        }
        assert_eq!(signers.len(), 2, "each of the two ledgers was at work");
        let signed = notes.len();
        for (name, shown) in &self.by_ledger {
            let shown = shown.lock().unwrap();
            assert!(!shown.is_empty(), "{name} has shown none");
            notes.extend(shown.iter().cloned());
        }
        let auditor = cluster.ledger("auditor").await;
        let leaves: Vec<Digest> = entries(&auditor).await.iter().map(|(entry, _)| leaf_hash(&entry.leaf)).collect();
        let mut roots: BTreeMap<u64, Digest> = BTreeMap::new();
        for note in &notes {
            key.open(note).expect("signed by the ledgers' key");
            let Checkpoint { size, root: signed, .. } = Checkpoint::parse(note).unwrap();
            let first = leaves.get(..usize::try_from(size).unwrap()).expect("no tree is larger than the last one");
            assert_eq!(signed, *roots.entry(size).or_insert_with(|| root(first)), "another tree of {size} leaves");
        }
        format!("{signed} checkpoints signed by two ledgers, all of one tree of {} leaves", leaves.len())
    }
}

fn verifier_key(file: &Path) -> VerifierKey {
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}
