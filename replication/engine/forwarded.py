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
_CREATE: Final = (
    f"CREATE TABLE {TABLE} (key TEXT PRIMARY KEY NOT NULL, at INTEGER NOT NULL, outcome BLOB NOT NULL) WITHOUT ROWID",
    f"CREATE INDEX {TABLE}_at ON {TABLE} (at)",
)
"""`at`: milliseconds since 1970, by the clock of the node that carried it out."""


def create(connection: sqlite3.Connection) -> None:
    """Makes the table and attaches it. Inside a transaction."""
    for statement in _CREATE:
        connection.execute(statement)
    spec = catalogue.add(connection, name=TABLE, counters=(), rule=MergeRule.ROW)
    for statement in capture.create_statements(spec):
        connection.execute(statement)
