//! `airut document fetch`: a document into a file, which is there whole or not at all.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use airut_client::{FetchError, Fetching};
use airut_domain::{file_name::FileName, id::PartnerId};
use airut_wire::v1;
use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;
use tokio::{
    fs::{self, OpenOptions},
    io::AsyncWriteExt,
};

use super::Failed;
use crate::{
    caller::{Caller, Reason, refused},
    terminal::{Exit, Output, fault, print},
};

/// Options of `airut document fetch`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    caller: Caller,
    #[command(flatten)]
    reason: Reason,
    /// Who sent it, as the claim check says.
    #[arg(value_name = "SENDER")]
    sender: PartnerId,
    /// The sender's id for it.
    #[arg(value_name = "DOCUMENT_ID")]
    document_id: String,
    /// The directory to keep it in, under the name that its sender gave it.
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "out")]
    output_dir: PathBuf,
    /// The file to keep it in. One that is there is not replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only these bytes: the first and the last, such as 0-1023, or 1024- for all from there on.
    #[arg(long, value_name = "FIRST-LAST", requires = "out")]
    range: Option<Range>,
    /// Seconds without any progress after which to give up.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// A part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    offset: i64,
    /// 0 for all that follow.
    length: i64,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || "must be two numbers such as 0-1023, or one such as 1024-".to_owned();
        let (first, last) = text.split_once('-').ok_or_else(fault)?;
        let offset: i64 = first.parse().map_err(|_| fault())?;
        if last.is_empty() {
            return Ok(Self { offset, length: 0 });
        }
        let last: i64 = last.parse().map_err(|_| fault())?;
        let length = last.checked_sub(offset).and_then(|length| length.checked_add(1));
        let length = length.filter(|length| *length > 0).ok_or_else(fault)?;
        Ok(Self { offset, length })
    }
}

pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let Range { offset, length } = options.range.unwrap_or(Range { offset: 0, length: 0 });
    let request = v1::FetchDocumentRequest {
        sender: options.sender.to_string(),
        document_id: options.document_id.clone(),
        context: Some(options.reason.context()),
        offset,
        length,
    };
    let client = options.caller.connect().await?;
    let fetching = client.fetch_document(&request, Duration::from_secs(options.patience)).await;
    let mut fetching = fetching.map_err(|cause| failed(&cause))?;
    let path = match &options.out {
        Some(path) => path.clone(),
        None => {
            let name = FileName::new(&fetching.metadata().file_name);
            let name = name.map_err(|cause| fault(anyhow!("the document's name {cause}; say --out")))?;
            options.output_dir.join(name.as_str())
        }
    };
    let bytes = fetching.left();
    keep(&path, &mut fetching).await?;
    let metadata = fetching.metadata();
    let told = match options.caller.output {
        Output::Text => format!("{} ({bytes} bytes, {})", path.display(), metadata.content_type),
        Output::Json => json!({
            "document_id": options.document_id,
            "sender": request.sender,
            "file": path.display().to_string(),
            "bytes": bytes,
            "size_bytes": metadata.size_bytes,
            "content_type": metadata.content_type,
            "sha256": hex::encode(&metadata.sha256),
        })
        .to_string(),
    };
    print(told).map_err(fault)
}

/// Writes it beside its place, and gives it its name once it is whole, checked and durable.
async fn keep(path: &Path, fetching: &mut Fetching) -> Result<(), Failed> {
    let usage = |cause: io::Error| (Exit::Usage, anyhow!(cause).context(path.display().to_string()));
    if fs::try_exists(path).await.map_err(usage)? {
        return Err(usage(io::ErrorKind::AlreadyExists.into()));
    }
    let beside = path.with_file_name(format!(".airut-{}.part", uuid::Uuid::now_v7()));
    let kept = write(&beside, fetching).await;
    let kept = match kept {
        // Unlike a rename this fails where a file has come to be meanwhile.
        Ok(()) => fs::hard_link(&beside, path).await.map_err(usage),
        Err(failed) => Err(failed),
    };
    drop(fs::remove_file(&beside).await);
    kept
}

async fn write(beside: &Path, fetching: &mut Fetching) -> Result<(), Failed> {
    let usage = |cause: io::Error| (Exit::Usage, anyhow!(cause).context(beside.display().to_string()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside).await.map_err(usage)?;
    while let Some(part) = fetching.next().await.map_err(|cause| failed(&cause))? {
        file.write_all(&part).await.map_err(usage)?;
    }
    file.flush().await.map_err(usage)?;
    file.sync_all().await.context("sync").map_err(fault)
}

fn failed(cause: &FetchError) -> Failed {
    match cause {
        FetchError::Call(cause) => refused(cause),
        FetchError::OtherContent => (Exit::NotVerified, anyhow!("{cause}")),
        FetchError::Protocol => (Exit::Fault, anyhow!("{cause}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_numbers_or_the_first() {
        assert_eq!("0-1023".parse(), Ok(Range { offset: 0, length: 1024 }));
        assert_eq!("1024-".parse(), Ok(Range { offset: 1024, length: 0 }));
        assert_eq!("7-7".parse(), Ok(Range { offset: 7, length: 1 }));
        for wrong in ["", "-", "-5", "5", "9-8", "a-b", "0-9223372036854775807"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
