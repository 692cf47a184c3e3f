"""What naive replication loses, defect by defect (the list is in `docs/semantics.md`).

Each test asserts the *failure*: that is what the mode is for. Real nodes, actors and SQLite files; only the network is
in memory, so that the unlucky order is the one that happens.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random

import pytest

from app.counter import MIGRATIONS, TABLE, PageCounter
from cluster.address import Address
from cluster.counters import Count
from cluster.discovery.static import StaticDiscovery
from cluster.errors import ClusterError, SupervisorGaveUp
from cluster.memory import MemoryNetwork
from cluster.node import Node
from cluster.supervisor import ActorChild
from replication.naive import REPO_REPLICATION, RepoReplication, cast_to_peers
from replication.repo import Repo
from replication.rows import Op

WITHIN_S = 10.0


@dataclass(kw_only=True)
class Member:
    """A node with its database and its counter."""

    node: Node
    repo: Repo
    counter: PageCounter

    async def count(self, page: str) -> int:
        return await self.counter.current(page) or 0

    def counted(self, cause: Count) -> int:
        return self.node.counters.get(cause)


class Cluster:
    """Nodes on one memory network, each with a file of its own."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.network = MemoryNetwork()
        self.members: list[Member] = []
        self._folder = folder
        self._stack = stack
        self._seconds = count()

    async def add(self, name: str) -> Member:
        """Start a node that knows all others, and wait until it and they are up."""
        member = await self._stack.enter_async_context(self._member(name))
        self.members.append(member)
        await eventually(lambda: all(len(m.node.peers()) == len(self.members) - 1 for m in self.members))
        return member

    @asynccontextmanager
    async def _member(self, name: str) -> AsyncIterator[Member]:
        addresses = [m.node.address for m in self.members]
        async with Repo(self._folder / f"{name}.db", now=self._now) as repo:
            await repo.migrate(MIGRATIONS)
            node = Node(
                name=name,
                cluster="defects",
                transport=self.network.transport(),
                discovery=_static(addresses),
                children=[ActorChild(REPO_REPLICATION, lambda: RepoReplication(repo))],
            )
            repo.replicator = cast_to_peers(node)
            async with node:
                yield Member(node=node, repo=repo, counter=PageCounter(repo))

    def _now(self) -> datetime:
        """No two writes happen at one time."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self._seconds))


def _static(addresses: list[Address]) -> StaticDiscovery:
    return StaticDiscovery(
        addresses, poll_interval_s=1, log=logging.getLogger("test"), random=Random(1), count_failure=lambda: None
    )


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after `WITHIN_S`."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.002)


async def crashed(member: Member, *, times: int) -> None:
    """Wait until the member's actors have crashed so often."""
    await eventually(lambda: member.counted(Count.CRASHES) == times)


async def counts(member: Member, page: str, expected: int) -> None:
    """Wait until the member's own file has that count."""
    async with asyncio.timeout(WITHIN_S):
        while await member.count(page) != expected:
            await asyncio.sleep(0.002)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(tmp_path, stack)


async def received(member: Member, casts: int) -> None:
    """Wait until so many casts have reached the member's actors and been worked off."""
    await eventually(lambda: member.counted(Count.CASTS_RECEIVED) >= casts and _idle(member.node))
    await asyncio.sleep(0)
    await member.repo.execute("SELECT 1")  # the writer has done what was queued before


def _idle(node: Node) -> bool:
    process = node.processes.get(REPO_REPLICATION)
    return process is not None and process.waiting == 0


async def test_gentle_traffic_reaches_every_node(cluster: Cluster) -> None:
    """The post's claim, and the reason why the defects below go unnoticed at first."""
    a, b, c = await cluster.add("a"), await cluster.add("b"), await cluster.add("c")
    for round_number, member in enumerate([a, b, c], start=1):
        await member.counter.count_view("page")
        for other in (a, b, c):
            await counts(other, "page", round_number)


