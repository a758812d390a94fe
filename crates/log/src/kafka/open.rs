//! Opening: reach the brokers, see that the topics are ours and as they must be, and make those that are missing.
//!
//! Everything that an operator can get wrong shows here, within a bound, by the name of the setting. What it must never
//! do: change a topic that is there, or go on with one that would lose records, cut them short or stamp them otherwise.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use airut_domain::{
    keys::Digest,
    partition::{Partition, Topic},
};
use rdkafka::{
    admin::{AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    Clients, Engine,
    cluster::Cluster,
    context::Context,
    producer::Producer,
    reader::Readers,
    settings::{KafkaSettings, MAX_MESSAGE_BYTES, setting},
};
use crate::{Cause, LogId, OpenError};

/// How long to try to reach a broker, and after that to see the topics in order.
const BOUND: Duration = Duration::from_secs(10);
/// How long one question may take; in between what went wrong is looked at.
const QUESTION: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(50);

/// What a topic is to have, in Kafka's words.
struct TopicConfig(Vec<(&'static str, String, Rule)>);

enum Rule {
    Exactly,
    AtLeast,
}

pub(super) async fn open(settings: KafkaSettings) -> Result<Engine, OpenError> {
    check(&settings)?;
    let context = Context::default();
    let producer = Producer::new(&settings, context.clone())?;
    let opening = Opening { settings, context, producer: Arc::new(producer) };
    let opened = opening.run().await;
    let Opening { settings, producer, .. } = opening;
    let producer = Arc::into_inner(producer).expect("the questions that shared it are answered");
    match opened {
        Ok((identity, cluster)) => {
            let names = Topic::ALL.into_iter().map(|topic| (topic, settings.name(topic))).collect();
            let clients = Clients { producer, cluster, readers: Readers::new(&settings) };
            let starts = Partition::all().map(|partition| (partition, 0)).collect();
            Ok(Engine { settings, identity, names, clients: Some(clients), starts: std::sync::Mutex::new(starts) })
        }
        Err(error) => {
            super::dispose(producer);
            Err(error)
        }
    }
}

fn check(settings: &KafkaSettings) -> Result<(), OpenError> {
    let fault = |setting, cause: &str| Err(OpenError::Kafka { setting, cause: Cause::new(cause) });
    if settings.brokers.iter().all(|broker| broker.trim().is_empty()) {
        return fault(setting::BROKERS, "there is none");
    }
    if settings.min_in_sync == 0 || settings.min_in_sync > settings.replication {
        return fault(setting::MIN_IN_SYNC, "must be at least 1 and at most log.kafka.replication");
    }
    Ok(())
}

struct Opening {
    settings: KafkaSettings,
    context: Context,
    producer: Arc<Producer>,
}

impl Opening {
    async fn run(&self) -> Result<(LogId, Arc<Cluster>), OpenError> {
        let until = Instant::now() + BOUND;
        let topics = self.topics(until).await?;
        let identity = self.identity(until).await?;
        self.refuse_unknown(&topics)?;
        let cluster = Cluster::new(&self.settings)?;
        let checked = self.ensure(&cluster, topics).await;
        match checked {
            Ok(()) => Ok((identity, cluster)),
            Err(error) => {
                super::dispose(cluster);
                Err(error)
            }
        }
    }

    /// The topics there are, once a broker has answered: with how many brokers hold each of their partitions.
    async fn topics(&self, until: Instant) -> Result<BTreeMap<String, Vec<Replicas>>, OpenError> {
        loop {
            let producer = Arc::clone(&self.producer);
            let asked = spawn_blocking(move || {
                producer.client(|client| client.fetch_metadata(None, QUESTION)).map(|metadata| topics(&metadata))
            });
            match asked.await.unwrap_or(Err(KafkaError::Canceled)) {
                Ok(topics) => return Ok(topics),
                Err(error) => self.refuse_or_wait(&error, until).await?,
            }
        }
    }

    async fn identity(&self, until: Instant) -> Result<LogId, OpenError> {
        loop {
            let producer = Arc::clone(&self.producer);
            let asked = spawn_blocking(move || producer.client(|client| client.fetch_cluster_id(QUESTION)));
            match asked.await.unwrap_or(None) {
                Some(cluster) => return Ok(identity(&cluster, &self.settings.prefix)),
                None => self.refuse_or_wait(&KafkaError::Canceled, until).await?,
            }
        }
    }

    /// Why waiting is of no use, if it is not.
    async fn refuse_or_wait(&self, error: &KafkaError, until: Instant) -> Result<(), OpenError> {
        if let Some(fault) = self.context.fault() {
            return Err(fault);
        }
        if Instant::now() < until {
            sleep(AGAIN).await;
            return Ok(());
        }
        let said = self.context.last().unwrap_or_else(|| error.to_string());
        if self.settings.tls.is_none() && self.context.was_hung_up_on() {
            return Err(fault(setting::CA, format_args!("the brokers hang up, as if they expected TLS: {said}")));
        }
        Err(fault(setting::BROKERS, format_args!("no broker answered within {} s: {said}", BOUND.as_secs())))
    }

    /// A topic of our name that this build does not know was made by a newer one: records that we would never see.
    fn refuse_unknown(&self, topics: &BTreeMap<String, Vec<Replicas>>) -> Result<(), OpenError> {
        let ours = topics.keys().filter_map(|name| name.strip_prefix(&self.settings.prefix));
        match ours.filter(|name| name.starts_with("airut.")).find(|name| Topic::from_name(name).is_none()) {
            Some(unknown) => Err(OpenError::UnknownTopic(format!("{}{unknown}", self.settings.prefix))),
            None => Ok(()),
        }
    }

    /// Makes the topics that are missing, and checks all.
    async fn ensure(
        &self,
        cluster: &Arc<Cluster>,
        mut topics: BTreeMap<String, Vec<Replicas>>,
    ) -> Result<(), OpenError> {
        let until = Instant::now() + BOUND;
        loop {
            topics.retain(|name, _| self.settings.partition(name, 0).is_some());
            let missing: Vec<Topic> =
                Topic::ALL.into_iter().filter(|topic| !topics.contains_key(&self.settings.name(*topic))).collect();
            let refused = if missing.is_empty() { None } else { self.create(cluster, &missing).await? };
            if missing.is_empty() && topics.values().flatten().all(|replicas| replicas.has_leader) {
                break;
            }
            if Instant::now() > until {
                let waited = || fault(setting::BROKERS, "the log's topics do not come to have leaders");
                return Err(refused.unwrap_or_else(waited));
            }
            sleep(AGAIN).await;
            topics = self.topics(until).await?;
        }
        self.check_partitions(&topics)?;
        self.wait_for_leaders(cluster).await?;
        loop {
            match self.check_configs(cluster).await? {
                None => return Ok(()),
                Some(refused) if Instant::now() > until => return Err(refused),
                Some(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Waits until each partition is served: a leader that has just been named refuses appends until it has its log, and
    /// the first append of a producer must not be refused (see `producer::place`).
    async fn wait_for_leaders(&self, cluster: &Arc<Cluster>) -> Result<(), OpenError> {
        for partition in Partition::all() {
            let asked = cluster.span(partition).await;
            asked.map_err(|error| fault(setting::BROKERS, format_args!("{partition} is not served: {error}")))?;
        }
        Ok(())
    }

    /// Makes the topics. What may pass, as when too few brokers are up yet, is returned as a value.
    async fn create(&self, cluster: &Cluster, missing: &[Topic]) -> Result<Option<OpenError>, OpenError> {
        let config = TopicConfig::of(&self.settings);
        let names: Vec<_> = missing.iter().map(|topic| (self.settings.name(*topic), topic.partitions())).collect();
        let topics = names.iter().map(|(name, partitions)| {
            let partitions = i32::try_from(*partitions).expect("a small number");
            let replication = TopicReplication::Fixed(i32::from(self.settings.replication));
            config
                .0
                .iter()
                .fold(NewTopic::new(name, partitions, replication), |topic, (key, value, _)| topic.set(key, value))
        });
        let topics: Vec<_> = topics.collect();
        let options = AdminOptions::new().request_timeout(Some(BOUND)).operation_timeout(Some(BOUND));
        let made = match cluster.admin().create_topics(&topics, &options).await {
            Ok(made) => made,
            Err(error) => return passing("make topics", &error).map(Some),
        };
        let mut refused = None;
        for (name, code) in made.into_iter().filter_map(Result::err) {
            if code == RDKafkaErrorCode::InvalidReplicationFactor {
                refused = Some(fault(setting::REPLICATION, format_args!("can not make {name}: fewer brokers are up")));
            // Another process may open the log at this moment, and be the one who makes it.
            } else if code != RDKafkaErrorCode::TopicAlreadyExists {
                refused = Some(passing(&format!("make {name}"), &KafkaError::AdminOp(code))?);
            }
        }
        Ok(refused)
    }

    fn check_partitions(&self, topics: &BTreeMap<String, Vec<Replicas>>) -> Result<(), OpenError> {
        for topic in Topic::ALL {
            let name = self.settings.name(topic);
            let partitions = &topics[&name];
            let (found, expected) = (u32::try_from(partitions.len()).unwrap_or(u32::MAX), topic.partitions());
            if found != expected {
                return Err(OpenError::Partitions { topic, found, expected });
            }
            let fewest = partitions.iter().map(|replicas| replicas.count).min().unwrap_or_default();
            if fewest < usize::from(self.settings.replication) {
                let (found, expected) = (fewest.to_string(), format!("at least {}", self.settings.replication));
                return Err(OpenError::TopicSetting { topic: name, setting: "replication.factor", found, expected });
            }
        }
        Ok(())
    }

    /// Checks how the topics are configured. What may pass is returned as a value.
    async fn check_configs(&self, cluster: &Cluster) -> Result<Option<OpenError>, OpenError> {
        let config = TopicConfig::of(&self.settings);
        let names: Vec<_> = Topic::ALL.into_iter().map(|topic| self.settings.name(topic)).collect();
        let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = AdminOptions::new().request_timeout(Some(BOUND));
        let refused = |error: KafkaError| passing("read the topics' configuration", &error).map(Some);
        let found = match cluster.admin().describe_configs(&asked, &options).await {
            Ok(found) => found,
            Err(error) => return refused(error),
        };
        let mut told = 0;
        for found in found {
            let found = match found {
                Ok(found) => found,
                Err(code) => return refused(KafkaError::AdminOp(code)),
            };
            let OwnedResourceSpecifier::Topic(name) = &found.specifier else { continue };
            // A broker that has not heard of a new topic yet has nothing to tell of it.
            if !found.entries.is_empty() {
                config.check(name, |key| found.get(key).and_then(|entry| entry.value.clone()))?;
                told += 1;
            }
        }
        if told < names.len() {
            return Ok(Some(fault(setting::BROKERS, "they do not tell how the log's topics are configured")));
        }
        Ok(None)
    }
}

/// How a partition is held.
struct Replicas {
    count: usize,
    has_leader: bool,
}

fn topics(metadata: &Metadata) -> BTreeMap<String, Vec<Replicas>> {
    let topics = metadata.topics().iter().map(|topic| {
        let replicas = topic
            .partitions()
            .iter()
            .map(|partition| Replicas { count: partition.replicas().len(), has_leader: partition.leader() >= 0 });
        (topic.name().to_owned(), replicas.collect())
    });
    topics.collect()
}

impl TopicConfig {
    fn of(settings: &KafkaSettings) -> Self {
        Self(vec![
            ("min.insync.replicas", settings.min_in_sync.to_string(), Rule::AtLeast),
            ("message.timestamp.type", "LogAppendTime".to_owned(), Rule::Exactly),
            ("retention.ms", "-1".to_owned(), Rule::Exactly),
            ("retention.bytes", "-1".to_owned(), Rule::Exactly),
            // Without it, brokers refuse to delete records when the log is trimmed.
            ("cleanup.policy", "delete".to_owned(), Rule::Exactly),
            ("compression.type", "producer".to_owned(), Rule::Exactly),
            ("unclean.leader.election.enable", "false".to_owned(), Rule::Exactly),
            ("max.message.bytes", MAX_MESSAGE_BYTES.to_string(), Rule::AtLeast),
        ])
    }

    fn check(&self, topic: &str, value: impl Fn(&str) -> Option<String>) -> Result<(), OpenError> {
        for (setting, expected, rule) in &self.0 {
            let found = value(setting).unwrap_or_default();
            let number = |text: &str| text.parse::<i64>().ok();
            let (holds, expected) = match rule {
                Rule::Exactly => (found == *expected, expected.clone()),
                Rule::AtLeast => (number(&found) >= number(expected), format!("at least {expected}")),
            };
            if !holds {
                return Err(OpenError::TopicSetting { topic: topic.to_owned(), setting, found, expected });
            }
        }
        Ok(())
    }
}

/// Another cluster, or another prefix in it, is another log.
fn identity(cluster: &str, prefix: &str) -> LogId {
    let digest = Digest::of_parts(&[b"airut log on kafka\0", cluster.as_bytes(), b"\0", prefix.as_bytes()]);
    LogId(*digest.0.first_chunk().expect("32 bytes"))
}

fn fault(setting: &'static str, cause: impl std::fmt::Display) -> OpenError {
    OpenError::Kafka { setting, cause: Cause::new(cause) }
}

/// What may pass is a value; what the brokers do not let us do, which lies with whom they take us for, does not.
fn passing(what: &str, error: &KafkaError) -> Result<OpenError, OpenError> {
    match super::code(error) {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            Err(fault(setting::CERTIFICATE, format_args!("the brokers do not let its owner {what}: {error}")))
        }
        _ => Ok(fault(setting::BROKERS, format_args!("can not {what}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_and_a_prefix_make_a_log() {
        assert_eq!(identity("abc", "x"), identity("abc", "x"));
        assert_ne!(identity("abc", ""), identity("abd", ""));
        assert_ne!(identity("abc", "x"), identity("abcx", ""));
    }

    #[test]
    fn settings_that_lose_nothing_are_taken_and_others_named() {
        let config = TopicConfig::of(&KafkaSettings::at(["localhost:9092"]));
        let as_made = |key: &str| config.0.iter().find(|(name, ..)| *name == key).map(|(_, value, _)| value.clone());
        assert_eq!(config.check("t", as_made), Ok(()));
        let stricter = |key: &str| if key == "min.insync.replicas" { Some("3".to_owned()) } else { as_made(key) };
        assert_eq!(config.check("t", stricter), Ok(()));
        let losing = |key: &str| if key == "retention.ms" { Some("604800000".to_owned()) } else { as_made(key) };
        let refused = OpenError::TopicSetting {
            topic: "t".to_owned(),
            setting: "retention.ms",
            found: "604800000".to_owned(),
            expected: "-1".to_owned(),
        };
        assert_eq!(config.check("t", losing), Err(refused));
    }
}
