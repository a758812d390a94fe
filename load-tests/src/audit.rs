//! Looks every receipt up in the ledger, over its service, as an auditor: the record that the receipt names must be there, and be
//! about what the receipt says.

use std::time::{Duration, Instant};

use airut_client::Client;
use airut_domain::{message::Event, record::Kind};
use airut_wire::v1::{Entry, ListEntriesRequest};
use anyhow::Context;

use crate::seen::Seen;

/// Entries asked for at once: as many as the ledger gives.
const PAGE: i32 = 1000;

/// How long the ledger may take to count what was recorded last, and a call of it.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What was found.
#[derive(Debug)]
pub(crate) enum Audit {
    /// So many receipts' records are not in the ledger.
    Missing(usize),
    /// It could not be looked at, for this reason.
    LeftOut(String),
}

/// Looks up every receipt that was seen.
pub(crate) async fn receipts(auditor: Option<&Client>, seen: &Seen) -> anyhow::Result<Audit> {
    let Some(auditor) = auditor else {
        return Ok(Audit::LeftOut("there is no certificate of an auditor".to_owned()));
    };
    let mut request = ListEntriesRequest { page_size: PAGE, page_token: String::new() };
    let mut complete_since = None;
    loop {
        let page = auditor.list_entries(&request, PATIENCE).await.context("the ledger")?;
        for entry in &page.entries {
            find(entry, seen)?;
        }
        if !page.next_page_token.is_empty() {
            request.page_token = page.next_page_token;
            complete_since = None;
            continue;
        }
        // The last page, which is asked for again until the ledger has counted all.
        let missing = seen.not_in_ledger();
        let since = complete_since.get_or_insert_with(Instant::now);
        if missing == 0 || since.elapsed() > PATIENCE {
            return Ok(Audit::Missing(missing));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn find(entry: &Entry, seen: &Seen) -> anyhow::Result<()> {
    let header = airut_wire::record::decode(&entry.header).with_context(|| entry.position.clone())?;
    if let Kind::Message(Event::Accepted(accepted)) = header.kind {
        for (index, item) in accepted.items.iter().enumerate() {
            seen.find(item.id.as_str(), (&entry.position, index), item.commitment);
        }
    }
    Ok(())
}
