"""What makes commits durable, outside the write lock.

The engine commits with `synchronous=NORMAL`, which survives kill -9 but not a power cut, and then syncs the write-ahead
log's file itself: an fsync of a file in which SQLite has no locks, so that closing it drops none. Measured against
`wal_checkpoint(PASSIVE)`: about the same time when little is in the log, and it does not grow with what is."""

import os
import sqlite3
from pathlib import Path
from typing import Protocol


class Barrier(Protocol):
    """Makes everything committed so far durable."""

    def __call__(self, connection: sqlite3.Connection, /) -> None: ...


class WalBarrier:
    """For a database file in WAL mode."""

    def __init__(self, database: Path) -> None:
        self._wal = database.with_name(f"{database.name}-wal")

    def __call__(self, connection: sqlite3.Connection, /) -> None:
        """Raises OSError if the disk fails."""
        try:
            descriptor = os.open(self._wal, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # Not in WAL mode: somebody changed it. Then a commit of a connection with synchronous=NORMAL was synced.
            return
        try:
            if hasattr(os, "fdatasync"):
                os.fdatasync(descriptor)
            else:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
