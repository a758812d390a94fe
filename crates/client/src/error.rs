//! What can go wrong with a call, told from the status that tonic gives.
//!
//! A status may come from the exchange, or be made up by tonic when the connection fails; the latter carries its cause.

use std::{error::Error, fmt, io, time::Duration};

use airut_domain::refusal::Reason;
use airut_wire::v1;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// Why a call failed. No variant carries what the call was about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The exchange refused.
    #[error("{0}")]
    Refused(Refused),
    /// No answer came within the caller's deadline. Whether the exchange recorded the call is not known.
    #[error("no answer came within the deadline")]
    DeadlinePassed,
    /// The exchange can't be reached, or the connection was lost. Whether the exchange recorded the call is not known.
    #[error("the exchange can not be reached: {0}")]
    Unreachable(String),
    /// TLS failed: as a rule one side does not accept the other's certificate.
    #[error("the TLS connection failed: {0}")]
    Tls(String),
}

/// What the exchange said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC status code.
    pub code: Code,
    /// The reason, when it is one that this build knows.
    pub reason: Option<Reason>,
    /// The request's id in the exchange's logs; empty when it gave none, as for one item of many.
    pub request_id: String,
    /// What it said, for people.
    pub message: String,
    /// When to try again, if that can help.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.reason.map_or_else(|| format!("{:?}", self.code), |reason| reason.to_string());
        write!(f, "{code}: {}", self.message)?;
        if self.request_id.is_empty() { Ok(()) } else { write!(f, " (request {})", self.request_id) }
    }
}

impl From<v1::Refusal> for Refused {
    /// Reads the refusal of one item of many.
    fn from(refusal: v1::Refusal) -> Self {
        let (reason, retry_after) = airut_wire::refusal_from(&refusal);
        let code = Code::from_i32(refusal.code);
        Self { code, reason, request_id: String::new(), message: refusal.message, retry_after }
    }
}

impl Refused {
    /// Whether the same call or item, with the same id, may succeed if it is tried again.
    pub fn may_pass(&self) -> bool {
        self.code == Code::Unavailable || self.retry_after.is_some()
    }
}

impl CallError {
    /// The exchange's reason, where it gave one that this build knows.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refused) => refused.reason,
            Self::DeadlinePassed | Self::Unreachable(_) | Self::Tls(_) => None,
        }
    }

    /// The request's id in the exchange's logs.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => Some(refused.request_id.as_str()).filter(|id| !id.is_empty()),
            Self::DeadlinePassed | Self::Unreachable(_) | Self::Tls(_) => None,
        }
    }

    /// Whether the same call, with the same id, may succeed if it is tried again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.may_pass(),
            Self::Unreachable(_) => true,
            Self::DeadlinePassed | Self::Tls(_) => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => refused.retry_after,
            Self::DeadlinePassed | Self::Unreachable(_) | Self::Tls(_) => None,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        // Only a status made on this side has a source.
        if let Some(cause) = status.source() {
            return local(cause);
        }
        Self::Refused(Refused {
            code: status.code(),
            reason: airut_wire::reason_of(&status),
            request_id: status.get_details_request_info().map(|info| info.request_id).unwrap_or_default(),
            message: status.message().to_owned(),
            retry_after: airut_wire::retry_after_of(&status),
        })
    }
}

/// Reads the chain of causes of a status that was made on this side.
fn local(cause: &(dyn Error + 'static)) -> CallError {
    let mut innermost = cause.to_string();
    let mut next = Some(cause);
    while let Some(error) = next {
        if error.is::<TimeoutExpired>() {
            return CallError::DeadlinePassed;
        }
        if error.downcast_ref::<io::Error>().is_some_and(is_tls) {
            return CallError::Tls(error.to_string());
        }
        innermost = error.to_string();
        next = error.source();
    }
    CallError::Unreachable(innermost)
}

/// tokio-rustls gives every fault of TLS this kind, and nothing else on the way does. The `rustls::Error` inside is
/// lost when h2 hands the fault on, as it does with the peer's alerts: in TLS 1.3 a client learns of a refusal when it
/// first reads.
fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}
