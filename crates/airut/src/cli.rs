//! The command line: what there is, and what each exit status means.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use airut_exchange::Catalogue;
use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    collect, config, config::Role, dev, document, health, keys, node::Node, once, partner, partners, query, request,
    send, track, verify,
};

/// Exit statuses, besides 0 for success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something went wrong inside.
    Fault = 1,
    /// The command line or the configuration is at fault (as clap has it).
    Usage = 2,
    /// The exchange refused: no right, bad input, wrong state. Trying again does not help.
    Refused = 3,
    /// Not reachable, or no answer in time. Trying again may help.
    Unavailable = 4,
    /// What was verified is not right.
    NotVerified = 5,
}

/// A message exchange between public organisations.
///
/// Exit status: 0 success, 1 a fault inside, 2 bad usage or configuration, 3 refused, 4 unavailable or too late, 5 not verified.
#[derive(Debug, Parser)]
#[command(name = "airut", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole exchange on this machine, with throwaway certificates and synthetic persons.
    Dev(dev::Options),
    /// Run roles from a configuration file.
    Serve(ServeOptions),
    /// Ask for a person's benefits.
    Query(query::Options),
    /// Ask whether an exchange serves.
    Health(health::Options),
    /// Send messages: a file, a directory of files, standard input, or JSON lines.
    Send(Box<send::Options>),
    /// Collect messages: as JSON lines, into a directory, or with a command for each.
    Collect(collect::Options),
    /// Show what has happened to a message.
    Track(track::Track),
    /// List the messages to and from the caller that were not delivered.
    DeadLetters(track::DeadLetters),
    /// Have dead letters delivered once more.
    Redrive(track::Redrive),
    /// Pass a delivery on to the recipient it should have gone to.
    Transfer(track::Transfer),
    /// Documents: send, fetch, and how far they have come.
    #[command(subcommand)]
    Document(document::Command),
    /// Information requests: ask another partner for information, and answer.
    #[command(subcommand)]
    Request(Box<request::Command>),
    /// The registry of partners: one's own definition, and for operators everybody's.
    #[command(subcommand)]
    Partner(partner::Command),
    /// The audit ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The keys of what is sealed: what there are, rotation, erasing.
    #[command(subcommand)]
    Keys(keys::Command),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
struct ServeOptions {
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

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Verify a data directory offline, while no process has it open.
    Verify(verify::Options),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file and the environment over it; reports every fault at once.
    Check(ServeOptions),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Runs the command line and returns the process's exit status.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return fail(Exit::Fault, &cause.into()),
    };
    // Another part of the process may have installed it already; which is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let result = runtime.block_on(run(command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((exit, cause)) => fail(exit, &cause),
    }
}

type Outcome = Result<(), (Exit, anyhow::Error)>;

async fn run(command: Command) -> Outcome {
    match command {
        Command::Dev(options) if options.once => once::run(&options).await,
        Command::Dev(options) => dev::run(&options).await.map_err(fault),
        Command::Serve(options) => serve(&options).await,
        Command::Query(options) => query::run(&options).await,
        Command::Health(options) => health::run(&options).await,
        Command::Send(options) => send::run(&options).await,
        Command::Collect(options) => collect::run(&options).await,
        Command::Track(options) => track::track(&options).await,
        Command::DeadLetters(options) => track::dead_letters(&options).await,
        Command::Redrive(options) => track::redrive(&options).await,
        Command::Transfer(options) => track::transfer(&options).await,
        Command::Document(command) => document::run(&command).await,
        Command::Request(command) => request::run(&command).await,
        Command::Partner(command) => partner::run(&command).await,
        Command::Ledger(LedgerCommand::Verify(options)) => verify::run(&options).await,
        Command::Keys(command) => keys::run(&command).await,
        Command::Config(ConfigCommand::Check(options)) => check(&options),
    }
}

pub(crate) fn fault(cause: anyhow::Error) -> (Exit, anyhow::Error) {
    (Exit::Fault, cause)
}

fn load(options: &ServeOptions) -> Result<config::Config, (Exit, anyhow::Error)> {
    let roles: Vec<Role> = options.roles.iter().copied().map(Role::from).collect();
    config::load(options.config.as_deref(), std::env::vars(), &roles)
        .map_err(|faults| (Exit::Usage, anyhow::Error::new(faults)))
}

fn check(options: &ServeOptions) -> Outcome {
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

async fn serve(options: &ServeOptions) -> Outcome {
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

/// The signals to stop in good order. Listened for from before the process says that it is ready: one that came in between
/// would end it on the spot.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next of them.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
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

/// Prints a command's result. A reader who has seen enough, as `head` does, is no fault; a result that could not be written is.
pub(crate) fn print(result: impl fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{result}") {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(cause).context("standard output"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says how it stands to whoever may be listening. Nobody needs to be: `println!` would end the process instead, which has better
/// things to do.
pub(crate) fn say(line: impl fmt::Display) {
    drop(writeln!(io::stdout(), "{line}"));
}

fn fail(exit: Exit, cause: &anyhow::Error) -> ExitCode {
    // The status tells it, too.
    drop(writeln!(io::stderr(), "airut: {cause:#}"));
    ExitCode::from(exit as u8)
}
