//! docs/partner-guide.md, docs/operating.md and README.md, run as they are written.
//!
//! What is changed before a page is run: where the exchange is and where its files lie, because a test has no fixed port and no
//! directory of its own in the clone. Nothing else. A fenced block's first line says what becomes of it: `sh` is run and must
//! succeed, `sh fails` must fail, `sh install` is what `.ci/run` does, `sh server` is started by the test, and `python` is a
//! piece of a file in docs/examples. `sh cluster` is run by `local`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use airut_testkit::{available, require};
use tokio::time::timeout;

use crate::support::{Data, Exchange, airut, dev};

/// What only a page that hangs exceeds.
const PAGE: Duration = Duration::from_secs(300);

const GUIDE: &str = include_str!("../../../../docs/partner-guide.md");
const README: &str = include_str!("../../../../README.md");
pub(crate) const OPERATING: &str = include_str!("../../../../docs/operating.md");

/// A fenced block of a page.
pub(crate) struct Block {
    /// What stands behind the fence.
    pub(crate) kind: String,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some(Block { kind: kind.to_owned(), text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// The clone's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs blocks in one bash, each with the variables and functions of those before it, and gives all they print. Each must end
/// as its fence says.
pub(crate) async fn run(blocks: &[Block], directory: &Path, environment: &[(&str, String)]) -> String {
    let mut script = String::from("set -o pipefail\n");
    for (number, block) in blocks.iter().enumerate() {
        let file = directory.join(format!("block-{number}.sh"));
        fs::write(&file, &block.text).unwrap();
        let expected = if block.kind == "sh fails" { "-ne" } else { "-eq" };
        script.push_str(&format!(
            ". {}\n[ $? {expected} 0 ] || {{ echo \"BLOCK {number} has not ended as it should\"; exit 99; }}\n",
            file.display()
        ));
    }
    fs::write(directory.join("page.sh"), script).unwrap();
    let output = fs::File::create(directory.join("page.out")).unwrap();
    let mut bash = tokio::process::Command::new("bash");
    bash.arg("page.sh").current_dir(directory).stdin(Stdio::null());
    bash.stdout(output.try_clone().unwrap()).stderr(output).kill_on_drop(true);
    bash.envs(environment.iter().map(|(name, value)| (name, value)));
    let ended = timeout(PAGE, bash.status()).await;
    let told = fs::read_to_string(directory.join("page.out")).unwrap();
    let status = ended.unwrap_or_else(|_| panic!("the page hangs after\n{told}")).unwrap();
    assert!(status.success(), "{told}\nblocks:\n{}", texts(blocks));
    told
}

fn texts(blocks: &[Block]) -> String {
    blocks.iter().enumerate().map(|(number, block)| format!("# BLOCK {number}\n{}", block.text)).collect()
}

/// A Python that has what docs/examples/requirements.txt names: `AIRUT_PYTHON`, else the one on the path.
fn python() -> Option<String> {
    let python = std::env::var("AIRUT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = Command::new(&python).args(["-c", "import grpc, grpc_status, grpc_tools, cryptography"]).output();
    imports.is_ok_and(|imported| imported.status.success()).then_some(python)
}

/// A directory to run a page in, as if it were the clone's root; `python` is the one that was found.
fn workplace(python: Option<&str>) -> Data {
    let place = Data::new();
    for shared in ["proto", "docs"] {
        symlink(root().join(shared), place.join(shared)).unwrap();
    }
    fs::create_dir(place.join("bin")).unwrap();
    if let Some(python) = python {
        let shim = place.join("bin/python");
        // A link to it would not find its packages.
        fs::write(&shim, format!("#!/bin/sh\nexec '{python}' \"$@\"\n")).unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    }
    place
}

fn path_with(place: &Data) -> (&'static str, String) {
    ("PATH", format!("{}:{}", place.join("bin").display(), std::env::var("PATH").unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_partner_guide_works_as_written() {
    let (grpcurl, python) = (available("grpcurl"), require("python", python()));
    let (true, Some(python)) = (grpcurl, python) else { return };
    let (place, data) = (workplace(Some(&python)), Data::new());
    let exchange = Exchange::start(dev(data.path())).await;

    let mut pages = blocks(GUIDE);
    pages.retain(|block| ["sh", "sh fails"].contains(&block.kind.as_str()));
    for block in &mut pages {
        let server = format!("SERVER={}\n", exchange.address);
        block.text = block.text.replace("SERVER=127.0.0.1:7443\n", &server);
        block.text = block.text.replace("DATA=airut-data\n", &format!("DATA={}\n", data.path().display()));
    }
    let told = run(&pages, place.path(), &[path_with(&place)]).await;

    for expected in [
        "organizationIdentifier",
        "grpc.health.v1.Health",
        "\"status\": \"SERVING\"",
        "\"payloadSha256\"",
        "REASON_NOT_IN_CONTRACT",
        "\"reason\": \"MISSING_FIELD\"",
        "\"reason\": \"NO_CONTRACT\"",
        "withheld: CATEGORY_RECOVERY, REASON_NOT_IN_CONTRACT",
        "reason   INVALID_FIELD",
        "receipt: signed by receipt-",
        "ledger: airut.queries/",
        "answered airut.queries/",
        "is accepted, on record at airut.messages/",
        "attempt 1: ['client', 'reason', 'urgency']",
        "\"state\": \"MESSAGE_STATE_DELIVERED\"",
        "OUTCOME_REJECTED",
        "\"code\": \"WRONG_COUNTY\"",
        "OUTCOME_ACCEPTED",
        "\"state\": \"MESSAGE_STATE_DEAD\"",
        "KIND_LEASE_ENDED",
        "is stored, on record at airut.documents/",
        "\"state\": \"UPLOAD_STATE_STORED\"",
        "attempt 1: ['content_type', 'document_id', 'file_name', 'sender', 'sha256', 'size_bytes']",
        "fetched statement.pdf",
        "\"monthsBack\"",
        "CERTIFICATE_UNKNOWN",
        "NTRFI-3221308-6",
    ] {
        assert!(told.contains(expected), "{expected} is missing in\n{told}");
    }
    let repeated: Vec<&str> = told.lines().filter(|line| line.starts_with("query example-")).collect();
    assert_eq!(repeated.len(), 2, "{told}");
    assert_eq!(repeated[0], repeated[1]);
    let sent: Vec<&str> = told.lines().filter(|line| line.contains("is accepted, on record")).collect();
    assert_eq!((sent.len(), sent[0] == sent[1], sent[0] == sent[2]), (6, true, false), "{told}");
}

#[test]
fn the_python_in_the_guide_is_that_of_the_examples() {
    let examples = root().join("docs/examples");
    let files = fs::read_dir(examples).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "py"));
    let examples: Vec<String> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let pieces: Vec<Block> = blocks(GUIDE).into_iter().filter(|block| block.kind == "python").collect();
    assert!(pieces.len() > 5);
    for piece in pieces {
        assert!(examples.iter().any(|file| file.contains(&piece.text)), "in no example:\n{}", piece.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_work_as_written() {
    let place = Data::new();
    let once = blocks(README).into_iter().find(|block| block.text.contains("dev --once")).unwrap();
    let told = run(&[built(once)], place.path(), &[]).await;
    assert!(told.contains("taken in by helsinki") && told.contains("verified"), "{told}");

    let exchange = Exchange::start(dev(&place.join("airut-data"))).await;
    let mut message = built(blocks(README).into_iter().find(|block| block.text.contains(" send ")).unwrap());
    for verb in ["send", "collect", "track"] {
        let there = format!(" {verb} --server {}", exchange.address);
        message.text = message.text.replace(&format!(" {verb} "), &format!("{there} "));
    }
    let told = run(&[message], place.path(), &[]).await;
    assert!(told.contains("(verified)") && told.contains("from kela to pirkanmaa: delivered"), "{told}");
    let mut query = built(blocks(README).into_iter().find(|block| block.text.contains(" query ")).unwrap());
    query.text = format!("{} --server {}\n", query.text.trim_end(), exchange.address);
    let told = run(&[query], place.path(), &[]).await;
    assert!(told.contains("Receipt"), "{told}");
    assert!(exchange.stop().await.success());
    let verify = built(blocks(README).into_iter().find(|block| block.text.contains("ledger verify")).unwrap());
    let told = run(&[verify], place.path(), &[]).await;
    assert!(told.contains("verified"), "{told}");
}

/// With the binary that was built for the tests.
pub(crate) fn built(block: Block) -> Block {
    let binary = env!("CARGO_BIN_EXE_airut");
    let text = block.text.replace("cargo run --release --", binary).replace("target/release/airut", binary);
    Block { text, ..block }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_configuration_serves() {
    let data = Data::new();
    // `dev` lays out what an operator would: certificates, keys, partners.
    assert!(Exchange::start(dev(data.path())).await.stop().await.success());
    let file = blocks(OPERATING).into_iter().find(|block| block.kind == "toml").unwrap();
    let directory = data.path().display().to_string();
    let text = file.text.replace("/etc/airut", &directory).replace("/var/lib/airut", &directory);
    let text = text.replace("0.0.0.0:7443", "127.0.0.1:0").replace("0.0.0.0:9464", "127.0.0.1:0");
    fs::write(data.join("airut.toml"), text).unwrap();

    let config = data.join("airut.toml");
    let checked = airut().args(["config", "check", "--config"]).arg(&config).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut serve = airut();
    serve.args(["serve", "--config"]).arg(&config);
    let exchange = Exchange::start(serve).await;
    let mut query = airut();
    query.args(["query", "--as", "helsinki", "--subject-stdin", "--data"]).arg(data.path());
    query.args(["--server", &exchange.address.to_string()]);
    let person = crate::support::persons(data.path()).remove(0);
    let answered = crate::cli::run(query, &person).await;
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
    assert!(exchange.stop().await.success());
}
