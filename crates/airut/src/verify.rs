//! temp
use std::path::{Path, PathBuf};
use clap::Args;
use crate::cli::Exit;
#[derive(Clone, Debug, Args)]
pub(crate) struct Options { #[arg(long, default_value = "airut-data")] data: PathBuf }
pub(crate) fn run(options: &Options) -> Result<(), (Exit, anyhow::Error)> { verify(&options.data, None, None) }
pub(crate) fn verify(_: &Path, _: Option<&Path>, _: Option<&Path>) -> Result<(), (Exit, anyhow::Error)> { Err((Exit::Fault, anyhow::anyhow!("verification is not built yet"))) }
