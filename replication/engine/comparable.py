"""What of a table is compared between nodes: its key, which columns, and what stands for a row.

A table need not be attached: in `naive` and `none` mode it is compared all the same, without clocks. Columns are taken
in the order of their names, so that it does not matter in which order a table has them. Generated columns are left
out, since they say nothing of their own; so are rows with NULL in their key, which nobody could name.

What is held stands for what the row shows: it is the winner for its cell, and another node with another schema shows
it. So nodes that merged the same compare equal."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from replication.engine import held
from replication.engine.contributions import saturated
from replication.engine.held import HeldCell
from replication.engine.session import NotAttached, Session, open_session
from replication.engine.table import Table
from replication.engine.values import Key, Value, cell_hash, key_seed
from replication.tables import quoted

NO_SUCH_TABLE: Final = "there is no such table"
_PLAIN = 0  # pragma_table_xinfo's `hidden`, of a column that is stored as written


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestTable:
    """A table to compare, as whoever configured it sees it. `counters` need not be named for an attached table."""

    name: str
    ignore: Collection[str] = ()
    """Columns to leave out, however they are spelt. Those of the key are never left out."""
    counters: Collection[str] = ()


class NotComparable(Exception):
    """The table cannot be compared; `reason` says why, in a few words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparable:
    """A table as it is compared, in the transaction at work."""

    name: str
    """As the schema has it."""
    key: tuple[str, ...]
    columns: tuple[str, ...]
    """Cells and counters that are compared, in the order of their names."""
    counters: tuple[str, ...]
    """Those of `columns` that count."""
    nullable: tuple[str, ...]
    """Those of `key` that may hold NULL."""
    table: Table | None
    """None if it is not attached."""

    @property
    def source(self) -> str:
        """The table, in SQL."""
        return f"main.{quoted(self.name)}"

    @property
    def named(self) -> str:
        """An SQL condition, true of rows whose key is one."""
        return " AND ".join(f"{quoted(column)} IS NOT NULL" for column in self.nullable) or "1"


def comparable(connection: sqlite3.Connection, session: Session | None, chosen: DigestTable) -> Comparable:
    """The table as the schema is now. Only reads. Raises NotComparable."""
    row = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (chosen.name,)
    ).fetchone()
    if row is None:
        raise NotComparable(NO_SUCH_TABLE)
    (name,) = row
    columns = connection.execute(
        "SELECT name, pk, hidden, \"notnull\", type FROM pragma_table_xinfo(?, 'main')", (name,)
    ).fetchall()
    key = [(pk, column, not_null, declared) for column, pk, _, not_null, declared in columns if pk]
    if not key:
        raise NotComparable("the table has no primary key")
    ignored = {column.lower() for column in chosen.ignore}
    compared = sorted(
        column for column, pk, hidden, *_ in columns if not pk and hidden == _PLAIN and column.lower() not in ignored
    )
    table = session.tables.get(name) if session is not None else None
    counters = {column.lower() for column in (*chosen.counters, *(table.spec.counters if table else ()))}
    return Comparable(
        name=name,
        key=tuple(column for _, column, *_ in sorted(key)),
        columns=tuple(compared),
        counters=tuple(column for column in compared if column.lower() in counters),
        nullable=tuple(column for _, column, not_null, _ in sorted(key) if not not_null),
        table=table,
    )


def session_to_compare(connection: sqlite3.Connection, *, clocks: bool) -> Session | None:
    """The session of the transaction that was begun; None where nothing is attached, or clocks are not wanted."""
    if clocks:
        with suppress(NotAttached):
            return open_session(connection)
    return None


def is_unsettled(connection: sqlite3.Connection, session: Session) -> bool:
    """True if the schema changed since a fold looked at it: what is in the tables may not be in the log."""
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    return bool(version != session.schema)


def standing(
    table: Table, key: Key, row: Mapping[str, Value] | None, holding: Mapping[str, HeldCell]
) -> Mapping[str, Value] | None:
    """What stands for a row that is shown as `row`: held values take the place of what is shown instead of them.

    None if there is no such row. What somebody wrote over a held value stands for itself: the fold lets it win."""
    if held.ROW in holding:
        if row is not None:
            return row
        return _held_row(table, key, holding)
    if row is None or not holding:
        return row
    seed = key_seed(key)
    found = dict(row)
    for name, cell in holding.items():
        if name in row and cell.shown == cell_hash(row[name], seed):
            found[name] = cell.value
    return found


def _held_row(table: Table, key: Key, holding: Mapping[str, HeldCell]) -> Mapping[str, Value] | None:
    entry = table.entry_row(key)
    if entry is None:
        return None
    found = dict(table.defaults)
    found.update({name: cell.value for name, cell in holding.items() if name in table.spec.cells})
    sums = dict.fromkeys(table.spec.counters, 0)
    for number, _, value, _ in table.counts(key, cast("int", entry[0])):
        name = table.columns.names.get(cast("int", number))
        if name in sums:
            sums[name] += cast("int", value)
    found.update({name: saturated(total) for name, total in sums.items()})
    return found


def condition(columns: Sequence[str], operator: str, values: Sequence[str]) -> str:
    """An SQL comparison of whole keys."""
    if len(columns) == 1:
        return f"{columns[0]} {operator} {values[0]}"
    return f"({', '.join(columns)}) {operator} ({', '.join(values)})"
