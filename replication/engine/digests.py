"""A digest: what a node holds, said so shortly that nodes can compare it, and what it had merged when it said so.

Per table the rows are dealt into buckets by the hash of their key. For a bucket the digest has how many rows there
are, the sum of their keys' hashes, and for each column the sum of its cells' hashes, all modulo 2^64. Hashes of cells
are seeded with the key, so equal rows on two nodes give equal sums in any order, and nothing that differs does (but by
an accident of 64 bits). The number of buckets is a power of two; the digest with fewer buckets is a sum over one with
more.

Two nodes differ all the time while somebody writes: one is a little behind. So a bucket also names, for each site, the
newest stamp of anything in it that the site wrote: cells, contributions, deletes. Only where a node's vector covers
all that the other's bucket names, and the reverse, is a difference one that no delivery will mend. It has to be for
*each* site, not only the newest of all: who has the newest write may lack an older one of somebody else's. A bucket is
pending if something in it was written and not folded yet: then nobody can cover it.

As plain values, sums are arrays of u64, little endian."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from replication.engine import received
from replication.engine.coverage import Coverage
from replication.engine.received import COLUMNS_MAX, Malformed
from replication.engine.stamps import STAMP_MAX, Site, Stamp

BUCKETS: Final = 1_024
"""So many buckets has a table of not too many columns."""
BUCKETS_MAX: Final = 65_536
SUMS_MAX_BYTES: Final = 512 * 1024
"""A table with many columns has fewer buckets, so that its sums take no more than this."""
NEWEST_MAX: Final = 40_000
"""So many stamps are told by bucket; 10 bytes each. Of sites beyond that, one stamp for the whole table."""
PIECE_BYTES: Final = 1024 * 1024
TABLES_MAX: Final = 10_000
REASON_MAX: Final = 200

_MASK: Final = 2**64 - 1


def buckets_for(columns: int) -> int:
    """How many buckets a table with so many columns is dealt into."""
    buckets = BUCKETS
    while buckets > 1 and buckets * 8 * (columns + 2) > SUMS_MAX_BYTES:
        buckets //= 2
    return buckets


@dataclass(frozen=True, kw_only=True)
class TableDigest:
    """One table. Each sequence has a number for each bucket."""

    attached: bool
    key: tuple[str, ...]
    counters: frozenset[str]
    """The columns among `columns` that count."""
    rows: Sequence[int]
    keys: Sequence[int]
    columns: Mapping[str, Sequence[int]]
    pending: frozenset[int] = frozenset()
    """Buckets in which something is written and not folded."""
    newest: Mapping[Site, Mapping[int, Stamp]] = field(default_factory=dict[Site, Mapping[int, Stamp]])
    """Per site and bucket, the newest stamp. What the asker said that everybody covers is left out."""
    anywhere: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    """The same for sites beyond NEWEST_MAX: in some bucket."""

    @property
    def buckets(self) -> int:
        """How many."""
        return len(self.rows)

    @cached_property
    def bucket_sites(self) -> Mapping[int, Mapping[Site, Stamp]]:
        """`newest` by bucket."""
        found: dict[int, dict[Site, Stamp]] = {}
        for site, stamps in self.newest.items():
            for bucket, stamp in stamps.items():
                found.setdefault(bucket, {})[site] = stamp
        return found

    def coarser(self, buckets: int) -> "TableDigest":
        """The digest with this many buckets, which are not more."""
        if buckets == self.buckets:
            return self
        newest: dict[Site, dict[int, Stamp]] = {}
        for site, stamps in self.newest.items():
            into = newest[site] = {}
            for bucket, stamp in stamps.items():
                into[bucket % buckets] = max(stamp, into.get(bucket % buckets, stamp))
        return replace(
            self,
            rows=_summed(self.rows, buckets),
            keys=_summed(self.keys, buckets),
            columns={name: _summed(sums, buckets) for name, sums in self.columns.items()},
            pending=frozenset(bucket % buckets for bucket in self.pending),
            newest=newest,
        )

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "attached": self.attached,
            "key": list(self.key),
            "counters": sorted(self.counters),
            "columns": list(self.columns),
            "rows": _packed(self.rows),
            "keys": _packed(self.keys),
            "sums": [_packed(sums) for sums in self.columns.values()],
            "pending": struct.pack(f"<{len(self.pending)}H", *sorted(self.pending)),
            "newest": {
                site: struct.pack(f"<{len(stamps)}H{len(stamps)}q", *stamps, *stamps.values())
                for site, stamps in self.newest.items()
            },
            "anywhere": dict(self.anywhere),
        }

    @classmethod
    def parse(cls, value: object) -> "TableDigest":
        """What `plain` gave. Raises Malformed."""
        attached, key, counters, columns, rows, keys, sums, pending, newest, anywhere = received.fields(
            value, "attached", "key", "counters", "columns", "rows", "keys", "sums", "pending", "newest", "anywhere"
        )
        names = received.distinct_names(columns)
        buckets = len(received.data(rows)) // 8
        if not 1 <= buckets <= BUCKETS_MAX or buckets & (buckets - 1):
            raise Malformed("the number of buckets is no power of two")
        if len(received.listed(sums, at_most=COLUMNS_MAX)) != len(names):
            raise Malformed("not a sum for each column")
        counting = frozenset(received.distinct_names(counters))
        if not counting <= set(names):
            raise Malformed("a counter that is no column")
        found = cls(
            attached=received.flag(attached),
            key=received.distinct_names(key),
            counters=counting,
            rows=_unpacked(rows, buckets),
            keys=_unpacked(keys, buckets),
            columns={name: _unpacked(packed, buckets) for name, packed in zip(names, sums, strict=True)},
            pending=frozenset(_numbers(received.data(pending), buckets)),
            newest={
                received.site(site): _stamps(received.data(packed), buckets)
                for site, packed in received.mapped(newest, at_most=received.SITES_MAX).items()
            },
            anywhere=received.stamps(anywhere),
        )
        if not found.key:
            raise Malformed("a table without a key")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All tables that were asked for, and the vector, read in one transaction."""

    coverage: Coverage
    """How far each site is merged. Nothing where nothing is attached."""
    tables: Mapping[str, TableDigest]
    """By the names that were asked for."""
    absent: Mapping[str, str]
    """The other names, and why there is nothing to compare."""

    def pieces(self, *, bytes_max: int = PIECE_BYTES) -> list["Digest"]:
        """The digest as several: each with some of the tables, and at most so large unless it has a single one."""
        found: list[Digest] = []
        tables: dict[str, TableDigest] = {}
        size = 0
        for name, table in self.tables.items():
            takes = _size(table)
            if tables and size + takes > bytes_max:
                found.append(Digest(coverage=self.coverage, tables=tables, absent={}))
                tables, size = {}, 0
            tables[name] = table
            size += takes
        found.append(Digest(coverage=self.coverage, tables=tables, absent=self.absent))
        return found

    @staticmethod
    def joined(pieces: Sequence["Digest"]) -> "Digest":
        """What `pieces` were made from. Raises Malformed if they are not of one digest."""
        if not pieces or any(piece.coverage != pieces[0].coverage for piece in pieces):
            raise Malformed("not the pieces of one digest")
        return Digest(
            coverage=pieces[0].coverage,
            tables={name: table for piece in pieces for name, table in piece.tables.items()},
            absent={name: reason for piece in pieces for name, reason in piece.absent.items()},
        )

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "vector": dict(self.coverage.vector),
            "closed": dict(self.coverage.closed),
            "tables": {name: table.plain() for name, table in self.tables.items()},
            "absent": dict(self.absent),
        }

    @classmethod
    def parse(cls, value: object) -> "Digest":
        """What `plain` gave. Raises Malformed, and nothing else, if a peer sent something else."""
        vector, closed, tables, absent = received.fields(value, "vector", "closed", "tables", "absent")
        return cls(
            coverage=received.coverage(vector, closed),
            tables={
                name: TableDigest.parse(table) for name, table in received.mapped(tables, at_most=TABLES_MAX).items()
            },
            absent={
                name: received.text(reason, at_most=REASON_MAX)
                for name, reason in received.mapped(absent, at_most=TABLES_MAX).items()
            },
        )


