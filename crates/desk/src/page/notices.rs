//! Notices: what others have told the organisation of persons. Each is read on record; what may not be shown is not made into text at all.

use askama::Template;
use axum::{
    extract::{Path, Query},
    response::Response,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    PAGE, Pages,
    documents::handle,
    rows::{ItemRow, Rows},
};
use crate::{
    language::Texts,
    office::{About, Change},
    official::Role,
    store::{Action, Claim, Item, ItemKind},
    web::{fault::Fault, form::Fields, frame::Frame, guard::render, visit::Caller},
};

/// What a non-disclosure order (turvakielto, Act 661/2009 section 36) keeps from sight: where the person lives, and how they are reached.
const WITHHELD: [&str; 6] = ["address", "abroad", "telephone", "contact", "municipality", "email"];

#[derive(Template)]
#[template(path = "notices.html")]
struct NoticesPage {
    f: Frame,
    rows: Vec<ItemRow>,
    handled: bool,
    pages: Pages,
    here: String,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage {
    f: Frame,
    item: Item,
    path: String,
    title: String,
    sender: String,
    end_user: String,
    person: String,
    case: String,
    purpose: String,
    accepted: String,
    handled: Option<String>,
    lines: Vec<(String, String)>,
    non_disclosure: bool,
    claim: Option<Claim>,
    mine: bool,
    /// The request that it reminds of.
    request: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    tab: String,
    page: usize,
}

pub(crate) async fn list(caller: Caller, Query(place): Query<Place>) -> Result<Response, Fault> {
    caller.may(Role::Notices)?;
    let office = &caller.office;
    let (claims, rights) = (office.store.claims().await?, office.rights());
    let (t, official) = (caller.texts(), &caller.official);
    let rows = Rows { t, rights: &rights, organisation: &office.id, official, claims: &claims };
    let handled = place.tab == "handled";
    let (items, total) = office.store.items(ItemKind::Notice, handled, place.page.max(1) - 1, PAGE).await?;
    let here = caller.to(if handled { "/notices?tab=handled" } else { "/notices" });
    Ok(render(&NoticesPage {
        f: caller.frame("notices-title"),
        rows: items.iter().map(|item| rows.item(item)).collect(),
        handled,
        pages: Pages::new(place.page, total, &here),
        here,
    }))
}

pub(crate) async fn show(caller: Caller, Path(number): Path<i64>) -> Result<Response, Fault> {
    caller.may(Role::Notices)?;
    let (office, t) = (&caller.office, caller.texts());
    let Some((item, body, non_disclosure)) = office.store.item(ItemKind::Notice, number).await? else {
        let object = format!("notice/{number}");
        let entry = office.enter(&caller.official, Action::ReadNotice, &object, About::default()).await?;
        entry.refused("NOT_FOUND").await;
        return Err(Fault::NotFound);
    };
    let about = About { person: &body.subject_id, purpose: &body.purpose, case_id: &body.case_id };
    office.enter(&caller.official, Action::ReadNotice, &item.object(), about).await?.done(&item.position).await;
    if item.opened.is_none() {
        office.store.opened(number, office.now()).await?;
        office.changes().tell(Change::Notices);
    }
    let claim = office.store.claimed(&item.object()).await?;
    let text = |name: &str| body.payload.get(name).and_then(Value::as_str);
    let request = text("requester").zip(text("request_id"));
    let rights = office.rights();
    Ok(render(&NoticePage {
        f: caller.frame_named(rights.title(t, &item.message_type)),
        path: caller.to(&format!("/notices/{number}")),
        title: rights.title(t, &item.message_type),
        sender: rights.name(&item.sender).to_owned(),
        end_user: body.end_user.clone(),
        person: body.subject_id.clone(),
        case: body.case_id.clone(),
        purpose: t.word("purpose", &body.purpose),
        accepted: t.moment(item.accepted),
        handled: item.handled.map(|at| t.moment(at)),
        lines: lines(t, &body.payload, non_disclosure),
        non_disclosure,
        mine: claim.as_ref().is_some_and(|claim| claim.subject == caller.official.subject),
        claim,
        request: request.map(|(requester, id)| caller.to(&super::rows::request_path(requester, id))),
        item,
    }))
}

pub(crate) async fn act(caller: Caller, Path(number): Path<i64>, fields: Fields) -> Result<Response, Fault> {
    caller.may(Role::Notices)?;
    caller.own_form(&fields)?;
    let (item, _, _) = caller.office.store.item(ItemKind::Notice, number).await?.ok_or(Fault::NotFound)?;
    let there = caller.to(&format!("/notices/{number}"));
    handle(&caller, &item, &fields, &there).await
}

/// A payload as headings and texts, in its own order. What the desk has no words for is shown as it came.
pub(super) fn lines(t: &'static Texts, payload: &Value, non_disclosure: bool) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    collect(t, "", payload, non_disclosure, &mut lines);
    lines
}

fn collect(t: &'static Texts, above: &str, value: &Value, non_disclosure: bool, lines: &mut Vec<(String, String)>) {
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        if (non_disclosure && WITHHELD.contains(&name.as_str())) || name == "non_disclosure" {
            continue;
        }
        if value.is_object() {
            collect(t, name, value, non_disclosure, lines);
            continue;
        }
        // A decision's date is not a period's.
        let heading = t.find(&format!("part-{above}-{name}")).unwrap_or_else(|| t.word("part", name));
        lines.push((heading, shown(t, name, value)));
    }
}

fn shown(t: &'static Texts, name: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => t.of(if *yes { "yes" } else { "no" }),
        Value::Number(number) => number.to_string(),
        Value::String(text) => word(t, name, text),
        Value::Array(values) => values.iter().map(|value| shown(t, name, value)).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

fn word(t: &'static Texts, name: &str, text: &str) -> String {
    if let Some(word) = t.find(&format!("value-{name}-{text}")) {
        return word;
    }
    if name == "benefit" {
        return t.word("benefit", text);
    }
    match airut_domain::time::parse_timestamp(text) {
        Some(at) => t.moment(at),
        None => t.day(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::language::Language;

    #[test]
    fn under_a_non_disclosure_order_nothing_says_where_the_person_is() {
        let address = json!({"street": "Esimerkkikatu 1", "postal_code": "33100", "post_office": "TAMPERE"});
        let client = json!({"language": "fi", "telephone": "040 1234567", "contact": "phone", "address": address});
        let notice = json!({"client": client, "urgency": "immediate", "reason": "Rent.", "address": address});
        let all = |ordered| format!("{:?}", lines(Language::En.texts(), &notice, ordered));
        for part in ["Esimerkkikatu", "33100", "TAMPERE", "040"] {
            assert!(all(false).contains(part), "{part} in {}", all(false));
            assert!(!all(true).contains(part), "{part} in {}", all(true));
        }
        assert!(all(true).contains("Rent."));
    }
}
