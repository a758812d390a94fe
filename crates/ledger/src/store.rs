//! The ledger's file: leaves, tiles, and how far the log is in them, in one SQLite file and always in one transaction.
//!
//! The file is a fold: all of it can be made again from the log. It must never be ahead of itself, so positions, leaves
//! and tree move together or not at all; a transaction is durable when it returns (`synchronous=FULL`).
//!
//! Tiles are blobs as C2SP tlog-tiles publishes them, entries the exact leaf bytes. The tree's right edge is kept in
//! memory besides, and moves only after the commit: after an error the store is dropped and opened anew.

mod read;

use std::{collections::BTreeMap, fs, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use airut_domain::{
    keys::Digest,
    merkle::leaf_hash,
    partition::{Partition, Position},
    time::Timestamp,
};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

pub(crate) use self::read::{Reader, RowFault, State, StoredEntry};
use crate::{
    leaf,
    order::{Fold, ordered_partitions},
    tree::{self, Edge, TileId},
};

/// "AIRL": tells a ledger from any other SQLite file.
const APPLICATION: i64 = 0x4149_524c;
/// The number of the schema.
const FORMAT: i64 = 1;
/// How long a transaction waits for another connection of ours; in order, there is never one that writes.
const BUSY: Duration = Duration::from_secs(1);

/// Whose ledger a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The log that it folds.
    pub(crate) log: String,
    /// The key that its checkpoints are signed with, as a verifier key.
    pub(crate) key: String,
}

/// Why the file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// SQLite says so.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file can't be made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("the file is not a ledger")]
    NotALedger,
    /// Written by a newer build.
    #[error("the file has format {0}, and this build knows {FORMAT}")]
    Format(i64),
    /// A value is not one that this build writes.
    #[error("the table {table} holds a value that does not belong there")]
    Value {
        /// Where.
        table: &'static str,
    },
    /// A tile is not there or holds too few hashes.
    #[error("tile {index} of level {level} is missing or too short", level = .0.level, index = .0.index)]
    Tile(TileId),
    /// The thread that was to do it is gone: the process is ending.
    #[error("the process is ending")]
    Ending,
}

/// A leaf that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewLeaf {
    /// Its record's place.
    pub(crate) position: Position,
    /// When the log took it.
    pub(crate) stamp: Timestamp,
    /// What is hashed.
    pub(crate) bytes: Vec<u8>,
}

/// A signed checkpoint as `airut.order` holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedNote {
    /// The note.
    pub(crate) note: String,
    /// When the log took it.
    pub(crate) stamp: Timestamp,
}

/// What moves in one transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// The next leaves of the tree.
    pub(crate) leaves: Vec<NewLeaf>,
    /// Where the fold of `airut.order` stands after them.
    pub(crate) fold: Fold,
    /// The largest checkpoint that the fold has seen.
    pub(crate) checkpoint: Option<RecordedNote>,
}

/// The file, open for writing. There is one at a time.
pub(crate) struct Store {
    connection: Connection,
    /// The row of each partition.
    ids: BTreeMap<Partition, i64>,
    edge: Edge,
    fold: Fold,
    checkpoint: Option<RecordedNote>,
}

