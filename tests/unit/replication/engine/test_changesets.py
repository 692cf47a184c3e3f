from dataclasses import replace
from typing import Any

import msgpack
import pytest

from replication.engine.changesets import (
    COUNT_MAX,
    ChangeKind,
    Changeset,
    ChangesetError,
    RowChange,
    decode,
    encode,
    header,
    table_change,
)
from replication.engine.runs import UNKNOWN
from replication.engine.stamps import Site, Stamp
from replication.engine.values import pack

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
def test_a_field_that_is_not_what_it_should_be_is_refused(index: int, value: object) -> None:
    with pytest.raises(ChangesetError):
        decode(with_field(index, value))


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
def test_a_table_that_is_not_what_it_should_be_is_refused(table: object) -> None:
    decode(with_field(7, [["t", ["id"], [INSERTS]]]))
    with pytest.raises(ChangesetError):
        decode(with_field(7, [table]))


def test_a_table_twice_is_refused() -> None:
    table = ["t", ["id"], [INSERTS]]
    with pytest.raises(ChangesetError, match="twice"):
        decode(with_field(7, [table, table]))


def test_a_form_of_a_newer_litecast_is_named_in_the_refusal() -> None:
    with pytest.raises(ChangesetError, match="form 3, and forms up to 2 are known; upgrade litecast"):
        decode(with_field(0, 3))


def test_a_megabyte_of_empty_maps_is_refused_at_the_first() -> None:
    with pytest.raises(ChangesetError, match="no maps"):
        decode(b"\xdd\x00\x0f\xff\xff" + b"\x80" * 0xFFFFF)


def test_a_length_that_is_only_claimed_is_refused() -> None:
    with pytest.raises(ChangesetError):
        decode(b"\xdd\xff\xff\xff\xff" + b"\x01")


def test_bytes_after_the_changeset_are_refused() -> None:
    with pytest.raises(ChangesetError):
        decode(encode(CHANGESET) + b"\0")
