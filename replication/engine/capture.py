"""The SQL that notes, in the writer's own transaction, which keys it wrote.

Triggers append (kind, key) to the table's log, and nothing else: no clock, no time, no comparison of columns, no state
of ours is read. So they cost the same however many columns the table has, and go on working when columns are added,
renamed or dropped, or when the table is renamed. What changed is found out later, by the fold. Rolled back, they leave
nothing.

| what the application does | what the log gets |
|---|---|
| INSERT | INSERT |
| INSERT that meets a row with its key: OR REPLACE | BEFORE, (DELETE, if recursive_triggers is on), INSERT |
| the same: ON CONFLICT DO UPDATE | BEFORE, UPDATE |
| the same: OR IGNORE, ON CONFLICT DO NOTHING | BEFORE |
| UPDATE | UPDATE |
| UPDATE of the key | UPDATE of the new key, UPDATE of the old key |
| UPDATE OR REPLACE of the key, onto another row's | BEFORE, (DELETE), UPDATE of the new key, UPDATE of the old key |
| DELETE | DELETE |

Where one node writes at a time a table may have UNIQUE indexes beside its key. A statement that meets a row that is
equal on one of them may replace it, under whatever key, and no trigger of that row's would tell: so its key is noted,
BEFORE, by two triggers more.

BEFORE is there for lives: a REPLACE leaves the row the life it has, while DELETE and INSERT begin a new one; with
recursive_triggers on, only BEFORE tells the two apart.

`changes()` and `last_insert_rowid()` are, after the statement, what the application expects; `total_changes()` counts
ours too. Every library that opens the file parses this: only what SQLite 3.35 understands.
"""

import hashlib
import sqlite3
from enum import IntEnum

from replication.engine.catalogue import OURS, TableSpec
from replication.engine.uniques import UniqueIndex
from replication.tables import quoted

MERGING = "_litecast_merging"
"""Holds a row while a merge writes tables with local triggers: the gate of their capture triggers."""

CREATE_MERGING = f"CREATE TABLE {MERGING} (id INTEGER PRIMARY KEY)"

_WHATS = ("before_insert", "insert", "before_key", "update", "key", "delete")
_UNIQUE_WHATS = ("unique_insert", "unique_update")
"""There only where the table has UNIQUE indexes to be looked at."""


class LogKind(IntEnum):
    """What a log entry says of its key."""

    BEFORE = 0
    """A statement is about to write a key that a row has: it may be replaced."""
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    AGAIN = 4
    """Not by a trigger: a merge found that the row's delete has to be told again. See `again`."""


def create_statements(spec: TableSpec) -> list[str]:
    """What makes the log, clock and count tables of a table, and its triggers."""
    keys = ", ".join(spec.key_names)
    clock = f"{keys}, life INTEGER, stamp INTEGER, site INTEGER, cells BLOB, PRIMARY KEY ({keys})"
    count = f"{keys}, counter INTEGER, life INTEGER, site INTEGER, value INTEGER, stamp INTEGER"
    return [
        f"CREATE TABLE {spec.log} (seq INTEGER PRIMARY KEY, kind INTEGER, {keys})",
        f"CREATE TABLE {spec.clock} ({clock}) WITHOUT ROWID",
        f"CREATE TABLE {spec.count} ({count}, PRIMARY KEY ({keys}, counter, life, site)) WITHOUT ROWID",
        *trigger_statements(spec),
    ]


def drop_statements(tid: int) -> list[str]:
    """What leaves nothing of the capture of a table with this number, whatever of it is still there."""
    tables = (f"{OURS}_{what}_{tid}" for what in ("log", "clock", "count"))
    return [*drop_trigger_statements(tid), *(f"DROP TABLE IF EXISTS main.{table}" for table in tables)]


def trigger_statements(spec: TableSpec) -> list[str]:
    """What makes a table's triggers."""
    return [
        _trigger(spec, "before_insert", "BEFORE INSERT", LogKind.BEFORE, "new", when=_row_has_new_key(spec)),
        _trigger(spec, "insert", "AFTER INSERT", LogKind.INSERT, "new"),
        _trigger(
            spec,
            "before_key",
            f"BEFORE UPDATE{_of_key(spec)}",
            LogKind.BEFORE,
            "new",
            when=f"({_key_changes(spec)}) AND {_row_has_new_key(spec)}",
        ),
        _trigger(spec, "update", "AFTER UPDATE", LogKind.UPDATE, "new"),
        _trigger(
            spec,
            "key",
            f"AFTER UPDATE{_of_key(spec)}",
            LogKind.UPDATE,
            "old",
            when=_key_changes(spec),
        ),
        _trigger(spec, "delete", "AFTER DELETE", LogKind.DELETE, "old"),
        *_unique_triggers(spec),
    ]


