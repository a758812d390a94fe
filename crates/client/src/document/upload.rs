//! Sending a document.

use std::{io::SeekFrom, time::Duration};

use airut_domain::{keys::Digest, receipt::Receipt, refusal::Reason};
use airut_wire::v1::{
    self, DocumentMetadata, SendDocumentRequest, document_service_client::DocumentServiceClient,
    send_document_request as s,
};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt},
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{AGAIN, CHUNK, UploadError};
use crate::{
    connect::Client,
    error::CallError,
    receipt::{ReceiptError, ReceiptKeys, Sent, Verifier},
    send::SendError,
};

/// As many chunks wait to be sent.
const QUEUE: usize = 4;

/// How long to wait for how far a document has come.
const ASK: Duration = Duration::from_secs(10);

impl Client {
    /// Sends a document, and gives its receipt when that has been checked: id, recipient, content and signature. The metadata's size and digest
    /// must be those of `content`. `progress` is told up to which byte the exchange has been given the content; it may go back.
    ///
    /// Once there is a receipt the document is durable, and its recipient knows of it. While the exchange can't be reached or says that trying again
    /// may help, sending goes on from where it was, until nothing has moved for as long as `patience`. So it does when this is called again with the
    /// same metadata, at any gateway and after any failure.
    ///
    /// Cancel safe: when dropped, call it again with the same metadata to go on.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn send_document<C>(
        &self,
        metadata: &DocumentMetadata,
        content: &mut C,
        keys: &ReceiptKeys,
        patience: Duration,
        mut progress: impl FnMut(u64),
    ) -> Result<Receipt, UploadError>
    where
        C: AsyncRead + AsyncSeek + Unpin,
    {
        let (mut moved, mut furthest, mut failures) = (Instant::now(), 0, 0);
        let receipt = loop {
            let sent = match self.received(metadata).await {
                Ok(received) => {
                    if received > furthest {
                        (furthest, moved, failures) = (received, Instant::now(), 0);
                    }
                    self.send_from(received, metadata, content, &mut progress).await
                }
                Err(fault) => Err(fault.into()),
            };
            let fault = match sent {
                Ok(response) => break response.receipt,
                Err(UploadError::Send(SendError::Unknown(fault))) if fault.may_pass() => fault,
                Err(cause) => return Err(cause),
            };
            failures += 1;
            let delay = AGAIN.delay(failures, fault.retry_after(), rand::random());
            if moved.elapsed() + delay >= patience {
                return Err(fault.into());
            }
            sleep(delay).await;
        };
        let receipt = receipt.ok_or(SendError::Receipt(ReceiptError::Missing))?;
        let payload_sha256 = Digest::from_slice(&metadata.sha256).unwrap_or_default();
        let sent = Sent { recipient: metadata.recipient.clone(), payload_sha256 };
        let checked = Verifier::new(keys.clone()).verify_message(receipt, &metadata.document_id, &sent);
        Ok(checked.map_err(SendError::Receipt)?)
    }

    /// Up to which byte the exchange has the document.
    async fn received(&self, metadata: &DocumentMetadata) -> Result<u64, CallError> {
        match self.get_upload(&metadata.document_id, ASK).await {
            Ok(upload) => Ok(u64::try_from(upload.received_bytes).unwrap_or(0)),
            // Not begun yet.
            Err(fault) if fault.reason() == Some(Reason::NotFound) => Ok(0),
            Err(fault) => Err(fault),
        }
    }

    async fn send_from<C>(
        &self,
        offset: u64,
        metadata: &DocumentMetadata,
        content: &mut C,
        progress: &mut impl FnMut(u64),
    ) -> Result<v1::SendDocumentResponse, UploadError>
    where
        C: AsyncRead + AsyncSeek + Unpin,
    {
        content.seek(SeekFrom::Start(offset)).await?;
        let (to, messages) = mpsc::channel(QUEUE);
        let mut client = DocumentServiceClient::new(self.traced());
        let call = client.send_document(ReceiverStream::new(messages));
        tokio::pin!(call);
        let begin = s::Begin { metadata: Some(metadata.clone()), offset: i64::try_from(offset).unwrap_or(i64::MAX) };
        let feeding = feed(begin, content, to, progress);
        tokio::pin!(feeding);
        let response = tokio::select! {
            biased;
            response = &mut call => response,
            fed = &mut feeding => {
                fed?;
                call.await
            }
        };
        response.map(tonic::Response::into_inner).map_err(|status| CallError::from(status).into())
    }
}

/// Says what there is to say, as fast as it is taken. Ends early when the exchange has heard enough.
async fn feed<C: AsyncRead + Unpin>(
    begin: s::Begin,
    content: &mut C,
    to: mpsc::Sender<SendDocumentRequest>,
    progress: &mut impl FnMut(u64),
) -> std::io::Result<()> {
    let mut given = u64::try_from(begin.offset).unwrap_or(0);
    let mut left = begin.metadata.as_ref().map_or(0, |metadata| metadata.size_bytes) - begin.offset;
    let said = |message| SendDocumentRequest { message: Some(message) };
    if to.send(said(s::Message::Begin(begin))).await.is_err() {
        return Ok(());
    }
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = BytesMut::with_capacity(most);
        while chunk.len() < most {
            if (&mut *content).take((most - chunk.len()) as u64).read_buf(&mut chunk).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = chunk.len() as u64;
        if to.send(said(s::Message::Chunk(chunk.freeze()))).await.is_err() {
            return Ok(());
        }
        left -= i64::try_from(length).unwrap_or(left);
        given += length;
        progress(given);
    }
    Ok(())
}
