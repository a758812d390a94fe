//! An official at work: which page when, and what the page does by itself meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    browser::{Browser, Changes, Stream},
    seen::{Kind, Seen},
};

/// Whom an official works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Office {
    /// Whose officials put requests.
    Kela,
    /// Whose officials answer them and look up benefits.
    County,
}

impl Office {
    pub(super) const ALL: [Self; 2] = [Self::Kela, Self::County];

    /// What of a hundred pages is what.
    const fn pages(self) -> &'static [(Kind, u32)] {
        match self {
            Self::Kela => &[
                (Kind::Today, 17),
                (Kind::List, 29),
                (Kind::Request, 29),
                (Kind::Notices, 9),
                (Kind::Notice, 11),
                (Kind::Log, 5),
            ],
            Self::County => &[
                (Kind::Today, 15),
                (Kind::List, 25),
                (Kind::Request, 25),
                (Kind::Notices, 8),
                (Kind::Notice, 10),
                (Kind::Query, 12),
                (Kind::Log, 5),
            ],
        }
    }
}

/// Who the official of this number is, of those of `airut dev`.
pub(super) const fn who(number: u32) -> (Office, &'static str) {
    match number % 4 {
        0 | 2 => (Office::County, "vaino"),
        1 => (Office::Kela, "aino"),
        _ => (Office::Kela, "eero"),
    }
}

/// When pages are read, and what there is.
#[derive(Clone)]
pub(super) struct Pace {
    pub(super) began: Instant,
    /// How often an official reads a page, on average.
    pub(super) every: Duration,
    pub(super) until: Instant,
    pub(super) requests: u64,
    pub(super) notices: u64,
    pub(super) persons: Arc<[String]>,
    pub(super) seed: u64,
}

/// An official who is signed in.
pub(super) struct Seat {
    pub(super) number: u32,
    pub(super) office: Office,
    pub(super) official: &'static str,
    pub(super) browser: Browser,
}

/// A page that is looked at.
struct Open {
    kind: Kind,
    address: String,
    /// None where it could not be opened.
    stream: Option<Stream>,
    /// As far as the page shows them.
    changes: Changes,
}

impl Seat {
    /// Reads pages until it is time to stop.
    pub(super) async fn work(self, pace: Pace, seen: Arc<Seen>) -> Self {
        let mut random = StdRng::seed_from_u64(pace.seed ^ (u64::from(self.number) << 32));
        let mut open = None;
        for number in 0.. {
            // Somewhere in the time of this page, but not right after the one before.
            let wanted = pace.began + pace.every.mul_f64(f64::from(number) + random.random_range(0.0..0.8));
            if wanted >= pace.until {
                break;
            }
            self.look_until(wanted, open.as_mut(), &seen).await;
            open = self.read(wanted, &mut random, &pace, &seen).await;
        }
        self.look_until(pace.until, open.as_mut(), &seen).await;
        self
    }

    /// Reads a page, opens its stream, and asks for the baseline.
    async fn read(&self, wanted: Instant, random: &mut StdRng, pace: &Pace, seen: &Seen) -> Option<Open> {
        let kind = self.kind(random);
        let (address, form) = address(kind, random, pace);
        let answer = match &form {
            Some(form) => self.browser.post(&address, form).await,
            None => self.browser.get(&address).await,
        };
        let page = match answer {
            Ok(answer) if answer.status == StatusCode::OK => {
                seen.shown(kind, wanted);
                answer.text
            }
            Ok(answer) => {
                seen.failed(kind, answer.status.as_str());
                return None;
            }
            Err(cause) => {
                seen.failed(kind, &format!("{cause:#}"));
                return None;
            }
        };
        let asked = Instant::now();
        let stream = match self.browser.stream(&page).await {
            Ok(stream) => {
                seen.shown(Kind::Stream, asked);
                Some(stream)
            }
            Err(cause) => {
                seen.failed(Kind::Stream, &format!("{cause:#}"));
                None
            }
        };
        self.renewed(Kind::Health, "/health", seen).await;
        Some(Open { kind, address, stream, changes: Changes::default() })
    }

    fn kind(&self, random: &mut StdRng) -> Kind {
        let mut left: u32 = random.random_range(0..100);
        for (kind, share) in self.office.pages() {
            match left.checked_sub(*share) {
                Some(rest) => left = rest,
                None => return *kind,
            }
        }
        Kind::Today
    }

    /// Looks at the page until it is time for the next; what shows what has changed is asked for again.
    async fn look_until(&self, next: Instant, open: Option<&mut Open>, seen: &Seen) {
        let next = tokio::time::sleep_until(next.into());
        let Some(Open { kind, address, stream: Some(stream), changes }) = open else { return next.await };
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => return,
                told = stream.changes.changed() => {
                    if told.is_err() {
                        seen.failed(Kind::Stream, "ended");
                        return next.await;
                    }
                }
            }
            let now = *stream.changes.borrow_and_update();
            let shows = match kind {
                Kind::Today => now != *changes,
                Kind::List => now.requests != changes.requests,
                Kind::Notices => now.notices != changes.notices,
                Kind::Request | Kind::Notice | Kind::Query | Kind::Log => false,
                Kind::Renewal | Kind::Stream | Kind::Health => false,
            };
            *changes = now;
            if shows {
                self.renewed(Kind::Renewal, address, seen).await;
            }
        }
    }

    /// Asks for something that nobody waits for.
    async fn renewed(&self, kind: Kind, address: &str, seen: &Seen) {
        let asked = Instant::now();
        match self.browser.get(address).await {
            Ok(answer) if answer.status == StatusCode::OK => seen.shown(kind, asked),
            Ok(answer) => seen.failed(kind, answer.status.as_str()),
            Err(cause) => seen.failed(kind, &format!("{cause:#}")),
        }
    }
}

/// Where a page of this kind is, and the form that is sent there.
fn address(kind: Kind, random: &mut StdRng, pace: &Pace) -> (String, Option<String>) {
    let mut one_of = |of: &'static [&str]| of[random.random_range(0..of.len())];
    match kind {
        Kind::Today => ("/fi/".to_owned(), None),
        Kind::List => {
            let (tab, sort) = (one_of(&["waiting", "elsewhere", "ended", "all"]), one_of(&["due", "changed", "kind"]));
            let (kind, page) = (one_of(&["", "", "kind-statement"]), one_of(&["1", "1", "1", "2", "3"]));
            (format!("/fi/requests?tab={tab}&sort={sort}&kind={kind}&page={page}"), None)
        }
        Kind::Request => (format!("/fi/requests/kela/r-{}", random.random_range(0..pace.requests)), None),
        Kind::Notices => ("/fi/notices".to_owned(), None),
        // The first that has come has the number 1.
        Kind::Notice => (format!("/fi/notices/{}", random.random_range(1..=pace.notices)), None),
        Kind::Query => {
            let person = &pace.persons[random.random_range(0..pace.persons.len())];
            let person = person.replace('+', "%2B");
            let form = format!("person={person}&purpose=social-assistance+1412%2F1997&case=2026-118");
            ("/fi/queries".to_owned(), Some(form))
        }
        Kind::Log => ("/fi/log".to_owned(), None),
        Kind::Renewal | Kind::Stream | Kind::Health => ("/health".to_owned(), None),
    }
}
