//! What every command that calls the exchange shares: where it is, who calls, and what a failure comes to.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use airut_client::{CallError, Client};
use airut_domain::id::PartnerId;
use anyhow::{Context, anyhow};
use clap::Args;

use crate::cli::{Exit, Output};

/// Options of every command that calls the exchange.
#[derive(Clone, Debug, Args)]
pub(crate) struct Caller {
    /// The exchange.
    #[arg(long, default_value = "127.0.0.1:7443")]
    pub(crate) server: String,
    /// Who calls: the certificate and key of this name in the data directory are used.
    #[arg(long = "as", value_name = "PARTNER")]
    pub(crate) partner: PartnerId,
    /// The data directory of `airut dev`, with certificates and receipt keys in `pki`.
    #[arg(long, value_name = "DIR", default_value = "airut-data")]
    pub(crate) data: PathBuf,
    /// Seconds to wait for the answer.
    #[arg(long, default_value_t = 10)]
    timeout: u64,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

impl Caller {
    pub(crate) async fn connect(&self) -> Result<Client, (Exit, anyhow::Error)> {
        // Only the settings and files can be at fault by now: the first call connects.
        client(&self.server, &self.data, &self.partner).await.map_err(|cause| (Exit::Usage, cause))
    }

    pub(crate) const fn deadline(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// A client with a partner's certificate of a data directory.
pub(crate) async fn client(server: &str, data: &Path, partner: &PartnerId) -> anyhow::Result<Client> {
    let pki = data.join("pki");
    let settings = airut_client::Settings::new(
        server,
        pki.join("ca.crt"),
        pki.join(format!("{partner}.crt")),
        pki.join(format!("{partner}.key")),
    );
    Client::connect(&settings).await.context("connect")
}

/// The exit status for a call that failed.
pub(crate) fn refused(cause: &CallError) -> (Exit, anyhow::Error) {
    let exit = match cause {
        CallError::Refused(_) if !cause.may_pass() => Exit::Refused,
        CallError::Tls(_) => Exit::Refused,
        CallError::Refused(_) | CallError::DeadlinePassed | CallError::Unreachable(_) => Exit::Unavailable,
    };
    (exit, anyhow!("{cause}"))
}
