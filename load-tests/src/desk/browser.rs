//! An official's browser, as far as the desk notices it: a cookie, connections that are kept, forms with their origin, and a stream of changes.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, SET_COOKIE},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// A page that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that was not used for so long is not used again: the desk is about to close it.
const KEPT: Duration = Duration::from_secs(8);

type Connections = Client<HttpConnector, Full<Bytes>>;

/// A browser whose official is signed in.
pub(super) struct Browser {
    pages: Connections,
    /// Of their own, so that pages keep theirs.
    streams: Connections,
    origin: String,
    cookie: String,
    /// What forms carry.
    csrf: String,
}

/// What came.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

/// How often something has changed since the stream was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) requests: u64,
    pub(super) notices: u64,
}

impl Changes {
    fn take_in(&mut self, lines: &[String]) {
        let concerns = |what: &str| lines.iter().any(|line| line.split(':').next() == Some(what) || line == "anything");
        self.requests += u64::from(concerns("requests"));
        self.notices += u64::from(concerns("notices"));
    }
}

/// A stream of changes. Dropped, it is closed.
pub(super) struct Stream {
    pub(super) changes: watch::Receiver<Changes>,
    reading: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Browser {
    /// Signs in as one of the officials of `airut dev`.
    pub(super) async fn signed_in(address: &str, official: &str) -> anyhow::Result<Self> {
        let mut browser = Self {
            pages: connections(),
            streams: connections(),
            origin: format!("http://{address}"),
            cookie: String::new(),
            csrf: String::new(),
        };
        let form = format!("official={official}&after=/");
        let response = timeout(PATIENCE, browser.send(&browser.pages, Method::POST, "/fi/sign-in", form)?);
        let response = response.await.context("takes too long")??;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        ensure!(response.status() == StatusCode::SEE_OTHER, "signing in: {}", response.status());
        ensure!(header(LOCATION) == Some("/fi/"), "signing in leads elsewhere");
        let cookie = header(SET_COOKIE).and_then(|cookie| cookie.split(';').next()).context("a session's cookie")?;
        browser.cookie = cookie.to_owned();
        let page = browser.get("/fi/").await?;
        ensure!(page.status == StatusCode::OK, "the first page: {}", page.status);
        browser.csrf = between(&page.text, "data-csrf=\"", "\"").context("a form's token")?.to_owned();
        Ok(browser)
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.answer(Method::GET, path, String::new()).await
    }

    /// Sends a form, whose fields are encoded already.
    pub(super) async fn post(&self, path: &str, fields: &str) -> anyhow::Result<Answer> {
        self.answer(Method::POST, path, format!("csrf={}&{fields}", self.csrf)).await
    }

    /// How many things a list says that it has.
    pub(super) async fn count(&self, path: &str) -> anyhow::Result<u64> {
        let page = self.get(path).await?;
        ensure!(page.status == StatusCode::OK, "{path}: {}", page.status);
        let said = between(&page.text, "<p role=\"status\">", "</p>").with_context(|| format!("{path} counts"))?;
        let digits: String = said.chars().filter(char::is_ascii_digit).collect();
        // None and one are said in words.
        Ok(digits.parse().unwrap_or_default())
    }

    /// Opens the stream of changes after those that the page shows; returns once it has said its first word.
    pub(super) async fn stream(&self, page: &str) -> anyhow::Result<Stream> {
        let told = between(page, "data-told=\"", "\"").context("the number of the newest change")?;
        let path = format!("/fi/live?told={told}");
        let response = timeout(PATIENCE, self.send(&self.streams, Method::GET, &path, String::new())?);
        let response = response.await.context("takes too long")??;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let mut events = Events { body: response.into_body(), said: String::new() };
        let first = timeout(PATIENCE, events.next()).await.context("says nothing")?;
        let first = first.context("ends at once")?;
        // What was missed until now is as new as what comes later.
        let (tell, changes) = watch::channel(Changes::default());
        tell.send_modify(|changes| changes.take_in(&first));
        let reading = tokio::spawn(async move {
            while let Some(lines) = events.next().await {
                tell.send_if_modified(|changes| {
                    let before = *changes;
                    changes.take_in(&lines);
                    before != *changes
                });
            }
        });
        Ok(Stream { changes, reading })
    }

    async fn answer(&self, method: Method, path: &str, form: String) -> anyhow::Result<Answer> {
        let whole = async {
            let response = self.send(&self.pages, method, path, form)?.await?;
            let status = response.status();
            let text = String::from_utf8(response.into_body().collect().await?.to_bytes().into())?;
            Ok(Answer { status, text })
        };
        timeout(PATIENCE, whole).await.context("takes too long")?
    }

    fn send(
        &self,
        connections: &Connections,
        method: Method,
        path: &str,
        form: String,
    ) -> anyhow::Result<ResponseFuture> {
        let mut request = Request::builder().method(&method).uri(format!("{}{path}", self.origin));
        if !self.cookie.is_empty() {
            request = request.header(COOKIE, &self.cookie);
        }
        if method == Method::POST {
            request = request.header(ORIGIN, &self.origin).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        Ok(connections.request(request.body(Full::from(form))?))
    }
}

fn connections() -> Connections {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(KEPT).pool_timer(TokioTimer::new()).build(connector)
}

/// Server-sent events.
struct Events<B> {
    body: B,
    /// What has come of them and was not looked at yet.
    said: String,
}

impl<B: BodyExt<Data = Bytes> + Unpin> Events<B> {
    /// The lines of the next one; none once the stream has ended.
    async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some((event, rest)) = self.said.split_once("\n\n") {
                let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
                let (lines, rest) = (lines.map(|line| line.trim().to_owned()).collect(), rest.to_owned());
                self.said = rest;
                return Some(lines);
            }
            let frame = self.body.frame().await?.ok()?;
            self.said.push_str(std::str::from_utf8(frame.data_ref()?).ok()?);
        }
    }
}

/// What stands between the first of one text and the next of another.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}
