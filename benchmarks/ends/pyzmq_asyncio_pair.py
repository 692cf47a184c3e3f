"""Bare pyzmq between two processes inside asyncio (`zmq.asyncio`): an echo over DEALER and ROUTER, msgpack on both sides.

What a program with an event loop would write with pyzmq alone.
"""

import asyncio
from time import perf_counter_ns
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from benchmarks.ends.load import PAYLOAD, percentiles
from benchmarks.ends.parent import end_with_parent, requests_async, settings, tell


async def _far() -> None:
    end_with_parent()
    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    tell(address=f"tcp://127.0.0.1:{port}")
    while True:
        sender, frame = await router.recv_multipart()
        await router.send_multipart([sender, msgpack.packb(msgpack.unpackb(frame))])


async def _near(given: dict[str, Any]) -> None:
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(given["far"]["address"])
    tell()
    async for request in requests_async():
        times_ns = []
        for _ in range(request["calls"]):
            began_ns = perf_counter_ns()
            await dealer.send(msgpack.packb(PAYLOAD))
            msgpack.unpackb(await dealer.recv())
            times_ns.append(perf_counter_ns() - began_ns)
        tell(**percentiles(times_ns))
    dealer.close()
    context.term()


if __name__ == "__main__":
    started_with = settings()
    asyncio.run(_far() if started_with["end"] == "far" else _near(started_with))
