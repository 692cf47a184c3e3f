"""Nodes of a convergent cluster are compared while they work, and each mends what was damaged of its own rows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from replication.drift import DriftReport
from replication.engine.comparing import Verdict
from replication.engine.folding import is_due
from replication.measuring.mending import ClusterRepair
from replication.measuring.meter import WITH_ROWS
from replication.measuring.questions import Repair
from replication.measuring.watching import DriftWatch
from tests.support.convergent import ConvergentCluster, Member
from tests.support.drift import uncaptured
from tests.support.eventually import eventually

PATIENT = replace(WITH_ROWS, deadline_s=30.0, patience_s=5.0)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


async def trio(cluster: ConvergentCluster) -> tuple[Member, Member, Member]:
    members = await cluster.trio()
    members[0].writer.execute("INSERT INTO pages VALUES ('home', 'Home', 1), ('about', 'About', 2), ('gone', 'x', 3)")
    members[1].writer.execute("INSERT INTO pages VALUES ('news', 'News', 0)")
    await cluster.equal()
    members[2].writer.execute("UPDATE pages SET count = count + 10")
    members[1].writer.execute("DELETE FROM pages WHERE page = 'gone'")
    await cluster.equal()
    return members


def damage(member: Member, statement: str) -> None:
    with uncaptured(member.writer):
        member.writer.execute(statement)


async def drift(member: Member) -> DriftReport:
    return await member.meter.measure(PATIENT)


def rows_differing(report: DriftReport) -> int | None:
    (table,) = report.tables
    return table.rows_differing


def found(repaired: ClusterRepair) -> dict[str, tuple[int, int]]:
    """Per node, how many rows were damaged, and how many still are."""
    assert repaired.lost == {}
    return {
        name: (sum(table.found for table in node.tables), sum(table.left for table in node.tables))
        for name, node in repaired.nodes.items()
    }


async def test_a_cluster_at_rest_is_equal(cluster: ConvergentCluster) -> None:
    members = await trio(cluster)
    for member in members:
        report = await drift(member)
        assert (report.verdict, report.nodes) == (Verdict.EQUAL, ("a", "b", "c"))


async def test_under_load_there_is_no_false_alarm(cluster: ConvergentCluster) -> None:
    members = await trio(cluster)
    done = asyncio.Event()

    async def write(member: Member) -> None:
        number = 0
        while not done.is_set():
            page = f"page {number % 50}"
            member.writer.execute(
                "INSERT INTO pages VALUES (?, 'x', 1) ON CONFLICT DO UPDATE SET count = count + 1", (page,)
            )
            if number % 7 == 0:
                member.writer.execute("DELETE FROM pages WHERE page = ?", (f"page {number % 11}",))
            number += 1
            await asyncio.sleep(0.005)

    writers = [asyncio.create_task(write(member)) for member in members]
    verdicts = [(await drift(member)).verdict for member in (*members, *members)]
    done.set()
    await asyncio.gather(*writers)
    assert Verdict.DRIFT not in verdicts
    await cluster.equal()
    assert (await drift(members[0])).verdict is Verdict.EQUAL


async def test_damage_is_restored_to_what_was_written(cluster: ConvergentCluster) -> None:
    a, b, c = await trio(cluster)
    before = a.rows()
    damage(a, "UPDATE pages SET title = 'Hacked', count = 99 WHERE page = 'home'")
    damage(a, "DELETE FROM pages WHERE page = 'news'")
    damage(b, "INSERT INTO pages VALUES ('ghost', 'boo', 1)")
    report = await drift(c)
    assert (report.verdict, rows_differing(report)) == (Verdict.DRIFT, 3)
    assert report.tables[0].counters == {"count": 88 + 10 + 1}
    assert found(await b.meter.repair(Repair.RESTORE)) == {"a": (2, 0), "b": (1, 0), "c": (0, 0)}
    assert (await drift(c)).verdict is Verdict.EQUAL
    assert await cluster.equal() == before


async def test_damage_is_adopted_by_every_node(cluster: ConvergentCluster) -> None:
    a, b, c = await trio(cluster)
    damage(a, "UPDATE pages SET title = 'Better', count = 99 WHERE page = 'home'")
    damage(a, "DELETE FROM pages WHERE page = 'news'")
    damage(b, "INSERT INTO pages VALUES ('ghost', 'boo', 1)")
    assert found(await c.meter.repair(Repair.ADOPT)) == {"a": (2, 0), "b": (1, 0), "c": (0, 0)}
    assert await cluster.equal() == [("about", "About", 12), ("ghost", "boo", 1), ("home", "Better", 99)]
    assert (await drift(c)).verdict is Verdict.EQUAL


async def test_a_peer_that_is_damaged_too_does_no_harm(cluster: ConvergentCluster) -> None:
    a, b, _ = await trio(cluster)
    before = a.rows()
    damage(a, "UPDATE pages SET title = 'Hacked' WHERE page = 'home'")
    damage(b, "UPDATE pages SET title = 'Cracked' WHERE page = 'home'")
    assert found(await a.meter.repair(Repair.RESTORE)) == {"a": (1, 0), "b": (1, 0), "c": (0, 0)}
    assert await cluster.equal() == before


async def test_what_nobody_has_any_more_is_left_and_said(cluster: ConvergentCluster) -> None:
    members = await trio(cluster)
    for member in members:
        damage(member, f"UPDATE pages SET title = '{member.node.name}', count = 7 WHERE page = 'home'")
    repaired = await members[0].meter.repair(Repair.RESTORE)
    assert found(repaired) == {"a": (1, 1), "b": (1, 1), "c": (1, 1)}
    assert repaired.nodes["a"].tables[0].why == "no node that answers shows what was written"
    assert {member.rows()[1] for member in members} == {("home", name, 11) for name in "abc"}, "counters need nobody"
    await members[0].meter.repair(Repair.ADOPT)
    assert (await cluster.equal())[1][1] in ("a", "b", "c")


async def test_a_repair_that_finds_nothing_changes_nothing(cluster: ConvergentCluster) -> None:
    members = await trio(cluster)
    heads = [member.replication.stamps() for member in members]
    for how in Repair:
        assert found(await members[0].meter.repair(how)) == {"a": (0, 0), "b": (0, 0), "c": (0, 0)}
    assert [member.replication.stamps() for member in members] == heads


async def test_a_node_that_is_away_is_named_and_the_others_mend_themselves(cluster: ConvergentCluster) -> None:
    a, _, _ = await trio(cluster)
    await cluster.stop("c")
    damage(a, "UPDATE pages SET title = 'Hacked' WHERE page = 'home'")
    repaired = await a.meter.repair(Repair.RESTORE)
    assert set(repaired.nodes) == {"a", "b"}
    assert set(repaired.lost) == {"c"}
    assert (repaired.found, repaired.left) == (1, 0)
    assert (await drift(a)).verdict is Verdict.UNKNOWN


async def test_nodes_that_differ_without_damage_exchange_what_they_have(cluster: ConvergentCluster) -> None:
    members = await trio(cluster)
    for member in members:
        member.writer.execute("BEGIN")
        member.writer.execute("ALTER TABLE pages ADD COLUMN computed")
        member.writer.execute("UPDATE pages SET computed = ?", (member.node.name,))
        member.writer.execute("COMMIT")
    await eventually(lambda: not any(is_due(member.writer) for member in members))
    assert (await drift(members[0])).verdict is Verdict.DRIFT
    watch = DriftWatch(members[1].meter)
    repaired, report = await watch.repair(Repair.RESTORE)
    await watch.close()
    assert (repaired.found, report.verdict) == (0, Verdict.EQUAL), report
    assert {row[3] for row in await cluster.equal()} == {"c"}, "equal clocks: the larger value"
