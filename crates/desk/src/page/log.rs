//! What one has looked at oneself; and for supervisors, what the organisation's officials have.

use askama::Template;
use axum::{extract::Query, response::Response};
use serde::Deserialize;

use super::{PAGE, Pages};
use crate::{
    office::About,
    official::Role,
    store::{Access, Action},
    web::{fault::Fault, frame::Frame, guard::render, visit::Caller},
};

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    f: Frame,
    rows: Vec<Row>,
    pages: Pages,
    users: bool,
    official: String,
}

struct Row {
    time: String,
    name: String,
    official: String,
    official_encoded: String,
    action: String,
    object: String,
    person: String,
    purpose: String,
    case: String,
    outcome: String,
    done: bool,
    position: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    page: usize,
    /// What the organisation knows an official by: supervisors see all, or one.
    official: String,
}

pub(crate) async fn own(caller: Caller, Query(place): Query<Place>) -> Result<Response, Fault> {
    let subject = caller.official.subject.clone();
    let (entries, total) = caller.office.store.accesses(Some(&subject), place.page.max(1) - 1, PAGE).await?;
    let pages = Pages::new(place.page, total, &caller.to("/log"));
    let rows = entries.into_iter().map(|entry| row(&caller, entry)).collect();
    Ok(render(&LogPage { f: caller.frame("log-title"), rows, pages, users: false, official: String::new() }))
}

pub(crate) async fn users(caller: Caller, Query(place): Query<Place>) -> Result<Response, Fault> {
    caller.may(Role::Supervisor)?;
    let office = &caller.office;
    let of = Some(place.official.as_str()).filter(|official| !official.is_empty());
    // Who watches is watched.
    let object = of.map_or_else(|| "log".to_owned(), |official| format!("log/{official}"));
    let entry = office.enter(&caller.official, Action::ReadUsersLog, &object, About::default()).await?;
    // Before the list is read, which has it first.
    entry.done("").await;
    let (entries, total) = office.store.accesses(of, place.page.max(1) - 1, PAGE).await?;
    let address = match of {
        None => caller.to("/users-log"),
        Some(official) => caller.to(&format!("/users-log?official={}", crate::web::guard::encoded(official))),
    };
    let pages = Pages::new(place.page, total, &address);
    let rows = entries.into_iter().map(|entry| row(&caller, entry)).collect();
    Ok(render(&LogPage { f: caller.frame("users-log-title"), rows, pages, users: true, official: place.official }))
}

fn row(caller: &Caller, entry: Access) -> Row {
    let t = caller.texts();
    let outcome = match entry.outcome.as_deref() {
        Some("done") => t.of("outcome-done"),
        Some("unknown") | None => t.of("outcome-unknown"),
        Some(code) => t.find(&format!("reason-{code}")).unwrap_or_else(|| t.named("outcome-refused", code)),
    };
    Row {
        time: t.moment(entry.time),
        name: entry.more.name,
        official_encoded: crate::web::guard::encoded(&entry.official),
        official: entry.official,
        action: t.word("action", &entry.action),
        done: entry.outcome.as_deref() == Some("done"),
        object: entry.object,
        person: entry.more.person,
        purpose: t.word("purpose", &entry.more.purpose),
        case: entry.more.case_id,
        outcome,
        position: entry.position.unwrap_or_default(),
    }
}
