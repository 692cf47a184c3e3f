"""A write that is folded in its own transaction, on a disk that tells of each commit."""

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from replication.convergent.store import Done, Store
from replication.convergent.writing import CommittedAlready, Writing
from replication.engine import folding
from replication.engine.decoding import decode
from replication.engine.identity import StateReplaced
from replication.engine.stamps import Stamp
from replication.positions import of_next_fold
from replication.simulation.disk import Connection, Disk
from tests.support.stores import disk_with_tables, open_store

INSERT = "INSERT INTO pages (page, n) VALUES (?, 1)"


@pytest.fixture
def disk() -> Iterator[Disk]:
    with disk_with_tables() as disk:
        yield disk


@pytest.fixture
def store(disk: Disk) -> Iterator[Store]:
    store = open_store(disk)
    store.fold()  # looks at the schema, which attaching changed
    yield store
    store.close()


@pytest.fixture
def writing(disk: Disk) -> Writing:
    return Writing(partial(disk.connect, full=True))


def write(store: Store, writing: Writing, *pages: str, fails: bool = False) -> Done:
    def carry_out(connection: sqlite3.Connection, fold: Callable[[Stamp], None]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (owed,) = of_next_fold(connection).stamps.values()
            for page in pages:
                connection.execute(INSERT, (page,))
            fold(owed)
            if fails:
                raise ValueError("too late")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    return writing.write(store, carry_out)


def pages_of(done: Done) -> list[list[object]]:
    """Of each changeset that was made."""
    return [
        [row[0] for table in decode(made).tables for group in table.groups for row in group.rows] for made in done.made
    ]


def all_pages(connection: Connection) -> list[str]:
    return [page for (page,) in connection.execute("SELECT page FROM pages ORDER BY page")]


def test_a_write_and_its_fold_are_one_durable_commit(store: Store, writing: Writing, disk: Disk) -> None:
    commits = disk.commits
    done = write(store, writing, "a")
    assert disk.commits == commits + 1
    assert (pages_of(done), done.durable, disk.at_risk) == ([["a"]], True, 0)
    assert store.fold_news() is None
    assert pages_of(write(store, writing, "b")) == [["b"]]


def test_what_others_committed_before_it_is_folded_with_it_and_what_they_do_later_is_not(
    store: Store, writing: Writing, disk: Disk
) -> None:
    other = disk.connect()
    other.execute(INSERT, ("other",))
    assert disk.at_risk > 0
    done = write(store, writing, "own")
    assert [sorted(map(str, pages)) for pages in pages_of(done)] == [["other", "own"]]
    assert disk.at_risk == 0  # theirs has become durable as well
    other.execute(INSERT, ("later",))
    folded = store.fold_news()
    assert folded is not None
    assert pages_of(folded) == [["later"]]


def test_one_that_writes_nothing_brings_the_head_to_its_position(store: Store, writing: Writing, disk: Disk) -> None:
    before = write(store, writing, "a").view
    done = write(store, writing)
    assert pages_of(done) == [[]]
    assert done.view.vector[done.view.site].stamp > before.vector[before.site].stamp


def test_one_that_fails_after_its_fold_leaves_nothing(store: Store, writing: Writing, disk: Disk) -> None:
    before = write(store, writing, "a").view
    with pytest.raises(ValueError, match="too late"):
        write(store, writing, "b", fails=True)
    done = write(store, writing, "c")
    assert pages_of(done) == [["c"]]
    assert decode(done.made[0]).after == before.vector[before.site].stamp
    assert all_pages(disk.connect()) == ["a", "c"]


@pytest.mark.parametrize("what", ["too much", "a new schema"])
def test_what_takes_longer_is_left_to_the_fold(
    store: Store, writing: Writing, disk: Disk, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = disk.connect()
    if what == "too much":
        monkeypatch.setattr(folding, "FEW_KEYS", 2)
        for page in "abc":
            other.execute(INSERT, (page,))
    else:
        other.execute("ALTER TABLE pages ADD COLUMN more TEXT")
    assert write(store, writing, "own").made == ()
    folded = store.fold_news()
    assert folded is not None
    assert "own" in pages_of(folded)[0]


def test_nothing_is_written_to_a_state_that_somebody_put_in_place_of_the_one_that_was(
    store: Store, writing: Writing, disk: Disk
) -> None:
    older = disk.image()
    write(store, writing, "a")
    disk.overwrite(older)
    with pytest.raises(StateReplaced):
        write(store, writing, "b")
    assert all_pages(disk.connect()) == []


def test_what_goes_wrong_after_the_commit_is_told_as_an_unknown_outcome(
    store: Store, writing: Writing, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store, "view", fails)
    with pytest.raises(CommittedAlready, match="was committed, and then something went wrong") as raised:
        write(store, writing, "a")
    assert raised.value.outcome_unknown
    assert all_pages(disk.connect()) == ["a"]
