from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from replication.engine import decoding
from replication.engine.changesets import (
    COUNT_MAX,
    ChangeKind,
    Changeset,
    ChangesetError,
    EncodedTables,
    RowChange,
    decode_head,
    encode,
    header,
    table_change,
)
from replication.engine.decoding import changes_of, contents, contents_of, decode
from replication.engine.runs import UNKNOWN
from replication.engine.stamps import Site, Stamp
from replication.engine.values import pack

type Read = Callable[[bytes], Changeset]

A, B, BASELINE = Site("a" * 32), Site("b" * 32), Site("g" + "0" * 30 + "1")

ROWS = (
    RowChange(kind=ChangeKind.INSERT, key=("k",), life=1, cells={"a": None, "b": b"\0"}, counts={"n": -3}),
    RowChange(kind=ChangeKind.UPDATE, key=("l",), life=3, cells={"a": "text"}, counts={}),
    RowChange(kind=ChangeKind.UPDATE, key=(-5,), life=3, cells={}, counts={"n": COUNT_MAX}),
    RowChange(kind=ChangeKind.DELETE, key=("m\udcff\0",), life=2, cells={}, counts={}),
)
CHANGESET = Changeset(
    cluster="home",
    site=A,
    after=Stamp(5),
    upto=Stamp(9),
    previous=b"h" * 16,
    deps={B: Stamp(7), BASELINE: Stamp(0)},
    tables=(table_change("t", ("id",), ROWS),),
    run=b"the run.",
    dep_runs={B: b"its run."},
)


def test_a_changeset_comes_back_as_it_was() -> None:
    assert decode(encode(CHANGESET)) == CHANGESET
    assert decode(encode(CHANGESET)).tables[0].rows == ROWS


def test_equal_changesets_have_equal_bytes_whatever_order_their_deps_are_in() -> None:
    assert encode(replace(CHANGESET, deps={BASELINE: Stamp(0), B: Stamp(7)})) == encode(CHANGESET)


def test_a_changeset_of_form_1_names_no_run() -> None:
    fields = msgpack.unpackb(encode(CHANGESET), unicode_errors="surrogateescape")
    fields[6] = [dep[:2] for dep in fields[6]]
    encoded = pack([1, *fields[1:-1]])
    assert decode(encoded) == replace(CHANGESET, run=UNKNOWN, dep_runs={})
    assert header(encoded) == header(encode(CHANGESET))


def in_pieces(encoded: bytes) -> Changeset:
    """As a large one is decoded."""
    contents_of(encoded)
    return replace(decode_head(encoded), tables=tuple(changes_of(encoded)))


reading = pytest.mark.parametrize("read", [decode, in_pieces])


def with_field(index: int, value: Any) -> bytes:
    fields = msgpack.unpackb(encode(CHANGESET), unicode_errors="surrogateescape")
    fields[index] = value
    return pack(fields)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 1),
        (0, 3),
        (0, "1"),
        (1, 5),
        (1, "x" * 5_000),
        (2, "a" * 31),
        (2, "A" * 32),
        (2, "g" + "0" * 31),
        (3, -1),
        (3, 9),
        (3, 5.0),
        (3, True),
        (4, 2**63),
        (5, b"short"),
        (5, "h" * 16),
        (5, b""),
        (6, {}),
        (6, [["a" * 32]]),
        (6, [["nobody", 1]]),
        (6, [["b" * 32, -1]]),
        (6, [["b" * 32, "7"]]),
        (6, [["b" * 32, 7, b"short"]]),
        (6, [["b" * 32, 7, None]]),
        (7, None),
        (8, None),
        (8, b"short"),
    ],
)
@reading
def test_a_field_that_is_not_what_it_should_be_is_refused(read: Read, index: int, value: object) -> None:
    with pytest.raises(ChangesetError):
        read(with_field(index, value))


INSERTS = [1, ["a"], ["n"], [["k", 1, "x", 0]]]


@pytest.mark.parametrize(
    "table",
    [
        ["t", ["id"], INSERTS],
        ["", ["id"], [INSERTS]],
        [5, ["id"], [INSERTS]],
        ["t", [], [INSERTS]],
        ["t", ["id", "id"], [INSERTS]],
        ["t", "id", [INSERTS]],
        ["t", ["id"], [[4, ["a"], [], [["k", 1, "x"]]]]],
        ["t", ["id"], [[True, ["a"], [], [["k", 1, "x"]]]]],
        ["t", ["id"], [[1, ["a"], [], []]]],
        ["t", ["id"], [[1, ["a"], [], [["k", 1]]]]],
        ["t", ["id"], [[1, ["a"], [], ["k1x"]]]],
        ["t", ["id"], [[1, ["a", "a"], [], [["k", 1, "x", "x"]]]]],
        ["t", ["id"], [[1, ["a"], ["a"], [["k", 1, "x", 1]]]]],
        ["t", ["id"], [[1, ["a"], [], [["k", 2, "x"]]]]],
        ["t", ["id"], [[1, ["a"], [], [["k", 0, "x"]]]]],
        ["t", ["id"], [[1, ["a"], [], [["k", "1", "x"]]]]],
        ["t", ["id"], [[1, ["a"], [], [["k", True, "x"]]]]],
        ["t", ["id"], [[1, ["a"], [], [["k", 1, "x"], ["k", 1, "y"]]]]],
        ["t", ["id"], [[1, ["a"], [], [["k", 1, "x"]]], [3, [], [], [["k", 2]]]]],
        ["t", ["id"], [[3, ["a"], [], [["k", 2, "x"]]]]],
        ["t", ["id"], [[3, [], [], [["k", 1]]]]],
        ["t", ["id"], [[2, ["a"], [], [["k", 1, True]]]]],
        ["t", ["id"], [[2, ["a"], [], [["k", 1, ["x"]]]]]],
        ["t", ["id"], [[2, ["a"], [], [["k", 1, {}]]]]],
        ["t", ["id"], [[2, ["a"], [], [["k", 1, 2**63]]]]],
        ["t", ["id"], [[2, ["a"], [], [["k", 1, float("nan")]]]]],
        ["t", ["id"], [[2, ["a"], [], [["k", 1, msgpack.ExtType(5, b"")]]]]],
        ["t", ["id"], [[2, [], ["n"], [["k", 1, None]]]]],
        ["t", ["id"], [[2, [], ["n"], [["k", 1, 1.0]]]]],
        ["t", ["id"], [[2, [], ["n"], [["k", 1, COUNT_MAX + 1]]]]],
        ["t", ["id"], [[2, [], ["n"], [["k", 1, -COUNT_MAX - 1]]]]],
    ],
)
@reading
def test_a_table_that_is_not_what_it_should_be_is_refused(read: Read, table: object) -> None:
    read(with_field(7, [["t", ["id"], [INSERTS]]]))
    with pytest.raises(ChangesetError):
        read(with_field(7, [table]))


