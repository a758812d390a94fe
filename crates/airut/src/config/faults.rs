//! What is wrong with a configuration, told all at once and each with its setting's name.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s)", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

pub(super) fn address(faults: &mut Vec<String>, name: &str, text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        faults.push(format!("{name}: must be an address and a port, such as 127.0.0.1:7443, and is {text}"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

pub(super) fn required(faults: &mut Vec<String>, name: &str, path: &Path) {
    if path.as_os_str().is_empty() {
        faults.push(format!("{name}: a file is required"));
    }
}

pub(super) fn readable(faults: &mut Vec<String>, name: &str, path: &Path) {
    if path.as_os_str().is_empty() {
        faults.push(format!("{name}: a file is required"));
    } else if let Err(cause) = fs::File::open(path) {
        faults.push(format!("{name}: {}: {}", path.display(), plain(&cause)));
    }
}

pub(super) fn files(faults: &mut Vec<String>, name: &str, paths: &[PathBuf]) {
    if paths.is_empty() {
        faults.push(format!("{name}: at least one file is required"));
    }
    paths.iter().for_each(|path| readable(faults, name, path));
}

fn plain(cause: &io::Error) -> String {
    if cause.kind() == io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if cause.kind() == io::ErrorKind::PermissionDenied {
        "may not be read".to_owned()
    } else {
        cause.to_string()
    }
}
