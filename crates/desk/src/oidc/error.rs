//! What can go wrong, without what it went wrong with.

use std::fmt;

use openidconnect::{
    ClaimsVerificationError, DiscoveryError, RequestTokenError, SignatureVerificationError, StandardErrorResponse,
    core::CoreErrorResponseType,
};

use super::http::Fault;

/// How long a provider's word for a refusal may be to be passed on.
const CODE_BYTES: usize = 64;

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OidcError {
    /// What an operator set can not be used.
    #[error("the identity provider's {setting}: {cause}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why not.
        cause: String,
    },
    /// The provider gives no answer.
    #[error("the identity provider can not be reached: {0}")]
    Unreachable(String),
    /// Its answer is none that it may give.
    #[error("the identity provider's answer can not be used: {0}")]
    Unusable(&'static str),
    /// It refuses, with this code of RFC 6749.
    #[error("the identity provider refuses: {0}")]
    Refused(String),
    /// The browser came back from another sign-in than it was sent to.
    #[error("the state is not that of the sign-in that was begun")]
    StateMismatch,
    /// The identity token is not to be believed.
    #[error("the identity token fails on its {0}")]
    TokenInvalid(Check),
    /// The identity token does not say what it must, or not in a way that is understood.
    #[error("the identity token has no usable claim {0}")]
    MissingClaim(String),
}

/// What of an identity token is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// That there is one.
    Presence,
    /// Who it is from.
    Issuer,
    /// Whom it is for: the desk and nobody else.
    Audience,
    /// Which key it is signed with.
    Key,
    /// That it is signed.
    Signature,
    /// That it was given for this sign-in.
    Nonce,
    /// That it is still good.
    Expiry,
    /// That it is what a token may be.
    Form,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Presence => "presence",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Nonce => "nonce",
            Self::Expiry => "expiry",
            Self::Form => "form",
        })
    }
}

impl From<ClaimsVerificationError> for Check {
    fn from(fault: ClaimsVerificationError) -> Self {
        match fault {
            ClaimsVerificationError::Expired(_) => Self::Expiry,
            ClaimsVerificationError::InvalidAudience(_) => Self::Audience,
            ClaimsVerificationError::InvalidIssuer(_) => Self::Issuer,
            ClaimsVerificationError::InvalidNonce(_) => Self::Nonce,
            ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => Self::Key,
            ClaimsVerificationError::SignatureVerification(_) => Self::Signature,
            ClaimsVerificationError::InvalidAuthContext(_)
            | ClaimsVerificationError::InvalidAuthTime(_)
            | ClaimsVerificationError::InvalidSubject(_)
            | ClaimsVerificationError::Other(_)
            | ClaimsVerificationError::Unsupported(_)
            | _ => Self::Form,
        }
    }
}

impl From<Fault> for OidcError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreachable(cause) => Self::Unreachable(cause),
            Fault::Large => Self::Unusable("it is too large"),
            Fault::Elsewhere => Self::Unusable("it names a place that is neither https nor on this machine"),
        }
    }
}

pub(super) fn of_discovery(fault: DiscoveryError<Fault>) -> OidcError {
    match fault {
        DiscoveryError::Request(fault) => fault.into(),
        DiscoveryError::Validation(_) => OidcError::Unusable("it is another issuer"),
        DiscoveryError::Parse(_)
        | DiscoveryError::Response(..)
        | DiscoveryError::UrlParse(_)
        | DiscoveryError::Other(_)
        | _ => OidcError::Unusable("it is no description of a provider"),
    }
}

pub(super) fn of_exchange(fault: RequestTokenError<Fault, StandardErrorResponse<CoreErrorResponseType>>) -> OidcError {
    match fault {
        RequestTokenError::Request(fault) => fault.into(),
        RequestTokenError::ServerResponse(refusal) => OidcError::Refused(code(refusal.error())),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => OidcError::Unusable("it holds no tokens"),
    }
}

/// The provider's word, if it is one that a standard could know: the description beside it may say anything.
fn code(refusal: &CoreErrorResponseType) -> String {
    let code = refusal.to_string();
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if code.len() <= CODE_BYTES && code.bytes().all(is_word) { code } else { "unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_as_a_word_or_not_at_all() {
        assert_eq!(code(&CoreErrorResponseType::InvalidClient), "invalid_client");
        assert_eq!(code(&CoreErrorResponseType::Extension("interaction_required".to_owned())), "interaction_required");
        assert_eq!(code(&CoreErrorResponseType::Extension("Aino Esimerkki is locked".to_owned())), "unknown");
        assert_eq!(code(&CoreErrorResponseType::Extension("a".repeat(65))), "unknown");
    }
}
