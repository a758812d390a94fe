//! Information requests while gateways are killed: commands from all sides at once, and each that was acknowledged is in the request's life.
//!
//! What a request may come to is modelled here once more, in a table of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use airut_client::{CallError, Client};
use airut_domain::{record::Kind, refusal::Reason, request::Event};
use airut_testkit::{eventually, kafka::Kafka};
use airut_wire::v1::{
    self, InformationRequestKind, InformationRequestState as State, information_request_step::Action,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::run,
    gateways::gateway,
    support::{Data, Exchange, PATIENCE, airut, client, dev, entries, ledger_verify, persons, seed, tell},
};

/// Requests that are fought over at once.
const REQUESTS: usize = 6;

/// Kills in one run, unless `AIRUT_CRASH_KILLS` says how many.
const KILLS: u32 = 8;

/// How long a caller waits for one attempt.
const ATTEMPT: Duration = Duration::from_millis(1900);

/// Those who act on requests.
const PARTIES: [&str; 3] = ["kela", "pirkanmaa", "helsinki"];

/// What everybody did: by request, the commands that were acknowledged, each with who gave it and which it was.
type Book = Arc<Mutex<BTreeMap<String, BTreeMap<String, (&'static str, u32)>>>>;

/// A partner that does something to requests, whatever becomes of the exchange.
struct Actor {
    partner: &'static str,
    data: PathBuf,
    subject: String,
    gateways: watch::Receiver<Vec<SocketAddr>>,
    connected: Option<(SocketAddr, Client)>,
    random: StdRng,
    book: Book,
}

impl Actor {
    async fn run(mut self, name: String, stop: CancellationToken) {
        for number in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let request_id = format!("r-{}", self.random.random_range(0..REQUESTS));
            let command_id = format!("{name}-{number}");
            if self.random.random_bool(0.3) {
                self.read(&request_id).await;
            } else {
                let choice = self.random.random_range(0..4);
                let wish = Wish::Act(choice, request_id.clone(), command_id.clone());
                // Until it is known what became of it.
                if self.until_known(wish).await {
                    let mut book = self.book.lock().unwrap();
                    book.entry(request_id).or_default().insert(command_id, (self.partner, choice));
                }
            }
            let pause = Duration::from_millis(self.random.random_range(0..30));
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a request: it is shown to whom it belongs at that moment, and to nobody else.
    async fn read(&mut self, request_id: &str) {
        self.until_known(Wish::Read(request_id.to_owned())).await;
    }

    /// Whether it succeeded. What may pass is tried again, at any gateway.
    async fn until_known(&mut self, wish: Wish) -> bool {
        let began = Instant::now();
        while began.elapsed() < 3 * PATIENCE {
            let client = self.client().await;
            match wish.call(&client, self.partner).await {
                Ok(()) => return true,
                Err(fault) => match fault.reason() {
                    Some(Reason::WrongState | Reason::NotFound) => return false,
                    None => {}
                    Some(_) => assert!(fault.may_pass(), "{}: {fault}", self.partner),
                },
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..100))).await;
        }
        panic!("{}: it is never known what became of a command", self.partner);
    }

    async fn client(&mut self) -> Client {
        let address = *self.gateways.borrow_and_update().choose(&mut self.random).expect("there is one at least");
        match &self.connected {
            Some((connected, client)) if *connected == address => client.clone(),
            Some(_) | None => {
                let client = client(&self.data, address, self.partner).await;
                self.connected = Some((address, client.clone()));
                client
            }
        }
    }

    async fn create_all(&mut self) {
        for number in 0..REQUESTS {
            assert!(self.until_known(Wish::Create(format!("r-{number}"), self.subject.clone())).await);
        }
    }
}

/// Something to be done until it is known what became of it.
enum Wish {
    Create(String, String),
    Read(String),
    /// One of some things, to a request, with an id.
    Act(u32, String, String),
}

