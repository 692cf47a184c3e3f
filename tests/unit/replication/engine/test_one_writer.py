"""Where one node writes at a time: UNIQUE, CHECK and handed-out keys are kept, replicas fenced, epochs told apart."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.engine import capture, fence
from replication.engine.applying import Deposed, Merged, Over
from replication.engine.attaching import TableChoice, attach, detach
from replication.engine.epochs import epoch_site
from replication.engine.folding import fold
from replication.engine.refusals import AttachRefused, RefusalCode
from replication.engine.stamps import Site
from tests.support.one_writer import FENCED, START_MS, Database
from tests.support.replicas import open_database


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    made: list[Database] = []

    def make(name: str) -> Database:
        made.append(Database(tmp_path / f"{name}.db", name))
        return made[-1]

    yield make
    for database in made:
        database.connection.close()


@pytest.fixture
def primary(make: Callable[[str], Database]) -> Database:
    database = make("alpha")
    database.begin(1)
    return database


@pytest.fixture
def replica(make: Callable[[str], Database]) -> Database:
    database = make("beta")
    database.end()
    return database


def insert(database: Database, email: str) -> bytes | None:
    return database.write("INSERT INTO users (email) VALUES (?)", email)


def test_a_key_that_sqlite_hands_out_a_unique_column_and_a_check_are_kept_on_every_node(
    primary: Database, replica: Database
) -> None:
    for email in ("a@x", "b@x", "c@x"):
        insert(primary, email)
    assert all(isinstance(one, Merged) for one in replica.merge(*primary.made))
    assert replica.rows() == primary.rows() == [(1, "a@x", None, None), (2, "b@x", None, None), (3, "c@x", None, None)]


def test_rows_that_changed_places_on_a_unique_index_are_merged(primary: Database, replica: Database) -> None:
    for email in ("a@x", "b@x"):
        insert(primary, email)
    replica.merge(*primary.made)
    primary.connection.executescript(
        "BEGIN; UPDATE users SET email = 'tmp' WHERE id = 1; UPDATE users SET email = 'a@x' WHERE id = 2;"
        "UPDATE users SET email = 'b@x' WHERE id = 1; COMMIT"
    )
    changed = primary.write("SELECT 1")
    assert changed is not None
    assert isinstance(replica.merge(changed)[0], Merged)
    assert replica.rows() == [(1, "b@x", None, None), (2, "a@x", None, None)]
    assert replica.connection.execute("SELECT count(*) FROM _litecast_held").fetchone() == (0,)


def test_what_passes_from_row_to_row_in_several_changesets_is_merged_in_one_batch(
    primary: Database, replica: Database
) -> None:
    insert(primary, "a@x")
    for _ in range(5):
        primary.write("DELETE FROM users")
        insert(primary, "a@x")
    replica.merge(*primary.made)
    assert replica.rows() == primary.rows() == [(6, "a@x", None, None)]


@pytest.mark.parametrize("recursive", [0, 1])
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT OR REPLACE INTO users (email) VALUES ('A@X')",
        "REPLACE INTO users (id, email) VALUES (2, 'a@x')",
        "UPDATE OR REPLACE users SET email = 'a@X' WHERE id = 2",
        "INSERT OR IGNORE INTO users (email) VALUES ('a@x')",
        "INSERT INTO users (email) VALUES ('a@x') ON CONFLICT (email) DO UPDATE SET low = 1, high = 2",
    ],
)
def test_a_row_that_is_replaced_on_a_unique_index_is_seen_to_go(
    sql: str, recursive: int, primary: Database, replica: Database
) -> None:
    for email in ("a@x", "b@x"):
        insert(primary, email)
    primary.connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    primary.write(sql)
    replica.merge(*primary.made)
    assert replica.rows() == primary.rows()
    assert fold(primary.connection, now_ms=START_MS + 500) is None


def test_a_unique_index_that_comes_later_is_looked_at_from_the_next_fold_on(
    primary: Database, replica: Database
) -> None:
    primary.write("INSERT INTO users (email, low, high) VALUES ('a@x', 1, 1), ('b@x', 2, 2)")
    for database in (primary, replica):
        database.connection.execute("CREATE UNIQUE INDEX lows ON users (low)")
    primary.write("SELECT 1")
    primary.write("INSERT OR REPLACE INTO users (email, low, high) VALUES ('c@x', 1, 1)")
    replica.merge(*primary.made)
    assert replica.rows() == primary.rows() == [(2, "b@x", 2, 2), (3, "c@x", 1, 1)]


def test_a_replaced_row_is_not_seen_to_go_without_the_triggers_on_unique_indexes(
    make: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_unique_triggers", lambda spec: [])
    primary, replica = make("alpha"), make("beta")
    primary.begin(1)
    insert(primary, "a@x")
    primary.write("INSERT OR REPLACE INTO users (email) VALUES ('a@x')")
    replica.merge(*primary.made)
    assert replica.rows() != primary.rows()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO users (email) VALUES ('z@x')",
        "INSERT OR IGNORE INTO users (email) VALUES ('z@x')",
        "REPLACE INTO users (id, email) VALUES (1, 'z@x')",
        "UPDATE users SET low = 1",
        "DELETE FROM users",
    ],
)
def test_on_a_replica_a_write_fails_with_where_to_write_and_reads_do_not(
    sql: str, primary: Database, replica: Database
) -> None:
    insert(primary, "a@x")
    replica.merge(*primary.made)
    with sqlite3.connect(replica.path) as other, pytest.raises(sqlite3.IntegrityError, match="written on the primary"):
        other.execute(sql)
    assert replica.rows() == primary.rows()
    other.close()


def test_the_fence_goes_up_again_where_a_migration_rebuilt_the_table(primary: Database, replica: Database) -> None:
    replica.connection.executescript(
        "CREATE TABLE new (id INTEGER PRIMARY KEY, email TEXT UNIQUE, low INT, high INT); DROP TABLE users;"
        "ALTER TABLE new RENAME TO users"
    )
    fold(replica.connection, now_ms=START_MS + 1)
    with pytest.raises(sqlite3.IntegrityError, match="written on the primary"):
        replica.connection.execute("INSERT INTO users (email) VALUES ('z@x')")


def test_the_primary_pays_nothing_for_the_fence(primary: Database) -> None:
    primary.end()
    primary.begin(2)
    names = primary.connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    assert [name for (name,) in names if "fence" in name] == []
    insert(primary, "a@x")


def test_detach_takes_the_fence_and_all_else_away(replica: Database) -> None:
    assert detach(replica.connection).tables == ("users",)
    replica.connection.execute("INSERT INTO users (email) VALUES ('z@x')")
    names = replica.connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%litecast%'").fetchall()
    assert names == []


def test_a_table_attached_for_one_kind_of_mode_is_not_attached_for_the_other(replica: Database, tmp_path: Path) -> None:
    with pytest.raises(AttachRefused) as raised:
        attach(replica.connection, [TableChoice(name="users")], cluster="one", new_site=lambda: Site("0" * 32))
    assert RefusalCode.ONE_WRITER in {refusal.code for refusal in raised.value.refusals}
    connection = open_database(tmp_path / "other.db")
    connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL)")
    chosen = [TableChoice(name="t")]
    attach(connection, chosen, cluster="one", new_site=lambda: Site("0" * 32))
    with pytest.raises(AttachRefused, match="attached for mode convergent, and this is to be mode primary"):
        attach(connection, chosen, cluster="one", new_site=lambda: Site("0" * 32), one_writer=True)
    connection.close()


def test_a_unique_index_over_an_expression_is_refused(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "other.db")
    connection.executescript("CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, v); CREATE UNIQUE INDEX i ON t (lower(v))")
    with pytest.raises(AttachRefused, match="over an expression"):
        attach(connection, [TableChoice(name="t")], cluster="one", new_site=lambda: Site("0" * 32), one_writer=True)
    connection.close()


# ---- epochs


def test_an_epoch_goes_on_from_the_one_before(primary: Database, replica: Database) -> None:
    insert(primary, "a@x")
    replica.merge(*primary.made)
    primary.end()
    replica.begin(2)
    insert(replica, "b@x")
    assert all(isinstance(one, Merged) for one in primary.merge(*replica.made))
    assert primary.rows() == replica.rows() == [(1, "a@x", None, None), (2, "b@x", None, None)]


def test_what_is_of_an_epoch_that_is_over_is_not_merged(
    primary: Database, replica: Database, make: Callable[[str], Database]
) -> None:
    gamma = make("gamma")
    gamma.end()
    for one in (replica, gamma):
        one.merge(*primary.made)
    replica.begin(2)
    gamma.merge(*replica.made)
    late = insert(primary, "late@x")
    assert late is not None
    assert isinstance(gamma.merge(late)[0], Over)
    assert isinstance(replica.merge(late)[0], Over)
    assert gamma.rows() == replica.rows() == []


def test_who_has_a_tail_does_not_merge_the_beginning_of_the_next_epoch(primary: Database, replica: Database) -> None:
    replica.merge(*primary.made)
    replica.begin(2)
    insert(replica, "new@x")
    insert(primary, "tail@x")
    (outcome, *_) = primary.merge(*replica.made)
    assert isinstance(outcome, Deposed)
    assert list(outcome.tail) == [epoch_site(1, b"alpha".hex().ljust(19, "0"))]
    assert primary.rows() == [(1, "tail@x", None, None)]


def test_what_the_log_still_holds_is_a_tail_too(primary: Database, replica: Database) -> None:
    replica.merge(*primary.made)
    replica.begin(2)
    primary.connection.execute("INSERT INTO users (email) VALUES ('unfolded@x')")
    (outcome,) = primary.merge(*replica.made)
    assert isinstance(outcome, Deposed)
    assert outcome.folded is not None


def test_of_two_who_were_granted_one_epoch_the_first_that_is_heard_of_counts(
    primary: Database, make: Callable[[str], Database]
) -> None:
    beta, gamma = make("beta"), make("gamma")
    beta.begin(1)
    gamma.merge(*primary.made)
    assert isinstance(gamma.merge(*beta.made)[0], Over)


def test_fence_messages_may_have_quotes(replica: Database) -> None:
    assert fence.fence(replica.connection) == FENCED
