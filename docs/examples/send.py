"""Sends a message and checks its receipt. The identity code is read from standard input: arguments show in the list of processes."""

import sys
import time
import uuid
from pathlib import Path

import grpc

from airut.v1 import common_pb2, delivery_pb2, delivery_pb2_grpc
from airut_channel import arguments, connect
from check_receipt import check, check_signature, receipt_keys, sha256
from query import explain, retry_delay

DEADLINE_SECONDS = 30


def message(options, subject_id):
    return delivery_pb2.SendRequest(
        message_id=options.message_id or str(uuid.uuid4()),
        recipient=options.to,
        message_type=options.type,
        ordering_key=options.key,
        subject_id=subject_id,
        context=common_pb2.Context(
            end_user="official-3",
            end_user_role="benefit-handler",
            purpose="social-work",
            legal_basis="1301/2014",
            case_id="2026-231",
        ),
        content_type="application/json",
        payload=options.payload.read_bytes(),
    )


def send(channel, request):
    """Sends, and sends again with the same message_id while that may help. Raises grpc.RpcError when it does not."""
    stub = delivery_pb2_grpc.DeliveryServiceStub(channel)
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return stub.Send(request, timeout=until - time.monotonic()).receipt
        except grpc.RpcError as error:
            delay = retry_delay(error)
            if delay is None or time.monotonic() + delay >= until:
                raise
            time.sleep(delay)


def check_message_receipt(receipt, request, keys):
    """Whether the exchange has signed that it accepted exactly this payload for this recipient."""
    check(receipt.id == request.message_id, "the receipt is for another message")
    check(receipt.recipient == request.recipient, "the receipt is for another recipient")
    check(receipt.payload_sha256 == sha256(request.payload), "the receipt is for another payload")
    check_signature(receipt, keys)


def main():
    parser = arguments(__doc__, partner="kela")
    parser.add_argument("--to", default="pirkanmaa", help="who is to receive it")
    parser.add_argument("--type", default="social-work-need", help="what it is")
    parser.add_argument("--key", default="", help="messages with the same key are delivered one after the other")
    parser.add_argument("--message-id", help="of a message that is sent again; a new one otherwise")
    parser.add_argument("payload", type=Path, help="a file with JSON in it")
    options = parser.parse_args()
    request = message(options, sys.stdin.readline().strip())
    with connect(options) as channel:
        try:
            receipt = send(channel, request)
        except grpc.RpcError as error:
            explain(error)
            return 1
    check_message_receipt(receipt, request, receipt_keys(options.data / "pki/receipt-keys.txt"))
    print(f"message {receipt.id} is accepted, on record at {receipt.position}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
