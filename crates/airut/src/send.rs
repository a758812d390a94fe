//! `airut send`: messages from files, standard input or JSON lines.
//!
//! One message is one call. Several go over a stream: each has one outcome, printed as it becomes known, so that a file of a
//! million lines takes no more memory than one of ten.

use std::{
    fs,
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use airut_client::{Outcomes, ReceiptKeys, SendError, SendOutcome, Sender, SenderSettings};
use airut_domain::{id::PartnerId, receipt::Receipt, time::parse_timestamp};
use airut_wire::v1;
use anyhow::{Context, anyhow, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::{
    caller::{Caller, Reason, refused, table},
    lines,
    terminal::{Exit, Output, fault},
};

/// A payload, or a line with its payload in base64, is not read beyond this size: the exchange takes no such message.
const LARGEST_INPUT: u64 = 2 * 1024 * 1024;

/// So many receipts are shown to people; of more only how many there are, and those that were refused.
const MOST_ROWS: usize = 100;

/// Options of `airut send`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    caller: Caller,
    #[command(flatten)]
    reason: Reason,
    /// The payload: a file, `-` for standard input, or a directory, each of whose files is a message, in the order of their names.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Each line of FILE is a message, with the fields of the protocol's `SendRequest`; the payload is a JSON value, or in
    /// `payload_base64`. What a line lacks is as the options say.
    #[arg(long, conflicts_with_all = ["subject_stdin", "message_id", "id_prefix"])]
    jsonl: bool,
    /// Who is to receive it.
    #[arg(long, value_name = "PARTNER", required_unless_present = "jsonl")]
    to: Option<PartnerId>,
    /// What it is.
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "jsonl")]
    message_type: Option<String>,
    /// Messages with the same key are delivered one after the other.
    #[arg(long, value_name = "KEY", default_value = "")]
    key: String,
    /// Read whom it is about from the first line of standard input, before a payload that is read from there too; of a directory
    /// from as many lines as it has files. Arguments show in the list of processes.
    #[arg(long)]
    subject_stdin: bool,
    /// The payload's media type.
    #[arg(long, default_value = "application/json")]
    content_type: String,
    /// The message's id; a new one when not given. The same message with the same id is accepted once.
    #[arg(long, conflicts_with = "id_prefix")]
    message_id: Option<String>,
    /// The ids of a directory's messages: this and the file's name. When it is sent again, what was accepted is not sent twice.
    #[arg(long, value_name = "PREFIX")]
    id_prefix: Option<String>,
    /// After this moment it is delivered no more, such as 2026-12-01T12:00:00Z; as its type says when not given.
    #[arg(long, value_name = "MOMENT")]
    expires: Option<String>,
}

type Failed = (Exit, anyhow::Error);

pub(crate) async fn run(options: &Options) -> Result<(), Failed> {
    let usual = usual(options).map_err(|cause| (Exit::Usage, cause))?;
    let pki = options.caller.data.join("pki/receipt-keys.txt");
    let client = options.caller.connect().await?;
    let keys = ReceiptKeys::load(pki).map_err(|cause| fault(cause.into()))?;
    if !options.jsonl && !options.path.is_dir() {
        let message = single(options, usual).map_err(|cause| (Exit::Usage, cause))?;
        let sent = client.send(&message, &keys, options.caller.deadline()).await;
        let mut told = Told::new(options.caller.output, Form::One, ProgressBar::hidden());
        told.tell(SendOutcome { message_id: message.message_id, result: sent }).map_err(fault)?;
        return told.end();
    }
    let settings = SenderSettings { patience: Some(options.caller.deadline()), ..SenderSettings::default() };
    let (sender, outcomes) = client.sender(keys, settings);
    let bar = progress(options);
    let told = Told::new(options.caller.output, Form::Many, bar.clone());
    let telling = tokio::spawn(tell_all(outcomes, told));
    let given = if options.jsonl {
        give_lines(options, &usual, &sender, &bar).await
    } else {
        give_directory(options, &usual, &sender).await
    };
    // Why it gave up is told by the outcomes too, if there are any.
    let closed = sender.close().await;
    let told = telling.await.map_err(|cause| fault(cause.into()))?.map_err(fault)?;
    bar.finish_and_clear();
    // What was not given at all comes first: the rest of the input was not read.
    let ended = told.end();
    given?;
    ended?;
    closed.map_err(|cause| refused(&cause))
}

