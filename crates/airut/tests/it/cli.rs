//! The command line: what it prints, and how it ends.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    num::NonZeroU16,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use airut_testkit::{eventually, free_ports};
use airut_wire::v1::{MessageState, track_response::Kind};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::support::{Data, Exchange, PATIENCE, airut, dev, ledger_verify, notice, persons, question, receipt_keys};

/// A process that was told to stop, and has no more than a query under way, has ended after this long.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Runs a command to its end with this on its standard input.
pub(crate) async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let running = tokio::task::spawn_blocking(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        // One that does not read its input may have ended by now.
        drop(process.stdin.take().unwrap().write_all(input.as_bytes()));
        process.wait_with_output().unwrap()
    });
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap()
}

fn query(data: &Path, server: SocketAddr, partner: &str) -> Command {
    let mut command = airut();
    command.args(["query", "--subject-stdin", "--as", partner, "--server", &server.to_string(), "--data"]).arg(data);
    command
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts how a command has ended, and that it says why.
#[track_caller]
fn assert_ended(output: &Output, status: i32, why: &str) {
    assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
    assert!(stderr(output).contains(why), "{why} is missing in: {}", stderr(output));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_statuses_tell_what_went_wrong() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let person = persons(data.path()).remove(0);
    let county = || query(data.path(), exchange.address, "pirkanmaa");

    assert_ended(&run(county(), &person).await, 0, "");
    // 2: the command line.
    assert_ended(&run(with(county(), &["--category", "horoscope"]), &person).await, 2, "horoscope");
    assert_ended(&run(with(airut(), &["query", "--as", "pirkanmaa"]), &person).await, 2, "--subject-stdin");
    assert_ended(&run(query(data.path(), exchange.address, "nobody"), &person).await, 2, "nobody.crt");
    // 3: refused, without a word of what was asked.
    let malformed = run(county(), "131052-308Q").await;
    assert_ended(&malformed, 3, "INVALID_FIELD");
    assert!(!stderr(&malformed).contains("131052"), "{}", stderr(&malformed));
    assert_ended(&run(query(data.path(), exchange.address, "pension-provider"), &person).await, 3, "NO_CONTRACT");
    // 4: not reachable.
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
    let unreachable = with(query(data.path(), nobody, "pirkanmaa"), &["--timeout", "1"]);
    assert_ended(&run(unreachable, &person).await, 4, "can not be reached");
    // 5: a receipt of another key.
    let other = Data::new();
    let key_id = fs::read_to_string(data.join("pki/receipt-keys.txt")).unwrap();
    let key_id = key_id.split_once(' ').unwrap().0.to_owned();
    symlink_pki(data.path(), other.path(), &format!("{key_id} {}=\n", "A".repeat(43)));
    let forged = run(query(other.path(), exchange.address, "pirkanmaa"), &person).await;
    assert_ended(&forged, 5, "signature");
    // 1: a fault inside, here no keys to check with.
    fs::remove_file(other.join("pki/receipt-keys.txt")).unwrap();
    assert_ended(&run(query(other.path(), exchange.address, "pirkanmaa"), &person).await, 1, "receipt keys");
}

/// A data directory with the certificates of another one, and receipt keys of its own.
fn symlink_pki(from: &Path, to: &Path, receipt_keys: &str) {
    fs::create_dir(to.join("pki")).unwrap();
    for name in ["ca.crt", "pirkanmaa.crt", "pirkanmaa.key"] {
        std::os::unix::fs::symlink(from.join("pki").join(name), to.join("pki").join(name)).unwrap();
    }
    fs::write(to.join("pki/receipt-keys.txt"), receipt_keys).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn json_output_has_the_documented_fields() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let asked = ["--output", "json", "--query-id", "json-1", "--category", "payment,recovery"];
    let answered = run(with(query(data.path(), exchange.address, "pirkanmaa"), &asked), &persons(data.path())[0]).await;
    assert_ended(&answered, 0, "");
    let answer: Value = serde_json::from_slice(&answered.stdout).expect("one JSON value");
    assert_eq!(answer["query_id"], "json-1");
    let matter = &answer["matters"][0];
    assert_eq!(matter["category"], "payment");
    assert!(matter["benefit"].is_string() && matter["payment"]["net_cents"].is_i64(), "{matter}");
    let withheld = serde_json::json!({"category": "CATEGORY_RECOVERY", "reason": "REASON_NOT_IN_CONTRACT"});
    assert!(answer["withheld"].as_array().unwrap().contains(&withheld), "{}", answer["withheld"]);
    for field in ["id", "recipient", "payload_sha256", "accept_time", "position", "key_id", "signature"] {
        assert!(answer["receipt"][field].is_string(), "{field}");
    }
    assert_eq!(answer["receipt"]["verified"], true);

    assert!(exchange.stop().await.success());
    let verify = with(airut(), &["ledger", "verify", "--output", "json", "--data", &data.path().display().to_string()]);
    let verified = run(verify, "").await;
    assert_ended(&verified, 0, "");
    let report: Value = serde_json::from_slice(&verified.stdout).expect("one JSON value");
    assert_eq!((&report["verified"], &report["findings_total"]), (&Value::Bool(true), &0.into()));
    for field in ["records", "entries", "checkpoints", "signed_entries", "unsigned"] {
        assert!(report[field].is_u64(), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_reports_every_fault_at_once() {
    let data = Data::new();
    let file = data.join("airut.toml");
    let faulty = "roles = ['gateway', 'register']\nlisten = 'nowhere'\nlissten = '127.0.0.1:1'\n\
        [tls]\nkey = 7\ncertifikate = 'a'\n[log]\nengine = 'paper'\n[register]\npersons = 0\n[paper]\n";
    fs::write(&file, faulty).unwrap();
    let mut check = airut();
    check.args(["config", "check", "--config"]).arg(&file).env("AIRUT__TELEMETRY__LOGS", "xml");
    let checked = run(check, "").await;
    assert_eq!(checked.status.code(), Some(2));
    let faults = stderr(&checked);
    for setting in [
        "listen:",
        "lissten:",
        "data:",
        "tls.key:",
        "tls.certifikate:",
        "tls.certificate:",
        "tls.client_cas:",
        "tls.crls:",
        "keys.ring:",
        "keys.receipt:",
        "partners:",
        "log.engine:",
        "register.persons:",
        "telemetry.logs:",
        "paper:",
    ] {
        assert!(faults.contains(&format!("\n  {setting}")), "{setting} is missing in\n{faults}");
    }

    fs::write(&file, "roles = [").unwrap();
    let checked = run(with(airut(), &["config", "check", "--config", &file.display().to_string()]), "").await;
    assert_ended(&checked, 2, "airut.toml");
    let missing = run(with(airut(), &["serve", "--config", "/nowhere/airut.toml"]), "").await;
    assert_ended(&missing, 2, "/nowhere/airut.toml");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dev_tells_to_try_works_when_pasted() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let told = exchange.stdout();
    let commands = |word: &str| {
        let lines = told.lines().filter(|line| line.starts_with("  ") && line.contains(word));
        lines.map(|line| with(Command::new("sh"), &["-c", line.trim()])).collect::<Vec<_>>()
    };
    let [county, pension, refused] = <[Command; 3]>::try_from(commands(" query ")).unwrap();
    assert_ended(&run(county, "").await, 0, "");
    assert_ended(&run(pension, "").await, 0, "");
    assert_ended(&run(refused, "").await, 3, "NO_CONTRACT");
    for (word, told) in [
        (" send ", "(verified)"),
        (" collect ", "need-1"),
        (" track ", "to pirkanmaa: delivered"),
        (" request create ", "open"),
        (" request respond ", "answered"),
        (" request show ", "Nothing since June."),
    ] {
        let [command] = <[Command; 1]>::try_from(commands(word)).unwrap();
        let output = run(command, "").await;
        assert_ended(&output, 0, "");
        assert!(String::from_utf8_lossy(&output.stdout).contains(told), "{told} is missing after{word}");
    }
    assert!(exchange.stop().await.success());
    for verify in commands(" ledger verify") {
        assert_ended(&run(verify, "").await, 0, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_can_be_told_twice_on_one_directory() {
    let data = Data::new();
    // What somebody else has sent, and nobody collected, stands in nobody's way and stays.
    let exchange = Exchange::start(dev(data.path())).await;
    let kela = exchange.client(data.path(), "kela").await;
    let keys = receipt_keys(data.path());
    kela.send(&notice("theirs", &persons(data.path())[0]), &keys, PATIENCE).await.unwrap();
    assert!(exchange.stop().await.success());
    for _ in 0..2 {
        let once = with(airut(), &["dev", "--once", "--data", &data.path().display().to_string()]);
        let told = run(once, "").await;
        assert_ended(&told, 0, "");
        let story = String::from_utf8_lossy(&told.stdout);
        for step in [
            "1  A county asks",
            "4  The receipt",
            "Refused, and on record: NO_CONTRACT",
            "taken in by pirkanmaa",
            "passed on to helsinki, handed out, taken in",
            "NOT_A_CLIENT: The person has moved abroad.",
            "10 A county sends Kela a client's document",
            "11 Kela finds the claim check in its mailbox",
            "13 Kela asks for what it needs to decide",
            "300 euros on 3 September, for arrears of rent.",
            "verified: ",
        ] {
            assert!(story.contains(step), "{step} is missing in\n{story}");
        }
        assert!(!persons(data.path()).iter().any(|person| story.contains(person)), "an identity code is told");
    }
    let exchange = Exchange::start(dev(data.path())).await;
    let kela = exchange.client(data.path(), "kela").await;
    eventually(PATIENCE, async || kela.track("", "theirs", PATIENCE).await.unwrap().state() == MessageState::Waiting)
        .await;
    let theirs = kela.track("", "theirs", PATIENCE).await.unwrap().steps;
    assert!(theirs.iter().all(|step| [Kind::Accepted, Kind::Offered, Kind::LeaseEnded].contains(&step.kind())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_directory_is_refused_plainly() {
    let data = Data::new();
    let first = Exchange::start(dev(data.path())).await;
    let second = run(dev(data.path()), "").await;
    assert_ended(&second, 1, "log.sqlite");
    assert_ended(&second, 1, "in use");
    let verified = ledger_verify(data.path());
    assert_ended(&verified, 1, "in use");
    let answered = run(query(data.path(), first.address, "pirkanmaa"), &persons(data.path())[0]).await;
    assert_ended(&answered, 0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_told_to_stop_finishes_the_query_under_way() {
    let data = Data::new();
    let mut exchange = Exchange::start(dev(data.path())).await;
    let (asked, mut questions) = mpsc::unbounded_channel();
    let may_answer = Arc::new(Semaphore::new(0));
    let kela = exchange.client(data.path(), "kela").await;
    let slow = {
        let may_answer = Arc::clone(&may_answer);
        move |question: airut_client::Question| {
            let (asked, may_answer) = (asked.clone(), Arc::clone(&may_answer));
            async move {
                drop(asked.send(question.question_id));
                drop(may_answer.acquire().await);
                Ok(Vec::new())
            }
        }
    };
    let end = CancellationToken::new();
    let serving = end.clone();
    let responder = tokio::spawn(async move { kela.serve(NonZeroU16::new(8).unwrap(), slow, serving).await });

    // Its stream shares the questions with the register's: one of some comes to it, and waits.
    let county = exchange.client(data.path(), "pirkanmaa").await;
    let mut waiting = Vec::new();
    let people = persons(data.path());
    let mut next = people.iter().enumerate();
    eventually(PATIENCE, async || {
        let Some((number, person)) = next.next() else { return false };
        let (county, request) = (county.clone(), question(&format!("slow-{number}"), person));
        let asking = tokio::spawn(async move { county.query(&request, Duration::from_secs(30)).await });
        waiting.push(asking);
        tokio::time::timeout(Duration::from_millis(100), questions.recv()).await.is_ok()
    })
    .await;

    let began = Instant::now();
    exchange.terminate();
    eventually(PATIENCE, async || exchange.stdout().contains("stopping")).await;
    may_answer.add_permits(1000);
    for asking in waiting {
        asking.await.unwrap().expect("it was under way, and is answered");
    }
    assert!(exchange.ended().await.success(), "{}", exchange.stderr());
    assert!(began.elapsed() < STOPPED_WITHIN, "it took {:?}", began.elapsed());
    end.cancel();
    responder.await.unwrap();
    assert!(ledger_verify(data.path()).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_what_a_process_serves_and_that_it_is_gone() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let health = |output: &str| {
        let mut health = airut();
        health.args(["health", "--as", "helsinki", "--timeout", "5", "--output", output]);
        health.args(["--server", &exchange.address.to_string(), "--data"]).arg(data.path());
        health
    };
    eventually(PATIENCE, async || run(health("text"), "").await.status.success()).await;
    let told = run(health("text"), "").await;
    let services = ["QueryService", "PartnerService", "LedgerService"];
    let expected = services.map(|service| format!("serving      airut.v1.{service}\n")).concat();
    assert_eq!(String::from_utf8_lossy(&told.stdout), expected);
    let told: Value = serde_json::from_slice(&run(health("json"), "").await.stdout).expect("one JSON value");
    assert_eq!((&told["serving"], told["services"].as_array().unwrap().len()), (&Value::Bool(true), 3));

    let stopped = health("text");
    assert!(exchange.stop().await.success());
    assert_ended(&run(stopped, "").await, 4, "can not be reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_listening_ends_no_process() {
    let data = Data::new();
    // What reads standard output and standard error leaves once the exchange serves.
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec \"$@\" 2> >(:) | grep -m 1 ^ready; exit ${PIPESTATUS[0]}", "bash"]);
    let serving = dev(data.path());
    shell.arg(serving.get_program()).args(serving.get_args());
    let mut exchange = Exchange::start(shell).await;
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", exchange.pid())).unwrap();
    let airut = children.split_whitespace().next().expect("it runs");
    let asked = Command::new("sh").args(["-c", &format!("kill -TERM {airut}")]).status().unwrap();
    assert!(asked.success());
    assert_eq!(exchange.ended().await.code(), Some(0));

    // A reader who has seen enough is no fault; a result that could not be written is one.
    for (to, status) in [("| :", 0), (">/dev/full", 1)] {
        let mut verify = Command::new("bash");
        let script = format!("\"$@\" {to}; exit ${{PIPESTATUS[0]}}");
        verify
            .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_airut"), "ledger", "verify", "--data"])
            .arg(data.path());
        let ended = run(verify, "").await;
        assert_eq!(ended.status.code(), Some(status), "{to}: {}", stderr(&ended));
    }
}
