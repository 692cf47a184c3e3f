"""Read your writes, on any node: a position is known as soon as a write is committed, and reached elsewhere in time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.errors import PositionTimeout, WaitInTransaction
from replication.positions import Position
from replication.repo import Repo
from replication.rows import Row
from replication.transaction import Transaction
from tests.support.convergent import ConvergentCluster, Member


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


@pytest.fixture
async def repos(cluster: ConvergentCluster) -> AsyncIterator[list[Repo]]:
    repos = [await _repo(member) for member in await cluster.trio()]
    yield repos
    for repo in repos:
        await repo.close()


async def _repo(member: Member) -> Repo:
    repo = Repo(member.path, gives_positions=True)
    repo.link = member.replication
    await repo.open()
    return repo


async def test_a_write_is_seen_on_another_node_once_its_position_is_reached(repos: list[Repo]) -> None:
    for number in range(20):
        row = await repos[number % 3].insert("pages", {"page": f"page {number}", "title": "x"})
        other = repos[(number + 1) % 3]
        await other.wait_for(Position.parse(str(row.position)))
        assert await other.get("pages", f"page {number}") == row


async def test_whoever_reaches_a_position_sees_what_its_writer_could_see(repos: list[Repo]) -> None:
    a, b, c = repos
    first = await a.insert("pages", {"page": "first"})
    await b.wait_for(first.position)
    second = await b.insert("pages", {"page": "second"})
    await c.wait_for(second.position)
    assert await c.get("pages", "first") is not None


async def test_the_position_of_a_write_that_changes_nothing_is_reached_too(repos: list[Repo]) -> None:
    a, b, _ = repos
    await a.insert("pages", {"page": "home", "title": "Home"})
    row = await a.update("pages", "home", {"title": "Home"})
    await b.wait_for(row.position, timeout_s=5)
    await b.wait_for(a.position, timeout_s=5)


async def test_a_transaction_has_one_position_that_its_rows_carry(repos: list[Repo]) -> None:
    a, b, _ = repos

    def work(transaction: Transaction) -> tuple[Row, Row]:
        return transaction.insert("pages", {"page": "one"}), transaction.insert("pages", {"page": "two"})

    one, two = await a.transaction(work)
    assert one.position == two.position == a.position
    await b.wait_for(one.position)
    assert len(await b.all("SELECT * FROM pages")) == 2


async def test_the_own_writes_are_reached_at_once(repos: list[Repo]) -> None:
    row = await repos[0].insert("pages", {"page": "home"})
    async with asyncio.timeout(0.05):
        await repos[0].wait_for(row.position)


async def test_waiting_inside_a_transaction_raises_at_once(repos: list[Repo]) -> None:
    repo = repos[0]

    def work(_: Transaction) -> None:
        _waiting = repo.wait_for(Position())

    with pytest.raises(WaitInTransaction):
        await repo.transaction(work)


async def test_a_position_that_is_not_reached_in_time_says_that_the_write_is_done(
    repos: list[Repo], cluster: ConvergentCluster
) -> None:
    a, b, _ = repos
    one, other = (cluster.members[name].node.address for name in "ab")
    third = cluster.members["c"].node.address
    for link in ((one, other), (one, third)):
        cluster.network.cut(*link)
    row = await a.insert("pages", {"page": "home"})
    with pytest.raises(PositionTimeout, match="the write itself is done"):
        await b.wait_for(row.position, timeout_s=0.2)
    cluster.network.heal(one, other)
    await b.wait_for(row.position, timeout_s=10)


async def test_statements_that_cannot_stand_in_a_transaction_still_run(repos: list[Repo]) -> None:
    await repos[0].execute("VACUUM")
    await repos[0].execute("PRAGMA optimize")
