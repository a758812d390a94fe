//! `airut track`, `dead-letters`, `redrive` and `transfer`: what became of messages, and what to do about it.

use airut_domain::id::PartnerId;
use airut_wire::v1::{self, track_response::Step};
use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reason, refused, table, word},
    lines::moment,
    terminal::{Exit, Output},
};

/// As many dead letters are asked for at once.
const PAGE: i32 = 1000;

/// As many messages are redriven with one call.
const MOST_AT_ONCE: usize = 1000;

/// Options of `airut track`.
#[derive(Debug, Args)]
pub(crate) struct Track {
    #[command(flatten)]
    caller: Caller,
    /// The message's id.
    message_id: String,
    /// Who sent it; the caller when not given.
    #[arg(long, value_name = "PARTNER")]
    sender: Option<PartnerId>,
}

/// Options of `airut dead-letters`.
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(flatten)]
    caller: Caller,
    /// `list`, which is also what is done without it.
    #[arg(value_parser = ["list"], hide = true)]
    _list: Option<String>,
}

/// Options of `airut redrive`.
#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    caller: Caller,
    /// The messages' ids.
    #[arg(required = true, value_name = "MESSAGE_ID")]
    message_ids: Vec<String>,
    /// Who sent them; the caller when not given.
    #[arg(long, value_name = "PARTNER")]
    sender: Option<PartnerId>,
}

/// Options of `airut transfer`.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    #[command(flatten)]
    caller: Caller,
    #[command(flatten)]
    reason: Reason,
    /// The delivery.
    delivery_id: String,
    /// Who should have got the message.
    #[arg(long, value_name = "PARTNER")]
    to: PartnerId,
}

type Outcome = Result<(), (Exit, anyhow::Error)>;

fn whose(sender: Option<&PartnerId>) -> &str {
    sender.map_or("", PartnerId::as_str)
}

#[allow(clippy::print_stdout, reason = "the command's output")]
pub(crate) async fn track(options: &Track) -> Outcome {
    let client = options.caller.connect().await?;
    let sender = whose(options.sender.as_ref());
    let tracked = client.track(sender, &options.message_id, options.caller.deadline()).await;
    let tracked = tracked.map_err(|cause| refused(&cause))?;
    match options.caller.output {
        Output::Json => println!("{}", track_json(&tracked)),
        Output::Text => println!("{}", track_text(&tracked)),
    }
    Ok(())
}

fn state(tracked: &v1::TrackResponse) -> String {
    word(tracked.state().as_str_name(), "MESSAGE_STATE_")
}

fn kind(step: &Step) -> String {
    word(step.kind().as_str_name(), "KIND_")
}

