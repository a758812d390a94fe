//! `airut query`: ask for a person's benefits, from the command line.

use std::io::Read;

use airut_client::{ReceiptKeys, verify_receipt};
use airut_domain::{
    matter::{Category, Cents, Content, Matter, Outcome, Stage},
    time::{Date, format_date},
};
use airut_telemetry::span;
use airut_wire::v1;
use anyhow::Context;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::{
    caller::{Caller, refused},
    terminal::{Exit, Output, fault, print},
};

/// Options of `airut query`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    caller: Caller,
    /// Read the person's identity code from standard input: arguments show in the list of processes.
    #[arg(long, required = true)]
    subject_stdin: bool,
    /// Why the data is needed.
    #[arg(long, default_value = "social-assistance")]
    purpose: String,
    /// The number of the act that gives the right.
    #[arg(long, default_value = "1412/1997")]
    legal_basis: String,
    /// The case that the work belongs to.
    #[arg(long, default_value = "case-1")]
    case: String,
    /// The official who does the work.
    #[arg(long, default_value = "official-1")]
    end_user: String,
    /// Their role.
    #[arg(long, default_value = "social-worker")]
    end_user_role: String,
    /// What to ask for; all that the contract grants when not given.
    #[arg(long, value_delimiter = ',')]
    category: Vec<Category>,
    /// The first and the last day to ask about.
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    period: Vec<String>,
    /// The query's id; a new one when not given. The same id again gives the same answer for ten minutes.
    #[arg(long)]
    query_id: Option<String>,
    /// Where the call's own span goes (OTLP over gRPC), such as http://127.0.0.1:4317.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

pub(crate) async fn run(options: &Options) -> Result<(), (Exit, anyhow::Error)> {
    let request = request(options).map_err(|cause| (Exit::Usage, cause))?;
    let client = options.caller.connect().await?;
    let deadline = options.caller.deadline();
    let telemetry = start_tracing(options).map_err(fault)?;
    let caller = options.caller.traceparent.as_deref().unwrap_or_default();
    let (span, traceparent) = span::call("airut.v1.QueryService", "QueryBenefits", caller);
    let client = client.with_trace_context(move || Some(traceparent.clone()).filter(|context| !context.is_empty()));
    let answered = client.query(&request, deadline).await;
    drop(span);
    telemetry.iter().for_each(airut_telemetry::Telemetry::flush);
    let response = answered.map_err(|cause| refused(&cause))?;
    let keys =
        ReceiptKeys::load(options.caller.data.join("pki/receipt-keys.txt")).map_err(|cause| fault(cause.into()))?;
    verify_receipt(&response, &keys).map_err(|cause| (Exit::NotVerified, cause.into()))?;
    let told = match options.caller.output {
        Output::Json => to_json(&response).map(|json| json.to_string()),
        Output::Text => to_text(&response, airut_exchange::World::system().now().date()),
    };
    told.and_then(print).map_err(fault)
}

/// Has the call's span exported, if there is a place for it.
fn start_tracing(options: &Options) -> anyhow::Result<Option<airut_telemetry::Telemetry>> {
    let Some(endpoint) = &options.otlp_endpoint else { return Ok(None) };
    let settings = airut_telemetry::Settings {
        service: "airut-query".to_owned(),
        logs: airut_telemetry::LogFormat::Text,
        filter: "warn".to_owned(),
        otlp_endpoint: Some(endpoint.clone()),
        metrics_listen: None,
    };
    Ok(Some(airut_telemetry::start(&settings)?))
}

fn request(options: &Options) -> anyhow::Result<v1::QueryBenefitsRequest> {
    let mut subject = String::new();
    std::io::stdin().take(64).read_to_string(&mut subject).context("standard input")?;
    let context = v1::Context {
        end_user: options.end_user.clone(),
        end_user_role: options.end_user_role.clone(),
        purpose: options.purpose.clone(),
        legal_basis: options.legal_basis.clone(),
        case_id: options.case.clone(),
    };
    let period = match options.period.as_slice() {
        [from, to] => Some(v1::Period { start_date: from.clone(), end_date: to.clone() }),
        _ => None,
    };
    Ok(v1::QueryBenefitsRequest {
        query_id: options.query_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        subject_id: subject.trim().to_owned(),
        context: Some(context),
        categories: options.category.iter().map(|category| airut_wire::category(*category)).collect(),
        period,
    })
}

