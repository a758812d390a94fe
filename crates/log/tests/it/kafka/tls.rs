//! TLS to the brokers, and whose fault it is when they do not come together.

use std::{
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, Instant},
};

use airut_log::{KafkaCertificate, KafkaSettings, KafkaTls, Log, OpenError, Positions};
use airut_testkit::{
    Pki,
    kafka::{Access, Kafka},
};

use super::{cluster, open};
use crate::support::{append, contents, partition, soon, take};

/// A Kafka that takes certificates of its PKI's CA only, and lets none but `gateway` do anything.
fn kafka() -> Option<&'static (Pki, Kafka)> {
    static KAFKA: OnceLock<Option<(Pki, Kafka)>> = OnceLock::new();
    let start = || {
        let pki = Pki::new();
        let kafka = Kafka::start_with(1, &Access::tls_for(&pki, &["CN=gateway,O=gateway,C=FI"]))?;
        Some((pki, kafka))
    };
    KAFKA.get_or_init(start).as_ref()
}

/// Settings that trust the one PKI and show the other's certificate of this name.
fn settings(kafka: &Kafka, trusted: &Pki, own: &Pki, name: &str) -> KafkaSettings {
    let own = own.nameless(name);
    let client = Some(KafkaCertificate { certificate: own.certificate, key: own.key });
    KafkaSettings { tls: Some(KafkaTls { ca: trusted.ca().certificate(), client }), ..cluster::settings(kafka) }
}

fn with_tls(mut settings: KafkaSettings, change: impl FnOnce(&mut KafkaTls)) -> KafkaSettings {
    change(settings.tls.as_mut().unwrap());
    settings
}

/// Opens it in vain, within a bound; gives the setting at fault.
#[expect(clippy::print_stdout, reason = "shown when the test fails")]
async fn at_fault(settings: KafkaSettings) -> &'static str {
    let began = Instant::now();
    let refused = soon(Log::kafka(settings)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}: {refused}", began.elapsed());
    let OpenError::Kafka { setting, cause } = refused else { panic!("{refused}") };
    println!("{cause}");
    setting
}

#[tokio::test]
async fn a_certificate_that_the_brokers_know_opens_the_log() {
    let Some((pki, kafka)) = kafka() else { return };
    let log = soon(open(settings(kafka, pki, pki, "gateway"))).await;
    append(&log, partition(0), "over TLS").await;
    assert_eq!(take(&mut log.tail(&Positions::new()), 1).await, contents(&log, partition(0)).await);
    soon(log.trim(partition(0), 1)).await.unwrap();
}

#[tokio::test]
async fn brokers_of_another_ca_are_told_by_log_kafka_ca() {
    let Some((pki, kafka)) = kafka() else { return };
    assert_eq!(at_fault(settings(kafka, &Pki::new(), pki, "gateway")).await, "log.kafka.ca");
}

#[tokio::test]
async fn no_certificate_is_told_by_log_kafka_certificate() {
    let Some((pki, kafka)) = kafka() else { return };
    let anonymous = with_tls(settings(kafka, pki, pki, "gateway"), |tls| tls.client = None);
    assert_eq!(at_fault(anonymous).await, "log.kafka.certificate");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_told_by_log_kafka_certificate() {
    let Some((pki, kafka)) = kafka() else { return };
    assert_eq!(at_fault(settings(kafka, pki, &Pki::new(), "gateway")).await, "log.kafka.certificate");
}

#[tokio::test]
async fn a_certificate_that_may_nothing_is_told_by_log_kafka_certificate() {
    let Some((pki, kafka)) = kafka() else { return };
    assert_eq!(at_fault(settings(kafka, pki, pki, "stranger")).await, "log.kafka.certificate");
}

#[tokio::test]
async fn brokers_that_speak_tls_are_told_to_who_does_not() {
    let Some((_, kafka)) = kafka() else { return };
    assert_eq!(at_fault(cluster::settings(kafka)).await, "log.kafka.ca");
}

#[tokio::test]
async fn files_that_are_not_there_or_no_pem_are_told_by_their_settings() {
    let Some((pki, kafka)) = kafka() else { return };
    let good = settings(kafka, pki, pki, "gateway");
    let nowhere = PathBuf::from("/nowhere");
    assert_eq!(at_fault(with_tls(good.clone(), |tls| tls.ca = nowhere.clone())).await, "log.kafka.ca");
    let change = |change: fn(&mut KafkaCertificate)| with_tls(good.clone(), |tls| change(tls.client.as_mut().unwrap()));
    let missing = change(|client| client.certificate = PathBuf::from("/nowhere"));
    assert_eq!(at_fault(missing).await, "log.kafka.certificate");
    assert_eq!(at_fault(change(|client| client.key = PathBuf::from("/dev/null"))).await, "log.kafka.key");
    let no_key = change(|client| client.key.clone_from(&client.certificate));
    assert_eq!(at_fault(no_key).await, "log.kafka.key");
}

#[tokio::test]
async fn a_key_of_another_certificate_is_told_by_log_kafka_key() {
    let Some((pki, kafka)) = kafka() else { return };
    let other = pki.nameless("other").key;
    let mixed = with_tls(settings(kafka, pki, pki, "gateway"), |tls| tls.client.as_mut().unwrap().key = other);
    assert_eq!(at_fault(mixed).await, "log.kafka.key");
}
