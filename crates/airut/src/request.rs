//! `airut request`: information requests, from the command line.

mod options;
mod shown;

use std::{io::Read, path::Path};

use airut_domain::time::{Date, format_date};
use airut_wire::v1::{
    self, InformationRequestKind as PbKind, InformationRequestState as PbState,
    watch_information_requests_response::Change,
};
use anyhow::{Context, ensure};
pub(crate) use options::Command;
use options::{Create, List, Remark, Respond, Return, Show, Transfer, Watch, Which, new_id};
use serde_json::json;
use shown::{as_json, rows, shown_json, shown_text, standing};

use crate::{
    caller::{Caller, refused},
    lines::moment,
    terminal::{Exit, Output, Signals, fault, print},
};

/// No text is longer than this, whatever it is for.
const LONGEST_TEXT: u64 = 64 * 1024;

/// As many requests are asked for at once.
const PAGE: i32 = 1000;

type Outcome = Result<(), (Exit, anyhow::Error)>;

pub(crate) async fn run(command: &Command) -> Outcome {
    match command {
        Command::Create(options) => create(options).await,
        Command::List(options) => list(options).await,
        Command::Show(options) => show(options).await,
        Command::Respond(options) => respond(options).await,
        Command::Return(options) => give_back(options).await,
        Command::Close(options) => close(options).await,
        Command::Transfer(options) => transfer(options).await,
        Command::Cancel(options) => cancel(options).await,
        Command::Watch(options) => watch(options).await,
    }
}

async fn create(options: &Create) -> Outcome {
    let (subject_id, rest) = subject_and_rest().map_err(usage)?;
    let question = v1::Question {
        text: text(&options.text_file, &rest).map_err(usage)?,
        background: options
            .background_file
            .as_deref()
            .map_or(Ok(String::new()), |file| text(file, &rest))
            .map_err(usage)?,
        period: None,
    };
    let request = v1::CreateInformationRequestRequest {
        request_id: options.request_id.clone().unwrap_or_else(new_id),
        responder: options.to.to_string(),
        kind: PbKind::from(options.kind).into(),
        subject_id,
        context: Some(options.reason.of_social_assistance()),
        question: Some(question),
        due_date: date(options.due),
        contact: options.contact.message(),
    };
    let client = options.caller.connect().await?;
    let created = client.create_information_request(&request, options.caller.deadline()).await;
    told(&options.caller, &created.map_err(|cause| refused(&cause))?)
}

async fn list(options: &List) -> Outcome {
    let subject_id = if options.subject_stdin { subject_and_rest().map_err(usage)?.0 } else { String::new() };
    let client = options.caller.connect().await?;
    let mut request = v1::ListInformationRequestsRequest {
        states: options.state.iter().map(|state| PbState::from(*state).into()).collect(),
        partner: options.with.as_ref().map(ToString::to_string).unwrap_or_default(),
        context: options.subject_stdin.then(|| options.reason.of_social_assistance()),
        subject_id,
        due_from: date(options.due_from),
        due_to: date(options.due_to),
        ..v1::ListInformationRequestsRequest::default()
    };
    let mut found: Vec<v1::InformationRequest> = Vec::new();
    loop {
        let left = options.limit - found.len();
        request.page_size = i32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = client.list_information_requests(&request, options.caller.deadline()).await;
        let page = page.map_err(|cause| refused(&cause))?;
        found.extend(page.information_requests);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || found.len() >= options.limit {
            break;
        }
    }
    match options.caller.output {
        Output::Json => print(json!({"information_requests": found.iter().map(as_json).collect::<Vec<_>>()})),
        Output::Text => print(rows(&found)),
    }
    .map_err(fault)
}

async fn show(options: &Show) -> Outcome {
    let Which { caller, reason, request_id, .. } = &options.which;
    let request = v1::GetInformationRequestRequest {
        requester: options.which.requester(),
        request_id: request_id.clone(),
        context: Some(reason.of_social_assistance()),
        min_position: options.min_position.clone(),
    };
    let client = caller.connect().await?;
    let shown = client.get_information_request(&request, caller.deadline()).await.map_err(|cause| refused(&cause))?;
    match caller.output {
        Output::Json => print(shown_json(&shown)),
        Output::Text => print(shown_text(&shown)),
    }
    .map_err(fault)
}

async fn respond(options: &Respond) -> Outcome {
    let doing = &options.doing;
    let request = v1::RespondInformationRequestRequest {
        requester: doing.which.requester(),
        request_id: doing.which.request_id.clone(),
        command_id: doing.command_id(),
        context: Some(doing.which.reason.of_social_assistance()),
        text: optional_text(options.text_file.as_deref())?,
        document_ids: options.document.clone(),
        contact: options.contact.message(),
        expected_version: doing.expected_version,
    };
    let client = doing.which.caller.connect().await?;
    let done = client.respond_information_request(&request, doing.which.caller.deadline()).await;
    told(&doing.which.caller, &done.map_err(|cause| refused(&cause))?)
}

async fn give_back(options: &Return) -> Outcome {
    let doing = &options.doing;
    let request = v1::ReturnInformationRequestRequest {
        request_id: doing.which.request_id.clone(),
        command_id: doing.command_id(),
        context: Some(doing.which.reason.of_social_assistance()),
        text: optional_text(Some(&options.text_file))?,
        due_date: date(options.due),
        contact: options.contact.message(),
        expected_version: doing.expected_version,
    };
    let client = doing.which.caller.connect().await?;
    let done = client.return_information_request(&request, doing.which.caller.deadline()).await;
    told(&doing.which.caller, &done.map_err(|cause| refused(&cause))?)
}

