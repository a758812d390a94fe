//! `airut partner`: the registry of partners, from the command line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use airut_client::Client;
use airut_domain::{
    delivery::{Direction, Quota, Right},
    id::{MessageType, PartnerId},
    partner::{CertificateMatch, CertificateName, Contract, Fingerprint, Partner, State},
};
use airut_wire::v1;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use crate::{
    caller::{Caller, refused},
    partners,
    terminal::{Exit, Output, fault, print},
};

/// As many partners are asked for at once.
const PAGE: i32 = 1000;

/// What can be done with the registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show one's own definition, with what one may ask, and with whom one may exchange anything.
    #[command(name = "self")]
    Own(Caller),
    /// List all partners. Operators only.
    List(Caller),
    /// Put a definition in force, written as in deploy/exchange/partners. Operators only.
    Apply(Apply),
    /// Let a partner call no more; `apply` lets it in again. Operators only.
    Suspend(Suspend),
    /// Let a certificate identify nobody any more, for good. Operators only.
    Revoke(Revoke),
    /// Let oneself be known by one's next certificate too.
    RegisterCertificate(RegisterCertificate),
}

/// Options of `airut partner apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    caller: Caller,
    /// The definition.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The version that it was made from, 0 for a new partner: when another is in force meanwhile nothing changes.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    expected_version: Option<i32>,
}

/// Options of `airut partner suspend`.
#[derive(Debug, Args)]
pub(crate) struct Suspend {
    #[command(flatten)]
    caller: Caller,
    /// Whom.
    id: PartnerId,
}

/// Options of `airut partner revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    caller: Caller,
    /// Whose certificate.
    id: PartnerId,
    /// The certificate, PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "fingerprint", conflicts_with = "fingerprint")]
    certificate: Option<PathBuf>,
    /// Its SHA-256 fingerprint, as `openssl x509 -noout -fingerprint -sha256` prints it.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
}

/// Options of `airut partner register-certificate`.
#[derive(Debug, Args)]
pub(crate) struct RegisterCertificate {
    #[command(flatten)]
    caller: Caller,
    /// The next certificate, PEM, its intermediates after it. Only certificates are read and sent, never a key.
    file: PathBuf,
}

type Outcome<T> = Result<T, (Exit, anyhow::Error)>;

pub(crate) async fn run(command: &Command) -> Outcome<()> {
    let (caller, partner) = match command {
        Command::Own(caller) => {
            return told_own(&own(caller).await?, caller.output).and_then(print).map_err(fault);
        }
        Command::List(caller) => {
            return told_all(&list(caller).await?, caller.output).and_then(print).map_err(fault);
        }
        Command::Apply(options) => (&options.caller, apply(options).await?),
        Command::Suspend(options) => (&options.caller, suspend(options).await?),
        Command::Revoke(options) => (&options.caller, revoke(options).await?),
        Command::RegisterCertificate(options) => (&options.caller, register(options).await?),
    };
    told(&partner, caller.output).and_then(print).map_err(fault)
}

async fn own(caller: &Caller) -> Outcome<v1::GetSelfResponse> {
    caller.connect().await?.own_entry(caller.deadline()).await.map_err(|cause| refused(&cause))
}

async fn list(caller: &Caller) -> Outcome<Vec<v1::Partner>> {
    let client: Client = caller.connect().await?;
    let mut request = v1::ListRequest { page_size: PAGE, page_token: String::new() };
    let mut partners = Vec::new();
    loop {
        let page = client.list_partners(&request, caller.deadline()).await.map_err(|cause| refused(&cause))?;
        partners.extend(page.partners);
        if page.next_page_token.is_empty() {
            return Ok(partners);
        }
        request.page_token = page.next_page_token;
    }
}

