//! The registry of partners over the command line, against a real exchange.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use airut_client::CallError;
use airut_domain::{record::Kind, refusal::Reason};
use airut_identity::dev_ca::{DevCa, Leaf};
use airut_testkit::{eventually, now};
use airut_wire::v1::{
    GetSelfRequest, ServeRequest, partner_service_client::PartnerServiceClient,
    query_service_client::QueryServiceClient, serve_request,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

use crate::{
    cli::run,
    support::{Data, Exchange, LOCALHOST, PATIENCE, airut, channel, connect_as, dev, entries, ledger_verify},
};

/// Whoever may call no more has lost what they had open within this.
const CUT_WITHIN: Duration = Duration::from_secs(10);

fn partner(data: &Path, server: SocketAddr, caller: &str, arguments: &[&str]) -> Command {
    let mut command = airut();
    command.arg("partner").args(arguments);
    command.args(["--as", caller, "--server", &server.to_string(), "--data"]).arg(data);
    command
}

/// Runs `airut partner` as somebody; gives how it ended and what it said.
async fn as_partner(data: &Data, exchange: &Exchange, caller: &str, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = run(partner(data.path(), exchange.address, caller, arguments), "").await;
    let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    (status.code().unwrap(), said)
}

#[track_caller]
fn assert_ended((status, said): (i32, String), expected: i32, parts: &[&str]) {
    assert_eq!(status, expected, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
}

async fn is_served(channel: &Channel) -> bool {
    PartnerServiceClient::new(channel.clone()).get_self(GetSelfRequest {}).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_and_applies_and_nobody_else_does() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let listed = as_partner(&data, &exchange, "operator", &["list"]).await;
    assert_ended(
        listed,
        0,
        &["ID", "pirkanmaa", "Pirkanmaan hyvinvointialue", "operator", "pension-provider", "active"],
    );
    let (_, table) = as_partner(&data, &exchange, "operator", &["list"]).await;
    let rights = |id: &str| {
        let line = table.lines().find(|line| line.trim_start().starts_with(id)).unwrap();
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        cells[cells.len() - 2..].join(" | ")
    };
    assert_eq!(rights("ID"), "SENDS | RECEIVES");
    assert_eq!((rights("dvv").as_str(), rights("pirkanmaa").as_str()), ("5 types | -", "3 types | 8 types"));
    assert_eq!(rights("auditor"), "- | -");
    let (status, listed) = as_partner(&data, &exchange, "operator", &["list", "--output", "json"]).await;
    assert_eq!(status, 0, "{listed}");
    let listed: Value = serde_json::from_str(&listed).expect("one JSON value");
    let ids: Vec<&str> = listed["partners"].as_array().unwrap().iter().filter_map(|p| p["id"].as_str()).collect();
    assert!(ids.is_sorted() && ids.contains(&"kela"), "{ids:?}");
    assert_ended(as_partner(&data, &exchange, "pirkanmaa", &["list"]).await, 3, &["NOT_AN_OPERATOR"]);
    assert_ended(as_partner(&data, &exchange, "pirkanmaa", &["suspend", "helsinki"]).await, 3, &["NOT_AN_OPERATOR"]);

    let own = as_partner(&data, &exchange, "pirkanmaa", &["self"]).await;
    let told = ["version 1", "1412/1997", "MONTHS BACK", "national-pension", "Exchanges with"];
    assert_ended(own, 0, &[&["pirkanmaa  Pirkanmaan"], &told[..]].concat());
    let (status, own) = as_partner(&data, &exchange, "pirkanmaa", &["self", "--output", "json"]).await;
    assert_eq!(status, 0, "{own}");
    let own: Value = serde_json::from_str(&own).expect("one JSON value");
    assert_eq!((&own["state"], &own["version"]), (&"active".into(), &1.into()));
    assert!(own["contracts"][0]["grants"][0]["months_back"].is_u64(), "{own}");
    assert!(own["certificates"][0]["uri"].is_string(), "{own}");
    let kela = serde_json::json!({"id": "kela", "name": "Kela", "kind": "kela"});
    assert!(own["counterparts"].as_array().unwrap().contains(&kela), "{own}");

    let renamed = fs::read_to_string(data.join("partners/helsinki.toml")).unwrap();
    let file = data.join("helsinki-new.toml");
    fs::write(&file, renamed.replacen("name = \"", "name = \"Anew: ", 1)).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap(), "--expected-version"];
    let applied = as_partner(&data, &exchange, "operator", &[&apply[..], &["1"]].concat()).await;
    assert_ended(applied, 0, &["Anew: ", "version 2"]);
    let stale = as_partner(&data, &exchange, "operator", &[&apply[..], &["0"]].concat()).await;
    assert_ended(stale, 3, &["VERSION_CHANGED"]);
    fs::write(&file, "id = 'x'\nname = ''\nkind = 'other'\n").unwrap();
    let faulty = as_partner(&data, &exchange, "operator", &apply[..3]).await;
    assert_ended(faulty, 2, &["name: is required", "certificate: at least one"]);
    assert_ended(as_partner(&data, &exchange, "operator", &["suspend", "nobody"]).await, 3, &["NOT_FOUND"]);
    assert_ended(as_partner(&data, &exchange, "operator", &["revoke", "kela"]).await, 2, &["--certificate"]);
}

/// Opens a stream to answer questions, and gives its end.
async fn stream(
    data: &Data,
    exchange: &Exchange,
) -> (tonic::Streaming<airut_wire::v1::ServeResponse>, mpsc::Sender<ServeRequest>) {
    let (said, requests) = mpsc::channel(4);
    let open = serve_request::Message::Open(serve_request::Open { max_in_flight: 1 });
    said.send(ServeRequest { message: Some(open) }).await.unwrap();
    let channel = channel(data.path(), exchange.address, "kela").await;
    let mut told = QueryServiceClient::new(channel).serve(ReceiverStream::new(requests)).await.unwrap().into_inner();
    told.message().await.unwrap().expect("it is opened");
    (told, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_cuts_open_streams_and_outlives_a_restart_until_the_file_is_edited() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let (mut told, _said) = stream(&data, &exchange).await;
    let suspended = as_partner(&data, &exchange, "operator", &["suspend", "kela"]).await;
    assert_ended(suspended, 0, &["suspended, version 2"]);
    let ended = async { while let Ok(Some(_)) = told.message().await {} };
    tokio::time::timeout(CUT_WITHIN, ended).await.expect("the stream is cut");
    assert_ended(as_partner(&data, &exchange, "kela", &["self"]).await, 3, &["PARTNER_SUSPENDED"]);
    assert!(exchange.stop().await.success());

    let file = data.join("partners/kela.toml");
    let definition = fs::read_to_string(&file).unwrap();
    assert!(!definition.contains("suspended"), "the file says that it is active");
    let exchange = Exchange::start(dev(data.path())).await;
    assert_ended(as_partner(&data, &exchange, "kela", &["self"]).await, 3, &["PARTNER_SUSPENDED"]);
    fs::write(&file, definition.replacen("name = \"Kela\"", "name = \"Kansaneläkelaitos\"", 1)).unwrap();
    let kela = exchange.client(data.path(), "kela").await;
    eventually(PATIENCE, async || kela.own_definition(PATIENCE).await.is_ok()).await;
    assert_eq!(kela.own_definition(PATIENCE).await.unwrap().version, 3);

    // Over the service alone: suspended, and let in again.
    assert_ended(as_partner(&data, &exchange, "operator", &["suspend", "kela"]).await, 0, &["version 4"]);
    let resume = ["apply", "-f", file.to_str().unwrap()];
    assert_ended(as_partner(&data, &exchange, "operator", &resume).await, 0, &["active, version 5"]);

    told_to_the_auditor(&data, &exchange, &[("kela", "operator"), ("kela", "operator"), ("kela", "operator")]).await;
    assert!(exchange.stop().await.success());
    let verified = ledger_verify(data.path());
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// Whoever was changed over the service, and by whom, as the auditor is shown it. They see it in their own entries too.
async fn told_to_the_auditor(data: &Data, exchange: &Exchange, expected: &[(&str, &str)]) {
    for (reader, sees) in
        [("auditor", expected.len()), ("operator", expected.iter().filter(|(_, by)| *by == "operator").count())]
    {
        let client = exchange.client(data.path(), reader).await;
        let mut told = Vec::new();
        eventually(PATIENCE, async || {
            told = entries(&client).await.into_iter().filter_map(|(_, header)| change(header.kind)).collect();
            told.len() >= sees
        })
        .await;
        let expected = expected.iter().filter(|(_, by)| reader == "auditor" || *by == reader);
        let expected: Vec<(String, String)> = expected.map(|(id, by)| ((*id).to_owned(), (*by).to_owned())).collect();
        assert_eq!(told, expected, "as told to {reader}");
    }
}

/// Whom a record changed, and who did, when it was over the service.
fn change(kind: Kind) -> Option<(String, String)> {
    match kind {
        Kind::Partner(applied) => applied.by.map(|by| (applied.partner.id.to_string(), by.to_string())),
        Kind::Message(_)
        | Kind::Query(_)
        | Kind::Refusal(_)
        | Kind::Document(_)
        | Kind::Request(_)
        | Kind::Member(_)
        | Kind::Order(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_cut_and_refused_and_a_registered_one_is_let_in() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let ca = DevCa::open_or_create(&data.join("pki"), now()).unwrap();
    let next = Leaf { organization_identifier: Some("NTRFI-9999999-9".to_owned()), ..Leaf::nameless(now()) };
    let next = ca.issue_as("helsinki-next", &next).unwrap();
    let next_file = next.certificate.to_str().unwrap();
    assert_ended(as_partner(&data, &exchange, "helsinki-next", &["self"]).await, 3, &["CERTIFICATE_UNKNOWN"]);
    let registered = as_partner(&data, &exchange, "helsinki", &["register-certificate", next_file]).await;
    assert_ended(registered, 0, &["helsinki", "organizationIdentifier NTRFI-9999999-9", "version 2"]);
    assert_ended(as_partner(&data, &exchange, "helsinki-next", &["self"]).await, 0, &["helsinki", "version 2"]);
    let again = as_partner(&data, &exchange, "helsinki", &["register-certificate", next_file]).await;
    assert_ended(again, 0, &["version 2"]);
    let taken = as_partner(&data, &exchange, "pirkanmaa", &["register-certificate", next_file]).await;
    assert_ended(taken, 3, &["INVALID_FIELD", "is another partner's already"]);
    let elsewhere = airut_testkit::Pki::new();
    let foreign = elsewhere.partner("pirkanmaa").certificate;
    let register = ["register-certificate", foreign.to_str().unwrap()];
    let foreign = as_partner(&data, &exchange, "pirkanmaa", &register);
    assert_ended(foreign.await, 3, &["CERTIFICATE_UNTRUSTED"]);

    let other = channel(data.path(), exchange.address, "helsinki-next").await;
    assert!(is_served(&other).await);
    let tls = connect_as(data.path(), LOCALHOST, exchange.address, "helsinki").await.unwrap();
    let (_requests, open) = h2::client::handshake(tls).await.unwrap();
    let mut open = tokio::spawn(open);
    let file = data.join("pki/helsinki.crt");
    let revoke = ["revoke", "helsinki", "--certificate", file.to_str().unwrap()];
    let revoked = as_partner(&data, &exchange, "operator", &revoke).await;
    assert_ended(revoked, 0, &["never again by the certificate", "version 3"]);
    drop(tokio::time::timeout(CUT_WITHIN, &mut open).await.expect("the open connection is cut").unwrap());
    assert!(is_served(&other).await, "the next certificate goes on");
    let client = exchange.client(data.path(), "helsinki").await;
    let Err(CallError::Refused(refused)) = client.own_definition(PATIENCE).await else { panic!("it is refused") };
    assert_eq!((refused.code, refused.reason), (Code::Unauthenticated, Some(Reason::CertificateRevoked)));

    told_to_the_auditor(&data, &exchange, &[("helsinki", "helsinki"), ("helsinki", "operator")]).await;
    assert!(exchange.stop().await.success());
    assert!(ledger_verify(data.path()).status.success());
}
