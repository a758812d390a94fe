//! Objects as files in a directory of this machine, which any number of its processes may share.
//!
//! A file is written beside its place, synced, and only then linked or renamed there; then its directory is synced. So a
//! crash leaves the old object or the new one, and what an operation said stays true. Nobody but the owner may read
//! files (0600) and directories (0700).
//!
//! object_store's own local directory is not used: it can't set modes, and says that an object is there before the one
//! who made it has synced it. Whoever sealed something with a key that it read there could lose the key in a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use airut_domain::keys::Digest;
use bytes::Bytes;

use super::{BOUND, Created, MOST_BYTES, ObjectError, ObjectMeta, OpenError, PAGE, Swapped, Version, error, is_below};
use crate::ObjectName;

/// Where files are written before they get their name. No object's name begins with a dot.
const STAGING: &str = ".staging";

/// Held while an object is replaced, swapped or deleted, so that of two processes one sees what the other did.
const LOCK: &str = ".lock";

/// What a crash left in the staging directory is removed after this: no write takes so long.
const DEBRIS_AFTER: Duration = Duration::from_secs(60 * 60);

/// So often an object is made when its directory was removed meanwhile.
const TRIES: usize = 4;

/// As many directories are remembered as synced; then they are synced again.
const REMEMBERED: usize = 10_000;

/// A local directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSettings {
    /// The directory, which must be there.
    pub directory: PathBuf,
}

pub(super) struct Local {
    directory: Arc<Directory>,
}

struct Directory {
    root: PathBuf,
    lock: PathBuf,
    staged: AtomicU64,
    /// Directories whose own entry was seen to be durable.
    synced: Mutex<BTreeSet<PathBuf>>,
}

impl Local {
    pub(super) fn open(settings: &LocalSettings) -> Result<Self, OpenError> {
        let root = settings.directory.clone();
        let fault = |path: &Path, cause: io::Error| OpenError::File { path: path.to_owned(), cause: cause.to_string() };
        let kind = fs::metadata(&root).map_err(|cause| fault(&root, cause))?;
        if !kind.is_dir() {
            return Err(fault(&root, io::ErrorKind::NotADirectory.into()));
        }
        if kind.permissions().mode() & 0o077 != 0 {
            let cause = "nobody but its owner may come in (chmod 700)".to_owned();
            return Err(OpenError::File { path: root, cause });
        }
        let staging = root.join(STAGING);
        make_directory(&staging).map_err(|cause| fault(&staging, cause))?;
        remove_debris(&staging).map_err(|cause| fault(&staging, cause))?;
        let lock = root.join(LOCK);
        open_lock(&lock).map_err(|cause| fault(&lock, cause))?;
        let directory = Directory { root, lock, staged: AtomicU64::new(0), synced: Mutex::default() };
        Ok(Self { directory: Arc::new(directory) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.directory.root
    }

    pub(super) async fn create(&self, name: &ObjectName, bytes: Bytes) -> Result<Created, ObjectError> {
        self.run(name, move |directory, path| directory.create(path, &bytes)).await
    }

    pub(super) async fn replace(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        self.run(name, move |directory, path| {
            let _lock = directory.locked()?;
            directory.put(path, &bytes)
        })
        .await
    }

    pub(super) async fn swap(&self, name: &ObjectName, seen: &Version, bytes: Bytes) -> Result<Swapped, ObjectError> {
        let seen = seen.clone();
        self.run(name, move |directory, path| {
            let _lock = directory.locked()?;
            if read(path)?.is_none_or(|there| version(&there) != seen) {
                return Ok(Swapped::Changed);
            }
            directory.put(path, &bytes)?;
            Ok(Swapped::Done)
        })
        .await
    }

    /// As [`look`](Self::look), without the digest that a swap needs.
    pub(super) async fn read(&self, name: &ObjectName) -> Result<Option<Bytes>, ObjectError> {
        self.run(name, |directory, path| {
            let found = read(path)?;
            if found.is_none() {
                directory.is_there()?;
            }
            Ok(found.map(Bytes::from))
        })
        .await
    }

    pub(super) async fn look(&self, name: &ObjectName) -> Result<Option<(Bytes, Version)>, ObjectError> {
        self.run(name, |directory, path| {
            let found = read(path)?;
            if found.is_none() {
                directory.is_there()?;
            }
            Ok(found.map(|bytes| (version(&bytes), bytes)).map(|(version, bytes)| (Bytes::from(bytes), version)))
        })
        .await
    }

    pub(super) async fn list(
        &self,
        prefix: &ObjectName,
        after: Option<&ObjectName>,
    ) -> Result<Vec<ObjectMeta>, ObjectError> {
        let (below, after) = (prefix.as_str().to_owned(), after.cloned());
        let page = self.run(prefix, move |directory, path| {
            directory.is_there()?;
            let mut page = Page { after: after.as_ref().map(ObjectName::as_str), found: BTreeMap::new() };
            page.walk(path, &below)?;
            Ok(page.found.into_iter().collect::<Vec<_>>())
        });
        let named = page.await?.into_iter().filter_map(|(name, size_bytes)| {
            let name = name.parse().ok()?;
            Some(ObjectMeta { name, size_bytes })
        });
        Ok(named.filter(|object| is_below(prefix.as_str(), object.name.as_str())).collect())
    }

    pub(super) async fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        self.run(name, |directory, path| {
            let _lock = directory.locked()?;
            match fs::remove_file(path) {
                Ok(()) => {
                    sync_parent(path)?;
                    directory.remove_parent(path);
                    Ok(())
                }
                Err(cause) if is_absent(&cause) => directory.is_there(),
                Err(cause) => Err(cause),
            }
        })
        .await
    }

    /// Runs what may wait for the disk on a thread of its own. What takes too long goes on there, and is not waited for.
    async fn run<T: Send + 'static>(
        &self,
        name: &ObjectName,
        work: impl FnOnce(&Directory, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let directory = Arc::clone(&self.directory);
        let path = directory.root.join(name.as_str());
        let done = tokio::task::spawn_blocking(move || work(&directory, &path));
        match tokio::time::timeout(BOUND, done).await {
            Ok(Ok(result)) => result.map_err(|cause| error(name, cause)),
            Ok(Err(_)) => Err(error(name, "the process is ending")),
            Err(_) => Err(error(name, format_args!("not within {BOUND:?}"))),
        }
    }
}

impl Directory {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Created> {
        self.with_parents(path, || self.create_there(path, bytes))
    }

