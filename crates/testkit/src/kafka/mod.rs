//! A real Apache Kafka: one node or several, each broker and controller at once (KRaft), in a temporary directory, on
//! ports that were free.
//!
//! ```no_run
//! let Some(kafka) = airut_testkit::kafka::Kafka::start(3) else { return };
//! kafka.kill(2);
//! kafka.restart(2);
//! ```
//!
//! It is the server from Maven Central, run by the machine's Java; `AIRUT_KAFKA_LIB` names the directory of its jars,
//! and `deploy/fetch` puts them there. Where Java or the jars are missing, [`Kafka::start`] says so and gives nothing.
//!
//! What it must never do: outlive the process that started it, whether that drops it, ends or is killed.

mod node;
mod proxy;
mod settings;

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

pub use self::proxy::Proxy;
use self::{node::Node, settings::ClusterPlan};
use crate::{Pki, parts, process};

/// Where the jars are.
const LIB: &str = "AIRUT_KAFKA_LIB";
/// How long a node may take to serve. About 3 s on an idle machine.
const START_BOUND: Duration = Duration::from_secs(90);
/// What the directories are called, before the process's id.
const DIRECTORY: &str = "airut-kafka-";

/// How clients are to come to the brokers.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Anyone, unencrypted.
    #[default]
    Open,
    /// Over TLS with a client certificate.
    Tls {
        /// The CA that clients' certificates must be of, PEM.
        ca: PathBuf,
        /// The brokers' certificate for 127.0.0.1, PEM.
        certificate: PathBuf,
        /// Its key, PKCS#8 PEM.
        key: PathBuf,
        /// The subjects that may do anything, as Kafka writes them: `CN=kela,O=kela,C=FI`. When there are none, any
        /// client may.
        may: Vec<String>,
    },
    /// Anyone, unencrypted, at each node's own address, or by way of a proxy at this port of 127.0.0.1, which is to lead to
    /// [`Kafka::behind`]. For one node.
    Behind {
        /// The proxy's port.
        proxy: u16,
    },
}

impl Access {
    /// Over TLS: the brokers have the PKI's server certificate, and every certificate of its CA may do anything.
    pub fn tls(pki: &Pki) -> Self {
        Self::tls_for(pki, &[])
    }

    /// As [`tls`](Self::tls), but only these of its subjects may do anything.
    pub fn tls_for(pki: &Pki, may: &[&str]) -> Self {
        let server = pki.ca().server();
        let may = may.iter().map(|subject| (*subject).to_owned()).collect();
        Self::Tls { ca: pki.ca().certificate(), certificate: server.certificate, key: server.key, may }
    }
}

/// The Kafka server and its tools, as installed here.
#[derive(Clone, Debug)]
pub struct Installation {
    java: PathBuf,
    /// Of util-linux: has the kernel kill a process when its parent is gone.
    setpriv: PathBuf,
    lib: PathBuf,
}

impl Installation {
    /// What is installed here; nothing unless all of it is.
    pub fn find() -> Option<Self> {
        let lib = PathBuf::from(env::var_os(LIB)?);
        let holds_kafka = fs::read_dir(&lib).ok()?.flatten().any(|jar| is_server(&jar.path()));
        let (java, setpriv) = (parts::program("java")?, parts::program("setpriv")?);
        holds_kafka.then_some(Self { java, setpriv, lib })
    }

    /// One of Kafka's programs, to be given its arguments: `org.apache.kafka.tools.consumer.ConsoleConsumer`. Ends with
    /// the thread that spawns it.
    pub fn program(&self, class: &str) -> Command {
        let mut command = Command::new(&self.setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.java);
        // Compiled once and quickly, and collected by one thread: a test's Kafka lives for seconds on two cores.
        command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.args(["-Dorg.slf4j.simpleLogger.showDateTime=true"]);
        command.args(["-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"]);
        command.arg("-cp").arg(self.lib.join("*")).arg(class);
        command
    }
}

fn is_server(jar: &Path) -> bool {
    jar.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("kafka-server-"))
}

