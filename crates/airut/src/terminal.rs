//! What a command says to whoever has called it, and hears from them: results, exit statuses, signals.

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Context;
use clap::ValueEnum;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit statuses, besides 0 for success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
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

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// A fault inside.
pub(crate) fn fault(cause: anyhow::Error) -> (Exit, anyhow::Error) {
    (Exit::Fault, cause)
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
