//! `airut serve`: the roles of a configuration, from the start to the stop. `airut config check`: the faults that a start would find.

use std::path::PathBuf;

use airut_exchange::Catalogue;
use clap::{Args, ValueEnum};

use crate::{
    config::{self, Role},
    node::Node,
    partners,
    terminal::{Exit, Signals, fault, print, say},
};

type Outcome = Result<(), (Exit, anyhow::Error)>;

/// Options of `airut serve` and `airut config check`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The roles to run, instead of the file's.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<RoleName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Gateway,
    Ledger,
    Desk,
    Register,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Gateway => Self::Gateway,
            RoleName::Ledger => Self::Ledger,
            RoleName::Desk => Self::Desk,
            RoleName::Register => Self::Register,
        }
    }
}

fn load(options: &Options) -> Result<config::Config, (Exit, anyhow::Error)> {
    let roles: Vec<Role> = options.roles.iter().copied().map(Role::from).collect();
    config::load(options.config.as_deref(), std::env::vars(), &roles)
        .map_err(|faults| (Exit::Usage, anyhow::Error::new(faults)))
}

/// Checks the configuration, and the files that it names.
pub(crate) fn check(options: &Options) -> Outcome {
    let config = load(options)?;
    if config.roles.contains(&Role::Gateway) {
        let usage = |faults| (Exit::Usage, anyhow::Error::new(config::Faults(faults)));
        let partners = partners::read(&config.partners).map_err(usage)?;
        let catalogue = Catalogue::load(&config.message_types).map_err(usage)?;
        let dangling = partners::dangling(&partners, catalogue.types());
        if !dangling.is_empty() {
            return Err(usage(dangling));
        }
    }
    let roles: Vec<&str> = config.roles.iter().map(|role| role.name()).collect();
    print(format_args!("the configuration is good: {} on {}", roles.join(", "), config.listen)).map_err(fault)
}

/// Runs what the configuration says, until told to stop.
pub(crate) async fn run(options: &Options) -> Outcome {
    let config = load(options)?;
    let telemetry = start_telemetry(&config).map_err(fault)?;
    let mut signals = Signals::listen().map_err(fault)?;
    let started = tokio::select! {
        started = Node::start(&config) => started,
        // Nothing was promised to anybody yet.
        () = signals.received() => return Ok(()),
    };
    let mut node = started.map_err(fault)?;
    if let Some(address) = telemetry.metrics_address {
        say(format_args!("metrics on http://{address}/metrics"));
    }
    match node.address {
        Some(address) => say(format_args!("ready on {address}")),
        None => say("ready"),
    }

    let result = until_stopped(&mut node, signals).await;
    node.stop().await;
    telemetry.flush();
    result.map_err(fault)
}

/// Waits for the signal to stop, or for a reason that the process can not go on.
pub(crate) async fn until_stopped(node: &mut Node, mut signals: Signals) -> anyhow::Result<()> {
    tokio::select! {
        () = signals.received() => Ok(()),
        cause = node.failed() => Err(cause),
    }
}

/// Sets up logs, traces and metrics for a process.
pub(crate) fn start_telemetry(config: &config::Config) -> anyhow::Result<airut_telemetry::Telemetry> {
    let roles: Vec<&str> = config.roles.iter().map(|role| role.name()).collect();
    let logs = match config.telemetry.logs.as_str() {
        "text" => airut_telemetry::LogFormat::Text,
        _ => airut_telemetry::LogFormat::Json,
    };
    let settings = airut_telemetry::Settings {
        service: format!("airut-{}", roles.join("-")),
        logs,
        filter: config.telemetry.filter.clone(),
        otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
        metrics_listen: config.metrics_listen,
    };
    Ok(airut_telemetry::start(&settings)?)
}
