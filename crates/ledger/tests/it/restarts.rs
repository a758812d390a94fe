use std::{
    fs,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use airut_ledger::{Ledger, OpenError, Outside, StopReason, verify};
use airut_log::Log;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, Running, fill, notes, open_log, settings};

/// Polls a future so many times, and then drops it: a process that dies between two of its steps.
struct Killed<F> {
    inner: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F: Future> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            self.inner = None;
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let inner = self.inner.as_mut().expect("polled until it was dropped");
        let poll = inner.as_mut().poll(context).map(Some);
        if self.polls == 0 && poll.is_pending() {
            context.waker().wake_by_ref();
        }
        poll
    }
}

#[test]
fn killed_between_any_two_steps_it_goes_on_with_the_same_tree() {
    let bench = Bench::new();
    let mut appended = 0;
    for polls in 1..36 {
        // A runtime of its own for each life: dropping it waits for what blocks, as a process ends with its threads.
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let log = bench.log();
            let mut ledger = bench.open(&log).unwrap();
            let (from, to) = (appended, appended + 11);
            let filling = tokio::spawn({
                let log = log.clone();
                async move { fill(&log, from..to).await }
            });
            let mut status = ledger.status();
            let run = Box::pin(async move { ledger.run(CancellationToken::new()).await });
            let killed = Killed { inner: Some(run), polls };
            let idle = status.wait_for(|status| status.checkpoint.as_ref().is_some_and(|signed| signed.size == to));
            tokio::select! {
                ended = killed => assert!(ended.is_none()),
                idle = idle => drop(idle.unwrap()),
            }
            filling.await.unwrap();
            appended = to;
        });
    }
    Runtime::new().unwrap().block_on(async {
        let log = bench.log();
        let running = bench.ledger(&log);
        running.signed(appended).await;
        running.stop().await;
        // Each of them was a prefix of the next: verification computes the root at every one.
        let signed = notes(&log).await.len() as u64;
        drop(log);
        let log = Log::embedded_read_only(bench.dir.path().join("log.sqlite")).unwrap();
        let report = verify(&log, &bench.ledger_dir(), Outside::default()).await.unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!((report.entries, report.checkpoints, report.unsigned), (appended, signed, 0));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_file_is_made_again_from_the_log_with_the_same_tree() {
    let bench = Bench::filled(400).await;
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        drop(fs::remove_file(bench.ledger_dir().join(name)));
    }
    let log = bench.log();
    let before = notes(&log).await.last().unwrap().1.clone();
    let running = bench.ledger(&log);
    // What was signed is known again before anything new is.
    assert_eq!(&*running.signed(1).await.note, before);
    fill(&log, 400..420).await;
    running.signed(420).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_its_file_catches_up() {
    let bench = Bench::filled(50).await;
    let copy = tempfile::tempdir().unwrap();
    fs::copy(bench.ledger_dir().join("ledger.sqlite"), copy.path().join("ledger.sqlite")).unwrap();
    let log = bench.log();
    let running = bench.ledger(&log);
    fill(&log, 50..150).await;
    let signed = running.signed(150).await;
    running.stop().await;
    fs::copy(copy.path().join("ledger.sqlite"), bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let running = bench.ledger(&log);
    assert_eq!(running.signed(1).await, signed);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time_has_it() {
    let bench = Bench::new();
    let log = bench.log();
    let ledger = bench.open(&log).unwrap();
    assert!(matches!(bench.open(&log), Err(OpenError::InUse(_))));
    drop(ledger);
    bench.open(&log).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_sign_with_what_does_not_agree() {
    let bench = Bench::filled(300).await;
    let file = bench.ledger_dir().join("ledger.sqlite");
    let refused = |log: &Log| match Ledger::open(settings(bench.dir.path(), log)) {
        Err(OpenError::Disagrees { what, .. }) => what,
        other => panic!("{other:?}"),
    };

    // Another log.
    let other = Bench::new();
    let other_log = open_log(other.dir.path());
    assert!(refused(&other_log).contains("it is the ledger of the log"));

    // Another tree than was signed: found before anything is signed with it.
    let log = bench.log();
    let before = notes(&log).await;
    let good = fs::read(&file).unwrap();
    let change = "UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE id = 1";
    Connection::open(&file).unwrap().execute_batch(change).unwrap();
    fill(&log, 300..310).await;
    let (_, outcome) = bench.ledger(&log).ended().await;
    assert!(matches!(outcome, Err(StopReason::Disagrees(_))), "{outcome:?}");
    assert_eq!(notes(&log).await, before);
    fs::write(&file, good).unwrap();
    let running = bench.ledger(&log);
    running.signed(310).await;
    running.stop().await;

    // The same, where the checkpoint is in the file already.
    Connection::open(&file).unwrap().execute_batch(change).unwrap();
    assert!(refused(&log).contains("has not the root signed at"));

    // Another key, and none.
    let key = bench.ledger_dir().join("ledger.key");
    let other_ledger = other.open(&other_log).unwrap();
    let own = fs::read(&key).unwrap();
    fs::copy(other.ledger_dir().join("ledger.key"), &key).unwrap();
    assert!(refused(&log).contains("it was signed with"));
    fs::remove_file(&key).unwrap();
    assert!(matches!(bench.open(&log), Err(OpenError::Key(_))));
    fs::write(&key, own).unwrap();
    drop(other_ledger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_dropped_at_once_leaves_nothing_behind() {
    let bench = Bench::new();
    let log = bench.log();
    let mut ledger = bench.open(&log).unwrap();
    {
        let run = pin!(ledger.run(CancellationToken::new()));
        let _ = futures_poll_once(run).await;
    }
    let running = Running::start(ledger);
    fill(&log, 0..5).await;
    running.signed(5).await;
    running.stop().await;
}

async fn futures_poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
