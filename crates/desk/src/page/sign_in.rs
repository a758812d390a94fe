//! Signing in and out.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderValue, header::SET_COOKIE};
use serde::{Deserialize, Serialize};

use crate::{
    desk::Desk,
    official::{Official, Role},
    oidc::Begun,
    web::{
        fault::Fault,
        form::Fields,
        frame::Frame,
        guard::render,
        visit::{Caller, SESSION, SIGN_IN, Visit, cookie},
    },
};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    f: Frame,
    /// By organisation.
    groups: Vec<(String, Vec<(Official, String)>)>,
    after: String,
    provider: bool,
}

#[derive(Template)]
#[template(path = "draft.html")]
struct DraftPage {
    f: Frame,
    path: String,
    fields: Vec<(String, String)>,
}

/// Where to go after signing in.
#[derive(Debug, Deserialize)]
pub(crate) struct After {
    #[serde(default)]
    after: String,
    /// Set by the button: off to the provider.
    go: Option<String>,
}

/// What a sign-in at the provider has to remember.
#[derive(Serialize, Deserialize)]
struct UnderWay {
    begun: Begun,
    language: String,
    after: String,
}

/// What the provider sends back.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    error: Option<String>,
}

pub(crate) async fn show(
    State(desk): State<Desk>,
    visit: Visit,
    Query(After { after, go }): Query<After>,
) -> Result<Response, Fault> {
    let after = own_place(&after);
    if visit.visitor.is_some() {
        return Ok(Redirect::to(&visit.to(after)).into_response());
    }
    if let Some(provider) = desk.provider().filter(|_| go.is_some()) {
        let begun = provider.begin().await.map_err(|cause| {
            tracing::error!(%cause, "the provider of sign-in");
            Fault::SignInFailed("sign-in-provider")
        })?;
        let url = begun.url.clone();
        let under_way = UnderWay { begun, language: visit.language.code().to_owned(), after: after.to_owned() };
        let kept = serde_json::to_string(&under_way).map_err(|_| Fault::Malformed)?;
        let cookie = desk.sessions().begin(kept, desk.now());
        return Ok(with_cookie(Redirect::to(&url).into_response(), SIGN_IN, &cookie));
    }
    let titled = |official: &Official| (official.clone(), visit.texts().word("title", &official.title));
    let organisations = desk.choice().unwrap_or_default().iter();
    let groups =
        organisations.map(|(name, officials)| (name.clone(), officials.iter().map(titled).collect())).collect();
    Ok(render(&SignInPage {
        f: visit.frame("sign-in-title"),
        groups,
        after: after.to_owned(),
        provider: desk.provider().is_some(),
    }))
}

/// Signs in as one of the synthetic officials.
pub(crate) async fn choose(State(desk): State<Desk>, visit: Visit, fields: Fields) -> Result<Response, Fault> {
    let mut officials = desk.choice().ok_or(Fault::NotFound)?.iter().flat_map(|(_, officials)| officials);
    let chosen = officials.find(|one| one.subject == fields.text("official"));
    let official = chosen.cloned().ok_or(Fault::Malformed)?;
    Ok(signed_in(&desk, official, None, &visit, &visit.to(own_place(fields.text("after")))))
}

