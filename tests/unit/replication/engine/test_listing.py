"""Rows are listed key by key, a page at a time, with what is known of each."""

import sqlite3
from collections.abc import Sequence

import pytest

from replication.engine import listing
from replication.engine.comparable import DigestTable, NotComparable
from replication.engine.listing import list_rows
from replication.engine.listings import ListedRow, RowListing
from replication.engine.received import Malformed
from replication.engine.row_values import RowValues, read_rows
from replication.engine.values import Key, Value, bound, cell_hash, key_seed
from tests.support.attached import PAGES, Attached
from tests.support.drift import uncaptured

T = DigestTable(name="t")
PAGES_TABLE = DigestTable(name="pages")
KEYS: Sequence[Value] = (
    -(2**63), -1.5, 0, 2**53, 2**53 + 1, 2.0**63, float("inf"), "", "A", "a", "é", "\udcff", b"", b"a",
)  # fmt: skip


def all_pages(
    connection: sqlite3.Connection, *, table: DigestTable = T, bytes_max: int = 1, keys_max: int = 1_000
) -> list[RowListing]:
    found: list[RowListing] = []
    while not found or found[-1].upto is not None:
        after = found[-1].upto if found else None
        found.append(
            list_rows(connection, table, buckets=1, numbers=[0], after=after, bytes_max=bytes_max, keys_max=keys_max)
        )
        assert found[-1].after == after
    return found


def pages(node: Attached, *numbers: int, buckets: int = 1) -> RowListing:
    return list_rows(node.connection, PAGES_TABLE, buckets=buckets, numbers=numbers or (0,))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_all_keys_of_rows_and_of_entries_are_listed_once_and_in_order(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Attached("CREATE TABLE t (k PRIMARY KEY NOT NULL, v)", table="t", counters=())
    for key in KEYS:
        (hole,), values = bound([key])
        node.sql(f"INSERT INTO t (k) VALUES ({hole})", *values)
    node.fold()
    node.sql("DELETE FROM t WHERE rowid % 3 = 0")
    node.fold()
    with uncaptured(node.connection):
        node.sql("DELETE FROM t WHERE rowid % 3 = 1")
        node.sql("INSERT INTO t (k) VALUES (5), ('b')")
    monkeypatch.setattr(listing, "CHUNK_KEYS", chunk)
    found = [key for page in all_pages(node.connection) for key in page.rows]
    assert found == [(key,) for key in (*KEYS[:3], 5, *KEYS[3:10], "b", *KEYS[10:])]


def test_a_page_holds_as_much_as_it_may_and_one_row_at_least() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (k PRIMARY KEY NOT NULL, v)")
    connection.executemany("INSERT INTO t VALUES (?, 1)", [(f"{number:03}",) for number in range(100)])
    found = all_pages(connection, bytes_max=100)
    assert [len(page.rows) for page in found] == [3] * 33 + [1]
    assert len(all_pages(connection, bytes_max=10_000)) == 1
    assert [len(page.rows) for page in all_pages(connection, bytes_max=1)] == [1] * 100
    connection.close()


def test_a_page_ends_when_enough_keys_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CHUNK_KEYS", 10)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (k PRIMARY KEY NOT NULL COLLATE NOCASE, v)")
    keys = [f"{chr(65 + 32 * (number % 2) + number // 4)}{number}" for number in range(100)]
    connection.executemany("INSERT INTO t VALUES (?, 1)", [(key,) for key in keys])
    found = all_pages(connection, bytes_max=10_000, keys_max=25)
    assert [len(page.rows) for page in found] == [30, 30, 30, 10]
    assert [key for page in found for (key,) in page.rows] == sorted(keys, key=str.lower)
    connection.close()


def test_only_the_rows_of_the_buckets_that_were_asked_for_are_listed() -> None:
    node = Attached()
    node.write("INSERT INTO pages (name) VALUES " + ", ".join(f"('{number}')" for number in range(50)))
    expected = {(str(number),) for number in range(50) if key_seed((str(number),)) % 8 in (2, 5)}
    assert pages(node, 2, 5, buckets=8).rows.keys() == expected


def test_a_row_is_listed_with_the_hash_of_each_cell_its_counts_and_who_wrote_it() -> None:
    one, other = Attached(), Attached()
    first = one.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    other.merged(first)
    second = other.write("UPDATE pages SET visits = 3, body = 'b'")
    found = pages(other)
    seed = key_seed(("a",))
    assert (found.columns, found.counters) == (("body", "title", "visits"), ("visits",))
    assert found.rows == {
        ("a",): ListedRow(
            hashes=(cell_hash("b", seed), cell_hash("x", seed), cell_hash(3, seed)),
            counts=(3,),
            newest={one.site: first.changeset.upto, other.site: second.changeset.upto},
        )
    }
    assert found.coverage.vector == {one.site: first.changeset.upto, other.site: second.changeset.upto}
    assert RowListing.parse(found.plain()) == found


