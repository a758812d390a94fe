//! What every command that calls the exchange shares: where it is, who calls, and what a failure comes to.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use airut_client::{CallError, Client};
use airut_domain::id::PartnerId;
use airut_wire::v1;
use anyhow::{Context, anyhow};
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use crate::terminal::{Exit, Output};

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
    /// W3C trace context that the exchange continues.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) traceparent: Option<String>,
}

impl Caller {
    pub(crate) async fn connect(&self) -> Result<Client, (Exit, anyhow::Error)> {
        // Only the settings and files can be at fault by now: the first call connects.
        let client = client(&self.server, &self.data, &self.partner).await.map_err(|cause| (Exit::Usage, cause))?;
        let traceparent = self.traceparent.clone();
        Ok(client.with_trace_context(move || traceparent.clone()))
    }

    pub(crate) const fn deadline(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Options of every command that says why it is called.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reason {
    /// Why the data is passed on: social-work when not given; of documents and information requests social-assistance.
    #[arg(long)]
    purpose: Option<String>,
    /// The number of the act that gives the right: 1301/2014 when not given; of documents and information requests 1412/1997.
    #[arg(long)]
    legal_basis: Option<String>,
    /// The case that the work belongs to.
    #[arg(long, default_value = "case-1")]
    case: String,
    /// The official who does the work.
    #[arg(long, default_value = "official-1")]
    end_user: String,
    /// Their role.
    #[arg(long, default_value = "benefit-handler")]
    end_user_role: String,
}

impl Reason {
    /// Of messages.
    pub(crate) fn context(&self) -> v1::Context {
        self.or("social-work", "1301/2014")
    }

    /// Of documents and information requests.
    pub(crate) fn of_social_assistance(&self) -> v1::Context {
        self.or("social-assistance", "1412/1997")
    }

    fn or(&self, purpose: &str, legal_basis: &str) -> v1::Context {
        v1::Context {
            end_user: self.end_user.clone(),
            end_user_role: self.end_user_role.clone(),
            purpose: self.purpose.as_deref().unwrap_or(purpose).to_owned(),
            legal_basis: self.legal_basis.as_deref().unwrap_or(legal_basis).to_owned(),
            case_id: self.case.clone(),
        }
    }
}

/// A table for people.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// An enum's name in the protocol for people and programs: `MESSAGE_STATE_DEAD` is `dead`.
pub(crate) fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
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
