"""A digest is equal where rows are, whatever the schema looks like, and nowhere else."""

import sqlite3
from collections.abc import Sequence

import pytest

from replication.engine.comparable import DigestTable
from replication.engine.comparing import Verdict, compare
from replication.engine.coverage import Coverage
from replication.engine.digesting import BATCH_ROWS, attached_tables, digest
from replication.engine.digests import Digest, TableDigest, buckets_for
from replication.engine.received import Malformed
from replication.engine.values import Value, key_seed
from tests.support.attached import PAGES, Attached, exchange
from tests.support.drift import uncaptured

PLAIN = "CREATE TABLE t (k PRIMARY KEY NOT NULL, a, b)"


def plain(schema: str = PLAIN, *rows: Sequence[Value], columns: str = "k, a, b") -> sqlite3.Connection:
    """A database of which nothing is attached."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(schema)
    for row in rows:
        connection.execute(f"INSERT INTO t ({columns}) VALUES ({', '.join('?' * len(row))})", row)
    return connection


def of(connection: sqlite3.Connection, **options: Sequence[str]) -> TableDigest:
    found = digest(connection, [DigestTable(name="t", **options)])
    connection.close()
    return found.tables["t"]


def pages_of(node: Attached) -> Digest:
    return digest(node.connection, attached_tables(node.connection))


def verdict(*nodes: Attached) -> Verdict:
    return compare({node.site: pages_of(node) for node in nodes}).verdict


def test_the_order_of_columns_and_of_rows_does_not_matter() -> None:
    one = plain(PLAIN, ("x", 1, None), ("y", 2, "b"))
    other = plain("CREATE TABLE t (b, a, k PRIMARY KEY NOT NULL) WITHOUT ROWID", ("y", 2, "b"), ("x", 1, None))
    assert of(one) == of(other)


def test_keys_that_sqlite_takes_for_equal_are_equal() -> None:
    assert of(plain(PLAIN, (1, 1, 1), (0.0, 1, 1))) == of(plain(PLAIN, (1.0, 1, 1), (-0.0, 1, 1)))


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 0.0), (1, -0.0)), ((1, 1), (1, 1))],
)
def test_equal_values_are_equal(one: tuple[Value, ...], other: tuple[Value, ...]) -> None:
    assert of(plain(PLAIN, ("x", *one))) == of(plain(PLAIN, ("x", *other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), (2, 1)),
        ((1, None), (1.0, None)),
        (("1", None), (1, None)),
        (("1", None), (b"1", None)),
        ((None, None), ("", None)),
        ((2**53 + 1, None), (float(2**53), None)),
    ],
)
def test_values_that_differ_are_seen(one: tuple[Value, ...], other: tuple[Value, ...]) -> None:
    assert of(plain(PLAIN, ("x", *one))) != of(plain(PLAIN, ("x", *other)))


def test_two_rows_that_changed_places_are_seen() -> None:
    assert of(plain(PLAIN, ("x", 1, 1), ("y", 2, 2))) != of(plain(PLAIN, ("x", 2, 2), ("y", 1, 1)))


def test_a_row_of_nothing_but_null_is_seen_and_so_is_which() -> None:
    bucket = [key for key in map(str, range(10_000)) if key_seed((key,)) % 1_024 == 7]
    none, one, other = plain(PLAIN), plain(PLAIN, (bucket[0], None, None)), plain(PLAIN, (bucket[1], None, None))
    found = [of(connection) for connection in (none, one, other)]
    assert found[1].rows == found[2].rows
    assert len({table.keys for table in found}) == 3


def test_the_difference_is_in_the_bucket_of_the_key_and_in_the_column() -> None:
    one, other = of(plain(PLAIN, ("x", 1, 1), ("y", 1, 1))), of(plain(PLAIN, ("x", 1, 1), ("y", 1, 2)))
    number = key_seed(("y",)) % one.buckets
    assert one.columns["a"] == other.columns["a"]
    differing = [at for at in range(one.buckets) if one.columns["b"][at] != other.columns["b"][at]]
    assert differing == [number]


def test_columns_can_be_left_out_but_not_those_of_the_key() -> None:
    one, other = plain(PLAIN, ("x", 1, 1)), plain(PLAIN, ("x", 1, 2))
    found = of(one, ignore=["B", "k", "nothing"])
    assert list(found.columns) == ["a"]
    assert found == of(other, ignore=["b"])
    assert of(plain(PLAIN, ("x", 1, 1)), ignore=["k"]) != of(plain(PLAIN, ("y", 1, 1)), ignore=["k"])


def test_what_sqlite_computes_is_left_out() -> None:
    computed = "CREATE TABLE t (k PRIMARY KEY NOT NULL, a, b, c AS (a + 1), d AS (a + 1) STORED)"
    assert list(of(plain(computed, ("x", 1, 1))).columns) == ["a", "b"]


def test_rows_without_a_key_are_left_out() -> None:
    schema = "CREATE TABLE t (k PRIMARY KEY, a, b)"
    assert of(plain(schema, ("x", 1, 1), (None, 1, 1))) == of(plain(schema, (None, 2, 2), ("x", 1, 1)))


def test_a_default_is_equal_to_the_same_value_written() -> None:
    schema = "CREATE TABLE t (k PRIMARY KEY NOT NULL, a, b DEFAULT '7')"
    assert of(plain(schema, ("x", 1), columns="k, a")) == of(plain(schema, ("x", 1, "7")))


def test_counters_are_named_by_who_asks_or_by_the_catalogue() -> None:
    assert of(plain(), counters=["A", "nothing"]).counters == {"a"}
    assert pages_of(Attached()).tables["pages"].counters == {"visits"}


def test_what_cannot_be_compared_is_told_with_the_reason() -> None:
    connection = plain("CREATE TABLE t (a, b)")
    connection.execute("CREATE VIEW v AS SELECT * FROM t")
    found = digest(connection, [DigestTable(name=name) for name in ("t", "v", "nothing")])
    assert found == Digest(
        coverage=Coverage(),
        tables={},
        absent={
            "t": "the table has no primary key",
            "v": "there is no such table",
            "nothing": "there is no such table",
        },
    )
    connection.close()


def test_a_table_is_found_however_it_is_spelt_and_told_by_the_name_that_was_asked_for() -> None:
    connection = plain(PLAIN, ("x", 1, 1))
    assert set(digest(connection, [DigestTable(name="T")]).tables) == {"T"}
    connection.close()


def test_text_that_is_not_utf_8_does_not_make_rows_count_twice() -> None:
    def with_bad_text(bad: bytes) -> TableDigest:
        connection = plain()
        rows = [(number, number, "x") for number in range(3 * BATCH_ROWS)]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE t SET b = CAST(? AS TEXT) WHERE k = ?", (bad, 2 * BATCH_ROWS + 5))
        return of(connection)

    one, other = with_bad_text(b"\xff"), with_bad_text(b"\xfe")
    assert sum(one.rows) == 3 * BATCH_ROWS
    assert one.columns["a"] == other.columns["a"]
    number = key_seed((2 * BATCH_ROWS + 5,)) % one.buckets
    assert [at for at in range(one.buckets) if one.columns["b"][at] != other.columns["b"][at]] == [number]


def test_it_reads_in_a_transaction_of_its_own_and_writes_nothing() -> None:
    node = Attached()
    node.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    before = node.connection.total_changes, list(node.connection.iterdump())
    pages_of(node)
    assert (node.connection.total_changes, list(node.connection.iterdump())) == before
    assert not node.connection.in_transaction
    node.connection.execute("BEGIN")
    with pytest.raises(RuntimeError):
        pages_of(node)
    assert node.connection.in_transaction


# ---- what it says of what is merged


def test_what_is_not_folded_is_pending_in_its_bucket() -> None:
    node = Attached()
    node.write("INSERT INTO pages (name, title) VALUES ('a', 'x'), ('b', 'x')")
    assert not pages_of(node).tables["pages"].pending
    node.sql("UPDATE pages SET title = 'y' WHERE name = 'a'")
    node.sql("DELETE FROM pages WHERE name = 'b'")
    found = pages_of(node).tables["pages"]
    assert found.pending == {key_seed((name,)) % found.buckets for name in ("a", "b")}


def test_all_is_pending_until_a_fold_has_looked_at_a_new_schema() -> None:
    node = Attached()
    node.fold()
    node.sql("ALTER TABLE pages ADD COLUMN more")
    found = pages_of(node).tables["pages"]
    assert found.pending == set(range(found.buckets))
    node.fold()
    assert not pages_of(node).tables["pages"].pending


def test_each_site_s_newest_write_in_a_bucket_is_told() -> None:
    one, other = Attached(), Attached()
    first = one.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    other.merged(first)
    second = other.write("UPDATE pages SET title = 'y'")
    third = other.write("UPDATE pages SET visits = 3")
    fourth = other.write("INSERT INTO pages (name) VALUES ('b')")
    fifth = other.write("DELETE FROM pages WHERE name = 'b'")
    found = pages_of(other)
    a, b = (key_seed((name,)) % found.tables["pages"].buckets for name in ("a", "b"))
    assert found.tables["pages"].newest == {
        one.site: {a: first.changeset.upto},
        other.site: {a: third.changeset.upto, b: fifth.changeset.upto},
    }
    assert found.coverage.vector == {one.site: first.changeset.upto, other.site: fifth.changeset.upto}
    covered = {one.site: first.changeset.upto, other.site: fourth.changeset.upto}
    known = digest(other.connection, attached_tables(other.connection), covered=covered)
    assert known.tables["pages"].newest == {other.site: {b: fifth.changeset.upto}}
    covered = {other.site: second.changeset.upto}
    known = digest(other.connection, attached_tables(other.connection), covered=covered)
    assert known.tables["pages"].newest[one.site] == {a: first.changeset.upto}


def test_what_too_many_sites_wrote_is_told_for_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.engine.digesting.NEWEST_MAX", 3)
    nodes = [Attached(), Attached(), Attached()]
    for number, node in enumerate(nodes):
        node.now_ms += number * 100
        node.write(f"INSERT INTO pages (name) VALUES ('{number}'), ('{number}x')")
    exchange(*nodes)
    found = pages_of(nodes[0])
    assert set(found.tables["pages"].anywhere) == {nodes[0].site, nodes[1].site}
    assert set(found.tables["pages"].newest) == {nodes[2].site}
    assert Digest.parse(found.plain()) == found
    late = Attached()
    late.pull(nodes[2])
    assert verdict(nodes[0], nodes[1]) is Verdict.EQUAL
    with uncaptured(nodes[0].connection):
        nodes[0].sql("UPDATE pages SET title = 'z' WHERE name = '2'")
    assert verdict(nodes[0], late) is Verdict.DRIFT
    behind = Attached()
    behind.merged(nodes[2].journal()[0])
    assert verdict(nodes[0], behind) is Verdict.UNKNOWN


# ---- what cannot be shown


def test_a_held_cell_stands_for_what_its_row_shows() -> None:
    strict = Attached(PAGES.replace("title", "title NOT NULL DEFAULT 'none'"))
    loose = Attached()
    loose.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    strict.pull(loose)
    loose.write("UPDATE pages SET title = NULL")
    strict.pull(loose)
    assert strict.sql("SELECT title FROM pages") == [("x",)]
    assert verdict(strict, loose) is Verdict.EQUAL
    with uncaptured(strict.connection):
        strict.sql("UPDATE pages SET title = 'damaged'")
    assert verdict(strict, loose) is Verdict.DRIFT


def test_a_held_row_stands_with_its_counters() -> None:
    strict = Attached(PAGES.replace("title", "title NOT NULL"))
    loose = Attached()
    loose.write("INSERT INTO pages (name, body, visits) VALUES ('a', 'x', 3)", "UPDATE pages SET visits = visits + 2")
    strict.pull(loose)
    assert strict.sql("SELECT count(*) FROM pages") == [(0,)]
    assert verdict(strict, loose) is Verdict.EQUAL
    loose.write("DELETE FROM pages")
    assert verdict(strict, loose) is Verdict.UNKNOWN
    strict.pull(loose)
    assert verdict(strict, loose) is Verdict.EQUAL


def test_only_columns_that_both_have_are_compared() -> None:
    more = Attached(PAGES.replace("body", "body, more DEFAULT 'm'"))
    fewer = Attached()
    more.write("INSERT INTO pages (name, body) VALUES ('a', 'x')")
    exchange(more, fewer)
    found = compare({node.site: pages_of(node) for node in (more, fewer)})
    assert found.verdict is Verdict.EQUAL
    assert found.tables["pages"].uneven == {"more"}


# ---- its form


def test_a_table_with_many_columns_has_fewer_buckets() -> None:
    assert buckets_for(5) == 1_024
    assert buckets_for(2_000) == 32


def test_fewer_buckets_are_sums_of_more() -> None:
    nodes = [Attached(), Attached()]
    nodes[0].write("INSERT INTO pages (name, title) VALUES " + ", ".join(f"('{at}', {at})" for at in range(200)))
    exchange(*nodes)
    nodes[0].write("UPDATE pages SET title = 'x' WHERE name IN ('5', '7')", "DELETE FROM pages WHERE name = '9'")
    nodes[0].sql("UPDATE pages SET title = 'y' WHERE name = '8'")
    fine = pages_of(nodes[0]).tables["pages"]
    coarse = digest(nodes[0].connection, attached_tables(nodes[0].connection), buckets_max=16).tables["pages"]
    assert fine.coarser(16) == coarse
    assert coarse.coarser(1).rows == (199,)


def test_pieces_are_small_and_together_the_whole() -> None:
    connection = plain(PLAIN, ("x", 1, 1))
    for number in range(50):
        connection.execute(f"CREATE TABLE t{number} (k PRIMARY KEY NOT NULL, a)")
    found = digest(connection, [*(DigestTable(name=f"t{number}") for number in range(50)), DigestTable(name="none")])
    connection.close()
    pieces = found.pieces(bytes_max=100_000)
    assert [len(piece.tables) for piece in pieces] == [4] * 12 + [2]
    assert Digest.joined(pieces) == found
    written = Attached()
    written.write("INSERT INTO pages (name) VALUES ('a')")
    with pytest.raises(Malformed):
        Digest.joined([])
    with pytest.raises(Malformed):
        Digest.joined([found, pages_of(written)])
