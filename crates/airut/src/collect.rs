//! `airut collect`: messages as they come, as JSON lines, into a directory, or with a command for each.
//!
//! A message is accepted once it is where it should be: written and flushed, on the disk, or taken by the command. Whatever goes
//! wrong before, it is delivered again.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use airut_client::{CollectError, Collected, Collector, CollectorSettings, Lease, SettleError};
use airut_domain::id::MessageType;
use airut_wire::v1;
use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    caller::{Caller, refused},
    lines,
    terminal::{Exit, Output, Signals, fault},
};

/// The exit status by which a command says: not now (EX_TEMPFAIL of sysexits.h).
const LATER: i32 = 75;

/// What a shell ends with when it can not run a command: the fault is here, and no message's.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// As many characters of what a command prints become the text of a rejection.
const LONGEST_TEXT: usize = 1000;

/// With --once, when --wait is not given.
const USUAL_WAIT: u64 = 2;

/// Options of `airut collect`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    caller: Caller,
    /// Write each payload into a file of this directory, and what else there is to know of it into one beside it, instead of JSON
    /// lines to standard output.
    #[arg(long, value_name = "DIR", conflicts_with = "exec")]
    into: Option<PathBuf>,
    /// Run this with `sh -c` for each message, with the payload on its standard input and facts in its environment (`AIRUT_…`). It
    /// settles by its exit status: 0 accepted, 75 delivered again later, else rejected, with what it printed as the text.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Give the command the whole message as a JSON line instead of the payload.
    #[arg(long, requires = "exec")]
    envelope: bool,
    /// As many commands may run at once.
    #[arg(long, default_value_t = 1, requires = "exec", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// End when nothing waits any more.
    #[arg(long)]
    once: bool,
    /// End after so many messages.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End when none has come for so many seconds; with --once 2.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Only messages of this type; may be given several times. What nobody collects waits.
    #[arg(long = "type", value_name = "NAME")]
    types: Vec<MessageType>,
    /// As many messages may be here and not settled.
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    credit: u32,
    /// Seconds until a message that is not settled is delivered again, 1 to 3600. While a command runs it is extended.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease: u64,
}

type Failed = (Exit, anyhow::Error);

pub(crate) async fn run(options: &Options) -> Result<(), Failed> {
    if let Some(directory) = &options.into {
        fs::create_dir_all(directory)
            .with_context(|| directory.display().to_string())
            .map_err(|cause| (Exit::Usage, cause))?;
    }
    let client = options.caller.connect().await?;
    let mut signals = Signals::listen().map_err(fault)?;
    let ends_by_itself = options.once || options.count.is_some() || options.wait.is_some();
    let settings = CollectorSettings {
        credit: options
            .count
            .map_or(options.credit, |count| options.credit.min(u32::try_from(count).unwrap_or(u32::MAX))),
        lease: Duration::from_secs(options.lease),
        message_types: options.types.iter().map(ToString::to_string).collect(),
        stop_within: options.caller.deadline(),
        // For ever where trying again may help, and not at all where it does not.
        patience: Some(if ends_by_itself { options.caller.deadline() } else { Duration::MAX }),
    };
    let mut collector = client.collector(settings, &CancellationToken::new());
    let mut taking = Taking::new(options);
    let taken = tokio::select! {
        taken = taking.take_all(&mut collector) => taken,
        () = signals.received() => Ok(()),
    };
    // Commands under way may end, and settle.
    let finished = taking.finish(options.caller.deadline()).await;
    let closed = collector.close().await;
    taken?;
    finished?;
    match closed {
        Err(CollectError::GaveUp(cause)) => return Err(refused(&cause)),
        Err(cause @ CollectError::Unfinished { .. }) => return Err((Exit::Unavailable, anyhow!("{cause}"))),
        Ok(()) => {}
    }
    match options.count {
        Some(count) if taking.given < count && !taking.was_stopped => {
            Err((Exit::Unavailable, anyhow!("{} of {count} messages came", taking.given)))
        }
        Some(_) | None => Ok(()),
    }
}

