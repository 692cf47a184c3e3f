"""Attach and detach for whoever names a file: what `litecast attach` and `litecast detach` do, from Python.

The file is opened as it is and never created. Both block for as long as they take, at most the busy timeout plus a scan
of the tables; other programs may have the file open meanwhile, and while it is attached a node, too.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from replication.engine import attaching
from replication.engine.attaching import AttachReport
from replication.engine.catalogue import is_there as is_attached
from replication.engine.description import TableKind, describe
from replication.engine.detaching import DetachReport
from replication.engine.refusals import TableChoice
from replication.engine.stamps import Site
from replication.errors import DatabaseInUse, DatabasePathError
from replication.lock import DatabaseLock
from replication.middleware.node_file import path_of
from replication.opening import resolved
from replication.primary.beside import POSITION_SUFFIX, PRIMARY
from replication.translation import SQLITE_ERRORS, translated

BUSY_TIMEOUT_S = 5.0
"""How long the write lock is waited for."""

_SITE_BYTES = 16


def attach(
    path: Path | str,
    tables: Sequence[TableChoice],
    *,
    cluster: str,
    dry_run: bool = False,
    skip_missing: bool = False,
    one_writer: bool = False,
) -> AttachReport:
    """Prepares tables of an SQLite database: from now on, what any program commits to them is captured.

    `cluster` is the name that the nodes' settings give it. What is attached already, with the same counters, stays as
    it is. With `dry_run` nothing is changed, and the report says what would be. With `skip_missing`, tables that do not
    exist are left out of the report instead of being refused. `one_writer`: for mode primary, in which UNIQUE, CHECK
    and keys that SQLite hands out are kept, since one node writes at a time.

    Raises, with nothing changed, AttachRefused (`.refusals` has every reason, with the way out) and DatabaseError.
    """
    with _opened(Path(path)) as connection:
        wanted = [choice for choice in tables if not (skip_missing and _is_missing(connection, choice.name))]
        if dry_run:
            return attaching.check(connection, wanted, cluster=cluster, one_writer=one_writer)
        return attaching.attach(connection, wanted, cluster=cluster, new_site=new_site, one_writer=one_writer)


def detach(path: Path | str, tables: Sequence[str] | None = None) -> DetachReport:
    """Detaches these tables, or everything: after the last one, nothing of Litecast's is left in the schema.

    No node may be running on the file: it would attach again what its settings declare, as if the counts had come about
    before, and what was written since it last looked would reach no other. Raises, with nothing changed, NotAttached;
    AttachRefused if the tables that remain cannot do without these; DatabaseInUse; another DatabaseError.
    """
    file = _there(Path(path))
    try:
        lock = DatabaseLock.acquire(resolved(file))  # before SQLite opens it, until SQLite has closed it: see lock.py
    except DatabaseInUse as error:
        raise DatabaseInUse(file, "stop that node first: it would attach the tables again") from error
    try:
        with _opened(file) as connection:
            report = attaching.detach(connection, tables)
            is_left = is_attached(connection)
        if not is_left:
            _take_away_what_stands_beside(file)
        return report
    finally:
        lock.release()


def _take_away_what_stands_beside(database: Path) -> None:
    """What a node in mode primary said to programs: they would go on believing it."""
    for path in (database.parent / PRIMARY, database.with_name(database.name + POSITION_SUFFIX), path_of(database)):
        path.unlink(missing_ok=True)


def new_site() -> Site:
    """A site that nobody had before."""
    return Site(os.urandom(_SITE_BYTES).hex())


def _is_missing(connection: sqlite3.Connection, table: str) -> bool:
    return describe(connection, table).kind is TableKind.MISSING


def _there(path: Path) -> Path:
    if not path.is_file():
        problem = "is a directory" if path.is_dir() else "does not exist"
        raise DatabasePathError(path, problem, "name the database file that the application uses")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the database. What SQLite raises meanwhile becomes a DatabaseError with a remedy."""
    try:
        connection = sqlite3.connect(_there(path), timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()
    except SQLITE_ERRORS as error:
        raise translated(error, path=path, busy_timeout_s=BUSY_TIMEOUT_S) from error
