//! What has arrived, and what was sent.

use airut_domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Error, SealingKey, Store};

/// What kind of thing has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A message to read.
    Notice,
    /// The claim check of a document.
    Document,
}

impl ItemKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Document => "document",
        }
    }

    fn parse(name: &str) -> Self {
        if name == "document" { Self::Document } else { Self::Notice }
    }
}

/// What a message says, for the store to seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// The identity code of the person it is about; empty for none.
    pub subject_id: String,
    /// Who sent it there.
    pub end_user: String,
    /// The sender's case.
    pub case_id: String,
    /// Why it was sent.
    pub purpose: String,
    /// The act that gives the right.
    pub legal_basis: String,
    /// The payload: JSON, or nothing where it was none.
    pub payload: serde_json::Value,
}

impl Arrived {
    /// Whether the payload says that the person is under a non-disclosure order (turvakielto); none where it does not say.
    pub fn non_disclosure(&self) -> Option<bool> {
        let of = |value: &serde_json::Value| value.get("non_disclosure").and_then(serde_json::Value::as_bool);
        of(&self.payload).or_else(|| self.payload.get("client").and_then(of))
    }
}

/// Something that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number here.
    pub number: i64,
    /// What kind of thing.
    pub kind: ItemKind,
    /// Who sent it.
    pub sender: String,
    /// The sender's id for the message.
    pub message_id: String,
    /// What it is.
    pub message_type: String,
    /// The sender's id for the document; empty for a notice.
    pub object_id: String,
    /// The record that accepted it.
    pub position: String,
    /// When the exchange accepted it.
    pub accepted: Timestamp,
    /// When it came here.
    pub arrived: Timestamp,
    /// When it was first opened here.
    pub opened: Option<Timestamp>,
    /// When it was dealt with.
    pub handled: Option<Timestamp>,
    /// Who dealt with it.
    pub handled_by: String,
}

impl Item {
    /// What it is called in claims and in the access log.
    pub fn object(&self) -> String {
        format!("{}/{}/{}", self.kind.name(), self.sender, self.message_id)
    }
}

/// A document that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its id.
    pub document_id: String,
    /// To whom.
    pub recipient: String,
    /// What it belongs to here: an information request, or nothing.
    pub object: String,
    /// When.
    #[serde(skip, default = "epoch")]
    pub time: Timestamp,
    /// The record that made it the recipient's.
    pub position: String,
    /// What it is called.
    pub file_name: String,
    /// Its size.
    pub size_bytes: i64,
    /// The identity code of the person it is about.
    pub subject_id: String,
    /// Who sent it.
    pub official: String,
    /// The case.
    pub case_id: String,
}

const fn epoch() -> Timestamp {
    Timestamp::from_millis(0)
}

/// A message as it came, to be kept.
#[derive(Clone, Debug)]
pub(crate) struct NewItem {
    pub(crate) kind: ItemKind,
    pub(crate) sender: String,
    pub(crate) message_id: String,
    pub(crate) message_type: String,
    pub(crate) object_id: String,
    pub(crate) position: String,
    pub(crate) accepted: Timestamp,
    pub(crate) arrived: Timestamp,
    pub(crate) body: Arrived,
}

const COLUMNS: &str = "number, kind, sender, message_id, message_type, object_id, position, accepted, arrived, opened, handled, handled_by";