/// What became of one message here.
type Settled = Result<(), Failed>;

/// Takes messages in, one after the other or some at once.
struct Taking<'a> {
    options: &'a Options,
    work: Arc<Work>,
    running: JoinSet<Settled>,
    /// Messages that were taken in.
    given: u64,
    /// It was told to stop, rather than having ended by itself.
    was_stopped: bool,
}

/// What to do with a message.
#[derive(Debug)]
struct Work {
    sink: Sink,
    output: Output,
    lease: Duration,
}

#[derive(Debug)]
enum Sink {
    Lines,
    Directory(PathBuf),
    Command { shell: String, envelope: bool },
}

/// How a message is to be settled, and what else to tell of it.
enum Verdict {
    Accepted,
    Returned,
    Rejected { code: String, text: String },
}

impl<'a> Taking<'a> {
    fn new(options: &'a Options) -> Self {
        let sink = match (&options.into, &options.exec) {
            (Some(directory), _) => Sink::Directory(directory.clone()),
            (None, Some(shell)) => Sink::Command { shell: shell.clone(), envelope: options.envelope },
            (None, None) => Sink::Lines,
        };
        let work = Work { sink, output: options.caller.output, lease: Duration::from_secs(options.lease) };
        Self { options, work: Arc::new(work), running: JoinSet::new(), given: 0, was_stopped: true }
    }

    /// Takes messages in until there have been enough, or none has come for long enough.
    async fn take_all(&mut self, collector: &mut Collector) -> Result<(), Failed> {
        let wait = self.options.wait.or(self.options.once.then_some(USUAL_WAIT)).map(Duration::from_secs);
        while self.options.count.is_none_or(|count| self.given < count) {
            // What is only written is taken in here, one after the other, and its confirmation awaited beside.
            while self.options.exec.is_some() && self.running.len() >= usize::from(self.options.jobs) {
                self.one_done().await?;
            }
            let Some(collected) = self.next(collector, wait).await? else { break };
            self.given += 1;
            let work = Arc::clone(&self.work);
            match &self.work.sink {
                Sink::Lines => print_line(&collected.delivery).map_err(fault)?,
                Sink::Directory(directory) => {
                    let write = || write_files(directory, &collected.delivery);
                    tokio::task::block_in_place(write).map_err(fault)?;
                }
                Sink::Command { shell, envelope } => {
                    let (shell, envelope) = (shell.clone(), *envelope);
                    self.running.spawn(async move { work.take(&shell, envelope, collected).await });
                    continue;
                }
            }
            self.running.spawn(async move {
                work.settle(&collected.delivery, collected.lease, Verdict::Accepted).await;
                Ok(())
            });
        }
        while !self.running.is_empty() {
            self.one_done().await?;
        }
        self.was_stopped = false;
        Ok(())
    }

    /// The next message; `None` when none comes for so long, or the collector has given up. While commands run they end meanwhile, and
    /// the waiting begins when the last has.
    async fn next(&mut self, collector: &mut Collector, wait: Option<Duration>) -> Result<Option<Collected>, Failed> {
        let mut since = Instant::now();
        loop {
            let until = wait.filter(|_| self.running.is_empty()).map(|wait| since + wait);
            tokio::select! {
                collected = collector.next() => return Ok(collected),
                Some(done) = self.running.join_next() => {
                    settled(done)?;
                    since = Instant::now();
                }
                () = tokio::time::sleep_until(until.unwrap_or(since)), if until.is_some() => return Ok(None),
            }
        }
    }

    async fn one_done(&mut self) -> Result<(), Failed> {
        self.running.join_next().await.map_or(Ok(()), settled)
    }

    /// Lets what is under way end, and drops what takes longer: it is delivered again.
    async fn finish(&mut self, within: Duration) -> Result<(), Failed> {
        let all = async {
            while let Some(done) = self.running.join_next().await {
                settled(done)?;
            }
            Ok(())
        };
        let ended = tokio::time::timeout(within, all).await;
        self.running.abort_all();
        ended.unwrap_or(Ok(()))
    }
}

