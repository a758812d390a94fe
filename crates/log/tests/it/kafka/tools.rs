//! That the topics are Kafka's own: its tools read them.

use super::{cluster::ONE, open};
use crate::support::{append, partition, soon};

#[tokio::test]
async fn the_console_consumer_of_kafka_reads_the_records_and_their_headers() {
    let Some(kafka) = ONE.together().await else { return };
    let settings = kafka.settings();
    append(&soon(open(settings.clone())).await, partition(7), "of ours").await;
    let mut consumer = kafka.kafka.program("org.apache.kafka.tools.consumer.ConsoleConsumer");
    consumer.args(["--bootstrap-server", kafka.kafka.bootstrap(), "--topic"]);
    consumer.args([&format!("{}airut.queries", settings.prefix), "--partition", "7", "--offset", "0"]);
    consumer.args(["--max-messages", "1", "--timeout-ms", "30000"]);
    for property in ["print.headers=true", "print.timestamp=true", "print.offset=true"] {
        consumer.args(["--formatter-property", property]);
    }
    let output = consumer.output().unwrap();
    let read = String::from_utf8_lossy(&output.stdout);
    assert!(read.starts_with("LogAppendTime:"), "{read}{}", String::from_utf8_lossy(&output.stderr));
    assert!(read.contains("Offset:0\tairut-header:header of ours,traceparent:trace of ours\tbody of ours"), "{read}");
}
