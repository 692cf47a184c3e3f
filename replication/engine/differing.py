"""Which rows differ between nodes, and how far apart their counters are, from listings of the same buckets. Pure.

A row differs if two nodes show it differently, or one does not have it, and each covers all that was written to it by
the other's account. If one may only be behind, it is untold.

How far a counter is apart in a row is the largest minus the smallest of what the nodes show that differ; a node without
the row shows 0, since all that was counted is missing there. A table's figure is the sum over its rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from replication.engine.listings import ListedRow, RowListing
from replication.engine.values import Key

ROWS_MAX: Final = 1_000
"""So many rows are named if not said otherwise."""

_NO_ROW: Final = ListedRow(hashes=None, counts=())


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """One row: the nodes that are unequal to some other, and what each of them counts, by column."""

    nodes: frozenset[str]
    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Of one table: the rows that differ, how many of them altogether, and how many are untold.

    `rows` has no more than was asked for; the other figures are whole."""

    rows: Mapping[Key, RowDifference] = field(default_factory=dict[Key, RowDifference])
    differing: int = 0
    untold: int = 0
    spreads: Mapping[str, int] = field(default_factory=dict[str, int])
    """Per counter that two nodes have."""

    def joined(self, other: "Differences", *, rows_max: int) -> "Differences":
        """With what was found in other buckets of the table."""
        rows = dict(self.rows)
        for key, row in other.rows.items():
            if len(rows) >= rows_max:
                break
            rows[key] = row
        names = dict.fromkeys((*self.spreads, *other.spreads))
        return Differences(
            rows=rows,
            differing=self.differing + other.differing,
            untold=self.untold + other.untold,
            spreads={name: self.spreads.get(name, 0) + other.spreads.get(name, 0) for name in names},
        )


def differing(listings: Mapping[str, RowListing], *, rows_max: int = ROWS_MAX) -> Differences:
    """What differs between nodes that listed the same buckets of a table, each to the end."""
    pairs = [_Pair(one, other, listings) for one, other in combinations(listings, 2)]
    having = Counter(name for listing in listings.values() for name in listing.counters)
    spreads = {name: 0 for name, count in having.items() if count > 1}
    rows: dict[Key, RowDifference] = {}
    count = untold = 0
    for key in dict.fromkeys(key for listing in listings.values() for key in listing.rows):
        unequal = [pair for pair in pairs if not pair.are_equal(key)]
        told = [pair for pair in unequal if pair.is_told(key)]
        if not told:
            untold += bool(unequal)
            continue
        count += 1
        nodes = frozenset(node for pair in told for node in pair.nodes)
        counts = {name: _counts(listings, nodes, name, key) for name in spreads}
        for name, shown in counts.items():
            if shown:
                spreads[name] += max(shown.values()) - min(shown.values())
        if len(rows) < rows_max:
            rows[key] = RowDifference(nodes=nodes, counts=counts)
    return Differences(rows=rows, differing=count, untold=untold, spreads=spreads)


class _Pair:
    """Two nodes."""

    def __init__(self, one: str, other: str, listings: Mapping[str, RowListing]) -> None:
        self.nodes = (one, other)
        self._listings = mine, theirs = listings[one], listings[other]
        both = [name for name in mine.columns if name in theirs.columns]
        self._same_columns = mine.columns == theirs.columns
        self._both = [(mine.columns.index(name), theirs.columns.index(name)) for name in both]
        self._may_tell = not (mine.unsettled or theirs.unsettled) and (
            not (mine.counters or theirs.counters) or mine.coverage.same_baselines(theirs.coverage)
        )

    def _rows(self, key: Key) -> tuple[ListedRow, ListedRow]:
        one, other = self._listings
        return one.rows.get(key, _NO_ROW), other.rows.get(key, _NO_ROW)

    def are_equal(self, key: Key) -> bool:
        one, other = self._rows(key)
        if self._same_columns or one.hashes is None or other.hashes is None:
            return one.hashes == other.hashes
        return all(one.hashes[mine] == other.hashes[theirs] for mine, theirs in self._both)

    def is_told(self, key: Key) -> bool:
        one, other = self._rows(key)
        if not self._may_tell or one.pending or other.pending:
            return False
        mine, theirs = (listing.coverage for listing in self._listings)
        return all(theirs.has(site, stamp, of=mine) for site, stamp in one.newest.items()) and all(
            mine.has(site, stamp, of=theirs) for site, stamp in other.newest.items()
        )


def _counts(listings: Mapping[str, RowListing], nodes: frozenset[str], name: str, key: Key) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in sorted(nodes):
        listing = listings[node]
        if name in listing.counters:
            row = listing.rows.get(key, _NO_ROW)
            found[node] = row.counts[listing.counters.index(name)] if row.hashes is not None else 0
    return found