impl Store {
    /// Opens the ledger, or creates it with this identity. The identity that it has may be another.
    pub(crate) fn open(path: &Path, identity: &Identity) -> Result<(Self, Identity), StoreError> {
        create_file(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        prepare(&mut connection, identity)?;
        let ids = read::partitions(&connection)?;
        let ends = ids.iter().map(|(partition, row)| (*partition, row.end)).filter(|(_, end)| *end > 0).collect();
        let state = read::state(&connection)?;
        let edge = Edge::load(state.size, |tile, places| read::hashes(&connection, tile, places))?;
        let store = Self {
            ids: ids.into_iter().map(|(partition, row)| (partition, row.id)).collect(),
            edge,
            fold: Fold { next: state.order_next, ends },
            checkpoint: state.checkpoint,
            connection,
        };
        Ok((store, state.identity))
    }

    /// The tree's right edge.
    pub(crate) const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Where the fold of `airut.order` stands.
    pub(crate) const fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The largest checkpoint that was stored.
    pub(crate) const fn checkpoint(&self) -> Option<&RecordedNote> {
        self.checkpoint.as_ref()
    }

    /// The root that the tree had at this size, which must not be above the present one.
    pub(crate) fn root_at(&self, size: u64) -> Result<Digest, StoreError> {
        tree::root_at(size, |tile, places| read::hashes(&self.connection, tile, places))
    }

    /// When the log took the record of an entry; none when there is no such entry.
    pub(crate) fn stamp_of(&self, index: u64) -> Result<Option<Timestamp>, StoreError> {
        let Some(bytes) = read::leaf(&self.connection, index)? else { return Ok(None) };
        leaf::parse(&bytes).map(|leaf| Some(leaf.stamp)).ok_or(StoreError::Value { table: "entries" })
    }

    /// Appends the leaves and moves the positions. Durable when it returns; after an error the store must be opened
    /// anew, because the transaction may have come through.
    pub(crate) fn append(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut edge = self.edge.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert_leaves(&transaction, &self.ids, &batch.leaves, &mut edge)?;
        move_ends(&transaction, &self.ids, &self.fold, &batch.fold)?;
        transaction
            .prepare_cached("UPDATE ledger SET size = ?, order_next = ?, checkpoint = ?, checkpoint_stamp = ?")?
            .execute(params![
                integer(edge.size()),
                integer(batch.fold.next),
                batch.checkpoint.as_ref().map(|checkpoint| &checkpoint.note),
                batch.checkpoint.as_ref().map(|checkpoint| checkpoint.stamp.as_millis()),
            ])?;
        transaction.commit()?;
        self.edge = edge;
        self.fold = batch.fold;
        self.checkpoint = batch.checkpoint;
        Ok(())
    }
}

fn insert_leaves(
    transaction: &Transaction<'_>,
    ids: &BTreeMap<Partition, i64>,
    leaves: &[NewLeaf],
    edge: &mut Edge,
) -> Result<(), StoreError> {
    let mut full = Vec::new();
    let mut insert =
        transaction.prepare_cached("INSERT INTO entries (idx, partition, position, leaf) VALUES (?, ?, ?, ?)")?;
    for leaf in leaves {
        let id = ids.get(&leaf.position.partition).expect("every ordered partition has its row");
        insert.execute(params![integer(edge.size()), id, integer(leaf.position.offset), leaf.bytes])?;
        edge.push(leaf_hash(&leaf.bytes), &mut full);
    }
    // An unfinished tile is written again each time, and for the last time when it is full.
    let mut write = transaction.prepare_cached("INSERT OR REPLACE INTO tiles (id, hashes) VALUES (?, ?)")?;
    for (tile, hashes) in &full {
        write.execute(params![tile_id(*tile), read::blob(hashes)])?;
    }
    for (tile, hashes) in edge.unfinished() {
        write.execute(params![tile_id(tile), read::blob(hashes)])?;
    }
    Ok(())
}

fn move_ends(
    transaction: &Transaction<'_>,
    ids: &BTreeMap<Partition, i64>,
    before: &Fold,
    after: &Fold,
) -> Result<(), StoreError> {
    let mut update = transaction.prepare_cached("UPDATE partitions SET ordered_to = ? WHERE id = ?")?;
    for (partition, end) in &after.ends {
        if before.end(*partition) != *end {
            update.execute(params![integer(*end), ids.get(partition).expect("every ordered partition has its row")])?;
        }
    }
    Ok(())
}

/// Creates an empty file that nobody else may read, and makes its name durable. One that is there is not even opened:
/// closing it again would drop the locks that SQLite has on it.
fn create_file(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the schema up in one transaction: a new file's all of it, and in an older one the partitions that are new
/// since.
fn prepare(connection: &mut Connection, identity: &Identity) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if read::is_new(&transaction)? {
        create(&transaction, identity)?;
    }
    for partition in ordered_partitions() {
        transaction.execute(
            "INSERT OR IGNORE INTO partitions (topic, number, ordered_to) VALUES (?, ?, 0)",
            params![partition.topic.name(), partition.number],
        )?;
    }
    Ok(transaction.commit()?)
}

fn create(transaction: &Transaction<'_>, identity: &Identity) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute_batch(
        "CREATE TABLE ledger (
             log TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, order_next INTEGER NOT NULL,
             checkpoint TEXT, checkpoint_stamp INTEGER
         ) STRICT;
         CREATE TABLE partitions (
             id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL, ordered_to INTEGER NOT NULL,
             UNIQUE (topic, number)
         ) STRICT;
         CREATE TABLE entries (
             idx INTEGER PRIMARY KEY, partition INTEGER NOT NULL, position INTEGER NOT NULL, leaf BLOB NOT NULL
         ) STRICT;
         CREATE UNIQUE INDEX entries_by_position ON entries (partition, position);
         CREATE TABLE tiles (id INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;",
    )?;
    transaction.execute(
        "INSERT INTO ledger (log, key, size, order_next) VALUES (?, ?, 0, 0)",
        params![identity.log, identity.key],
    )?;
    Ok(())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    // Damage is to be noticed when a page is read, not guessed around.
    connection.pragma_update(None, "cell_size_check", true)
}

