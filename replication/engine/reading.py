"""Reading the state of some rows, to be handed to another node: in key order, so many rows and bytes at a time.

It is read from a state in which nothing waits to be folded, in the same transaction: else a value that was written and
not folded yet would travel under the clock of the value before it. If something does wait, it is folded first.

A cell travels with the value that its entry has the hash of: what the row shows, or what is held of it. A row that
shows something else, though the log has nothing of it, was damaged or written past the triggers: such a cell does not
travel, so that damage does not spread under a good clock. The row itself does, so that nobody takes it for deleted."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from replication.engine import held
from replication.engine.entries import decode_entry
from replication.engine.folding import Folded, fold_inside, is_due
from replication.engine.identity import Remembered, check_remembered
from replication.engine.ranges import StateGroup, TableRange, encode_held, encode_range
from replication.engine.session import Session, open_session
from replication.engine.sites import vector
from replication.engine.stamps import Dot, Site, Stamp
from replication.engine.table import Table
from replication.engine.transacting import merging_transaction, reading
from replication.engine.values import (
    Key,
    Value,
    bound,
    cell_hash,
    column_hashes,
    fetch_batches,
    key_seed,
    key_seeds,
    packer,
)
from replication.tables import quoted

HELD: Final = "\0"
"""Before a table's name: what is held of it, instead of its rows. No name in a schema holds it."""

_COUNT_BYTES: Final = 24
_ROWS_AT_ONCE: Final = 4  # more would be read ahead of what is wanted, and rows can be large


class NoSuchTable(Exception):
    """Nothing of a table of this name is attached or held here."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(f"no table {table!r} is attached here")


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRead:
    """Some of a table's state, and the key to go on after; None if that was the last of the table.

    `rows`: how many rows and tombstones are in it. `damaged`: cells that are not what was last known of them, and were
    left out. `folded`: what was folded for it, to be cast like any fold's, and durable before the range is sent."""

    encoded: bytes
    next_after: Key | None
    rows: int
    damaged: int
    folded: Folded | None


def read_range(
    connection: sqlite3.Connection,
    table: str,
    *,
    after: Key | None,
    max_rows: int,
    max_bytes: int,
    now_ms: int,
    expected: Remembered | None = None,
) -> RangeRead:
    """The state of the table's rows beyond `after`: one at least, if there is one, and about as many as said at most.

    `table` is a name that `begin` gave. Raises NoSuchTable, NotAttached, StateReplaced, and sqlite3.OperationalError
    (the lock, the disk), with nothing changed."""
    with reading(connection):
        check_remembered(connection, expected)
        if not is_due(connection):
            return _read(open_session(connection), table, after, max_rows, max_bytes, None)
    with merging_transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        folded = fold_inside(session, now_ms=now_ms)
        return _read(session, table, after, max_rows, max_bytes, folded)


def _read(
    session: Session, name: str, after: Key | None, max_rows: int, max_bytes: int, folded: Folded | None
) -> RangeRead:
    if name.startswith(HELD):
        return _read_held(session, name.removeprefix(HELD), after, max_rows, max_bytes, folded)
    table = session.tables.get(name)
    if table is None or (after is not None and len(after) != len(table.spec.key)):
        raise NoSuchTable(name)
    work = _Reading(session, table)
    upto = work.read(after, max_rows, max_bytes)
    found = work.found(after, upto)
    return RangeRead(
        encoded=encode_range(found),
        next_after=upto,
        rows=work.rows,
        damaged=work.damaged,
        folded=folded,
    )