    fn create_there(&self, path: &Path, bytes: &[u8]) -> io::Result<Created> {
        if let Some(there) = sync_what_is_there(path)? {
            return Ok(there);
        }
        let staged = self.stage(bytes)?;
        let linked = fs::hard_link(&staged, path);
        let removed = fs::remove_file(&staged);
        match linked {
            Ok(()) => {
                removed?;
                sync_parent(path)?;
                Ok(Created::Made)
            }
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                sync_what_is_there(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Err(cause) => Err(cause),
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.with_parents(path, || self.put_there(path, bytes))
    }

    fn put_there(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let staged = self.stage(bytes)?;
        if let Err(cause) = fs::rename(&staged, path) {
            drop(fs::remove_file(&staged));
            return Err(cause);
        }
        sync_parent(path)
    }

    /// Makes the directories that the object lies in, and the object in them: again, if somebody has removed one that was empty meanwhile.
    fn with_parents<T>(&self, path: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        for _ in 1..TRIES {
            self.make_parents(path)?;
            match make() {
                Err(cause) if is_absent(&cause) => {}
                made => return made,
            }
        }
        self.make_parents(path)?;
        make()
    }

    /// Removes the directory that a deleted object lay in, if it was the last one. Whoever makes one there meanwhile makes the directory again.
    fn remove_parent(&self, path: &Path) {
        if let Some(parent) = path.parent().filter(|parent| *parent != self.root) {
            drop(fs::remove_dir(parent));
        }
    }

    /// Writes a file, synced, that has no object's name yet.
    fn stage(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = self.root.join(STAGING).join(format!("{}-{since}-{number}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(cause) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            drop(fs::remove_file(&path));
            return Err(cause);
        }
        Ok(path)
    }

    /// Makes the directories that the object lies in, and sees to it that they are durable. The root is not made: when it
    /// is gone, so are the objects.
    fn make_parents(&self, path: &Path) -> io::Result<()> {
        let below = path.strip_prefix(&self.root).ok().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut at = self.root.clone();
        for segment in below {
            at.push(segment);
            if self.synced.lock().unwrap_or_else(PoisonError::into_inner).contains(&at) && at.is_dir() {
                continue;
            }
            make_directory(&at)?;
            let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            if synced.len() >= REMEMBERED {
                synced.clear();
            }
            synced.insert(at.clone());
        }
        Ok(())
    }

    /// An object that is not found is missing only where the store is.
    fn is_there(&self) -> io::Result<()> {
        fs::metadata(self.root.join(STAGING)).map(drop)
    }

    /// Waits for other processes, and threads of this one, that change objects.
    fn locked(&self) -> io::Result<File> {
        let file = open_lock(&self.lock)?;
        file.lock()?;
        Ok(file)
    }
}

/// The first names after one, as many as a page takes.
struct Page<'a> {
    after: Option<&'a str>,
    found: BTreeMap<String, u64>,
}

impl Page<'_> {
    fn walk(&mut self, directory: &Path, name: &str) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Err(cause) if is_absent(&cause) || cause.kind() == io::ErrorKind::NotADirectory => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(segment) = entry.file_name().into_string() else { continue };
            let name = format!("{name}/{segment}");
            // Deleted meanwhile.
            let Ok(kind) = entry.metadata() else { continue };
            if kind.is_dir() {
                if self.may_have(&format!("{name}/")) {
                    self.walk(&entry.path(), &name)?;
                }
            } else if self.after.is_none_or(|after| name.as_str() > after) {
                self.found.insert(name, kind.len());
                if self.found.len() > PAGE {
                    self.found.pop_last();
                }
            }
        }
        Ok(())
    }

