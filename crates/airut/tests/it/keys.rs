//! Keys, from the command line and under a running exchange: rotation, erasing, and a key store that is gone.

use std::{fs, path::Path, process::Output, time::Duration};

use airut_client::{Client, ReceiptKeys};
use airut_domain::{id::KeyId, record::Kind};
use airut_log::{EdgeRing, KeyRing};
use airut_store::{Clock, Family, key_id};
use airut_testkit::{S3, eventually};
use serde_json::Value;

use crate::{
    cli::run,
    support::{Data, Exchange, PATIENCE, airut, dev, entries, ledger_verify, notice, persons, question, receipt_keys},
};

/// How long is waited for what is not going to happen.
const A_WHILE: Duration = Duration::from_secs(2);

/// Runs `airut keys` on a data directory, its words as one text.
async fn keys(data: &Path, words: &str) -> Output {
    let mut command = airut();
    command.arg("keys").args(words.split(' ')).arg("--data").arg(data);
    run(command, "").await
}

async fn keys_json(data: &Path, words: &str) -> Value {
    let output = keys(data, &format!("{words} --output json")).await;
    assert_eq!(output.status.code(), Some(0), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON value")
}

/// Asserts how a command has ended, and that it says why.
#[track_caller]
fn ended(output: &Output, status: i32, why: &str) {
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(why), "{why} is missing in: {said}");
}

/// The key of what the partner is to read of today.
fn todays(family: Family, partner: &str) -> KeyId {
    key_id(family, Clock::system().now().date(), &partner.parse().unwrap())
}

/// How many data keys each wrapping key wraps.
fn wrapped(status: &Value) -> Vec<(&str, u64)> {
    let keys = status["wrapping_keys"].as_array().unwrap().iter();
    keys.map(|key| (key["id"].as_str().unwrap(), key["data_keys"].as_u64().unwrap())).collect()
}

/// The messages that the log has accepted for this partner.
async fn accepted_for(auditor: &Client, recipient: &str) -> usize {
    let of = |kind: &Kind| matches!(kind, Kind::Message(airut_domain::message::Event::Accepted(accepted)) if accepted.recipient.as_str() == recipient);
    entries(auditor).await.iter().filter(|(_, header)| of(&header.kind)).count()
}

fn signed_by(data: &Data) -> ReceiptKeys {
    receipt_keys(data.path())
}

