//! Where the fold's state lies: in memory, or in a SQLite file with its positions in the same transaction.
//!
//! The file is written behind, in batches: what came and went within a batch is written once. It is only a shortcut to the
//! log, so it is not synced; a file that was lost or is older than the log is caught up from the log.
//!
//! Open queries lie in one table, and whoever looks for a query knows whether it is open. Ended ones lie in a table per day on which they may be forgotten, which is dropped whole. Most
//! ids are new, so each day's keys have fingerprints in memory, and a day is searched only where they say that it may be worth it.
//! Batches of messages lie beside them: see [`batches`](super::batches); documents and information requests too: see
//! [`entities`](super::entities).

use std::{collections::BTreeMap, path::Path, sync::Arc};

use airut_domain::{
    mailbox::Batch,
    partition::{Partition, Topic},
    query::{Phase, Query, QueryKey},
};
use airut_log::LogId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::{
    batches::{self, BatchKey, BatchRows, Row},
    entities::{self, Entity, Layers, Overlay},
    fingerprints::Fingerprints,
    kept::Kept,
    state::{Cursor, Open, Small, encode},
};

/// Changed rows, by key, with the partition they lie in.
type Rows = BTreeMap<QueryKey, (Partition, Query)>;

/// As many changed rows may wait to be written; beyond that the fold waits for the writing, and gives up if that fails.
const MOST_CHANGED: usize = 200_000;

/// How this build writes the file. A file written in another way is not read.
const FORMAT: [u8; 1] = [5];

const OPEN: &str = "query_open";
const DAY: &str = "query_day_";
const COLUMNS: &str = "(key BLOB PRIMARY KEY, partition INTEGER NOT NULL, value BLOB NOT NULL)";

/// The fold's file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite.
    #[error("the fold's file can not be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that is not what this build writes.
    #[error("the fold's file holds a row that can not be read; delete the file, it is rebuilt from the log")]
    Row,
    /// The file belongs to another log.
    #[error("the fold's file belongs to another log; delete it, it is rebuilt from the log")]
    OtherLog,
    /// The file was written by a build that writes it in another way.
    #[error("the fold's file was written by another build; delete it, it is rebuilt from the log")]
    Format,
    /// The writing task is gone.
    #[error("the fold's file could not be written: the writer stopped")]
    Writer,
}

/// The rows of the queries, and the small state.
#[derive(Debug)]
pub(crate) enum Store {
    /// All in memory: for the simulation.
    Memory(Changed),
    /// In a file.
    File(Box<File>),
}

/// A SQLite file, and what is not in it yet.
#[derive(Debug)]
pub(crate) struct File {
    reader: Connection,
    /// The tables of the queries, in the order in which they are searched.
    tables: Vec<String>,
    /// The keys of each day's table, those being written included.
    seen: BTreeMap<String, Fingerprints>,
    changed: Changed,
    /// Being written; `flush` moves `changed` here.
    writing: Arc<Changed>,
    writer: Writer,
    /// How far the file was last written.
    written: Cursor,
}

/// Where to look for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    /// It is open: what lies elsewhere is an earlier life of it.
    Open,
    /// It has ended, or there is none. Most are new: the table of the open ones, which has no fingerprints, would be searched
    /// in vain. A row that is still there has a later one that waits to be written.
    Ended,
}

/// Rows that have changed since they were written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    queries: Rows,
    batches: BatchRows,
    entities: Overlay,
}

impl Changed {
    fn len(&self) -> usize {
        self.queries.len() + self.batches.len() + self.entities.len()
    }
}

#[derive(Debug)]
enum Writer {
    Idle(Connection),
    Busy(JoinHandle<Written>),
    Gone,
}

/// What a writing gives back: the connection, and whether it worked.
pub(crate) type Written = (Connection, Result<(), StoreError>);

impl Store {
    /// All in memory.
    pub(crate) fn memory() -> Self {
        Self::Memory(Changed::default())
    }

