//! What the tests share: an exchange of one or several gateways on one simulated log, and those who ask and answer.
//!
//! For a `current_thread` runtime with paused time. Nothing in here stands in for a part of the exchange but the log, which is
//! simulated, and the partners, who say what a test has them say.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use airut_client::verify_receipt;
use airut_domain::{
    delivery::{Direction, Right},
    id::PartnerId,
    identity_code::IdentityCode,
    keys::{Digest, commitment},
    matter::{Category, Cents, Content, Matter, Outcome},
    message::OnDead,
    message_type::{Definition, MessageTypes, Presence, Service},
    partition::Topic,
    partner::{CertificateMatch, CertificateName, Contract, Grant, Kind as PartnerKind, Partner, State},
    query::{self, At, Query, QueryKey, Verdict},
    record::{Header, Kind, Refused, Stored},
    refusal::Refusal,
    time::{Date, Period, Timestamp, parse_date},
};
use airut_exchange::{Answering, Asking, Catalogue, FoldStore, Gateway, GatewayError, ReceiptKey, Settings, World};
use airut_log::{Clock, Faults, HeaderWriter, KeyRing, Log, Random, Simulation, Writer};
use airut_store::{KeyStore, Memory, Objects};
use airut_wire::v1::{self, serve_request, serve_response};
use futures::FutureExt;
use prost::Message;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// When every test begins: 2026-11-22T08:00:00Z.
pub(crate) const BEGAN: Timestamp = Timestamp::from_millis(1_795_334_400_000);

/// A caller waits this long unless a test says otherwise.
pub(crate) const USUAL: Duration = Duration::from_secs(10);

/// The body of a record; none when it does not open. Keys in memory are there at once.
pub(crate) fn opened(writer: &Writer, stored: &Stored, header: &Header) -> Option<Vec<u8>> {
    writer.open_body(stored, header).now_or_never().expect("no key is waited for").ok()
}

/// What is shared by all gateways of an exchange.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) simulation: Simulation,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) memory: Memory,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    skipped: Arc<AtomicU64>,
}