async fn apply(options: &Apply) -> Outcome<v1::Partner> {
    let partner = partners::read_one(&options.file)
        .map_err(|faults| (Exit::Usage, anyhow!("the definition is at fault:\n  {}", faults.join("\n  "))))?;
    let partner = Some(airut_wire::partner(&partner, 0));
    let request = v1::ApplyRequest { partner, expected_version: options.expected_version };
    let client = options.caller.connect().await?;
    client.apply_partner(&request, options.caller.deadline()).await.map_err(|cause| refused(&cause))
}

async fn suspend(options: &Suspend) -> Outcome<v1::Partner> {
    let client = options.caller.connect().await?;
    client.suspend_partner(options.id.as_str(), options.caller.deadline()).await.map_err(|cause| refused(&cause))
}

async fn revoke(options: &Revoke) -> Outcome<v1::Partner> {
    let fingerprint = match (&options.fingerprint, &options.certificate) {
        (Some(fingerprint), _) => Ok(*fingerprint),
        (None, Some(file)) => fingerprint_of(file),
        (None, None) => Err(anyhow!("--certificate or --fingerprint is required")),
    };
    let fingerprint = fingerprint.map_err(|cause| (Exit::Usage, cause))?.to_string();
    let client = options.caller.connect().await?;
    let revoked = client.revoke_certificate(options.id.as_str(), &fingerprint, options.caller.deadline());
    revoked.await.map_err(|cause| refused(&cause))
}

async fn register(options: &RegisterCertificate) -> Outcome<v1::Partner> {
    let certificate = certificates(&options.file).map_err(|cause| (Exit::Usage, cause))?;
    let client = options.caller.connect().await?;
    client.register_certificate(&certificate, options.caller.deadline()).await.map_err(|cause| refused(&cause))
}

/// The fingerprint of a file's first certificate.
fn fingerprint_of(file: &Path) -> anyhow::Result<Fingerprint> {
    let certificate = CertificateDer::from_pem_file(file)
        .map_err(|_| anyhow!("{}: holds no certificate in PEM form", file.display()))?;
    Ok(Fingerprint::of(&certificate))
}

/// The certificates of a PEM file, and nothing else of it: a key may lie beside them.
fn certificates(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let (mut certificates, mut inside) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        inside |= line == "-----BEGIN CERTIFICATE-----";
        if inside {
            certificates.push_str(line);
            certificates.push('\n');
        }
        inside &= line != "-----END CERTIFICATE-----";
    }
    if certificates.is_empty() || inside {
        bail!("{}: holds no certificate in PEM form", file.display());
    }
    Ok(certificates)
}

fn told(message: &v1::Partner, output: Output) -> anyhow::Result<String> {
    let partner = read(message)?;
    Ok(match output {
        Output::Json => json(&partner, message.version).to_string(),
        Output::Text => text(&partner, message.version),
    })
}

fn told_own(message: &v1::GetSelfResponse, output: Output) -> anyhow::Result<String> {
    let definition = message.partner.as_ref().context("the exchange told no definition")?;
    let partner = read(definition)?;
    Ok(match output {
        Output::Json => {
            let mut own = json(&partner, definition.version);
            own["counterparts"] = message.counterparts.iter().map(counterpart_json).collect();
            own.to_string()
        }
        Output::Text => {
            let mut own = text(&partner, definition.version);
            if !message.counterparts.is_empty() {
                own.push_str(&format!("\n\nExchanges with\n{}", counterparts(&message.counterparts)));
            }
            own
        }
    })
}

fn told_all(messages: &[v1::Partner], output: Output) -> anyhow::Result<String> {
    let partners: Vec<(Partner, i32)> =
        messages.iter().map(|message| Ok((read(message)?, message.version))).collect::<anyhow::Result<_>>()?;
    Ok(match output {
        Output::Json => {
            let partners: Vec<Value> = partners.iter().map(|(partner, version)| json(partner, *version)).collect();
            json!({"partners": partners}).to_string()
        }
        Output::Text => list_table(&partners),
    })
}