    /// Opens or creates the file of this log.
    pub(crate) fn file(path: &Path, log: LogId) -> Result<Self, StoreError> {
        let writer = connect(path)?;
        writer.execute_batch(
            "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value BLOB NOT NULL);
             CREATE TABLE IF NOT EXISTS message_live (key INTEGER PRIMARY KEY, value BLOB NOT NULL);
             CREATE TABLE IF NOT EXISTS query_open (key BLOB PRIMARY KEY, partition INTEGER NOT NULL, value BLOB NOT NULL);",
        )?;
        writer.execute_batch(entities::TABLES)?;
        match get_state(&writer, "log")? {
            Some(known) if known != log.0 => return Err(StoreError::OtherLog),
            Some(_) if get_state(&writer, "format")?.is_none_or(|format| format != FORMAT) => {
                return Err(StoreError::Format);
            }
            Some(_) => {}
            None => {
                put_state(&writer, "format", &FORMAT)?;
                put_state(&writer, "log", &log.0)?;
            }
        }
        let reader = connect(path)?;
        let tables = tables(&reader)?;
        let mut seen = BTreeMap::new();
        for day in tables.iter().filter(|table| table.starts_with(DAY)) {
            seen.insert(day.clone(), fingerprints(&reader, day)?);
        }
        let file = File {
            reader,
            tables,
            seen,
            changed: Changed::default(),
            writing: Arc::default(),
            writer: Writer::Idle(writer),
            written: Cursor::default(),
        };
        Ok(Self::File(Box::new(file)))
    }

    /// All but the rows; that of an empty log when there is nothing.
    pub(super) fn load(&self) -> Result<(Cursor, Small, Kept), StoreError> {
        let Self::File(file) = self else { return Ok(Default::default()) };
        get_state(&file.reader, "state")?.map_or_else(|| Ok(Default::default()), |state| decode(&state))
    }

    /// The open queries, as far as they are in the file: for the start.
    pub(super) fn open_queries(&self) -> Result<BTreeMap<QueryKey, Open>, StoreError> {
        let mut open = BTreeMap::new();
        let rows = match self {
            Self::Memory(rows) => rows.queries.clone(),
            Self::File(file) => file.read_table(OPEN)?,
        };
        for (key, (_, query)) in rows {
            if let Phase::Open { deadline, .. } = query.phase {
                open.insert(key, Open { asked: query.asked, deadline });
            }
        }
        Ok(open)
    }

    /// The row of a query.
    pub(super) fn query(&self, key: &QueryKey, among: Among) -> Result<Option<Query>, StoreError> {
        match self {
            Self::Memory(rows) => Ok(rows.queries.get(key).map(|(_, query)| query.clone())),
            Self::File(file) => {
                if let Some((_, query)) = file.changed.queries.get(key).or_else(|| file.writing.queries.get(key)) {
                    return Ok(Some(query.clone()));
                }
                file.read(key, among)
            }
        }
    }

    /// Sets the row of a query.
    pub(super) fn put(&mut self, partition: Partition, key: QueryKey, query: Query) {
        let rows = match self {
            Self::Memory(rows) => rows,
            Self::File(file) => &mut file.changed,
        };
        rows.queries.insert(key, (partition, query));
    }

