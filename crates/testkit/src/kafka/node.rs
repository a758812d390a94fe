//! One node: a Java process and its directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::Installation;
use crate::process;

/// What a node writes once it serves.
const SERVES: &str = "Kafka Server started";
/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Node {
    home: PathBuf,
    starts: u32,
    process: Option<Child>,
}

impl Node {
    pub(super) fn new(home: PathBuf) -> Self {
        Self { home, starts: 0, process: None }
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Starts it; see [`wait_until_it_serves`](Self::wait_until_it_serves).
    pub(super) fn spawn(&mut self, installation: &Installation) {
        self.starts += 1;
        let said = File::create(self.said()).expect("the directory is ours");
        let mut command = installation.program("kafka.Kafka");
        command.arg(self.home.join("server.properties"));
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file can be shared")).stderr(said);
        self.process = Some(process::spawn(command).expect("Java can be started"));
    }

    /// What the process said, if it ended or did not serve within the bound: a port that was free may not be so by now.
    pub(super) fn wait_until_it_serves(&mut self, bound: Duration) -> Result<(), String> {
        let (began, said) = (Instant::now(), self.said());
        let process = self.process.as_mut().expect("it was started");
        loop {
            let said = fs::read_to_string(&said).unwrap_or_default();
            if said.contains(SERVES) {
                return Ok(());
            }
            let ended = process.try_wait().expect("the process is ours").is_some();
            if ended || began.elapsed() > bound {
                let last: Vec<_> = said.lines().rev().take(20).collect();
                return Err(last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            thread::sleep(LOOK);
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it was started");
        let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("it has an id");
        kill_process(id, signal).expect("the process is ours");
    }

    /// `setpriv` becomes Java, so that it is Java's.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Kills it, frozen or not, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.kill().expect("the process is ours");
        process.wait().expect("the process is ours");
    }

    fn said(&self) -> PathBuf {
        self.home.join(format!("said-{}", self.starts))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