/// The answer for people: a table of matters, what was withheld, and the receipt.
fn to_text(response: &v1::QueryBenefitsResponse, today: Date) -> anyhow::Result<String> {
    let mut text = table(response, today, usize::MAX)?;
    for line in withheld(response) {
        text.push_str(&format!("\nWithheld: {line}"));
    }
    if let Some(receipt) = &response.receipt {
        text.push_str(&format!(
            "\n\nReceipt  {}\n  answer  sha256 {}\n  place   {}\n  signed  {} (verified)",
            receipt.id,
            hex::encode(&receipt.payload_sha256),
            receipt.position,
            receipt.key_id,
        ));
    }
    Ok(text)
}

/// The matters as a table of at most so many rows, in the order in which a social worker asks for them: the payments to
/// come, what is pending, what was decided, then what was paid; the nearest first.
pub(crate) fn table(response: &v1::QueryBenefitsResponse, today: Date, most: usize) -> anyhow::Result<String> {
    let mut matters = airut_wire::answer_from(response.matters.clone())?;
    if matters.is_empty() {
        return Ok("Nothing that may be shown.".to_owned());
    }
    matters.sort_by_key(|matter| urgency(matter, today));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["WHEN", "WHAT", "BENEFIT", "HOW MUCH", "MORE"]);
    for matter in matters.iter().take(most) {
        table.add_row(row(matter));
    }
    let mut text = table.trim_fmt();
    if matters.len() > most {
        text.push_str(&format!("\n … and {} more", matters.len() - most));
    }
    Ok(text)
}

/// Where a matter stands in the table: its group, then the days between it and today.
fn urgency(matter: &Matter, today: Date) -> (u8, i64) {
    let days = |date: Date| (date - today).whole_days();
    match &matter.content {
        Content::Payment { due, .. } if *due >= today => (0, days(*due)),
        Content::Pending { filed, .. } => (1, -days(*filed)),
        Content::Decision { decided, .. } => (2, -days(*decided)),
        Content::Recovery { decided, .. } => (3, -days(*decided)),
        Content::Payment { due, .. } => (4, -days(*due)),
        Content::MedicineCostCap { year, .. } => (5, -i64::from(*year)),
        Content::Insurance { from, .. } => (6, -days(*from)),
    }
}

fn row(matter: &Matter) -> [String; 5] {
    let dates =
        |period: &airut_domain::time::Period| format!("{} – {}", format_date(period.from()), format_date(period.to()));
    let none = String::new;
    let (when, amount, more) = match &matter.content {
        Content::Pending { filed, stage, .. } => (format_date(*filed), none(), stage_words(*stage).to_owned()),
        Content::Decision { decided, outcome, period, monthly } => (
            format_date(*decided),
            monthly.map(|cents| format!("{cents} a month")).unwrap_or_default(),
            match period {
                Some(period) => format!("{}, {}", outcome_words(*outcome), dates(period)),
                None => outcome_words(*outcome).to_owned(),
            },
        ),
        Content::Payment { due, gross, net, period } => {
            (format_date(*due), net.to_string(), format!("gross {gross}, for {}", dates(period)))
        }
        Content::Insurance { from, to } => (
            format_date(*from),
            none(),
            to.map_or_else(|| "goes on".to_owned(), |to| format!("until {}", format_date(to))),
        ),
        Content::Recovery { decided, total, remaining } => {
            (format_date(*decided), remaining.to_string(), format!("left of {total}"))
        }
        Content::MedicineCostCap { year, accrued, limit, reached } => (
            year.to_string(),
            accrued.to_string(),
            match reached {
                Some(day) => format!("limit of {limit} reached on {}", format_date(*day)),
                None => format!("limit {limit}, {} to go", Cents((limit.0 - accrued.0).max(0))),
            },
        ),
    };
    [when, matter.category().to_string(), matter.benefit.to_string(), amount, more]
}

