//! Refusals, recorded before they are answered, within a budget.
//!
//! A known partner's refusals are recorded one by one up to a budget a minute, then as counts. A stranger's are counted: the
//! first a minute per reason, issuer and address prefix, up to a bound, then totals. So nobody can buy durable writes
//! without end: a minute costs the log at most [`FIRST_STRANGERS`] records for strangers and [`SINGLY`] per partner, and as
//! many counts as there are reasons.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use airut_domain::{
    id::PartnerId,
    keys::Digest,
    partition::Topic,
    record::Refused,
    refusal::{Reason, Refusal},
    time::Timestamp,
};
use airut_log::{AppendError, EdgeRing, HeaderWriter};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Refusals of one partner that are recorded singly in a minute.
pub const SINGLY: u32 = 60;

/// First refusals of strangers that are recorded in a minute.
pub const FIRST_STRANGERS: usize = 16;

const MINUTE: Duration = Duration::from_secs(60);

/// Somebody who came to no partner's name.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// Why they were refused.
    pub reason: Reason,
    /// The issuer of the certificate they showed, where they showed one.
    pub issuer: String,
    /// The network they came from, such as `192.0.2.0/24`.
    pub prefix: String,
}

/// Records refusals.
#[derive(Clone)]
pub(crate) struct Refusals {
    writer: HeaderWriter,
    ring: Arc<EdgeRing>,
    world: World,
    minute: Arc<Mutex<Minute>>,
}

#[derive(Default)]
struct Minute {
    began: Timestamp,
    singly: BTreeMap<PartnerId, u32>,
    counted: BTreeMap<(Option<PartnerId>, Reason), u64>,
    strangers: BTreeSet<Digest>,
}

impl Refusals {
    pub(crate) fn new(writer: HeaderWriter, ring: EdgeRing, world: World) -> Self {
        Self { writer, ring: Arc::new(ring), world, minute: Arc::default() }
    }

    /// Records a partner's refusal, or counts it when the budget is spent. When it returns the refusal may be answered.
    pub(crate) async fn record(&self, partner: &PartnerId, method: &str, refusal: &Refusal) -> Result<(), AppendError> {
        metrics::counter!("airut_refusals_total", "reason" => refusal.reason.code()).increment(1);
        if !self.within_budget(partner, refusal.reason) {
            return Ok(());
        }
        let fields = refusal.violations.iter().map(|violation| violation.field.to_string()).collect();
        let refused = Refused {
            partner: Some(partner.clone()),
            reason: refusal.reason,
            method: method.to_owned(),
            fields,
            count: 1,
            span: Duration::ZERO,
            stranger: None,
        };
        self.append(refused).await
    }

    /// Counts a stranger's refusal, and records it if it is among the first of its kind this minute.
    pub(crate) async fn count(&self, stranger: &Stranger) -> Result<(), AppendError> {
        metrics::counter!("airut_refusals_total", "reason" => stranger.reason.code()).increment(1);
        let who = self.ring.stranger(&[
            stranger.reason.code().as_bytes(),
            stranger.issuer.as_bytes(),
            stranger.prefix.as_bytes(),
        ]);
        if !self.is_first(who, stranger.reason) {
            return Ok(());
        }
        self.append(Refused {
            partner: None,
            reason: stranger.reason,
            method: String::new(),
            fields: Vec::new(),
            count: 1,
            span: Duration::ZERO,
            stranger: Some(who),
        })
        .await
    }

    /// Writes the counts of each minute, and those of the last one when told to stop.
    pub(crate) async fn write_counts(self, stop: CancellationToken) {
        loop {
            let stopped = tokio::time::timeout(MINUTE, stop.cancelled()).await.is_ok();
            let ended = std::mem::take(&mut *self.lock());
            let span = self.world.now().since(ended.began).min(MINUTE);
            for ((partner, reason), count) in ended.counted {
                let refused =
                    Refused { partner, reason, method: String::new(), fields: Vec::new(), count, span, stranger: None };
                if let Err(cause) = self.append(refused).await {
                    tracing::warn!(%cause, count, reason = reason.code(), "a count of refusals is not recorded");
                }
            }
            if stopped {
                return;
            }
        }
    }

    fn within_budget(&self, partner: &PartnerId, reason: Reason) -> bool {
        let mut minute = self.lock();
        minute.begin(&self.world);
        let used = minute.singly.entry(partner.clone()).or_default();
        if *used < SINGLY {
            *used += 1;
            return true;
        }
        *minute.counted.entry((Some(partner.clone()), reason)).or_default() += 1;
        false
    }

    fn is_first(&self, who: Digest, reason: Reason) -> bool {
        let mut minute = self.lock();
        minute.begin(&self.world);
        if minute.strangers.len() < FIRST_STRANGERS && minute.strangers.insert(who) {
            return true;
        }
        *minute.counted.entry((None, reason)).or_default() += 1;
        false
    }

    async fn append(&self, refused: Refused) -> Result<(), AppendError> {
        let party = refused.partner.as_ref().map_or("", PartnerId::as_str);
        let partition = self.ring.partition_of(Topic::Refusals, &[party.as_bytes()]);
        self.writer.append(partition, refused, "").await.map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Minute> {
        self.minute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minute {
    fn begin(&mut self, world: &World) {
        if self.began == Timestamp::default() {
            self.began = world.now();
        }
    }
}
