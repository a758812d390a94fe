//! A real identity provider, Keycloak, which keeps everything in memory, on a port that it chooses.
//!
//! ```no_run
//! # use airut_testkit::keycloak::{Client, Keycloak, Realm, User};
//! let desk = Client { id: "desk", redirects: &["http://127.0.0.1/*"], after_logout: &["http://127.0.0.1/*"] };
//! let aino = User { username: "aino", first_name: "Aino", last_name: "Esimerkki", ..User::default() };
//! let Some(keycloak) = Keycloak::start(&[Realm::new("airut", &[desk], &[aino])]) else { return };
//! let issuer = keycloak.issuer("airut");
//! ```
//!
//! It is the server from Maven Central, run by the machine's Java; `AIRUT_KEYCLOAK` names the directory of its
//! distribution, which `deploy/fetch` makes ready to start. Where Java or that is missing, [`Keycloak::start`] says so and
//! gives nothing. It takes half a minute to start, so that tests share one.
//!
//! What it must never do: outlive the process that started it, or write into the distribution.

mod realm;
mod visitor;

pub use realm::{Client, PASSWORD, Realm, SECRET, User};
pub use visitor::{Answer, Visitor};

use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{parts, process};

/// Where the distribution is.
const DISTRIBUTION: &str = "AIRUT_KEYCLOAK";
/// How long it may take to serve. About half a minute on an idle machine of two cores.
const START_BOUND: Duration = Duration::from_secs(300);
/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(50);
/// What the directories are called, before the process's id.
const DIRECTORY: &str = "airut-keycloak-";
/// What it writes once it serves, before its port.
const SERVES: &str = "Listening on: http://127.0.0.1:";
/// Made up, and of this server alone.
const ADMINISTRATOR: &str = "airut-test";

/// What `bin/kc.sh` gives Java, which it starts as a child of its own: one that would outlive it.
const JAVA: [&str; 13] = [
    "-Xms64m",
    "-Xmx512m",
    // It runs for minutes: starting quickly counts, not running fast.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Dpicocli.disable.closures=true",
    "-Duser.language=en",
    "--enable-native-access=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
];
const MAIN: &str = "io.quarkus.bootstrap.runner.QuarkusEntryPoint";
const ARGUMENTS: [&str; 8] = [
    "start",
    // As `deploy/fetch` has built it, for a database in memory.
    "--optimized",
    "--cache=local",
    "--http-enabled=true",
    // It is called whatever it is asked by.
    "--hostname-strict=false",
    "--http-host=127.0.0.1",
    // 0: it takes one that is free, and says which.
    "--http-port=0",
    "--import-realm",
];

/// A running identity provider. Killed when it is dropped.
#[derive(Debug)]
pub struct Keycloak {
    address: SocketAddr,
    process: Mutex<Child>,
    // Last: the server is gone before its files.
    home: TempDir,
}

impl Keycloak {
    /// Starts one with these realms, and waits until it serves. Nothing, after saying so, where it is not installed.
    ///
    /// # Panics
    /// It is missing, and `AIRUT_TEST_REQUIRE` names `keycloak`; or it does not start.
    pub fn start(realms: &[Realm]) -> Option<Self> {
        let distribution = env::var_os(DISTRIBUTION).map(PathBuf::from).filter(|directory| directory.is_dir());
        let found = distribution.zip(parts::program("java")).zip(parts::program("setpriv"));
        let ((distribution, java), setpriv) = parts::require("keycloak", found)?;
        process::sweep(DIRECTORY);
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let home = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory can be made");
        lay(home.path(), &distribution, realms);
        let said = home.path().join("said");
        let mut process = spawn(Command::new(setpriv), &java, home.path(), &said);
        let port = port_once_it_serves(&mut process, &said);
        Some(Self { address: (Ipv4Addr::LOCALHOST, port).into(), process: Mutex::new(process), home })
    }

    /// What the realm's tokens say that they are from.
    pub fn issuer(&self, realm: &str) -> String {
        format!("http://{}/realms/{realm}", self.address)
    }

    /// The file of every client's secret.
    pub fn secret(&self) -> PathBuf {
        self.home.path().join("secret")
    }

    /// Somebody at a browser that knows nobody yet.
    pub fn visitor(&self) -> Visitor {
        Visitor::new(self.address)
    }

