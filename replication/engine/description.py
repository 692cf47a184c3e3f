"""What a database says of a table that is to be attached: everything that `refusals` decides upon."""

import sqlite3
from dataclasses import dataclass
from enum import Enum

from replication.engine import create_table
from replication.engine.application_triggers import TriggerWrites, written_by_triggers
from replication.engine.catalogue import OURS
from replication.engine.uniques import UniqueIndex, index_columns, uniques
from replication.tables import quoted

COUNTER_LIMIT = 2**53
"""A site's contribution to a counter stays within plus and minus this."""

_GENERATED = (2, 3)  # pragma_table_xinfo's `hidden`: virtual and stored
_TABLE_LIST_SINCE = (3, 37)


class TableKind(Enum):
    """What a name stands for."""

    TABLE = "table"
    MISSING = "missing"
    VIEW = "view"
    VIRTUAL = "virtual table"
    SHADOW = "shadow table"
    SYSTEM = "table of SQLite's own"
    OURS = "table of Litecast's own"
    ELSEWHERE = "table of another database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    not_null: bool
    key_position: int
    """From 1; 0 if it is not part of the primary key."""
    generated: bool
    collation: str
    """In upper case; of a column of the key that which the key's index uses, if it differs from BINARY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One table. Where it is not a plain table, all but the first two fields are empty."""

    name: str
    """As the schema spells it."""
    kind: TableKind
    columns: tuple[Column, ...] = ()
    rowid_is_key: bool = False
    """The key is the rowid: SQLite hands out a number to each row that is inserted without one."""
    uniques: tuple[UniqueIndex, ...] = ()
    checks: tuple[frozenset[str], ...] = ()
    """The columns that each CHECK mentions, in lower case."""
    triggers: TriggerWrites | None = None
    """What the application's triggers write; None if that could not be told."""
    unpreparable: str = ""
    """Why SQLite could not even prepare a write to the table."""

    def column(self, name: str) -> Column | None:
        """The column of this name, however it is spelt."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)


def describe(connection: sqlite3.Connection, name: str) -> Described:
    """What there is to say of the table `name`. Only reads; removes the connection's authorizer."""
    row = connection.execute(
        "SELECT name, type, sql FROM main.sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
        (name,),
    ).fetchone()
    if row is None:
        return Described(name=name, kind=_kind_of_unknown(connection, name))
    spelt, type_, sql = row
    kind = _kind(connection, spelt, type_, sql or "")
    if kind is not TableKind.TABLE:
        return Described(name=spelt, kind=kind)
    return _described(connection, spelt, sql)


def count_unusable(connection: sqlite3.Connection, table: str, counter: str) -> int:
    """How many rows hold something in `counter` that is no integer, or one beyond the limit."""
    column = quoted(counter)
    (count,) = connection.execute(
        f"SELECT count(*) FROM main.{quoted(table)} WHERE typeof({column}) <> 'integer'"
        f" OR {column} NOT BETWEEN -{COUNTER_LIMIT} AND {COUNTER_LIMIT}"
    ).fetchone()
    return int(count)


def _kind_of_unknown(connection: sqlite3.Connection, name: str) -> TableKind:
    if name.lower().startswith("sqlite_"):
        return TableKind.SYSTEM
    if name.lower().startswith(OURS):
        return TableKind.OURS
    databases = [database for _, database, _ in connection.execute("PRAGMA database_list") if database != "main"]
    for database in databases:
        found = connection.execute(
            f"SELECT 1 FROM {quoted(database)}.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (name,)
        ).fetchone()
        if found is not None:
            return TableKind.ELSEWHERE
    return TableKind.MISSING


def _kind(connection: sqlite3.Connection, name: str, type_: str, sql: str) -> TableKind:
    if name.lower().startswith(OURS):
        return TableKind.OURS
    if name.lower().startswith("sqlite_"):
        return TableKind.SYSTEM
    if type_ == "view":
        return TableKind.VIEW
    if sql[: len("CREATE VIRTUAL")].upper() == "CREATE VIRTUAL":
        return TableKind.VIRTUAL
    return TableKind.SHADOW if _is_shadow(connection, name) else TableKind.TABLE


def _is_shadow(connection: sqlite3.Connection, name: str) -> bool:
    if sqlite3.sqlite_version_info >= _TABLE_LIST_SINCE:
        found = connection.execute(
            "SELECT type = 'shadow' FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
        ).fetchone()
        if found is not None and found[0]:
            return True
    # Older libraries cannot tell, and others only where the module of the virtual table is there.
    return bool(
        connection.execute(
            "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL%'"
            " AND substr(?, 1, length(name) + 1) = name || '_'",
            (name,),
        ).fetchone()
    )


def _described(connection: sqlite3.Connection, name: str, sql: str) -> Described:
    rows = connection.execute(
        "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?, 'main')", (name,)
    ).fetchall()
    definition = create_table.read(sql, [row[0] for row in rows])
    indexes = connection.execute(
        "SELECT name, \"unique\", origin FROM pragma_index_list(?, 'main')", (name,)
    ).fetchall()
    key_collations = {
        column.lower(): collation
        for index, _, origin in indexes
        if origin == "pk"
        for column, collation in index_columns(connection, index)
        if collation != "BINARY"
    }
    key = {row[0].lower() for row in rows if row[3]}
    columns = tuple(
        Column(
            name=column,
            type=type_,
            not_null=bool(not_null),
            key_position=pk,
            generated=hidden in _GENERATED,
            collation=key_collations.get(column.lower()) or definition.collations.get(column.lower(), "BINARY"),
        )
        for column, type_, not_null, pk, hidden in rows
    )
    triggers: TriggerWrites | None = None
    unpreparable = ""
    try:
        plain = [column.name for column in columns if not column.generated]
        triggers = written_by_triggers(connection, name, plain)
    except sqlite3.OperationalError as error:
        unpreparable = str(error)
    return Described(
        name=name,
        kind=TableKind.TABLE,
        columns=columns,
        rowid_is_key=bool(key) and all(origin != "pk" for _, _, origin in indexes),
        uniques=uniques(connection, name, key),
        checks=definition.checks,
        triggers=triggers,
        unpreparable=unpreparable,
    )
