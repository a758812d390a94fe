use std::{collections::BTreeSet, sync::Arc, time::Duration};

use airut_domain::{
    keys::Digest,
    merkle,
    partner::{Kind as PartnerKind, Partner, State},
    refusal::{Reason, Refusal},
    registry::{Entry, Registry, VerifiedPartner},
};
use airut_ledger::{Edge, Ledger, Service};
use airut_wire::v1::{
    self, GetCheckpointRequest, GetInclusionProofRequest, ListEntriesRequest,
    ledger_service_client::LedgerServiceClient, ledger_service_server::LedgerServiceServer,
};
use tokio::time::Instant;

use crate::support::{Bench, Running, fill};

/// In-process, without a network: the client calls the server as the transport would.
type Client = LedgerServiceClient<LedgerServiceServer<Service>>;

fn registry() -> Registry {
    let mut registry = Registry::default();
    let kinds = [
        ("pirkanmaa", PartnerKind::WellbeingServicesCounty),
        ("helsinki", PartnerKind::Municipality),
        ("uusimaa", PartnerKind::WellbeingServicesCounty),
        ("vtv", PartnerKind::Auditor),
    ];
    for (id, kind) in kinds {
        let id = id.parse().unwrap();
        let partner = Partner {
            id,
            name: "synthetic".into(),
            kind,
            state: State::Active,
            revoked: BTreeSet::new(),
            certificates: Vec::new(),
            contracts: Vec::new(),
            deliveries: Vec::new(),
            quota: None,
        };
        registry.insert(Entry { version: 1, partner, source: None });
    }
    registry
}

fn client(ledger: &Ledger, partner: &str) -> Client {
    let caller = registry().current(&partner.parse().unwrap()).unwrap();
    LedgerServiceClient::new(ledger.service(edge(Ok(caller), |_, refusal| refusal)))
}