impl Store {
    /// Keeps a message, durably. One that is here already is not kept twice; says whether it is new.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn keep(&self, item: NewItem) -> Result<bool, Error> {
        self.with(move |file, key| {
            let place = place(&item.sender, &item.message_id);
            let sealed = key.seal(&place, &item.body);
            let subject = key.subject(&item.body.subject_id);
            let non_disclosure = item.body.non_disclosure().map_or(0, |ordered| if ordered { 2 } else { 1 });
            let kept = file.execute(
                "INSERT INTO item (kind, sender, message_id, message_type, object_id, position, accepted, arrived, subject, non_disclosure, sealed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
                params![
                    item.kind.name(),
                    item.sender,
                    item.message_id,
                    item.message_type,
                    item.object_id,
                    item.position,
                    item.accepted.as_millis(),
                    item.arrived.as_millis(),
                    subject,
                    non_disclosure,
                    sealed
                ],
            )?;
            Ok(kept == 1)
        })
        .await
    }

    /// A page of what has arrived, newest first, and how many there are: those that wait, or those that were dealt with.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn items(
        &self,
        kind: ItemKind,
        handled: bool,
        page: usize,
        page_size: usize,
    ) -> Result<(Vec<Item>, usize), Error> {
        self.with(move |file, _| {
            let condition = if handled { "handled IS NOT NULL" } else { "handled IS NULL" };
            // What waits, the oldest first; what is done, the newest.
            let order = if handled { "handled DESC" } else { "arrived" };
            let count: i64 = file.query_row(
                &format!("SELECT count(*) FROM item WHERE kind = ?1 AND {condition}"),
                [kind.name()],
                |row| row.get(0),
            )?;
            let sql = format!(
                "SELECT {COLUMNS} FROM item WHERE kind = ?1 AND {condition} ORDER BY {order}, number LIMIT ?2 OFFSET ?3"
            );
            let mut found = file.prepare_cached(&sql)?;
            let offset = i64::try_from(page.saturating_mul(page_size)).unwrap_or(i64::MAX);
            let found =
                found.query_map(params![kind.name(), i64::try_from(page_size).unwrap_or(i64::MAX), offset], item)?;
            Ok((found.collect::<Result<_, _>>()?, usize::try_from(count).unwrap_or(0)))
        })
        .await
    }

    /// How many wait.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn waiting(&self, kind: ItemKind) -> Result<usize, Error> {
        self.with(move |file, _| {
            let mut count = file.prepare_cached("SELECT count(*) FROM item WHERE kind = ?1 AND handled IS NULL")?;
            let count: i64 = count.query_row([kind.name()], |row| row.get(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        })
        .await
    }

    /// Something that has arrived, with what it says, and whether its person is under a non-disclosure order by what was heard of them last.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn item(&self, kind: ItemKind, number: i64) -> Result<Option<(Item, Arrived, bool)>, Error> {
        self.with(move |file, key| {
            let sql = format!("SELECT {COLUMNS}, sealed FROM item WHERE kind = ?1 AND number = ?2");
            let found = file.query_row(&sql, params![kind.name(), number], |row| Ok((item(row)?, row.get(12)?)));
            opened(file, key, found.optional()?)
        })
        .await
    }

    /// The claim check of a document.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn document(&self, sender: &str, document_id: &str) -> Result<Option<(Item, Arrived, bool)>, Error> {
        let (sender, document_id) = (sender.to_owned(), document_id.to_owned());
        self.with(move |file, key| {
            let sql = format!(
                "SELECT {COLUMNS}, sealed FROM item WHERE kind = 'document' AND sender = ?1 AND object_id = ?2"
            );
            let found = file.query_row(&sql, params![sender, document_id], |row| Ok((item(row)?, row.get(12)?)));
            opened(file, key, found.optional()?)
        })
        .await
    }

    /// Somebody has opened it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn opened(&self, number: i64, at: Timestamp) -> Result<(), Error> {
        self.with(move |file, _| {
            let sql = "UPDATE item SET opened = ?2 WHERE number = ?1 AND opened IS NULL";
            Ok(file.execute(sql, params![number, at.as_millis()]).map(drop)?)
        })
        .await
    }

    /// It was dealt with, or with none after all is to be dealt with once more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn handled(&self, number: i64, at: Option<Timestamp>, by: &str) -> Result<(), Error> {
        let by = by.to_owned();
        self.with(move |file, _| {
            let sql = "UPDATE item SET handled = ?2, handled_by = ?3 WHERE number = ?1";
            Ok(file.execute(sql, params![number, at.map(Timestamp::as_millis), by]).map(drop)?)
        })
        .await
    }

    /// Remembers a document that was sent.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sent(&self, sent: Sent) -> Result<(), Error> {
        self.with(move |file, key| {
            let sealed = key.seal(&sent.document_id, &sent);
            let sql = "INSERT OR REPLACE INTO sent (document_id, recipient, object, time, position, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let time = sent.time.as_millis();
            file.execute(sql, params![sent.document_id, sent.recipient, sent.object, time, sent.position, sealed])?;
            Ok(())
        })
        .await
    }

    /// A page of the documents that were sent, newest first, and how many there are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn all_sent(&self, page: usize, page_size: usize) -> Result<(Vec<Sent>, usize), Error> {
        self.with(move |file, key| {
            let count: i64 = file.query_row("SELECT count(*) FROM sent", [], |row| row.get(0))?;
            let offset = i64::try_from(page.saturating_mul(page_size)).unwrap_or(i64::MAX);
            let sql = "SELECT document_id, time, sealed FROM sent ORDER BY time DESC LIMIT ?1 OFFSET ?2";
            let sent = sent(file, key, sql, params![i64::try_from(page_size).unwrap_or(i64::MAX), offset])?;
            Ok((sent, usize::try_from(count).unwrap_or(0)))
        })
        .await
    }

    /// The documents that were sent for an object and are to go with its answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sent_for(&self, object: &str) -> Result<Vec<Sent>, Error> {
        let object = object.to_owned();
        self.with(move |file, key| {
            let sql = "SELECT document_id, time, sealed FROM sent WHERE object = ?1 ORDER BY time LIMIT 50";
            sent(file, key, sql, [object])
        })
        .await
    }

    /// A document that was sent.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sent_document(&self, document_id: &str) -> Result<Option<Sent>, Error> {
        let document_id = document_id.to_owned();
        self.with(move |file, key| {
            let sql = "SELECT document_id, time, sealed FROM sent WHERE document_id = ?1";
            Ok(sent(file, key, sql, [document_id])?.pop())
        })
        .await
    }
}

