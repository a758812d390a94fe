//! Information requests: the list, which keeps its place in its address, finding those about a person, and putting a new one.

use airut_domain::{
    time::{Date, format_date},
    working_day,
};
use airut_wire::v1::{
    self, CreateInformationRequestRequest, InformationRequest, InformationRequestKind as Kind,
    ListInformationRequestsRequest, Period,
};
use askama::Template;
use axum::{
    extract::Query,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    PAGE, Pages,
    rows::{RequestRow, Rows, kind_key, request_object, request_path, waits_for},
    steps::{FormPage, Stage, new_id},
};
use crate::{
    office::{About, DEADLINE, REQUESTS},
    official::Role,
    store::{Action, Known},
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        frame::Frame,
        guard::{encoded, render},
        visit::Caller,
    },
};

/// Bounds of the exchange's, in characters.
pub(super) const QUESTION: usize = 4000;
pub(super) const UNIT: usize = 128;
pub(super) const TELEPHONE: usize = 32;
pub(super) const CASE: usize = 128;

/// The tabs of the list.
const TABS: [(&str, &str); 4] =
    [("waiting", "tab-waiting"), ("elsewhere", "tab-elsewhere"), ("ended", "tab-ended"), ("all", "tab-all")];

/// What the list can be sorted by.
const SORTS: [(&str, &str); 4] =
    [("due", "sort-due"), ("changed", "sort-changed"), ("kind", "sort-kind"), ("counterpart", "sort-counterpart")];

/// Where in the list one is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    tab: String,
    sort: String,
    counterpart: String,
    kind: String,
    mine: String,
    page: usize,
}

struct Tab {
    key: &'static str,
    href: String,
    here: bool,
    count: usize,
}

struct Sort {
    key: &'static str,
    href: String,
    here: bool,
}

#[derive(Template)]
#[template(path = "requests.html")]
struct RequestsPage {
    f: Frame,
    tabs: Vec<Tab>,
    tab: &'static str,
    sort: &'static str,
    sorts: Vec<Sort>,
    counterparts: Vec<(String, String, bool)>,
    kinds: Vec<(&'static str, String, bool)>,
    mine: bool,
    rows: Vec<RequestRow>,
    pages: Pages,
    here: String,
    complete: bool,
    may_create: bool,
    /// Those about a person, found by the exchange; then nothing above is shown but the rows.
    found: bool,
    form: Form,
}

pub(crate) async fn list(caller: Caller, Query(place): Query<Place>) -> Result<Response, Fault> {
    caller.may(Role::Requests)?;
    let office = &caller.office;
    let (claims, rights) = (office.store.claims().await?, office.rights());
    let (t, official) = (caller.texts(), &caller.official);
    let rows = Rows { t, rights: &rights, organisation: &office.id, official, claims: &claims };
    let tab = TABS.iter().find(|(name, _)| *name == place.tab).map_or("waiting", |(name, _)| name);
    let sort = SORTS.iter().find(|(name, _)| *name == place.sort).map_or("due", |(name, _)| name);
    let is_mine = |request: &InformationRequest| {
        let claim = claims.get(&request_object(&request.requester, &request.request_id));
        claim.is_some_and(|claim| claim.subject == official.subject)
    };
    let mirror = office.requests();
    let fits = |request: &&InformationRequest| {
        let other = other(request, &office.id);
        (place.counterpart.is_empty() || place.counterpart == *other)
            && (place.kind.is_empty() || place.kind == kind_key(request.kind()))
            && (place.mine.is_empty() || is_mine(request))
    };
    let fitting: Vec<&InformationRequest> = mirror.all().filter(fits).collect();
    let counts = TABS.map(|(name, _)| fitting.iter().filter(|request| in_tab(request, name, &office.id)).count());
    let mut shown: Vec<&InformationRequest> =
        fitting.into_iter().filter(|request| in_tab(request, tab, &office.id)).collect();
    sort_by(&mut shown, sort, &rights, &office.id);
    let with = |tab: &str, sort: &str| {
        address(&caller, &Place { tab: tab.into(), sort: sort.into(), page: 0, ..place_of(&place) })
    };
    let here = with(tab, sort);
    let pages = Pages::new(place.page, shown.len(), &here);
    let skipped = (pages.page - 1) * PAGE;
    let rows_shown = shown.into_iter().skip(skipped).take(PAGE).map(|request| rows.request(request)).collect();
    let tabs = TABS.iter().zip(counts);
    let mut others: Vec<(String, String, bool)> = mirror
        .all()
        .map(|request| other(request, &office.id))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|id| (id.clone(), rights.name(id).to_owned(), *id == place.counterpart))
        .collect();
    others.sort_by(|a, b| a.1.cmp(&b.1));
    let complete = mirror.is_complete();
    drop(mirror);
    Ok(render(&RequestsPage {
        f: caller.frame("requests-title"),
        tabs: tabs.map(|((name, key), count)| Tab { key, href: with(name, sort), here: *name == tab, count }).collect(),
        tab,
        sort,
        sorts: SORTS.into_iter().map(|(name, key)| Sort { key, href: with(tab, name), here: name == sort }).collect(),
        counterparts: others,
        kinds: kinds().map(|key| (key, t.of(key), key == place.kind)).collect(),
        mine: !place.mine.is_empty(),
        rows: rows_shown,
        pages,
        here,
        complete,
        may_create: rights.sends(REQUESTS).is_some(),
        found: false,
        form: find_form(&caller, Fields::default(), Sent::No),
    }))
}

