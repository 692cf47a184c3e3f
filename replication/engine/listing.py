"""Listing rows: which keys there are, in order, and what is known of each, a page at a time."""

import sqlite3
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from replication.engine import held
from replication.engine.comparable import (
    Comparable,
    DigestTable,
    comparable,
    is_unsettled,
    session_to_compare,
    standing,
)
from replication.engine.coverage import Coverage, coverage
from replication.engine.entries import later_dots
from replication.engine.listings import PAGE_BYTES, ListedRow, RowListing
from replication.engine.session import Session
from replication.engine.stamps import GENESIS, Site, Stamp
from replication.engine.statements import HOLE, Statement
from replication.engine.transacting import reading
from replication.engine.values import Key, Value, canonical_key, cell_hash, fetch_batches, key_seeds, order_of
from replication.tables import quoted

KEYS_MAX: Final = 250_000
"""So many keys are looked at for a page, about a second; then it ends, however small it is."""
CHUNK_KEYS: Final = 2_048


def list_rows(
    connection: sqlite3.Connection,
    chosen: DigestTable,
    *,
    buckets: int,
    numbers: Collection[int],
    after: Key | None = None,
    covered: Mapping[Site, Stamp] | None = None,
    bytes_max: int = PAGE_BYTES,
    keys_max: int = KEYS_MAX,
    clocks: bool = True,
) -> RowListing:
    """A page of the rows in the buckets of these `numbers`, out of so many `buckets`, from behind the key `after` on.

    The next page begins behind its `upto`. The connection is used as for `digest`; `covered` and `clocks` are what they
    are there. Raises NotComparable, sqlite3.Error, and RuntimeError if a transaction is open.
    """
    with reading(connection):
        session = session_to_compare(connection, clocks=clocks)
        what = comparable(connection, session, chosen)
        lister = _Lister(connection, session, what, covered or {})
        wanted = frozenset(numbers)
        unsettled = session is not None and what.table is not None and is_unsettled(connection, session)
        pending = frozenset[Key]() if unsettled else lister.pending(buckets, wanted)
        rows: dict[Key, ListedRow] = {}
        size = seen = 0
        upto = after
        for keys, last in key_chunks(connection, what, after):
            seeds = key_seeds(keys)
            for key, seed in zip(keys, seeds, strict=True):
                if seed & (buckets - 1) not in wanted:
                    continue
                key = canonical_key(key)
                row = lister.listed(key, seed, pending=key in pending)
                takes = _size(key, row)
                if rows and size + takes > bytes_max:
                    break
                rows[key] = row
                size += takes
                upto = key
            else:
                upto = last
                seen += len(keys)
                if upto is not None and seen < keys_max:
                    continue
            break
        return RowListing(
            columns=what.columns,
            counters=what.counters,
            coverage=lister.coverage,
            unsettled=unsettled,
            rows=rows,
            after=after,
            upto=upto,
        )


def key_chunks(
    connection: sqlite3.Connection, what: Comparable, after: Key | None = None
) -> Iterator[tuple[list[Key], Key | None]]:
    """All keys behind `after` of which there is a row or an entry, in SQLite's order, some at a time.

    With each some, the key up to which that is all; None with the last.
    """
    size = CHUNK_KEYS
    columns = [quoted(column) for column in what.key]
    sources = [_Keys(connection, what.source, columns, what.named, size)]
    if what.table is not None:
        sources.append(_Keys(connection, f"main.{what.table.spec.clock}", what.table.spec.key_names, "1", size))
    while True:
        rows, *entries = [source.behind(after) for source in sources]
        if not entries or rows == entries[0]:  # also a table with a collation, by which only SQLite can order
            after = rows[-1] if len(rows) == size else None
            yield rows, after
        else:
            ends = [keys[-1] for keys in (rows, *entries) if len(keys) == size]
            after = min(ends, key=key_order) if ends else None
            yield _merged(_upto(rows, after), _upto(entries[0], after)), after
        if after is None:
            return


def _upto(keys: list[Key], last: Key | None) -> list[Key]:
    return keys if last is None else keys[: bisect_right(keys, key_order(last), key=key_order)]


def _merged(keys: list[Key], others: list[Key]) -> list[Key]:
    there = set(keys)
    more = [key for key in others if key not in there]
    return sorted(keys + more, key=key_order) if more else keys


