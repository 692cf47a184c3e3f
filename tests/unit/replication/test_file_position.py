"""How far a file is, read beside the one who writes it: on the node that writes, and on those that merge."""

import os
import sqlite3
from pathlib import Path

import pytest

from replication import file_position
from replication.engine.epochs import epoch_site
from replication.engine.stamps import Stamp
from replication.epoch_position import EpochPosition
from replication.file_position import FilePosition
from tests.support.attached import Attached
from tests.support.one_writer import Database

INSERT = "INSERT INTO users (email) VALUES (?)"


@pytest.fixture
def primary(tmp_path: Path) -> Database:
    database = Database(tmp_path / "alpha.db", "alpha")
    database.begin(1)
    return database


@pytest.fixture
def replica(tmp_path: Path) -> Database:
    database = Database(tmp_path / "beta.db", "beta")
    database.end()
    return database


def now(database: Database) -> EpochPosition:
    position = FilePosition(database.path).now()
    assert position is not None
    return position


def test_what_is_committed_and_in_no_changeset_yet_is_in_the_next_one(primary: Database, replica: Database) -> None:
    replica.merge(*primary.made)
    before = now(primary)
    primary.connection.execute(INSERT, ["a@x"])  # by any program
    position, there = now(primary), FilePosition(replica.path)
    assert position > before
    assert there.has_reached(before)
    assert not there.has_reached(position)
    assert not FilePosition(primary.path).has_reached(position)  # the node that writes never asks this
    changeset = primary.write(INSERT, "b@x")
    assert changeset is not None
    assert not there.has_reached(position)
    replica.merge(changeset)
    assert there.has_reached(position)
    assert len(replica.rows()) == 2


def test_where_nothing_waits_to_be_folded_the_position_is_reached_by_who_has_all(
    primary: Database, replica: Database
) -> None:
    primary.write(INSERT, "a@x")
    replica.merge(*primary.made)
    assert FilePosition(replica.path).has_reached(now(primary))
    assert now(replica) == now(primary)


def test_a_fold_between_two_looks_hides_nothing(
    primary: Database, replica: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.merge(*primary.made)
    primary.connection.execute(INSERT, ["a@x"])
    made: list[bytes | None] = []
    is_anything_logged = file_position._is_anything_logged

    def folding_first(connection: sqlite3.Connection) -> bool:
        made.append(primary.write("UPDATE users SET low = 1"))
        return is_anything_logged(connection)

    monkeypatch.setattr(file_position, "_is_anything_logged", folding_first)
    position = now(primary)
    assert not FilePosition(replica.path).has_reached(position)
    (changeset,) = made
    assert changeset is not None
    replica.merge(changeset)
    assert FilePosition(replica.path).has_reached(position)


def test_a_process_that_was_forked_opens_the_file_anew(primary: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    file = FilePosition(primary.path)
    file.now()
    before = file._connection()
    assert file._connection() is before
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert file._connection() is not before


def test_a_write_that_changed_nothing_stalls_nobody(primary: Database, replica: Database) -> None:
    primary.write(INSERT, "a@x")
    replica.merge(*primary.made)
    primary.connection.execute("UPDATE users SET email = email")
    position = now(primary)
    empty = primary.write("UPDATE users SET low = low")
    assert empty is not None, "another process has told that there would be a changeset"
    replica.merge(empty)
    assert FilePosition(replica.path).has_reached(position)


def test_a_position_of_an_epoch_that_is_over_stalls_nobody(primary: Database, replica: Database) -> None:
    replica.merge(*primary.made)
    primary.connection.execute(INSERT, ["lost with its node"])
    lost = now(primary)
    assert not FilePosition(replica.path).has_reached(lost)
    replica.begin(2)
    assert FilePosition(replica.path).has_reached(lost)
    assert now(replica) > lost


def test_a_write_that_was_lost_with_its_epoch_is_not_taken_for_one_that_came(
    primary: Database, replica: Database
) -> None:
    replica.merge(*primary.made)
    sent = primary.write(INSERT, "sent")
    assert sent is not None
    written = now(primary)
    there = FilePosition(replica.path)
    assert there.has_written(written) is False
    replica.merge(sent)
    assert there.has_written(written) is True
    primary.connection.execute(INSERT, ["lost with its node"])
    lost = now(primary)
    assert there.has_written(lost) is False
    replica.begin(2)
    assert there.has_written(lost) is None
    assert there.has_written(written) is True


def test_a_position_of_an_epoch_that_has_not_come_here_is_not_reached(primary: Database, replica: Database) -> None:
    replica.merge(*primary.made)
    position = now(primary)
    later = EpochPosition.of(epoch_site(position.epoch + 1, "0" * 19), Stamp(0))
    assert not FilePosition(replica.path).has_reached(later)


def test_while_a_tail_is_being_set_aside_nothing_is_reached(primary: Database) -> None:
    position = now(primary)
    assert FilePosition(primary.path).has_reached(position)
    primary.connection.execute("UPDATE _litecast_one_writer SET resetting = 1")
    assert not FilePosition(primary.path).has_reached(position)


def test_a_database_of_another_mode_or_none_has_no_position(tmp_path: Path, primary: Database) -> None:
    convergent = Attached(path=tmp_path / "convergent.db")
    for path in (tmp_path / "convergent.db", tmp_path / "nothing.db"):
        assert FilePosition(path).now() is None
        assert not FilePosition(path).has_reached(now(primary))
    assert not (tmp_path / "nothing.db").exists()
    convergent.connection.close()


def test_a_replica_that_has_seen_no_epoch_has_no_position(replica: Database, primary: Database) -> None:
    assert FilePosition(replica.path).now() is None
    assert not FilePosition(replica.path).has_reached(now(primary))
