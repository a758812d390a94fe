//! `InformationRequestService`: what a party does to a request. Judge, record, say how it stands now.
//!
//! The page beside it is docs/life-of-an-information-request.md. Of commands that are given at the same time the first in the partition counts: that
//! the fold says, and not the gateway that was asked. A command that was not confirmed is repeated with its own id, and is told the same.

use std::time::Duration;

use airut_domain::{
    delivery::{self, Asks},
    document::{DocumentKey, Phase},
    id::{DocumentId, PartnerId},
    message_type::Service,
    partition::{Partition, Topic},
    query::Access,
    record::Kind,
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
    request::{Action, Command, Created, MOST_WORKING_DAYS, Part, Request, RequestKey, Step, USUAL_WORKING_DAYS, Void},
    time::{Date, format_date},
    working_day,
};
use airut_log::Positions;
use airut_wire::{
    log_v1,
    request::{Creation, Doing, IntoDoing, Wish, creation, information_request, set_documents, set_due},
    v1,
};
use prost::Message;

use crate::{
    fold::{self, StoreError},
    gateway::{Gateway, Unproposed},
    planted::planted,
};

/// The type of message by which contracts grant information requests.
pub(crate) const INFORMATION_REQUEST: &str = "information-request";

/// How long to wait for the fold to come to what is in the log already.
const CATCH_UP: Duration = Duration::from_secs(5);

impl Gateway {
    /// Puts a request to a partner.
    pub(crate) async fn create_request(
        &self,
        caller: &VerifiedPartner,
        request: v1::CreateInformationRequestRequest,
        traceparent: &str,
    ) -> Result<Option<v1::InformationRequest>, Refusal> {
        let fingerprint = self.ring.fingerprint(&request.encode_to_vec());
        let Creation { request_id, responder, kind, subject, context, due, mut step } = creation(request)?;
        let key = RequestKey { requester: caller.id().clone(), request_id };
        let known = self.folds.request(&key, self.world.now()).map_err(unread)?;
        if let Some(first) = known.as_ref().and_then(|known| known.steps.first()) {
            // A repeat is as good as the first, whatever has become of the right to ask.
            let same = first.fingerprint == fingerprint;
            return if same {
                self.request_view(caller.id(), &key)
            } else {
                Err(Refusal::new(Reason::RequestIdReused))
            };
        }
        self.grant_request(caller, &responder, &context)?;
        let due = self.due(due, "due_date")?;
        set_due(&mut step, due);
        let (subject_digest, subject_key) =
            self.ring.subject(&subject, self.world.now().date().year()).map_err(|cause| {
                tracing::error!(%cause, "the key ring must be renewed");
                Refusal::new(Reason::NotServing)
            })?;
        let access = Access {
            purpose: context.purpose.clone(),
            legal_basis: context.legal_basis.clone(),
            contract_version: caller.version(),
            subject: subject_digest,
            subject_key,
            end_user: self.ring.end_user(context.end_user.as_str()),
            case: self.ring.case(context.case_id.as_str()),
        };
        let body = log_v1::RequestBody {
            step: step.encode_to_vec(),
            subject_id: subject.as_str().to_owned(),
            case_id: context.case_id.as_str().to_owned(),
        };
        let created = Created { key: key.clone(), responder, kind, due, fingerprint, access };
        self.take_step(caller.id(), &key, created, &body, traceparent).await
    }

    /// Does something to a request.
    pub(crate) async fn do_to_request<C: IntoDoing + Message>(
        &self,
        caller: &VerifiedPartner,
        request: C,
        traceparent: &str,
    ) -> Result<Option<v1::InformationRequest>, Refusal> {
        let fingerprint = self.ring.fingerprint(&request.encode_to_vec());
        let Doing { requester, request_id, command_id, context, expected, wish, mut step } = request.into_doing()?;
        let key = RequestKey { requester: requester.unwrap_or_else(|| caller.id().clone()), request_id };
        // Also one that has passed the request on may repeat how it did, and is told no more than that.
        let same = |step: &Step| step.by == *caller.id() && step.command_id.as_ref() == Some(&command_id);
        let theirs = |known: &Request| known.part_of(&key, caller.id()).is_some() || known.steps.iter().any(same);
        let known = self.find_request(&key, theirs).await?;
        if let Some(step) = known.steps.iter().find(|step| same(step)) {
            let same = step.fingerprint == fingerprint;
            return if same {
                self.request_view(caller.id(), &key)
            } else {
                Err(Refusal::new(Reason::RequestIdReused))
            };
        }
        let part = known.part_of(&key, caller.id()).ok_or(Refusal::new(Reason::NotFound))?;
        self.grant_part(&key, &known.responder, &context)?;
        let action = self.judge_wish(caller, &key, part, wish, &context).await?;
        match &action {
            Action::Respond { documents } => set_documents(&mut step, documents),
            Action::Return { due } | Action::Transfer { due: Some(due), .. } => set_due(&mut step, *due),
            Action::Close | Action::Transfer { due: None, .. } | Action::Cancel => {}
        }
        let access = self.access_to(caller, &known, &context);
        let case_id = context.case_id.as_str().to_owned();
        let body = log_v1::RequestBody { step: step.encode_to_vec(), subject_id: String::new(), case_id };
        let by = caller.id().clone();
        let command = Command { key: key.clone(), by, command_id, fingerprint, expected, access, action };
        self.take_step(caller.id(), &key, command, &body, traceparent).await
    }

