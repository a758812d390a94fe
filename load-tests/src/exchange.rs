//! The exchange under load: an `airut dev` of its own, as a process, with its memory watched.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use airut_client::{Client, Settings};
use anyhow::{Context, bail, ensure};

/// How long the exchange may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// The first line that it printed which looks like an address.
    pub(crate) address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts a command and reads its output until `address` finds its address in a line.
    fn start(mut command: Command, address: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let output = child.stdout.take().context("a pipe was asked for")?;
        let mut process = Self { child, address: String::new() };
        let mut lines = BufReader::new(output).lines();
        for line in lines.by_ref() {
            if let Some(found) = address(&line?) {
                process.address = found;
                // What follows is read and thrown away, so that the process never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(process);
            }
        }
        bail!("{command:?} ended before it was ready")
    }

    /// What the process has in memory, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024)
    }

    /// Asks the process to stop and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        ensure!(status.success(), "the process could not be told to stop");
        let began = std::time::Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "the process did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The directory of this program, where `cargo build --release --workspace` puts `airut` too.
fn airut() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("airut");
    ensure!(path.exists(), "{} is missing: build it with cargo build --release --workspace", path.display());
    Ok(path)
}

/// Starts `airut dev` on the directory.
pub(crate) fn start(data: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(airut()?);
    command.arg("dev").arg("--data").arg(data).args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
    Process::start(command, |line| {
        let (_, rest) = line.split_once("gRPC     https://")?;
        rest.split_whitespace().next().map(str::to_owned)
    })
}

/// Starts the echo server with the directory's certificates.
pub(crate) fn start_echo(data: &Path, matters: usize) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo-server").arg("--pki").arg(data.join("pki")).arg("--matters").arg(matters.to_string());
    Process::start(command, |line| line.contains(':').then(|| line.to_owned()))
}

/// Verifies the directory's log and ledger.
pub(crate) fn verify(data: &Path) -> anyhow::Result<()> {
    let verified = Command::new(airut()?).args(["ledger", "verify", "--data"]).arg(data).status()?;
    ensure!(verified.success(), "the ledger does not verify");
    Ok(())
}

/// A client with Pirkanmaa's certificate.
pub(crate) async fn client(address: &str, data: &Path) -> anyhow::Result<Client> {
    let pki = data.join("pki");
    let settings = Settings::new(address, pki.join("ca.crt"), pki.join("pirkanmaa.crt"), pki.join("pirkanmaa.key"));
    Ok(Client::connect(&settings).await?)
}
