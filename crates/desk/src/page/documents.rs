//! Documents: what has arrived and what was sent, sending, and fetching one or all.

use std::{collections::BTreeSet, io, io::SeekFrom, pin::Pin};

use airut_client::{FetchError, Fetching, SendError, UploadError};
use airut_domain::{file_name::FileName, media_type};
use airut_wire::v1::{self, DocumentMetadata, FetchDocumentRequest, UploadState};
use askama::Template;
use aws_lc_rs::digest;
use axum::{
    body::Body,
    extract::{
        Multipart, Path, Query, State as Of,
        multipart::{Field, MultipartError},
    },
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_FRAME_OPTIONS},
};
use serde::Deserialize;
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::{
    PAGE, Pages,
    request::{ShownDocument, claimed},
    requests::CASE,
    rows::{ItemRow, Rows, document_path, request_object, request_path},
    steps::new_id,
};
use crate::{
    desk::Desk,
    office::{About, Change, DEADLINE, Rights},
    official::{Role, Why},
    store::{Action, Arrived, Claim, Item, ItemKind, Sent as SentDocument},
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        frame::Frame,
        guard::{encoded, render},
        visit::Caller,
    },
};

/// So long a document may stand still on its way.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// So many files a form may have.
const MOST_FILES: usize = 20;

/// A form with files has so many other fields at most, each of so many bytes.
const MOST_FIELDS: usize = 32;
const LONGEST_FIELD: usize = 4096;

/// The first bytes of a file, in which its media type is looked for.
const HEAD: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "documents.html")]
struct DocumentsPage {
    f: Frame,
    tabs: Vec<(&'static str, String, bool)>,
    rows: Vec<ItemRow>,
    sent: Vec<SentRow>,
    is_sent: bool,
    pages: Pages,
    here: String,
    may_send: bool,
}

struct SentRow {
    href: String,
    name: String,
    recipient: String,
    time: String,
    size: String,
    state: Option<String>,
    fetched: Option<String>,
    official: String,
}

#[derive(Template)]
#[template(path = "document.html")]
struct DocumentPage {
    f: Frame,
    item: Item,
    body: Arrived,
    path: String,
    kind: String,
    name: String,
    media_type: String,
    size: String,
    sender: String,
    accepted: String,
    handled: Option<String>,
    opened: Option<String>,
    may_view: bool,
    claim: Option<Claim>,
    mine: bool,
}

#[derive(Template)]
#[template(path = "document_new.html")]
struct NewPage {
    f: Frame,
    form: Form,
    most: String,
    accept: String,
    files_error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    tab: String,
    page: usize,
}

pub(crate) async fn list(caller: Caller, Query(place): Query<Place>) -> Result<Response, Fault> {
    caller.may(Role::Documents)?;
    let (office, t) = (&caller.office, caller.texts());
    let (claims, rights) = (office.store.claims().await?, office.rights());
    let rows = Rows { t, rights: &rights, organisation: &office.id, official: &caller.official, claims: &claims };
    let may_send = !rights.document_types().is_empty();
    let tab = match place.tab.as_str() {
        known @ ("waiting" | "handled" | "sent") => known,
        _ if may_send => "sent",
        _ => "waiting",
    };
    let page = place.page.max(1) - 1;
    let (mut arrived, mut sent) = (Vec::new(), Vec::new());
    let total = if tab == "sent" {
        let (found, total) = office.store.all_sent(page, PAGE).await?;
        sent = futures::future::join_all(found.into_iter().map(|document| sent_row(&caller, &rights, document))).await;
        total
    } else {
        let (found, total) = office.store.items(ItemKind::Document, tab == "handled", page, PAGE).await?;
        arrived = found.iter().map(|item| rows.item(item)).collect();
        total
    };
    let here = caller.to(&format!("/documents?tab={tab}"));
    let tabs = [("tab-arrived", "waiting"), ("tab-handled", "handled"), ("tab-sent", "sent")];
    Ok(render(&DocumentsPage {
        f: caller.frame("documents-title"),
        tabs: tabs.map(|(key, name)| (key, caller.to(&format!("/documents?tab={name}")), name == tab)).to_vec(),
        rows: arrived,
        sent,
        is_sent: tab == "sent",
        pages: Pages::new(place.page, total, &here),
        here,
        may_send,
    }))
}

async fn sent_row(caller: &Caller, rights: &Rights, sent: SentDocument) -> SentRow {
    let t = caller.texts();
    // Where it stands the exchange knows; without it the row says nothing of that.
    let upload = caller.office.client.get_upload(&sent.document_id, DEADLINE).await.ok();
    let state = upload.as_ref().map(|upload| t.of(upload_key(upload)));
    let fetched = upload.and_then(|upload| upload.fetch_time).map(|at| t.moment(airut_wire::timestamp_from(at)));
    let href = match sent.object.strip_prefix("request/").and_then(|object| object.split_once('/')) {
        Some((requester, id)) => caller.to(&request_path(requester, id)),
        None => String::new(),
    };
    SentRow {
        href,
        name: sent.file_name,
        recipient: rights.name(&sent.recipient).to_owned(),
        time: t.moment(sent.time),
        size: t.size(sent.size_bytes),
        state,
        fetched,
        official: sent.official,
    }
}

fn upload_key(upload: &v1::GetUploadResponse) -> &'static str {
    match upload.state() {
        UploadState::Unspecified | UploadState::Uploading => "upload-uploading",
        UploadState::Held => "upload-held",
        UploadState::Stored if upload.fetch_time.is_some() => "upload-fetched",
        UploadState::Stored => "upload-stored",
        UploadState::Rejected => "upload-rejected",
        UploadState::Expired => "upload-expired",
        UploadState::Erased => "upload-erased",
    }
}

