"""A node's replication for a database file, with all that it takes: connections, threads, the disk, the clock."""

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from replication.convergent.durability import WalBarrier
from replication.convergent.engine import ThreadEngine
from replication.convergent.noticing import WalWatch
from replication.convergent.replication import Replication, Settings
from replication.convergent.shelf import Shelf
from replication.convergent.store import BUSY_TIMEOUT_S, CHECKPOINT_PAGES, Store, StoreSettings
from replication.declared import TableDeclaration
from replication.engine.stamps import Site


def replication_for_file(
    path: Path,
    *,
    cluster: str,
    declared: Sequence[TableDeclaration],
    clock_bound_ms: int,
    join_timeout_s: float,
    expects_peers: bool,
) -> Replication:
    """Opens nothing yet. `path` is that of the file itself, links resolved; its lock is held by who calls this."""
    return Replication(
        Store(
            lambda: connect(path),
            StoreSettings(
                cluster=cluster,
                now_ms=now_ms,
                new_site=new_site,
                barrier=WalBarrier(path),
                declared=declared,
                clock_bound_ms=clock_bound_ms,
            ),
        ),
        Shelf(lambda: connect(path)),
        engine=ThreadEngine("litecast engine"),
        shelf_engine=ThreadEngine("litecast shelf"),
        watch=WalWatch(path),
        settings=Settings(
            now_ms=now_ms,
            clock_bound_ms=clock_bound_ms,
            join_timeout_s=join_timeout_s,
            expects_peers=expects_peers,
        ),
    )


def connect(path: Path) -> sqlite3.Connection:
    """A connection of the engine's: made in one thread, used in another, never in two at once."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
    connection.execute("PRAGMA synchronous = NORMAL")  # a barrier follows: see `durability`
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def now_ms() -> int:
    """The system's time, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def new_site() -> Site:
    """A site that nobody has had."""
    return Site(os.urandom(16).hex())
