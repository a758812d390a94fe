//! The content scan: a command of the operator's that reads a document from its standard input and says whether it may pass.
//!
//! Exit status 0 lets it pass, 1 says that something was found, as virus scanners have it. Whatever else becomes of the command says nothing, and the
//! document is held.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

use super::{Shelf, VaultError};

/// The command, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The program and its arguments. It gets nothing of the document but its content.
    pub command: Vec<String>,
    /// How long it may take for one document.
    pub timeout: Duration,
}

/// What came of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// It may pass.
    Clean,
    /// Something was found.
    Found,
    /// Nobody knows: why, for the log.
    Unknown(String),
}

impl Scan {
    /// Scans a document.
    ///
    /// Dropping the future ends the command.
    pub(crate) async fn scan(&self, shelf: &Arc<Shelf>) -> Result<Scanned, VaultError> {
        match tokio::time::timeout(self.timeout, self.run(shelf)).await {
            Ok(scanned) => scanned,
            Err(_) => Ok(Scanned::Unknown(format!("the scan did not end within {:?}", self.timeout))),
        }
    }

    async fn run(&self, shelf: &Arc<Shelf>) -> Result<Scanned, VaultError> {
        let unknown = |cause: std::io::Error| Ok(Scanned::Unknown(format!("the scan command: {cause}")));
        let Some((program, arguments)) = self.command.split_first() else {
            return Ok(Scanned::Unknown("there is no scan command".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut scanner = match command.spawn() {
            Ok(scanner) => scanner,
            Err(cause) => return unknown(cause),
        };
        let mut input = scanner.stdin.take().expect("it is piped");
        for number in 0..shelf.segments() {
            let segment = shelf.read(number).await?;
            // One that has seen enough reads no further.
            if input.write_all(&segment).await.is_err() {
                break;
            }
        }
        drop(input);
        match scanner.wait().await {
            Err(cause) => unknown(cause),
            Ok(status) => Ok(match status.code() {
                Some(0) => Scanned::Clean,
                Some(1) => Scanned::Found,
                Some(_) | None => Scanned::Unknown(format!("the scan command ended with {status}")),
            }),
        }
    }
}
