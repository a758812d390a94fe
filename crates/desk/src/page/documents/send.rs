//! Sending documents: from the browser into a nameless file of the desk's, from there to the exchange, one after the other.

use std::{collections::BTreeSet, io::SeekFrom, pin::Pin};

use airut_client::{SendError, UploadError};
use airut_domain::{file_name::FileName, media_type};
use airut_wire::v1::DocumentMetadata;
use askama::Template;
use aws_lc_rs::digest;
use axum::{
    extract::{
        Multipart, Path, State as Of,
        multipart::{Field, MultipartError},
    },
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use http::StatusCode;
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::PATIENCE;
use crate::{
    desk::Desk,
    office::{About, Change, Rights},
    official::{Role, Why},
    page::{
        request,
        requests::CASE,
        rows::{request_object, request_path},
        steps::new_id,
    },
    store::{Action, Sent as SentDocument},
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        frame::Frame,
        guard::render,
        visit::Caller,
    },
};

/// So many files a form may have.
const MOST_FILES: usize = 20;

/// A form with files has so many other fields at most, each of so many bytes.
const MOST_FIELDS: usize = 32;
const LONGEST_FIELD: usize = 4096;

/// The first bytes of a file, in which its media type is looked for.
const HEAD: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "document_new.html")]
struct NewPage {
    f: Frame,
    form: Form,
    most: String,
    accept: String,
    files_error: Option<String>,
}

pub(crate) async fn new(Of(desk): Of<Desk>, caller: Caller) -> Result<Response, Fault> {
    caller.may(Role::Documents)?;
    let (form, _) = send_form(&caller, Fields::default(), Sent::No)?;
    Ok(new_page(&desk, &caller, form, None).into_response())
}

fn new_page(desk: &Desk, caller: &Caller, form: Form, files_error: Option<String>) -> Response {
    let status = match (&form.banner, form.has_errors() || files_error.is_some()) {
        (Some(_), _) => StatusCode::SERVICE_UNAVAILABLE,
        (None, true) => StatusCode::UNPROCESSABLE_ENTITY,
        (None, false) => StatusCode::OK,
    };
    let most = caller.texts().size(i64::try_from(desk.settings().largest_document).unwrap_or(i64::MAX));
    let accept = accepted(&caller.office.rights());
    let page = NewPage { f: caller.frame("document-new-title"), form, most, accept, files_error };
    (status, render(&page)).into_response()
}

/// The media types that file choosers offer. The exchange looks into each document all the same.
pub(in crate::page) fn accepted(rights: &Rights) -> String {
    let types = rights.document_types();
    let described = types.iter().filter_map(|name| rights.described(name));
    let media_types: BTreeSet<&str> =
        described.flat_map(|described| described.content_types.iter().map(String::as_str)).collect();
    media_types.into_iter().collect::<Vec<_>>().join(",")
}

/// What is said of documents that are sent together.
struct Together {
    why: Why,
    document_type: String,
    recipient: String,
    subject_id: String,
    case_id: String,
}

fn send_form(caller: &Caller, given: Fields, sent: Sent) -> Result<(Form, Together), Fault> {
    let (rights, t) = (caller.office.rights(), caller.texts());
    if rights.is_empty() {
        return Err(Fault::Unreachable);
    }
    let types = rights.document_types();
    let first = types.first().ok_or(Fault::Forbidden)?;
    let mut form = Form::new(t, given, sent);
    let choices = types.iter().map(|name| (name.clone(), rights.title(t, name))).collect();
    let document_type = form.choice("type", choices, Needed::Yes);
    let known = types.get(&document_type).unwrap_or(first);
    let (why, recipients) = rights.sends(known).ok_or(Fault::Forbidden)?;
    let recipients = recipients.into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect();
    let recipient = form.choice("recipient", recipients, Needed::Yes);
    let subject_id = form.identity_code("person");
    let case_id = form.line("case", CASE, Needed::Yes);
    Ok((form, Together { why, document_type, recipient, subject_id, case_id }))
}

/// Sends documents: the fields come before the files.
pub(crate) async fn send(Of(desk): Of<Desk>, caller: Caller, parts: Multipart) -> Result<Response, Fault> {
    caller.may(Role::Documents)?;
    let received = receive(&desk, &caller, parts).await?;
    let (mut form, together) = send_form(&caller, received.fields, Sent::Yes)?;
    let t = caller.texts();
    let files_error = match &received.fault {
        Some(fault) => Some(fault.clone()),
        None if received.files.is_empty() => Some(t.of("error-files")),
        None => None,
    };
    if !form.is_good() || files_error.is_some() {
        return Ok(new_page(&desk, &caller, form, files_error));
    }
    match send_all(&caller, &together, received.files, "").await {
        Ok(()) => Ok(Redirect::to(&caller.to("/documents?tab=sent&done=sent")).into_response()),
        Err(text) => {
            form.banner = Some(text);
            Ok(new_page(&desk, &caller, form, None))
        }
    }
}

