//! The baseline on Kafka: bare round trips of rdkafka on the exchange's own broker, as many and as large as the records of a
//! query, with nothing between them.
//!
//! One round trip: produce a record, and have its acknowledgement and the record itself from the tail. A query takes two, the
//! question's and the answer's, so that is what is timed as one call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{
    partition::{Partition, Topic},
    query::Event,
    record::Kind,
};
use airut_log::Log;
use anyhow::{Context, anyhow, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{sync::oneshot, task::JoinHandle};

/// Beside the exchange's topics, and none of them.
const TOPIC: &str = "baseline";

/// As many records of each partition are looked at for their size.
const SAMPLED: u64 = 200;

/// How long the broker may take to make the topic.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes of a query's two records: header and body of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    asked: (usize, usize),
    answered: (usize, usize),
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (asked, answered) = (self.asked, self.answered);
        write!(f, "{} and {} bytes, headers included", asked.0 + asked.1, answered.0 + answered.1)
    }
}

impl Sizes {
    /// What they are on average in this log.
    pub(crate) async fn of(log: &Log) -> anyhow::Result<Self> {
        let (mut asked, mut answered) = (Mean::default(), Mean::default());
        for partition in (0..Topic::Queries.partitions()).map(|number| Partition { topic: Topic::Queries, number }) {
            let end = log.end(partition).await?;
            if end == 0 {
                continue;
            }
            for stored in log.read(partition, end.saturating_sub(SAMPLED)..end, usize::MAX).await? {
                match airut_wire::record::decode(&stored.header)?.kind {
                    Kind::Query(Event::Asked(_)) => asked.add(stored.header.len(), stored.body.len()),
                    Kind::Query(Event::Answered(_)) => answered.add(stored.header.len(), stored.body.len()),
                    Kind::Query(Event::Rerouted(_) | Event::NotDisclosed(_) | Event::Repeated(_))
                    | Kind::Message(_)
                    | Kind::Document(_)
                    | Kind::Request(_)
                    | Kind::Refusal(_)
                    | Kind::Partner(_)
                    | Kind::Member(_)
                    | Kind::Order(_) => {}
                }
            }
        }
        Ok(Self { asked: asked.value()?, answered: answered.value()? })
    }
}

#[derive(Default)]
struct Mean {
    count: usize,
    headers: usize,
    bodies: usize,
}

impl Mean {
    fn add(&mut self, header: usize, body: usize) {
        self.count += 1;
        self.headers += header;
        self.bodies += body;
    }

    fn value(&self) -> anyhow::Result<(usize, usize)> {
        ensure!(self.count > 0, "the log holds no query yet");
        Ok((self.headers / self.count, self.bodies / self.count))
    }
}

/// A producer and a tail.
pub(crate) struct Raw {
    producer: FutureProducer,
    sizes: Sizes,
    expected: Arc<Expected>,
    tail: JoinHandle<()>,
}

/// Records that are on their way, by the number that their bodies begin with.
#[derive(Default)]
struct Expected(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last: u64,
    seen: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Expected {
    fn next(&self) -> (u64, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.0.lock().expect("nobody panics while holding it");
        waiting.last += 1;
        let number = waiting.last;
        waiting.seen.insert(number, tell);
        (number, told)
    }

    fn saw(&self, number: u64) {
        let tell = self.0.lock().expect("nobody panics while holding it").seen.remove(&number);
        // Whoever has given up does not need to know.
        tell.map(|tell| tell.send(()));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.tail.abort();
    }
}

impl Raw {
    /// Makes a topic like that of the queries, with as many partitions, and follows it.
    pub(crate) async fn start(brokers: &str, sizes: Sizes) -> anyhow::Result<Self> {
        make_topic(brokers).await?;
        let producer = client(brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", "none")
            .set("linger.ms", "0")
            .create()?;
        let consumer: StreamConsumer = client(brokers)
            .set("group.id", "baseline")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..partition_count() {
            partitions.add_partition_offset(TOPIC, partition, Offset::Offset(0))?;
        }
        consumer.assign(&partitions)?;
        let expected = Arc::new(Expected::default());
        let tail = tokio::spawn(follow(consumer, Arc::clone(&expected)));
        Ok(Self { producer, sizes, expected, tail })
    }

    /// Two round trips, one after the other, in the partition that the number chooses.
    pub(crate) async fn double_round_trip(&self, number: u64) -> anyhow::Result<()> {
        let partition = i32::try_from(number % u64::from(Topic::Queries.partitions()))?;
        self.round_trip(partition, self.sizes.asked).await?;
        self.round_trip(partition, self.sizes.answered).await
    }

    async fn round_trip(&self, partition: i32, (header, body): (usize, usize)) -> anyhow::Result<()> {
        let (number, seen) = self.expected.next();
        let header = vec![7; header];
        let mut body = vec![7; body.max(8)];
        body[..8].copy_from_slice(&number.to_be_bytes());
        let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: "airut-header", value: Some(&header) });
        let record = FutureRecord::<(), [u8]>::to(TOPIC).partition(partition).payload(&body).headers(headers);
        let delivery = self.producer.send_result(record).map_err(|(cause, _)| cause)?;
        delivery.await?.map_err(|(cause, _)| cause)?;
        Ok(seen.await?)
    }
}

/// What the log's own clients are told too, as far as it bears on speed.
fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("socket.nagle.disable", "true");
    config
}

fn partition_count() -> i32 {
    i32::try_from(Topic::Queries.partitions()).expect("a small number")
}

/// Configured as the topic of the queries is.
async fn make_topic(brokers: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let model = ResourceSpecifier::Topic(Topic::Queries.name());
    let found = admin.describe_configs([&model], &options).await?.pop().context("the broker tells of no topic")??;
    let set: Vec<_> = found.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic).collect();
    let mut topic = NewTopic::new(TOPIC, partition_count(), TopicReplication::Fixed(1));
    for entry in set {
        topic = topic.set(&entry.name, entry.value.as_deref().unwrap_or_default());
    }
    let made = admin.create_topics([&topic], &options).await?.pop().context("the broker makes no topic")?;
    made.map(drop).map_err(|(name, code)| anyhow!("{name}: {code}"))
}

async fn follow(consumer: StreamConsumer, expected: Arc<Expected>) {
    loop {
        match consumer.recv().await {
            Ok(message) => {
                let number = message.payload().and_then(|body| body.first_chunk().copied()).map(u64::from_be_bytes);
                number.into_iter().for_each(|number| expected.saw(number));
            }
            // Said when a connection is made again. What does not come is missed by whoever waits for it.
            Err(cause) => complain(&cause),
        }
    }
}

#[allow(clippy::print_stderr, reason = "a command-line tool's output")]
fn complain(cause: &rdkafka::error::KafkaError) {
    eprintln!("airut-load: the baseline's tail: {cause}");
}
