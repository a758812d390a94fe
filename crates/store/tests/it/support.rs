//! What the suites share: a store of each kind.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use airut_store::{Memory, ObjectName, Objects, Settings};

/// A store of one kind, and what it lives in.
pub(crate) struct Place {
    pub(crate) objects: Objects,
    _directory: Option<tempfile::TempDir>,
}

/// A store of each kind that is here.
pub(crate) fn places() -> Vec<Place> {
    let directory = private_directory();
    let local = Objects::open(&Settings::local(directory.path())).unwrap();
    vec![
        Place { objects: Objects::memory(&Memory::new()), _directory: None },
        Place { objects: local, _directory: Some(directory) },
    ]
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
