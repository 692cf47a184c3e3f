"""What the application's own triggers write, and what follows for merging.

While a statement is prepared, SQLite asks the connection's authorizer about each write in it, and names the trigger
that the write stands in. So EXPLAIN of an INSERT, an UPDATE and a DELETE on a table tells what its triggers write,
without any of them running.

- A trigger that writes attached tables only, or nothing, stays off while a peer's changes are merged: what it did at
  the origin was captured there.
- A trigger that writes something else (a full-text index, a table that is not attached) is *local*: it has to run on
  every node. A table whose triggers are all local is merged with triggers on, and capture's own are gated.
- Anything between is a mixture, with which neither works.
"""

import sqlite3
from collections.abc import Collection, Mapping
from enum import Enum

from replication.engine.catalogue import OURS
from replication.tables import quoted

_TRIGGERS = sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER
_WRITES = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


class Triggers(Enum):
    """How a table with these triggers is merged."""

    OFF = "off"
    LOCAL = "local"
    MIXED = "mixed"


def written_by_triggers(
    connection: sqlite3.Connection, table: str, columns: Collection[str]
) -> Mapping[str, frozenset[str]]:
    """For each trigger of the application's on `table`: the tables that it writes, in lower case.

    `columns` are the table's, without generated ones. Runs nothing and changes nothing; the connection's authorizer is
    removed. Raises sqlite3.OperationalError if a write to the table cannot be prepared here: it, or a trigger, uses a
    function, a collation or a table that is not there.
    """
    names = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE", (table,)
        )
        if not name.lower().startswith(OURS)
    ]
    written: dict[str, set[str]] = {name: set() for name in names}

    def note(action: int, target: str | None, _: str | None, database: str | None, trigger: str | None) -> int:
        if action in _WRITES and trigger in written and target is not None and not target.startswith("sqlite_"):
            written[trigger].add(target.lower())
        return sqlite3.SQLITE_OK

    enabled = connection.getconfig(_TRIGGERS)  # a merge switches triggers off, and then nothing of them is prepared
    connection.set_authorizer(note)
    try:
        connection.setconfig(_TRIGGERS, True)
        for statement in _every_write(table, columns):
            connection.execute(f"EXPLAIN {statement}").close()
    finally:
        connection.setconfig(_TRIGGERS, enabled)
        connection.set_authorizer(None)
    return {name: frozenset(tables) for name, tables in written.items()}


def classified(written: Mapping[str, frozenset[str]], attached: Collection[str]) -> Triggers:
    """How a table whose triggers write this is merged. `attached` names all attached tables, in lower case."""
    local = [name for name, tables in written.items() if tables and tables.isdisjoint(attached)]
    captured = [name for name, tables in written.items() if tables.issubset(attached)]
    if len(captured) == len(written):
        return Triggers.OFF
    return Triggers.LOCAL if len(local) == len(written) else Triggers.MIXED


def _every_write(table: str, columns: Collection[str]) -> tuple[str, ...]:
    changes = ", ".join(f"{quoted(column)} = {quoted(column)}" for column in columns)
    name = f"main.{quoted(table)}"
    return (f"INSERT INTO {name} DEFAULT VALUES", f"UPDATE {name} SET {changes}", f"DELETE FROM {name}")
