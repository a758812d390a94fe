//! The organisation's information requests, in memory: who, what kind, where they stand and until when. Nothing of what was said is in here; that is
//! asked for, on record, when an official opens one.
//!
//! The exchange lists requests by due date alone, and pages of them cost a call each. Lists here are sorted and filtered as officials want them, and
//! today's page counts them, at no cost to the exchange.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use airut_client::{CallError, RequestWatch};
use airut_domain::{
    time::{Date, format_date},
    working_day,
};
use airut_wire::v1::{
    InformationRequest, InformationRequestState as State, ListInformationRequestsRequest,
    watch_information_requests_response::Change as Told,
};
use tokio_util::sync::CancellationToken;

use super::{AGAIN, Change, DEADLINE, Office};

/// So many days back the due dates of requests go that are listed although they have ended.
const ENDED_DAYS: i64 = 180;

/// So many requests are kept; the exchange has the rest, by due date.
const MOST: usize = 100_000;

/// A request, by who asks and their id for it.
pub(crate) type RequestKey = (String, String);

/// What is known of the requests.
#[derive(Debug, Default)]
pub struct Mirror {
    requests: BTreeMap<RequestKey, InformationRequest>,
    /// Whether all have been heard of once.
    complete: bool,
}

impl Mirror {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &InformationRequest> {
        self.requests.values()
    }

    /// One of them.
    pub fn get(&self, requester: &str, request_id: &str) -> Option<&InformationRequest> {
        self.requests.get(&(requester.to_owned(), request_id.to_owned()))
    }

    /// Whether the list is whole.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes in what is newer than what is known.
    fn put(&mut self, request: InformationRequest) -> bool {
        let key = (request.requester.clone(), request.request_id.clone());
        let known = self.requests.get(&key);
        if known == Some(&request) || self.knows_newer(&request) {
            return false;
        }
        if known.is_some() || self.requests.len() < MOST {
            self.requests.insert(key, request);
        }
        true
    }

    /// Whether what is known of a request is newer than this.
    fn knows_newer(&self, request: &InformationRequest) -> bool {
        let rank = |request: &InformationRequest| (request.version, request.read_time.is_some());
        self.get(&request.requester, &request.request_id).is_some_and(|known| rank(known) > rank(request))
    }
}

impl Office {
    /// Takes in what the exchange said of a request. Gives the number of the newest change, where nothing newer is known of it.
    pub fn put_request(&self, request: InformationRequest) -> Option<u64> {
        if request.request_id.is_empty() {
            return None;
        }
        let key = (request.requester.clone(), request.request_id.clone());
        // Numbered while nobody else can change it: what is told of it later is newer than this.
        let mut mirror = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        let is_newest = !mirror.knows_newer(&request);
        let told = if mirror.put(request) { self.changes.tell(Change::Request(key)) } else { self.changes.told() };
        is_newest.then_some(told)
    }

    /// The request is no longer this organisation's.
    pub fn drop_request(&self, requester: &str, request_id: &str) {
        let key = (requester.to_owned(), request_id.to_owned());
        let mut mirror = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        if mirror.requests.remove(&key).is_some() {
            self.changes.tell(Change::Request(key));
        }
    }

    /// Follows the requests for as long as the office runs.
    pub(super) async fn follow_requests(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                Err(ended) = self.follow() => ended,
            };
            tracing::warn!(organisation = self.id, cause = %ended, "requests are not followed for now");
            self.set_link(false);
            if !ended.may_pass() {
                // It may no longer have them: better none than others'.
                *self.requests.write().unwrap_or_else(PoisonError::into_inner) = Mirror::default();
            }
            if tokio::time::timeout(AGAIN, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Watches from a moment before everything is listed, so that nothing falls between. Ends with a fault alone.
    async fn follow(&self) -> Result<std::convert::Infallible, CallError> {
        let mut watch = self.client.watch_information_requests("");
        watch.next().await?;
        self.list_all().await?;
        self.set_link(true);
        self.changes.tell(Change::Requests);
        loop {
            self.hear(&mut watch).await?;
        }
    }

    async fn hear(&self, watch: &mut RequestWatch) -> Result<(), CallError> {
        match watch.next().await?.change {
            Some(Told::InformationRequest(request)) => {
                self.put_request(request);
            }
            Some(Told::Gone(gone)) => self.drop_request(&gone.requester, &gone.request_id),
            // It has connected anew.
            None => self.set_link(true),
        }
        Ok(())
    }

    /// Lists what has not ended, and what ended lately.
    async fn list_all(&self) -> Result<(), CallError> {
        let unended = [State::Open, State::Returned, State::Answered].map(i32::from).to_vec();
        let today = working_day::today(self.now());
        let since = today.checked_sub(time::Duration::days(ENDED_DAYS)).unwrap_or(Date::MIN);
        let mut all = BTreeMap::new();
        self.list(&mut all, ListInformationRequestsRequest { states: unended, ..Default::default() }).await?;
        let ended = [State::Closed, State::Cancelled, State::Lapsed].map(i32::from).to_vec();
        let due_from = format_date(since);
        self.list(&mut all, ListInformationRequestsRequest { states: ended, due_from, ..Default::default() }).await?;
        let mut mirror = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        // What was told meanwhile is newer; what is not listed any longer is gone.
        let mut changed: Vec<RequestKey> =
            mirror.requests.keys().filter(|key| !all.contains_key(*key)).cloned().collect();
        mirror.requests.retain(|key, _| all.contains_key(key));
        for (key, request) in all {
            if mirror.put(request) {
                changed.push(key);
            }
        }
        // Pages show a request only once there has been a list.
        if std::mem::replace(&mut mirror.complete, true) {
            for key in changed {
                self.changes.tell(Change::Request(key));
            }
        }
        Ok(())
    }

    async fn list(
        &self,
        all: &mut BTreeMap<RequestKey, InformationRequest>,
        mut asked: ListInformationRequestsRequest,
    ) -> Result<(), CallError> {
        asked.page_size = 1000;
        loop {
            let page = self.client.list_information_requests(&asked, DEADLINE).await?;
            for request in page.information_requests {
                all.insert((request.requester.clone(), request.request_id.clone()), request);
            }
            if page.next_page_token.is_empty() || all.len() >= MOST {
                return Ok(());
            }
            asked.page_token = page.next_page_token;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: i32, state: State) -> InformationRequest {
        let request_id = "r-1".to_owned();
        InformationRequest { requester: "kela".into(), request_id, version, state: state.into(), ..Default::default() }
    }

    #[test]
    fn what_is_older_than_what_is_known_changes_nothing() {
        let mut mirror = Mirror::default();
        assert!(mirror.put(request(1, State::Open)));
        assert!(mirror.put(request(2, State::Answered)));
        assert!(!mirror.put(request(1, State::Open)));
        assert_eq!(mirror.get("kela", "r-1").map(|known| known.version), Some(2));
        let read = InformationRequest { read_time: Some(Default::default()), ..request(2, State::Answered) };
        assert!(mirror.put(read.clone()));
        assert!(!mirror.put(read));
        // What was asked for before it was read, and comes after the word of that.
        assert!(!mirror.put(request(2, State::Answered)));
        assert!(mirror.get("kela", "r-1").is_some_and(|known| known.read_time.is_some()));
    }
}
