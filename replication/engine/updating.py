"""`merge_row` for the one case that comes in bulk: an update of cells that all have one dot, in the life that is known.

It works on the blob as it is stored, without making an object of each cell; what is not plain is left to `merge_row`.
Most updates are newer than all that they meet: then, for each layout of a blob, it is known in advance what to read of
it, which pieces of it stay, and what follows them. All ways come to the same: there is a property test of it."""

import struct
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from replication.engine.entries import LATER, Shapes, SiteOf, split
from replication.engine.stamps import Dot


class Joined(NamedTuple):
    """The entry's blob from now on (None: as it was), and which of the cells are to be written, by position."""

    blob: bytes | None
    write: list[int]


_NOTHING = Joined(None, [])


class Updating:
    """Updates of the columns with these numbers."""

    __slots__ = ("_ids", "_layouts", "_shapes", "_site_of")

    def __init__(self, ids: tuple[int, ...], *, shapes: Shapes, site_of: SiteOf) -> None:
        self._ids = ids
        self._shapes = shapes
        self._site_of = site_of
        self._layouts: dict[tuple[bytes, bytes, bytes], _Layout] = {}

    def join(self, born: tuple[int, int], blob: bytes, hashes: Sequence[int], dot: Dot, short: int) -> Joined | None:
        """An entry (stamp and short site of its insert, blob) after cells with these hashes of `dot`, whose site is
        `short`.

        None if only the values can tell: one of the cells was written with this very dot, as something else.
        """
        stamp = dot.stamp
        if not self._ids:
            return _NOTHING
        if stamp > born[0]:
            ids_end = 2 + 2 * (blob[0] | blob[1] << 8)
            tail = blob[5 * ids_end - 8 :]
            which = blob[:ids_end], tail[:: LATER.size], tail[1 :: LATER.size]
            layout = self._layouts.get(which)
            if layout is None:
                layout = self._layouts[which] = _Layout(self._ids, blob, self._shapes)
            joined = layout.join(blob, hashes, stamp, short)
            if joined is not None:
                return joined
        return self._join(born, blob, hashes, dot, short)

    def _join(self, born: tuple[int, int], blob: bytes, hashes: Sequence[int], dot: Dot, short: int) -> Joined | None:
        stamp = dot.stamp
        if born == (stamp, short):
            return None
        written, later = split(blob)
        write: list[int] = []
        changed = False
        for position, (column, found) in enumerate(zip(self._ids, hashes, strict=True)):
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
                    if self._site_of(known[2]) > dot.site:
                        continue
                written.pop(column, None)
            later[column] = (found, stamp, short)
            changed = True
            if known is None or known[0] != found:
                write.append(position)
        return Joined(self._shapes.join(written, later) if changed else None, write)


class _Layout:
    """Blobs with the same columns in the same places, under an update of some."""

    __slots__ = ("_head", "_ids", "_kept", "_known", "_new", "_read", "_stamps")

    def __init__(self, ids: tuple[int, ...], blob: bytes, shapes: Shapes) -> None:
        born, later = split(blob)
        hashes_at = 2 + 2 * len(born)
        records_at = hashes_at + 8 * len(born)
        at = {column: hashes_at + 8 * index for index, column in enumerate(born)}
        at |= {column: records_at + LATER.size * index for index, column in enumerate(later)}
        self._ids = ids
        self._head = shapes.of(tuple(column for column in born if column not in ids)).prefix
        self._kept = _joined_up(
            [(at[column], at[column] + 8) for column in born if column not in ids]
            + [(at[column], at[column] + LATER.size) for column in later if column not in ids]
        )
        # One Struct reads hash by hash, with the stamp where there is one, in the order in which they lie in the blob.
        text, end, values = "<", 0, 0
        index: dict[int, int] = {}
        stamps: list[int] = []
        for column in sorted((column for column in ids if column in at), key=at.__getitem__):
            start = at[column] + (0 if column in born else 2)
            text += f"{start - end}xQ"
            index[column], values, end = values, values + 1, start + 8
            if column in later:
                text += "q"
                stamps.append(values)
                values, end = values + 1, end + 8
        self._read = struct.Struct(text).unpack_from
        self._stamps = stamps
        self._known = [(position, index[column]) for position, column in enumerate(ids) if column in index]
        self._new = [position for position, column in enumerate(ids) if column not in index]

    def join(self, blob: bytes, hashes: Sequence[int], stamp: int, short: int) -> Joined | None:
        """None if the update is not newer than all that it meets here."""
        known = self._read(blob)
        for index in self._stamps:
            if known[index] >= stamp:
                return None
        write = [position for position, index in self._known if known[index] != hashes[position]]
        if self._new:
            write = sorted(write + self._new)
        pieces = [self._head]
        pieces += [blob[start:end] for start, end in self._kept]
        pieces += map(LATER.pack, self._ids, hashes, repeat(stamp), repeat(short))
        return Joined(b"".join(pieces), write)


def _joined_up(pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pieces one after another, with as few cuts as there are."""
    found: list[tuple[int, int]] = []
    for start, end in pieces:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found
