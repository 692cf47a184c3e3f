"""A node without a database takes a peer's, and everything is there once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.convergent.copies import COPY_FILE
from replication.convergent.first_copy import ARRIVING
from tests.support.convergent import ConvergentCluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


async def test_an_empty_node_joins_with_a_copy_while_others_write(cluster: ConvergentCluster) -> None:
    a = await cluster.start("a")
    a.writer.executemany("INSERT INTO pages VALUES (?, ?, 1)", ((f"page {n}", "t" * 100) for n in range(3_000)))
    b = await cluster.start("b")
    await cluster.equal()
    stop = asyncio.Event()

    async def write() -> int:
        count = 0
        while not stop.is_set():
            for member in (a, b):
                member.writer.execute("UPDATE pages SET count = count + 1 WHERE page = 'page 7'")
                count += 1
            await asyncio.sleep(0.001)
        return count

    writing = asyncio.create_task(write())
    c = await cluster.start("c", first_copy=True)
    assert len(c.rows()) >= 3_000
    stop.set()
    count = await writing
    rows = await cluster.equal()
    assert len(rows) == 3_000
    assert ("page 7", "t" * 100, 1 + count) in rows
    c.writer.execute("UPDATE pages SET count = count + 10 WHERE page = 'page 7'")
    assert ("page 7", "t" * 100, 11 + count) in await cluster.equal()
    assert c.replication.view().site not in (a.replication.view().site, b.replication.view().site)
    assert c.replication.status().counts.get("snapshots") is None
    assert not list(cluster.folder.rglob(f"{ARRIVING}*"))


async def test_what_waited_in_the_senders_log_is_counted_once(cluster: ConvergentCluster) -> None:
    a = await cluster.start("a")
    a.writer.execute("INSERT INTO pages VALUES ('home', 'Home', 5)")
    await cluster.start("b", first_copy=True)
    assert await cluster.equal() == [("home", "Home", 5)]


async def test_where_nobody_has_anything_a_node_begins_anew(cluster: ConvergentCluster) -> None:
    await cluster.start("a")
    b = await cluster.start("b", first_copy=True)
    assert b.rows() == []


async def test_the_copy_is_removed_when_its_node_stops(cluster: ConvergentCluster) -> None:
    a = await cluster.start("a")
    a.writer.execute("INSERT INTO pages VALUES ('home', 'Home', 5)")
    await cluster.start("b", first_copy=True)
    await cluster.stop("a")
    assert not (cluster.folder / "a" / COPY_FILE).exists()
