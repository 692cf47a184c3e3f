"""What of a row's change a reader is told: see `replication.feed.telling`."""

from collections.abc import Mapping
from typing import Any

import pytest

from replication.engine.changesets import ChangeKind, RowChange
from replication.engine.entries import Cell, Entry
from replication.engine.stamps import BASELINE_STAMP, GENESIS, Dot, Site, Stamp
from replication.feed.change import ChangeOp
from replication.feed.telling import Told, told

A, B, C = (Site(name * 32) for name in "abc")


def dot(stamp: int, site: Site = A) -> Dot:
    return Dot(Stamp(stamp), site)


def change(kind: ChangeKind, life: int = 1, *, counts: Mapping[str, int] | None = None, **cells: Any) -> RowChange:
    return RowChange(kind=kind, key=("k",), life=life, cells=cells, counts=counts or {})


def entry(born: Dot, life: int = 1, **cells: Dot) -> Entry:
    return Entry(life=life, born=born, cells={name: Cell(at, 0) for name, at in cells.items()})


def tell(
    one: RowChange, at: Dot, known: Entry | None, *, row: Mapping[str, Any] | None = None, covered: Mapping[Site, int]
) -> Told | None:
    return told(one, at, known, lambda: row, lambda other: covered.get(other.site, -1) >= other.stamp)


INSERT, UPDATE, DELETE = ChangeKind.INSERT, ChangeKind.UPDATE, ChangeKind.DELETE


def test_what_stands_is_told_as_it_was_written() -> None:
    found = tell(change(INSERT, x=1, y=2), dot(5), entry(dot(5), x=dot(5), y=dot(5)), covered={})
    assert found == (ChangeOp.INSERT, {"x": 1, "y": 2})
    found = tell(change(UPDATE, x=7), dot(6), entry(dot(5), x=dot(6), y=dot(5)), covered={A: 5})
    assert found == (ChangeOp.UPDATE, {"x": 7})
    assert tell(change(DELETE, 2), dot(7), entry(dot(7), 2), covered={A: 6}) == (ChangeOp.DELETE, {})


def test_a_write_that_lost_to_one_that_was_told_is_left_out() -> None:
    known = entry(dot(1), x=dot(9, B), y=dot(4, C))
    assert tell(change(UPDATE, x=7, y=8), dot(4, C), known, covered={A: 1, B: 9}) == (ChangeOp.UPDATE, {"y": 8})
    assert tell(change(UPDATE, x=7), dot(4, C), known, covered={A: 1, B: 9}) is None


def test_a_write_that_is_overwritten_by_one_that_is_still_to_come_is_told() -> None:
    known = entry(dot(1), x=dot(9, B))
    assert tell(change(UPDATE, x=7), dot(4, C), known, covered={A: 1, B: 8}) == (ChangeOp.UPDATE, {"x": 7})


def test_lives_that_are_over_are_told_until_something_of_a_later_one_was() -> None:
    later = entry(dot(9, B), 3, x=dot(9, B))
    for one in (change(INSERT, x=1), change(UPDATE, x=1), change(DELETE, 2)):
        assert tell(one, dot(4), later, covered={B: 8}) is not None
        assert tell(one, dot(4), later, covered={B: 9}) is None
    written_since = entry(dot(9, B), 3, x=dot(5, C))
    assert tell(change(DELETE, 2), dot(4), written_since, covered={C: 5}) is None


def test_the_second_insert_of_a_life_gives_the_row_that_both_made() -> None:
    both = entry(dot(6, B), x=dot(6, B), y=dot(5))
    row = {"x": "B's", "y": "A's", "n": 3}
    found = tell(change(INSERT, x="B's"), dot(6, B), both, row=row, covered={A: 5})
    assert found == (ChangeOp.INSERT, row)
    assert tell(change(INSERT, x="B's"), dot(6, B), both, row=row, covered={A: 4}) == (ChangeOp.INSERT, {"x": "B's"})
    assert tell(change(INSERT, x="B's"), dot(6, B), both, covered={A: 5}) == (ChangeOp.INSERT, {"x": "B's"})


def test_what_a_migration_computed_is_told_with_the_insert() -> None:
    known = entry(dot(5), x=dot(5), new=Dot(BASELINE_STAMP, GENESIS))
    row = {"x": 1, "new": "computed"}
    assert tell(change(INSERT, x=1), dot(5), known, row=row, covered={}) == (ChangeOp.INSERT, row)


def test_of_two_deletes_one_is_told() -> None:
    assert tell(change(DELETE, 2), dot(4), entry(dot(9, B), 2), covered={B: 9}) is None
    assert tell(change(DELETE, 2), dot(4), entry(dot(9, B), 2), covered={B: 8}) == (ChangeOp.DELETE, {})


def test_a_row_that_is_forgotten_can_only_be_deleted() -> None:
    assert tell(change(DELETE, 2), dot(4), None, covered={}) == (ChangeOp.DELETE, {})
    assert tell(change(INSERT, x=1), dot(4), None, covered={}) is None
    assert tell(change(UPDATE, 3, x=1), dot(4), entry(dot(2), 1, x=dot(2)), covered={}) is None


@pytest.mark.parametrize(("row", "shown"), [({"x": 1, "n": 30}, 30), (None, 2)])
def test_a_counter_is_told_as_the_row_has_it(row: Mapping[str, Any] | None, shown: int) -> None:
    found = tell(change(INSERT, x=1, counts={"n": 2}), dot(5), entry(dot(5), x=dot(5)), row=row, covered={})
    assert found == (ChangeOp.INSERT, {"x": 1, "n": shown})


def test_an_increment_of_a_row_that_is_gone_is_left_out() -> None:
    known = entry(dot(5), x=dot(5))
    assert tell(change(UPDATE, counts={"n": 2}), dot(6), known, row={"x": 1, "n": 30}, covered={A: 5}) == (
        ChangeOp.UPDATE,
        {"n": 30},
    )
    assert tell(change(UPDATE, counts={"n": 2}), dot(6), known, covered={A: 5}) is None


def test_a_column_that_was_dropped_is_left_out() -> None:
    assert tell(change(UPDATE, x=1, gone=2), dot(6), entry(dot(5), x=dot(6)), covered={A: 5}) == (
        ChangeOp.UPDATE,
        {"x": 1},
    )
