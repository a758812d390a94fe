//! Options that all scenarios of messages share.

use std::path::PathBuf;

use crate::exchange::Engine;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// What carries the log.
    #[arg(long = "log", value_enum, default_value_t = Engine::Embedded)]
    pub(crate) engine: Engine,
    /// The size of each payload, in bytes: samples are filled up with blanks.
    #[arg(long, default_value_t = 1024)]
    pub(crate) payload_bytes: usize,
    /// How many deliveries each recipient may have unsettled, at each gateway.
    #[arg(long, default_value_t = 8192)]
    pub(crate) credit: u32,
    /// How many seconds a delivery may take until it is settled. What a gateway that is killed had offered is offered again when that
    /// has passed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) lease: u64,
    /// The data directory; a temporary one when not given.
    #[arg(long, conflicts_with = "target")]
    pub(crate) data: Option<PathBuf>,
    /// The gateway of an exchange that runs already, HOST:PORT; several with commas. None is started then.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS", requires = "pki")]
    pub(crate) target: Vec<String>,
    /// With --target: the directory of ca.crt, receipt-keys.txt and PARTNER.crt and PARTNER.key of each partner, and of `auditor` for
    /// the ledger.
    #[arg(long, value_name = "DIR", requires = "target")]
    pub(crate) pki: Option<PathBuf>,
    /// With --target: a file of synthetic identity codes, one a line; persons.txt beside the directory of --pki when not given.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) persons: Option<PathBuf>,
    /// With --target: where the ledger serves, when not at the gateway.
    #[arg(long, value_name = "ADDRESS", requires = "target")]
    pub(crate) ledger: Option<String>,
    /// With --target: the name in the exchange's certificate, when not the one in its address.
    #[arg(long, value_name = "NAME", requires = "target")]
    pub(crate) server_name: Option<String>,
    /// How the result is told. The last line is JSON either way.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
    /// Draws latency and throughput over time into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Fixes what is random: times, and what is killed when. Told in any case.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people, and a last line for programs.
    Human,
    /// For programs alone.
    Json,
}

impl Common {
    /// The seed that was given, or one of this run's own.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| rand::random::<u32>().into())
    }
}
