//! The access log: who has looked at what, when, for what purpose and in which case. An entry is durable before what it tells of is shown, and names
//! the record of the exchange that tells the same, where there is one.

use airut_domain::time::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Error, SealingKey, Store};

/// What an official did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looked up benefits.
    AskedBenefits,
    /// Read an information request.
    ReadRequest,
    /// Looked for requests about a person.
    FoundRequests,
    /// Put an information request.
    CreatedRequest,
    /// Answered one.
    AnsweredRequest,
    /// Returned one.
    ReturnedRequest,
    /// Closed one.
    ClosedRequest,
    /// Passed one on.
    TransferredRequest,
    /// Cancelled one.
    CancelledRequest,
    /// Took one away as a file.
    ExportedRequest,
    /// Looked at what a document is.
    ReadDocument,
    /// Fetched a document.
    FetchedDocument,
    /// Sent a document.
    SentDocument,
    /// Read a notice.
    ReadNotice,
    /// Said that something was dealt with.
    Handled,
    /// Claimed something.
    Claimed,
    /// Gave it back.
    Released,
    /// Looked at what others have looked at.
    ReadUsersLog,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AskedBenefits,
        Self::ReadRequest,
        Self::FoundRequests,
        Self::CreatedRequest,
        Self::AnsweredRequest,
        Self::ReturnedRequest,
        Self::ClosedRequest,
        Self::TransferredRequest,
        Self::CancelledRequest,
        Self::ExportedRequest,
        Self::ReadDocument,
        Self::FetchedDocument,
        Self::SentDocument,
        Self::ReadNotice,
        Self::Handled,
        Self::Claimed,
        Self::Released,
        Self::ReadUsersLog,
    ];

    /// In the file, and behind `action-` the key of its text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AskedBenefits => "asked-benefits",
            Self::ReadRequest => "read-request",
            Self::FoundRequests => "found-requests",
            Self::CreatedRequest => "created-request",
            Self::AnsweredRequest => "answered-request",
            Self::ReturnedRequest => "returned-request",
            Self::ClosedRequest => "closed-request",
            Self::TransferredRequest => "transferred-request",
            Self::CancelledRequest => "cancelled-request",
            Self::ExportedRequest => "exported-request",
            Self::ReadDocument => "read-document",
            Self::FetchedDocument => "fetched-document",
            Self::SentDocument => "sent-document",
            Self::ReadNotice => "read-notice",
            Self::Handled => "handled",
            Self::Claimed => "claimed",
            Self::Released => "released",
            Self::ReadUsersLog => "read-users-log",
        }
    }
}

/// What is entered.
#[derive(Clone, Debug)]
pub struct Looked {
    /// When.
    pub time: Timestamp,
    /// Who, as the organisation knows them.
    pub official: String,
    /// What they did.
    pub action: Action,
    /// With what: an object's name, without personal data.
    pub object: String,
    /// The rest, which is sealed.
    pub more: Sealed,
}

/// What of an entry is sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The official's name.
    pub name: String,
    /// Whom it is about; empty for nobody.
    pub person: String,
    /// Why.
    pub purpose: String,
    /// In which case.
    pub case_id: String,
}

/// How what was entered ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// In a word: [`Access::outcome`].
    pub outcome: String,
    /// The exchange's record of it, where it named one.
    pub position: Option<String>,
    /// Whom it was about, where that was not known before; else empty.
    pub person: String,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its number.
    pub number: i64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub official: String,
    /// What they did, as [`Action::name`] has it.
    pub action: String,
    /// With what.
    pub object: String,
    /// How it ended: `done`, `unknown`, or the exchange's reason for refusing it; none where the desk was stopped meanwhile.
    pub outcome: Option<String>,
    /// The exchange's record of it, where it named one.
    pub position: Option<String>,
    /// The rest.
    pub more: Sealed,
}

impl Store {
    /// Enters it; gives the entry's number. Durable once this returns.
    ///
    /// # Errors
    /// See [`Error`]: then it must not be shown.
    pub async fn enter(&self, looked: Looked) -> Result<i64, Error> {
        self.with(move |file, key| {
            let place = place(&looked.official, looked.time);
            let sealed = key.seal(&place, &looked.more);
            let sql = "INSERT INTO access (time, official, action, object, sealed) VALUES (?1, ?2, ?3, ?4, ?5)";
            let time = looked.time.as_millis();
            file.execute(sql, params![time, looked.official, looked.action.name(), looked.object, sealed])?;
            Ok(file.last_insert_rowid())
        })
        .await
    }

    /// Says how it ended, and whom it was about where that was known only then. Once: an entry that has an end keeps it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ended(&self, number: i64, end: End) -> Result<(), Error> {
        self.with(move |file, key| {
            let sql = "SELECT official, time, sealed FROM access WHERE number = ?1 AND outcome IS NULL";
            let entered = file.query_row(sql, [number], |row| {
                Ok((row.get::<_, String>(0)?, Timestamp::from_millis(row.get(1)?), row.get::<_, Vec<u8>>(2)?))
            });
            let Some((official, time, mut sealed)) = entered.optional()? else { return Ok(()) };
            if !end.person.is_empty() {
                let place = place(&official, time);
                let more = Sealed { person: end.person, ..key.open(&place, &sealed)? };
                sealed = key.seal(&place, &more);
            }
            let sql = "UPDATE access SET outcome = ?2, position = ?3, sealed = ?4 WHERE number = ?1";
            Ok(file.execute(sql, params![number, end.outcome, end.position, sealed]).map(drop)?)
        })
        .await
    }

    /// A page of the entries, newest first, of one official or of all, and how many there are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn accesses(
        &self,
        official: Option<&str>,
        page: usize,
        page_size: usize,
    ) -> Result<(Vec<Access>, usize), Error> {
        let official = official.map(str::to_owned);
        self.with(move |file, key| {
            let sql = "SELECT count(*) FROM access WHERE ?1 IS NULL OR official = ?1";
            let count: i64 = file.query_row(sql, [&official], |row| row.get(0))?;
            let offset = i64::try_from(page.saturating_mul(page_size)).unwrap_or(i64::MAX);
            let mut found = file.prepare_cached(
                "SELECT number, time, official, action, object, outcome, position, sealed FROM access
                 WHERE ?1 IS NULL OR official = ?1 ORDER BY number DESC LIMIT ?2 OFFSET ?3",
            )?;
            let mut rows = found.query(params![official, i64::try_from(page_size).unwrap_or(i64::MAX), offset])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(entry(row, key)?);
            }
            Ok((entries, usize::try_from(count).unwrap_or(0)))
        })
        .await
    }
}

fn place(official: &str, time: Timestamp) -> String {
    format!("access {official} {}", time.as_millis())
}

fn entry(row: &Row<'_>, key: &SealingKey) -> Result<Access, Error> {
    let (time, official) = (Timestamp::from_millis(row.get(1)?), row.get::<_, String>(2)?);
    let more = key.open(&place(&official, time), &row.get::<_, Vec<u8>>(7)?)?;
    Ok(Access {
        number: row.get(0)?,
        time,
        official,
        action: row.get(3)?,
        object: row.get(4)?,
        outcome: row.get(5)?,
        position: row.get(6)?,
        more,
    })
}
