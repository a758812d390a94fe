"""Answers questions, as a responder does. It knows one benefit matter, the same for everybody."""

import queue
import sys

from airut.v1 import common_pb2, matter_pb2, query_pb2, query_pb2_grpc
from airut_channel import arguments, connect

MAX_IN_FLIGHT = 8


def answer(question):
    """What we know of the person, within what was asked. The exchange drops whatever lies outside the question's scopes."""
    for scope in question.scopes:
        if scope.category == common_pb2.CATEGORY_PENDING and "general-housing-allowance" in scope.benefits:
            pending = matter_pb2.Matter.Pending(
                filed_date=scope.period.end_date, stage=matter_pb2.Matter.STAGE_RECEIVED
            )
            matter = matter_pb2.Matter(matter_id="example-1", benefit="general-housing-allowance", pending=pending)
            return query_pb2.ServeRequest.Matters(matters=[matter])
    return query_pb2.ServeRequest.Matters()


def main():
    parser = arguments(__doc__, partner="kela")
    parser.add_argument("--stop-after", type=int, help="leave after so many answers")
    options = parser.parse_args()
    to_exchange = queue.SimpleQueue()
    to_exchange.put(query_pb2.ServeRequest(open=query_pb2.ServeRequest.Open(max_in_flight=MAX_IN_FLIGHT)))
    answered = 0
    with connect(options) as channel:
        # The requests end, and with them our side of the stream, at the first None.
        for message in query_pb2_grpc.QueryServiceStub(channel).Serve(iter(to_exchange.get, None)):
            if message.HasField("opened"):
                print("open", flush=True)
                continue
            question = message.question
            said = query_pb2.ServeRequest.Answer(question_id=question.question_id, matters=answer(question))
            to_exchange.put(query_pb2.ServeRequest(answer=said))
            answered += 1
            print(f"answered {question.question_id} of {question.asker}", flush=True)
            if answered == options.stop_after:
                to_exchange.put(None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
