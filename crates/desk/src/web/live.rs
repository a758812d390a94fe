//! What has changed, told to open pages (server-sent events). A page then asks for its own lists anew; an event itself says nothing of anybody: at most
//! which request or document it is about.
//!
//! A page says which change was the newest when it was made, and is told of those after it: what happened before it was connected, or while it was not, is
//! not missed. Changes that come close together are told together, and every page at a moment of its own, so that a busy office does not have all its
//! pages asking at once.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::stream;
use http::HeaderMap;
use rand::RngExt;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{fault::Fault, visit::Caller};
use crate::{
    desk::Desk,
    office::{Change, Office, Since},
};

/// How often a stream says that it is there, and looks whether its session still runs.
const BEAT: Duration = Duration::from_secs(10);

/// A change is told within this time, at a moment that is random,
const SOON: Duration = Duration::from_secs(1);

/// but not sooner than so long after the one told before it.
const REST: Duration = Duration::from_secs(2);

/// So many pages may be kept up to date at once, beside the bound of each session. Others show what they showed when they were loaded.
const MOST: usize = 1500;

/// What an open page knows.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Known {
    /// The number of the newest change.
    #[serde(default)]
    told: u64,
}

struct Live {
    desk: Desk,
    cookie: String,
    office: Arc<Office>,
    /// The number of the newest change that the page was told of.
    seen: u64,
    /// When it was told of one; none yet of its first word.
    last: Option<Instant>,
    beat: Instant,
    /// Whether the session is, and has been told so.
    over: bool,
    /// Counts as open, for the desk and for the session, for as long as these are there.
    _open: [OwnedSemaphorePermit; 2],
}

/// Streams changes until the session ends.
pub(crate) async fn live(
    State(desk): State<Desk>,
    caller: Caller,
    Query(Known { told }): Query<Known>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let room = |place: Arc<Semaphore>| place.try_acquire_owned().map_err(|_| Fault::Busy);
    let open = [room(Arc::clone(&caller.live))?, room(desk.live())?];
    let cookie = caller.cookie.clone().ok_or(Fault::SignIn)?;
    // A browser that connects anew says by itself what it was told last.
    let again = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (office, seen) = (caller.office, again.unwrap_or(told));
    let live = Live { desk, cookie, office, seen, last: None, beat: Instant::now() + BEAT, over: false, _open: open };
    let events = stream::unfold(live, |mut live| async {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    Ok(Sse::new(events).into_response())
}

/// How many streams there may be.
pub(crate) const fn most() -> usize {
    MOST
}

impl Live {
    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        // At once, so that a page knows that it is connected.
        let Some(last) = self.last else { return Some(self.changes()) };
        let stop = self.desk.stopping();
        let changed = async {
            self.office.changes().after(self.seen).await;
            let soon = Instant::now() + SOON.mul_f64(rand::rng().random());
            sleep_until(soon.max(last + REST)).await;
        };
        tokio::select! {
            () = stop.cancelled() => return None,
            () = changed => {}
            () = sleep_until(self.beat) => {
                self.beat = Instant::now() + BEAT;
                // Nobody is kept signed in by an open page.
                self.over = self.desk.sessions().look(&self.cookie, self.desk.now()).is_none();
                return Some(Event::default().event(if self.over { "over" } else { "beat" }).data("-"));
            }
        }
        Some(self.changes())
    }

    /// What has changed since the page was told last, a line for each. Browsers drop events that hold nothing: a dash is nothing.
    fn changes(&mut self) -> Event {
        let (told, since) = self.office.changes().since(self.seen);
        self.seen = told;
        self.last = Some(Instant::now());
        let lines = match since {
            Since::Anything => "anything".to_owned(),
            Since::These(changes) if changes.is_empty() => "-".to_owned(),
            Since::These(changes) => changes.iter().map(Change::told_as).collect::<Vec<_>>().join("\n"),
        };
        Event::default().event("changes").id(told.to_string()).data(lines)
    }
}