/// A running Kafka. Its nodes are counted from 0, and killed when it is dropped.
#[derive(Debug)]
pub struct Kafka {
    installation: Installation,
    nodes: Vec<Mutex<Node>>,
    bootstrap: String,
    behind: SocketAddr,
    // Last: the nodes are gone before their files.
    _dir: TempDir,
}

impl Kafka {
    /// Starts a Kafka of so many nodes that takes anyone, and waits until every node serves. Nothing, after saying so,
    /// where no Kafka is installed.
    ///
    /// # Panics
    /// It does not start, or it is missing and `AIRUT_TEST_REQUIRE` names `kafka`.
    pub fn start(nodes: u32) -> Option<Self> {
        Self::start_with(nodes, &Access::Open)
    }

    /// As [`start`](Self::start), for clients that come as said.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(nodes: u32, access: &Access) -> Option<Self> {
        let installation = parts::require("kafka", Installation::find())?;
        process::sweep(DIRECTORY);
        let started = Self::try_start(&installation, nodes, access);
        Some(started.unwrap_or_else(|complaint| panic!("Kafka does not start: {complaint}")))
    }

    fn try_start(installation: &Installation, nodes: u32, access: &Access) -> Result<Self, String> {
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory can be made");
        let plan = ClusterPlan::new(nodes, access.clone());
        let bootstrap = plan.bootstrap();
        let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, plan.behind()));
        let nodes = plan.lay(dir.path(), installation)?;
        let nodes: Vec<_> = nodes.into_iter().map(Mutex::new).collect();
        let kafka = Self { installation: installation.clone(), nodes, bootstrap, behind, _dir: dir };
        for node in 0..kafka.nodes.len() {
            kafka.node(node).spawn(installation);
        }
        for node in 0..kafka.nodes.len() {
            kafka.node(node).wait_until_it_serves(START_BOUND)?;
        }
        Ok(kafka)
    }

    /// The addresses to begin with, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where a proxy is to lead, with [`Access::Behind`].
    pub fn behind(&self) -> SocketAddr {
        self.behind
    }

    /// One of Kafka's programs, to be given its arguments: see [`Installation::program`].
    pub fn program(&self, class: &str) -> Command {
        self.installation.program(class)
    }

    /// Kills a node, as the power's going would.
    pub fn kill(&self, node: usize) {
        self.node(node).kill();
    }

    /// Starts a killed node again on its files, and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    pub fn restart(&self, node: usize) {
        let served = self.restart_within(node, START_BOUND);
        assert!(served.is_ok(), "node {node} does not start again: {served:?}");
    }

    /// As [`restart`](Self::restart), with a bound of one's own.
    ///
    /// # Errors
    /// It did not serve by then, or ended: the last of what it said.
    pub fn restart_within(&self, node: usize, bound: Duration) -> Result<(), String> {
        self.node(node).kill();
        self.node(node).spawn(&self.installation);
        self.node(node).wait_until_it_serves(bound)
    }

    /// Stops a node in its tracks: its connections stay, and nothing answers.
    pub fn freeze(&self, node: usize) {
        self.node(node).signal(Signal::STOP);
    }

    /// Has a frozen node go on.
    pub fn thaw(&self, node: usize) {
        self.node(node).signal(Signal::CONT);
    }

    /// The process of a node; none while it is killed.
    pub fn process_id(&self, node: usize) -> Option<u32> {
        self.node(node).process_id()
    }

    /// How many nodes it has.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, node: usize) -> MutexGuard<'_, Node> {
        self.nodes[node].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn serves(address: &str) -> bool {
        TcpStream::connect(address).is_ok()
    }

    #[test]
    fn a_node_comes_back_on_its_files_and_goes_with_the_handle() {
        let Some(kafka) = Kafka::start(1) else { return };
        let address = kafka.bootstrap().to_owned();
        assert!(serves(&address));
        kafka.kill(0);
        assert!(!serves(&address));
        kafka.restart(0);
        assert!(serves(&address));
        kafka.freeze(0);
        kafka.thaw(0);
        drop(kafka);
        assert!(!serves(&address));
    }
}
