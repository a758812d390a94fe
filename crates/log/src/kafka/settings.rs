//! Where the Kafka log lies, and what librdkafka is told of it.
//!
//! Every client is made from [`KafkaSettings::client`], so that a setting which all of them need is said once. What
//! librdkafka does by default and we rely on it not doing stands beside the setting that turns it off.

use std::{fs, path::PathBuf};

use airut_domain::partition::{Partition, Topic};
use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use crate::{Cause, MAX_RECORD_BYTES, OpenError};

/// What a record takes in a topic besides header, body and traceparent: the batch's own header, lengths, and the names
/// of the Kafka headers. Some 200 bytes; generous, since nothing is lost by it.
const OVERHEAD_BYTES: usize = 64 * 1024;
/// The largest batch that a topic must take.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_RECORD_BYTES + OVERHEAD_BYTES;

/// The Kafka cluster that the log lies in, and how to come to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `log.kafka.brokers`: the addresses to begin with, `host:port`. The brokers tell of each other.
    pub brokers: Vec<String>,
    /// How to come to the brokers; unencrypted and as nobody when there is none.
    pub tls: Option<KafkaTls>,
    /// Put before the names of the topics, so that several logs can lie in one cluster; empty in production. Part of
    /// the log's identity.
    pub prefix: String,
    /// `log.kafka.replication`: how many brokers have each record. Topics are made so, and must be so.
    pub replication: u16,
    /// `log.kafka.min_in_sync`: how many of them must have a record before it counts as durable.
    pub min_in_sync: u16,
    /// The most that may wait to be acknowledged, every record counting 256 bytes besides its own. Who appends more
    /// waits.
    pub queue_bytes: usize,
}

/// TLS to the brokers. The files are PEM, and are read whenever a client is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTls {
    /// `log.kafka.ca`: the CAs that the brokers' certificates may be of.
    pub ca: PathBuf,
    /// What to show the brokers; none when they ask for none.
    pub client: Option<KafkaCertificate>,
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaCertificate {
    /// `log.kafka.certificate`: the certificate, and the chain up to the CA that the brokers know.
    pub certificate: PathBuf,
    /// `log.kafka.key`: its key.
    pub key: PathBuf,
}

/// The setting that a fault at opening lies with, as it is called in the configuration.
pub(super) mod setting {
    pub(in crate::kafka) const BROKERS: &str = "log.kafka.brokers";
    pub(in crate::kafka) const CA: &str = "log.kafka.ca";
    pub(in crate::kafka) const CERTIFICATE: &str = "log.kafka.certificate";
    pub(in crate::kafka) const KEY: &str = "log.kafka.key";
    pub(in crate::kafka) const REPLICATION: &str = "log.kafka.replication";
    pub(in crate::kafka) const MIN_IN_SYNC: &str = "log.kafka.min_in_sync";
}

impl KafkaSettings {
    /// The log in the cluster that these brokers belong to, as it is in production: three replicas, two in sync, 32 MiB
    /// queued, unencrypted until [`tls`](Self::tls) is set.
    pub fn at(brokers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            tls: None,
            prefix: String::new(),
            replication: 3,
            min_in_sync: 2,
            queue_bytes: 32 * 1024 * 1024,
        }
    }

    /// The topic's name in the cluster.
    pub(super) fn name(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    /// The partition of this topic and number, if it is one of ours.
    pub(super) fn partition(&self, topic: &str, number: i32) -> Option<Partition> {
        let topic = Topic::from_name(topic.strip_prefix(&self.prefix)?)?;
        let number = u32::try_from(number).ok().filter(|number| *number < topic.partitions())?;
        Some(Partition { topic, number })
    }

    /// What every client is told.
    pub(super) fn client(&self) -> Result<ClientConfig, OpenError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "airut")
            // A frozen broker keeps its connections and answers nothing; these say when that is noticed. The defaults
            // are 60, 30 and 10 s. No request of ours is meant to take longer, but for an append that waits for
            // replicas: that is sent again, and the broker takes it once.
            .set("socket.timeout.ms", "5000")
            .set("socket.connection.setup.timeout.ms", "4000")
            .set("api.version.request.timeout.ms", "4000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // The default's 10 s would keep us away for as long after a broker is back.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            // Who leads a partition is learnt from errors; from a frozen leader none come. The default is 5 minutes.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string());
        config.set_log_level(RDKafkaLogLevel::Info);
        if let Some(tls) = &self.tls {
            tls.add_to(&mut config)?;
        }
        Ok(config)
    }

    /// What every consumer is told besides.
    pub(super) fn consumer(&self) -> Result<ClientConfig, OpenError> {
        let mut config = self.client()?;
        config
            // librdkafka assigns nothing without a group's name. No group is ever joined and nothing committed.
            .set("group.id", "airut")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The default, `largest`, would skip records without a word.
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("check.crcs", "true")
            // Nothing is written in transactions; a reader must not stop before one that somebody left open.
            .set("isolation.level", "read_uncommitted")
            // How long a consumer leaves a partition alone after an error, and after its queue was full: 500 ms and 1 s
            // by default.
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "10");
        Ok(config)
    }
}

impl KafkaTls {
    fn add_to(&self, config: &mut ClientConfig) -> Result<(), OpenError> {
        config.set("security.protocol", "ssl").set("ssl.ca.pem", pem(setting::CA, &self.ca)?);
        if let Some(KafkaCertificate { certificate, key }) = &self.client {
            config
                .set("ssl.certificate.pem", pem(setting::CERTIFICATE, certificate)?)
                .set("ssl.key.pem", pem(setting::KEY, key)?);
        }
        Ok(())
    }
}

/// The file's text: read here, so that a fault is told by the setting's name.
fn pem(setting: &'static str, path: &std::path::Path) -> Result<String, OpenError> {
    let fault = |cause| OpenError::Kafka { setting, cause };
    let text = fs::read_to_string(path)
        .map_err(|error| fault(Cause::new(format_args!("can not read {}: {error}", path.display()))))?;
    if text.contains("-----BEGIN ") {
        Ok(text)
    } else {
        Err(fault(Cause::new(format_args!("{} is not PEM", path.display()))))
    }
}
