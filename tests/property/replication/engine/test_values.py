"""Every value that SQLite can store survives fold, encode, decode and merge: its bits, and its storage class."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replication.engine.applying import Merged
from replication.engine.attaching import TableChoice
from tests.support.replicas import START_MS, Replica, attach_file, fast_folder, new_site
from tests.support.sql_schema import BadText, Bound, Drawn, content, quoted
from tests.support.sql_writer import Sql

TYPES = ("", "TEXT", "INT", "REAL", "NUMERIC", "BLOB", "VARCHAR(3)", "BOOLEAN", "DATETIME", "DOUBLE PRECISION")
STRICT_TYPES = ("ANY", "TEXT", "INT", "REAL", "BLOB")
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

VALUES: st.SearchStrategy[Drawn] = st.one_of(
    st.none(),
    st.integers(INT_MIN, INT_MAX),
    st.sampled_from([INT_MIN, INT_MAX, 2**53 + 1, 0.0, -0.0, float("inf"), float("-inf"), 2.0**63, 1e300, 5e-324]),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(
        ["", "\x00", "a\x00b", "1", "1.0", " 1 ", "1e5", "0x1F", "9223372036854775808", "\ufeff", "\uffff"]
    ),
    st.binary(),
    st.binary().map(BadText),
    st.sampled_from([BadText(b"\xff"), BadText(b"\x00\xff"), BadText(b"\xed\xb2\x80"), BadText(b"\xf4\x90\x80\x80")]),
)
KEYS = VALUES.filter(lambda value: value is not None)


def names() -> list[str]:
    return [f"t {kind}" for kind in TYPES] + [f"strict {kind}" for kind in STRICT_TYPES]


def create(connection: sqlite3.Connection) -> None:
    for kind in TYPES:
        connection.execute(f"CREATE TABLE {quoted(f't {kind}')} (k {kind} PRIMARY KEY NOT NULL, v {kind}, w {kind})")
    for kind in STRICT_TYPES:
        columns = f"k {kind} PRIMARY KEY NOT NULL, v {kind}, w {kind}"
        connection.execute(f"CREATE TABLE {quoted(f'strict {kind}')} ({columns}) STRICT, WITHOUT ROWID")


class Pair:
    """A database that is written, and one that merges."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = START_MS
        self.replicas: list[Replica] = []
        for number in range(2):
            path = folder / f"{number}.db"
            attach_file(path, create, [TableChoice(name=name) for name in names()], new_site(random.Random(number)))
            self.replicas.append(Replica(path))
        self.first, self.second = self.replicas
        self.application = sqlite3.connect(self.first.path, isolation_level=None, timeout=0)

    def close(self) -> None:
        self.application.close()
        for replica in self.replicas:
            replica.close()

    def run(self, sql: Sql) -> bool:
        """False if the table does not take the value: a STRICT one may refuse it."""
        try:
            self.application.execute(sql.text, sql.bound)
        except sqlite3.IntegrityError:
            return False
        return True

    def arrive(self, name: str) -> list[tuple[tuple[str, Bound], ...]]:
        self.now_ms += 1
        folded = self.first.fold(self.now_ms)
        if folded is not None:
            assert isinstance(self.second.merge(folded.encoded, self.now_ms), Merged)
        mine, theirs = content(self.first.engine, [name]), content(self.second.engine, [name])
        assert mine == theirs
        return theirs[name]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with fast_folder() as folder:
        made = Pair(folder)
        yield made
        made.close()


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(names()), key=KEYS, first=VALUES, second=VALUES, third=VALUES)
@example(name="t ", key=BadText(b"\xff"), first=BadText(b"\x00\xff"), second=-0.0, third=0.0)
@example(name="strict ANY", key=2**53 + 1, first=b"\xff", second="\x00", third=float("inf"))
def test_any_value_arrives_as_it_was_in_any_column(
    pair: Pair, name: str, key: Drawn, first: Drawn, second: Drawn, third: Drawn
) -> None:
    table = quoted(name)
    inserted = pair.run(
        Sql()
        .add(f"INSERT INTO {table} (k, v, w) VALUES (")
        .value(key)
        .add(",")
        .value(first)
        .add(",")
        .value(second)
        .add(")")
    )
    rows = pair.arrive(name)
    assert len(rows) == inserted
    pair.run(Sql().add(f"UPDATE {table} SET w =").value(third).add("WHERE k =").value(key))
    pair.arrive(name)
    pair.run(Sql().add(f"UPDATE {table} SET v = w, w = v WHERE k =").value(key))
    pair.arrive(name)
    pair.run(Sql().add(f"DELETE FROM {table}"))
    assert pair.arrive(name) == []


@settings(deadline=None, max_examples=100)
@given(keys=st.lists(KEYS, min_size=2, max_size=6), name=st.sampled_from(names()))
def test_a_row_may_take_any_key_after_any_other(pair: Pair, keys: list[Drawn], name: str) -> None:
    table = quoted(name)
    for at, key in enumerate(keys):
        if at == 0:
            pair.run(Sql().add(f"INSERT INTO {table} (k, v) VALUES (").value(key).add(", NULL)"))
        else:
            if key == keys[at - 1]:  # 1 and 1.0: see below
                continue
            pair.run(Sql().add(f"UPDATE {table} SET k =").value(key))
        pair.arrive(name)
    pair.run(Sql().add(f"DELETE FROM {table}"))
    assert pair.arrive(name) == []


def test_keys_that_sqlite_takes_for_equal_are_one_key_whose_form_is_not_promised(pair: Pair) -> None:
    """1 and 1.0 in a column without a type: = finds the row by either, and so does whatever is merged."""
    pair.run(Sql().add("INSERT INTO \"t \" (k, v) VALUES (1, 'int')"))
    pair.arrive("t ")
    pair.run(Sql().add("UPDATE \"t \" SET k = 1.0, v = 'real'"))
    folded = pair.first.fold(pair.now_ms + 1)
    assert folded is not None
    assert isinstance(pair.second.merge(folded.encoded, pair.now_ms + 1), Merged)
    assert pair.second.engine.execute('SELECT v FROM "t " WHERE k = 1.0 AND k = 1').fetchall() == [("real",)]
    pair.run(Sql().add('DELETE FROM "t "'))
    assert pair.arrive("t ") == []


def test_a_number_that_is_none_is_null_everywhere(pair: Pair) -> None:
    pair.run(Sql().add('INSERT INTO "t REAL" (k, v) VALUES (1,').value(float("nan")).add(")"))
    assert pair.arrive("t REAL") == [(("real", 1.0), ("null", None), ("null", None))]
    pair.run(Sql().add('DELETE FROM "t REAL"'))
    assert pair.arrive("t REAL") == []