def test_a_deleted_row_is_listed_with_who_deleted_it_and_a_lost_one_with_who_wrote_it() -> None:
    node = Attached()
    first = node.write("INSERT INTO pages (name) VALUES ('a'), ('b')")
    second = node.write("DELETE FROM pages WHERE name = 'a'")
    with uncaptured(node.connection):
        node.sql("DELETE FROM pages WHERE name = 'b'")
    assert pages(node).rows == {
        ("a",): ListedRow(hashes=None, counts=(0,), newest={node.site: second.changeset.upto}),
        ("b",): ListedRow(hashes=None, counts=(0,), newest={node.site: first.changeset.upto}),
    }


def test_what_is_not_folded_is_pending_and_all_is_when_the_schema_is_new() -> None:
    node = Attached()
    node.write("INSERT INTO pages (name) VALUES ('a'), ('b')")
    node.sql("DELETE FROM pages WHERE name = 'a'")
    assert {key: row.pending for key, row in pages(node).rows.items()} == {("a",): True, ("b",): False}
    node.sql("CREATE TABLE other (x)")
    assert pages(node).unsettled


def test_pages_together_cover_what_was_merged_before_the_first() -> None:
    node = Attached()
    first = node.write("INSERT INTO pages (name) VALUES ('a'), ('b')")
    page = list_rows(node.connection, PAGES_TABLE, buckets=1, numbers=[0], bytes_max=1)
    node.write("UPDATE pages SET title = 'x'")
    rest = list_rows(node.connection, PAGES_TABLE, buckets=1, numbers=[0], after=page.upto)
    joined = RowListing.joined([page, rest])
    assert joined.coverage.vector == {node.site: first.changeset.upto}
    assert list(joined.rows) == [("a",), ("b",)]
    node.sql("ALTER TABLE pages ADD COLUMN more")
    node.fold()
    with pytest.raises(Malformed):
        RowListing.joined([page, pages(node)])


def test_what_is_no_integer_counts_0() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (k PRIMARY KEY NOT NULL, n)")
    connection.execute("INSERT INTO t VALUES ('a', 'many'), ('b', 7), ('c', NULL)")
    found = list_rows(connection, DigestTable(name="t", counters=["n"]), buckets=1, numbers=[0])
    connection.close()
    assert [row.counts for row in found.rows.values()] == [(0,), (7,), (0,)]


def test_a_table_that_cannot_be_compared_is_refused() -> None:
    node = Attached()
    with pytest.raises(NotComparable, match="no such table"):
        list_rows(node.connection, T, buckets=1, numbers=[0])


# ---- values


def values_of(connection: sqlite3.Connection, *keys: Key, bytes_max: int = 1_000) -> RowValues:
    found = read_rows(connection, DigestTable(name="pages", ignore=["body"]), keys, bytes_max=bytes_max)
    assert RowValues.parse(found.plain()) == found
    return found


def test_rows_are_read_by_their_keys() -> None:
    node = Attached()
    node.write("INSERT INTO pages VALUES ('a', x'00', 'left out', 3), (CAST(x'ff' AS TEXT), 1.5, NULL, 0)")
    assert values_of(node.connection, ("a",), ("\udcff",), ("b",)) == RowValues(
        columns=("title", "visits"),
        rows={("a",): {"title": b"\x00", "visits": 3}, ("\udcff",): {"title": 1.5, "visits": 0}, ("b",): None},
    )


def test_keys_that_find_no_place_in_a_page_are_named() -> None:
    node = Attached()
    node.write("INSERT INTO pages (name, title) VALUES ('a', '1234567890'), ('b', '1234567890'), ('c', 'x')")
    found = values_of(node.connection, ("a",), ("b",), ("c",), bytes_max=30)
    assert list(found.rows) == [("a",)]
    assert found.rest == (("b",), ("c",))


def test_a_value_that_is_too_large_is_left_out_and_named() -> None:
    node = Attached(PAGES.replace("body", "body, other"))
    node.write("INSERT INTO pages (name, title, other) VALUES ('a', '1234567890', '12345678901')")
    found = values_of(node.connection, ("a",), bytes_max=25)
    assert found.rows == {("a",): {"title": "1234567890", "visits": 0}}
    assert found.left_out == {("a",): ("other",)}


def test_what_is_held_is_read_for_what_is_shown() -> None:
    strict = Attached(PAGES.replace("title", "title NOT NULL DEFAULT 'none'"))
    loose = Attached()
    loose.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    loose.write("UPDATE pages SET title = NULL")
    strict.pull(loose)
    assert values_of(strict.connection, ("a",)).rows == {("a",): {"title": None, "visits": 0}}
