"""A member that is gone for good is forgotten: nobody waits for it, and what was trimmed since does not come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from replication.convergent import trimming
from replication.convergent.for_file import connect
from replication.convergent.store import Store
from replication.engine.closing import FORGOTTEN, closed
from replication.errors import CannotForget
from replication.measuring.meter import QUICK
from tests.support.convergent import ConvergentCluster, Member, wait_until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    cluster.journal_max_age_s = 0.0
    yield cluster
    await cluster.close()


def tombstones(member: Member) -> int:
    ((count,),) = member.rows("SELECT count(*) FROM _litecast_clock_1 WHERE life & 1 = 0")
    return int(count)


async def trimmed(member: Member) -> None:
    """Waits until no tombstone is left: until the others have said that they have them."""
    async with asyncio.timeout(10):
        while tombstones(member):
            await member.replication.trim()
            await asyncio.sleep(0.05)


async def with_rows(cluster: ConvergentCluster) -> tuple[Member, Member, Member]:
    a, b, c = await cluster.trio()
    a.writer.execute("INSERT INTO pages VALUES ('of a', 'A', 1), ('stays', 'S', 1)")
    c.writer.execute("INSERT INTO pages VALUES ('of c', 'C', 1)")
    await cluster.equal()
    return a, b, c


async def forgotten_by(members: Sequence[Member], *names: str) -> None:
    await members[0].replication.forget(names)
    await wait_until(lambda: all(set(member.replication.forgotten()) == {*names} for member in members), members)


async def test_nobody_waits_for_who_is_forgotten(cluster: ConvergentCluster) -> None:
    a, b, _ = await with_rows(cluster)
    await cluster.stop("c")
    a.writer.execute("DELETE FROM pages WHERE page IN ('of a', 'of c')")
    await cluster.equal()
    await a.replication.trim()
    assert tombstones(a) == 2, "c may lack them"
    assert "c" in dict((await a.meter.measure(QUICK)).unreachable)
    await forgotten_by([a, b], "c")
    for member in (a, b):
        await trimmed(member)
    assert (await a.meter.measure(QUICK)).verdict == "equal"
    assert await cluster.equal() == [("stays", "S", 1)]


async def test_a_tombstone_is_as_old_as_the_slowest_members_clock_says(
    cluster: ConvergentCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _, _ = await with_rows(cluster)
    slow = replace(a.replication._exchange.heads()["b"], clock_ms=5)
    by: list[int] = []

    def trim(_store: Store, *_others: object, clock_ms: int) -> tuple[int, int]:
        by.append(clock_ms)
        return 0, 0

    monkeypatch.setattr(trimming, "trim", trim)
    a.replication.cast_from("b", slow.plain())
    await a.replication.trim()
    assert by == [5]


async def test_who_was_forgotten_and_comes_back_brings_nothing_back(cluster: ConvergentCluster) -> None:
    a, b, _ = await with_rows(cluster)
    await cluster.stop("c")
    a.writer.execute("DELETE FROM pages WHERE page IN ('of a', 'of c')")
    await cluster.equal()
    await forgotten_by([a, b], "c")
    await trimmed(a)
    await trimmed(b)
    with contextlib.closing(connect(cluster.folder / "c.db")) as alone:
        alone.execute("UPDATE pages SET count = count + 10")
        alone.execute("INSERT INTO pages VALUES ('later', 'C', 1)")
    c = await cluster.start("c")
    await wait_until(lambda: "was forgotten" in c.replication.status().problem, [a, b, c])
    assert not c.replication.status().ready
    a.writer.execute("UPDATE pages SET count = count + 1 WHERE page = 'stays'")
    await wait_until(lambda: b.rows() == [("stays", "S", 2)], [a, b])
    assert a.rows() == [("stays", "S", 2)]
    assert len(c.rows()) == 4, "its file is as it was"
    await a.replication.trim()

    await cluster.stop("c")
    for file in cluster.folder.glob("c.db*"):
        file.unlink()
    c = await cluster.start("c", first_copy=True)
    await wait_until(lambda: c.replication.status().ready, [c])
    c.writer.execute("UPDATE pages SET count = count + 100")
    assert await cluster.equal() == [("stays", "S", 102)]
    assert a.replication.forgotten() == {}, "of that name is a member again"


async def test_an_older_copy_of_another_node_brings_nothing_back_either(cluster: ConvergentCluster) -> None:
    """Also of rows that the forgotten node had begun: its closed site proves what was merged of it all the same."""
    a, b, c = await with_rows(cluster)
    with contextlib.closing(connect(b.path)) as source, contextlib.closing(connect(cluster.folder / "d.db")) as old:
        source.backup(old)
    c.writer.execute("UPDATE pages SET title = 'more of c' WHERE page = 'stays'")
    await cluster.equal()
    await cluster.stop("c")
    a.writer.execute("DELETE FROM pages WHERE page IN ('of a', 'of c')")
    await cluster.equal()
    await forgotten_by([a, b], "c")
    for member in (a, b):
        await trimmed(member)
    d = await cluster.start("d")
    assert await cluster.equal() == [("stays", "more of c", 1)]
    await wait_until(lambda: closed(d.writer) == closed(a.writer) == closed(b.writer), [a, b, d])
    assert await cluster.equal() == [("stays", "more of c", 1)]


async def test_who_is_up_unknown_or_not_the_only_one_away_is_not_forgotten(cluster: ConvergentCluster) -> None:
    a, _, _ = await with_rows(cluster)
    with pytest.raises(CannotForget, match="c is up: stop it first"):
        await a.replication.forget(["c"])
    with pytest.raises(CannotForget, match=r"no node d was ever heard here \(heard were: b, c\)"):
        await a.replication.forget(["d"])
    with pytest.raises(CannotForget, match="a is this node: stop it, and say so on another one"):
        await a.replication.forget(["a"])
    await cluster.stop("b")
    await cluster.stop("c")
    await wait_until(lambda: not a.replication.status().behind, [a])
    with pytest.raises(CannotForget, match="b cannot be heard"):
        await a.replication.forget(["c"])
    assert closed(a.writer) == {}
    await a.replication.forget(["b", "c"])
    assert [FORGOTTEN in tips for tips in closed(a.writer).values()] == [True, True]


async def test_who_was_heard_is_known_after_a_restart(cluster: ConvergentCluster) -> None:
    await with_rows(cluster)
    for name in "abc":
        await cluster.stop(name)
    a = await cluster.start("a", expects_peers=False)
    await a.replication.forget(["b", "c"])
    assert set(a.replication.forgotten()) == {"b", "c"}
