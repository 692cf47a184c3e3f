import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from subprocess import Popen

import pytest

from replication.errors import ConstraintFailed, DatabaseBusy, DatabaseFull, DuplicateRow, NoSuchRow, TransactionOver
from replication.point_reader import PointReader
from replication.repo import Repo
from replication.rows import Row
from replication.transaction import Transaction
from tests.unit.replication.conftest import row_of


class ApplicationError(Exception):
    pass


def count_view(transaction: Transaction) -> Row:
    """The post's counter: reads, then writes the absolute value."""
    row = transaction.get("page_counts", "home")
    if row is None:
        return transaction.insert("page_counts", {"page": "home", "count": 1})
    return transaction.update("page_counts", "home", {"count": row["count"] + 1})


async def test_read_and_write_in_one_transaction_lose_no_count_to_each_other(repo: Repo) -> None:
    rows = await asyncio.gather(*(repo.transaction(count_view) for _ in range(50)))
    assert sorted(row["count"] for row in rows) == list(range(1, 51))


async def test_all_verbs_work_inside_a_transaction(repo: Repo) -> None:
    def work(transaction: Transaction) -> list[Row]:
        transaction.insert_many("page_counts", [{"page": name, "count": 1} for name in "abc"])
        transaction.update("page_counts", "a", {"count": 5})
        transaction.delete("page_counts", "b")
        transaction.execute("UPDATE page_counts SET count = count + 1")
        return transaction.all("SELECT page, count FROM page_counts ORDER BY page")

    assert await repo.transaction(work) == [{"page": "a", "count": 6}, {"page": "c", "count": 2}]


async def test_an_exception_rolls_back_and_reaches_the_caller(repo: Repo) -> None:
    def work(transaction: Transaction) -> None:
        transaction.insert("page_counts", {"page": "home", "count": 1})
        raise ApplicationError

    with pytest.raises(ApplicationError):
        await repo.transaction(work)
    assert await repo.get("page_counts", "home") is None
    assert (await repo.transaction(count_view))["count"] == 1


@pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3), GeneratorExit()])
async def test_odd_exceptions_roll_back_and_reach_the_caller(repo: Repo, error: BaseException) -> None:
    def work(transaction: Transaction) -> None:
        transaction.insert("page_counts", {"page": "home", "count": 1})
        raise error

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)  # what no awaitable can raise
    with pytest.raises(expected):
        await repo.transaction(work)
    assert await repo.get("page_counts", "home") is None


async def test_a_failed_verb_that_is_caught_leaves_the_rest_of_the_transaction(repo: Repo) -> None:
    def work(transaction: Transaction) -> None:
        transaction.insert("page_counts", {"page": "home", "count": 1})
        with pytest.raises(DuplicateRow):
            transaction.insert("page_counts", {"page": "home", "count": 2})
        with pytest.raises(NoSuchRow):
            transaction.update("page_counts", "nowhere", {"count": 2})
        transaction.insert("page_counts", {"page": "other", "count": 3})

    await repo.transaction(work)
    assert len(await repo.all("SELECT * FROM page_counts")) == 2


async def test_a_commit_that_fails_leaves_nothing_and_the_next_write_works(repo: Repo) -> None:
    await repo.execute(
        "CREATE TABLE child (id INTEGER PRIMARY KEY, up INT REFERENCES child DEFERRABLE INITIALLY DEFERRED)"
    )
    with pytest.raises(ConstraintFailed):
        await repo.transaction(lambda transaction: transaction.insert("child", {"id": 1, "up": 99}))
    await repo.insert("child", {"id": 2})
    assert [row["id"] for row in await repo.all("SELECT id FROM child")] == [2]


async def test_nothing_is_written_after_sqlite_itself_rolled_back(repo: Repo) -> None:
    await repo.execute("CREATE TABLE hard (id INTEGER PRIMARY KEY, n INT UNIQUE ON CONFLICT ROLLBACK)")
    await repo.insert("hard", {"id": 1, "n": 1})

    def stubborn(transaction: Transaction) -> None:
        transaction.insert("hard", {"id": 2, "n": 2})
        with pytest.raises(DuplicateRow):
            transaction.insert("hard", {"id": 3, "n": 1})
        transaction.insert("hard", {"id": 4, "n": 4})

    with pytest.raises(TransactionOver, match="rolled"):
        await repo.transaction(stubborn)
    assert [row["id"] for row in await repo.all("SELECT id FROM hard")] == [1]


