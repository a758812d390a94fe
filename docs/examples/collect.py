"""Collects messages: takes each in, and settles it. It opens its stream again whenever it is lost."""

import json
import queue
import random
import sys
import time

import grpc

from airut.v1 import delivery_pb2, delivery_pb2_grpc
from airut_channel import arguments, connect
from query import explain, retry_delay

CREDIT = 16


def settlement(delivery, reject):
    """Takes a message in, and says how its delivery ends."""
    settled = delivery_pb2.Settlement(delivery_id=delivery.delivery_id)
    try:
        content = json.loads(delivery.message.payload)
    except ValueError:
        settled.rejected.code = "NOT_JSON"
        return settled
    if reject:
        settled.rejected.code = reject
        settled.rejected.text = "Please look up whose it is."
        return settled
    # Here it would go into our own database, under its sender and id: it may come again, and is then taken in already.
    print(f"{delivery.message.message_id} from {delivery.sender}, attempt {delivery.attempt}: {sorted(content)}")
    settled.accepted.SetInParent()
    return settled


def collect(channel, options):
    """One stream, from opening to end. Gives whether there is no more to do."""
    to_exchange = queue.SimpleQueue()
    to_exchange.put(delivery_pb2.CollectRequest(open=delivery_pb2.CollectRequest.Open(credit=CREDIT)))
    count, last = 0, False
    # The requests end, and with them our side of the stream, at the first None.
    for message in delivery_pb2_grpc.DeliveryServiceStub(channel).Collect(iter(to_exchange.get, None)):
        if message.HasField("delivery"):
            settled = delivery_pb2.CollectRequest()
            settled.settlements.settlements.append(settlement(message.delivery, options.reject))
            to_exchange.put(settled)
            last |= message.delivery.message.message_type == options.until
        for result in message.settled.results:
            # Until this has come a settlement may be lost, and the message be delivered again.
            word = delivery_pb2.SettlementResult.Outcome.Name(result.outcome)
            print(f"delivery {result.delivery_id}: {result.refusal.reason or word}", flush=True)
            count += 1
            if last or count == options.stop_after:
                to_exchange.put(None)
                last = True
    return last


def main():
    parser = arguments(__doc__, partner="pirkanmaa")
    parser.add_argument("--stop-after", type=int, help="leave after so many deliveries")
    parser.add_argument("--until", metavar="TYPE", help="leave after the first one of this type")
    parser.add_argument("--reject", metavar="CODE", help="reject all of them with this code")
    options = parser.parse_args()
    with connect(options) as channel:
        while True:
            try:
                if collect(channel, options):
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
