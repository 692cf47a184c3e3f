"""Whether a backup is worth something: it is restored, and what comes out is compared with what a database holds.

The database is written to meanwhile. So its rows and its position are read in one transaction; when the bucket has all
of that, exactly that position is restored. Nothing is asked of the nodes that upload."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replication.backup.bucket import Bucket, check_is_of, newest_snapshot, whose
from replication.backup.chains import ends
from replication.backup.cuts import EVERYTHING, AtPosition
from replication.backup.deciding import includes, why_snapshot
from replication.backup.errors import NotInBackup
from replication.backup.fingerprints import fingerprints
from replication.backup.for_node import restore_from
from replication.backup.live import Live, NotNow, live, outline
from replication.backup.manifests import Manifest
from replication.backup.names import CHANGESETS, stretches_in
from replication.backup.restoring import Progress, Restored
from replication.backup.taking import opened_as_it_is
from replication.convergent.engine import Engine
from replication.engine.sites import stamps_of
from replication.engine.stamps import first_after
from replication.positions import Position

LOOK_S: Final = 1.0
"""How often is looked whether the bucket has it. Each look is a listing."""
QUIET_S: Final = 0.02
"""How often a moment is looked for at which the database can be compared."""
_SCRATCH: Final = "verified.db"
_REMEDY: Final = "see `litecast backup status`, or wait longer: --wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came out. `compared`: how many tables; 0 if there was no database to compare with. `problems`: what is not
    as it should be, each in a line; what is damaged raises an error instead."""

    restored: Restored
    compared: int
    problems: tuple[str, ...]


async def verify(bucket: Bucket, folder: Path, *, progress: Progress) -> Verified:
    """Restores all there is into the folder, with all checks that a restore makes. Raises as `restore`."""
    return Verified(restored=await restore_from(bucket, folder / _SCRATCH, progress=progress), compared=0, problems=())


async def verify_against(
    bucket: Bucket, database: Path, folder: Path, *, engine: Engine, cluster: str, wait_s: float, progress: Progress
) -> Verified:
    """Waits until the bucket has what the database has now, restores that into the folder, and compares the rows.

    Raises NotInBackup if it has not got it within `wait_s`, NothingAttached, and as `restore`."""
    owner = await whose(bucket)
    if owner is not None:
        check_is_of(bucket, cluster, found=owner)
    verifying = _Verifying(bucket, database, engine, wait_s, progress)
    try:
        async with asyncio.timeout(wait_s):
            found = await verifying.find()
    except TimeoutError:
        raise NotInBackup(bucket.place(), f"{verifying.lacks} after {wait_s:.0f} s", _REMEDY) from None
    position = Position(stamps_of(found.vector))
    cut = AtPosition(position) if position else EVERYTHING
    target = folder / _SCRATCH
    restored = await restore_from(bucket, target, cut=cut, cluster=cluster, progress=progress)
    progress.part = "comparing"
    rows = await engine.run(lambda: _rows_of(target))
    return Verified(restored=restored, compared=len(found.rows), problems=differing(found, restored, rows))


def differing(found: Live, restored: Restored, rows: Mapping[str, str]) -> tuple[str, ...]:
    """In what a restored database is another one than the live one was. Pure."""
    here = stamps_of(found.vector)
    there = stamps_of(restored.vector)
    elsewhere = [site for site in sorted(here.keys() | there.keys()) if here.get(site) != there.get(site)]
    if elsewhere:
        return tuple(
            f"site {site} is restored to another change than the one asked for: try again" for site in elsewhere
        )
    return tuple(
        f"table {table} has other rows in the backup than in the database"
        for table in sorted(found.rows.keys() | rows.keys())
        if found.rows.get(table) != rows.get(table)
    )


@dataclass(slots=True)
class _Verifying:
    bucket: Bucket
    database: Path
    engine: Engine
    wait_s: float
    progress: Progress
    lacks: str = "did not answer"
    """What is waited for, for whoever waits in vain."""

    async def find(self) -> Live:
        """What the database holds at a moment of which the bucket has everything."""
        while True:
            outlined = await self._now(outline)
            snapshot = await newest_snapshot(self.bucket)
            if snapshot is None:
                await self._wait_for("has no complete snapshot")
            elif why := _why_another(snapshot, outlined):
                await self._wait_for(f"has no snapshot of what the database is now: {why}")
            else:
                found = await self._now(live)
                if not _why_another(snapshot, found):
                    break
        while missing := await self._missing(found, snapshot):
            await self._wait_for(f"lacks something that the database has, of {missing} site(s)")
        return found

    async def _now(self, read: Callable[[Path], Live]) -> Live:
        self.progress.part = "reading the database"
        while True:
            try:
                return await self.engine.run(lambda: read(self.database))
            except NotNow as error:
                self.lacks = f"cannot be compared with {self.database} yet, since {error}"
                await asyncio.sleep(QUIET_S)

    async def _missing(self, found: Live, snapshot: Manifest) -> int:
        names = await self.bucket.names(CHANGESETS)
        there = ends(stretches_in(names))
        for site, head in snapshot.vector.items():
            there[site] = max(head.stamp, there.get(site, head.stamp))
        return sum(there.get(site, first_after(site)) < head.stamp for site, head in found.vector.items())

    async def _wait_for(self, lacks: str) -> None:
        self.lacks = lacks
        self.progress.part = f"waiting: the bucket {lacks}"
        await asyncio.sleep(LOOK_S)


def _why_another(snapshot: Manifest, found: Live) -> str:
    """Why a restore that begins with this snapshot would not have what the database has; "" if it would."""
    heads = stamps_of(found.vector)
    if not includes(heads, found.closed.keys(), snapshot):
        return "it has something that has not come here yet"
    return why_snapshot(snapshot, vector=found.vector, closed=found.closed, schemas=found.schemas)


def _rows_of(path: Path) -> dict[str, str]:
    with contextlib.closing(opened_as_it_is(path)) as connection:
        return fingerprints(connection)
