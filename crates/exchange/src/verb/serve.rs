//! `QueryService.Serve`: put questions to a responder, minimise and record its answers.
//!
//! Nothing of an answer that may not be seen enters the log: it is minimised before it is recorded, by the scopes that the
//! question's record names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use airut_domain::{
    id::StreamId,
    keys::{Digest, commitment},
    member::{Event, StreamKind, StreamOpened, Types},
    minimise::minimise,
    partition::{Partition, Position, Topic},
    query::{Answered, NotDisclosed, QueryKey, WhyNot},
    record::{Header, Kind, Stored},
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
};
use airut_telemetry::span;
use airut_wire::v1::{self, serve_request::Message as From, serve_response as to};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    fold::{Narrowed, Push, narrowed},
    gateway::{Gateway, MOST_IN_FLIGHT, Unproposed},
    planted::planted,
    verb::{partition_of, query_benefits::salt_parts},
};

/// How often unanswered questions are looked through, and how long after their deadline they keep their place.
const LET_GO: Duration = Duration::from_secs(1);

/// A responder that has opened a call has this long to say so in it.
const OPENING: Duration = Duration::from_secs(10);

/// How often the end of a stream is tried to be recorded when the log is down.
const CLOSING_TRIES: u32 = 10;

const METHOD: &str = "/airut.v1.QueryService/Serve";

/// A responder's stream.
#[derive(Debug)]
pub struct Answering {
    /// Who answers.
    pub responder: VerifiedPartner,
    /// What they say; it ends when they leave.
    pub from: mpsc::Receiver<v1::ServeRequest>,
    /// What they are told.
    pub to: mpsc::Sender<Result<v1::ServeResponse, Refusal>>,
}

/// A question that waits for its answer.
struct Outstanding {
    key: QueryKey,
    /// The record that asked.
    asked: Position,
    request: v1::QueryBenefitsRequest,
    narrowed: Narrowed,
    traceparent: String,
    /// The stream's credit that it uses.
    permit: OwnedSemaphorePermit,
}

struct Stream {
    id: StreamId,
    gateway: Gateway,
    credit: Arc<Semaphore>,
    questions: mpsc::Receiver<Push>,
    outstanding: BTreeMap<String, Outstanding>,
}

impl Gateway {
    /// Serves a responder's stream until it ends. What was asked and not answered is left to other streams.
    pub async fn serve(&self, mut answering: Answering) {
        match self.open_stream(&mut answering).await {
            Ok(mut stream) => {
                metrics::gauge!("airut_streams_open", "kind" => "answers").increment(1);
                let end = stream.run(&mut answering).await;
                metrics::gauge!("airut_streams_open", "kind" => "answers").decrement(1);
                self.close_stream(stream.id).await;
                if let Err(refusal) = end {
                    self.refuse_stream(&answering, refusal).await;
                }
            }
            Err(refusal) => self.refuse_stream(&answering, refusal).await,
        }
    }

    async fn refuse_stream(&self, answering: &Answering, refusal: Refusal) {
        let refusal = self.reception.refuse(answering.responder.id(), METHOD, refusal).await;
        // A responder that has left needs no refusal; it is on record.
        drop(answering.to.try_send(Err(refusal)));
    }

