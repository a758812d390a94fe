//! A real Chromium without a screen, driven through its WebDriver as a person would use it.
//!
//! [`Browser::start`] starts the driver; each [`Window`] of it is a browser process with a profile of its own, so that
//! two windows are two people. [`Window::axe`] looks for what shuts people out of a page. Debian's packages `chromium` and
//! `chromium-driver` bring both programs, and `AIRUT_AXE` names axe-core's `axe.min.js`. Where one of them is missing,
//! [`Browser::start`] says so and gives nothing.
//!
//! What it must never do: outlive the process that started it, or reach anything but this machine.

mod axe;
mod look;
mod window;

pub use axe::Violation;
pub use window::{By, Window};

use std::{
    env,
    fs::{self, File, Permissions},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use fantoccini::{ClientBuilder, wd::Capabilities};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{free_ports, parts, process};

/// Where the script is that looks for what shuts people out.
const AXE: &str = "AIRUT_AXE";
/// How long the driver may take to serve. Less than a second on an idle machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long a browser may take to open. About a second on an idle machine.
const OPEN_BOUND: Duration = Duration::from_secs(60);
/// How long a page may take to load, and a script to end, in milliseconds.
const PAGE_BOUND_MS: u64 = 30_000;
/// How long the driver may take to close a window.
const CLOSE_BOUND: Duration = Duration::from_secs(10);
/// What the directories are called, before the process's id.
const DIRECTORY: &str = "airut-browser-";
/// What the driver writes once it serves.
const SERVES: &str = "was started successfully";

const FLAGS: [&str; 11] = [
    "--headless=new",
    // Tests may run as root, which Chromium's sandbox refuses. The pages are ours.
    "--no-sandbox",
    "--disable-gpu",
    // A container gives 64 MiB of shared memory, with which pages crash.
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    // It would look for updates and for what it should warn of.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Not even a page under test reaches further than this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
    "--proxy-server=direct://",
];

/// A running driver, which opens windows. Killed with all of them when it is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    axe: PathBuf,
    windows: AtomicUsize,
    // Last: the processes are gone before their files.
    home: TempDir,
}

/// How a window is opened.
#[derive(Clone, Copy, Debug)]
pub struct WindowOptions<'a> {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// The languages that its user reads, best first, as `fi,sv`: what it sends as `Accept-Language`.
    pub languages: &'a str,
    /// Whether servers are taken for what they say they are, whoever issued their certificates.
    pub trusting: bool,
    /// Whether [`Window::asked_for`] can be told.
    pub remembers: bool,
}

impl Default for WindowOptions<'_> {
    /// A laptop's screen, and no language that a page need have.
    fn default() -> Self {
        Self { width: 1280, height: 1024, languages: "en", trusting: false, remembers: false }
    }
}

struct Parts {
    chromium: PathBuf,
    driver: PathBuf,
    setpriv: PathBuf,
    axe: PathBuf,
}

impl Browser {
    /// Starts a driver. Nothing, after saying so, where a part is not installed. Blocks until it
    /// serves.
    ///
    /// # Panics
    /// A part is missing, and `AIRUT_TEST_REQUIRE` names `chromium`; or it does not start.
    pub fn start() -> Option<Self> {
        let parts = parts::require("chromium", Parts::find())?;
        process::sweep(DIRECTORY);
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let home = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory can be made");
        parts.write_starter(&home.path().join("chromium"));
        let said = home.path().join("said");
        // Of port 0 it would take what is free of IPv6, and end where the same number is taken of IPv4.
        let port = free_ports(1)[0];
        let mut driver = parts.spawn_driver(port, home.path(), &said);
        wait_until_it_serves(&mut driver, &said);
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Some(Self { driver, address, axe: parts.axe, windows: AtomicUsize::new(0), home })
    }

    /// Opens a window: a browser process with an empty profile.
    ///
    /// # Panics
    /// It does not open.
    pub async fn window(&self, options: WindowOptions<'_>) -> Window {
        let number = self.windows.fetch_add(1, Ordering::Relaxed);
        let home = self.home.path().join(format!("window-{number}"));
        let downloads = home.join("downloads");
        fs::create_dir_all(&downloads).expect("the directory is ours");
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(self.capabilities(&home, &downloads, options));
        let url = format!("http://{}", self.address);
        let opened = tokio::time::timeout(OPEN_BOUND, builder.connect(&url)).await;
        let client = opened.unwrap_or_else(|_| panic!("no window opens within {OPEN_BOUND:?}"));
        let client = client.unwrap_or_else(|error| panic!("no window opens: {error}"));
        let session = client.session_id().await.ok().flatten().expect("a session has an id");
        Window::new(client, Session { driver: self.address, id: session }, downloads, self.axe.clone())
    }

