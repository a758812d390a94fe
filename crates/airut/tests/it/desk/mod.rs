//! The desk, end to end: officials at real browsers, and whoever speaks to it without one.

mod down;
mod hostile;
mod live;
mod pages;
mod sign_in;
mod story;

use std::{net::SocketAddr, path::Path};

use airut_testkit::{Browser, By, Window, WindowOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Data, Exchange, PATIENCE, dev, persons};

/// The cookie of a session.
const COOKIE: &str = "__Host-airut";

/// An exchange as `airut dev` runs it, with a desk at which one may be any of the synthetic officials.
struct Desk {
    exchange: Exchange,
    address: SocketAddr,
    data: Data,
}

impl Desk {
    async fn start() -> Self {
        let data = Data::new();
        let exchange = Exchange::start(dev(data.path())).await;
        Self { address: exchange.desk_address(), exchange, data }
    }

    /// Where browsers have it.
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A synthetic identity code; each number is another person.
    fn person(&self, number: usize) -> String {
        persons(self.data.path()).swap_remove(number)
    }

    /// A browser window of its own, in which this official has signed in, and sees today's page.
    async fn official(&self, browser: &Browser, subject: &str, options: WindowOptions<'_>) -> Official {
        let language = options.languages.get(..2).expect("a language").to_owned();
        let official = Official { window: browser.window(options).await, desk: self.url(), language };
        official.sign_in(subject).await;
        official
    }

    /// The same without a browser.
    async fn visitor(&self, subject: &str) -> Visitor {
        Visitor::at(self.address, subject).await
    }
}

/// An official at a browser.
struct Official {
    window: Window,
    /// Where the desk is.
    desk: String,
    language: String,
}

impl Official {
    /// Chooses to be this official.
    async fn sign_in(&self, subject: &str) {
        self.open("/").await;
        let card = format!("form:has(input[name=official][value={subject}]) button");
        self.window.click(By::Css(&card)).await;
        self.window.find(By::Css("nav.menu")).await;
    }

    /// Goes to a place of the desk.
    async fn open(&self, place: &str) {
        self.window.goto(&format!("{}/{}{place}", self.desk, self.language)).await;
    }

    /// Waits until the open page is kept up to date.
    async fn is_connected(&self) {
        self.window.find(By::Css("body[data-connected=yes]")).await;
    }

    /// Goes on to where a form is looked over, and sends it.
    async fn check_and_send(&self) {
        self.window.click(By::Css("main button[name=step][value=check]")).await;
        self.window.click(By::Css("main button[name=step][value=send]")).await;
    }

    /// The rows of the page's table, each as the text that it shows.
    async fn rows(&self) -> Vec<String> {
        let script = "return [...document.querySelectorAll('main tbody tr')].map((row) => row.innerText)";
        let rows = self.window.execute(script, Vec::new()).await;
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.iter().filter_map(|row| row.as_str().map(str::to_owned)).collect()
    }
}

/// Someone who speaks to the desk without a browser, and may say what no browser would.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    address: SocketAddr,
    cookie: String,
    csrf: String,
}

/// What the desk answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names are in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the page's field of this name that comes first.
    fn field(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, after) = text.split_once(&format!("name=\"{name}\" value=\""))?;
        Some(after.split_once('"')?.0.to_owned())
    }
}

impl Visitor {
    /// Someone who has signed in as this official at the desk there.
    pub(crate) async fn at(address: SocketAddr, subject: &str) -> Self {
        let mut visitor = Self { address, cookie: String::new(), csrf: String::new() };
        visitor.sign_in(subject).await;
        visitor
    }

    /// Signs in, and notes what forms must carry.
    async fn sign_in(&mut self, subject: &str) {
        let signed_in = self.post("/en/sign-in", &[("official", subject)]).await;
        assert_eq!(signed_in.status, 303, "{signed_in:?}");
        let (_, value) = signed_in.header("set-cookie").split_once('=').expect("there is a session");
        self.cookie = value.split(';').next().expect("it has a value").to_owned();
        self.csrf = self.get("/en/").await.field("csrf").expect("forms carry it");
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    /// Sends a form as the desk's own pages do.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let fields = [&[("csrf", self.csrf.as_str())], fields].concat();
        let origin = format!("http://{}", self.address);
        self.send("POST", path, &[("origin", &origin), FORM], form(&fields).as_bytes()).await
    }