/// What every message has that does not say otherwise.
fn usual(options: &Options) -> anyhow::Result<v1::SendRequest> {
    let expires = options.expires.as_deref().map(|text| parse_timestamp(text).context("--expires is no moment"));
    Ok(v1::SendRequest {
        message_id: options.message_id.clone().unwrap_or_default(),
        recipient: options.to.as_ref().map(ToString::to_string).unwrap_or_default(),
        message_type: options.message_type.clone().unwrap_or_default(),
        ordering_key: options.key.clone(),
        subject_id: String::new(),
        context: Some(options.reason.context()),
        content_type: options.content_type.clone(),
        payload: Vec::new(),
        expire_time: expires.transpose()?.map(airut_wire::timestamp),
    })
}

/// The one message of a file or of standard input.
fn single(options: &Options, usual: v1::SendRequest) -> anyhow::Result<v1::SendRequest> {
    ensure!(options.id_prefix.is_none(), "--id-prefix is for a directory");
    let reads_stdin = options.path == Path::new("-");
    let mut stdin = Vec::new();
    if options.subject_stdin || reads_stdin {
        std::io::stdin().take(LARGEST_INPUT + 1).read_to_end(&mut stdin).context("standard input")?;
    }
    let (subject, rest) = match stdin.iter().position(|byte| *byte == b'\n') {
        Some(end) if options.subject_stdin => (&stdin[..end], &stdin[end + 1..]),
        None if options.subject_stdin => (stdin.as_slice(), [].as_slice()),
        Some(_) | None => ([].as_slice(), stdin.as_slice()),
    };
    let subject_id = std::str::from_utf8(subject).context("standard input: is no text")?.trim().to_owned();
    let payload = if reads_stdin { rest.to_vec() } else { payload(&options.path)? };
    ensure!(payload.len() as u64 <= LARGEST_INPUT, "{}: is larger than any message", options.path.display());
    let message_id = if usual.message_id.is_empty() { new_id() } else { usual.message_id.clone() };
    Ok(v1::SendRequest { message_id, subject_id, payload, ..usual })
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn payload(path: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || path.display().to_string();
    let mut payload = Vec::new();
    fs::File::open(path).with_context(named)?.take(LARGEST_INPUT + 1).read_to_end(&mut payload).with_context(named)?;
    ensure!(payload.len() as u64 <= LARGEST_INPUT, "{}: is larger than any message", path.display());
    Ok(payload)
}

/// The files of a directory, by name. What begins with a dot is passed over.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let named = || directory.display().to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(named)? {
        let entry = entry.with_context(named)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Whom the messages of a directory are about: nobody, or a line each.
fn subjects(options: &Options, count: usize) -> anyhow::Result<Vec<String>> {
    if !options.subject_stdin {
        return Ok(vec![String::new(); count]);
    }
    let mut text = String::new();
    std::io::stdin().take(64 * count as u64 + 1).read_to_string(&mut text).context("standard input")?;
    let subjects: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    ensure!(subjects.len() == count, "standard input has {} lines for {count} files", subjects.len());
    Ok(subjects)
}

async fn give_directory(options: &Options, usual: &v1::SendRequest, sender: &Sender) -> Result<(), Failed> {
    let usage = |cause| (Exit::Usage, cause);
    if options.message_id.is_some() {
        return Err(usage(anyhow!("--message-id is for one message, --id-prefix for those of a directory")));
    }
    let files = files(&options.path).map_err(usage)?;
    let subjects = subjects(options, files.len()).map_err(usage)?;
    for (file, subject_id) in files.iter().zip(subjects) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let message_id = options.id_prefix.as_ref().map_or_else(new_id, |prefix| format!("{prefix}{name}"));
        let payload = payload(file).map_err(usage)?;
        let message = v1::SendRequest { message_id, subject_id, payload, ..usual.clone() };
        // The outcomes say why.
        if sender.send(message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn give_lines(
    options: &Options,
    usual: &v1::SendRequest,
    sender: &Sender,
    bar: &ProgressBar,
) -> Result<(), Failed> {
    let usage = |cause| (Exit::Usage, cause);
    let name = options.path.display().to_string();
    let mut input: Box<dyn AsyncBufRead + Send + Unpin> = if options.path == Path::new("-") {
        Box::new(BufReader::with_capacity(1 << 16, tokio::io::stdin()))
    } else {
        let file = tokio::fs::File::open(&options.path).await.with_context(|| name.clone()).map_err(usage)?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = (&mut input).take(LARGEST_INPUT + 1).read_until(b'\n', &mut line).await;
        if read.with_context(|| name.clone()).map_err(usage)? == 0 {
            return Ok(());
        }
        bar.inc(line.len() as u64);
        let at_fault = || format!("{name}, line {number}; the lines before it were sent");
        if line.len() as u64 > LARGEST_INPUT {
            return Err(usage(anyhow!("is larger than any message").context(at_fault())));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message = lines::read(&line, usual).with_context(at_fault).map_err(usage)?;
        if sender.send(message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Shows how far it has come, if anybody looks: by bytes of a file, by messages otherwise.
fn progress(options: &Options) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = fs::metadata(&options.path).ok().filter(|file| options.jsonl && file.is_file()).map(|file| file.len());
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match length {
        Some(_) => "{bar:40} {percent}%  {msg}  {eta} left",
        None => "{spinner} {msg}  {elapsed}",
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

async fn tell_all(mut outcomes: Outcomes, mut told: Told) -> anyhow::Result<Told> {
    let mut some = Vec::new();
    while outcomes.next_many(&mut some, 1024).await > 0 {
        for outcome in some.drain(..) {
            told.tell(outcome)?;
        }
        told.show();
    }
    Ok(told)
}

/// What was printed of the outcomes.
struct Told {
    output: Output,
    form: Form,
    bar: ProgressBar,
    accepted: u64,
    rows: Vec<[String; 4]>,
    left_out: u64,
    refused: u64,
    unknown: u64,
    not_verified: u64,
    /// The first failure, for the last line.
    first: Option<(String, SendError)>,
}

/// What an answer in JSON looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One message.
    One,
    /// An array of messages, and how many there are of each kind.
    Many,
}

impl Told {
    fn new(output: Output, form: Form, bar: ProgressBar) -> Self {
        let (rows, first) = (Vec::new(), None);
        Self { output, form, bar, accepted: 0, rows, left_out: 0, refused: 0, unknown: 0, not_verified: 0, first }
    }

    fn count(&self) -> u64 {
        self.accepted + self.refused + self.unknown + self.not_verified
    }

    fn tell(&mut self, outcome: SendOutcome) -> anyhow::Result<()> {
        if self.output == Output::Json {
            self.tell_json(&outcome)?;
        }
        match outcome.result {
            Ok(receipt) => {
                self.accepted += 1;
                let Receipt { statement, key_id, .. } = receipt;
                let place = statement.place();
                self.row([statement.id, statement.accept_time.to_string(), place, format!("{key_id} (verified)")]);
            }
            Err(cause) => {
                match &cause {
                    SendError::Refused(_) | SendError::UnderWay => self.refused += 1,
                    // What tells that nothing was accepted is no matter of trying again.
                    SendError::Unknown(fault) if refused(fault).0 == Exit::Refused => self.refused += 1,
                    SendError::Unknown(_) => self.unknown += 1,
                    SendError::Receipt(_) => self.not_verified += 1,
                }
                self.row([outcome.message_id.clone(), "-".to_owned(), cause.to_string(), String::new()]);
                self.first.get_or_insert((outcome.message_id, cause));
            }
        }
        Ok(())
    }

    fn row(&mut self, row: [String; 4]) {
        if self.output == Output::Text && self.rows.len() < MOST_ROWS {
            self.rows.push(row);
        } else {
            self.left_out += 1;
        }
    }

    fn tell_json(&self, outcome: &SendOutcome) -> anyhow::Result<()> {
        let before = match self.form {
            Form::One => "",
            Form::Many if self.count() == 0 => "{\"messages\":[\n",
            Form::Many => ",\n",
        };
        let mut stdout = std::io::stdout().lock();
        write!(stdout, "{before}{}", outcome_json(outcome)).context("standard output")
    }

    fn show(&self) {
        if !self.bar.is_hidden() {
            let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
            let (count, accepted) = (self.count(), self.accepted);
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = count as f64 / seconds;
            self.bar.set_message(format!("{accepted} accepted, {} not, {rate:.0}/s", count - accepted));
        }
    }

    /// Prints what is left to print, and says how the command ends.
    #[allow(clippy::print_stdout, reason = "the command's output")]
    fn end(mut self) -> Result<(), Failed> {
        match (self.output, self.form) {
            (Output::Json, Form::One) => println!(),
            (Output::Json, Form::Many) => {
                let (before, counts) = (if self.count() == 0 { "{\"messages\":[" } else { "" }, self.counts());
                // The counts go into the object that the messages began.
                println!("{before}],{}", &counts.to_string()[1..]);
            }
            (Output::Text, _) => {
                let mut receipts = table(&["MESSAGE", "ACCEPTED", "PLACE", "SIGNED"]);
                receipts.add_rows(std::mem::take(&mut self.rows));
                println!("{}", receipts.trim_fmt());
                if self.left_out > 0 {
                    println!(" … and {} more", self.left_out);
                }
                if self.form == Form::Many {
                    println!("\n{} accepted, {} not", self.accepted, self.count() - self.accepted);
                }
            }
        }
        let Some((id, cause)) = self.first else { return Ok(()) };
        let exit = match (self.not_verified, self.unknown) {
            (1.., _) => Exit::NotVerified,
            (0, 1..) => Exit::Unavailable,
            (0, 0) => Exit::Refused,
        };
        let others = match self.refused + self.unknown + self.not_verified {
            1 => String::new(),
            failed => format!(", and {} more", failed - 1),
        };
        Err((exit, anyhow!("{id}: {cause}{others}")))
    }

    fn counts(&self) -> Value {
        json!({
            "accepted": self.accepted,
            "refused": self.refused,
            "unknown": self.unknown,
            "not_verified": self.not_verified,
        })
    }
}

fn outcome_json(outcome: &SendOutcome) -> Value {
    let SendOutcome { message_id, result } = outcome;
    match result {
        Ok(receipt) => {
            let statement = &receipt.statement;
            let receipt = json!({
                "id": statement.id,
                "recipient": statement.recipient.to_string(),
                "payload_sha256": statement.payload_sha256.to_string(),
                "accept_time": statement.accept_time.to_string(),
                "position": statement.place(),
                "key_id": receipt.key_id.to_string(),
                "signature": hex::encode(&receipt.signature),
                "verified": true,
            });
            json!({"message_id": message_id, "outcome": "accepted", "receipt": receipt})
        }
        Err(SendError::Refused(refused)) => {
            let reason = refused.reason.map(airut_domain::refusal::Reason::code);
            json!({"message_id": message_id, "outcome": "refused", "reason": reason, "text": refused.message})
        }
        Err(cause @ SendError::UnderWay) => {
            json!({"message_id": message_id, "outcome": "refused", "reason": null, "text": cause.to_string()})
        }
        Err(cause @ SendError::Unknown(_)) => {
            json!({"message_id": message_id, "outcome": "unknown", "text": cause.to_string()})
        }
        Err(cause @ SendError::Receipt(_)) => {
            json!({"message_id": message_id, "outcome": "not_verified", "text": cause.to_string()})
        }
    }
}
