//! What a gateway takes from outside: the time, randomness, and a place to run its tasks.
//!
//! In production these are the system's. In the simulation they come from a seed, so that a run can be repeated.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use airut_domain::time::Timestamp;
use airut_log::{Clock, Random};

/// A task to run.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The time, randomness, and a place to run tasks.
#[derive(Clone)]
pub struct World {
    clock: Clock,
    random: Random,
    spawn: Arc<dyn Fn(Task) + Send + Sync>,
}

impl World {
    /// The system's clock and random numbers, and the tokio runtime that is current when a task is spawned.
    pub fn system() -> Self {
        Self::new(Clock::system(), Random::system(), |task| drop(tokio::spawn(task)))
    }

    /// A world of the caller's making.
    pub fn new(clock: Clock, random: Random, spawn: impl Fn(Task) + Send + Sync + 'static) -> Self {
        Self { clock, random, spawn: Arc::new(spawn) }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock itself.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The source of randomness.
    pub fn randomness(&self) -> &Random {
        &self.random
    }

    /// Random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        self.random.bytes()
    }

    /// A random time of at least `least` and less than twice that, so that gateways do not act in step.
    pub fn jittered(&self, least: Duration) -> Duration {
        let part = u32::from_be_bytes(self.random());
        least + least.mul_f64(f64::from(part) / (f64::from(u32::MAX) + 1.0))
    }

    /// Runs a task to its end, whatever becomes of its starter.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.spawn)(Box::pin(task));
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}
