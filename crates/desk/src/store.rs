//! What one organisation's desk keeps: what has arrived, who has claimed what, what was sent, and who has looked at what.
//!
//! A file for each organisation, so that no forgotten condition shows one organisation what is another's. Whatever says something of a person is sealed
//! (AES-256-GCM) under the desk's key; in the clear are ids, types and times. A message is settled at the exchange only once it is durable here, and what
//! an official looks at is in the access log before it is shown.

mod access;
mod feedback;
mod items;
mod seal;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use airut_domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub(crate) use access::{Access, Action, End, Looked, Sealed};
pub(crate) use feedback::Feedback;
pub(crate) use items::NewItem;
pub(crate) use items::{Arrived, Item, ItemKind, Sent};
pub use seal::{KeyFault, SealingKey};

/// Why the store can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("the desk's file: {0}")]
    File(#[from] rusqlite::Error),
    /// Something in it can't be opened: it is another desk's, or was changed.
    #[error("the desk's file holds what its key does not open")]
    Sealed,
    /// The work was cut short.
    #[error("the desk's file could not be asked")]
    Stopped,
}

/// The schema's number, kept in `user_version`.
const SCHEMA: u32 = 1;

const TABLES: &str = "
CREATE TABLE item (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, sender TEXT NOT NULL, message_id TEXT NOT NULL, message_type TEXT NOT NULL,
    object_id TEXT NOT NULL, position TEXT NOT NULL, accepted INTEGER NOT NULL, arrived INTEGER NOT NULL, opened INTEGER, handled INTEGER,
    handled_by TEXT, subject BLOB NOT NULL, non_disclosure INTEGER NOT NULL, sealed BLOB NOT NULL, UNIQUE (sender, message_id)
) STRICT;
CREATE INDEX item_waiting ON item (kind, handled, arrived);
CREATE INDEX item_object ON item (kind, sender, object_id);
CREATE INDEX item_subject ON item (subject, non_disclosure);
CREATE TABLE claim (object TEXT PRIMARY KEY, subject TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE known (object TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sent (
    document_id TEXT PRIMARY KEY, recipient TEXT NOT NULL, object TEXT NOT NULL, time INTEGER NOT NULL, position TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_object ON sent (object, time);
CREATE INDEX sent_time ON sent (time);
CREATE TABLE access (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, official TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL,
    outcome TEXT, position TEXT, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX access_official ON access (official, number);
CREATE TABLE feedback (number INTEGER PRIMARY KEY, time INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
";

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    file: Arc<Mutex<Connection>>,
    key: Arc<SealingKey>,
}

impl Store {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It can not be read or written, or was written by a later build.
    pub fn open(path: &Path, key: SealingKey) -> Result<Self, Error> {
        let file = Connection::open(path)?;
        // Durable when committed: a message is settled after that.
        file.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;")?;
        let schema: u32 = file.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match schema {
            0 => file.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;"))?,
            SCHEMA => {}
            _ => return Err(Error::Sealed),
        }
        Ok(Self { file: Arc::new(Mutex::new(file)), key: Arc::new(key) })
    }

    /// Does something with the file away from the runtime's own threads: it may wait for the disk. Whoever waits for others takes up no thread.
    ///
    /// Cancel safe: when dropped, nothing was done, or all of it will be.
    async fn with<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection, &SealingKey) -> Result<T, Error> + Send + 'static,
    {
        let (mut file, key) = (Arc::clone(&self.file).lock_owned().await, Arc::clone(&self.key));
        let done = tokio::task::spawn_blocking(move || work(&mut file, &key)).await;
        done.map_err(|_| Error::Stopped)?
    }

    /// Claims an object for an official. What somebody else has claimed stays theirs, unless it is taken over.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claim(&self, object: &str, by: Claim, take_over: TakeOver) -> Result<Claim, Error> {
        let object = object.to_owned();
        self.with(move |file, _| {
            let conflict = match take_over {
                TakeOver::No => "DO NOTHING",
                TakeOver::Yes => {
                    "DO UPDATE SET subject = excluded.subject, name = excluded.name, since = excluded.since"
                }
            };
            let sql = format!(
                "INSERT INTO claim (object, subject, name, since) VALUES (?1, ?2, ?3, ?4) ON CONFLICT {conflict}"
            );
            file.execute(&sql, params![object, by.subject, by.name, by.since.as_millis()])?;
            Ok(claimed(file, &object)?.unwrap_or(by))
        })
        .await
    }

    /// Gives an object back to everybody, if it is the official's own.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn release(&self, object: &str, subject: &str) -> Result<(), Error> {
        let (object, subject) = (object.to_owned(), subject.to_owned());
        self.with(move |file, _| {
            file.execute("DELETE FROM claim WHERE object = ?1 AND subject = ?2", params![object, subject])?;
            Ok(())
        })
        .await
    }

    /// Nobody needs to have claimed it any longer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unclaim(&self, object: &str) -> Result<(), Error> {
        let object = object.to_owned();
        self.with(move |file, _| Ok(file.execute("DELETE FROM claim WHERE object = ?1", params![object]).map(drop)?))
            .await
    }

    /// Who has claimed an object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claimed(&self, object: &str) -> Result<Option<Claim>, Error> {
        let object = object.to_owned();
        self.with(move |file, _| claimed(file, &object)).await
    }

    /// Every claim, by object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claims(&self) -> Result<std::collections::BTreeMap<String, Claim>, Error> {
        self.with(|file, _| {
            let mut claims = file.prepare_cached("SELECT object, subject, name, since FROM claim")?;
            let claims = claims.query_map([], |row| Ok((row.get(0)?, claim(row, 1)?)))?;
            Ok(claims.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What is known here of an object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn known(&self, object: &str) -> Result<Known, Error> {
        let object = object.to_owned();
        self.with(move |file, key| {
            let sealed: Option<Vec<u8>> =
                file.query_row("SELECT sealed FROM known WHERE object = ?1", [&object], |row| row.get(0)).optional()?;
            Ok(sealed.map(|sealed| key.open(&object, &sealed)).transpose()?.unwrap_or_default())
        })
        .await
    }

    /// Remembers it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remember(&self, object: &str, known: Known) -> Result<(), Error> {
        let object = object.to_owned();
        self.with(move |file, key| {
            let sealed = key.seal(&object, &known);
            file.execute("INSERT OR REPLACE INTO known (object, sealed) VALUES (?1, ?2)", params![object, sealed])?;
            Ok(())
        })
        .await
    }

    /// Things that were dealt with before `items` go, and entries of the access log from before `access`. What nobody has dealt with stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sweep(&self, items: Timestamp, access: Timestamp) -> Result<(), Error> {
        self.with(move |file, _| {
            let sweep = file.transaction()?;
            sweep.execute("DELETE FROM item WHERE handled < ?1", [items.as_millis()])?;
            sweep.execute("DELETE FROM sent WHERE time < ?1", [items.as_millis()])?;
            sweep.execute("DELETE FROM feedback WHERE time < ?1", [items.as_millis()])?;
            sweep.execute("DELETE FROM access WHERE time < ?1", [access.as_millis()])?;
            Ok(sweep.commit()?)
        })
        .await
    }
}

/// What is known here of an object: what the exchange does not tell in lists, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The case that it belongs to here, as an official has given it; empty before.
    pub case_id: String,
    /// The identity code of the person it is about; empty before somebody has read it.
    pub person: String,
}

/// Who has claimed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The official.
    pub subject: String,
    /// Their name.
    pub name: String,
    /// Since when.
    pub since: Timestamp,
}

impl Claim {
    /// Who has claimed it, and since when, in words.
    pub(crate) fn text(&self, t: &crate::language::Texts) -> String {
        t.with("claimed-by", &[("name", &self.name), ("time", &t.moment(self.since))])
    }
}

/// Whether to take over what somebody else has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// It stays theirs.
    No,
    /// They are away, or have asked for it.
    Yes,
}

fn claimed(file: &Connection, object: &str) -> Result<Option<Claim>, Error> {
    let mut found = file.prepare_cached("SELECT subject, name, since FROM claim WHERE object = ?1")?;
    Ok(found.query_row([object], |row| claim(row, 0)).optional()?)
}

fn claim(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Claim> {
    let since = Timestamp::from_millis(row.get(first + 2)?);
    Ok(Claim { subject: row.get(first)?, name: row.get(first + 1)?, since })
}
