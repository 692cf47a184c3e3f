"""What any process writes on one node is on all of them; what a cast did not bring, asking brings."""

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.convergent.durability import WalBarrier
from replication.convergent.for_file import connect
from replication.engine.folding import is_due
from tests.support.convergent import ConvergentCluster, wait_until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


async def test_what_another_process_writes_is_on_all_nodes(cluster: ConvergentCluster) -> None:
    a, _, _ = await cluster.trio()
    a.writer.execute("INSERT INTO pages VALUES ('home', 'Home', 1)")
    assert await cluster.equal() == [("home", "Home", 1)]


async def test_increments_on_all_nodes_at_once_add_up(cluster: ConvergentCluster) -> None:
    members = await cluster.trio()
    for _ in range(50):
        for member in members:
            member.writer.execute(
                "INSERT INTO pages VALUES ('home', 'Home', 1) ON CONFLICT DO UPDATE SET count = count + 1"
            )
    rows = await cluster.equal()
    assert rows == [("home", "Home", 150)]


async def test_a_node_that_was_away_catches_up(cluster: ConvergentCluster) -> None:
    a, _, _ = await cluster.trio()
    await cluster.stop("c")
    for number in range(300):
        a.writer.execute("INSERT INTO pages VALUES (?, 'x', 1)", (f"page {number}",))
    await cluster.start("c")
    assert len(await cluster.equal()) == 300


async def test_what_was_written_while_no_node_ran_is_sent_when_it_starts(cluster: ConvergentCluster) -> None:
    await cluster.trio()
    path = cluster.members["c"].path
    await cluster.stop("c")
    alone = connect(path)
    alone.execute("INSERT INTO pages VALUES ('home', 'Home', 7)")
    alone.close()
    await cluster.start("c")
    assert await cluster.equal() == [("home", "Home", 7)]


async def test_a_large_transaction_arrives_whole(cluster: ConvergentCluster) -> None:
    a, _, _ = await cluster.trio()
    a.writer.execute("BEGIN")
    a.writer.executemany("INSERT INTO pages VALUES (?, ?, 1)", ((f"page {n}", "t" * 200) for n in range(20_000)))
    a.writer.execute("COMMIT")
    assert len(await cluster.equal(within_s=30)) == 20_000


async def test_a_row_that_breaks_a_check_of_this_node_is_there_and_the_log_names_it(
    cluster: ConvergentCluster, caplog: pytest.LogCaptureFixture
) -> None:
    strict = "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, title CHECK (title <> 'bad'), count INTEGER NOT NULL)"
    a, b = await cluster.start("a"), await cluster.start("b", schema=strict)
    a.writer.execute("INSERT INTO pages VALUES ('home', 'bad', 1)")
    assert await cluster.equal() == [("home", "bad", 1)]
    assert b.replication.status().counts["violations"] == 1
    assert "breaks a CHECK: key ('home',)" in caplog.text


async def test_what_was_folded_and_could_not_be_made_durable_is_told_and_served_once_it_is(
    cluster: ConvergentCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nobody writes anything more there: nothing but the journal has it."""
    a, b = await cluster.start("a"), await cluster.start("b")

    def fails(_barrier: WalBarrier, _connection: sqlite3.Connection) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(WalBarrier, "__call__", fails)
        a.writer.execute("INSERT INTO pages VALUES ('p', 'title', 1)")
        await wait_until(lambda: a.replication.status().problem and not is_due(a.writer), [a])
        await asyncio.sleep(0.3)
        assert b.rows() == []
    assert await cluster.equal() == [("p", "title", 1)]
