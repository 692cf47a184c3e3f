import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from replication.errors import RepoClosed
from replication.repo import Repo
from replication.transaction import Transaction

DEADLINE_S = 10
ENDLESS = "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


class Gate:
    """A transaction that stops in the middle until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def work(self, transaction: Transaction) -> None:
        transaction.insert("page_counts", {"page": "first", "count": 1})
        self.entered.set()
        assert self.let_go.wait(DEADLINE_S)
        transaction.insert("page_counts", {"page": "second", "count": 2})

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, DEADLINE_S)


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_transaction_whose_caller_is_cancelled_is_carried_out_whole(repo: Repo) -> None:
    gate = Gate()
    task = asyncio.create_task(repo.transaction(gate.work))
    await gate.reached()
    await cancelled(task)
    assert await repo.all("SELECT * FROM page_counts") == []  # nothing half done is seen meanwhile
    gate.let_go.set()
    await repo.insert("page_counts", {"page": "third", "count": 3})  # waits its turn, and finds no transaction open
    assert [row["count"] for row in await repo.all("SELECT count FROM page_counts ORDER BY count")] == [1, 2, 3]


async def test_a_write_that_was_cancelled_while_queued_is_carried_out(repo: Repo) -> None:
    gate = Gate()
    first = asyncio.create_task(repo.transaction(gate.work))
    await gate.reached()
    queued = asyncio.create_task(repo.execute("INSERT INTO page_counts (page, count) VALUES ('queued', 9)"))
    await asyncio.sleep(0)  # lets it begin
    queued.cancel()
    gate.let_go.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await queued
    await repo.execute("SELECT 1")  # behind it in the queue
    assert await repo.get("page_counts", "queued") is not None


async def test_close_waits_for_a_cancelled_write(path: Path) -> None:
    repo = Repo(path)
    await repo.open()
    await repo.execute("CREATE TABLE page_counts (page TEXT PRIMARY KEY, count INT)")
    gate = Gate()
    task = asyncio.create_task(repo.transaction(gate.work))
    await gate.reached()
    await cancelled(task)
    closing = asyncio.create_task(repo.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.let_go.set()
    await asyncio.wait_for(closing, DEADLINE_S)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM page_counts").fetchone() == (2,)
    connection.close()


async def test_a_close_that_is_cancelled_goes_on_and_the_lock_is_free_after_the_next(path: Path) -> None:
    repo = Repo(path)
    await repo.open()
    await repo.execute("CREATE TABLE page_counts (page TEXT PRIMARY KEY, count INT)")
    gate = Gate()
    writing = asyncio.create_task(repo.transaction(gate.work))
    await gate.reached()
    closing = asyncio.create_task(repo.close())
    await asyncio.sleep(0)
    await cancelled(closing)
    gate.let_go.set()
    await repo.close()
    await writing
    async with Repo(path) as again:
        assert len(await again.all("SELECT * FROM page_counts")) == 2


async def test_an_open_that_is_cancelled_leaves_nothing_open(path: Path) -> None:
    for steps in range(6):
        task = asyncio.create_task(Repo(path).open())
        for _ in range(steps):
            await asyncio.sleep(0)
        await cancelled(task)
        async with Repo(path) as repo:  # the lock is free
            await repo.all("SELECT 1")


async def test_a_query_whose_caller_is_cancelled_is_stopped(repo: Repo) -> None:
    query = asyncio.create_task(repo.all(ENDLESS))
    await asyncio.sleep(0)
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await query
    assert await asyncio.wait_for(repo.all("SELECT 1 AS one"), DEADLINE_S) == [{"one": 1}]


async def test_close_stops_a_long_query(path: Path) -> None:
    repo = Repo(path)
    await repo.open()
    queries = [asyncio.create_task(repo.all(ENDLESS)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.wait_for(repo.close(), DEADLINE_S)
    for query in queries:
        with pytest.raises(RepoClosed):
            await query
