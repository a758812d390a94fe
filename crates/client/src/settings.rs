//! What a partner has to say to be connected.

use std::{path::PathBuf, time::Duration};

/// Where the exchange is, and who calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The exchange: `127.0.0.1:7443`, `airut.example` or `https://airut.example:7443`. Without a port, 7443.
    pub server: String,
    /// The name that the exchange's certificate must carry; none means the host in `server`.
    pub server_name: Option<String>,
    /// PEM file of the authorities that the exchange's certificate is checked against.
    pub ca: PathBuf,
    /// PEM file of the partner's certificate chain, its own certificate first.
    pub certificate: PathBuf,
    /// PEM file of the certificate's private key.
    pub key: PathBuf,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

impl Settings {
    /// The exchange at `server`, whose authority is `ca`, called with this certificate and key, with the usual
    /// timeouts.
    pub fn new(
        server: impl Into<String>,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            server: server.into(),
            server_name: None,
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
            timeouts: Timeouts::default(),
        }
    }
}

/// How long to wait before a connection counts as failed or lost.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection and its TLS handshake together.
    pub connect: Duration,
    /// After this long without traffic the peer is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long it may take to give one.
    pub keepalive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(15),
            keepalive: Duration::from_secs(10),
        }
    }
}
