"""Bare pyzmq between two processes inside asyncio (`zmq.asyncio`): DEALER and ROUTER, msgpack on both sides.

What a program with an event loop would write with pyzmq alone. The far end counts lists and echoes everything else.

Started with `each`, it does for every cast what no bus can leave out: one call to send it, which packs it there and
then (the caller may change it in the next line), and one awaited handler where it arrives. No names, no order numbers,
no limits, no counters.
"""

import asyncio
from time import perf_counter, perf_counter_ns
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from benchmarks.ends.load import PAYLOAD, packed, percentiles
from benchmarks.ends.parent import end_with_parent, requests_async, settings, tell

ACK_EVERY = 1_000


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    async def handle(self, message: object) -> None:
        self.count += 1


class _Caster:
    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self._pack = msgpack.Packer().pack

    def cast(self, message: object) -> None:
        self.waiting.append(self._pack(message))

    def frame(self) -> bytes:
        waiting, self.waiting = self.waiting, []
        return b"".join((b"\xdd", len(waiting).to_bytes(4, "big"), *waiting))


async def _far(given: dict[str, Any]) -> None:
    end_with_parent()
    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    tell(address=f"tcp://127.0.0.1:{port}")
    counter, next_ack, each = _Counter(), ACK_EVERY, "each" in given
    while True:
        sender, frame = await router.recv_multipart()
        message = msgpack.unpackb(frame)
        if type(message) is not list:
            await router.send_multipart([sender, packed(message)])
            continue
        if each:
            for payload in message:
                await counter.handle(payload)
        else:
            counter.count += len(message)
        if counter.count >= next_ack:
            next_ack = counter.count + ACK_EVERY
            await router.send_multipart([sender, packed(counter.count)])


async def _near(given: dict[str, Any]) -> None:
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(given["far"]["address"])
    tell()
    caster, count = _Caster(), 0
    async for request in requests_async():
        if "casts" in request:
            casts, batch = request["casts"], request["batch"]
            began = perf_counter()
            for _ in range(0, casts, batch):
                if "each" in given:
                    for _ in range(batch):
                        caster.cast(PAYLOAD)
                    await dealer.send(caster.frame())
                else:
                    await dealer.send(packed([PAYLOAD] * batch))
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
        await dealer.send(packed(PAYLOAD))
        msgpack.unpackb(await dealer.recv())
        times_ns.append(perf_counter_ns() - began_ns)
    return percentiles(times_ns)


if __name__ == "__main__":
    started_with = settings()
    asyncio.run(_far(started_with) if started_with["end"] == "far" else _near(started_with))