def drop_trigger_statements(tid: int) -> list[str]:
    """What drops a table's triggers, those of them that are there."""
    return [f"DROP TRIGGER IF EXISTS main.{name}" for name in trigger_names(tid)]


def trigger_names(tid: int) -> tuple[str, ...]:
    """The names of the triggers of the table with this number."""
    return tuple(f"{OURS}_{tid}_{what}" for what in (*_WHATS, *_UNIQUE_WHATS))


def is_complete(connection: sqlite3.Connection, spec: TableSpec) -> bool:
    """Whether all of a table's triggers are there and work, on that table, gated if and only if they should be."""
    names = trigger_names(spec.tid)
    found = connection.execute(
        "SELECT name, tbl_name, sql FROM main.sqlite_master"
        f" WHERE type = 'trigger' AND name IN ({', '.join('?' * len(names))})",
        names,
    ).fetchall()
    wanted = len(_WHATS) + (len(_UNIQUE_WHATS) if spec.uniques else 0)
    return len(found) == wanted and all(
        table.lower() == spec.name.lower()
        and (MERGING in sql) == spec.local_triggers
        and ("_before_" not in name or _reads_from(sql, table))
        and ("_unique_" not in name or (_signature(spec.uniques) in sql and _reads_from(sql, table)))
        for name, table, sql in found
    )


def _reads_from(sql: str, table: str) -> bool:
    # As we write a name, or as SQLite does. Under legacy_alter_table a rename leaves the old one, and inserts fail.
    doubled = table.replace('"', '""')
    return f"FROM {quoted(table)} WHERE" in sql or f'FROM "{doubled}" WHERE' in sql


def _trigger(spec: TableSpec, what: str, event: str, kind: LogKind, row: str, *, when: str = "") -> str:
    conditions = [f"NOT EXISTS (SELECT 1 FROM {MERGING})"] if spec.local_triggers else []
    conditions += [when] if when else []
    guard = f" WHEN {' AND '.join(conditions)}" if conditions else ""
    names = ", ".join(spec.key_names)
    values = ", ".join(f"{row}.{quoted(column)}" for column in spec.key)
    return (
        f"CREATE TRIGGER {OURS}_{spec.tid}_{what} {event} ON {quoted(spec.name)}{guard}"
        f" BEGIN INSERT INTO {spec.log} (kind, {names}) VALUES ({kind.value}, {values}); END"
    )


def _unique_triggers(spec: TableSpec) -> list[str]:
    """Those that note the keys of rows that a statement may replace. They bear a mark of what they look at: where the
    indexes have changed they are made again."""
    if not spec.uniques:
        return []
    gate = f" WHEN NOT EXISTS (SELECT 1 FROM {MERGING})" if spec.local_triggers else ""
    names = ", ".join(spec.key_names)
    key = ", ".join(map(quoted, spec.key))
    notes = "".join(
        f" INSERT INTO {spec.log} (kind, {names}) SELECT {LogKind.BEFORE.value}, {key} FROM {quoted(spec.name)}"
        f" WHERE {_is_equal_on(index)};"
        for index in spec.uniques
    )
    body = f"{gate} BEGIN /* {_signature(spec.uniques)} */{notes} END"
    table = quoted(spec.name)
    return [
        f"CREATE TRIGGER {OURS}_{spec.tid}_unique_insert BEFORE INSERT ON {table}{body}",
        f"CREATE TRIGGER {OURS}_{spec.tid}_unique_update BEFORE UPDATE{_of_uniques(spec)} ON {table}{body}",
    ]


def _of_uniques(spec: TableSpec) -> str:
    if any(one.is_computed for one in spec.uniques):
        return ""
    columns = dict.fromkeys(name for one in spec.uniques for name in one.columns)
    return f" OF {', '.join(map(quoted, columns))}"


def _is_equal_on(index: UniqueIndex) -> str:
    return " AND ".join(
        f"{quoted(column)} = new.{quoted(column)} COLLATE {quoted(collation)}"
        for column, collation in zip(index.columns, index.collations, strict=True)
    )


def _signature(indexes: tuple[UniqueIndex, ...]) -> str:
    looked_at = sorted((one.columns, one.collations) for one in indexes)
    return "uniques " + hashlib.sha256(repr(looked_at).encode()).hexdigest()[:16]


def _of_key(spec: TableSpec) -> str:
    # Spares updates of other columns the comparison. But SET rowid = 9 is none OF id to SQLite.
    return "" if spec.rowid_is_key else f" OF {', '.join(quoted(column) for column in spec.key)}"


def _key_changes(spec: TableSpec) -> str:
    return " OR ".join(f"new.{quoted(column)} IS NOT old.{quoted(column)}" for column in spec.key)


def _row_has_new_key(spec: TableSpec) -> str:
    same = " AND ".join(f"{quoted(column)} = new.{quoted(column)}" for column in spec.key)
    return f"EXISTS (SELECT 1 FROM {quoted(spec.name)} WHERE {same})"
