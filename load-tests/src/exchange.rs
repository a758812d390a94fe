//! The exchange under load, as processes of its own: `airut dev` on the embedded log, or a process for each role on a Kafka of
//! its own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use airut_client::{Client, Settings};
use airut_log::{KafkaSettings, Log};
use airut_testkit::kafka::Kafka;
use anyhow::Context;

use crate::process::{Process, airut, processor_seconds, run};

/// What carries the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// The embedded log: one file.
    Embedded,
    /// Apache Kafka, one node, from the jars in the directory that AIRUT_KAFKA_LIB names.
    Kafka,
}

/// A running exchange.
pub(crate) struct Exchange {
    data: PathBuf,
    /// By role, in the order in which they are stopped: the ledger last, since it signs what the others leave behind.
    processes: Vec<(&'static str, Process)>,
    /// Where the gateway serves.
    pub(crate) address: String,
    // Last: it outlives them.
    pub(crate) kafka: Option<Kafka>,
}

impl Exchange {
    /// Starts it on the directory.
    pub(crate) fn start(engine: Engine, data: &Path) -> anyhow::Result<Self> {
        match engine {
            Engine::Embedded => Self::start_embedded(data),
            Engine::Kafka => Self::start_on_kafka(data),
        }
    }

    fn start_embedded(data: &Path) -> anyhow::Result<Self> {
        let mut command = airut()?;
        command.arg("dev").arg("--data").arg(data).args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        let process = Process::start(command, |line| {
            let (_, rest) = line.split_once("gRPC     https://")?;
            rest.split_whitespace().next().map(str::to_owned)
        })?;
        let address = process.address.clone();
        Ok(Self { data: data.to_owned(), processes: vec![("exchange", process)], address, kafka: None })
    }

    fn start_on_kafka(data: &Path) -> anyhow::Result<Self> {
        lay_out(data)?;
        let kafka = start_kafka()?;
        let log = log_on(&kafka);
        let gateway = serve(&configuration(data, "gateway", &log, "127.0.0.1:0", "")?)?;
        let address = gateway.address.clone();
        let register = serve(&configuration(data, "register", &log, "127.0.0.1:0", &address)?)?;
        let ledger = serve(&configuration(data, "ledger", &log, "127.0.0.1:0", "")?)?;
        let processes = vec![("register", register), ("gateway", gateway), ("ledger", ledger)];
        Ok(Self { data: data.to_owned(), processes, address, kafka: Some(kafka) })
    }

    /// What the gateway's process has in memory, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<u64> {
        let gateway = self.processes.iter().find(|(role, _)| *role != "register").context("there is a gateway")?;
        gateway.1.resident_mib()
    }

    /// The processor time that each process has used, in seconds, this one's among them.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut used = BTreeMap::from([("load generator", processor_seconds(std::process::id())?)]);
        for (role, process) in &self.processes {
            used.insert(role, processor_seconds(process.id())?);
        }
        if let Some(broker) = self.kafka.as_ref().and_then(|kafka| kafka.process_id(0)) {
            used.insert("broker", processor_seconds(broker)?);
        }
        Ok(used)
    }

    /// Stops it in good order, and verifies its log and ledger.
    pub(crate) fn stop_and_verify(self) -> anyhow::Result<()> {
        for (role, process) in self.processes {
            process.stop().context(role)?;
        }
        let mut verify = airut()?;
        verify.args(["ledger", "verify"]);
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
    prepare.args(["dev", "--prepare", "--data"]).arg(data).stdout(std::process::Stdio::null());
    run(prepare)
}

/// A Kafka of one node.
pub(crate) fn start_kafka() -> anyhow::Result<Kafka> {
    Kafka::start(1).context("there is no Kafka: AIRUT_KAFKA_LIB must name the directory of its jars, as in .ci/run")
}

/// What a process is told of the log there.
pub(crate) fn log_on(kafka: &Kafka) -> String {
    format!(
        "engine = 'kafka'\nkafka.brokers = ['{}']\nkafka.replication = 1\nkafka.min_in_sync = 1\n",
        kafka.bootstrap()
    )
}

/// The log there, opened by this process.
pub(crate) async fn open_log_on(kafka: &Kafka) -> anyhow::Result<Log> {
    let settings = KafkaSettings { replication: 1, min_in_sync: 1, ..KafkaSettings::at([kafka.bootstrap()]) };
    Ok(Log::kafka(settings).await?)
}

/// Writes the configuration of a process of these roles, separated by commas, whose register answers for the gateway at
/// `server`, or for its own when there is none. Returns the file, which is called after the roles.
pub(crate) fn configuration(
    data: &Path,
    roles: &str,
    log: &str,
    listen: &str,
    server: &str,
) -> anyhow::Result<PathBuf> {
    let at = |file: &str| data.join(file).display().to_string();
    let quoted: Vec<String> = roles.split(',').map(|role| format!("'{role}'")).collect();
    let server = if server.is_empty() { String::new() } else { format!("server = '{server}'\n") };
    let text = format!(
        "roles = [{}]\nlisten = '{listen}'\ndata = '{}'\npartners = '{}'\nledger.origin = 'airut.example/load'\n\
         telemetry.filter = 'warn'\n\
         [log]\n{log}\
         [tls]\ncertificate = '{}'\nkey = '{}'\nclient_cas = ['{}']\ncrls = ['{}']\n\
         [keys]\nring = '{}'\nreceipt = '{}'\nedge = '{}'\n\
         [register]\nca = '{}'\ncertificate = '{}'\nkey = '{}'\n{server}",
        quoted.join(", "),
        at(roles),
        at("partners"),
        at("pki/server.crt"),
        at("pki/server.key"),
        at("pki/ca.crt"),
        at("pki/crl.pem"),
        at("keys/ring.toml"),
        at("keys/receipt.key"),
        at("keys/edge.toml"),
        at("pki/ca.crt"),
        at("pki/kela.crt"),
        at("pki/kela.key"),
    );
    let path = data.join(format!("{roles}.toml"));
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
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
