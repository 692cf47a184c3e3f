"""Who is beyond the journal gets a snapshot, and forks heal by an exchange of state: nothing is lost."""

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from replication.convergent import catching_up, state_moves
from replication.convergent.for_file import connect, now_ms
from replication.convergent.store import Done, Store
from replication.engine.trimming import trim_journal
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually
from tests.support.states import Moving

ONE_MORE = "INSERT INTO pages VALUES ('home', 'Home', 1) ON CONFLICT DO UPDATE SET count = count + 1"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


def trim(member: Member) -> None:
    """Everything in the journal is too old."""
    with contextlib.closing(connect(member.path)) as connection:
        assert trim_journal(connection, now_ms=2**45, max_age_ms=0, max_bytes=0) > 0


def insert(member: Member, count: int) -> None:
    """In one transaction."""
    member.writer.execute("BEGIN")
    member.writer.executemany("INSERT INTO pages VALUES (?, 'y', 1)", ((f"later {n}",) for n in range(count)))
    member.writer.execute("COMMIT")


async def test_a_node_that_was_away_for_too_long_gets_a_snapshot(cluster: ConvergentCluster) -> None:
    a, b, _ = await cluster.trio()
    a.writer.executemany("INSERT INTO pages VALUES (?, 'x', 1)", ((f"page {n}",) for n in range(50)))
    await cluster.equal()
    await cluster.stop("c")
    with contextlib.closing(connect(cluster.folder / "c.db")) as alone:
        alone.execute("UPDATE pages SET count = count + 10 WHERE page = 'page 1'")
        alone.execute("UPDATE pages SET count = count + 10 WHERE page = 'page 2'")
        alone.execute("INSERT INTO pages VALUES ('of c', 'c', 1)")
    insert(a, 20_000)
    a.writer.execute("DELETE FROM pages WHERE page IN ('page 2', 'page 3')")
    b.writer.execute("UPDATE pages SET count = count + 100 WHERE page = 'page 1'")
    await cluster.equal()
    trim(a)
    trim(b)
    c = await cluster.start("c")
    rows = {page: count for page, _, count in await cluster.equal(within_s=30)}
    assert len(rows) == 50 + 20_000 - 2 + 1
    assert rows["page 1"] == 111
    assert rows["of c"] == 1
    assert c.replication.status().counts["snapshots"] == 1
    c.writer.execute("UPDATE pages SET count = count + 1000 WHERE page = 'page 1'")
    assert ("page 1", "x", 1111) in await cluster.equal()


async def test_writers_go_on_on_all_nodes_while_a_snapshot_is_fetched(cluster: ConvergentCluster) -> None:
    a, b, c = await cluster.trio()
    a.writer.execute(ONE_MORE)
    await cluster.equal()
    await cluster.stop("c")
    insert(a, 12_000)
    await cluster.equal()
    trim(a)
    trim(b)
    c = await cluster.start("c")
    written = 1
    while not c.replication.status().counts.get("snapshots") or c.replication.unready():
        for member in (a, b, c):
            member.writer.execute(ONE_MORE)
            written += 1
        await c.replication.settle()
    rows = {page: count for page, _, count in await cluster.equal(within_s=30)}
    assert rows["home"] == written


async def test_a_node_that_has_a_part_of_a_state_is_not_ready_until_it_has_the_rest(cluster: ConvergentCluster) -> None:
    """The state was being merged when the node was killed."""
    a, b, c = await cluster.trio()
    a.writer.execute(ONE_MORE)
    await cluster.equal()
    await cluster.stop("c")
    insert(a, 100)
    await cluster.equal()
    trim(a)
    trim(b)
    with contextlib.closing(connect(a.path)) as sender, contextlib.closing(connect(c.path)) as receiver:
        moving = Moving(sender, receiver, max_rows=50)
        for _ in range(2):
            moving.step(now_ms())
    c = await cluster.start("c", expects_peers=False)
    assert 1 < len(c.rows()) < 101
    assert "transactions may be there in part" in str(c.replication.unready())
    await cluster.stop("c")
    c = await cluster.start("c")
    await eventually(lambda: not c.replication.unready(), within_s=30)
    assert len(await cluster.equal()) == 101


async def test_a_database_that_is_replaced_while_a_snapshot_is_merged_gets_all_of_it(
    cluster: ConvergentCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was merged before is in the database that was: this one must not be said to have it."""
    a, b, c = await cluster.trio()
    a.writer.execute(ONE_MORE)
    await cluster.equal()
    await cluster.stop("c")
    shutil.copyfile(c.path, tmp_path / "older")
    insert(a, 20_000)
    await cluster.equal()
    trim(a)
    trim(b)
    ranges: list[int] = []
    merge_range = state_moves.merge_range

    def replaced_after_the_first(store: Store, *args: Any, **others: Any) -> Done:
        done = merge_range(store, *args, **others)
        ranges.append(done.range_rows)
        if len(ranges) == 1:
            with (
                contextlib.closing(sqlite3.connect(tmp_path / "older")) as older,
                contextlib.closing(sqlite3.connect(c.path)) as under_the_node,
            ):
                older.backup(under_the_node)
        return done

    monkeypatch.setattr(catching_up, "merge_range", replaced_after_the_first)
    c = await cluster.start("c")
    assert len(await cluster.equal(within_s=30)) == 20_001
    assert 0 < ranges[0] < 20_000


async def test_a_lone_restored_node_forks_its_site_and_everything_heals(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    """Nobody was there to say that the site had gone on: both branches of it are kept."""
    a, b, c = await cluster.trio()
    a.writer.execute(ONE_MORE)
    await cluster.equal()
    path = a.path
    await cluster.stop("a")
    shutil.copyfile(path, tmp_path / "older")
    shutil.copytree(cluster.folder / "a", tmp_path / "older data")
    a = await cluster.start("a")
    a.writer.execute("INSERT INTO pages VALUES ('first branch', 'x', 1)")
    await cluster.equal()
    await cluster.stop("a")
    for name in "bc":
        await cluster.stop(name)
    path.unlink()
    shutil.copyfile(tmp_path / "older", path)
    shutil.copytree(tmp_path / "older data", cluster.folder / "a", dirs_exist_ok=True)
    a = await cluster.start("a", expects_peers=False)
    site = a.replication.view().site
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO pages VALUES ('second branch', 'y', 1)")
        other.commit()
    while len(a.replication.stamps()) < 1 or "second" not in str(a.rows()):
        await a.replication.settle()
    await a.replication._folding.fold()
    b = await cluster.start("b")
    c = await cluster.start("c")
    rows = await cluster.equal(within_s=30)
    assert [page for page, *_ in rows] == ["first branch", "home", "second branch"]
    for member in (a, b, c):
        assert site in member.replication.view().closed
    assert a.replication.view().site != site
    a.writer.execute(ONE_MORE)
    b.writer.execute(ONE_MORE)
    assert ("home", "Home", 3) in await cluster.equal()