    /// The documents and the information requests, for reading.
    pub(super) fn entities(&self) -> Layers<'_> {
        match self {
            Self::Memory(rows) => Layers { changed: &rows.entities, writing: None, file: None },
            Self::File(file) => Layers {
                changed: &file.changed.entities,
                writing: Some(&file.writing.entities),
                file: Some(&file.reader),
            },
        }
    }

    /// Sets the row of one of them.
    pub(super) fn put_entity<T: Entity>(&mut self, key: &T::Key, prior: Option<&T>, next: &T) {
        let rows = match self {
            Self::Memory(rows) => rows,
            Self::File(file) => &mut file.changed,
        };
        rows.entities.put(key, prior, next);
    }

    /// What becomes of a batch's row.
    pub(super) fn put_batch(&mut self, key: BatchKey, row: Row) {
        match self {
            Self::File(file) => drop(file.changed.batches.insert(key, row)),
            Self::Memory(rows) => match row {
                // They are in memory already.
                Row::Live(_) => {}
                Row::Finished(_) => drop(rows.batches.insert(key, row)),
                Row::Gone => drop(rows.batches.remove(&key)),
            },
        }
    }

    /// A finished batch that may be forgotten on that day.
    pub(super) fn finished_batch(&self, key: BatchKey, day: i64) -> Result<Option<Arc<Batch>>, StoreError> {
        let row = match self {
            Self::Memory(rows) => rows.batches.get(&key),
            Self::File(file) => file.changed.batches.get(&key).or_else(|| file.writing.batches.get(&key)),
        };
        match (row, self) {
            (Some(Row::Finished(batch)), _) => Ok(Some(Arc::clone(batch))),
            (Some(Row::Live(_) | Row::Gone), _) | (None, Self::Memory(_)) => Ok(None),
            (None, Self::File(file)) => match batches::read(&file.reader, day, key) {
                Ok(batch) => Ok(batch.map(Arc::new)),
                // The table is dropped as soon as all that is in it may be forgotten.
                Err(_) if !batches::days(&file.reader)?.contains(&batches::table(day)) => Ok(None),
                Err(cause) => Err(cause),
            },
        }
    }

    /// A finished batch, whenever it may be forgotten. To be asked for rarely: it may look into every day.
    pub(super) fn finished_at(&self, key: BatchKey) -> Result<Option<Arc<Batch>>, StoreError> {
        let days = match self {
            Self::Memory(_) => vec![0],
            Self::File(file) => {
                batches::days(&file.reader)?.iter().filter_map(|table| batches::day_from(table)).collect()
            }
        };
        // What is in no file yet is found whatever the day.
        for day in days.into_iter().chain([0]) {
            if let Some(batch) = self.finished_batch(key, day)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The batches that are not finished, as far as they are in the file: for the start.
    pub(super) fn live_batches(&self, each: impl FnMut(BatchKey, Batch)) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => batches::for_each(&file.reader, batches::LIVE, each),
        }
    }

    /// Every finished batch, those in the file first.
    pub(super) fn finished_batches(&self, mut each: impl FnMut(BatchKey, &Batch)) -> Result<(), StoreError> {
        let mut recent: BTreeMap<BatchKey, Arc<Batch>> = BTreeMap::new();
        let mut take = |rows: &BatchRows| {
            for (key, row) in rows {
                if let Row::Finished(batch) = row {
                    recent.insert(*key, Arc::clone(batch));
                }
            }
        };
        match self {
            Self::Memory(rows) => take(&rows.batches),
            Self::File(file) => {
                take(&file.writing.batches);
                take(&file.changed.batches);
                for table in batches::days(&file.reader)? {
                    batches::for_each(&file.reader, &table, |key, batch| {
                        if !recent.contains_key(&key) {
                            each(key, &batch);
                        }
                    })?;
                }
            }
        }
        recent.iter().for_each(|(key, batch)| each(*key, batch));
        Ok(())
    }

    /// Every row of a query, by key.
    pub(super) fn for_each(&self, mut each: impl FnMut(Partition, &QueryKey, &Query)) -> Result<(), StoreError> {
        let rows = match self {
            Self::Memory(rows) => rows.queries.clone(),
            Self::File(file) => {
                let mut rows = file.read_all()?;
                rows.extend(
                    file.writing
                        .queries
                        .iter()
                        .chain(&file.changed.queries)
                        .map(|(key, row)| (key.clone(), row.clone())),
                );
                rows
            }
        };
        rows.iter().for_each(|(key, (partition, query))| each(*partition, key, query));
        Ok(())
    }

    /// Writes the file up to this point of the log, unless the last writing is still going on. Never blocks.
    pub(crate) fn flush(&mut self, cursor: &Cursor, small: &Small, kept: &Kept) {
        let Self::File(file) = self else { return };
        let Writer::Idle(_) = file.writer else { return };
        if file.written == *cursor {
            return;
        }
        file.written.clone_from(cursor);
        let Writer::Idle(mut writer) = std::mem::replace(&mut file.writer, Writer::Gone) else { return };
        file.writing = Arc::new(std::mem::take(&mut file.changed));
        for (key, (_, query)) in &file.writing.queries {
            if let Some(day) = day_of(query) {
                file.seen.entry(day).or_default().insert(&key_bytes(key));
            }
        }
        // They are gone as soon as the writing is done, and all that is in them is forgotten already.
        file.tables.retain(|table| !is_forgotten(table, cursor));
        file.seen.retain(|table, _| !is_forgotten(table, cursor));
        let rows = Arc::clone(&file.writing);
        let (state, cursor) = (encode(&(cursor, small, kept)), cursor.clone());
        let write = move || {
            let written = write(&mut writer, &rows, &cursor, &state);
            (writer, written)
        };
        file.writer = Writer::Busy(tokio::task::spawn_blocking(write));
    }

    /// Whether a writing may begin.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::File(file) => matches!(file.writer, Writer::Idle(_)),
        }
    }

    /// Whether a writing has to be waited for: it has ended, or too much is waiting behind it.
    pub(crate) fn must_settle(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::File(file) => match &file.writer {
                Writer::Busy(writing) => writing.is_finished() || file.changed.len() >= MOST_CHANGED,
                Writer::Idle(_) | Writer::Gone => false,
            },
        }
    }

    /// Takes the writing that is under way, to be awaited outside of any lock and given back to [`Self::settled`].
    pub(crate) fn take_writing(&mut self) -> Option<JoinHandle<Written>> {
        let Self::File(file) = self else { return None };
        match std::mem::replace(&mut file.writer, Writer::Gone) {
            Writer::Busy(writing) => Some(writing),
            idle @ (Writer::Idle(_) | Writer::Gone) => {
                file.writer = idle;
                None
            }
        }
    }

    /// Gives back the writer after its writing was awaited. What could not be written, because the disk is full perhaps, is
    /// written with the next batch.
    ///
    /// # Errors
    /// When too much waits to be written.
    pub(crate) fn settled(&mut self, (writer, written): Written) -> Result<(), StoreError> {
        let Self::File(file) = self else { return Ok(()) };
        file.writer = Writer::Idle(writer);
        let rows = std::mem::take(&mut file.writing);
        match written {
            Ok(()) => file.tables = tables(&file.reader)?,
            Err(cause) => {
                tracing::warn!(%cause, "the fold's file is not written; trying again");
                file.written = Cursor::default();
                let Changed { queries, batches, entities } = Arc::unwrap_or_clone(rows);
                for (key, row) in queries {
                    file.changed.queries.entry(key).or_insert(row);
                }
                for (key, row) in batches {
                    file.changed.batches.entry(key).or_insert(row);
                }
                file.changed.entities.put_beneath(entities);
                if file.changed.len() >= MOST_CHANGED {
                    return Err(cause);
                }
            }
        }
        Ok(())
    }
}