def _summed(numbers: Sequence[int], buckets: int) -> tuple[int, ...]:
    return tuple(sum(numbers[bucket::buckets]) & _MASK for bucket in range(buckets))


def _size(table: TableDigest) -> int:
    stamps = sum(map(len, table.newest.values()))
    return 8 * table.buckets * (len(table.columns) + 2) + 10 * stamps + 50 * (len(table.newest) + len(table.anywhere))


def _packed(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _unpacked(value: object, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", received.data(value, size=8 * count))


def _numbers(packed: bytes, buckets: int) -> tuple[int, ...]:
    if len(packed) % 2 or len(packed) > 2 * buckets:
        raise Malformed("not numbers of buckets")
    numbers: tuple[int, ...] = struct.unpack(f"<{len(packed) // 2}H", packed)
    if any(number >= buckets for number in numbers):
        raise Malformed("a bucket that there is not")
    return numbers


def _stamps(packed: bytes, buckets: int) -> dict[int, Stamp]:
    count = len(packed) // 10
    if len(packed) % 10:
        raise Malformed("not a stamp for each bucket")
    numbers = _numbers(packed[: 2 * count], buckets)
    stamps: tuple[int, ...] = struct.unpack(f"<{count}q", packed[2 * count :])
    if any(not 0 <= stamp <= STAMP_MAX for stamp in stamps):
        raise Malformed("a stamp that is none")
    return dict(zip(numbers, map(Stamp, stamps), strict=True))
