"""Bare pyzmq between two processes inside asyncio (`zmq.asyncio`): DEALER and ROUTER, msgpack on both sides.

What a program with an event loop would write with pyzmq alone. The far end counts lists and echoes everything else.
"""

import asyncio
from time import perf_counter, perf_counter_ns
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from benchmarks.ends.load import PAYLOAD, percentiles
from benchmarks.ends.parent import end_with_parent, requests_async, settings, tell

ACK_EVERY = 1_000


async def _far() -> None:
    end_with_parent()
    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    tell(address=f"tcp://127.0.0.1:{port}")
    count, next_ack = 0, ACK_EVERY
    while True:
        sender, frame = await router.recv_multipart()
        message = msgpack.unpackb(frame)
        if type(message) is not list:
            await router.send_multipart([sender, msgpack.packb(message)])
            continue
        count += len(message)
        if count >= next_ack:
            next_ack = count + ACK_EVERY
            await router.send_multipart([sender, msgpack.packb(count)])


async def _near(given: dict[str, Any]) -> None:
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(given["far"]["address"])
    tell()
    count = 0
    async for request in requests_async():
        if "casts" in request:
            casts, batch = request["casts"], request["batch"]
            began = perf_counter()
            for _ in range(0, casts, batch):
                await dealer.send(msgpack.packb([PAYLOAD] * batch))
            while msgpack.unpackb(await dealer.recv()) < count + casts:
                pass
            tell(casts_per_s=casts / (perf_counter() - began))
            count += casts
        else:
            tell(**await _calls(dealer, request["calls"]))
    dealer.close()
    context.term()


async def _calls(dealer: zmq.asyncio.Socket, calls: int) -> dict[str, float]:
    times_ns = []
    for _ in range(calls):
        began_ns = perf_counter_ns()
        await dealer.send(msgpack.packb(PAYLOAD))
        msgpack.unpackb(await dealer.recv())
        times_ns.append(perf_counter_ns() - began_ns)
    return percentiles(times_ns)


if __name__ == "__main__":
    started_with = settings()
    asyncio.run(_far() if started_with["end"] == "far" else _near(started_with))
