"""A node's replication for a database file, with all that it takes: connections, threads, the disk, the clock."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from replication.convergent.copies import Copies
from replication.convergent.directory import MembersFile
from replication.convergent.durability import WalBarrier
from replication.convergent.engine import ThreadEngine
from replication.convergent.noticing import WalWatch
from replication.convergent.replication import Replication, Settings
from replication.convergent.shelf import Shelf
from replication.convergent.sidecar import NONCE_BYTES, NonceFile
from replication.convergent.store import Store
from replication.convergent.store_settings import StoreSettings
from replication.database_file import new_site
from replication.declared import TableDeclaration
from replication.errors import DataDirUnusable
from replication.translation import SQLITE_ERRORS, translated

BUSY_TIMEOUT_S: Final = 5.0
CHECKPOINT_PAGES: Final = 1_000
"""SQLite's own default, 4 MB. The engine's connection is the one of ours that checkpoints."""
WAL_KEPT_BYTES: Final = 16 * 1024 * 1024
"""A `-wal` file that grew while somebody read for long, or stood still, is cut to this when it is used again."""


def replication_for_file(
    path: Path,
    *,
    cluster: str,
    declared: Sequence[TableDeclaration],
    data_dir: Path,
    clock_bound_ms: int,
    journal_max_age_s: float,
    journal_max_bytes: int,
    join_timeout_s: float,
    expects_peers: bool,
    fence: str | None = None,
) -> Replication:
    """Opens nothing yet. `path` is that of the file itself, links resolved; its lock is held by who calls this, as
    that of `data_dir` is, where the nonce of the run is kept. `fence`: in mode primary, what a write to the tables is
    told until this node is the primary, or knows who is."""
    return Replication(
        Store(
            lambda: connect(path),
            StoreSettings(
                cluster=cluster,
                now_ms=now_ms,
                new_site=new_site,
                barrier=WalBarrier(path),
                declared=declared,
                sidecar=NonceFile(data_dir),
                new_nonce=new_nonce,
                clock_bound_ms=clock_bound_ms,
                journal_max_age_ms=int(journal_max_age_s * 1000),
                journal_max_bytes=journal_max_bytes,
                fence=fence,
            ),
        ),
        Shelf(lambda: connect(path)),
        engine=ThreadEngine("litecast engine"),
        shelf_engine=ThreadEngine("litecast shelf"),
        watch=WalWatch(path),
        copies=Copies(data_dir, ThreadEngine("litecast copies")),
        settings=Settings(
            now_ms=now_ms,
            clock_bound_ms=clock_bound_ms,
            join_timeout_s=join_timeout_s,
            expects_peers=expects_peers,
            members=MembersFile(data_dir),
        ),
    )


@contextmanager
def told_to_the_operator(path: Path, data_dir: Path) -> Iterator[None]:
    """Around what a node does with its files before it runs: whatever the disk has against it becomes a DatabaseError
    or a DataDirError, one line with the remedy."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise translated(error, path=path, busy_timeout_s=BUSY_TIMEOUT_S) from error
    except OSError as error:
        remedy = "see that its disk has room, and that this user may write there"
        raise DataDirUnusable(data_dir, f"cannot be written ({error.strerror or error})", remedy) from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection of the engine's: made in one thread, used in another, never in two at once."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
    connection.execute("PRAGMA synchronous = NORMAL")  # a barrier follows: see `durability`
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
    return connection


def connect_to_write(path: Path) -> sqlite3.Connection:
    """A connection for an application's rows, whose commits are durable. For the engine's thread: it checkpoints, as
    the engine's other one does."""
    connection = connect(path)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def now_ms() -> int:
    """The system's time, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def new_nonce() -> bytes:
    """A nonce that no run has had."""
    return os.urandom(NONCE_BYTES)
