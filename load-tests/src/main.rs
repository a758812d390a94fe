//! `airut-load`: load through the public API over mTLS, measured against a baseline in the same run, and verified afterwards.
//!
//! Figures from a shared machine mean little alone. So each run also times a baseline in turn with the queries, and prints
//! ratios: on the embedded log a bare tonic unary echo of the same size over the same mTLS, and the disk's fsync; on Kafka bare
//! round trips of rdkafka on the same broker. What was answered while measuring is checked afterwards: every receipt, and the
//! whole ledger.

#![allow(clippy::print_stdout, reason = "a command-line tool's output")]

/// As in `airut`, which it is measured beside.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod exchange;
mod measure;
mod process;

mod options;
mod place;

mod flows;
mod plan;
mod seen;

mod audit;
mod chart;
mod progress;
mod report;
mod run;

mod bare;
mod day;

mod flood;
mod open_loop;
mod slow_reader;
mod steady;

mod chaos;

mod document;
mod echo;
mod query;
mod raw;
mod recover;
mod requests;

mod desk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "airut-load", version, about)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// A day's messages, sent and collected by every partner at once, and each of them checked.
    Day(day::Options),
    /// An open loop at ten times the mean of such a day, for as long as asked.
    Steady(steady::Options),
    /// One partner sends far past its quota: what the others notice of it.
    Flood(flood::Options),
    /// One recipient reads and settles no more: what the others notice of it.
    SlowReader(slow_reader::Options),
    /// Gateways and brokers killed at random under load, and nothing lost, doubled without a word or out of order.
    Chaos(chaos::Options),
    /// Queries, closed loop, at several numbers in flight, beside a baseline on the same machine.
    Query(query::Options),
    /// A gateway killed under load on a log of millions of records: how long until it serves again, on its folds and without.
    Recover(recover::Options),
    /// A document sent and fetched, beside a plain copy of the same file over TLS.
    Document(document::Options),
    /// The copy server that the document scenario starts as a process of its own.
    #[command(hide = true)]
    CopyServer(document::ServerOptions),
    /// Pages of lists of information requests, few and a million.
    Requests(requests::Options),
    /// Officials at the desk, at the pace of people, each with a page open that is told of changes.
    Desk(desk::Options),
    /// The echo server that the other scenarios start as a process of its own.
    #[command(hide = true)]
    EchoServer(echo::Options),
}

fn main() -> ExitCode {
    // The process has installed none before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return fail(&cause.into()),
    };
    let result = runtime.block_on(async {
        match Cli::parse().scenario {
            Scenario::Day(options) => day::run(&options).await,
            Scenario::Steady(options) => steady::run(&options).await,
            Scenario::Flood(options) => flood::run(&options).await,
            Scenario::SlowReader(options) => slow_reader::run(&options).await,
            Scenario::Chaos(options) => chaos::run(&options).await,
            Scenario::Query(options) => query::run(&options).await,
            Scenario::Recover(options) => recover::run(&options).await,
            Scenario::Document(options) => document::run(&options).await,
            Scenario::CopyServer(options) => document::serve(&options).await,
            Scenario::Requests(options) => requests::run(&options).await,
            Scenario::Desk(options) => desk::run(&options).await,
            Scenario::EchoServer(options) => echo::serve(&options).await,
        }
    });
    result.map_or_else(|cause| fail(&cause), |()| ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr, reason = "a command-line tool's output")]
fn fail(cause: &anyhow::Error) -> ExitCode {
    eprintln!("airut-load: {cause:#}");
    ExitCode::FAILURE
}
