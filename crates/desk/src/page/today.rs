//! Today: what waits, one's own first, then what is due first.

use askama::Template;
use axum::response::Response;

use super::rows::{ItemRow, RequestRow, Rows, waits_for};
use crate::{
    official::Role,
    store::ItemKind,
    web::{fault::Fault, frame::Frame, guard::render, visit::Caller},
};

/// So many of each kind are shown.
const FEW: usize = 10;

#[derive(Template)]
#[template(path = "today.html")]
struct TodayPage {
    f: Frame,
    rows: Vec<RequestRow>,
    waiting: usize,
    overdue: usize,
    may_requests: bool,
    complete: bool,
    notices: Vec<ItemRow>,
    notices_waiting: usize,
    may_notices: bool,
    documents: Vec<ItemRow>,
    documents_waiting: usize,
    may_documents: bool,
    may_queries: bool,
}

pub(crate) async fn show(caller: Caller) -> Result<Response, Fault> {
    let (office, official) = (&caller.office, &caller.official);
    let (claims, rights) = (office.store.claims().await?, office.rights());
    let rows = Rows { t: caller.texts(), rights: &rights, organisation: &office.id, official, claims: &claims };
    let (may_requests, may_notices, may_documents) =
        (official.may(Role::Requests), official.may(Role::Notices), official.may(Role::Documents));
    let (mut requests, mut overdue, mut complete) = (Vec::new(), 0, true);
    if may_requests {
        let mirror = office.requests();
        complete = mirror.is_complete();
        let mut waiting: Vec<_> = mirror.all().filter(|request| waits_for(request, &office.id)).collect();
        overdue = waiting.iter().filter(|request| request.overdue).count();
        waiting.sort_by(|a, b| (&a.due_date, &a.request_id).cmp(&(&b.due_date, &b.request_id)));
        requests = waiting.into_iter().map(|request| rows.request(request)).collect();
        // Stable: within each, by due date.
        requests.sort_by_key(|row| !row.mine);
    }
    let waiting = requests.len();
    requests.truncate(FEW);
    let (notices, notices_waiting) = items(&caller, &rows, ItemKind::Notice, may_notices).await?;
    let (documents, documents_waiting) = items(&caller, &rows, ItemKind::Document, may_documents).await?;
    let f = caller.frame("today-title");
    let may_queries = official.may(Role::Queries) && !rights.query_reasons().is_empty();
    Ok(render(&TodayPage {
        f,
        rows: requests,
        waiting,
        overdue,
        may_requests,
        complete,
        notices,
        notices_waiting,
        may_notices,
        documents,
        documents_waiting,
        may_documents,
        may_queries,
    }))
}

async fn items(
    caller: &Caller,
    rows: &Rows<'_>,
    kind: ItemKind,
    may: bool,
) -> Result<(Vec<ItemRow>, usize), crate::store::Error> {
    if !may {
        return Ok((Vec::new(), 0));
    }
    let (items, waiting) = caller.office.store.items(kind, false, 0, FEW).await?;
    let mut items: Vec<ItemRow> = items.iter().map(|item| rows.item(item)).collect();
    items.sort_by_key(|row| !row.mine);
    Ok((items, waiting))
}
