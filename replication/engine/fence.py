"""Where one node writes at a time: who that is, in the file itself, so that any process sees it.

On every other node the attached tables are *fenced*: triggers make each write to one of their rows fail, in SQLite
itself, with a message that says where to write. They are there only while they are needed, so that they cost the node
that writes nothing. Reads are untouched, and so is what merging writes, with triggers off or the gate of `capture` up.

The message is a literal in the trigger, which is made again when it changes. Schema changes and tables that are not
attached cannot be fenced. One row of `_litecast_one_writer` says what the fence should be, and its being there says for
what the tables are attached. Every library that opens the file parses this: only what SQLite 3.35 understands."""

import sqlite3

from replication.engine import catalogue
from replication.engine.capture import MERGING
from replication.engine.catalogue import ONE_WRITER, OURS, TableSpec
from replication.tables import quoted

_EVENTS = ("insert", "update", "delete")


def create(connection: sqlite3.Connection) -> None:
    """Makes the table, with no fence up. Inside a transaction."""
    connection.execute(
        f"CREATE TABLE {ONE_WRITER} (id INTEGER PRIMARY KEY CHECK (id = 1), fence TEXT, epoch TEXT, began BLOB,"
        " resetting INTEGER NOT NULL DEFAULT 0)"
    )
    connection.execute(f"INSERT INTO main.{ONE_WRITER} (id) VALUES (1)")


def raise_fence(connection: sqlite3.Connection, message: str) -> None:
    """From now on a write to an attached table fails, and says `message`. Inside a transaction."""
    connection.execute(f"UPDATE main.{ONE_WRITER} SET fence = ?", (message,))
    mend(connection)


def lift_fence(connection: sqlite3.Connection) -> None:
    """Anybody may write again. Inside a transaction."""
    connection.execute(f"UPDATE main.{ONE_WRITER} SET fence = NULL")
    mend(connection)


def fence(connection: sqlite3.Connection) -> str | None:
    """What the fence says; None if there is none."""
    if not catalogue.is_one_writer(connection):
        return None
    (message,) = connection.execute(f"SELECT fence FROM main.{ONE_WRITER}").fetchone()
    return None if message is None else str(message)


def mend(connection: sqlite3.Connection) -> None:
    """Makes the triggers what they should be: after a table came, was rebuilt, or renamed. Inside a transaction."""
    if not catalogue.is_one_writer(connection):
        return
    message = fence(connection)
    for spec in catalogue.load(connection).values():
        wanted = {} if message is None or spec.name.startswith(OURS) else _triggers(spec, message)
        found = dict(
            connection.execute(
                "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE",
                (spec.name,),
            ).fetchall()
        )
        for name in names(spec.tid):
            # A renamed table's triggers are rewritten by SQLite: what they say is looked at, not how.
            if name in found and (name not in wanted or _literal(str(message)) not in found[name]):
                connection.execute(f"DROP TRIGGER main.{name}")
                del found[name]
            if name in wanted and name not in found:
                connection.execute(wanted[name])


def names(tid: int) -> tuple[str, ...]:
    """The names of the triggers of the table with this number."""
    return tuple(f"{OURS}_{tid}_fence_{event}" for event in _EVENTS)


def drop_statements(tid: int) -> list[str]:
    """What drops them, those of them that are there."""
    return [f"DROP TRIGGER IF EXISTS main.{name}" for name in names(tid)]


def _triggers(spec: TableSpec, message: str) -> dict[str, str]:
    return {
        name: f"CREATE TRIGGER {name} BEFORE {event.upper()} ON {quoted(spec.name)}"
        f" WHEN NOT EXISTS (SELECT 1 FROM {MERGING}) BEGIN SELECT RAISE(ABORT, {_literal(message)}); END"
        for name, event in zip(names(spec.tid), _EVENTS, strict=True)
    }


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
