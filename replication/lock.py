"""Two nodes never share a database, nor a data directory.

Both locks are BSD locks (`flock`): the kernel drops them when their holder ends, however it ends, so nothing is ever
stale; they are held on the file itself, so symbolic links, hard links and containers that share a volume all meet.
They are advisory and independent of SQLite's own POSIX locks: other programs go on reading and writing the database,
which is what Litecast is for. Only another Litecast node asks for this lock.

**The order matters.** POSIX locks belong to the process, and closing *any* descriptor of a file drops all of the
process's POSIX locks on it, SQLite's included; after that another process believes itself alone, resets the WAL, and a
commit of ours that returned ok is lost. So the descriptor that carries our lock is opened before SQLite opens the file
and closed after all of SQLite's connections are closed; and if this process has yet another descriptor of the file
(somebody's own connection, or a second repo that was just refused), it is not closed at all but left open, unlocked,
until the process ends. A leaked descriptor is cheaper than a lost commit.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from replication.errors import (
    DatabaseFailed,
    DatabaseInUse,
    DatabasePathError,
    DatabaseReadOnly,
    DataDirInUse,
    DataDirUnusable,
    NotADatabase,
)

LOCK_FILE = "node.lock"
"""In the data directory. It must not begin with a database's name: SQLite's files beside it do (`litecast.db-wal`)."""

_HOLDER_MAX_BYTES = 200
_MAGIC = b"SQLite format 3\x00"  # the first 16 bytes of every database that is not empty
_NEW_FILE_MODE = 0o644  # as SQLite creates its own, before the umask
_READ_ONLY_ERRNOS = (errno.EACCES, errno.EPERM, errno.EROFS)
_DESCRIPTORS = "/dev/fd"  # this process's open descriptors, on Linux and on macOS


class DataDirLock:
    """This node's claim on its data directory. Made by `acquire`; ends with `release`, or with the process."""

    def __init__(self, data_dir: Path, descriptor: int) -> None:
        self.data_dir = data_dir
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, data_dir: Path, *, node: str) -> Self:
        """Claims `data_dir`, which is created with its parents if it is missing, for the node of this name.

        Does not wait. Raises DataDirInUse if another node, in this process or another, has it, and DataDirUnusable if
        it cannot be created or written.
        """
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unusable(data_dir, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # For the message that a second node gets. The lock is what counts: the text may be of a node that died.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"node {node}, pid {os.getpid()}\n".encode()[:_HOLDER_MAX_BYTES], 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, _HOLDER_MAX_BYTES, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DataDirInUse(data_dir, holder) from error
        except OSError as error:
            os.close(descriptor)
            raise _unusable(data_dir, error) from error
        return cls(data_dir, descriptor)

    def release(self) -> None:
        """Gives the directory up. The lock file stays: were it deleted, two nodes could hold two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class DatabaseLock:
    """This node's claim on a database file, and the only raw descriptor of it that Litecast ever opens."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Claims the file at `path`, an absolute one, before SQLite opens it; creates it empty if it is missing.

        Does not wait, changes nothing in the file, and looks at its first bytes. Raises DatabaseInUse, NotADatabase,
        DatabaseReadOnly or DatabasePathError.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, _NEW_FILE_MODE)
        except IsADirectoryError as error:
            raise DatabasePathError(path, "is a directory", "name a file in it in [database] path") from error
        except OSError as error:
            if error.errno in _READ_ONLY_ERRNOS:
                remedy = "make the file and its folder writable for this user, or name another [database] path"
                raise DatabaseReadOnly(path, f"cannot be written ({error.strerror})", remedy) from error
            remedy = "name another [database] path"
            raise DatabasePathError(path, f"cannot be opened ({error.strerror})", remedy) from error
        lock = cls(path, descriptor)
        try:
            lock._claim(descriptor)
        except BaseException:
            lock.release()
            raise
        return lock

    def _claim(self, descriptor: int) -> None:
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DatabasePathError(self.path, "is not a plain file", "name another [database] path")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            start = os.pread(descriptor, len(_MAGIC), 0)
        except BlockingIOError as error:
            raise DatabaseInUse(self.path) from error
        except OSError as error:
            raise DatabaseFailed(self.path, error.strerror or str(error)) from error
        if start and start != _MAGIC:
            raise NotADatabase(self.path)

    def release(self) -> None:
        """Gives the file up. To be called after the last SQLite connection to it is closed, never before."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if _others_of_same_file(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        else:
            os.close(descriptor)


def _others_of_same_file(descriptor: int) -> bool:
    """Whether this process has the file open elsewhere: then closing `descriptor` would drop that one's POSIX locks."""
    mine = os.fstat(descriptor)
    for entry in Path(_DESCRIPTORS).iterdir():
        if int(entry.name) == descriptor:
            continue
        try:
            other = os.fstat(int(entry.name))
        except OSError:  # closed meanwhile; the listing's own descriptor always is
            continue
        if os.path.samestat(mine, other):
            return True
    return False


def _unusable(data_dir: Path, error: OSError) -> DataDirUnusable:
    remedy = "make it a folder that this user can write, or name another in [node] data_dir"
    return DataDirUnusable(data_dir, f"cannot be used ({error.strerror})", remedy)
