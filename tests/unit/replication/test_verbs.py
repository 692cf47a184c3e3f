import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from replication.errors import (
    ConstraintFailed,
    DuplicateRow,
    NoSuchColumn,
    NoSuchRow,
    NoSuchTable,
    QueryFailed,
    RepoClosed,
    UnsupportedValue,
    WrongKey,
)
from replication.opening import Synchronous
from replication.repo import Repo
from replication.rows import Row
from replication.transaction import Transaction
from tests.unit.replication.conftest import Clock, row_of

NOW = "2025-03-01T12:00:00.123456Z"
LATER = "2025-03-01T12:00:01.123456Z"


async def test_insert_gives_the_whole_row_with_both_stamps(repo: Repo) -> None:
    row = await repo.insert("page_counts", {"page": "home", "count": 1})
    assert row == {"page": "home", "count": 1, "inserted_at": NOW, "updated_at": NOW}
    assert row.table == "page_counts"
    assert await repo.get("page_counts", "home") == row


async def test_stamps_that_are_given_are_kept(repo: Repo) -> None:
    given = {"page": "home", "count": 1, "inserted_at": "then", "updated_at": None}
    assert await repo.insert("page_counts", given) == given


async def test_update_stamps_only_updated_at_and_gives_the_whole_row(repo: Repo, clock: Clock) -> None:
    await repo.insert("page_counts", {"page": "home", "count": 1})
    clock.advance()
    row = await repo.update("page_counts", "home", {"count": 2})
    assert row == {"page": "home", "count": 2, "inserted_at": NOW, "updated_at": LATER}
    assert row.table == "page_counts"
    assert (await repo.update("page_counts", "home", {"updated_at": "mine"}))["updated_at"] == "mine"


async def test_update_may_change_the_key(repo: Repo) -> None:
    await repo.insert("page_counts", {"page": "old", "count": 7})
    assert (await repo.update("page_counts", "old", {"page": "new"}))["count"] == 7
    assert await repo.get("page_counts", "old") is None


async def test_update_of_nothing_gives_the_row_or_says_that_there_is_none(repo: Repo) -> None:
    await repo.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY)")
    await repo.insert("plain", {"id": 1})
    assert await repo.update("plain", 1, {}) == {"id": 1}
    with pytest.raises(NoSuchRow):
        await repo.update("plain", 2, {})


async def test_delete_gives_the_row_as_it_was(repo: Repo) -> None:
    row = await repo.insert("page_counts", {"page": "home", "count": 1})
    assert await repo.delete("page_counts", "home") == row
    assert await repo.get("page_counts", "home") is None


async def test_get_of_an_absent_row_is_none(repo: Repo) -> None:
    assert await repo.get("page_counts", "nowhere") is None
    assert await repo.get("page_counts", None) is None


async def test_update_and_delete_of_an_absent_row_raise(repo: Repo) -> None:
    with pytest.raises(NoSuchRow, match="no row with key 'nowhere'"):
        await repo.update("page_counts", "nowhere", {"count": 1})
    with pytest.raises(NoSuchRow):
        await repo.delete("page_counts", "nowhere")


async def test_a_second_row_of_one_key_is_refused_and_the_first_stays(repo: Repo) -> None:
    first = await repo.insert("page_counts", {"page": "home", "count": 1})
    with pytest.raises(DuplicateRow) as caught:
        await repo.insert("page_counts", {"page": "home", "count": 9})
    assert (caught.value.table, caught.value.columns) == ("page_counts", ("page",))
    assert await repo.get("page_counts", "home") == first


async def test_duplicates_by_unique_index_and_by_integer_key_are_duplicates_too(repo: Repo) -> None:
    await repo.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT, shard INT, UNIQUE (mail, shard))")
    await repo.insert("users", {"id": 1, "mail": "a", "shard": 1})
    with pytest.raises(DuplicateRow):
        await repo.insert("users", {"id": 1})
    with pytest.raises(DuplicateRow) as caught:
        await repo.insert("users", {"mail": "a", "shard": 1})
    assert caught.value.columns == ("mail", "shard")


async def test_what_the_definition_refuses_is_a_failed_constraint(repo: Repo) -> None:
    await repo.execute("CREATE TABLE strict (id INTEGER PRIMARY KEY, n INT NOT NULL CHECK (n > 0)) STRICT")
    await repo.execute("CREATE TABLE child (id INTEGER PRIMARY KEY, parent INT REFERENCES strict (id))")
    refused: list[tuple[str, dict[str, object]]] = [
        ("strict", {"id": 1, "n": None}),
        ("strict", {"id": 1, "n": -1}),
        ("strict", {"id": 1, "n": "text"}),
        ("strict", {"id": "text", "n": 1}),
        ("child", {"id": 1, "parent": 99}),
    ]
    for table, row in refused:
        with pytest.raises(ConstraintFailed):
            await repo.insert(table, row)