fn place(sender: &str, message_id: &str) -> String {
    format!("item {sender} {message_id}")
}

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let moment = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    Ok(Item {
        number: row.get(0)?,
        kind: ItemKind::parse(&row.get::<_, String>(1)?),
        sender: row.get(2)?,
        message_id: row.get(3)?,
        message_type: row.get(4)?,
        object_id: row.get(5)?,
        position: row.get(6)?,
        accepted: Timestamp::from_millis(row.get(7)?),
        arrived: Timestamp::from_millis(row.get(8)?),
        opened: moment(row.get(9)?),
        handled: moment(row.get(10)?),
        handled_by: row.get::<_, Option<String>>(11)?.unwrap_or_default(),
    })
}

fn opened(
    file: &Connection,
    key: &SealingKey,
    found: Option<(Item, Vec<u8>)>,
) -> Result<Option<(Item, Arrived, bool)>, Error> {
    let Some((item, sealed)) = found else { return Ok(None) };
    let body: Arrived = key.open(&place(&item.sender, &item.message_id), &sealed)?;
    let sql = "SELECT non_disclosure FROM item WHERE subject = ?1 AND non_disclosure > 0 ORDER BY accepted DESC, number DESC LIMIT 1";
    let said: Option<i64> = file.query_row(sql, [key.subject(&body.subject_id)], |row| row.get(0)).optional()?;
    let ordered = body.non_disclosure() == Some(true) || (!body.subject_id.is_empty() && said == Some(2));
    Ok(Some((item, body, ordered)))
}

fn sent(file: &Connection, key: &SealingKey, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Sent>, Error> {
    let mut found = file.prepare_cached(sql)?;
    let found = found.query_map(values, |row| {
        Ok((row.get::<_, String>(0)?, Timestamp::from_millis(row.get(1)?), row.get::<_, Vec<u8>>(2)?))
    })?;
    let mut all = Vec::new();
    for row in found {
        let (document_id, time, sealed) = row?;
        all.push(Sent { time, ..key.open(&document_id, &sealed)? });
    }
    Ok(all)
}
