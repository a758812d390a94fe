//! What an S3 server alone can do to a store: be reached over TLS, refuse, be killed.

use std::{
    fs,
    time::{Duration, Instant},
};

use airut_domain::id::KeyId;
use airut_store::{
    BOUND, Clock, Created, KeyError, KeyStore, Objects, OpenError, Random, S3Settings, Settings, Wrapping,
};
use airut_testkit::S3;
use bytes::Bytes;

use crate::support::{name, on_s3, s3_settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_the_authority_that_is_configured_and_no_other() {
    let (Some(s3), Some(other)) = (S3::start_tls(), S3::start_tls()) else { return };
    let objects = on_s3(&s3);
    assert_eq!(objects.create(&name("a"), Bytes::from_static(b"x")).await.unwrap(), Created::Made);
    assert_eq!(objects.read(&name("a")).await.unwrap().unwrap(), Bytes::from_static(b"x"));
    let wrong = Objects::open(&Settings::S3(S3Settings { ca: other.ca(), ..s3_settings(&s3) })).unwrap();
    let refused = wrong.read(&name("a")).await.unwrap_err();
    assert!(refused.cause.contains("certificate"), "{refused}");
    let without = Objects::open(&Settings::S3(S3Settings { ca: None, ..s3_settings(&s3) })).unwrap_err();
    assert!(matches!(without, OpenError::Setting(fault) if fault.starts_with("ca:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_tells_the_servers_code_and_no_secret() {
    let Some(s3) = S3::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let secret_key = directory.path().join("secret");
    fs::write(&secret_key, "not-the-secret-of-this-server").unwrap();
    let settings = S3Settings { secret_key, ..s3_settings(&s3) };
    let objects = Objects::open(&Settings::S3(settings)).unwrap();
    let refused = objects.create(&name("a"), Bytes::from_static(b"confidential")).await.unwrap_err();
    assert_eq!(refused.to_string(), "object a: the server says SignatureDoesNotMatch");
    let settings = S3Settings { bucket: "none".to_owned(), ..s3_settings(&s3) };
    let refused = Objects::open(&Settings::S3(settings)).unwrap().create(&name("a"), Bytes::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "object a: the server says NoSuchBucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_server_nothing_is_said_to_be_there_and_all_is_when_it_is_back() {
    let Some(s3) = S3::start() else { return };
    let objects = on_s3(&s3);
    let active: KeyId = "wrapping-1".parse().unwrap();
    let keys = || {
        let wrapping = Wrapping::new(active.clone(), [(active.clone(), [1; 32])]).unwrap();
        KeyStore::new(objects.clone(), wrapping, Clock::system(), Random::system())
    };
    let (id, other): (KeyId, KeyId) = ("query/2026-11-27/kela".parse().unwrap(), "query/2026-11-27/a".parse().unwrap());
    let made = keys().key_or_new(&id).await.unwrap().derive("test", &[]);
    s3.kill();
    let began = Instant::now();
    assert!(matches!(keys().key(&id).await, Err(KeyError::Unavailable(_))));
    assert!(matches!(keys().key_or_new(&other).await, Err(KeyError::Unavailable(_))));
    assert!(began.elapsed() < 2 * BOUND + Duration::from_secs(1));
    s3.restart();
    assert_eq!(keys().key(&id).await.unwrap().derive("test", &[]), made);
    keys().key_or_new(&other).await.unwrap();
}