/// Finds the requests about a person: the exchange knows, and keeps on record that it was asked.
pub(crate) async fn find(caller: Caller, fields: Fields) -> Result<Response, Fault> {
    caller.may(Role::Requests)?;
    caller.own_form(&fields)?;
    let office = &caller.office;
    let (claims, rights) = (office.store.claims().await?, office.rights());
    let t = caller.texts();
    let mut form = find_form(&caller, fields.clone(), Sent::Yes);
    let (person, case) = (fields.text("person").to_uppercase(), fields.text("case"));
    let mut found = Vec::new();
    if form.is_good() {
        let why = rights.sends(REQUESTS).or_else(|| rights.receives(REQUESTS)).ok_or(Fault::Forbidden)?.0;
        let about = About { person: &person, purpose: &why.purpose, case_id: case };
        let entry = office.enter(&caller.official, Action::FoundRequests, "requests", about).await?;
        let asked = ListInformationRequestsRequest {
            subject_id: person.clone(),
            page_size: 100,
            context: Some(caller.official.context(&why, case)),
            ..Default::default()
        };
        match office.client.list_information_requests(&asked, DEADLINE).await {
            Ok(page) => {
                entry.done("").await;
                let rows =
                    Rows { t, rights: &rights, organisation: &office.id, official: &caller.official, claims: &claims };
                found = page.information_requests.iter().map(|request| rows.request(request)).collect();
            }
            Err(cause) => {
                entry.failed(&cause).await;
                form.banner = Some(t.of("not-sent-unreachable"));
            }
        }
    }
    let good = form.is_good() && form.banner.is_none();
    Ok(render(&RequestsPage {
        f: caller.frame("requests-title"),
        tabs: Vec::new(),
        tab: "",
        sort: "",
        sorts: Vec::new(),
        counterparts: Vec::new(),
        kinds: Vec::new(),
        mine: false,
        pages: Pages::new(1, found.len(), ""),
        rows: found,
        here: caller.to("/requests"),
        complete: true,
        may_create: false,
        found: good,
        form,
    }))
}

fn find_form(caller: &Caller, given: Fields, sent: Sent) -> Form {
    let mut form = Form::new(caller.texts(), given, sent);
    form.identity_code("person");
    form.line("case", CASE, Needed::Yes);
    form
}

pub(crate) async fn new(caller: Caller) -> Result<Response, Fault> {
    caller.may(Role::Requests)?;
    let due = working_day::after(working_day::today(caller.office.now()), 7);
    let given = Fields::default()
        .or("due", &format_date(due))
        .or("unit", &caller.official.unit)
        .or("telephone", &caller.official.telephone);
    let (form, _) = create_form(&caller, given, Sent::No)?;
    Ok(create_page(&caller, form, &request_id(&caller), false).show())
}

