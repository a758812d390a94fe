//! Taking in what arrives: durable here first, then settled at the exchange. What is here already is settled again and kept once.

use std::{sync::Arc, time::Duration};

use airut_client::{Collected, CollectorSettings, Lease};
use airut_domain::time::Timestamp;
use airut_wire::v1;
use tokio_util::sync::CancellationToken;

use super::{AGAIN, Change, Office, Rights};
use crate::store::{Arrived, ItemKind, NewItem};

/// So many deliveries may be in hand.
const CREDIT: u32 = 64;

/// So long without a word from the exchange a stream is tried for before it is told that there is none.
const PATIENCE: Duration = Duration::from_secs(10);

impl Office {
    /// Takes in messages for as long as the office runs.
    pub(super) async fn take_in(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let types = self.collected_types();
            if types.is_empty() {
                // Not known yet, or it receives nothing.
                if tokio::time::timeout(AGAIN, stop.cancelled()).await.is_ok() {
                    return;
                }
                continue;
            }
            let settings = CollectorSettings {
                credit: CREDIT,
                patience: Some(PATIENCE),
                message_types: types.iter().cloned().collect(),
                ..CollectorSettings::default()
            };
            let mut collector = self.client.collector(settings, &stop);
            while let Some(Collected { delivery, lease }) = collector.next().await {
                self.take(delivery, lease).await;
                if self.collected_types() != types {
                    break;
                }
            }
            if let Err(cause) = collector.close().await {
                tracing::warn!(organisation = self.id, %cause, "messages are not taken in for now");
            }
            if stop.is_cancelled() || tokio::time::timeout(AGAIN, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    async fn take(&self, delivery: v1::Delivery, lease: Lease) {
        let Some(item) = new_item(delivery, &self.rights(), self.now()) else {
            // The exchange sends no delivery without a message.
            drop(lease.return_after(None));
            return;
        };
        let change = match &item.kind {
            ItemKind::Notice => Change::Notices,
            ItemKind::Document => Change::Document((item.sender.clone(), item.object_id.clone())),
        };
        match self.store.keep(item).await {
            Ok(new) => {
                // Its confirmation is the collector's to wait for.
                drop(lease.accept());
                if new {
                    self.changes.tell(change);
                }
            }
            Err(cause) => {
                tracing::error!(organisation = self.id, %cause, "a message is not taken in");
                drop(lease.return_after(Some(Duration::from_secs(30))));
            }
        }
    }
}

fn new_item(delivery: v1::Delivery, rights: &Rights, arrived: Timestamp) -> Option<NewItem> {
    let message = delivery.message?;
    let context = message.context.unwrap_or_default();
    let payload = serde_json::from_slice(&message.payload).unwrap_or_default();
    let text = |name: &str| {
        let value: &serde_json::Value = &payload;
        value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let document_id = text("document_id");
    let is_document = rights.is_document(&message.message_type) && !document_id.is_empty();
    let (kind, object_id) =
        if is_document { (ItemKind::Document, document_id) } else { (ItemKind::Notice, String::new()) };
    Some(NewItem {
        kind,
        sender: delivery.sender,
        message_id: message.message_id,
        message_type: message.message_type,
        object_id,
        position: delivery.position,
        accepted: delivery.accept_time.as_ref().map_or(arrived, |at| airut_wire::timestamp_from(*at)),
        arrived,
        body: Arrived {
            subject_id: message.subject_id,
            end_user: context.end_user,
            case_id: context.case_id,
            purpose: context.purpose,
            legal_basis: context.legal_basis,
            payload,
        },
    })
}
