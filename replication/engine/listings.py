"""The rows of some buckets, each by the hashes of its cells: what two nodes need to say which rows differ.

A listing is made in pages, each small enough for one message and each read in a transaction of its own, in the order
of keys. Rows say for themselves what a bucket of a digest says: the newest stamp of each site that wrote them, and
whether a write is pending. A key whose row is deleted is listed too, with who deleted it, and so is one whose row is
missing, with who wrote it. So a node that is only behind is told from one that has drifted, row by row, whatever
happens between two pages.

As plain values, the rows of a page are packed, so that no message has too many containers."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from replication.engine import received
from replication.engine.coverage import Coverage
from replication.engine.received import Malformed
from replication.engine.stamps import STAMP_MAX, Site, Stamp
from replication.engine.values import INT64_MAX, INT64_MIN, Key, Value, canonical_key, pack

PAGE_BYTES: Final = 1024 * 1024
PAGE_MAX_BYTES: Final = 4 * PAGE_BYTES
"""A page is as large as this only if a single row, and its sites, are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRow:
    """One key. `hashes` are those of the listing's columns; None if there is no such row.

    `counts` are the values of the listing's counters; 0 stands for what is no integer, and for those of no row."""

    hashes: tuple[int, ...] | None
    counts: tuple[int, ...]
    newest: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowListing:
    """Rows of one table, after the key `after` and up to `upto`; None: from the first, and to the last.

    `coverage`: how far each site is merged, at least. `unsettled`: all rows are pending."""

    columns: tuple[str, ...]
    counters: tuple[str, ...]
    coverage: Coverage
    unsettled: bool
    rows: Mapping[Key, ListedRow]
    after: Key | None = None
    upto: Key | None = None

    @staticmethod
    def joined(pages: Sequence["RowListing"]) -> "RowListing":
        """Pages that follow each other, as one. Raises Malformed if the table was not the same for all of them."""
        first, last = pages[0], pages[-1]
        rows: dict[Key, ListedRow] = {}
        for page in pages:
            if (page.columns, page.counters) != (first.columns, first.counters):
                raise Malformed("the table has other columns than a moment ago")
            rows.update(page.rows)
        # Only what was merged before any of them was read is merged in all of them.
        vectors = [page.coverage.vector for page in pages]
        everywhere = set(vectors[0]).intersection(*vectors)
        vector = {site: Stamp(min(vector[site] for vector in vectors)) for site in everywhere}
        closed = first.coverage.closed
        unsettled = any(page.unsettled or page.coverage.closed != closed for page in pages)
        coverage = Coverage(vector=vector, closed=closed)
        return replace(first, rows=rows, coverage=coverage, unsettled=unsettled, upto=last.upto)

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        sites = list(dict.fromkeys(site for row in self.rows.values() for site in row.newest))
        number_of = {site: number for number, site in enumerate(sites)}
        lines = [
            (
                key,
                None if row.hashes is None else struct.pack(f"<{len(row.hashes)}Q", *row.hashes),
                row.counts,
                tuple(part for site, stamp in row.newest.items() for part in (number_of[site], stamp)),
                row.pending,
            )
            for key, row in self.rows.items()
        ]
        return {
            "columns": list(self.columns),
            "counters": list(self.counters),
            "vector": dict(self.coverage.vector),
            "closed": dict(self.coverage.closed),
            "unsettled": self.unsettled,
            "sites": sites,
            "rows": pack(lines),
            "after": None if self.after is None else pack(self.after),
            "upto": None if self.upto is None else pack(self.upto),
        }

    @classmethod
    def parse(cls, value: object) -> "RowListing":
        """What `plain` gave. Raises Malformed."""
        columns, counters, vector, closed, unsettled, sites, rows, after, upto = received.fields(
            value, "columns", "counters", "vector", "closed", "unsettled", "sites", "rows", "after", "upto"
        )
        names, counting = received.distinct_names(columns), received.distinct_names(counters)
        if not set(counting) <= set(names):
            raise Malformed("a counter that is no column")
        known = [received.site(site) for site in received.listed(sites, at_most=received.SITES_MAX)]
        lines = received.unpacked(rows, bytes_max=PAGE_MAX_BYTES)
        if not isinstance(lines, tuple):
            raise Malformed("not a list of rows")
        found: dict[Key, ListedRow] = {}
        for line in lines:
            key, row = _row(line, len(names), len(counting), known)
            if key in found:
                raise Malformed("a row twice")
            found[key] = row
        return cls(
            columns=names,
            counters=counting,
            coverage=received.coverage(vector, closed),
            unsettled=received.flag(unsettled),
            rows=found,
            after=None if after is None else parse_key(after),
            upto=None if upto is None else parse_key(upto),
        )


def parse_key(value: object) -> Key:
    """A key as it was packed. Raises Malformed."""
    return received.values(received.unpacked(value, bytes_max=PAGE_MAX_BYTES))


def _row(line: object, columns: int, counters: int, sites: Sequence[Site]) -> tuple[Key, ListedRow]:
    if not isinstance(line, tuple) or len(line) != 5:
        raise Malformed("a row has five fields")
    key, hashes, counts, newest, pending = line
    if not isinstance(counts, tuple) or len(counts) != counters or not isinstance(newest, tuple) or len(newest) % 2:
        raise Malformed("not the counts and stamps of a row")
    stamps: dict[Site, Stamp] = {}
    for number, stamp in zip(newest[::2], newest[1::2], strict=True):
        site = sites[received.whole(number, low=0, high=len(sites) - 1)]
        stamps[site] = Stamp(received.whole(stamp, low=0, high=STAMP_MAX))
    return canonical_key(received.values(key)), ListedRow(
        hashes=None if hashes is None else struct.unpack(f"<{columns}Q", received.data(hashes, size=8 * columns)),
        counts=tuple(received.whole(count, low=INT64_MIN, high=INT64_MAX) for count in counts),
        newest=stamps,
        pending=received.flag(pending),
    )


def values_size(values: Sequence[Value]) -> int:
    """About how many bytes these take."""
    return sum(len(value) if isinstance(value, str | bytes) else 9 for value in values)
