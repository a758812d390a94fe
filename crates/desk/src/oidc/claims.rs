//! What an identity token says of somebody.

use std::fmt;

use openidconnect::AdditionalClaims;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Claims, OidcError, SignedIn};

/// Which claims of a provider say what.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    /// The organisation that somebody works for.
    pub organisation: String,
    /// What they may do: a list, or words with spaces between. Points lead into a claim, as in `realm_access.roles`.
    pub roles: String,
    /// What they are employed as.
    pub title: String,
    /// Where in the organisation.
    pub unit: String,
    /// Their telephone number at work.
    pub telephone: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            organisation: "organisation".to_owned(),
            roles: "roles".to_owned(),
            title: "title".to_owned(),
            unit: "unit".to_owned(),
            telephone: "telephone".to_owned(),
        }
    }
}

/// The claims that no standard names.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Others {
    #[serde(flatten)]
    claims: Map<String, Value>,
}

impl AdditionalClaims for Others {}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Others").finish_non_exhaustive()
    }
}

/// Who somebody is, by claims that were verified.
pub(super) fn signed_in(claims: &Claims, id_token: String, names: &ClaimNames) -> Result<SignedIn, OidcError> {
    // As one again: which claims are of a standard does not matter to who names them.
    let told = serde_json::to_value(claims).map_err(|_| OidcError::MissingClaim("sub".to_owned()))?;
    let required = |name: &str| text(&told, name).ok_or_else(|| OidcError::MissingClaim(name.to_owned()));
    let optional = |name: &str| text(&told, name).unwrap_or_default();
    Ok(SignedIn {
        subject: required("sub")?,
        name: required("name")?,
        organisation: required(&names.organisation)?,
        roles: words(&told, &names.roles).ok_or_else(|| OidcError::MissingClaim(names.roles.clone()))?,
        title: optional(&names.title),
        unit: optional(&names.unit),
        telephone: optional(&names.telephone),
        id_token,
        session_id: text(&told, "sid"),
    })
}

/// A claim's text, if it has any.
fn text(told: &Value, name: &str) -> Option<String> {
    let text = told.get(name)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The words of a claim: a list of them, or a text with spaces between.
fn words(told: &Value, name: &str) -> Option<Vec<String>> {
    match found(told, name)? {
        Value::String(text) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
        Value::Array(words) => words.iter().map(|word| word.as_str().map(str::to_owned)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The claim of this name, or what its points lead to. Some providers' names are URLs, which have points themselves.
fn found<'v>(told: &'v Value, name: &str) -> Option<&'v Value> {
    told.get(name).or_else(|| name.split('.').try_fold(told, |told, part| told.get(part)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn roles_are_a_list_or_words() {
        let told = json!({ "list": ["read", "write"], "words": "read  write", "none": [], "one": "read" });
        for (name, expected) in
            [("list", vec!["read", "write"]), ("words", vec!["read", "write"]), ("none", vec![]), ("one", vec!["read"])]
        {
            let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(words(&told, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn roles_that_are_neither_are_not_guessed_at() {
        let told = json!({ "number": 7, "mixed": ["read", 7], "object": { "read": true }, "null": null });
        for name in ["number", "mixed", "object", "null", "absent", "object.read", "object.absent"] {
            assert_eq!(words(&told, name), None, "{name}");
        }
    }

    #[test]
    fn points_lead_into_a_claim_unless_they_are_of_its_name() {
        let told = json!({ "realm_access": { "roles": ["read"] }, "https://id.example/roles": ["write"] });
        assert_eq!(words(&told, "realm_access.roles"), Some(vec!["read".to_owned()]));
        assert_eq!(words(&told, "https://id.example/roles"), Some(vec!["write".to_owned()]));
    }

    #[test]
    fn texts_that_are_empty_are_absent() {
        let told = json!({ "title": " case worker ", "unit": " ", "telephone": 7 });
        assert_eq!(text(&told, "title"), Some("case worker".to_owned()));
        assert_eq!(text(&told, "unit"), None);
        assert_eq!(text(&told, "telephone"), None);
    }

    #[test]
    fn claims_have_their_plain_names_unless_set_otherwise() {
        let names: ClaimNames = serde_json::from_value(json!({ "roles": "realm_access.roles" })).expect("it is enough");
        assert_eq!(names, ClaimNames { roles: "realm_access.roles".to_owned(), ..ClaimNames::default() });
        assert_eq!(names.organisation, "organisation");
        assert!(serde_json::from_value::<ClaimNames>(json!({ "rolls": "roles" })).is_err());
    }
}
