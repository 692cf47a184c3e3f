"""The database that `litecast attach` and `litecast detach` name: opened as it is, never created."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replication.errors import DatabasePathError
from replication.translation import SQLITE_ERRORS, translated

BUSY_TIMEOUT_S = 5.0
"""How long the write lock is waited for."""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the database at `path`. What SQLite raises meanwhile becomes a DatabaseError with a remedy.

    Raises DatabasePathError if there is no such file.
    """
    if not path.is_file():
        problem = "is a directory" if path.is_dir() else "does not exist"
        raise DatabasePathError(path, problem, "name the database file that the application uses")
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()
    except SQLITE_ERRORS as error:
        raise translated(error, path=path, busy_timeout_s=BUSY_TIMEOUT_S) from error
