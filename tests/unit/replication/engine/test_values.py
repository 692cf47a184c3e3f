import sqlite3
from collections.abc import Iterator

import pytest

from replication.engine.statements import HOLE, Statement, holes
from replication.engine.values import (
    Value,
    bound,
    canonical_key,
    cell_hash,
    fetch,
    is_bindable,
    key_seed,
    order_of,
    pack,
    same,
    unpack,
)

NOT_UTF_8 = b"a\xff\x00b".decode("utf-8", "surrogateescape")
IN_ORDER: list[Value] = [
    None, float("-inf"), -(2**63), -1.5, -1, 0, 1, 1.0, 2**53, 2.0**53, 2**53 + 1, 2**63 - 1, float("inf"),
    "", "\0", "A", "a", "a\0", NOT_UTF_8, "ä", "\U0001f600", b"", b"\0", b"a",
]  # fmt: skip


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, value)")
    yield connection
    connection.close()


def test_values_have_an_order_by_type_and_then_as_sqlite_has_it(connection: sqlite3.Connection) -> None:
    assert sorted(IN_ORDER, key=order_of) == IN_ORDER
    Statement(f"INSERT OR REPLACE INTO t VALUES ({holes(2)})").run_many(connection, list(enumerate(IN_ORDER)))
    by_sqlite = fetch(connection, "SELECT value FROM t ORDER BY value, number")
    assert [value for (value,) in by_sqlite] == IN_ORDER


def test_every_value_is_written_and_read_bit_by_bit(connection: sqlite3.Connection) -> None:
    Statement(f"INSERT OR REPLACE INTO t VALUES ({holes(2)})").run_many(connection, list(enumerate(IN_ORDER)))
    found = fetch(connection, "SELECT value FROM t WHERE number >= ? ORDER BY number", (0,))
    assert all(same(value, wanted) for (value,), wanted in zip(found, IN_ORDER, strict=True))
    assert [kind for (kind,) in fetch(connection, "SELECT DISTINCT typeof(value) FROM t ORDER BY number")] == [
        "null", "real", "integer", "text", "blob",
    ]  # fmt: skip


def test_text_that_is_not_utf_8_is_found_by_its_bytes(connection: sqlite3.Connection) -> None:
    Statement(f"INSERT INTO t (value) VALUES ({HOLE})").run(connection, (NOT_UTF_8,))
    assert Statement(f"SELECT value FROM t WHERE value = {HOLE}").fetch(connection, (NOT_UTF_8,)) == [(NOT_UTF_8,)]
    assert Statement(f"DELETE FROM t WHERE value = {HOLE}").run(connection, (NOT_UTF_8,)) == 1


def test_a_question_mark_in_a_name_is_no_hole(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE odd (`why?` TEXT)")
    Statement(f"INSERT INTO odd (`why?`) VALUES ({HOLE})").run(connection, (NOT_UTF_8,))
    assert fetch(connection, "SELECT hex(`why?`) FROM odd") == [("61FF0062",)]


def test_reading_leaves_the_connection_s_factories_as_they_were(connection: sqlite3.Connection) -> None:
    Statement(f"INSERT INTO t (value) VALUES ({HOLE})").run(connection, (NOT_UTF_8,))
    connection.row_factory = sqlite3.Row
    assert fetch(connection, "SELECT value FROM t") == [(NOT_UTF_8,)]
    assert connection.text_factory is str
    assert connection.row_factory is sqlite3.Row


def test_another_error_of_a_query_is_not_taken_for_unreadable_text(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        fetch(connection, "SELECT * FROM missing")


def test_only_text_that_is_not_utf_8_needs_another_way() -> None:
    assert [value for value in IN_ORDER if not is_bindable(value)] == [NOT_UTF_8]
    assert bound(("a", NOT_UTF_8)) == (["?", "CAST(? AS TEXT)"], ["a", b"a\xff\x00b"])


def test_hashes_differ_by_type_by_value_and_by_row() -> None:
    seed = key_seed(("k",))
    hashes = [cell_hash(value, seed) for value in IN_ORDER]
    assert len(set(hashes)) == len(hashes)
    assert cell_hash(None, seed) == 0
    assert cell_hash(-0.0, seed) == cell_hash(0.0, seed) != cell_hash(0, seed)
    assert cell_hash("a", seed) != cell_hash("a", key_seed(("l",)))


def test_hashes_are_the_same_in_every_release() -> None:
    """They stand in databases: another result would take every row for changed."""
    assert key_seed(("k", 1)) == 0xDA1D54F9BF631EA2
    assert cell_hash("text", key_seed(("k", 1))) == 0x7DE911D16D0344DA
    assert cell_hash(2**53 + 1, 7) == 0x3D0AA7610A8AEE26


def test_keys_that_sqlite_takes_for_equal_are_one() -> None:
    assert canonical_key((1.0, -0.0, "1", 1e300, 0.5)) == (1, 0, "1", 1e300, 0.5)
    assert [type(value) for value in canonical_key((1.0, -0.0, 1e300))] == [int, int, float]
    assert key_seed((1.0,)) == key_seed((1,)) != key_seed(("1",))


def test_what_is_packed_comes_back() -> None:
    assert unpack(pack(tuple(IN_ORDER))) == tuple(IN_ORDER)
