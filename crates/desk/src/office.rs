//! One organisation at the desk: its connection to the exchange, what it may do there, the requests it has, and its store.
//!
//! An office takes in messages and follows the organisation's requests by itself, for as long as it runs. What officials do goes through it too, so
//! that nothing is shown without an entry in the access log.

mod changes;
mod collect;
mod requests;
mod rights;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use airut_client::{CallError, Client, ReceiptKeys, Settings};
use airut_domain::time::Timestamp;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use changes::{Change, Changes, Since};
pub(crate) use requests::Mirror;
pub(crate) use rights::REQUESTS;
pub(crate) use rights::Rights;

use crate::{
    official::Official,
    settings::Now,
    store::{Action, End, Looked, Sealed, SealingKey, Store},
};

/// How long an official waits for the exchange at most.
pub(crate) const DEADLINE: Duration = Duration::from_secs(8);

/// How long to wait before the exchange is asked again for what the office follows.
const AGAIN: Duration = Duration::from_secs(2);

/// How an office is reached and where it keeps its things.
#[derive(Clone, Debug)]
pub struct OfficeSettings {
    /// The organisation's id at the exchange, as the provider's claim has it.
    pub id: String,
    /// The connection.
    pub exchange: Settings,
    /// The exchange's receipt keys.
    pub receipt_keys: std::path::PathBuf,
    /// The types of messages that its officials read here; empty for all that it receives. Others are left for the organisation's other systems.
    pub collect: BTreeSet<String>,
}

/// An organisation's office.
#[derive(Debug)]
pub struct Office {
    /// The organisation's id.
    pub id: String,
    /// Its connection.
    pub client: Client,
    /// The exchange's receipt keys.
    pub keys: ReceiptKeys,
    /// What it keeps.
    pub store: Store,
    rights: RwLock<Arc<Rights>>,
    requests: RwLock<Mirror>,
    collect: BTreeSet<String>,
    changes: Changes,
    /// Whether it hears from the exchange.
    link: watch::Sender<bool>,
    now: Now,
}

/// What opening an office can fail at.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection's files.
    #[error(transparent)]
    Connect(#[from] airut_client::ConnectError),
    /// The exchange's receipt keys.
    #[error(transparent)]
    ReceiptKeys(#[from] airut_client::ReceiptKeysError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

impl Office {
    /// Opens it, and has it take in and follow what there is until `stop`. The exchange may be down: the office goes on trying.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        settings: &OfficeSettings,
        dir: &Path,
        key: SealingKey,
        now: Now,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, OpenError> {
        let office = Arc::new(Self {
            id: settings.id.clone(),
            client: Client::connect(&settings.exchange).await?.with_trace_context(airut_telemetry::current),
            keys: ReceiptKeys::load(&settings.receipt_keys)?,
            store: Store::open(&dir.join(format!("{}.sqlite", settings.id)), key)?,
            rights: RwLock::default(),
            requests: RwLock::default(),
            collect: settings.collect.clone(),
            changes: Changes::new(now.get()),
            link: watch::channel(false).0,
            now,
        });
        tasks.spawn(Arc::clone(&office).keep_rights(stop.clone()));
        tasks.spawn(Arc::clone(&office).follow_requests(stop.clone()));
        tasks.spawn(Arc::clone(&office).take_in(stop));
        Ok(office)
    }

    /// What it may do, as far as is known.
    pub fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.rights.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Waits until the exchange has said what the organisation may do, at most so long.
    pub async fn ready(&self, within: Duration) -> bool {
        let mut link = self.link.subscribe();
        let known = async { while self.rights().is_empty() && link.changed().await.is_ok() {} };
        tokio::time::timeout(within, known).await.is_ok()
    }

    /// Its requests, as far as they have been heard of.
    pub fn requests(&self) -> std::sync::RwLockReadGuard<'_, Mirror> {
        self.requests.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether it hears from the exchange.
    pub fn is_linked(&self) -> bool {
        *self.link.borrow()
    }

    /// What has changed lately.
    pub(crate) const fn changes(&self) -> &Changes {
        &self.changes
    }

    fn set_link(&self, linked: bool) {
        let changed = self.link.send_if_modified(|link| std::mem::replace(link, linked) != linked);
        if changed {
            self.changes.tell(Change::Link);
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Enters in the access log what an official is about to do. It must not be done when this fails.
    ///
    /// # Errors
    /// The store can not be written.
    pub async fn enter(
        &self,
        official: &Official,
        action: Action,
        object: &str,
        about: About<'_>,
    ) -> Result<Entry<'_>, crate::store::Error> {
        let more = Sealed {
            name: official.name.clone(),
            person: about.person.to_owned(),
            purpose: about.purpose.to_owned(),
            case_id: about.case_id.to_owned(),
        };
        let official = official.subject.clone();
        let looked = Looked { time: self.now(), official, action, object: object.to_owned(), more };
        Ok(Entry { office: self, number: self.store.enter(looked).await? })
    }

    /// The types of messages that its officials read here, of those that it receives.
    pub(crate) fn collected_types(&self) -> BTreeSet<String> {
        let received = self.rights().received_types();
        if self.collect.is_empty() { received } else { received.intersection(&self.collect).cloned().collect() }
    }
}

/// Whom and what an entry is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// An identity code; empty for nobody.
    pub person: &'a str,
    /// Why.
    pub purpose: &'a str,
    /// In which case.
    pub case_id: &'a str,
}

/// An entry in the access log whose end is not told yet.
#[must_use]
#[derive(Debug)]
pub struct Entry<'a> {
    office: &'a Office,
    number: i64,
}

impl Entry<'_> {
    /// It was done, as this record of the exchange says; empty where there is none.
    pub async fn done(self, position: &str) {
        self.done_about(position, "").await;
    }

    /// The same, and now it is known whom it was about.
    pub async fn done_about(self, position: &str, person: &str) {
        let position = Some(position.to_owned()).filter(|position| !position.is_empty());
        self.end(End { outcome: "done".to_owned(), position, person: person.to_owned() }).await;
    }

    /// It was not done, or nobody knows.
    pub async fn failed(self, fault: &CallError) {
        let outcome = fault.reason().map_or("unknown", airut_domain::refusal::Reason::code).to_owned();
        self.end(End { outcome, ..End::default() }).await;
    }

    /// It was refused here, with a reason as the exchange has it.
    pub async fn refused(self, reason: &str) {
        self.end(End { outcome: reason.to_owned(), ..End::default() }).await;
    }

    async fn end(self, end: End) {
        if let Err(cause) = self.office.store.ended(self.number, end).await {
            // The entry itself is there; it then says nothing of its end.
            tracing::error!(%cause, "the end of an entry in the access log is not on record");
        }
    }
}
