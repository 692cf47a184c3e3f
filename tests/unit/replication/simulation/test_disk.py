import sqlite3
import time
from collections.abc import Iterator
from random import Random

import pytest

from replication.simulation.disk import TROUBLES, Disk


@pytest.fixture
def disk() -> Iterator[Disk]:
    with Disk() as disk:
        disk.connect(full=True).execute("CREATE TABLE t (k PRIMARY KEY)")
        yield disk


def keys(disk: Disk) -> list[int]:
    return [key for (key,) in disk.connect().execute("SELECT k FROM t ORDER BY k")]


def insert(connection: sqlite3.Connection, *numbers: int) -> None:
    for number in numbers:
        connection.execute("INSERT INTO t VALUES (?)", (number,))


def test_connections_see_each_others_commits_and_that_there_was_one(disk: Disk) -> None:
    one, other = disk.connect(), disk.connect()
    (before,) = other.execute("PRAGMA data_version").fetchone()
    insert(one, 1)
    assert keys(disk) == [1]
    assert other.execute("PRAGMA data_version").fetchone() != (before,)


def test_a_kill_loses_what_was_not_committed_and_nothing_else(disk: Disk) -> None:
    connection = disk.connect()
    insert(connection, 1)
    connection.execute("BEGIN IMMEDIATE")
    insert(connection, 2)
    disk.kill()
    assert keys(disk) == [1]
    with pytest.raises(sqlite3.ProgrammingError):
        insert(connection, 3)


def test_a_power_cut_leaves_what_was_committed_before_the_last_barrier_and_some_of_the_rest() -> None:
    found: set[tuple[int, ...]] = set()
    for seed in range(60):
        with Disk() as disk:
            connection = disk.connect()
            connection.execute("CREATE TABLE t (k PRIMARY KEY)")
            insert(connection, 1, 2)
            disk.barrier()
            insert(connection, 3, 4, 5)
            lost = disk.power_cut(Random(seed))
            left = tuple(keys(disk))
            assert lost == (left != (1, 2, 3, 4, 5))
            found.add(left)
    assert found == {(1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5)}


def test_a_full_connection_makes_its_own_commits_and_those_before_durable(disk: Disk) -> None:
    normal, full = disk.connect(), disk.connect(full=True)
    insert(normal, 1)
    assert disk.at_risk == 1
    insert(full, 2)
    assert disk.at_risk == 0
    assert not disk.power_cut(Random(1))
    assert keys(disk) == [1, 2]


def test_a_transaction_is_lost_whole_or_not_at_all(disk: Disk) -> None:
    for seed in range(20):
        with disk.copy() as copy:
            connection = copy.connect()
            connection.execute("BEGIN IMMEDIATE")
            insert(connection, 1, 2)
            connection.execute("COMMIT")
            copy.power_cut(Random(seed))
            assert keys(copy) in ([], [1, 2])


def test_a_restore_reaches_who_has_the_database_open(disk: Disk) -> None:
    connection = disk.connect()
    insert(connection, 1)
    backup = disk.image()
    insert(connection, 2)
    disk.overwrite(backup)
    assert connection.execute("SELECT k FROM t").fetchall() == [(1,)]
    insert(connection, 3)
    assert keys(disk) == [1, 3]
    disk.barrier()
    assert not disk.power_cut(Random(1))
    assert keys(disk) == [1, 3]


def test_files_stay_where_they_are_when_the_database_is_copied_or_replaced(disk: Disk) -> None:
    disk.files["nonce"] = b"1"
    with disk.copy() as copy, disk.copy(files=True) as machine:
        assert copy.files == {}
        assert machine.files == {"nonce": b"1"}
    disk.replace(disk.image())
    assert disk.files == {"nonce": b"1"}


def test_a_disk_says_when_something_was_committed(disk: Disk) -> None:
    seen: list[int] = []
    disk.committed = lambda: seen.append(disk.commits)
    connection = disk.connect()
    connection.execute("BEGIN IMMEDIATE")
    insert(connection, 1, 2)
    connection.execute("COMMIT")
    connection.execute("SELECT * FROM t").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    insert(connection, 3)
    connection.execute("ROLLBACK")
    assert len(seen) == 1


@pytest.mark.parametrize(("what", "code"), [("locked", sqlite3.SQLITE_BUSY), ("full", sqlite3.SQLITE_FULL)])
def test_trouble_looks_as_sqlites_own(disk: Disk, what: str, code: int) -> None:
    disk.trouble = TROUBLES[what]
    connection = disk.connect()

    def write() -> None:
        for statement in ("BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)", "COMMIT"):
            connection.execute(statement)

    with pytest.raises(sqlite3.OperationalError) as caught:
        write()
    assert caught.value.sqlite_errorcode == code
    disk.trouble = None
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    insert(connection, 2)
    assert keys(disk) == [2]


def test_a_commit_stays_cheap(disk: Disk) -> None:
    connection = disk.connect()
    for number in range(20):
        connection.execute(f"CREATE TABLE t{number} (k PRIMARY KEY, v)")
    began_s = time.process_time()
    insert(connection, *range(200))
    assert (time.process_time() - began_s) / 200 < 0.002