    fn capabilities(&self, home: &Path, downloads: &Path, options: WindowOptions<'_>) -> Capabilities {
        let WindowOptions { width, height, languages, trusting, remembers } = options;
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", home.join("profile").display()));
        flags.push(format!("--window-size={width},{height}"));
        let capabilities = json!({
            "browserName": "chrome",
            "acceptInsecureCerts": trusting,
            "goog:loggingPrefs": if remembers { json!({ "performance": "ALL" }) } else { json!({}) },
            "goog:chromeOptions": {
                "binary": self.home.path().join("chromium"),
                "args": flags,
                "prefs": {
                    "intl.accept_languages": languages,
                    "download.default_directory": downloads,
                    "download.prompt_for_download": false,
                    // They are downloaded, for the test to read.
                    "plugins.always_open_pdf_externally": true,
                    // It would offer to keep passwords, over the page.
                    "credentials_enable_service": false,
                },
            },
            "timeouts": { "pageLoad": PAGE_BOUND_MS, "script": PAGE_BOUND_MS, "implicit": 0 },
            // A dialogue that nobody expects is the test's failure.
            "unhandledPromptBehavior": "dismiss and notify",
        });
        match capabilities {
            Value::Object(capabilities) => capabilities,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                unreachable!("it is written as an object")
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself. The kernel kills each browser with its driver: see `write_starter`.
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

impl Parts {
    fn find() -> Option<Self> {
        Some(Self {
            chromium: parts::program("chromium")?,
            driver: parts::program("chromedriver")?,
            setpriv: parts::program("setpriv")?,
            axe: env::var_os(AXE).map(PathBuf::from).filter(|script| script.is_file())?,
        })
    }

    /// What the driver starts as the browser. A browser outlives a driver that is killed; this one is the driver's own child,
    /// forked by a thread of the driver that ends with the window.
    fn write_starter(&self, starter: &Path) {
        let Self { setpriv, chromium, .. } = self;
        let (setpriv, chromium) = (setpriv.display(), chromium.display());
        let text = format!("#!/bin/sh\nexec '{setpriv}' --pdeathsig KILL -- '{chromium}' \"$@\"\n");
        fs::write(starter, text).expect("the directory is ours");
        fs::set_permissions(starter, Permissions::from_mode(0o755)).expect("the file is ours");
    }

    fn spawn_driver(&self, port: u16, home: &Path, said: &Path) -> Child {
        let said = File::create(said).expect("the directory is ours");
        let mut command = Command::new(&self.setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.driver).arg(format!("--port={port}"));
        // What the browser keeps beside its profile.
        command.env("HOME", home).env("TMPDIR", home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file can be shared")).stderr(said);
        process::spawn(command).expect("it can be started")
    }
}

fn wait_until_it_serves(driver: &mut Child, said: &Path) {
    let began = Instant::now();
    loop {
        let said = fs::read_to_string(said).unwrap_or_default();
        if said.contains(SERVES) {
            return;
        }
        let ended = driver.try_wait().expect("the process is ours").is_some();
        assert!(!ended && began.elapsed() < START_BOUND, "the browser's driver does not serve:\n{said}");
        thread::sleep(LOOK);
    }
}

/// A window, as the driver knows it. Closed when it is dropped.
#[derive(Debug)]
struct Session {
    driver: SocketAddr,
    id: String,
}

impl Session {
    /// Blocks until the browser has ended. The client would close it from a task, which a test that ends no longer runs.
    fn close(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.driver)?;
        stream.set_read_timeout(Some(CLOSE_BOUND))?;
        let Self { driver, id } = self;
        write!(stream, "DELETE /session/{id} HTTP/1.1\r\nHost: {driver}\r\nConnection: close\r\n\r\n")?;
        // It answers once it is done.
        stream.read_exact(&mut [0])
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The driver may be gone, and its windows with it.
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests;