/// Takes up what the provider says.
pub(crate) async fn callback(
    State(desk): State<Desk>,
    headers: http::HeaderMap,
    Query(answer): Query<Answer>,
    request: axum::extract::Request,
) -> Result<Response, Fault> {
    let failed = Fault::SignInFailed("sign-in-failed");
    let provider = desk.provider().ok_or(Fault::NotFound)?;
    let under_way = cookie(&headers, SIGN_IN).and_then(|cookie| desk.sessions().begun(&cookie, desk.now()));
    let under_way: UnderWay =
        under_way.and_then(|kept| serde_json::from_str(&kept).ok()).ok_or_else(|| failed.clone())?;
    if let Some(error) = answer.error {
        // The provider's own word for it, of those that the standard has.
        let known = ["access_denied", "login_required", "interaction_required", "temporarily_unavailable"];
        let said = known.into_iter().find(|known| *known == error).unwrap_or("another error");
        tracing::info!(said, "the provider has not signed someone in");
        return Err(failed);
    }
    let signed = provider.finish(under_way.begun, &answer.code, &answer.state).await.map_err(|cause| {
        tracing::warn!(%cause, "a sign-in did not work out");
        failed
    })?;
    if !desk.knows(&signed.organisation) {
        tracing::warn!("someone of an organisation that has no office here wanted to sign in");
        return Err(Fault::SignInFailed("sign-in-organisation"));
    }
    let official = Official {
        subject: signed.subject,
        name: signed.name,
        organisation: signed.organisation,
        // The exchange asks for a role; a provider may know no titles.
        title: if signed.title.is_empty() { "official".to_owned() } else { signed.title },
        unit: signed.unit,
        telephone: signed.telephone,
        roles: Role::among(signed.roles.iter().map(String::as_str)),
    };
    let language = crate::language::Language::parse(&under_way.language).unwrap_or(crate::language::Language::Fi);
    let visit = request.extensions().get::<Visit>().cloned().ok_or(Fault::Malformed)?;
    let visit = Visit { language, ..visit };
    let to = visit.to(own_place(&under_way.after));
    Ok(signed_in(&desk, official, Some(signed.id_token), &visit, &to))
}

fn signed_in(desk: &Desk, official: Official, id_token: Option<String>, visit: &Visit, to: &str) -> Response {
    tracing::info!(organisation = official.organisation, "an official has signed in");
    // Always a new session: a cookie from before names nobody afterwards.
    let (cookie, _) = desk.sessions().open(official, id_token, visit.cookie.as_deref(), desk.now());
    with_cookie(Redirect::to(to).into_response(), SESSION, &cookie)
}

/// Signs out here, and at the provider.
pub(crate) async fn out(State(desk): State<Desk>, caller: Caller, fields: Fields) -> Result<Response, Fault> {
    caller.own_form(&fields)?;
    let closed = caller.cookie.as_deref().and_then(|cookie| desk.sessions().close(cookie));
    let back = format!("{}{}", desk.own_url(), caller.to("/sign-in"));
    let id_token = closed.and_then(|visitor| visitor.id_token);
    let elsewhere = match (desk.provider(), id_token) {
        (Some(provider), Some(id_token)) => provider.end_session(&id_token, &back).await,
        _ => None,
    };
    let to = elsewhere.unwrap_or_else(|| caller.to("/sign-in"));
    let mut response = Redirect::to(&to).into_response();
    let gone = format!("{SESSION}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    if let Ok(gone) = HeaderValue::from_str(&gone) {
        response.headers_mut().append(SET_COOKIE, gone);
    }
    Ok(response)
}

/// Keeps the session going: someone is reading.
pub(crate) async fn stay(caller: Caller, fields: Fields) -> Result<Response, Fault> {
    caller.own_form(&fields)?;
    Ok(http::StatusCode::NO_CONTENT.into_response())
}

/// Shows what was typed when the session ended, to be sent on.
pub(crate) async fn draft(State(desk): State<Desk>, caller: Caller) -> Result<Response, Fault> {
    let draft = caller.cookie.as_deref().and_then(|cookie| desk.sessions().draft(cookie));
    let Some(draft) = draft else { return Ok(Redirect::to(&caller.to("/")).into_response()) };
    // Once more to be checked before it is sent; with this session's token instead of the other's.
    let fields = draft.fields.into_iter().filter(|(name, _)| name != "csrf" && name != "step").collect();
    Ok(render(&DraftPage { f: caller.frame("draft-title"), path: draft.path, fields }))
}

/// A place of the desk's own, whatever was asked for: nobody is sent elsewhere.
fn own_place(after: &str) -> &str {
    let own = after.starts_with('/') && !after.starts_with("//") && !after.contains(['\\', '\r', '\n', '\t']);
    if own && !after.starts_with("/sign-in") { after } else { "/" }
}

fn with_cookie(mut response: Response, name: &str, value: &str) -> Response {
    // Lax: the provider's page leads back here.
    let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert_eq!(own_place("/requests?tab=all"), "/requests?tab=all");
        for elsewhere in
            ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "", "/\tx", "/sign-in?after=/"]
        {
            assert_eq!(own_place(elsewhere), "/", "{elsewhere}");
        }
    }
}
