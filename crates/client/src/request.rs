//! Information requests: to put them, to answer them, to watch them.
//!
//! All calls here are tried again like [`Client::query`]: a command that is repeated with its own id is told the same. Dropping one drops the call;
//! the exchange may have carried it out.

use std::time::Duration;

use airut_wire::v1::{
    CancelInformationRequestRequest, CloseInformationRequestRequest, CreateInformationRequestRequest,
    GetInformationRequestRequest, GetInformationRequestResponse, InformationRequest, ListInformationRequestsRequest,
    ListInformationRequestsResponse, RespondInformationRequestRequest, ReturnInformationRequestRequest,
    TransferInformationRequestRequest, WatchInformationRequestsRequest, WatchInformationRequestsResponse,
    information_request_service_client::InformationRequestServiceClient,
};
use tokio::time::sleep;
use tonic::{Request, Streaming};

use crate::{
    connect::Client,
    error::CallError,
    retry::{CALLS, timed},
};

/// A request with all that was said has at most this size.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

macro_rules! commands {
    ($($(#[doc = $text:literal])* $name:ident($request:ident);)*) => {
        impl Client {$(
            $(#[doc = $text])*
            ///
            /// # Errors
            /// See [`CallError`].
            pub async fn $name(&self, request: &$request, deadline: Duration) -> Result<InformationRequest, CallError> {
                let response = self.call(deadline, |channel, left| async move {
                    InformationRequestServiceClient::new(channel).$name(timed(request.clone(), left)).await
                });
                Ok(response.await?.information_request.unwrap_or_default())
            }
        )*}
    };
}

commands! {
    /// Puts a request to a partner; gives it as it is then.
    create_information_request(CreateInformationRequestRequest);
    /// Answers a request; gives it as it is then.
    respond_information_request(RespondInformationRequestRequest);
    /// Returns an answered request for completion; gives it as it is then.
    return_information_request(ReturnInformationRequestRequest);
    /// Closes an answered request; gives it as it is then.
    close_information_request(CloseInformationRequestRequest);
    /// Passes a request on to the partner that it should have gone to; gives it as the requester sees it then, and an empty one to the responder
    /// that passed it on.
    transfer_information_request(TransferInformationRequestRequest);
    /// Cancels a request; gives it as it is then.
    cancel_information_request(CancelInformationRequestRequest);
}

impl Client {
    /// A request with all that was said. Each showing is on record.
    ///
    /// # Errors
    /// See [`CallError`]; its reason is [`airut_domain::refusal::Reason::NotFound`] also for requests of others.
    pub async fn get_information_request(
        &self,
        request: &GetInformationRequestRequest,
        deadline: Duration,
    ) -> Result<GetInformationRequestResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            let mut service = InformationRequestServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
            service.get_information_request(timed(request.clone(), left)).await
        })
        .await
    }

    /// A page of this partner's requests, by due date.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list_information_requests(
        &self,
        request: &ListInformationRequestsRequest,
        deadline: Duration,
    ) -> Result<ListInformationRequestsResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            InformationRequestServiceClient::new(channel).list_information_requests(timed(request.clone(), left)).await
        })
        .await
    }

    /// Watches this partner's requests, from where a token says, or from now on when it is empty.
    pub fn watch_information_requests(&self, resume_token: &str) -> RequestWatch {
        RequestWatch { client: self.clone(), resume_token: resume_token.to_owned(), open: None, failures: 0 }
    }
}

/// Changes of a partner's requests as they come. It reconnects by itself, and goes on where it was.
#[derive(Debug)]
pub struct RequestWatch {
    client: Client,
    resume_token: String,
    open: Option<Streaming<WatchInformationRequestsResponse>>,
    failures: u32,
}

impl RequestWatch {
    /// Where to go on after what was told last.
    pub fn resume_token(&self) -> &str {
        &self.resume_token
    }

    /// The next change; the first one after each connection says only where it goes on. Waits for as long as it takes. Cancel safe.
    ///
    /// # Errors
    /// When trying again can not help, or did not for some twelve seconds; the next call tries again.
    pub async fn next(&mut self) -> Result<WatchInformationRequestsResponse, CallError> {
        loop {
            let fault = match self.told().await {
                Ok(Some(told)) => {
                    self.failures = 0;
                    self.resume_token.clone_from(&told.resume_token);
                    return Ok(told);
                }
                // The gateway has gone in good order.
                Ok(None) => None,
                Err(status) => Some(CallError::from(status)),
            };
            self.open = None;
            self.failures += 1;
            if let Some(fault) = fault.as_ref().filter(|fault| self.failures >= CALLS.tries || !fault.may_pass()) {
                self.failures = 0;
                return Err(fault.clone());
            }
            let hint = fault.as_ref().and_then(CallError::retry_after);
            sleep(CALLS.delay(self.failures, hint, rand::random())).await;
        }
    }

    async fn told(&mut self) -> Result<Option<WatchInformationRequestsResponse>, tonic::Status> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let request = WatchInformationRequestsRequest { resume_token: self.resume_token.clone() };
                let mut service = InformationRequestServiceClient::new(self.client.traced());
                let opened = service.watch_information_requests(Request::new(request)).await?;
                self.open.insert(opened.into_inner())
            }
        };
        open.message().await
    }
}