impl Ground {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let began = Instant::now();
        let skipped = Arc::new(AtomicU64::new(0));
        let skips = Arc::clone(&skipped);
        let clock = Clock::new(move || BEGAN + began.elapsed() + Duration::from_secs(skips.load(Ordering::Relaxed)));
        let simulation = Simulation::new(ChaCha8Rng::from_rng(&mut rng), clock.clone(), Faults::default());
        let rng = Mutex::new(rng);
        let random = Random::new(move |bytes| rng.lock().unwrap().fill_bytes(bytes));
        let ring = Arc::new(KeyRing::generate(&random, 2026));
        Self { simulation, ring, memory: Memory::new(), clock, random, skipped }
    }

    pub(crate) fn log(&self) -> Log {
        Log::simulated(&self.simulation)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Puts the clock forward, without whatever would have happened meanwhile.
    pub(crate) fn skip(&self, time: Duration) {
        self.skipped.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    /// A writer of the test's own.
    pub(crate) fn writer(&self, author: &str) -> Writer {
        let headers = HeaderWriter::new(self.log(), author.parse().unwrap(), self.random.clone());
        let objects = Objects::memory(&self.memory.apart());
        Writer::new(headers, KeyStore::new(objects, self.ring.wrapping(), self.clock.clone(), self.random.clone()))
    }

    /// The key store of a process whose clock this is.
    pub(crate) fn keys(&self, clock: Clock) -> KeyStore {
        KeyStore::new(Objects::memory(&self.memory), self.ring.wrapping(), clock, self.random.clone())
    }

    /// A world whose tasks run as they are.
    pub(crate) fn world(&self) -> World {
        World::new(self.clock.clone(), self.random.clone(), |task| drop(tokio::spawn(task)))
    }

    pub(crate) fn settings(&self, incarnation: &str, folds: FoldStore, world: World) -> Settings {
        Settings {
            log: self.log(),
            ring: Arc::clone(&self.ring),
            keys: self.keys(world.clock().clone()),
            objects: Objects::memory(&self.memory),
            receipt_key: receipt_key(incarnation),
            catalogue: Arc::new(arc_swap::ArcSwap::from_pointee(Catalogue::from(message_types()))),
            folds,
            scan: None,
            incarnation: incarnation.parse().unwrap(),
            world,
        }
    }

    /// Starts a gateway that keeps its folds there.
    pub(crate) async fn gateway(&self, incarnation: &str, folds: FoldStore) -> Result<Gateway, GatewayError> {
        soon(Gateway::start(self.settings(incarnation, folds, self.world()))).await
    }

    /// Every record of a topic with its header, partition by partition.
    pub(crate) fn records(&self, topic: Topic) -> Vec<(Arc<Stored>, Header)> {
        let records = self.simulation.records().into_iter().filter(|stored| stored.position.partition.topic == topic);
        records.map(|stored| (Arc::clone(&stored), airut_wire::record::decode(&stored.header).unwrap())).collect()
    }
}

/// Every incarnation has a receipt key of its own, which follows from its name.
pub(crate) fn receipt_key(incarnation: &str) -> ReceiptKey {
    ReceiptKey::from_seed(&Digest::of(incarnation.as_bytes()).0)
}

/// Gateways on one simulated log, with the partners of [`partners`] in force.
pub(crate) struct Sandbox {
    pub(crate) ground: Ground,
    pub(crate) gateways: Vec<Gateway>,
}

impl Sandbox {
    /// One gateway.
    pub(crate) async fn start() -> Self {
        Self::with_gateways(1).await
    }

    /// `gateway-0` and so on.
    pub(crate) async fn with_gateways(count: usize) -> Self {
        let ground = Ground::new(1);
        let mut gateways = Vec::new();
        for number in 0..count {
            gateways.push(ground.gateway(&format!("gateway-{number}"), FoldStore::Memory).await.unwrap());
        }
        let sandbox = Self { ground, gateways };
        sandbox.apply(partners()).await;
        sandbox
    }

    /// Puts definitions in force, and lets every gateway read them.
    pub(crate) async fn apply(&self, definitions: Vec<Partner>) {
        soon(self.gateways[0].apply_partners(definitions)).await.unwrap();
        self.caught_up().await;
    }

    /// Waits until every gateway has read every record that is there now.
    pub(crate) async fn caught_up(&self) {
        for gateway in &self.gateways {
            caught_up(&self.ground.simulation, gateway).await;
        }
    }

    pub(crate) fn faults(&self, faults: Faults) {
        self.ground.simulation.set_faults(faults);
    }

    /// Asks at a gateway.
    pub(crate) fn ask(&self, at: usize, partner: &str, request: v1::QueryBenefitsRequest) -> Asked {
        self.ask_within(at, partner, request, USUAL)
    }

    /// Asks at a gateway, and waits no longer than this.
    pub(crate) fn ask_within(
        &self,
        at: usize,
        partner: &str,
        request: v1::QueryBenefitsRequest,
        patience: Duration,
    ) -> Asked {
        ask(&self.gateways[at], partner, request, self.ground.now() + patience)
    }

    /// Connects a responder's stream to a gateway, as `kela`.
    pub(crate) async fn responder(&self, at: usize, max_in_flight: i32) -> Responder {
        let mut responder = self.connect(at, "kela");
        responder.open(max_in_flight).await;
        responder.opened().await;
        self.caught_up().await;
        responder
    }

    /// Connects a call of `Serve` in which nothing is said yet.
    pub(crate) fn connect(&self, at: usize, partner: &str) -> Responder {
        connect(&self.gateways[at], partner)
    }

    /// The records of a query, in their order, each with why it does not count, where it does not.
    pub(crate) fn story(&self, partner: &str, query_id: &str) -> Vec<String> {
        let key = QueryKey { asker: partner.parse().unwrap(), query_id: query_id.parse().unwrap() };
        let mut prior: Option<Query> = None;
        let mut story = Vec::new();
        for (stored, header) in self.ground.records(Topic::Queries) {
            let Kind::Query(event) = header.kind else { continue };
            if *event.key() != key {
                continue;
            }
            let at = At { position: stored.position, time: stored.stamp };
            prior = prior.filter(|query| query.forget_at().is_none_or(|forget| at.time < forget));
            let (verdict, next) = query::apply(prior.as_ref(), at, &event);
            prior = next.or(prior);
            story.push(match verdict {
                Verdict::Accepted => told(&event),
                Verdict::Void(why) => format!("{}: void, {why:?}", told(&event)),
            });
        }
        story
    }

    /// Checks a disclosure's receipt and the record that it names.
    pub(crate) fn verify(&self, response: &v1::QueryBenefitsResponse, incarnation: &str) {
        let position = statement(response).position;
        let records = self.ground.records(Topic::Queries);
        let (stored, header) = records.iter().find(|(stored, _)| stored.position == position).expect("on record");
        verify(response, stored, header, incarnation).unwrap();
    }

    /// Every refusal on record.
    pub(crate) fn refusals(&self) -> Vec<Refused> {
        let refused = |(_, header): (_, Header)| match header.kind {
            Kind::Refusal(refused) => refused,
            other => panic!("{} among the refusals", other.name()),
        };
        self.ground.records(Topic::Refusals).into_iter().map(refused).collect()
    }

    /// The names of the objects that hold documents, and of the keys that open them.
    pub(crate) fn objects(&self) -> Vec<String> {
        let objects = Objects::memory(&self.ground.memory);
        let below = |prefix: &str| {
            let listed = objects.list(&prefix.parse().unwrap(), None).now_or_never();
            listed.expect("memory is there at once").unwrap()
        };
        // The note of an erased key is shorter than any key.
        let keys = below("keys/content").into_iter().filter(|key| key.size_bytes > 60);
        below("documents").into_iter().chain(keys).map(|object| object.name.to_string()).collect()
    }

    /// What lies in the sealed bodies of a topic.
    pub(crate) fn bodies(&self, topic: Topic) -> Vec<Vec<u8>> {
        let writer = self.ground.writer("reader");
        let records = self.ground.records(topic);
        records.iter().map(|(stored, header)| opened(&writer, stored, header).expect("it opens")).collect()
    }
}

/// Asks at a gateway, as this partner.
pub(crate) fn ask(gateway: &Gateway, partner: &str, request: v1::QueryBenefitsRequest, deadline: Timestamp) -> Asked {
    let gateway = gateway.clone();
    let caller = gateway.folds().registry().current(&partner.parse().unwrap()).expect("an active partner");
    let (reply, answer) = oneshot::channel();
    let asking = Asking { caller, request, deadline, traceparent: String::new() };
    tokio::spawn(async move { gateway.query_benefits(asking, reply).await });
    Asked(answer)
}

/// Connects a call of `Serve` to a gateway, as this partner.
pub(crate) fn connect(gateway: &Gateway, partner: &str) -> Responder {
    let gateway = gateway.clone();
    let responder = gateway.folds().registry().current(&partner.parse().unwrap()).expect("an active partner");
    let (to_gateway, from) = mpsc::channel(64);
    let (to, from_gateway) = mpsc::channel(64);
    tokio::spawn(async move { gateway.serve(Answering { responder, from, to }).await });
    Responder { to_gateway, from_gateway }
}

/// Waits until the gateway has read every record that is there now.
pub(crate) async fn caught_up(simulation: &Simulation, gateway: &Gateway) {
    let mut ends = BTreeMap::new();
    simulation.records().iter().for_each(|stored| _ = ends.insert(stored.position.partition, stored.position.offset));
    let read_up = || {
        let positions = gateway.folds().positions();
        ends.iter().all(|(partition, last)| positions.get(partition).is_some_and(|next| next > last))
    };
    soon(async {
        while !read_up() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn told(event: &query::Event) -> String {
    match event {
        query::Event::Asked(_) => "asked".into(),
        query::Event::Rerouted(_) => "rerouted".into(),
        query::Event::Answered(_) => "answered".into(),
        query::Event::NotDisclosed(not) => format!("not disclosed ({:?})", not.why),
        query::Event::Repeated(_) => "repeated".into(),
    }
}

/// A caller that waits.
pub(crate) struct Asked(pub(crate) oneshot::Receiver<Result<v1::QueryBenefitsResponse, Refusal>>);

impl Asked {
    /// What the caller is told.
    pub(crate) async fn told(self) -> Result<v1::QueryBenefitsResponse, Refusal> {
        soon(self.0).await.expect("a verb always replies")
    }

    /// What is disclosed to the caller.
    pub(crate) async fn response(self) -> v1::QueryBenefitsResponse {
        self.told().await.expect("disclosed")
    }

    /// Why nothing is disclosed to the caller.
    pub(crate) async fn refusal(self) -> Refusal {
        self.told().await.expect_err("refused")
    }
}

/// A responder's side of a stream. It leaves when it is dropped.
pub(crate) struct Responder {
    to_gateway: mpsc::Sender<v1::ServeRequest>,
    from_gateway: mpsc::Receiver<Result<v1::ServeResponse, Refusal>>,
}

impl Responder {
    /// Says something.
    pub(crate) async fn say(&self, message: serve_request::Message) {
        let said = v1::ServeRequest { message: Some(message) };
        soon(self.to_gateway.send(said)).await.expect("the stream is open");
    }

    pub(crate) async fn open(&self, max_in_flight: i32) {
        self.say(serve_request::Message::Open(serve_request::Open { max_in_flight })).await;
    }

    /// What it is told next; none when the stream has ended.
    pub(crate) async fn told(&mut self) -> Option<Result<serve_response::Message, Refusal>> {
        let told = soon(self.from_gateway.recv()).await?;
        Some(told.map(|told| told.message.expect("something is said")))
    }

    /// Waits until the stream is open; gives its id.
    pub(crate) async fn opened(&mut self) -> String {
        match self.told().await {
            Some(Ok(serve_response::Message::Opened(opened))) => opened.stream_id,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// The refusal that ends the stream.
    pub(crate) async fn refusal(mut self) -> Refusal {
        self.told().await.expect("a last word").expect_err("refused")
    }

    /// The next question.
    pub(crate) async fn question(&mut self) -> serve_response::Question {
        match self.told().await {
            Some(Ok(serve_response::Message::Question(question))) => question,
            other => panic!("no question: {other:?}"),
        }
    }

    /// Whether no question comes for this long.
    pub(crate) async fn hears_nothing(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.from_gateway.recv()).await.is_err()
    }

    pub(crate) async fn answer(&self, question: &serve_response::Question, matters: Vec<v1::Matter>) {
        let result = serve_request::answer::Result::Matters(serve_request::Matters { matters });
        self.result(question, result).await;
    }

    pub(crate) async fn fail(&self, question: &serve_response::Question) {
        self.result(question, serve_request::answer::Result::Failure(serve_request::Failure {})).await;
    }

    async fn result(&self, question: &serve_response::Question, result: serve_request::answer::Result) {
        let answer = serve_request::Answer { question_id: question.question_id.clone(), result: Some(result) };
        self.say(serve_request::Message::Answer(answer)).await;
    }

    /// Answers every question with [`history`] from now on.
    pub(crate) fn keeps_answering(mut self) {
        tokio::spawn(async move {
            while let Some(Ok(told)) = self.from_gateway.recv().await {
                if let Some(serve_response::Message::Question(question)) = told.message {
                    self.answer(&question, history()).await;
                }
            }
        });
    }
}

/// What must happen, within a bound that only a fault exceeds.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(300), future).await.expect("it takes too long")
}

/// Checks a disclosure as its receiver can: the receipt, by the key of the gateway that signed it, and the record that it names,
/// which must be this one. Gives what is wrong.
pub(crate) fn verify(
    response: &v1::QueryBenefitsResponse,
    stored: &Stored,
    header: &Header,
    incarnation: &str,
) -> Result<(), String> {
    let keys = receipt_key(incarnation).public_line().parse().unwrap();
    verify_receipt(response, &keys).map_err(|fault| fault.to_string())?;
    let mut content = response.clone();
    let receipt = airut_wire::receipt_from(content.receipt.take().unwrap()).map_err(|fault| fault.to_string())?;
    let Kind::Query(query::Event::Answered(answered)) = &header.kind else {
        return Err(format!("the receipt names a record that says {}", header.kind.name()));
    };
    let statement = airut_domain::receipt::Statement {
        id: answered.key.query_id.to_string(),
        recipient: answered.key.asker.clone(),
        payload_sha256: Digest::of(&content.encode_to_vec()),
        accept_time: stored.stamp,
        position: stored.position,
        item: None,
    };
    if receipt.statement != statement {
        return Err("the receipt states something else than its record".to_owned());
    }
    if answered.commitment != commitment(&receipt.commitment_salt, statement.payload_sha256) {
        return Err("the receipt's salt does not open the record's commitment".to_owned());
    }
    Ok(())
}

/// A receipt's statement: what must be the same in every receipt of the same answer.
pub(crate) fn statement(response: &v1::QueryBenefitsResponse) -> airut_domain::receipt::Statement {
    let receipt = airut_wire::receipt_from(response.receipt.clone().expect("a receipt")).unwrap();
    receipt.statement
}

/// A synthetic person.
pub(crate) fn person(number: u16) -> IdentityCode {
    IdentityCode::temporary(date("1985-06-15"), 900 + number).unwrap()
}

/// A question within the contract of `pirkanmaa` and `helsinki` about the first person.
pub(crate) fn request(query_id: &str) -> v1::QueryBenefitsRequest {
    v1::QueryBenefitsRequest {
        query_id: query_id.into(),
        subject_id: person(0).as_str().into(),
        context: Some(v1::Context {
            end_user: "meri.virtanen".into(),
            end_user_role: "social-worker".into(),
            purpose: "social-assistance".into(),
            legal_basis: "1412/1997".into(),
            case_id: "case-1".into(),
        }),
        categories: Vec::new(),
        period: None,
    }
}

/// What the responder knows of everybody: within the usual contract what is called `granted`, beyond it what is `beyond`.
pub(crate) fn history() -> Vec<v1::Matter> {
    let decision = |id: &str, benefit: &str, decided: &str| {
        let period = Period::new(date(decided), date("2027-12-31"));
        let content = Content::Decision {
            decided: date(decided),
            outcome: Outcome::Granted,
            period,
            monthly: Some(Cents(50_000)),
        };
        matter(id, benefit, content)
    };
    let payment = |id: &str, benefit: &str, due: &str| {
        let period = Period::day(date(due));
        matter(id, benefit, Content::Payment { due: date(due), gross: Cents(50_000), net: Cents(50_000), period })
    };
    let recovery = Content::Recovery { decided: date("2026-11-01"), total: Cents(100), remaining: Cents(50) };
    vec![
        decision("granted-1", "basic-social-assistance", "2026-10-01"),
        decision("beyond-1", "student-aid", "2026-10-01"),
        decision("beyond-2", "basic-social-assistance", "2026-01-01"),
        payment("granted-2", "basic-social-assistance", "2026-12-01"),
        payment("beyond-3", "basic-social-assistance", "2027-03-01"),
        payment("beyond-4", "general-housing-allowance", "2026-12-01"),
        matter("beyond-5", "basic-social-assistance", recovery),
    ]
}

fn matter(id: &str, benefit: &str, content: Content) -> v1::Matter {
    airut_wire::matter(&Matter { matter_id: id.into(), benefit: benefit.parse().unwrap(), content })
}

/// The ids of the matters of a disclosure.
pub(crate) fn matter_ids(response: &v1::QueryBenefitsResponse) -> Vec<&str> {
    response.matters.iter().map(|matter| matter.matter_id.as_str()).collect()
}

/// `kela`, who answers; `pirkanmaa` and `helsinki`, who may ask the same; `elo`, who may ask something else.
pub(crate) fn partners() -> Vec<Partner> {
    let social = || contract("social-assistance", "1412/1997", social_grants());
    let pension =
        contract("pension-processing", "395/2006", vec![grant(Category::Decision, &["old-age-pension"], 12, 0)]);
    let counties = &["pirkanmaa", "helsinki"];
    vec![
        Partner {
            deliveries: vec![right(Direction::Send, counties), of_dead_letters(Direction::Receive, "pirkanmaa")],
            ..partner("kela", PartnerKind::Kela, vec![])
        },
        Partner {
            deliveries: vec![right(Direction::Receive, &["kela"]), of_dead_letters(Direction::Send, "kela")],
            ..partner("pirkanmaa", PartnerKind::WellbeingServicesCounty, vec![social()])
        },
        receiver("helsinki", PartnerKind::Municipality, vec![social()]),
        partner("elo", PartnerKind::PensionProvider, vec![pension]),
    ]
}

fn receiver(id: &str, kind: PartnerKind, contracts: Vec<Contract>) -> Partner {
    Partner { deliveries: vec![right(Direction::Receive, &["kela"])], ..partner(id, kind, contracts) }
}

/// The right to send or receive notices.
pub(crate) fn right(direction: Direction, with: &[&str]) -> Right {
    Right {
        direction,
        message_types: ["notice".parse().unwrap(), "blocking-notice".parse().unwrap()].into(),
        with: with.iter().map(|party| party.parse().unwrap()).collect(),
        purpose: "social-work".parse().unwrap(),
        legal_basis: "1301/2014".parse().unwrap(),
    }
}

/// The [`partners`], of whom `kela` may put information requests to the others, and remind `pirkanmaa`; `elo` has no part in it.
pub(crate) fn requesting_partners() -> Vec<Partner> {
    let social = |types: &[&str], direction, with: &[&str]| Right {
        message_types: types.iter().map(|name| name.parse().unwrap()).collect(),
        purpose: "social-assistance".parse().unwrap(),
        legal_basis: "1412/1997".parse().unwrap(),
        ..right(direction, with)
    };
    let (asked, reminded) = ("information-request", "information-request-reminder");
    let mut partners = partners();
    for partner in &mut partners {
        let rights = match partner.id.as_str() {
            "kela" => vec![
                social(&[asked], Direction::Send, &["pirkanmaa", "helsinki"]),
                social(&[reminded], Direction::Send, &["pirkanmaa"]),
            ],
            "pirkanmaa" => vec![social(&[asked, reminded], Direction::Receive, &["kela"])],
            "helsinki" => vec![social(&[asked], Direction::Receive, &["kela"])],
            _ => Vec::new(),
        };
        partner.deliveries.extend(rights);
    }
    partners
}

/// The right to send or receive notices of dead letters.
fn of_dead_letters(direction: Direction, with: &str) -> Right {
    Right { message_types: ["dead-letter-notice".parse().unwrap()].into(), ..right(direction, &[with]) }
}

/// `notice`, of which a dead one lets the later ones of its key go on, and `blocking-notice`, of which it does not.
pub(crate) fn message_types() -> MessageTypes {
    let notice = |name: &str, on_dead| Definition {
        service: Service::Messages,
        keep_days: None,
        name: name.parse().unwrap(),
        title: "A notice".into(),
        from: ["kela".parse().unwrap()].into(),
        to: ["kind:wellbeing-services-county".parse().unwrap(), "helsinki".parse().unwrap()].into(),
        max_bytes: 1000,
        content_types: ["application/json".to_owned()].into(),
        schema: None,
        subject: Presence::Required,
        ordering: Presence::Optional,
        attempts: 3,
        back_off_seconds: 1,
        expires_hours: 24,
        on_dead,
    };
    let back = Definition {
        from: ["kind:wellbeing-services-county".parse().unwrap(), "helsinki".parse().unwrap()].into(),
        to: ["kela".parse().unwrap()].into(),
        ..notice("dead-letter-notice", OnDead::Frees)
    };
    let requests = Definition {
        service: Service::Requests,
        ordering: Presence::None,
        ..notice("information-request", OnDead::Frees)
    };
    let reminder = notice("information-request-reminder", OnDead::Frees);
    let paper = Definition {
        service: Service::Documents,
        keep_days: Some(90),
        name: "paper".parse().unwrap(),
        title: "A paper".into(),
        from: back.from.clone(),
        to: back.to.clone(),
        max_bytes: 100 * 1024 * 1024,
        content_types: ["application/pdf".to_owned(), "text/plain".to_owned()].into(),
        ordering: Presence::None,
        ..notice("paper", OnDead::Frees)
    };
    [notice("notice", OnDead::Frees), notice("blocking-notice", OnDead::Blocks), back, requests, reminder, paper]
        .into_iter()
        .collect()
}

/// A notice from `kela` to `pirkanmaa` about the first person.
pub(crate) fn message(id: &str) -> v1::SendRequest {
    v1::SendRequest {
        message_id: id.into(),
        recipient: "pirkanmaa".into(),
        message_type: "notice".into(),
        ordering_key: String::new(),
        subject_id: person(0).as_str().into(),
        context: Some(v1::Context {
            end_user: "kaino.laine".into(),
            end_user_role: "benefit-handler".into(),
            purpose: "social-work".into(),
            legal_basis: "1301/2014".into(),
            case_id: "case-1".into(),
        }),
        content_type: "application/json".into(),
        payload: format!("{{\"notice\":\"{id}\"}}").into_bytes(),
        expire_time: None,
    }
}

/// The usual contract.
pub(crate) fn social_grants() -> Vec<Grant> {
    vec![
        grant(Category::Decision, &["basic-social-assistance", "general-housing-allowance"], 3, 0),
        grant(Category::Payment, &["basic-social-assistance"], 3, 1),
    ]
}

/// The usual contract without payments.
pub(crate) fn narrower_grants() -> Vec<Grant> {
    vec![grant(Category::Decision, &["basic-social-assistance"], 3, 0)]
}

/// A partner with the usual purpose and these grants.
pub(crate) fn with_grants(id: &str, grants: Vec<Grant>) -> Partner {
    partner(id, PartnerKind::WellbeingServicesCounty, vec![contract("social-assistance", "1412/1997", grants)])
}

/// The partner, suspended.
pub(crate) fn suspended(id: &str) -> Partner {
    Partner { state: State::Suspended, ..with_grants(id, social_grants()) }
}

pub(crate) fn partner(id: &str, kind: PartnerKind, contracts: Vec<Contract>) -> Partner {
    let name = CertificateName::OrganizationIdentifier(format!("NTRFI-{id}"));
    let certificates = vec![CertificateMatch { issuer: "CN=Test".into(), name }];
    Partner {
        id: id.parse().unwrap(),
        name: id.into(),
        kind,
        state: State::Active,
        revoked: BTreeSet::new(),
        certificates,
        contracts,
        deliveries: Vec::new(),
        quota: None,
    }
}

fn contract(purpose: &str, legal_basis: &str, grants: Vec<Grant>) -> Contract {
    let responder: PartnerId = "kela".parse().unwrap();
    Contract { purpose: purpose.parse().unwrap(), legal_basis: legal_basis.parse().unwrap(), responder, grants }
}

pub(crate) fn grant(category: Category, benefits: &[&str], months_back: u16, months_ahead: u16) -> Grant {
    let benefits = std::sync::Arc::new(benefits.iter().map(|benefit| benefit.parse().unwrap()).collect());
    Grant { category, benefits, months_back, months_ahead }
}

pub(crate) fn date(text: &str) -> Date {
    parse_date(text).unwrap()
}
