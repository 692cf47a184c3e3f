"""What the application's own triggers write, and what follows for merging.

While a statement is prepared, SQLite asks the connection's authorizer about each write in it, and names the trigger
that the write stands in. So EXPLAIN of an INSERT, an UPDATE and a DELETE on a table tells what its triggers write,
without any of them running.

- A trigger that writes attached tables only, or nothing, stays off while a peer's changes are merged: what it did at
  the origin was captured there.
- A trigger that writes something else (a full-text index, a table that is not attached) is *local*: it has to run on
  every node. A table whose triggers are all local is merged with triggers on, and capture's own are gated.
- Anything between is a mixture, with which neither works. So is a trigger that writes a table which is not attached,
  whose own triggers write one that is.
"""

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerWrites:
    """What the application's triggers on one table write, and what follows from that. Tables' names in lower case."""

    direct: Mapping[str, frozenset[str]]
    """For each trigger on the table: the tables and views that stand in it."""
    onward: Mapping[str, frozenset[str]]
    """For each other table or view with triggers that these set off: what stands in them."""
    views: frozenset[str]

    def of(self, trigger: str, attached: Collection[str]) -> frozenset[str]:
        """The tables that a trigger on the table writes, also through triggers of tables that are not attached.

        What triggers of an attached table write is that table's affair: it is merged by itself.
        """
        found: set[str] = set()
        waiting = list(self.direct[trigger])
        while waiting:
            table = waiting.pop()
            if table not in found:
                found.add(table)
                if table not in attached:
                    waiting.extend(self.onward.get(table, ()))
        return frozenset(found - self.views)

    def classified(self, attached: Collection[str]) -> Triggers:
        """How the table is merged. `attached` names all attached tables."""
        written = [self.of(trigger, attached) for trigger in self.direct]
        if all(tables.issubset(attached) for tables in written):
            return Triggers.OFF
        local = all(tables and tables.isdisjoint(attached) for tables in written)
        return Triggers.LOCAL if local else Triggers.MIXED


def written_by_triggers(connection: sqlite3.Connection, table: str, columns: Collection[str]) -> TriggerWrites:
    """What the application's triggers on `table` write.

    `columns` are the table's, without generated ones. Runs nothing and changes nothing; the connection's authorizer is
    removed. Raises sqlite3.OperationalError if a write to the table cannot be prepared here: it, or a trigger, uses a
    function, a collation or a table that is not there.
    """
    on = {
        name: target.lower()
        for name, target in connection.execute("SELECT name, tbl_name FROM main.sqlite_master WHERE type = 'trigger'")
        if not name.lower().startswith(OURS)
    }
    views = connection.execute("SELECT lower(name) FROM main.sqlite_master WHERE type = 'view'").fetchall()
    written: dict[str, set[str]] = {name: set() for name, target in on.items() if target == table.lower()}

    def note(action: int, target: str | None, _: str | None, database: str | None, trigger: str | None) -> int:
        if action in _WRITES and target and trigger and trigger in on and not target.startswith("sqlite_"):
            written.setdefault(trigger, set()).add(target.lower())
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
    onward: dict[str, set[str]] = {}
    for name, tables in written.items():
        if on[name] != table.lower():
            onward.setdefault(on[name], set()).update(tables)
    return TriggerWrites(
        direct={name: frozenset(tables) for name, tables in written.items() if on[name] == table.lower()},
        onward={target: frozenset(tables) for target, tables in onward.items()},
        views=frozenset(name for (name,) in views),
    )


def _every_write(table: str, columns: Collection[str]) -> tuple[str, ...]:
    changes = ", ".join(f"{quoted(column)} = {quoted(column)}" for column in columns)
    name = f"main.{quoted(table)}"
    return (f"INSERT INTO {name} DEFAULT VALUES", f"UPDATE {name} SET {changes}", f"DELETE FROM {name}")
