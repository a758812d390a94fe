//! Processes that the load generator starts, and what they cost.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// How long a process may take to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `/proc` counts processor time in, on every Linux there is.
const TICKS_A_SECOND: u32 = 100;

/// A process that is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// What [`start`](Self::start) found in its output.
    pub(crate) address: String,
    /// Where its desk serves, if it has said so before; else empty.
    pub(crate) desk: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts a command and reads its output until `address` finds in a line what it looks for.
    pub(crate) fn start(mut command: Command, address: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let output = child.stdout.take().context("a pipe was asked for")?;
        let mut process = Self { child, address: String::new(), desk: String::new() };
        let mut lines = BufReader::new(output).lines();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, desk)) = line.split_once("desk     http://") {
                desk.split_whitespace().next().unwrap_or_default().clone_into(&mut process.desk);
            }
            if let Some(found) = address(&line) {
                process.address = found;
                // What follows is read and thrown away, so that the process never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(process);
            }
        }
        bail!("{command:?} ended before it was ready")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process has in memory, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024)
    }

    /// Asks the process to stop and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status()?;
        ensure!(status.success(), "the process could not be told to stop");
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "the process did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The processor time that a process has used, in seconds: its own and the system's on its behalf.
pub(crate) fn processor_seconds(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')').with_context(|| path.clone())?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|field| field.parse::<u32>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).with_context(|| path.clone())?;
    Ok(f64::from(user + system) / f64::from(TICKS_A_SECOND))
}

/// `airut`, in the directory of this program: `cargo build --release --workspace` puts both there.
pub(crate) fn airut() -> anyhow::Result<Command> {
    let path: PathBuf = std::env::current_exe()?.with_file_name("airut");
    ensure!(path.exists(), "{} is missing: build it with cargo build --release --workspace", path.display());
    Ok(Command::new(path))
}

/// Runs a command that is to succeed.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ends with {status}");
    Ok(())
}
