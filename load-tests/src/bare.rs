//! The baseline of a day on Kafka: the same messages produced and consumed by bare rdkafka over mTLS, with nothing between them.
//!
//! One producer with a wide window and all acknowledgements, one consumer that follows every partition, in this process, on a broker of
//! its own like the exchange's. The first round warms the broker up, the second one counts.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use airut_domain::partition::Topic;
use airut_identity::dev_ca::Issued;
use airut_testkit::{
    Pki,
    kafka::{Access, Kafka},
};
use anyhow::{Context, anyhow, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};

/// A topic for each round.
const ROUNDS: [&str; 2] = ["warm-up", "bare"];

/// How long the broker may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for one event, and for room in the producer's queue.
const POLL: Duration = Duration::from_millis(10);

/// How many messages pass a second, of so many like these.
pub(crate) async fn rate(sample: Vec<Vec<u8>>, count: usize) -> anyhow::Result<f64> {
    let pki = Pki::new();
    let kafka = Kafka::start_with(1, &Access::tls(&pki)).context("there is no Kafka")?;
    let client = client(kafka.bootstrap(), &pki, &pki.partner("kela"))?;
    let admin: AdminClient<DefaultClientContext> = client.create()?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let topics = ROUNDS.map(|name| NewTopic::new(name, partitions(), TopicReplication::Fixed(1)));
    for made in admin.create_topics(&topics, &options).await? {
        made.map_err(|(name, code)| anyhow!("{name}: {code}"))?;
    }
    tokio::task::spawn_blocking(move || {
        let mut rate = 0.0;
        for topic in ROUNDS {
            rate = pass(&client, topic, &sample, count)?;
        }
        Ok(rate)
    })
    .await?
}

/// Produces and consumes all of them at once; returns how many passed a second.
fn pass(client: &ClientConfig, topic: &str, sample: &[Vec<u8>], count: usize) -> anyhow::Result<f64> {
    let began = Instant::now();
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let consuming = scope.spawn(|| consume(client, topic, count, &failed));
        let produced = produce(client, topic, sample.iter().cycle().take(count));
        failed.store(produced.is_err(), Ordering::Relaxed);
        produced?;
        consuming.join().map_err(|_| anyhow!("the consumer fell"))?
    })?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn produce<'a>(client: &ClientConfig, topic: &str, messages: impl Iterator<Item = &'a Vec<u8>>) -> anyhow::Result<()> {
    let producer: BaseProducer =
        client.clone().set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5").create()?;
    for (number, message) in messages.enumerate() {
        let partition = i32::try_from(number)? % partitions();
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(message);
        while let Err((cause, again)) = producer.send(record) {
            ensure!(cause == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "{cause}");
            producer.poll(POLL);
            record = again;
        }
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(PATIENCE)?)
}

/// Takes in so many messages, from the beginning.
fn consume(client: &ClientConfig, topic: &str, all: usize, failed: &AtomicBool) -> anyhow::Result<()> {
    let consumer: BaseConsumer = client.clone().set("group.id", topic).set("enable.auto.commit", "false").create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions() {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut came, mut last) = (0, Instant::now());
    while came < all && !failed.load(Ordering::Relaxed) {
        ensure!(last.elapsed() < PATIENCE, "{came} of {all} came");
        if let Some(message) = consumer.poll(POLL) {
            message?;
            (came, last) = (came + 1, Instant::now());
        }
    }
    Ok(())
}

fn client(brokers: &str, pki: &Pki, issued: &Issued) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("security.protocol", "ssl")
        .set("ssl.ca.pem", fs::read_to_string(pki.ca().certificate())?)
        .set("ssl.certificate.pem", fs::read_to_string(&issued.certificate)?)
        .set("ssl.key.pem", fs::read_to_string(&issued.key)?);
    Ok(config)
}

fn partitions() -> i32 {
    i32::try_from(Topic::Messages.partitions()).expect("a small number")
}
