//! `[log]`: which engine, and where.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use airut_log::{KafkaCertificate, KafkaSettings, KafkaTls};
use serde::Deserialize;

use super::{LogConfig, Role, faults::readable};

/// `[log]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
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

/// The log, checked.
pub(super) fn check(raw: RawLog, data: &Path, roles: &BTreeSet<Role>, faults: &mut Vec<String>) -> LogConfig {
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
