//! Every page, in every language: for those who do not see it, who magnify it, who have it dark, and who use the keyboard alone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use airut_testkit::{Browser, By, Key, Window, WindowOptions, eventually};
use airut_wire::v1;
use serde_json::{Value, json};

use super::{Desk, Official, PDF, Visitor};
use crate::support::{PATIENCE, notice};

const LANGUAGES: [&str; 3] = ["fi", "sv", "en"];

/// Which page, by whom it is seen, where it is, and what is done there first: fields to fill in by their selectors, and what is
/// pressed then, one after the other.
struct Page {
    name: &'static str,
    who: &'static str,
    place: String,
    filled: Vec<(&'static str, String)>,
    pressed: Vec<&'static str>,
}

impl Page {
    fn new(name: &'static str, who: &'static str, place: impl Into<String>) -> Self {
        Self { name, who, place: place.into(), filled: Vec::new(), pressed: Vec::new() }
    }

    fn fill(mut self, field: &'static str, value: &str) -> Self {
        self.filled.push((field, value.to_owned()));
        self
    }

    fn press(mut self, button: &'static str) -> Self {
        self.pressed.push(button);
        self
    }
}

const CHECK: &str = "main button[name=step][value=check]";
const EDIT: &str = "main button[name=step][value=edit]";

/// What there is to be seen: requests in every state, documents, notices, feedback, entries of logs.
struct Prepared {
    open: String,
    answered: String,
    returned: String,
    closed: String,
    document: String,
    notice: String,
    hidden_notice: String,
}

async fn prepare(desk: &Desk) -> Prepared {
    let (aino, vaino) = (desk.visitor("aino").await, desk.visitor("vaino").await);
    let question = "What has been granted since June?";
    let mut requests = Vec::new();
    for number in 0..4 {
        let request = aino.ask(&desk.person(number), question).await;
        eventually(PATIENCE, async || vaino.get(&format!("/en{request}")).await.status == 200).await;
        requests.push(request);
    }
    let [open, answered, returned, closed] = requests.try_into().expect("four");
    let attached = vaino.upload(&format!("/en{answered}/attach"), &[], &[("Päätös.pdf", PDF)]).await;
    assert_eq!(attached.status, 303, "{}", attached.text());
    let attached = vaino.get(&format!("/en{answered}/respond")).await.field("documents").expect("it is attached");
    vaino.act(&answered, "respond", &[("answer", "Nothing."), ("documents", &attached)]).await;
    for request in [&returned, &closed] {
        vaino.act(request, "respond", &[("answer", "Nothing.")]).await;
        eventually(PATIENCE, async || aino.get(&format!("/en{request}/close")).await.status == 200).await;
    }
    aino.act(&returned, "return", &[("missing", "Since when?")]).await;
    aino.act(&closed, "close", &[]).await;
    vaino.post(&format!("/en{open}"), &[("claim", "claim")]).await;

    let kela = desk.exchange.client(desk.data.path(), "kela").await;
    let visible = notice("visible", &desk.person(0));
    let hidden = v1::SendRequest {
        payload: String::from_utf8(visible.payload.clone())
            .expect("it is JSON")
            .replace("\"non_disclosure\": false", "\"non_disclosure\": true")
            .into_bytes(),
        ..notice("hidden", &desk.person(1))
    };
    let keys = crate::support::receipt_keys(desk.data.path());
    let mut notices = BTreeMap::new();
    // One after the other: they are known by the order in which they came.
    for (before, notice) in [visible, hidden].into_iter().enumerate() {
        kela.send(&notice, &keys, PATIENCE).await.expect("it is accepted");
        eventually(PATIENCE, async || {
            notices = linked(&vaino, "/notices", "/notices/").await;
            notices.len() == before + 1
        })
        .await;
    }
    let mut documents = BTreeMap::new();
    eventually(PATIENCE, async || {
        documents = linked(&aino, "/documents?tab=waiting", "/documents/pirkanmaa/").await;
        documents.len() == 1
    })
    .await;
    let said = vaino.post("/en/accessibility", &[("feedback", "The table is wide."), ("reply-to", "vaino")]).await;
    assert_eq!(said.status, 303, "{}", said.text());
    let mut numbers = notices.into_iter();
    let [(notice, _), (hidden_notice, _)] = [numbers.next(), numbers.next()].map(|one| one.expect("there are two"));
    let (document, _) = documents.pop_first().expect("there is one");
    Prepared { open, answered, returned, closed, document, notice, hidden_notice }
}

/// The places that a page links to which begin so, each with the text after it.
async fn linked(visitor: &Visitor, page: &str, begins: &str) -> BTreeMap<String, String> {
    let text = visitor.get(&format!("/en{page}")).await.text();
    let links = text.split("href=\"/en").skip(1).filter_map(|rest| rest.split_once('"'));
    let links = links.filter(|(place, _)| place.starts_with(begins) && !place.contains('?'));
    links.map(|(place, after)| (place.to_owned(), after.to_owned())).collect()
}

fn pages(desk: &Desk, prepared: &Prepared) -> Vec<Page> {
    let Prepared { open, answered, returned, closed, document, notice, hidden_notice } = prepared;
    let person = desk.person(5);
    let at = |request: &str, rest: &str| format!("{request}{rest}");
    let new = |name| {
        Page::new(name, "aino", "/requests/new")
            .fill("#field-responder", "pirkanmaa")
            .fill("#field-kind", "kind-statement")
            .fill("#field-person", &person)
            .fill("#field-case", "TT-118")
            .fill("#field-question", "What has been granted since June?")
    };
    let query = |name| {
        Page::new(name, "vaino", "/queries")
            .fill("#field-person", &desk.person(0))
            .fill("#field-purpose", "social-assistance 1412/1997")
            .fill("#field-case", "A-1")
    };
    vec![
        Page::new("sign-in", "", "/sign-in"),
        Page::new("accessibility", "", "/accessibility"),
        Page::new("accessibility-errors", "", "/accessibility").press("main form button"),
        Page::new("today-empty", "ilona", "/"),
        Page::new("documents-empty", "ilona", "/documents"),
        Page::new("not-found", "aino", "/nothing-of-the-kind"),
        Page::new("today-of-kela", "aino", "/"),
        Page::new("requests-waiting", "aino", "/requests"),
        Page::new("requests-all", "aino", "/requests?tab=all&sort=kind"),
        Page::new("requests-none", "aino", "/requests?tab=all&kind=kind-statement&mine=1"),
        Page::new("requests-of-a-person", "aino", "/requests")
            .fill("#field-person", &desk.person(0))
            .fill("#field-case", "TT-118")
            .press("section form button"),
        Page::new("requests-of-a-person-errors", "aino", "/requests").press("section form button"),
        Page::new("request-new", "aino", "/requests/new"),
        Page::new("request-new-errors", "aino", "/requests/new").fill("#field-due", "2026-12-06").press(CHECK),
        new("request-new-check").press(CHECK),
        new("request-new-edit").press(CHECK).press(EDIT),
        Page::new("request-open", "aino", open),
        Page::new("request-answered", "aino", answered),
        Page::new("request-returned", "aino", returned),
        Page::new("request-closed", "aino", closed),
        Page::new("request-return", "aino", at(answered, "/return")),
        Page::new("request-return-errors", "aino", at(answered, "/return")).press(CHECK),
        Page::new("request-close", "aino", at(answered, "/close")),
        Page::new("request-close-check", "aino", at(answered, "/close")).press(CHECK),
        Page::new("request-transfer", "aino", at(open, "/transfer")),
        Page::new("request-cancel", "aino", at(open, "/cancel")),
        Page::new("documents-waiting", "aino", "/documents?tab=waiting"),
        Page::new("document", "aino", document),
        Page::new("log", "aino", "/log"),
        Page::new("forbidden", "aino", "/users-log"),
        Page::new("today-of-a-county", "vaino", "/"),
        Page::new("request-claimed", "vaino", open),
        Page::new("request-respond", "vaino", at(returned, "/respond")),
        Page::new("request-respond-errors", "vaino", at(returned, "/respond")).press(CHECK),
        Page::new("documents-sent", "vaino", "/documents?tab=sent"),
        Page::new("document-new", "vaino", "/documents/new"),
        Page::new("document-new-errors", "vaino", "/documents/new")
            .press("form.upload button")
            .press("#errors-files a"),
        Page::new("notices", "vaino", "/notices"),
        Page::new("notices-handled", "vaino", "/notices?tab=handled"),
        Page::new("notice", "vaino", notice),
        Page::new("notice-non-disclosure", "vaino", hidden_notice),
        Page::new("query", "vaino", "/queries"),
        Page::new("query-errors", "vaino", "/queries").press("main form button"),
        query("query-answer").press("main form button:not([type])"),
        Page::new("users-log", "helmi", "/users-log"),
        Page::new("feedback", "helmi", "/feedback"),
    ]
}

/// Where the pictures go.
fn pictures() -> PathBuf {
    let usual = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("desk-screenshots");
    let directory = std::env::var_os("AIRUT_SCREENSHOTS").map_or_else(usual, PathBuf::from);
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    directory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_for_everybody_in_each_language() {
    let Some(browser) = Browser::start() else { return };
    let desk = Desk::start().await;
    let prepared = prepare(&desk).await;
    let pages = pages(&desk, &prepared);
    let (browser, desk, pages) = (&browser, &desk, &pages);

    let [fi, sv, en] = LANGUAGES.map(|language| looked_through(browser, desk, pages, language));
    let (fi, sv, en) = tokio::join!(fi, sv, en);

    let faults = [fi, sv, en].concat();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Where the notices' client is, and is reached: shown unless they are under a non-disclosure order.
const WHERE: [&str; 4] = ["Esimerkkikatu", "33100", "Exempelgatan", "123 4567"];

/// Looks at each page in this language; gives what is wrong.
async fn looked_through(browser: &Browser, desk: &Desk, pages: &[Page], language: &'static str) -> Vec<String> {
    let options = WindowOptions { languages: language, ..WindowOptions::default() };
    let window = browser.window(options).await;
    let official = Official { window, desk: desk.url(), language: language.to_owned() };
    let (mut faults, mut who) = (Vec::new(), "");
    for page in pages {
        if page.who != who {
            official.window.client().delete_all_cookies().await.expect("they can be deleted");
            official.sign_in(page.who).await;
            who = page.who;
        }
        official.open(&page.place).await;
        for (field, value) in &page.filled {
            let fill =
                "const field = document.querySelector(arguments[0]); field.value = arguments[1]; return field.value";
            let filled = official.window.execute(fill, vec![json!(field), json!(value)]).await;
            assert_eq!(filled, json!(value), "{}: {field}", page.name);
        }
        for button in &page.pressed {
            official.window.click(By::Css(button)).await;
        }
        let text = official.window.execute("return document.body.innerText", Vec::new()).await;
        let shows_where = WHERE.iter().any(|part| text.as_str().unwrap_or_default().contains(part));
        assert_eq!(shows_where, page.name == "notice", "{}: where the client is, and is reached", page.name);
        let found = faults_of(&official.window, language, page).await;
        faults.extend(found.into_iter().map(|fault| format!("{language} {}: {fault}", page.name)));
    }
    faults
}

async fn faults_of(window: &Window, language: &str, page: &Page) -> Vec<String> {
    let mut faults: Vec<String> = window.axe().await.iter().map(ToString::to_string).collect();
    window.darken().await;
    faults.extend(window.axe().await.iter().map(|violation| format!("in the dark: {violation}")));
    let picture = pictures().join(format!("{language}-{}-dark.png", page.name));
    if page.name.starts_with("today") {
        window.screenshot(&picture).await;
    }
    window.show_as_usual().await;
    window.screenshot(&pictures().join(format!("{language}-{}.png", page.name))).await;
    let told = window.execute(LOOK, Vec::new()).await;
    if told["language"] != *language {
        faults.push(format!("its language is {}", told["language"]));
    }
    if told["headings"] != 1 {
        faults.push(format!("it has {} main headings", told["headings"]));
    }
    let bare: Vec<_> = told["bare"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !bare.is_empty() {
        faults.push(format!("keys stand for texts: {bare:?}"));
    }
    window.zoom(400).await;
    let wide = window.execute(WIDE, Vec::new()).await;
    if wide != json!([]) {
        faults.push(format!("magnified it is wider than the window: {wide}"));
    }
    window.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
    faults
}

/// What a page says of itself.
const LOOK: &str = "
    const bare = [];
    const isBare = (text) => /^[a-z]+(-[a-z]+)+$/.test(text.trim());
    const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) if (isBare(texts.currentNode.data)) bare.push(texts.currentNode.data.trim());
    for (const name of ['aria-label', 'title', 'data-failed', 'data-text', 'alt'])
        for (const one of document.querySelectorAll(`[${name}]`)) if (isBare(one.getAttribute(name))) bare.push(one.getAttribute(name));
    return { language: document.documentElement.lang, headings: document.querySelectorAll('h1').length, bare };";

/// What is wider than the window, and is not within something that scrolls by itself.
const WIDE: &str = "
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const wide = [...document.querySelectorAll('body *')].filter((one) =>
        one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest('.scroll'));
    return [root.scrollWidth, ...wide.slice(0, 8).map((one) => one.outerHTML.slice(0, 120))];";

#[tokio::test]
async fn a_request_is_made_with_the_keyboard_alone() {
    let Some(browser) = Browser::start() else { return };
    let desk = Desk::start().await;
    let options = WindowOptions::default();
    let aino = Official { window: browser.window(options).await, desk: desk.url(), language: "en".to_owned() };
    let window = &aino.window;
    aino.open("/").await;

    // The first thing is the way past what every page has.
    window.press(Key::Tab).await;
    assert_eq!(window.execute("return document.activeElement.className", Vec::new()).await, json!("skip"));
    is_seen(window).await;
    window.press(Key::Enter).await;
    assert_eq!(window.execute("return document.activeElement.id", Vec::new()).await, json!("main"));
    tab_to(window, "form:has(input[name=official][value=aino]) button").await;
    window.press(Key::Enter).await;
    window.find(By::Css("nav.menu")).await;
    tab_to(window, "nav.menu a[href$='/requests']").await;
    window.press(Key::Enter).await;
    window.find(By::Css("a[href$='/requests/new']")).await;
    window.press(Key::Tab).await;
    window.press(Key::Enter).await;
    tab_to(window, "a[href$='/requests/new']").await;
    window.press(Key::Enter).await;
    window.find(By::Css("#field-responder")).await;

    // With nothing filled in, one is where it says what is wrong, and that leads to where it is.
    tab_to(window, CHECK).await;
    window.press(Key::Enter).await;
    window.find(By::Css("#errors")).await;
    assert_eq!(window.execute("return document.activeElement.id", Vec::new()).await, json!("errors"));
    tab_to(window, "#errors a[href='#field-responder']").await;
    window.press(Key::Enter).await;
    assert_eq!(window.execute("return document.activeElement.id", Vec::new()).await, json!("field-responder"));
    for (field, typed) in [
        ("#field-responder", "Pirk"),
        ("#field-kind", "Statement"),
        ("#field-person", &desk.person(0)),
        ("#field-case", "TT-118"),
        ("#field-question", "What has been granted since June?"),
    ] {
        tab_to(window, field).await;
        let focused = window.client().active_element().await.expect("something is");
        focused.send_keys(typed).await.expect("it can be typed into");
    }
    tab_to(window, CHECK).await;
    window.press(Key::Enter).await;
    window.find(By::Css("button[value=send]")).await;
    tab_to(window, "button[value=send]").await;
    window.press(Key::Enter).await;

    window.shows("The information request was sent.").await;
}

/// Goes on with the tabulator until there, and sees each place on the way.
async fn tab_to(window: &Window, there: &str) {
    for _ in 0..60 {
        let script = "return document.activeElement.matches(arguments[0])";
        if window.execute(script, vec![json!(there)]).await == json!(true) {
            return;
        }
        window.press(Key::Tab).await;
        is_seen(window).await;
    }
    panic!("the tabulator does not lead to {there}");
}

/// Where the focus is, is drawn.
async fn is_seen(window: &Window) {
    let script = "const on = document.activeElement;
        if (on === document.body) return null;
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(on);
        return outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2 ? null : `${outlineStyle} ${outlineWidth} ${outlineColor}: ${on.outerHTML}`";
    assert_eq!(window.execute(script, Vec::new()).await, Value::Null);
}

#[tokio::test]
async fn the_focus_stays_where_it_was_when_a_list_is_shown_anew() {
    let Some(browser) = Browser::start() else { return };
    let desk = Desk::start().await;
    let aino = desk.visitor("aino").await;
    let first = aino.ask(&desk.person(0), "What has been granted?").await;
    let vaino = desk.official(&browser, "vaino", WindowOptions::default()).await;
    vaino.is_connected().await;
    let link = format!("#today a[href$='{first}']");
    vaino.window.find(By::Css(&link)).await;
    vaino.window.execute("document.querySelector(arguments[0]).focus()", vec![json!(link)]).await;

    let second = aino.ask(&desk.person(1), "And what else?").await;

    vaino.window.find(By::Css(&format!("#today a[href$='{second}']"))).await;
    eventually(PATIENCE, async || {
        let script = "return document.activeElement.matches(arguments[0])";
        vaino.window.execute(script, vec![json!(link)]).await == json!(true)
    })
    .await;
}
