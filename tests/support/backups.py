"""Waiting for backups, and looking at what was restored."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replication.backup import batches
from replication.backup.names import Stretch, of_stretch
from replication.backup.status import BackupStatus
from replication.convergent.for_file import connect
from replication.engine.folding import is_due
from replication.engine.sites import vector
from replication.engine.trimming import trim_journal
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually

HOME = "INSERT INTO pages VALUES ('home', 'Home', 0)"


async def two_with_a_page(cluster: ConvergentCluster) -> tuple[Member, Member]:
    """Nodes a and b, and a page that both have, and the bucket."""
    a, b = [await cluster.start(name) for name in "ab"]
    a.writer.execute(HOME)
    await cluster.equal()
    await uploaded(a, b)
    return a, b


def disk_of(name: str, folder: Path) -> dict[Path, bytes]:
    """A copy of what a stopped node has on its disk."""
    return {path: path.read_bytes() for path in (folder / f"{name}.db", folder / name / "run.nonce")}


def put_back(disk: dict[Path, bytes]) -> None:
    """The disk is again what it was."""
    for path, content in disk.items():
        path.write_bytes(content)


def trim(*paths: Path) -> None:
    """Everything in the journals of these databases is too old."""
    for path in paths:
        with contextlib.closing(connect(path)) as connection:
            assert trim_journal(connection, now_ms=2**45, max_age_ms=0, max_bytes=0) > 0


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
