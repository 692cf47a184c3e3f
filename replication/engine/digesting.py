"""Taking a digest: a scan of the rows themselves, when somebody asks.

Nothing is kept up to date by folds and merges, so it costs writers nothing, works as well where nothing is attached,
and sees damage at once. All is read in one read transaction: rows in the order in which they lie in the file, then
the clock table, then contributions, some hundred at a time. While it is open, SQLite cannot begin the WAL anew.

Clock table and contributions are only looked at for what the asker does not know already: it says up to which stamps
everybody covers each site, and SQLite passes over what was written before. In a cluster where all is delivered that is
nearly everything."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from replication.engine import held
from replication.engine.comparable import (
    Comparable,
    DigestTable,
    NotComparable,
    comparable,
    is_unsettled,
    session_to_compare,
    standing,
)
from replication.engine.coverage import Coverage, coverage
from replication.engine.digests import BUCKETS, NEWEST_MAX, Digest, TableDigest, buckets_for
from replication.engine.entries import later_dots
from replication.engine.session import NotAttached, Session, open_session
from replication.engine.stamps import STAMP_MAX, Site, Stamp
from replication.engine.table import Table
from replication.engine.transacting import reading
from replication.engine.values import cell_hash, column_hashes, fetch_batches, key_seed, key_seeds
from replication.tables import quoted

BATCH_ROWS: Final = 256
"""So many rows are in memory at a time, and hashed at a stretch, while for the better part of a millisecond no other
thread of the process runs. With more it is hardly faster."""
_BOUNDS_IN_SQL: Final = 100
_GENESIS: Final = 0  # its short number
_MASK: Final = 2**64 - 1


def attached_tables(
    connection: sqlite3.Connection, *, ignore: Mapping[str, Iterable[str]] | None = None
) -> tuple[DigestTable, ...]:
    """All attached tables, to be compared without the columns that `ignore` has for them. Only reads."""
    try:
        session = open_session(connection)
    except NotAttached:
        return ()
    ignored = {name.lower(): tuple(columns) for name, columns in (ignore or {}).items()}
    return tuple(DigestTable(name=name, ignore=ignored.get(name.lower(), ())) for name in session.tables)


def digest(
    connection: sqlite3.Connection,
    tables: Sequence[DigestTable],
    *,
    covered: Mapping[Site, Stamp] | None = None,
    buckets_max: int = BUCKETS,
    clocks: bool = True,
) -> Digest:
    """What the database holds of these tables now. Only reads; takes seconds for each million rows.

    The connection is in autocommit mode and used by nobody else meanwhile; `PRAGMA query_only` is off, since what
    cannot be shown may need a temporary table. `covered` has stamps that the vectors of all digests that this one will
    be compared with cover: what was written up to them is not told. `buckets_max` is a power of two. Without `clocks`
    attached tables are taken as if they were not: where nobody folds, what is in the log would wait for ever. Raises
    sqlite3.Error, and RuntimeError if a transaction is open.
    """
    with reading(connection):
        return digest_inside(connection, tables, covered=covered, buckets_max=buckets_max, clocks=clocks)


def digest_inside(
    connection: sqlite3.Connection,
    tables: Sequence[DigestTable],
    *,
    covered: Mapping[Site, Stamp] | None = None,
    buckets_max: int = BUCKETS,
    clocks: bool = True,
) -> Digest:
    """`digest`, in the read transaction at work."""
    session = session_to_compare(connection, clocks=clocks)
    merged = Coverage() if session is None else coverage(connection)
    known = {site: stamp for site, stamp in (covered or {}).items() if site not in merged.closed}
    found: dict[str, TableDigest] = {}
    absent: dict[str, str] = {}
    for chosen in tables:
        try:
            what = comparable(connection, session, chosen)
        except NotComparable as error:
            absent[chosen.name] = error.reason
            continue
        found[chosen.name] = _table_digest(connection, session, what, known, buckets_max)
    return Digest(coverage=merged, tables=found, absent=absent)


def _table_digest(
    connection: sqlite3.Connection,
    session: Session | None,
    what: Comparable,
    covered: Mapping[Site, Stamp],
    buckets_max: int,
) -> TableDigest:
    buckets = min(buckets_max, buckets_for(len(what.columns)))
    sums = _sums_of_rows(connection, what, buckets)
    pending: frozenset[int] = frozenset()
    newest: dict[Site, dict[int, Stamp]] = {}
    anywhere: dict[Site, Stamp] = {}
    if session is not None and what.table is not None:
        _add_held(sums, what.table)
        pending = _pending(session, what.table, buckets)
        if len(pending) < buckets:
            newest = _Newest(session, what.table, covered, buckets).read()
            anywhere = _moved_out(newest)
    return TableDigest(
        attached=what.table is not None,
        key=what.key,
        counters=frozenset(what.counters),
        rows=tuple(sums.rows),
        keys=tuple(total & _MASK for total in sums.keys),
        columns={name: tuple(total & _MASK for total in column) for name, column in sums.columns.items()},
        pending=pending,
        newest=newest,
        anywhere=anywhere,
    )


class _Sums:
    """Of one table, by bucket. Larger than 64 bits, or below zero, until they are told."""

    __slots__ = ("buckets", "columns", "keys", "rows")

    def __init__(self, columns: Sequence[str], buckets: int) -> None:
        self.buckets = buckets
        self.rows = [0] * buckets
        self.keys = [0] * buckets
        self.columns = {name: [0] * buckets for name in columns}


def _sums_of_rows(connection: sqlite3.Connection, what: Comparable, buckets: int) -> _Sums:
    sums = _Sums(what.columns, buckets)
    size = len(what.key)
    wanted = ", ".join(quoted(column) for column in (*what.key, *what.columns))
    sql = f"SELECT {wanted} FROM {what.source} WHERE {what.named}"
    counts, keys, columns = sums.rows, sums.keys, list(sums.columns.values())
    for rows in fetch_batches(connection, sql, size=BATCH_ROWS):
        seeds = key_seeds([row[:size] for row in rows])
        numbers = [seed & (buckets - 1) for seed in seeds]
        for number, seed in zip(numbers, seeds, strict=True):
            counts[number] += 1
            keys[number] += seed
        hashes = column_hashes(seeds, rows, slice(size, None))
        for into, column in zip(columns, hashes, strict=True):
            for number, found in zip(numbers, column, strict=True):
                into[number] += found
    return sums


def _add_held(sums: _Sums, table: Table) -> None:
    """Puts what is held in the place of what is shown instead."""
    connection, tid = table.connection, table.spec.tid
    if not held.is_any(connection, tid):
        return
    for key in held.keys(connection, tid):
        row = table.row(key)
        stands = standing(table, key, row, held.of_key(connection, tid, key))
        if stands is row or stands is None:
            continue
        seed = key_seed(key)
        number = seed & (sums.buckets - 1)
        if row is None:
            sums.rows[number] += 1
            sums.keys[number] += seed
        for name, into in sums.columns.items():
            into[number] += cell_hash(stands[name], seed) - (cell_hash(row[name], seed) if row is not None else 0)


def _pending(session: Session, table: Table, buckets: int) -> frozenset[int]:
    connection = session.connection
    if is_unsettled(connection, session):
        return frozenset(range(buckets))
    found: set[int] = set()
    for keys in fetch_batches(connection, f"SELECT {table.keys} FROM main.{table.spec.log}", size=BATCH_ROWS):
        found.update(seed & (buckets - 1) for seed in key_seeds(keys))
        if len(found) == buckets:
            break
    return frozenset(found)


class _Newest:
    """The newest stamps of one table that not everybody covers, by site and bucket."""

    def __init__(self, session: Session, table: Table, covered: Mapping[Site, Stamp], buckets: int) -> None:
        self._session = session
        self._table = table
        self._last = buckets - 1
        shorts = session.connection.execute("SELECT short, site FROM main._litecast_sites").fetchall()
        self._covered = {short: covered[site] for short, site in shorts if site in covered}
        # Nobody sends what stands under GENESIS: a migration's values, which each node computes, and what databases
        # held before, of which `compare` takes care.
        self._covered[_GENESIS] = STAMP_MAX
        self._newest: dict[int, dict[int, int]] = {}

    def read(self) -> dict[Site, dict[int, Stamp]]:
        """Looks at entries and contributions."""
        table = self._table
        bound = self._bound()
        # Only who has the blob of a row that was not written since its insert can be passed over by SQLite.
        count = len(table.spec.cells)
        plain = f"(length(cells) = {2 + 10 * count} AND substr(cells, 1, 2) = x'{count.to_bytes(2, 'little').hex()}')"
        self._read(
            f"SELECT {table.keys}, stamp, site, cells FROM main.{table.spec.clock}"
            f" WHERE stamp > {bound} OR NOT (length(cells) = 0 OR {plain})"
        )
        self._read(f"SELECT {table.keys}, stamp, site, x'' FROM main.{table.spec.count} WHERE stamp > {bound}")
        site_of = self._session.sites.site
        return {
            site_of(short): {bucket: Stamp(stamp) for bucket, stamp in stamps.items()}
            for short, stamps in self._newest.items()
        }

    def _read(self, sql: str) -> None:
        size = len(self._table.spec.key)
        for rows in fetch_batches(self._session.connection, sql, size=BATCH_ROWS):
            seeds = key_seeds([row[:size] for row in rows])
            for row, seed in zip(rows, seeds, strict=True):
                stamp, short, blob = row[size:]
                self._note(seed & self._last, stamp, short)
                if blob:
                    for stamp, short in later_dots(blob):
                        self._note(seed & self._last, stamp, short)

    def _note(self, bucket: int, stamp: int, short: int) -> None:
        if stamp <= self._covered.get(short, -1):
            return
        stamps = self._newest.setdefault(short, {})
        if stamp > stamps.get(bucket, -1):
            stamps[bucket] = stamp

    def _bound(self) -> str:
        """In SQL, the stamp up to which everybody covers a row's site; -1 where that is not known."""
        busiest = sorted(self._covered.items(), key=lambda item: item[1], reverse=True)[:_BOUNDS_IN_SQL]
        return f"CASE site {' '.join(f'WHEN {short} THEN {stamp}' for short, stamp in busiest)} ELSE -1 END"


def _moved_out(newest: dict[Site, dict[int, Stamp]]) -> dict[Site, Stamp]:
    """Takes out of `newest` the sites that wrote least lately, until it is small enough; gives the newest of each."""
    anywhere: dict[Site, Stamp] = {}
    count = sum(map(len, newest.values()))
    for stamp, site in sorted((max(stamps.values()), site) for site, stamps in newest.items()):
        if count <= NEWEST_MAX:
            break
        count -= len(newest.pop(site))
        anywhere[site] = stamp
    return anywhere