    /// Whether a name that begins so may be on the page.
    fn may_have(&self, start: &str) -> bool {
        let before = self.after.is_some_and(|after| after > start && !after.starts_with(start));
        let full = self.found.len() >= PAGE;
        let behind = full && self.found.last_key_value().is_some_and(|(last, _)| last.as_str() < start);
        !before && !behind
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(cause),
        // Another process may have made it and not have synced it yet.
        Ok(()) | Err(_) => sync_parent(path),
    }
}

fn remove_debris(staging: &Path) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        let entry = entry?;
        let age = entry.metadata().and_then(|file| file.modified()).map(|at| at.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > DEBRIS_AFTER) {
            match fs::remove_file(entry.path()) {
                Err(cause) if !is_absent(&cause) => return Err(cause),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Another process may have linked the file a moment ago: that it is there is told only once it will stay.
fn sync_what_is_there(path: &Path) -> io::Result<Option<Created>> {
    match File::open(path) {
        Ok(file) => {
            file.sync_all()?;
            sync_parent(path)?;
            Ok(Some(Created::There))
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(cause) if is_absent(&cause) => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0).min(MOST_BYTES) + 1);
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}

fn is_absent(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::NotFound
}

fn version(bytes: &[u8]) -> Version {
    Version(Digest::of(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Objects, Settings};

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    #[tokio::test]
    async fn nobody_but_the_owner_may_read_files_and_directories() {
        let directory = directory();
        let objects = Objects::open(&Settings::local(directory.path())).unwrap();
        objects.create(&"a/b/c".parse().unwrap(), Bytes::from_static(b"x")).await.unwrap();
        objects.replace(&"a/b/d".parse().unwrap(), Bytes::from_static(b"x")).await.unwrap();
        let mode = |path: &str| fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("a"), mode("a/b"), mode(STAGING)], [0o700; 3]);
        assert_eq!([mode("a/b/c"), mode("a/b/d"), mode(LOCK)], [0o600; 3]);
        assert_eq!(fs::read_dir(directory.path().join(STAGING)).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn a_directory_goes_with_its_last_object_and_is_made_again() {
        let directory = directory();
        let objects = Objects::open(&Settings::local(directory.path())).unwrap();
        let [one, two]: [ObjectName; 2] = ["a/b/one", "a/b/two"].map(|name| name.parse().unwrap());
        for _ in 0..2 {
            objects.create(&one, Bytes::from_static(b"x")).await.unwrap();
            objects.replace(&two, Bytes::from_static(b"x")).await.unwrap();
            objects.delete(&one).await.unwrap();
            assert!(directory.path().join("a/b").exists());
            objects.delete(&two).await.unwrap();
            assert!(!directory.path().join("a/b").exists());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_makes_an_object_while_another_deletes_the_last_one_beside_is_not_disturbed() {
        let directory = directory();
        let objects = Objects::open(&Settings::local(directory.path())).unwrap();
        let work = |number: usize| {
            let objects = objects.clone();
            tokio::spawn(async move {
                let name: ObjectName = format!("a/{number}").parse().unwrap();
                for _ in 0..50 {
                    assert_eq!(objects.create(&name, Bytes::from_static(b"x")).await.unwrap(), crate::Created::Made);
                    objects.delete(&name).await.unwrap();
                }
            })
        };
        for task in [work(1), work(2), work(3)] {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_an_error_and_not_begun_anew() {
        let parent = directory();
        let path = parent.path().join("store");
        assert!(matches!(Objects::open(&Settings::local(&path)), Err(OpenError::File { .. })));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        let objects = Objects::open(&Settings::local(&path)).unwrap();
        let name: ObjectName = "a/b".parse().unwrap();
        objects.create(&name, Bytes::from_static(b"x")).await.unwrap();
        fs::rename(&path, parent.path().join("away")).unwrap();
        let other: ObjectName = "a/c".parse().unwrap();
        assert!(objects.create(&other, Bytes::new()).await.is_err());
        assert!(objects.read(&name).await.is_err(), "missing is told from unreachable");
        assert!(objects.list(&"a".parse().unwrap(), None).await.is_err());
        assert!(objects.delete(&name).await.is_err());
        assert!(!path.exists());
        fs::rename(parent.path().join("away"), &path).unwrap();
        assert_eq!(objects.read(&name).await.unwrap().unwrap(), Bytes::from_static(b"x"));
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let directory = directory();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let refused = Objects::open(&Settings::local(directory.path())).unwrap_err();
        assert!(refused.to_string().contains("chmod 700"), "{refused}");
    }

    #[test]
    fn what_a_crash_left_is_removed_once_it_is_old() {
        let directory = directory();
        let staging = directory.path().join(STAGING);
        fs::create_dir(&staging).unwrap();
        for (name, age) in [("old", DEBRIS_AFTER * 2), ("new", Duration::ZERO)] {
            let file = File::create(staging.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        Objects::open(&Settings::local(directory.path())).unwrap();
        assert!(!staging.join("old").exists() && staging.join("new").exists());
    }
}
