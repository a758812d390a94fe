//! Somebody at the provider's pages, without a browser: it keeps cookies and fills the form that asks for a password.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use url::{Url, form_urlencoded};

/// How long an answer may take.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
/// How many pages may lead to the next before it ends somewhere else.
const REDIRECTS: usize = 8;

/// A visitor of the provider, and of nothing else.
#[derive(Debug)]
pub struct Visitor {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
    token: Option<String>,
}

/// What a page answers.
#[derive(Debug)]
pub struct Answer {
    /// As 200.
    pub status: u16,
    /// Where it sends the visitor.
    pub location: Option<String>,
    /// All of it.
    pub body: String,
}

impl Visitor {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new(), token: None }
    }

    /// Goes to the URL that begins a sign-in, enters the name and the password, and gives where it is sent back to, which
    /// is not visited. A visitor who is signed in is sent back without being asked. Nothing if the password is refused.
    /// Blocks.
    ///
    /// # Panics
    /// It can not be reached, or shows something else than a form for that.
    pub fn sign_in(&mut self, url: &str, username: &str, password: &str) -> Option<String> {
        let page = match self.follow(url) {
            Ok(page) => page,
            Err(elsewhere) => return Some(elsewhere),
        };
        let action = form_action(&page.body).unwrap_or_else(|| panic!("it asks for no password: {page:?}"));
        let answer = self.post(&action, &[("username", username), ("password", password)]);
        answer.location
    }

    /// Whether the provider still knows who this is: it sends them back without asking. Blocks.
    ///
    /// # Panics
    /// It can not be reached.
    pub fn is_signed_in(&mut self, url: &str) -> bool {
        self.follow(url).is_err()
    }

    /// Blocks.
    ///
    /// # Panics
    /// It can not be reached.
    pub fn get(&mut self, url: &str) -> Answer {
        self.ask("GET", url, "application/json", "")
    }

    /// Sends a form. Blocks.
    ///
    /// # Panics
    /// It can not be reached.
    pub fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.ask("POST", url, "application/x-www-form-urlencoded", &form)
    }

    pub(super) fn authorize(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    pub(super) fn send(&mut self, method: &str, url: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, url, "application/json", &body)
    }

    /// The page at the end of its own redirects; or where they lead elsewhere.
    fn follow(&mut self, url: &str) -> Result<Answer, String> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let answer = self.get(&url);
            let Some(location) = answer.location.clone() else { return Ok(answer) };
            if !self.is_here(&location) {
                return Err(location);
            }
            url = location;
        }
        panic!("it leads from page to page, at last to {url}");
    }

    fn is_here(&self, url: &str) -> bool {
        let url = Url::parse(url).expect("it is a URL");
        url.socket_addrs(|| None).is_ok_and(|addresses| addresses.contains(&self.address))
    }

    fn ask(&mut self, method: &str, url: &str, content_type: &str, body: &str) -> Answer {
        assert!(self.is_here(url), "{url} is not the provider's");
        let answer = self.exchange(method, url, content_type, body);
        answer.unwrap_or_else(|error| panic!("{method} {url} gets no answer: {error}"))
    }

    fn exchange(&mut self, method: &str, url: &str, content_type: &str, body: &str) -> io::Result<Answer> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER_BOUND))?;
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        // 1.0: the answer comes in one piece and ends with the connection.
        write!(
            stream,
            "{method} {target} HTTP/1.0\r\nHost: {}\r\nCookie: {cookies}\r\n{token}Content-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            &url[url::Position::BeforeHost..url::Position::AfterPort],
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut location = None;
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            match name.to_ascii_lowercase().as_str() {
                "location" => location = Some(value.to_owned()),
                "set-cookie" => self.keep(value),
                _ => {}
            }
        }
        Ok(Answer { status, location, body: body.to_owned() })
    }

    fn keep(&mut self, cookie: &str) {
        let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).unwrap_or_default();
        if cookie.to_ascii_lowercase().contains("max-age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Where the form that asks for the password is sent.
fn form_action(page: &str) -> Option<String> {
    let form = page.split("<form").find(|form| form.contains("name=\"password\""))?;
    let action = form.split_once("action=\"")?.1.split_once('"')?.0;
    Some(action.replace("&amp;", "&"))
}
