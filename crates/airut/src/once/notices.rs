//! The story of three notices: one is taken in, one passed on to whom it should have gone, one rejected with a reason.

use std::{path::Path, time::Duration};

use airut_client::{Client, Collected, Collector, CollectorSettings, Lease, ReceiptKeys, SenderSettings};
use airut_wire::v1::{
    self,
    track_response::{Kind, Step},
};
use anyhow::{Context, ensure};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, indent};
use crate::{caller::table, terminal::say};

/// Who takes part.
pub(super) struct Parties {
    pub(super) kela: Client,
    pub(super) pirkanmaa: Client,
    pub(super) helsinki: Client,
}

/// A notice of the story.
struct Notice {
    message_type: &'static str,
    what: &'static str,
    purpose: &'static str,
    legal_basis: &'static str,
    end: End,
}

/// What its recipient makes of it.
#[derive(Clone, Copy)]
enum End {
    TakenIn,
    PassedOn,
    Rejected,
}

const NOTICES: [Notice; 3] = [
    Notice {
        message_type: "social-work-need",
        what: "a need for social work",
        purpose: "social-work",
        legal_basis: "1301/2014",
        end: End::TakenIn,
    },
    Notice {
        message_type: "supplementary-assistance-need",
        what: "a need for supplementary assistance",
        purpose: "social-assistance",
        legal_basis: "1412/1997",
        end: End::PassedOn,
    },
    Notice {
        message_type: "unemployed-under-25",
        what: "unemployed for four months, under 25",
        purpose: "social-assistance",
        legal_basis: "1412/1997",
        end: End::Rejected,
    },
];

/// Why the county rejects one.
const CODE: &str = "NOT_A_CLIENT";
const TEXT: &str = "The person has moved abroad.";

/// As many deliveries may be in hand: the story's, and what others have left behind in the directory.
const CREDIT: u32 = 4096;

pub(super) async fn tell(dir: &Path, parties: &Parties, subject: &str) -> anyhow::Result<()> {
    say("7  Kela tells the county of three clients");
    let ids = NOTICES.each_ref().map(|_| uuid::Uuid::now_v7().to_string());
    say(indent(&send(dir, &parties.kela, &ids, subject).await?));
    say("   Kela has checked the signature of each receipt.\n");

    say("8  The county of Pirkanmaa collects them");
    let awaited: Vec<(&str, End)> = ids.iter().zip(&NOTICES).map(|(id, notice)| (id.as_str(), notice.end)).collect();
    collect(&parties.pirkanmaa, &awaited).await?;
    say("   It takes the first in. The second client lives in Helsinki: it passes the notice on, and Helsinki");
    say("   takes it in. It rejects the third, and says why.\n");
    collect(&parties.helsinki, &[(ids[1].as_str(), End::TakenIn)]).await?;

    say("9  What came of them, as Kela sees it");
    say(indent(&ends(&parties.kela, &ids).await?));
    Ok(())
}

fn message(dir: &Path, notice: &Notice, id: &str, subject: &str) -> anyhow::Result<v1::SendRequest> {
    let sample = dir.join(format!("samples/{}.json", notice.message_type));
    Ok(v1::SendRequest {
        message_id: id.to_owned(),
        recipient: "pirkanmaa".to_owned(),
        message_type: notice.message_type.to_owned(),
        ordering_key: String::new(),
        subject_id: subject.to_owned(),
        context: Some(v1::Context {
            end_user: "official-3".to_owned(),
            end_user_role: "benefit-handler".to_owned(),
            purpose: notice.purpose.to_owned(),
            legal_basis: notice.legal_basis.to_owned(),
            case_id: "2026-231".to_owned(),
        }),
        content_type: "application/json".to_owned(),
        payload: std::fs::read(&sample).with_context(|| sample.display().to_string())?,
        expire_time: None,
    })
}

