//! The whole life of an information request, as its officials see it in their browsers.

use airut_testkit::{Browser, By, WindowOptions};
use serde_json::json;

use super::{Desk, Official, PDF, file};
use crate::support::Data;

/// Whether browsers run the desk's scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scripts {
    Run,
    Forbidden,
}

/// The name of the document that goes with the answer.
const NAME: &str = "Päätös (liite 1).pdf";

/// What a request's page says when it is no longer all that there is.
const NEWS: By<'static> = By::Link("There is something new in this request. Show it.");

const REMEMBERS: WindowOptions<'static> =
    WindowOptions { width: 1280, height: 1024, languages: "en", trusting: false, remembers: true };

/// Kela's case worker asks, the county's social worker answers with a document, Kela has it completed and closes it. Both have
/// today's page open at first. Gives the request's id.
pub(super) async fn goes_its_way(aino: &Official, vaino: &Official, person: &str, scripts: Scripts) -> String {
    let files = Data::new();
    let attached = file(files.path(), NAME, PDF);
    let runs = scripts == Scripts::Run;
    if runs {
        vaino.is_connected().await;
        // A page that was loaded anew would not have it.
        vaino.window.execute("window.sameAsBefore = true", Vec::new()).await;
    }

    let id = asks(aino, person).await;

    if runs {
        vaino.window.shows(&id).await;
        assert_eq!(vaino.window.execute("return window.sameAsBefore", Vec::new()).await, json!(true));
    } else {
        vaino.open("/").await;
    }
    vaino.window.click(By::Css(&format!("#today a[href$='{id}']"))).await;
    vaino.window.shows("What has been granted since June?").await;
    vaino.window.shows("Aino Esimerkki (").await;
    vaino.window.click(By::Button("Claim")).await;
    vaino.window.shows("You have claimed this").await;

    vaino.window.click(By::Link("Answer")).await;
    if runs {
        vaino.window.fill(By::Css("#field-answer"), "Nothing but the appended.").await;
    }
    vaino.window.upload(By::Label("Files"), &[&attached]).await;
    vaino.window.click(By::Button("Attach the files")).await;
    vaino.window.find(By::Css("#fields input[name=documents]:checked")).await;
    vaino.window.shows(NAME).await;
    if runs {
        assert_eq!(
            vaino.window.value(By::Css("#field-answer")).await,
            "Nothing but the appended.",
            "what was typed stays"
        );
    } else {
        vaino.window.fill(By::Css("#field-answer"), "Nothing but the appended.").await;
    }
    vaino.window.fill(By::Label("Case number"), "PH-7").await;
    vaino.check_and_send().await;
    vaino.window.shows("The answer was sent.").await;

    shows_anew(aino, &id, scripts, "Nothing but the appended.").await;
    aino.window.shows("Väinö Esimerkki (").await;
    fetches(aino, &id, scripts).await;
    returns(aino, &id).await;

    shows_anew(vaino, &id, scripts, "Since when?").await;
    vaino.window.click(By::Link("Answer")).await;
    vaino.window.fill(By::Css("#field-answer"), "Since 1 July.").await;
    vaino.check_and_send().await;
    vaino.window.shows("The answer was sent.").await;

    shows_anew(aino, &id, scripts, "Since 1 July.").await;
    aino.window.click(By::Link("Close")).await;
    aino.check_and_send().await;
    aino.window.shows("The request was closed.").await;
    shows_anew(vaino, &id, scripts, "The request was closed").await;
    id
}

async fn asks(aino: &Official, person: &str) -> String {
    aino.window.click(By::Link("Information requests")).await;
    aino.window.click(By::Link("New information request")).await;
    aino.window.choose(By::Label("To whom"), "Pirkanmaan hyvinvointialue").await;
    let kind = "Report on supplementary and preventive assistance";
    aino.window.choose(By::Label("Kind of request"), kind).await;
    aino.window.fill(By::Label("Identity code"), person).await;
    aino.window.fill(By::Label("Case number"), "TT-118").await;
    aino.window.fill(By::Label("What you ask"), "What has been granted since June?").await;
    aino.window.click(By::Button("Go on to check")).await;
    for looked_over in ["Check before you send.", kind, person, "TT-118", "What has been granted since June?"] {
        aino.window.shows(looked_over).await;
    }
    aino.window.click(By::Button("Send the request")).await;
    aino.window.shows("The information request was sent.").await;
    let place = aino.window.url().await;
    let (_, id) = place.split_once("/requests/kela/").expect("it is the request's page");
    id.split('?').next().expect("it has an id").to_owned()
}

/// The page of the request, which is open, says that there is something new, and shows it. What is new at first may be
/// something else.
async fn shows_anew(official: &Official, id: &str, scripts: Scripts, text: &str) {
    match scripts {
        Scripts::Run => loop {
            official.window.click(NEWS).await;
            if shown(official).await.contains(text) {
                return;
            }
        },
        Scripts::Forbidden => official.open(&format!("/requests/kela/{id}")).await,
    }
    official.window.shows(text).await;
}

