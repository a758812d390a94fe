//! The exchange is away while officials work at their desk, or their session ends.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use airut_desk::{Limits, Now, OfficeSettings, Role, Running, Settings, SignIn};
use airut_testkit::{Browser, By, WindowOptions, eventually, free_ports, now};
use airut_wire::v1::ListInformationRequestsRequest;
use serde_json::json;

use super::{
    Official, Visitor,
    sign_in::{OwnDesk, keycloak},
};
use crate::support::{Data, Exchange, PATIENCE, airut, dev, persons};

/// The exchange without the desk, at this port.
async fn exchange(data: &Data, port: u16) -> Exchange {
    let mut dev = airut();
    dev.args(["dev", "--metrics-listen", "127.0.0.1:0", "--desk-listen", "127.0.0.1:0", "--listen"]);
    dev.arg(format!("127.0.0.1:{port}")).arg("--data").arg(data.path());
    Exchange::start(dev).await
}

fn signal(exchange: &Exchange, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", exchange.pid())]).status().unwrap();
    assert!(sent.success());
}

/// How many requests Kela has put.
async fn put(exchange: &Exchange, data: &Data) -> usize {
    let kela = exchange.client(data.path(), "kela").await;
    let all = ListInformationRequestsRequest { page_size: 100, ..Default::default() };
    kela.list_information_requests(&all, PATIENCE).await.expect("it serves").information_requests.len()
}

async fn fill(aino: &Official, person: &str) {
    aino.open("/requests/new").await;
    aino.window.choose(By::Css("#field-responder"), "Pirkanmaan hyvinvointialue").await;
    aino.window.choose(By::Css("#field-kind"), "Sosiaaliviranomaisen lausunto").await;
    for (field, text) in [("person", person), ("case", "TT-118"), ("question", "Mitä on myönnetty kesäkuun jälkeen?")]
    {
        aino.window.fill(By::Css(&format!("#field-{field}")), text).await;
    }
}

/// The page says that it was not sent, and has all that was typed.
async fn is_kept(aino: &Official, person: &str) {
    aino.window.find(By::Css("#errors")).await;
    let script = "return performance.getEntriesByType('navigation')[0].responseStatus";
    assert_eq!(aino.window.execute(script, Vec::new()).await, json!(503));
    aino.window.shows("Lähetys ei onnistunut").await;
    for text in [person, "TT-118", "Mitä on myönnetty kesäkuun jälkeen?"] {
        aino.window.shows(text).await;
    }
}

const CHECK: By<'static> = By::Css("main button[name=step][value=check]");
const SEND: By<'static> = By::Css("main button[name=step][value=send]");
const LOST: &str = "Sanomanvälitykseen ei juuri nyt saada yhteyttä.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_while_the_exchange_is_away_is_sent_once_when_it_is_back() {
    let Some(browser) = Browser::start() else { return };
    let Some(keycloak) = tokio::task::spawn_blocking(keycloak).await.unwrap() else { return };
    let (data, port) = (Data::new(), free_ports(1)[0]);
    let mut running = exchange(&data, port).await;
    let kela = OwnDesk::start("kela", running.address, data.path(), keycloak).await;
    let person = persons(data.path()).swap_remove(0);
    let aino = kela.official(&browser, "aino", "fi").await;

    // It is gone.
    fill(&aino, &person).await;
    aino.is_connected().await;
    assert!(aino.window.has(By::Css("#link[hidden]")).await);
    running.kill();
    eventually(PATIENCE, async || aino.window.has(By::Css("#link:not([hidden])")).await).await;
    aino.window.shows(LOST).await;
    aino.window.click(CHECK).await;
    aino.window.click(SEND).await;
    is_kept(&aino, &person).await;
    let other = kela.official(&browser, "aino", "sv").await;
    other.open("/requests/kela/whichever").await;
    other.window.shows("Meddelandeförmedlingen kan inte nås").await;
    other.open("/requests").await;
    other.window.shows("Begäranden om information").await;

    let running = exchange(&data, port).await;
    aino.is_connected().await;
    eventually(PATIENCE, async || aino.window.has(By::Css("#link[hidden]")).await).await;
    aino.window.click(SEND).await;
    aino.window.find(By::Css(".timeline")).await;
    assert_eq!(put(&running, &data).await, 1);

    // It stands still, and what it was told lies before it when it goes on.
    fill(&aino, &person).await;
    aino.window.click(CHECK).await;
    aino.window.find(SEND).await;
    signal(&running, "STOP");
    aino.window.click(SEND).await;
    is_kept(&aino, &person).await;
    signal(&running, "CONT");
    eventually(PATIENCE, async || {
        aino.window.click(SEND).await;
        aino.window.find(By::Css(".timeline, #errors")).await;
        aino.window.has(By::Css(".timeline")).await
    })
    .await;
    assert_eq!(put(&running, &data).await, 2);
}

