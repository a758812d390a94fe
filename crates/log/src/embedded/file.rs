//! The SQLite file of the embedded log: its schema, and the only SQL there is.
//!
//! One table per partition, the offset its integer primary key. Every row carries a digest over all of it and its
//! place, so that a record is never handed out other than it was written: SQLite by itself does not notice a flipped
//! bit.
//!
//! Durability rests on these: `synchronous=FULL` in WAL mode syncs the WAL before a commit returns; the frame that
//! makes a transaction count is the last one written; and a file is opened only through [`open`], which first makes
//! durable whatever it finds ([`settle`]). What a process before us wrote and never synced may be read back from the
//! page cache; told to a fold as a fact, it must not vanish with the power.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use airut_domain::{
    keys::Digest,
    partition::{Partition, Position, Topic},
    record::Stored,
    time::Timestamp,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior, config::DbConfig, params};

use crate::{Bounds, Cause, LogId, OpenError, ReadError, size};

/// "AIRT": tells a log from any other SQLite file.
const APPLICATION: i64 = 0x4149_5254;
/// The number of the schema.
const FORMAT: i64 = 1;
/// The page cache of each connection.
const CACHE_KIB: i64 = 8 * 1024;
/// What a WAL that grew beyond it is cut back to once it is empty.
const WAL_LIMIT_BYTES: i64 = 64 * 1024 * 1024;
/// How many rows one transaction of a trim deletes: a few milliseconds.
pub(super) const TRIM_ROWS: u64 = 1000;

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The first offset that is there.
    pub(super) start: u64,
    /// One past the last.
    pub(super) end: u64,
    /// The greatest stamp given.
    pub(super) stamp: Timestamp,
}

pub(super) type Heads = BTreeMap<Partition, Head>;

/// The file, open for writing. There is one at a time.
pub(super) struct File {
    connection: Connection,
}

/// A file just opened.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) identity: LogId,
    pub(super) heads: Heads,
}

/// Why a transaction failed, and what that says about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// No room. Nothing was written, and the file is as good as before.
    Full(Cause),
    /// Nothing was written; the file must be opened anew before it is trusted with more.
    RolledBack(Cause),
    /// It failed where it may have come through; the file must be opened anew to know.
    Unknown(Cause),
}

