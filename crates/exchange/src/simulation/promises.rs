//! What the exchange promises, by rules of this file's own: naive, and apart from those that the exchange goes by.
//!
//! - Whatever a caller is given was recorded before, as an answer that counts, and is that record's content to the byte; the
//!   receipt verifies, names that record, and its salt opens the record's commitment.
//! - It lies within a right that was in force at some time of the last ten seconds, and it is what is known of that person.
//! - All that is given for one id of one partner is the same, and so are the statements of the receipts.
//! - Nobody is given anything without a record for it: one answer for the one who asked, one record for each repeat.
//! - No answer on record, counted or not, goes beyond what its question was narrowed to; and that not beyond the contract.
//! - No record shows an identity code outside of its sealed body.
//! - Everything that was asked ends. On a log that loses nothing, everything recorded as disclosed was given, or is recorded as
//!   not disclosed.

use std::{collections::BTreeMap, fmt};

use airut_domain::{
    keys::Digest,
    matter::Category,
    partition::{Partition, Position, Topic},
    partner::{Grant, Partner, State},
    query::{self, Event, WhyNot},
    question::Scope,
    receipt::Statement,
    record::{Header, Kind, Stored},
    time::{Date, Timestamp, format_date},
};
use airut_log::Writer;
use airut_wire::v1::{self, matter::Content};
use prost::Message;

use super::{players::truth, run::Weather};
use crate::support::{Ground, opened, person, statement, verify};

/// A gateway acts on a registry that is at most this old.
pub(super) const GRACE_MS: i64 = 10_000;

/// Partner and query id.
type Key = (String, String);

pub(super) struct Promises {
    ground: Ground,
    reader: Writer,
    broken: Vec<String>,
    /// How many records the log had when it was read last, and how far each partition is read.
    count: u64,
    read: BTreeMap<Partition, u64>,
    queries: BTreeMap<Key, Vec<Asking>>,
    /// What every question on record was narrowed to, whether it counted or not.
    narrowed: BTreeMap<Position, Vec<Scope>>,
    tallies: BTreeMap<Key, Tally>,
    given: BTreeMap<Key, Given>,
    definitions: BTreeMap<String, Vec<(Timestamp, Partner)>>,
    deeds: Deeds,
}

/// What has happened, and how often.
pub(super) type Deeds = BTreeMap<String, u64>;

/// A question that counted.
struct Asking {
    at: Position,
    fingerprint: Digest,
    stream: String,
    deadline: Timestamp,
    end: Option<End>,
}

enum End {
    Answered(Box<(Stored, Header)>, Vec<u8>),
    Unanswered,
}

#[derive(Default)]
struct Tally {
    given: u64,
    repeated: u64,
    not_disclosed: u64,
}

#[derive(Clone, PartialEq)]
struct Given {
    content: Vec<u8>,
    statement: Statement,
}

impl Promises {
    pub(super) fn new(ground: Ground) -> Self {
        Self {
            reader: ground.writer("reader"),
            ground,
            broken: Vec::new(),
            count: 0,
            read: BTreeMap::new(),
            queries: BTreeMap::new(),
            narrowed: BTreeMap::new(),
            tallies: BTreeMap::new(),
            given: BTreeMap::new(),
            definitions: BTreeMap::new(),
            deeds: Deeds::new(),
        }
    }

    pub(super) fn broken(&mut self, how: impl fmt::Display) {
        let now = self.ground.now();
        self.broken.push(format!("{now}: {how}"));
    }

    /// Something has happened.
    pub(super) fn done(&mut self, what: impl Into<String>) {
        *self.deeds.entry(what.into()).or_default() += 1;
    }

    pub(super) fn deeds(&self) -> &Deeds {
        &self.deeds
    }

    pub(super) fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// Reads what has come into the log.
    pub(super) fn read(&mut self) {
        let count = self.ground.log().stats().records;
        if std::mem::replace(&mut self.count, count) == count {
            return;
        }
        let mut records = self.ground.simulation.records();
        records.retain(|stored| {
            let next = self.read.entry(stored.position.partition).or_default();
            let is_new = stored.position.offset == *next;
            *next += u64::from(is_new);
            is_new
        });
        // Definitions first: who asked had read them.
        records.sort_by_key(|stored| stored.position.partition.topic != Topic::Partners);
        records.iter().for_each(|stored| self.read_record(stored));
    }

