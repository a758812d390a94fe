//! Trimming the log, and rebuilding from what is left.

use std::time::Duration;

use airut_domain::{
    keys::Digest,
    partition::{Partition, Position, Topic},
    query::{self, Access, Answered, Asked, QueryKey},
    record::{Order, Runs},
    time::Timestamp,
};
use airut_exchange::FoldStore;
use airut_log::{Faults, Log, Writer};
use tokio::time::{advance, sleep};

use crate::support::{Sandbox, caught_up, request};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn seal(sandbox: &Sandbox) {
    seal_log(&sandbox.ground.log(), &sandbox.ground.writer("ledger")).await;
    sandbox.caught_up().await;
}

/// What the ledger does: orders every record there is, and signs.
pub(crate) async fn seal_log(log: &Log, ledger: &Writer) {
    let mut runs = Vec::new();
    for partition in Partition::all().filter(|partition| partition.topic != Topic::Order) {
        runs.push((partition, log.end(partition).await.unwrap()));
    }
    for order in [Order::Run(Runs { runs }), Order::Checkpoint("signed".into())] {
        ledger.append(Partition::only(Topic::Order), order, None, "").await.unwrap();
    }
}

async fn starts(sandbox: &Sandbox, topic: Topic) -> Vec<u64> {
    let log = sandbox.ground.log();
    let mut starts = Vec::new();
    for partition in Partition::all().filter(|partition| partition.topic == topic) {
        starts.push(log.start(partition).await.unwrap());
    }
    starts
}

/// Whether a fold built from what is left has the digest of one that has seen everything.
async fn rebuilds_alike(sandbox: &Sandbox) -> bool {
    sandbox.faults(Faults { refuse: 1.0, ..Faults::default() });
    sleep(Duration::from_secs(1)).await;
    sandbox.caught_up().await;
    let anew = sandbox.ground.gateway("anew", FoldStore::Memory).await.unwrap();
    caught_up(&sandbox.ground.simulation, &anew).await;
    let alike = anew.folds().digest().unwrap() == sandbox.gateways[0].folds().digest().unwrap();
    anew.stop(Duration::ZERO).await;
    sandbox.faults(Faults::default());
    alike
}

async fn a_day(sandbox: &Sandbox, day: usize) {
    sandbox.responder(0, 1).await.keeps_answering();
    for number in 0..14 {
        let id = format!("day-{day}-{number}");
        let (first, second) = (sandbox.ask(0, "pirkanmaa", request(&id)), sandbox.ask(1, "pirkanmaa", request(&id)));
        first.response().await;
        second.response().await;
        sandbox.ask(0, "elo", request(&id)).refusal().await;
        sandbox.ask_within(0, "helsinki", request(&id), Duration::from_millis(2)).told().await.ok();
    }
    advance(DAY).await;
    sleep(Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_finished_forgotten_and_sealed_is_trimmed_and_a_rebuild_has_the_same_digest() {
    let sandbox = Sandbox::with_gateways(2).await;
    for day in 0..11 {
        a_day(&sandbox, day).await;
        seal(&sandbox).await;
        sandbox.gateways[day % 2].trim().await.unwrap();
        if day > 6 {
            assert!(rebuilds_alike(&sandbox).await, "after {day} days");
        }
    }
    assert!(starts(&sandbox, Topic::Queries).await.iter().all(|start| *start > 0));
    assert!(starts(&sandbox, Topic::Refusals).await.iter().any(|start| *start > 0));
    assert!(starts(&sandbox, Topic::Members).await[0] > 0);
    assert_eq!(starts(&sandbox, Topic::Partners).await, [0]);
    assert_eq!(starts(&sandbox, Topic::Order).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sealed_or_not_old_enough_is_not_trimmed() {
    let sandbox = Sandbox::with_gateways(2).await;
    for day in 0..9 {
        a_day(&sandbox, day).await;
    }
    sandbox.gateways[0].trim().await.unwrap();
    assert!(starts(&sandbox, Topic::Queries).await.iter().all(|start| *start == 0), "not sealed");
    seal(&sandbox).await;
    let mut trimmed = sandbox.ground.records(Topic::Queries);
    sandbox.gateways[0].trim().await.unwrap();
    let week_ago = Timestamp::from_millis(sandbox.ground.now().as_millis() - 7 * 86_400_000);
    let kept = sandbox.ground.records(Topic::Queries);
    trimmed.retain(|(record, _)| kept.iter().all(|(other, _)| other.position != record.position));
    assert!(!trimmed.is_empty() && trimmed.iter().all(|(record, _)| record.stamp < week_ago));
}

fn asked(key: &QueryKey, deadline: Timestamp) -> Asked {
    let access = Access {
        purpose: "social-assistance".parse().unwrap(),
        legal_basis: "1412/1997".parse().unwrap(),
        contract_version: 1,
        subject: Digest::of(b"subject"),
        subject_key: "subject-2026".parse().unwrap(),
        end_user: Digest::of(b"end user"),
        case: Digest::of(b"case"),
    };
    Asked {
        key: key.clone(),
        fingerprint: Digest::of(b"fingerprint"),
        responder: "kela".parse().unwrap(),
        stream: "elsewhere/1".parse().unwrap(),
        deadline,
        access,
        scopes: vec![],
        withheld: vec![],
    }
}

/// Two queries of one partition.
fn two_of_one_partition(sandbox: &Sandbox) -> (Partition, QueryKey, QueryKey) {
    let lies_in = |id: &str| sandbox.ground.ring.partition_of(Topic::Queries, &[b"pirkanmaa", id.as_bytes()]);
    let key = |id: &str| QueryKey { asker: "pirkanmaa".parse().unwrap(), query_id: id.parse().unwrap() };
    let beside = (0..).map(|i| format!("beside-{i}")).find(|id| lies_in(id) == lies_in("q-1")).unwrap();
    (lies_in("q-1"), key("q-1"), key(&beside))
}

#[tokio::test(start_paused = true)]
async fn a_record_that_asked_in_vain_is_kept_together_with_the_query_it_met() {
    let sandbox = Sandbox::start().await;
    let writer = sandbox.ground.writer("elsewhere");
    let (partition, key, open) = two_of_one_partition(&sandbox);
    let now = sandbox.ground.now();
    let put = async |event: query::Event| match event {
        query::Event::Asked(asked) => writer.append(partition, asked, None, "").await.unwrap().position(),
        query::Event::Answered(answered) => writer.append(partition, answered, None, "").await.unwrap().position(),
        other => panic!("not needed here: {other:?}"),
    };
    let Position { offset, .. } = put(query::Event::Asked(asked(&key, now + DAY))).await;
    let answered = Answered {
        key: key.clone(),
        asked: offset,
        stream: "elsewhere/1".parse().unwrap(),
        commitment: Digest::of(b"commitment"),
        withheld: 0,
    };
    put(query::Event::Answered(answered)).await;
    // Open for longer than the others are remembered: what came before it may go, what comes after it stays.
    put(query::Event::Asked(asked(&open, now + 30 * DAY))).await;
    put(query::Event::Asked(asked(&key, now + DAY))).await;
    advance(9 * DAY).await;
    put(query::Event::Asked(asked(&open, now + 30 * DAY))).await;
    seal(&sandbox).await;
    sandbox.gateways[0].trim().await.unwrap();
    assert!(rebuilds_alike(&sandbox).await);
    assert_eq!(sandbox.ground.log().start(partition).await.unwrap(), 0);
}