async def test_a_trigger_that_swallows_a_row_is_told(repo: Repo) -> None:
    await repo.execute("CREATE TRIGGER no BEFORE INSERT ON page_counts BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(ConstraintFailed, match="ignored"):
        await repo.insert("page_counts", {"page": "home", "count": 1})


async def test_unknown_tables_columns_and_values_have_errors_of_their_own(repo: Repo) -> None:
    for verb in (repo.get("absent", 1), repo.insert("absent", {}), repo.delete("absent", 1), repo.all("FROM")):
        with pytest.raises((NoSuchTable, QueryFailed)):
            await verb
    with pytest.raises(NoSuchColumn, match="has no column typo; it has count, "):
        await repo.insert("page_counts", {"page": "home", "count": 1, "typo": 1})
    with pytest.raises(NoSuchColumn):
        await repo.update("page_counts", "home", {"typo": 1})
    for value in ([], 2**63, "\ud800", object()):
        with pytest.raises(UnsupportedValue):
            await repo.insert("page_counts", {"page": "home", "count": value})
        with pytest.raises(UnsupportedValue):
            await repo.get("page_counts", value)  # type: ignore[arg-type]
    with pytest.raises(NoSuchTable):
        await repo.all("SELECT * FROM absent")


async def test_text_that_is_not_utf8_is_told_and_not_a_crash(repo: Repo) -> None:
    await repo.execute("INSERT INTO page_counts (page, count) VALUES ('bad', CAST(x'ff' AS TEXT))")
    with pytest.raises(UnsupportedValue, match="UTF-8"):
        await repo.get("page_counts", "bad")
    with pytest.raises(UnsupportedValue, match="UTF-8"):
        await repo.all("SELECT * FROM page_counts")


async def test_composite_keys_are_tuples_in_key_order(repo: Repo) -> None:
    await repo.execute("CREATE TABLE scores (b TEXT, a INT, points INT, PRIMARY KEY (a, b)) WITHOUT ROWID")
    row = await repo.insert("scores", {"a": 1, "b": "x", "points": 5})
    assert await repo.get("scores", (1, "x")) == row
    assert (await repo.update("scores", (1, "x"), {"points": 6}))["points"] == 6
    assert await repo.get("scores", ("x", 1)) is None
    for wrong in (1, (1,), (1, "x", 2), ()):
        with pytest.raises(WrongKey, match=r"\(a, b\)"):
            await repo.get("scores", wrong)


async def test_a_table_without_key_is_read_by_queries_only(repo: Repo) -> None:
    await repo.execute("CREATE TABLE log (line TEXT)")
    assert await repo.insert("log", {"line": "x"}) == {"line": "x"}
    for key in (1, ()):
        with pytest.raises(WrongKey, match="no primary key"):
            await repo.get("log", key)


async def test_names_that_need_quoting_work(repo: Repo) -> None:
    table, column = 'odd `name" x', "select ? `"
    await repo.execute('CREATE TABLE "odd `name"" x" ("select ? `" TEXT PRIMARY KEY, "from" INT)')
    row = await repo.insert(table, {column: "k", "from": 1})
    assert await repo.get(table, "k") == row
    assert await repo.update(table, "k", {"from": 2}) == {column: "k", "from": 2}
    assert await repo.delete(table, "k") == {column: "k", "from": 2}


async def test_generated_columns_come_back_and_are_left_out_of_writes(repo: Repo) -> None:
    await repo.execute("CREATE TABLE g (id INTEGER PRIMARY KEY, n INT, twice INT GENERATED ALWAYS AS (n * 2))")
    row = await repo.insert("g", {"id": 1, "n": 2})
    assert row == {"id": 1, "n": 2, "twice": 4}
    assert (await repo.insert("g", {**row, "id": 2}))["twice"] == 4
    assert (await repo.update("g", 1, {**row, "n": 5}))["twice"] == 10


async def test_defaults_come_back_with_the_row(repo: Repo) -> None:
    await repo.execute("CREATE TABLE d (id INTEGER PRIMARY KEY, n INT DEFAULT 42)")
    assert await repo.insert("d", {}) == {"id": 1, "n": 42}


async def test_all_gives_rows_in_the_querys_order(repo: Repo) -> None:
    await repo.insert_many("page_counts", [{"page": name, "count": 1} for name in "bca"])
    rows = await repo.all("SELECT page, count * :n AS n FROM page_counts ORDER BY page", {"n": 3})
    assert rows == [{"page": "a", "n": 3}, {"page": "b", "n": 3}, {"page": "c", "n": 3}]
    assert isinstance(rows[0], Row)
    assert rows[0].table == ""


async def test_all_does_not_write(repo: Repo) -> None:
    with pytest.raises(QueryFailed, match="execute"):
        await repo.all("DELETE FROM page_counts")


async def test_insert_many_takes_rows_of_different_columns_and_counts_them(repo: Repo) -> None:
    rows = [{"page": "a", "count": 1}, {"count": 2, "page": "b"}, {"page": "c", "count": 3, "updated_at": "x"}]
    assert await repo.insert_many("page_counts", iter(rows)) == 3
    assert await repo.insert_many("page_counts", []) == 0
    assert [row["count"] for row in await repo.all("SELECT count FROM page_counts ORDER BY page")] == [1, 2, 3]
    assert (await row_of(repo, "a"))["inserted_at"] == NOW


async def test_insert_many_is_all_or_nothing(repo: Repo) -> None:
    with pytest.raises(DuplicateRow):
        await repo.insert_many("page_counts", [{"page": "a", "count": 1}, {"page": "a", "count": 2}])
    assert await repo.all("SELECT * FROM page_counts") == []


async def test_execute_counts_changed_rows(repo: Repo) -> None:
    await repo.insert_many("page_counts", [{"page": name, "count": 1} for name in "abc"])
    assert await repo.execute("UPDATE page_counts SET count = ? WHERE page > ?", (5, "a")) == 2
    assert await repo.execute("CREATE TABLE t (x)") == 0
    assert await repo.execute("VACUUM") == 0


@pytest.mark.parametrize("sql", ["BEGIN", " ;-- x\n commit", "/* x */ Rollback", "END TRANSACTION", "ROLLBACK -- TO\n"])
async def test_transactions_are_not_begun_or_ended_by_statements(repo: Repo, sql: str) -> None:
    with pytest.raises(QueryFailed, match="transaction"):
        await repo.execute(sql)
    with pytest.raises(QueryFailed, match="transaction"):
        await repo.transaction(lambda transaction: transaction.execute(sql))


async def test_a_savepoint_that_is_left_open_does_not_stay(repo: Repo) -> None:
    await repo.execute("SAVEPOINT mine")
    await repo.insert("page_counts", {"page": "home", "count": 1})
    assert await repo.get("page_counts", "home") is not None


async def test_a_repo_that_is_not_open_says_so(path: Path) -> None:
    repo = Repo(path)
    with pytest.raises(RepoClosed, match="not open"):
        await repo.get("page_counts", "home")
    async with repo:
        await repo.execute("CREATE TABLE t (x)")
    with pytest.raises(RepoClosed):
        await repo.execute("DROP TABLE t")


async def test_a_repo_can_be_opened_again_and_closed_twice(path: Path) -> None:
    repo = Repo(path)
    for _ in range(2):
        await repo.open()
        await repo.open()
        assert await repo.all("SELECT format FROM _litecast_state") == [{"format": 1}]
        await repo.close()
        await repo.close()


async def test_a_closed_database_is_one_plain_file(path: Path) -> None:
    async with Repo(path) as repo:
        await repo.migrate(["CREATE TABLE t (x)"])
    assert [file.name for file in path.parent.iterdir()] == ["litecast.db"]


@pytest.mark.parametrize(("synchronous", "number"), [(Synchronous.FULL, 2), (Synchronous.NORMAL, 1)])
async def test_the_writer_is_set_up_as_asked(path: Path, synchronous: Synchronous, number: int) -> None:
    async with Repo(path, synchronous=synchronous, busy_timeout_s=1.5) as repo:
        for pragma, value in [
            ("synchronous", number),
            ("journal_mode", "wal"),
            ("busy_timeout", 1500),
            ("foreign_keys", 1),
            ("wal_autocheckpoint", 1000),
        ]:
            rows = await repo.transaction(partial(Transaction.all, sql=f"PRAGMA {pragma}"))
            assert list(rows[0].values()) == [value], pragma


async def test_writes_of_other_processes_are_seen_at_once(repo: Repo, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    for count in range(3):
        other.execute("INSERT OR REPLACE INTO page_counts (page, count) VALUES ('home', ?)", (count,))
        assert (await row_of(repo))["count"] == count
    other.close()


async def test_point_reads_make_no_hop_to_a_thread(repo: Repo) -> None:
    await repo.insert("page_counts", {"page": "home", "count": 1})
    reading = repo.get("page_counts", "home")
    with pytest.raises(StopIteration) as finished:  # a coroutine that finishes at its first step never gave way
        reading.send(None)
    assert finished.value.value["count"] == 1


async def test_a_write_makes_one_hop_however_many_statements_it_is(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    # A hop back from a thread is one call_soon_threadsafe.
    loop = asyncio.get_running_loop()
    hops: list[object] = []
    original = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        hops.append(callback)
        return original(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    rows = [{"page": str(n), "count": n} for n in range(10)]
    await repo.transaction(lambda transaction: [transaction.insert("page_counts", row) for row in rows])
    assert len(hops) == 1
    await repo.insert("page_counts", {"page": "one more", "count": 1})
    assert len(hops) == 2
