//! Configuration: one TOML file, environment variables `AIRUT__…` over it, every fault reported at once.
//!
//! `AIRUT__TLS__KEY=/run/secrets/key` sets `key` in `[tls]`. Values are read as TOML where they are TOML, else as text.

pub(crate) mod desk;

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use airut_exchange::{Catalogue, Retention, Scan};
use airut_log::{KafkaCertificate, KafkaSettings, KafkaTls};
use airut_store::{ObjectName, S3Settings, Settings as StoreSettings};
use serde::Deserialize;

use crate::partners;

/// The prefix of environment variables.
const PREFIX: &str = "AIRUT__";

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    roles: BTreeSet<Role>,
    listen: String,
    metrics_listen: Option<String>,
    data: PathBuf,
    log: RawLog,
    tls: Tls,
    keys: Keys,
    store: RawStore,
    retention: RawRetention,
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
            log: RawLog::default(),
            tls: Tls::default(),
            keys: Keys::default(),
            store: RawStore::default(),
            retention: RawRetention::default(),
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLog {
    engine: String,
    path: Option<PathBuf>,
    kafka: RawKafka,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKafka {
    brokers: Vec<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    replication: u16,
    min_in_sync: u16,
}

impl Default for RawKafka {
    fn default() -> Self {
        let KafkaSettings { replication, min_in_sync, .. } = KafkaSettings::at([""]);
        Self { brokers: Vec::new(), ca: None, certificate: None, key: None, replication, min_in_sync }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { engine: "embedded".to_owned(), path: None, kafka: RawKafka::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    directory: Option<PathBuf>,
    s3: Option<RawS3>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawS3 {
    endpoint: String,
    bucket: String,
    region: String,
    access_key: PathBuf,
    secret_key: PathBuf,
    prefix: String,
    ca: Option<PathBuf>,
}

impl Default for RawS3 {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            access_key: PathBuf::new(),
            secret_key: PathBuf::new(),
            prefix: String::new(),
            ca: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRetention {
    query_days: u16,
    message_days: u16,
    request_days: u16,
}

impl Default for RawRetention {
    fn default() -> Self {
        let Retention { query_days, message_days, request_days } = Retention::default();
        Self { query_days, message_days, request_days }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s)", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// Reads the file, the environment over it, and checks the whole.
///
/// # Errors
/// Every fault at once, each with the setting's name.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    roles: &[Role],
) -> Result<Config, Faults> {
    let mut table = match file {
        None => toml::Table::new(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|cause| one(format!("{}: {cause}", path.display())))?;
            text.parse().map_err(|cause| one(format!("{}: {cause}", path.display())))?
        }
    };
    let mut faults = Vec::new();
    for (name, text) in environment {
        if let Some(name) = name.strip_prefix(PREFIX) {
            let keys: Vec<String> = name.split("__").map(str::to_lowercase).collect();
            if let Err(fault) = set(&mut table, &keys, value(&text)) {
                faults.push(format!("{PREFIX}{name}: {fault}"));
            }
        }
    }
    let raw = raw(&table, &mut faults);
    check(raw, roles, faults)
}

fn one(fault: String) -> Faults {
    Faults(vec![fault.trim_end().to_owned()])
}

/// Reads each setting by itself: of a table as a whole only the first fault would be told.
fn raw(table: &toml::Table, faults: &mut Vec<String>) -> Raw {
    let mut good = toml::Table::new();
    for (keys, value) in settings(table, &[]) {
        let mut alone = toml::Table::new();
        let single = set(&mut alone, &keys, value.clone()).and_then(|()| Raw::deserialize(alone).map_err(first_line));
        match single.and_then(|_| set(&mut good, &keys, value)) {
            Ok(()) => {}
            Err(fault) => faults.push(format!("{}: {fault}", keys.join("."))),
        }
    }
    Raw::deserialize(good).expect("each setting is good by itself")
}

fn first_line(cause: toml::de::Error) -> String {
    cause.message().lines().next().unwrap_or_default().to_owned()
}

/// Every value in a table and the tables in it, with the keys that lead to it. An empty table is a value.
fn settings(table: &toml::Table, above: &[String]) -> Vec<(Vec<String>, toml::Value)> {
    let mut settings = Vec::new();
    for (key, value) in table {
        let keys = [above, std::slice::from_ref(key)].concat();
        match value.as_table().filter(|inner| !inner.is_empty()) {
            Some(inner) => settings.extend(self::settings(inner, &keys)),
            None => settings.push((keys, value.clone())),
        }
    }
    settings
}

/// The value of an environment variable: TOML where it is TOML, else text.
fn value(text: &str) -> toml::Value {
    let parsed = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn set(table: &mut toml::Table, keys: &[String], value: toml::Value) -> Result<(), String> {
    match keys {
        [] => Err("names no setting".to_owned()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            set(inner.as_table_mut().ok_or_else(|| format!("{key} is not a table"))?, rest, value)
        }
    }
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
    let log = log(raw.log, &raw.data, &roles, &mut faults);
    let is_gateway = roles.contains(&Role::Gateway);
    let store = store(raw.store, &raw.data, is_gateway.then_some(&log), &mut faults);
    let retention = retention(&raw.retention, &mut faults);
    if roles.contains(&Role::Gateway) || roles.contains(&Role::Ledger) {
        readable(&mut faults, "tls.certificate", &raw.tls.certificate);
        readable(&mut faults, "tls.key", &raw.tls.key);
        files(&mut faults, "tls.client_cas", &raw.tls.client_cas);
        files(&mut faults, "tls.crls", &raw.tls.crls);
    }
    if roles.contains(&Role::Gateway) {
        required(&mut faults, "keys.ring", &raw.keys.ring);
        required(&mut faults, "keys.receipt", &raw.keys.receipt);
        if !raw.partners.is_dir() {
            faults.push(format!("partners: {} is not a directory", raw.partners.display()));
        } else if let Err(found) = partners::read(&raw.partners) {
            faults.extend(found.into_iter().map(|fault| format!("partners: {fault}")));
        }
        if message_types.as_os_str().is_empty() {
            faults.push("message_types: a directory is required".to_owned());
        } else if let Err(found) = Catalogue::load(&message_types) {
            faults.extend(found.into_iter().map(|fault| format!("message_types: {fault}")));
        }
    }
    if roles.contains(&Role::Ledger) && !roles.contains(&Role::Gateway) {
        required(&mut faults, "keys.edge", &raw.keys.edge);
    }
    if roles.contains(&Role::Register) {
        readable(&mut faults, "register.ca", &raw.register.ca);
        readable(&mut faults, "register.certificate", &raw.register.certificate);
        readable(&mut faults, "register.key", &raw.register.key);
        if raw.register.server.is_none() && !roles.contains(&Role::Gateway) {
            faults.push("register.server: is required where the gateway is another process".to_owned());
        }
        if !(1..=1_000_000).contains(&raw.register.persons) {
            faults.push("register.persons: must be 1 to 1000000".to_owned());
        }
    }
    let desk = roles.contains(&Role::Desk).then(|| desk::check(raw.desk, &raw.data, is_gateway, &mut faults));
    if raw.documents.scan_command.first().is_some_and(String::is_empty) {
        faults.push("documents.scan_command: must begin with a program".to_owned());
    }
    if !(1..=3600).contains(&raw.documents.scan_timeout_seconds) {
        faults.push("documents.scan_timeout_seconds: must be 1 to 3600".to_owned());
    }
    if raw.ledger.origin.trim().is_empty() || raw.ledger.origin.chars().any(char::is_whitespace) {
        faults.push("ledger.origin: must be a name without spaces".to_owned());
    }
    if !["json", "text"].contains(&raw.telemetry.logs.as_str()) {
        faults.push(format!("telemetry.logs: must be json or text, and is {}", raw.telemetry.logs));
    }
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

fn log(raw: RawLog, data: &Path, roles: &BTreeSet<Role>, faults: &mut Vec<String>) -> LogConfig {
    match raw.engine.as_str() {
        "embedded" => {
            if roles.contains(&Role::Ledger) && !roles.contains(&Role::Gateway) {
                faults.push("roles: the embedded log is one process's, so the ledger goes with a gateway".to_owned());
            }
            LogConfig::Embedded { path: raw.path.unwrap_or_else(|| data.join("log.sqlite")) }
        }
        "kafka" => LogConfig::Kafka(kafka(raw.kafka, faults)),
        engine => {
            faults.push(format!("log.engine: must be embedded or kafka, and is {engine}"));
            LogConfig::Embedded { path: PathBuf::new() }
        }
    }
}

fn kafka(raw: RawKafka, faults: &mut Vec<String>) -> KafkaSettings {
    if raw.brokers.is_empty() {
        faults.push("log.kafka.brokers: at least one address is required, such as broker-1:9092".to_owned());
    }
    if raw.min_in_sync == 0 || raw.min_in_sync > raw.replication {
        faults.push("log.kafka.min_in_sync: must be 1 to log.kafka.replication".to_owned());
    }
    for (name, file) in [("ca", &raw.ca), ("certificate", &raw.certificate), ("key", &raw.key)] {
        file.iter().for_each(|file| readable(faults, &format!("log.kafka.{name}"), file));
    }
    let client = match (raw.certificate, raw.key) {
        (Some(certificate), Some(key)) => Some(KafkaCertificate { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            faults.push("log.kafka.key: a file is required beside log.kafka.certificate".to_owned());
            None
        }
        (None, Some(_)) => {
            faults.push("log.kafka.certificate: a file is required beside log.kafka.key".to_owned());
            None
        }
    };
    if raw.ca.is_none() && client.is_some() {
        faults.push("log.kafka.ca: a file is required beside log.kafka.certificate".to_owned());
    }
    let tls = raw.ca.map(|ca| KafkaTls { ca, client });
    let (replication, min_in_sync) = (raw.replication, raw.min_in_sync);
    KafkaSettings { tls, replication, min_in_sync, ..KafkaSettings::at(raw.brokers) }
}

/// A gateway's store. Without one in the configuration it is the directory `objects` among its own files, and that only where
/// its log is its own as well: gateways that share a log must share their keys. Other roles have no use for it.
fn store(raw: RawStore, data: &Path, gateways_log: Option<&LogConfig>, faults: &mut Vec<String>) -> StoreSettings {
    let is_used = gateways_log.is_some();
    match (raw.directory, raw.s3) {
        (None, None) if matches!(gateways_log, Some(LogConfig::Kafka(_))) => {
            faults.push("store: a directory or store.s3 is required, the same for every gateway of the log".to_owned());
            StoreSettings::local("")
        }
        (Some(_), Some(_)) => {
            faults.push("store.directory: either a directory or store.s3, not both".to_owned());
            StoreSettings::local("")
        }
        (None, Some(s3)) => StoreSettings::S3(s3_settings(s3, is_used, faults)),
        (directory, None) => {
            let directory = directory.unwrap_or_else(|| data.join("objects"));
            if is_used && !data.as_os_str().is_empty() && !directory.is_dir() {
                faults.push(format!("store.directory: {} is not a directory", directory.display()));
            }
            StoreSettings::local(directory)
        }
    }
}

fn s3_settings(raw: RawS3, is_used: bool, faults: &mut Vec<String>) -> S3Settings {
    let RawS3 { endpoint, bucket, region, access_key, secret_key, prefix, ca } = raw;
    if is_used {
        let is_tls = endpoint.starts_with("https://");
        if !is_tls && !endpoint.starts_with("http://") {
            faults.push(format!("store.s3.endpoint: must begin with https:// or http://, and is {endpoint:?}"));
        }
        if bucket.is_empty() {
            faults.push("store.s3.bucket: a name is required".to_owned());
        }
        if !prefix.is_empty() && prefix.parse::<ObjectName>().is_err() {
            faults.push("store.s3.prefix: must be segments with slashes between".to_owned());
        }
        if is_tls && ca.is_none() {
            faults.push("store.s3.ca: a file is required where the endpoint is https".to_owned());
        }
        readable(faults, "store.s3.access_key", &access_key);
        readable(faults, "store.s3.secret_key", &secret_key);
        ca.iter().for_each(|file| readable(faults, "store.s3.ca", file));
    }
    S3Settings { endpoint, bucket, region, access_key, secret_key, prefix, ca }
}

fn retention(raw: &RawRetention, faults: &mut Vec<String>) -> Retention {
    let RawRetention { query_days, message_days, request_days } = *raw;
    let least = Retention::LEAST;
    let mut at_least = |name: &str, days: u16, least: u16| {
        if days < least {
            faults.push(format!(
                "retention.{name}: must be at least {least}, or what may still be disclosed could be lost"
            ));
        }
    };
    at_least("query_days", query_days, least.query_days);
    at_least("message_days", message_days, least.message_days);
    at_least("request_days", request_days, least.request_days);
    Retention { query_days, message_days, request_days }
}

fn address(faults: &mut Vec<String>, name: &str, text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        faults.push(format!("{name}: must be an address and a port, such as 127.0.0.1:7443, and is {text}"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn required(faults: &mut Vec<String>, name: &str, path: &Path) {
    if path.as_os_str().is_empty() {
        faults.push(format!("{name}: a file is required"));
    }
}

fn readable(faults: &mut Vec<String>, name: &str, path: &Path) {
    if path.as_os_str().is_empty() {
        faults.push(format!("{name}: a file is required"));
    } else if let Err(cause) = fs::File::open(path) {
        faults.push(format!("{name}: {}: {}", path.display(), plain(&cause)));
    }
}

fn files(faults: &mut Vec<String>, name: &str, paths: &[PathBuf]) {
    if paths.is_empty() {
        faults.push(format!("{name}: at least one file is required"));
    }
    paths.iter().for_each(|path| readable(faults, name, path));
}

fn plain(cause: &io::Error) -> String {
    if cause.kind() == io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if cause.kind() == io::ErrorKind::PermissionDenied {
        "may not be read".to_owned()
    } else {
        cause.to_string()
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
