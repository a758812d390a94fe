//! What runs beside a process's roles: reloads, trimming, counting, gauges.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airut_domain::time::Timestamp;
use airut_exchange::{Catalogue, CatalogueFiles, Change, Gateway, Reception, Retention, Stranger, World};
use airut_log::{KeyRing, Log};
use airut_store::KeyStore;
use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::partners;

/// How often the partners' and the message types' files are looked at.
const FILES_POLL: Duration = Duration::from_secs(2);

/// How often gauges are set.
pub(super) const GAUGES: Duration = Duration::from_secs(1);

/// How often the log is trimmed.
const TRIM: Duration = Duration::from_secs(60 * 60);

/// How often old keys are erased, and how long after the start first.
const ERASE: Duration = Duration::from_secs(60 * 60);
const ERASE_FIRST: Duration = Duration::from_secs(10);

pub(super) async fn count_strangers(
    reception: Reception,
    mut refused: mpsc::Receiver<airut_identity::Stranger>,
    stop: CancellationToken,
) {
    while let Some(Some(stranger)) = stop.run_until_cancelled(refused.recv()).await {
        let stranger = Stranger {
            reason: stranger.reason,
            issuer: stranger.issuer.unwrap_or_default(),
            prefix: stranger.prefix.to_string(),
        };
        reception.count_stranger(&stranger).await;
    }
}

/// Puts the partners' definitions in force.
pub(super) async fn apply_partners(gateway: &Gateway, dir: &Path) -> anyhow::Result<()> {
    let definitions = partners::read(dir).map_err(|faults| anyhow::anyhow!("partners: {}", faults.join("\n  ")))?;
    for change in gateway.apply_partners(definitions).await.context("partners")? {
        if let Change::Applied(partner, version) = change {
            tracing::info!(%partner, version, "a partner's definition is in force");
        }
    }
    Ok(())
}

pub(super) async fn watch_partners(gateway: Gateway, dir: PathBuf, stop: CancellationToken) {
    let mut last_fault = None;
    while tokio::time::timeout(FILES_POLL, stop.cancelled()).await.is_err() {
        let fault = apply_partners(&gateway, &dir).await.err().map(|fault| format!("{fault:#}"));
        if let Some(fault) = fault.as_ref().filter(|fault| Some(*fault) != last_fault.as_ref()) {
            tracing::error!(%fault, "the partners' definitions are not applied");
        }
        last_fault = fault;
    }
}

/// Puts the message types of the directory in force whenever its files have changed from those `seen`. While they are at fault,
/// those before them stay in force.
pub(super) async fn watch_message_types(
    catalogue: Arc<ArcSwap<Catalogue>>,
    dir: PathBuf,
    seen: CatalogueFiles,
    stop: CancellationToken,
) {
    let mut seen = Ok(seen);
    while tokio::time::timeout(FILES_POLL, stop.cancelled()).await.is_err() {
        let (dir, last) = (dir.clone(), seen.clone());
        // Schemas are compiled, which takes a while.
        let looked = tokio::task::spawn_blocking(move || {
            let found = CatalogueFiles::read(&dir);
            let load = || found.clone().map_err(|fault| vec![fault]).and_then(Catalogue::try_from);
            let changed = (found != last).then(load);
            (found, changed)
        });
        let Ok((found, changed)) = looked.await else { continue };
        seen = found;
        match changed {
            None => {}
            Some(Ok(loaded)) => {
                tracing::info!(types = loaded.types().iter().count(), "the message types are in force");
                catalogue.store(Arc::new(loaded));
            }
            Some(Err(faults)) => {
                let fault = faults.join("\n  ");
                tracing::error!(%fault, "the message types are not in force; those before them are");
            }
        }
    }
}

pub(super) async fn trim(gateway: Gateway, stop: CancellationToken) {
    while tokio::time::timeout(TRIM, stop.cancelled()).await.is_err() {
        if let Err(cause) = gateway.trim().await {
            tracing::warn!(%cause, "the log is not trimmed");
        }
    }
}