pub(crate) async fn create(caller: Caller, fields: Fields) -> Result<Response, Fault> {
    caller.may(Role::Requests)?;
    caller.own_form(&fields)?;
    let id = fields.text("id");
    let id = if id.is_empty() || id.len() > 64 { request_id(&caller) } else { id.to_owned() };
    let (form, mut asked) = create_form(&caller, fields.clone(), Sent::Yes)?;
    match Stage::of(&fields, &form) {
        Stage::Edit => return Ok(create_page(&caller, form, &id, false).show()),
        Stage::Check => return Ok(create_page(&caller, form, &id, true).show()),
        Stage::Send => {}
    }
    asked.request_id.clone_from(&id);
    let office = &caller.office;
    let object = request_object(&office.id, &id);
    let case = asked.context.as_ref().map_or("", |context| context.case_id.as_str()).to_owned();
    let purpose = asked.context.as_ref().map_or("", |context| context.purpose.as_str());
    let about = About { person: &asked.subject_id, purpose, case_id: &case };
    let entry = office.enter(&caller.official, Action::CreatedRequest, &object, about).await?;
    match office.client.create_information_request(&asked, DEADLINE).await {
        Ok(created) => {
            entry.done(&created.position).await;
            office.store.remember(&object, Known { case_id: case, person: asked.subject_id.clone() }).await?;
            office.put_request(created);
            let there = caller.to(&request_path(&office.id, &id));
            Ok(Redirect::to(&format!("{there}?done=created")).into_response())
        }
        Err(cause) => {
            entry.failed(&cause).await;
            Ok(create_page(&caller, form, &id, true).not_sent(&cause))
        }
    }
}

fn create_form(caller: &Caller, given: Fields, sent: Sent) -> Result<(Form, CreateInformationRequestRequest), Fault> {
    let rights = caller.office.rights();
    if rights.is_empty() {
        return Err(Fault::Unreachable);
    }
    let (why, responders) = rights.sends(REQUESTS).ok_or(Fault::Forbidden)?;
    let owned =
        |pairs: Vec<(&str, &str)>| pairs.into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect();
    let t = caller.texts();
    let mut form = Form::new(t, given, sent);
    let responder = form.choice("responder", owned(responders), Needed::Yes);
    let kinds: Vec<(String, String)> = kinds().map(|key| (key.to_owned(), t.of(key))).collect();
    let kind = form.choice("kind", kinds, Needed::Yes);
    let subject_id = form.identity_code("person");
    let case_id = form.line("case", CASE, Needed::Yes);
    let text = form.area("question", QUESTION, Needed::Yes);
    let background = form.area("background", QUESTION, Needed::No);
    let (start_date, end_date) = (form.day("from", Needed::No), form.day("until", Needed::No));
    if !end_date.is_empty() && (start_date.is_empty() || start_date > end_date) {
        form.fault("until", "error-span");
    }
    let due_date = form.day("due", Needed::Yes);
    due_fits(&mut form, caller, &due_date);
    let contact = contact(&mut form);
    let period = (!start_date.is_empty())
        .then(|| Period { end_date: if end_date.is_empty() { start_date.clone() } else { end_date }, start_date });
    let asked = CreateInformationRequestRequest {
        request_id: String::new(),
        responder,
        kind: kind_of(&kind).into(),
        subject_id,
        context: Some(caller.official.context(&why, &case_id)),
        question: Some(v1::Question { text, background, period }),
        due_date,
        contact: Some(contact),
    };
    Ok((form, asked))
}

/// A due date is a working day to come.
pub(super) fn due_fits(form: &mut Form, caller: &Caller, due_date: &str) {
    let Some(day) = airut_domain::time::parse_date(due_date) else { return };
    let today = working_day::today(caller.office.now());
    if !working_day::is_working_day(day) {
        form.fault("due", "error-working-day");
    } else if day < today || day > working_day::after(today, 60) {
        form.fault("due", "error-due");
    }
}

/// Whom to ask about it.
pub(super) fn contact(form: &mut Form) -> v1::Contact {
    let unit = form.line("unit", UNIT, Needed::Yes);
    let telephone = form.line("telephone", TELEPHONE, Needed::Yes);
    if !telephone.chars().all(|c| c.is_ascii_digit() || " +()-".contains(c)) {
        form.fault("telephone", "error-telephone");
    }
    v1::Contact { unit, telephone }
}