class _Reading:
    def __init__(self, session: Session, table: Table) -> None:
        self.rows = 0
        self.damaged = 0
        self._session = session
        self._table = table
        self._any_held = held.is_any(session.connection, table.spec.tid)
        self._has_counts = (
            session.connection.execute(f"SELECT 1 FROM main.{table.spec.count} LIMIT 1").fetchone() is not None
        )
        self._ended: list[tuple[Value, ...]] = []
        self._whole: dict[bytes, list[tuple[Any, ...]]] = {}
        """Rows whose cells all have the insert's dot, by what their blobs have in common."""
        self._others: list[tuple[Any, ...]] = []
        self._plain: dict[tuple[str, ...], list[tuple[Value, ...]]] = {}
        self._changed: dict[tuple[str, ...], list[tuple[Value, ...]]] = {}
        self._counts: dict[Key, list[tuple[Value, ...]]] = {}
        self._numbers: set[int] = set()

    def read(self, after: Key | None, max_rows: int, max_bytes: int) -> Key | None:
        """Reads until it is enough. Gives the last key, or None if that was all."""
        spec = self._table.spec
        size = len(spec.key)
        pack = packer().pack
        bytes_read = 0
        row: tuple[Any, ...] = ()
        for row in self._select(after, max_rows):
            key = row[:size]
            self._sort(row)
            self.rows += 1
            bytes_read += len(pack(row))
            if self._has_counts and row[size] & 1:
                shares = self._table.counts(key, row[size])
                if shares:
                    self._counts[key] = shares
                    bytes_read += _COUNT_BYTES * len(shares)
            if bytes_read >= max_bytes:
                break
        return row[:size] if self.rows == max_rows or bytes_read >= max_bytes else None

    def _select(self, after: Key | None, max_rows: int) -> Iterator[tuple[Any, ...]]:
        """Key, life, stamp, site, blob, whether the row is there, its cells; in key order."""
        spec, table = self._table.spec, self._table
        key = [f"c.{name}" for name in spec.key_names]
        cells = [f"t.{quoted(column)}" for column in spec.cells]
        there = f"t.{quoted(spec.key[0])} IS NOT NULL"
        wanted = ", ".join([*key, "c.life", "c.stamp", "c.site", "c.cells", there, *cells])
        on = " AND ".join(f"t.{quoted(column)} = {name}" for column, name in zip(spec.key, key, strict=True))
        holes, parameters = bound(after or ())
        beyond = f" WHERE ({', '.join(key)}) > ({', '.join(holes)})" if holes else ""
        for rows in fetch_batches(
            self._session.connection,
            f"SELECT {wanted} FROM main.{spec.clock} AS c LEFT JOIN {table.name} AS t ON {on}{beyond}"
            f" ORDER BY {', '.join(key)} LIMIT {max_rows}",
            parameters,
            size=_ROWS_AT_ONCE,
        ):
            yield from rows

    def _sort(self, row: tuple[Any, ...]) -> None:
        size = len(self._table.spec.key)
        life, blob = row[size], row[size + 3]
        if not life & 1:
            self._numbers.add(row[size + 2])
            self._ended.append(row[: size + 3])
            return
        prefix = blob[: 2 + 2 * int.from_bytes(blob[:2], "little")]
        if row[size + 4] and not self._any_held and len(blob) == 5 * len(prefix) - 8:
            self._whole.setdefault(prefix, []).append(row)
        else:
            self._others.append(row)

    def found(self, after: Key | None, upto: Key | None) -> TableRange:
        """All that was read."""
        table, sites = self._table, self._session.sites
        for prefix, rows in self._whole.items():
            self._take_whole(prefix, rows)
        for row in self._others:
            self._take_one(row)
        plain = tuple(StateGroup(cells=cells, rows=rows) for cells, rows in self._plain.items())
        changed = tuple(StateGroup(cells=cells, rows=rows) for cells, rows in self._changed.items())
        counts = self._numbered_counts([*plain, *changed])
        return TableRange(
            cluster=self._session.cluster,
            vector=vector(self._session.connection),
            table=table.spec.name,
            after=after,
            upto=upto,
            floor=table.spec.floor,
            key=table.spec.key,
            counters=table.spec.counters,
            sites={number: sites.site(number) for number in sorted(self._numbers)},
            ended=self._ended,
            plain=plain,
            changed=changed,
            counts=counts,
            sender=self._session.run,
        )

    def _take_whole(self, prefix: bytes, rows: list[tuple[Any, ...]]) -> None:
        """Rows of one shape: their cells are looked at a column at a time."""
        table, spec = self._table, self._table.spec
        size = len(spec.key)
        ids = tuple(int.from_bytes(prefix[at : at + 2], "little") for at in range(2, len(prefix), 2))
        cells = tuple(table.columns.names.get(number, "") for number in ids)
        places = {name: size + 5 + place for place, name in enumerate(spec.cells)}
        if not places.keys() >= set(cells):
            self._others += rows
            return
        values = itemgetter(*range(size + 3), *(places[name] for name in cells))
        taken = [values(row) for row in rows]
        if cells:
            hashes = column_hashes(key_seeds([row[:size] for row in rows]), taken, slice(size + 3, None))
            blobs = list(table.shapes.of(ids).blobs(hashes, len(rows)))
        else:
            blobs = [prefix] * len(rows)
        group = self._plain.setdefault(cells, [])
        for row, values_of, blob in zip(rows, taken, blobs, strict=True):
            if blob == row[size + 3]:
                group.append(values_of)
                self._numbers.add(row[size + 2])
            else:
                self._others.append(row)
        if not group:
            del self._plain[cells]

    def _take_one(self, row: tuple[Any, ...]) -> None:
        """A row that needs a closer look: cells written later, held, damaged, or of a column that is not here."""
        table, spec, site_of = self._table, self._table.spec, self._session.sites.site
        size = len(spec.key)
        key = row[:size]
        life, stamp, number, blob, there = row[size : size + 5]
        born = Dot(Stamp(stamp), site_of(number))
        entry = decode_entry(life, born, blob, names=table.columns.names, site_of=site_of)
        holding = held.of_key(table.connection, spec.tid, key) if self._any_held else {}
        known: dict[str, Value] = dict(zip(spec.cells, row[size + 5 :], strict=True)) if there else {}
        known |= {name: cell.value for name, cell in holding.items() if name != held.ROW}
        seed = key_seed(key)
        values: dict[str, Value] = {}
        dots: list[int] = []
        for name, cell in entry.cells.items():
            if name not in known or cell_hash(known[name], seed) != cell.hash:
                self.damaged += 1
                continue
            values[name] = known[name]
            dots += (cell.dot.stamp, self._session.sites.short(cell.dot.site))
        head = (*key, life, stamp, number)
        self._numbers.add(number)
        if set(zip(dots[::2], dots[1::2], strict=True)) <= {(stamp, number)}:
            self._plain.setdefault(tuple(values), []).append((*head, *values.values()))
        else:
            self._numbers.update(dots[1::2])
            self._changed.setdefault(tuple(values), []).append((*head, *values.values(), *dots))

    def _numbered_counts(self, groups: list[StateGroup]) -> dict[str, list[tuple[int, int, int, int]]]:
        found: dict[str, list[tuple[int, int, int, int]]] = {}
        if not self._counts:
            return found
        size, names = len(self._table.spec.key), self._table.columns.names
        keys = (row[:size] for group in groups for row in group.rows)
        for place, key in enumerate(keys):
            for counter, number, value, stamp in self._counts.get(key, ()):
                assert isinstance(counter, int)
                assert isinstance(number, int)
                assert isinstance(value, int)
                assert isinstance(stamp, int)
                if counter in names:
                    found.setdefault(names[counter], []).append((place, number, stamp, value))
                    self._numbers.add(number)
        return found


def _read_held(
    session: Session, name: str, after: Key | None, max_rows: int, max_bytes: int, folded: Folded | None
) -> RangeRead:
    begin = 0 if after is None else after[0]
    if not isinstance(begin, int) or (after is not None and len(after) != 1):
        raise NoSuchTable(HELD + name)
    changes: list[tuple[Site, int, bool, bytes]] = []
    bytes_read, place = 0, begin
    for one in held.changes(session.connection, name, beyond=begin):
        changes.append((one.dot.site, one.dot.stamp, one.lacking, one.body))
        bytes_read += len(one.body)
        place = one.seq
        if len(changes) >= max_rows or bytes_read >= max_bytes:
            break
    upto = place if len(changes) >= max_rows or bytes_read >= max_bytes else None
    encoded = encode_held(
        cluster=session.cluster,
        vector=vector(session.connection),
        table=name,
        after=None if after is None else begin,
        upto=upto,
        floor=held.floor(session.connection, name),
        changes=changes,
        sender=session.run,
    )
    return RangeRead(
        encoded=encoded,
        next_after=None if upto is None else (upto,),
        rows=len(changes),
        damaged=0,
        folded=folded,
    )
