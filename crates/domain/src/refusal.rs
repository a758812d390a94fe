//! Why something was refused: one list of reasons, each with its page in docs/errors/.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A refusal, as it is recorded and answered. It never carries personal data or a caller's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The fields at fault, for [`Reason::InvalidField`] and [`Reason::MissingField`].
    pub violations: Vec<Violation>,
    /// When to try again, where trying again can help.
    pub retry_after: Option<Duration>,
}

/// As many fields at fault are told at once: all of them travel in a call's trailers, which have room for some.
pub const MOST_VIOLATIONS: usize = 32;

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, such as `context.case_id`.
    pub field: Cow<'static, str>,
    /// What is wrong, without repeating the value.
    pub fault: String,
}

impl Refusal {
    /// A refusal with the reason's own retry delay.
    pub fn new(reason: Reason) -> Self {
        Self { reason, violations: Vec::new(), retry_after: reason.retry_after() }
    }

    /// A refusal for fields at fault: missing if all of them are, else invalid. Of more than [`MOST_VIOLATIONS`] the first.
    pub fn fields(mut violations: Vec<Violation>) -> Self {
        violations.truncate(MOST_VIOLATIONS);
        let missing = violations.iter().all(|v| v.fault == "is required");
        let reason = if missing { Reason::MissingField } else { Reason::InvalidField };
        Self { reason, violations, retry_after: None }
    }
}

macro_rules! reasons {
    ($($(#[doc = $text:literal])* $name:ident = $code:literal, $class:ident, retry $retry:expr;)*) => {
        /// Every reason for which a call is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $text])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code in `google.rpc.ErrorInfo.reason`, in records and in docs/errors/.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The kind of error, which decides the gRPC status code.
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// One plain sentence for the caller.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => concat!($($text),*).trim_ascii(),)* }
            }

            /// How long to wait before trying again, where that can help.
            pub const fn retry_after(self) -> Option<Duration> {
                match self { $(Self::$name => { let millis: Option<u64> = $retry; match millis {
                    Some(millis) => Some(Duration::from_millis(millis)),
                    None => None,
                } })* }
            }
        }
    };
}

/// The kinds of error, after gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Unauthenticated,
    PermissionDenied,
    NotFound,
    InvalidArgument,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    DeadlineExceeded,
    Unavailable,
}

