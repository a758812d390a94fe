//! `airut health`: whether a process serves, for whoever is on call and for what restarts containers.

use airut_client::Health;
use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use crate::{
    caller::{Caller, refused},
    terminal::{Exit, Output, fault, print},
};

/// What a process may serve. One that runs a single role has only that role's.
const SERVICES: [&str; 3] = ["airut.v1.QueryService", "airut.v1.PartnerService", "airut.v1.LedgerService"];

/// Options of `airut health`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    caller: Caller,
}

pub(crate) async fn run(options: &Options) -> Result<(), (Exit, anyhow::Error)> {
    let caller = &options.caller;
    let client = caller.connect().await?;
    let mut told = Vec::new();
    for service in SERVICES {
        match client.health(service, caller.deadline()).await.map_err(|cause| refused(&cause))? {
            Health::Absent => {}
            health @ (Health::Serving | Health::NotServing) => told.push((service, health == Health::Serving)),
        }
    }
    let serving = !told.is_empty() && told.iter().all(|(_, serves)| *serves);
    print(match caller.output {
        Output::Text => to_text(&told),
        Output::Json => {
            let services = told.iter().map(|(service, serves)| json!({"service": service, "serving": serves}));
            json!({"serving": serving, "services": services.collect::<Vec<_>>()}).to_string()
        }
    })
    .map_err(fault)?;
    if serving { Ok(()) } else { Err((Exit::Unavailable, anyhow!("{} does not serve", caller.server))) }
}

fn to_text(told: &[(&str, bool)]) -> String {
    let line = |(service, serves): &(&str, bool)| {
        format!("{}  {service}", if *serves { "serving    " } else { "not serving" })
    };
    told.iter().map(line).collect::<Vec<_>>().join("\n")
}