    /// Sends a form with files as the desk's own pages do.
    async fn upload(&self, path: &str, fields: &[(&str, &str)], files: &[(&str, &[u8])]) -> Answer {
        const BOUNDARY: &str = "----airut";
        let mut body = Vec::new();
        for (name, value) in [&[("csrf", self.csrf.as_str())], fields].concat() {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        for (name, content) in files {
            // As browsers write a name that has quotes in it.
            let name = name.replace('"', "%22");
            let part =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n");
            body.extend_from_slice(part.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let origin = format!("http://{}", self.address);
        let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send("POST", path, &[("origin", &origin), ("content-type", &media_type)], &body).await
    }

    /// Says just this, with the cookie where there is one.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let said = self.said(method, path, headers, body);
        let answered = timeout(PATIENCE, exchange(self.address, said)).await;
        answered.unwrap_or_else(|_| panic!("{method} {path} is not answered"))
    }

    /// Sends a form as [`post`](Self::post) does, and does not wait for the answer.
    async fn begin(&self, path: &str, fields: &[(&str, &str)]) -> TcpStream {
        let fields = [&[("csrf", self.csrf.as_str())], fields].concat();
        let origin = format!("http://{}", self.address);
        let said = self.said("POST", path, &[("origin", &origin), FORM], form(&fields).as_bytes());
        let mut stream = TcpStream::connect(self.address).await.expect("the desk listens");
        stream.write_all(&said).await.expect("it is sent");
        stream
    }

    fn said(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let Self { address, cookie, .. } = self;
        // 1.0: the answer comes in one piece and ends with the connection.
        let mut head = format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
        if !cookie.is_empty() {
            head.push_str(&format!("cookie: {COOKIE}={cookie}\r\n"));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        [head.as_bytes(), b"\r\n", body].concat()
    }

    /// Asks Pirkanmaa about a person, as an official of Kela; gives where the request is.
    pub(crate) async fn ask(&self, person: &str, question: &str) -> String {
        let filled = self.question(person, question).await;
        let filled = filled.each_ref().map(|(name, value)| (*name, value.as_str()));
        place_of(&self.post("/en/requests/new", &filled).await)
    }

    /// The form for a new request, filled in, with its id first.
    async fn question(&self, person: &str, question: &str) -> [(&'static str, String); 10] {
        let new = self.get("/en/requests/new").await;
        [
            ("id", new.field("id").expect("it has one")),
            ("responder", "pirkanmaa".to_owned()),
            ("kind", "kind-assistance-report".to_owned()),
            ("person", person.to_owned()),
            ("case", "TT-118".to_owned()),
            ("question", question.to_owned()),
            ("due", new.field("due").expect("it has one")),
            ("unit", new.field("unit").expect("it has one")),
            ("telephone", new.field("telephone").expect("it has one")),
            ("step", "send".to_owned()),
        ]
    }

    /// Does something with a request, with these fields beside those that the form begins with.
    async fn act(&self, request: &str, doing: &str, fields: &[(&str, &str)]) {
        let begun = self.get(&format!("/en{request}/{doing}")).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        let given = ["id", "version", "unit", "telephone", "due"].map(|name| (name, begun.field(name)));
        let given = given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let fields: Vec<_> = given.chain([("case", "A-7"), ("step", "send")]).chain(fields.iter().copied()).collect();
        place_of(&self.post(&format!("/en{request}/{doing}"), &fields).await);
    }
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Where in the desk one is sent when something was done.
fn place_of(done: &Answer) -> String {
    assert_eq!(done.status, 303, "{}", done.text());
    let place = done.header("location").split('?').next().expect("it says where");
    place.strip_prefix("/en").expect("it is of this language").to_owned()
}

async fn exchange(address: SocketAddr, said: Vec<u8>) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("the desk listens");
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    // It may answer, and go, before it has heard all.
    let (_, read) = tokio::join!(to.write_all(&said), from.read_to_end(&mut answer));
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = head.unwrap_or_else(|| panic!("no answer: {read:?}"));
    let body = answer.split_off(head + 4);
    let head = String::from_utf8(answer).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let headers = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body }
}

/// Fields as browsers send them.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A small document as programs make them.
const PDF: &[u8] =
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
    3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";

/// Writes a file for somebody to send.
fn file(directory: &Path, name: &str, content: &[u8]) -> std::path::PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, content).expect("the directory is ours");
    file
}
