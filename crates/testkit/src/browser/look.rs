//! How a window looks at a page: its size, colours and medium, its network, and pictures of what it shows.

use std::{fs, panic::Location, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::window::{Window, done};

/// What WCAG's reflow is about: a window this wide, magnified to 400 %, leaves 320 CSS pixels.
const ZOOM_WIDTH: u32 = 1280;
const ZOOM_HEIGHT: u32 = 1024;

/// A command of the DevTools protocol, which the driver passes on.
#[derive(Debug)]
struct DevTools {
    command: String,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "cmd": self.command, "params": self.parameters }).to_string()))
    }
}

/// What the driver has noted since it was last asked.
#[derive(Debug)]
struct Noted;

impl WebDriverCompatibleCommand for Noted {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": "performance" }).to_string()))
    }
}

impl Window {
    /// Every address that the browser has asked for since this was last called, in a window that
    /// [`remembers`](super::WindowOptions::remembers).
    #[track_caller]
    pub fn asked_for(&self) -> impl Future<Output = Vec<String>> {
        let at = Location::caller();
        async move {
            let noted = done(at, "tell what it asked for", self.client().issue_cmd(Noted)).await;
            let noted = noted.as_array().map(Vec::as_slice).unwrap_or_default();
            let messages =
                noted.iter().filter_map(|note| serde_json::from_str::<Value>(note["message"].as_str()?).ok());
            let sent = messages.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
            let urls = sent.filter_map(|event| Some(event["message"]["params"]["request"]["url"].as_str()?.to_owned()));
            urls.collect()
        }
    }

    /// What the browser answers to a command of the DevTools protocol, such as `Emulation.setEmulatedMedia`.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> impl Future<Output = Value> {
        let at = Location::caller();
        let what = format!("do {command}");
        let command = DevTools { command: command.to_owned(), parameters };
        async move { done(at, &what, self.client().issue_cmd(command)).await }
    }

    /// Shows pages as on a screen whose user wants dark colours.
    #[track_caller]
    pub fn darken(&self) -> impl Future<Output = ()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": "dark" }]);
        self.emulate("Emulation.setEmulatedMedia", json!({ "media": "screen", "features": features }))
    }

    /// Shows pages as they are printed.
    #[track_caller]
    pub fn show_as_printed(&self) -> impl Future<Output = ()> {
        self.emulate("Emulation.setEmulatedMedia", json!({ "media": "print", "features": [] }))
    }

    /// Shows pages on a screen, in the colours that they have by default: the end of [`darken`](Self::darken) and
    /// [`show_as_printed`](Self::show_as_printed).
    #[track_caller]
    pub fn show_as_usual(&self) -> impl Future<Output = ()> {
        self.emulate("Emulation.setEmulatedMedia", json!({ "media": "", "features": [] }))
    }

    /// Magnifies pages to this many per cent in a window of 1280 by 1024: at 400, 320 CSS pixels are left.
    #[track_caller]
    pub fn zoom(&self, per_cent: u32) -> impl Future<Output = ()> {
        let (width, height) = (ZOOM_WIDTH * 100 / per_cent, ZOOM_HEIGHT * 100 / per_cent);
        let scale = f64::from(per_cent) / 100.0;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": false });
        self.emulate("Emulation.setDeviceMetricsOverride", metrics)
    }

    /// Cuts it off from the network.
    #[track_caller]
    pub fn disconnect(&self) -> impl Future<Output = ()> {
        self.network(json!({ "offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 }))
    }

    /// Ends [`disconnect`](Self::disconnect).
    #[track_caller]
    pub fn reconnect(&self) -> impl Future<Output = ()> {
        self.network(json!({ "offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 }))
    }

    /// Shows pages without running their scripts, from the next one on. What this kit looks for is found all the same.
    #[track_caller]
    pub fn forbid_scripts(&self) -> impl Future<Output = ()> {
        self.emulate("Emulation.setScriptExecutionDisabled", json!({ "value": true }))
    }

    /// Writes a picture of the whole page, PNG, also of what must be scrolled to.
    #[track_caller]
    pub fn screenshot(&self, file: &Path) -> impl Future<Output = ()> {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let captured = self.devtools("Page.captureScreenshot", parameters);
        async move {
            let captured = captured.await;
            let encoded = captured["data"].as_str().expect("the picture is text");
            let picture = BASE64_STANDARD.decode(encoded).expect("the picture is in base 64");
            fs::write(file, picture).expect("the picture can be written");
        }
    }

    #[track_caller]
    fn emulate(&self, command: &str, parameters: Value) -> impl Future<Output = ()> {
        let emulated = self.devtools(command, parameters);
        async move { drop(emulated.await) }
    }

    #[track_caller]
    fn network(&self, conditions: Value) -> impl Future<Output = ()> {
        let enabled = self.devtools("Network.enable", json!({}));
        let set = self.devtools("Network.emulateNetworkConditions", conditions);
        async move {
            enabled.await;
            set.await;
        }
    }
}