impl Wish {
    async fn call(&self, client: &Client, partner: &'static str) -> Result<(), CallError> {
        match self {
            Self::Create(request_id, subject) => {
                client.create_information_request(&asking(request_id, subject), ATTEMPT).await.map(drop)
            }
            Self::Read(request_id) => {
                let shown = client.get_information_request(&reading(request_id), ATTEMPT).await?;
                let request = shown.information_request.unwrap();
                assert!(partner == request.requester || partner == request.responder, "{partner} is shown another's");
                Ok(())
            }
            Self::Act(choice, request_id, command_id) => act(client, partner, *choice, request_id, command_id).await,
        }
    }
}

/// One of the things that a partner may want to do.
async fn act(client: &Client, partner: &str, choice: u32, request_id: &str, command_id: &str) -> Result<(), CallError> {
    let (request_id, command_id, text) = (request_id.to_owned(), command_id.to_owned(), command_id.to_owned());
    let done = match (partner, choice) {
        ("kela", 0) => {
            let request = v1::ReturnInformationRequestRequest {
                request_id,
                command_id,
                context: context(),
                text,
                ..v1::ReturnInformationRequestRequest::default()
            };
            client.return_information_request(&request, ATTEMPT).await
        }
        ("kela", 1) if command_id.ends_with("77") => {
            let request = v1::CloseInformationRequestRequest {
                request_id,
                command_id,
                context: context(),
                text,
                expected_version: 0,
            };
            client.close_information_request(&request, ATTEMPT).await
        }
        ("pirkanmaa" | "helsinki", 0..=2) => {
            let request = v1::RespondInformationRequestRequest {
                requester: "kela".into(),
                request_id,
                command_id,
                context: context(),
                text,
                ..v1::RespondInformationRequestRequest::default()
            };
            client.respond_information_request(&request, ATTEMPT).await
        }
        (partner, _) => {
            let to = if partner == "pirkanmaa" || partner == "kela" { "helsinki" } else { "pirkanmaa" };
            let request = v1::TransferInformationRequestRequest {
                requester: "kela".into(),
                request_id,
                command_id,
                context: context(),
                responder: to.into(),
                text,
                ..v1::TransferInformationRequestRequest::default()
            };
            client.transfer_information_request(&request, ATTEMPT).await
        }
    };
    done.map(drop)
}

fn context() -> Option<v1::Context> {
    Some(v1::Context {
        end_user: "official-1".into(),
        end_user_role: "official".into(),
        purpose: "social-assistance".into(),
        legal_basis: "1412/1997".into(),
        case_id: "case-1".into(),
    })
}

fn asking(request_id: &str, subject: &str) -> v1::CreateInformationRequestRequest {
    v1::CreateInformationRequestRequest {
        request_id: request_id.into(),
        responder: "pirkanmaa".into(),
        kind: InformationRequestKind::Statement.into(),
        subject_id: subject.into(),
        context: context(),
        question: Some(v1::Question { text: "What has been granted?".into(), ..v1::Question::default() }),
        due_date: String::new(),
        contact: None,
    }
}

fn reading(request_id: &str) -> v1::GetInformationRequestRequest {
    v1::GetInformationRequestRequest {
        requester: "kela".into(),
        request_id: request_id.into(),
        context: context(),
        min_position: String::new(),
    }
}

/// A run: what is there before and after, and who kills what in between.
struct Run {
    data: Data,
    book: Book,
    at: watch::Sender<Vec<SocketAddr>>,
    stop: CancellationToken,
    actors: Vec<tokio::task::JoinHandle<()>>,
}

impl Run {
    async fn begin(data: Data, gateways: Vec<SocketAddr>, random: &mut StdRng) -> Self {
        let (at, gateways) = watch::channel(gateways);
        let book = Book::default();
        let subject = persons(data.path()).remove(0);
        let mut actor = |partner| Actor {
            partner,
            data: data.path().to_owned(),
            subject: subject.clone(),
            gateways: gateways.clone(),
            connected: None,
            random: StdRng::seed_from_u64(random.random()),
            book: Arc::clone(&book),
        };
        actor("kela").create_all().await;
        let stop = CancellationToken::new();
        let mut actors = Vec::new();
        for (number, partner) in (0..6).zip(PARTIES.into_iter().cycle()) {
            actors.push(tokio::spawn(actor(partner).run(format!("{partner}-{number}"), stop.clone())));
        }
        Self { data, book, at, stop, actors }
    }

