//! `[desk]`: where it listens, whose officials sit at it, and with whom they sign in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use airut_desk::{Limits, OfficeSettings, OidcSettings, Settings, SignIn, oidc::ClaimNames};
use serde::Deserialize;

use super::faults::{address, readable, required};

/// Bytes of a mebibyte.
const MIB: u64 = 1024 * 1024;

/// The largest document that the exchange takes, in mebibytes.
const MOST_MIB: u64 = 1024;

/// `[desk]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDesk {
    listen: String,
    public_url: String,
    certificate: PathBuf,
    key: PathBuf,
    server: Option<String>,
    ca: PathBuf,
    receipt_keys: PathBuf,
    sealing_key: PathBuf,
    organisations: BTreeMap<String, RawOrganisation>,
    sign_in: Option<RawSignIn>,
    idle_minutes: u64,
    session_hours: u64,
    largest_document_mib: u64,
    keep_handled_days: u64,
    keep_access_log_years: u64,
}

impl Default for RawDesk {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            public_url: String::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            server: None,
            ca: PathBuf::new(),
            receipt_keys: PathBuf::new(),
            sealing_key: PathBuf::new(),
            organisations: BTreeMap::new(),
            sign_in: None,
            idle_minutes: 30,
            session_hours: 10,
            largest_document_mib: 100,
            keep_handled_days: 90,
            // As long as usage logs of health and social care client data are kept.
            keep_access_log_years: 12,
        }
    }
}

/// `[desk.sign_in]`. Each of its settings is read by itself first, so that every fault is told.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSignIn {
    issuer: String,
    client_id: String,
    client_secret: PathBuf,
    ca: Option<PathBuf>,
    claims: ClaimNames,
}

/// `[desk.organisations.ID]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOrganisation {
    certificate: PathBuf,
    key: PathBuf,
    collect: BTreeSet<String>,
}

/// Checks it. `own_gateway` says whether the exchange may be this process.
pub(super) fn check(raw: RawDesk, data: &Path, own_gateway: bool, faults: &mut Vec<String>) -> Settings {
    let listen = address(faults, "desk.listen", &raw.listen);
    let has_tls = !raw.certificate.as_os_str().is_empty() || !raw.key.as_os_str().is_empty();
    if has_tls {
        readable(faults, "desk.certificate", &raw.certificate);
        readable(faults, "desk.key", &raw.key);
    }
    public_url(&raw, faults);
    if raw.server.is_none() && !own_gateway {
        faults.push("desk.server: is required where the gateway is another process".to_owned());
    }
    readable(faults, "desk.ca", &raw.ca);
    readable(faults, "desk.receipt_keys", &raw.receipt_keys);
    required(faults, "desk.sealing_key", &raw.sealing_key);
    if raw.organisations.is_empty() {
        faults.push("desk.organisations: at least one is required, such as [desk.organisations.pirkanmaa]".to_owned());
    }
    let offices = raw.organisations.into_iter().map(|(id, organisation)| {
        readable(faults, &format!("desk.organisations.{id}.certificate"), &organisation.certificate);
        readable(faults, &format!("desk.organisations.{id}.key"), &organisation.key);
        let server = raw.server.clone().unwrap_or_default();
        let RawOrganisation { certificate, key, collect } = organisation;
        let exchange = airut_client::Settings::new(server, &raw.ca, certificate, key);
        OfficeSettings { id, exchange, receipt_keys: raw.receipt_keys.clone(), collect }
    });
    let offices = offices.collect();
    let sign_in = sign_in(raw.sign_in, faults);
    let mut within = |name: &str, value: u64, from: u64, to: u64| {
        if !(from..=to).contains(&value) {
            faults.push(format!("desk.{name}: must be {from} to {to}, and is {value}"));
        }
        value.clamp(from, to)
    };
    let idle = Duration::from_secs(60 * within("idle_minutes", raw.idle_minutes, 5, 240));
    let absolute = Duration::from_secs(3600 * within("session_hours", raw.session_hours, 1, 24));
    let largest_document = MIB * within("largest_document_mib", raw.largest_document_mib, 1, MOST_MIB);
    let keep_handled = days(within("keep_handled_days", raw.keep_handled_days, 1, 3650));
    let keep_access_log = days(366 * within("keep_access_log_years", raw.keep_access_log_years, 1, 50));
    Settings {
        listen,
        tls: has_tls.then_some((raw.certificate, raw.key)),
        public_url: (!raw.public_url.is_empty()).then_some(raw.public_url),
        dir: data.join("desk"),
        key: raw.sealing_key,
        offices,
        sign_in,
        limits: Limits { idle, absolute, ..Limits::default() },
        largest_document,
        keep_handled,
        keep_access_log,
    }
}

