"""From a path to a connection on which nothing can surprise: every cause of failure is looked for first.

The order: the path is looked at; the lock is taken, which also looks at the file's first bytes; SQLite opens the file
and reads the format number; and only then is the journal mode set and Litecast's own table written. A database that is
refused is left as it was found.
"""

import os
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from replication.engine.journal_mode import journal_mode
from replication.engine.state import NEWEST_FORMAT, create_plain, upgrade
from replication.errors import DatabaseError, DatabasePathError, DatabaseReadOnly, NewerFormat
from replication.lock import DatabaseLock
from replication.translation import SQLITE_ERRORS, translated

WAL_CHECKPOINT_PAGES = 1_000
"""SQLite's own default, 4 MB: set all the same, since a library may be built with another."""


class Synchronous(StrEnum):
    """When a commit counts as done."""

    FULL = "full"
    """After fsync: it survives a power cut. The default."""
    NORMAL = "normal"
    """Before fsync: it survives kill -9, but a power cut can take the last commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How each connection of a repo is set up."""

    path: Path
    synchronous: Synchronous
    busy_timeout_s: float
    gives_positions: bool = False
    """Whether an engine folds what is written. It then owns the checkpoints, too: of our connections only one should,
    since in SQLite before 3.51.3 one that writes while another checkpoints can, rarely, corrupt the log."""


def resolved(path: Path | str) -> Path:
    """The file that `path` leads to, through symbolic links, whether it exists or not. Raises DatabasePathError."""
    if str(path) == ":memory:":
        raise DatabasePathError(Path(path), "is not a file", "a node's database is one, name it in [database] path")
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:  # a loop of links, a NUL byte
        raise DatabasePathError(Path(path), f"is not a path ({error})", "name a file in [database] path") from error


def claim(path: Path) -> DatabaseLock:
    """The lock of the database at `path`, after all that can be wrong with its path has been looked at.

    Creates the file, and the folder it is in, where they are missing. Raises a DatabaseError.
    """
    folder = path.parent
    if _is_folder(path):
        raise DatabasePathError(path, "is a directory", "name a file in it in [database] path")
    if not _is_folder(folder):
        _make_folder(path, folder)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        remedy = f"SQLite keeps its -wal file beside it, make {folder} writable for this user"
        raise DatabaseReadOnly(path, "its folder cannot be written", remedy)
    return DatabaseLock.acquire(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not ours to look at, too long a name: opening it will tell which
        return False


def _make_folder(path: Path, folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise DatabasePathError(path, f"{folder} is not a folder", "name another [database] path") from error
    except FileNotFoundError as error:
        remedy = f"create {folder}, or correct [database] path"
        raise DatabasePathError(path, f"the folder {folder.parent} does not exist", remedy) from error
    except OSError as error:
        remedy = "create it for this user, or name another [database] path"
        raise DatabasePathError(path, f"its folder cannot be created ({error.strerror})", remedy) from error


def open_writer(settings: Settings) -> sqlite3.Connection:
    """The connection that writes. The lock must be held. Raises a DatabaseError, and is closed then.

    Whatever stands in the file's schema is parsed by every library that opens it: only what SQLite 3.35 understands.
    """
    connection = _connect(settings)
    try:
        _refuse_newer(connection, settings)
        mode_found = journal_mode(connection)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            remedy = "put it on a local disk; network file systems have no shared memory"
            raise DatabaseError(settings.path, f"cannot use a write-ahead log (stays in mode {mode})", remedy)
        connection.execute(f"PRAGMA synchronous = {settings.synchronous.value}")
        checkpoint_pages = 0 if settings.gives_positions else WAL_CHECKPOINT_PAGES
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
        connection.execute("PRAGMA foreign_keys = ON")
        _write_state(connection, mode_found if settings.gives_positions else None)
        upgrade(connection)
    except SQLITE_ERRORS as error:
        connection.close()
        raise translated(error, path=settings.path, busy_timeout_s=settings.busy_timeout_s) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(settings: Settings) -> sqlite3.Connection:
    """A connection that only reads. Raises a DatabaseError, and is closed then."""
    connection = _connect(settings)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the file and parses the schema
    except SQLITE_ERRORS as error:
        connection.close()
        raise translated(error, path=settings.path, busy_timeout_s=settings.busy_timeout_s) from error
    return connection


def _connect(settings: Settings) -> sqlite3.Connection:
    try:
        # `timeout` is SQLite's busy_timeout. No isolation level: transactions are begun by us, and never by the module.
        return sqlite3.connect(settings.path, timeout=settings.busy_timeout_s, isolation_level=None)
    except SQLITE_ERRORS as error:
        raise translated(error, path=settings.path, busy_timeout_s=settings.busy_timeout_s) from error


def _refuse_newer(connection: sqlite3.Connection, settings: Settings) -> None:
    if not _has_state(connection):
        return
    columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('_litecast_state')")}
    if not {"id", "format"} <= columns:
        raise NewerFormat(settings.path, "unknown", NEWEST_FORMAT)
    row = connection.execute("SELECT format FROM _litecast_state WHERE id = 1").fetchone()
    if row is not None and (not isinstance(row[0], int) or row[0] > NEWEST_FORMAT):
        raise NewerFormat(settings.path, row[0], NEWEST_FORMAT)


def _has_state(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_litecast_state'")
    return found.fetchone() is not None


def _write_state(connection: sqlite3.Connection, mode_found: str | None) -> None:
    """`mode_found`: for who opens the file to attach it at once, so that `detach` leaves what was there before both."""
    if _has_state(connection) and connection.execute("SELECT 1 FROM _litecast_state").fetchone():
        return  # the usual start writes nothing
    connection.execute("BEGIN IMMEDIATE")
    create_plain(connection, journal_mode_found=mode_found)
    connection.execute("COMMIT")
