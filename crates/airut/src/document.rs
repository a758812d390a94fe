//! `airut document`: sending files, fetching them, and how far a document has come.

mod fetch;
mod send;

use airut_wire::v1;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    caller::{Caller, refused, table, word},
    terminal::{Exit, Output, fault, print},
};

/// What to do with documents.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send files, each as a document. Goes on by itself when the connection breaks, and where it was when it is called again.
    Send(Box<send::Options>),
    /// Fetch a document into a file. It is on record before the first byte.
    Fetch(Box<fetch::Options>),
    /// Show how far a document of the caller's has come.
    Status(Status),
}

/// Options of `airut document status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    caller: Caller,
    /// The document's id.
    #[arg(value_name = "DOCUMENT_ID")]
    document_id: String,
}

type Failed = (Exit, anyhow::Error);

pub(crate) async fn run(command: &Command) -> Result<(), Failed> {
    match command {
        Command::Send(options) => send::run(options).await,
        Command::Fetch(options) => fetch::run(options).await,
        Command::Status(options) => status(options).await,
    }
}

async fn status(options: &Status) -> Result<(), Failed> {
    let client = options.caller.connect().await?;
    let upload = client.get_upload(&options.document_id, options.caller.deadline()).await;
    let upload = upload.map_err(|cause| refused(&cause))?;
    let moment =
        |moment: Option<prost_types::Timestamp>| moment.map(|moment| airut_wire::timestamp_from(moment).to_string());
    let state = word(upload.state().as_str_name(), "UPLOAD_STATE_");
    let v1::GetUploadResponse { received_bytes, size_bytes, expire_time, fetch_time, reason, .. } = upload;
    let (expire_time, fetch_time) = (moment(expire_time), moment(fetch_time));
    let told = match options.caller.output {
        Output::Json => json!({
            "document_id": options.document_id,
            "state": state,
            "received_bytes": received_bytes,
            "size_bytes": size_bytes,
            "expire_time": expire_time,
            "fetch_time": fetch_time,
            "reason": Some(reason).filter(|reason| !reason.is_empty()),
        })
        .to_string(),
        Output::Text => {
            let mut status = table(&["DOCUMENT", "STATE", "RECEIVED", "SIZE", "ENDS", "FETCHED"]);
            let state = if reason.is_empty() { state } else { format!("{state} ({reason})") };
            status.add_row([
                options.document_id.clone(),
                state,
                received_bytes.to_string(),
                size_bytes.to_string(),
                expire_time.unwrap_or_else(|| "-".to_owned()),
                fetch_time.unwrap_or_else(|| "-".to_owned()),
            ]);
            status.trim_fmt()
        }
    };
    print(told).map_err(fault)
}