/// An edge where everybody is this caller, and which does this with each refusal of a method.
fn edge(
    caller: Result<VerifiedPartner, Refusal>,
    refuse: impl Fn(&'static str, Refusal) -> Refusal + Send + Sync + 'static,
) -> Edge {
    Edge {
        identify: Arc::new(move |_| {
            let caller = caller.clone();
            Box::pin(async { caller })
        }),
        refuse: Arc::new(move |_, method, refusal| {
            let refusal = refuse(method, refusal);
            Box::pin(async { refusal })
        }),
    }
}

struct Served {
    _bench: Bench,
    _log: airut_log::Log,
    running: Running,
    key: airut_ledger::note::VerifierKey,
    county: Client,
    city: Client,
    other: Client,
    auditor: Client,
}

async fn serve(entries: u64) -> Served {
    let bench = Bench::new();
    let log = bench.log();
    let ledger = bench.open(&log).unwrap();
    let key = ledger.verifier_key().clone();
    let [county, city, other, auditor] = ["pirkanmaa", "helsinki", "uusimaa", "vtv"].map(|id| client(&ledger, id));
    let running = Running::start(ledger);
    fill(&log, 0..entries).await;
    if entries > 0 {
        running.signed(entries).await;
    }
    Served { _bench: bench, _log: log, running, key, county, city, other, auditor }
}

async fn all_entries(client: &mut Client, page_size: i32) -> Vec<v1::Entry> {
    let (mut entries, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_entries(ListEntriesRequest { page_size, page_token }).await.unwrap().into_inner();
        assert!(page_size == 0 || page.entries.len() <= page_size as usize);
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return entries;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_has_a_proof_that_leads_to_the_signed_root() {
    let mut served = serve(300).await;
    let entries = all_entries(&mut served.auditor, 70).await;
    assert_eq!(entries.len(), 300);
    for (index, entry) in entries.iter().enumerate().step_by(7) {
        let request = GetInclusionProofRequest { position: entry.position.clone() };
        let proof = served.auditor.get_inclusion_proof(request).await.unwrap().into_inner();
        assert_eq!(proof.entry.as_ref(), Some(entry));
        let checkpoint = served.key.open(&proof.checkpoint).unwrap();
        let path: Vec<Digest> = proof.path.iter().map(|hash| Digest::from_slice(hash).unwrap()).collect();
        let root = merkle::root_from_path(merkle::leaf_hash(&entry.leaf), index as u64, checkpoint.size, &path);
        assert_eq!(root, Some(checkpoint.root));
        assert!(entry.leaf.ends_with(&entry.header) && !entry.header.is_empty());
    }
    served.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parties_see_their_own_entries_and_nobody_elses() {
    let mut served = serve(100).await;
    let all = all_entries(&mut served.auditor, 0).await;
    let county = all_entries(&mut served.county, 13).await;
    let city = all_entries(&mut served.city, 1000).await;
    assert_eq!(all.len(), 100);
    // Streams concern their responder alone.
    assert!(county.len() > 40 && city.len() > 40 && county.len() + city.len() < 100);
    assert!(county.iter().all(|entry| !city.contains(entry)));
    assert_eq!(all_entries(&mut served.other, 0).await, []);

    // Another's entry and none at all look alike, and take as long.
    let absent = "airut.queries/3/999999".to_owned();
    for position in [city[0].position.clone(), absent] {
        let begun = Instant::now();
        let refused = served.county.get_inclusion_proof(GetInclusionProofRequest { position }).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
        assert_eq!(airut_wire::reason_of(&refused), Some(Reason::NotFound));
        assert!(begun.elapsed() >= Duration::from_secs(2));
    }
    served.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_waits_for_its_record_to_be_signed() {
    let mut served = serve(1).await;
    let log = served._log.clone();
    let positions = fill(&log, 2..3).await;
    // At once, long before it is ordered.
    let request = GetInclusionProofRequest { position: positions[0].to_string() };
    let proof = served.county.get_inclusion_proof(request).await.unwrap().into_inner();
    assert_eq!(proof.entry.unwrap().position, positions[0].to_string());
    assert!(served.key.open(&proof.checkpoint).unwrap().size >= 2);
    served.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_checkpoint_is_for_every_partner_once_there_is_one() {
    let mut served = serve(0).await;
    let none = served.other.get_checkpoint(GetCheckpointRequest {}).await.unwrap_err();
    assert_eq!(none.code(), tonic::Code::Unavailable);
    fill(&served._log, 0..3).await;
    served.running.signed(3).await;
    let some = served.other.get_checkpoint(GetCheckpointRequest {}).await.unwrap().into_inner();
    assert_eq!(served.key.open(&some.checkpoint).unwrap().size, 3);
    served.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_requests_and_unknown_callers_are_refused() {
    let mut served = serve(1).await;
    for position in ["", "airut.queries/3", "airut.queries/12/0", "nothing/0/0", "airut.queries/0/-1"] {
        let request = GetInclusionProofRequest { position: position.to_owned() };
        let refused = served.auditor.get_inclusion_proof(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{position}");
    }
    let negative = ListEntriesRequest { page_size: -1, page_token: String::new() };
    assert_eq!(served.auditor.list_entries(negative).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let odd = ListEntriesRequest { page_size: 1, page_token: "later".to_owned() };
    assert_eq!(served.auditor.list_entries(odd).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let ledger = served.running.stop().await;

    let nobody = edge(Err(Refusal::new(Reason::CertificateUnknown)), |_, refusal| refusal);
    let mut nobody = LedgerServiceClient::new(ledger.service(nobody));
    let refused = nobody.get_checkpoint(GetCheckpointRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_to_a_refused_call_is_what_its_record_allows() {
    let served = serve(1).await;
    let ledger = served.running.stop().await;
    let caller = registry().current(&"vtv".parse().unwrap()).unwrap();
    let (recorded, methods) = std::sync::mpsc::channel();
    let recorded = std::sync::Mutex::new(recorded);
    let unwritable = edge(Ok(caller), move |method, refusal| {
        recorded.lock().unwrap().send((method, refusal.reason)).unwrap();
        Refusal::new(Reason::LogUnavailable)
    });
    let mut auditor = LedgerServiceClient::new(ledger.service(unwritable));
    let request = GetInclusionProofRequest { position: "nowhere".to_owned() };
    let refused = auditor.get_inclusion_proof(request).await.unwrap_err();
    assert_eq!(airut_wire::reason_of(&refused), Some(Reason::LogUnavailable));
    let method = "/airut.v1.LedgerService/GetInclusionProof";
    assert_eq!(methods.try_iter().collect::<Vec<_>>(), [(method, Reason::InvalidField)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_is_served_after_the_ledger_has_ended() {
    let served = serve(20).await;
    let ledger = served.running.stop().await;
    let mut auditor = client(&ledger, "vtv");
    assert_eq!(all_entries(&mut auditor, 0).await.len(), 20);
}