    /// What of it only the gateway can tell: the day that it is due, whether there are such documents, whether the other may have it.
    async fn judge_wish(
        &self,
        caller: &VerifiedPartner,
        key: &RequestKey,
        part: Part,
        wish: Wish,
        context: &airut_domain::context::Context,
    ) -> Result<Action, Refusal> {
        match wish {
            Wish::Respond { documents } => {
                Ok(Action::Respond { documents: self.sent_documents(caller.id(), &key.requester, documents).await? })
            }
            Wish::Return { due } => Ok(Action::Return { due: self.due(due, "due_date")? }),
            Wish::Close => Ok(Action::Close),
            Wish::Cancel => Ok(Action::Cancel),
            Wish::Transfer { to, due } => {
                if part == Part::Responder && due.is_some() {
                    return Err(fault("due_date", "only the requester may change it"));
                }
                let due = due.map(|due| self.due(Some(due), "due_date")).transpose()?;
                self.grant_part(key, &to, context)?;
                Ok(Action::Transfer { to, due })
            }
        }
    }

    /// Records a step with what was said, and gives the request as it is then.
    async fn take_step<T: Clone + Into<Kind>>(
        &self,
        caller: &PartnerId,
        key: &RequestKey,
        step: T,
        body: &log_v1::RequestBody,
        traceparent: &str,
    ) -> Result<Option<v1::InformationRequest>, Refusal> {
        let partition = self.request_partition(key);
        match self.propose(partition, step, Some(&body.encode_to_vec()), traceparent).await {
            Ok(accepted) => {
                metrics::counter!("airut_request_steps_total", "step" => accepted.command().clone().into().name())
                    .increment(1);
                self.request_view(caller, key)
            }
            Err(Unproposed::Void(fold::Void::Request(Void::Repeat(_)))) => self.request_view(caller, key),
            Err(Unproposed::Void(_)) if planted!(DoneThoughVoid) => Ok(None),
            Err(Unproposed::Void(void)) => Err(Refusal::new(void.reason())),
            Err(Unproposed::Unwritten(_)) if planted!(DoneUnrecorded) => Ok(None),
            Err(Unproposed::Unwritten(refusal)) => Err(refusal),
        }
    }

    /// The request as it is now; none for who has passed it on.
    fn request_view(&self, caller: &PartnerId, key: &RequestKey) -> Result<Option<v1::InformationRequest>, Refusal> {
        let now = self.world.now();
        let request = self.folds.request(key, now).map_err(unread)?.ok_or(Refusal::new(Reason::NotFound))?;
        Ok(request.part_of(key, caller).map(|_| information_request(key, &request, now)))
    }

    /// The request as the fold has it, if it is one of these. One that is not may have become so elsewhere a moment ago.
    pub(crate) async fn find_request(
        &self,
        key: &RequestKey,
        wanted: impl Fn(&Request) -> bool,
    ) -> Result<Request, Refusal> {
        let find = || {
            let known = self.folds.request(key, self.world.now()).map_err(unread)?;
            Ok(known.filter(|known| wanted(known)))
        };
        if let Some(request) = find()? {
            return Ok(request);
        }
        self.catch_up(self.request_partition(key)).await?;
        find()?.ok_or(Refusal::new(Reason::NotFound))
    }

    /// Waits until the fold has come to where the partition ends now.
    pub(crate) async fn catch_up(&self, partition: Partition) -> Result<(), Refusal> {
        let end = self.log.end(partition).await.map_err(|_| Refusal::new(Reason::LogUnavailable))?;
        self.reach(partition, end).await
    }

    /// Waits until the fold has come to this offset of the partition, which is in the log.
    pub(crate) async fn reach(&self, partition: Partition, end: u64) -> Result<(), Refusal> {
        let ends = Positions::from([(partition, end)]);
        // A fold that has stopped will not come to it.
        let reached = tokio::time::timeout(CATCH_UP, self.folds.reached(&ends)).await;
        reached.map_err(|_| Refusal::new(Reason::LogUnavailable))
    }

