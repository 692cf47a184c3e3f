"""Plain asyncio streams between two processes: four bytes of length, then msgpack. Like `pyzmq_pair` otherwise.

TCP's own flow control paces it: `drain` waits while the far end does not read.
"""

import asyncio
from time import perf_counter, perf_counter_ns
from typing import Any

import msgpack

from benchmarks.ends.load import PAYLOAD, packed, percentiles
from benchmarks.ends.parent import requests_async, settings, tell

ACK_EVERY = 1_000
_LENGTH_BYTES = 4


def _frame(message: object) -> bytes:
    body = packed(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def _read(reader: asyncio.StreamReader) -> Any:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return msgpack.unpackb(await reader.readexactly(length))


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    count, next_ack = 0, ACK_EVERY
    try:
        while True:
            message = await _read(reader)
            if type(message) is not list:
                writer.write(_frame(message))
                continue
            count += len(message)
            if count >= next_ack:
                next_ack = count + ACK_EVERY
                writer.write(_frame(count))
    except asyncio.IncompleteReadError:
        writer.close()


async def _far() -> None:
    async with await asyncio.start_server(_serve, "127.0.0.1", 0) as server:
        tell(port=server.sockets[0].getsockname()[1])
        async for _ in requests_async():
            pass


async def _near(given: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", given["far"]["port"])
    tell()
    count = 0
    async for request in requests_async():
        if "casts" in request:
            casts = request["casts"]
            tell(casts_per_s=await _casts(reader, writer, casts, request["batch"], count + casts))
            count += casts
        else:
            tell(**await _calls(reader, writer, request["calls"]))
    writer.close()


async def _casts(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, casts: int, batch: int, count_after: int
) -> float:
    began = perf_counter()
    for _ in range(0, casts, batch):
        writer.write(_frame([PAYLOAD] * batch))
        await writer.drain()
    while await _read(reader) < count_after:
        pass
    return casts / (perf_counter() - began)


async def _calls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calls: int) -> dict[str, float]:
    times_ns = []
    for _ in range(calls):
        began_ns = perf_counter_ns()
        writer.write(_frame(PAYLOAD))
        await _read(reader)
        times_ns.append(perf_counter_ns() - began_ns)
    return percentiles(times_ns)


if __name__ == "__main__":
    started_with = settings()
    asyncio.run(_far() if started_with["end"] == "far" else _near(started_with))