impl File {
    fn read(&self, key: &QueryKey, among: Among) -> Result<Option<Query>, StoreError> {
        let key = key_bytes(key);
        let tables = self.tables.iter().filter(|table| match among {
            Among::Open => *table == OPEN,
            Among::Ended => *table != OPEN,
        });
        for table in tables {
            if self.seen.get(table).is_some_and(|seen| !seen.may_hold(&key)) {
                continue;
            }
            let mut select = self.reader.prepare_cached(&format!("SELECT value FROM {table} WHERE key = ?1"))?;
            let value: Option<Vec<u8>> = select.query_row([&key], |row| row.get(0)).optional()?;
            if let Some(value) = value {
                return decode(&value).map(Some);
            }
        }
        Ok(None)
    }

    fn read_all(&self) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        // The oldest first, so that a later row of the same query takes its place.
        for table in self.tables.iter().rev() {
            rows.extend(self.read_table(table)?);
        }
        Ok(rows)
    }

    fn read_table(&self, table: &str) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        let mut select = self.reader.prepare(&format!("SELECT key, partition, value FROM {table}"))?;
        let mut found = select.query([])?;
        while let Some(row) = found.next()? {
            let (key, number, value): (Vec<u8>, u32, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            rows.insert(key_from(&key)?, (Partition { topic: Topic::Queries, number }, decode(&value)?));
        }
        Ok(rows)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    // No sync: the log is what counts. WAL keeps the file whole if the process dies.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000; PRAGMA busy_timeout = 5000;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The tables of the queries in the order in which they are searched: the open ones, then the days, the latest first. A
/// query that was put anew may still have a row in an earlier day; the later row is the one that counts.
fn tables(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut select = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'query_*' ORDER BY name DESC")?;
    let names = select.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn write(writer: &mut Connection, rows: &Changed, cursor: &Cursor, state: &[u8]) -> Result<(), StoreError> {
    let change = writer.transaction()?;
    let mut days = batches::days(&change)?;
    batches::write(&change, &mut days, &rows.batches)?;
    entities::write(&change, &rows.entities, cursor)?;
    let mut known = tables(&change)?;
    known.append(&mut days);
    for (key, (partition, query)) in &rows.queries {
        let key = key_bytes(key);
        let table = match day_of(query) {
            None => OPEN.to_owned(),
            Some(day) => {
                change.prepare_cached("DELETE FROM query_open WHERE key = ?1")?.execute([&key])?;
                day
            }
        };
        if !known.contains(&table) {
            change.execute_batch(&format!("CREATE TABLE {table} {COLUMNS}"))?;
            known.push(table.clone());
        }
        change
            .prepare_cached(&format!("INSERT OR REPLACE INTO {table} (key, partition, value) VALUES (?1, ?2, ?3)"))?
            .execute(params![key, partition.number, encode(query)])?;
    }
    put_state(&change, "state", state)?;
    for table in known.iter().filter(|table| is_forgotten(table, cursor)) {
        change.execute_batch(&format!("DROP TABLE {table}"))?;
    }
    change.commit()?;
    Ok(())
}

/// The table of the day on which the query, and all others there, may be forgotten; none while it is open.
fn day_of(query: &Query) -> Option<String> {
    query.forget_at().map(|at| format!("{DAY}{:06}", at.day() + 1))
}

/// The keys of a day's table.
fn fingerprints(connection: &Connection, day: &str) -> Result<Fingerprints, StoreError> {
    let mut seen = Fingerprints::default();
    let mut select = connection.prepare(&format!("SELECT key FROM {day}"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        seen.insert(row.get_ref(0)?.as_blob().map_err(|_| StoreError::Row)?);
    }
    Ok(seen)
}

/// Whether it is the table of a day that every partition of the queries has left behind.
fn is_forgotten(table: &str, cursor: &Cursor) -> bool {
    let (topic, day) = match table.strip_prefix(DAY) {
        Some(day) => (Topic::Queries, day.parse().ok()),
        None => (Topic::Messages, batches::day_from(table)),
    };
    day.zip(earliest_day(cursor, topic)).is_some_and(|(day, earliest): (i64, i64)| day <= earliest)
}

/// The day that every partition of the topic has reached.
pub(super) fn earliest_day(cursor: &Cursor, topic: Topic) -> Option<i64> {
    let times = cursor.times.iter().filter(|(partition, _)| partition.topic == topic);
    times.map(|(_, time)| time.day()).min()
}

fn get_state(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM state WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

fn put_state(connection: &Connection, name: &str, value: &[u8]) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO state (name, value) VALUES (?1, ?2)")?;
    insert.execute(params![name, value])?;
    Ok(())
}

fn key_bytes(key: &QueryKey) -> Vec<u8> {
    [key.asker.as_str().as_bytes(), b"\0", key.query_id.as_str().as_bytes()].concat()
}

fn key_from(bytes: &[u8]) -> Result<QueryKey, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| StoreError::Row)?;
    let (asker, query_id) = text.split_once('\0').ok_or(StoreError::Row)?;
    let id = |_| StoreError::Row;
    Ok(QueryKey { asker: asker.parse().map_err(id)?, query_id: query_id.parse().map_err(id)? })
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|_| StoreError::Row)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use airut_domain::{keys::Digest, partition::Position, query::WhyNot, time::Timestamp};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const LOG: LogId = LogId([1; 16]);

    fn began() -> Timestamp {
        Timestamp::from_millis(1_795_334_400_000)
    }

    fn key() -> QueryKey {
        QueryKey { asker: "pirkanmaa".parse().unwrap(), query_id: "q-1".parse().unwrap() }
    }

    /// A query that ended without an answer when the test began.
    fn ended() -> (Partition, Query) {
        let partition = Partition { topic: Topic::Queries, number: 3 };
        let phase = Phase::Unanswered { why: WhyNot::NoAnswer, at: began() };
        let query = Query { fingerprint: Digest::of(b"content"), asked: Position { partition, offset: 0 }, phase };
        (partition, query)
    }

    /// How far a fold has come in the query's partition.
    fn cursor(time: Timestamp) -> Cursor {
        let (partition, _) = ended();
        Cursor { positions: [(partition, 2)].into(), times: [(partition, time)].into() }
    }

    async fn settle(store: &mut Store) {
        let written = store.take_writing().expect("it was flushed").await.unwrap();
        store.settled(written).unwrap();
    }

    #[tokio::test]
    async fn a_day_that_is_just_being_dropped_is_not_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::file(&dir.path().join("folds"), LOG).unwrap();
        let (partition, query) = ended();
        store.put(partition, key(), query.clone());
        store.flush(&cursor(began()), &Small::default(), &Kept::default());
        settle(&mut store).await;
        assert_eq!(store.query(&key(), Among::Ended).unwrap(), Some(query));
        store.flush(&cursor(began() + 9 * DAY), &Small::default(), &Kept::default());
        // The writing has ended, and the table with it; nobody has looked after it yet.
        while !store.must_settle() {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.query(&key(), Among::Ended).unwrap(), None);
        store.for_each(|_, key, _| panic!("{key:?} is forgotten")).unwrap();
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_kept_and_written_with_the_next_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folds");
        let mut store = Store::file(&path, LOG).unwrap();
        let (partition, query) = ended();
        store.put(partition, key(), query.clone());
        let fault = Connection::open(&path).unwrap();
        fault.execute_batch("ALTER TABLE state RENAME TO elsewhere").unwrap();
        store.flush(&cursor(began()), &Small::default(), &Kept::default());
        settle(&mut store).await;
        assert_eq!(store.query(&key(), Among::Ended).unwrap(), Some(query.clone()));
        fault.execute_batch("ALTER TABLE elsewhere RENAME TO state").unwrap();
        store.flush(&cursor(began()), &Small::default(), &Kept::default());
        settle(&mut store).await;
        drop(store);
        let again = Store::file(&path, LOG).unwrap();
        assert_eq!(again.query(&key(), Among::Ended).unwrap(), Some(query));
        assert_eq!(again.load().unwrap().0, cursor(began()));
    }

    #[test]
    fn a_file_of_another_build_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folds");
        drop(Store::file(&path, LOG).unwrap());
        Connection::open(&path).unwrap().execute_batch("UPDATE state SET value = x'ff' WHERE name = 'format'").unwrap();
        assert!(matches!(Store::file(&path, LOG), Err(StoreError::Format)));
    }
}