fn settled(done: Result<Settled, tokio::task::JoinError>) -> Result<(), Failed> {
    done.unwrap_or_else(|cause| Err(fault(cause.into())))
}

#[allow(clippy::print_stderr, reason = "the command's output")]
fn tell_fault(delivery: &v1::Delivery, what: &str) {
    eprintln!("airut: {} from {}: {what}", message_id(delivery), delivery.sender);
}

#[allow(clippy::print_stdout, reason = "the command's output")]
fn tell(delivery: &v1::Delivery, word: &str, output: Output) {
    let (id, sender, attempt) = (message_id(delivery), &delivery.sender, delivery.attempt);
    match output {
        Output::Json => println!(
            "{}",
            json!({"message_id": id, "sender": sender, "delivery_id": delivery.delivery_id, "attempt": attempt, "outcome": word})
        ),
        Output::Text => println!("{id}  from {sender}, attempt {attempt}: {word}"),
    }
}

fn message_id(delivery: &v1::Delivery) -> &str {
    delivery.message.as_ref().map_or("", |message| message.message_id.as_str())
}

fn print_line(delivery: &v1::Delivery) -> anyhow::Result<()> {
    let line = format!("{}\n", lines::delivery(delivery));
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

/// Writes the payload and the facts. A message that comes again is written again, with the same names.
fn write_files(directory: &Path, delivery: &v1::Delivery) -> anyhow::Result<()> {
    let payload = delivery.message.as_ref().map(|message| message.payload.as_slice()).unwrap_or_default();
    let name = file_name(&delivery.sender, message_id(delivery));
    // The facts come first: whoever sees a payload finds them.
    let facts = lines::facts(delivery).to_string();
    write_durably(directory, &format!("{name}.facts.json"), facts.as_bytes())?;
    write_durably(directory, &format!("{name}.payload"), payload)
}

/// A name for a message's files: what an id may have and a name may not is written as in URLs.
fn file_name(sender: &str, message_id: &str) -> String {
    let name: String = format!("{sender}~{message_id}")
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '~' => c.to_string(),
            other => other.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
        })
        .collect();
    // A name that begins with a dot is one that `airut send` passes over, and `.part` is a file half written.
    name.trim_start_matches('.').to_owned()
}