async fn close(options: &Remark) -> Outcome {
    let doing = &options.doing;
    let request = v1::CloseInformationRequestRequest {
        request_id: doing.which.request_id.clone(),
        command_id: doing.command_id(),
        context: Some(doing.which.reason.of_social_assistance()),
        text: optional_text(options.text_file.as_deref())?,
        expected_version: doing.expected_version,
    };
    let client = doing.which.caller.connect().await?;
    let done = client.close_information_request(&request, doing.which.caller.deadline()).await;
    told(&doing.which.caller, &done.map_err(|cause| refused(&cause))?)
}

async fn cancel(options: &Remark) -> Outcome {
    let doing = &options.doing;
    let request = v1::CancelInformationRequestRequest {
        request_id: doing.which.request_id.clone(),
        command_id: doing.command_id(),
        context: Some(doing.which.reason.of_social_assistance()),
        text: optional_text(options.text_file.as_deref())?,
        expected_version: doing.expected_version,
    };
    let client = doing.which.caller.connect().await?;
    let done = client.cancel_information_request(&request, doing.which.caller.deadline()).await;
    told(&doing.which.caller, &done.map_err(|cause| refused(&cause))?)
}

async fn transfer(options: &Transfer) -> Outcome {
    let doing = &options.doing;
    let request = v1::TransferInformationRequestRequest {
        requester: doing.which.requester(),
        request_id: doing.which.request_id.clone(),
        command_id: doing.command_id(),
        context: Some(doing.which.reason.of_social_assistance()),
        responder: options.to.to_string(),
        text: optional_text(Some(&options.text_file))?,
        due_date: date(options.due),
        contact: options.contact.message(),
        expected_version: doing.expected_version,
    };
    let client = doing.which.caller.connect().await?;
    let done = client.transfer_information_request(&request, doing.which.caller.deadline()).await;
    let done = done.map_err(|cause| refused(&cause))?;
    if !done.request_id.is_empty() {
        return told(&doing.which.caller, &done);
    }
    // It is no longer the caller's, who sees no more of it than that.
    let (request_id, to) = (&doing.which.request_id, &options.to);
    match doing.which.caller.output {
        Output::Json => print(json!({"request_id": request_id, "responder": to.to_string()})),
        Output::Text => print(format_args!("{request_id} passed on to {to}")),
    }
    .map_err(fault)
}

async fn watch(options: &Watch) -> Outcome {
    let client = options.caller.connect().await?;
    let mut watch = client.watch_information_requests(&options.resume);
    let mut signals = Signals::listen().map_err(fault)?;
    let mut told = 0;
    while options.count.is_none_or(|count| told < count) {
        let next = tokio::select! {
            next = watch.next() => next.map_err(|cause| refused(&cause))?,
            () = signals.received() => return Ok(()),
        };
        let Some(change) = next.change else { continue };
        told += 1;
        match options.caller.output {
            Output::Json => {
                let mut line = match &change {
                    Change::InformationRequest(request) => as_json(request),
                    Change::Gone(gone) => {
                        json!({"requester": gone.requester, "request_id": gone.request_id, "state": "gone"})
                    }
                };
                line["resume_token"] = json!(next.resume_token);
                print(line)
            }
            Output::Text => match &change {
                Change::InformationRequest(request) => print(format_args!(
                    "{}  {}  {} from {} to {}, due {}",
                    moment(request.update_time),
                    request.request_id,
                    standing(request),
                    request.requester,
                    request.responder,
                    request.due_date
                )),
                Change::Gone(gone) => {
                    print(format_args!("{} of {} is no longer yours", gone.request_id, gone.requester))
                }
            },
        }
        .map_err(fault)?;
    }
    Ok(())
}

fn usage(cause: anyhow::Error) -> (Exit, anyhow::Error) {
    (Exit::Usage, cause)
}

fn date(date: Option<Date>) -> String {
    date.map(format_date).unwrap_or_default()
}

/// The first line of standard input, and what follows it.
fn subject_and_rest() -> anyhow::Result<(String, String)> {
    let all = limited(std::io::stdin(), "standard input")?;
    let (subject, rest) = all.split_once('\n').unwrap_or((&all, ""));
    Ok((subject.trim().to_owned(), rest.to_owned()))
}

/// A text of a file; `-` for what is left of standard input.
fn text(file: &Path, stdin: &str) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return Ok(stdin.trim().to_owned());
    }
    let name = file.display().to_string();
    Ok(limited(std::fs::File::open(file).with_context(|| name.clone())?, &name)?.trim().to_owned())
}

fn optional_text(file: Option<&Path>) -> Result<String, (Exit, anyhow::Error)> {
    let Some(file) = file else { return Ok(String::new()) };
    let stdin = if file == Path::new("-") {
        limited(std::io::stdin(), "standard input").map_err(usage)?
    } else {
        String::new()
    };
    text(file, &stdin).map_err(usage)
}

fn limited(from: impl Read, name: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    from.take(LONGEST_TEXT + 1).read_to_string(&mut text).with_context(|| name.to_owned())?;
    ensure!(text.len() as u64 <= LONGEST_TEXT, "{name}: is longer than any text may be");
    Ok(text)
}

/// What a command answers.
fn told(caller: &Caller, request: &v1::InformationRequest) -> Outcome {
    match caller.output {
        Output::Json => print(as_json(request)),
        Output::Text => print(format_args!("{}\nposition {}", rows(std::slice::from_ref(request)), request.position)),
    }
    .map_err(fault)
}
