//! How a run goes on, told on standard error: a bar where a person looks at it, plain lines elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written.
const LINES: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    began: Instant,
    told: Instant,
}

impl Progress {
    pub(crate) fn of(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos} of {len} delivered, {per_sec}, {eta} left");
            ProgressBar::new(total).with_style(style.expect("a constant template"))
        });
        Self { bar, total, began: Instant::now(), told: Instant::now() }
    }

    /// So many have come by now.
    #[allow(clippy::print_stderr, reason = "a command-line tool's output")]
    pub(crate) fn tell(&mut self, came: u64) {
        if let Some(bar) = &self.bar {
            return bar.set_position(came);
        }
        if self.told.elapsed() < LINES {
            return;
        }
        self.told = Instant::now();
        let rate = came as f64 / self.began.elapsed().as_secs_f64();
        let left = self.total.saturating_sub(came) as f64 / rate.max(1.0);
        eprintln!("{came} of {} delivered, {rate:.0} a second, about {left:.0} s left", self.total);
    }

    /// What happened, beside the bar.
    #[allow(clippy::print_stderr, reason = "a command-line tool's output")]
    pub(crate) fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.println(what),
            None => eprintln!("{what}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