pub(crate) async fn show(caller: Caller, Path((sender, id)): Path<(String, String)>) -> Result<Response, Fault> {
    let (item, body) = arrived(&caller, &sender, &id, Action::ReadDocument).await?;
    let (office, t) = (&caller.office, caller.texts());
    let claim = office.store.claimed(&item.object()).await?;
    let text = |name: &str| body.payload.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let size = body.payload.get("size_bytes").and_then(serde_json::Value::as_i64).unwrap_or(0);
    let (name, media_type) = (text("file_name"), text("content_type"));
    Ok(render(&DocumentPage {
        f: caller.frame_named(name.clone()),
        path: caller.to(&document_path(&sender, &id)),
        kind: office.rights().title(t, &item.message_type),
        may_view: may_be_viewed(&media_type),
        name,
        media_type,
        size: t.size(size),
        sender: office.rights().name(&sender).to_owned(),
        accepted: t.moment(item.accepted),
        handled: item.handled.map(|at| t.moment(at)),
        opened: item.opened.map(|at| t.moment(at)),
        mine: claim.as_ref().is_some_and(|claim| claim.subject == caller.official.subject),
        claim,
        item,
        body,
    }))
}

/// A claim check that has arrived. That it is looked for is entered first.
async fn arrived(caller: &Caller, sender: &str, id: &str, action: Action) -> Result<(Item, Arrived), Fault> {
    if !caller.official.may(Role::Documents) && !caller.official.may(Role::Requests) {
        return Err(Fault::Forbidden);
    }
    let office = &caller.office;
    let found = office.store.document(sender, id).await?;
    let about = found.as_ref().map_or_else(About::default, |(_, body, _)| About {
        person: &body.subject_id,
        purpose: &body.purpose,
        case_id: &body.case_id,
    });
    let object = format!("document/{sender}/{id}");
    let entry = office.enter(&caller.official, action, &object, about).await?;
    match found {
        Some((item, body, _)) => {
            entry.done(&item.position).await;
            Ok((item, body))
        }
        None => {
            // The exchange is asked as well, so that an attempt at others' documents is on record there too.
            let context = caller.official.context(&receiving(caller, "social-assistance-document")?, id);
            let asked = FetchDocumentRequest {
                sender: sender.to_owned(),
                document_id: id.to_owned(),
                context: Some(context),
                offset: 0,
                length: 1,
            };
            match office.client.fetch_document(&asked, DEADLINE).await {
                // It is this organisation's own, and its claim check has not come here yet.
                Ok(_) => entry.done("").await,
                Err(FetchError::Call(cause)) => entry.failed(&cause).await,
                Err(FetchError::OtherContent | FetchError::Protocol) => entry.done("").await,
            }
            Err(Fault::NotFound)
        }
    }
}

fn receiving(caller: &Caller, message_type: &str) -> Result<Why, Fault> {
    let rights = caller.office.rights();
    let right = rights.receives(message_type).or_else(|| rights.sends(message_type));
    right.map(|(why, _)| why).ok_or(Fault::NotFound)
}

