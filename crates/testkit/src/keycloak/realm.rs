//! A realm, as Keycloak imports it.

use serde_json::{Value, json};

/// Every user's password. Made up.
pub const PASSWORD: &str = "synthetic-password";
/// Every client's secret. Made up.
pub const SECRET: &str = "synthetic-secret";

/// What clients ask for: the claim's name and the user's attribute of the same name.
const ATTRIBUTES: [&str; 4] = ["organisation", "title", "unit", "telephone"];
/// Where a user's roles are told: of our own making, and where Keycloak tells them by itself.
const ROLES: [&str; 2] = ["roles", "realm_access.roles"];

/// A program that people sign in to, which keeps a secret and must use PKCE.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its id.
    pub id: &'a str,
    /// Where people may be sent back to. A last `*` stands for anything; `http://127.0.0.1/…` and `http://localhost/…` for
    /// any port.
    pub redirects: &'a [&'a str],
    /// As `redirects`, after they signed out.
    pub after_logout: &'a [&'a str],
}

/// A synthetic person. An attribute that is empty is not told.
#[derive(Clone, Copy, Debug, Default)]
pub struct User<'a> {
    /// What they sign in as; the password is [`PASSWORD`].
    pub username: &'a str,
    /// One that is made up.
    pub first_name: &'a str,
    /// One that no person has.
    pub last_name: &'a str,
    /// The claim `organisation`.
    pub organisation: &'a str,
    /// The claim `title`.
    pub title: &'a str,
    /// The claim `unit`.
    pub unit: &'a str,
    /// The claim `telephone`.
    pub telephone: &'a str,
    /// The claim `roles`, and `realm_access.roles` too.
    pub roles: &'a [&'a str],
}

/// A realm to import.
#[derive(Clone, Debug)]
pub struct Realm(Value);

impl Realm {
    /// One of these clients and users.
    pub fn new(name: &str, clients: &[Client<'_>], users: &[User<'_>]) -> Self {
        let mut roles: Vec<_> = users.iter().flat_map(|user| user.roles).collect();
        roles.sort();
        roles.dedup();
        let roles: Vec<_> = roles.into_iter().map(|name| json!({ "name": name })).collect();
        Self(json!({
            "realm": name,
            "enabled": true,
            "roles": { "realm": roles },
            "clients": clients.iter().map(Client::json).collect::<Vec<_>>(),
            "users": users.iter().map(User::json).collect::<Vec<_>>(),
            "components": { "org.keycloak.userprofile.UserProfileProvider": [user_profile()] },
        }))
    }

    /// One that is written out, as Keycloak exports them.
    pub fn written(json: Value) -> Self {
        Self(json)
    }

    /// Its JSON, to change what matters to a test.
    pub fn json_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    pub(super) fn json(&self) -> &Value {
        &self.0
    }

    pub(super) fn name(&self) -> &str {
        self.0["realm"].as_str().expect("a realm has a name")
    }
}

impl Client<'_> {
    fn json(&self) -> Value {
        let attributes = ATTRIBUTES.iter().map(|claim| attribute_mapper(claim));
        let mappers: Vec<_> = attributes.chain(ROLES.iter().map(|claim| roles_mapper(claim))).collect();
        json!({
            "clientId": self.id,
            "secret": SECRET,
            "publicClient": false,
            "standardFlowEnabled": true,
            "directAccessGrantsEnabled": false,
            "redirectUris": self.redirects,
            "attributes": {
                "pkce.code.challenge.method": "S256",
                "post.logout.redirect.uris": self.after_logout.join("##"),
            },
            "protocolMappers": mappers,
        })
    }
}

impl User<'_> {
    fn json(&self) -> Value {
        let values = [self.organisation, self.title, self.unit, self.telephone];
        let told = ATTRIBUTES.iter().zip(values).filter(|(_, value)| !value.is_empty());
        let attributes: serde_json::Map<_, _> =
            told.map(|(name, value)| ((*name).to_owned(), json!([value]))).collect();
        json!({
            "username": self.username,
            "firstName": self.first_name,
            "lastName": self.last_name,
            "email": format!("{}@example.invalid", self.username),
            "emailVerified": true,
            "enabled": true,
            "credentials": [{ "type": "password", "value": PASSWORD }],
            "attributes": attributes,
            "realmRoles": self.roles,
        })
    }
}

fn attribute_mapper(claim: &str) -> Value {
    json!({
        "name": claim,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-usermodel-attribute-mapper",
        "config": {
            "user.attribute": claim,
            "claim.name": claim,
            "jsonType.label": "String",
            "id.token.claim": "true",
        },
    })
}

fn roles_mapper(claim: &str) -> Value {
    json!({
        "name": claim,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-usermodel-realm-role-mapper",
        "config": {
            "claim.name": claim,
            "jsonType.label": "String",
            "multivalued": "true",
            "id.token.claim": "true",
        },
    })
}

/// Without this, attributes that Keycloak does not know are dropped as users are imported.
fn user_profile() -> Value {
    let attributes: Vec<_> = ["username", "email", "firstName", "lastName"]
        .iter()
        .map(|name| {
            let permissions = json!({ "view": ["admin", "user"], "edit": ["admin", "user"] });
            json!({ "name": name, "permissions": permissions })
        })
        .collect();
    let profile = json!({ "attributes": attributes, "unmanagedAttributePolicy": "ENABLED" });
    // It takes its configuration as text.
    json!({
        "providerId": "declarative-user-profile",
        "config": { "kc.user.profile.config": [profile.to_string()] },
    })
}