    fn acknowledged(&self) -> usize {
        self.book.lock().unwrap().values().map(BTreeMap::len).sum()
    }

    /// Waits until some more commands were acknowledged.
    async fn go_on(&self, random: &mut StdRng) {
        let more = self.acknowledged() + random.random_range(1..20);
        // When all are closed nothing more comes.
        let began = Instant::now();
        eventually(PATIENCE, async || self.acknowledged() >= more || began.elapsed() > Duration::from_secs(5)).await;
    }

    /// Ends it, and holds every request against what its parties were told.
    async fn end(self, address: SocketAddr) -> (Data, BTreeSet<String>, usize) {
        self.stop.cancel();
        for actor in self.actors {
            actor.await.unwrap();
        }
        let kela = client(self.data.path(), address, "kela").await;
        let book = std::mem::take(&mut *self.book.lock().unwrap());
        let mut steps = 0;
        for number in 0..REQUESTS {
            let request_id = format!("r-{number}");
            let shown = kela.get_information_request(&reading(&request_id), PATIENCE).await.unwrap();
            let acknowledged = book.get(&request_id).cloned().unwrap_or_default();
            held_against(&shown, &acknowledged);
            steps += shown.steps.len();
            only_its_parties_see_it(self.data.path(), address, &shown.information_request.unwrap()).await;
            all_are_acknowledged_again(self.data.path(), address, &request_id, &acknowledged).await;
            let again = kela.get_information_request(&reading(&request_id), PATIENCE).await.unwrap();
            assert_eq!(again.steps.len(), shown.steps.len(), "a repeat was done once more");
        }
        (self.data, book.into_values().flat_map(BTreeMap::into_keys).collect(), steps)
    }
}

/// Every command that was acknowledged is a step, every step was acknowledged, and each follows from those before it.
fn held_against(shown: &v1::GetInformationRequestResponse, acknowledged: &BTreeMap<String, (&str, u32)>) {
    let request = shown.information_request.as_ref().unwrap();
    let (mut state, mut responder) = (State::Unspecified, String::new());
    let mut taken = BTreeSet::new();
    for step in &shown.steps {
        let by = step.partner.as_str();
        let (text, next) = match (state, step.action.as_ref().unwrap()) {
            (State::Unspecified, Action::Created(_)) if by == "kela" => {
                (state, responder) = (State::Open, "pirkanmaa".into());
                continue;
            }
            (State::Open | State::Returned, Action::Responded(step)) if by == responder => {
                (&step.text, State::Answered)
            }
            (State::Answered, Action::Returned(step)) if by == "kela" => (&step.text, State::Returned),
            (State::Answered, Action::Closed(step)) if by == "kela" => (&step.text, State::Closed),
            (State::Open | State::Returned, Action::Transferred(step)) if by == "kela" || by == responder => {
                assert_ne!(step.responder, responder);
                responder.clone_from(&step.responder);
                (&step.text, State::Open)
            }
            (state, action) => panic!("{}: {action:?} by {by} when {state:?} with {responder}", request.request_id),
        };
        assert_eq!(acknowledged.get(text.as_str()).map(|(by, _)| *by), Some(by), "{text} was not acknowledged");
        assert!(taken.insert(text.clone()), "{text} was done twice");
        state = next;
    }
    assert_eq!((request.state(), &request.responder), (state, &responder));
    assert_eq!(request.version as usize, shown.steps.len());
    assert_eq!(taken.len(), acknowledged.len(), "{} has lost a command", request.request_id);
}

