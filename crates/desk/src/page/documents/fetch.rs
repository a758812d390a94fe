//! Fetching documents, one or all of a request, under the names that their senders gave them.

use std::{collections::BTreeSet, io};

use airut_client::{FetchError, Fetching};
use airut_telemetry::Traced;
use airut_wire::v1::FetchDocumentRequest;
use axum::{
    body::Body,
    extract::{Path, Query, State as Of},
    response::{IntoResponse, Response},
};
use futures::stream;
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_FRAME_OPTIONS},
};
use serde::Deserialize;
use tracing::Span;

use super::{PATIENCE, arrived};
use crate::{
    desk::Desk,
    office::{About, Change},
    official::Why,
    store::{Action, Item},
    web::{fault::Fault, guard::encoded, visit::Caller},
};

/// What browsers show themselves, in a sandbox.
pub(super) fn may_be_viewed(media_type: &str) -> bool {
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
    caller.office.changes().tell(Change::Documents);
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
pub(in crate::page) async fn all(
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
    let making = async move {
        if let Err(cause) = zipped(&caller, items, writer).await {
            // The archive ends without its directory, so that nobody takes it for whole.
            tracing::warn!(%cause, "an archive of documents broke off");
        }
        drop(room);
    };
    tokio::spawn(making.traced(Span::current()));
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
    caller.office.changes().tell(Change::Documents);
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
pub(in crate::page) fn download(name: &str, media_type: &str, body: Body) -> Response {
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
