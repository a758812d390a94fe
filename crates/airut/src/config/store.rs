//! `[store]` and `[retention]`: what lies outside the log, and for how long its keys are kept.

use std::path::{Path, PathBuf};

use airut_exchange::Retention;
use airut_store::{ObjectName, S3Settings, Settings as StoreSettings};
use serde::Deserialize;

use super::{LogConfig, faults::readable};

/// `[store]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
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

/// `[retention]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
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

/// A gateway's store. Without one in the configuration it is the directory `objects` among its own files, and that only where
/// its log is its own as well: gateways that share a log must share their keys. Other roles have no use for it.
pub(super) fn check(
    raw: RawStore,
    data: &Path,
    gateways_log: Option<&LogConfig>,
    faults: &mut Vec<String>,
) -> StoreSettings {
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

/// For how long data keys are kept, checked.
pub(super) fn retention(raw: &RawRetention, faults: &mut Vec<String>) -> Retention {
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
