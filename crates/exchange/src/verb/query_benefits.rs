//! `QueryService.QueryBenefits`: judge, record, await the answer, disclose.
//!
//! The page beside it is docs/life-of-a-query.md. The verb runs in a task of its own, so that a caller who leaves does not
//! stop it half way: every query that was recorded as asked is followed by its answer or by `not disclosed`.

use std::time::Duration;

use airut_domain::{
    id::StreamId,
    judge::{Granted, judge},
    keys::Digest,
    minimise::minimise,
    partition::Position,
    query::{Access, Asked, NotDisclosed, Phase, Query, QueryKey, Repeated, SERVED, Void as QueryVoid, WhyNot},
    question::Question,
    receipt::Statement,
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
    time::Timestamp,
};
use airut_telemetry::span;
use airut_wire::v1;
use prost::Message;
use tokio::sync::oneshot;

use crate::{
    fold::{Accepted, Answer, End, Void},
    gateway::{Gateway, Unproposed},
    planted::planted,
    streams,
    verb::partition_of,
};

/// A responder's stream that has not answered for this long is given up for another one, where there is one.
const PATIENCE: Duration = Duration::from_secs(2);

/// The owner of an overdue query waits this long before it proposes its end again, when the log's time is behind its own.
const TOO_EARLY: Duration = Duration::from_millis(20);

/// How often an id may turn out to be somebody else's doing before the caller is told to come back.
const TRIES: usize = 4;

/// A request is refused beyond this size, in bytes: a question is short.
const LARGEST_REQUEST: usize = 64 * 1024;

pub(crate) const METHOD: &str = "/airut.v1.QueryService/QueryBenefits";

/// A call of the verb.
#[derive(Debug)]
pub struct Asking {
    /// Who calls.
    pub caller: VerifiedPartner,
    /// What they ask.
    pub request: v1::QueryBenefitsRequest,
    /// When they stop waiting.
    pub deadline: Timestamp,
    /// W3C trace context of the call; empty when it is not traced.
    pub traceparent: String,
}

/// Where the answer goes. Dropped when the caller leaves.
pub type Reply = oneshot::Sender<Result<v1::QueryBenefitsResponse, Refusal>>;