    pub(crate) fn request_partition(&self, key: &RequestKey) -> Partition {
        let parts = [key.requester.as_str().as_bytes(), key.request_id.as_str().as_bytes()];
        self.ring.partition_of(Topic::Requests, &parts)
    }

    /// Whether the requester may put requests to the responder, for this purpose under this act.
    fn grant_request(
        &self,
        requester: &VerifiedPartner,
        responder: &PartnerId,
        context: &airut_domain::context::Context,
    ) -> Result<(), Refusal> {
        let message_type = INFORMATION_REQUEST.parse().expect("a valid name");
        let asks = Asks {
            message_type: &message_type,
            recipient: responder,
            purpose: &context.purpose,
            legal_basis: &context.legal_basis,
        };
        let catalogue = self.catalogue.load();
        let granted = delivery::grant(requester, &self.folds.registry(), catalogue.types(), &asks)?;
        delivery::require_service(granted.definition(), Service::Requests, "context.purpose")
    }

    /// Whether the two may have to do with each other's requests now, for this purpose under this act: what one may ask, the other may answer.
    pub(crate) fn grant_part(
        &self,
        key: &RequestKey,
        responder: &PartnerId,
        context: &airut_domain::context::Context,
    ) -> Result<(), Refusal> {
        let requester = self.folds.registry().current(&key.requester).ok_or(Refusal::new(Reason::NoContract))?;
        self.grant_request(&requester, responder, context)
    }

    /// Who does something to a request or reads it, and why, without personal data.
    pub(crate) fn access_to(
        &self,
        caller: &VerifiedPartner,
        request: &Request,
        context: &airut_domain::context::Context,
    ) -> Access {
        Access {
            purpose: context.purpose.clone(),
            legal_basis: context.legal_basis.clone(),
            contract_version: caller.version(),
            subject: request.subject,
            subject_key: request.subject_key.clone(),
            end_user: self.ring.end_user(context.end_user.as_str()),
            case: self.ring.case(context.case_id.as_str()),
        }
    }

    /// The day that an answer is due: the one given, if it may be, or the usual one.
    fn due(&self, due: Option<Date>, field: &'static str) -> Result<Date, Refusal> {
        let today = working_day::today(self.world.now());
        let Some(due) = due else { return Ok(working_day::after(today, USUAL_WORKING_DAYS)) };
        let latest = working_day::after(today, MOST_WORKING_DAYS);
        if due < today {
            return Err(fault(field, "must not lie in the past"));
        }
        if due > latest {
            return Err(fault(field, &format!("must be at most 60 working days ahead: {}", format_date(latest))));
        }
        if !working_day::is_working_day(due) {
            let next = format_date(working_day::on_or_after(due));
            return Err(fault(field, &format!("must be a working day in Finland: the next one is {next}")));
        }
        Ok(due)
    }

    /// The documents of an answer: each was sent to the requester by whoever answers.
    async fn sent_documents(
        &self,
        sender: &PartnerId,
        requester: &PartnerId,
        ids: Vec<DocumentId>,
    ) -> Result<Vec<DocumentKey>, Refusal> {
        let (mut keys, mut faults) = (Vec::with_capacity(ids.len()), Vec::new());
        for (place, document_id) in ids.into_iter().enumerate() {
            let key = DocumentKey { sender: sender.clone(), document_id };
            if self.is_sent(&key, requester).await? {
                keys.push(key);
            } else {
                let fault = "must be that of a stored document which you have sent to the requester".to_owned();
                faults.push(Violation { field: format!("document_ids[{place}]").into(), fault });
            }
        }
        if faults.is_empty() { Ok(keys) } else { Err(Refusal::fields(faults)) }
    }

    async fn is_sent(&self, key: &DocumentKey, recipient: &PartnerId) -> Result<bool, Refusal> {
        let find = || {
            let document = self.folds.document(key, self.world.now()).map_err(unread)?;
            Ok(document.is_some_and(|document| {
                document.recipient == *recipient && matches!(document.phase, Phase::Announced { .. })
            }))
        };
        if find()? {
            return Ok(true);
        }
        let parts = [key.sender.as_str().as_bytes(), key.document_id.as_str().as_bytes()];
        self.catch_up(self.ring.partition_of(Topic::Documents, &parts)).await?;
        find()
    }
}

pub(crate) fn fault(field: &'static str, fault: &str) -> Refusal {
    Refusal::fields(vec![Violation { field: field.into(), fault: fault.to_owned() }])
}

/// What to tell a caller when the fold's own file can not be read.
pub(crate) fn unread(cause: StoreError) -> Refusal {
    tracing::error!(%cause, "the fold can not be read");
    Refusal::new(Reason::NotServing)
}
