//! What the officials saw: how long each page took, and what was not as it should be.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest time told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// So many different faults are told.
const FAULTS: usize = 20;

/// What is asked of the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The first page.
    Today,
    /// A list of information requests, with tab, order and filter.
    List,
    /// An information request: the exchange is asked, and the access log written.
    Request,
    /// The list of notices.
    Notices,
    /// A notice, on record.
    Notice,
    /// Benefits looked up, on record: the exchange asks the register.
    Query,
    /// What one has looked at oneself.
    Log,
    /// A list asked for again because of a change.
    Renewal,
    /// A stream of changes, until its first word.
    Stream,
    /// The baseline: an answer of nothing, on the connection of the page before.
    Health,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Today,
        Self::List,
        Self::Request,
        Self::Notices,
        Self::Notice,
        Self::Query,
        Self::Log,
        Self::Renewal,
        Self::Stream,
        Self::Health,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Today => "today",
            Self::List => "requests",
            Self::Request => "request",
            Self::Notices => "notices",
            Self::Notice => "notice",
            Self::Query => "query",
            Self::Log => "log",
            Self::Renewal => "renewal",
            Self::Stream => "stream",
            Self::Health => "health",
        }
    }

    /// Whether an official waits for it.
    pub(super) const fn is_page(self) -> bool {
        !matches!(self, Self::Renewal | Self::Stream | Self::Health)
    }

    /// Whether it is shown only once the access log has it.
    const fn is_recorded(self) -> bool {
        matches!(self, Self::Request | Self::Notice | Self::Query)
    }
}

/// All of it.
pub(super) struct Seen {
    /// Earlier ones do not count.
    from: Instant,
    times: Mutex<BTreeMap<Kind, Histogram<u64>>>,
    failures: Mutex<BTreeMap<String, u64>>,
    recorded: AtomicU64,
}

/// How often, and how long in milliseconds.
pub(super) struct Figures {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Seen {
    pub(super) fn new(from: Instant) -> Self {
        Self { from, times: Mutex::default(), failures: Mutex::default(), recorded: AtomicU64::new(0) }
    }

    /// One was shown; it was wanted at this time.
    pub(super) fn shown(&self, kind: Kind, wanted: Instant) {
        if kind.is_recorded() {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        }
        if wanted >= self.from {
            let micros = u64::try_from(wanted.elapsed().as_micros()).unwrap_or(LONGEST_US);
            self.times().entry(kind).or_insert_with(histogram).saturating_record(micros);
        }
    }

    /// One was not as it should be. That counts whenever it was.
    pub(super) fn failed(&self, kind: Kind, why: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let what = format!("{}: {why}", kind.name());
        if failures.len() < FAULTS || failures.contains_key(&what) {
            *failures.entry(what).or_default() += 1;
        }
    }

    /// What failed, and how often.
    pub(super) fn failures(&self) -> BTreeMap<String, u64> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So many were shown that are to be in the access log, those before it was measured among them.
    pub(super) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    pub(super) fn figures(&self, kind: Kind) -> Figures {
        self.figures_of(|other| other == kind)
    }

    /// Of several kinds together.
    pub(super) fn figures_of(&self, is_among: impl Fn(Kind) -> bool) -> Figures {
        let mut all = histogram();
        for (_, times) in self.times().iter().filter(|(kind, _)| is_among(**kind)) {
            all.add(times).expect("the same bounds");
        }
        #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
        let ms = |micros: u64| micros as f64 / 1000.0;
        Figures {
            count: all.len(),
            p50: ms(all.value_at_quantile(0.5)),
            p99: ms(all.value_at_quantile(0.99)),
            max: ms(all.max()),
        }
    }

    fn times(&self) -> MutexGuard<'_, BTreeMap<Kind, Histogram<u64>>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    pub(super) fn json(&self) -> Value {
        json!({"count": self.count, "p50_ms": self.p50, "p99_ms": self.p99, "max_ms": self.max})
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds")
}
