//! The `airut` binary: parse, run, exit.

use std::process::ExitCode;

/// A query is thousands of small allocations, freed on other threads than they were made on: what the system's allocator
/// is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    airut::cli::main()
}