@reading
def test_a_table_twice_is_refused(read: Read) -> None:
    table = ["t", ["id"], [INSERTS]]
    with pytest.raises(ChangesetError, match="twice"):
        read(with_field(7, [table, table]))


@reading
def test_a_form_of_a_newer_litecast_is_named_in_the_refusal(read: Read) -> None:
    with pytest.raises(ChangesetError, match="form 3, and forms up to 2 are known; upgrade litecast"):
        read(with_field(0, 3))


def test_a_megabyte_of_empty_maps_is_refused_at_the_first() -> None:
    with pytest.raises(ChangesetError, match="no maps"):
        decode(b"\xdd\x00\x0f\xff\xff" + b"\x80" * 0xFFFFF)


@reading
def test_rows_that_are_maps_are_refused(read: Read) -> None:
    with pytest.raises(ChangesetError, match="no maps"):
        read(with_field(7, [["t", ["id"], [[1, ["a"], [], [{}]]]]]))


@reading
@pytest.mark.parametrize("claimed", [b"\xdd\xff\xff\xff\xff\x01", encode(CHANGESET)[:-20], encode(CHANGESET)[:60]])
def test_a_length_that_is_only_claimed_is_refused(read: Read, claimed: bytes) -> None:
    with pytest.raises(ChangesetError):
        read(claimed)


@reading
def test_rows_that_are_only_claimed_are_refused(read: Read) -> None:
    encoded = with_field(7, [["t", ["id"], [[1, ["a"], [], []]]]])
    at = encoded.rindex(b"\x90")
    with pytest.raises(ChangesetError):
        read(encoded[:at] + b"\xdd\xff\xff\xff\xff" + encoded[at + 1 :])


@reading
def test_bytes_after_the_changeset_are_refused(read: Read) -> None:
    with pytest.raises(ChangesetError):
        read(encode(CHANGESET) + b"\0")


# ---- in pieces


def many(count: int) -> Changeset:
    """Two tables of so many rows each, in groups of several shapes."""
    rows = [
        RowChange(kind=ChangeKind.INSERT, key=(number,), life=1, cells={"a": number, "b": None}, counts={"n": 1})
        if number % 3
        else RowChange(kind=ChangeKind.UPDATE, key=(number,), life=1, cells={"ab"[number % 2]: "x"}, counts={})
        for number in range(count)
    ]
    return replace(CHANGESET, tables=(table_change("t", ("id",), rows), table_change("u", ("id",), rows)))


@pytest.mark.parametrize("piece_rows", [1, 2, 7, 1_000])
def test_the_pieces_of_a_changeset_have_all_of_its_rows(monkeypatch: pytest.MonkeyPatch, piece_rows: int) -> None:
    monkeypatch.setattr(decoding, "PIECE_ROWS", piece_rows)
    whole = many(40)
    pieces = list(changes_of(encode(whole)))
    for table in whole.tables:
        assert [row for one in pieces if one.table == table.table for row in one.rows] == list(table.rows)
    assert all(one.count <= max(piece_rows, 1) + piece_rows for one in pieces)
    assert decode_head(encode(whole)) == replace(whole, tables=())


def test_pieces_are_of_few_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PIECE_BYTES", 20)
    assert max(one.count for one in changes_of(encode(many(40)))) <= 8


def test_it_is_known_how_much_there_is_of_each_table() -> None:
    whole = many(10)
    assert contents_of(encode(whole)) == contents(whole.tables)
    assert contents(whole.tables)["u"].before == contents(whole.tables)["u"].rows == 10


def test_tables_that_are_encoded_piece_by_piece_are_the_same_tables() -> None:
    whole = many(9)
    encoded = EncodedTables()
    for table in whole.tables:
        for row in table.rows:
            encoded.add(table_change(table.table, table.key, [row]))
    found = decode(encode(replace(whole, tables=()), encoded))
    assert encoded.rows == 18
    for mine, theirs in zip(found.tables, whole.tables, strict=True):
        assert sorted(mine.rows, key=repr) == sorted(theirs.rows, key=repr)
