//! The `airut` binary: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    airut::cli::main()
}
