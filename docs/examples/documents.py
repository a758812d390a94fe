"""Sends a document and checks its receipt, or fetches one. The identity code is read from standard input: arguments show in the list of processes."""

import hashlib
import mimetypes
import sys
import time
import uuid
from pathlib import Path

import grpc

from airut.v1 import common_pb2, document_pb2, document_pb2_grpc
from airut_channel import arguments, connect
from check_receipt import check, check_signature, receipt_keys
from query import explain, retry_delay

CHUNK_BYTES = 256 * 1024
PATIENCE_SECONDS = 60


def context():
    return common_pb2.Context(
        end_user="official-17",
        end_user_role="social-worker",
        purpose="social-assistance",
        legal_basis="1412/1997",
        case_id="2026-118",
    )


def described(path, document_id, subject_id):
    """What the file is. Keep it with your work: the same document is the same metadata, byte by byte."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return document_pb2.DocumentMetadata(
        document_id=document_id,
        recipient="kela",
        document_type="social-assistance-document",
        subject_id=subject_id,
        context=context(),
        file_name=path.name,
        content_type=mimetypes.guess_type(path.name)[0],
        size_bytes=path.stat().st_size,
        sha256=digest,
    )


def said(metadata, path, offset):
    """The document, then its content from there on."""
    begin = document_pb2.SendDocumentRequest.Begin(metadata=metadata, offset=offset)
    yield document_pb2.SendDocumentRequest(begin=begin)
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield document_pb2.SendDocumentRequest(chunk=chunk)


def received(stub, document_id):
    """Up to which byte the exchange has it."""
    try:
        request = document_pb2.GetUploadRequest(document_id=document_id)
        return stub.GetUpload(request, timeout=10).received_bytes
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return 0
        raise


def send(channel, metadata, path):
    """Sends it, and goes on where it was while that may help. Raises grpc.RpcError when it does not."""
    stub = document_pb2_grpc.DocumentServiceStub(channel)
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            offset = received(stub, metadata.document_id)
            return stub.SendDocument(said(metadata, path, offset)).receipt
        except grpc.RpcError as error:
            delay = retry_delay(error)
            if delay is None or time.monotonic() + delay >= until:
                raise
            time.sleep(delay)


def fetch(channel, sender, document_id, into):
    """Fetches it into a file that is there whole or not at all."""
    stub = document_pb2_grpc.DocumentServiceStub(channel)
    request = document_pb2.FetchDocumentRequest(sender=sender, document_id=document_id, context=context())
    digest, metadata, part = hashlib.sha256(), None, into.with_suffix(".part")
    with part.open("wb") as file:
        for message in stub.FetchDocument(request):
            if message.HasField("metadata"):
                metadata = message.metadata
            file.write(message.chunk)
            digest.update(message.chunk)
    check(digest.digest() == metadata.sha256, "what came is not what was sent")
    part.rename(into)
    return metadata


def main():
    parser = arguments(__doc__, partner="pirkanmaa")
    parser.add_argument("verb", choices=["send", "fetch"])
    parser.add_argument("file", type=Path, help="what to send, or where to keep what is fetched")
    parser.add_argument("--document-id", help="of a document that is sent again or fetched; a new one otherwise")
    parser.add_argument("--sender", default="pirkanmaa", help="who has sent the document that is fetched")
    options = parser.parse_args()
    with connect(options) as channel:
        try:
            if options.verb == "fetch":
                metadata = fetch(channel, options.sender, options.document_id, options.file)
                print(f"fetched {metadata.file_name}, {metadata.size_bytes} bytes, {metadata.content_type}")
                return 0
            document_id = options.document_id or str(uuid.uuid4())
            metadata = described(options.file, document_id, sys.stdin.readline().strip())
            receipt = send(channel, metadata, options.file)
        except grpc.RpcError as error:
            explain(error)
            return 1
    check(receipt.id == metadata.document_id, "the receipt is for another document")
    check(receipt.payload_sha256 == metadata.sha256, "the receipt is for other content")
    check_signature(receipt, receipt_keys(options.data / "pki/receipt-keys.txt"))
    print(f"document {receipt.id} is stored, on record at {receipt.position}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
