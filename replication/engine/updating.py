"""`merge_row` for the one case that comes in bulk: an update of cells that all have one dot, in the life that is known.

It works on the blob as it is stored, without making an object of each cell; whatever is not plain is left to
`merge_row`. The two come to the same: there is a property test of it."""

from collections.abc import Sequence
from typing import NamedTuple

from replication.engine.entries import Shapes, SiteOf, split
from replication.engine.stamps import Dot


class Joined(NamedTuple):
    """The entry's blob from now on (None: as it was), and which of the cells are to be written, by position."""

    blob: bytes | None
    write: list[int]


def join_update(
    born: tuple[int, int],
    blob: bytes,
    cells: Sequence[tuple[int, int]],
    dot: Dot,
    short: int,
    *,
    shapes: Shapes,
    site_of: SiteOf,
) -> Joined | None:
    """An entry (stamp and short site of its insert, blob) after cells (column, hash) of `dot`, whose site is `short`.

    None if only the values can tell: one of the cells was written with this very dot, as something else.
    """
    stamp = dot.stamp
    if born == (stamp, short):
        return None
    written, later = split(blob)
    write: list[int] = []
    changed = False
    for position, (column, found) in enumerate(cells):
        known = later.get(column)
        if known is None:
            before = written.get(column)
            known = None if before is None else (before, *born)
        if known is not None:
            if known[1] > stamp:
                continue
            if known[1] == stamp:
                if known[2] == short:
                    if known[0] == found:
                        continue
                    return None
                if site_of(known[2]) > dot.site:
                    continue
            written.pop(column, None)
        later[column] = (found, stamp, short)
        changed = True
        if known is None or known[0] != found:
            write.append(position)
    return Joined(shapes.join(written, later) if changed else None, write)
