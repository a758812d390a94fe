//! `InformationRequestService`: showing requests. What was said is on record as read before it leaves; a list shows nothing of it.

use airut_domain::{
    context::Context,
    partition::{Partition, Topic, parse_position},
    refusal::{Reason, Refusal},
    registry::VerifiedPartner,
    request::{Read, Request, RequestKey, State, Void},
};
use airut_wire::{
    log_v1,
    request::{Listing, Reading, information_request, listing, reading},
    v1,
};
use futures::future::join_all;
use prost::Message;

use super::request::{fault, unread};
use crate::{
    fold::{self, ListPlace, Wanted},
    gateway::{Gateway, Unproposed},
    planted::planted,
};

/// As often a reading is tried again when the request changes meanwhile.
const READ_AGAIN: usize = 5;

/// The years, back from this one, whose pseudonyms a person's requests may have: none is older.
const YEARS_BACK: i32 = 1;

/// All that was said of a request.
struct Said {
    subject_id: String,
    steps: Vec<v1::InformationRequestStep>,
}

impl Gateway {
    /// Shows a request with all that was said.
    pub(crate) async fn get_request(
        &self,
        caller: &VerifiedPartner,
        request: v1::GetInformationRequestRequest,
        traceparent: &str,
    ) -> Result<v1::GetInformationRequestResponse, Refusal> {
        let Reading { requester, request_id, context } = reading(&request)?;
        self.wait_for(&request.min_position).await?;
        let key = RequestKey { requester: requester.unwrap_or_else(|| caller.id().clone()), request_id };
        for _ in 0..READ_AGAIN {
            let theirs = |known: &Request| {
                let had_it = || known.former.iter().any(|(former, _)| former == caller.id());
                known.part_of(&key, caller.id()).is_some() || planted!(ShownToWhoHadIt) && had_it()
            };
            let known = self.find_request(&key, theirs).await?;
            self.grant_part(&key, &known.responder, &context)?;
            let said = self.said_of(&known).await?;
            let Some(shown) = self.record_reading(caller, &key, &known, &context, traceparent).await? else { continue };
            // In the same poll as the disclosure: the registry is current, and the two may still have to do with each other.
            if !self.folds.registry_is_current(self.world.now()) {
                return Err(Refusal::new(Reason::RegistryStale));
            }
            self.grant_part(&key, &known.responder, &context)?;
            return Ok(v1::GetInformationRequestResponse {
                information_request: Some(information_request(&key, &shown, self.world.now())),
                subject_id: said.subject_id,
                steps: said.steps,
            });
        }
        // Somebody changes it faster than it can be read.
        Err(Refusal::new(Reason::OutcomeUnknown))
    }

    /// Has on record that the request is read as it is known; none when it has changed meanwhile.
    async fn record_reading(
        &self,
        caller: &VerifiedPartner,
        key: &RequestKey,
        known: &Request,
        context: &Context,
        traceparent: &str,
    ) -> Result<Option<Request>, Refusal> {
        if planted!(ShownUnrecorded) {
            return Ok(Some(known.clone()));
        }
        let read = Read {
            key: key.clone(),
            created: known.created.offset,
            by: caller.id().clone(),
            version: known.version(),
            access: self.access_to(caller, known, context),
        };
        let context = v1::Context {
            end_user: context.end_user.as_str().to_owned(),
            end_user_role: context.end_user_role.as_str().to_owned(),
            purpose: context.purpose.to_string(),
            legal_basis: context.legal_basis.to_string(),
            case_id: context.case_id.as_str().to_owned(),
        };
        let body = log_v1::ReadBody { context: context.encode_to_vec() };
        let proposed = self.propose(known.created.partition, read, Some(&body.encode_to_vec()), traceparent).await;
        match proposed {
            // What has been shown is the version that was read; a step since then is the next reading's.
            Ok(accepted) => {
                let first = known.read.or(Some(accepted.stamp()));
                let read = if known.responder == *caller.id() { first } else { known.read };
                Ok(Some(Request { read, ..known.clone() }))
            }
            Err(Unproposed::Void(fold::Void::Request(Void::Changed))) => Ok(None),
            Err(Unproposed::Void(_)) if planted!(ShownToWhoHadIt) => Ok(Some(known.clone())),
            Err(Unproposed::Void(void)) => Err(Refusal::new(void.reason())),
            Err(Unproposed::Unwritten(refusal)) => Err(refusal),
        }
    }

