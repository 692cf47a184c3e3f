"""One row by its key, read in the caller's own thread.

The promise of SQLite beside the application is a read in microseconds; a hop to a thread costs ten times the read. So
point reads have a connection of their own that lives in the event loop's thread and never waits: a read by primary key
touches a handful of pages, WAL readers are blocked by nobody, and where SQLite is busy after all (recovery after a
crash) the caller goes the long way.
"""

import sqlite3
from typing import Any

from replication.opening import Settings, open_reader
from replication.rows import Key, Row
from replication.tables import Tables
from replication.translation import SQLITE_ERRORS, translated


class PointReader:
    """A connection for reads by key. Opened, used and closed in one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = open_reader(settings)
        self._connection.execute("PRAGMA busy_timeout = 0")  # never wait in the event loop
        self._tables = Tables()

    def forget(self) -> None:
        """The schema has changed."""
        self._tables.forget()

    def get(self, table: str, key: Key) -> Row | None:
        """The row, or None. Raises NoSuchTable, WrongKey, and DatabaseBusy at once instead of waiting.

        A column that another process added or renamed is seen at once: SQLite compiles `SELECT *` anew when the schema
        has changed, and the names are those that came with the row.
        """
        try:
            return self._get(table, key)
        except sqlite3.OperationalError:
            # Most likely the key was renamed or the table is gone since it was looked up: once more, with a fresh look.
            self._tables.forget()
        except SQLITE_ERRORS as error:
            raise self._translated(error, table) from error
        try:
            return self._get(table, key)
        except SQLITE_ERRORS as error:
            raise self._translated(error, table) from error

    def close(self) -> None:
        self._connection.close()

    def _get(self, table: str, key: Key) -> Row | None:
        known = self._tables.of(self._connection, table)
        cursor = self._connection.execute(known.select, known.key_values(key))
        values: tuple[Any, ...] | None = cursor.fetchone()
        if values is None:
            return None
        return Row(table, zip([column[0] for column in cursor.description], values, strict=True))

    def _translated(self, error: Exception, table: str) -> Exception:
        return translated(error, path=self._settings.path, busy_timeout_s=0, table=table)
