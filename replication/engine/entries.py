"""The clock entry of a row: which life it is in, who began it, and per column who wrote it last and a hash of what.

A cell's dot is the one it was written with. Most cells of most rows were written by the insert, so the dot of the
insert is stored once, and the blob of a fresh row is a hash per column:

    count u16, count x column id u16, count x hash u64           cells with the dot of the insert
    then per cell written later: column id u16, hash u64, stamp i64, site u32 (short number)

little endian. A column without a record has never been written by anyone: the row shows the column's default there,
or what a migration computed. A dead row's entry (an even life, a tombstone) has an empty blob; its dot is that of the
delete."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from replication.engine.stamps import Dot, Site, Stamp

_LATER = struct.Struct("<HQqI")

type ShortOf = Callable[[Site], int]
type SiteOf = Callable[[int], Site]


class Cell(NamedTuple):
    """Who wrote a cell last, and the hash of what it wrote."""

    dot: Dot
    hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a row. `born` is the dot of its life's insert, or, in an even life, of the delete."""

    life: int
    born: Dot
    cells: Mapping[str, Cell] = field(default_factory=dict[str, Cell])

    @property
    def alive(self) -> bool:
        """True if the row is there."""
        return self.life & 1 == 1


class Shape:
    """The columns of rows that were inserted alike: what their blobs have in common."""

    __slots__ = ("_hashes", "_prefix")

    def __init__(self, ids: Sequence[int]) -> None:
        self._prefix = struct.pack(f"<{len(ids) + 1}H", len(ids), *ids)
        self._hashes = struct.Struct(f"<{len(ids)}Q").pack

    def blob(self, hashes: Sequence[int]) -> bytes:
        """The blob of a row whose cells were all written by its insert."""
        return self._prefix + self._hashes(*hashes)


def encode_cells(entry: Entry, *, ids: Mapping[str, int], short_of: ShortOf) -> bytes:
    """The blob of an entry."""
    if not entry.alive:
        return b""
    born = [(ids[name], cell.hash) for name, cell in entry.cells.items() if cell.dot == entry.born]
    parts = [Shape([column for column, _ in born]).blob([value for _, value in born])]
    parts += [
        _LATER.pack(ids[name], cell.hash, cell.dot.stamp, short_of(cell.dot.site))
        for name, cell in entry.cells.items()
        if cell.dot != entry.born
    ]
    return b"".join(parts)


def decode_entry(life: int, born: Dot, blob: bytes, *, names: Mapping[int, str], site_of: SiteOf) -> Entry:
    """The entry of a row of a clock table."""
    if not blob:
        return Entry(life=life, born=born)
    (count,) = struct.unpack_from("<H", blob)
    fixed = struct.unpack_from(f"<{count}H", blob, 2)
    hashes = struct.unpack_from(f"<{count}Q", blob, 2 + 2 * count)
    cells = {names[column]: Cell(born, value) for column, value in zip(fixed, hashes, strict=True)}
    for column, value, stamp, short in _LATER.iter_unpack(blob[2 + 10 * count :]):
        cells[names[column]] = Cell(Dot(Stamp(stamp), site_of(short)), value)
    return Entry(life=life, born=born, cells=cells)
