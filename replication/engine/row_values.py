"""What some rows hold: to be shown beside what other nodes have, or to restore a damaged row from.

Read a page at a time, each small enough for one message. Values that would make a single row too large for one are
left out, the largest first, and named."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from replication.engine import received
from replication.engine.comparable import DigestTable, comparable, session_to_compare
from replication.engine.listing import RowReader
from replication.engine.listings import PAGE_BYTES, PAGE_MAX_BYTES, values_size
from replication.engine.received import Malformed
from replication.engine.transacting import reading
from replication.engine.values import Key, Value, canonical_key, pack

type Row = Mapping[str, Value]

ROWS_MAX: Final = 10_000
"""So many rows can be asked for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowValues:
    """Rows by key, None for one that is not there. `rest`: keys that found no place in this page."""

    columns: tuple[str, ...]
    rows: Mapping[Key, Row | None]
    left_out: Mapping[Key, tuple[str, ...]] = field(default_factory=dict[Key, tuple[str, ...]])
    """Columns that a row has besides, whose values are too large to be sent."""
    rest: tuple[Key, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        names = self.columns
        lines = [
            (key, None if row is None else tuple(map(row.get, names)), self.left_out.get(key, ()))
            for key, row in self.rows.items()
        ]
        return {"columns": list(names), "rows": pack(lines), "rest": packed_keys(self.rest)}

    @classmethod
    def parse(cls, value: object) -> "RowValues":
        """What `plain` gave. Raises Malformed."""
        columns, packed, rest = received.fields(value, "columns", "rows", "rest")
        names = received.distinct_names(columns)
        rows: dict[Key, Row | None] = {}
        left_out: dict[Key, tuple[str, ...]] = {}
        for line in received.listed(received.unpacked(packed, bytes_max=PAGE_MAX_BYTES), at_most=ROWS_MAX):
            if not isinstance(line, tuple) or len(line) != 3:
                raise Malformed("a row has three fields")
            key = canonical_key(received.values(line[0]))
            left = received.distinct_names(line[2])
            if left:
                left_out[key] = left
            rows[key] = None if line[1] is None else _row(received.values(line[1]), names, left)
        return cls(columns=names, rows=rows, left_out=left_out, rest=parse_keys(rest))


def packed_keys(keys: Sequence[Key]) -> bytes:
    """Keys as one plain value."""
    return pack(tuple(keys))


def parse_keys(packed: object) -> tuple[Key, ...]:
    """What `packed_keys` was given. Raises Malformed."""
    keys = received.listed(received.unpacked(packed, bytes_max=PAGE_MAX_BYTES), at_most=ROWS_MAX)
    return tuple(received.values(key) for key in keys)


def read_rows(
    connection: sqlite3.Connection,
    chosen: DigestTable,
    keys: Sequence[Key],
    *,
    bytes_max: int = PAGE_BYTES,
    clocks: bool = True,
) -> RowValues:
    """The rows with these keys, in their order, as many as fit into one page; the first at any rate.

    What is held stands for what is shown. The connection is used as for `digest`, and `clocks` is what it is there.
    Raises NotComparable, sqlite3.Error, and RuntimeError if a transaction is open.
    """
    with reading(connection):
        session = session_to_compare(connection, clocks=clocks)
        what = comparable(connection, session, chosen)
        reader = RowReader(connection, what)
        rows: dict[Key, Row | None] = {}
        left_out: dict[Key, tuple[str, ...]] = {}
        size = 0
        for number, key in enumerate(keys):
            key = canonical_key(key)
            row, left = _fitting(reader.read(key), bytes_max)
            takes = values_size(key) + (0 if row is None else values_size(tuple(row.values())))
            if (rows and size + takes > bytes_max) or number == ROWS_MAX:
                return RowValues(columns=what.columns, rows=rows, left_out=left_out, rest=tuple(keys[number:]))
            size += takes
            rows[key] = row
            if left:
                left_out[key] = left
        return RowValues(columns=what.columns, rows=rows, left_out=left_out)


def _fitting(row: Row | None, bytes_max: int) -> tuple[Row | None, tuple[str, ...]]:
    """What of a row fits, and the columns that do not."""
    if row is None or values_size(tuple(row.values())) <= bytes_max:
        return row, ()
    found: dict[str, Value] = {}
    size = 0
    for name in sorted(row, key=lambda name: values_size((row[name],))):
        size += values_size((row[name],))
        if size > bytes_max:
            break
        found[name] = row[name]
    return found, tuple(name for name in row if name not in found)


def _row(values: Sequence[Value], names: Sequence[str], left: Sequence[str]) -> Row:
    if len(values) != len(names):
        raise Malformed("not a value for each column")
    return {name: value for name, value in zip(names, values, strict=True) if name not in left}
