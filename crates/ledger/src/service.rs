//! `LedgerService`: the newest checkpoint for every partner, entries and proofs for those they concern.
//!
//! Auditors see every entry, others those that they are a party of. To anybody else an entry does not exist: the
//! answer, and the time it takes, are the same as for a record that never was. Nothing is shown that is not in a signed
//! checkpoint.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use airut_domain::{
    id::PartnerId,
    partition::{Position, parse_position},
    partner,
    refusal::{Reason, Refusal, Violation},
    registry::VerifiedPartner,
};
use airut_log::Random;
use airut_wire::{
    timestamp,
    v1::{
        self, Entry, GetCheckpointRequest, GetCheckpointResponse, GetInclusionProofRequest, GetInclusionProofResponse,
        ListEntriesRequest, ListEntriesResponse, ledger_service_server::LedgerService,
    },
};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Request, Response};

use crate::{
    leaf,
    status::{Signed, Status},
    store::{Reader, StoreError},
};

/// What comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Finds out who calls, from what the connection left in the request. When it refuses, that is on record.
pub type Identify = Arc<dyn Fn(&http::Extensions) -> Later<Result<VerifiedPartner, Refusal>> + Send + Sync>;

/// Puts on record that a partner's call of a method is refused, and gives what may then be answered.
pub type Refuse = Arc<dyn Fn(PartnerId, &'static str, Refusal) -> Later<Refusal> + Send + Sync>;

/// What the service is lent by the edge that it is mounted on: it only reads the log, and refusals are records.
#[derive(Clone)]
pub struct Edge {
    /// Finds out who calls.
    pub identify: Identify,
    /// Records who is refused.
    pub refuse: Refuse,
}

/// How long a proof waits for its record to come into a checkpoint; a caller with less time leaves earlier.
const WAIT: Duration = Duration::from_secs(2);
/// The page sizes.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;
/// How many bytes of leaves a page has at most, or one larger leaf. Each is sent twice, as leaf and as header.
const PAGE_BYTES: usize = 1 << 20;
/// How many entries one call looks at.
const SCAN: u64 = 10_000;
/// How many calls read the file at once; more wait.
const READERS: usize = 2;

/// See the module.
pub struct Service {
    readers: Arc<Readers>,
    status: watch::Receiver<Status>,
    edge: Edge,
    random: Random,
}

/// Why a call gets no answer.
enum Fault {
    Refused(Refusal),
    Storage(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Refused(Refusal::new(reason))
    }
}

impl Service {
    pub(crate) fn new(readers: Arc<Readers>, status: watch::Receiver<Status>, edge: Edge, random: Random) -> Self {
        Self { readers, status, edge, random }
    }

    fn checkpoint(&self) -> Result<Signed, Fault> {
        self.status.borrow().checkpoint.clone().ok_or_else(|| Reason::NotServing.into())
    }

    /// The answer to whoever calls, or the status that refuses it, after the refusal's record. What happened inside stays
    /// in the log, under the request's id.
    async fn answer<Q, T, F>(
        &self,
        method: &'static str,
        request: Request<Q>,
        answer: impl FnOnce(VerifiedPartner, Q) -> F,
    ) -> Result<Response<T>, tonic::Status>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let refusal = match (self.edge.identify)(request.extensions()).await {
            Err(refusal) => refusal,
            Ok(caller) => match answer(caller.clone(), request.into_inner()).await {
                Ok(answer) => return Ok(Response::new(answer)),
                Err(Fault::Refused(refusal)) => (self.edge.refuse)(caller.id().clone(), method, refusal).await,
                Err(Fault::Storage(error)) => {
                    tracing::error!(%error, "the ledger's file can not be read");
                    Refusal::new(Reason::NotServing)
                }
            },
        };
        let request_id = hex::encode(self.random.bytes::<16>());
        tracing::info!(request_id, reason = %refusal.reason, "refused");
        Err(airut_wire::status(&refusal, &request_id))
    }

    async fn prove(&self, caller: VerifiedPartner, position: Position) -> Result<GetInclusionProofResponse, Fault> {
        let deadline = Instant::now() + WAIT;
        let mut status = self.status.clone();
        let mut tried = 0;
        // Not there yet, never there, and not the caller's: all wait the same time.
        while let Ok(Some(checkpoint)) = timeout_at(deadline, newer(&mut status, tried)).await {
            tried = checkpoint.size;
            let caller = caller.clone();
            let proof = self.readers.read(move |reader| proof(reader, &caller, position, &checkpoint)).await?;
            if let Some(proof) = proof {
                return Ok(proof);
            }
        }
        sleep_until(deadline).await;
        Err(Reason::NotFound.into())
    }

    async fn list(&self, caller: VerifiedPartner, request: ListEntriesRequest) -> Result<ListEntriesResponse, Fault> {
        let page = Page::try_from(request)?;
        let size = self.checkpoint()?.size;
        self.readers.read(move |reader| list(reader, &caller, page, size)).await
    }
}