    /// What its administrator is answered, such as to `POST` at `/realms/airut/components`. Blocks.
    ///
    /// # Panics
    /// It can not be reached, or refuses.
    pub fn administer(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut visitor = self.visitor();
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMINISTRATOR),
            ("password", ADMINISTRATOR),
        ];
        let token = visitor.post(&format!("{}/protocol/openid-connect/token", self.issuer("master")), &form);
        let token: Value = serde_json::from_str(&token.body).expect("it answers in JSON");
        visitor.authorize(token["access_token"].as_str().expect("the administrator may enter"));
        let answer = visitor.send(method, &format!("http://{}/admin{path}", self.address), body);
        assert!((200..300).contains(&answer.status), "{method} {path} is refused: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_default()
    }

    /// Kills it, as the power's going would.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself.
        drop(process.kill());
        drop(process.wait());
    }
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A home of its own: only the programs are shared, which it reads.
fn lay(home: &Path, distribution: &Path, realms: &[Realm]) {
    for directory in ["conf", "providers", "themes", "data/import", "data/tmp"] {
        fs::create_dir_all(home.join(directory)).expect("the directory is ours");
    }
    symlink(distribution.join("lib"), home.join("lib")).expect("the directory is ours");
    fs::write(home.join("secret"), format!("{SECRET}\n")).expect("the directory is ours");
    for realm in realms {
        let file = home.join(format!("data/import/{}-realm.json", realm.name()));
        fs::write(file, realm.json().to_string()).expect("the directory is ours");
    }
}

fn spawn(mut command: Command, java: &Path, home: &Path, said: &Path) -> Child {
    let said = File::create(said).expect("the directory is ours");
    command.args(["--pdeathsig", "KILL", "--"]).arg(java).args(JAVA);
    for (property, directory) in [
        ("kc.home.dir", home.to_owned()),
        ("jboss.server.config.dir", home.join("conf")),
        ("java.io.tmpdir", home.join("data/tmp")),
    ] {
        command.arg(format!("-D{property}={}", directory.display()));
    }
    command.arg("-cp").arg(home.join("lib/quarkus-run.jar")).arg(MAIN).args(ARGUMENTS);
    command.env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMINISTRATOR).env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMINISTRATOR);
    command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file can be shared")).stderr(said);
    process::spawn(command).expect("Java can be started")
}

fn port_once_it_serves(process: &mut Child, said: &Path) -> u16 {
    let began = Instant::now();
    loop {
        let said = fs::read_to_string(said).unwrap_or_default();
        let port = said.split_once(SERVES).and_then(|(_, rest)| rest.split_once('\n')?.0.trim().parse().ok());
        if let Some(port) = port {
            return port;
        }
        let ended = process.try_wait().expect("the process is ours").is_some();
        assert!(!ended && began.elapsed() < START_BOUND, "Keycloak does not serve:\n{said}");
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_realm_is_served_and_its_users_sign_in() {
        let client = Client { id: "desk", redirects: &["http://127.0.0.1/*"], after_logout: &["http://127.0.0.1/*"] };
        let user = User {
            username: "aino",
            first_name: "Aino",
            last_name: "Esimerkki",
            organisation: "pirkanmaa",
            roles: &["reader"],
            ..User::default()
        };
        let Some(keycloak) = Keycloak::start(&[Realm::new("airut", &[client], &[user])]) else { return };
        let mut visitor = keycloak.visitor();
        let issuer = keycloak.issuer("airut");

        let described = visitor.get(&format!("{issuer}/.well-known/openid-configuration"));
        let described: Value = serde_json::from_str(&described.body).expect("it is JSON");
        assert_eq!(described["issuer"], json!(issuer));

        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let url = format!(
            "{issuer}/protocol/openid-connect/auth?response_type=code&client_id=desk&scope=openid&state=s\
             &redirect_uri=http://127.0.0.1:1/back&code_challenge_method=S256&code_challenge={challenge}"
        );
        let refused = visitor.sign_in(&url, "aino", "not the password");
        assert_eq!(refused, None);
        let back = visitor.sign_in(&url, "aino", PASSWORD).expect("the password is right");
        assert!(back.starts_with("http://127.0.0.1:1/back?state=s") && back.contains("&code="), "{back}");

        let users = keycloak.administer("GET", "/realms/airut/users?username=aino", &Value::Null);
        assert_eq!(users[0]["attributes"]["organisation"], json!(["pirkanmaa"]));
    }
}
