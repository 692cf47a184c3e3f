import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.counter import MIGRATIONS, NotCounted, PageCounter
from app.report import PageReader
from cluster.counters import Counters
from replication.repo import Repo
from replication.rows import Op, Row


class Cast:
    """Where the rows go that are handed to replication."""

    def __init__(self) -> None:
        self.rows: list[tuple[Row, Op]] = []

    def __call__(self, row: Row, op: Op) -> None:
        self.rows.append((row, op))


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.fixture
async def repo(tmp_path: Path, cast: Cast) -> AsyncIterator[Repo]:
    async with Repo(tmp_path / "litecast.db", replicator=cast, busy_timeout_s=0.05) as made:
        await made.migrate(MIGRATIONS)
        yield made


async def test_first_view_inserts_and_later_ones_update_the_whole_row(repo: Repo, cast: Cast) -> None:
    counter = PageCounter(repo)
    assert await counter.current("home") is None
    assert (await counter.count_view("home"))["count"] == 1
    assert (await counter.count_view("home"))["count"] == 2
    assert await counter.current("home") == 2
    assert [(row["page"], row["count"], op) for row, op in cast.rows] == [("home", 1, "insert"), ("home", 2, "update")]
    assert set(cast.rows[1][0]) == {"page", "count", "inserted_at", "updated_at"}
    assert None not in cast.rows[1][0].values()


async def test_no_count_is_lost_on_one_node_however_many_count_at_once(repo: Repo) -> None:
    counter = PageCounter(repo)
    rows = await asyncio.gather(*(counter.count_view("home") for _ in range(200)))
    assert sorted(row["count"] for row in rows) == list(range(1, 201))
    assert await counter.current("home") == 200


async def test_locked_database_counts_nothing_and_casts_nothing(repo: Repo, cast: Cast) -> None:
    counter = PageCounter(repo)
    await counter.count_view("home")
    other = sqlite3.connect(repo.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotCounted) as caught:
        await counter.count_view("home")
    other.execute("ROLLBACK")
    other.close()
    assert str(repo.path) not in str(caught.value)
    assert await counter.current("home") == 1
    assert len(cast.rows) == 1


async def test_closed_repo_counts_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotCounted):
        await PageCounter(Repo(tmp_path / "litecast.db")).count_view("home")


async def test_table_is_the_documented_one(repo: Repo) -> None:
    columns = await repo.all("SELECT name, type, pk, `notnull` AS needed FROM pragma_table_info('page_counts')")
    assert [tuple(column.values()) for column in columns] == [
        ("page", "TEXT", 1, 1),
        ("count", "INTEGER", 0, 1),
        ("inserted_at", "", 0, 0),
        ("updated_at", "", 0, 0),
    ]


async def test_report_reads_what_was_counted(repo: Repo) -> None:
    counter = PageCounter(repo)
    for page in ("home", "home", "about"):
        await counter.count_view(page)
    report = await PageReader(repo, Counters()).read(["never"])
    assert report == {"pages": {"home": 2, "about": 1, "never": 0}, "complete": True, "counters": {}}
