"""A network between two places: TCP connections whose bytes arrive later, in both directions.

Each piece of data is late by the same time, however much is on the way: a long cable, not a slow one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 64 * 1024
CHUNKS_MAX = 1_000
"""On the way in one direction; then no more is read until some have arrived."""


@asynccontextmanager
async def relay(host: str, port: int, *, one_way_s: float) -> AsyncIterator[int]:
    """The port on loopback that leads there, inside the block."""
    connections: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        connections.add(task)
        task.add_done_callback(connections.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await _joined(reader, writer, host, port, one_way_s)

    server = await asyncio.start_server(accepted, host="127.0.0.1", port=0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _joined(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, one_way_s: float
) -> None:
    """Until one of the two ends."""
    try:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, there_writer, one_way_s))
                both.create_task(_carry(there_reader, writer, one_way_s))
        except* (OSError, EOFError):
            pass
        finally:
            there_writer.close()
    finally:
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way_s: float) -> None:
    """Raises EOFError when all has arrived."""
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_MAX)

    async def arrive() -> None:
        while True:
            at_s, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            if not data:
                raise EOFError
            writer.write(data)
            await writer.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(arrive())
        while True:
            data = await reader.read(CHUNK_BYTES)
            await on_the_way.put((loop.time() + one_way_s, data))
            if not data:
                return
