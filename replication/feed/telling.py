"""What of a row's change a reader is told, when it is its turn. Pure.

A node's table is what merging made of all changesets. Who is told every cell of every changeset in the order in which
they came would end with something else: a write that came late and lost to a newer one would be told last. So a cell
is left out if **a newer write of it was told before**. The row's entry says which write is the newest, and the reader's
position whether it was told; if it was not, its turn comes, and then it stands. So whoever follows the feed ends with
the table, and still sees each value that was there between.

The same holds for lives: a change of a life that was over before is left out if something of a later life was told.

A counter's changesets carry the sum of one site, which says nothing to a reader. What is told is the counter as it is
in the table when the change is read: at least what the change made it, and for the last change exactly what it is."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from replication.engine.changesets import ChangeKind, RowChange
from replication.engine.entries import Entry
from replication.engine.stamps import GENESIS, Dot
from replication.engine.values import Value
from replication.feed.change import ChangeOp

type Row = Mapping[str, Value]


class Told(NamedTuple):
    """What a reader is told of a row."""

    op: ChangeOp
    columns: Mapping[str, Value]


def told(
    change: RowChange,
    dot: Dot,
    entry: Entry | None,
    row: Callable[[], Row | None],
    covers: Callable[[Dot], bool],
    *,
    is_whole: bool = True,
) -> Told | None:
    """What is told of a change that came in the changeset `dot`; None if nothing is.

    `entry` is what is known of the row now, `row` gives what it shows now, both of one moment at which that changeset
    was merged. `covers` says which changesets the reader was told before. `is_whole`: false if the table has columns
    that the change does not name."""
    if entry is None or change.life > entry.life:
        # The row was deleted, and its tombstone trimmed since; or it never came: see `engine.lacking`.
        return Told(ChangeOp.DELETE, {}) if change.kind is ChangeKind.DELETE else None
    if change.life < entry.life:
        return None if _is_any_told(entry, covers) else _as_written(change)
    if change.kind is ChangeKind.DELETE:
        is_told = entry.born != dot and _is_told(entry.born, covers)
        return None if is_told else Told(ChangeOp.DELETE, {})
    if change.kind is ChangeKind.INSERT:
        if not is_whole or any(cell.dot != dot and _is_told(cell.dot, covers) for cell in entry.cells.values()):
            # Another insert of the same life was told, or what was written later: the row is what both made of it. Or
            # it was inserted where the table has fewer columns: the row has what stands in the others.
            whole = row()
            return _as_written(change, row) if whole is None else Told(ChangeOp.INSERT, whole)
        return _as_written(change, row)
    cells = {name: value for name, value in change.cells.items() if _stands(entry, name, dot, covers)}
    shown = row() if change.counts else None
    counts = {} if shown is None else {name: shown[name] for name in change.counts if name in shown}
    return Told(ChangeOp.UPDATE, {**cells, **counts}) if cells or counts else None


def _stands(entry: Entry, name: str, dot: Dot, covers: Callable[[Dot], bool]) -> bool:
    """True unless a newer write of the cell was told before, or its column was dropped."""
    cell = entry.cells.get(name)
    return cell is not None and (cell.dot == dot or not _is_told(cell.dot, covers))


def _is_any_told(entry: Entry, covers: Callable[[Dot], bool]) -> bool:
    return _is_told(entry.born, covers) or any(_is_told(cell.dot, covers) for cell in entry.cells.values())


def _is_told(dot: Dot, covers: Callable[[Dot], bool]) -> bool:
    return dot.site == GENESIS or covers(dot)


def _as_written(change: RowChange, row: Callable[[], Row | None] = lambda: None) -> Told | None:
    """The change as its origin made it, with the counters that `row` has; without a row, those of an insert are what
    its origin counted, and those of an update are unknown."""
    match change.kind:
        case ChangeKind.DELETE:
            return Told(ChangeOp.DELETE, {})
        case ChangeKind.INSERT:
            shown = (row() if change.counts else None) or {}
            counts = {name: shown.get(name, count) for name, count in change.counts.items()}
            return Told(ChangeOp.INSERT, {**change.cells, **counts})
        case ChangeKind.UPDATE:
            return Told(ChangeOp.UPDATE, change.cells) if change.cells else None