/// Why a query ended without a disclosure.
enum Failure {
    /// Not on record yet: it must be recorded before it is answered.
    Refused(Refusal),
    /// On record, or impossible to record.
    Final(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A question that was judged, with all that its records need.
struct Judged {
    question: Question,
    granted: Granted,
    key: QueryKey,
    fingerprint: Digest,
    access: Access,
    /// The request as received: the sealed body of its records.
    body: Vec<u8>,
    traceparent: String,
    deadline: Timestamp,
}

/// An answer that this caller may be given: recorded as theirs, and accepted.
struct Disclosable {
    answer: Answer,
    /// Set when the answer is disclosed again.
    again: Option<Accepted<Repeated>>,
}

impl Gateway {
    /// Runs the verb to its final record. The reply is sent once, after the record that allows it.
    pub async fn query_benefits(&self, asking: Asking, reply: Reply) {
        let caller = asking.caller.clone();
        let (reply, failure) = match self.ask(asking, reply).await {
            Ok(()) => return,
            Err(ended) => ended,
        };
        let refusal = match failure {
            Failure::Final(refusal) => refusal,
            Failure::Refused(refusal) => self.reception.refuse(caller.id(), METHOD, refusal).await,
        };
        // A caller who has left needs no refusal; it is on record.
        drop(reply.send(Err(refusal)));
    }

    async fn ask(&self, asking: Asking, reply: Reply) -> Result<(), (Reply, Failure)> {
        let judged = match self.judge(asking) {
            Ok(judged) => judged,
            Err(refusal) => return Err((reply, refusal.into())),
        };
        let found = self.find_answer(&judged).await;
        self.folds.unwatch(&judged.key);
        match found {
            Ok(disclosable) => self.disclose(&judged, disclosable, reply).await,
            Err(failure) => Err((reply, failure)),
        }
    }

    fn judge(&self, asking: Asking) -> Result<Judged, Refusal> {
        let _span = span::judge(&asking.traceparent);
        let body = asking.request.encode_to_vec();
        if body.len() > LARGEST_REQUEST {
            let fault = format!("must have at most {LARGEST_REQUEST} bytes");
            return Err(Refusal::fields(vec![Violation { field: "request".into(), fault }]));
        }
        let question = airut_wire::question(&asking.request)?;
        let now = self.world.now();
        let granted = judge(&asking.caller, &question, now.date())?;
        let context = &question.context;
        let (subject, subject_key) = self.ring.subject(&question.subject, now.date().year()).map_err(|cause| {
            tracing::error!(%cause, "the key ring must be renewed");
            Refusal::new(Reason::NotServing)
        })?;
        let access = Access {
            purpose: context.purpose.clone(),
            legal_basis: context.legal_basis.clone(),
            contract_version: granted.contract_version(),
            subject,
            subject_key,
            end_user: self.ring.end_user(context.end_user.as_str()),
            case: self.ring.case(context.case_id.as_str()),
        };
        Ok(Judged {
            key: QueryKey { asker: granted.asker().clone(), query_id: question.query_id.clone() },
            fingerprint: self.ring.fingerprint(&question.fingerprint_text()),
            access,
            body,
            traceparent: asking.traceparent,
            deadline: asking.deadline,
            question,
            granted,
        })
    }

    /// Asks, or joins a question that was asked before, until there is an answer on record for this caller.
    async fn find_answer(&self, judged: &Judged) -> Result<Disclosable, Failure> {
        let mut tries = 0..TRIES;
        let mut ours = None;
        loop {
            let now = self.world.now();
            let (query, ending) = self.folds.query(&judged.key, now).map_err(|cause| {
                tracing::error!(%cause, "the fold can not be read");
                Refusal::new(Reason::NotServing)
            })?;
            let whose = match &query {
                Some(query) if Some(query.asked) == ours => Whose::Ours,
                Some(_) | None => Whose::Others,
            };
            match (stand(query.as_ref(), judged, whose, now)?, whose) {
                (Stand::New, _) | (Stand::Unanswered(_), Whose::Others) => {
                    tries.next().ok_or(Refusal::new(Reason::OutcomeUnknown))?;
                    ours = self.record_question(judged).await?;
                }
                (Stand::Unanswered(why), Whose::Ours) => return Err(Failure::Final(Refusal::new(not_disclosed(why)))),
                // It is ours, or somebody asked the same before: perhaps this caller, over a connection that broke.
                (Stand::Open(asked), whose) => match (self.await_end(judged, ending).await, whose) {
                    (Some(End::Answered(answer)), whose) => return self.take(judged, *answer, whose).await,
                    (Some(End::Unanswered(why)), Whose::Ours) => {
                        return Err(Failure::Final(Refusal::new(not_disclosed(why))));
                    }
                    (Some(End::Unanswered(_)), Whose::Others) => {}
                    (None, Whose::Ours) => return Err(Failure::Final(self.give_up(judged, asked).await)),
                    (None, Whose::Others) => return Err(Refusal::new(Reason::NoAnswerInTime).into()),
                },
                (Stand::Answered(position), whose) => {
                    let answer = self.read_answer(position).await?;
                    return self.take(judged, answer, whose).await;
                }
            }
        }
    }

    /// The record that asks, or none when somebody else was faster.
    async fn record_question(&self, judged: &Judged) -> Result<Option<Position>, Failure> {
        let granted = &judged.granted;
        let stream = streams::choose(&self.folds, granted.responder(), judged.fingerprint, &[])
            .ok_or(Refusal::new(Reason::NoResponder))?;
        let asked = Asked {
            key: judged.key.clone(),
            fingerprint: judged.fingerprint,
            responder: granted.responder().clone(),
            stream,
            deadline: judged.deadline,
            access: judged.access.clone(),
            scopes: granted.scopes().to_vec(),
            withheld: granted.withheld().to_vec(),
        };
        let partition = partition_of(&self.ring, &judged.key);
        let proposed = self.propose(partition, asked, Some(&judged.body), &judged.traceparent).await;
        match proposed {
            Ok(asked) => Ok(Some(asked.position())),
            Err(Unproposed::Void(Void::Query(QueryVoid::AskedBefore))) => Ok(None),
            Err(Unproposed::Void(void)) => Err(Refusal::new(void.reason()).into()),
            Err(Unproposed::Unwritten(refusal)) => Err(Failure::Final(refusal)),
        }
    }

    /// The query's end, or `None` at the deadline. Meanwhile a responder's stream that is gone or silent is replaced.
    async fn await_end(&self, judged: &Judged, mut ending: oneshot::Receiver<End>) -> Option<End> {
        let wait = async {
            let members = self.folds.members();
            let mut changes = members.count();
            let mut silent = tokio::time::interval_at(tokio::time::Instant::now() + PATIENCE, PATIENCE);
            let mut put_to = Vec::new();
            self.reroute(judged, Reroute::IfSilent, &mut put_to).await;
            loop {
                let rerouted = async {
                    let when = tokio::select! {
                        biased;
                        () = members.beyond(&mut changes) => Reroute::IfGone,
                        _ = silent.tick() => Reroute::IfSilent,
                    };
                    self.reroute(judged, when, &mut put_to).await;
                };
                tokio::select! {
                    biased;
                    end = &mut ending => match end {
                        Ok(end) => return end,
                        // The sender goes without a word only when the folds do: then the deadline ends the wait.
                        Err(_) => std::future::pending().await,
                    },
                    () = rerouted => {}
                }
            }
        };
        let left = judged.deadline.since(self.world.now());
        let waited = tokio::time::timeout(left, wait);
        let _span = span::await_answer(&judged.traceparent);
        waited.await.ok()
    }

    /// Puts the question to another stream. `put_to` are the streams that this verb has seen it put to, the latest last: each is
    /// given up for its silence once, so that a slow responder with several streams is not asked in circles.
    async fn reroute(&self, judged: &Judged, when: Reroute, put_to: &mut Vec<StreamId>) {
        let Some(query) = self.folds.peek(&judged.key, self.world.now()) else { return };
        let Phase::Open { responder, stream, .. } = query.phase else { return };
        let choose =
            |passed_over: &[StreamId]| streams::choose(&self.folds, &responder, judged.fingerprint, passed_over);
        let to = match when {
            Reroute::IfGone if self.folds.stream_is_open(&stream) => return,
            Reroute::IfGone => choose(put_to).or_else(|| choose(std::slice::from_ref(&stream))),
            Reroute::IfSilent if put_to.last() != Some(&stream) => {
                // Only now it is seen to wait there.
                put_to.push(stream);
                return;
            }
            Reroute::IfSilent => choose(put_to),
        };
        let Some(to) = to.filter(|to| *to != stream) else { return };
        let rerouted = airut_domain::query::Rerouted { key: judged.key.clone(), from: stream, to };
        let partition = partition_of(&self.ring, &judged.key);
        // If it does not count, another verb was faster or the answer has come.
        if let Err(Unproposed::Unwritten(refusal)) = self.propose(partition, rerouted, None, &judged.traceparent).await
        {
            tracing::warn!(reason = refusal.reason.code(), "a question could not be put to another stream");
        }
    }

    /// Ends a query whose deadline has passed.
    async fn give_up(&self, judged: &Judged, asked: Position) -> Refusal {
        for _ in 0..TRIES {
            if planted!(NeverEnded) {
                break;
            }
            match self.record_not_disclosed(judged, asked.offset, WhyNot::NoAnswer).await {
                Ok(_) => break,
                Err(Unproposed::Void(Void::Query(QueryVoid::TooEarly))) => tokio::time::sleep(TOO_EARLY).await,
                // The answer came at the last moment, after this caller's deadline.
                Err(Unproposed::Void(_)) => {
                    let late = self.record_not_disclosed(judged, asked.offset, WhyNot::Late).await;
                    if let Err(Unproposed::Unwritten(refusal)) = late {
                        return refusal;
                    }
                    break;
                }
                // Another gateway will end it, or this one once the log is back.
                Err(Unproposed::Unwritten(refusal)) => return refusal,
            }
        }
        Refusal::new(Reason::NoAnswerInTime)
    }

    async fn read_answer(&self, position: Position) -> Result<Answer, Failure> {
        let offsets = position.offset..position.offset + 1;
        let read = self.log.read(position.partition, offsets, usize::MAX).await;
        let stored = read.ok().and_then(|records| records.into_iter().next());
        let answer = stored.and_then(|stored| self.folds.answer_at(position, stored).ok());
        answer.ok_or(Failure::Refused(Refusal::new(Reason::LogUnavailable)))
    }

    /// The answer for this caller: for the one whose question it answers as it is, for another one recorded as theirs.
    async fn take(&self, judged: &Judged, answer: Answer, whose: Whose) -> Result<Disclosable, Failure> {
        match whose {
            Whose::Ours => Ok(Disclosable { answer, again: None }),
            Whose::Others => self.repeat(judged, answer).await,
        }
    }

    /// Records that the answer is disclosed again, judged anew.
    async fn repeat(&self, judged: &Judged, answer: Answer) -> Result<Disclosable, Failure> {
        let response = self.open(&answer).await?;
        if !still_granted(&judged.granted, response) {
            return Err(Refusal::new(Reason::GrantChanged).into());
        }
        if planted!(RepeatUnrecorded) {
            return Ok(Disclosable { answer, again: None });
        }
        let repeated =
            Repeated { key: judged.key.clone(), fingerprint: judged.fingerprint, access: judged.access.clone() };
        let partition = partition_of(&self.ring, &judged.key);
        let proposed = self.propose(partition, repeated, Some(&judged.body), &judged.traceparent).await;
        match proposed {
            Ok(repeated) => Ok(Disclosable { answer, again: Some(repeated) }),
            Err(Unproposed::Void(void)) => Err(Refusal::new(void.reason()).into()),
            Err(Unproposed::Unwritten(refusal)) => Err(Failure::Final(refusal)),
        }
    }

    /// Gives the answer to the caller, or records that it was not given.
    async fn disclose(&self, judged: &Judged, found: Disclosable, reply: Reply) -> Result<(), (Reply, Failure)> {
        let response = match self.with_receipt(judged, &found).await {
            Ok(response) => response,
            Err(failure) => return Err((reply, failure)),
        };
        let Err((why, reply)) = self.disclose_now(judged, response, reply) else { return Ok(()) };
        if why == WhyNot::CallerLeft && planted!(LeavingUnrecorded) {
            return Ok(());
        }
        let asked = found.answer.accepted.command().asked;
        let refusal = match self.record_not_disclosed(judged, asked, why).await {
            Err(Unproposed::Unwritten(refusal)) => refusal,
            Ok(_) | Err(Unproposed::Void(_)) => Refusal::new(not_disclosed(why)),
        };
        match reply {
            Some(reply) => Err((reply, Failure::Final(refusal))),
            None => Ok(()),
        }
    }

    /// The last checks and the disclosure, in one poll: nothing may come between them.
    fn disclose_now(
        &self,
        judged: &Judged,
        response: v1::QueryBenefitsResponse,
        reply: Reply,
    ) -> Result<(), (WhyNot, Option<Reply>)> {
        let _span = span::disclose(&judged.traceparent);
        let now = self.world.now();
        if now > judged.deadline {
            return Err((WhyNot::Late, Some(reply)));
        }
        if !self.folds.registry_is_current(now) && !planted!(StaleRegistry) {
            return Err((WhyNot::RegistryStale, Some(reply)));
        }
        let caller = self.folds.registry().current(judged.granted.asker());
        let granted = caller.and_then(|caller| {
            // The same version of the same contract on the same day grants the same: nothing to judge again.
            if caller.version() == judged.granted.contract_version() {
                return Some(());
            }
            let granted = judge(&caller, &judged.question, now.date()).ok()?;
            still_granted(&granted, response.clone()).then_some(())
        });
        if granted.is_none() && !planted!(RightNotRechecked) {
            return Err((WhyNot::RightLost, Some(reply)));
        }
        reply.send(Ok(response)).map_err(|_| (WhyNot::CallerLeft, None))?;
        metrics::counter!("airut_disclosures_total").increment(1);
        Ok(())
    }

    async fn with_receipt(&self, judged: &Judged, found: &Disclosable) -> Result<v1::QueryBenefitsResponse, Failure> {
        let answer = &found.answer.accepted;
        let mut response = self.open(&found.answer).await?;
        debug_assert!(found.again.as_ref().is_none_or(|again| again.command().key == answer.command().key));
        let payload_sha256 = Digest::of(&response.encode_to_vec());
        let parts = salt_parts(&judged.key, &judged.fingerprint);
        // The commitment may have been made under a key that is no longer the active one.
        let salt = self.ring.salt_of(answer.command().commitment, payload_sha256, &parts).ok_or_else(|| {
            tracing::error!(position = %answer.position(), "an answer is not what its record commits to");
            Failure::Final(Refusal::new(Reason::NotServing))
        })?;
        let statement = Statement {
            id: judged.key.query_id.to_string(),
            recipient: judged.key.asker.clone(),
            payload_sha256,
            accept_time: answer.stamp(),
            position: answer.position(),
            item: None,
        };
        let receipt =
            self.signer.sign(statement, salt).await.ok_or(Failure::Final(Refusal::new(Reason::NotServing)))?;
        response.receipt = Some(airut_wire::receipt(&receipt));
        Ok(response)
    }

    /// The answer's sealed body.
    async fn open(&self, answer: &Answer) -> Result<v1::QueryBenefitsResponse, Failure> {
        let body = self.writer.open_body(&answer.stored, &answer.header).await.map_err(|cause| cause.to_string());
        let response =
            body.and_then(|body| v1::QueryBenefitsResponse::decode(body.as_slice()).map_err(|cause| cause.to_string()));
        response.map_err(|cause| {
            tracing::error!(%cause, position = %answer.accepted.position(), "a recorded answer can not be opened");
            Failure::Refused(Refusal::new(Reason::LogUnavailable))
        })
    }

    async fn record_not_disclosed(
        &self,
        judged: &Judged,
        asked: u64,
        why: WhyNot,
    ) -> Result<Accepted<NotDisclosed>, Unproposed> {
        let partition = partition_of(&self.ring, &judged.key);
        let not = NotDisclosed { key: judged.key.clone(), asked, why };
        self.propose(partition, not, None, &judged.traceparent).await
    }
}

/// What the salt of the commitment to a query's answer is made from: the same for every receipt of it.
pub(super) fn salt_parts<'a>(key: &'a QueryKey, fingerprint: &'a Digest) -> [&'a [u8]; 3] {
    [key.asker.as_str().as_bytes(), key.query_id.as_str().as_bytes(), &fingerprint.0]
}

/// Who asked: this verb, or another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Others,
}

