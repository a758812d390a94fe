//! `airut document send`: each file a document, one after the other.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use airut_client::{Client, ReceiptKeys, SendError, UploadError};
use airut_domain::{file_name::FileName, id::PartnerId, keys::Digest, media_type, receipt::Receipt};
use airut_wire::v1;
use anyhow::{Context, anyhow, ensure};
use aws_lc_rs::digest;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::Failed;
use crate::{
    caller::{Caller, Reason, refused, table},
    terminal::{Exit, Output, fault, print},
};

/// Files are read in parts of so many bytes.
const PART: usize = 1024 * 1024;

/// Options of `airut document send`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    caller: Caller,
    #[command(flatten)]
    reason: Reason,
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Who is to receive them.
    #[arg(long, value_name = "PARTNER")]
    to: PartnerId,
    /// What they are.
    #[arg(long = "type", value_name = "TYPE", default_value = "social-assistance-document")]
    document_type: String,
    /// Read whom they are about from the first line of standard input. Arguments show in the list of processes.
    #[arg(long, required = true)]
    subject_stdin: bool,
    /// The document's id; a new one when not given. The same file with the same id goes on where it was, and is taken in once. Repeat it for each
    /// file, in their order.
    #[arg(long, value_name = "ID")]
    document_id: Vec<String>,
    /// The files' media type; as their names and their content say when not given.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Seconds without any progress after which to give up.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let usage = |cause| (Exit::Usage, cause);
    let given = options.document_id.len();
    if given != 0 && given != options.files.len() {
        return Err(usage(anyhow!("--document-id is given {given} times for {} files", options.files.len())));
    }
    let mut subject = String::new();
    std::io::stdin().read_line(&mut subject).context("standard input").map_err(usage)?;
    let client = options.caller.connect().await?;
    let keys = ReceiptKeys::load(options.caller.data.join("pki/receipt-keys.txt"));
    let keys = keys.map_err(|cause| fault(cause.into()))?;
    let mut sent = Vec::new();
    let mut failed = None;
    for (number, path) in options.files.iter().enumerate() {
        let id = options.document_id.get(number).cloned().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        match send(options, &client, &keys, path, id, subject.trim()).await {
            Ok(receipt) => sent.push((path, receipt)),
            Err((exit, cause)) => {
                failed = Some((exit, cause.context(path.display().to_string())));
                break;
            }
        }
    }
    told(options.caller.output, &sent).map_err(fault)?;
    failed.map_or(Ok(()), Err)
}

async fn send(
    options: &Options,
    client: &Client,
    keys: &ReceiptKeys,
    path: &Path,
    document_id: String,
    subject: &str,
) -> Result<Receipt, Failed> {
    let usage = |cause| (Exit::Usage, cause);
    let (metadata, mut file) = described(options, path, document_id, subject).await.map_err(usage)?;
    let bar = progress(metadata.size_bytes.unsigned_abs(), path);
    let patience = Duration::from_secs(options.patience);
    let sent = client.send_document(&metadata, &mut file, keys, patience, |at| bar.set_position(at)).await;
    bar.finish_and_clear();
    sent.map_err(|cause| {
        let id = &metadata.document_id;
        match cause {
            UploadError::Send(SendError::Unknown(cause)) => {
                let (exit, cause) = refused(&cause);
                (exit, cause.context(format!("not sent; go on with --document-id {id}")))
            }
            UploadError::Send(SendError::Receipt(_)) => (Exit::NotVerified, anyhow!("document {id}: {cause}")),
            UploadError::Send(SendError::Refused(_) | SendError::UnderWay) => {
                (Exit::Refused, anyhow!("document {id}: {cause}"))
            }
            UploadError::Content(_) => (Exit::Usage, anyhow!("document {id}: {cause}")),
        }
    })
}

/// What a file is, after it was read once for its digest.
async fn described(
    options: &Options,
    path: &Path,
    document_id: String,
    subject: &str,
) -> anyhow::Result<(v1::DocumentMetadata, File)> {
    let name = path.file_name().and_then(|name| name.to_str()).context("has no name")?;
    let file_name = FileName::new(name).map_err(|fault| anyhow!("its name {fault}"))?;
    let mut file = File::open(path).await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let (mut size, mut first) = (0_i64, Vec::new());
    let mut part = vec![0; PART];
    loop {
        let read = file.read(&mut part).await?;
        if read == 0 {
            break;
        }
        if first.len() < PART {
            first.extend_from_slice(&part[..read]);
        }
        hash.update(&part[..read]);
        size += i64::try_from(read)?;
    }
    ensure!(size > 0, "is empty");
    file.rewind().await?;
    let content_type = match &options.content_type {
        Some(content_type) => content_type.clone(),
        None => {
            let told = media_type::of(&first);
            told.context("is of no type that the exchange takes; say --content-type")?.to_owned()
        }
    };
    let metadata = v1::DocumentMetadata {
        document_id,
        recipient: options.to.to_string(),
        document_type: options.document_type.clone(),
        subject_id: subject.to_owned(),
        context: Some(options.reason.context()),
        file_name: file_name.as_str().to_owned(),
        content_type,
        size_bytes: size,
        sha256: Digest::from_slice(hash.finish().as_ref()).context("SHA-256")?.0.to_vec(),
    };
    Ok((metadata, file))
}

/// Shows how far it has come, if anybody looks.
fn progress(size_bytes: u64, path: &Path) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size_bytes);
    let template = "{bar:40} {percent}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("a template"));
    bar.set_message(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn told(output: Output, sent: &[(&PathBuf, Receipt)]) -> anyhow::Result<()> {
    match output {
        Output::Json => {
            let documents: Vec<Value> = sent.iter().map(|(path, receipt)| json(path, receipt)).collect();
            print(json!({ "documents": documents }))
        }
        Output::Text if sent.is_empty() => Ok(()),
        Output::Text => {
            let mut receipts = table(&["DOCUMENT", "FILE", "STORED", "PLACE", "SIGNED"]);
            for (path, Receipt { statement, key_id, .. }) in sent {
                receipts.add_row([
                    statement.id.clone(),
                    path.display().to_string(),
                    statement.accept_time.to_string(),
                    statement.place(),
                    format!("{key_id} (verified)"),
                ]);
            }
            print(receipts.trim_fmt())
        }
    }
}

fn json(path: &Path, receipt: &Receipt) -> Value {
    let statement = &receipt.statement;
    json!({
        "document_id": statement.id,
        "file": path.display().to_string(),
        "receipt": {
            "id": statement.id,
            "recipient": statement.recipient.to_string(),
            "payload_sha256": statement.payload_sha256.to_string(),
            "accept_time": statement.accept_time.to_string(),
            "position": statement.place(),
            "key_id": receipt.key_id.to_string(),
            "signature": hex::encode(&receipt.signature),
            "verified": true,
        },
    })
}
