//! Who waits for what a record means, and how they are told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use airut_domain::{
    id::{Incarnation, PartnerId, StreamId},
    partition::Position,
    query::{Event, Phase, QueryKey},
    record::{Header, Kind, Stored},
};
use tokio::sync::oneshot;

use super::{
    Attached, Changes, End, KEPT_VERDICTS, Push, accepted_answer,
    state::{Applied, State, Word},
};

/// The state, and who waits for its changes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: State,
    /// Who waits for the word on an own record.
    waiting: BTreeMap<Position, oneshot::Sender<Word>>,
    /// Words on own records that nobody has asked for yet, and the order they came in.
    decided: BTreeMap<Position, Word>,
    decided_order: VecDeque<Position>,
    pub(super) ending: BTreeMap<QueryKey, Vec<oneshot::Sender<End>>>,
    pub(super) streams: BTreeMap<StreamId, Attached>,
    /// No record is taken in any more.
    over: bool,
    /// Word of messages that may be offered, for those who collect them here.
    pub(super) collectors: BTreeMap<PartnerId, Arc<Changes>>,
    /// Word of information requests that have changed, for those who watch them here.
    pub(super) watchers: BTreeMap<PartnerId, Arc<Changes>>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            waiting: BTreeMap::new(),
            decided: BTreeMap::new(),
            decided_order: VecDeque::new(),
            ending: BTreeMap::new(),
            streams: BTreeMap::new(),
            over: false,
            collectors: BTreeMap::new(),
            watchers: BTreeMap::new(),
        }
    }

    /// No record will be taken in any more.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.waiting.clear();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn tell(&mut self, own: &Incarnation, applied: Applied, stored: &Arc<Stored>) {
        let Applied { header, word, phase, woken, concerned } = applied;
        let own = header.author == *own;
        // Of the gateway's own records only: what others wrote is traced there, and what an earlier life wrote was.
        let _span = own.then(|| airut_telemetry::span::process(stored.position, &stored.traceparent));
        let counts = matches!(word, Word::Whole(Ok(())));
        if own {
            self.tell_word(stored.position, word);
        }
        if let (Kind::Query(event), true) = (&header.kind, counts) {
            self.tell_query(event, &header, phase, stored);
        }
        wake(&self.collectors, &woken);
        wake(&self.watchers, &concerned);
    }

    fn tell_word(&mut self, position: Position, word: Word) {
        match self.waiting.remove(&position) {
            // Whoever has stopped waiting does not need to know.
            Some(waiting) => drop(waiting.send(word)),
            None => {
                self.decided.insert(position, word);
                self.decided_order.push_back(position);
                if self.decided_order.len() > KEPT_VERDICTS {
                    let oldest = self.decided_order.pop_front();
                    oldest.map(|oldest| self.decided.remove(&oldest));
                }
            }
        }
    }

    pub(super) fn word_or_wait(&mut self, position: Position) -> Result<Word, oneshot::Receiver<Word>> {
        if let Some(word) = self.decided.remove(&position) {
            return Ok(word);
        }
        let (tell, told) = oneshot::channel();
        if !self.over {
            self.waiting.insert(position, tell);
        }
        Err(told)
    }

    fn tell_query(&mut self, event: &Event, header: &Arc<Header>, phase: Option<Phase>, stored: &Arc<Stored>) {
        let key = event.key();
        match (event, phase) {
            (Event::Asked(asked), _) => {
                self.push(&asked.stream, key, stored.position, Some((Arc::clone(stored), Arc::clone(header))));
            }
            (Event::Rerouted(rerouted), _) => {
                // The query is in the state: it has just been applied.
                if let Ok(Some(query)) = self.state.query(key, stored.stamp) {
                    self.push(&rerouted.to, key, query.asked, None);
                }
            }
            (Event::Answered(answered), _) => {
                let answer = accepted_answer(answered, header, stored);
                self.tell_end(key, &End::Answered(Box::new(answer)));
            }
            (Event::NotDisclosed(not), Some(_)) => self.tell_end(key, &End::Unanswered(not.why)),
            (Event::NotDisclosed(_), None) | (Event::Repeated(_), _) => {}
        }
    }

    fn tell_end(&mut self, key: &QueryKey, end: &End) {
        for waiting in self.ending.remove(key).unwrap_or_default() {
            drop(waiting.send(end.clone()));
        }
    }

    fn push(&mut self, stream: &StreamId, key: &QueryKey, asked: Position, fresh: Option<(Arc<Stored>, Arc<Header>)>) {
        if let Some(Attached { questions, .. }) = self.streams.get(stream) {
            // A stream that is full or gone leaves the question to its deadline, or to another stream.
            if questions
                .as_ref()
                .is_some_and(|questions| questions.try_send(Push { key: key.clone(), asked, fresh }).is_err())
            {
                metrics::counter!("airut_questions_dropped_total").increment(1);
            }
        }
    }
}

fn wake(waiting: &BTreeMap<PartnerId, Arc<Changes>>, partners: &BTreeSet<PartnerId>) {
    for changes in partners.iter().filter_map(|partner| waiting.get(partner)) {
        changes.add();
    }
}
