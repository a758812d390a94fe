//! Asking about a person's benefits.

use std::time::Duration;

use airut_wire::v1::{QueryBenefitsRequest, QueryBenefitsResponse, query_service_client::QueryServiceClient};

use crate::{connect::Client, error::CallError, retry::timed};

impl Client {
    /// Asks, and waits for the answer until the deadline, which the exchange is told as well.
    ///
    /// While the exchange can't be reached or says that trying again may help, the same question is asked again with
    /// the same `query_id`, which makes it safe: for ten minutes the exchange gives the same answer and the same
    /// statement in the receipt. Nothing else is tried again.
    ///
    /// Cancel safe: when dropped, the exchange still finishes the query's records.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn query(
        &self,
        request: &QueryBenefitsRequest,
        deadline: Duration,
    ) -> Result<QueryBenefitsResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            QueryServiceClient::new(channel).query_benefits(timed(request.clone(), left)).await
        })
        .await
    }
}
