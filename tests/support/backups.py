"""Waiting for backups, and looking at what was restored."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replication.backup import batches
from replication.backup.names import Stretch, of_stretch
from replication.backup.status import BackupStatus
from replication.engine.folding import is_due
from replication.engine.sites import vector
from tests.support.convergent import Member
from tests.support.eventually import eventually


def status(member: Member) -> BackupStatus:
    """How its backup stands."""
    assert member.backup is not None
    return member.backup.status()


async def uploaded(*members: Member, within_s: float = 30.0) -> None:
    """Waits until all that was written on these nodes is folded, and reported as safe, by each of them."""

    def are_there() -> bool:
        for member in members:
            if is_due(member.writer) or status(member).problem:
                return False
            heads, safe = vector(member.writer), status(member).position.stamps
            if not heads or any(safe.get(site, -2) < head.stamp for site, head in heads.items()):
                return False
        return True

    await eventually(are_there, within_s, why=lambda: [(m.replication.stamps(), status(m)) for m in members])


def rows_of(path: Path, sql: str = "SELECT * FROM pages ORDER BY 1") -> list[Any]:
    """What a file holds."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def as_one(objects: dict[str, bytes], stretches: Sequence[Stretch]) -> None:
    """Replaces these objects of a site, which follow one another, by one that has all that they have."""
    small = [batches.decode(objects.pop(of_stretch(one))) for one in stretches]
    changesets = [link.encoded for batch in small for link in batch.links]
    large = batches.batch_of(small[0].cluster, small[0].site, changesets)
    objects[of_stretch(large.stretch)] = batches.encode(large)
