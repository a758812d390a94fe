//! What has changed lately, numbered, so that an open page is told of everything that has happened since it was made, and of nothing twice.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use airut_domain::time::Timestamp;
use tokio::sync::watch;

use super::requests::RequestKey;

/// So many changes are kept: a busy office's of half a day, for a page that nobody looked at over lunch. A page that has missed more is told that
/// everything may have changed.
const KEPT: usize = 16_384;

/// Something that an open page may want to show anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Information requests, any number of them.
    Requests,
    /// One information request, by who asks and their id for it.
    Request(RequestKey),
    /// Documents, any number of them.
    Documents,
    /// One document has arrived: who sent it, and their id for it.
    Document((String, String)),
    /// Notices.
    Notices,
    /// Whether the exchange can be reached.
    Link,
}

impl Change {
    /// As pages are told of it: what kind of thing has changed, and which one where it is one.
    pub(crate) fn told_as(&self) -> String {
        match self {
            Self::Requests => "requests".to_owned(),
            Self::Request((requester, request_id)) => format!("requests:{requester}/{request_id}"),
            Self::Documents => "documents".to_owned(),
            Self::Document((sender, document_id)) => format!("documents:{sender}/{document_id}"),
            Self::Notices => "notices".to_owned(),
            Self::Link => "link".to_owned(),
        }
    }
}

/// The latest changes.
#[derive(Debug)]
pub(crate) struct Changes {
    latest: Mutex<VecDeque<Change>>,
    /// The number of the newest.
    told: watch::Sender<u64>,
}

/// What has changed since a page was made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// These, each once.
    These(Vec<Change>),
    /// Nobody knows any longer.
    Anything,
}

impl Changes {
    /// None yet. Numbers begin with the time, so that none from before a restart is taken for one of these.
    pub(crate) fn new(now: Timestamp) -> Self {
        let first = u64::try_from(now.as_millis()).unwrap_or_default();
        Self { latest: Mutex::default(), told: watch::channel(first).0 }
    }

    /// The number of the newest change: a page that was made at this number has missed nothing.
    pub(crate) fn told(&self) -> u64 {
        *self.told.borrow()
    }

    /// Tells of a change. Gives its number.
    pub(crate) fn tell(&self, change: Change) -> u64 {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(change);
        self.told.send_modify(|told| *told += 1);
        self.told()
    }

    /// The number of the newest change, and what has changed after this one.
    pub(crate) fn since(&self, seen: u64) -> (u64, Since) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.told();
        let missed = told.checked_sub(seen).and_then(|missed| usize::try_from(missed).ok());
        let since = match missed.and_then(|missed| latest.len().checked_sub(missed)) {
            Some(known) => {
                let mut these: Vec<Change> = latest.iter().skip(known).cloned().collect();
                these.sort();
                these.dedup();
                Since::These(these)
            }
            None => Since::Anything,
        };
        (told, since)
    }

    /// Waits until there is a change after this one.
    pub(crate) async fn after(&self, seen: u64) {
        let mut told = self.told.subscribe();
        // It is not closed: it is in here.
        drop(told.wait_for(|told| *told != seen).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str) -> Change {
        Change::Request(("kela".to_owned(), id.to_owned()))
    }

    #[tokio::test]
    async fn a_page_is_told_of_what_it_has_missed_and_of_nothing_else() {
        let changes = Changes::new(Timestamp::from_millis(1_000));
        changes.tell(request("r-1"));
        let made = changes.told();
        assert_eq!(changes.since(made), (made, Since::These(Vec::new())));
        changes.tell(Change::Notices);
        changes.tell(request("r-2"));
        changes.tell(Change::Notices);
        changes.after(made).await;
        let (seen, since) = changes.since(made);
        assert_eq!(since, Since::These(vec![request("r-2"), Change::Notices]));
        assert_eq!(changes.since(seen), (seen, Since::These(Vec::new())));
    }

    #[test]
    fn a_page_that_has_missed_more_than_is_known_is_told_to_look_at_everything() {
        let changes = Changes::new(Timestamp::from_millis(1_000));
        let made = changes.told();
        for _ in 0..KEPT {
            changes.tell(Change::Documents);
        }
        assert_eq!(changes.since(made).1, Since::These(vec![Change::Documents]));
        changes.tell(Change::Documents);
        assert_eq!(changes.since(made).1, Since::Anything);
        // Of another life of the desk, earlier or with a clock that was ahead.
        for other in [0, 999, changes.told() + 1] {
            assert_eq!(changes.since(other).1, Since::Anything, "{other}");
        }
    }
}
