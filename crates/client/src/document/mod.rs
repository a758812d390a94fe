//! Documents: sending them, however often the connection breaks, and fetching them.

mod fetch;
mod upload;

use std::{io, time::Duration};

use airut_wire::v1::{GetUploadRequest, GetUploadResponse, document_service_client::DocumentServiceClient};

pub use self::fetch::{FetchError, Fetching};
use crate::{
    connect::Client,
    error::CallError,
    retry::{Backoff, timed},
    send::SendError,
};

/// A document's content is sent in chunks of so many bytes.
const CHUNK: usize = 256 * 1024;

/// How calls that broke are made again, for as long as the caller has patience.
const AGAIN: Backoff = Backoff { tries: u32::MAX, first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// Why a document has no receipt.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// As for a message.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Its content can not be read.
    #[error("the document can not be read: {0}")]
    Content(#[from] io::Error),
}

impl From<CallError> for UploadError {
    fn from(fault: CallError) -> Self {
        Self::Send(fault.into())
    }
}

impl Client {
    /// How far a document of the caller's has come.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get_upload(&self, document_id: &str, deadline: Duration) -> Result<GetUploadResponse, CallError> {
        self.call(deadline, |channel, left| async move {
            let request = GetUploadRequest { document_id: document_id.to_owned() };
            DocumentServiceClient::new(channel).get_upload(timed(request, left)).await
        })
        .await
    }
}
