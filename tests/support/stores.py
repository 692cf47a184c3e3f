"""The engine's side of a node on a disk of the simulator's, and what is there before anything is attached."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from replication.convergent.store import Store
from replication.convergent.store_settings import StoreSettings
from replication.engine.stamps import Site
from replication.simulation.application import CLUSTER, DECLARED, SCHEMA
from replication.simulation.disk import Disk
from replication.simulation.machine import NonceOnDisk

NOW_MS: Final = 1_700_000_000_000
_NUMBERS = itertools.count(1)


@contextmanager
def disk_with_tables() -> Iterator[Disk]:
    """The application's tables, empty."""
    with Disk() as disk:
        for statement in SCHEMA:
            disk.connect(full=True).execute(statement)
        yield disk


def open_store(disk: Disk, *, journal_max_age_ms: int = 3_600_000, fence: str | None = None) -> Store:
    """One that is open, with these tables attached. It is always `NOW_MS`; no two runs and sites are the same."""
    store = Store(
        disk.connect,
        StoreSettings(
            cluster=CLUSTER,
            now_ms=lambda: NOW_MS,
            new_site=lambda: Site(f"{next(_NUMBERS):032x}"),
            barrier=disk.barrier,
            declared=DECLARED,
            sidecar=NonceOnDisk(disk),
            new_nonce=lambda: next(_NUMBERS).to_bytes(16),
            journal_max_age_ms=journal_max_age_ms,
            fence=fence,
        ),
    )
    store.open()
    return store
