//! Signing in at the organisation's own identity provider, by OpenID Connect: the authorisation code flow with PKCE.
//!
//! [`Provider::begin`] says where the browser is to be sent, and what to keep meanwhile; [`Provider::finish`] exchanges what
//! the browser comes back with for who somebody is. What the provider says of itself is fetched when it is first needed,
//! again after an hour, and when it signs with a key that was not known.
//!
//! What it must never do: believe an identity token that it has not verified, or let a code, a token, a secret or anything
//! that a token says into an error or a log.

mod claims;
mod error;
mod http;

pub use claims::ClaimNames;
pub use error::{Check, OidcError};

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use airut_domain::time::Timestamp;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use openidconnect::{
    AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IdToken, IdTokenClaims, IdTokenFields, IssuerUrl, LogoutRequest, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl, ProviderMetadataWithLogout, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreResponseType, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::{claims::Others, http::Http};

/// How long what a provider said of itself is believed.
const BELIEVED: Duration = Duration::from_secs(60 * 60);
/// How long a client's secret may be, in bytes.
const SECRET_BYTES: usize = 4096;

/// How a token may be signed: with a key that the provider alone has. One signed with the client's secret could be made
/// by whoever reads that.
const SIGNATURES: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
type Description = ProviderMetadataWithLogout;
type Token = IdToken<Others, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Claims = IdTokenClaims<Others, CoreGenderClaim>;
type Fields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Client = openidconnect::Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Where people sign in, as an operator sets it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// Who the provider says that it is: `https://…`, or `http://…` on this machine.
    pub issuer: String,
    /// What it knows the desk as.
    pub client_id: String,
    /// The file of the secret that the desk shows it; read at the start.
    pub client_secret: PathBuf,
    /// The authorities of its certificate, PEM. Required for `https`: no other authority is trusted.
    pub ca: Option<PathBuf>,
    /// Which of its claims say what.
    #[serde(default)]
    pub claims: ClaimNames,
}

/// The identity provider of the desk's organisation.
pub struct Provider {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: ClientSecret,
    redirect: RedirectUrl,
    claims: ClaimNames,
    http: Http,
    clock: Clock,
    described: Mutex<Option<Described>>,
}

#[derive(Clone)]
struct Described {
    description: Arc<Description>,
    at: Instant,
}

/// A sign-in under way. Whoever began it keeps it, out of the browser's sight but for the URL, until the browser comes back
/// with its state, and then hands it in: it serves once.
#[derive(Serialize, Deserialize)]
pub struct Begun {
    /// Where the browser is to be sent.
    pub url: String,
    /// What it will come back with, beside the code.
    pub state: String,
    nonce: String,
    verifier: String,
}

/// Who somebody is, as their organisation's provider says.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The provider's own id for them, which never changes.
    pub subject: String,
    /// First and last name.
    pub name: String,
    /// The organisation that they work for.
    pub organisation: String,
    /// What they may do.
    pub roles: Vec<String>,
    /// What they are employed as. Empty if the provider does not say.
    pub title: String,
    /// Where in the organisation. Empty if the provider does not say.
    pub unit: String,
    /// At work. Empty if the provider does not say.
    pub telephone: String,
    /// The token itself, for [`Provider::end_session`] and nothing else.
    pub id_token: String,
    /// The provider's id for this session of theirs, if it gives them ids.
    pub session_id: Option<String>,
}

impl Provider {
    /// The provider of these settings, which sends people back to this URL. Reads the files, and asks nothing of the network.
    ///
    /// # Errors
    /// [`OidcError::Setting`].
    pub fn new(settings: OidcSettings, redirect_url: &str) -> Result<Self, OidcError> {
        let fault = |setting, cause: String| OidcError::Setting { setting, cause };
        let issuer = IssuerUrl::new(settings.issuer).map_err(|cause| fault("issuer", cause.to_string()))?;
        match (issuer.url().scheme(), &settings.ca) {
            ("https", Some(_)) => {}
            ("https", None) => return Err(fault("ca", "required for https".to_owned())),
            ("http", _) if http::is_here(issuer.url().host_str()) => {}
            _ => return Err(fault("issuer", "neither https nor on this machine".to_owned())),
        }
        let secret = fs::read_to_string(&settings.client_secret);
        let secret = secret.map_err(|cause| fault("client_secret", cause.to_string()))?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() || secret.len() > SECRET_BYTES {
            return Err(fault("client_secret", format!("neither empty nor longer than {SECRET_BYTES} bytes")));
        }
        let redirect = RedirectUrl::new(redirect_url.to_owned());
        Ok(Self {
            issuer,
            client_id: ClientId::new(settings.client_id),
            client_secret: ClientSecret::new(secret.to_owned()),
            redirect: redirect.map_err(|cause| fault("redirect URL", cause.to_string()))?,
            claims: settings.claims,
            http: Http::new(settings.ca.as_deref())?,
            clock: Arc::new(system_time),
            described: Mutex::default(),
        })
    }