/// A tile's row: the level in the highest byte. Levels go up to 7, so it stays positive.
fn tile_id(tile: TileId) -> i64 {
    (i64::from(tile.level) << 56) | integer(tile.index)
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use airut_domain::{merkle, partition::Topic, record::leaf_bytes};

    use super::*;

    fn identity() -> Identity {
        Identity { log: "log".to_owned(), key: "key".to_owned() }
    }

    fn new_leaf(offset: u64) -> NewLeaf {
        let position = Position { partition: Partition::only(Topic::Partners), offset };
        let stamp = Timestamp::from_millis(5);
        NewLeaf { position, stamp, bytes: leaf_bytes(position, stamp, &offset.to_be_bytes()) }
    }

    /// Batches of uneven sizes, up to `size` leaves.
    fn fill(store: &mut Store, size: u64) {
        let mut next = store.edge().size();
        if next == size {
            return;
        }
        for step in [1, 254, 1, 2, 600, 7].into_iter().cycle() {
            let end = size.min(next + step);
            let mut fold = store.fold().clone();
            fold.take(Partition::only(Topic::Partners), end);
            fold.applied(fold.next);
            store.append(Batch { leaves: (next..end).map(new_leaf).collect(), fold, checkpoint: None }).unwrap();
            next = end;
            if next == size {
                return;
            }
        }
    }

    #[test]
    fn a_store_opened_anew_goes_on_with_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let hashes: Vec<Digest> = (0..2000).map(|offset| leaf_hash(&new_leaf(offset).bytes)).collect();
        for size in [0, 1, 255, 256, 700, 701, 1536, 2000] {
            let (mut store, _) = Store::open(&path, &identity()).unwrap();
            fill(&mut store, size);
            let root = merkle::root(&hashes[..usize::try_from(size).unwrap()]);
            assert_eq!(store.edge().root(), root);
            let fold = store.fold().clone();
            drop(store);
            let (store, found) = Store::open(&path, &identity()).unwrap();
            assert_eq!((store.edge().root(), store.fold(), found), (root, &fold, identity()));
            assert_eq!(store.root_at(size / 2).unwrap(), merkle::root(&hashes[..usize::try_from(size / 2).unwrap()]));
        }
        let reader = Reader::open(&path).unwrap();
        for index in [0, 255, 256, 1999] {
            assert_eq!(reader.index_of(new_leaf(index).position).unwrap(), Some(index));
            assert_eq!(reader.leaf(index).unwrap(), Some(new_leaf(index).bytes));
            let path = reader.path(index, 1537.max(index + 1)).unwrap();
            let size = usize::try_from(1537.max(index + 1)).unwrap();
            assert_eq!(path, merkle::path(&hashes[..size], usize::try_from(index).unwrap()));
        }
        assert_eq!(reader.index_of(new_leaf(2000).position).unwrap(), None);
    }

    #[test]
    fn a_failed_append_leaves_the_store_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let (mut store, _) = Store::open(&path, &identity()).unwrap();
        fill(&mut store, 300);
        let (root, fold) = (store.edge().root(), store.fold().clone());
        // The second leaf is there already.
        let batch = Batch { leaves: vec![new_leaf(300), new_leaf(7)], fold: Fold::default(), checkpoint: None };
        assert!(store.append(batch).is_err());
        assert_eq!((store.edge().root(), store.fold()), (root, &fold));
        let (store, _) = Store::open(&path, &identity()).unwrap();
        assert_eq!((store.edge().root(), store.fold()), (root, &fold));
    }

    #[test]
    fn another_file_is_not_taken_for_a_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.sqlite");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(matches!(Store::open(&path, &identity()), Err(StoreError::NotALedger)));
    }
}
