"""What merging does to one row. Pure, and a join: idempotent, commutative, associative.

The row's life decides first: a higher one wins whole, and what was written in lower ones is gone with them. Within a
life each cell goes to the larger dot, and between equal dots to the larger value; `born` is the larger of the two
inserts (two sites may have begun the same life). An insert stands in the comparison with the cells that it carried,
each with the insert's dot; a column that it did not carry keeps its own clock, or none. Columns are joined one by
one, so a row is joined.

Between two equal dots two hashes say that the values differ, and only the values say which is larger: `current` has
them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from replication.engine.entries import Cell, Entry
from replication.engine.stamps import Dot
from replication.engine.values import Value, order_of


class Written(NamedTuple):
    """A cell as it arrives."""

    dot: Dot
    value: Value
    hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A row as it arrives. `born` is None if the sender only changed cells of a life that began before."""

    life: int
    born: Dot | None
    cells: Mapping[str, Written]


class Verdict(Enum):
    """What has to be done to the row."""

    NOTHING = "nothing"
    """It stays as it is; the entry may have changed all the same."""
    BEGIN = "begin"
    """A new life: whatever was there goes, and a row of `write` and the defaults comes."""
    CHANGE = "change"
    """The cells of `write` are written."""
    END = "end"
    """It is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMerge:
    """The row's entry from now on (None: nothing is known of the row, nor will be), and what to write.

    `lost` are the cells that an insert of the same life lost to another's: only there, and only where they differ.
    """

    entry: Entry | None
    verdict: Verdict
    write: Mapping[str, Value]
    lost: Mapping[str, Value]


type Current = Callable[[], Mapping[str, Value]]
"""The row's values as merged so far, read when they are needed: at equal dots and for what a collision lost."""


def merge_row(entry: Entry | None, incoming: Incoming, current: Current) -> RowMerge:
    """The row after `incoming`. See the module."""
    if entry is None or incoming.life > entry.life:
        if incoming.born is None:
            # The deps are covered, so this life's insert was here; that it is unknown means deleted and trimmed.
            return RowMerge(entry=entry, verdict=Verdict.NOTHING, write={}, lost={})
        return _begun(incoming, incoming.born)
    if incoming.life < entry.life:
        return RowMerge(entry=entry, verdict=Verdict.NOTHING, write={}, lost={})
    if not entry.alive:
        born = max(entry.born, incoming.born or entry.born)
        merged = entry if born == entry.born else Entry(life=entry.life, born=born)
        return RowMerge(entry=merged, verdict=Verdict.NOTHING, write={}, lost={})
    return _joined(entry, incoming, current)


def _begun(incoming: Incoming, born: Dot) -> RowMerge:
    entry = Entry(
        life=incoming.life,
        born=born,
        cells={name: Cell(cell.dot, cell.hash) for name, cell in incoming.cells.items()},
    )
    if not entry.alive:
        return RowMerge(entry=entry, verdict=Verdict.END, write={}, lost={})
    write = {name: cell.value for name, cell in incoming.cells.items()}
    return RowMerge(entry=entry, verdict=Verdict.BEGIN, write=write, lost={})


def _joined(entry: Entry, incoming: Incoming, current: Current) -> RowMerge:
    cells = dict(entry.cells)
    write: dict[str, Value] = {}
    passed: dict[str, Value] = {}
    for name, cell in incoming.cells.items():
        mine = cells.get(name)
        if mine is None or _wins(cell, mine, name, current):
            cells[name] = Cell(cell.dot, cell.hash)
            if mine is None or mine.hash != cell.hash:
                write[name] = cell.value
        elif mine.hash != cell.hash:
            passed[name] = cell.value
    lost: Mapping[str, Value] = {}
    born = entry.born
    if incoming.born is not None and incoming.born != entry.born:
        if incoming.born > entry.born:
            born = incoming.born
            lost = _overwritten(entry, write, current)
        else:
            lost = {name: value for name, value in passed.items() if incoming.cells[name].dot == incoming.born}
    if born == entry.born and cells == entry.cells:
        return RowMerge(entry=entry, verdict=Verdict.NOTHING, write={}, lost=lost)
    return RowMerge(
        entry=Entry(life=entry.life, born=born, cells=cells),
        verdict=Verdict.CHANGE if write else Verdict.NOTHING,
        write=write,
        lost=lost,
    )


def _wins(cell: Written, mine: Cell, name: str, current: Current) -> bool:
    if cell.dot != mine.dot:
        return cell.dot > mine.dot
    if cell.hash == mine.hash:
        return False
    return order_of(cell.value) > order_of(current().get(name))


def _overwritten(entry: Entry, write: Mapping[str, Value], current: Current) -> Mapping[str, Value]:
    if not any(name in entry.cells and entry.cells[name].dot == entry.born for name in write):
        return {}
    values = current()
    return {name: values.get(name) for name in write if name in entry.cells and entry.cells[name].dot == entry.born}


class Contribution(NamedTuple):
    """One site's share of one counter of one life. The larger one wins: later stamp, then larger value."""

    stamp: int
    value: int


def merge_contribution(mine: Contribution | None, theirs: Contribution) -> Contribution:
    """The site's share after `theirs`."""
    return theirs if mine is None else max(mine, theirs)