fn track_json(tracked: &v1::TrackResponse) -> Value {
    let step = |step: &Step| {
        json!({
            "kind": kind(step),
            "time": moment(step.time),
            "position": step.position,
            "attempt": step.attempt,
            "code": step.code,
            "text": step.text,
        })
    };
    json!({
        "message_id": tracked.message_id,
        "sender": tracked.sender,
        "recipient": tracked.recipient,
        "message_type": tracked.message_type,
        "state": state(tracked),
        "steps": tracked.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn track_text(tracked: &v1::TrackResponse) -> String {
    let mut steps = table(&["WHEN", "WHAT", "ATTEMPT", "WHY", "PLACE"]);
    for step in &tracked.steps {
        let attempt = if step.attempt == 0 { String::new() } else { step.attempt.to_string() };
        let why = [step.code.as_str(), step.text.as_str()].join(" ");
        steps.add_row([moment(step.time), kind(step), attempt, why.trim().to_owned(), step.position.clone()]);
    }
    let v1::TrackResponse { message_id, sender, recipient, message_type, .. } = tracked;
    format!("{message_id}  {message_type} from {sender} to {recipient}: {}\n\n{}", state(tracked), steps.trim_fmt())
}

#[allow(clippy::print_stdout, reason = "the command's output")]
pub(crate) async fn dead_letters(options: &DeadLetters) -> Outcome {
    let client = options.caller.connect().await?;
    let mut request = v1::ListDeadLettersRequest { page_size: PAGE, page_token: String::new() };
    let mut letters = Vec::new();
    loop {
        let page = client.list_dead_letters(&request, options.caller.deadline()).await;
        let page = page.map_err(|cause| refused(&cause))?;
        letters.extend(page.dead_letters);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    match options.caller.output {
        Output::Json => println!("{}", json!({"dead_letters": letters.iter().map(letter_json).collect::<Vec<_>>()})),
        Output::Text if letters.is_empty() => println!("None."),
        Output::Text => println!("{}", letters_text(&letters)),
    }
    Ok(())
}

fn letter_json(letter: &v1::DeadLetter) -> Value {
    json!({
        "message_id": letter.message_id,
        "sender": letter.sender,
        "recipient": letter.recipient,
        "message_type": letter.message_type,
        "code": letter.code,
        "text": letter.text,
        "attempts": letter.attempts,
        "dead_time": moment(letter.dead_time),
        "purge_time": moment(letter.purge_time),
    })
}

fn letters_text(letters: &[v1::DeadLetter]) -> String {
    let mut rows = table(&["SINCE", "MESSAGE", "TYPE", "FROM", "TO", "ATTEMPTS", "WHY", "FORGOTTEN"]);
    for letter in letters {
        let why = [letter.code.as_str(), letter.text.as_str()].join(" ");
        rows.add_row([
            moment(letter.dead_time),
            letter.message_id.clone(),
            letter.message_type.clone(),
            letter.sender.clone(),
            letter.recipient.clone(),
            letter.attempts.to_string(),
            why.trim().to_owned(),
            moment(letter.purge_time),
        ]);
    }
    rows.trim_fmt()
}

#[allow(clippy::print_stdout, reason = "the command's output")]
pub(crate) async fn redrive(options: &Redrive) -> Outcome {
    let client = options.caller.connect().await?;
    let sender = whose(options.sender.as_ref());
    let mut results = Vec::with_capacity(options.message_ids.len());
    for some in options.message_ids.chunks(MOST_AT_ONCE) {
        let told = client.redrive(sender, some, options.caller.deadline()).await;
        results.extend(told.map_err(|cause| refused(&cause))?);
    }
    let reason = |result: &v1::redrive_response::Result| result.refusal.as_ref().map(|refusal| refusal.reason.clone());
    match options.caller.output {
        Output::Json => {
            let result = |result: &v1::redrive_response::Result| json!({"message_id": result.message_id, "reason": reason(result)});
            println!("{}", json!({"results": results.iter().map(result).collect::<Vec<_>>()}));
        }
        Output::Text => {
            for result in &results {
                println!("{}  {}", result.message_id, reason(result).as_deref().unwrap_or("redriven"));
            }
        }
    }
    // Those that may pass when they are tried again leave a different status than those that never will.
    let refusals = || results.iter().filter_map(|result| result.refusal.as_ref());
    match (refusals().count(), refusals().all(airut_wire::is_worth_retrying)) {
        (0, _) => Ok(()),
        (count, true) => Err((Exit::Unavailable, anyhow!("{count} of {} not redriven for now", results.len()))),
        (count, false) => Err((Exit::Refused, anyhow!("{count} of {} not redriven", results.len()))),
    }
}

#[allow(clippy::print_stdout, reason = "the command's output")]
pub(crate) async fn transfer(options: &Transfer) -> Outcome {
    let client = options.caller.connect().await?;
    let request = v1::TransferRequest {
        delivery_id: options.delivery_id.clone(),
        recipient: options.to.to_string(),
        context: Some(options.reason.context()),
    };
    client.transfer(&request, options.caller.deadline()).await.map_err(|cause| refused(&cause))?;
    match options.caller.output {
        Output::Json => {
            println!("{}", json!({"delivery_id": options.delivery_id, "recipient": options.to.to_string()}))
        }
        Output::Text => println!("{} passed on to {}", options.delivery_id, options.to),
    }
    Ok(())
}
