"""Asks for a person's benefits. The identity code is read from standard input: arguments show in the list of processes."""

import random
import secrets
import sys
import time
import uuid
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from airut.v1 import common_pb2, query_pb2, query_pb2_grpc
from airut_channel import arguments, connect

DEADLINE_SECONDS = 10


def question(subject_id, query_id):
    return query_pb2.QueryBenefitsRequest(
        query_id=query_id,
        subject_id=subject_id,
        context=common_pb2.Context(
            end_user="official-17",
            end_user_role="social-worker",
            purpose="social-assistance",
            legal_basis="1412/1997",
            case_id="2026-118",
        ),
        categories=[
            common_pb2.CATEGORY_PENDING,
            common_pb2.CATEGORY_DECISION,
            common_pb2.CATEGORY_PAYMENT,
            common_pb2.CATEGORY_RECOVERY,
        ],
    )


def ask(channel, request):
    """Asks, and asks again with the same query_id while that may help. Raises grpc.RpcError when it does not."""
    stub = query_pb2_grpc.QueryServiceStub(channel)
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            left = until - time.monotonic()
            return stub.QueryBenefits(request, timeout=left, metadata=[("traceparent", traceparent)])
        except grpc.RpcError as error:
            delay = retry_delay(error)
            if delay is None or time.monotonic() + delay >= until:
                raise
            time.sleep(delay)


def retry_delay(error):
    """Seconds to wait before the same call is tried again, or None when that does not help."""
    for detail in details(error):
        if isinstance(detail, error_details_pb2.RetryInfo):
            return detail.retry_delay.ToTimedelta().total_seconds() + random.uniform(0, 0.5)
    # Without the exchange's word: it was not reached, or the connection broke.
    return random.uniform(0.2, 1) if error.code() is grpc.StatusCode.UNAVAILABLE else None


def details(error):
    """The google.rpc messages that an error of the exchange carries."""
    status = rpc_status.from_call(error)
    kinds = [error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo,
             error_details_pb2.RequestInfo, error_details_pb2.Help]
    for packed in status.details if status else []:
        for kind in kinds:
            message = kind()
            if packed.Unpack(message):
                yield message


def explain(error):
    """What went wrong, for the log. It holds no personal data: the exchange never repeats a value."""
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    for detail in details(error):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            print(f"  reason   {detail.reason}", file=sys.stderr)
        if isinstance(detail, error_details_pb2.BadRequest):
            for violation in detail.field_violations:
                print(f"  field    {violation.field}: {violation.description}", file=sys.stderr)
        if isinstance(detail, error_details_pb2.RequestInfo):
            print(f"  request  {detail.request_id}", file=sys.stderr)
        if isinstance(detail, error_details_pb2.Help):
            print(f"  help     {detail.links[0].url}", file=sys.stderr)


def show(response):
    for matter in response.matters:
        content = matter.WhichOneof("content")
        if content == "payment":
            payment = matter.payment
            print(f"{payment.due_date}  payment   {matter.benefit}  {payment.net_cents / 100:.2f} €")
        elif content == "decision":
            print(f"{matter.decision.decided_date}  decision  {matter.benefit}")
        elif content == "pending":
            print(f"{matter.pending.filed_date}  pending   {matter.benefit}")
    for withheld in response.withheld:
        category = common_pb2.Category.Name(withheld.category)
        print(f"withheld: {category}, {query_pb2.Withheld.Reason.Name(withheld.reason)}")


def main():
    parser = arguments(__doc__, partner="pirkanmaa")
    parser.add_argument("--query-id", default=None, help="of a query that is asked again; a new one otherwise")
    parser.add_argument("--save", type=Path, help="where to keep the response, for check_receipt.py")
    options = parser.parse_args()
    request = question(sys.stdin.readline().strip(), options.query_id or str(uuid.uuid4()))
    with connect(options) as channel:
        try:
            response = ask(channel, request)
        except grpc.RpcError as error:
            explain(error)
            return 1
    show(response)
    print(f"query {response.query_id} is on record at {response.receipt.position}")
    if options.save:
        options.save.write_bytes(response.SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
