//! `PartnerService`: the registry of partners over gRPC.
//!
//! Everybody may look at their own definition and register their own next certificate; the rest is for operators. Each change
//! runs in a task of its own and is recorded whether or not its caller waits, and whoever may not is on record before they are
//! told. What may be changed by whom is [`airut_domain::change`]'s to say.

use std::sync::Arc;

use airut_domain::{
    change::{self, Change},
    id::PartnerId,
    message_type::Definition,
    partner::PresentedCertificate,
    refusal::{Reason, Refusal, Violation},
    registry::{Entry, Registry, VerifiedPartner},
};
use airut_wire::v1::{
    self, ApplyRequest, ApplyResponse, GetSelfRequest, GetSelfResponse, ListRequest, ListResponse,
    RegisterCertificateRequest, RegisterCertificateResponse, RevokeCertificateRequest, RevokeCertificateResponse,
    SuspendRequest, SuspendResponse,
    partner_service_server::{PartnerService, PartnerServiceServer},
};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::{
    CallerOf, Gateway,
    edge::{Call, Edge, Unanswered, method},
};

/// Judges a certificate that is to be used later, in PEM, as a handshake would. May block for a fraction of a millisecond.
pub type CheckCertificate = Arc<dyn Fn(&[u8]) -> Result<PresentedCertificate, Reason> + Send + Sync>;

/// A message is refused beyond this size. Definitions have a few kilobytes.
const LARGEST_MESSAGE: usize = 64 * 1024;

/// The page sizes.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;
/// How many bytes of definitions a page has at most, or one larger definition.
const PAGE_BYTES: usize = 1 << 20;

/// The service, to be mounted on a server.
pub fn partner_service(
    gateway: Gateway,
    caller_of: CallerOf,
    check: CheckCertificate,
) -> PartnerServiceServer<impl PartnerService> {
    PartnerServiceServer::new(PartnerEdge { edge: Edge { gateway, caller_of }, check })
        .max_decoding_message_size(LARGEST_MESSAGE)
}

struct PartnerEdge {
    edge: Edge,
    check: CheckCertificate,
}

impl Call {
    /// Asks for a change; gives the definition that is in force then.
    async fn change(&self, change: Change) -> Result<Option<v1::Partner>, Unanswered> {
        let entry = self.gateway.change_registry(self.caller.id(), &change, &self.traceparent).await?;
        Ok(Some(message(&entry)))
    }
}

#[tonic::async_trait]
impl PartnerService for PartnerEdge {
    async fn get_self(&self, request: Request<GetSelfRequest>) -> Result<Response<GetSelfResponse>, Status> {
        let verb = |call: Call, _| async move { Ok(own(&call.gateway, &call.caller)) };
        self.edge.carry_out(method!("airut.v1.PartnerService", "GetSelf"), request, verb).await
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let verb = |call: Call, request: ListRequest| async move {
            change::require_operator(&call.caller)?;
            Ok(page(&call.gateway.folds.registry(), &Page::try_from(request)?))
        };
        self.edge.carry_out(method!("airut.v1.PartnerService", "List"), request, verb).await
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let verb = |call: Call, request: ApplyRequest| async move {
            change::require_operator(&call.caller)?;
            let partner = airut_wire::partner_from(request.partner.as_ref())?;
            let expected = request.expected_version.map(u32::try_from).transpose();
            let expected = expected.map_err(|_| invalid("expected_version", "must not be negative"))?;
            Ok(ApplyResponse { partner: call.change(Change::Apply { partner, expected }).await? })
        };
        self.edge.carry_out(method!("airut.v1.PartnerService", "Apply"), request, verb).await
    }

    async fn suspend(&self, request: Request<SuspendRequest>) -> Result<Response<SuspendResponse>, Status> {
        let verb = |call: Call, request: SuspendRequest| async move {
            change::require_operator(&call.caller)?;
            let id = airut_wire::partner_id("partner_id", &request.partner_id)?;
            Ok(SuspendResponse { partner: call.change(Change::Suspend(id)).await? })
        };
        self.edge.carry_out(method!("airut.v1.PartnerService", "Suspend"), request, verb).await
    }

