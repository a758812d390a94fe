//! What happens to information requests by itself: who has not answered in time is reminded, what nobody has closed for too long ends.
//!
//! A reminder is a message from the requester to the responder, sent by the exchange if the contracts of both grant it. Its id is that of the request and
//! the day it was due, so whichever gateway comes to it sends the same one, and the fold takes it once; then it is on record with the request.

use std::time::Duration;

use airut_domain::{
    message::Place,
    refusal::{Reason, Refusal},
    request::{Lapsed, Notice, Reminded, Request, RequestKey},
    time::format_date,
    working_day,
};
use airut_wire::v1;
use serde_json::json;

use super::offer::Shares;
use crate::gateway::{Gateway, Unproposed};

/// The type of the reminders.
const REMINDER: &str = "information-request-reminder";

/// How often to look.
const LOOK: Duration = Duration::from_secs(1);

/// Others wait this long, and up to twice that, for the gateway whose turn it is.
const OWNER_FIRST: Duration = Duration::from_secs(2);

/// As many are seen to in one look.
const AT_ONCE: usize = 256;

impl Gateway {
    /// Sees to what is overdue, until the gateway stops.
    pub(crate) async fn sweep_requests(self) {
        while !self.stop.is_cancelled() {
            self.remind().await;
            self.lapse().await;
            drop(tokio::time::timeout(LOOK, self.stop.cancelled()).await);
        }
    }

    async fn remind(&self) {
        let now = self.world.now();
        let Ok(due) = self.folds.requests_to_remind(now, AT_ONCE) else { return };
        if due.is_empty() || !self.folds.registry_is_current(now) {
            return;
        }
        let patience = self.world.jittered(OWNER_FIRST);
        for (key, request) in due {
            if !self.is_own(&request) && now.since(working_day::end_of(request.due)) < patience {
                continue;
            }
            // What is not done now is seen to in the next look.
            if let Err(refusal) = self.remind_of(&key, &request).await {
                tracing::warn!(reason = refusal.reason.code(), "nobody is reminded of an information request");
                return;
            }
        }
    }

    async fn remind_of(&self, key: &RequestKey, request: &Request) -> Result<(), Refusal> {
        let notice = match self.folds.registry().current(&key.requester) {
            None => Notice::NotGranted,
            Some(requester) => {
                let reminder = self.reminder(key, request).await?;
                match self.send_on_behalf(requester, reminder).await {
                    Some(Ok(_)) => Notice::Sent,
                    Some(Err(refusal)) if refusal.retry_after.is_some() => return Err(refusal),
                    // An id that was used before is that of this reminder.
                    None if self.was_reminded(key, request)? => Notice::Sent,
                    Some(Err(_)) | None => Notice::NotGranted,
                }
            }
        };
        let reminded = Reminded { key: key.clone(), created: request.created.offset, due: request.due, notice };
        match self.propose(request.created.partition, reminded, None, "").await {
            // Somebody else has, or the answer has come.
            Ok(_) | Err(Unproposed::Void(_)) => Ok(()),
            Err(Unproposed::Unwritten(refusal)) => Err(refusal),
        }
    }

    fn was_reminded(&self, key: &RequestKey, request: &Request) -> Result<bool, Refusal> {
        let id = reminder_id(request).parse().map_err(|_| Refusal::new(Reason::NotServing))?;
        let known = self.folds.known_message(&key.requester, &id).map_err(super::request::unread)?;
        Ok(known.is_some())
    }

    /// The reminder: byte for byte the same at every gateway.
    async fn reminder(&self, key: &RequestKey, request: &Request) -> Result<v1::SendRequest, Refusal> {
        let (partition, offset) = (request.created.partition, request.created.offset);
        let body = self.request_body(partition, offset).await?;
        let (_, header) = self.read_record(partition, offset).await.ok_or(Refusal::new(Reason::LogUnavailable))?;
        let airut_domain::record::Kind::Request(airut_domain::request::Event::Created(created)) = &header.kind else {
            return Err(Refusal::new(Reason::NotServing));
        };
        let payload = json!({
            "requester": key.requester.as_str(),
            "request_id": key.request_id.as_str(),
            "due_date": format_date(request.due),
        });
        Ok(v1::SendRequest {
            message_id: reminder_id(request),
            recipient: request.responder.to_string(),
            message_type: REMINDER.to_owned(),
            ordering_key: String::new(),
            subject_id: body.subject_id,
            context: Some(v1::Context {
                end_user: "airut".to_owned(),
                end_user_role: "exchange".to_owned(),
                purpose: created.access.purpose.to_string(),
                legal_basis: created.access.legal_basis.to_string(),
                case_id: body.case_id,
            }),
            content_type: "application/json".to_owned(),
            payload: payload.to_string().into_bytes(),
            expire_time: None,
        })
    }

    async fn lapse(&self) {
        let now = self.world.now();
        let Ok(due) = self.folds.requests_to_lapse(now, AT_ONCE) else { return };
        if due.is_empty() {
            return;
        }
        let patience = self.world.jittered(OWNER_FIRST);
        for (key, request) in due {
            let Some(lapses) = request.lapses_at() else { continue };
            if !self.is_own(&request) && now.since(lapses) < patience {
                continue;
            }
            let lapsed = Lapsed { key, created: request.created.offset };
            // Somebody else may have ended it meanwhile, or the log be down: the next look sees.
            if let Err(Unproposed::Unwritten(_)) = self.propose(request.created.partition, lapsed, None, "").await {
                return;
            }
        }
    }

    /// Whether it is this gateway's turn.
    fn is_own(&self, request: &Request) -> bool {
        let gateways = self.folds.gateways();
        let shares = Shares::new(self.incarnation.as_str(), gateways.iter().map(|gateway| gateway.as_str()));
        shares.is_own(request.created.partition, Place { offset: request.created.offset, item: 0 })
    }
}

/// The id of the reminder of this due date to this responder.
fn reminder_id(request: &Request) -> String {
    let (number, offset) = (request.created.partition.number, request.created.offset);
    format!("reminder/{number}/{offset}/{}/{}", format_date(request.due), request.former.len())
}
