"""Merging one row is a join, and codecs lose nothing. Of few names and numbers, so that ties are frequent."""

from collections.abc import Mapping
from functools import reduce
from itertools import permutations

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from replication.engine.changesets import (
    COUNT_MAX,
    ChangeKind,
    Changeset,
    ChangesetError,
    RowChange,
    encode,
    table_change,
)
from replication.engine.decoding import decode
from replication.engine.entries import Cell, Entry, Shapes, decode_entry, encode_entry
from replication.engine.merging import Contribution, Incoming, Verdict, Written, merge_contribution, merge_row
from replication.engine.stamps import GENESIS, Dot, Site, Stamp
from replication.engine.updating import Updating
from replication.engine.values import Value, cell_hash, key_seed, order_of, pack, row_hashes, same, unpack

SITES = [Site("a" * 32), Site("b" * 32), Site("g" + "0" * 30 + "1"), GENESIS]
COLUMNS = ["title", "body", "color"]

integers = st.integers(-(2**63), 2**63 - 1)
texts = st.binary(max_size=5).map(lambda data: data.decode("utf-8", "surrogateescape")) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)
values = st.none() | integers | st.floats(allow_nan=False) | texts | st.binary(max_size=5)
few_values = st.sampled_from([None, 0, 1, 1.0, "1", b"1"])
dots = st.builds(Dot, st.integers(0, 4).map(Stamp), st.sampled_from(SITES))


def written(dot: Dot, value: Value) -> Written:
    return Written(dot, value, cell_hash(value, 7))


cells = st.dictionaries(st.sampled_from(COLUMNS), st.builds(written, dots, few_values), max_size=3)


@st.composite
def whole_rows(draw: st.DrawFn) -> Incoming:
    """A row as a snapshot or an insert brings it: it says who began the life."""
    life = draw(st.integers(1, 4))
    return Incoming(life=life, born=draw(dots), cells=draw(cells) if life & 1 else {})


@st.composite
def updates(draw: st.DrawFn, life: st.SearchStrategy[int]) -> Incoming:
    return Incoming(life=draw(life), born=None, cells=draw(cells))


