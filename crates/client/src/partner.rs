//! The registry of partners: one's own definition, and for operators everybody's.
//!
//! Every call here may be made again: what is in force already is only told. So all are tried again like [`Client::query`].

use std::time::Duration;

use airut_wire::v1::{
    ApplyRequest, GetSelfRequest, GetSelfResponse, ListRequest, ListResponse, Partner, RegisterCertificateRequest,
    RevokeCertificateRequest, SuspendRequest, partner_service_client::PartnerServiceClient,
};

use crate::{connect::Client, error::CallError, retry::timed};

impl Client {
    /// One's own definition, with what one may ask.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn own_definition(&self, deadline: Duration) -> Result<Partner, CallError> {
        Ok(self.own_entry(deadline).await?.partner.unwrap_or_default())
    }

    /// One's own definition, and the partners with whom it lets one exchange anything.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn own_entry(&self, deadline: Duration) -> Result<GetSelfResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            PartnerServiceClient::new(channel).get_self(timed(GetSelfRequest {}, left)).await
        })
        .await
    }

    /// A page of the partners. Operators only.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list_partners(&self, request: &ListRequest, deadline: Duration) -> Result<ListResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            PartnerServiceClient::new(channel).list(timed(request.clone(), left)).await
        })
        .await
    }

    /// Puts a definition in force; gives it as it then is. Operators only.
    ///
    /// # Errors
    /// See [`CallError`]; its reason is [`airut_domain::refusal::Reason::VersionChanged`] when the expected version is no longer
    /// in force.
    pub async fn apply_partner(&self, request: &ApplyRequest, deadline: Duration) -> Result<Partner, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            PartnerServiceClient::new(channel).apply(timed(request.clone(), left)).await
        });
        Ok(response.await?.partner.unwrap_or_default())
    }

    /// Lets the partner call no more; gives its definition. Operators only.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn suspend_partner(&self, partner_id: &str, deadline: Duration) -> Result<Partner, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            let request = SuspendRequest { partner_id: partner_id.to_owned() };
            PartnerServiceClient::new(channel).suspend(timed(request, left)).await
        });
        Ok(response.await?.partner.unwrap_or_default())
    }

    /// Lets the partner's certificate of this fingerprint identify nobody any more, for good; gives the partner's definition.
    /// Operators only.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revoke_certificate(
        &self,
        partner_id: &str,
        fingerprint: &str,
        deadline: Duration,
    ) -> Result<Partner, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            let (partner_id, fingerprint) = (partner_id.to_owned(), fingerprint.to_owned());
            let request = RevokeCertificateRequest { partner_id, fingerprint };
            PartnerServiceClient::new(channel).revoke_certificate(timed(request, left)).await
        });
        Ok(response.await?.partner.unwrap_or_default())
    }

    /// Lets oneself be known by one's next certificate too, given as PEM; gives one's own definition. Never give it a file that
    /// holds the key as well.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn register_certificate(&self, certificate: &str, deadline: Duration) -> Result<Partner, CallError> {
        let response = self.call(deadline, |channel, left| async move {
            let request = RegisterCertificateRequest { certificate: certificate.to_owned() };
            PartnerServiceClient::new(channel).register_certificate(timed(request, left)).await
        });
        Ok(response.await?.partner.unwrap_or_default())
    }
}
