//! Configuration: one TOML file, environment variables `AIRUT__…` over it, every fault reported at once.
//!
//! `AIRUT__TLS__KEY=/run/secrets/key` sets `key` in `[tls]`. Values are read as TOML where they are TOML, else as text.

pub(crate) mod desk;
mod faults;
mod log;
mod read;
mod store;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use airut_exchange::{Catalogue, Retention, Scan};
use airut_log::KafkaSettings;
use airut_store::Settings as StoreSettings;
use serde::Deserialize;

pub use self::faults::Faults;
use self::faults::{address, files, readable, required};
use crate::partners;

/// What to run, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this process does.
    pub roles: BTreeSet<Role>,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where Prometheus may fetch metrics; nowhere when absent.
    pub metrics_listen: Option<SocketAddr>,
    /// The directory of this process's own files: folds and the ledger.
    pub data: PathBuf,
    /// The log.
    pub log: LogConfig,
    /// The server's certificate and whom it lets in.
    pub tls: Tls,
    /// Secret keys.
    pub keys: Keys,
    /// What lies outside the log: data keys and documents.
    pub store: StoreSettings,
    /// For how long data keys are kept.
    pub retention: Retention,
    /// The directory of the partners' definitions.
    pub partners: PathBuf,
    /// The directory of the message types' definitions and schemas.
    pub message_types: PathBuf,
    /// Documents.
    pub documents: DocumentsConfig,
    /// The ledger.
    pub ledger: LedgerConfig,
    /// The reference responder.
    pub register: RegisterConfig,
    /// The web client, where it is among the roles.
    pub desk: Option<airut_desk::Settings>,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The gRPC edge and the folds it needs.
    Gateway,
    /// The tree, its checkpoints and proofs.
    Ledger,
    /// The web client.
    Desk,
    /// The reference responder.
    Register,
}

impl Role {
    /// The name in configuration and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Ledger => "ledger",
            Self::Desk => "desk",
            Self::Register => "register",
        }
    }
}

/// The log.
#[derive(Clone, Debug)]
pub enum LogConfig {
    /// One file on this machine.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// A Kafka cluster, which any number of processes share.
    Kafka(KafkaSettings),
}

/// The server's certificate and whom it lets in: PEM files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that issue client certificates.
    pub client_cas: Vec<PathBuf>,
    /// Their revocation lists.
    pub crls: Vec<PathBuf>,
}

impl Tls {
    fn check(&self, faults: &mut Vec<String>) {
        readable(faults, "tls.certificate", &self.certificate);
        readable(faults, "tls.key", &self.key);
        files(faults, "tls.client_cas", &self.client_cas);
        files(faults, "tls.crls", &self.crls);
    }
}

/// Secret keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The key ring: wrapping keys, pseudonyms, partitions.
    pub ring: PathBuf,
    /// The gateway's receipt key.
    pub receipt: PathBuf,
    /// The keys of the ring that a ledger needs in a process without a gateway.
    pub edge: PathBuf,
}

impl Keys {
    fn check_of_gateway(&self, faults: &mut Vec<String>) {
        required(faults, "keys.ring", &self.ring);
        required(faults, "keys.receipt", &self.receipt);
    }
}

/// Documents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentsConfig {
    /// The content scan: a program and its arguments. It reads a document from standard input, and ends with 0 if it may pass, with 1 if something was
    /// found. No scan when empty.
    pub scan_command: Vec<String>,
    /// How long it may take for one document.
    pub scan_timeout_seconds: u64,
}

impl Default for DocumentsConfig {
    fn default() -> Self {
        Self { scan_command: Vec::new(), scan_timeout_seconds: 300 }
    }
}

impl DocumentsConfig {
    /// The content scan, where there is one.
    pub fn scan(&self) -> Option<Scan> {
        let timeout = Duration::from_secs(self.scan_timeout_seconds);
        (!self.scan_command.is_empty()).then(|| Scan { command: self.scan_command.clone(), timeout })
    }

    fn check(&self, faults: &mut Vec<String>) {
        if self.scan_command.first().is_some_and(String::is_empty) {
            faults.push("documents.scan_command: must begin with a program".to_owned());
        }
        if !(1..=3600).contains(&self.scan_timeout_seconds) {
            faults.push("documents.scan_timeout_seconds: must be 1 to 3600".to_owned());
        }
    }
}

/// The ledger.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// The tree's name, first line of every checkpoint.
    pub origin: String,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { origin: "airut.example/ledger".to_owned() }
    }
}

impl LedgerConfig {
    fn check(&self, faults: &mut Vec<String>) {
        if self.origin.trim().is_empty() || self.origin.chars().any(char::is_whitespace) {
            faults.push("ledger.origin: must be a name without spaces".to_owned());
        }
    }
}

/// The reference responder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegisterConfig {
    /// The exchange it answers for, such as `127.0.0.1:7443`; this process's own when absent.
    pub server: Option<String>,
    /// The authority of the exchange's certificate.
    pub ca: PathBuf,
    /// Its client certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What its synthetic persons are made from: the same seed makes the same persons.
    pub seed: u64,
    /// How many.
    pub persons: u32,
}

