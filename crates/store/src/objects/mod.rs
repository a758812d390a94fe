//! Objects: named bytes, each written whole and read whole.
//!
//! There are three kinds of store behind one surface: a *local* directory, an *S3*-compatible server, and *memory*, which
//! is deterministic and can be made to fail. One conformance suite, `tests/it/conformance.rs`, holds all to what is said
//! here.

mod http;
mod local;
mod memory;
mod s3;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{local::LocalSettings, memory::Memory, s3::S3Settings};
use crate::ObjectName;

/// The largest object. What is larger is cut into several.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// As many objects one listing gives.
pub const PAGE: usize = 1000;

/// How long an operation may take, retries among it.
pub const BOUND: Duration = Duration::from_secs(10);

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// In a directory of this machine.
    Local(LocalSettings),
    /// On an S3-compatible server.
    S3(S3Settings),
}

impl Settings {
    /// A local directory.
    pub fn local(directory: impl Into<PathBuf>) -> Self {
        Self::Local(LocalSettings { directory: directory.into() })
    }
}

/// Objects, wherever they are. Cheap to clone.
#[derive(Clone)]
pub struct Objects(Kind);

#[derive(Clone)]
enum Kind {
    Local(Arc<local::Local>),
    S3(Arc<s3::S3>),
    Memory(Memory),
}

/// Whether an object was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was.
    Made,
    /// There was one of this name, and it stays as it is. It is durable, too.
    There,
}

/// Whether an object was swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It was.
    Done,
    /// It is no longer what was seen, or gone, and stays as it is.
    Changed,
}

/// What an object was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub name: ObjectName,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

/// Why an operation failed: the object and the cause, never what the object holds. After a failed write the object may be
/// the old one or the new one, and the new one may come to be there later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object {name}: {cause}")]
pub struct ObjectError {
    /// The object's name, or what a listing asked for.
    pub name: String,
    /// Why.
    pub cause: String,
}

/// Why the store can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A file or directory of the settings.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The endpoint, bucket or region.
    #[error("{0}")]
    Setting(String),
    /// An object that was made to try the store.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The server makes an object although there is one, or swaps one that has changed. Then two processes may each take
    /// their own key for the one of that name.
    #[error("the store does not honour conditional writes (If-None-Match, If-Match): keys would be lost")]
    Unconditional,
}

