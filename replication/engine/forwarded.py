"""Which forwarded writes were carried out, and what came of each: kept by the write itself.

A node that forwards a write gives it a key, and sends the same key when it has to send the write again. The primary
stores the key in the transaction of the write, in a table that is attached like any other: so it commits with the
write, reaches every node with it, and is lost with it if the write is lost with its epoch. Who has the write therefore
has its key, also the next primary."""

import sqlite3
from typing import Final

from replication.engine import capture, catalogue
from replication.engine.catalogue import MergeRule

TABLE: Final = "_litecast_forwarded"
_CREATE: Final = f"CREATE TABLE {TABLE} (key TEXT PRIMARY KEY NOT NULL, outcome BLOB NOT NULL) WITHOUT ROWID"


def create(connection: sqlite3.Connection) -> None:
    """Makes the table and attaches it. Inside a transaction."""
    connection.execute(_CREATE)
    spec = catalogue.add(connection, name=TABLE, counters=(), rule=MergeRule.ROW)
    for statement in capture.create_statements(spec):
        connection.execute(statement)


def outcome(connection: sqlite3.Connection, key: str) -> bytes | None:
    """What came of the write with this key; None if it was not carried out."""
    row = connection.execute(f"SELECT outcome FROM main.{TABLE} WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def note(connection: sqlite3.Connection, key: str, found: bytes, *, forget_before: str) -> None:
    """Notes what came of a write, in its transaction, and forgets those with smaller keys than that. Keys begin with
    the time at which they were made."""
    connection.execute(f"INSERT INTO main.{TABLE} (key, outcome) VALUES (?, ?)", (key, found))
    connection.execute(f"DELETE FROM main.{TABLE} WHERE key < ?", (forget_before,))
