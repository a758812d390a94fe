//! What is checked when the log is opened, and what can go wrong between processes.

use std::time::{Duration, Instant};

use airut_domain::partition::{Position, Topic};
use airut_log::{KafkaSettings, Log, OpenError, Positions, ReadError, TailError};
use airut_testkit::eventually;
use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{
    cluster::{ONE, Turn},
    open,
};
use crate::support::{append, contents, partition, soon, take};

fn client<G>(kafka: &Turn<G>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.kafka.bootstrap());
    config
}

async fn make<G>(kafka: &Turn<G>, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client(kafka).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = config.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    admin.create_topics(&[topic], &options).await.unwrap()[0].as_ref().unwrap();
    // The controller has it; the brokers hear of it a little later.
    eventually(Duration::from_secs(30), async || {
        let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(5)).unwrap();
        metadata.topics()[0].partitions().iter().any(|partition| partition.leader() >= 0)
    })
    .await;
}

async fn refusal(settings: KafkaSettings) -> OpenError {
    soon(Log::kafka(settings)).await.unwrap_err()
}

#[tokio::test]
async fn a_topic_with_another_number_of_partitions_is_refused() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    make(&kafka, &format!("{}airut.refusals", settings.prefix), 3, &[]).await;
    let fewer = OpenError::Partitions { topic: Topic::Refusals, found: 3, expected: 4 };
    assert_eq!(refusal(settings).await, fewer);
}

#[tokio::test]
async fn a_topic_that_would_lose_records_is_refused() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    let topic = format!("{}airut.refusals", settings.prefix);
    let config = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "604800000")];
    make(&kafka, &topic, 4, &config).await;
    let (found, expected) = ("604800000".to_owned(), "-1".to_owned());
    assert_eq!(refusal(settings).await, OpenError::TopicSetting { topic, setting: "retention.ms", found, expected });
}

#[tokio::test]
async fn a_topic_that_a_newer_build_made_is_refused() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    let topic = format!("{}airut.future", settings.prefix);
    make(&kafka, &topic, 1, &[]).await;
    assert_eq!(refusal(settings).await, OpenError::UnknownTopic(topic));
}

#[tokio::test]
async fn more_replicas_than_there_are_brokers_are_refused_by_the_settings_name() {
    let Some(kafka) = ONE.together().await else { return };
    let refused = refusal(KafkaSettings { replication: 2, ..kafka.settings() }).await;
    assert!(matches!(refused, OpenError::Kafka { setting: "log.kafka.replication", .. }), "{refused}");
}

#[tokio::test]
async fn brokers_that_are_not_there_are_told_within_a_bound() {
    let began = Instant::now();
    // Nobody listens on port 1.
    let refused = refusal(KafkaSettings::at(["127.0.0.1:1"])).await;
    assert!(matches!(refused, OpenError::Kafka { setting: "log.kafka.brokers", .. }), "{refused}");
    assert!(refused.to_string().contains("Connection refused"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn processes_that_open_a_new_log_at_once_have_the_same() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    let logs = join_all((0..3).map(|_| soon(open(settings.clone())))).await;
    assert!(logs.iter().all(|log| log.identity() == logs[0].identity()));
    assert!(logs.iter().all(|log| !log.is_exclusive() && !log.is_shared()));
    let position = append(&logs[0], partition(0), "first").await;
    assert_eq!(logs[1].end(partition(0)).await.unwrap(), position.offset + 1);
    assert_eq!(take(&mut logs[2].tail(&Positions::new()), 1).await[0].position, position);
    let other = soon(open(kafka.settings())).await;
    assert_ne!(other.identity(), logs[0].identity());
}

#[tokio::test]
async fn a_tail_begins_where_another_process_has_trimmed_to() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    let (one, other) = (soon(open(settings.clone())).await, soon(open(settings)).await);
    join_all((0..50).map(|i| append(&one, partition(0), i))).await;
    soon(one.trim(partition(0), 30)).await.unwrap();
    assert_eq!(take(&mut other.tail(&Positions::new()), 20).await[0].position.offset, 30);
    let mut behind = other.tail(&Positions::from([(partition(0), 29)]));
    let trimmed = TailError::Trimmed { partition: partition(0), start: 30 };
    assert_eq!(soon(behind.next()).await.unwrap_err(), trimmed);
}

#[tokio::test]
async fn a_record_that_is_none_of_ours_is_told_as_damage_and_nothing_behind_it_is_given() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    let log = soon(open(settings.clone())).await;
    append(&log, partition(0), "ours").await;
    let stranger: BaseProducer = client(&kafka).create().unwrap();
    let name = format!("{}airut.queries", settings.prefix);
    stranger.send(BaseRecord::<(), str>::to(&name).partition(0).payload("theirs")).unwrap();
    stranger.flush(Duration::from_secs(30)).unwrap();
    append(&log, partition(0), "ours").await;
    let mut tail = log.tail(&Positions::new());
    assert_eq!(take(&mut tail, 1).await.len(), 1);
    let at = Position { partition: partition(0), offset: 1 };
    assert_eq!(soon(tail.next()).await.unwrap_err(), TailError::Damaged(at));
    assert_eq!(soon(tail.next()).await.unwrap_err(), TailError::Damaged(at));
    assert_eq!(soon(log.read(partition(0), 0..3, 1 << 20)).await.unwrap().len(), 1);
    assert_eq!(soon(log.read(partition(0), 1..3, 1 << 20)).await.unwrap_err(), ReadError::Damaged(at));
    assert_eq!(soon(log.read(partition(0), 2..3, 1 << 20)).await.unwrap().len(), 1);
    assert_eq!(contents(&log, partition(1)).await, []);
}
