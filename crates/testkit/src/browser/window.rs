//! A window, and what a person does in it.

use std::{
    panic::Location,
    path::{Path, PathBuf},
    time::Duration,
};

use fantoccini::{
    Client, Locator,
    elements::{Element, ElementRef},
    error::CmdError,
    key::Key,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Session, Violation, axe};

/// How long what a page should show may take to be there.
const BOUND: Duration = Duration::from_secs(20);
/// How often to look whether it is.
const LOOK: Duration = Duration::from_millis(20);
/// How long any one command may take; a page that loads is bounded more tightly by the driver.
const COMMAND_BOUND: Duration = Duration::from_secs(60);
/// What the driver calls an element in what a script gives back.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How a person would say which element is meant. The text is the whole of what is visible, however it is spaced.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// The first that the CSS selector matches.
    Css(&'a str),
    /// A visible link.
    Link(&'a str),
    /// A visible button.
    Button(&'a str),
    /// A form field by its label.
    Label(&'a str),
}

/// An open window, with a profile of its own. Closed when it is dropped.
///
/// What looks for an element waits for it, since pages load when they load. Everything panics where the test should fail, and
/// names the line of the test.
#[derive(Debug)]
pub struct Window {
    client: Client,
    downloads: PathBuf,
    axe: PathBuf,
    _session: Session,
}

impl Window {
    pub(super) fn new(client: Client, session: Session, downloads: PathBuf, axe: PathBuf) -> Self {
        Self { client, downloads, axe, _session: session }
    }

    /// The WebDriver client itself, for what has no name here.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens the page, and waits until it has loaded.
    #[track_caller]
    pub fn goto(&self, url: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move { done(at, &format!("go to {url}"), self.client.goto(url)).await }
    }

    /// Where it is.
    #[track_caller]
    pub fn url(&self) -> impl Future<Output = String> {
        let at = Location::caller();
        async move { done(at, "tell the URL", self.client.current_url()).await.into() }
    }

    /// Waits until its address is one that fits.
    #[track_caller]
    pub fn arrives(&self, fits: impl Fn(&str) -> bool) -> impl Future<Output = ()> {
        let at = Location::caller();
        self.wait(at, "does not arrive".to_owned(), async move || {
            let url = self.client.current_url().await?;
            Ok(fits(url.as_str()).then_some(()))
        })
    }

    /// Waits until the element is there.
    #[track_caller]
    pub fn find(&self, what: By<'_>) -> impl Future<Output = Element> {
        self.act(Location::caller(), what, async |element| Ok(element))
    }

    /// Whether the element is there now.
    #[track_caller]
    pub fn has(&self, what: By<'_>) -> impl Future<Output = bool> {
        let at = Location::caller();
        async move { done(at, &format!("look for {what:?}"), self.look_for(what)).await.is_some() }
    }

    /// Clicks it. If that leads to another page, waits until it has loaded.
    #[track_caller]
    pub fn click(&self, what: By<'_>) -> impl Future<Output = ()> {
        self.act(Location::caller(), what, async |element| element.click().await)
    }

    /// Types the text into the field, in place of what it held.
    #[track_caller]
    pub fn fill(&self, what: By<'_>, text: &str) -> impl Future<Output = ()> {
        self.act(Location::caller(), what, async move |element| {
            element.clear().await?;
            element.send_keys(text).await
        })
    }

    /// Types the text into the field, after what it holds.
    #[track_caller]
    pub fn type_into(&self, what: By<'_>, text: &str) -> impl Future<Output = ()> {
        self.act(Location::caller(), what, async move |element| element.send_keys(text).await)
    }

    /// Chooses the option of this text in a list.
    #[track_caller]
    pub fn choose(&self, what: By<'_>, option: &str) -> impl Future<Output = ()> {
        self.act(Location::caller(), what, async move |element| {
            element.find(Locator::XPath(&format!(".//option[normalize-space()='{option}']"))).await?.click().await
        })
    }

    /// Gives a field files, which the browser reads when the form is sent.
    #[track_caller]
    pub fn upload(&self, what: By<'_>, files: &[&Path]) -> impl Future<Output = ()> {
        let files = files.iter().map(|file| file.to_str().expect("the path is text")).collect::<Vec<_>>().join("\n");
        self.act(Location::caller(), what, async move |element| element.send_keys(&files).await)
    }

    /// Presses a key where the focus is.
    #[track_caller]
    pub fn press(&self, key: Key) -> impl Future<Output = ()> {
        let at = Location::caller();
        let press = async move {
            let focused = self.client.active_element().await?;
            focused.send_keys(&String::from(char::from(key))).await
        };
        async move { done(at, "press a key", press).await }
    }

    /// The element's visible text.
    #[track_caller]
    pub fn text(&self, what: By<'_>) -> impl Future<Output = String> {
        self.act(Location::caller(), what, async |element| element.text().await)
    }

    /// What the field holds.
    #[track_caller]
    pub fn value(&self, what: By<'_>) -> impl Future<Output = String> {
        self.act(Location::caller(), what, async |element| Ok(element.prop("value").await?.unwrap_or_default()))
    }

    /// Waits until the page shows the text.
    #[track_caller]
    pub fn shows(&self, text: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        self.wait(at, format!("does not show “{text}”"), async move || {
            Ok(self.visible_text().await?.contains(text).then_some(()))
        })
    }

    /// What the script gives back, or what its promise comes to. It runs in the page whatever the page's policy forbids.
    #[track_caller]
    pub fn execute(&self, script: &str, arguments: Vec<Value>) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move { done(at, "run the script", self.client.execute(script, arguments)).await }
    }

    /// What in the page shuts people out, by WCAG 2.1 A and AA as far as a program can tell.
    #[track_caller]
    pub fn axe(&self) -> impl Future<Output = Vec<Violation>> {
        let at = Location::caller();
        async move { done(at, "look with axe", axe::violations(&self.client, &self.axe)).await }
    }

    /// Waits until a file of this name was downloaded, and gives where it is.
    #[track_caller]
    pub fn downloaded(&self, name: &str) -> impl Future<Output = PathBuf> {
        let at = Location::caller();
        let file = self.downloads.join(name);
        // It gets its name when it is whole.
        self.wait(at, format!("has not downloaded {name}"), async move || Ok(file.is_file().then(|| file.clone())))
    }

    /// Where downloads go.
    pub fn downloads(&self) -> &Path {
        &self.downloads
    }

    /// The element now, if it is there.
    async fn look_for(&self, what: By<'_>) -> Result<Option<Element>, CmdError> {
        let (how, words) = match what {
            By::Css(selector) => ("css", selector),
            By::Link(text) => ("link", text),
            By::Button(text) => ("button", text),
            By::Label(text) => ("label", text),
        };
        let found = self.client.execute(include_str!("find.js"), vec![json!(how), json!(words)]).await?;
        let id = found.get(ELEMENT).and_then(Value::as_str);
        Ok(id.map(|id| Element::from_element_id(self.client.clone(), ElementRef::from(id.to_owned()))))
    }

    async fn visible_text(&self) -> Result<String, CmdError> {
        let text = self.client.execute("return document.body ? document.body.innerText : ''", Vec::new()).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits for the element and does something with it. An element that went away before it was done is looked for anew,
    /// as when a page replaced another in between.
    async fn act<T>(
        &self,
        at: &'static Location<'static>,
        what: By<'_>,
        action: impl AsyncFn(Element) -> Result<T, CmdError>,
    ) -> T {
        self.wait(at, format!("has no {what:?}"), async || match self.look_for(what).await? {
            Some(element) => action(element).await.map(Some),
            None => Ok(None),
        })
        .await
    }

    async fn wait<T>(
        &self,
        at: &'static Location<'static>,
        complaint: String,
        mut attempt: impl AsyncFnMut() -> Result<Option<T>, CmdError>,
    ) -> T {
        let attempts = async {
            loop {
                match attempt().await {
                    Ok(Some(outcome)) => return outcome,
                    Ok(None) => {}
                    // A page is replaced while it is looked at.
                    Err(error) if error.is_stale_element_reference() || error.is_javascript_error() => {}
                    Err(error) => panic!("{at}: the window {complaint}: {error}"),
                }
                sleep(LOOK).await;
            }
        };
        if let Ok(outcome) = timeout(BOUND, attempts).await {
            return outcome;
        }
        let url = done(at, "tell the URL", self.client.current_url()).await;
        let text = done(at, "tell the text", self.visible_text()).await;
        panic!("{at}: the window {complaint} within {BOUND:?}. It is at {url} and shows:\n{text}")
    }
}

/// What the command gives.
///
/// # Panics
/// It fails, or not even that within the bound.
pub(super) async fn done<T>(
    at: &'static Location<'static>,
    what: &str,
    command: impl Future<Output = Result<T, CmdError>>,
) -> T {
    match timeout(COMMAND_BOUND, command).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{at}: the window can not {what}: {error}"),
        Err(_) => panic!("{at}: the window does not {what} within {COMMAND_BOUND:?}"),
    }
}
