//! Signing in at a real identity provider, and at ones that misbehave.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use airut_desk::oidc::{Begun, Check, ClaimNames, OidcError, OidcSettings, Provider, SignedIn};
use airut_testkit::{
    Pki, free_ports,
    keycloak::{Client, Keycloak, PASSWORD, Realm, User, Visitor},
    now,
};
use openidconnect::url::Url;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Where nobody listens: the browser's part ends with where it is sent.
const BACK: &str = "http://127.0.0.1:1/signed-in";
const AFTER: &str = "http://127.0.0.1:1/";
const AINO: User<'_> = User {
    username: "aino",
    first_name: "Aino",
    last_name: "Esimerkki",
    organisation: "pirkanmaa",
    title: "social worker",
    unit: "Adult social work",
    telephone: "+358 00 000 0000",
    roles: &["reader", "writer"],
};
const ELIN: User<'_> = User {
    username: "elin",
    first_name: "Elin",
    last_name: "Exempel",
    organisation: "",
    title: "",
    unit: "",
    telephone: "",
    roles: &["reader"],
};

/// The provider that the tests share, which takes half a minute to start.
fn keycloak() -> Option<&'static Keycloak> {
    static KEYCLOAK: OnceLock<Option<Keycloak>> = OnceLock::new();
    let start = || {
        let client = |id| Client { id, redirects: &["http://127.0.0.1/*"], after_logout: &["http://127.0.0.1/*"] };
        let mut realm = Realm::new("airut", &[client("desk"), client("other"), client("shared")], &[AINO, ELIN]);
        // Its tokens are for somebody else too.
        let mappers = realm.json_mut()["clients"][2]["protocolMappers"].as_array_mut().unwrap();
        mappers.push(json!({
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": { "included.custom.audience": "somebody-else", "id.token.claim": "true" },
        }));
        Keycloak::start(&[realm])
    };
    KEYCLOAK.get_or_init(start).as_ref()
}

fn settings(keycloak: &Keycloak) -> OidcSettings {
    OidcSettings {
        issuer: keycloak.issuer("airut"),
        client_id: "desk".to_owned(),
        client_secret: keycloak.secret(),
        ca: None,
        claims: ClaimNames::default(),
    }
}

fn provider(keycloak: &Keycloak) -> Provider {
    Provider::new(settings(keycloak), BACK).unwrap()
}

/// What the browser comes back with: the code and the state.
fn at_the_provider(visitor: &mut Visitor, begun: &Begun, user: &User<'_>) -> (String, String) {
    let back = visitor.sign_in(&begun.url, user.username, PASSWORD).expect("the password is right");
    assert!(back.starts_with(BACK), "{back}");
    let back = Url::parse(&back).unwrap();
    let told = |name| back.query_pairs().find(|(told, _)| told == name).expect("it is told").1.into_owned();
    (told("code"), told("state"))
}

async fn sign_in(provider: &Provider, visitor: &mut Visitor, user: &User<'_>) -> Result<SignedIn, OidcError> {
    let begun = provider.begin().await?;
    let (code, state) = at_the_provider(visitor, &begun, user);
    provider.finish(begun, &code, &state).await
}

/// The same, but for one thing.
fn altered(begun: &Begun, field: &str, value: &str) -> Begun {
    let mut kept = serde_json::to_value(begun).unwrap();
    assert!(kept[field].is_string(), "{field}");
    kept[field] = json!(value);
    serde_json::from_value(kept).unwrap()
}