async def test_d2_two_nodes_count_at_once_and_one_count_is_lost(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    await a.counter.count_view("page")
    await received(b, 1)
    # Both write before either hears of the other: each adds one to the same number, and casts the sum.
    await asyncio.gather(a.counter.count_view("page"), b.counter.count_view("page"))
    await received(a, 1)
    await received(b, 2)
    assert await a.count("page") == 2
    assert await b.count("page") == 2, "three views were counted"


async def test_d2_nodes_can_end_different_when_counts_cross(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    await a.counter.count_view("page")
    await received(b, 1)
    cluster.network.freeze(a.node.address)
    cluster.network.freeze(b.node.address)
    await a.counter.count_view("page")
    await a.counter.count_view("page")
    await b.counter.count_view("page")
    cluster.network.thaw(a.node.address)
    cluster.network.thaw(b.node.address)
    await received(a, 1)
    await received(b, 3)
    assert (await a.count("page"), await b.count("page")) == (2, 3), "each ended with what the other sent last"


async def test_d3_an_insert_collision_crashes_the_peers_actor_and_loses_its_mailbox(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    cluster.network.freeze(b.node.address)
    await b.counter.count_view("page")
    await a.counter.count_view("page")  # b has that row: its actor will crash on this
    await a.counter.count_view("other")  # and never come to this
    cluster.network.thaw(b.node.address)
    await crashed(b, times=1)
    await received(b, 2)
    assert b.counted(Count.MAILBOX_LOST) == 1
    assert (await a.count("other"), await b.count("other")) == (1, 0)


async def test_d5_a_fourth_crash_within_five_seconds_stops_the_node(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    for crashes in range(1, 5):
        page = f"page {crashes}"
        row = await b.repo.insert(TABLE, {"page": page, "count": 1})
        a.repo.replicate(row, Op.INSERT)
        await crashed(b, times=crashes)
        if crashes < 4:
            await eventually(lambda: REPO_REPLICATION in b.node.processes)
    async with asyncio.timeout(WITHIN_S):
        error: ClusterError = await b.node.failed()
    assert isinstance(error, SupervisorGaveUp)
    assert error.child == REPO_REPLICATION


async def test_d6_an_update_that_comes_before_its_insert_crashes_the_actor(cluster: Cluster) -> None:
    a = await cluster.add("a")
    await a.counter.count_view("page")  # nobody is there to hear of the insert
    b = await cluster.add("b")
    await a.counter.count_view("page")
    await crashed(b, times=1)
    assert await b.count("page") == 0


async def test_d7_a_node_that_was_away_never_learns_what_it_missed(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    await a.counter.count_view("page")
    await received(b, 1)
    cluster.network.cut(a.node.address, b.node.address)
    await eventually(lambda: not a.node.peers() and not b.node.peers())
    await a.counter.count_view("page")
    await a.counter.count_view("missed")
    cluster.network.heal(a.node.address, b.node.address)
    await eventually(lambda: bool(a.node.peers()) and bool(b.node.peers()))
    await a.counter.count_view("new")  # replication works again
    await received(b, 2)
    assert await b.count("new") == 1
    assert (await b.count("page"), await b.count("missed")) == (1, 0), "and nothing is made up for"


async def test_d9_each_replica_stamps_its_own_time(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    await a.counter.count_view("page")
    await a.counter.count_view("page")
    await received(b, 2)
    here, there = await a.repo.get(TABLE, "page"), await b.repo.get(TABLE, "page")
    assert here is not None
    assert there is not None
    assert here["count"] == there["count"] == 2
    assert here["updated_at"] != there["updated_at"]


async def test_d11_a_crash_between_commit_and_cast_loses_the_message(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")

    def dies_here(row: object, op: object) -> None:
        raise RuntimeError("the process ends between the commit and the cast")

    a.repo.replicator = dies_here
    row = await a.counter.count_view("page")
    assert row["count"] == 1
    a.repo.replicator = cast_to_peers(a.node)
    await a.counter.count_view("other")
    await received(b, 1)
    assert (await a.count("page"), await b.count("page")) == (1, 0)


async def test_d12_deletes_and_schema_changes_never_travel(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    await a.counter.count_view("page")
    await received(b, 1)
    await a.repo.delete(TABLE, "page")
    await a.repo.execute("ALTER TABLE page_counts ADD COLUMN title TEXT")
    await a.counter.count_view("other")
    await crashed(b, times=1)  # the row now has a column that b does not
    assert (await a.count("page"), await b.count("page")) == (0, 1)
    columns = await b.repo.all("SELECT name FROM pragma_table_info('page_counts')")
    assert "title" not in {row["name"] for row in columns}


async def test_a_failed_write_is_returned_as_it_is_and_sends_nothing(cluster: Cluster) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    error = ValueError("no such page")
    assert a.repo.replicate(error, Op.INSERT) is error
    await a.counter.count_view("page")
    await received(b, 1)
    assert b.counted(Count.CASTS_RECEIVED) == 1


@pytest.mark.parametrize(
    "message",
    [
        None,
        "insert",
        {"op": "delete", "table": TABLE, "row": {"page": "x"}},
        {"op": "insert", "table": "_litecast_state", "row": {"id": 1}},
        {"op": "insert", "table": TABLE, "row": ["x", 1]},
        {"op": "insert", "table": TABLE},
    ],
)
async def test_what_is_no_replication_message_is_dropped_without_a_crash(cluster: Cluster, message: object) -> None:
    a, b = await cluster.add("a"), await cluster.add("b")
    a.node.cast("b", REPO_REPLICATION, message)
    await a.counter.count_view("page")
    await received(b, 2)
    assert b.counted(Count.CRASHES) == 0
    assert await b.count("page") == 1
