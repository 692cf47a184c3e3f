"""Writes that came at about the same time share a transaction, and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from replication.errors import ConstraintFailed, DuplicateRow, NoSuchTable, QueryFailed, TransactionOver
from replication.primary.operations import NotNow
from replication.primary.together import Together
from replication.repo import Repo
from replication.transaction import Transaction, Written

SCHEMA = [
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE)",
    "CREATE TABLE lines (id INTEGER PRIMARY KEY, note REFERENCES notes DEFERRABLE INITIALLY DEFERRED)",
]


@pytest.fixture
async def repo(tmp_path: Path) -> AsyncIterator[Repo]:
    async with Repo(tmp_path / "app.db") as repo:
        await repo.migrate(SCHEMA)
        yield repo


class Counted:
    """`Repo.transact_here`, which counts."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.transactions = 0

    async def transact(self, work: Callable[[Transaction], Any]) -> Written[Any]:
        self.transactions += 1
        return await self.repo.transact_here(work)


def inserts(text: str) -> Callable[[Transaction], Any]:
    return lambda transaction: transaction.insert("notes", {"text": text})["text"]


async def all_of(counted: Counted, works: list[Callable[[Transaction], Any]]) -> list[Any]:
    """What each returned or raised, when all came at once."""
    together = Together(counted.transact)
    found = await asyncio.gather(*(together.transact(work) for work in works), return_exceptions=True)
    return [one.result if isinstance(one, Written) else one for one in found]


async def texts(repo: Repo) -> list[str]:
    return [row["text"] for row in await repo.all("SELECT text FROM notes ORDER BY id")]


async def test_many_that_wait_share_a_transaction_in_the_order_in_which_they_came(repo: Repo) -> None:
    counted, wanted = Counted(repo), [str(number) for number in range(50)]
    assert await all_of(counted, [inserts(text) for text in wanted]) == wanted
    assert await texts(repo) == wanted
    assert counted.transactions == 1


async def test_one_that_fails_leaves_nothing_and_harms_no_other(repo: Repo) -> None:
    def half(transaction: Transaction) -> None:
        transaction.insert("notes", {"text": "half"})
        transaction.execute("CREATE TABLE other (x)")
        raise ValueError("enough")

    counted = Counted(repo)
    first, failed, twice, last = await all_of(counted, [inserts("a"), half, inserts("a"), inserts("b")])
    assert (first, last) == ("a", "b")
    assert isinstance(failed, ValueError)
    assert isinstance(twice, DuplicateRow)
    assert await texts(repo) == ["a", "b"]
    assert counted.transactions == 1
    with pytest.raises(NoSuchTable, match="other"):
        await repo.all("SELECT * FROM other")


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("INSERT OR ROLLBACK INTO notes (text) VALUES ('a')", DuplicateRow),  # SQLite rolls back all of it
        ("INSERT INTO lines (note) VALUES (77)", ConstraintFailed),  # the commit is refused
        ("RELEASE _litecast_apart", QueryFailed),  # what it wrote cannot be told from the rest
    ],
)
async def test_where_the_transaction_itself_fails_each_has_its_own(
    repo: Repo, sql: str, error: type[Exception]
) -> None:
    await repo.execute("PRAGMA foreign_keys = ON")

    def spoils(transaction: Transaction) -> None:
        transaction.insert("notes", {"text": "spoilt"})
        transaction.execute(sql)

    first, failed, last = await all_of(Counted(repo), [inserts("a"), spoils, inserts("b")])
    assert (first, last) == ("a", "b")
    assert isinstance(failed, error)
    assert await texts(repo) == ["a", "b"]


async def test_one_that_hides_that_all_was_rolled_back_is_not_acknowledged(repo: Repo) -> None:
    def hides(transaction: Transaction) -> str:
        with pytest.raises(DuplicateRow):
            transaction.execute("INSERT OR ROLLBACK INTO notes (text) VALUES ('a')")
        return "done"

    first, hidden, last = await all_of(Counted(repo), [inserts("a"), hides, inserts("b")])
    assert (first, last) == ("a", "b")
    assert isinstance(hidden, TransactionOver)
    assert await texts(repo) == ["a", "b"]


async def test_a_slow_one_holds_up_those_after_it_no_longer_than_its_own_transaction(repo: Repo) -> None:
    def slow(transaction: Transaction) -> str:
        time.sleep(0.06)
        return str(transaction.insert("notes", {"text": "slow"})["text"])

    counted = Counted(repo)
    assert await all_of(counted, [inserts("a"), slow, inserts("b"), inserts("c")]) == ["a", "slow", "b", "c"]
    assert counted.transactions == 2


async def test_where_nobody_may_write_all_are_told(repo: Repo) -> None:
    async def refused(_: object) -> Written[Any]:
        raise NotNow

    together = Together(refused)
    found = await asyncio.gather(*(together.transact(inserts("a")) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [NotNow] * 3


async def test_who_stops_to_wait_changes_nothing_for_the_others(repo: Repo) -> None:
    together = Together(repo.transact_here)
    gone = asyncio.create_task(together.transact(inserts("gone")))
    stays = asyncio.create_task(together.transact(inserts("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).result == "stays"
    assert await texts(repo) == ["gone", "stays"]
