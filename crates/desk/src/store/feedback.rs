//! Feedback on the desk's accessibility, which anybody may give.

use airut_domain::time::Timestamp;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Error, Store};

/// So much is kept; what comes beyond it takes the place of the oldest.
const MOST: i64 = 1000;

/// A piece of feedback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// When it came.
    #[serde(skip, default = "epoch")]
    pub time: Timestamp,
    /// What was said.
    pub text: String,
    /// Where to answer; empty where no answer is wanted.
    pub reply_to: String,
    /// The language it was given in.
    pub language: String,
}

const fn epoch() -> Timestamp {
    Timestamp::from_millis(0)
}

impl Store {
    /// Keeps it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn keep_feedback(&self, feedback: Feedback) -> Result<(), Error> {
        self.with(move |file, key| {
            let sealed = key.seal("feedback", &feedback);
            file.execute(
                "INSERT INTO feedback (time, sealed) VALUES (?1, ?2)",
                params![feedback.time.as_millis(), sealed],
            )?;
            let sql = "DELETE FROM feedback WHERE number <= (SELECT max(number) FROM feedback) - ?1";
            Ok(file.execute(sql, [MOST]).map(drop)?)
        })
        .await
    }

    /// All of it, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn feedback(&self) -> Result<Vec<Feedback>, Error> {
        self.with(|file, key| {
            let mut found = file.prepare_cached("SELECT time, sealed FROM feedback ORDER BY number DESC")?;
            let mut rows = found.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let time = Timestamp::from_millis(row.get(0)?);
                all.push(Feedback { time, ..key.open("feedback", &row.get::<_, Vec<u8>>(1)?)? });
            }
            Ok(all)
        })
        .await
    }
}