/// Opens the log, or creates it with this identity, and makes durable what is there. `max_bytes` bounds the file
/// without its WAL.
pub(super) fn open(path: &Path, max_bytes: Option<u64>, identity: LogId) -> Result<Opened, OpenError> {
    let fault = |cause| OpenError::Storage { path: path.to_owned(), cause };
    create(path).and_then(|()| settle(&wal(path))).map_err(|error| fault(error.into()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| refusal(path, error))?;
    configure(&connection, max_bytes).map_err(|error| refusal(path, error))?;
    prepare(&mut connection, path, identity)?;
    let identity = read_identity(&connection).map_err(|error| refusal(path, error))?;
    let heads = read_heads(&connection).map_err(|error| refusal(path, error))?;
    Ok(Opened { file: File { connection }, identity, heads })
}

/// A log opened for reading only.
pub(super) struct OpenedReadOnly {
    pub(super) connection: Connection,
    pub(super) identity: LogId,
    pub(super) heads: Heads,
}

/// Opens the log without changing a byte of it. The caller sees to it that nobody writes to it.
pub(super) fn open_read_only(path: &Path) -> Result<OpenedReadOnly, OpenError> {
    let connection = reader(path).map_err(|error| refusal(path, error))?;
    if stage(&connection, path)? == Stage::New {
        return Err(OpenError::NotALog(path.to_owned()));
    }
    check_topics(&connection, path)?;
    let identity = read_identity(&connection).map_err(|error| refusal(path, error))?;
    let heads = read_heads(&connection).map_err(|error| refusal(path, error))?;
    Ok(OpenedReadOnly { connection, identity, heads })
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure_any(&connection)?;
    Ok(connection)
}

impl File {
    /// Writes the records in one transaction. They are durable when it returns.
    pub(super) fn commit(&mut self, records: &[Arc<Stored>]) -> Result<(), Failure> {
        self.transact(|transaction| records.iter().try_for_each(|record| insert(transaction, record)))
    }

    /// Drops the records before `to`, and keeps in mind where the partition starts and which stamp it had come to.
    pub(super) fn trim(&mut self, partition: Partition, to: u64, stamp: Timestamp) -> Result<(), Failure> {
        self.transact(|transaction| {
            let delete = format!("DELETE FROM {} WHERE position < ?", table(partition));
            transaction.prepare_cached(&delete)?.execute(params![integer(to)])?;
            transaction
                .prepare_cached("UPDATE partitions SET start = ?, stamp = ? WHERE topic = ? AND number = ?")?
                .execute(params![integer(to), stamp.as_millis(), partition.topic.name(), partition.number])?;
            Ok(())
        })
    }

    /// Moves what the WAL holds into the file, so that the WAL begins anew. An error leaves everything as it was.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// As [`checkpoint`](Self::checkpoint), and cuts the WAL to nothing. Waits for readers, up to SQLite's 5 s.
    pub(super) fn empty_wal(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// Records of the partition: see [`read`].
    pub(super) fn read(
        &self,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        read(&self.connection, partition, offsets, bounds)
    }

    fn transact(&mut self, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> Result<(), Failure> {
        let outcome = begin(&mut self.connection).map_err(|error| (Step::Statement, error)).and_then(|transaction| {
            write(&transaction).map_err(|error| (Step::Statement, error))?;
            transaction.commit().map_err(|error| (Step::Commit, error))
        });
        let Err((step, error)) = outcome else { return Ok(()) };
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        // Where the roll-back failed as well, the connection is of no more use.
        let usable = self.connection.is_autocommit();
        Err(match step {
            // Also at the commit, no room means that the frame which makes it count, being the last, was not written.
            // An fsync that finds no room comes as an I/O error instead.
            Step::Statement | Step::Commit if full && usable => Failure::Full(error.into()),
            Step::Statement => Failure::RolledBack(error.into()),
            Step::Commit => Failure::Unknown(error.into()),
        })
    }
}

enum Step {
    Statement,
    Commit,
}

/// Reads records of a partition, which must be one of the log's, in order and without a gap. At least one, and no more
/// than the bounds allow; a damaged one ends the batch before it, and is the error once it comes first. What is not
/// there because it was trimmed meanwhile is no damage: rows and start change in one transaction.
pub(super) fn read(
    connection: &Connection,
    partition: Partition,
    offsets: Range<u64>,
    bounds: Bounds,
) -> Result<Vec<Arc<Stored>>, ReadError> {
    let mut batch = Vec::new();
    match read_into(&mut batch, connection, partition, offsets, bounds) {
        Err(_) if !batch.is_empty() => Ok(batch),
        Err(ReadError::Damaged(at)) => match read_start(connection, partition) {
            Ok((start, _)) if start > at.offset => Err(ReadError::Trimmed { partition, start }),
            _ => Err(ReadError::Damaged(at)),
        },
        outcome => outcome.map(|()| batch),
    }
}

fn read_into(
    batch: &mut Vec<Arc<Stored>>,
    connection: &Connection,
    partition: Partition,
    offsets: Range<u64>,
    bounds: Bounds,
) -> Result<(), ReadError> {
    let sql = format!(
        "SELECT position, stamp, header, body, traceparent, digest FROM {} WHERE position >= ? AND position < ? \
         ORDER BY position LIMIT ?",
        table(partition)
    );
    let limit = i64::try_from(bounds.records).unwrap_or(i64::MAX);
    let mut expected = Position { partition, offset: offsets.start };
    let fault = |error: rusqlite::Error, at: Position| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReadError::Damaged(at),
        _ => ReadError::Unavailable(error.into()),
    };
    let mut statement = connection.prepare_cached(&sql).map_err(|error| fault(error, expected))?;
    let span = params![integer(offsets.start), integer(offsets.end), limit];
    let mut rows = statement.query(span).map_err(|error| fault(error, expected))?;
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(|error| fault(error, expected))? {
        let record = stored(row, expected).ok_or(ReadError::Damaged(expected))?;
        bytes += size(&record);
        if bytes > bounds.bytes && !batch.is_empty() {
            return Ok(());
        }
        batch.push(Arc::new(record));
        expected.offset += 1;
    }
    if batch.is_empty() && !offsets.is_empty() { Err(ReadError::Damaged(expected)) } else { Ok(()) }
}

/// The row as a record, if it is exactly what was written at that place.
fn stored(row: &Row<'_>, expected: Position) -> Option<Stored> {
    let offset: i64 = row.get_ref(0).ok()?.as_i64().ok()?;
    let record = Stored {
        position: Position { offset: u64::try_from(offset).ok()?, ..expected },
        stamp: Timestamp::from_millis(row.get_ref(1).ok()?.as_i64().ok()?),
        header: row.get_ref(2).ok()?.as_blob().ok()?.to_vec(),
        body: row.get_ref(3).ok()?.as_blob().ok()?.to_vec(),
        traceparent: row.get_ref(4).ok()?.as_str().ok()?.to_owned(),
    };
    let whole = row.get_ref(5).ok()?.as_i64().ok()? == digest(&record);
    (whole && record.position == expected).then_some(record)
}

fn insert(transaction: &Transaction<'_>, record: &Stored) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO {} (position, stamp, header, body, traceparent, digest) VALUES (?, ?, ?, ?, ?, ?)",
        table(record.position.partition)
    );
    transaction.prepare_cached(&sql)?.execute(params![
        integer(record.position.offset),
        record.stamp.as_millis(),
        record.header,
        record.body,
        record.traceparent,
        digest(record)
    ])?;
    Ok(())
}

/// Eight bytes of SHA-256 over everything in the row, and the partition that it is in.
fn digest(record: &Stored) -> i64 {
    let leaf = airut_domain::record::leaf_bytes(record.position, record.stamp, &record.header);
    let length = (leaf.len() as u64).to_be_bytes();
    let traceparent = (record.traceparent.len() as u64).to_be_bytes();
    let parts = [&length, leaf.as_slice(), &traceparent, record.traceparent.as_bytes(), &record.body];
    i64::from_be_bytes(*Digest::of_parts(&parts).0.first_chunk().expect("32 bytes"))
}

/// Creates an empty file that nobody else may read, and makes its name durable. One that is there is not even opened:
/// closing it again would drop the locks that SQLite has on it (POSIX locks belong to the process, not to the
/// descriptor).
fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes durable what the WAL holds, by writing every byte of it once more and syncing.
///
/// A sync alone would not do: after one that failed, the kernel takes the pages it could not write for clean, still
/// shows them to readers, and lets the next sync succeed. Writing in place is safe at every byte: what the disk has
/// already stays the same, and what it has not is covered by the checksums of SQLite's frames.
fn settle(wal: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(wal) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut chunk = vec![0; 256 * 1024];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&chunk[..read], at)?;
        at += read as u64;
    }
}

fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn configure_any(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Damage is to be noticed when a page is read, not guessed around.
    connection.pragma_update(None, "cell_size_check", true)
}

fn configure(connection: &Connection, max_bytes: Option<u64>) -> rusqlite::Result<()> {
    configure_any(connection)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer checkpoints when nobody waits for it; SQLite would do it before a commit returns.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES)?;
    if let Some(max_bytes) = max_bytes {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = integer(max_bytes) / page;
        connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?;
    }
    Ok(())
}

/// Brings the schema up in one transaction: a new file's all of it, and in an older one the topics that are new since.
/// It always writes, and so settles what came before: frames that a failed commit left behind are by now either part of
/// the file or overwritten, and can't come to light later.
fn prepare(connection: &mut Connection, path: &Path, identity: LogId) -> Result<(), OpenError> {
    let transaction = begin(connection).map_err(|error| refusal(path, error))?;
    if stage(&transaction, path)? == Stage::New {
        create_schema(&transaction, identity).map_err(|error| refusal(path, error))?;
    }
    let missing = check_topics(&transaction, path)?;
    missing
        .into_iter()
        .try_for_each(|topic| create_topic(&transaction, topic))
        .and_then(|()| transaction.execute("UPDATE meta SET opened = opened + 1", []))
        .and_then(|_| transaction.commit())
        .map_err(|error| refusal(path, error))
}

#[derive(PartialEq, Eq)]
enum Stage {
    New,
    Made,
}

