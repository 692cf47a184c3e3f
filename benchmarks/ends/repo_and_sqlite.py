"""`Repo` and bare `sqlite3` in one process, each with a file of its own per durability, filled alike.

The bare connections have the settings of Repo's: WAL, the same `synchronous`, no transactions that the module begins by
itself. They do what an asyncio program may not: they run in the
thread that waits for them.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter_ns

from benchmarks.ends.load import percentiles
from benchmarks.ends.parent import requests_async, tell
from replication.open_database import iso
from replication.opening import Synchronous
from replication.repo import Repo, utc_now
from replication.transaction import Transaction

ROWS = 10_000
TABLE = """CREATE TABLE page_counts (page TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL,
           inserted_at TEXT NOT NULL, updated_at TEXT NOT NULL)"""
SELECT = "SELECT * FROM page_counts WHERE page = ?"
UPDATE = "UPDATE page_counts SET count = ?, updated_at = ? WHERE page = ?"


def _page(number: int) -> str:
    return f"page-{number:06}"


class _Pages:
    """Pages in an order that is the same in each run."""

    def __init__(self) -> None:
        self._random = Random(3)

    def some(self, count: int) -> list[str]:
        return [_page(self._random.randrange(ROWS)) for _ in range(count)]


class _Bare:
    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous.name}")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute(TABLE)
        now = iso(utc_now())
        rows = ((_page(number), 0, now, now) for number in range(ROWS))
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO page_counts VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()

    def reads(self, pages: list[str]) -> list[int]:
        times_ns, execute = [], self._connection.execute
        for page in pages:
            began_ns = perf_counter_ns()
            execute(SELECT, (page,)).fetchone()
            times_ns.append(perf_counter_ns() - began_ns)
        return times_ns

    def writes(self, pages: list[str]) -> list[int]:
        times_ns, execute = [], self._connection.execute
        for number, page in enumerate(pages):
            began_ns = perf_counter_ns()
            execute(UPDATE, (number, iso(utc_now()), page))
            times_ns.append(perf_counter_ns() - began_ns)
        return times_ns

    def views(self, pages: list[str]) -> list[int]:
        times_ns, execute = [], self._connection.execute
        for page in pages:
            began_ns = perf_counter_ns()
            execute("BEGIN IMMEDIATE")
            (_, count, _, _) = execute(SELECT, (page,)).fetchone()
            execute(UPDATE, (count + 1, iso(utc_now()), page))
            execute("COMMIT")
            times_ns.append(perf_counter_ns() - began_ns)
        return times_ns


async def _filled(repo: Repo) -> Repo:
    await repo.migrate([TABLE])
    await repo.insert_many("page_counts", [{"page": _page(number), "count": 0} for number in range(ROWS)])
    return repo


async def _reads(repo: Repo, pages: list[str]) -> list[int]:
    times_ns = []
    for page in pages:
        began_ns = perf_counter_ns()
        await repo.get("page_counts", page)
        times_ns.append(perf_counter_ns() - began_ns)
    return times_ns


async def _writes(repo: Repo, pages: list[str]) -> list[int]:
    times_ns = []
    for number, page in enumerate(pages):
        began_ns = perf_counter_ns()
        await repo.update("page_counts", page, {"count": number})
        times_ns.append(perf_counter_ns() - began_ns)
    return times_ns


async def _views(repo: Repo, pages: list[str]) -> list[int]:
    times_ns = []
    for page in pages:

        def count(transaction: Transaction, page: str = page) -> None:
            row = transaction.get("page_counts", page)
            assert row is not None
            transaction.update("page_counts", page, {"count": row["count"] + 1})

        began_ns = perf_counter_ns()
        await repo.transaction(count)
        times_ns.append(perf_counter_ns() - began_ns)
    return times_ns


@contextmanager
def _bare_ones(folder: Path) -> Iterator[dict[Synchronous, _Bare]]:
    bare = {synchronous: _Bare(folder / f"bare-{synchronous.name}.db", synchronous) for synchronous in Synchronous}
    try:
        yield bare
    finally:
        for one in bare.values():
            one.close()


async def _serve(folder: Path) -> None:
    pages = _Pages()
    async with AsyncExitStack() as stack:
        bare = stack.enter_context(_bare_ones(folder))
        repos = {
            synchronous: await _filled(
                await stack.enter_async_context(Repo(folder / f"repo-{synchronous.name}.db", synchronous=synchronous))
            )
            for synchronous in Synchronous
        }
        tell()
        async for request in requests_async():
            some = pages.some(request["count"])
            synchronous = Synchronous[request["synchronous"]]
            match request["who"], request["work"]:
                case "repo", "read":
                    times_ns = await _reads(repos[synchronous], some)
                case "repo", "write":
                    times_ns = await _writes(repos[synchronous], some)
                case "repo", "view":
                    times_ns = await _views(repos[synchronous], some)
                case "bare", "read":
                    times_ns = bare[synchronous].reads(some)
                case "bare", "write":
                    times_ns = bare[synchronous].writes(some)
                case "bare", "view":
                    times_ns = bare[synchronous].views(some)
                case unknown:
                    raise AssertionError(unknown)
            tell(**percentiles(times_ns))


if __name__ == "__main__":
    with TemporaryDirectory(prefix="litecast-bench-") as name:
        asyncio.run(_serve(Path(name)))
