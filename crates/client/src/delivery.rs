//! What else there is to say about messages: pulling them, settling by hand, tracking, dead letters.
//!
//! All these calls are tried again like [`Client::query`]; each says what that means where it is not plain. Dropping one drops the
//! call; the exchange may have carried it out.

use std::time::Duration;

use airut_wire::v1::{
    Delivery, ListDeadLettersRequest, ListDeadLettersResponse, PullRequest, RedriveRequest, SettleRequest, Settlement,
    SettlementResult, TrackRequest, TrackResponse, TransferRequest, delivery_service_client::DeliveryServiceClient,
    redrive_response,
};

use crate::{connect::Client, error::CallError, retry::timed};

impl Client {
    /// Messages that wait, for whoever can not hold a stream open; a [`Collector`](crate::Collector) gets them sooner. The
    /// deadline must leave room for the request's `wait`. Deliveries whose answer is lost come again when their lease has ended.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn pull(&self, request: &PullRequest, deadline: Duration) -> Result<Vec<Delivery>, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            DeliveryServiceClient::new(channel).pull(timed(request.clone(), left)).await
        });
        Ok(response.await?.deliveries)
    }

    /// Settles 1 to 1000 deliveries, pulled or collected; one result for each, in their order. A result may be a refusal that is
    /// worth trying again ([`airut_wire::is_worth_retrying`]). The same settlement again gets the same answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn settle(
        &self,
        settlements: &[Settlement],
        deadline: Duration,
    ) -> Result<Vec<SettlementResult>, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            let request = SettleRequest { settlements: settlements.to_vec() };
            DeliveryServiceClient::new(channel).settle(timed(request, left)).await
        });
        Ok(response.await?.results)
    }

    /// What has happened to a message, for its sender and its recipient. `sender` empty: one's own.
    ///
    /// # Errors
    /// See [`CallError`]; its reason is [`airut_domain::refusal::Reason::NotFound`] also for messages of others.
    pub async fn track(&self, sender: &str, message_id: &str, deadline: Duration) -> Result<TrackResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            let request = TrackRequest { sender: sender.to_owned(), message_id: message_id.to_owned() };
            DeliveryServiceClient::new(channel).track(timed(request, left)).await
        })
        .await
    }

    /// A page of the messages to or from this partner that were not delivered, oldest first.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list_dead_letters(
        &self,
        request: &ListDeadLettersRequest,
        deadline: Duration,
    ) -> Result<ListDeadLettersResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            DeliveryServiceClient::new(channel).list_dead_letters(timed(request.clone(), left)).await
        })
        .await
    }

    /// Has 1 to 1000 dead letters delivered once more; one result for each, in their order. `sender` empty: one's own. When an
    /// answer is lost and the call made again, those that were redriven meanwhile are no dead letters any more, and are told so.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn redrive(
        &self,
        sender: &str,
        message_ids: &[String],
        deadline: Duration,
    ) -> Result<Vec<redrive_response::Result>, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            let request = RedriveRequest { sender: sender.to_owned(), message_ids: message_ids.to_vec() };
            DeliveryServiceClient::new(channel).redrive(timed(request, left)).await
        });
        Ok(response.await?.results)
    }

    /// Passes a delivery on to the recipient it should have gone to. When an answer is lost and the call made again, the delivery
    /// is no longer the caller's, and the reason is [`airut_domain::refusal::Reason::LeaseLost`] or `NotFound`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn transfer(&self, request: &TransferRequest, deadline: Duration) -> Result<(), CallError> {
        let response = self.call(deadline, |channel, left| async move {
            DeliveryServiceClient::new(channel).transfer(timed(request.clone(), left)).await
        });
        response.await.map(drop)
    }
}
