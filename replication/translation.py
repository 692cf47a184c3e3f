"""From what sqlite3 raises to what this package raises: the one place that reads SQLite's result codes."""

import re
import sqlite3
from pathlib import Path

from replication.errors import (
    ConstraintFailed,
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseFailed,
    DatabaseFull,
    DatabasePathError,
    DatabaseReadOnly,
    DuplicateRow,
    NoSuchColumn,
    NoSuchTable,
    NotADatabase,
    QueryFailed,
    ReplicationError,
    UnsupportedValue,
)

SQLITE_ERRORS = (sqlite3.Error, OverflowError, UnicodeEncodeError)
"""What an sqlite3 call raises. The last two are values: an int beyond 64 bit, text with a lone surrogate."""

_PRIMARY_CODE = 0xFF  # SQLite's extended result codes keep the primary one in the low byte

_DUPLICATES = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_ROWID}
)
_UNIQUE_COLUMNS = re.compile(r"UNIQUE constraint failed: (.+)")
_NO_TABLE = re.compile(r"no such table: (?:main\.)?(.+)")
_NO_COLUMN = re.compile(r"(?:no such column: |has no column named )(.+)")


def translated(error: Exception, *, path: Path, busy_timeout_s: float, table: str = "", sql: str = "") -> Exception:
    """The error to raise in place of `error`, which is one of `SQLITE_ERRORS`.

    `table` and `sql` say what was being done, as far as it is known.
    """
    if isinstance(error, OverflowError | UnicodeEncodeError):
        return UnsupportedValue(str(error))
    code: int | None = getattr(error, "sqlite_errorcode", None)  # absent where Python's module itself complains
    if code is None:
        return _of_module(error, sql)
    primary = code & _PRIMARY_CODE
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return _of_constraint(error, code, table)
    return _of_world(error, primary, path, busy_timeout_s) or _of_statement(error, table, sql)


def _of_module(error: Exception, sql: str) -> ReplicationError:
    message = str(error)
    if "binding parameter" in message or "decode to UTF-8" in message or "unsupported type" in message:
        return UnsupportedValue(message)
    return QueryFailed(sql, message)


def _of_constraint(error: Exception, code: int, table: str) -> ReplicationError:
    message = str(error)
    if code in _DUPLICATES:
        found = _UNIQUE_COLUMNS.match(message)
        columns = tuple(name.rpartition(".")[2] for name in found[1].split(", ")) if found else ()
        return DuplicateRow(table or (found[1].partition(".")[0] if found else ""), columns)
    return ConstraintFailed(table, message)


def _of_world(error: Exception, primary: int, path: Path, busy_timeout_s: float) -> ReplicationError | None:
    match primary:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return DatabaseBusy(path, busy_timeout_s)
        case sqlite3.SQLITE_FULL:
            return DatabaseFull(path)
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseCorrupt(path, str(error))
        case sqlite3.SQLITE_NOTADB:
            return NotADatabase(path)
        case sqlite3.SQLITE_IOERR:
            return DatabaseFailed(path, getattr(error, "sqlite_errorname", str(error)))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            remedy = f"make it, its folder, and {path.name}-wal and -shm writable for this user"
            return DatabaseReadOnly(path, "cannot be written", remedy)
        case sqlite3.SQLITE_CANTOPEN:
            remedy = f"see that this user may read and write it, its folder, and {path.name}-wal and -shm"
            return DatabasePathError(path, "cannot be opened", remedy)
        case _:
            return None


def _of_statement(error: Exception, table: str, sql: str) -> ReplicationError:
    message = str(error)
    if found := _NO_TABLE.match(message):
        return NoSuchTable(found[1])
    if found := _NO_COLUMN.search(message):
        return NoSuchColumn(table or "of the query", found[1])
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_MISMATCH:
        return ConstraintFailed(table, "INTEGER PRIMARY KEY takes integers only")
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG:
        return UnsupportedValue(message)
    return QueryFailed(sql, message)
