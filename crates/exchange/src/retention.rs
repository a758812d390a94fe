//! Erasing the keys of what nobody may need any more: whatever copies there are of the log, they stay unreadable.
//!
//! What this must never do: erase the key of a body that may still be disclosed.

use std::time::Duration;

use airut_domain::{
    document,
    message::{DEAD_KEPT, REMEMBERED},
    partition::Partition,
    request,
    time::Date,
};
use airut_store::{Erased, Family, KeyError};

use crate::gateway::Gateway;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For how many days the keys of bodies are kept, after the day on which what they open was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Questions and answers.
    pub query_days: u16,
    /// Messages.
    pub message_days: u16,
    /// Information requests and documents.
    pub request_days: u16,
}

impl Retention {
    /// The least that each may be.
    ///
    /// Queries: an answer is served for ten minutes, across midnight. Messages: one is delivered no more 21 days after its
    /// acceptance, redriven or not, and if it dies on that day, what was said of it is shown and told for 7 days more.
    /// Requests and documents: a document is kept for up to 400 days after an upload of one, and told by its name; a request is
    /// open for up to 180 and can be read for 90 more. Each has two days besides, because a day begins before what is recorded in it, and clocks may differ.
    pub const LEAST: Self = Self { query_days: 2, message_days: message_days(), request_days: request_days() };
}

/// Eight days for queries, so that a fault can still be looked into; for messages and requests the least.
impl Default for Retention {
    fn default() -> Self {
        Self { query_days: 8, message_days: Self::LEAST.message_days, request_days: Self::LEAST.request_days }
    }
}

const fn message_days() -> u16 {
    let days = (DEAD_KEPT.as_secs() + REMEMBERED.as_secs()).div_ceil(DAY.as_secs());
    assert!(days < 1000);
    days as u16 + 2
}

const fn request_days() -> u16 {
    let requests = request::LONGEST.as_secs() + request::REMEMBERED.as_secs();
    let documents = document::UPLOAD.as_secs() + document::LONGEST_KEPT.as_secs();
    let longest = if requests > documents { requests } else { documents };
    let days = longest.div_ceil(DAY.as_secs());
    assert!(days < 1000);
    days as u16 + 2
}

impl Gateway {
    /// Erases the keys that are older than this. Any number of gateways may, at any time. Returns how many were erased.
    ///
    /// # Errors
    /// When the key store fails; what was erased before that is.
    pub async fn erase_old_keys(&self, retention: Retention) -> Result<u64, KeyError> {
        let today = self.day_for_sure();
        let mut erased = 0;
        for family in Family::ALL {
            let days = match family {
                Family::Query => retention.query_days,
                Family::Message => retention.message_days,
                Family::Request | Family::Document => retention.request_days,
            };
            let before = Date::from_julian_day(today.to_julian_day() - i32::from(days)).unwrap_or(Date::MIN);
            let Erased { keys, .. } = self.keys.erase_before(family, before).await?;
            erased += keys;
        }
        Ok(erased)
    }

    /// The day that both this machine's clock and the log's stamps have reached: one clock that is wrong erases nothing.
    fn day_for_sure(&self) -> Date {
        let stamped = Partition::all().map(|partition| self.folds.time(partition)).max();
        self.world.now().min(stamped.unwrap_or_default()).date()
    }
}
