"""What a connection knows of its tables is kept, until anything that it rests on is another one."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replication.engine import catalogue, filling, renaming
from replication.engine.applying import Merged, merge_all
from replication.engine.catalogue import MergeRule
from replication.engine.columns import Columns
from replication.engine.folding import fold
from replication.engine.known_tables import KEPT_FOR, AttachedTables, KnownTables
from replication.engine.state import schema_version
from replication.engine.transacting import keep_ready_to_merge, merging_transaction
from tests.support.attached import Attached


@pytest.fixture
def node(tmp_path: Path) -> Attached:
    found = Attached(path=tmp_path / "pages.db")
    found.write("INSERT INTO pages VALUES ('a', 'A', NULL, 1)")
    return found


@pytest.fixture
def other(node: Attached, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection."""
    assert node.rows()
    with closing(sqlite3.connect(tmp_path / "pages.db", isolation_level=None)) as connection:
        yield connection


def take(known: KnownTables, node: Attached) -> AttachedTables:
    return known.take(node.connection, schema_version(node.connection))


def kept(node: Attached) -> tuple[KnownTables, AttachedTables]:
    known = KnownTables()
    tables = take(known, node)
    known.keep(tables)
    return known, tables


def test_they_are_kept_while_nothing_changes(node: Attached, other: sqlite3.Connection) -> None:
    known, tables = kept(node)
    other.execute("INSERT INTO pages VALUES ('b', 'B', NULL, 1)")
    assert take(known, node) is tables


CHANGES: dict[str, Callable[[sqlite3.Connection, int], object]] = {
    "a column came": lambda other, _: other.execute("ALTER TABLE pages ADD COLUMN more"),
    "an index came": lambda other, _: other.execute("CREATE INDEX titles ON pages (title)"),
    "the rule changed": lambda other, _: catalogue.set_rule(other, catalogue.load(other)["pages"], MergeRule.ROW),
    "the floor was raised": lambda other, _: catalogue.raise_floor(other, catalogue.load(other)["pages"], 7),
    "triggers write elsewhere": lambda other, _: catalogue.set_local_triggers(
        other, catalogue.load(other)["pages"], True
    ),
    "a counter was declared": lambda other, tid: catalogue.declare_counters(other, tid, ["title"]),
    "a column got a number": lambda other, tid: Columns(other, tid).number("to come"),
    "a renaming was declared": lambda other, tid: renaming.declare(other, tid, {"title": "heading"}),
    "a fill was noted": lambda other, tid: other.execute(
        f"INSERT INTO {filling.TABLE} VALUES (?, 'title', CAST(x'ff' AS TEXT))", (tid,)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_they_are_read_again_when_anything_changed(node: Attached, other: sqlite3.Connection, change: str) -> None:
    known, tables = kept(node)
    CHANGES[change](other, tables.by_name["pages"].spec.tid)
    assert take(known, node) is not tables


def test_a_fill_that_changed_its_type_is_another_one(node: Attached, other: sqlite3.Connection) -> None:
    tid = catalogue.load(other)["pages"].tid
    other.execute(f"INSERT INTO {filling.TABLE} VALUES (?, 'title', 1)", (tid,))
    known, tables = kept(node)
    other.execute(f"UPDATE {filling.TABLE} SET value = '1'")
    assert take(known, node) is not tables


def test_what_a_transaction_used_that_was_rolled_back_is_not_kept(node: Attached) -> None:
    known, tables = kept(node)
    node.connection.execute("BEGIN")
    again = take(known, node)
    assert again is tables
    again.by_name["pages"].columns.number("of a changeset that came to nothing")
    node.connection.execute("ROLLBACK")
    later = take(known, node)
    assert "of a changeset that came to nothing" not in later.by_name["pages"].columns.ids


def test_they_are_not_kept_for_ever(node: Attached) -> None:
    known, first = kept(node)
    seen = {id(first)}
    made = [first]
    for _ in range(KEPT_FOR + 1):
        tables = take(known, node)
        known.keep(tables)
        if id(tables) not in seen:
            seen.add(id(tables))
            made.append(tables)
    assert len(made) == 2


def test_a_fold_and_a_merge_keep_them(node: Attached) -> None:
    known, there = KnownTables(), Attached(site="b" * 32)
    node.connection.execute("UPDATE pages SET title = 'B'")
    assert fold(node.connection, now_ms=node.now_ms + 1, known=known) is not None
    tables = take(known, node)
    known.keep(tables)
    there.pull(node)
    changeset = there.write("INSERT INTO pages VALUES ('c', 'C', NULL, 1)").encoded
    (outcome,) = merge_all(node.connection, [changeset], now_ms=there.now_ms, known=known)
    assert isinstance(outcome, Merged)
    assert take(known, node) is tables


def test_a_connection_that_is_ready_to_merge_stays_so(node: Attached) -> None:
    """Each change of these settings would have all of its statements compiled again."""
    keep_ready_to_merge(node.connection)

    def settings() -> list[object]:
        names = ("foreign_keys", "ignore_check_constraints")
        found = [node.connection.execute(f"PRAGMA {name}").fetchone() for name in names]
        return [*found, node.connection.getconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER)]

    ready = settings()
    statements: list[str] = []
    node.connection.set_trace_callback(statements.append)
    with merging_transaction(node.connection):
        assert settings() == ready == [(0,), (1,), False]
    node.connection.set_trace_callback(None)
    assert settings() == ready
    assert not [one for one in statements if one.startswith("PRAGMA") and "=" in one]


def test_a_merge_that_enforced_checks_leaves_the_connection_as_it_was(node: Attached) -> None:
    keep_ready_to_merge(node.connection)
    with merging_transaction(node.connection):
        node.connection.execute("PRAGMA ignore_check_constraints = 0")
    assert node.connection.execute("PRAGMA ignore_check_constraints").fetchone() == (1,)