async def test_a_full_disk_keeps_nothing_of_the_write_and_the_next_one_works(repo: Repo) -> None:
    await repo.execute("PRAGMA max_page_count = 20")  # SQLite answers as it does for a disk without space
    rows = [{"page": f"{n}" * 500, "count": n} for n in range(500)]
    with pytest.raises(DatabaseFull, match="no space left on its disk; free some"):
        await repo.insert_many("page_counts", rows)
    assert await repo.all("SELECT * FROM page_counts") == []
    await repo.execute("PRAGMA max_page_count = 10000")
    assert await repo.insert_many("page_counts", rows) == 500


async def test_a_transaction_is_of_no_use_after_its_end(repo: Repo) -> None:
    kept = await repo.transaction(lambda transaction: transaction)
    with pytest.raises(TransactionOver, match="inside its function"):
        kept.get("page_counts", "home")


async def test_coroutine_functions_are_refused_before_anything_is_written(repo: Repo) -> None:
    async def work(transaction: Transaction) -> None:
        transaction.insert("page_counts", {"page": "home", "count": 1})

    def hidden(transaction: Transaction) -> Coroutine[None, None, None]:
        return work(transaction)

    for refused in (work, hidden):
        with pytest.raises(TypeError, match="plain"):
            await repo.transaction(refused)  # type: ignore[unused-coroutine]
    assert await repo.get("page_counts", "home") is None


async def test_a_table_made_in_a_transaction_that_rolls_back_is_forgotten(repo: Repo) -> None:
    def work(transaction: Transaction) -> None:
        transaction.execute("CREATE TABLE t (a INT PRIMARY KEY)")
        transaction.insert("t", {"a": 1})
        raise ApplicationError

    with pytest.raises(ApplicationError):
        await repo.transaction(work)
    await repo.execute("CREATE TABLE t (b INT PRIMARY KEY, updated_at TEXT)")
    assert set(await repo.insert("t", {"b": 1})) == {"b", "updated_at"}


HOLD_THE_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO page_counts (page, count) VALUES ('home', 41)")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("committed", flush=True)
"""


async def test_a_write_waits_for_another_processs_transaction(
    repo: Repo, path: Path, python: Callable[..., Popen[str]]
) -> None:
    other = python(HOLD_THE_WRITE_LOCK, path)
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    counting = asyncio.create_task(repo.transaction(count_view))
    assert await repo.get("page_counts", "home") is None  # readers wait for nobody
    assert await repo.all("SELECT * FROM page_counts") == []
    assert not counting.done()
    print(file=other.stdin, flush=True)
    assert (await counting)["count"] == 42


async def test_a_lock_held_too_long_is_a_busy_database_and_the_next_write_works(
    path: Path, python: Callable[..., Popen[str]]
) -> None:
    async with Repo(path, busy_timeout_s=0.05) as repo:
        await repo.execute("CREATE TABLE page_counts (page TEXT PRIMARY KEY, count INT)")
        other = python(HOLD_THE_WRITE_LOCK, path)
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        for write in (
            repo.insert("page_counts", {"page": "home", "count": 1}),
            repo.insert_many("page_counts", [{"page": "home", "count": 1}]),
            repo.transaction(count_view),
            repo.migrate(["CREATE TABLE t (x)"]),
        ):
            with pytest.raises(DatabaseBusy, match=r"locked by another process after 0\.05 s; end the long"):
                await write
        print(file=other.stdin, flush=True)
        assert other.stdout.readline() == "committed\n"
        assert (await repo.transaction(count_view))["count"] == 42


async def test_point_reads_wait_in_the_readers_thread_where_sqlite_is_busy(
    repo: Repo, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No process can lock readers out of a WAL for long enough to test it (a recovery after a crash does): hence a fake.
    def busy(reader: PointReader, table: str, key: object) -> Row | None:
        raise DatabaseBusy(path, 0)

    await repo.insert("page_counts", {"page": "home", "count": 7})
    monkeypatch.setattr(PointReader, "get", busy)
    assert (await row_of(repo))["count"] == 7


async def test_two_processes_that_count_lose_nothing(repo: Repo, path: Path, python: Callable[..., Popen[str]]) -> None:
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
for _ in range(100):
    connection.execute("UPDATE page_counts SET count = count + 1 WHERE page = 'home'")
"""
    await repo.insert("page_counts", {"page": "home", "count": 0})
    others = [python(code, path), python(code, path)]
    for _ in range(100):
        await repo.transaction(count_view)
    for other in others:
        assert await asyncio.to_thread(other.wait, 30) == 0
    assert (await row_of(repo))["count"] == 300
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
