//! One message, by a call of its own.

use std::time::Duration;

use airut_domain::receipt::Receipt;
use airut_wire::v1::{SendRequest, delivery_service_client::DeliveryServiceClient};

use super::SendError;
use crate::{
    connect::Client,
    receipt::{ReceiptError, ReceiptKeys, Sent, Verifier},
    retry::timed,
};

impl Client {
    /// Sends one message, and gives its receipt when that has been checked: id, recipient, payload and signature.
    ///
    /// Once there is a receipt the message is durable, and will be delivered or shown to both parties as a dead letter. While the
    /// exchange can't be reached or says that trying again may help, the same message is sent again with the same `message_id`
    /// until the deadline; for at least seven days that accepts it once and gives the same receipt. For many messages a
    /// [`Sender`](crate::Sender) is far faster.
    ///
    /// Cancel safe: when dropped, the exchange may have accepted the message; send it again with the same id to know.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(
        &self,
        message: &SendRequest,
        keys: &ReceiptKeys,
        deadline: Duration,
    ) -> Result<Receipt, SendError> {
        let response = self.call(deadline, |channel, left| async move {
            DeliveryServiceClient::new(channel).send(timed(message.clone(), left)).await
        });
        let receipt = response.await?.receipt.ok_or(SendError::Receipt(ReceiptError::Missing))?;
        let mut verifier = Verifier::new(keys.clone());
        verifier.verify_message(receipt, &message.message_id, &Sent::of(message)).map_err(SendError::Receipt)
    }
}
