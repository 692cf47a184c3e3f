import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from replication.engine import capture, catalogue
from replication.engine.catalogue import MergeRule, TableSpec


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in (*catalogue.CREATE, capture.CREATE_MERGING):
            connection.execute(statement)
        connection.execute(
            "CREATE TABLE t (v, b NOT NULL, n INT NOT NULL, a NOT NULL, g AS (n + 1), s AS (v) STORED, w,"
            " PRIMARY KEY (a, b))"
        )
        yield connection


def add(connection: sqlite3.Connection, name: str = "t", counters: tuple[str, ...] = ("n",)) -> TableSpec:
    spec = catalogue.add(connection, name=name, counters=counters, rule=MergeRule.CELL)
    for statement in capture.create_statements(spec):
        connection.execute(statement)
    return spec


def test_a_database_without_a_catalogue_has_nothing_attached() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert not catalogue.is_there(connection)
        assert catalogue.load(connection) == {}


def test_a_spec_has_key_cells_and_counters_as_the_schema_orders_them(connection: sqlite3.Connection) -> None:
    spec = add(connection)
    assert (spec.key, spec.cells, spec.counters) == (("a", "b"), ("v", "w"), ("n",))
    assert (spec.rule, spec.floor, spec.local_triggers, spec.rowid_is_key) == (MergeRule.CELL, 0, False, False)
    assert (spec.log, spec.clock, spec.count) == ("_litecast_log_1", "_litecast_clock_1", "_litecast_count_1")
    assert catalogue.load(connection) == {"t": spec}


def test_a_key_that_is_the_rowid_is_known_as_one(connection: sqlite3.Connection) -> None:
    for name, key in (("a", "INTEGER PRIMARY KEY"), ("b", "INT PRIMARY KEY"), ("c", "INTEGER PRIMARY KEY DESC")):
        connection.execute(f"CREATE TABLE {name} (k {key})")
    connection.execute("CREATE TABLE d (k INTEGER PRIMARY KEY) WITHOUT ROWID")
    assert [add(connection, name, ()).rowid_is_key for name in "abcd"] == [True, False, False, False]


def test_columns_come_and_go_with_the_schema(connection: sqlite3.Connection) -> None:
    add(connection)
    connection.execute("ALTER TABLE t ADD COLUMN x")
    connection.execute("ALTER TABLE t DROP COLUMN w")
    connection.execute("ALTER TABLE t RENAME COLUMN a TO c")
    spec = catalogue.load(connection)["t"]
    assert (spec.key, spec.cells, spec.counters) == (("c", "b"), ("v", "x"), ("n",))


def test_a_dropped_counter_is_a_counter_again_when_it_comes_back(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE u (k TEXT PRIMARY KEY NOT NULL, n INT NOT NULL)")
    add(connection, "u")
    connection.execute("ALTER TABLE u DROP COLUMN n")
    assert catalogue.load(connection)["u"].counters == ()
    connection.execute("ALTER TABLE u ADD COLUMN n INT NOT NULL DEFAULT 0")
    assert catalogue.load(connection)["u"].counters == ("n",)


def test_a_table_that_is_gone_or_has_another_key_is_left_out(connection: sqlite3.Connection) -> None:
    add(connection)
    connection.execute("DROP TABLE t")
    assert catalogue.load(connection) == {}
    assert catalogue.names(connection) == {1: "t"}
    connection.execute("CREATE TABLE t (a NOT NULL PRIMARY KEY)")
    assert catalogue.load(connection) == {}


def test_a_renamed_table_is_followed(connection: sqlite3.Connection) -> None:
    add(connection)
    connection.execute("ALTER TABLE t RENAME TO u")
    assert [spec.tid for spec in catalogue.load(connection).values()] == [1]
    assert catalogue.names(connection) == {1: "u"}


def test_a_new_table_in_the_place_of_one_moved_aside_goes_on_for_it(connection: sqlite3.Connection) -> None:
    add(connection)
    (definition,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 't'").fetchone()
    connection.execute("ALTER TABLE t RENAME TO old_t")
    connection.execute(definition)
    (spec,) = catalogue.load(connection).values()
    assert spec.name == "t"
    assert not capture.is_complete(connection, spec)


def test_floors_only_rise(connection: sqlite3.Connection) -> None:
    spec = add(connection)
    for life, floor in ((3, 3), (1, 3), (9, 9)):
        catalogue.raise_floor(connection, spec, life)
        assert catalogue.load(connection)["t"].floor == floor


def test_nothing_of_a_removed_table_is_left(connection: sqlite3.Connection) -> None:
    spec = add(connection)
    catalogue.remove(connection, spec.tid)
    assert catalogue.load(connection) == {}
    assert connection.execute(f"SELECT * FROM {catalogue.COUNTERS}").fetchall() == []
