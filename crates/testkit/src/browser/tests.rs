use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{Key, eventually};

const FORM: &str = r#"<!doctype html><html lang="en"><head><title>Form</title></head><body><main>
    <h1>Form</h1>
    <form method="post" action="/sent" enctype="multipart/form-data">
    <p><label for="name">Name of
        the case</label> <input id="name" name="name" value="old"></p>
    <p><label>Kind <select name="kind"><option value="a">First</option><option value="b">Second</option></select></label></p>
    <p><input type="checkbox" id="urgent" name="urgent"><label for="urgent">Urgent</label></p>
    <p><input name="note" aria-label="Note"></p>
    <p><label for="file">File</label> <input type="file" id="file" name="file" multiple></p>
    <button>Send it</button>
    </form></main></body></html>"#;
const START: &str = r#"<!doctype html><html lang="en"><head><title>Start</title></head>
    <body><main><h1>Start</h1><a id="first" href="/form">The <b>form</b></a> <a href="/file" download>A file</a></main></body></html>"#;
const BAD: &str = r#"<!doctype html><html lang="en"><head><title>Bad</title></head>
    <body><main><h1>Bad</h1><img id="picture" src="/none"><input id="nameless"></main></body></html>"#;
const SCRIPTED: &str = r#"<!doctype html><html lang="en"><head><title>Scripted</title></head><body><main><h1>Scripted</h1>
    <p id="out">plain</p><script>document.getElementById("out").textContent = "scripted"</script></main></body></html>"#;

/// Serves the pages above on a port that was free, until the test ends.
async fn site() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    format!("http://{address}")
}