/// Sends documents that are to go with the answer to a request, and comes back to where it is written.
pub(crate) async fn attach(
    Of(desk): Of<Desk>,
    caller: Caller,
    Path((requester, id)): Path<(String, String)>,
    parts: Multipart,
) -> Result<Response, Fault> {
    caller.may(Role::Requests)?;
    let received = receive(&desk, &caller, parts).await?;
    let office = &caller.office;
    let head = office.requests().get(&requester, &id).cloned().ok_or(Fault::NotFound)?;
    if head.responder != office.id {
        return Err(Fault::NotFound);
    }
    let rights = office.rights();
    let document_type = rights.document_types().pop_first().ok_or(Fault::Forbidden)?;
    let (why, _) = rights.sends(&document_type).ok_or(Fault::Forbidden)?;
    let object = request_object(&requester, &id);
    let known = office.store.known(&object).await?;
    let case_id = if known.case_id.is_empty() { id.clone() } else { known.case_id };
    // Whom it is about the request says; that is asked on record, as it is when it is read.
    let subject_id = request::subject(&caller, &requester, &id).await?;
    let together = Together { why, document_type, recipient: requester.clone(), subject_id, case_id };
    let wrong = |fault| Some((StatusCode::UNPROCESSABLE_ENTITY, fault));
    let fault = match (received.fault, received.files.is_empty()) {
        (Some(fault), _) => wrong(fault),
        (None, true) => wrong(caller.texts().of("error-files")),
        (None, false) => {
            let sent = send_all(&caller, &together, received.files, &object).await;
            sent.err().map(|fault| (StatusCode::SERVICE_UNAVAILABLE, fault))
        }
    };
    match fault {
        None => {
            let there = caller.to(&format!("{}/respond?done=sent", request_path(&requester, &id)));
            Ok(Redirect::to(&there).into_response())
        }
        Some((status, fault)) => {
            let shown = request::respond_with_fault(&desk, &caller, &requester, &id, fault).await?;
            Ok((status, shown).into_response())
        }
    }
}

/// What a form with files has brought.
struct Received {
    fields: Fields,
    files: Vec<Upload>,
    /// What is wrong with a file.
    fault: Option<String>,
}

/// A file that was received, in a nameless file of the desk's directory that goes when nobody holds it.
struct Upload {
    name: String,
    media_type: String,
    size: u64,
    sha256: Vec<u8>,
    file: File,
}

async fn receive(desk: &Desk, caller: &Caller, mut parts: Multipart) -> Result<Received, Fault> {
    let _room = desk.documents().try_acquire_owned().map_err(|_| Fault::Busy)?;
    let (mut pairs, mut files, mut fault) = (Vec::new(), Vec::new(), None);
    let mut own = false;
    while let Some(mut part) = in_time(parts.next_field()).await? {
        let name = part.name().unwrap_or_default().to_owned();
        if name != "files" {
            let mut value = Vec::new();
            while let Some(chunk) = in_time(part.chunk()).await? {
                value.extend_from_slice(&chunk);
                if pairs.len() >= MOST_FIELDS || value.len() > LONGEST_FIELD {
                    return Err(Fault::TooLarge);
                }
            }
            let value = String::from_utf8_lossy(&value).into_owned();
            if name == "csrf" {
                caller.own(&value)?;
                own = true;
            }
            pairs.push((name, value));
            continue;
        }
        // The token comes before the files: nothing is taken in from elsewhere.
        if !own {
            return Err(Fault::Forged);
        }
        if part.file_name().is_none_or(str::is_empty) {
            continue;
        }
        if files.len() >= MOST_FILES {
            fault.get_or_insert(caller.texts().count("error-too-many-files", MOST_FILES));
            break;
        }
        match file_of(desk, caller, part).await? {
            Ok(upload) => files.push(upload),
            Err(text) => {
                fault.get_or_insert(text);
                break;
            }
        }
    }
    if fault.is_some() {
        // Browsers do not listen while they send: the rest is taken off their hands, or they would not see what is wrong.
        let rest = async {
            while let Ok(Some(mut part)) = parts.next_field().await {
                while let Ok(Some(_)) = part.chunk().await {}
            }
        };
        drop(tokio::time::timeout(PATIENCE, rest).await);
    }
    if !own {
        return Err(Fault::Forged);
    }
    Ok(Received { fields: Fields::of(pairs), files, fault })
}