#[tokio::test]
async fn whoever_signs_in_is_told_of() {
    let Some(keycloak) = keycloak() else { return };
    let signed_in = sign_in(&provider(keycloak), &mut keycloak.visitor(), &AINO).await.unwrap();

    let id = &keycloak.administer("GET", "/realms/airut/users?username=aino", &Value::Null)[0]["id"];
    assert_eq!(json!(signed_in.subject), *id);
    assert_eq!(signed_in.name, "Aino Esimerkki");
    assert_eq!(signed_in.organisation, AINO.organisation);
    assert_eq!(signed_in.title, AINO.title);
    assert_eq!(signed_in.unit, AINO.unit);
    assert_eq!(signed_in.telephone, AINO.telephone);
    let mut roles = signed_in.roles.clone();
    roles.sort();
    assert_eq!(roles, AINO.roles);
    assert!(signed_in.session_id.is_some());

    let shown = format!("{signed_in:?}");
    for secret in ["Aino", "+358", &signed_in.id_token, &signed_in.subject] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn roles_may_lie_within_a_claim() {
    let Some(keycloak) = keycloak() else { return };
    let claims = ClaimNames { roles: "realm_access.roles".to_owned(), ..ClaimNames::default() };
    let provider = Provider::new(OidcSettings { claims, ..settings(keycloak) }, BACK).unwrap();

    let signed_in = sign_in(&provider, &mut keycloak.visitor(), &AINO).await.unwrap();

    assert!(signed_in.roles.contains(&"writer".to_owned()), "{:?}", signed_in.roles);
}

#[tokio::test]
async fn nobody_signs_in_who_is_of_no_organisation() {
    let Some(keycloak) = keycloak() else { return };
    let refused = sign_in(&provider(keycloak), &mut keycloak.visitor(), &ELIN).await;
    assert_eq!(refused, Err(OidcError::MissingClaim("organisation".to_owned())));
}

#[tokio::test]
async fn nobody_is_signed_in_by_what_belongs_to_another_sign_in() {
    let Some(keycloak) = keycloak() else { return };
    let (provider, mut visitor) = (provider(keycloak), keycloak.visitor());
    let other = provider.begin().await.unwrap();
    let verifier = serde_json::to_value(&other).unwrap()["verifier"].as_str().unwrap().to_owned();
    let refused = Err(OidcError::Refused("invalid_grant".to_owned()));

    let begun = provider.begin().await.unwrap();
    let (code, _) = at_the_provider(&mut visitor, &begun, &AINO);
    assert_eq!(provider.finish(begun, &code, &other.state).await, Err(OidcError::StateMismatch));

    let begun = provider.begin().await.unwrap();
    let (code, state) = at_the_provider(&mut visitor, &begun, &AINO);
    assert_eq!(provider.finish(altered(&begun, "verifier", &verifier), &code, &state).await, refused);

    let begun = provider.begin().await.unwrap();
    let (code, state) = at_the_provider(&mut visitor, &begun, &AINO);
    let nonce = provider.finish(altered(&begun, "nonce", "another"), &code, &state).await;
    assert_eq!(nonce, Err(OidcError::TokenInvalid(Check::Nonce)));
    assert_eq!(provider.finish(begun, &code, &state).await, refused, "the code is spent");
}

#[tokio::test]
async fn a_code_serves_once() {
    let Some(keycloak) = keycloak() else { return };
    let provider = provider(keycloak);
    let begun = provider.begin().await.unwrap();
    let again = altered(&begun, "url", &begun.url);
    let (code, state) = at_the_provider(&mut keycloak.visitor(), &begun, &AINO);

    assert!(provider.finish(begun, &code, &state).await.is_ok());
    let refused = provider.finish(again, &code, &state).await;

    assert_eq!(refused, Err(OidcError::Refused("invalid_grant".to_owned())));
}

#[tokio::test]
async fn a_code_for_another_program_is_refused() {
    let Some(keycloak) = keycloak() else { return };
    let (desk, mut visitor) = (provider(keycloak), keycloak.visitor());
    let other = Provider::new(OidcSettings { client_id: "other".to_owned(), ..settings(keycloak) }, BACK).unwrap();
    let begun = other.begin().await.unwrap();
    let (code, state) = at_the_provider(&mut visitor, &begun, &AINO);

    let refused = desk.finish(begun, &code, &state).await;

    assert_eq!(refused, Err(OidcError::Refused("invalid_grant".to_owned())));
}

#[tokio::test]
async fn a_token_that_is_for_others_too_is_refused() {
    let Some(keycloak) = keycloak() else { return };
    let shared = OidcSettings { client_id: "shared".to_owned(), ..settings(keycloak) };
    let refused = sign_in(&Provider::new(shared, BACK).unwrap(), &mut keycloak.visitor(), &AINO).await;
    assert_eq!(refused, Err(OidcError::TokenInvalid(Check::Audience)));
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused() {
    let Some(keycloak) = keycloak() else { return };
    let provider = provider(keycloak).with_clock(Arc::new(|| now() + Duration::from_secs(24 * 60 * 60)));
    let refused = sign_in(&provider, &mut keycloak.visitor(), &AINO).await;
    assert_eq!(refused, Err(OidcError::TokenInvalid(Check::Expiry)));
}

#[tokio::test]
async fn a_desk_with_another_secret_is_refused() {
    let Some(keycloak) = keycloak() else { return };
    let files = tempfile::tempdir().unwrap();
    let secret = files.path().join("secret");
    std::fs::write(&secret, "not the secret\n").unwrap();
    let provider = Provider::new(OidcSettings { client_secret: secret, ..settings(keycloak) }, BACK).unwrap();

    let refused = sign_in(&provider, &mut keycloak.visitor(), &AINO).await;

    assert_eq!(refused, Err(OidcError::Refused("unauthorized_client".to_owned())));
}

#[tokio::test]
async fn a_provider_may_begin_to_sign_with_another_key() {
    let Some(keycloak) = keycloak() else { return };
    let (provider, mut visitor) = (provider(keycloak), keycloak.visitor());
    let before = sign_in(&provider, &mut visitor, &AINO).await.unwrap();

    let key = json!({
        "name": "newer",
        "providerId": "rsa-generated",
        "providerType": "org.keycloak.keys.KeyProvider",
        "config": { "priority": ["200"], "keySize": ["2048"] },
    });
    keycloak.administer("POST", "/realms/airut/components", &key);

    let after = sign_in(&provider, &mut visitor, &AINO).await.unwrap();
    // A token's first part says by which key it is signed.
    let signed_by = |token: &str| token.split('.').next().map(str::to_owned);
    assert_ne!(signed_by(&after.id_token), signed_by(&before.id_token));
}

#[tokio::test]
async fn whoever_signs_out_is_asked_for_the_password_again() {
    let Some(keycloak) = keycloak() else { return };
    let (provider, mut visitor) = (provider(keycloak), keycloak.visitor());
    let signed_in = sign_in(&provider, &mut visitor, &AINO).await.unwrap();
    let next = provider.begin().await.unwrap().url;
    assert!(visitor.is_signed_in(&next));

    let url = provider.end_session(&signed_in.id_token, AFTER).await.expect("it has such a place");
    let answer = visitor.get(&url);

    assert_eq!(answer.location.as_deref(), Some(AFTER), "it does not ask whether to");
    assert!(!visitor.is_signed_in(&next));
}

#[tokio::test]
async fn a_provider_that_is_another_issuer_is_not_believed() {
    let Some(keycloak) = keycloak() else { return };
    let issuer = format!("{}/", keycloak.issuer("airut"));
    let provider = Provider::new(OidcSettings { issuer, ..settings(keycloak) }, BACK).unwrap();
    assert_eq!(provider.begin().await.unwrap_err(), OidcError::Unusable("it is another issuer"));
}

/// Settings of a provider at this address, whose secret lies in the directory.
fn settings_at(issuer: String, files: &Path, ca: Option<&Pki>) -> OidcSettings {
    let client_secret = files.join("secret");
    std::fs::write(&client_secret, "synthetic").unwrap();
    let ca = ca.map(|pki| pki.ca().certificate());
    OidcSettings { issuer, client_id: "desk".to_owned(), client_secret, ca, claims: ClaimNames::default() }
}

#[tokio::test]
async fn a_provider_that_is_gone_is_said_to_be() {
    let files = tempfile::tempdir().unwrap();
    let issuer = format!("http://127.0.0.1:{}", free_ports(1)[0]);
    let provider = Provider::new(settings_at(issuer, files.path(), None), BACK).unwrap();

    assert!(matches!(provider.begin().await, Err(OidcError::Unreachable(_))));
    assert_eq!(provider.end_session("x.y.z", AFTER).await, None);
}

#[test]
fn settings_that_would_be_unsafe_are_refused() {
    let files = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    for (issuer, ca, faulty) in [
        ("http://id.example/realms/airut", None, "issuer"),
        ("ftp://127.0.0.1/", None, "issuer"),
        ("id.example", Some(&pki), "issuer"),
        ("https://id.example/realms/airut", None, "ca"),
    ] {
        let refused = Provider::new(settings_at(issuer.to_owned(), files.path(), ca), BACK).unwrap_err();
        assert!(matches!(refused, OidcError::Setting { setting, .. } if setting == faulty), "{issuer}: {refused}");
    }
    let mut settings = settings_at("https://id.example".to_owned(), files.path(), Some(&pki));
    std::fs::write(&settings.client_secret, "\n").unwrap();
    let refused = Provider::new(settings.clone(), BACK).unwrap_err();
    assert!(matches!(refused, OidcError::Setting { setting: "client_secret", .. }), "{refused}");
    settings.client_secret = files.path().join("absent");
    let refused = Provider::new(settings, BACK).unwrap_err();
    assert!(matches!(refused, OidcError::Setting { setting: "client_secret", .. }), "{refused}");
}

/// What a stub answers to a path: the head after the status, and the body.
type Page = fn(issuer: &str, path: &str) -> (String, String);

/// Serves a provider's description on a port that was free, over TLS or not, until the test ends. Gives its issuer.
async fn stub(tls: Option<TlsAcceptor>, page: Page) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let issuer = format!("{scheme}://{}", listener.local_addr().unwrap());
    let served = issuer.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who goes away before the answer is no fault of the test's.
            let _ = match &tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => answer(stream, &served, page).await,
                    Err(refused) => Err(refused),
                },
                None => answer(stream, &served, page).await,
            };
        }
    });
    issuer
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, issuer: &str, page: Page) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = page(issuer, head.split(' ').nth(1).unwrap_or_default());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn description(issuer: &str, path: &str) -> (String, String) {
    let body = match path {
        "/.well-known/openid-configuration" => json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }),
        "/keys" => json!({ "keys": [] }),
        _ => json!({}),
    };
    ("200 OK\r\nContent-Type: application/json".to_owned(), body.to_string())
}