def key_order(key: Key) -> tuple[tuple[int, Any], ...]:
    """What keys are compared by, as SQLite does without a collation."""
    return tuple(order_of(value)[:2] for value in key)


class _Keys:
    """The keys of one table or clock table."""

    def __init__(
        self, connection: sqlite3.Connection, source: str, columns: Sequence[str], condition: str, size: int
    ) -> None:
        self._connection = connection
        names = ", ".join(columns)
        behind = f"({names}) > ({', '.join([HOLE] * len(columns))})"
        self._first = Statement(f"SELECT {names} FROM {source} WHERE {condition} ORDER BY {names} LIMIT {size}")
        self._next = Statement(
            f"SELECT {names} FROM {source} WHERE {condition} AND {behind} ORDER BY {names} LIMIT {size}"
        )

    def behind(self, key: Key | None) -> list[Key]:
        """The next ones."""
        if key is None:
            return self._first.fetch(self._connection, ())
        return self._next.fetch(self._connection, key)


class _Lister:
    """What is known of single rows of a table."""

    def __init__(
        self, connection: sqlite3.Connection, session: Session | None, what: Comparable, covered: Mapping[Site, Stamp]
    ) -> None:
        self._connection = connection
        self._session = session
        self._what = what
        self.coverage = Coverage() if session is None else coverage(connection)
        self._covered = {site: stamp for site, stamp in covered.items() if site not in self.coverage.closed}
        self._rows = RowReader(connection, what)

    def pending(self, buckets: int, numbers: frozenset[int]) -> frozenset[Key]:
        """The keys in the log, of those buckets."""
        if self._what.table is None:
            return frozenset()
        table = self._what.table
        found: set[Key] = set()
        for keys in fetch_batches(self._connection, f"SELECT {table.keys} FROM main.{table.spec.log}", size=CHUNK_KEYS):
            seeds = key_seeds(keys)
            found.update(
                canonical_key(key) for key, seed in zip(keys, seeds, strict=True) if seed & (buckets - 1) in numbers
            )
        return frozenset(found)

    def listed(self, key: Key, seed: int, *, pending: bool) -> ListedRow:
        """A row, or that there is none."""
        row = self._rows.read(key)
        counters = self._what.counters
        return ListedRow(
            hashes=None if row is None else tuple(cell_hash(row[name], seed) for name in self._what.columns),
            counts=(0,) * len(counters) if row is None else tuple(_count(row[name]) for name in counters),
            newest=self._newest(key),
            pending=pending,
        )

    def _newest(self, key: Key) -> dict[Site, Stamp]:
        table, session = self._what.table, self._session
        if table is None or session is None:
            return {}
        dots: list[tuple[int, int]] = []
        entry = table.entry_row(key)
        if entry is not None:
            _, stamp, short, blob = cast("tuple[int, int, int, bytes]", entry)
            dots = [(stamp, short), *later_dots(blob)]
        dots += table.count_dots(key)
        newest: dict[Site, Stamp] = {}
        for stamp, short in dots:
            site = session.sites.site(short)
            if site != GENESIS and stamp > max(self._covered.get(site, -1), newest.get(site, -1)):
                newest[site] = Stamp(stamp)
        return newest


class RowReader:
    """Single rows of a table, in the transaction at work."""

    def __init__(self, connection: sqlite3.Connection, what: Comparable) -> None:
        self._connection = connection
        self._what = what
        wanted = "".join(f", {quoted(column)}" for column in what.columns)
        where = " AND ".join(f"{quoted(column)} = {HOLE}" for column in what.key)
        self._select = Statement(f"SELECT 1{wanted} FROM {what.source} WHERE {where}")
        self._any_held = what.table is not None and held.is_any(connection, what.table.spec.tid)

    def read(self, key: Key) -> Mapping[str, Value] | None:
        """The columns that are compared, with what is held for what is shown; None if there is no such row."""
        found = self._select.fetch(self._connection, key)
        row = dict(zip(self._what.columns, found[0][1:], strict=True)) if found else None
        table = self._what.table
        if table is None or not self._any_held:
            return row
        return standing(table, key, row, held.of_key(self._connection, table.spec.tid, key))


def _count(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _size(key: Key, row: ListedRow) -> int:
    """About how many bytes a row takes."""
    cells = 9 * (len(row.hashes or ()) + len(row.counts))
    return 16 + sum(len(value) if isinstance(value, str | bytes) else 9 for value in key) + cells + 30 * len(row.newest)
