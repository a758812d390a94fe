//! Asking about a person's benefits.

use std::time::Duration;

use airut_wire::v1::{QueryBenefitsRequest, QueryBenefitsResponse, query_service_client::QueryServiceClient};
use tonic::{Request, metadata::MetadataValue};

use crate::{connect::Client, error::CallError};

impl Client {
    /// Asks, and waits for the answer until the deadline, which the exchange is told as well. `traceparent` is the W3C
    /// trace context that the exchange continues.
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
        traceparent: Option<&str>,
    ) -> Result<QueryBenefitsResponse, CallError> {
        // A trace is no reason to fail: one that can't be in a header is left out.
        let traceparent = traceparent.and_then(|text| MetadataValue::try_from(text).ok());
        self.call(deadline, |channel, left| {
            let mut attempt = Request::new(request.clone());
            attempt.set_timeout(left);
            if let Some(traceparent) = &traceparent {
                attempt.metadata_mut().insert("traceparent", traceparent.clone());
            }
            async move { QueryServiceClient::new(channel).query_benefits(attempt).await }
        })
        .await
    }
}
