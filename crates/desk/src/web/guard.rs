//! The guard in front of every page: language, session, where forms come from, what browsers may do with a page, and a page for every fault.
//!
//! Nothing here depends on a page's own care. A page that is for officials takes a `Caller`, and without a session there is none.

use std::{panic::resume_unwind, time::Instant};

use airut_telemetry::{Traced, span};
use askama::Template;
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{
        ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY,
        STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use tracing::Span;

use super::{
    fault::Fault,
    form::Fields,
    frame::Frame,
    serve::Place,
    visit::{SESSION, Visit, cookie},
};
use crate::{desk::Desk, language::Language, session::Draft};

/// A form may have so many bytes. Documents have a bound of their own.
pub(crate) const LARGEST_FORM: usize = 64 * 1024;

/// Only what the desk itself serves; no script or style in a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// What may be shown once after a redirect: the query says which, and only these.
pub(crate) const DONE: [&str; 13] = [
    "created",
    "answered",
    "returned",
    "closed",
    "transferred",
    "cancelled",
    "sent",
    "claimed",
    "taken",
    "released",
    "handled",
    "reopened",
    "feedback",
];

#[derive(Template)]
#[template(path = "fault.html")]
struct FaultPage {
    f: Frame,
    text: String,
    reason: Option<String>,
    retry: bool,
}

/// Sees to a request and its answer. What has begun is done to its end, whoever hangs up meanwhile: otherwise the exchange may have done what the desk does not
/// know of.
pub(crate) async fn guard(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let visit = visit(&desk, request.uri(), request.headers());
    let page = page_of(&visit);
    let span = page.map_or_else(Span::none, |_| span_of(&visit, &request));
    let place = request.extensions().get::<Place>().cloned();
    let answering = answer(desk.clone(), visit, request, next).traced(span.clone());
    let answered = tokio::spawn(async move {
        let _place = place;
        answering.await
    });
    let (mut response, fault) = answered.await.unwrap_or_else(|cause| {
        let panic = cause.try_into_panic();
        resume_unwind(panic.unwrap_or_else(|_| Box::new("the process ends")))
    });
    span::shown(&span, response.status(), fault);
    harden(&desk, response.headers_mut());
    if let Some(page) = page {
        metrics::histogram!("airut_desk_page_seconds", "page" => page).record(began.elapsed());
    }
    response
}

/// The answer, and what was at fault if anything was.
async fn answer(desk: Desk, visit: Visit, mut request: Request, next: Next) -> (Response, Option<&'static str>) {
    let (uri, method) = (request.uri().clone(), request.method().clone());
    let mut response = if changes(&method) && !desk.is_own_origin(request.headers()) {
        Fault::Forged.into_response()
    } else if changes(&method) && visit.visitor.is_none() && visit.cookie.is_some() {
        keep_draft(&desk, &visit, request, next).await
    } else {
        request.extensions_mut().insert(visit.clone());
        next.run(request).await
    };
    // What an extractor of the framework refuses, it says in its own words.
    let plain = match response.status() {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Fault::NotFound),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Fault::TooLarge),
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY => {
            Some(Fault::Malformed)
        }
        _ => None,
    };
    let is_page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    match response.extensions_mut().remove::<Fault>().or(plain.filter(|_| !is_page)) {
        Some(fault) => (show(&visit, &fault, &method, &uri), Some(fault.key())),
        None => (response, None),
    }
}

/// Its span, named by the address without the language and without what it is about. What is at no address is nothing's.
fn span_of(visit: &Visit, request: &Request) -> Span {
    let Some(route) = request.extensions().get::<MatchedPath>() else { return Span::none() };
    let route = route.as_str().strip_prefix(&visit.to("")).unwrap_or(route.as_str());
    let organisation = visit.visitor.as_ref().map_or("", |visitor| visitor.official.organisation.as_str());
    span::page(request.method(), route, organisation)
}

/// The place of the menu that a request is of; none of what is no page.
fn page_of(visit: &Visit) -> Option<&'static str> {
    let place = visit.rest[1..].split(['/', '?']).next().unwrap_or_default();
    let pages = ["queries", "requests", "documents", "notices", "log", "users-log", "sign-in", "accessibility"];
    if place.is_empty() { Some("today") } else { pages.into_iter().find(|page| *page == place) }
}

const fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Reads what is told by the address and the cookies.
fn visit(desk: &Desk, uri: &Uri, headers: &HeaderMap) -> Visit {
    let now = desk.now();
    let cookie = cookie(headers, SESSION);
    // Lists that are shown anew because something has changed: nobody has done anything.
    let by_itself = headers.contains_key("hx-request") || uri.path().ends_with("/live");
    let visitor = cookie.as_deref().and_then(|cookie| {
        if by_itself { desk.sessions().look(cookie, now) } else { desk.sessions().find(cookie, now) }
    });
    // One that names no page, as proxies are asked with, has no path.
    let path = uri.path().get(1..).unwrap_or_default();
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let language = Language::parse(first);
    let header = || headers.get(ACCEPT_LANGUAGE).and_then(|header| header.to_str().ok()).unwrap_or_default();
    let query = uri.query().unwrap_or_default();
    let done = query.split('&').find_map(|pair| pair.strip_prefix("done="));
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("done=")).collect();
    let rest = match (language, kept.is_empty()) {
        (None, _) => "/".to_owned(),
        (Some(_), true) => format!("/{rest}"),
        (Some(_), false) => format!("/{rest}?{}", kept.join("&")),
    };
    let linked = visitor.as_ref().is_none_or(|visitor| desk.is_linked(&visitor.official.organisation));
    Visit {
        language: language.unwrap_or_else(|| Language::preferred(header())),
        rest,
        cookie,
        visitor,
        done: done.and_then(|done| DONE.into_iter().find(|known| *known == done)),
        linked,
        idle_seconds: desk.sessions().limits().idle.as_secs(),
        told: 0,
    }
}

/// A form that comes after its session has ended is kept until its official has signed in again.
async fn keep_draft(desk: &Desk, visit: &Visit, mut request: Request, next: Next) -> Response {
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        request.extensions_mut().insert(visit.clone());
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_FORM).await else { return Fault::TooLarge.into_response() };
    let path = parts.uri.path().to_owned();
    parts.extensions.insert(visit.clone());
    let response = next.run(Request::from_parts(parts, Body::from(body.clone()))).await;
    // The form for signing in is one too, and is taken.
    if let (Some(Fault::SignIn), Some(cookie)) = (response.extensions().get(), &visit.cookie) {
        let fields = Fields::parse(&body).into_pairs();
        // One that holds nothing but its token, such as for signing out, was not typed.
        if fields.iter().any(|(name, _)| name != "csrf") {
            desk.sessions().keep(cookie, Draft { path, fields }, desk.now());
        }
    }
    response
}

fn show(visit: &Visit, fault: &Fault, method: &Method, uri: &Uri) -> Response {
    if matches!(fault, Fault::SignIn) {
        // After signing in one is where one wanted to be: a page, or the page that shows what was typed.
        let after = if changes(method) { "/draft" } else { visit.rest.as_str() };
        return Redirect::to(&visit.to(&format!("/sign-in?after={}", encoded(after)))).into_response();
    }
    if fault.status().is_server_error() {
        tracing::warn!(fault = fault.key(), path = %without_ids(uri.path()), "a page could not be shown");
    }
    metrics::counter!("airut_desk_faults_total", "fault" => fault.key()).increment(1);
    let t = visit.texts();
    let reason = fault.reason().map(|reason| t.reason(reason.code()));
    let text = t.of(&format!("fault-{}-text", fault.key()));
    let retry = matches!(fault, Fault::Unreachable | Fault::Busy | Fault::Store) && !changes(method);
    let f = visit.frame(&format!("fault-{}", fault.key()));
    let linked = f.linked && !matches!(fault, Fault::Unreachable);
    let page = FaultPage { f: Frame { linked, done: None, ..f }, text, reason, retry };
    let mut response = (fault.status(), render(&page)).into_response();
    if matches!(fault.status(), StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// The first part of a path, which names a kind of page and no object.
fn without_ids(path: &str) -> &str {
    let mut slashes = path.match_indices('/').map(|(at, _)| at).skip(2);
    slashes.next().map_or(path, |at| &path[..at])
}

/// What browsers are told of every answer.
fn harden(desk: &Desk, headers: &mut HeaderMap) {
    let mut put = |name: http::HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    put(CONTENT_SECURITY_POLICY, POLICY);
    put(CACHE_CONTROL, "no-store");
    put(X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(X_FRAME_OPTIONS, "DENY");
    put(REFERRER_POLICY, "same-origin");
    put(http::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    put(http::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()");
    if desk.is_secure() {
        put(STRICT_TRANSPORT_SECURITY, "max-age=63072000; includeSubDomains");
    }
}

impl Desk {
    /// Whether a request that changes something comes from a page of the desk's own. Browsers say so of each.
    fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let text = |name: http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        match (text(ORIGIN), text(HOST), self.public_url()) {
            (Some(origin), _, Some(public)) => origin == public,
            // Only on this machine, where no name can be made to lead here.
            (Some(origin), Some(host), None) => origin.strip_prefix("http://") == Some(host) && self.is_own_host(host),
            (None, _, _) | (Some(_), None, None) => false,
        }
    }
}

/// A page.
pub(crate) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(cause) => {
            tracing::error!(%cause, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A part of an address, encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
