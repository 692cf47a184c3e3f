import asyncio
import sqlite3
from pathlib import Path

import pytest

from replication.errors import MigrationChanged, MigrationFailed
from replication.repo import Repo
from tests.unit.replication.conftest import Clock

FIRST = "CREATE TABLE a (id INTEGER PRIMARY KEY)"
SECOND = "INSERT INTO a VALUES (1)"


async def test_each_statement_runs_once(path: Path, clock: Clock) -> None:
    for expected in (2, 0):
        async with Repo(path, now=clock) as repo:
            assert await repo.migrate([FIRST, SECOND]) == expected
            assert await repo.migrate([FIRST, SECOND]) == 0
            assert await repo.all("SELECT * FROM a") == [{"id": 1}]
            assert await repo.all("SELECT * FROM _litecast_migrations") == [
                {"number": 1, "statement": FIRST, "applied_at": "2025-03-01T12:00:00.123456Z"},
                {"number": 2, "statement": SECOND, "applied_at": "2025-03-01T12:00:00.123456Z"},
            ]


async def test_new_statements_run_after_old_ones(path: Path) -> None:
    async with Repo(path) as repo:
        assert await repo.migrate([FIRST]) == 1
        assert await repo.migrate([FIRST, SECOND]) == 1
        assert await repo.migrate([FIRST]) == 0  # an older version of the application


async def test_a_changed_statement_is_named_and_nothing_runs(path: Path) -> None:
    async with Repo(path) as repo:
        await repo.migrate([FIRST, SECOND])
        with pytest.raises(MigrationChanged, match="migration 2: its text differs") as caught:
            await repo.migrate([FIRST, SECOND + " ", "CREATE TABLE c (x)"])
        assert caught.value.number == 2
        assert await repo.all("SELECT name FROM sqlite_master WHERE name = 'c'") == []


@pytest.mark.parametrize("bad", ["CREATE TABEL b", "CREATE TABLE b (x); CREATE TABLE c (x)", "COMMIT", "VACUUM"])
async def test_a_failed_statement_is_named_and_the_ones_before_it_stay(path: Path, bad: str) -> None:
    async with Repo(path) as repo:
        with pytest.raises(MigrationFailed, match="migration 2: ") as caught:
            await repo.migrate([FIRST, bad])
        assert "\n" not in str(caught.value)
        assert await repo.migrate([FIRST, SECOND]) == 1


async def test_a_statement_that_fails_half_way_leaves_nothing(path: Path) -> None:
    async with Repo(path) as repo:
        await repo.migrate([FIRST, SECOND])
        with pytest.raises(MigrationFailed):
            await repo.migrate([FIRST, SECOND, "INSERT INTO a VALUES (2), (3), (1)"])
        assert await repo.all("SELECT * FROM a") == [{"id": 1}]


async def test_two_callers_at_once_run_each_statement_once(path: Path) -> None:
    async with Repo(path) as repo:
        assert sorted(await asyncio.gather(repo.migrate([FIRST, SECOND]), repo.migrate([FIRST, SECOND]))) == [0, 2]


async def test_own_schema_changes_are_noticed_by_every_reader(path: Path) -> None:
    async with Repo(path) as repo:
        await repo.migrate(["CREATE TABLE t (a INT, b INT, PRIMARY KEY (a))", "INSERT INTO t VALUES (1, 2)"])
        assert await repo.get("t", 1) == {"a": 1, "b": 2}
        await repo.transaction(
            lambda transaction: [
                transaction.execute(sql)
                for sql in (
                    "CREATE TABLE new (a INT, b INT, PRIMARY KEY (b))",
                    "INSERT INTO new SELECT * FROM t",
                    "DROP TABLE t",
                    "ALTER TABLE new RENAME TO t",
                )
            ]
        )
        assert await repo.get("t", 1) is None
        assert await repo.get("t", 2) == {"a": 1, "b": 2}
        assert await repo.update("t", 2, {"a": 9}) == {"a": 9, "b": 2}


async def test_schema_changes_of_other_processes_are_noticed(path: Path) -> None:
    async with Repo(path) as repo:
        await repo.migrate(["CREATE TABLE t (a INT PRIMARY KEY)"])
        await repo.insert("t", {"a": 1})  # the writer knows the table, too
        assert await repo.get("t", 1) == {"a": 1}
        other = sqlite3.connect(path, isolation_level=None)
        for sql, row in [
            ("ALTER TABLE t ADD COLUMN updated_at TEXT", {"a": 1, "updated_at": None}),
            ("ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'x'", {"a": 1, "updated_at": None, "c": "x"}),
            ("ALTER TABLE t RENAME COLUMN c TO d", {"a": 1, "updated_at": None, "d": "x"}),
            ("ALTER TABLE t RENAME COLUMN a TO k", {"k": 1, "updated_at": None, "d": "x"}),
        ]:
            other.execute(sql)
            assert await repo.get("t", 1) == row
        assert (await repo.insert("t", {"k": 2}))["updated_at"] is not None
        other.close()


async def test_litecasts_own_tables_parse_on_old_sqlite(repo: Repo) -> None:
    rows = await repo.all("SELECT sql FROM sqlite_master WHERE name LIKE '\\_litecast%' ESCAPE '\\'")
    assert len(rows) == 2
    for row in rows:  # newer words that 3.35 does not know
        assert not any(word in row["sql"].upper() for word in ("STRICT", "->>", "SUBSEC", "UNIXEPOCH"))
