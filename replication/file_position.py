"""How far a database file is, as any process can read it: for a program beside a node, which shares only the file.

The library that reads here is the standard one's SQLite, on a connection that stays open: closing a file that another
SQLite library of the same process has open would drop that one's locks."""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from replication.engine.stamps import Site, Stamp
from replication.epoch_position import EpochPosition

BUSY_TIMEOUT_S: Final = 1.0

_PLACE: Final = """
    SELECT own.site, own.clock, writer.epoch, writer.resetting, sites.head
    FROM main._litecast_one_writer AS writer, main._litecast_state AS own
    LEFT JOIN main._litecast_sites AS sites ON sites.site = writer.epoch AND sites.tips IS NULL
"""
_HEAD: Final = "SELECT head FROM main._litecast_sites WHERE site = ? AND tips IS NULL"
_CATALOGUE: Final = "SELECT tid FROM main._litecast_catalogue"


class FilePosition:
    """One database file. Any thread may ask; after a fork each process opens the file anew."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._opened: tuple[int, sqlite3.Connection] | None = None

    def now(self) -> EpochPosition | None:
        """Where whoever has all that is committed here by now has come: None where one node writes at a time, and none
        has yet, and in every other mode. Raises sqlite3.Error.

        What was written on the node that writes, and stands in no changeset yet, will be in the next one, whose stamp
        is later than the clock's."""
        with self._lock:
            connection = self._connection()
            if connection is None:
                return None
            place = _place(connection)
            if place is None or place[0] != place[2]:
                return None if place is None else EpochPosition.of(place[2], place[4])
            connection.execute("BEGIN")  # one snapshot: a fold between the two looks would hide what was written
            try:
                place = _place(connection)
                if place is None:
                    return None
                own, clock, epoch, _, head = place
                is_pending = own == epoch and _is_anything_logged(connection)
                return EpochPosition.of(epoch, Stamp(clock + 1) if is_pending else head)
            finally:
                connection.execute("COMMIT")

    def has_reached(self, position: EpochPosition) -> bool:
        """Whether all up to there can be read here. Raises sqlite3.Error.

        What is of an earlier epoch than the newest that is merged here is here, or was lost with it: nobody needs to
        wait for it."""
        with self._lock:
            connection = self._connection()
            place = None if connection is None else _place(connection)
        if place is None:
            return False
        _, _, epoch, is_resetting, head = place
        if is_resetting:
            return False
        here = EpochPosition.of(epoch, head)
        return here.epoch > position.epoch or (here.site == position.site and here.stamp >= position.stamp)

    def has_written(self, position: EpochPosition) -> bool | None:
        """Whether what was written up to there can be read here: False while it has not come yet, None if it never
        will, since its epoch was over before it was sent. For who acknowledges a write. Raises sqlite3.Error."""
        with self._lock:
            connection = self._connection()
            place = None if connection is None else _place(connection)
            if connection is None or place is None:
                return False
            row = connection.execute(_HEAD, (position.site,)).fetchone()
        if row is not None and row[0] is not None and row[0] >= position.stamp:
            return not place[3]
        return None if EpochPosition.of(place[2], place[4]).epoch > position.epoch else False

    def close(self) -> None:
        """Whoever asks again opens the file again."""
        with self._lock:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None

    def _connection(self) -> sqlite3.Connection | None:
        if self._opened is None or self._opened[0] != os.getpid():
            if not self._database.exists():
                return None
            uri = f"{self._database.absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._opened = (os.getpid(), connection)
        return self._opened[1]


def _place(connection: sqlite3.Connection) -> tuple[Site, int, Site, int, Stamp] | None:
    try:
        row = connection.execute(_PLACE).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # the database is attached for another mode, or not at all
            return None
        raise
    return None if row is None or row[2] is None or row[4] is None else row


def _is_anything_logged(connection: sqlite3.Connection) -> bool:
    logs = [f"EXISTS (SELECT 1 FROM main._litecast_log_{tid})" for (tid,) in connection.execute(_CATALOGUE)]
    return bool(logs) and bool(connection.execute(f"SELECT {' OR '.join(logs)}").fetchone()[0])
