//! `airut ledger verify`: the log and the ledger of a data directory, checked from their files alone.

use std::path::{Path, PathBuf};

use airut_ledger::{Outside, Report};
use airut_log::Log;
use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;

use crate::{
    config::{self, LogConfig},
    terminal::{Exit, Output, fault, print},
};

/// Options of `airut ledger verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "airut-data")]
    data: PathBuf,
    /// The configuration of the ledger's process, instead of a data directory: its log may be a Kafka cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// A checkpoint kept outside, such as a receipt's, that the ledger must contain: finds what was cut off or replaced.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The ledger's verifier key, kept outside; the data directory's own when not given.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) async fn run(options: &Options) -> Result<(), (Exit, anyhow::Error)> {
    let outside = outside(options).map_err(|cause| (Exit::Usage, cause))?;
    let report = match &options.config {
        None => report(&options.data, outside).await.map_err(fault)?,
        Some(config) => configured(config, outside).await?,
    };
    let told = match options.output {
        Output::Text => to_text(&report),
        Output::Json => to_json(&report).to_string(),
    };
    print(told).map_err(fault)?;
    outcome(&report)
}

/// Verifies a data directory and tells the result, for people.
pub(crate) async fn verify(data: &Path) -> Result<(), (Exit, anyhow::Error)> {
    let report = report(data, Outside::default()).await.map_err(fault)?;
    print(to_text(&report)).map_err(fault)?;
    outcome(&report)
}

fn outside(options: &Options) -> anyhow::Result<Outside> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let key = match &options.key {
        Some(path) => Some(read(path)?.trim().parse().with_context(|| path.display().to_string())?),
        None => None,
    };
    Ok(Outside { key, checkpoint: options.checkpoint.as_ref().map(read).transpose()? })
}

/// Verifies the log and the ledger that a configuration names.
async fn configured(path: &Path, outside: Outside) -> Result<Report, (Exit, anyhow::Error)> {
    let config = config::load(Some(path), std::env::vars(), &[]);
    let config = config.map_err(|faults| (Exit::Usage, anyhow::Error::new(faults)))?;
    let settings = match &config.log {
        LogConfig::Embedded { .. } => return report(&config.data, outside).await.map_err(fault),
        LogConfig::Kafka(settings) => settings.clone(),
    };
    let verified = async {
        let log = Log::kafka(settings).await.context("log")?;
        Ok(airut_ledger::verify(&log, &config.data.join("ledger"), outside).await?)
    };
    verified.await.map_err(fault)
}

async fn report(data: &Path, outside: Outside) -> anyhow::Result<Report> {
    let path = data.join("log.sqlite");
    let log = Log::embedded_read_only(&path).with_context(|| path.display().to_string())?;
    Ok(airut_ledger::verify(&log, &data.join("ledger"), outside).await?)
}

fn outcome(report: &Report) -> Result<(), (Exit, anyhow::Error)> {
    match report.findings_total {
        0 => Ok(()),
        count => Err((Exit::NotVerified, anyhow!("not verified: {count} finding(s)"))),
    }
}

fn to_text(report: &Report) -> String {
    let signed = report.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let mut lines = vec![
        format!("{} records read, {} entries of the tree compared with them", report.records, report.entries),
        format!("{} signed checkpoints, the newest over {signed} entries", report.checkpoints),
        format!("{} records not yet under a checkpoint", report.unsigned),
    ];
    lines.extend(report.findings.iter().map(|finding| format!("WRONG  {finding}")));
    let untold = report.findings_total - report.findings.len() as u64;
    if untold > 0 {
        lines.push(format!("… and {untold} more"));
    }
    if report.is_sound() {
        lines.push(
            "verified: every record is in the tree, every hash and signature is right, nothing is missing".to_owned(),
        );
    }
    lines.iter().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}

fn to_json(report: &Report) -> serde_json::Value {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    json!({
        "verified": report.is_sound(),
        "records": report.records,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "signed_entries": report.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size),
        "unsigned": report.unsigned,
        "findings_total": report.findings_total,
        "findings": findings,
    })
}
