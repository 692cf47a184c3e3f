"""A node of the benchmark, in a process of its own: it measures its own Repo when it is told to, and does not outlive
the benchmark, whose end of this process's standard input closes with it.

A line of JSON in, `{"measure": NAME, "count": N}`, gives a line out, `{"ms": [...]}`. It also answers at a port, as a
database server would: a page's name in, its row out. That is what who is elsewhere reads."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from app.config import load_config
from app.logs import configure_logging
from app.running import running_node
from app.running_node import RunningNode
from replication.repo import Repo

PAGE: Final = "home"
POLL_S: Final = 0.05
_COUNT: Final = "INSERT INTO page_counts (page, count) VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET count = count + 1"


async def _main(serve_port: int, primary_port: int) -> None:
    config = load_config(None, dict(os.environ))
    configure_logging(config.log.level, config.log.format)
    async with running_node(config) as running:
        server = await asyncio.start_server(_answering(running.repo), host="127.0.0.1", port=serve_port)
        async with server:
            await _measure_on(running, primary_port)


def _answering(repo: Repo) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            row = await repo.get("page_counts", line.decode().strip())
            writer.write(json.dumps(row).encode() + b"\n")
            await writer.drain()
        writer.close()

    return answer


async def _measure_on(running: RunningNode, primary_port: int) -> None:
    repo = running.repo
    reader, writer = None, None
    _tell({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        match asked["measure"]:
            case "ready":
                await _ready(running, peers=asked["count"])
                _tell({})
                continue
            case "local read":
                act = _local_read(repo)
            case "remote read":
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", primary_port)
                act = _remote_read(reader, writer)
            case "write":
                act = _write(repo, wait=False)
            case _:
                act = _write(repo, wait=True)
        await act()  # once before it counts: connections and statements are made by then
        _tell({"ms": [await _timed_ms(act) for _ in range(asked["count"])]})
    if writer is not None:
        writer.close()


def _tell(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _ready(running: RunningNode, *, peers: int) -> None:
    """Returns once all see each other, and the page is written and can be read here."""
    while True:
        if len(running.node.peers()) >= peers:
            break
        await asyncio.sleep(POLL_S)
    await running.repo.execute(_COUNT, (PAGE,))


def _local_read(repo: Repo) -> Callable[[], Awaitable[object]]:
    return lambda: repo.get("page_counts", PAGE)


def _remote_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Callable[[], Awaitable[object]]:
    async def read() -> object:
        writer.write(PAGE.encode() + b"\n")
        return json.loads(await reader.readline())

    return read


def _write(repo: Repo, *, wait: bool) -> Callable[[], Awaitable[object]]:
    return lambda: repo.execute(_COUNT, (PAGE,), wait=wait)


async def _timed_ms(act: Callable[[], Awaitable[object]]) -> float:
    began_s = time.perf_counter()
    await act()
    return (time.perf_counter() - began_s) * 1000


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
