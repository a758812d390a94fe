//! How an exchange says it is, by the standard health protocol.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{connect::Client, error::CallError, retry::timed};

/// What an exchange says of one of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It does not, for now.
    NotServing,
    /// There is no such service at this address.
    Absent,
}

impl Client {
    /// The health of a service, such as `airut.v1.QueryService`; of the process as a whole when the name is empty. Asked once:
    /// that no answer comes is one.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn health(&self, service: &str, deadline: Duration) -> Result<Health, CallError> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut client = HealthClient::new(self.traced());
        let asked = timeout(deadline, client.check(timed(request, deadline))).await;
        match asked.map_err(|_| CallError::DeadlinePassed)? {
            Ok(response) if response.get_ref().status() == ServingStatus::Serving => Ok(Health::Serving),
            Ok(_) => Ok(Health::NotServing),
            Err(status) if status.code() == Code::NotFound => Ok(Health::Absent),
            Err(status) => Err(status.into()),
        }
    }
}