/// Who gives a command once more is told the same, whatever has become of the request.
async fn all_are_acknowledged_again(
    data: &Path,
    address: SocketAddr,
    request_id: &str,
    acknowledged: &BTreeMap<String, (&'static str, u32)>,
) {
    for (command_id, (partner, choice)) in acknowledged {
        let client = client(data, address, partner).await;
        act(&client, partner, *choice, request_id, command_id).await.expect("it was acknowledged before");
    }
}

/// Every command that was acknowledged is an entry of the ledger.
async fn all_are_in_the_ledger(auditor: &Client, book: &BTreeSet<String>) {
    let entries = entries(auditor).await;
    let commands: BTreeSet<String> = entries
        .iter()
        .filter_map(|(_, header)| {
            let Kind::Request(Event::Command(command)) = &header.kind else { return None };
            Some(command.command_id.to_string())
        })
        .collect();
    assert!(book.is_subset(&commands), "{:?}", book.difference(&commands).collect::<Vec<_>>());
}

async fn only_its_parties_see_it(data: &Path, address: SocketAddr, request: &v1::InformationRequest) {
    for partner in PARTIES.into_iter().chain(["pohjois-pohjanmaa"]) {
        let client = client(data, address, partner).await;
        let theirs = partner == request.requester || partner == request.responder;
        let shown = client.get_information_request(&reading(&request.request_id), PATIENCE).await;
        assert_eq!(shown.is_ok(), theirs, "{partner}: {shown:?}");
        let everything = v1::ListInformationRequestsRequest { page_size: 1000, ..Default::default() };
        let listed = client.list_information_requests(&everything, PATIENCE).await.unwrap().information_requests;
        assert_eq!(listed.iter().any(|listed| listed.request_id == request.request_id), theirs, "{partner}");
    }
}

fn kills() -> u32 {
    std::env::var("AIRUT_CRASH_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_command_is_in_the_requests_life_whoever_is_killed() {
    let mut random = StdRng::seed_from_u64(seed());
    let data = Data::new();
    let mut exchange = Exchange::start(dev(data.path())).await;
    let run = Run::begin(data, vec![exchange.address], &mut random).await;
    for kill in 0..kills() {
        run.go_on(&mut random).await;
        assert!(exchange.is_running(), "it ended by itself:\n{}", exchange.stderr());
        exchange.kill();
        if kill % 3 == 2 {
            crate::crash::forget_folds(run.data.path());
        }
        exchange = Exchange::start(dev(run.data.path())).await;
        run.at.send_replace(vec![exchange.address]);
    }
    run.go_on(&mut random).await;
    let (data, acknowledged, steps) = run.end(exchange.address).await;
    tell(&format!("{} kills: {} commands acknowledged, all found in {steps} steps", kills(), acknowledged.len()));
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    all_are_in_the_ledger(&exchange.client(data.path(), "auditor").await, &acknowledged).await;
    assert!(exchange.stop().await.success());
    let verified = ledger_verify(data.path());
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_two_gateways_agree_on_every_command_while_one_is_killed() {
    let Some(kafka) = tokio::task::spawn_blocking(|| Kafka::start(1)).await.unwrap() else { return };
    let mut random = StdRng::seed_from_u64(seed());
    let data = Data::new();
    airut::dev::Layout::prepare(data.path()).unwrap();
    let mut gateways = vec![gateway(&kafka, &data, "one").await, gateway(&kafka, &data, "two").await];
    let addresses = |gateways: &[Exchange]| gateways.iter().map(|gateway| gateway.address).collect::<Vec<_>>();
    let run = Run::begin(data, addresses(&gateways), &mut random).await;
    for kill in 0..kills() / 2 {
        run.go_on(&mut random).await;
        let mut killed = gateways.remove(0);
        killed.kill();
        run.at.send_replace(addresses(&gateways));
        run.go_on(&mut random).await;
        let name = if kill % 2 == 0 { "one" } else { "two" };
        gateways.push(gateway(&kafka, &run.data, name).await);
        run.at.send_replace(addresses(&gateways));
    }
    run.go_on(&mut random).await;
    let (_data, acknowledged, steps) = run.end(gateways[1].address).await;
    tell(&format!("{} kills: {} commands acknowledged, all found in {steps} steps", kills() / 2, acknowledged.len()));
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}

/// The command line's story: asked, listed, passed on, answered, returned, closed, watched.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_back_and_forth_on_the_command_line() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let person = persons(data.path()).remove(0);
    let server = exchange.address.to_string();
    let command = |partner: &str, verb: &str, arguments: &[&str]| {
        let mut command = airut();
        command.args(["request", verb, "--as", partner, "--server", &server, "--data"]).arg(data.path());
        command.args(arguments);
        command
    };
    let text = async |command, input: &str| {
        let output = run(command, input).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let json = async |mut command: std::process::Command, input: &str| -> serde_json::Value {
        command.args(["--output", "json"]);
        serde_json::from_str(&text(command, input).await).unwrap()
    };

    let question = format!("{person}\nWhat has been granted since June?\n");
    let arguments = [
        "--to",
        "pirkanmaa",
        "--kind",
        "assistance-report",
        "--subject-stdin",
        "--text-file",
        "-",
        "--request-id",
        "r-1",
    ];
    let created = json(command("kela", "create", &arguments), &question).await;
    assert_eq!((created["state"].as_str(), created["kind"].as_str()), (Some("open"), Some("assistance-report")));
    let listed = text(command("pirkanmaa", "list", &["--state", "open,returned"]), "").await;
    assert!(listed.contains("r-1") && listed.contains("assistance-report") && !listed.contains(&person), "{listed}");

    let position = created["position"].as_str().unwrap();
    let shown =
        text(command("pirkanmaa", "show", &["r-1", "--requester", "kela", "--min-position", position]), "").await;
    assert!(shown.contains("What has been granted since June?") && shown.contains(&person), "{shown}");
    let passed_on = ["r-1", "--requester", "kela", "--to", "helsinki", "--text-file", "-"];
    let said = text(command("pirkanmaa", "transfer", &passed_on), "The client has moved.").await;
    assert!(said.contains("r-1 passed on to helsinki"), "{said}");
    let gone = run(command("pirkanmaa", "show", &["r-1", "--requester", "kela"]), "").await;
    assert_eq!(gone.status.code(), Some(3));

    let answer =
        ["r-1", "--requester", "kela", "--text-file", "-", "--unit", "Aikuissosiaalityö", "--telephone", "09 310 1234"];
    text(command("helsinki", "respond", &answer), "300 euros in September.").await;
    text(command("kela", "return", &["r-1", "--text-file", "-"]), "For what?").await;
    let second = ["r-1", "--requester", "kela", "--text-file", "-"];
    text(command("helsinki", "respond", &second), "For arrears of rent.").await;
    let closed = json(command("kela", "close", &["r-1"]), "").await;
    assert_eq!((closed["state"].as_str(), closed["version"].as_i64()), (Some("closed"), Some(6)));

    let shown = json(command("kela", "show", &["r-1"]), "").await;
    let steps = shown["steps"].as_array().unwrap();
    let whats: Vec<&str> = steps.iter().map(|step| step["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["asked", "passed on", "answered", "returned", "answered", "closed"]);
    assert_eq!(
        (steps[2]["telephone"].as_str(), steps[4]["text"].as_str()),
        (Some("09 310 1234"), Some("For arrears of rent."))
    );
    let readable = text(command("kela", "show", &["r-1"]), "").await;
    assert!(readable.contains("answered by helsinki, official-1 (benefit-handler)"), "{readable}");
    let late = run(command("kela", "cancel", &["r-1"]), "").await;
    assert_eq!(late.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&late.stderr).contains("WRONG_STATE"));
    let wrong = run(command("kela", "create", &["--to", "helsinki"]), "").await;
    assert_eq!(wrong.status.code(), Some(2));

    // From the beginning: of each request its latest state.
    let begin = ["0"; 12].join(".");
    let watched = json(command("helsinki", "watch", &["--resume", &begin, "--count", "1"]), "").await;
    assert_eq!((watched["request_id"].as_str(), watched["state"].as_str()), (Some("r-1"), Some("closed")));
    assert!(exchange.stop().await.success());
}
