//! Whoever is signed in, or is not, gets at nothing that is not theirs, by whatever they say to the desk.

use airut_testkit::{Browser, By, WindowOptions, eventually};
use airut_wire::v1;
use serde_json::{Value, json};

use super::{Answer, COOKIE, Desk, FORM, PDF, Visitor, form};
use crate::support::{PATIENCE, http_get, notice, receipt_keys};

/// How often the exchange has refused for this reason, as its metrics say.
fn refusals(desk: &Desk, reason: &str) -> f64 {
    let page = http_get(desk.exchange.metrics_address(), "/metrics").expect("it serves metrics");
    let lines = page.lines().filter(|line| line.starts_with("airut_refusals_total{") && line.contains(reason));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// A request of Kela's to Pirkanmaa with a document that was attached to its answer; gives where they are.
async fn answered(desk: &Desk, aino: &Visitor, vaino: &Visitor) -> (String, String) {
    let request = aino.ask(&desk.person(0), "What has been granted since June?").await;
    eventually(PATIENCE, async || vaino.get(&format!("/en{request}/respond")).await.status == 200).await;
    let attached = vaino.upload(&format!("/en{request}/attach"), &[], &[("Päätös.pdf", PDF)]).await;
    assert_eq!(attached.status, 303, "{}", attached.text());
    let document = vaino.get(&format!("/en{request}/respond")).await.field("documents").expect("it is attached");
    vaino.act(&request, "respond", &[("answer", "Nothing."), ("documents", &document)]).await;
    let document = format!("/documents/pirkanmaa/{document}");
    eventually(PATIENCE, async || aino.get(&format!("/en{document}")).await.status == 200).await;
    (request, document)
}

#[tokio::test]
async fn what_is_anothers_is_as_if_it_were_not_there() {
    let desk = Desk::start().await;
    let (aino, vaino, sofia) = (desk.visitor("aino").await, desk.visitor("vaino").await, desk.visitor("sofia").await);
    let (request, document) = answered(&desk, &aino, &vaino).await;
    let before = refusals(&desk, "NOT_FOUND");

    let nothing = |place: &str| {
        let (above, id) = place.rsplit_once('/').expect("it has an id");
        let other: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { '0' } else { c }).collect();
        format!("{above}/{other}")
    };
    for place in [&request, &document] {
        let guessed = sofia.get(&format!("/en{place}")).await;
        let absent = sofia.get(&format!("/en{}", nothing(place))).await;
        assert_eq!((guessed.status, absent.status), (404, 404));
        let absent = absent.text().replace(&nothing(place), place);
        assert_eq!(guessed.text(), absent, "what is there and what is not are told alike");
    }
    for rest in ["/case.pdf", "/documents.zip", "/respond", "/close"] {
        assert_eq!(sofia.get(&format!("/en{request}{rest}")).await.status, 404, "{rest}");
    }
    assert_eq!(sofia.get(&format!("/en{document}/file")).await.status, 404);
    assert_eq!(sofia.post(&format!("/en{request}"), &[("claim", "claim")]).await.status, 404);
    assert_eq!(sofia.post(&format!("/en{request}/respond"), &[("answer", "x")]).await.status, 404);
    assert_eq!(sofia.upload(&format!("/en{request}/attach"), &[], &[("a.pdf", PDF)]).await.status, 404);
    assert_eq!(sofia.post(&format!("/en{document}"), &[("do", "handled")]).await.status, 404);
    assert_eq!(sofia.get("/en/notices/1").await.status, 404);

    // What is one's own is fetched as it was called, and shown where nothing in it runs.
    let own = aino.get(&format!("/en{document}/file")).await;
    assert_eq!((own.status, &*own.body), (200, PDF));
    assert!(
        own.header("content-disposition").starts_with("attachment; ")
            && own.header("content-disposition").ends_with("''P%C3%A4%C3%A4t%C3%B6s.pdf")
    );
    let viewed = aino.get(&format!("/en{document}/file?view=1")).await;
    assert!(viewed.header("content-disposition").starts_with("inline; "));
    let policy = viewed.header("content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("script"), "{policy}");
    let nobody = Visitor { cookie: String::new(), ..aino.clone() };
    for place in [&*request, &document, "/live", "/log", "/draft"] {
        assert_eq!(nobody.get(&format!("/en{place}")).await.status, 303, "{place}");
    }

    let log = sofia.get("/en/log").await.text();
    for place in [&request, &document] {
        let object = place[1..].replacen("requests/", "request/", 1).replacen("documents/", "document/", 1);
        let (_, after) = log.split_once(&format!("{object}<")).unwrap_or_else(|| panic!("{object} is not in {log}"));
        let row = after.split_once("</tr>").expect("a row ends").0;
        assert!(row.contains("Not found."), "{row}");
    }
    assert!(refusals(&desk, "NOT_FOUND") >= before + 2.0, "the exchange has it on record too");
    let state = vaino.get(&format!("/en{request}")).await.text();
    assert!(state.contains("Nobody has claimed this yet.") && state.contains("state-answered"), "{state}");
}

#[tokio::test]
async fn officials_do_what_they_may_and_nothing_else() {
    let desk = Desk::start().await;
    let (aino, vaino, onni) = (desk.visitor("aino").await, desk.visitor("vaino").await, desk.visitor("onni").await);
    let (request, document) = answered(&desk, &aino, &vaino).await;

    let menu = |page: &Answer| {
        let text = page.text();
        let menu =
            text.split_once("<nav class=\"menu\"").expect("there is one").1.split_once("</nav>").expect("it ends").0;
        let places = menu.split("href=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
        places.collect::<Vec<_>>()
    };
    assert_eq!(menu(&onni.get("/en/").await), ["/en/", "/en/queries", "/en/log"]);
    let of_a_case_worker = ["/en/", "/en/requests", "/en/documents", "/en/notices", "/en/log"];
    assert_eq!(menu(&aino.get("/en/").await), of_a_case_worker);

    let places = [
        "/requests",
        "/requests/new",
        "/documents",
        "/documents/new",
        "/notices",
        "/notices/1",
        "/users-log",
        "/feedback",
    ];
    let of_request = ["", "/case.pdf", "/documents.zip", "/respond"].map(|rest| format!("{request}{rest}"));
    let of_document = ["", "/file"].map(|rest| format!("{document}{rest}"));
    let places = places.iter().map(|place| (*place).to_owned()).chain(of_request).chain(of_document);
    for place in places {
        let refused = onni.get(&format!("/en{place}")).await;
        assert_eq!(refused.status, 403, "{place}");
        assert!(!refused.text().contains(&desk.person(0)));
    }
    let posts = ["/requests", "/requests/new", "/notices/1"].map(str::to_owned);
    let posts = posts.into_iter().chain([request.clone(), format!("{request}/respond"), document.clone()]);
    for place in posts {
        assert_eq!(onni.post(&format!("/en{place}"), &[("step", "send")]).await.status, 403, "{place}");
    }
    for place in ["/documents/new".to_owned(), format!("{request}/attach")] {
        assert_eq!(onni.upload(&format!("/en{place}"), &[], &[("a.pdf", PDF)]).await.status, 403, "{place}");
    }
    assert_eq!(aino.get("/en/queries").await.status, 403);
    assert_eq!(aino.post("/en/queries", &[("person", &desk.person(0))]).await.status, 403);
    for supervised in ["/en/users-log", "/en/feedback"] {
        assert_eq!(vaino.get(supervised).await.status, 403, "{supervised}");
    }
}

#[tokio::test]
async fn only_the_desks_own_forms_do_anything() {
    let desk = Desk::start().await;
    let (aino, sofia) = (desk.visitor("aino").await, desk.visitor("sofia").await);
    let own = desk.url();
    let alike = format!("{own}.evil.example");
    let due = aino.get("/en/requests/new").await.field("due").expect("it has one");
    let fields = |csrf: &'static str| {
        let person = desk.person(0);
        let all = [
            (if csrf.is_empty() { "other" } else { "csrf" }, csrf.to_owned()),
            ("responder", "pirkanmaa".to_owned()),
            ("kind", "kind-statement".to_owned()),
            ("person", person),
            ("case", "TT-118".to_owned()),
            ("question", "What?".to_owned()),
            ("due", due.clone()),
            ("unit", "Unit".to_owned()),
            ("telephone", "020".to_owned()),
            ("step", "send".to_owned()),
        ];
        form(&all.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let with_its_own = form(&[("csrf", &aino.csrf)]) + "&" + &fields("");
    let with_anothers = form(&[("csrf", &sofia.csrf)]) + "&" + &fields("");
    let origin = |origin| Some(("origin", origin));
    let forged = [
        ("no token", origin(&*own), &*fields("")),
        ("a made-up token", origin(&*own), &*fields("made-up")),
        ("another's token", origin(&*own), &*with_anothers),
        ("another origin", origin("http://evil.example"), &*with_its_own),
        ("an origin that begins alike", origin(&*alike), &*with_its_own),
        ("an origin that is kept back", origin("null"), &*with_its_own),
        ("no origin", None, &*with_its_own),
    ];
    for (what, origin, body) in forged {
        let headers: Vec<_> = origin.into_iter().chain([FORM]).collect();
        let refused = aino.send("POST", "/en/requests/new", &headers, body.as_bytes()).await;
        assert_eq!(refused.status, 403, "{what}");
        let out = aino.send("POST", "/en/sign-out", &headers, body.as_bytes()).await;
        assert_eq!(out.status, 403, "{what}");
    }
    let nobody = Visitor { cookie: String::new(), ..aino.clone() };
    let elsewhere =
        nobody.send("POST", "/en/sign-in", &[("origin", "http://evil.example"), FORM], b"official=eero").await;
    assert_eq!(elsewhere.status, 403, "nobody is signed in by another's page");
    assert_eq!(elsewhere.header("set-cookie"), "");
    let forger = Visitor { csrf: "made-up".to_owned(), ..aino.clone() };
    let fields = [("type", "social-assistance-document"), ("recipient", "pirkanmaa"), ("case", "1")];
    assert_eq!(forger.upload("/en/documents/new", &fields, &[("a.pdf", PDF)]).await.status, 403);

    assert!(aino.get("/en/requests?tab=all").await.text().contains("<p role=\"status\">None.</p>"));
    let own = aino.send("POST", "/en/requests/new", &[("origin", &own), FORM], with_its_own.as_bytes()).await;
    assert_eq!(own.status, 303, "the same form is taken where it is the desk's own: {}", own.text());
}

#[tokio::test]
async fn a_session_is_its_owners_from_its_beginning_to_its_end() {
    let desk = Desk::start().await;
    let planted = Visitor { address: desk.address, cookie: "planted".to_owned(), csrf: String::new() };
    let sign_in = async |visitor: &Visitor, after: &str| {
        let signed_in = visitor.post("/en/sign-in", &[("official", "aino"), ("after", after)]).await;
        assert_eq!(signed_in.status, 303);
        signed_in
    };

    let signed_in = sign_in(&planted, "/log").await;
    assert_eq!(signed_in.header("location"), "/en/log");
    let cookie = signed_in.header("set-cookie");
    let (pair, attributes) = cookie.split_once("; ").expect("it has attributes");
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
    let value = pair.strip_prefix(&format!("{COOKIE}=")).expect("its name binds it to the host");
    assert_eq!(value.len(), 43, "256 bits");
    assert_eq!(planted.get("/en/").await.status, 303, "what was planted names nobody");
    let first = Visitor { cookie: value.to_owned(), ..planted.clone() };
    assert_eq!(first.get("/en/").await.status, 200);

    // Somebody signs in where somebody is signed in.
    let mut second = first.clone();
    second.sign_in("eero").await;
    assert_eq!(first.get("/en/").await.status, 303);
    assert_ne!(second.cookie, first.cookie);

    let out = second.post("/en/sign-out", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, "/en/sign-in"));
    assert!(
        out.header("set-cookie").starts_with(&format!("{COOKIE}=; "))
            && out.header("set-cookie").ends_with("Max-Age=0")
    );
    let gone = second.get("/en/log?page=2").await;
    assert_eq!((gone.status, gone.header("location")), (303, "/en/sign-in?after=%2Flog%3Fpage%3D2"));

    let nobody = Visitor { cookie: String::new(), ..planted.clone() };
    let mut known = nobody.clone();
    known.sign_in("aino").await;
    for elsewhere in [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/sign-in?after=//evil.example",
        "http:evil.example",
        "/\r\nlocation: //evil.example",
    ] {
        assert_eq!(sign_in(&nobody, elsewhere).await.header("location"), "/en/", "{elsewhere:?}");
        let there = known.get(&format!("/en/sign-in?after={}", super::encoded(elsewhere))).await;
        assert_eq!((there.status, there.header("location")), (303, "/en/"), "{elsewhere:?}");
    }
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_every_answer_is_guarded() {
    let desk = Desk::start().await;
    let aino = desk.visitor("aino").await;
    let long = "x".repeat(70_000);
    let many: Vec<(&str, &str)> = vec![("documents", "1"); 600];
    let most: Vec<(&str, &str)> = vec![("case", "1"); 40];
    let head = |text: &Answer| text.text().split_once("<h1>").map(|(_, after)| after.to_owned()).unwrap_or_default();

    for (what, refused) in [
        ("a long text", aino.post("/en/requests/new", &[("question", &long)]).await),
        ("many fields", aino.post("/en/requests/new", &many).await),
        ("many fields with files", aino.upload("/en/documents/new", &most, &[("a.pdf", PDF)]).await),
        ("a long text with files", aino.upload("/en/documents/new", &[("case", &long)], &[]).await),
    ] {
        assert_eq!(refused.status, 413, "{what}");
        assert!(head(&refused).starts_with("Too large to be sent"), "{what}: {}", refused.text());
        guarded(&refused);
    }
    // Kela sends counties no documents.
    let vaino = desk.visitor("vaino").await;
    for (name, content, said) in [
        ("a.exe", &b"MZ\x90\0"[..], "not of a known kind"),
        ("empty.pdf", b"", "is empty"),
        ("a<b>.pdf", PDF, "file’s name can not be used"),
    ] {
        let refused = vaino.upload("/en/documents/new", &[], &[(name, content)]).await;
        assert_eq!(refused.status, 422, "{name}");
        assert!(refused.text().contains(said), "{name}: {}", refused.text());
        guarded(&refused);
    }

    let large = [PDF, &vec![b' '; 3 << 20]].concat();
    let fields =
        [("type", "social-assistance-document"), ("recipient", "kela"), ("person", &*desk.person(0)), ("case", "1")];
    let sent = vaino.upload("/en/documents/new", &fields, &[("large.pdf", &large)]).await;
    assert_eq!(sent.header("location"), "/en/documents?tab=sent&done=sent", "what is large is not too large");

    let asset = aino.get("/en/").await.text();
    let asset = asset.split_once("href=\"/assets/").expect("there is one").1.split_once('"').expect("it ends").0;
    let script = "/en/requests?tab=%22%3E%3Cscript%3E&counterpart=%22%3E%3Cscript%3Ewindow.x%3D1%3C/script%3E&sort='";
    for (method, path, status) in [
        ("GET", "/", 303),
        ("GET", "/en/", 200),
        ("GET", "/en/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "//evil.example/en/", 404),
        ("GET", "/en//evil.example", 404),
        ("GET", "/en/users-log", 403),
        ("GET", "/en/log?page=x", 400),
        ("GET", "/en/notices/x", 400),
        ("GET", "/en/requests/%00/%ff", 400),
        ("DELETE", "/en/", 403),
        ("GET", "/assets/0/desk.css", 404),
        ("GET", script, 200),
        ("GET", "/en/%22%3E%3Cscript%3E", 404),
        ("GET", "/health", 200),
        ("CONNECT", "evil.example:443", 403),
        ("OPTIONS", "*", 403),
    ] {
        let answer = aino.send(method, path, &[], b"").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.text().contains("\"><script"), "{method} {path}: {}", answer.text());
        guarded(&answer);
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    let asset = aino.get(&format!("/assets/{asset}")).await;
    assert_eq!(asset.status, 200);
    guarded(&asset);
}

/// Browsers run nothing but what the desk serves, and show it in nobody's frame.
fn guarded(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy:?} in {answer:?}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert_eq!(answer.header("referrer-policy"), "same-origin");
}

/// Runs where it is taken for a part of the page.
const SCRIPT: &str = "\"><img src=x onerror=window.pwned=1><script>window.pwned=1</script>'{{7*7}}";

#[tokio::test]
async fn whatever_is_written_is_shown_as_it_was_written() {
    let Some(browser) = Browser::start() else { return };
    let desk = Desk::start().await;
    let (aino, vaino) = (desk.visitor("aino").await, desk.visitor("vaino").await);
    let person = desk.person(0);
    let new = aino.get("/en/requests/new").await;
    let asked = [
        ("responder", "pirkanmaa"),
        ("kind", "kind-statement"),
        ("person", &person),
        ("case", SCRIPT),
        ("question", SCRIPT),
        ("background", SCRIPT),
        ("due", &new.field("due").expect("it has one")),
        ("unit", SCRIPT),
        ("telephone", "020"),
    ];
    let checked = aino.post("/en/requests/new", &asked).await;
    assert_eq!(checked.status, 200);
    let request = super::place_of(&aino.post("/en/requests/new", &[&asked[..], &[("step", "send")]].concat()).await);
    eventually(PATIENCE, async || vaino.get(&format!("/en{request}/respond")).await.status == 200).await;
    let named =
        vaino.upload(&format!("/en{request}/attach"), &[], &[("\"><img src=x onerror=window.pwned=1>.pdf", PDF)]).await;
    assert_eq!(named.status, 422, "no file is called so");
    let name = "' onload='window.pwned=1' &lt;b&gt;.pdf";
    let attached = vaino.upload(&format!("/en{request}/attach"), &[], &[(name, PDF)]).await;
    assert_eq!(attached.status, 303, "{}", attached.text());
    let document = vaino.get(&format!("/en{request}/respond")).await.field("documents").expect("it is attached");
    vaino
        .act(&request, "respond", &[("answer", SCRIPT), ("documents", &document), ("unit", SCRIPT), ("case", SCRIPT)])
        .await;
    let document = format!("/documents/pirkanmaa/{document}");
    eventually(PATIENCE, async || aino.get(&format!("/en{document}")).await.status == 200).await;
    let said = vaino.post("/en/accessibility", &[("feedback", SCRIPT), ("reply-to", SCRIPT)]).await;
    assert_eq!(said.status, 303);
    let kela = desk.exchange.client(desk.data.path(), "kela").await;
    let sent = notice("scripted", &person);
    let payload: Value = serde_json::from_slice(&sent.payload).expect("it is JSON");
    let payload = Value::Object(
        payload
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), if name == "reason" { json!(SCRIPT) } else { value.clone() }))
            .collect(),
    );
    let context = sent.context.clone().map(|context| v1::Context { end_user: SCRIPT.to_owned(), ..context });
    let sent = v1::SendRequest { payload: payload.to_string().into_bytes(), context, ..sent };
    kela.send(&sent, &receipt_keys(desk.data.path()), PATIENCE).await.expect("it is accepted");
    eventually(PATIENCE, async || vaino.get("/en/notices").await.text().contains("/en/notices/1\"")).await;

    for (who, pages) in [
        (
            "aino",
            vec![
                (&*request, SCRIPT),
                (&document, name),
                ("/documents?tab=waiting", ""),
                ("/requests?tab=all", ""),
                ("/log", ""),
            ],
        ),
        (
            "vaino",
            vec![(&request, SCRIPT), ("/notices/1", SCRIPT), ("/documents?tab=sent", name), ("/", ""), ("/log", "")],
        ),
        ("helmi", vec![("/feedback", SCRIPT), ("/users-log", "")]),
    ] {
        let official = desk.official(&browser, who, WindowOptions::default()).await;
        for (page, shown) in pages {
            official.open(page).await;
            official.window.shows(shown).await;
            assert_eq!(official.window.execute(RAN, Vec::new()).await, json!([]), "{who} {page}");
        }
        if who == "aino" {
            for fields in [&["person"][..], &["person", "case", "unit", "telephone"]] {
                official.open("/requests/new").await;
                for field in fields {
                    official.window.fill(By::Css(&format!("#field-{field}")), SCRIPT).await;
                }
                official.window.click(By::Css("button[value=check]")).await;
                official.window.find(By::Css("#errors")).await;
                assert_eq!(official.window.execute(RAN, Vec::new()).await, json!([]), "a form with errors");
            }
        }
    }
}

/// What of it has become a part of the page, or has run.
const RAN: &str = "
    const parts = [...document.querySelectorAll('img, script:not([src])')].map((one) => one.outerHTML);
    return window.pwned ? [...parts, 'it ran'] : parts;";