impl Default for RegisterConfig {
    fn default() -> Self {
        let file = PathBuf::new();
        Self { server: None, ca: file.clone(), certificate: file.clone(), key: file, seed: 1, persons: 10_000 }
    }
}

impl RegisterConfig {
    fn check(&self, beside_gateway: bool, faults: &mut Vec<String>) {
        readable(faults, "register.ca", &self.ca);
        readable(faults, "register.certificate", &self.certificate);
        readable(faults, "register.key", &self.key);
        if self.server.is_none() && !beside_gateway {
            faults.push("register.server: is required where the gateway is another process".to_owned());
        }
        if !(1..=1_000_000).contains(&self.persons) {
            faults.push("register.persons: must be 1 to 1000000".to_owned());
        }
    }
}

/// Logs and traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `json` or `text`, to standard error.
    pub logs: String,
    /// What is logged, as `RUST_LOG` writes it.
    pub filter: String,
    /// Where spans go (OTLP over gRPC); nowhere when absent.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { logs: "json".to_owned(), filter: "info".to_owned(), otlp_endpoint: None }
    }
}

impl TelemetryConfig {
    fn check(&self, faults: &mut Vec<String>) {
        if !["json", "text"].contains(&self.logs.as_str()) {
            faults.push(format!("telemetry.logs: must be json or text, and is {}", self.logs));
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    roles: BTreeSet<Role>,
    listen: String,
    metrics_listen: Option<String>,
    data: PathBuf,
    log: log::RawLog,
    tls: Tls,
    keys: Keys,
    store: store::RawStore,
    retention: store::RawRetention,
    partners: PathBuf,
    message_types: Option<PathBuf>,
    documents: DocumentsConfig,
    ledger: LedgerConfig,
    register: RegisterConfig,
    desk: desk::RawDesk,
    telemetry: TelemetryConfig,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            roles: BTreeSet::new(),
            listen: "127.0.0.1:7443".to_owned(),
            metrics_listen: None,
            data: PathBuf::new(),
            log: log::RawLog::default(),
            tls: Tls::default(),
            keys: Keys::default(),
            store: store::RawStore::default(),
            retention: store::RawRetention::default(),
            partners: PathBuf::new(),
            message_types: None,
            documents: DocumentsConfig::default(),
            ledger: LedgerConfig::default(),
            register: RegisterConfig::default(),
            desk: desk::RawDesk::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// Reads the file, the environment over it, and checks the whole.
///
/// # Errors
/// Every fault at once, each with the setting's name.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    roles: &[Role],
) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let raw = read::read(file, environment, &mut faults)?;
    check(raw, roles, faults)
}

fn check(raw: Raw, roles: &[Role], mut faults: Vec<String>) -> Result<Config, Faults> {
    let roles: BTreeSet<Role> = if roles.is_empty() { raw.roles } else { roles.iter().copied().collect() };
    if roles.is_empty() {
        faults.push("roles: at least one of gateway, ledger, desk, register".to_owned());
    }
    let listen = address(&mut faults, "listen", &raw.listen);
    let metrics_listen = raw.metrics_listen.as_deref().map(|text| address(&mut faults, "metrics_listen", text));
    if raw.data.as_os_str().is_empty() {
        faults.push("data: a directory is required".to_owned());
    }
    // Beside the partners' directory, where there is one.
    let beside = raw.partners.file_name().map(|_| raw.partners.with_file_name("message-types"));
    let message_types = raw.message_types.or(beside).unwrap_or_default();
    let log = log::check(raw.log, &raw.data, &roles, &mut faults);
    let is_gateway = roles.contains(&Role::Gateway);
    let store = store::check(raw.store, &raw.data, is_gateway.then_some(&log), &mut faults);
    let retention = store::retention(&raw.retention, &mut faults);
    if is_gateway || roles.contains(&Role::Ledger) {
        raw.tls.check(&mut faults);
    }
    if is_gateway {
        raw.keys.check_of_gateway(&mut faults);
        check_definitions(&raw.partners, &message_types, &mut faults);
    } else if roles.contains(&Role::Ledger) {
        required(&mut faults, "keys.edge", &raw.keys.edge);
    }
    if roles.contains(&Role::Register) {
        raw.register.check(is_gateway, &mut faults);
    }
    let desk = roles.contains(&Role::Desk).then(|| desk::check(raw.desk, &raw.data, is_gateway, &mut faults));
    raw.documents.check(&mut faults);
    raw.ledger.check(&mut faults);
    raw.telemetry.check(&mut faults);
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    Ok(Config {
        roles,
        listen,
        metrics_listen,
        data: raw.data,
        log,
        tls: raw.tls,
        keys: raw.keys,
        store,
        retention,
        partners: raw.partners,
        message_types,
        documents: raw.documents,
        ledger: raw.ledger,
        register: raw.register,
        desk,
        telemetry: raw.telemetry,
    })
}

/// The files that define partners and message types.
fn check_definitions(partners: &Path, message_types: &Path, faults: &mut Vec<String>) {
    if !partners.is_dir() {
        faults.push(format!("partners: {} is not a directory", partners.display()));
    } else if let Err(found) = partners::read(partners) {
        faults.extend(found.into_iter().map(|fault| format!("partners: {fault}")));
    }
    if message_types.as_os_str().is_empty() {
        faults.push("message_types: a directory is required".to_owned());
    } else if let Err(found) = Catalogue::load(message_types) {
        faults.extend(found.into_iter().map(|fault| format!("message_types: {fault}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported_at_once() {
        let environment = [
            ("AIRUT__LISTEN".to_owned(), "nowhere".to_owned()),
            ("AIRUT__LOG__ENGINE".to_owned(), "paper".to_owned()),
            ("AIRUT__TELEMETRY__LOGS".to_owned(), "xml".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ];
        let faults = load(None, environment.into_iter(), &[Role::Gateway]).expect_err("full of faults").to_string();
        for name in
            ["listen:", "data:", "log.engine:", "tls.certificate:", "tls.crls:", "keys.ring:", "telemetry.logs:"]
        {
            assert!(faults.contains(name), "{name} is missing in\n{faults}");
        }
    }

    #[test]
    fn a_cluster_is_configured_and_its_faults_are_named() {
        let set = |name: &str, value: &str| (format!("AIRUT__{name}"), value.to_owned());
        let kafka = set("LOG__ENGINE", "kafka");
        let faulty = [kafka.clone(), set("LOG__KAFKA__MIN_IN_SYNC", "4"), set("LOG__KAFKA__KEY", "/nowhere/key.pem")];
        let faults = load(None, faulty.into_iter(), &[Role::Ledger]).expect_err("full of faults").to_string();
        let names = ["brokers:", "min_in_sync:", "key:", "certificate:"].map(|name| format!("log.kafka.{name}"));
        for name in names.iter().map(String::as_str).chain(["keys.edge:"]) {
            assert!(faults.contains(name), "{name} is missing in\n{faults}");
        }
        let register =
            ["ca", "certificate", "key"].map(|file| set(&format!("REGISTER__{file}").to_uppercase(), "/dev/null"));
        let good =
            [kafka, set("DATA", "d"), set("LOG__KAFKA__BROKERS", "['a:1', 'b:2']"), set("REGISTER__SERVER", "c:3")];
        let config = load(None, good.into_iter().chain(register), &[Role::Register]).expect("no faults");
        let LogConfig::Kafka(settings) = config.log else { panic!("{:?}", config.log) };
        assert_eq!(
            (settings.brokers, settings.replication, settings.min_in_sync),
            (vec!["a:1".into(), "b:2".into()], 3, 2)
        );
        assert_eq!(settings.tls, None);
    }

    #[test]
    fn a_store_and_the_retention_of_its_keys_are_configured_and_their_faults_are_named() {
        let set = |name: &str, value: &str| (format!("AIRUT__{name}"), value.to_owned());
        let faulty = [
            set("DATA", "/nowhere"),
            set("STORE__S3__ENDPOINT", "s3.example"),
            set("STORE__S3__PREFIX", "../x"),
            set("STORE__S3__SECRET_KEY", "/nowhere/secret"),
            set("RETENTION__QUERY_DAYS", "1"),
            set("RETENTION__MESSAGE_DAYS", "29"),
        ];
        let faults = load(None, faulty.into_iter(), &[Role::Gateway]).expect_err("full of faults").to_string();
        for name in [
            "store.s3.endpoint:",
            "store.s3.bucket:",
            "store.s3.prefix:",
            "store.s3.access_key: a file is required",
            "store.s3.secret_key: /nowhere/secret: there is no such file",
            "retention.query_days: must be at least 2",
            "retention.message_days: must be at least 30",
        ] {
            assert!(faults.contains(name), "{name} is missing in\n{faults}");
        }
        let shared = [set("LOG__ENGINE", "kafka"), set("DATA", "/nowhere")];
        let faults = load(None, shared.into_iter(), &[Role::Gateway]).expect_err("no store").to_string();
        assert!(faults.contains("store: a directory or store.s3 is required"), "{faults}");
        let both = [set("STORE__DIRECTORY", "/tmp"), set("STORE__S3__BUCKET", "b"), set("DATA", "/nowhere")];
        let faults = load(None, both.into_iter(), &[Role::Gateway]).expect_err("both").to_string();
        assert!(faults.contains("store.directory: either a directory or store.s3, not both"), "{faults}");
        let absent =
            load(None, [set("DATA", "/nowhere")].into_iter(), &[Role::Gateway]).expect_err("absent").to_string();
        assert!(absent.contains("store.directory: /nowhere/objects is not a directory"), "{absent}");
    }

    #[test]
    fn an_unknown_setting_is_a_fault() {
        let environment = [("AIRUT__TLS__CERTIFIKATE".to_owned(), "x".to_owned())];
        let faults = load(None, environment.into_iter(), &[]).expect_err("unknown").to_string();
        assert!(faults.contains("certifikate"), "{faults}");
    }
}
