"""Answers information requests: watches for those that wait for an answer, reads each, and answers it."""

import random
import sys
import time
import uuid

import grpc

from airut.v1 import common_pb2, request_pb2, request_pb2_grpc
from airut_channel import arguments, connect
from query import explain, retry_delay

WAITING = (request_pb2.INFORMATION_REQUEST_STATE_OPEN, request_pb2.INFORMATION_REQUEST_STATE_RETURNED)


def context(options):
    """Who does it and why; required in every call that shows or says something."""
    return common_pb2.Context(
        end_user=options.end_user,
        end_user_role="social-worker",
        purpose="social-assistance",
        legal_basis="1412/1997",
        case_id=options.case,
    )


def read(service, request, options):
    """What is asked: the question, or what was missing from the last answer. That it was shown is on record."""
    shown = service.GetInformationRequest(
        request_pb2.GetInformationRequestRequest(
            requester=request.requester,
            request_id=request.request_id,
            context=context(options),
            min_position=request.position,
        ),
        timeout=10,
    )
    last = shown.steps[-1]
    return last.returned.text if last.HasField("returned") else shown.steps[0].created.question.text


def answer(service, request, text, options):
    """Answers once, however often it is tried: the id of the command stays the same."""
    command = request_pb2.RespondInformationRequestRequest(
        requester=request.requester,
        request_id=request.request_id,
        command_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{request.request_id}/{request.version}")),
        context=context(options),
        text=text,
        document_ids=options.document,
        expected_version=request.version,
    )
    while True:
        try:
            return service.RespondInformationRequest(command, timeout=10).information_request
        except grpc.RpcError as error:
            delay = retry_delay(error)
            if delay is None:
                raise
            time.sleep(delay)


def serve(service, options, token):
    """One stream of changes, from where the last one ended. Gives where to go on, and how many were answered."""
    # What waited before we watched: the list says so, and nothing of what was asked.
    waiting = request_pb2.ListInformationRequestsRequest(states=WAITING)
    left = list(service.ListInformationRequests(waiting, timeout=10).information_requests) if not token else []
    answered = 0
    for change in service.WatchInformationRequests(request_pb2.WatchInformationRequestsRequest(resume_token=token)):
        token = change.resume_token
        if change.HasField("information_request"):
            left.append(change.information_request)
        for request in left:
            if request.state in WAITING and request.requester != options.partner:
                question = read(service, request, options)
                # Here a person would think.
                print(f"{request.request_id}, due {request.due_date}: asked in {len(question)} characters")
                after = answer(service, request, options.text, options)
                print(f"{request.request_id}: {request_pb2.InformationRequestState.Name(after.state)}", flush=True)
                answered += 1
        left = []
        if options.stop_after and answered >= options.stop_after:
            break
    return token, answered


def main():
    parser = arguments(__doc__, partner="pirkanmaa")
    parser.add_argument("--text", default="Nothing since June.", help="what to answer")
    parser.add_argument("--document", action="append", default=[], help="a document's id, sent before")
    parser.add_argument("--end-user", default="official-17")
    parser.add_argument("--case", default="2026-118")
    parser.add_argument("--stop-after", type=int, help="leave after so many answers")
    options = parser.parse_args()
    token = ""
    with connect(options) as channel:
        service = request_pb2_grpc.InformationRequestServiceStub(channel)
        while True:
            try:
                token, answered = serve(service, options, token)
                if options.stop_after and answered >= options.stop_after:
                    return 0
                delay = random.uniform(0.2, 1)
            except grpc.RpcError as error:
                explain(error)
                delay = retry_delay(error)
                if delay is None:
                    return 1
            time.sleep(delay)


if __name__ == "__main__":
    sys.exit(main())