/// Answers one request. A browser that goes away before is no fault.
async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let began = head.len();
        stream.read_line(&mut head).await?;
        let line = head[began..].trim().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().expect("a browser counts");
        }
        if line.is_empty() {
            break;
        }
    }
    let mut sent = vec![0; length];
    stream.read_exact(&mut sent).await?;
    let sent = String::from_utf8(sent).expect("the tests send text");
    let line = |name: &str| {
        let line = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
        line.unwrap_or_default()
    };
    let strict = "Content-Security-Policy: default-src 'none'; form-action 'self'\r\nContent-Type: text/html\r\n";
    let (headers, body) = match head.split(' ').nth(1).unwrap_or_default() {
        "/" => (strict, START.to_owned()),
        "/form" => (strict, FORM.to_owned()),
        "/bad" => (strict, BAD.to_owned()),
        "/scripted" => ("Content-Type: text/html\r\n", SCRIPTED.to_owned()),
        "/enter" => ("Set-Cookie: who=somebody\r\n", String::new()),
        "/who" => ("", format!("cookie:{} language:{}", line("cookie:"), line("accept-language:"))),
        "/sent" => ("Content-Type: text/plain\r\n", sent),
        "/file" => ("Content-Disposition: attachment; filename=\"taken.csv\"\r\n", "a;b\n".to_owned()),
        _ => ("", "nothing".to_owned()),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[tokio::test]
async fn a_form_is_filled_by_its_labels_and_sent() {
    let Some(browser) = Browser::start() else { return };
    let site = site().await;
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("picture.txt");
    fs::write(&file, "what the file says").expect("the directory is ours");
    let window = browser.window(WindowOptions { remembers: true, ..WindowOptions::default() }).await;

    window.goto(&site).await;
    window.click(By::Link("The form")).await;
    window.arrives(|url| url.ends_with("/form")).await;
    window.fill(By::Label("Name of the case"), "new").await;
    window.type_into(By::Label("Name of the case"), " case").await;
    window.choose(By::Label("Kind"), "Second").await;
    window.click(By::Label("Urgent")).await;
    window.fill(By::Label("Note"), "a note").await;
    window.upload(By::Label("File"), &[&file]).await;
    assert_eq!(window.value(By::Label("Name of the case")).await, "new case");
    assert_eq!(window.text(By::Css("h1")).await, "Form");
    assert!(!window.has(By::Button("Send")).await, "a part of a text is not the text");
    window.click(By::Button("Send it")).await;

    for sent in ["new case", "name=\"kind\"\n\nb", "name=\"urgent\"\n\non", "a note", "what the file says"] {
        window.shows(sent).await;
    }
    assert!(window.url().await.ends_with("/sent"));
    let asked_for = window.asked_for().await;
    assert!(
        asked_for.contains(&format!("{site}/form")) && asked_for.contains(&format!("{site}/sent")),
        "{asked_for:?}"
    );
}

#[tokio::test]
async fn each_window_is_another_person() {
    let Some(browser) = Browser::start() else { return };
    let site = site().await;
    let one = browser.window(WindowOptions { languages: "sv,fi", ..WindowOptions::default() }).await;
    let other = browser.window(WindowOptions::default()).await;

    one.goto(&format!("{site}/enter")).await;
    for window in [&one, &other] {
        window.goto(&format!("{site}/who")).await;
    }

    one.shows("cookie: who=somebody language: sv,fi").await;
    other.shows("cookie: language: en").await;
}

#[tokio::test]
async fn what_shuts_people_out_is_found_whatever_the_page_forbids() {
    let Some(browser) = Browser::start() else { return };
    let site = site().await;
    let window = browser.window(WindowOptions::default()).await;

    window.goto(&format!("{site}/form")).await;
    assert_eq!(window.axe().await, []);

    window.goto(&format!("{site}/bad")).await;
    let mut found = window.axe().await;
    found.sort_by(|a, b| a.rule.cmp(&b.rule));
    let found: Vec<_> = found.iter().map(|found| (found.rule.as_str(), found.targets.as_slice())).collect();
    assert_eq!(found, [("image-alt", ["#picture".to_owned()].as_slice()), ("label", &["#nameless".to_owned()])]);
}

#[tokio::test]
async fn pages_are_looked_at_in_the_dark_in_print_magnified_and_with_the_keyboard() {
    let Some(browser) = Browser::start() else { return };
    let site = site().await;
    let window = browser.window(WindowOptions::default()).await;
    let is = async |query: &str| {
        let matches = window.execute("return matchMedia(arguments[0]).matches", vec![json!(query)]).await;
        matches.as_bool().expect("it says whether")
    };
    window.goto(&site).await;
    assert!(is("screen and (min-width: 1000px) and (prefers-color-scheme: light)").await);

    window.darken().await;
    assert!(is("(prefers-color-scheme: dark)").await);
    window.show_as_printed().await;
    assert!(is("print and (prefers-color-scheme: light)").await);
    window.show_as_usual().await;
    assert!(is("screen").await);
    window.zoom(400).await;
    assert!(is("(width: 320px) and (height: 256px)").await);
    window.press(Key::Tab).await;
    assert_eq!(window.execute("return document.activeElement.id", Vec::new()).await, json!("first"));

    let picture = window.downloads().join("picture.png");
    window.screenshot(&picture).await;
    assert!(fs::read(picture).expect("it was written").starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn files_are_downloaded_and_a_network_can_be_lost() {
    let Some(browser) = Browser::start() else { return };
    let site = site().await;
    let window = browser.window(WindowOptions::default()).await;
    window.goto(&site).await;

    window.click(By::Link("A file")).await;
    let file = window.downloaded("taken.csv").await;
    assert_eq!(fs::read_to_string(file).expect("it was written"), "a;b\n");

    window.disconnect().await;
    assert!(window.client().goto(&site).await.is_err());
    window.reconnect().await;
    window.goto(&site).await;
}

#[tokio::test]
async fn pages_are_shown_without_their_scripts() {
    let Some(browser) = Browser::start() else { return };
    let site = format!("{}/scripted", site().await);
    let window = browser.window(WindowOptions::default()).await;
    window.goto(&site).await;
    window.shows("scripted").await;

    window.forbid_scripts().await;
    window.goto(&site).await;

    assert_eq!(window.text(By::Css("#out")).await, "plain");
}

#[tokio::test]
async fn browsers_end_with_their_driver() {
    let Some(mut browser) = Browser::start() else { return };
    let profile = browser.home.path().join("window-0/profile").display().to_string();
    let runs = || {
        let processes = fs::read_dir("/proc").expect("Linux has it").flatten();
        let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(&profile))
    };
    let window = browser.window(WindowOptions::default()).await;
    assert!(runs());

    // As when the process ends that started it: nothing is dropped.
    browser.driver.kill().expect("the process is ours");

    eventually(Duration::from_secs(20), async || !runs()).await;
    drop(window);
}