/// Erases the keys of what nobody needs any more: soon after the start, then every hour.
pub(super) async fn erase_old_keys(gateway: Gateway, retention: Retention, stop: CancellationToken) {
    let mut wait = ERASE_FIRST;
    while tokio::time::timeout(wait, stop.cancelled()).await.is_err() {
        wait = ERASE;
        match gateway.erase_old_keys(retention).await {
            Ok(0) => {}
            Ok(keys) => tracing::info!(keys, "old data keys are erased"),
            Err(cause) => tracing::warn!(%cause, "old data keys are not erased"),
        }
    }
}

/// Puts the wrapping keys of the ring's file in force whenever they are others than those in force. While the file is at
/// fault, those before stay in force.
pub(super) async fn watch_ring(keys: KeyStore, mut in_force: Arc<KeyRing>, path: PathBuf, stop: CancellationToken) {
    let mut last_fault = None;
    while tokio::time::timeout(FILES_POLL, stop.cancelled()).await.is_err() {
        let fault = match KeyRing::load(&path) {
            Ok(ring) if ring.wraps_like(&in_force) => None,
            Ok(ring) => {
                keys.set_wrapping(ring.wrapping());
                in_force = Arc::new(ring);
                tracing::info!(active = %keys.wrapping().active(), "other wrapping keys are in force");
                None
            }
            Err(fault) => Some(fault.to_string()),
        };
        if let Some(fault) = fault.as_ref().filter(|fault| Some(*fault) != last_fault.as_ref()) {
            tracing::error!(%fault, "the key ring is not read; its wrapping keys before are in force");
        }
        last_fault = fault;
    }
}

/// Of every process that is called: its connections, its certificate, its log.
pub(super) async fn edge_gauges(listener: airut_identity::Handle, log: Log, stop: CancellationToken) {
    while tokio::time::timeout(GAUGES, stop.cancelled()).await.is_err() {
        metrics::gauge!("airut_connections_open").set(float(listener.open() as u64));
        metrics::gauge!("airut_log_queued_bytes").set(float(log.stats().queued_bytes as u64));
        metrics::counter!("airut_log_records_total").absolute(log.stats().records);
        metrics::counter!("airut_log_commits_total").absolute(log.stats().commits);
        metrics::counter!("airut_strangers_untold_total").absolute(listener.untold());
        let expiry = listener.expiry();
        metrics::gauge!("airut_certificate_expiry_timestamp_seconds").set(seconds(expiry.certificate_not_after));
        if let Some(next) = expiry.crl_next_update {
            metrics::gauge!("airut_crl_next_update_timestamp_seconds").set(seconds(next));
        }
    }
}

/// Of a gateway: what waits for each partner.
pub(super) async fn inbox_gauges(gateway: Gateway, world: World, stop: CancellationToken) {
    while tokio::time::timeout(GAUGES, stop.cancelled()).await.is_err() {
        let now = world.now();
        for (partner, totals, oldest) in gateway.folds().inboxes() {
            let partner = partner.to_string();
            metrics::gauge!("airut_inbox_depth", "partner" => partner.clone()).set(float(totals.messages));
            let age = now.since(oldest).as_secs_f64();
            metrics::gauge!("airut_inbox_oldest_unsettled_age_seconds", "partner" => partner).set(age);
        }
    }
}

pub(super) async fn checkpoint_gauges(
    status: watch::Receiver<airut_ledger::Status>,
    world: World,
    stop: CancellationToken,
) {
    while tokio::time::timeout(GAUGES, stop.cancelled()).await.is_err() {
        let status = status.borrow().clone();
        metrics::gauge!("airut_ledger_size").set(float(status.size));
        // Nothing unsigned: the newest checkpoint is as good as one signed now.
        let age = status.unsigned_since.map(|since| world.now().since(since)).unwrap_or_default();
        metrics::gauge!("airut_checkpoint_age_seconds").set(age.as_secs_f64());
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn seconds(moment: Timestamp) -> f64 {
    moment.as_millis() as f64 / 1000.0
}