fn read(message: &v1::Partner) -> anyhow::Result<Partner> {
    airut_wire::partner_from(Some(message)).map_err(|_| anyhow!("the exchange told a definition that can not be read"))
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

fn list_table(partners: &[(Partner, i32)]) -> String {
    let mut table =
        table(&["ID", "NAME", "KIND", "STATE", "VERSION", "CERTIFICATES", "REVOKED", "CONTRACTS", "SENDS", "RECEIVES"]);
    for (partner, version) in partners {
        table.add_row([
            partner.id.to_string(),
            partner.name.clone(),
            partner.kind.to_string(),
            state(partner.state).to_owned(),
            version.to_string(),
            partner.certificates.len().to_string(),
            partner.revoked.len().to_string(),
            partner.contracts.len().to_string(),
            types(partner, Direction::Send),
            types(partner, Direction::Receive),
        ]);
    }
    table.trim_fmt()
}

/// How many message types a partner may exchange in this direction; `partner self` names them.
fn types(partner: &Partner, direction: Direction) -> String {
    let rights = partner.deliveries.iter().filter(|right| right.direction == direction);
    let types: BTreeSet<&MessageType> = rights.flat_map(|right| &right.message_types).collect();
    match types.len() {
        0 => "-".to_owned(),
        1 => "1 type".to_owned(),
        count => format!("{count} types"),
    }
}

/// A definition for people: who it is, what it is known by, what it may ask.
fn text(partner: &Partner, version: i32) -> String {
    let Partner { id, name, kind: of, state: now, revoked, certificates, contracts, deliveries, quota } = partner;
    let mut text = format!("{id}  {name}\n{}, {}, version {version}\n\nKnown by", of, state(*now));
    for known in certificates {
        text.push_str(&format!("\n  {}  issued by {}", named(known), known.issuer));
    }
    for fingerprint in revoked {
        text.push_str(&format!("\n  never again by the certificate {fingerprint}"));
    }
    if contracts.is_empty() {
        text.push_str("\n\nMay ask nothing.");
    } else {
        text.push_str(&format!("\n\nMay ask\n{}", grants(contracts)));
    }
    if !deliveries.is_empty() {
        text.push_str(&format!("\n\nMay send and receive\n{}", rights(deliveries)));
    }
    if let Some(quota) = quota {
        text.push_str(&format!("\n\nAt most {}", bounds(*quota)));
    }
    text
}

fn rights(rights: &[Right]) -> String {
    let mut table = table(&["DIRECTION", "WITH", "PURPOSE", "ACT", "TYPES"]);
    for right in rights {
        let types: Vec<&str> = right.message_types.iter().map(|name| name.as_str()).collect();
        let with: Vec<String> = right.with.iter().map(ToString::to_string).collect();
        table.add_row([
            direction(right.direction).to_owned(),
            with.join(", "),
            right.purpose.to_string(),
            right.legal_basis.to_string(),
            types.join(", "),
        ]);
    }
    table.trim_fmt()
}

fn counterparts(counterparts: &[v1::Counterpart]) -> String {
    let mut table = table(&["ID", "NAME", "KIND"]);
    for counterpart in counterparts {
        table.add_row([counterpart.id.clone(), counterpart.name.clone(), kind(counterpart)]);
    }
    table.trim_fmt()
}

/// The kind by its name; a kind that came with a later exchange has none here.
fn kind(counterpart: &v1::Counterpart) -> String {
    airut_wire::kind_from(counterpart.kind).map_or_else(|_| "-".to_owned(), |kind| kind.to_string())
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Send => "send",
        Direction::Receive => "receive",
    }
}

