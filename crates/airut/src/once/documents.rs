//! The story of one document: sent by a county, announced to Kela, fetched, and kept from everybody else.

use std::{io::Cursor, path::Path, time::Duration};

use airut_client::{Client, CollectorSettings, FetchError, ReceiptKeys};
use airut_domain::{keys::Digest, refusal::Reason};
use airut_wire::v1;
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;
use crate::terminal::say;

/// What it is.
const TYPE: &str = "social-assistance-document";

/// As many deliveries may be in hand: the story's, and what others have left behind in the directory.
const CREDIT: u32 = 4096;

pub(super) async fn tell(
    dir: &Path,
    county: &Client,
    kela: &Client,
    stranger: &Client,
    subject: &str,
) -> anyhow::Result<()> {
    say("\n10 A county sends Kela a client's document");
    let content = statement_of_account();
    let metadata = described(&content, subject);
    let keys = ReceiptKeys::load(dir.join("pki/receipt-keys.txt"))?;
    let mut source = Cursor::new(content.clone());
    let receipt = county.send_document(&metadata, &mut source, &keys, PATIENCE, |_| {}).await?;
    let statement = receipt.statement;
    say(format!("   {} bytes, {}, stored sealed at {}", content.len(), metadata.content_type, statement.accept_time));
    say(format!("   The receipt names {}; the county has checked its signature.\n", statement.place()));

    say("11 Kela finds the claim check in its mailbox, and fetches the document");
    claim_check(kela, &metadata).await?;
    let request = v1::FetchDocumentRequest {
        sender: "pirkanmaa".to_owned(),
        document_id: metadata.document_id.clone(),
        context: Some(context("official-3", "benefit-handler")),
        offset: 0,
        length: 0,
    };
    let mut fetching = kela.fetch_document(&request, PATIENCE).await?;
    let mut fetched = Vec::new();
    while let Some(part) = fetching.next().await? {
        fetched.extend_from_slice(&part);
    }
    ensure!(fetched == content, "what Kela fetched is not what the county sent");
    say(format!("   {}: as it was sent, by its SHA-256. That Kela has it is on record,", metadata.file_name));
    let upload = county.get_upload(&metadata.document_id, PATIENCE).await?;
    let fetched = upload.fetch_time.context("the county is not told")?;
    say(format!("   and the county sees when: {}.\n", airut_wire::timestamp_from(fetched)));

    say("12 Somebody else asks for it");
    match stranger.fetch_document(&request, PATIENCE).await {
        Err(FetchError::Call(cause)) if cause.reason() == Some(Reason::NotFound) => {
            say(format!("   {cause}"));
            Ok(())
        }
        Err(cause) => Err(cause.into()),
        Ok(_) => bail!("a stranger was given the document"),
    }
}

/// Takes in the claim check, and sees that it is what the county sent.
async fn claim_check(kela: &Client, metadata: &v1::DocumentMetadata) -> anyhow::Result<()> {
    let settings = CollectorSettings {
        credit: CREDIT,
        stop_within: Duration::from_secs(2),
        patience: Some(PATIENCE),
        ..CollectorSettings::default()
    };
    let mut collector = kela.collector(settings, &CancellationToken::new());
    let mut others = Vec::new();
    loop {
        let collected = timeout(PATIENCE, collector.next()).await.context("the claim check does not come")?;
        let collected = collected.context("the collector has ended")?;
        let message = collected.delivery.message.unwrap_or_default();
        let check: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        if message.message_type != TYPE || check["document_id"] != metadata.document_id.as_str() {
            // Given back with the stream, which counts as no attempt; a lease that is dropped before would.
            others.push(collected.lease);
            continue;
        }
        ensure!(check["sha256"] == hex::encode(&metadata.sha256), "the claim check is for other content");
        collected.lease.accept().await?;
        let closed = collector.close().await;
        ensure!(closed.is_ok() || !others.is_empty(), "the stream did not end well");
        return Ok(());
    }
}

fn described(content: &[u8], subject: &str) -> v1::DocumentMetadata {
    v1::DocumentMetadata {
        document_id: uuid::Uuid::now_v7().to_string(),
        recipient: "kela".to_owned(),
        document_type: TYPE.to_owned(),
        subject_id: subject.to_owned(),
        context: Some(context("official-17", "social-worker")),
        file_name: "tiliote-2026-11.pdf".to_owned(),
        content_type: "application/pdf".to_owned(),
        size_bytes: i64::try_from(content.len()).unwrap_or(i64::MAX),
        sha256: Digest::of(content).0.to_vec(),
    }
}

fn context(end_user: &str, end_user_role: &str) -> v1::Context {
    v1::Context {
        end_user: end_user.to_owned(),
        end_user_role: end_user_role.to_owned(),
        purpose: "social-assistance".to_owned(),
        legal_basis: "1412/1997".to_owned(),
        case_id: "2026-118".to_owned(),
    }
}

/// A PDF of one empty page.
fn statement_of_account() -> Vec<u8> {
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
    ];
    let mut pdf = "%PDF-1.7\n".to_owned();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(objects) {
        places.push(pdf.len());
        pdf.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let table = pdf.len();
    pdf.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", places.len() + 1));
    places.iter().for_each(|place| pdf.push_str(&format!("{place:010} 00000 n \n")));
    pdf.push_str(&format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n", places.len() + 1));
    pdf.into_bytes()
}
