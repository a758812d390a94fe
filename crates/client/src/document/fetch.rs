//! Fetching a document.

use std::time::Duration;

use airut_domain::keys::Digest;
use airut_wire::v1::{
    DocumentMetadata, FetchDocumentRequest, FetchDocumentResponse, document_service_client::DocumentServiceClient,
    fetch_document_response as f,
};
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::AGAIN;
use crate::{connect::Client, error::CallError};

/// So often the connection may break without a byte in between.
const MOST_BROKEN: usize = 16;

/// Why a document, or the part that was asked for, did not come whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What came is not what its sender described.
    #[error("what came is not the document that was sent: its SHA-256 is another one")]
    OtherContent,
    /// The exchange did not keep to the protocol.
    #[error("the exchange did not send what was asked for")]
    Protocol,
}

/// A document that comes.
pub struct Fetching {
    client: Client,
    request: FetchDocumentRequest,
    metadata: DocumentMetadata,
    patience: Duration,
    stream: Option<Streaming<FetchDocumentResponse>>,
    /// The next byte, and the one after the last.
    at: i64,
    end: i64,
    /// Of the whole document; none for a part of it, of which nobody knows the digest.
    hash: Option<Context>,
}

impl Client {
    /// Fetches a document, or the part that the request names. It is on record before the first byte comes, and once more with each time that the
    /// connection had to be made again. That goes on from where it was, until nothing has come for as long as `patience`.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch_document(
        &self,
        request: &FetchDocumentRequest,
        patience: Duration,
    ) -> Result<Fetching, FetchError> {
        let (stream, metadata) = persist(patience, || self.open(request.clone(), patience)).await?;
        let left = metadata.size_bytes - request.offset;
        let length = if request.length == 0 { left } else { request.length };
        let is_whole = request.offset == 0 && length == metadata.size_bytes;
        Ok(Fetching {
            client: self.clone(),
            request: request.clone(),
            at: request.offset,
            end: request.offset + length,
            hash: is_whole.then(|| Context::new(&SHA256)),
            metadata,
            patience,
            stream: Some(stream),
        })
    }

    async fn open(
        &self,
        request: FetchDocumentRequest,
        patience: Duration,
    ) -> Result<(Streaming<FetchDocumentResponse>, DocumentMetadata), FetchError> {
        let mut client = DocumentServiceClient::new(self.traced());
        let opened = async {
            let mut stream = client.fetch_document(request).await?.into_inner();
            let first = stream.message().await?;
            Ok::<_, tonic::Status>((stream, first))
        };
        let opened = timeout(patience, opened).await.map_err(|_| CallError::DeadlinePassed)?;
        let (stream, first) = opened.map_err(CallError::from)?;
        match first.and_then(|first| first.message) {
            Some(f::Message::Metadata(metadata)) => Ok((stream, metadata)),
            Some(f::Message::Chunk(_)) | None => Err(FetchError::Protocol),
        }
    }
}

impl std::fmt::Debug for Fetching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetching({} to {}, the rest hidden)", self.at, self.end)
    }
}

impl Fetching {
    /// What the document is, as its sender described it.
    pub fn metadata(&self) -> &DocumentMetadata {
        &self.metadata
    }

    /// How many bytes are still to come.
    pub fn left(&self) -> u64 {
        u64::try_from(self.end - self.at).unwrap_or(0)
    }

    /// The next bytes; none when all have come, and, of a whole document, are what its sender described.
    ///
    /// # Errors
    /// See [`FetchError`]. Nothing that came before must then be used.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        if self.at == self.end {
            let Some(hash) = self.hash.take() else { return Ok(None) };
            let digest = Digest::from_slice(hash.finish().as_ref());
            let as_said = digest.is_some() && digest == Digest::from_slice(&self.metadata.sha256);
            return if as_said { Ok(None) } else { Err(FetchError::OtherContent) };
        }
        for _ in 0..MOST_BROKEN {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.go_on().await?,
            };
            let came = timeout(self.patience, stream.message()).await;
            match came.map_err(|_| CallError::DeadlinePassed)?.map_err(CallError::from) {
                Ok(Some(FetchDocumentResponse { message: Some(f::Message::Chunk(chunk)) })) => {
                    let length = i64::try_from(chunk.len()).map_err(|_| FetchError::Protocol)?;
                    if length > self.end - self.at {
                        return Err(FetchError::Protocol);
                    }
                    self.at += length;
                    if let Some(hash) = &mut self.hash {
                        hash.update(&chunk);
                    }
                    self.stream = Some(stream);
                    return Ok(Some(chunk));
                }
                Ok(Some(_)) => return Err(FetchError::Protocol),
                // It ended too soon: the rest is asked for.
                Ok(None) => {}
                Err(fault) if fault.may_pass() => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(CallError::Unreachable("the connection breaks each time".to_owned()).into())
    }

    /// Asks for what is missing.
    async fn go_on(&self) -> Result<Streaming<FetchDocumentResponse>, FetchError> {
        let request = FetchDocumentRequest { offset: self.at, length: self.end - self.at, ..self.request.clone() };
        let again = persist(self.patience, || self.client.open(request.clone(), self.patience));
        let (stream, metadata) = again.await?;
        if metadata == self.metadata { Ok(stream) } else { Err(FetchError::OtherContent) }
    }
}

/// Calls until it succeeds, can't, or patience is over.
async fn persist<T, F>(patience: Duration, mut attempt: impl FnMut() -> F) -> Result<T, FetchError>
where
    F: Future<Output = Result<T, FetchError>>,
{
    let began = Instant::now();
    let mut failures = 0;
    loop {
        let fault = match attempt().await {
            Err(FetchError::Call(fault)) if fault.may_pass() => fault,
            ended => return ended,
        };
        failures += 1;
        let delay = AGAIN.delay(failures, fault.retry_after(), rand::random());
        if began.elapsed() + delay >= patience {
            return Err(fault.into());
        }
        sleep(delay).await;
    }
}
