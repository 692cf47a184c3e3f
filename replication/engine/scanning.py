"""Looking for damage: rows that are not what was written, by anybody whose write was captured or merged.

Each row is compared with its entry: cells with the hashes there, counters with the sum of contributions, never-written
cells with their column's default. What differs and is in no log was changed past capture: by a write with triggers
disabled, by a tool that edits the file, by a disk. A digest sees it too, as drift, but not on which node it is.

Two kinds are normal and not reported: what is held shows something else than what was written, and a key in the log
waits for the next fold."""

import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

from replication.engine import held
from replication.engine.comparable import DigestTable, NotComparable, comparable, is_unsettled
from replication.engine.contributions import saturated
from replication.engine.entries import split
from replication.engine.held import HeldCell
from replication.engine.listing import key_chunks
from replication.engine.session import open_session
from replication.engine.statements import HOLE, Statement
from replication.engine.table import Table
from replication.engine.transacting import reading
from replication.engine.values import Key, Value, canonical_key, fetch, row_hashes, same
from replication.tables import quoted

ROWS_MAX: Final = 10_000
"""So many rows are named if not said otherwise."""
LOG_MAX: Final = 100_000
"""With more than this to be folded, nothing is looked at."""


class Harm(StrEnum):
    """What is wrong with a row."""

    CHANGED = "changed"
    """It shows something that nobody wrote."""
    MISSING = "missing"
    """It is not there, and nobody deleted it."""
    UNKNOWN = "unknown"
    """It is there, and nobody inserted it, or somebody deleted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedRow:
    """One row. `columns`: what is not as it was written, of a row that was changed."""

    key: Key
    harm: Harm
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Of one table. `rows` has no more than was asked for; the counts are whole.

    `unsettled`: nothing was looked at, since a new schema, or a large log, waits to be folded."""

    rows: tuple[DamagedRow, ...] = ()
    changed: int = 0
    missing: int = 0
    unknown: int = 0
    unsettled: bool = False

    @property
    def count(self) -> int:
        """How many rows are damaged."""
        return self.changed + self.missing + self.unknown


def scan(connection: sqlite3.Connection, name: str, *, rows_max: int = ROWS_MAX) -> Damage:
    """What is damaged of an attached table. Only reads, in one transaction; seconds for each million rows.

    The connection is used as for `digest`. Raises NotAttached, NotComparable if there is no such table or it is not
    attached, sqlite3.Error, and RuntimeError if a transaction is open.
    """
    with reading(connection):
        session = open_session(connection)
        what = comparable(connection, session, DigestTable(name=name))
        table = what.table
        if table is None:
            raise NotComparable("the table is not attached")
        if is_unsettled(connection, session) or _logged(table) > LOG_MAX:
            return Damage(unsettled=True)
        pending = {canonical_key(key) for key in fetch(connection, f"SELECT {table.keys} FROM main.{table.spec.log}")}
        check = RowCheck(table)
        found: list[DamagedRow] = []
        counts = dict.fromkeys(Harm, 0)
        after: Key | None = None
        for _, last in key_chunks(connection, what):
            for row in _damaged(check, after, last):
                if canonical_key(row.key) in pending:
                    continue
                counts[row.harm] += 1
                if len(found) < rows_max:
                    found.append(row)
            after = last
        return Damage(
            rows=tuple(found),
            changed=counts[Harm.CHANGED],
            missing=counts[Harm.MISSING],
            unknown=counts[Harm.UNKNOWN],
        )


def _logged(table: Table) -> int:
    first, last = table.connection.execute(f"SELECT min(seq), max(seq) FROM main.{table.spec.log}").fetchone()
    return 0 if first is None else last - first + 1


