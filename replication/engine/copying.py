"""A physical copy of the database for a node that has none: all at once, as fast as the disk.

A copy is taken from a moment at which nothing waits in the log: what waits there would be counted twice, once by this
node and once by whoever has the copy. Nobody can be kept from writing for as long as copying takes, so a second
connection begins to read at such a moment, while the write lock is held, and keeps seeing it. The backup API then
copies what that connection sees in one step (in several it would begin again with each commit of anybody's).

The copy still says that it is this database. `make_own` gives it a site of its own, before anybody opens it."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from replication.engine import tails
from replication.engine.catalogue import is_one_writer
from replication.engine.folding import Folded, fold, is_due
from replication.engine.identity import Remembered, RunBegan, begin_run
from replication.engine.stamps import Site

TRIES: Final = 100
"""How often a moment is looked for. A writer must commit between a fold and the lock that follows it each time."""


class NeverQuiet(Exception):
    """No moment was found at which nothing waited in the log. Nothing was changed but by folding; try again."""

    def __init__(self) -> None:
        super().__init__(f"others wrote between each of {TRIES} folds and the lock after it; try again")


def begin_copy(
    connection: sqlite3.Connection,
    connect: Callable[[], sqlite3.Connection],
    *,
    now_ms: int,
    expected: Remembered | None = None,
    remember: Callable[[], Remembered | None] = lambda: None,
) -> tuple[sqlite3.Connection, list[Folded]]:
    """A connection that sees, in a read transaction, a moment at which the log was empty; and what was folded for it.

    It is one that `connect` made, for any thread; closing it ends it. Raises what `fold` raises, and NeverQuiet."""
    folded: list[Folded] = []
    for _ in range(TRIES):
        made = fold(connection, now_ms=now_ms, expected=expected)
        if made is not None:
            folded.append(made)
            expected = remember()
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not is_due(connection):
                reader = connect()
                try:
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM main.sqlite_master").fetchone()  # now it has begun to read
                except BaseException:
                    reader.close()
                    raise
                return reader, folded
        finally:
            connection.execute("ROLLBACK")
    raise NeverQuiet


def copy_to(reader: sqlite3.Connection, target: Path) -> int:
    """Copies what the connection of `begin_copy` sees into a new file, and closes the connection. Gives its size in
    bytes. Raises sqlite3.Error (the disk); the file is not there then."""
    try:
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # whoever gets it syncs his own
            copy.execute("PRAGMA journal_mode = OFF")
            reader.backup(copy, pages=-1)
        return target.stat().st_size
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        reader.close()


def make_own(path: Path, *, new_site: Callable[[], Site], new_nonce: bytes) -> RunBegan:
    """Gives a copy that was received a site and a nonce of its own. Nobody else has opened it yet."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        began = begin_run(connection, known_nonce=None, new_nonce=new_nonce, new_site=new_site)
        if is_one_writer(connection):
            tails.forget_all(connection)  # whose they are has them
        return began