    /// Judges by this clock when a token has expired, instead of by the system's.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Begins a sign-in. May be dropped at any time: only the provider's description is kept.
    ///
    /// # Errors
    /// [`OidcError::Unreachable`] or [`OidcError::Unusable`], within half a minute.
    pub async fn begin(&self) -> Result<Begun, OidcError> {
        let client = self.client(&*self.description().await?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let request = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        let (url, state, nonce) =
            request.add_scope(Scope::new("profile".to_owned())).set_pkce_challenge(challenge).url();
        Ok(Begun {
            url: url.into(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        })
    }

    /// Finishes the sign-in that the browser comes back from with this code and this state. Not repeated here: a code serves
    /// once, and whether one was spent is not known after a failure. So the person signs in again, as after a drop.
    ///
    /// # Errors
    /// Any but [`OidcError::Setting`], within a minute.
    pub async fn finish(&self, begun: Begun, code: &str, state: &str) -> Result<SignedIn, OidcError> {
        // Somebody else's code would otherwise sign this browser in as them.
        verify_slices_are_equal(begun.state.as_bytes(), state.as_bytes()).map_err(|_| OidcError::StateMismatch)?;
        let client = self.client(&*self.description().await?);
        let request = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let request = request.map_err(|_| OidcError::Unusable("its description has no token endpoint"))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(begun.verifier));
        let tokens = request.request_async(&self.http).await.map_err(error::of_exchange)?;
        let token = tokens.id_token().ok_or(OidcError::TokenInvalid(Check::Presence))?;
        let nonce = Nonce::new(begun.nonce);
        let claims = match self.verify(&client, token, &nonce) {
            // It may have begun to sign with a new key.
            Err(OidcError::TokenInvalid(Check::Key)) => {
                let client = self.client(&*self.discover().await?);
                self.verify(&client, token, &nonce)?
            }
            verified => verified?,
        };
        claims::signed_in(claims, token.to_string(), &self.claims)
    }

    /// Where the browser is to be sent for the session at the provider to end as well, after which it is sent to `back`.
    /// Nothing if the provider has no such place, or can not be asked within half a minute.
    pub async fn end_session(&self, id_token: &str, back: &str) -> Option<String> {
        let description = self.description().await.ok()?;
        let endpoint = description.additional_metadata().end_session_endpoint.clone()?;
        let token: Token = id_token.parse().ok()?;
        let request = LogoutRequest::from(endpoint)
            .set_id_token_hint(&token)
            .set_client_id(self.client_id.clone())
            .set_post_logout_redirect_uri(PostLogoutRedirectUrl::new(back.to_owned()).ok()?);
        Some(request.http_get_url().into())
    }

    fn client(&self, description: &Description) -> Client {
        let (id, secret) = (self.client_id.clone(), self.client_secret.clone());
        Client::from_provider_metadata(description.clone(), id, Some(secret)).set_redirect_uri(self.redirect.clone())
    }

    fn verify<'t>(&self, client: &Client, token: &'t Token, nonce: &Nonce) -> Result<&'t Claims, OidcError> {
        let clock = Arc::clone(&self.clock);
        let now = move || {
            let millis = u64::try_from(clock().as_millis()).unwrap_or_default();
            (UNIX_EPOCH + Duration::from_millis(millis)).into()
        };
        let verifier = client.id_token_verifier().set_allowed_algs(SIGNATURES).set_time_fn(now);
        token.claims(&verifier, nonce).map_err(|fault| OidcError::TokenInvalid(Check::from(fault)))
    }

    /// What the provider says of itself, which is at most an hour old.
    async fn description(&self) -> Result<Arc<Description>, OidcError> {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match described {
            Some(described) if described.at.elapsed() < BELIEVED => Ok(described.description),
            Some(_) | None => self.discover().await,
        }
    }

    /// Asks it. Several may at once: waiting for one that asks would add up while it does not answer.
    async fn discover(&self) -> Result<Arc<Description>, OidcError> {
        let description = Description::discover_async(self.issuer.clone(), &self.http).await;
        let description = Arc::new(description.map_err(error::of_discovery)?);
        let described = Described { description: Arc::clone(&description), at: Instant::now() };
        *self.described.lock().unwrap_or_else(PoisonError::into_inner) = Some(described);
        Ok(description)
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.issuer.as_str()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn").field("organisation", &self.organisation).finish_non_exhaustive()
    }
}
