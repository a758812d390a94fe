//! The rows of message batches in the fold's file: those that are not finished in one table, finished ones in a table per day
//! on which they may be forgotten, which is dropped whole.

use std::{collections::BTreeMap, sync::Arc};

use airut_domain::{
    mailbox::Batch,
    partition::{Partition, Topic},
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{
    state::encode,
    store::{StoreError, decode},
};

pub(super) const LIVE: &str = "message_live";
pub(super) const DAY: &str = "message_day_";
pub(super) const COLUMNS: &str = "(key INTEGER PRIMARY KEY, value BLOB NOT NULL)";

/// A batch: its partition, and the offset of the record that accepted it.
pub(super) type BatchKey = (Partition, u64);

/// Rows that have changed, by batch.
pub(super) type BatchRows = BTreeMap<BatchKey, Row>;

/// What becomes of a batch's row.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// It is not finished: this is how it stands.
    Live(Vec<u8>),
    /// It is finished.
    Finished(Arc<Batch>),
    /// It is forgotten.
    Gone,
}

/// The day on which a finished batch may be forgotten.
pub(super) fn day_of(batch: &Batch) -> Option<i64> {
    batch.forget_at().map(|at| at.day() + 1)
}

/// The day's table.
pub(super) fn table(day: i64) -> String {
    format!("{DAY}{day:06}")
}

/// Writes the rows.
pub(super) fn write(change: &Transaction<'_>, known: &mut Vec<String>, rows: &BatchRows) -> Result<(), StoreError> {
    for ((partition, offset), row) in rows {
        let key = key(*partition, *offset);
        match row {
            Row::Live(value) => {
                let insert = "INSERT OR REPLACE INTO message_live (key, value) VALUES (?1, ?2)";
                change.prepare_cached(insert)?.execute(params![key, value])?;
            }
            Row::Finished(batch) => {
                let table = day_of(batch).map(table).ok_or(StoreError::Row)?;
                if !known.contains(&table) {
                    change.execute_batch(&format!("CREATE TABLE {table} {COLUMNS}"))?;
                    known.push(table.clone());
                }
                let insert = format!("INSERT OR REPLACE INTO {table} (key, value) VALUES (?1, ?2)");
                change.prepare_cached(&insert)?.execute(params![key, encode(batch.as_ref())])?;
                change.prepare_cached("DELETE FROM message_live WHERE key = ?1")?.execute([key])?;
            }
            Row::Gone => {
                change.prepare_cached("DELETE FROM message_live WHERE key = ?1")?.execute([key])?;
            }
        }
    }
    Ok(())
}

/// A finished batch of that day.
pub(super) fn read(reader: &Connection, day: i64, (partition, offset): BatchKey) -> Result<Option<Batch>, StoreError> {
    let mut select = reader.prepare_cached(&format!("SELECT value FROM {} WHERE key = ?1", table(day)))?;
    let value: Option<Vec<u8>> = select.query_row([key(partition, offset)], |row| row.get(0)).optional()?;
    value.map(|value| decode(&value)).transpose()
}

/// Every batch of a table.
pub(super) fn for_each(
    reader: &Connection,
    table: &str,
    mut each: impl FnMut(BatchKey, Batch),
) -> Result<(), StoreError> {
    let mut select = reader.prepare(&format!("SELECT key, value FROM {table} ORDER BY key"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(key_from(row.get(0)?)?, decode(row.get_ref(1)?.as_blob().map_err(|_| StoreError::Row)?)?);
    }
    Ok(())
}

/// The tables of the days.
pub(super) fn days(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut select = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'message_day_*' ORDER BY name")?;
    let names = select.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// The day of a day's table.
pub(super) fn day_from(table: &str) -> Option<i64> {
    table.strip_prefix(DAY)?.parse().ok()
}

/// Partition and offset in one number, so that the rows of a partition follow each other.
fn key(partition: Partition, offset: u64) -> i64 {
    debug_assert!(offset < 1 << 48);
    i64::from(partition.number) << 48 | i64::try_from(offset).expect("less than 2 to the 48th")
}

fn key_from(key: i64) -> Result<BatchKey, StoreError> {
    let number = u32::try_from(key >> 48).map_err(|_| StoreError::Row)?;
    let offset = u64::try_from(key & ((1 << 48) - 1)).map_err(|_| StoreError::Row)?;
    Ok((Partition { topic: Topic::Messages, number }, offset))
}