    fn read_record(&mut self, stored: &Stored) {
        if shows_identity(stored) {
            self.broken(format_args!("{} shows an identity code", stored.position));
        }
        let Ok(header) = airut_wire::record::decode(&stored.header) else {
            return self.broken(format_args!("{} can not be read", stored.position));
        };
        match &header.kind {
            Kind::Message(_) => {}
            Kind::Query(event) => self.read_query(stored, &header, event),
            Kind::Partner(applied) => {
                self.done("right changed");
                let versions = self.definitions.entry(applied.partner.id.to_string()).or_default();
                if versions.len() + 1 == usize::try_from(applied.version).unwrap() {
                    versions.push((stored.stamp, applied.partner.clone()));
                }
            }
            Kind::Refusal(refused) => self.done(format!("refused ({})", refused.reason)),
            Kind::Document(_) | Kind::Request(_) | Kind::Member(_) | Kind::Order(_) => {}
        }
    }

    fn read_query(&mut self, stored: &Stored, header: &Header, event: &Event) {
        let key = (event.key().asker.to_string(), event.key().query_id.to_string());
        match event {
            Event::NotDisclosed(not) => self.done(format!("not disclosed ({:?})", not.why)),
            Event::Asked(_) | Event::Rerouted(_) | Event::Answered(_) | Event::Repeated(_) => {
                self.done(header.kind.name());
            }
        }
        match event {
            Event::Asked(asked) => self.read_asked(stored, key, asked),
            Event::Answered(answered) => self.read_answered(stored, header, key, answered),
            Event::Rerouted(rerouted) => {
                if let Some(asking) = self.open(&key).filter(|asking| asking.stream == rerouted.from.as_str()) {
                    asking.stream = rerouted.to.to_string();
                }
            }
            Event::NotDisclosed(not) => {
                let Some(asking) = self.queries.get_mut(&key).and_then(|askings| askings.last_mut()) else { return };
                let too_early = not.why == WhyNot::NoAnswer && stored.stamp < asking.deadline;
                match &asking.end {
                    _ if asking.at.offset != not.asked => {}
                    None if !too_early => asking.end = Some(End::Unanswered),
                    Some(End::Answered(..)) if not.why != WhyNot::NoAnswer => {
                        self.tallies.entry(key).or_default().not_disclosed += 1;
                    }
                    None | Some(End::Answered(..) | End::Unanswered) => {}
                }
            }
            Event::Repeated(repeated) => {
                let asking = self.queries.get(&key).and_then(|askings| askings.last());
                let answered = asking.is_some_and(|asking| {
                    asking.fingerprint == repeated.fingerprint && matches!(asking.end, Some(End::Answered(..)))
                });
                self.tallies.entry(key).or_default().repeated += u64::from(answered);
            }
        }
    }

    fn read_asked(&mut self, stored: &Stored, key: Key, asked: &query::Asked) {
        self.narrowed.insert(stored.position, asked.scopes.clone());
        let versions = self.definitions.get(&key.0);
        let version = usize::try_from(asked.access.contract_version).unwrap();
        let definition = versions.and_then(|versions| versions.get(version - 1)).map(|(_, partner)| partner.clone());
        let today = self.ground.now().date();
        let grants = definition.map(|partner| grants(&partner, &asked.access)).unwrap_or_default();
        if asked.scopes.iter().any(|scope| !grants.iter().any(|grant| contains(grant, scope, today))) {
            self.broken(format_args!("{} asks for more than the contract grants", stored.position));
        }
        let askings = self.queries.entry(key).or_default();
        let counts = askings
            .last()
            .is_none_or(|last| matches!(last.end, Some(End::Unanswered)) && last.fingerprint == asked.fingerprint);
        let deed = match (counts, askings.is_empty()) {
            (true, true) => "asked first",
            (true, false) => "asked anew",
            (false, _) => "asked in vain",
        };
        if counts {
            askings.push(Asking {
                at: stored.position,
                fingerprint: asked.fingerprint,
                stream: asked.stream.to_string(),
                deadline: asked.deadline,
                end: None,
            });
        }
        self.done(deed);
    }

    fn read_answered(&mut self, stored: &Stored, header: &Header, key: Key, answered: &query::Answered) {
        let Some(content) = opened(&self.reader, stored, header) else {
            return self.broken(format_args!("{} can not be opened", stored.position));
        };
        let response = v1::QueryBenefitsResponse::decode(content.as_slice()).unwrap_or_default();
        let asked = Position { offset: answered.asked, ..stored.position };
        let scopes = self.narrowed.get(&asked).cloned().unwrap_or_default();
        if response.matters.iter().any(|matter| !scopes.iter().any(|scope| lies_within(matter, scope))) {
            self.broken(format_args!("{} goes beyond its question", stored.position));
        }
        let Some(asking) = self.open(&key) else { return };
        if asking.at == asked && asking.stream == answered.stream.as_str() {
            asking.end = Some(End::Answered(Box::new((stored.clone(), header.clone())), content));
        }
    }

