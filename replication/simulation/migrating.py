"""Migrations of the simulated applications: each machine runs them by itself, in order, each at a moment of its own.

How many a database has behind it stands in the database itself (`user_version`), so that an older copy that is put back
has them to run again. The application knows which version it writes by looking."""

import sqlite3
from typing import Final

_REBUILT_OPS: Final = (
    """CREATE TABLE new_ops (
        op TEXT PRIMARY KEY NOT NULL, page TEXT, delta INTEGER NOT NULL DEFAULT 0, memo TEXT DEFAULT 'none',
        tone TEXT NOT NULL)""",
    "INSERT INTO new_ops SELECT op, page, delta, memo, 'low' FROM ops",
    "DROP TABLE ops",
    "ALTER TABLE new_ops RENAME TO ops",
)
_REBUILT_NOTES: Final = (
    """CREATE TABLE new_notes (
        id TEXT PRIMARY KEY NOT NULL, by TEXT, low INTEGER, high INTEGER, n INTEGER NOT NULL DEFAULT 0,
        CHECK (low <= high))""",
    "INSERT INTO new_notes (id, by, low, high, n) SELECT id, by, low, high, n FROM notes",
    "DROP TABLE notes",
    "ALTER TABLE new_notes RENAME TO notes",
    "CREATE INDEX by_by ON notes (by)",
)
MIGRATIONS: Final = (
    ("ALTER TABLE ops ADD COLUMN memo TEXT DEFAULT 'none'",),
    _REBUILT_OPS,
    _REBUILT_NOTES,
)
"""A column with a default; one without, by a tool that rebuilds the table, so that capture is gone; and columns in
another order, with an index."""

TONED: Final = 2
"""From this version on, who inserts an op has to give it a tone: the database does not."""


def version(connection: sqlite3.Connection) -> int:
    """How many migrations the database has behind it."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def migrate(connection: sqlite3.Connection, *, most: int = len(MIGRATIONS)) -> int:
    """Runs the next ones, so many at most, each in a transaction. Gives how many. Raises sqlite3.Error."""
    connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1")  # it may know a schema that was since put back
    begun = version(connection)
    todo = range(begun, min(len(MIGRATIONS), begun + most))
    for number in todo:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in (*MIGRATIONS[number], f"PRAGMA user_version = {number + 1}", "COMMIT"):
                connection.execute(statement)
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return len(todo)