fn create_page(caller: &Caller, form: Form, id: &str, checking: bool) -> FormPage {
    FormPage {
        f: caller.frame("request-new-title"),
        form,
        action: caller.to("/requests/new"),
        send: "request-new-send",
        lead: "request-new-lead",
        hidden: vec![("id", id.to_owned())],
        back: caller.to("/requests"),
        checking,
        attach: None,
    }
}

fn request_id(caller: &Caller) -> String {
    let unique = new_id().replace('-', "");
    // The end of a version 7 UUID is random.
    id_of_day(working_day::today(caller.office.now()), &unique[unique.len() - 10..].to_uppercase())
}

/// An id that people can say on the telephone: the day, and what makes it the only one. The day's parts stand apart: six digits together, a dash and what
/// comes by chance after it can be somebody's identity code, which no id may hold.
fn id_of_day(day: Date, unique: &str) -> String {
    format!("{}-{unique}", format_date(day))
}

fn kinds() -> impl Iterator<Item = &'static str> {
    [Kind::Statement, Kind::AssistanceReport, Kind::ServiceNeedAssessment, Kind::MultidisciplinaryCooperation]
        .into_iter()
        .map(kind_key)
}

fn kind_of(key: &str) -> Kind {
    let all =
        [Kind::AssistanceReport, Kind::ServiceNeedAssessment, Kind::MultidisciplinaryCooperation, Kind::Statement];
    all.into_iter().find(|kind| kind_key(*kind) == key).unwrap_or(Kind::Unspecified)
}

fn other<'a>(request: &'a InformationRequest, organisation: &str) -> &'a String {
    if request.requester == organisation { &request.responder } else { &request.requester }
}

fn in_tab(request: &InformationRequest, tab: &str, organisation: &str) -> bool {
    use v1::InformationRequestState::{Answered, Open, Returned};
    let ends = matches!(request.state(), Open | Returned | Answered);
    match tab {
        "waiting" => waits_for(request, organisation),
        "elsewhere" => ends && !waits_for(request, organisation),
        "ended" => !ends,
        _ => true,
    }
}

fn sort_by(requests: &mut [&InformationRequest], sort: &str, rights: &crate::office::Rights, organisation: &str) {
    let changed = |request: &InformationRequest| request.update_time.map_or(0, |at| -at.seconds);
    requests.sort_by_key(|request| {
        let first = match sort {
            "changed" => (changed(request), String::new()),
            "kind" => (0, kind_key(request.kind()).to_owned()),
            "counterpart" => (0, rights.name(other(request, organisation)).to_owned()),
            _ => (0, String::new()),
        };
        (first, request.due_date.clone(), request.request_id.clone())
    });
}

fn place_of(place: &Place) -> Place {
    Place {
        counterpart: place.counterpart.clone(),
        kind: place.kind.clone(),
        mine: place.mine.clone(),
        ..Place::default()
    }
}

/// The address of a place in the list; what is as usual is left out.
fn address(caller: &Caller, place: &Place) -> String {
    let parts = [
        ("tab", place.tab.as_str(), "waiting"),
        ("sort", &place.sort, "due"),
        ("counterpart", &place.counterpart, ""),
        ("kind", &place.kind, ""),
        ("mine", &place.mine, ""),
    ];
    let told = parts.iter().filter(|(_, value, usual)| value != usual && !value.is_empty());
    let query: Vec<String> = told.map(|(name, value, _)| format!("{name}={}", encoded(value))).collect();
    let list = caller.to("/requests");
    if query.is_empty() { list } else { format!("{list}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use airut_domain::id::RequestId;

    use super::*;

    #[test]
    fn the_exchange_takes_every_id_that_a_request_may_get() {
        let day = |text| airut_domain::time::parse_date(text).expect("a date");
        // Read the other way round, each of these days is one on which somebody may have been born.
        for day in ["2026-11-27", "2001-02-03", "2031-12-30"].map(day) {
            for chance in 0..16_000_u64 {
                let (number, check) = (chance / 16, chance % 16);
                for unique in [format!("{number:03}{check:X}000000"), format!("0{check:X}{number:03}F{number:03}0")] {
                    let id = id_of_day(day, &unique);
                    assert!(id.parse::<RequestId>().is_ok(), "{unique}");
                }
            }
        }
    }
}
