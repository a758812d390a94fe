//! The exchange under load, as processes of its own: `airut dev` on the embedded log, or a process for each role on a Kafka of
//! its own.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use airut_client::{Client, Settings};
use airut_log::{KafkaSettings, Log};
use airut_testkit::{free_ports, kafka::Kafka};
use anyhow::{Context, anyhow};

use crate::process::{Process, airut, processor_seconds, run};

/// The roles by which a process that is a gateway is told of: alone, or with all others.
const GATEWAY: &str = "gateway";
const WHOLE: &str = "exchange";

/// How many brokers have each record, where there are as many: then one may be killed at a time.
const REPLICAS: usize = 3;

/// How long a broker that was killed may take to serve again. It recovers its log first, beside those who go on: seconds, and
/// minutes on a machine that has no time for it.
const BROKER_WITHIN: Duration = Duration::from_secs(600);

/// What carries the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// The embedded log: one file.
    Embedded,
    /// Apache Kafka, one node, from the jars in the directory that AIRUT_KAFKA_LIB names.
    Kafka,
}

/// What an exchange consists of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) engine: Engine,
    /// Gateways, each a process of its own. The embedded log has one.
    pub(crate) gateways: usize,
    /// Of a log on Kafka.
    pub(crate) brokers: u32,
}

impl Shape {
    /// One of everything.
    pub(crate) const fn plain(engine: Engine) -> Self {
        Self { engine, gateways: 1, brokers: 1 }
    }
}

/// A running exchange.
pub(crate) struct Exchange {
    data: PathBuf,
    /// In the order in which they are stopped: the ledger last, since it signs what the others leave behind.
    members: Vec<Member>,
    /// Where the gateways serve.
    pub(crate) addresses: Vec<String>,
    /// Where the ledger does.
    pub(crate) ledger: String,
    // Last: it outlives them.
    pub(crate) kafka: Option<Kafka>,
}

/// A process of the exchange, and how it is started again.
struct Member {
    role: &'static str,
    starting: Starting,
    /// None while it is killed.
    process: Option<Process>,
}

#[derive(Clone)]
enum Starting {
    /// All roles on the embedded log.
    Dev { data: PathBuf, listen: String },
    /// What this file of configuration says.
    Serve(PathBuf),
}

/// What can be killed, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Gateway(usize),
    Broker(usize),
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(number) => write!(f, "gateway {}", number + 1),
            Self::Broker(number) => write!(f, "broker {}", number + 1),
        }
    }
}

impl Starting {
    fn start(&self) -> anyhow::Result<Process> {
        match self {
            Self::Dev { data, listen } => dev(data, listen),
            Self::Serve(configuration) => serve(configuration),
        }
    }
}

impl Member {
    fn start(role: &'static str, starting: Starting) -> anyhow::Result<Self> {
        let process = Some(starting.start()?);
        Ok(Self { role, starting, process })
    }

    fn address(&self) -> anyhow::Result<String> {
        Ok(self.process.as_ref().context("it runs")?.address.clone())
    }

    fn is_gateway(&self) -> bool {
        self.role == GATEWAY || self.role == WHOLE
    }
}

impl Exchange {
    /// Starts it on the directory.
    pub(crate) fn start(shape: Shape, data: &Path) -> anyhow::Result<Self> {
        match shape.engine {
            Engine::Embedded => Self::start_embedded(data),
            Engine::Kafka => Self::start_on_kafka(shape, data),
        }
    }

    fn start_embedded(data: &Path) -> anyhow::Result<Self> {
        let member = Member::start(WHOLE, Starting::Dev { data: data.to_owned(), listen: lasting_address() })?;
        let address = member.address()?;
        let addresses = vec![address.clone()];
        Ok(Self { data: data.to_owned(), members: vec![member], addresses, ledger: address, kafka: None })
    }

    fn start_on_kafka(shape: Shape, data: &Path) -> anyhow::Result<Self> {
        lay_out(data)?;
        let kafka = start_kafka(shape.brokers)?;
        let log = log_on(&kafka);
        let mut gateways = Vec::new();
        for number in 0..shape.gateways.max(1) {
            let name = if number == 0 { GATEWAY.to_owned() } else { format!("{GATEWAY}-{}", number + 1) };
            let gateway = configuration(data, (&name, GATEWAY), &log, &lasting_address(), "")?;
            gateways.push(Member::start(GATEWAY, Starting::Serve(gateway))?);
        }
        let addresses = gateways.iter().map(Member::address).collect::<anyhow::Result<Vec<_>>>()?;
        let at = "127.0.0.1:0";
        let register = configuration(data, ("register", "register"), &log, at, &addresses[0])?;
        let ledger = configuration(data, ("ledger", "ledger"), &log, at, "")?;
        let mut members = vec![Member::start("register", Starting::Serve(register))?];
        members.append(&mut gateways);
        let ledger_member = Member::start("ledger", Starting::Serve(ledger))?;
        let ledger = ledger_member.address()?;
        members.push(ledger_member);
        Ok(Self { data: data.to_owned(), members, addresses, ledger, kafka: Some(kafka) })
    }