/// What the partner pulls, within a second.
async fn pull(client: &Client) -> Vec<String> {
    let wait = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = airut_wire::v1::PullRequest { max_messages: 16, wait, ..airut_wire::v1::PullRequest::default() };
    let pulled = client.pull(&request, PATIENCE).await.expect("it may");
    pulled.into_iter().map(|delivery| delivery.message.unwrap().message_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapping_key_is_replaced_step_by_step_while_everything_runs() {
    let data = Data::new();
    let mut command = dev(data.path());
    command.env("RUST_LOG", "info");
    let exchange = Exchange::start(command).await;
    let person = persons(data.path()).remove(0);
    let (kela, county) = (exchange.client(data.path(), "kela").await, exchange.client(data.path(), "pirkanmaa").await);
    kela.send(&notice("before", &person), &signed_by(&data), PATIENCE).await.unwrap();

    ended(&keys(data.path(), "rotate remove wrapping-1").await, 3, "is active");
    ended(&keys(data.path(), "rotate activate wrapping-9").await, 3, "no wrapping key wrapping-9");
    let added = keys_json(data.path(), "rotate add").await;
    assert_eq!(added["id"], "wrapping-2");
    assert_eq!(keys_json(data.path(), "rotate activate wrapping-2").await["active"], true);
    let said = exchange.said();
    eventually(PATIENCE, async || said.all().1.contains("wrapping-2")).await;

    // The running process wraps what is new with the new key, and opens what is old.
    let message = airut_wire::v1::SendRequest { recipient: "helsinki".into(), ..notice("between", &person) };
    kela.send(&message, &signed_by(&data), PATIENCE).await.unwrap();
    county.query(&question("between", &person), PATIENCE).await.unwrap();
    let status = keys_json(data.path(), "status").await;
    assert!(wrapped(&status).iter().all(|(_, count)| *count > 0), "{status}");
    ended(&keys(data.path(), "rotate remove wrapping-1").await, 3, "airut keys rewrap first");
    let rewrapped = keys_json(data.path(), "rewrap").await;
    assert!(rewrapped["rewrapped"].as_u64().unwrap() >= 1, "{rewrapped}");
    assert_eq!(keys_json(data.path(), "rewrap").await["rewrapped"], 0, "once more is harmless");
    ended(&keys(data.path(), "rotate remove wrapping-1").await, 0, "no longer in");
    let status = keys_json(data.path(), "status").await;
    assert_eq!(wrapped(&status).iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["wrapping-2"]);
    county.query(&question("after", &person), PATIENCE).await.unwrap();
    assert!(exchange.stop().await.success());

    // And a new process, which has never had the old key.
    let exchange = Exchange::start(dev(data.path())).await;
    let county = exchange.client(data.path(), "pirkanmaa").await;
    eventually(PATIENCE, async || pull(&county).await == ["before"]).await;
    assert!(exchange.stop().await.success());
    assert!(ledger_verify(data.path()).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_erased_key_sealed_is_read_by_nobody_and_the_ledger_verifies() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let person = persons(data.path()).remove(0);
    let kela = exchange.client(data.path(), "kela").await;
    kela.send(&notice("erased", &person), &signed_by(&data), PATIENCE).await.unwrap();
    let other = airut_wire::v1::SendRequest { recipient: "helsinki".into(), ..notice("kept", &person) };
    kela.send(&other, &signed_by(&data), PATIENCE).await.unwrap();

    let id = todays(Family::Message, "pirkanmaa");
    ended(&keys(data.path(), &format!("erase {id}")).await, 3, "--even-today");
    ended(&keys(data.path(), "erase message/2026-01-01/nobody").await, 3, "there is no data key");
    ended(&keys(data.path(), "erase --family message --before 2999-01-01").await, 3, "--even-today");
    ended(&keys(data.path(), "erase --family message --before yesterday").await, 2, "must be a date");
    assert_eq!(keys_json(data.path(), &format!("erase {id} --even-today")).await["erased"], 1);
    assert_eq!(keys_json(data.path(), &format!("erase {id} --even-today")).await["erased"], 0);
    assert_eq!(keys_json(data.path(), "erase --family query --before 2026-01-01").await["erased"], 0);
    let families = keys_json(data.path(), "status").await["families"].clone();
    assert_eq!(
        (&families[0]["family"], &families[0]["keys"], &families[0]["erased"]),
        (&"message".into(), &1.into(), &1.into())
    );
    assert!(exchange.stop().await.success());

    // A new process has nothing in memory; that a running one forgets within a minute, `exchange` shows with its own clock.
    let exchange = Exchange::start(dev(data.path())).await;
    let helsinki = exchange.client(data.path(), "helsinki").await;
    eventually(PATIENCE, async || pull(&helsinki).await == ["kept"]).await;
    let county = exchange.client(data.path(), "pirkanmaa").await;
    assert_eq!(pull(&county).await, [""; 0], "nobody can read it");
    let kela = exchange.client(data.path(), "kela").await;
    let refused = kela.send(&notice("new", &person), &signed_by(&data), A_WHILE).await;
    assert!(refused.is_err(), "nothing more is sealed for that day");
    let auditor = exchange.client(data.path(), "auditor").await;
    assert_eq!(accepted_for(&auditor, "pirkanmaa").await, 1, "what happened stays on record");
    assert!(exchange.stop().await.success());
    let verified = ledger_verify(data.path());
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn years_of_pseudonyms_are_forgotten_by_gateways_first_and_by_the_ledger_after_twelve() {
    let data = Data::new();
    let mut prepare = airut();
    prepare.args(["dev", "--prepare", "--data"]).arg(data.path());
    assert!(run(prepare, "").await.status.success());
    let year = Clock::system().now().date().year();
    // As it is when the exchange has run for long.
    for file in ["keys/ring.toml", "keys/edge.toml"] {
        let text = fs::read_to_string(data.join(file)).unwrap();
        let older = [year - 2, year - 13].map(|year| format!("subject-{year} = \"{}\"\n", "ab".repeat(32))).concat();
        fs::write(data.join(file), text.replace("[subject]\n", &format!("[subject]\n{older}"))).unwrap();
    }
    for needed in [year - 1, year, year + 1] {
        ended(&keys(data.path(), &format!("forget-year {needed}")).await, 3, "is needed");
    }
    let forgotten = keys_json(data.path(), &format!("forget-year {}", year - 2)).await;
    assert_eq!(
        (&forgotten["forgotten_in_the_ring"], &forgotten["forgotten_in_the_ledger"]),
        (&true.into(), &false.into())
    );
    ended(&keys(data.path(), &format!("forget-year {}", year - 2)).await, 0, &format!("to the end of {}", year + 10));
    let forgotten = keys_json(data.path(), &format!("forget-year {}", year - 13)).await;
    assert_eq!(
        (&forgotten["forgotten_in_the_ring"], &forgotten["forgotten_in_the_ledger"]),
        (&true.into(), &true.into())
    );
    let status = keys_json(data.path(), "status").await;
    assert_eq!(status["years"][0], year - 1);
    assert_eq!((&status["ledger_years"][0], &status["ledger_years"][1]), (&(year - 2).into(), &(year - 1).into()));
    assert_eq!(KeyRing::load(data.join("keys/ring.toml")).unwrap().years().min(), Some(year - 1));
    assert_eq!(EdgeRing::load(data.join("keys/edge.toml")).unwrap().years().min(), Some(year - 2));
    let said = keys(data.path(), "status").await;
    ended(&said, 0, "wrapping-1");
    ended(&said, 0, &format!("{} to {}", year - 1, year + 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_directory_nothing_is_recorded_and_all_goes_on_once_it_is_back() {
    let data = Data::new();
    Exchange::start(dev(data.path())).await.stop().await;
    let exchange = serve(&data, &format!("directory = '{}'", data.join("objects").display())).await;
    let (there, away) = (data.join("objects"), data.join("objects-away"));
    goes_on(&data, &exchange, || fs::rename(&there, &away).unwrap(), || fs::rename(&away, &there).unwrap()).await;
    assert!(exchange.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_s3_server_nothing_is_recorded_and_all_goes_on_once_it_is_back() {
    let Some(s3) = tokio::task::spawn_blocking(S3::start_tls).await.unwrap() else { return };
    let data = Data::new();
    Exchange::start(dev(data.path())).await.stop().await;
    let (access_key, secret_key) = s3.keys();
    let settings = format!(
        "s3 = {{ endpoint = '{}', bucket = '{}', access_key = '{}', secret_key = '{}', prefix = 'dev', ca = '{}' }}",
        s3.endpoint(),
        s3.bucket(),
        access_key.display(),
        secret_key.display(),
        s3.ca().unwrap().display(),
    );
    let exchange = serve(&data, &settings).await;
    goes_on(&data, &exchange, || s3.kill(), || s3.restart()).await;
    let mut status = airut();
    status.args(["keys", "status", "--output", "json", "--config"]).arg(data.join("airut.toml"));
    let status: Value = serde_json::from_slice(&run(status, "").await.stdout).unwrap();
    assert_eq!(status["families"][0]["keys"], 2, "{status}");
    assert!(exchange.stop().await.success());
}

/// Runs a gateway and a ledger with this store.
async fn serve(data: &Data, store: &str) -> Exchange {
    let dir = data.path().display();
    let config = format!(
        "roles = ['gateway', 'ledger']\nlisten = '127.0.0.1:0'\nmetrics_listen = '127.0.0.1:0'\n\
         data = '{dir}'\npartners = '{dir}/partners'\nledger.origin = 'airut.example/dev'\n\
         [tls]\ncertificate = '{dir}/pki/server.crt'\nkey = '{dir}/pki/server.key'\n\
         client_cas = ['{dir}/pki/ca.crt']\ncrls = ['{dir}/pki/crl.pem']\n\
         [keys]\nring = '{dir}/keys/ring.toml'\nreceipt = '{dir}/keys/receipt.key'\n[store]\n{store}\n"
    );
    fs::write(data.join("airut.toml"), config).unwrap();
    let mut command = airut();
    command.args(["serve", "--config"]).arg(data.join("airut.toml"));
    Exchange::start(command).await
}

/// While the store is gone a message that needs a new key is refused and not recorded; afterwards it is taken under the same id.
async fn goes_on(data: &Data, exchange: &Exchange, go: impl Fn(), come: impl Fn()) {
    let person = persons(data.path()).remove(0);
    let kela = exchange.client(data.path(), "kela").await;
    let auditor = exchange.client(data.path(), "auditor").await;
    kela.send(&notice("before", &person), &signed_by(data), PATIENCE).await.unwrap();
    let message = airut_wire::v1::SendRequest { recipient: "helsinki".into(), ..notice("refused", &person) };
    tokio::task::block_in_place(go);
    assert!(kela.send(&message, &signed_by(data), A_WHILE).await.is_err());
    tokio::task::block_in_place(come);
    kela.send(&message, &signed_by(data), PATIENCE).await.unwrap();
    eventually(PATIENCE, async || accepted_for(&auditor, "helsinki").await > 0).await;
    assert_eq!(accepted_for(&auditor, "helsinki").await, 1, "refused means not recorded");
    assert!(exchange.stderr().contains("key store can not be reached"), "{}", exchange.stderr());
    let helsinki = exchange.client(data.path(), "helsinki").await;
    eventually(PATIENCE, async || pull(&helsinki).await == ["refused"]).await;
}
