"""A node in mode primary, which measures its own Repo when it is asked to, and stops in order when its input ends."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from app.config import load_config
from app.running import running_node
from app.running_node import RunningNode
from benchmarks.ends.parent import requests_async, settings, tell
from replication.primary.forwarding import WRITES
from replication.repo import Repo

COUNT = "INSERT INTO page_counts (page, count) VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET count = count + 1"
SELECT = "SELECT * FROM page_counts WHERE page = ?"
PAGES = 100


async def main() -> None:
    """Answers each request with what it measured."""
    config = load_config(None, {**os.environ, **settings()})
    async with running_node(config) as running:
        tell(pid=os.getpid())
        async for request in requests_async():
            tell(**await _measured(running, config.database.path, request))


async def _measured(running: RunningNode, path: Path, request: dict[str, Any]) -> dict[str, Any]:
    repo, count = running.repo, int(request.get("count", 0))
    match request["what"]:
        case "status":
            return {"peers": len(running.node.peers()), "primary": not (path.parent / ".primary").exists()}
        case "writes":
            return {"p50_ms": await _p50_ms(lambda: repo.execute(COUNT, ("home",)), count)}
        case "round trips":
            primary = (path.parent / ".primary").read_text().strip()
            return {"p50_ms": await _p50_ms(lambda: running.node.call(primary, WRITES, None), count)}
        case "reads":
            return await _reads(repo, path, count)
        case "through":
            return await _through(repo, float(request["seconds"]), int(request["at_once"]))
        case _:
            return {"seconds": await _longest_gap_s(repo, float(request["seconds"]))}


async def _p50_ms(act: Callable[[], Awaitable[object]], count: int) -> float:
    times_s: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        await act()
        times_s.append(time.perf_counter() - began_s)
    return median(times_s) * 1000


async def _reads(repo: Repo, path: Path, count: int) -> dict[str, float]:
    """Of the node's file, and of a copy of its rows in which there is nothing of Litecast, turn by turn."""
    plain = path.with_name("plain.db")
    plain.unlink(missing_ok=True)
    (schema,) = (await repo.all("SELECT sql FROM sqlite_master WHERE name = 'page_counts'"))[0].values()
    with closing(sqlite3.connect(plain, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = WAL")
        copy.execute(schema)
        rows = [tuple(row.values()) for row in await repo.all("SELECT * FROM page_counts")]
        copy.executemany(f"INSERT INTO page_counts VALUES ({', '.join('?' * len(rows[0]))})", rows)
    async with Repo(plain) as other:
        with closing(sqlite3.connect(path)) as bare, closing(sqlite3.connect(plain)) as bare_plain:
            acts: dict[str, Callable[[], Awaitable[object]]] = {
                "repo": lambda: repo.get("page_counts", "home"),
                "repo_plain": lambda: other.get("page_counts", "home"),
                "sqlite3": lambda: _fetched(bare),
                "sqlite3_plain": lambda: _fetched(bare_plain),
            }
            found: dict[str, list[float]] = {name: [] for name in acts}
            for _ in range(5):
                for name, act in acts.items():
                    found[name].append(await _p50_ms(act, count // 5) * 1000)
    return {name: median(times_us) for name, times_us in found.items()}


async def _fetched(connection: sqlite3.Connection) -> object:
    return connection.execute(SELECT, ("home",)).fetchone()


async def _through(repo: Repo, seconds: float, at_once: int) -> dict[str, float]:
    until_s = time.monotonic() + seconds
    counts = [0] * at_once

    async def write(number: int) -> None:
        while time.monotonic() < until_s:
            await repo.execute(COUNT, (f"page {(number * 31 + counts[number]) % PAGES}",))
            counts[number] += 1

    began_s = time.monotonic()
    await asyncio.gather(*map(write, range(at_once)))
    return {"writes_per_s": sum(counts) / (time.monotonic() - began_s)}


async def _longest_gap_s(repo: Repo, seconds: float) -> float:
    """Between two writes that were acknowledged."""
    until_s = time.monotonic() + seconds
    moments = [time.monotonic()]
    while moments[-1] < until_s:
        await repo.execute(COUNT, ("home",))
        moments.append(time.monotonic())
    return max(later - earlier for earlier, later in pairwise(moments))


if __name__ == "__main__":
    asyncio.run(main())