    /// What the largest of the gateways' processes has in memory, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<u64> {
        let gateways = self.members.iter().filter(|member| member.is_gateway());
        let resident = gateways.filter_map(|member| Some(member.process.as_ref()?.resident_mib()));
        let resident = resident.collect::<anyhow::Result<Vec<_>>>()?;
        resident.into_iter().max().context("there is a gateway")
    }

    /// Where its desk serves, HOST:PORT.
    pub(crate) fn desk(&self) -> anyhow::Result<&str> {
        let mut running = self.members.iter().filter_map(|member| member.process.as_ref());
        Ok(&running.find(|process| !process.desk.is_empty()).context("a process has a desk")?.desk)
    }

    /// The processor time that each role has used, in seconds, this process among them.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut used = BTreeMap::from([("load generator", processor_seconds(std::process::id())?)]);
        for member in &self.members {
            if let Some(process) = &member.process {
                *used.entry(member.role).or_default() += processor_seconds(process.id())?;
            }
        }
        if let Some(broker) = self.kafka.as_ref().and_then(|kafka| kafka.process_id(0)) {
            used.insert("broker", processor_seconds(broker)?);
        }
        Ok(used)
    }

    /// What may be killed without anything being lost: every gateway, and of three brokers or more each.
    pub(crate) fn victims(&self) -> Vec<Victim> {
        let brokers = self.kafka.as_ref().map_or(0, Kafka::size);
        let brokers = if brokers < REPLICAS { 0 } else { brokers };
        (0..self.addresses.len()).map(Victim::Gateway).chain((0..brokers).map(Victim::Broker)).collect()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        match victim {
            Victim::Gateway(number) => drop(self.gateway(number)?.process.take()),
            Victim::Broker(number) => self.kafka.as_ref().context("there are brokers")?.kill(number),
        }
        Ok(())
    }

    /// Starts what was killed again, on its files and its port, and waits until it is ready.
    pub(crate) fn restart(&mut self, victim: Victim) -> anyhow::Result<()> {
        match victim {
            Victim::Gateway(number) => {
                let gateway = self.gateway(number)?;
                gateway.process = Some(gateway.starting.start()?);
            }
            Victim::Broker(number) => {
                let kafka = self.kafka.as_ref().context("there are brokers")?;
                kafka.restart_within(number, BROKER_WITHIN).map_err(|said| anyhow!(said))?;
            }
        }
        Ok(())
    }

    fn gateway(&mut self, number: usize) -> anyhow::Result<&mut Member> {
        self.members.iter_mut().filter(|member| member.is_gateway()).nth(number).context("there is this gateway")
    }

    /// Stops it in good order, and verifies its log and ledger. What is said of it goes to `said`.
    pub(crate) fn stop_and_verify(self, said: Stdio) -> anyhow::Result<()> {
        for member in self.members {
            member.process.with_context(|| format!("the {} does not run", member.role))?.stop().context(member.role)?;
        }
        let mut verify = airut()?;
        verify.args(["ledger", "verify"]).stdout(said);
        match self.kafka {
            Some(_) => verify.arg("--config").arg(self.data.join("ledger.toml")),
            None => verify.arg("--data").arg(&self.data),
        };
        run(verify)
    }
}

/// Makes the directory's certificates, keys, partners and persons.
pub(crate) fn lay_out(data: &Path) -> anyhow::Result<()> {
    let mut prepare = airut()?;
    prepare.args(["dev", "--prepare", "--data"]).arg(data).stdout(Stdio::null());
    run(prepare)
}

/// An address that a process keeps when it is started again.
fn lasting_address() -> String {
    format!("127.0.0.1:{}", free_ports(1)[0])
}

/// A Kafka of so many nodes.
pub(crate) fn start_kafka(brokers: u32) -> anyhow::Result<Kafka> {
    Kafka::start(brokers)
        .context("there is no Kafka: AIRUT_KAFKA_LIB must name the directory of its jars, as in .ci/run")
}

