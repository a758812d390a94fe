//! Closed-loop measurement: so many calls in flight for so long, and how long each took.

use std::{
    fs,
    future::Future,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;

/// The longest latency told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// What a measurement found.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
    latency_us: Histogram<u64>,
}

impl Measured {
    /// Successful calls a second.
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the calls stayed within, in milliseconds.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
    pub(crate) fn within_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Time(Duration),
    /// After so many calls.
    Calls(u64),
}

/// Keeps `in_flight` calls going until the end, and times each. A call says whether it succeeded.
pub(crate) async fn closed_loop<C, F>(in_flight: usize, until: Until, call: C) -> anyhow::Result<Measured>
where
    C: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = bool> + Send,
{
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..in_flight).map(|_| {
        let (call, next) = (call.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut latency_us = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds");
            let (mut calls, mut failed) = (0, 0);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let go_on = match until {
                    Until::Time(time) => began.elapsed() < time,
                    Until::Calls(most) => number < most,
                };
                if !go_on {
                    return (latency_us, calls, failed);
                }
                let called = Instant::now();
                if call(number).await {
                    calls += 1;
                    let micros = u64::try_from(called.elapsed().as_micros()).unwrap_or(LONGEST_US);
                    latency_us.saturating_record(micros);
                } else {
                    failed += 1;
                }
            }
        })
    });
    let mut all = Measured {
        calls: 0,
        failed: 0,
        elapsed: Duration::ZERO,
        latency_us: Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds"),
    };
    for worker in workers.collect::<Vec<_>>() {
        let (latency_us, calls, failed) = worker.await?;
        all.latency_us.add(latency_us)?;
        all.calls += calls;
        all.failed += failed;
    }
    all.elapsed = began.elapsed();
    Ok(all)
}

/// The value in the middle; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The median time of writing 4 KiB and syncing them to the disk that holds `dir`, in milliseconds.
pub(crate) fn fsync_p50_ms(dir: &Path) -> anyhow::Result<f64> {
    let path = dir.join("fsync-probe");
    let mut file = fs::File::create(&path).with_context(|| path.display().to_string())?;
    let mut times = Vec::new();
    for _ in 0..400 {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort();
    Ok(times[times.len() / 2].as_secs_f64() * 1000.0)
}
