"""The disk of one simulated node: one SQLite database in memory, and what a power cut does to it.

The database is real, and several connections have it open at once, as processes have a file. But each is used inline:
no transaction is open when somebody else's turn comes, so nobody ever waits for a lock unless the disk says so.

Durability is as in WAL mode with `synchronous=NORMAL`: a commit survives the death of its process, and it survives a
power cut only if a barrier came after it. What a power cut leaves is the database as it was at the last barrier or
after any later commit, for a write-ahead log is good up to some point. A connection with `full=True` commits with
`synchronous=FULL`: each commit is a barrier.

A copy of the database (`image`) is what a backup has. The files beside it, in `files`, are on the same disk and durable
at once, and do not travel with it.
"""

import errno
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Final, Self, override

IMAGES_MAX: Final = 12
"""So many states since the last barrier are kept to choose from."""
OF_THE_DISK: Final = "of_the_disk"
"""An attribute of every error that a trouble raises."""
BARRIER: Final = "(a barrier)"
"""What a trouble is called with in place of a statement, when a barrier is asked for."""


class Connection(sqlite3.Connection):
    """A connection that tells its disk of commits, and meets with the disk's troubles."""

    disk: "Disk"
    full: bool

    @override
    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        disk = self.disk
        if disk.trouble is not None:
            disk.trouble(sql)
        cursor = super().execute(sql, parameters)
        if not self.in_transaction:
            disk.look(full=self.full)
        return cursor

    @override
    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        cursor = super().executemany(sql, parameters)
        if not self.in_transaction:
            self.disk.look(full=self.full)
        return cursor


class Disk:
    """See the module. `image`: a database to begin with."""

    def __init__(self, image: bytes | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.trouble: Callable[[str], None] | None = None
        """Called with each statement before it is run; raises what the disk would make SQLite raise."""
        self.committed: Callable[[], None] = lambda: None
        """Called after each commit that changed anything."""
        self.commits = 0
        self._number = 0
        self._connections: list[Connection] = []
        self._keeper = self._new(image)
        self._version = self._data_version()
        self._durable = self._keeper.serialize()
        self._images: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything."""
        self._pull()
        self._keeper.close()

    # --- connections ---

    def connect(self, *, full: bool = False) -> Connection:
        """A connection in autocommit mode that waits for no lock."""
        connection = sqlite3.connect(
            self._uri(), uri=True, isolation_level=None, timeout=0, factory=Connection, cached_statements=512
        )
        connection.disk, connection.full = self, full
        self._connections.append(connection)
        return connection

    def _uri(self) -> str:
        return f"file:/{id(self):x}-{self._number}?vfs=memdb"

    def _new(self, image: bytes | None) -> sqlite3.Connection:
        """A database that nobody else has open, in place of the one before."""
        self._number += 1
        keeper = sqlite3.connect(self._uri(), uri=True, isolation_level=None, timeout=0)
        if image is not None:
            _write(image, keeper)
        else:
            keeper.execute("PRAGMA user_version = 0")  # a page to be serialized
        return keeper

    # --- commits ---

    def look(self, *, full: bool) -> None:
        """A statement has run outside a transaction, or ended one."""
        version = self._data_version()
        if version == self._version:
            return
        self._version = version
        self.commits += 1
        if full and self.trouble is not unsyncable:
            self._images.clear()
            self._durable = self._keeper.serialize()
        else:
            if len(self._images) == IMAGES_MAX:
                del self._images[0]
            self._images.append(self._keeper.serialize())
        self.committed()

    def _data_version(self) -> int:
        (version,) = self._keeper.execute("PRAGMA data_version").fetchone()
        return int(version)

    def barrier(self, _connection: sqlite3.Connection | None = None) -> None:
        """Everything committed so far is durable. Raises OSError if the disk is in that trouble."""
        if self.trouble is not None:
            self.trouble(BARRIER)
        if self._images:
            self._durable = self._images[-1]
            self._images.clear()

    @property
    def at_risk(self) -> int:
        """States that a power cut now could leave, beside the newest."""
        return len(self._images)

    # --- what can happen to it ---

    def image(self) -> bytes:
        """The database as it is now: a backup."""
        return self._keeper.serialize()

    def kill(self) -> None:
        """The processes that had it open are gone. What was committed is there."""
        self._pull()

    def power_cut(self, random: Random) -> bool:
        """What was not durable is gone, or a part of it. True if anything is."""
        self._pull()
        states = [self._durable, *self._images]
        if len(states) == 1:
            return False
        chosen = 0 if random.random() < 0.5 else random.randrange(len(states))
        self._put(states[chosen])
        return chosen < len(states) - 1

    def replace(self, image: bytes) -> None:
        """Another database in its place, while nobody has it open."""
        self._pull()
        self._put(image)

    def overwrite(self, image: bytes) -> None:
        """Another database in its place, under whoever has it open: a restore by the backup API. Durable."""
        _write(image, self._keeper)
        self._version = self._data_version()
        self._durable = image
        self._images.clear()

    def copy(self, *, files: bool = False) -> "Disk":
        """Another disk with the same database; with the files beside it too, if the whole machine is copied."""
        found = Disk(self.image())
        if files:
            found.files.update(self.files)
        return found

    def _pull(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _put(self, image: bytes) -> None:
        self._keeper.close()
        self._keeper = self._new(image)
        self._version = self._data_version()
        self._durable = image
        self._images.clear()


def _write(image: bytes, to: sqlite3.Connection) -> None:
    source = sqlite3.connect(":memory:")
    source.deserialize(image)
    source.backup(to)
    source.close()


def locked(sql: str) -> None:
    """A `trouble`: somebody else holds the write lock for longer than anybody waits."""
    if sql.startswith("BEGIN IMMEDIATE"):
        raise _error("database is locked", sqlite3.SQLITE_BUSY)


def full(sql: str) -> None:
    """A `trouble`: there is no room on the disk."""
    if sql.startswith("COMMIT"):
        raise _error("database or disk is full", sqlite3.SQLITE_FULL)


def unsyncable(sql: str) -> None:
    """A `trouble`: what is committed cannot be made durable."""
    if sql == BARRIER:
        error = OSError(errno.EIO, "Input/output error")
        setattr(error, OF_THE_DISK, True)
        raise error


def _error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    setattr(error, OF_THE_DISK, True)
    return error


TROUBLES: Final[Mapping[str, Callable[[str], None]]] = {
    "locked": locked,
    "full": full,
    "unsyncable": unsyncable,
}