    async fn open_stream(&self, answering: &mut Answering) -> Result<Stream, Refusal> {
        let responder = answering.responder.id();
        let named = |partner: &airut_domain::registry::Entry| {
            partner.partner.contracts.iter().any(|contract| contract.responder == *responder)
        };
        if !self.folds.registry().entries().any(named) {
            return Err(Refusal::new(Reason::NotAResponder));
        }
        let first = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Refusal::new(Reason::NotServing)),
            first = tokio::time::timeout(OPENING, answering.from.recv()) => first,
        };
        let Ok(Some(first)) = first else { return Err(Refusal::new(Reason::ProtocolViolation)) };
        let credit = opening(&first)?;
        let id: StreamId = format!("{}/{}", self.incarnation, hex(&self.world.random::<6>()))
            .parse()
            .map_err(|_| Refusal::new(Reason::NotServing))?;
        let (sender, questions) = mpsc::channel(MOST_IN_FLIGHT);
        // Before it is announced: a question may come as soon as others know of the stream.
        let opened = StreamOpened {
            stream: id.clone(),
            holder: self.incarnation.clone(),
            partner: responder.clone(),
            kind: StreamKind::Answers,
            types: Types::All,
        };
        self.folds.attach(opened.clone(), Some(sender));
        let opened = Event::StreamOpened(opened);
        if let Err(unproposed) = self.propose(Partition::only(Topic::Members), opened, None, "").await {
            self.folds.detach(&id);
            return Err(match unproposed {
                Unproposed::Unwritten(refusal) => refusal,
                Unproposed::Void(_) => Refusal::new(Reason::OutcomeUnknown),
            });
        }
        let credit = Arc::new(Semaphore::new(credit));
        Ok(Stream { id, gateway: self.clone(), credit, questions, outstanding: BTreeMap::new() })
    }

    async fn close_stream(&self, stream: StreamId) {
        self.folds.detach(&stream);
        for _ in 0..CLOSING_TRIES {
            let closed = Event::StreamClosed(stream.clone());
            let proposed = self.propose(Partition::only(Topic::Members), closed, None, "").await;
            // Where no fold will ever say so, the others learn of it with the gateway's end.
            if proposed.is_ok() || self.folds.are_over() {
                return;
            }
            tokio::time::sleep(self.world.jittered(LET_GO)).await;
        }
    }

    /// Minimises the answer and records exactly what is to be disclosed. The fold passes it on from there.
    async fn record_answer(self, stream: StreamId, question: Outstanding, answer: v1::serve_request::Answer) {
        let Outstanding { key, asked, request, narrowed, traceparent, permit } = question;
        let partition = partition_of(&self.ring, &key);
        let span = span::minimise(&traceparent);
        let minimised = self.minimised(&key, &request, &narrowed, answer);
        drop(span);
        let recorded = match minimised {
            Some((body, commitment)) => {
                let withheld = u32::try_from(narrowed.withheld.len()).unwrap_or(u32::MAX);
                let answered = Answered { key, asked: asked.offset, stream, commitment, withheld };
                let record = self.propose(partition, answered, Some(&body), &traceparent);
                record.await.map(drop)
            }
            // What a stream that was given up can not answer another one still may.
            None if !self.folds.waits_for(&key, asked, &stream, self.world.now()) => Ok(()),
            None => {
                let not = NotDisclosed { key, asked: asked.offset, why: WhyNot::ResponderFailed };
                self.propose(partition, not, None, &traceparent).await.map(drop)
            }
        };
        // Void: the answer came too late or through a stream that was given up. Unwritten: the query's owner ends it.
        if let Err(Unproposed::Unwritten(refusal)) = recorded {
            tracing::warn!(reason = refusal.reason.code(), "an answer could not be recorded");
        }
        drop(permit);
    }

    fn minimised(
        &self,
        key: &QueryKey,
        request: &v1::QueryBenefitsRequest,
        narrowed: &Narrowed,
        answer: v1::serve_request::Answer,
    ) -> Option<(Vec<u8>, Digest)> {
        let matters = match answer.result? {
            v1::serve_request::answer::Result::Matters(matters) => matters.matters,
            v1::serve_request::answer::Result::Failure(_) => return None,
        };
        let matters = match airut_wire::answer_from(matters) {
            Ok(matters) => matters,
            Err(fault) => {
                tracing::warn!(%fault, "a responder's answer can not be used");
                return None;
            }
        };
        let told = matters.len();
        let matters = if planted!(NotMinimised) { matters } else { minimise(&narrowed.scopes, matters) };
        metrics::counter!("airut_matters_minimised_total").increment((told - matters.len()) as u64);
        let body = airut_wire::disclosure(&key.query_id, &matters, &narrowed.withheld).encode_to_vec();
        // The question as it was recorded is the one that was judged, so it can be read again.
        let question = airut_wire::question(request).ok()?;
        let fingerprint = self.ring.fingerprint(&question.fingerprint_text());
        let salt = self.ring.commitment_salt(&salt_parts(key, &fingerprint));
        let commitment = commitment(&salt, Digest::of(&body));
        Some((body, commitment))
    }
}