/// A desk of Kela's in this process, whose clock is so many minutes ahead.
pub(super) async fn desk_ahead(exchange: &Exchange, data: &Data, minutes: Arc<AtomicU32>) -> Running {
    let pki = data.join("pki");
    let official = |subject: &str| airut_desk::Official {
        subject: subject.to_owned(),
        name: format!("{subject} Esimerkki"),
        organisation: "kela".to_owned(),
        title: "case-worker".to_owned(),
        unit: "Perustoimeentulotuki".to_owned(),
        telephone: "020 000 0000".to_owned(),
        roles: [Role::Requests].into(),
    };
    let address = exchange.address.to_string();
    let client = airut_client::Settings::new(address, pki.join("ca.crt"), pki.join("kela.crt"), pki.join("kela.key"));
    let office = OfficeSettings {
        id: "kela".to_owned(),
        exchange: client,
        receipt_keys: pki.join("receipt-keys.txt"),
        collect: ["social-assistance-document".to_owned()].into(),
    };
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        public_url: None,
        dir: data.join("desk-ahead"),
        key: data.join("desk-ahead.key"),
        offices: vec![office],
        sign_in: SignIn::Choose(vec![("Kela".to_owned(), vec![official("aino"), official("eero")])]),
        limits: Limits::default(),
        largest_document: 1 << 20,
        keep_handled: Duration::from_secs(3600),
        keep_access_log: Duration::from_secs(3600),
    };
    let ahead = move || now() + Duration::from_secs(60) * minutes.load(Ordering::Relaxed);
    Running::start(settings, Now::new(ahead)).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_is_done_to_its_end_whoever_hangs_up() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let desk = desk_ahead(&exchange, &data, Arc::default()).await;
    let aino = Visitor::at(desk.address(), "aino").await;
    let filled = aino.question(&persons(data.path())[0], "What has been granted?").await;
    let fields = filled.each_ref().map(|(name, value)| (*name, value.as_str()));
    let log = async || aino.get("/en/log").await.text();

    // She goes while the exchange is asked.
    signal(&exchange, "STOP");
    let waits = aino.begin("/en/requests/new", &fields).await;
    eventually(PATIENCE, async || log().await.contains("Sent an information request")).await;
    drop(waits);
    assert!(log().await.contains("<td><strong>"), "it has no end yet");
    signal(&exchange, "CONT");

    // The exchange has it, the log how it ended, and the desk the case that only the form told.
    let request = format!("/en/requests/kela/{}", filled[0].1);
    eventually(PATIENCE, async || aino.get("/en/requests?tab=all").await.text().contains(&request)).await;
    eventually(PATIENCE, async || !log().await.contains("<td><strong>")).await;
    eventually(PATIENCE, async || aino.get(&request).await.text().contains("TT-118")).await;
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_when_the_session_ended_is_given_back_to_whoever_typed_it() {
    let Some(browser) = Browser::start() else { return };
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let minutes = Arc::new(AtomicU32::new(0));
    let desk = desk_ahead(&exchange, &data, Arc::clone(&minutes)).await;
    let (url, person) = (format!("http://{}", desk.address()), persons(data.path()).swap_remove(0));
    let window = browser.window(WindowOptions { languages: "fi", ..WindowOptions::default() }).await;
    let aino = Official { window, desk: url, language: "fi".to_owned() };
    let card = |subject: &str| format!("form:has(input[name=official][value={subject}]) button");

    for again in ["aino", "eero"] {
        aino.sign_in("aino").await;
        fill(&aino, &person).await;
        aino.is_connected().await;
        minutes.fetch_add(31, Ordering::Relaxed);
        aino.window.find(By::Css("body[data-connected=over]")).await;
        aino.window.shows("Istuntosi on päättynyt.").await;
        aino.window.click(CHECK).await;
        aino.window.click(By::Css(&card(again))).await;
        if again == "eero" {
            // Whoever else signs in there sees nothing of it.
            aino.window.find(By::Css("#today")).await;
            break;
        }
        aino.window.shows("tallella").await;
        aino.window.click(By::Css("main form button")).await;
        for text in [&*person, "TT-118", "Mitä on myönnetty kesäkuun jälkeen?"] {
            aino.window.shows(text).await;
        }
        aino.window.click(SEND).await;
        aino.window.find(By::Css(".timeline")).await;
        aino.window.click(By::Css(".who button")).await;
    }
    assert_eq!(put(&exchange, &data).await, 1);
    // What is only read leaves the screen with the session.
    aino.is_connected().await;
    minutes.fetch_add(31, Ordering::Relaxed);
    aino.window.find(By::Css(&card("aino"))).await;
    desk.stop().await;
}