#[tonic::async_trait]
impl LedgerService for Service {
    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, tonic::Status> {
        let newest = async |_, _| {
            let signed = self.checkpoint()?;
            Ok(GetCheckpointResponse { checkpoint: signed.note.to_string() })
        };
        self.answer("/airut.v1.LedgerService/GetCheckpoint", request, newest).await
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, tonic::Status> {
        let proof = async |caller, request: GetInclusionProofRequest| {
            let position = parse_position(&request.position)
                .ok_or_else(|| invalid("position", "must be topic/partition/offset"))?;
            self.prove(caller, position).await
        };
        self.answer("/airut.v1.LedgerService/GetInclusionProof", request, proof).await
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, tonic::Status> {
        let page = async |caller, request| self.list(caller, request).await;
        self.answer("/airut.v1.LedgerService/ListEntries", request, page).await
    }
}

/// A checkpoint of more than `size` leaves, once there is one; none when there will be none.
async fn newer(status: &mut watch::Receiver<Status>, size: u64) -> Option<Signed> {
    let is_newer = |status: &Status| status.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.size > size);
    status.wait_for(is_newer).await.ok()?.checkpoint.clone()
}

/// What is asked for: so many entries from this index on.
struct Page {
    from: u64,
    size: usize,
}

impl TryFrom<ListEntriesRequest> for Page {
    type Error = Fault;

    fn try_from(request: ListEntriesRequest) -> Result<Self, Fault> {
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(LARGEST_PAGE),
            Err(_) => return Err(invalid("page_size", "must not be negative")),
        };
        let from = match request.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| invalid("page_token", "must be one that was given with a page"))?,
        };
        Ok(Self { from, size })
    }
}

fn invalid(field: &'static str, fault: &str) -> Fault {
    Fault::Refused(Refusal::fields(vec![Violation { field: field.into(), fault: fault.to_owned() }]))
}

fn proof(
    reader: &Reader,
    caller: &VerifiedPartner,
    position: Position,
    checkpoint: &Signed,
) -> Result<Option<GetInclusionProofResponse>, Fault> {
    let index = reader.index_of(position)?.filter(|index| *index < checkpoint.size);
    let Some(index) = index else { return Ok(None) };
    let leaf = reader.leaf(index)?.ok_or(StoreError::Value { table: "entries" })?;
    let Some(entry) = visible(caller, index, &leaf)? else { return Ok(None) };
    let path = reader.path(index, checkpoint.size)?;
    Ok(Some(GetInclusionProofResponse {
        entry: Some(entry),
        path: path.into_iter().map(|hash| hash.0.to_vec()).collect(),
        checkpoint: checkpoint.note.to_string(),
    }))
}

fn list(reader: &Reader, caller: &VerifiedPartner, page: Page, size: u64) -> Result<ListEntriesResponse, Fault> {
    let mut next = size.min(page.from.saturating_add(SCAN));
    let (mut entries, mut bytes) = (Vec::new(), 0);
    reader.scan(page.from..next, |index, leaf| {
        let Some(entry) = visible(caller, index, leaf)? else { return Ok::<_, Fault>(ControlFlow::Continue(())) };
        if !entries.is_empty() && bytes + leaf.len() > PAGE_BYTES {
            next = index;
            return Ok(ControlFlow::Break(()));
        }
        bytes += leaf.len();
        entries.push(entry);
        if entries.len() < page.size {
            return Ok(ControlFlow::Continue(()));
        }
        next = index + 1;
        Ok(ControlFlow::Break(()))
    })?;
    let next_page_token = if next < size { next.to_string() } else { String::new() };
    Ok(ListEntriesResponse { entries, next_page_token })
}

/// The entry, if the caller may see it.
fn visible(caller: &VerifiedPartner, index: u64, bytes: &[u8]) -> Result<Option<Entry>, Fault> {
    let damaged = || StoreError::Value { table: "entries" };
    let leaf = leaf::parse(bytes).ok_or_else(damaged)?;
    let kind = airut_wire::record::decode(leaf.header).map_err(|_| damaged())?.kind;
    let sees_all = caller.partner().kind == partner::Kind::Auditor;
    if !sees_all && !kind.parties().contains(&caller.id()) {
        return Ok(None);
    }
    Ok(Some(v1::Entry {
        index: i64::try_from(index).unwrap_or(i64::MAX),
        position: leaf.position.to_string(),
        stamp_time: Some(timestamp(leaf.stamp)),
        kind: kind.name().to_owned(),
        header: leaf.header.to_vec(),
        leaf: bytes.to_vec(),
    }))
}

/// Connections that read the ledger's file beside the one that writes it.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Reader>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()), room: Arc::new(Semaphore::new(READERS)) }
    }

    /// Reads on a thread that may block. Cancelling it lets what has begun come to its end.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let readers = Arc::clone(self);
        let work = move || {
            let idle = readers.idle.lock().expect("nobody panics while holding it").pop();
            let reader = idle.map_or_else(|| Reader::open(&readers.path), Ok)?;
            let answer = read(&reader)?;
            // Only a connection that worked is used again.
            readers.idle.lock().expect("nobody panics while holding it").push(reader);
            drop(permit);
            Ok(answer)
        };
        spawn_blocking(work).await.unwrap_or(Err(Fault::Storage(StoreError::Ending)))
    }
}