class Row:
    """A row as a database has it: an entry, and what the table shows. Every verdict is carried out."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.shown: dict[str, Value] | None = None

    def merge(self, incoming: Incoming) -> "Row":
        merged = merge_row(self.entry, incoming, lambda: self.shown or {})
        match merged.verdict:
            case Verdict.BEGIN:
                self.shown = dict(merged.write)
            case Verdict.CHANGE:
                assert self.shown is not None
                self.shown.update(merged.write)
            case Verdict.END:
                self.shown = None
            case Verdict.NOTHING:
                assert not merged.write
        self.entry = merged.entry
        return self

    def known(self) -> object:
        if self.entry is None:
            return None
        shown = None if self.shown is None else {name: order_of(value) for name, value in self.shown.items()}
        return self.entry.life, self.entry.born, dict(self.entry.cells), shown


def after(*incoming: Incoming) -> object:
    row = Row()
    for one in incoming:
        row.merge(one)
    return row.known()


def as_incoming(entry: Entry, shown: Mapping[str, Value]) -> Incoming:
    """What is known of a row, as it would be sent whole."""
    return Incoming(
        life=entry.life,
        born=entry.born,
        cells={name: Written(cell.dot, shown[name], cell.hash) for name, cell in entry.cells.items()},
    )


def joined(one: Row, other: Row) -> Row:
    assert other.entry is not None
    return one.merge(as_incoming(other.entry, other.shown or {}))


@given(whole_rows(), whole_rows())
def test_merging_a_row_is_commutative(one: Incoming, other: Incoming) -> None:
    assert after(one, other) == after(other, one)


@given(st.lists(whole_rows(), min_size=3, max_size=4))
def test_merging_a_row_comes_to_the_same_in_every_order(incoming: list[Incoming]) -> None:
    expected = after(*incoming)
    assert all(after(*order) == expected for order in permutations(incoming))


@given(whole_rows(), whole_rows())
def test_merging_a_row_is_idempotent(one: Incoming, other: Incoming) -> None:
    assert after(one, one) == after(one)
    assert after(one, other, one, other) == after(one, other)


@given(whole_rows(), whole_rows(), whole_rows())
def test_merging_a_row_is_associative(a: Incoming, b: Incoming, c: Incoming) -> None:
    left = joined(joined(Row().merge(a), Row().merge(b)), Row().merge(c))
    right = joined(Row().merge(a), joined(Row().merge(b), Row().merge(c)))
    assert left.known() == right.known()


@given(whole_rows(), st.lists(updates(st.integers(1, 4).filter(lambda life: life & 1 == 1)), min_size=1, max_size=3))
def test_updates_after_their_insert_come_to_the_same_in_every_order_with_repeats(
    insert: Incoming, changes: list[Incoming]
) -> None:
    of_its_life = [change for change in changes if change.life == insert.life]
    expected = after(insert, *of_its_life)
    for order in permutations(of_its_life):
        assert after(insert, *order, *of_its_life) == expected
        assert after(insert, *order, insert) == expected


@given(updates(st.just(1)))
def test_an_update_of_an_unknown_row_leaves_it_unknown(update: Incoming) -> None:
    assert after(update) is None


@given(whole_rows(), whole_rows())
def test_the_loser_of_a_collision_is_what_the_row_does_not_show(one: Incoming, other: Incoming) -> None:
    row = Row().merge(one)
    assert row.entry is not None
    lost = merge_row(row.entry, other, lambda: row.shown or {}).lost
    shown = row.merge(other).shown or {}
    assert all(not same(value, shown[name]) for name, value in lost.items())
    if one.born == other.born or one.life != other.life:
        assert not lost


contributions = st.builds(Contribution, st.integers(0, 3), st.integers(-2, 2))


@given(st.lists(contributions, min_size=1, max_size=4))
def test_contributions_come_to_the_same_in_every_order_with_repeats(shares: list[Contribution]) -> None:
    expected = reduce(merge_contribution, shares, None)
    for order in permutations(shares):
        assert reduce(merge_contribution, (*order, *shares), None) == expected


@given(values, values)
def test_a_hash_tells_values_apart_as_sqlite_does_and_knows_equal_ones(one: Value, other: Value) -> None:
    assert (cell_hash(one, 7) == cell_hash(other, 7)) == same(one, other)


@given(values)
def test_a_value_packed_is_the_value(value: Value) -> None:
    assert same(unpack(pack(value)), value)


entry_cells = st.dictionaries(st.sampled_from(COLUMNS), st.builds(Cell, dots, st.integers(0, 2**64 - 1)))
entries = st.builds(
    lambda life, born, cells: Entry(life=life, born=born, cells=cells if life & 1 else {}),
    st.integers(1, 9),
    dots,
    entry_cells,
)


@given(entries)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    numbers = {name: number for number, name in enumerate(COLUMNS, start=300)}
    names = {number: name for name, number in numbers.items()}
    blob = encode_entry(entry, shapes=Shapes(), number_of=numbers.__getitem__, short_of=SITES.index)
    found = decode_entry(entry.life, entry.born, blob, names=names, site_of=SITES.__getitem__)
    assert found == entry
    del names[300]
    without = decode_entry(entry.life, entry.born, blob, names=names, site_of=SITES.__getitem__)
    assert set(without.cells) == set(entry.cells) - {"title"}


counts = st.dictionaries(st.sampled_from(["n", "m"]), st.integers(-COUNT_MAX, COUNT_MAX))
changed_cells = st.dictionaries(st.sampled_from(COLUMNS), values)


@st.composite
def row_changes(draw: st.DrawFn, key: tuple[Value, ...]) -> RowChange:
    kind = draw(st.sampled_from(ChangeKind))
    life = draw(st.integers(0, 5)) * 2 + (2 if kind is ChangeKind.DELETE else 1)
    if kind is ChangeKind.DELETE:
        return RowChange(kind=kind, key=key, life=life, cells={}, counts={})
    return RowChange(kind=kind, key=key, life=life, cells=draw(changed_cells), counts=draw(counts))


@st.composite
def changesets(draw: st.DrawFn) -> Changeset:
    keys = draw(st.lists(st.tuples(st.integers(), texts), unique=True, max_size=6))
    after = draw(st.integers(0, 2**40))
    rows = [draw(row_changes((key[0] % 2**63, key[1]))) for key in keys]
    rows = list({row.key: row for row in rows}.values())
    return Changeset(
        cluster=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
        site=SITES[0],
        after=Stamp(after),
        upto=Stamp(after + draw(st.integers(1, 2**20))),
        previous=draw(st.binary(min_size=16, max_size=16)) if after else b"",
        deps=draw(st.dictionaries(st.sampled_from(SITES), st.integers(0, 2**63 - 1).map(Stamp))),
        tables=(table_change("t", ("k", "l"), rows),) if rows else (),
    )


@given(changesets())
def test_a_changeset_comes_back_as_it_was(changeset: Changeset) -> None:
    encoded = encode(changeset)
    found = decode(encoded)
    assert encode(found) == encoded
    assert [pack(row.key) for table in found.tables for row in table.rows] == [
        pack(row.key) for table in changeset.tables for row in table.rows
    ]
    assert found.deps == changeset.deps
    assert (found.site, found.after, found.upto, found.previous) == (
        changeset.site,
        changeset.after,
        changeset.upto,
        changeset.previous,
    )


def decodes_or_is_refused(data: bytes) -> None:
    try:
        changeset = decode(data)
    except ChangesetError:
        return
    assert decode(encode(changeset)) == changeset


@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_a_changeset_or_are_refused(data: bytes) -> None:
    decodes_or_is_refused(data)


packable = st.recursive(
    values | st.booleans() | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=20,
)


@given(packable)
def test_anything_packed_is_a_changeset_or_is_refused(value: object) -> None:
    decodes_or_is_refused(pack(value))


@given(changesets(), st.data())
def test_a_changeset_damaged_in_one_place_is_one_still_or_is_refused(changeset: Changeset, data: st.DataObject) -> None:
    encoded = bytearray(encode(changeset))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    decodes_or_is_refused(bytes(encoded))


@given(changesets(), st.data())
def test_a_changeset_with_a_field_of_another_type_is_one_still_or_is_refused(
    changeset: Changeset, data: st.DataObject
) -> None:
    fields = msgpack.unpackb(encode(changeset), unicode_errors="surrogateescape")
    target = fields
    while isinstance(target, list) and target:
        at = data.draw(st.integers(0, len(target) - 1))
        if not isinstance(target[at], list) or not target[at] or data.draw(st.booleans()):
            target[at] = data.draw(packable)
            break
        target = target[at]
    decodes_or_is_refused(pack(fields))


keyed = st.lists(st.tuples(st.floats(allow_nan=False) | integers | texts, values, values), max_size=5)


@given(keyed)
def test_hashes_of_many_rows_are_those_of_each_cell(rows: list[tuple[Value, Value, Value]]) -> None:
    keys = [row[:1] for row in rows]
    found = list(row_hashes(keys, rows, slice(1, 3)))
    assert found == [tuple(cell_hash(value, key_seed(row[:1])) for value in row[1:]) for row in rows]
    assert list(row_hashes(keys, rows, slice(1, 1))) == [()] * len(rows)


one_dot = st.builds(Dot, st.integers(0, 4).map(Stamp), st.sampled_from(SITES[:2]))


@st.composite
def known_rows(draw: st.DrawFn) -> Incoming:
    return Incoming(life=1, born=draw(dots), cells=draw(cells))


@given(known_rows(), one_dot, st.dictionaries(st.sampled_from(COLUMNS), few_values, min_size=1))
def test_the_short_way_of_an_update_comes_to_the_same_as_merge_row(
    insert: Incoming, dot: Dot, update: dict[str, Value]
) -> None:
    row = Row().merge(insert)
    assert row.entry is not None
    incoming = Incoming(life=1, born=None, cells={name: written(dot, value) for name, value in update.items()})
    expected = merge_row(row.entry, incoming, lambda: row.shown or {})
    numbers = {name: number for number, name in enumerate(COLUMNS)}
    shapes, names = Shapes(), dict(enumerate(COLUMNS))
    blob = encode_entry(row.entry, shapes=shapes, number_of=numbers.__getitem__, short_of=SITES.index)
    born = row.entry.born
    updating = Updating(tuple(numbers[name] for name in update), shapes=shapes, site_of=SITES.__getitem__)
    hashes = [cell.hash for cell in incoming.cells.values()]
    joined = updating.join((born.stamp, SITES.index(born.site)), blob, hashes, dot, SITES.index(dot.site))
    if joined is None:
        assert any(cell.dot == dot for cell in row.entry.cells.values()) or born == dot
        return
    after_it = row.entry
    if joined.blob is not None:
        after_it = decode_entry(1, born, joined.blob, names=names, site_of=SITES.__getitem__)
    assert after_it == expected.entry
    assert [list(update)[position] for position in joined.write] == list(expected.write)