    fn open(&mut self, key: &Key) -> Option<&mut Asking> {
        self.queries.get_mut(key)?.last_mut().filter(|asking| asking.end.is_none())
    }

    /// A caller was given this just now.
    pub(super) fn given(
        &mut self,
        incarnation: &str,
        partner: &str,
        request: &v1::QueryBenefitsRequest,
        response: &v1::QueryBenefitsResponse,
    ) {
        self.read();
        let key = (partner.to_owned(), request.query_id.clone());
        let content = v1::QueryBenefitsResponse { receipt: None, ..response.clone() }.encode_to_vec();
        let asking = self.queries.get(&key).and_then(|askings| askings.last());
        match asking.and_then(|asking| asking.end.as_ref()) {
            Some(End::Answered(record, recorded)) if *recorded == content => {
                if let Err(fault) = verify(response, &record.0, &record.1, incarnation) {
                    self.broken(format_args!("{key:?}: {fault}"));
                }
            }
            Some(End::Answered(..)) => self.broken(format_args!("{key:?}: given is not what is on record")),
            Some(End::Unanswered) | None => self.broken(format_args!("{key:?}: given before it was on record")),
        }
        if let Err(how) = self.within_right(partner, request, response) {
            self.broken(format_args!("{key:?}: {how}"));
        }
        let given = Given { content, statement: statement(response) };
        if *self.given.entry(key.clone()).or_insert_with(|| given.clone()) != given {
            self.broken(format_args!("{key:?}: given twice, and not the same"));
        }
        self.done("given");
        let tally = self.tallies.entry(key.clone()).or_default();
        tally.given += 1;
        if tally.given > 1 + tally.repeated {
            self.broken(format_args!("{key:?}: given again without a record of it"));
        }
    }

    /// Whether it may be shown, under some definition that was in force lately, and is true.
    fn within_right(
        &self,
        partner: &str,
        request: &v1::QueryBenefitsRequest,
        response: &v1::QueryBenefitsResponse,
    ) -> Result<(), String> {
        let now = self.ground.now();
        let versions = self.definitions.get(partner).ok_or("a partner without a definition")?;
        let ended = |version: usize| versions.get(version + 1).map(|(stamp, _)| stamp.as_millis());
        let lately = versions
            .iter()
            .enumerate()
            .filter(|(version, _)| ended(*version).is_none_or(|ended| ended >= now.as_millis() - GRACE_MS));
        let mut rights = lately.map(|(_, (_, definition))| definition);
        if !rights.any(|definition| allows(definition, request, response, now.date())) {
            return Err("given beyond the right".to_owned());
        }
        let known = truth(&request.subject_id);
        for matter in &response.matters {
            let Some(same) = known.iter().find(|known| known.matter_id == matter.matter_id) else {
                return Err(format!("{} is nothing that is known of this person", matter.matter_id));
            };
            // An insurance is cut to what may be seen.
            if same != matter && !matches!(matter.content, Some(Content::Insurance(_))) {
                return Err(format!("{} is not as it is known", matter.matter_id));
            }
        }
        Ok(())
    }

    /// What must hold when everything has ended.
    pub(super) fn at_the_end(&mut self, weather: Weather) {
        self.read();
        let mut broken = Vec::new();
        for (key, askings) in &self.queries {
            if askings.iter().any(|asking| asking.end.is_none()) {
                broken.push(format!("{key:?}: never ended"));
            }
            let answered = askings.iter().any(|asking| matches!(asking.end, Some(End::Answered(..))));
            let none = Tally::default();
            let tally = self.tallies.get(key).unwrap_or(&none);
            let Tally { given, repeated, not_disclosed } = tally;
            if weather == Weather::Fair && given + not_disclosed != u64::from(answered) + repeated {
                broken.push(format!(
                    "{key:?}: {} were to be given, {given} were, and {not_disclosed} recorded as not",
                    u64::from(answered) + repeated
                ));
            }
        }
        broken.into_iter().for_each(|how| self.broken(how));
    }
}

