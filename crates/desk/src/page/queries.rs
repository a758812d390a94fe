//! Looking up benefits: who, why, in which case; then what may be seen, the next payment first, and what is withheld and why.

use std::collections::BTreeMap;

use airut_domain::{time::format_date, working_day};
use airut_wire::v1::{self, Category, Matter, QueryBenefitsRequest, matter::Content, withheld};
use askama::Template;
use axum::response::{IntoResponse, Response};

use super::{
    requests::CASE,
    steps::{id_of, new_id},
};
use crate::{
    language::Texts,
    office::{About, DEADLINE},
    official::{Role, Why},
    store::Action,
    web::{
        fault::Fault,
        form::{Fields, Form, Needed, Sent},
        frame::Frame,
        guard::render,
        visit::Caller,
    },
};

/// The categories in the order in which they are shown.
const CATEGORIES: [Category; 6] = [
    Category::Payment,
    Category::Decision,
    Category::Pending,
    Category::MedicineCostCap,
    Category::Recovery,
    Category::Insurance,
];

#[derive(Template)]
#[template(path = "queries.html")]
struct QueriesPage {
    f: Frame,
    form: Form,
    id: String,
    answer: Option<Answer>,
}

/// What may be seen.
struct Answer {
    person: String,
    case: String,
    purpose: String,
    at: String,
    position: String,
    next: Option<Line>,
    groups: Vec<Group>,
    withheld: Vec<(String, String)>,
    nothing: bool,
}

struct Group {
    title: String,
    lines: Vec<Line>,
}

/// One matter.
#[derive(Clone, Debug)]
struct Line {
    benefit: String,
    /// What sorts it: a day.
    day: String,
    /// Headings and texts.
    parts: Vec<(String, String)>,
}

pub(crate) async fn show(caller: Caller) -> Result<Response, Fault> {
    caller.may(Role::Queries)?;
    let (form, _) = query_form(&caller, Fields::default(), Sent::No)?;
    Ok(render(&QueriesPage { f: caller.frame("queries-title"), form, id: new_id(), answer: None }))
}

pub(crate) async fn ask(caller: Caller, fields: Fields) -> Result<Response, Fault> {
    caller.may(Role::Queries)?;
    caller.own_form(&fields)?;
    // Whoever loads the answer's page anew gets the same answer, and a record that says so.
    let id = id_of(&fields);
    let (mut form, asked) = query_form(&caller, fields, Sent::Yes)?;
    let f = caller.frame("queries-title");
    if !form.is_good() {
        let page = QueriesPage { f, form, id, answer: None };
        return Ok((http::StatusCode::UNPROCESSABLE_ENTITY, render(&page)).into_response());
    }
    let office = &caller.office;
    let (why, case) = (&asked.why, &asked.case_id);
    let about = About { person: &asked.subject_id, purpose: &why.purpose, case_id: case };
    let entry = office.enter(&caller.official, Action::AskedBenefits, &format!("query/{id}"), about).await?;
    let query = QueryBenefitsRequest {
        query_id: id.clone(),
        subject_id: asked.subject_id.clone(),
        context: Some(caller.official.context(why, case)),
        categories: asked.categories.clone(),
        period: None,
    };
    match office.client.query(&query, DEADLINE).await {
        Ok(response) => {
            let position = response.receipt.as_ref().map(|receipt| receipt.position.clone()).unwrap_or_default();
            entry.done(&position).await;
            let answer = answer(&caller, &asked, response, position);
            // The next question is another one.
            Ok(render(&QueriesPage { f, form, id: new_id(), answer: Some(answer) }))
        }
        Err(cause) => {
            entry.failed(&cause).await;
            let fault = Fault::from(&cause);
            form.banner = Some(fault.not_sent(caller.texts()));
            Ok((fault.status(), render(&QueriesPage { f, form, id, answer: None })).into_response())
        }
    }
}

struct Asked {
    subject_id: String,
    why: Why,
    case_id: String,
    categories: Vec<i32>,
}

fn query_form(caller: &Caller, given: Fields, sent: Sent) -> Result<(Form, Asked), Fault> {
    let (rights, t) = (caller.office.rights(), caller.texts());
    if rights.is_empty() {
        return Err(Fault::Unreachable);
    }
    let reasons = rights.query_reasons();
    if reasons.is_empty() {
        return Err(Fault::Forbidden);
    }
    let mut form = Form::new(t, given, sent);
    let subject_id = form.identity_code("person");
    let name = |why: &Why| format!("{} {}", why.purpose, why.legal_basis);
    let label =
        |why: &Why| t.with("query-reason", &[("purpose", &t.word("purpose", &why.purpose)), ("act", &why.legal_basis)]);
    let chosen = form.choice("purpose", reasons.iter().map(|why| (name(why), label(why))).collect(), Needed::Yes);
    let case_id = form.line("case", CASE, Needed::Yes);
    let choices = CATEGORIES.map(|category| (i32::from(category).to_string(), t.of(category_key(category))));
    let categories = form.checks("categories", choices.to_vec());
    let why = reasons.iter().find(|why| name(why) == chosen).unwrap_or(&reasons[0]).clone();
    let categories = categories.iter().filter_map(|category| category.parse().ok()).collect();
    Ok((form, Asked { subject_id, why, case_id, categories }))
}