/// The next part of what is coming in. Who stands still gives their place to others.
async fn in_time<T>(next: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Fault> {
    match tokio::time::timeout(PATIENCE, next).await {
        Ok(Ok(next)) => Ok(next),
        Ok(Err(fault)) if fault.status() == http::StatusCode::PAYLOAD_TOO_LARGE => Err(Fault::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Fault::Malformed),
    }
}

async fn file_of(desk: &Desk, caller: &Caller, mut part: Field<'_>) -> Result<Result<Upload, String>, Fault> {
    let t = caller.texts();
    let given = part.file_name().unwrap_or_default();
    // Some browsers send the way to it too.
    let given = given.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let Ok(name) = FileName::new(&given) else { return Ok(Err(t.of("error-file-name"))) };
    let name = name.as_str().to_owned();
    let (most, dir) = (desk.settings().largest_document, desk.settings().dir.clone());
    let file = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
    let file = file.map_err(|_| Fault::Store)?.map_err(|cause| {
        tracing::error!(%cause, "there is no room for a document");
        Fault::Store
    })?;
    let mut file = File::from_std(file);
    let mut hash = digest::Context::new(&digest::SHA256);
    let (mut size, mut head) = (0_u64, Vec::new());
    while let Some(chunk) = in_time(part.chunk()).await? {
        size += chunk.len() as u64;
        if size > most {
            let most = t.size(i64::try_from(most).unwrap_or(i64::MAX));
            return Ok(Err(t.with("error-file-too-large", &[("name", &name), ("most", &most)])));
        }
        if head.len() < HEAD {
            head.extend_from_slice(&chunk[..chunk.len().min(HEAD - head.len())]);
        }
        hash.update(&chunk);
        write(&mut file, chunk).await?;
    }
    if size == 0 {
        return Ok(Err(t.named("error-file-empty", &name)));
    }
    let Some(media_type) = media_type_of(&head, &name) else { return Ok(Err(t.named("error-file-type", &name))) };
    file.flush().await.map_err(|_| Fault::Store)?;
    file.seek(SeekFrom::Start(0)).await.map_err(|_| Fault::Store)?;
    let sha256 = hash.finish().as_ref().to_vec();
    Ok(Ok(Upload { name, media_type: media_type.to_owned(), size, sha256, file }))
}

async fn write(file: &mut File, chunk: Bytes) -> Result<(), Fault> {
    let mut file = Pin::new(file);
    file.write_all(&chunk).await.map_err(|cause| {
        tracing::error!(%cause, "a document could not be written down");
        Fault::Store
    })
}

/// What a file is: by its content, and by its name where the content leaves it open.
fn media_type_of(head: &[u8], name: &str) -> Option<&'static str> {
    let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
    let by_name = match end.as_deref() {
        Some("docx") => Some("application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        Some("odt") => Some("application/vnd.oasis.opendocument.text"),
        Some("txt") => Some("text/plain"),
        _ => None,
    };
    match by_name {
        Some(by_name) => Some(by_name),
        None => media_type::of(head),
    }
}

/// Sends them one after the other; gives the text of what went wrong. What was sent before it stays sent.
async fn send_all(caller: &Caller, together: &Together, files: Vec<Upload>, object: &str) -> Result<(), String> {
    for file in files {
        send_one(caller, together, file, object).await?;
    }
    caller.office.changes().tell(Change::Documents);
    Ok(())
}

async fn send_one(caller: &Caller, together: &Together, mut upload: Upload, object: &str) -> Result<(), String> {
    let (office, t) = (&caller.office, caller.texts());
    let document_id = new_id();
    let size_bytes = i64::try_from(upload.size).unwrap_or(i64::MAX);
    let metadata = DocumentMetadata {
        document_id: document_id.clone(),
        recipient: together.recipient.clone(),
        document_type: together.document_type.clone(),
        subject_id: together.subject_id.clone(),
        context: Some(caller.official.context(&together.why, &together.case_id)),
        file_name: upload.name.clone(),
        content_type: upload.media_type.clone(),
        size_bytes,
        sha256: upload.sha256.clone(),
    };
    let unreachable = || t.named("not-sent-file-unreachable", &upload.name);
    let about = About { person: &together.subject_id, purpose: &together.why.purpose, case_id: &together.case_id };
    let named = format!("document/{}/{document_id}", office.id);
    let entered = office.enter(&caller.official, Action::SentDocument, &named, about).await;
    let entry = entered.map_err(|_| unreachable())?;
    let sending = office.client.send_document(&metadata, &mut upload.file, &office.keys, PATIENCE, |_| {});
    match sending.await {
        Ok(receipt) => {
            let position = receipt.statement.place();
            entry.done(&position).await;
            let sent = SentDocument {
                document_id,
                recipient: together.recipient.clone(),
                object: object.to_owned(),
                time: office.now(),
                position,
                file_name: upload.name.clone(),
                size_bytes,
                subject_id: together.subject_id.clone(),
                official: caller.official.name.clone(),
                case_id: together.case_id.clone(),
            };
            office.store.sent(sent).await.map_err(|_| unreachable())
        }
        Err(UploadError::Send(SendError::Refused(refused))) => {
            let code = refused.reason.map_or("", airut_domain::refusal::Reason::code);
            entry.failed(&airut_client::CallError::Refused(refused.clone())).await;
            let why = t.reason(code);
            Err(t.with("not-sent-file", &[("name", &upload.name), ("why", &why)]))
        }
        Err(cause) => {
            tracing::warn!(%cause, "a document is not known to be sent");
            Err(unreachable())
        }
    }
}
