//! What may befall a gateway at any await: other tasks run first, its process is frozen for a while, or it dies.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};

use crate::Task;

/// How often something befalls a task when it is polled: once in so many times, never for none.
#[derive(Clone, Copy, Default)]
pub(super) struct Odds {
    pub(super) wait: u64,
    pub(super) freeze: u64,
    pub(super) crash: u64,
}

/// The longest that a gateway is frozen.
const LONGEST_FREEZE: Duration = Duration::from_secs(15);

/// The fate of one incarnation: all of its tasks share it.
#[derive(Clone)]
pub(super) struct Fate(Arc<Mutex<State>>);

struct State {
    rng: ChaCha8Rng,
    odds: Odds,
    frozen_until: Option<Instant>,
    crashed: bool,
    panicked: bool,
    freezes: u64,
    tasks: Vec<AbortHandle>,
}

enum Next {
    Run,
    Wait,
    Frozen(Instant),
    Gone,
}

impl Fate {
    pub(super) fn new(rng: &mut ChaCha8Rng, odds: Odds) -> Self {
        let rng = ChaCha8Rng::from_rng(rng);
        let tasks = Vec::new();
        Self(Arc::new(Mutex::new(State {
            rng,
            odds,
            frozen_until: None,
            crashed: false,
            panicked: false,
            freezes: 0,
            tasks,
        })))
    }

    /// Runs a task of the incarnation.
    pub(super) fn spawn(&self, task: Task) {
        let handle = tokio::spawn(Fated { task: Some(task), fate: self.clone(), thaw: None }).abort_handle();
        let mut state = self.0.lock().unwrap();
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(handle);
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.0.lock().unwrap().crashed
    }

    /// Whether a task has panicked, which none ever should.
    pub(super) fn has_panicked(&self) -> bool {
        self.0.lock().unwrap().panicked
    }

    /// How often it was frozen.
    pub(super) fn freezes(&self) -> u64 {
        self.0.lock().unwrap().freezes
    }

    /// From now on this befalls it.
    pub(super) fn face(&self, odds: Odds) {
        self.0.lock().unwrap().odds = odds;
    }

    /// All of its tasks are gone at once, whatever they were at.
    pub(super) fn crash(&self) {
        let mut state = self.0.lock().unwrap();
        state.crashed = true;
        state.tasks.drain(..).for_each(|task| task.abort());
    }

    fn next(&self) -> Next {
        let mut state = self.0.lock().unwrap();
        if state.crashed {
            return Next::Gone;
        }
        if let Some(until) = state.frozen_until.filter(|until| *until > Instant::now()) {
            return Next::Frozen(until);
        }
        let Odds { wait, freeze, crash } = state.odds;
        if state.befalls(crash) {
            drop(state);
            self.crash();
            return Next::Gone;
        }
        if state.befalls(freeze) {
            let micros = state.rng.next_u64() % u64::try_from(LONGEST_FREEZE.as_micros()).unwrap();
            let until = Instant::now() + Duration::from_micros(micros);
            state.frozen_until = Some(until);
            state.freezes += 1;
            return Next::Frozen(until);
        }
        if state.befalls(wait) { Next::Wait } else { Next::Run }
    }
}

impl State {
    fn befalls(&mut self, once_in: u64) -> bool {
        let drawn = self.rng.next_u64();
        once_in != 0 && drawn.is_multiple_of(once_in)
    }
}

/// A task that shares its incarnation's fate.
struct Fated {
    task: Option<Task>,
    fate: Fate,
    thaw: Option<Pin<Box<Sleep>>>,
}

impl Future for Fated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.fate.next() {
                Next::Gone => {
                    self.task = None;
                    return Poll::Ready(());
                }
                Next::Wait => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Frozen(until) => {
                    let mut thaw = Box::pin(sleep_until(until));
                    if thaw.as_mut().poll(context).is_pending() {
                        self.thaw = Some(thaw);
                        return Poll::Pending;
                    }
                }
                Next::Run => {
                    self.thaw = None;
                    let Some(task) = &mut self.task else { return Poll::Ready(()) };
                    let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
                    return polled.unwrap_or_else(|_| {
                        self.fate.0.lock().unwrap().panicked = true;
                        self.task = None;
                        Poll::Ready(())
                    });
                }
            }
        }
    }
}