def _damaged(check: "RowCheck", after: Key | None, last: Key | None) -> Iterator[DamagedRow]:
    """The damaged rows between two keys."""
    table = check.table
    spec, size = table.spec, len(table.spec.key)
    shown = [quoted(name) for name in (*spec.cells, *spec.counters)]
    key_columns = [quoted(name) for name in spec.key]
    rows = _between(table, key_columns, shown, table.name, after, last)
    entries = {
        row[:size]: row[size:]
        for row in _between(
            table, spec.key_names, ("life", "stamp", "site", "cells"), f"main.{spec.clock}", after, last
        )
    }
    sums = _sums(table, entries, after, last) if spec.counters else {}
    hashes = row_hashes([row[:size] for row in rows], rows, slice(size, size + len(spec.cells)))
    for row, found in zip(rows, hashes, strict=True):
        key = row[:size]
        entry = entries.pop(key, None)
        if entry is None or not cast("int", entry[0]) & 1:
            yield DamagedRow(key=key, harm=Harm.UNKNOWN)
        else:
            columns = check.columns(key, row[size:], found, cast("bytes", entry[3]), sums.get(key, {}))
            if columns:
                yield DamagedRow(key=key, harm=Harm.CHANGED, columns=tuple(columns))
    for key, entry in entries.items():
        if cast("int", entry[0]) & 1 and held.ROW not in check.holding(key):
            yield DamagedRow(key=key, harm=Harm.MISSING)


def _sums(
    table: Table, entries: Mapping[Key, Sequence[Value]], after: Key | None, last: Key | None
) -> dict[Key, dict[int, int]]:
    """The sums of contributions to the lives that the entries have, by key and counter's number."""
    size = len(table.spec.key)
    found: dict[Key, dict[int, int]] = {}
    columns = ("life", "counter", "value")
    for row in _between(table, table.spec.key_names, columns, f"main.{table.spec.count}", after, last):
        key, (life, number, value) = row[:size], cast("tuple[int, int, int]", row[size:])
        entry = entries.get(key)
        if entry is not None and entry[0] == life:
            of_key = found.setdefault(key, {})
            of_key[number] = of_key.get(number, 0) + value
    return found


def _between(
    table: Table,
    key: Sequence[str],
    columns: Sequence[str],
    source: str,
    after: Key | None,
    last: Key | None,
) -> list[tuple[Value, ...]]:
    names, marks = f"({', '.join(key)})", f"({', '.join([HOLE] * len(key))})"
    bounds = [f"{names} {operator} {marks}" for operator, bound in ((">", after), ("<=", last)) if bound is not None]
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    return Statement(f"SELECT {', '.join((*key, *columns))} FROM {source}{where}").fetch(
        table.connection, (*(after or ()), *(last or ()))
    )


class RowCheck:
    """What of a row is not as it was written. In the transaction at work, the schema as a fold looked at it last."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._any_held = held.is_any(table.connection, table.spec.tid)
        self._hashes = struct.Struct(f"<{len(table.spec.cells)}Q").pack
        self._orders: dict[bytes, list[int] | None] = {}

    def holding(self, key: Key) -> Mapping[str, HeldCell]:
        """What is held of the row."""
        return held.of_key(self.table.connection, self.table.spec.tid, key) if self._any_held else {}

    def columns(
        self, key: Key, shown: Sequence[Value], hashes: Sequence[int], blob: bytes, sums: Mapping[int, int]
    ) -> list[str]:
        """The columns whose value is another one. `shown`: cells and counters; `hashes`: the cells'; `blob`: the
        entry's; `sums`: of the contributions to this life, by counter's number."""
        table = self.table
        spec = table.spec
        found: list[str] = []
        if not self._is_as_inserted(blob, hashes):
            written, later = split(blob)
            holding = self.holding(key)
            for name, number, value, value_hash in zip(spec.cells, table.cell_ids, shown, hashes, strict=False):
                known = written.get(number)
                if known is None and number in later:
                    known = later[number][0]
                if known is None:
                    if name not in table.computed_defaults and not same(value, table.defaults[name]):
                        found.append(name)
                elif value_hash != known and not (name in holding and value_hash == holding[name].shown):
                    found.append(name)
        for name, number, value in zip(spec.counters, table.counter_ids, shown[len(spec.cells) :], strict=True):
            if not same(value, saturated(sums.get(number, 0))):
                found.append(name)
        return found

    def _is_as_inserted(self, blob: bytes, hashes: Sequence[int]) -> bool:
        """True if all cells were written by the insert, and show what it wrote; nearly all rows are found so, fast."""
        count = len(hashes)
        if len(blob) != 2 + 10 * count:
            return False
        prefix, written = blob[: 2 + 2 * count], blob[2 + 2 * count :]
        if prefix in self._orders:
            order = self._orders[prefix]
        else:
            ids, cell_ids = list(split(blob)[0]), self.table.cell_ids
            order = [cell_ids.index(number) for number in ids] if set(ids) == set(cell_ids) else None
            self._orders[prefix] = order
        return order is not None and written == self._hashes(*[hashes[at] for at in order])
