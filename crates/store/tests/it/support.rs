//! What the suites share: a store of each kind.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use airut_store::{Memory, ObjectName, Objects, S3Settings, Settings};
use airut_testkit::S3;

/// A store of one kind, and what it lives in.
pub(crate) struct Place {
    pub(crate) objects: Objects,
    _directory: Option<tempfile::TempDir>,
}

/// A store of each kind that is here, each empty.
pub(crate) fn places() -> Vec<Place> {
    let directory = private_directory();
    let local = Objects::open(&Settings::local(directory.path())).unwrap();
    let mut places = vec![
        Place { objects: Objects::memory(&Memory::new()), _directory: None },
        Place { objects: local, _directory: Some(directory) },
    ];
    places.extend(shared_s3().map(|s3| Place { objects: on_s3(s3), _directory: None }));
    places
}

/// One server for all suites of the process.
fn shared_s3() -> Option<&'static S3> {
    static S3: OnceLock<Option<S3>> = OnceLock::new();
    S3.get_or_init(S3::start).as_ref()
}

/// A part of the server that nobody else uses.
pub(crate) fn on_s3(s3: &S3) -> Objects {
    static PARTS: AtomicUsize = AtomicUsize::new(0);
    let prefix = format!("part-{}", PARTS.fetch_add(1, Ordering::Relaxed));
    Objects::open(&Settings::S3(S3Settings { prefix, ..s3_settings(s3) })).unwrap()
}

pub(crate) fn s3_settings(s3: &S3) -> S3Settings {
    let (access_key, secret_key) = s3.keys();
    S3Settings {
        endpoint: s3.endpoint(),
        bucket: s3.bucket().to_owned(),
        region: "us-east-1".to_owned(),
        access_key,
        secret_key,
        prefix: String::new(),
        ca: s3.ca(),
    }
}

pub(crate) fn private_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    close(directory.path());
    directory
}

pub(crate) fn close(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

pub(crate) fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}
