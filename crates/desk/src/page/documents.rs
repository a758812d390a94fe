//! Documents: what has arrived and what was sent.

mod fetch;
mod send;

pub(crate) use fetch::file;
pub(super) use fetch::{all, download};
pub(super) use send::accepted;
pub(crate) use send::{attach, new, send};

use std::time::Duration;

use airut_wire::v1::{self, FetchDocumentRequest, UploadState};
use askama::Template;
use axum::{
    extract::{Path, Query},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    PAGE, Pages,
    request::{ShownDocument, claimed},
    rows::{ItemRow, Rows, document_path, request_path},
};
use crate::{
    office::{About, Change, DEADLINE, Rights},
    official::{Role, Why},
    store::{Action, Arrived, Claim, Item, ItemKind, Sent as SentDocument},
    web::{fault::Fault, form::Fields, frame::Frame, guard::render, visit::Caller},
};
use airut_client::FetchError;

/// So long a document may stand still on its way.
const PATIENCE: Duration = Duration::from_secs(30);

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
        may_view: fetch::may_be_viewed(&media_type),
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
    office.changes().tell(if item.kind == ItemKind::Notice { Change::Notices } else { Change::Documents });
    Ok(Redirect::to(&format!("{there}?done={done}")).into_response())
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