    /// All that was said, out of the sealed bodies.
    async fn said_of(&self, request: &Request) -> Result<Said, Refusal> {
        let mut said = Said { subject_id: String::new(), steps: Vec::with_capacity(request.steps.len()) };
        for step in &request.steps {
            let body = self.request_body(request.created.partition, step.offset).await?;
            let shown = v1::InformationRequestStep::decode(body.step.as_slice()).map_err(|cause| unreadable(&cause))?;
            said.steps.push(v1::InformationRequestStep {
                time: Some(airut_wire::timestamp(step.at)),
                partner: step.by.to_string(),
                ..shown
            });
            if said.subject_id.is_empty() {
                said.subject_id = body.subject_id;
            }
        }
        Ok(said)
    }

    /// What was said in the step that this record holds.
    pub(crate) async fn request_body(&self, partition: Partition, offset: u64) -> Result<log_v1::RequestBody, Refusal> {
        let (stored, header) = self.read_record(partition, offset).await.ok_or(Refusal::new(Reason::LogUnavailable))?;
        let body = self.writer.open_body(&stored, &header).await.map_err(|cause| unreadable(&cause))?;
        log_v1::RequestBody::decode(body.as_slice()).map_err(|cause| unreadable(&cause))
    }

    /// Lists a party's requests.
    pub(crate) async fn list_requests(
        &self,
        caller: &VerifiedPartner,
        request: v1::ListInformationRequestsRequest,
        traceparent: &str,
    ) -> Result<v1::ListInformationRequestsResponse, Refusal> {
        let Listing { states, partner, subject, due_from, due_to, size } = listing(&request)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => {
                Some(place_from(token).ok_or_else(|| fault("page_token", "must be one that was given with a page"))?)
            }
        };
        self.wait_for(&request.min_position).await?;
        let states = if states.is_empty() { State::ALL.to_vec() } else { states };
        let this_year = self.world.now().date().year();
        let subjects: Vec<_> = match &subject {
            None => Vec::new(),
            Some((code, _)) => {
                let years = this_year - YEARS_BACK..=this_year;
                years.filter_map(|year| self.ring.subject(code, year).ok()).map(|(subject, _)| subject).collect()
            }
        };
        let wanted = Wanted {
            party: caller.id(),
            states: &states,
            partner: partner.as_ref(),
            subjects: &subjects,
            due: (due_from, due_to),
            after,
            limit: size + 1,
        };
        let now = self.world.now();
        let mut found = self.folds.list_requests(&wanted, now).map_err(unread)?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token =
            found.last().filter(|_| more).map(|(_, last)| place_token(ListPlace::of(last))).unwrap_or_default();
        if let Some((_, context)) = &subject {
            found = self.record_listing(caller, found, context, traceparent).await?;
        }
        let information_requests = found.iter().map(|(key, request)| information_request(key, request, now)).collect();
        Ok(v1::ListInformationRequestsResponse { information_requests, next_page_token })
    }

    /// That a person has these requests is shown to somebody: on record for each of them. One that has changed meanwhile is shown as it was.
    async fn record_listing(
        &self,
        caller: &VerifiedPartner,
        found: Vec<(RequestKey, Request)>,
        context: &Context,
        traceparent: &str,
    ) -> Result<Vec<(RequestKey, Request)>, Refusal> {
        let record = |(key, request): (RequestKey, Request)| async move {
            self.grant_part(&key, &request.responder, context)?;
            let shown = self.record_reading(caller, &key, &request, context, traceparent).await?;
            Ok(shown.map(|shown| (key, shown)))
        };
        let shown: Vec<Option<_>> =
            join_all(found.into_iter().map(record)).await.into_iter().collect::<Result<_, _>>()?;
        Ok(shown.into_iter().flatten().collect())
    }

    /// Waits until the fold has come to a place that an earlier call gave.
    pub(crate) async fn wait_for(&self, min_position: &str) -> Result<(), Refusal> {
        if min_position.is_empty() {
            return Ok(());
        }
        let known = parse_position(min_position).filter(|position| position.partition.topic == Topic::Requests);
        let wrong = || fault("min_position", "must be a position that an earlier call gave");
        let position = known.ok_or_else(wrong)?;
        let end = self.log.end(position.partition).await.map_err(|_| Refusal::new(Reason::LogUnavailable))?;
        if position.offset >= end {
            return Err(wrong());
        }
        self.reach(position.partition, position.offset + 1).await
    }
}

/// A place in a list as a page's token.
fn place_token(place: ListPlace) -> String {
    format!("{}.{}.{}", place.due, place.partition, place.offset)
}

fn place_from(token: &str) -> Option<ListPlace> {
    let mut parts = token.split('.');
    let due = parts.next()?.parse().ok().filter(|due: &i32| *due >= 0)?;
    let partition = parts.next()?.parse().ok().filter(|number| *number < Topic::Requests.partitions())?;
    let offset = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(ListPlace { due, partition, offset })
}

fn unreadable(cause: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%cause, "what was said of an information request can not be read");
    Refusal::new(Reason::NotServing)
}