/// The desk that `airut dev` has: officials are chosen, and everything lies in the data directory.
pub(crate) fn of_dev(
    listen: SocketAddr,
    dir: &Path,
    offices: Vec<OfficeSettings>,
    officials: Vec<(String, Vec<airut_desk::Official>)>,
) -> Settings {
    let RawDesk { idle_minutes, session_hours, largest_document_mib, .. } = RawDesk::default();
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let limits = Limits {
        idle: hours(1) * u32::try_from(idle_minutes).unwrap_or(30) / 60,
        absolute: hours(session_hours),
        ..Limits::default()
    };
    Settings {
        listen,
        tls: None,
        public_url: None,
        dir: dir.join("desk"),
        key: dir.join("keys/desk.key"),
        offices,
        sign_in: SignIn::Choose(officials),
        limits,
        largest_document: MIB * largest_document_mib,
        keep_handled: days(90),
        keep_access_log: days(366),
    }
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// Browsers keep a session's cookie for an address with TLS alone.
fn public_url(raw: &RawDesk, faults: &mut Vec<String>) {
    let url = &raw.public_url;
    let host = url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        let fault = "must be https:// and a host, with a port where it is not 443, and nothing behind it";
        faults.push(format!("desk.public_url: {fault}, and is {url:?}"));
    }
}

fn sign_in(raw: Option<RawSignIn>, faults: &mut Vec<String>) -> SignIn {
    match raw {
        Some(RawSignIn { issuer, client_id, client_secret, ca, claims }) => {
            for (name, value) in [("issuer", &issuer), ("client_id", &client_id)] {
                if value.is_empty() {
                    faults.push(format!("desk.sign_in.{name}: is required"));
                }
            }
            readable(faults, "desk.sign_in.client_secret", &client_secret);
            ca.iter().for_each(|file| readable(faults, "desk.sign_in.ca", file));
            SignIn::Provider(OidcSettings { issuer, client_id, client_secret, ca, claims })
        }
        None => {
            faults.push(
                "desk.sign_in: an OpenID Connect provider is required: issuer, client_id, client_secret".to_owned(),
            );
            // Nobody: with a fault nothing is started.
            SignIn::Choose(Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Role, load};

    fn set(name: &str, value: &str) -> (String, String) {
        (format!("AIRUT__DESK__{name}"), value.to_owned())
    }

    #[test]
    fn every_fault_of_a_desk_is_named() {
        let faulty = [
            ("AIRUT__DATA".to_owned(), "/nowhere".to_owned()),
            set("PUBLIC_URL", "http://desk.example/path"),
            set("IDLE_MINUTES", "1"),
            set("KEY", "/nowhere/key.pem"),
            set("ORGANISATIONS__KELA__CERTIFICATE", "/nowhere/kela.crt"),
        ];
        let faults = load(None, faulty.into_iter(), &[Role::Desk]).expect_err("full of faults").to_string();
        for name in [
            "desk.public_url: must be https://",
            "desk.certificate: a file is required",
            "desk.key: /nowhere/key.pem: there is no such file",
            "desk.server: is required",
            "desk.ca:",
            "desk.receipt_keys:",
            "desk.sealing_key:",
            "desk.organisations.kela.certificate: /nowhere/kela.crt",
            "desk.organisations.kela.key:",
            "desk.sign_in: an OpenID Connect provider is required",
            "desk.idle_minutes: must be 5 to 240",
        ] {
            assert!(faults.contains(name), "{name} is missing in\n{faults}");
        }
    }

    #[test]
    fn officials_can_not_be_chosen_by_a_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").expect("a file");
            path.display().to_string()
        };
        let (ca, secret) = (file("ca.crt"), file("secret"));
        let good = vec![
            ("AIRUT__DATA".to_owned(), dir.path().display().to_string()),
            set("PUBLIC_URL", "https://desk.example"),
            set("SERVER", "airut.example:7443"),
            set("CA", &ca),
            set("RECEIPT_KEYS", &ca),
            set("SEALING_KEY", &secret),
            set("ORGANISATIONS__PIRKANMAA__CERTIFICATE", &ca),
            set("ORGANISATIONS__PIRKANMAA__KEY", &ca),
            set("ORGANISATIONS__PIRKANMAA__COLLECT", "['social-work-need']"),
            set(
                "SIGN_IN",
                &format!("{{ issuer = 'https://sso.example', client_id = 'desk', client_secret = '{secret}' }}"),
            ),
        ];
        let config = load(None, good.clone().into_iter(), &[Role::Desk]).expect("no faults");
        let desk = config.desk.expect("a desk");
        assert!(matches!(desk.sign_in, airut_desk::SignIn::Provider(_)));
        assert!(desk.offices[0].collect.contains("social-work-need"));
        assert_eq!(desk.offices[0].exchange.server, "airut.example:7443");
        let without = good.into_iter().filter(|(name, _)| !name.contains("SIGN_IN"));
        assert!(load(None, without, &[Role::Desk]).is_err());
    }
}