const fn stage_words(stage: Stage) -> &'static str {
    match stage {
        Stage::Received => "received",
        Stage::InHandling => "in handling",
        Stage::AwaitingInformation => "awaiting information",
    }
}

const fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Granted => "granted",
        Outcome::Rejected => "rejected",
        Outcome::Terminated => "terminated",
        Outcome::Revised => "revised",
    }
}

/// What was withheld and why, a line each.
pub(crate) fn withheld(response: &v1::QueryBenefitsResponse) -> Vec<String> {
    let line = |withheld: &v1::Withheld| {
        let category = withheld.category().as_str_name().trim_start_matches("CATEGORY_");
        let category = category.to_lowercase().replace('_', "-");
        match withheld.reason() {
            v1::withheld::Reason::Unspecified => category,
            v1::withheld::Reason::NotInContract => format!("{category}: not in the contract for this purpose"),
            v1::withheld::Reason::OtherBenefits => format!("{category}: of benefits that the contract does not name"),
            v1::withheld::Reason::OutsideWindow => format!("{category}: outside the days that the contract allows"),
        }
    };
    response.withheld.iter().map(line).collect()
}

fn to_json(response: &v1::QueryBenefitsResponse) -> anyhow::Result<Value> {
    let matters = airut_wire::answer_from(response.matters.clone())?;
    let matters: Vec<Value> = matters.iter().map(matter_json).collect();
    let withheld: Vec<Value> = response
        .withheld
        .iter()
        .map(|w| json!({"category": w.category().as_str_name(), "reason": w.reason().as_str_name()}))
        .collect();
    let receipt = response.receipt.as_ref().map(|receipt| {
        json!({
            "id": receipt.id,
            "recipient": receipt.recipient,
            "payload_sha256": hex::encode(&receipt.payload_sha256),
            "accept_time": airut_wire::receipt_from(receipt.clone()).map(|r| r.statement.accept_time.to_string()).ok(),
            "position": receipt.position,
            "key_id": receipt.key_id,
            "signature": hex::encode(&receipt.signature),
            "verified": true,
        })
    });
    Ok(json!({"query_id": response.query_id, "matters": matters, "withheld": withheld, "receipt": receipt}))
}

fn matter_json(matter: &Matter) -> Value {
    let period = |period: &airut_domain::time::Period| json!({"start_date": format_date(period.from()), "end_date": format_date(period.to())});
    let content = match &matter.content {
        Content::Pending { filed, applied_from, stage } => json!({
            "filed_date": format_date(*filed),
            "applied_from_date": applied_from.map(format_date),
            "stage": stage_words(*stage),
        }),
        Content::Decision { decided, outcome, period: days, monthly } => json!({
            "decided_date": format_date(*decided),
            "outcome": outcome_words(*outcome),
            "period": days.as_ref().map(period),
            "monthly_cents": monthly.map(|cents| cents.0),
        }),
        Content::Payment { due, gross, net, period: days } => json!({
            "due_date": format_date(*due), "gross_cents": gross.0, "net_cents": net.0, "period": period(days),
        }),
        Content::Insurance { from, to } => {
            json!({"start_date": format_date(*from), "end_date": to.map(format_date)})
        }
        Content::Recovery { decided, total, remaining } => json!({
            "decided_date": format_date(*decided), "total_cents": total.0, "remaining_cents": remaining.0,
        }),
        Content::MedicineCostCap { year, accrued, limit, reached } => json!({
            "year": year, "accrued_cents": accrued.0, "limit_cents": limit.0, "reached_date": reached.map(format_date),
        }),
    };
    json!({
        "matter_id": matter.matter_id,
        "benefit": matter.benefit.to_string(),
        "category": matter.category().as_str(),
        matter.category().as_str().replace('-', "_"): content,
    })
}
