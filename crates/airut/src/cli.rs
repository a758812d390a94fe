//! The command line: what there is.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    collect, dev, document, health, keys, once, partner, query, request, send, serve,
    terminal::{Exit, fault},
    track, verify,
};

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
    Serve(serve::Options),
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

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Verify a data directory offline, while no process has it open.
    Verify(verify::Options),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file and the environment over it; reports every fault at once.
    Check(serve::Options),
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
        Command::Serve(options) => serve::run(&options).await,
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
        Command::Config(ConfigCommand::Check(options)) => serve::check(&options),
    }
}

fn fail(exit: Exit, cause: &anyhow::Error) -> ExitCode {
    // The status tells it, too.
    drop(writeln!(io::stderr(), "airut: {cause:#}"));
    ExitCode::from(exit as u8)
}