/// What browsers show themselves, in a sandbox.
fn may_be_viewed(media_type: &str) -> bool {
    matches!(media_type, "application/pdf" | "image/jpeg" | "image/png" | "text/plain")
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct How {
    view: String,
}

/// Fetches one, on record at the exchange before its first byte.
pub(crate) async fn file(
    Of(desk): Of<Desk>,
    caller: Caller,
    Path((sender, id)): Path<(String, String)>,
    Query(how): Query<How>,
) -> Result<Response, Fault> {
    let room = desk.documents().try_acquire_owned().map_err(|_| Fault::Busy)?;
    let (item, _) = arrived(&caller, &sender, &id, Action::FetchedDocument).await?;
    let fetching = fetch(&caller, &item).await?;
    caller.office.store.opened(item.number, caller.office.now()).await?;
    caller.office.tell(Change::Documents);
    let metadata = fetching.metadata().clone();
    let inline = !how.view.is_empty() && may_be_viewed(&metadata.content_type);
    let length = fetching.left();
    let parts = stream::try_unfold((fetching, room), |(mut fetching, room)| async {
        // A document that does not come whole breaks the connection: browsers then say so.
        let part = fetching.next().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(part.map(|part| (part, (fetching, room))))
    });
    let mut response = download(&metadata.file_name, &metadata.content_type, Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if inline {
        let shown = disposition("inline", &metadata.file_name);
        headers.insert(CONTENT_DISPOSITION, shown);
        // Whatever is in it runs nothing and reaches nothing. Chromium's PDF viewer, which isolates by itself, does not open in a sandbox.
        let policy = if metadata.content_type == "application/pdf" {
            "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'; frame-ancestors 'self'"
        } else {
            "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'self'; sandbox"
        };
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    Ok(response)
}

async fn fetch(caller: &Caller, item: &Item) -> Result<Fetching, Fault> {
    let (_, body, _) = caller.office.store.document(&item.sender, &item.object_id).await?.ok_or(Fault::NotFound)?;
    let why = Why { purpose: body.purpose, legal_basis: body.legal_basis };
    let asked = FetchDocumentRequest {
        sender: item.sender.clone(),
        document_id: item.object_id.clone(),
        context: Some(caller.official.context(&why, &body.case_id)),
        offset: 0,
        length: 0,
    };
    caller.office.client.fetch_document(&asked, PATIENCE).await.map_err(|cause| match cause {
        FetchError::Call(cause) => cause.into(),
        FetchError::OtherContent | FetchError::Protocol => Fault::Unreachable,
    })
}

/// Several in one file, as they were called; of the same name the later ones are numbered.
pub(super) async fn all(
    desk: &Desk,
    caller: &Caller,
    request_id: &str,
    case: &str,
    wanted: Vec<(String, String)>,
) -> Result<Response, Fault> {
    let room = desk.documents().try_acquire_owned().map_err(|_| Fault::Busy)?;
    let mut items = Vec::with_capacity(wanted.len());
    for (sender, id) in wanted {
        let Some((item, body, _)) = caller.office.store.document(&sender, &id).await? else { continue };
        let about = About { person: &body.subject_id, purpose: &body.purpose, case_id: case };
        let object = format!("document/{sender}/{id}");
        let entry = caller.office.enter(&caller.official, Action::FetchedDocument, &object, about).await?;
        entry.done(&item.position).await;
        items.push(item);
    }
    if items.is_empty() {
        return Err(Fault::NotFound);
    }
    let (reader, writer) = tokio::io::duplex(256 * 1024);
    let caller = caller.clone();
    tokio::spawn(async move {
        if let Err(cause) = zipped(&caller, items, writer).await {
            // The archive ends without its directory, so that nobody takes it for whole.
            tracing::warn!(%cause, "an archive of documents broke off");
        }
        drop(room);
    });
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(reader));
    Ok(download(&format!("{request_id}.zip"), "application/zip", body))
}

async fn zipped(caller: &Caller, items: Vec<Item>, writer: tokio::io::DuplexStream) -> Result<(), io::Error> {
    use async_zip::{Compression, ZipEntryBuilder, tokio::write::ZipFileWriter};
    let mut archive = ZipFileWriter::with_tokio(writer);
    let mut names = BTreeSet::new();
    for item in items {
        let mut fetching = fetch(caller, &item).await.map_err(|_| io::Error::other("a document can not be fetched"))?;
        let name = unused(&fetching.metadata().file_name, &mut names);
        let entry = ZipEntryBuilder::new(name.into(), Compression::Stored);
        let mut file = archive.write_entry_stream(entry).await.map_err(io::Error::other)?;
        while let Some(part) = fetching.next().await.map_err(io::Error::other)? {
            futures::AsyncWriteExt::write_all(&mut file, &part).await?;
        }
        file.close().await.map_err(io::Error::other)?;
        caller.office.store.opened(item.number, caller.office.now()).await.map_err(io::Error::other)?;
    }
    archive.close().await.map_err(io::Error::other)?;
    caller.office.tell(Change::Documents);
    Ok(())
}

fn unused(name: &str, used: &mut BTreeSet<String>) -> String {
    let (stem, end) = name.rsplit_once('.').map_or((name, String::new()), |(stem, end)| (stem, format!(".{end}")));
    let numbered = (2..).map(|number| format!("{stem} ({number}){end}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !used.contains(name));
    let free = free.unwrap_or_else(|| name.to_owned());
    used.insert(free.clone());
    free
}

/// A file to take away.
pub(super) fn download(name: &str, media_type: &str, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let media_type =
        HeaderValue::from_str(if media_type == "text/plain" { "text/plain; charset=utf-8" } else { media_type });
    headers.insert(CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CONTENT_DISPOSITION, disposition("attachment", name));
    response
}

/// A file's name in a header (RFC 6266, RFC 8187): whatever is in it stays in it.
fn disposition(kind: &str, name: &str) -> HeaderValue {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || " .-_()".contains(c) { c } else { '_' }).collect();
    let text = format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", encoded(name));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}

/// Claims it, or says that it was dealt with.
pub(crate) async fn act(
    caller: Caller,
    Path((sender, id)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, Fault> {
    caller.may(Role::Documents)?;
    caller.own_form(&fields)?;
    let (item, _, _) = caller.office.store.document(&sender, &id).await?.ok_or(Fault::NotFound)?;
    let there = caller.to(&document_path(&sender, &id));
    handle(&caller, &item, &fields, &there).await
}

/// Claims something that has arrived, or says whether it was dealt with.
pub(super) async fn handle(caller: &Caller, item: &Item, fields: &Fields, there: &str) -> Result<Response, Fault> {
    let (office, official) = (&caller.office, &caller.official);
    let done = match fields.text("do") {
        "handled" => {
            office.enter(official, Action::Handled, &item.object(), About::default()).await?.done("").await;
            office.store.handled(item.number, Some(office.now()), &official.name).await?;
            office.store.unclaim(&item.object()).await?;
            "handled"
        }
        "reopen" => {
            office.store.handled(item.number, None, "").await?;
            "reopened"
        }
        _ => claimed(caller, &item.object(), fields.text("claim")).await?,
    };
    office.tell(if item.kind == ItemKind::Notice { Change::Notices } else { Change::Documents });
    Ok(Redirect::to(&format!("{there}?done={done}")).into_response())
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
pub(super) fn accepted(rights: &Rights) -> String {
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
    let subject_id = super::request::subject(&caller, &requester, &id).await?;
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
            let shown = super::request::respond_with_fault(&desk, &caller, &requester, &id, fault).await?;
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
    caller.office.tell(Change::Documents);
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
    let sending = office.client.send_document(&metadata, &mut upload.file, &office.keys, PATIENCE, None, |_| {});
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

/// A document as an answer refers to it: by its name, where this desk has its claim check or has sent it.
pub(super) async fn reference(caller: &Caller, document: v1::DocumentReference) -> Result<ShownDocument, Fault> {
    let v1::DocumentReference { sender, document_id } = document;
    let store = &caller.office.store;
    let (mut href, mut name) = (String::new(), None);
    if sender == caller.office.id {
        name = store.sent_document(&document_id).await?.map(|sent| sent.file_name);
    } else if let Some((_, body, _)) = store.document(&sender, &document_id).await? {
        name = body.payload.get("file_name").and_then(serde_json::Value::as_str).map(str::to_owned);
        href = caller.to(&document_path(&sender, &document_id));
    }
    let name = name.unwrap_or_else(|| caller.texts().of("document-unnamed"));
    Ok(ShownDocument { href, name, sender, document_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_stays_within_its_header() {
        let header = disposition("attachment", "päätös \"1\".pdf\r\nSet-Cookie: x");
        let text = header.to_str().unwrap();
        assert!(
            text.starts_with("attachment; filename=\"p__t_s _1_.pdf__Set-Cookie_ x\"; filename*=UTF-8''p%C3%A4"),
            "{text}"
        );
        assert!(!text.contains(['\r', '\n']));
    }

    #[test]
    fn files_of_the_same_name_are_numbered() {
        let mut used = BTreeSet::new();
        let names = ["tosite.pdf", "tosite.pdf", "tosite", "tosite.pdf"].map(|name| unused(name, &mut used));
        assert_eq!(names, ["tosite.pdf", "tosite (2).pdf", "tosite", "tosite (3).pdf"]);
    }
}