reasons! {
    /// The client certificate belongs to no partner of the registry.
    CertificateUnknown = "CERTIFICATE_UNKNOWN", Unauthenticated, retry None;
    /// The client certificate fits more than one partner of the registry.
    CertificateAmbiguous = "CERTIFICATE_AMBIGUOUS", Unauthenticated, retry None;
    /// The partner is suspended.
    PartnerSuspended = "PARTNER_SUSPENDED", Unauthenticated, retry None;
    /// No client certificate was presented.
    CertificateMissing = "CERTIFICATE_MISSING", Unauthenticated, retry None;
    /// The client certificate was not issued by an authority that the exchange trusts.
    CertificateUntrusted = "CERTIFICATE_UNTRUSTED", Unauthenticated, retry None;
    /// The client certificate has expired or is not valid yet.
    CertificateExpired = "CERTIFICATE_EXPIRED", Unauthenticated, retry None;
    /// The client certificate has been revoked.
    CertificateRevoked = "CERTIFICATE_REVOKED", Unauthenticated, retry None;
    /// The exchange's revocation list is out of date, so that nobody can say whether the client certificate was revoked.
    RevocationUnknown = "REVOCATION_UNKNOWN", Unauthenticated, retry None;
    /// The client certificate could not be used.
    CertificateInvalid = "CERTIFICATE_INVALID", Unauthenticated, retry None;
    /// The TLS handshake failed or took too long.
    HandshakeFailed = "HANDSHAKE_FAILED", Unauthenticated, retry None;

    /// No contract grants this purpose under this legal basis.
    NoContract = "NO_CONTRACT", PermissionDenied, retry None;
    /// The contract for this purpose grants nothing of what was asked for.
    NothingGranted = "NOTHING_GRANTED", PermissionDenied, retry None;
    /// The contract changed since the answer was recorded, and no longer grants all of it.
    GrantChanged = "GRANT_CHANGED", PermissionDenied, retry None;
    /// The partner is not the responder of any contract.
    NotAResponder = "NOT_A_RESPONDER", PermissionDenied, retry None;
    /// Only an operator may read or change other partners' definitions.
    NotAnOperator = "NOT_AN_OPERATOR", PermissionDenied, retry None;
    /// Only the other party may do this.
    NotYourPart = "NOT_YOUR_PART", PermissionDenied, retry None;

    /// There is no such thing, or it is not yours.
    NotFound = "NOT_FOUND", NotFound, retry None;

    /// A required field is missing.
    MissingField = "MISSING_FIELD", InvalidArgument, retry None;
    /// A field is not valid.
    InvalidField = "INVALID_FIELD", InvalidArgument, retry None;
    /// The message does not follow the protocol of its stream.
    ProtocolViolation = "PROTOCOL_VIOLATION", InvalidArgument, retry None;
    /// The document's SHA-256 is not the one that its sender gave.
    DigestMismatch = "DIGEST_MISMATCH", InvalidArgument, retry None;
    /// The document's content is not of the media type that its sender gave.
    ContentTypeMismatch = "CONTENT_TYPE_MISMATCH", InvalidArgument, retry None;
    /// The content scan found something in the document.
    ContentRejected = "CONTENT_REJECTED", InvalidArgument, retry None;

    /// The query id was used before with other content or context.
    QueryIdReused = "QUERY_ID_REUSED", AlreadyExists, retry None;

    /// The message id was used before with other content or context.
    MessageIdReused = "MESSAGE_ID_REUSED", AlreadyExists, retry None;
    /// The document id was used before with other content or context.
    DocumentIdReused = "DOCUMENT_ID_REUSED", AlreadyExists, retry None;

    /// The request id or command id was used before with other content or context.
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, retry None;

    /// The delivery's lease has ended, and the message was offered again or has ended otherwise.
    LeaseLost = "LEASE_LOST", FailedPrecondition, retry None;
    /// The delivery was settled before, in another way.
    SettledOtherwise = "SETTLED_OTHERWISE", FailedPrecondition, retry None;
    /// The message is not a dead letter.
    NotADeadLetter = "NOT_A_DEAD_LETTER", FailedPrecondition, retry None;
    /// The information request is not in a state in which this can be done.
    WrongState = "WRONG_STATE", FailedPrecondition, retry None;
    /// The document was erased: it was kept as long as it may be.
    DocumentGone = "DOCUMENT_GONE", FailedPrecondition, retry None;
    /// The query id was answered more than ten minutes ago; ask again with a new one.
    QueryIdSpent = "QUERY_ID_SPENT", FailedPrecondition, retry None;
    /// It is not at the expected version.
    VersionChanged = "VERSION_CHANGED", FailedPrecondition, retry None;

    /// The exchange is handling as many calls as it may.
    TooManyInFlight = "TOO_MANY_IN_FLIGHT", ResourceExhausted, retry Some(1_000);

    /// The partner has sent more than its quota allows at once.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted, retry Some(1_000);

    /// No answer came in time.
    NoAnswerInTime = "NO_ANSWER_IN_TIME", DeadlineExceeded, retry None;

    /// No responder is connected at the moment.
    NoResponder = "NO_RESPONDER", Unavailable, retry Some(2_000);
    /// The responder could not answer.
    ResponderFailed = "RESPONDER_FAILED", Unavailable, retry Some(2_000);
    /// The log can not be written at the moment; nothing was recorded.
    LogUnavailable = "LOG_UNAVAILABLE", Unavailable, retry Some(1_000);
    /// The document is stored and waits for its content scan or for its recipient's mailbox; send it again with the same id to learn more.
    DocumentHeld = "DOCUMENT_HELD", Unavailable, retry Some(2_000);
    /// The object store can not be used at the moment.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, retry Some(1_000);
    /// Whether the call was recorded is not known; retry with the same id.
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unavailable, retry Some(500);
    /// An earlier message of the same ordering key was not accepted; send that one again first.
    PredecessorFailed = "PREDECESSOR_FAILED", Unavailable, retry Some(500);
    /// The gateway's view of the partner registry is too old to disclose anything.
    RegistryStale = "REGISTRY_STALE", Unavailable, retry Some(1_000);
    /// The gateway is starting or shutting down.
    NotServing = "NOT_SERVING", Unavailable, retry Some(500);
}

impl Reason {
    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(reason.sentence().ends_with('.'), "{reason}");
        }
    }
}