fn bounds(quota: Quota) -> String {
    let parts = [
        quota.messages_per_second.map(|most| format!("{most} messages a second")),
        quota.in_flight.map(|most| format!("{most} without an outcome")),
        quota.stored_messages.map(|most| format!("{most} that have not ended")),
        quota.stored_bytes.map(|most| format!("{most} bytes of them")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn named(known: &CertificateMatch) -> String {
    match &known.name {
        CertificateName::OrganizationIdentifier(identifier) => format!("organizationIdentifier {identifier}"),
        CertificateName::SerialNumber(number) => format!("serialNumber {number}"),
        CertificateName::Uri(uri) => format!("URI {uri}"),
    }
}

fn grants(contracts: &[Contract]) -> String {
    let mut table = table(&["PURPOSE", "ACT", "OF", "WHAT", "MONTHS BACK", "AHEAD", "BENEFITS"]);
    for contract in contracts {
        for grant in &contract.grants {
            let benefits: Vec<&str> = grant.benefits.iter().map(|benefit| benefit.as_str()).collect();
            table.add_row([
                contract.purpose.to_string(),
                contract.legal_basis.to_string(),
                contract.responder.to_string(),
                grant.category.to_string(),
                grant.months_back.to_string(),
                grant.months_ahead.to_string(),
                benefits.join(", "),
            ]);
        }
    }
    table.trim_fmt()
}

const fn state(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Suspended => "suspended",
    }
}

fn json(partner: &Partner, version: i32) -> Value {
    let certificates: Vec<Value> = partner.certificates.iter().map(certificate_json).collect();
    let contracts: Vec<Value> = partner.contracts.iter().map(contract_json).collect();
    json!({
        "id": partner.id.to_string(),
        "name": partner.name,
        "kind": partner.kind.to_string(),
        "state": state(partner.state),
        "version": version,
        "certificates": certificates,
        "revoked_fingerprints": partner.revoked.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "contracts": contracts,
        "deliveries": partner.deliveries.iter().map(right_json).collect::<Vec<_>>(),
        "quota": partner.quota.map(quota_json),
    })
}

fn counterpart_json(counterpart: &v1::Counterpart) -> Value {
    let kind = airut_wire::kind_from(counterpart.kind).map(|kind| kind.to_string()).ok();
    json!({"id": counterpart.id, "name": counterpart.name, "kind": kind})
}

fn right_json(right: &Right) -> Value {
    json!({
        "direction": direction(right.direction),
        "message_types": right.message_types.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "with": right.with.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "purpose": right.purpose.to_string(),
        "legal_basis": right.legal_basis.to_string(),
    })
}

fn quota_json(quota: Quota) -> Value {
    json!({
        "messages_per_second": quota.messages_per_second,
        "in_flight": quota.in_flight,
        "stored_messages": quota.stored_messages,
        "stored_bytes": quota.stored_bytes,
    })
}

fn certificate_json(known: &CertificateMatch) -> Value {
    let field = match &known.name {
        CertificateName::OrganizationIdentifier(_) => "organization_identifier",
        CertificateName::SerialNumber(_) => "serial_number",
        CertificateName::Uri(_) => "uri",
    };
    json!({"issuer": known.issuer, field: known.name.text()})
}

fn contract_json(contract: &Contract) -> Value {
    let grant = |grant: &airut_domain::partner::Grant| {
        json!({
            "category": grant.category.as_str(),
            "benefits": grant.benefits.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "months_back": grant.months_back,
            "months_ahead": grant.months_ahead,
        })
    };
    json!({
        "purpose": contract.purpose.to_string(),
        "legal_basis": contract.legal_basis.to_string(),
        "responder": contract.responder.to_string(),
        "grants": contract.grants.iter().map(grant).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_certificates_of_a_file_are_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("both.pem");
        let section = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        let both = format!("{}{}{}", section("CERTIFICATE"), section("PRIVATE KEY"), section("CERTIFICATE"));
        fs::write(&file, both).expect("written");
        let sent = certificates(&file).expect("two certificates");
        assert_eq!(sent, section("CERTIFICATE").repeat(2));
        fs::write(&file, section("PRIVATE KEY")).expect("written");
        assert!(certificates(&file).is_err());
    }
}
