//! The story of one query: asked, answered as far as the contract goes, proved, repeated, and refused to somebody else.

use std::path::Path;

use airut_client::{Checkpoint, Client, ReceiptKeys, verify_inclusion, verify_receipt};
use airut_exchange::World;
use airut_ledger::note::VerifierKey;
use airut_wire::v1;
use anyhow::{Context, bail, ensure};

use super::{PATIENCE, indent};
use crate::{query, terminal::say};

/// Rows of the answer that are shown.
const ROWS: usize = 12;

pub(super) async fn tell(dir: &Path, county: &Client, stranger: &Client, subject: &str) -> anyhow::Result<()> {
    say("1  A county asks Kela");
    say("   A social worker of the wellbeing services county of Pirkanmaa needs to know a client's benefits");
    say("   to decide on supplementary social assistance (case 2026-118, act 1412/1997).\n");
    let request = question(subject);
    let response = county.query(&request, PATIENCE).await?;
    say("2  What the county's contract lets it see, and nothing more");
    say(indent(&query::table(&response, World::system().now().date(), ROWS)?));
    say("\n3  What it asked for and was not given, and why");
    query::withheld(&response).iter().for_each(|line| say(format!("    {line}")));
    show_receipt(dir, &response)?;
    show_proof(dir, county, &response).await?;
    show_repeat(county, &request, &response).await?;
    show_refusal(stranger, &request).await
}

fn question(subject: &str) -> v1::QueryBenefitsRequest {
    let context = v1::Context {
        end_user: "official-17".to_owned(),
        end_user_role: "social-worker".to_owned(),
        purpose: "social-assistance".to_owned(),
        legal_basis: "1412/1997".to_owned(),
        case_id: "2026-118".to_owned(),
    };
    let categories = airut_domain::matter::Category::ALL.map(airut_wire::category).to_vec();
    let query_id = uuid::Uuid::now_v7().to_string();
    v1::QueryBenefitsRequest {
        query_id,
        subject_id: subject.to_owned(),
        context: Some(context),
        categories,
        period: None,
    }
}

fn show_receipt(dir: &Path, response: &v1::QueryBenefitsResponse) -> anyhow::Result<()> {
    let receipt = response.receipt.as_ref().context("an answer without a receipt")?;
    verify_receipt(response, &ReceiptKeys::load(dir.join("pki/receipt-keys.txt"))?)?;
    say("\n4  The receipt: what the exchange can not take back");
    say(format!("   content  sha256 {}", hex::encode(&receipt.payload_sha256)));
    say(format!("   place    {} in the log", receipt.position));
    say(format!("   signed   by {}; the county has checked the signature", receipt.key_id));
    Ok(())
}

async fn show_proof(dir: &Path, county: &Client, response: &v1::QueryBenefitsResponse) -> anyhow::Result<()> {
    let receipt = response.receipt.clone().context("an answer without a receipt")?;
    let position = airut_wire::receipt_from(receipt)?.statement.position;
    let proof = county.inclusion_proof(position, PATIENCE).await?;
    let checkpoint = Checkpoint::parse(&proof.checkpoint)?;
    verify_inclusion(&proof, &checkpoint)?;
    let key: VerifierKey = std::fs::read_to_string(dir.join("ledger/ledger.vkey"))?.trim().parse()?;
    key.open(&proof.checkpoint)?;
    let entry = proof.entry.as_ref().context("a proof without an entry")?;
    say(format!(
        "   proof    entry {} of {} in the audit ledger; the path of {} hashes leads to the root that the ledger signed",
        entry.index,
        checkpoint.size,
        proof.path.len()
    ));
    Ok(())
}

async fn show_repeat(
    county: &Client,
    request: &v1::QueryBenefitsRequest,
    first: &v1::QueryBenefitsResponse,
) -> anyhow::Result<()> {
    let again = county.query(request, PATIENCE).await?;
    let statement = |response: &v1::QueryBenefitsResponse| {
        response.receipt.as_ref().map(|r| (r.payload_sha256.clone(), r.accept_time, r.position.clone()))
    };
    ensure!(again.matters == first.matters, "the repeat has another answer");
    ensure!(statement(&again) == statement(first), "the repeat's receipt says something else");
    say("\n5  The same question with the same id, as after a broken connection");
    say("   The same answer, the same statement in the receipt; that it was shown twice is on record.");
    Ok(())
}

async fn show_refusal(stranger: &Client, request: &v1::QueryBenefitsRequest) -> anyhow::Result<()> {
    let request = v1::QueryBenefitsRequest { query_id: uuid::Uuid::now_v7().to_string(), ..request.clone() };
    let Err(refusal) = stranger.query(&request, PATIENCE).await else {
        bail!("a partner without a contract was given an answer");
    };
    say("\n6  A pension provider asks the same about the same person");
    say(format!("   Refused, and on record: {refusal}\n"));
    Ok(())
}
