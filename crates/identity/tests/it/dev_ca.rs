//! The development CA's files.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use airut_domain::time::Timestamp;
use airut_identity::{
    dev_ca::{DevCa, Fault, ISSUER, Leaf},
    presented,
};
use airut_testkit::now;
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, pem::PemObject},
    server::ParsedCertificate,
};

const DAY: Duration = Duration::from_secs(86_400);

fn open(dir: &Path, at: Timestamp) -> DevCa {
    DevCa::open_or_create(dir, at).unwrap()
}

#[test]
fn certificates_name_the_fixed_issuer_and_their_partner() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let issued = open(dir.path(), now()).issue_as("x", &Leaf::of(&"pirkanmaa".parse().unwrap(), now())).unwrap();
        let presented = presented(&CertificateDer::from_pem_file(issued.certificate).unwrap()).unwrap();
        assert_eq!(presented.issuer, ISSUER);
        let names = format!("{:?}", presented.names);
        assert!(names.contains(r#"Uri("urn:airut:partner:pirkanmaa")"#), "{names}");
        assert!(names.contains(r#"OrganizationIdentifier("AI:FI-pirkanmaa")"#), "{names}");
    }
}

#[test]
fn what_is_valid_is_used_again_and_what_ends_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let partner = "pirkanmaa".parse().unwrap();
    let files = ["ca.crt", "ca.key", "server.crt", "server.key", "crl.pem", "pirkanmaa.crt", "pirkanmaa.key"];
    let contents = || files.map(|file| fs::read(dir.path().join(file)).unwrap());
    let at = |moment| {
        open(dir.path(), moment).issue(&partner, moment).unwrap();
        contents()
    };

    let first = at(now());
    assert_eq!(at(now() + DAY * 363), first);
    let later = at(now() + DAY * 364 + DAY / 2);
    assert!(first.iter().zip(&later).all(|(before, after)| before != after), "a new CA makes everything new");
    fs::write(dir.path().join("server.key"), "garbage").unwrap();
    assert_ne!(at(now() + DAY * 366)[2..4], later[2..4]);
}

#[test]
fn a_revoked_certificate_stays_revoked_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let partner = "pirkanmaa".parse().unwrap();
    let issued = open(dir.path(), now()).issue(&partner, now()).unwrap();
    let before = fs::read(&issued.certificate).unwrap();
    for _ in 0..3 {
        open(dir.path(), now()).revoke(&issued.certificate, now()).unwrap();
    }
    open(dir.path(), now()).issue(&partner, now()).unwrap();
    assert_ne!(fs::read(&issued.certificate).unwrap(), before);
}

#[test]
fn keys_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let issued = open(dir.path(), now()).issue(&"pirkanmaa".parse().unwrap(), now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for key in [&issued.key, &dir.path().join("ca.key"), &dir.path().join("server.key")] {
        assert_eq!(mode(key), 0o600);
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 7, "nothing is left of what was written");
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = open(dir.path(), now());
    for name in ["../x", "a/b", "ca", "server", "crl", ".x", ""] {
        assert!(matches!(ca.issue_as(name, &Leaf::nameless(now())), Err(Fault::Name(_))), "{name:?}");
    }
}

#[test]
fn only_its_own_certificates_can_be_revoked() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let foreign = open(other.path(), now()).server().certificate;
    assert!(matches!(open(one.path(), now()).revoke(&foreign, now()), Err(Fault::Malformed { .. })));
}

#[test]
fn a_server_has_the_names_that_it_was_given_and_those_of_its_machine() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["gateway-1", "gateway-1.airut.example"].map(str::to_owned);
    let ca = open(dir.path(), now());
    let contents = || fs::read(ca.server().certificate).unwrap();
    let unnamed = contents();
    ca.name_server(&[], now()).unwrap();
    assert_eq!(contents(), unnamed, "nothing was asked for");

    ca.name_server(&names, now()).unwrap();
    let named = contents();
    let der = CertificateDer::from_pem_slice(&named).unwrap();
    let certificate = ParsedCertificate::try_from(&der).unwrap();
    for name in names.iter().map(String::as_str).chain(["localhost", "127.0.0.1"]) {
        verify_server_name(&certificate, &name.try_into().unwrap()).unwrap();
    }
    // What is there and good is used again, whoever opens the CA.
    let again = open(dir.path(), now());
    again.name_server(&names[..1], now()).unwrap();
    for wrong in ["", "gate way", "-"] {
        assert!(matches!(again.name_server(&[wrong.to_owned()], now()), Err(Fault::ServerName(_))), "{wrong:?}");
    }
    assert_eq!(contents(), named);
}
