"""A node without peers, a writer in a thread of its own, and a reader in the event loop, all in one process."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.ends.load import percentiles
from benchmarks.ends.parent import requests_async, tell
from cluster.memory import MemoryNetwork
from cluster.node import Node
from cluster.supervisor import ActorChild
from replication.convergent.asking import REPLICATION
from replication.convergent.for_file import replication_for_file
from replication.convergent.worker import ReplicationWorker
from replication.declared import TableDeclaration
from replication.engine.applying import CLOCK_BOUND_MS
from replication.repo import Repo

TABLE = "CREATE TABLE IF NOT EXISTS pages (page TEXT PRIMARY KEY NOT NULL, title, count INTEGER NOT NULL DEFAULT 0)"
INSERT = "INSERT INTO pages (page, title) VALUES (?, 'a title')"
PAUSE_S = 0.01
"""Between two commits."""

type Times = dict[str, int]
"""When each page was committed, or seen, in nanoseconds."""


class Ends:
    """The node's database, its Repo, and a plain database beside it."""

    def __init__(self, repo: Repo, plain: Path) -> None:
        self._repo = repo
        self._plain = plain
        self._pages = 0

    async def measure(self, work: str, count: int, batch: int = 1) -> dict[str, float]:
        """One measurement."""
        match work:
            case "repo":
                return await self._latency(count, self._follow, self._write_by_repo)
            case "sqlite3":
                return await self._latency(count, self._follow, self._write_by_sqlite3)
            case "live":
                return await self._latency(count, self._look_live, self._write_by_sqlite3)
            case "polled":
                return await self._latency(count, self._poll, self._write_plain)
            case "behind":
                return await self._read_on(count, batch)
            case _:
                return await self._select(count)

    async def _latency(
        self,
        count: int,
        follow: Callable[[set[str], Times, asyncio.Event], Coroutine[Any, Any, None]],
        write: Callable[[list[str], Times], Coroutine[Any, Any, None]],
    ) -> dict[str, float]:
        pages = self._some(count)
        committed: Times = {}
        seen: Times = {}
        ready = asyncio.Event()
        following = asyncio.create_task(follow(set(pages), seen, ready))
        await ready.wait()
        await asyncio.sleep(0.05)
        await write(pages, committed)
        await following
        found = percentiles([max(0, seen[page] - committed[page]) for page in pages])
        return {"p50_ms": found["p50_us"] / 1000, "p99_ms": found["p99_us"] / 1000}

    def _some(self, count: int) -> list[str]:
        self._pages += count
        return [f"page {number:08}" for number in range(self._pages - count, self._pages)]

    # --- readers

    async def _follow(self, pages: set[str], seen: Times, ready: asyncio.Event) -> None:
        feed = self._repo.changes("pages", since=await self._repo.feed_position())
        await feed.begin()
        ready.set()
        while not pages <= seen.keys():
            change = await anext(feed)
            seen[str(change.key["page"])] = time.perf_counter_ns()

    async def _look_live(self, pages: set[str], seen: Times, ready: asyncio.Event) -> None:
        query = self._repo.live("SELECT page FROM pages WHERE page >= ?", [min(pages)])
        async with contextlib.aclosing(query) as live:
            async for rows in live:
                ready.set()
                for row in rows:
                    seen.setdefault(row["page"], time.perf_counter_ns())
                if pages <= seen.keys():
                    return

    async def _poll(self, pages: set[str], seen: Times, ready: asyncio.Event) -> None:
        with contextlib.closing(_opened(self._plain)) as connection:
            version = None
            last = ""
            ready.set()
            while not pages <= seen.keys():
                now = connection.execute("PRAGMA data_version").fetchone()
                if now != version:
                    version = now
                    for (page,) in connection.execute("SELECT page FROM pages WHERE page > ? ORDER BY page", (last,)):
                        seen[page] = time.perf_counter_ns()
                        last = page
                await asyncio.sleep(0.001)

    # --- writers

    async def _write_by_repo(self, pages: list[str], committed: Times) -> None:
        for page in pages:
            await self._repo.insert("pages", {"page": page, "title": "a title"})
            committed[page] = time.perf_counter_ns()
            await asyncio.sleep(PAUSE_S)

    async def _write_by_sqlite3(self, pages: list[str], committed: Times) -> None:
        await _in_thread(lambda: _write(self._repo.path, pages, committed))

    async def _write_plain(self, pages: list[str], committed: Times) -> None:
        await _in_thread(lambda: _write(self._plain, pages, committed))

    # --- reading on

    async def _read_on(self, count: int, batch: int) -> dict[str, float]:
        since = await self._repo.feed_position()
        folded = self._repo.changes("pages", since=since)
        for _ in range(0, count, batch):
            await self._repo.insert_many("pages", [{"page": page, "title": "a title"} for page in self._some(batch)])
            for _ in range(batch):
                await anext(folded)
        feed = self._repo.changes("pages", since=since)
        began_s = time.perf_counter()
        for _ in range(count):
            await anext(feed)
        return {"rows_per_s": count / (time.perf_counter() - began_s)}

    async def _select(self, count: int) -> dict[str, float]:
        began_s = time.perf_counter()
        rows = await self._repo.all("SELECT * FROM pages ORDER BY page LIMIT ?", [count])
        return {"rows_per_s": len(rows) / (time.perf_counter() - began_s)}


async def _in_thread(work: Callable[[], None]) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def run() -> None:
        work()
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, daemon=True).start()
    await done.wait()


def _write(path: Path, pages: list[str], committed: Times) -> None:
    with contextlib.closing(_opened(path)) as connection:
        for page in pages:
            connection.execute(INSERT, (page,))
            committed[page] = time.perf_counter_ns()
            time.sleep(PAUSE_S)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(TABLE)
    return connection


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[Ends]:
    path, data_dir = folder / "node.db", folder / "data"
    data_dir.mkdir()
    _opened(path).close()
    async with AsyncExitStack() as stack:
        repo = await stack.enter_async_context(Repo(path, gives_positions=True))
        replication = replication_for_file(
            path,
            cluster="benchmark",
            declared=[TableDeclaration(name="pages", counters=("count",))],
            data_dir=data_dir,
            clock_bound_ms=CLOCK_BOUND_MS,
            journal_max_age_s=3_600,
            journal_max_bytes=1024**3,
            join_timeout_s=1,
            expects_peers=False,
        )
        stack.push_async_callback(replication.close)
        await replication.open()
        repo.link = replication
        node = Node(
            name="a",
            cluster="benchmark",
            transport=MemoryNetwork().transport(None),
            children=[ActorChild(REPLICATION, lambda: ReplicationWorker(replication, node))],
        )
        await stack.enter_async_context(node)
        replication.start(node)
        stack.push_async_callback(replication.stop)
        yield Ends(repo, folder / "plain.db")


async def main() -> None:
    """Answers each request with what it measured."""
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        async with _running(Path(folder)) as ends:
            tell(ready=True)
            async for request in requests_async():
                asked: dict[str, Any] = request
                tell(**await ends.measure(**asked))


if __name__ == "__main__":
    asyncio.run(main())