#[tokio::test]
async fn a_provider_is_known_by_its_certificate() {
    let files = tempfile::tempdir().unwrap();
    let (pki, other) = (Pki::new(), Pki::new());
    let issuer = stub(Some(server(&pki)), description).await;

    let provider = Provider::new(settings_at(issuer.clone(), files.path(), Some(&pki)), BACK).unwrap();
    let begun = provider.begin().await.unwrap();
    assert!(begun.url.starts_with(&format!("{issuer}/authorize?response_type=code&client_id=desk")), "{}", begun.url);
    assert!(begun.url.contains("&code_challenge_method=S256&"), "{}", begun.url);
    assert!(!format!("{begun:?}").contains(&begun.state));

    let strange = Provider::new(settings_at(issuer, files.path(), Some(&other)), BACK).unwrap();
    assert!(matches!(strange.begin().await, Err(OidcError::Unreachable(_))));
}

/// TLS with a certificate of this authority, and without asking who calls.
fn server(pki: &Pki) -> TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    let files = pki.ca().server();
    let certificate = CertificateDer::pem_file_iter(files.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(files.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(certificate, key).unwrap()).into()
}

#[tokio::test]
async fn answers_that_lead_elsewhere_or_do_not_end_are_not_used() {
    let files = tempfile::tempdir().unwrap();
    let pages: [(Page, &str); 4] = [
        (|_, _| ("302 Found\r\nLocation: /elsewhere".to_owned(), String::new()), "it is no description of a provider"),
        (|_, _| ("200 OK".to_owned(), " ".repeat(300 * 1024)), "it is too large"),
        (
            |_, _| ("200 OK\r\nContent-Type: application/json".to_owned(), "{".to_owned()),
            "it is no description of a provider",
        ),
        (
            |issuer, path| {
                let (head, body) = description(issuer, path);
                (head, body.replace(&format!("{issuer}/keys"), "http://id.example/keys"))
            },
            "it names a place that is neither https nor on this machine",
        ),
    ];
    for (page, why) in pages {
        let issuer = stub(None, page).await;
        let provider = Provider::new(settings_at(issuer, files.path(), None), BACK).unwrap();
        assert_eq!(provider.begin().await.unwrap_err(), OidcError::Unusable(why));
    }
}