const fn category_key(category: Category) -> &'static str {
    match category {
        Category::Unspecified | Category::Pending => "category-pending",
        Category::Decision => "category-decision",
        Category::Payment => "category-payment",
        Category::Insurance => "category-insurance",
        Category::Recovery => "category-recovery",
        Category::MedicineCostCap => "category-medicine-cost-cap",
    }
}

fn answer(caller: &Caller, asked: &Asked, response: v1::QueryBenefitsResponse, position: String) -> Answer {
    let t = caller.texts();
    let today = format_date(working_day::today(caller.office.now()));
    let mut groups: BTreeMap<usize, Vec<Line>> = BTreeMap::new();
    for matter in response.matters {
        if let Some((category, line)) = line(t, matter) {
            let place = CATEGORIES.iter().position(|known| *known == category).unwrap_or(CATEGORIES.len());
            groups.entry(place).or_default().push(line);
        }
    }
    let payments = groups.get(&0);
    let next = payments.and_then(|all| all.iter().filter(|line| line.day >= today).min_by_key(|line| line.day.clone()));
    let next = next.cloned();
    for lines in groups.values_mut() {
        // The newest first; of what is to come the next one stands above them all.
        lines.sort_by(|a, b| (&b.day, &a.benefit).cmp(&(&a.day, &b.benefit)));
    }
    let withheld = response.withheld.iter().map(|withheld| {
        let reason = match withheld.reason() {
            withheld::Reason::Unspecified | withheld::Reason::NotInContract => "withheld-contract",
            withheld::Reason::OtherBenefits => "withheld-benefits",
            withheld::Reason::OutsideWindow => "withheld-window",
        };
        (t.of(category_key(withheld.category())), t.of(reason))
    });
    let groups: Vec<Group> = groups
        .into_iter()
        .map(|(place, lines)| {
            let category = CATEGORIES.get(place).copied().unwrap_or_default();
            Group { title: t.of(category_key(category)), lines }
        })
        .collect();
    Answer {
        person: asked.subject_id.clone(),
        case: asked.case_id.clone(),
        purpose: t.word("purpose", &asked.why.purpose),
        at: t.moment(caller.office.now()),
        position,
        next,
        nothing: groups.is_empty(),
        groups,
        withheld: withheld.collect(),
    }
}

fn line(t: &'static Texts, matter: Matter) -> Option<(Category, Line)> {
    let text = |key: &str, text: String| (t.of(key), text);
    let span = |period: Option<v1::Period>| {
        period.map(|period| t.span(&period.start_date, &period.end_date)).unwrap_or_default()
    };
    let (category, day, parts) = match matter.content? {
        Content::Pending(pending) => {
            let stage = match pending.stage() {
                v1::matter::Stage::Unspecified => "stage-unspecified",
                v1::matter::Stage::Received => "stage-received",
                v1::matter::Stage::InHandling => "stage-in-handling",
                v1::matter::Stage::AwaitingInformation => "stage-awaiting",
            };
            let parts = vec![
                text("matter-filed", t.day(&pending.filed_date)),
                text("matter-applied-from", t.day(&pending.applied_from_date)),
                text("matter-stage", t.of(stage)),
            ];
            (Category::Pending, pending.filed_date, parts)
        }
        Content::Decision(decision) => {
            let outcome = match decision.outcome() {
                v1::matter::Outcome::Unspecified => "outcome-unspecified",
                v1::matter::Outcome::Granted => "outcome-granted",
                v1::matter::Outcome::Rejected => "outcome-rejected",
                v1::matter::Outcome::Terminated => "outcome-terminated",
                v1::matter::Outcome::Revised => "outcome-revised",
            };
            let monthly = decision.monthly_cents.map(|cents| t.euros(cents)).unwrap_or_default();
            let parts = vec![
                text("matter-decided", t.day(&decision.decided_date)),
                text("matter-outcome", t.of(outcome)),
                text("matter-in-force", span(decision.period)),
                text("matter-monthly", monthly),
            ];
            (Category::Decision, decision.decided_date, parts)
        }
        Content::Payment(payment) => {
            let parts = vec![
                text("matter-due", t.day(&payment.due_date)),
                text("matter-net", t.euros(payment.net_cents)),
                text("matter-gross", t.euros(payment.gross_cents)),
                text("matter-for", span(payment.period)),
            ];
            (Category::Payment, payment.due_date, parts)
        }
        Content::Insurance(insurance) => {
            let parts = vec![text("matter-insured", t.span(&insurance.start_date, &insurance.end_date))];
            (Category::Insurance, insurance.start_date, parts)
        }
        Content::Recovery(recovery) => {
            let parts = vec![
                text("matter-decided", t.day(&recovery.decided_date)),
                text("matter-total", t.euros(recovery.total_cents)),
                text("matter-remaining", t.euros(recovery.remaining_cents)),
            ];
            (Category::Recovery, recovery.decided_date, parts)
        }
        Content::MedicineCostCap(cap) => {
            let parts = vec![
                text("matter-year", cap.year.to_string()),
                text("matter-accrued", t.euros(cap.accrued_cents)),
                text("matter-limit", t.euros(cap.limit_cents)),
                text("matter-reached", t.day(&cap.reached_date)),
            ];
            (Category::MedicineCostCap, cap.year.to_string(), parts)
        }
    };
    let parts = parts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    Some((category, Line { benefit: t.word("benefit", &matter.benefit), day, parts }))
}
