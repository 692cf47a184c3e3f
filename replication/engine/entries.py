"""The clock entry of a row: which life it is in, who began it, and per column who wrote it last and a hash of what.

A cell's dot is the one it was written with. Most cells of most rows were written by the insert, so the dot of the
insert is stored once, and the blob of a fresh row is a hash per column:

    count u16, count x column id u16, count x hash u64           cells with the dot of the insert
    then per cell written later: column id u16, hash u64, stamp i64, site u32 (short number)

little endian. A column without a record has never been written by anyone: the row shows the column's default there,
or what a migration computed. A dead row's entry (an even life, a tombstone) has an empty blob; its dot is that of the
delete."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from replication.engine.stamps import Dot, Site, Stamp

LATER = struct.Struct("<HQqI")
"""The record of a cell that was written after the insert."""

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

    __slots__ = ("_pack", "prefix")

    def __init__(self, ids: Sequence[int]) -> None:
        self.prefix = struct.pack(f"<{len(ids) + 1}H", len(ids), *ids)
        self._pack = struct.Struct(f"<{len(self.prefix)}s{len(ids)}Q").pack

    def blob(self, hashes: Sequence[int]) -> bytes:
        """The blob of a row whose cells were all written by its insert."""
        return self._pack(self.prefix, *hashes)

    def blobs(self, hashes: Iterable[Iterable[int]], count: int) -> Iterable[bytes]:
        """`blob` for so many rows, whose hashes come column by column."""
        return map(self._pack, repeat(self.prefix, count), *hashes)


type Later = tuple[int, int, int]
"""Of a cell written after the insert: hash, stamp, the site's short number."""


class Shapes:
    """Shapes by their columns, each made once."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Shape] = {}

    def of(self, ids: tuple[int, ...]) -> Shape:
        """The shape of rows whose insert wrote these columns, in this order."""
        found = self._known.get(ids)
        if found is None:
            found = self._known[ids] = Shape(ids)
        return found

    def join(self, born: Mapping[int, int], later: Mapping[int, Later]) -> bytes:
        """The blob of a living row: hashes of the cells its insert wrote, by column, and the others."""
        blob = self.of(tuple(born)).blob(tuple(born.values()))
        if later:
            blob += b"".join([LATER.pack(column, *cell) for column, cell in later.items()])
        return blob


def split(blob: bytes) -> tuple[dict[int, int], dict[int, Later]]:
    """What `Shapes.join` was given."""
    count = int.from_bytes(blob[:2], "little")
    end = 2 + 10 * count
    found = struct.unpack_from(f"<{count}H{count}Q" if count else "<", blob, 2)
    born = dict(zip(found[:count], found[count:], strict=True))
    if len(blob) == end:
        return born, {}
    return born, {column: (value, stamp, short) for column, value, stamp, short in LATER.iter_unpack(blob[end:])}


def later_dots(blob: bytes) -> Iterator[tuple[int, int]]:
    """Stamp and short site of each cell that was written after the insert."""
    end = 2 + 10 * int.from_bytes(blob[:2], "little")
    return ((stamp, short) for _, _, stamp, short in LATER.iter_unpack(blob[end:]))


def encode_entry(entry: Entry, *, shapes: Shapes, number_of: Callable[[str], int], short_of: ShortOf) -> bytes:
    """The blob of an entry."""
    if not entry.alive:
        return b""
    born: dict[int, int] = {}
    later: dict[int, Later] = {}
    for name, cell in entry.cells.items():
        if cell.dot == entry.born:
            born[number_of(name)] = cell.hash
        else:
            later[number_of(name)] = (cell.hash, cell.dot.stamp, short_of(cell.dot.site))
    return shapes.join(born, later)


def decode_entry(life: int, born: Dot, blob: bytes, *, names: Mapping[int, str], site_of: SiteOf) -> Entry:
    """The entry of a row of a clock table. Columns that have no name any more were dropped, and are left out."""
    if not blob:
        return Entry(life=life, born=born)
    written, later = split(blob)
    cells = {names[column]: Cell(born, value) for column, value in written.items() if column in names}
    for column, (value, stamp, short) in later.items():
        if column in names:
            cells[names[column]] = Cell(Dot(Stamp(stamp), site_of(short)), value)
    return Entry(life=life, born=born, cells=cells)
