//! What a desk needs to be told.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use airut_domain::time::Timestamp;

use crate::{office::OfficeSettings, official::Official, session::Limits};

/// A clock, passed in.
#[derive(Clone)]
pub struct Now(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Now {
    /// This clock.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn get(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

/// A desk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The certificate and key (PEM files) that it serves TLS with. Without them it serves plain HTTP, to a TLS proxy before it or on this machine.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The address that browsers have it under, such as `https://desk.example`, without a slash at the end; `http://` and where it listens when absent.
    pub public_url: Option<String>,
    /// The directory of its files.
    pub dir: PathBuf,
    /// The file of its sealing key.
    pub key: PathBuf,
    /// The organisations whose officials sit at it.
    pub offices: Vec<OfficeSettings>,
    /// How they sign in.
    pub sign_in: SignIn,
    /// How long sessions last.
    pub limits: Limits,
    /// Documents may have so many bytes.
    pub largest_document: u64,
    /// What was dealt with is kept for so long.
    pub keep_handled: Duration,
    /// The access log is kept for so long.
    pub keep_access_log: Duration,
}

/// How officials sign in.
#[derive(Clone, Debug)]
pub enum SignIn {
    /// With an OpenID Connect provider.
    Provider(crate::oidc::OidcSettings),
    /// By choosing who to be, of these: organisations by name, each with its officials. For `airut dev` alone: no configuration says this.
    Choose(Vec<(String, Vec<Official>)>),
}