#[derive(Clone, Copy)]
enum Reroute {
    IfGone,
    IfSilent,
}

enum Stand {
    New,
    Open(Position),
    Answered(Position),
    Unanswered(WhyNot),
}

/// Where the query stands for this caller. Refuses early only what no later record can undo.
fn stand(query: Option<&Query>, judged: &Judged, whose: Whose, now: Timestamp) -> Result<Stand, Refusal> {
    let Some(query) = query else { return Ok(Stand::New) };
    if query.fingerprint != judged.fingerprint {
        return Err(Refusal::new(Reason::QueryIdReused));
    }
    match &query.phase {
        Phase::Open { .. } => Ok(Stand::Open(query.asked)),
        Phase::Unanswered { why, .. } => Ok(Stand::Unanswered(*why)),
        Phase::Answered { at, .. } if whose == Whose::Others && now.since(*at) > SERVED => {
            Err(Refusal::new(Reason::QueryIdSpent))
        }
        Phase::Answered { answer, .. } => Ok(Stand::Answered(*answer)),
    }
}

/// Whether the grant shows all of a recorded answer.
fn still_granted(granted: &Granted, response: v1::QueryBenefitsResponse) -> bool {
    let Ok(matters) = airut_wire::answer_from(response.matters) else { return false };
    minimise(granted.scopes(), matters.clone()) == matters
}

/// What a caller is told of a query that was not disclosed.
const fn not_disclosed(why: WhyNot) -> Reason {
    match why {
        WhyNot::NoAnswer | WhyNot::Late | WhyNot::CallerLeft => Reason::NoAnswerInTime,
        WhyNot::RightLost => Reason::GrantChanged,
        WhyNot::ResponderFailed => Reason::ResponderFailed,
        WhyNot::RegistryStale => Reason::RegistryStale,
    }
}
