//! What has changed, told to open pages as it happens (server-sent events). A page then asks for its own lists anew; an event itself says nothing of
//! anybody: at most which request has changed.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{fault::Fault, visit::Caller};
use crate::{
    desk::Desk,
    office::{Change, Office},
};

/// How often a stream says that it is there, and looks whether its session still runs.
const BEAT: Duration = Duration::from_secs(10);

/// So many pages may be kept up to date at once. Others show what they showed when they were loaded.
const MOST: usize = 1500;

struct Live {
    desk: Desk,
    cookie: String,
    office: Arc<Office>,
    changes: Receiver<Change>,
    first: bool,
    /// Counts as open for as long as this is there.
    _open: tokio::sync::OwnedSemaphorePermit,
}

/// Streams changes until the session ends.
pub(crate) async fn live(State(desk): State<Desk>, caller: Caller) -> Result<Response, Fault> {
    let open = desk.live().try_acquire_owned().map_err(|_| Fault::Busy)?;
    let cookie = caller.cookie.clone().ok_or(Fault::SignIn)?;
    let live = Live { desk, cookie, changes: caller.office.changes(), office: caller.office, first: true, _open: open };
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
        // At once, so that a page knows that it is connected, and whether it has missed something.
        if std::mem::take(&mut self.first) {
            return Some(event("all", &self.office.told().to_string()));
        }
        let stop = self.desk.stopping();
        tokio::select! {
            () = stop.cancelled() => None,
            change = self.changes.recv() => match change {
                Ok(change) => Some(event(change.name(), &change.of())),
                Err(RecvError::Lagged(_)) => Some(event("all", "")),
                Err(RecvError::Closed) => None,
            },
            () = tokio::time::sleep(BEAT) => {
                // Nobody is kept signed in by an open page.
                let runs = self.desk.sessions().look(&self.cookie, self.desk.now()).is_some();
                Some(event(if runs { "beat" } else { "over" }, ""))
            }
        }
    }
}

/// An event, about one thing or none. Browsers drop those that hold nothing.
fn event(name: &str, of: &str) -> Event {
    Event::default().event(name).data(if of.is_empty() { "-" } else { of })
}