impl Stream {
    async fn run(&mut self, answering: &mut Answering) -> Result<(), Refusal> {
        let opened = to::Message::Opened(to::Opened { stream_id: self.id.to_string() });
        if answering.to.send(Ok(v1::ServeResponse { message: Some(opened) })).await.is_err() {
            return Ok(());
        }
        let stop = self.gateway.stop.clone();
        let mut let_go = tokio::time::interval(LET_GO);
        loop {
            let credit = Arc::clone(&self.credit);
            // A place to put it comes first, so that the loop never waits for a responder that does not listen.
            let next_question = async {
                let permit = credit.acquire_owned().await.expect("never closed");
                let place = answering.to.reserve().await.ok()?;
                Some((permit, place, self.questions.recv().await?))
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                said = answering.from.recv() => match said {
                    Some(said) => self.take_answer(said)?,
                    None => return Ok(()),
                },
                _ = let_go.tick() => self.let_go(),
                question = next_question => {
                    let Some((permit, place, push)) = question else { return Ok(()) };
                    self.responder_is_active(&answering.responder)?;
                    if let Some(question) = self.question(push, permit).await {
                        place.send(Ok(question));
                    }
                }
            }
        }
    }

    fn take_answer(&mut self, said: v1::ServeRequest) -> Result<(), Refusal> {
        let Some(From::Answer(answer)) = said.message else { return Err(Refusal::new(Reason::ProtocolViolation)) };
        // An answer to nothing: too late, or to a question of an earlier stream.
        let Some(question) = self.outstanding.remove(&answer.question_id) else { return Ok(()) };
        let gateway = self.gateway.clone();
        self.gateway.spawn(gateway.record_answer(self.id.clone(), question, answer));
        Ok(())
    }

    /// Nothing is put to a partner that was suspended, even before its connection is cut.
    fn responder_is_active(&self, responder: &VerifiedPartner) -> Result<(), Refusal> {
        let active = self.gateway.folds.registry().current(responder.id());
        active.map(drop).ok_or(Refusal::new(Reason::PartnerSuspended))
    }

    /// Forgets the questions whose time is up, so that their credit is free again.
    fn let_go(&mut self) {
        let now = self.gateway.world.now();
        self.outstanding.retain(|_, question| now.since(question.narrowed.deadline) < LET_GO);
    }

    /// The question as it is put to the responder; `None` when its time is up or its record can not be read.
    async fn question(&mut self, push: Push, permit: OwnedSemaphorePermit) -> Option<v1::ServeResponse> {
        let (stored, header) = match push.fresh {
            Some(fresh) => fresh,
            None => self.read(push.asked).await?,
        };
        let body = self.gateway.writer.open_body(&stored, &header).await.map_err(|cause| {
            tracing::error!(%cause, position = %push.asked, "a recorded question can not be opened");
        });
        let request = v1::QueryBenefitsRequest::decode(body.ok()?.as_slice()).ok()?;
        debug_assert!(matches!(header.kind, Kind::Query(_)));
        let narrowed = narrowed(&header)?;
        if self.gateway.world.now() > narrowed.deadline {
            return None;
        }
        let question_id = push.asked.to_string();
        let question = airut_wire::asked_question(
            question_id.clone(),
            push.key.asker.to_string(),
            request.clone(),
            airut_wire::scopes(&narrowed.scopes),
            narrowed.deadline,
            stored.traceparent.clone(),
        );
        let traceparent = stored.traceparent.clone();
        let outstanding = Outstanding { key: push.key, asked: push.asked, request, narrowed, traceparent, permit };
        self.outstanding.insert(question_id, outstanding);
        Some(question)
    }

    async fn read(&self, asked: Position) -> Option<(Arc<Stored>, Arc<Header>)> {
        let offsets = asked.offset..asked.offset + 1;
        let read = self.gateway.log.read(asked.partition, offsets, usize::MAX).await;
        let stored = read.ok()?.into_iter().next()?;
        let header = airut_wire::record::decode(&stored.header).ok()?;
        Some((stored, Arc::new(header)))
    }
}

fn opening(first: &v1::ServeRequest) -> Result<usize, Refusal> {
    let Some(From::Open(open)) = &first.message else { return Err(Refusal::new(Reason::ProtocolViolation)) };
    let credit = usize::try_from(open.max_in_flight).unwrap_or(0);
    if !(1..=MOST_IN_FLIGHT).contains(&credit) {
        let fault = format!("must be 1 to {MOST_IN_FLIGHT}");
        return Err(Refusal::fields(vec![Violation { field: "open.max_in_flight".into(), fault }]));
    }
    Ok(credit)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