/// Whether a record shows what the codes of all persons here begin with.
pub(super) fn shows_identity(stored: &Stored) -> bool {
    let code = &person(0).as_str().as_bytes()[..9].to_owned();
    let shows = |bytes: &[u8]| bytes.windows(code.len()).any(|window| window[0] == code[0] && window == code);
    shows(&stored.header) || shows(&stored.body) || shows(stored.traceparent.as_bytes())
}

/// The grants of the contract that a question names.
fn grants(partner: &Partner, access: &query::Access) -> Vec<Grant> {
    let contracts = partner.contracts.iter();
    let named = contracts.filter(|c| c.purpose == access.purpose && c.legal_basis == access.legal_basis);
    named.flat_map(|contract| contract.grants.clone()).collect()
}

fn contains(grant: &Grant, scope: &Scope, today: Date) -> bool {
    let (from, to) = window(grant, today);
    grant.category == scope.category
        && scope.benefits.iter().all(|benefit| grant.benefits.contains(benefit))
        && from <= format_date(scope.period.from())
        && format_date(scope.period.to()) <= to
}

/// First and last day that may be seen, as text: days as text follow each other as days do. Every run is on a day that all months
/// have.
fn window(grant: &Grant, today: Date) -> (String, String) {
    let shift = |months: i32| {
        let index = today.year() * 12 + i32::from(u8::from(today.month())) - 1 + months;
        format!("{:04}-{:02}-{:02}", index.div_euclid(12), index.rem_euclid(12) + 1, today.day())
    };
    (shift(-i32::from(grant.months_back)), shift(i32::from(grant.months_ahead)))
}

/// Whether a definition lets the asker see all of it.
fn allows(
    definition: &Partner,
    request: &v1::QueryBenefitsRequest,
    response: &v1::QueryBenefitsResponse,
    today: Date,
) -> bool {
    let context = request.context.clone().unwrap_or_default();
    let contracts = definition.contracts.iter();
    let mut fitting = contracts.filter(|contract| {
        contract.purpose.as_str() == context.purpose && contract.legal_basis.as_str() == context.legal_basis
    });
    definition.state == State::Active
        && fitting.any(|contract| {
            response.matters.iter().all(|matter| {
                let asked = request.categories.is_empty() || request.categories.contains(&category(matter).1);
                asked && contract.grants.iter().any(|grant| may_see(grant, request.period.as_ref(), matter, today))
            })
        })
}

fn may_see(grant: &Grant, asked: Option<&v1::Period>, matter: &v1::Matter, today: Date) -> bool {
    let (mut from, mut to) = window(grant, today);
    if let Some(asked) = asked {
        from = from.max(asked.start_date.clone());
        to = to.min(asked.end_date.clone());
    }
    grant.category == category(matter).0
        && grant.benefits.iter().any(|benefit| benefit.as_str() == matter.benefit)
        && happens_within(matter, &from, &to)
}

fn lies_within(matter: &v1::Matter, scope: &Scope) -> bool {
    scope.category == category(matter).0
        && scope.benefits.iter().any(|benefit| benefit.as_str() == matter.benefit)
        && happens_within(matter, &format_date(scope.period.from()), &format_date(scope.period.to()))
}

fn happens_within(matter: &v1::Matter, from: &str, to: &str) -> bool {
    let inside = |day: &str| from <= day && day <= to;
    match matter.content.as_ref().expect("only what is known is answered") {
        Content::Pending(pending) => inside(&pending.filed_date),
        Content::Decision(decision) => inside(&decision.decided_date),
        Content::Payment(payment) => inside(&payment.due_date),
        Content::Recovery(recovery) => inside(&recovery.decided_date),
        Content::Insurance(insurance) => {
            inside(&insurance.start_date) && (insurance.end_date.is_empty() || inside(&insurance.end_date))
        }
        Content::MedicineCostCap(_) => false,
    }
}

fn category(matter: &v1::Matter) -> (Category, i32) {
    let (category, number) = match matter.content.as_ref().expect("only what is known is answered") {
        Content::Pending(_) => (Category::Pending, v1::Category::Pending),
        Content::Decision(_) => (Category::Decision, v1::Category::Decision),
        Content::Payment(_) => (Category::Payment, v1::Category::Payment),
        Content::Insurance(_) => (Category::Insurance, v1::Category::Insurance),
        Content::Recovery(_) => (Category::Recovery, v1::Category::Recovery),
        Content::MedicineCostCap(_) => (Category::MedicineCostCap, v1::Category::MedicineCostCap),
    };
    (category, number.into())
}
