//! Reading the ledger's file, beside the one that writes: WAL mode lets both go on.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    path::Path,
};

use airut_domain::{
    keys::Digest,
    partition::{Partition, Position, Topic},
    time::Timestamp,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, config::DbConfig, params, types::ValueRef};

use super::{APPLICATION, FORMAT, Identity, RecordedNote, StoreError, configure, integer, tile_id};
use crate::tree::{self, TileId};

/// A connection that only reads.
pub(crate) struct Reader {
    connection: Connection,
    ids: BTreeMap<Partition, i64>,
}

/// The row of a partition.
pub(super) struct PartitionRow {
    pub(super) id: i64,
    /// Up to where it is in the tree.
    pub(super) end: u64,
}

/// The ledger's own row.
pub(crate) struct State {
    /// Whose it is.
    pub(crate) identity: Identity,
    /// How many leaves there are.
    pub(crate) size: u64,
    /// The next record of `airut.order` to apply.
    pub(crate) order_next: u64,
    /// The largest checkpoint seen.
    pub(crate) checkpoint: Option<RecordedNote>,
}

/// A row of the entries as it is, right or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredEntry {
    /// The index that it is stored under.
    pub(crate) index: u64,
    /// The position in its columns; `None` when they hold none.
    pub(crate) position: Option<Position>,
    /// The leaf.
    pub(crate) leaf: Vec<u8>,
}

/// Why a row could not be read.
#[derive(Debug)]
pub(crate) enum RowFault {
    /// The page that should hold it is damaged.
    Damaged,
    /// The file can't be read.
    Unreadable(rusqlite::Error),
}

impl From<rusqlite::Error> for RowFault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Unreadable(error),
        }
    }
}

impl Reader {
    /// Opens a ledger that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if is_new(&connection)? {
            return Err(StoreError::NotALedger);
        }
        let ids = partitions(&connection)?.into_iter().map(|(partition, row)| (partition, row.id)).collect();
        Ok(Self { connection, ids })
    }

    /// The ledger's own row.
    pub(crate) fn state(&self) -> Result<State, StoreError> {
        state(&self.connection)
    }

    /// The inclusion path of an entry in the tree of `size` leaves.
    pub(crate) fn path(&self, index: u64, size: u64) -> Result<Vec<Digest>, StoreError> {
        tree::path(index, size, |tile, places| hashes(&self.connection, tile, places))
    }

    /// The root that the tree had at this size.
    pub(crate) fn root_at(&self, size: u64) -> Result<Digest, StoreError> {
        tree::root_at(size, |tile, places| hashes(&self.connection, tile, places))
    }

    /// The index of the entry for the record at this position.
    pub(crate) fn index_of(&self, position: Position) -> Result<Option<u64>, StoreError> {
        let (Some(id), Ok(offset)) = (self.ids.get(&position.partition), i64::try_from(position.offset)) else {
            return Ok(None);
        };
        let mut select =
            self.connection.prepare_cached("SELECT idx FROM entries WHERE partition = ? AND position = ?")?;
        let index = select.query_row(params![id, offset], |row| row.get(0)).optional()?;
        index.map(|index| unsigned(index, "entries")).transpose()
    }

    /// The leaf of an entry.
    pub(crate) fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        leaf(&self.connection, index)
    }

    /// Hands out the entries of a range in their order until `take` says that it has enough, or fails.
    pub(crate) fn scan<E: From<StoreError>>(
        &self,
        range: Range<u64>,
        mut take: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let sql = "SELECT idx, leaf FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx";
        let mut select = self.connection.prepare_cached(sql).map_err(StoreError::from)?;
        let span = [integer(range.start), integer(range.end)];
        let mut rows = select.query(span).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let index = unsigned(row.get(0).map_err(StoreError::from)?, "entries")?;
            let leaf = row.get_ref(1).map_err(StoreError::from)?.as_blob();
            if take(index, leaf.map_err(|_| StoreError::Value { table: "entries" })?)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Up to `limit` rows of the entries as they are, from an index on. An error ends them, behind those read before
    /// it.
    pub(crate) fn rows(&self, from: u64, limit: usize) -> (Vec<StoredEntry>, Result<(), RowFault>) {
        let mut found = Vec::new();
        let outcome = self.read_rows(from, limit, &mut found);
        (found, outcome)
    }

    fn read_rows(&self, from: u64, limit: usize, found: &mut Vec<StoredEntry>) -> Result<(), RowFault> {
        let sql = "SELECT idx, partition, position, leaf FROM entries WHERE idx >= ? ORDER BY idx LIMIT ?";
        let mut select = self.connection.prepare_cached(sql)?;
        let mut rows = select.query(params![integer(from), i64::try_from(limit).unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            // A damaged row can hold anything in any column.
            let number = |column| match row.get_ref(column) {
                Ok(ValueRef::Integer(value)) => u64::try_from(value).ok(),
                _ => None,
            };
            let leaf = match row.get_ref(3)? {
                ValueRef::Blob(leaf) => leaf.to_vec(),
                ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => Vec::new(),
            };
            let partition = number(1).and_then(|id| self.partition(i64::try_from(id).ok()?));
            let position = partition.zip(number(2)).map(|(partition, offset)| Position { partition, offset });
            found.push(StoredEntry { index: number(0).unwrap_or(u64::MAX), position, leaf });
        }
        Ok(())
    }

    fn partition(&self, id: i64) -> Option<Partition> {
        self.ids.iter().find(|(_, known)| **known == id).map(|(partition, _)| *partition)
    }

    /// Up to where each partition is in the tree.
    pub(crate) fn ends(&self) -> Result<BTreeMap<Partition, u64>, StoreError> {
        Ok(partitions(&self.connection)?.into_iter().map(|(partition, row)| (partition, row.end)).collect())
    }

    /// The hashes of a tile as they are; `None` when there is no such tile.
    pub(crate) fn tile(&self, tile: TileId) -> Result<Option<Vec<u8>>, RowFault> {
        let mut select = self.connection.prepare_cached("SELECT hashes FROM tiles WHERE id = ?")?;
        Ok(select.query_row([tile_id(tile)], |row| row.get(0)).optional()?)
    }

    /// What SQLite itself finds wrong with the file: at most `limit` messages, about pages and indexes, never of
    /// content.
    pub(crate) fn integrity(&self, limit: u32) -> Result<Vec<String>, RowFault> {
        let mut check = self.connection.prepare(&format!("PRAGMA integrity_check({limit})"))?;
        let messages = check.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        Ok(messages.into_iter().filter(|message| message != "ok").collect())
    }
}

/// Whether the file is still empty; an error when it is no ledger of this build.
pub(super) fn is_new(connection: &Connection) -> Result<bool, StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (pragma("application_id")?, pragma("user_version")?, tables) {
        (0, 0, 0) => Ok(true),
        (APPLICATION, FORMAT, _) => Ok(false),
        (APPLICATION, found, _) => Err(StoreError::Format(found)),
        _ => Err(StoreError::NotALedger),
    }
}

