//! What becomes of documents by itself: those that are held pass on, those whose time is over end, and what is left of ended ones is deleted.
//!
//! Who is to let a held document pass the gateways agree on by rendezvous; if it does not, another one does after a while. The call that stored it comes
//! before all of them.

use std::{collections::BTreeMap, time::Duration};

use airut_domain::{
    document::{Document, DocumentKey, Ended, Event, Phase},
    message::Place,
    partition::Position,
    time::Timestamp,
};
use airut_store::ObjectName;
use futures::StreamExt;

use super::VaultError;
use crate::{
    fold::Origin,
    gateway::{Gateway, Unproposed},
    verb::offer::Shares,
};

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);

/// The call that stored a document, then the gateway whose turn it is, come first: each of them so long, and up to twice that.
const OWNER_FIRST: Duration = Duration::from_secs(2);

/// As many held documents are looked at, and as many of them passed on at once.
const MOST_HELD: usize = 256;
const AT_ONCE: usize = 4;

/// As many documents are ended with one look.
const MOST_ENDED: usize = 64;

/// A document that could not pass is tried again after this, then twice that, up to the longest.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// How often what is left of ended documents is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60 * 60);

/// Documents that could not pass: how often, and when to try again.
type Tried = BTreeMap<Position, (u32, Timestamp)>;

impl Gateway {
    /// Lets held documents pass, until the gateway stops.
    pub(crate) async fn pass_documents(self) {
        let mut tried = Tried::new();
        while !self.stop.is_cancelled() {
            self.pass_held(&mut tried).await;
            drop(tokio::time::timeout(LOOK, self.stop.cancelled()).await);
        }
    }

    async fn pass_held(&self, tried: &mut Tried) {
        let held = match self.folds.held_documents(MOST_HELD) {
            Ok(held) => held,
            Err(cause) => return tracing::error!(%cause, "the fold can not be read"),
        };
        tried.retain(|begun, _| held.iter().any(|(_, document)| document.begun == *begun));
        metrics::gauge!("airut_documents_held").set(u32::try_from(held.len()).unwrap_or(u32::MAX));
        let now = self.world.now();
        if held.is_empty() || !self.folds.registry_is_current(now) {
            return;
        }
        let gateways = self.folds.gateways();
        let shares = Shares::new(self.incarnation.as_str(), gateways.iter().map(|gateway| gateway.as_str()));
        let patience = self.world.jittered(OWNER_FIRST);
        let is_due = |(_, document): &(DocumentKey, Document)| {
            let Phase::Stored { at, .. } = document.phase else { return false };
            let place = Place { offset: document.begun.offset, item: 0 };
            let own = shares.is_own(document.begun.partition, place);
            let wait = if own { patience } else { patience * 2 };
            now.since(at) >= wait && tried.get(&document.begun).is_none_or(|(_, again)| *again <= now)
        };
        let due: Vec<_> = held.into_iter().filter(is_due).collect();
        let passing = due.into_iter().map(|(key, document)| async move {
            let passed = self.announce(&key, &document, "").await;
            (document.begun, passed)
        });
        let passed: Vec<_> = futures::stream::iter(passing).buffer_unordered(AT_ONCE).collect().await;
        for (begun, passed) in passed {
            if let Err(refusal) = passed {
                let (times, _) = tried.get(&begun).copied().unwrap_or_default();
                let wait = (TRY_AGAIN * 2_u32.saturating_pow(times.min(16))).min(LONGEST);
                tried.insert(begun, (times + 1, self.world.now() + wait));
                tracing::warn!(reason = refusal.reason.code(), document = %begun, "a document is held");
            }
        }
    }

    /// Ends uploads that nobody finished and documents that were kept as long as they may be, until the gateway stops.
    pub(crate) async fn end_documents(self) {
        let mut tidied = self.world.now();
        while !self.stop.is_cancelled() {
            self.end_overdue().await;
            if self.world.now().since(tidied) >= HOUSEKEEPING {
                tidied = self.world.now();
                if let Err(cause) = self.tidy().await {
                    tracing::warn!(%cause, "what is left of ended documents is not deleted yet");
                }
            }
            drop(tokio::time::timeout(LOOK, self.stop.cancelled()).await);
        }
    }

    async fn end_overdue(&self) {
        let now = self.world.now();
        let overdue = match self.folds.overdue_documents(now, MOST_ENDED) {
            Ok(overdue) if overdue.is_empty() => return,
            Ok(overdue) => overdue,
            Err(cause) => return tracing::error!(%cause, "the fold can not be read"),
        };
        // Nobody owns them: the jitter keeps gateways from doing it all at once.
        let patience = self.world.jittered(OWNER_FIRST) / 4;
        let due = |document: &Document| document.until().is_some_and(|until| now.since(until) >= patience);
        for (key, document) in overdue.into_iter().filter(|(_, document)| due(document)) {
            let begun = document.begun;
            let ended = Ended { key, begun: begun.offset };
            let ended = match document.phase {
                Phase::Uploading { .. } => Event::Expired(ended),
                Phase::Stored { .. } | Phase::Announced { .. } => Event::Erased(ended),
                Phase::Rejected { .. } | Phase::Expired { .. } | Phase::Erased { .. } => continue,
            };
            match self.propose(begun.partition, ended, None, "").await {
                Ok(_) => self.erase_content(begun).await,
                // Somebody else has ended it.
                Err(Unproposed::Void(_)) => {}
                Err(Unproposed::Unwritten(refusal)) => {
                    return tracing::warn!(reason = refusal.reason.code(), "documents are not ended");
                }
            }
        }
    }

    /// Deletes what is stored of documents that have ended, and the notes of keys whose documents are forgotten: a gateway died before it had, or the
    /// store was away, or an upload went on that others had ended.
    pub(crate) async fn tidy(&self) -> Result<(), VaultError> {
        let mut after: Option<ObjectName> = None;
        while let Some((documents, last)) = self.vault.documents_after(after.as_ref()).await? {
            for begun in documents {
                match self.origin(begun)? {
                    Origin::Ended | Origin::Forgotten => self.vault.erase(begun).await?,
                    Origin::Lives | Origin::Unread => {}
                }
            }
            after = Some(last);
        }
        let mut after: Option<ObjectName> = None;
        while let Some((keys, last)) = self.vault.keys_after(after.as_ref()).await? {
            for begun in keys {
                if self.origin(begun)? == Origin::Forgotten {
                    self.vault.forget_key(begun).await?;
                }
            }
            after = Some(last);
        }
        Ok(())
    }

    fn origin(&self, begun: Position) -> Result<Origin, VaultError> {
        self.folds.document_origin(begun).map_err(|cause| VaultError::Unavailable(cause.to_string()))
    }
}