fn stage(connection: &Connection, path: &Path) -> Result<Stage, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let read = || Ok((pragma("application_id")?, pragma("user_version")?, tables?));
    match read().map_err(|error| refusal(path, error))? {
        (0, 0, 0) => Ok(Stage::New),
        (APPLICATION, FORMAT, _) => Ok(Stage::Made),
        (APPLICATION, found, _) => Err(OpenError::Format { path: path.to_owned(), found, known: FORMAT }),
        _ => Err(OpenError::NotALog(path.to_owned())),
    }
}

/// The topics that the log does not have yet; those it has must have this build's number of partitions.
fn check_topics(connection: &Connection, path: &Path) -> Result<Vec<Topic>, OpenError> {
    let mut counts = read_counts(connection).map_err(|error| refusal(path, error))?;
    let mut missing = Vec::new();
    for topic in Topic::ALL {
        let expected = topic.partitions();
        match counts.remove(topic.name()) {
            None => missing.push(topic),
            Some(found) if found == expected => {}
            Some(found) => return Err(OpenError::Partitions { topic, found, expected }),
        }
    }
    match counts.into_keys().next() {
        None => Ok(missing),
        Some(unknown) => Err(OpenError::UnknownTopic(unknown)),
    }
}

fn read_counts(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u32>> {
    let mut statement = connection.prepare("SELECT topic, count(*) FROM partitions GROUP BY topic")?;
    let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    counts.collect()
}

fn create_schema(transaction: &Transaction<'_>, identity: LogId) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute_batch(
        "CREATE TABLE meta (identity BLOB NOT NULL, opened INTEGER NOT NULL) STRICT;
         CREATE TABLE partitions (
             topic TEXT NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL, stamp INTEGER NOT NULL,
             PRIMARY KEY (topic, number)
         ) STRICT;",
    )?;
    transaction.execute("INSERT INTO meta (identity, opened) VALUES (?, 0)", params![identity.0])?;
    Ok(())
}

fn create_topic(transaction: &Transaction<'_>, topic: Topic) -> rusqlite::Result<()> {
    for partition in Partition::all().filter(|partition| partition.topic == topic) {
        transaction.execute(
            "INSERT INTO partitions (topic, number, start, stamp) VALUES (?, ?, 0, ?)",
            params![topic.name(), partition.number, i64::MIN],
        )?;
        transaction.execute_batch(&format!(
            "CREATE TABLE {} (
                 position INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, header BLOB NOT NULL, body BLOB NOT NULL,
                 traceparent TEXT NOT NULL, digest INTEGER NOT NULL
             ) STRICT;",
            table(partition)
        ))?;
    }
    Ok(())
}

fn read_identity(connection: &Connection) -> rusqlite::Result<LogId> {
    connection.query_row("SELECT identity FROM meta", [], |row| row.get(0).map(LogId))
}

fn read_heads(connection: &Connection) -> rusqlite::Result<Heads> {
    let mut heads = Heads::new();
    for partition in Partition::all() {
        heads.insert(partition, read_head(connection, partition)?);
    }
    Ok(heads)
}

/// Offsets never restart: in an empty partition the next one is where the last trim ended.
fn read_head(connection: &Connection, partition: Partition) -> rusqlite::Result<Head> {
    let (start, floor) = read_start(connection, partition)?;
    let last = format!("SELECT position, stamp FROM {} ORDER BY position DESC LIMIT 1", table(partition));
    let mut statement = connection.prepare(&last)?;
    let mut rows = statement.query([])?;
    let (end, stamp) = match rows.next()? {
        Some(row) => (offset(row.get(0)?).saturating_add(1), Timestamp::from_millis(row.get(1)?)),
        None => (start, floor),
    };
    Ok(Head { start, end, stamp: stamp.max(floor) })
}

/// Where the partition starts, and the stamp it had come to when it was trimmed to there.
fn read_start(connection: &Connection, partition: Partition) -> rusqlite::Result<(u64, Timestamp)> {
    connection
        .prepare_cached("SELECT start, stamp FROM partitions WHERE topic = ? AND number = ?")?
        .query_row(params![partition.topic.name(), partition.number], |row| {
            Ok((offset(row.get(0)?), Timestamp::from_millis(row.get(1)?)))
        })
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn table(partition: Partition) -> String {
    format!("\"{partition}\"")
}

fn integer(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn offset(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}

fn refusal(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotALog(path.to_owned()),
        _ => OpenError::Storage { path: path.to_owned(), cause: error.into() },
    }
}