    async fn revoke_certificate(
        &self,
        request: Request<RevokeCertificateRequest>,
    ) -> Result<Response<RevokeCertificateResponse>, Status> {
        let verb = |call: Call, request: RevokeCertificateRequest| async move {
            change::require_operator(&call.caller)?;
            let id = airut_wire::partner_id("partner_id", &request.partner_id)?;
            let fingerprint = airut_wire::fingerprint("fingerprint", &request.fingerprint)?;
            Ok(RevokeCertificateResponse { partner: call.change(Change::Revoke(id, fingerprint)).await? })
        };
        self.edge.carry_out(method!("airut.v1.PartnerService", "RevokeCertificate"), request, verb).await
    }

    async fn register_certificate(
        &self,
        request: Request<RegisterCertificateRequest>,
    ) -> Result<Response<RegisterCertificateResponse>, Status> {
        let check = Arc::clone(&self.check);
        let verb = |call: Call, request: RegisterCertificateRequest| async move {
            if request.certificate.is_empty() {
                return Err(invalid("certificate", "is required").into());
            }
            let certificate = check(request.certificate.as_bytes())
                .map_err(|reason| invalid("certificate", format!("is refused as {reason}")))?;
            Ok(RegisterCertificateResponse { partner: call.change(Change::Register(certificate)).await? })
        };
        self.edge.carry_out(method!("airut.v1.PartnerService", "RegisterCertificate"), request, verb).await
    }
}

fn invalid(field: &'static str, fault: impl Into<String>) -> Refusal {
    Refusal::fields(vec![Violation { field: field.into(), fault: fault.into() }])
}

fn message(entry: &Entry) -> v1::Partner {
    airut_wire::partner(&entry.partner, entry.version)
}

fn own(gateway: &Gateway, caller: &VerifiedPartner) -> GetSelfResponse {
    let registry = gateway.folds.registry();
    let counterparts = registry.counterparts(caller.partner()).map(airut_wire::counterpart).collect();
    let catalogue = gateway.catalogue.load();
    let named = |definition: &&Arc<Definition>| {
        caller.partner().deliveries.iter().any(|right| right.message_types.contains(&definition.name))
    };
    let message_types = catalogue.types().iter().filter(named).map(|definition| airut_wire::message_type(definition));
    let message_types = message_types.collect();
    GetSelfResponse { partner: Some(message(caller.entry())), counterparts, message_types }
}

/// What is asked for: so many partners after this one.
struct Page {
    after: Option<PartnerId>,
    size: usize,
}

impl TryFrom<ListRequest> for Page {
    type Error = Refusal;

    fn try_from(request: ListRequest) -> Result<Self, Refusal> {
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(LARGEST_PAGE),
            Err(_) => return Err(invalid("page_size", "must not be negative")),
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => {
                let given = || invalid("page_token", "must be one that was given with a page");
                Some(token.parse().map_err(|_| given())?)
            }
        };
        Ok(Self { after, size })
    }
}

fn page(registry: &Registry, page: &Page) -> ListResponse {
    let is_later = |entry: &&Entry| page.after.as_ref().is_none_or(|after| entry.partner.id > *after);
    let mut entries = registry.entries().filter(is_later).peekable();
    let (mut partners, mut bytes) = (Vec::new(), 0);
    while let Some(entry) = entries.peek() {
        let partner = message(entry);
        bytes += partner.encoded_len();
        if partners.len() == page.size || (bytes > PAGE_BYTES && !partners.is_empty()) {
            break;
        }
        partners.push(partner);
        entries.next();
    }
    let more = entries.peek().is_some();
    let next_page_token = partners.last().filter(|_| more).map(|last| last.id.clone()).unwrap_or_default();
    ListResponse { partners, next_page_token }
}
