"""Bare pyzmq between two processes, blocking: a DEALER that sends to a ROUTER, msgpack on both sides, no event loop.

The fastest that Python and ZeroMQ do together. Casts are lists of payloads, unpacked and counted by the far end, which
sends its count back every `ACK_EVERY`; the DEALER blocks at its high-water mark, so nothing is dropped. The far end
echoes whatever is not a list.

A batch is packed as a whole, by one call for 100 payloads, and unpacked likewise: nothing is done for each payload in
Python.
"""

from time import perf_counter, perf_counter_ns
from typing import Any

import msgpack
import zmq

from benchmarks.ends.load import PAYLOAD, packed, percentiles
from benchmarks.ends.parent import end_with_parent, requests, settings, tell
from cluster.security import CurveKeys, Secret, derive_curve_keys

ACK_EVERY = 1_000
ANSWER_TIMEOUT_MS = 30_000


def keys_of(given: dict[str, Any]) -> CurveKeys | None:
    """The same kind of keys as Litecast's own, if this run is one with a secret."""
    secret = given.get("secret")
    return None if secret is None else derive_curve_keys(Secret(secret), "benchmarks")


def serve_curve(router: zmq.Socket[bytes], keys: CurveKeys | None) -> None:
    """Encrypt what comes to this socket."""
    if keys is not None:
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret)


def use_curve(dealer: zmq.Socket[bytes], keys: CurveKeys | None) -> None:
    """Encrypt what leaves by this socket."""
    if keys is not None:
        dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.client_public)
        dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.client_secret)


def _far(given: dict[str, Any]) -> None:
    end_with_parent()
    router = zmq.Context().socket(zmq.ROUTER)
    serve_curve(router, keys_of(given))
    port = router.bind_to_random_port("tcp://127.0.0.1")
    tell(address=f"tcp://127.0.0.1:{port}")
    count, next_ack = 0, ACK_EVERY
    while True:
        sender, frame = router.recv_multipart()
        message = msgpack.unpackb(frame)
        if type(message) is not list:
            router.send_multipart([sender, packed(message)])
            continue
        count += len(message)
        if count >= next_ack:
            next_ack = count + ACK_EVERY
            router.send_multipart([sender, packed(count)])


def _near(given: dict[str, Any]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.RCVTIMEO, ANSWER_TIMEOUT_MS)
    dealer.setsockopt(zmq.SNDTIMEO, ANSWER_TIMEOUT_MS)
    dealer.setsockopt(zmq.LINGER, 0)
    use_curve(dealer, keys_of(given))
    dealer.connect(given["far"]["address"])
    tell()
    count = 0
    for request in requests():
        if "casts" in request:
            casts = request["casts"]
            began = perf_counter()
            for _ in range(0, casts, request["batch"]):
                dealer.send(packed([PAYLOAD] * request["batch"]))
            while msgpack.unpackb(dealer.recv()) < count + casts:
                pass
            tell(casts_per_s=casts / (perf_counter() - began))
            count += casts
        else:
            tell(**_calls(dealer, request["calls"]))
    dealer.close()
    context.term()


def _calls(dealer: zmq.Socket[bytes], calls: int) -> dict[str, float]:
    times_ns = []
    for _ in range(calls):
        began_ns = perf_counter_ns()
        dealer.send(packed(PAYLOAD))
        msgpack.unpackb(dealer.recv())
        times_ns.append(perf_counter_ns() - began_ns)
    return percentiles(times_ns)


if __name__ == "__main__":
    started_with = settings()
    if started_with["end"] == "far":
        _far(started_with)
    else:
        _near(started_with)
