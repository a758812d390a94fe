//! The registry of partners as a service: who may change what, and that every change and every refusal is on record.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use airut_domain::{
    id::PartnerId,
    partition::{Partition, Topic},
    partner::{CertificateName, Fingerprint, Kind as PartnerKind, Partner, PresentedCertificate, State},
    record::Kind,
    refusal::{Reason, Refusal},
    registry::{PartnerApplied, Unidentified},
};
use airut_exchange::{CallerOf, Change, FoldStore, Stranger, partner_service};
use airut_wire::v1::{
    self, ApplyRequest, GetSelfRequest, ListRequest, RegisterCertificateRequest, RevokeCertificateRequest,
    SuspendRequest,
    partner_service_client::PartnerServiceClient,
    partner_service_server::{PartnerService, PartnerServiceServer},
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::support::{Sandbox, partner, partners, social_grants, soon, suspended, with_grants};

type Client<S> = PartnerServiceClient<PartnerServiceServer<S>>;

/// A client of a gateway whose certificate is this partner's.
fn client(sandbox: &Sandbox, at: usize, caller: &'static str) -> Client<impl PartnerService> {
    let caller_of: CallerOf = Arc::new(move |_, registry| {
        let id: PartnerId = caller.parse().unwrap();
        let reason = Reason::PartnerSuspended;
        let stranger = Stranger { reason, issuer: "CN=Test".into(), prefix: "192.0.2.0/24".into() };
        let refused = || (Unidentified { refusal: Refusal::new(reason), partner: Some(id.clone()) }, stranger);
        registry.current(&id).ok_or_else(refused)
    });
    let check = Arc::new(|pem: &[u8]| match pem {
        b"expired" => Err(Reason::CertificateExpired),
        name => Ok(presented(std::str::from_utf8(name).unwrap())),
    });
    PartnerServiceClient::new(partner_service(sandbox.gateways[at].clone(), caller_of, check))
}

/// What a certificate with this organizationIdentifier shows.
fn presented(identifier: &str) -> PresentedCertificate {
    PresentedCertificate {
        issuer: "CN=Test".into(),
        names: BTreeSet::from([CertificateName::OrganizationIdentifier(identifier.into())]),
        fingerprint: Fingerprint::of(identifier.as_bytes()),
    }
}

/// The usual partners, and an operator.
async fn exchange(gateways: usize) -> Sandbox {
    let sandbox = Sandbox::with_gateways(gateways).await;
    sandbox.apply(vec![partner("operator", PartnerKind::Operator, vec![])]).await;
    sandbox
}

fn definition(partner: &Partner) -> ApplyRequest {
    ApplyRequest { partner: Some(airut_wire::partner(partner, 0)), expected_version: None }
}

fn suspend(id: &str) -> SuspendRequest {
    SuspendRequest { partner_id: id.into() }
}

fn revoke(id: &str, fingerprint: Fingerprint) -> RevokeCertificateRequest {
    RevokeCertificateRequest { partner_id: id.into(), fingerprint: fingerprint.to_string() }
}

fn register(certificate: &str) -> RegisterCertificateRequest {
    RegisterCertificateRequest { certificate: certificate.into() }
}

fn named(name: &str) -> Partner {
    Partner { name: name.into(), ..with_grants("pirkanmaa", social_grants()) }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: Reason) -> Status {
    let status = answer.expect_err("refused");
    assert_eq!((status.code(), airut_wire::reason_of(&status)), (code, Some(reason)), "{status}");
    status
}

/// The records of the registry, in order.
fn changes(sandbox: &Sandbox) -> Vec<PartnerApplied> {
    let applied = |(_, header): (_, airut_domain::record::Header)| match header.kind {
        Kind::Partner(applied) => applied,
        other => panic!("{} in the registry", other.name()),
    };
    sandbox.ground.records(Topic::Partners).into_iter().map(applied).collect()
}

#[tokio::test(start_paused = true)]
async fn everybody_is_told_what_they_may_ask() {
    let sandbox = exchange(1).await;
    let told = client(&sandbox, 0, "pirkanmaa").get_self(GetSelfRequest {}).await.unwrap().into_inner();
    let own = told.partner.unwrap();
    assert_eq!((own.id.as_str(), own.version), ("pirkanmaa", 1));
    assert_eq!(own.contracts[0].purpose, "social-assistance");
    assert_eq!(own.contracts[0].grants[1].months_ahead, 1);
    let kela = v1::Counterpart { id: "kela".into(), name: "kela".into(), kind: v1::partner::Kind::Kela.into() };
    // Helsinki receives what the county does: what was misrouted may be passed on to it.
    assert_eq!(told.counterparts.iter().map(|other| other.id.as_str()).collect::<Vec<_>>(), ["helsinki", "kela"]);
    assert_eq!(told.counterparts[1], kela);
    let named = own.deliveries.iter().flat_map(|right| &right.message_types).collect::<std::collections::BTreeSet<_>>();
    let described: Vec<&String> = told.message_types.iter().map(|described| &described.name).collect();
    assert_eq!(described, named.into_iter().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_no_operator_sees_and_changes_nobody_else_and_is_on_record() {
    let sandbox = exchange(1).await;
    let before = sandbox.gateways[0].folds().registry();
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let (code, reason) = (Code::PermissionDenied, Reason::NotAnOperator);
    assert_refused(county.list(ListRequest::default()).await, code, reason);
    assert_refused(county.apply(definition(&named("ours"))).await, code, reason);
    // Malformed, or about nobody: not a word of that.
    assert_refused(county.apply(ApplyRequest::default()).await, code, reason);
    assert_refused(county.suspend(suspend("nobody")).await, code, reason);
    assert_refused(county.revoke_certificate(revoke("helsinki", Fingerprint::of(b"x"))).await, code, reason);
    assert_eq!(sandbox.gateways[0].folds().registry(), before);
    let recorded = sandbox.refusals();
    let methods: Vec<&str> = recorded.iter().map(|refused| refused.method.rsplit('/').next().unwrap()).collect();
    assert_eq!(methods, ["List", "Apply", "Apply", "Suspend", "RevokeCertificate"]);
    assert!(recorded.iter().all(|refused| refused.partner.as_ref().unwrap().as_str() == "pirkanmaa"));
}

#[tokio::test(start_paused = true)]
async fn partners_are_listed_page_by_page() {
    let sandbox = exchange(1).await;
    let mut operator = client(&sandbox, 0, "operator");
    let mut request = ListRequest { page_size: 2, page_token: String::new() };
    let mut pages: Vec<Vec<String>> = Vec::new();
    loop {
        let page = operator.list(request.clone()).await.unwrap().into_inner();
        pages.push(page.partners.into_iter().map(|partner| partner.id).collect());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages, [vec!["elo", "helsinki"], vec!["kela", "operator"], vec!["pirkanmaa"]]);
    let negative = operator.list(ListRequest { page_size: -1, page_token: String::new() }).await;
    assert_refused(negative, Code::InvalidArgument, Reason::InvalidField);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_force_at_every_gateway_within_a_second_and_names_its_author() {
    let sandbox = exchange(2).await;
    let began = Instant::now();
    let told = client(&sandbox, 0, "operator").suspend(suspend("helsinki")).await.unwrap().into_inner();
    assert_eq!(told.partner.unwrap().state, i32::from(v1::partner::State::Suspended));
    let helsinki = "helsinki".parse().unwrap();
    soon(async {
        while sandbox.gateways[1].folds().registry().current(&helsinki).is_some() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let refused = client(&sandbox, 1, "helsinki").get_self(GetSelfRequest {}).await;
    assert_refused(refused, Code::Unauthenticated, Reason::PartnerSuspended);
    let last = changes(&sandbox).pop().unwrap();
    assert_eq!((last.version, last.by.as_ref().unwrap().as_str(), last.source), (2, "operator", None));
    let parties: Vec<String> = Kind::from(last).parties().iter().map(ToString::to_string).collect();
    assert_eq!(parties, ["helsinki", "operator"]);
    // To suspend who is suspended changes nothing.
    let count = changes(&sandbox).len();
    client(&sandbox, 1, "operator").suspend(suspend("helsinki")).await.unwrap();
    assert_eq!(changes(&sandbox).len(), count);
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_made_from_one_version_one_wins() {
    let sandbox = exchange(2).await;
    let (mut here, mut there) = (client(&sandbox, 0, "operator"), client(&sandbox, 1, "operator"));
    let from_first = |name| ApplyRequest { expected_version: Some(1), ..definition(&named(name)) };
    let (one, other) = tokio::join!(here.apply(from_first("one")), there.apply(from_first("other")));
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    let won = won.unwrap().into_inner().partner.unwrap();
    assert_eq!(won.version, 2);
    assert_refused(lost, Code::FailedPrecondition, Reason::VersionChanged);
    sandbox.caught_up().await;
    let registry = sandbox.gateways[0].folds().registry();
    assert_eq!(registry.get(&"pirkanmaa".parse().unwrap()).unwrap().partner.name, won.name);
    assert_eq!(sandbox.refusals().last().unwrap().reason, Reason::VersionChanged);

    // Without an expected version each goes over the other.
    let (one, other) = tokio::join!(here.apply(definition(&named("a"))), there.apply(definition(&named("b"))));
    let mut versions = [one, other].map(|applied| applied.unwrap().into_inner().partner.unwrap().version);
    versions.sort_unstable();
    assert_eq!(versions, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_refused_with_every_fault_at_once_and_recorded_by_its_fields() {
    let sandbox = exchange(1).await;
    let mut faulty = airut_wire::partner(&named(""), 0);
    faulty.contracts[0].grants[0].benefits.clear();
    let taken = partners()[2].certificates[0].clone();
    let rival = Partner { certificates: vec![taken], ..named("rival") };
    let mut operator = client(&sandbox, 0, "operator");
    let request = ApplyRequest { partner: Some(faulty), expected_version: None };
    let status = assert_refused(operator.apply(request).await, Code::InvalidArgument, Reason::InvalidField);
    for path in ["partner.name", "partner.contracts[0].grants[0].benefits"] {
        assert!(status.message().contains(path), "{status}");
    }
    let status = assert_refused(operator.apply(definition(&rival)).await, Code::InvalidArgument, Reason::InvalidField);
    assert_eq!(status.message(), "partner.certificates[0] is another partner's already");
    let fields: Vec<Vec<String>> = sandbox.refusals().into_iter().map(|refused| refused.fields).collect();
    assert_eq!(fields[0], ["partner.name", "partner.contracts[0].grants[0].benefits"]);
    assert_eq!(fields[1], ["partner.certificates[0]"]);
    let unknown = operator.suspend(suspend("nobody")).await;
    assert_refused(unknown, Code::NotFound, Reason::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_has_not_changed_does_not_undo_what_the_service_did() {
    let sandbox = exchange(1).await;
    client(&sandbox, 0, "operator").suspend(suspend("pirkanmaa")).await.unwrap();
    let files = || partners().into_iter().filter(|partner| partner.id.as_str() == "pirkanmaa").collect::<Vec<_>>();
    let pirkanmaa = "pirkanmaa".parse().unwrap();
    let unchanged = soon(sandbox.gateways[0].apply_partners(files())).await.unwrap();
    assert!(matches!(unchanged[..], [Change::Unchanged(_)]));
    // Another gateway that starts with the same files, and one that has nothing but the log.
    let restarted = sandbox.ground.gateway("gateway-again", FoldStore::Memory).await.unwrap();
    let unchanged = soon(restarted.apply_partners(files())).await.unwrap();
    assert!(matches!(unchanged[..], [Change::Unchanged(_)]));
    assert!(restarted.folds().registry().current(&pirkanmaa).is_none());

    let edited = Partner { name: "Pirkanmaan hyvinvointialue".into(), ..files().remove(0) };
    let applied = soon(restarted.apply_partners(vec![edited])).await.unwrap();
    assert!(matches!(applied[..], [Change::Applied(_, 3)]));
    assert!(restarted.folds().registry().current(&pirkanmaa).is_some(), "an edited file wins");
}

#[tokio::test(start_paused = true)]
async fn gateways_whose_files_differ_do_not_undo_each_other() {
    let sandbox = exchange(2).await;
    let (old, new) = (named("old"), named("new"));
    soon(sandbox.gateways[1].apply_partners(vec![old.clone()])).await.unwrap();
    sandbox.caught_up().await;
    soon(sandbox.gateways[0].apply_partners(vec![new.clone()])).await.unwrap();
    for _ in 0..3 {
        sandbox.caught_up().await;
        let here = soon(sandbox.gateways[0].apply_partners(vec![new.clone()])).await.unwrap();
        let there = soon(sandbox.gateways[1].apply_partners(vec![old.clone()])).await.unwrap();
        assert!(matches!((&here[..], &there[..]), ([Change::Unchanged(_)], [Change::Unchanged(_)])));
    }
    // Its file is handed out there too, and taken back.
    for file in [new, old] {
        soon(sandbox.gateways[1].apply_partners(vec![file.clone()])).await.unwrap();
        let registry = sandbox.gateways[1].folds().registry();
        assert_eq!(registry.get(&file.id).unwrap().partner.name, file.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_certificate_identifies_nobody_whatever_is_applied_later() {
    let sandbox = exchange(1).await;
    let certificate = presented("NTRFI-pirkanmaa");
    let gateway = sandbox.gateways[0].clone();
    let identified = || gateway.folds().registry().identify(&certificate);
    assert_eq!(identified().unwrap().id().as_str(), "pirkanmaa");
    let mut operator = client(&sandbox, 0, "operator");
    let told = operator.revoke_certificate(revoke("pirkanmaa", certificate.fingerprint)).await.unwrap().into_inner();
    assert_eq!(told.partner.unwrap().revoked_fingerprints, [certificate.fingerprint.to_string()]);
    let refused = identified().unwrap_err();
    assert_eq!(refused.refusal.reason, Reason::CertificateRevoked);
    assert_eq!(refused.partner.unwrap().as_str(), "pirkanmaa");
    // Another certificate by the same name goes on.
    let other = PresentedCertificate { fingerprint: Fingerprint::of(b"other"), ..certificate.clone() };
    assert!(gateway.folds().registry().identify(&other).is_ok());

    operator.apply(definition(&named("anew"))).await.unwrap();
    sandbox.apply(vec![named("from a file")]).await;
    assert_eq!(identified().unwrap_err().refusal.reason, Reason::CertificateRevoked);
    let not_one = RevokeCertificateRequest { partner_id: "pirkanmaa".into(), fingerprint: "12".into() };
    assert_refused(operator.revoke_certificate(not_one).await, Code::InvalidArgument, Reason::InvalidField);
}

#[tokio::test(start_paused = true)]
async fn a_partner_registers_its_next_certificate_once() {
    let sandbox = exchange(1).await;
    let mut county = client(&sandbox, 0, "pirkanmaa");
    let told = county.register_certificate(register("NTRFI-next")).await.unwrap().into_inner().partner.unwrap();
    assert_eq!((told.version, told.certificates.len()), (2, 2));
    let registry = sandbox.gateways[0].folds().registry();
    assert_eq!(registry.identify(&presented("NTRFI-next")).unwrap().id().as_str(), "pirkanmaa");
    assert_eq!(changes(&sandbox).last().unwrap().by.as_ref().unwrap().as_str(), "pirkanmaa");
    let again = county.register_certificate(register("NTRFI-next")).await.unwrap().into_inner().partner.unwrap();
    assert_eq!(again.version, 2, "again changes nothing");

    for (certificate, fault) in [
        ("", "certificate is required"),
        ("expired", "certificate is refused as CERTIFICATE_EXPIRED"),
        ("NTRFI-helsinki", "certificate is another partner's already"),
    ] {
        let status = county.register_certificate(register(certificate)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, fault));
    }
    assert_eq!(sandbox.refusals().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_record_by_somebody_who_may_not_is_void() {
    let sandbox = exchange(2).await;
    let forged = PartnerApplied { version: 2, partner: suspended("helsinki"), by: None, source: None };
    let by = |by: &str| PartnerApplied { by: Some(by.parse().unwrap()), ..forged.clone() };
    let writer = sandbox.ground.writer("forger");
    // An operator that was suspended in the meantime is one no longer.
    client(&sandbox, 0, "operator").suspend(suspend("operator")).await.unwrap();
    for by in [by("pirkanmaa"), by("helsinki"), by("nobody"), by("operator")] {
        writer.append(Partition::only(Topic::Partners), by, None, "").await.unwrap();
    }
    sandbox.caught_up().await;
    for gateway in &sandbox.gateways {
        let registry = gateway.folds().registry();
        let entry = registry.get(&"helsinki".parse().unwrap()).unwrap();
        assert_eq!((entry.version, entry.partner.state), (1, State::Active));
    }
    let refused = client(&sandbox, 1, "operator").suspend(suspend("helsinki")).await;
    assert_refused(refused, Code::Unauthenticated, Reason::PartnerSuspended);
}
