//! Objects on an S3-compatible server.
//!
//! The server must honour conditional writes: `If-None-Match: *` makes an object once, `If-Match` swaps what was seen. S3
//! itself does since 2024. A bucket with versions keeps what was replaced, erased keys too, so it must have none.

use std::{fmt, fs, future::Future, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    path::Path as StorePath,
};

use super::{
    BOUND, Created, MOST_BYTES, ObjectError, ObjectMeta, OpenError, PAGE, Swapped, Version, error, http::Http, is_below,
};
use crate::ObjectName;

/// As often a request is made again.
const RETRIES: usize = 3;

/// An S3-compatible server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Where it is: `https://s3.example:9000`, or `http://…` where the network is trusted.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The file of the access key's id.
    pub access_key: PathBuf,
    /// The file of the secret access key.
    pub secret_key: PathBuf,
    /// What every object's name begins with there; nothing when empty.
    pub prefix: String,
    /// The authorities of the server's certificate, PEM. Required for `https`.
    pub ca: Option<PathBuf>,
}

pub(super) struct S3 {
    store: AmazonS3,
    place: String,
    prefix: String,
}

impl S3 {
    pub(super) fn open(settings: &S3Settings) -> Result<Self, OpenError> {
        let S3Settings { endpoint, bucket, region, access_key, secret_key, prefix, ca } = settings;
        let is_plain = endpoint.starts_with("http://");
        if !is_plain && !endpoint.starts_with("https://") {
            return Err(OpenError::Setting(format!(
                "endpoint: must begin with https:// or http://, and is {endpoint}"
            )));
        }
        if !is_plain && ca.is_none() {
            return Err(OpenError::Setting("ca: a file is required where the endpoint is https".to_owned()));
        }
        if !prefix.is_empty() && prefix.parse::<ObjectName>().is_err() {
            return Err(OpenError::Setting(format!("prefix: must be segments with slashes between, and is {prefix}")));
        }
        let store = AmazonS3Builder::new()
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_bucket_name(bucket)
            .with_region(region)
            .with_access_key_id(secret(access_key)?)
            .with_secret_access_key(secret(secret_key)?)
            .with_allow_http(is_plain)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_retry(retry())
            .with_http_connector(Http::new(ca.as_deref())?)
            .build()
            .map_err(|cause| OpenError::Setting(cause.to_string()))?;
        let place = format!("{}/{bucket}", endpoint.trim_end_matches('/'));
        Ok(Self { store, place, prefix: prefix.clone() })
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) async fn create(&self, name: &ObjectName, bytes: Bytes) -> Result<Created, ObjectError> {
        let (path, options) = (self.path(name), PutOptions::from(PutMode::Create));
        within(name, async {
            match self.store.put_opts(&path, PutPayload::from_bytes(bytes), options).await {
                Ok(_) => Ok(Created::Made),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::There),
                Err(cause) => Err(cause),
            }
        })
        .await
    }

    pub(super) async fn replace(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        let path = self.path(name);
        within(name, async { self.store.put(&path, PutPayload::from_bytes(bytes)).await.map(drop) }).await
    }

    pub(super) async fn swap(&self, name: &ObjectName, seen: &Version, bytes: Bytes) -> Result<Swapped, ObjectError> {
        let (path, version) = (self.path(name), UpdateVersion { e_tag: Some(seen.0.clone()), version: None });
        let options = PutOptions::from(PutMode::Update(version));
        within(name, async {
            match self.store.put_opts(&path, PutPayload::from_bytes(bytes), options).await {
                Ok(_) => Ok(Swapped::Done),
                Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => {
                    Ok(Swapped::Changed)
                }
                Err(cause) => Err(cause),
            }
        })
        .await
    }

    pub(super) async fn look(&self, name: &ObjectName) -> Result<Option<(Bytes, Version)>, ObjectError> {
        let path = self.path(name);
        let found = within(name, async {
            let found = match self.store.get(&path).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                found => found?,
            };
            if found.meta.size > MOST_BYTES as u64 {
                return Ok(Some(None));
            }
            let tag = found.meta.e_tag.clone().unwrap_or_default();
            Ok(Some(Some((found.bytes().await?, Version(tag)))))
        });
        match found.await? {
            Some(None) => Err(error(name, format_args!("is larger than {MOST_BYTES} bytes"))),
            Some(Some(found)) => Ok(Some(found)),
            None => Ok(None),
        }
    }

    pub(super) async fn list(
        &self,
        prefix: &ObjectName,
        after: Option<&ObjectName>,
    ) -> Result<Vec<ObjectMeta>, ObjectError> {
        let below = self.path(prefix);
        within(prefix, async {
            let listed = match after {
                Some(after) => self.store.list_with_offset(Some(&below), &self.path(after)),
                None => self.store.list(Some(&below)),
            };
            listed.take(PAGE).try_collect::<Vec<_>>().await
        })
        .await
        .map(|listed| {
            let named = listed.into_iter().filter_map(|object| {
                let name = self.name(&object.location)?;
                Some(ObjectMeta { name, size_bytes: object.size })
            });
            named.filter(|object| is_below(prefix.as_str(), object.name.as_str())).collect()
        })
    }

    pub(super) async fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        let path = self.path(name);
        within(name, async {
            match self.store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                deleted => deleted,
            }
        })
        .await
    }

    fn path(&self, name: &ObjectName) -> StorePath {
        let text = if self.prefix.is_empty() { name.to_string() } else { format!("{}/{name}", self.prefix) };
        // A name's characters are all that a path takes as they are.
        StorePath::from(text)
    }

    fn name(&self, path: &StorePath) -> Option<ObjectName> {
        let text = path.as_ref();
        let text = if self.prefix.is_empty() { text } else { text.strip_prefix(&self.prefix)?.strip_prefix('/')? };
        text.parse().ok()
    }
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: BOUND }
}

/// The text of a file, without the newline that editors put at its end.
fn secret(path: &PathBuf) -> Result<String, OpenError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|cause| OpenError::File { path: path.clone(), cause: cause.to_string() })?;
    Ok(text.trim().to_owned())
}

async fn within<T>(name: &ObjectName, work: impl Future<Output = object_store::Result<T>>) -> Result<T, ObjectError> {
    match tokio::time::timeout(BOUND, work).await {
        Ok(result) => result.map_err(|cause| error(name, told(&cause))),
        Err(_) => Err(error(name, format_args!("not within {BOUND:?}"))),
    }
}

/// What may be told of an error. A server's answer is not: it may quote the request, credentials among it. Its code is.
fn told(cause: &object_store::Error) -> impl fmt::Display {
    let (mut bottom, mut text): (&dyn std::error::Error, String) = (cause, cause.to_string());
    while let Some(source) = bottom.source() {
        bottom = source;
        text = bottom.to_string();
    }
    let whole = format!("{cause} {text}");
    let code = whole.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    if let Some(code) = code.filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric())) {
        format!("the server says {code}")
    } else if matches!(cause, object_store::Error::PermissionDenied { .. }) {
        "the server says that it is forbidden".to_owned()
    } else if matches!(cause, object_store::Error::Unauthenticated { .. }) {
        "the server does not know the access key".to_owned()
    } else if text.contains("status code") {
        text.split(": ").take(2).collect::<Vec<_>>().join(": ")
    } else {
        text
    }
}