impl Objects {
    /// Opens the store. A local directory must be there: one that was not mounted is not to be begun anew. What an S3
    /// server does is tried by [`check`](Self::check).
    ///
    /// # Errors
    /// With the setting that is at fault.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        Ok(Self(match settings {
            Settings::Local(settings) => Kind::Local(Arc::new(local::Local::open(settings)?)),
            Settings::S3(settings) => Kind::S3(Arc::new(s3::S3::open(settings)?)),
        }))
    }

    /// A handle on this memory: for tests and the simulation.
    pub fn memory(memory: &Memory) -> Self {
        Self(Kind::Memory(memory.clone()))
    }

    /// Tries what everything else relies on: that an object is made once, and swapped only as seen. Makes an object of
    /// this name, which nobody else may use, and deletes it. Waits for 60 s at most.
    ///
    /// # Errors
    /// [`OpenError::Unconditional`] when it does not hold, else when the store can't be used.
    pub async fn check(&self, name: &ObjectName) -> Result<(), OpenError> {
        let first = Bytes::from_static(b"1");
        let made = self.create(name, first.clone()).await? == Created::Made;
        let again = self.create(name, Bytes::from_static(b"2")).await? == Created::There;
        let seen = self.look(name).await?;
        let kept = seen.as_ref().is_some_and(|(bytes, _)| *bytes == first);
        let mut holds = made && again && kept;
        if let Some((_, version)) = seen {
            holds &= self.swap(name, &version, Bytes::from_static(b"3")).await? == Swapped::Done;
            holds &= self.swap(name, &version, Bytes::from_static(b"4")).await? == Swapped::Changed;
        }
        self.delete(name).await?;
        holds.then_some(()).ok_or(OpenError::Unconditional)
    }

    /// Makes an object unless there is one of this name. Of any number of callers one makes it. Durable when it returns,
    /// whoever made it. Cancelling it may leave it made.
    ///
    /// An S3 server whose acknowledgement was lost may say [`Created::There`] to the one who made it.
    ///
    /// # Errors
    /// [`ObjectError`]: it may have been made, or come to be.
    pub async fn create(&self, name: &ObjectName, bytes: Bytes) -> Result<Created, ObjectError> {
        fits(name, bytes.len())?;
        match &self.0 {
            Kind::Local(local) => local.create(name, bytes).await,
            Kind::S3(s3) => s3.create(name, bytes).await,
            Kind::Memory(memory) => memory.create(name, bytes),
        }
    }

    /// Writes an object, in place of one that may be there. Readers see the old one or the new one, whole. Durable when
    /// it returns. Cancelling it may leave either.
    ///
    /// # Errors
    /// [`ObjectError`]: it may have been replaced, or come to be.
    pub async fn replace(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        fits(name, bytes.len())?;
        match &self.0 {
            Kind::Local(local) => local.replace(name, bytes).await,
            Kind::S3(s3) => s3.replace(name, bytes).await,
            Kind::Memory(memory) => memory.replace(name, bytes),
        }
    }

    /// Replaces an object that is still what was seen. Otherwise as [`replace`](Self::replace).
    ///
    /// # Errors
    /// [`ObjectError`]: it may have been replaced, or come to be.
    pub async fn swap(&self, name: &ObjectName, seen: &Version, bytes: Bytes) -> Result<Swapped, ObjectError> {
        fits(name, bytes.len())?;
        match &self.0 {
            Kind::Local(local) => local.swap(name, seen, bytes).await,
            Kind::S3(s3) => s3.swap(name, seen, bytes).await,
            Kind::Memory(memory) => memory.swap(name, seen, bytes),
        }
    }

    /// Reads an object; none when there is none. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError`] when it can't be read now.
    pub async fn read(&self, name: &ObjectName) -> Result<Option<Bytes>, ObjectError> {
        match &self.0 {
            Kind::Local(local) => local.read(name).await,
            Kind::S3(s3) => Ok(s3.look(name).await?.map(|(bytes, _)| bytes)),
            Kind::Memory(memory) => Ok(memory.look(name)?.map(|(bytes, _)| bytes)),
        }
    }

    /// Reads an object with what [`swap`](Self::swap) needs to know it again. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError`] when it can't be read now.
    pub async fn look(&self, name: &ObjectName) -> Result<Option<(Bytes, Version)>, ObjectError> {
        match &self.0 {
            Kind::Local(local) => local.look(name).await,
            Kind::S3(s3) => s3.look(name).await,
            Kind::Memory(memory) => memory.look(name),
        }
    }

    /// The objects below a prefix of whole segments (`keys` has `keys/a/b`, and not `keysmith`), in the order of their
    /// names as bytes: the first [`PAGE`] of them after the name given. Fewer only at the end. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError`] when they can't be listed now.
    pub async fn list(&self, prefix: &ObjectName, after: Option<&ObjectName>) -> Result<Vec<ObjectMeta>, ObjectError> {
        match &self.0 {
            Kind::Local(local) => local.list(prefix, after).await,
            Kind::S3(s3) => s3.list(prefix, after).await,
            Kind::Memory(memory) => memory.list(prefix, after),
        }
    }

    /// Deletes an object. That there is none is fine. Durable when it returns.
    ///
    /// # Errors
    /// [`ObjectError`]: it may have been deleted.
    pub async fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        match &self.0 {
            Kind::Local(local) => local.delete(name).await,
            Kind::S3(s3) => s3.delete(name).await,
            Kind::Memory(memory) => memory.delete(name),
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Local(local) => write!(f, "Objects({})", local.root().display()),
            Kind::S3(s3) => write!(f, "Objects({})", s3.place()),
            Kind::Memory(_) => f.write_str("Objects(memory)"),
        }
    }
}

fn error(name: impl fmt::Display, cause: impl fmt::Display) -> ObjectError {
    ObjectError { name: name.to_string(), cause: cause.to_string() }
}

fn fits(name: &ObjectName, size: usize) -> Result<(), ObjectError> {
    if size > MOST_BYTES {
        return Err(error(name, format_args!("{size} bytes are more than the {MOST_BYTES} of the largest object")));
    }
    Ok(())
}

/// Whether the name lies below the prefix.
fn is_below(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}
