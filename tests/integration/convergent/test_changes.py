"""The change feed on nodes that run: what is written here or elsewhere is told, once, and goes on from any position."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.errors import NoChangeFeed, NotReplicated, PositionTimeout, StartOver
from replication.feed import feed as feeds
from replication.feed.change import Change, ChangeOp
from replication.feed.feed import ChangeFeed
from replication.feed.position import FeedPosition
from replication.repo import Repo
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


async def repo_of(member: Member) -> Repo:
    repo = Repo(member.path, gives_positions=True)
    repo.link = member.replication
    await repo.open()
    return repo


@pytest.fixture
async def repos(cluster: ConvergentCluster) -> AsyncIterator[list[Repo]]:
    repos = [await repo_of(member) for member in await cluster.trio()]
    yield repos
    for repo in repos:
        await repo.close()


async def begun(repo: Repo, since: FeedPosition | None = None) -> ChangeFeed:
    feed = repo.changes("pages", since=since)
    await feed.begin()
    return feed


async def now(repo: Repo) -> ChangeFeed:
    """A feed of what is folded and merged from now on."""
    return await begun(repo, await repo.feed_position())


async def some(feed: ChangeFeed, count: int) -> list[Change]:
    async with asyncio.timeout(10):
        return [await anext(feed) for _ in range(count)]


async def until(feed: ChangeFeed, key: str) -> list[Change]:
    """All changes up to one of that key."""
    found: list[Change] = []
    while not found or found[-1].key["page"] != key:
        found += await some(feed, 1)
    return found


async def quiet(feed: ChangeFeed) -> list[Change]:
    """All changes until none comes for a while."""
    found: list[Change] = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.3):
                found.append(await anext(feed))
    return found


async def nothing_more(feed: ChangeFeed) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await anext(feed)


def plain(changes: list[Change]) -> list[tuple[str, object, dict[str, object]]]:
    return [(change.op.value, change.key["page"], dict(change.columns)) for change in changes]


def applied(changes: list[Change], copy: dict[object, dict[str, object]]) -> dict[object, dict[str, object]]:
    for change in changes:
        (key,) = change.key.values()
        match change.op:
            case ChangeOp.ROW | ChangeOp.INSERT:
                copy[key] = dict(change.columns)
            case ChangeOp.UPDATE if key in copy:
                copy[key].update(change.columns)
            case ChangeOp.UPDATE:
                pass
            case ChangeOp.DELETE:
                copy.pop(key, None)
    return copy


async def test_a_write_is_told_with_what_changed_and_who_wrote_it_here_and_elsewhere(repos: list[Repo]) -> None:
    feeds = [await now(repo) for repo in repos]
    told: list[list[Change]] = [[], [], []]
    for write in (
        repos[0].insert("pages", {"page": "home", "title": "Home"}),
        repos[0].update("pages", "home", {"count": 3}),
        repos[0].delete("pages", "home"),
    ):
        await write
        for number, feed in enumerate(feeds):
            told[number] += await some(feed, 1)
    for changes in told:
        assert plain(changes) == [
            ("insert", "home", {"title": "Home", "count": 0}),
            ("update", "home", {"count": 3}),
            ("delete", "home", {}),
        ]
        assert [change.origin and change.origin.node for change in changes] == ["a", "a", "a"]
        assert {change.origin and change.origin.site for change in changes} == set(repos[0].position.stamps)
    for feed in feeds:
        await nothing_more(feed)


async def test_another_process_s_commits_are_told_and_other_tables_are_not(cluster: ConvergentCluster) -> None:
    member = await cluster.start("a")
    repo = await repo_of(member)
    feed = await now(repo)
    member.writer.execute("CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL)")
    member.writer.execute("INSERT INTO notes VALUES ('x')")
    member.writer.execute("INSERT INTO pages (page, title) VALUES ('home', 'by sqlite3')")
    assert plain(await some(feed, 1)) == [("insert", "home", {"title": "by sqlite3", "count": 0})]
    await nothing_more(feed)
    await repo.close()


async def test_without_a_position_it_begins_with_the_rows_and_goes_on(repos: list[Repo]) -> None:
    a, b, _ = repos
    for number in range(5):
        await a.insert("pages", {"page": f"page {number}", "count": number})
    await b.wait_for(a.position)
    feed = await begun(b)
    rows = await some(feed, 5)
    assert {change.op for change in rows} == {ChangeOp.ROW}
    assert all(change.origin is None for change in rows)
    await a.update("pages", "page 3", {"title": "three"})
    changes = await until(feed, "page 3")
    copy = applied([*rows, *changes], {})
    assert copy == {
        row["page"]: {"title": row["title"], "count": row["count"]} for row in await b.all("SELECT * FROM pages")
    }


async def test_each_change_is_told_once_from_whatever_position_one_goes_on(repos: list[Repo]) -> None:
    a = repos[0]
    feed = await now(a)
    await a.insert_many("pages", [{"page": f"page {number:02}"} for number in range(10)])
    told = await some(feed, 4)
    for change in told:
        on = await begun(a, FeedPosition.parse(str(change.position)))
        rest = await some(on, 10 - 1 - int(str(change.key["page"])[-2:]))
        assert [other.key["page"] for other in rest] == [
            f"page {number:02}" for number in range(int(str(change.key["page"])[-2:]) + 1, 10)
        ]
        await nothing_more(on)


async def test_a_reader_goes_on_with_its_position_on_another_node(
    repos: list[Repo], cluster: ConvergentCluster
) -> None:
    a, b, c = repos
    feed = await now(a)
    await a.insert("pages", {"page": "one"})
    await c.insert("pages", {"page": "two"})
    seen = {change.key["page"] for change in await some(feed, 2)}
    assert seen == {"one", "two"}
    on = await begun(b, feed.position)
    await a.insert("pages", {"page": "three"})
    assert [change.key["page"] for change in await some(on, 1)] == ["three"]
    await nothing_more(on)


async def test_a_node_waits_until_it_has_what_a_reader_was_told_elsewhere(
    repos: list[Repo], cluster: ConvergentCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "REACH_TIMEOUT_S", 0.2)
    a, b, _ = repos
    one, other, third = (cluster.members[name].node.address for name in "abc")
    for link in ((one, other), (one, third)):
        cluster.network.cut(*link)
    feed = await now(a)
    await a.insert("pages", {"page": "one"})
    await some(feed, 1)
    with pytest.raises(PositionTimeout):
        await begun(b, feed.position)
    monkeypatch.setattr(feeds, "REACH_TIMEOUT_S", 10.0)
    waiting = asyncio.create_task(begun(b, feed.position))
    await asyncio.sleep(0.05)
    for link in ((one, other), (one, third)):
        cluster.network.heal(*link)
    await nothing_more(await waiting)


async def test_a_counter_is_told_as_it_is_and_not_as_one_site_s_share(repos: list[Repo]) -> None:
    a, b, _ = repos
    await a.insert("pages", {"page": "home"})
    await b.wait_for(a.position)
    feed = await now(a)
    for repo in (a, b, a, b):
        await repo.execute("UPDATE pages SET count = count + 1 WHERE page = 'home'")
        await a.wait_for(repo.position)
    counts = [change.columns["count"] for change in await quiet(feed)]
    assert counts[-1] == 4
    assert counts == sorted(counts, key=str)


async def test_who_is_beyond_the_journal_is_told_to_start_over(cluster: ConvergentCluster) -> None:
    member = await cluster.start("a")
    repo = await repo_of(member)
    feed = await now(repo)
    await repo.insert("pages", {"page": "one"})
    (change,) = await some(feed, 1)
    await repo.insert("pages", {"page": "two"})
    await some(feed, 1)
    member.writer.execute("DELETE FROM _litecast_journal")
    with pytest.raises(StartOver, match="start over: empty your copy"):
        await begun(repo, change.position)
    await nothing_more(await begun(repo, feed.position))  # has it all
    assert [change.key["page"] for change in await some(await begun(repo), 2)] == ["one", "two"]
    await repo.close()


async def test_a_snapshot_makes_readers_start_over_once_and_they_see_no_part_of_it(cluster: ConvergentCluster) -> None:
    a, b = await cluster.start("a"), await cluster.start("b")
    repo = await repo_of(b)
    await cluster.equal()
    feed = await now(repo)
    cluster.network.cut(a.node.address, b.node.address)
    for number in range(20):
        a.writer.execute("INSERT INTO pages (page) VALUES (?)", (f"page {number}",))
    await eventually(
        lambda: len(a.replication.stamps()) > 0 and a.rows("SELECT count(*) FROM _litecast_journal")[0][0] > 0
    )
    await eventually(lambda: not a.rows("SELECT 1 FROM _litecast_log_1"))
    a.writer.execute("DELETE FROM _litecast_journal")
    cluster.network.heal(a.node.address, b.node.address)
    with pytest.raises(StartOver):
        await some(feed, 1)
    again = await begun(repo)
    assert len({change.key["page"] for change in await some(again, 20)}) == 20
    await cluster.equal()
    await repo.close()


async def test_state_that_heals_makes_readers_start_over(cluster: ConvergentCluster) -> None:
    a, b = await cluster.start("a"), await cluster.start("b")
    repo = await repo_of(b)
    a.writer.execute("INSERT INTO pages (page) VALUES ('one')")
    await cluster.equal()
    feed = await now(repo)
    assert await b.replication.fetch_state_of("a")
    with pytest.raises(StartOver, match="more than what was written"):
        await some(feed, 1)
    await repo.close()


async def test_positions_survive_a_restart_and_vacuum(cluster: ConvergentCluster) -> None:
    member = await cluster.start("a")
    repo = await repo_of(member)
    feed = await now(repo)
    await repo.insert("pages", {"page": "one"})
    await repo.insert("pages", {"page": "two"})
    (first, _) = await some(feed, 2)
    await repo.execute("VACUUM")
    await repo.close()
    await cluster.kill("a")
    member = await cluster.start("a")
    repo = await repo_of(member)
    on = await begun(repo, FeedPosition.parse(str(first.position)))
    assert [change.key["page"] for change in await some(on, 1)] == ["two"]
    await nothing_more(on)
    await repo.close()


async def test_a_slow_reader_loses_nothing_and_holds_one_page(cluster: ConvergentCluster) -> None:
    member = await cluster.start("a")
    repo = await repo_of(member)
    feed = await now(repo)
    for start in range(0, 3_000, 100):
        await repo.insert_many("pages", [{"page": f"{number:04}"} for number in range(start, start + 100)])
    pages = [change.key["page"] for change in await some(feed, 1)]
    while len(pages) < 3_000:
        pages += [change.key["page"] for change in await some(feed, 1)]
        assert feed.buffered <= 500
    assert pages == [f"{number:04}" for number in range(3_000)]
    await repo.close()


async def test_a_reader_that_is_cancelled_while_it_waits_misses_nothing(repos: list[Repo]) -> None:
    a = repos[0]
    feed = await now(a)
    pages: list[object] = []
    for number in range(50):
        await a.insert("pages", {"page": f"page {number:02}"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.0005 * (number % 9)):
                while True:
                    pages.append((await anext(feed)).key["page"])
    pages += [change.key["page"] for change in await some(feed, 50 - len(pages))]
    assert pages == [f"page {number:02}" for number in range(50)]


async def test_a_feed_ends_when_the_node_stops(cluster: ConvergentCluster) -> None:
    member = await cluster.start("a")
    repo = await repo_of(member)
    feed = await now(repo)
    waiting = asyncio.create_task(some(feed, 1))
    await asyncio.sleep(0.05)
    await repo.close()
    await cluster.stop("a")
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_what_cannot_be_followed_is_said(cluster: ConvergentCluster, tmp_path: Path) -> None:
    member = await cluster.start("a")
    repo = await repo_of(member)
    with pytest.raises(NotReplicated, match="table notes is not attached"):
        await repo.changes("notes").begin()
    await repo.close()
    async with Repo(tmp_path / "alone.db") as alone:
        with pytest.raises(NoChangeFeed, match="only in the modes convergent and primary"):
            alone.changes("pages")
        with pytest.raises(NoChangeFeed):
            await alone.feed_position()