async fn shown(official: &Official) -> String {
    let text = official.window.execute("return document.body.innerText", Vec::new()).await;
    text.as_str().unwrap_or_default().to_owned()
}

/// Fetches the document, under the name that its sender gave it.
async fn fetches(aino: &Official, id: &str, scripts: Scripts) {
    // Its notice comes by another way than the answer, and may be later: the page says so when it has come.
    airut_testkit::eventually(crate::support::PATIENCE, async || {
        let has_come = aino.window.has(By::Link(NAME)).await;
        match scripts {
            _ if has_come => {}
            Scripts::Run => aino.window.click(NEWS).await,
            Scripts::Forbidden => aino.open(&format!("/requests/kela/{id}")).await,
        }
        has_come
    })
    .await;
    aino.window.click(By::Link(NAME)).await;
    aino.window.shows("application/pdf").await;
    aino.window.click(By::Link("Download")).await;
    let fetched = aino.window.downloaded(NAME).await;
    assert_eq!(std::fs::read(fetched).expect("it was downloaded"), PDF);
}

async fn returns(aino: &Official, id: &str) {
    aino.open(&format!("/requests/kela/{id}")).await;
    aino.window.click(By::Link("Return for completion")).await;
    aino.window.fill(By::Label("What is missing in the answer"), "Since when?").await;
    aino.check_and_send().await;
    aino.window.shows("The request was returned for completion.").await;
}

/// What each has done is in their own log, and in the users' log of their supervisor under their name.
pub(super) async fn is_in_the_logs(official: &Official, name: &str, supervisor: &Official, id: &str, done: &[&str]) {
    official.open("/log").await;
    let own = official.rows().await;
    supervisor.open("/users-log").await;
    let users = supervisor.rows().await;
    for what in done {
        let fits = |row: &&String| row.contains(what) && row.contains("Done");
        assert!(own.iter().any(|row| fits(&row)), "{what} is not in the own log: {own:#?}");
        let fits = |row: &&String| fits(row) && row.contains(name);
        assert!(users.iter().any(|row| fits(&row)), "{what} by {name} is not in the users' log: {users:#?}");
    }
    assert!(own.iter().any(|row| row.contains(&format!("request/kela/{id}"))), "{own:#?}");
}

/// What Kela's case worker has done by then.
pub(super) const AINO_HAS_DONE: [&str; 6] = [
    "Sent an information request",
    "Read an information request",
    "Looked at what a document is",
    "Fetched a document",
    "Returned an information request",
    "Closed an information request",
];

/// What the county's social worker has.
pub(super) const VAINO_HAS_DONE: [&str; 4] =
    ["Read an information request", "Claimed", "Sent a document", "Answered an information request"];

/// No address that the browser has asked for says who it is about.
pub(super) async fn no_address_names(official: &Official, person: &str) {
    let asked_for = official.window.asked_for().await;
    assert!(asked_for.len() > 10, "{asked_for:?}");
    // What comes before the sign for the century may stand alone in an address, encoded or not.
    let (born, rest) = person.split_at(6);
    let named = asked_for.iter().find(|url| url.contains(born) || url.contains(&rest[1..]));
    assert_eq!(named, None);
}

#[tokio::test]
async fn a_request_goes_its_way_before_the_eyes_of_both_sides() {
    let Some(browser) = Browser::start() else { return };
    let desk = Desk::start().await;
    let person = desk.person(0);
    let aino = desk.official(&browser, "aino", REMEMBERS).await;
    let vaino = desk.official(&browser, "vaino", REMEMBERS).await;

    let id = goes_its_way(&aino, &vaino, &person, Scripts::Run).await;

    no_address_names(&aino, &person).await;
    no_address_names(&vaino, &person).await;
    let eeva = desk.official(&browser, "eeva", WindowOptions::default()).await;
    is_in_the_logs(&aino, "Aino Esimerkki", &eeva, &id, &AINO_HAS_DONE).await;
    let helmi = desk.official(&browser, "helmi", WindowOptions::default()).await;
    is_in_the_logs(&vaino, "Väinö Esimerkki", &helmi, &id, &VAINO_HAS_DONE).await;
    helmi.open("/users-log").await;
    helmi.window.shows("Read the users’ log").await;
}

#[tokio::test]
async fn the_same_is_done_without_scripts() {
    let Some(browser) = Browser::start() else { return };
    let desk = Desk::start().await;
    let aino = desk.official(&browser, "aino", WindowOptions::default()).await;
    let vaino = desk.official(&browser, "vaino", WindowOptions::default()).await;
    for official in [&aino, &vaino] {
        official.window.forbid_scripts().await;
        official.open("/").await;
        assert!(!official.window.has(By::Css("body[data-connected]")).await);
    }

    goes_its_way(&aino, &vaino, &desk.person(1), Scripts::Forbidden).await;
}
