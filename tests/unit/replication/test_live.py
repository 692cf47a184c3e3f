"""Queries that are run again when somebody commits: see `replication.feed.live`."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.errors import QueryFailed, RepoClosed
from replication.feed import live as lives
from replication.repo import Repo
from replication.rows import Row

type Rows = list[dict[str, object]]

WITHIN_S = 5.0


@pytest.fixture
async def repo(tmp_path: Path) -> AsyncIterator[Repo]:
    async with Repo(tmp_path / "test.db") as repo:
        await repo.migrate(
            [
                "CREATE TABLE pages (page TEXT PRIMARY KEY, count INTEGER)",
                "CREATE TABLE notes (note TEXT)",
                "CREATE VIEW top AS SELECT page FROM pages WHERE count > 10",
            ]
        )
        yield repo


async def following(rows: AsyncIterator[list[Row]]) -> Rows:
    async with asyncio.timeout(WITHIN_S):
        return [dict(row) for row in await anext(rows)]


async def test_rows_come_at_once_and_again_after_a_write(repo: Repo) -> None:
    rows = repo.live("SELECT * FROM pages ORDER BY page")
    assert await following(rows) == []
    await repo.insert("pages", {"page": "home", "count": 1})
    assert await following(rows) == [{"page": "home", "count": 1}]
    await repo.update("pages", "home", {"count": 2})
    assert await following(rows) == [{"page": "home", "count": 2}]


async def test_another_process_s_commit_is_seen_and_so_is_a_view(repo: Repo) -> None:
    rows = repo.live("SELECT * FROM top")
    assert await following(rows) == []
    with contextlib.closing(sqlite3.connect(repo.path)) as other:
        other.execute("INSERT INTO pages VALUES ('home', 11)")
        other.commit()
    assert await following(rows) == [{"page": "home"}]


async def test_the_same_rows_are_not_given_again(repo: Repo) -> None:
    rows = repo.live("SELECT count(*) AS n FROM pages WHERE count > ?", [10])
    assert await following(rows) == [{"n": 0}]
    waiting = asyncio.create_task(following(rows))
    await repo.insert("notes", {"note": "another table"})
    await repo.insert("pages", {"page": "home", "count": 1})
    await asyncio.sleep(0.15)
    assert not waiting.done()
    await repo.insert("pages", {"page": "about", "count": 11})
    assert await waiting == [{"n": 1}]


async def test_what_was_given_may_be_changed_by_who_got_it(repo: Repo) -> None:
    await repo.insert("pages", {"page": "home", "count": 1})
    rows = repo.live("SELECT * FROM pages")
    async with asyncio.timeout(WITHIN_S):
        given = await anext(rows)
    given[0]["count"] = 99
    given.clear()
    waiting = asyncio.create_task(following(rows))
    await repo.insert("notes", {"note": "x"})
    await asyncio.sleep(0.15)
    assert not waiting.done()
    await repo.execute("UPDATE pages SET count = 2")
    assert await waiting == [{"page": "home", "count": 2}]


async def test_a_burst_of_commits_is_answered_by_few_runs(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "PAUSE_S", 0.1)
    rows = repo.live("SELECT count(*) AS n FROM pages")
    assert await following(rows) == [{"n": 0}]
    given = 0

    async def read() -> None:
        nonlocal given
        async for found in rows:
            given += 1
            if found[0]["n"] == 300:
                return

    reading = asyncio.create_task(read())
    began = asyncio.get_running_loop().time()
    for number in range(300):
        await repo.insert("pages", {"page": f"{number}"})
    async with asyncio.timeout(WITHIN_S):
        await reading
    assert given <= 3 + (asyncio.get_running_loop().time() - began) / 0.1


async def test_nothing_is_watched_once_nobody_looks(repo: Repo) -> None:
    def watching() -> bool:
        return "watching commits" in {task.get_name() for task in asyncio.all_tasks()}

    async with (
        contextlib.aclosing(repo.live("SELECT 1 AS x")) as one,
        contextlib.aclosing(repo.live("SELECT 2 AS x")) as two,
    ):
        await following(one)
        await following(two)
        assert watching()
    assert not watching()
    assert await following(repo.live("SELECT 3 AS x")) == [{"x": 3}]


async def test_closing_the_repo_ends_it(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "test.db")
    await repo.open()
    rows = repo.live("SELECT 1 AS x")
    await following(rows)
    waiting = asyncio.create_task(following(rows))
    await asyncio.sleep(0.05)
    await repo.close()
    with pytest.raises(RepoClosed):
        await waiting
    with pytest.raises(RepoClosed):
        repo.live("SELECT 1 AS x")


async def test_a_query_that_is_none_is_refused_as_by_all(repo: Repo) -> None:
    with pytest.raises(QueryFailed):
        await following(repo.live("SELEC"))
    with pytest.raises(QueryFailed):
        await following(repo.live("DELETE FROM pages"))