/// Sends them over one stream; gives a table of their receipts.
async fn send(dir: &Path, kela: &Client, ids: &[String], subject: &str) -> anyhow::Result<String> {
    let keys = ReceiptKeys::load(dir.join("pki/receipt-keys.txt"))?;
    let settings = SenderSettings { patience: Some(PATIENCE), ..SenderSettings::default() };
    let (sender, mut outcomes) = kela.sender(keys, settings);
    for (notice, id) in NOTICES.iter().zip(ids) {
        sender.send(message(dir, notice, id, subject)?).await?;
    }
    sender.close().await?;
    let mut receipts = table(&["NOTICE", "ACT", "ACCEPTED", "PLACE IN THE LOG"]);
    let mut rows: Vec<Option<[String; 4]>> = vec![None; ids.len()];
    while let Some(outcome) = outcomes.next().await {
        let statement = outcome.result?.statement;
        let number = ids.iter().position(|id| *id == outcome.message_id).context("an outcome of another message")?;
        let Notice { what, legal_basis, .. } = NOTICES[number];
        let (when, place) = (statement.accept_time.to_string(), statement.place());
        rows[number] = Some([what.to_owned(), legal_basis.to_owned(), when, place]);
    }
    receipts.add_rows(rows.into_iter().collect::<Option<Vec<_>>>().context("a message has no outcome")?);
    Ok(receipts.trim_fmt())
}

/// Collects until each of these has come, and ends it so. What else there is stays as it was.
async fn collect(recipient: &Client, awaited: &[(&str, End)]) -> anyhow::Result<()> {
    let settings = CollectorSettings {
        credit: CREDIT,
        stop_within: Duration::from_secs(2),
        patience: Some(PATIENCE),
        ..CollectorSettings::default()
    };
    let mut collector = recipient.collector(settings, &CancellationToken::new());
    let (mut left, mut others) = (awaited.len(), Vec::new());
    while left > 0 {
        let (id, delivery_id, lease) = next(&mut collector).await?;
        match awaited.iter().find(|(awaited, _)| *awaited == id) {
            Some((_, end)) => {
                settle(recipient, *end, delivery_id, lease).await?;
                left -= 1;
            }
            // Given back with the stream, which counts as no attempt; a lease that is dropped before would.
            None => others.push(lease),
        }
    }
    let closed = collector.close().await;
    ensure!(closed.is_ok() || !others.is_empty(), "the stream did not end well");
    Ok(())
}

async fn next(collector: &mut Collector) -> anyhow::Result<(String, String, Lease)> {
    let collected = timeout(PATIENCE, collector.next()).await.context("a notice does not come")?;
    let Collected { delivery, lease } = collected.context("the collector has ended")?;
    Ok((delivery.message.unwrap_or_default().message_id, delivery.delivery_id, lease))
}

async fn settle(recipient: &Client, end: End, delivery_id: String, lease: Lease) -> anyhow::Result<()> {
    match end {
        End::TakenIn => lease.accept().await?,
        End::Rejected => lease.reject(CODE, TEXT).await?,
        End::PassedOn => {
            let context = v1::Context {
                end_user: "official-17".to_owned(),
                end_user_role: "social-worker".to_owned(),
                purpose: "social-assistance".to_owned(),
                legal_basis: "1412/1997".to_owned(),
                case_id: "2026-118".to_owned(),
            };
            let request = v1::TransferRequest { delivery_id, recipient: "helsinki".to_owned(), context: Some(context) };
            recipient.transfer(&request, PATIENCE).await?;
            lease.passed_on();
        }
    }
    Ok(())
}

/// A table of what came of them.
async fn ends(kela: &Client, ids: &[String]) -> anyhow::Result<String> {
    let mut ends = table(&["NOTICE", "NOW", "STEPS", "WHY"]);
    for (notice, id) in NOTICES.iter().zip(ids) {
        let tracked = kela.track("", id, PATIENCE).await?;
        let last = tracked.steps.last().context("a message without a step")?;
        let steps: Vec<String> = tracked.steps.iter().map(word).collect();
        let why = if last.code.is_empty() { String::new() } else { format!("{}: {}", last.code, last.text) };
        let now = format!("{} by {}", word(last), tracked.recipient);
        ends.add_row([notice.what.to_owned(), now, steps.join(", "), why]);
    }
    Ok(ends.trim_fmt())
}

/// A step as the story has it. The others do not come.
fn word(step: &Step) -> String {
    match step.kind() {
        Kind::Accepted => "accepted".to_owned(),
        Kind::Offered => "handed out".to_owned(),
        Kind::Delivered => "taken in".to_owned(),
        Kind::Rejected => "rejected".to_owned(),
        Kind::Transferred => format!("passed on to {}", step.code),
        other @ (Kind::Unspecified | Kind::Returned | Kind::LeaseEnded | Kind::Expired | Kind::Redriven) => {
            other.as_str_name().to_owned()
        }
    }
}