pub(super) fn partitions(connection: &Connection) -> Result<BTreeMap<Partition, PartitionRow>, StoreError> {
    let mut select = connection.prepare("SELECT topic, number, id, ordered_to FROM partitions")?;
    let mut rows = select.query([])?;
    let mut partitions = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let topic = Topic::from_name(&row.get::<_, String>(0)?).ok_or(StoreError::Value { table: "partitions" })?;
        let end = unsigned(row.get(3)?, "partitions")?;
        partitions.insert(Partition { topic, number: row.get(1)? }, PartitionRow { id: row.get(2)?, end });
    }
    Ok(partitions)
}

pub(super) fn state(connection: &Connection) -> Result<State, StoreError> {
    let sql = "SELECT log, key, size, order_next, checkpoint, checkpoint_stamp FROM ledger";
    let (identity, size, order_next, checkpoint) = connection.query_row(sql, [], |row| {
        let identity = Identity { log: row.get(0)?, key: row.get(1)? };
        let note: Option<String> = row.get(4)?;
        let stamp = Timestamp::from_millis(row.get::<_, Option<i64>>(5)?.unwrap_or_default());
        Ok((identity, row.get(2)?, row.get(3)?, note.map(|note| RecordedNote { note, stamp })))
    })?;
    let (size, order_next) = (unsigned(size, "ledger")?, unsigned(order_next, "ledger")?);
    Ok(State { identity, size, order_next, checkpoint })
}

pub(super) fn leaf(connection: &Connection, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT leaf FROM entries WHERE idx = ?")?;
    Ok(select.query_row([integer(index)], |row| row.get(0)).optional()?)
}

/// The hashes at these places of a tile, all of them.
pub(super) fn hashes(connection: &Connection, tile: TileId, places: Range<usize>) -> Result<Vec<Digest>, StoreError> {
    let mut select = connection.prepare_cached("SELECT substr(hashes, ?, ?) FROM tiles WHERE id = ?")?;
    let (from, length) = (places.start * 32 + 1, places.len() * 32);
    let bytes: Option<Vec<u8>> = select
        .query_row(params![integer(from as u64), integer(length as u64), tile_id(tile)], |row| row.get(0))
        .optional()?;
    let bytes = bytes.filter(|bytes| bytes.len() == length).ok_or(StoreError::Tile(tile))?;
    Ok(bytes.as_chunks().0.iter().map(|hash| Digest(*hash)).collect())
}

/// The blob of these hashes: one after the other.
pub(super) fn blob(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn unsigned(value: i64, table: &'static str) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Value { table })
}