/// Writes a file that is there whole or not at all, also after a power cut.
fn write_durably(directory: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let (path, part) = (directory.join(name), directory.join(format!(".{name}.part")));
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(directory)?.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

impl Work {
    /// Has the command take one message in, and settles it. An error is one of this machine, at which the collector ends: the
    /// message is returned, because the lease is dropped.
    async fn take(&self, shell: &str, envelope: bool, Collected { delivery, lease }: Collected) -> Settled {
        let verdict = self.run(shell, envelope, &delivery, &lease).await.map_err(fault)?;
        self.settle(&delivery, lease, verdict).await;
        Ok(())
    }

    async fn settle(&self, delivery: &v1::Delivery, lease: Lease, verdict: Verdict) {
        let (word, settling) = match verdict {
            Verdict::Accepted => ("accepted", lease.accept()),
            Verdict::Returned => ("returned", lease.return_after(None)),
            Verdict::Rejected { code, text } => ("rejected", lease.reject(code, text)),
        };
        match settling.await {
            Ok(()) => {}
            // It will be delivered again, or was: nothing is wrong here.
            Err(SettleError::Refused(refused)) => tell_fault(delivery, &format!("{word}, but {refused}")),
            Err(SettleError::Unknown) => {
                tell_fault(delivery, &format!("{word}, but the exchange has not confirmed it"));
            }
        }
        if !matches!(self.sink, Sink::Lines) {
            tell(delivery, word, self.output);
        }
    }

    /// Runs the command for a message, and extends its lease for as long as that takes.
    async fn run(
        &self,
        shell: &str,
        envelope: bool,
        delivery: &v1::Delivery,
        lease: &Lease,
    ) -> anyhow::Result<Verdict> {
        let message = delivery.message.clone().unwrap_or_default();
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", shell]).envs(environment(delivery, &message));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().context("sh")?;
        let input = if envelope { format!("{}\n", lines::delivery(delivery)).into_bytes() } else { message.payload };
        let (mut stdin, mut stdout) =
            (child.stdin.take().context("no standard input")?, child.stdout.take().context("no standard output")?);
        let talk = async {
            let give = async {
                // One that does not read its input may have its reasons.
                drop(stdin.write_all(&input).await);
                drop(stdin);
            };
            let hear = async {
                let mut said = Vec::new();
                // Of what is said the beginning is kept, and all of it is read.
                let kept = (&mut stdout).take(4 * LONGEST_TEXT as u64).read_to_end(&mut said).await;
                kept?;
                tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await?;
                Ok::<_, std::io::Error>(said)
            };
            let ((), said) = tokio::join!(give, hear);
            Ok::<_, anyhow::Error>((said.context("what the command prints")?, child.wait().await?))
        };
        tokio::pin!(talk);
        let (said, status) = loop {
            tokio::select! {
                talked = &mut talk => break talked?,
                () = tokio::time::sleep(self.lease / 2) => {
                    // One that can't be extended may be lost; what the command does is done all the same.
                    if let Err(cause) = lease.extend(self.lease).await {
                        tell_fault(delivery, &format!("the lease is not extended: {cause}"));
                    }
                }
            }
        };
        match status.code() {
            Some(0) => Ok(Verdict::Accepted),
            Some(LATER) => Ok(Verdict::Returned),
            Some(NOT_EXECUTABLE | NOT_FOUND) => Err(anyhow!("the command can not be run")),
            Some(code) => {
                let text = String::from_utf8_lossy(&said).trim().chars().take(LONGEST_TEXT).collect();
                Ok(Verdict::Rejected { code: format!("EXIT_{code}"), text })
            }
            // Killed: that says nothing about the message.
            None => Ok(Verdict::Returned),
        }
    }
}

/// The facts for a command. Whom the message is about is not among them: the environment is inherited and dumped. `--envelope` has
/// it.
fn environment(delivery: &v1::Delivery, message: &v1::SendRequest) -> Vec<(&'static str, String)> {
    let context = message.context.clone().unwrap_or_default();
    vec![
        ("AIRUT_MESSAGE_ID", message.message_id.clone()),
        ("AIRUT_MESSAGE_TYPE", message.message_type.clone()),
        ("AIRUT_SENDER", delivery.sender.clone()),
        ("AIRUT_ORDERING_KEY", message.ordering_key.clone()),
        ("AIRUT_CONTENT_TYPE", message.content_type.clone()),
        ("AIRUT_PURPOSE", context.purpose),
        ("AIRUT_LEGAL_BASIS", context.legal_basis),
        ("AIRUT_DELIVERY_ID", delivery.delivery_id.clone()),
        ("AIRUT_ATTEMPT", delivery.attempt.to_string()),
        ("AIRUT_REDRIVEN", delivery.redriven.to_string()),
        ("AIRUT_ACCEPT_TIME", lines::moment(delivery.accept_time)),
        ("AIRUT_POSITION", delivery.position.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_files_stay_in_their_directory_whatever_its_id() {
        assert_eq!(file_name("kela", "m-1"), "kela~m-1");
        assert_eq!(file_name("kela", "../../etc/passwd"), "kela~..%2F..%2Fetc%2Fpasswd");
        assert_eq!(file_name("kela", "a:b"), "kela~a%3Ab");
        assert_ne!(file_name("a", "b~c"), file_name("a~b", "c2"));
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        write_durably(dir.path(), "a", b"first").expect("written");
        write_durably(dir.path(), "a", b"second").expect("written");
        assert_eq!(fs::read(dir.path().join("a")).expect("there"), b"second");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
    }
}