/// How many brokers have each record, and how many of them must.
fn replicas(kafka: &Kafka) -> (u16, u16) {
    if kafka.size() < REPLICAS { (1, 1) } else { (3, 2) }
}

/// What a process is told of the log there.
pub(crate) fn log_on(kafka: &Kafka) -> String {
    let (replication, min_in_sync) = replicas(kafka);
    let brokers: Vec<String> = kafka.bootstrap().split(',').map(|broker| format!("'{broker}'")).collect();
    format!(
        "engine = 'kafka'\nkafka.brokers = [{}]\nkafka.replication = {replication}\nkafka.min_in_sync = {min_in_sync}\n",
        brokers.join(", ")
    )
}

/// The log there, opened by this process.
pub(crate) async fn open_log_on(kafka: &Kafka) -> anyhow::Result<Log> {
    let (replication, min_in_sync) = replicas(kafka);
    let settings = KafkaSettings::at(kafka.bootstrap().split(','));
    Ok(Log::kafka(KafkaSettings { replication, min_in_sync, ..settings }).await?)
}

/// Writes the configuration of a process of this name and these roles, separated by commas, whose register answers for the gateway
/// at `server`, or for its own when there is none. Returns the file, which is called after the process.
pub(crate) fn configuration(
    data: &Path,
    (name, roles): (&str, &str),
    log: &str,
    listen: &str,
    server: &str,
) -> anyhow::Result<PathBuf> {
    let at = |file: &str| data.join(file).display().to_string();
    // Errors only: what the load generator does to the exchange is what it warns of.
    let quoted: Vec<String> = roles.split(',').map(|role| format!("'{role}'")).collect();
    let server = if server.is_empty() { String::new() } else { format!("server = '{server}'\n") };
    let text = format!(
        "roles = [{}]\nlisten = '{listen}'\ndata = '{}'\npartners = '{}'\nledger.origin = 'airut.example/load'\n\
         telemetry.filter = 'error'\n\
         [log]\n{log}\
         [tls]\ncertificate = '{}'\nkey = '{}'\nclient_cas = ['{}']\ncrls = ['{}']\n\
         [keys]\nring = '{}'\nreceipt = '{}'\nedge = '{}'\n\
         [store]\ndirectory = '{}'\n\
         [register]\nca = '{}'\ncertificate = '{}'\nkey = '{}'\n{server}",
        quoted.join(", "),
        at(name),
        at("partners"),
        at("pki/server.crt"),
        at("pki/server.key"),
        at("pki/ca.crt"),
        at("pki/crl.pem"),
        at("keys/ring.toml"),
        at("keys/receipt.key"),
        at("keys/edge.toml"),
        at("objects"),
        at("pki/ca.crt"),
        at("pki/kela.crt"),
        at("pki/kela.key"),
    );
    let path = data.join(format!("{name}.toml"));
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Starts `airut dev` on the directory.
fn dev(data: &Path, listen: &str) -> anyhow::Result<Process> {
    let mut command = airut()?;
    command.arg("dev").arg("--data").arg(data).args([
        "--listen",
        listen,
        "--metrics-listen",
        "127.0.0.1:0",
        "--desk-listen",
        "127.0.0.1:0",
    ]);
    Process::start(command, |line| {
        let (_, rest) = line.split_once("gRPC     https://")?;
        rest.split_whitespace().next().map(str::to_owned)
    })
}

/// Starts `airut serve` with this configuration, and waits until it is ready.
pub(crate) fn serve(configuration: &Path) -> anyhow::Result<Process> {
    let mut command = airut()?;
    command.args(["serve", "--config"]).arg(configuration);
    Process::start(command, |line| {
        let address = line.strip_prefix("ready")?;
        // One that only answers is not called, and has none.
        Some(address.strip_prefix(" on ").unwrap_or_default().to_owned())
    })
}

/// Starts the echo server with the directory's certificates.
pub(crate) fn start_echo(data: &Path, matters: usize) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo-server").arg("--pki").arg(data.join("pki")).arg("--matters").arg(matters.to_string());
    Process::start(command, |line| line.contains(':').then(|| line.to_owned()))
}

/// A client with Pirkanmaa's certificate.
pub(crate) async fn client(address: &str, data: &Path) -> anyhow::Result<Client> {
    let pki = data.join("pki");
    let settings = Settings::new(address, pki.join("ca.crt"), pki.join("pirkanmaa.crt"), pki.join("pirkanmaa.key"));
    Ok(Client::connect(&settings).await?)
}
