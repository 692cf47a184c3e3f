"""Making several objects of a site one: what they hold stays byte for byte, and so does what links it.

The large object is created beside the small ones. They go later, if it is there then and has what they have."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from replication.backup import batches
from replication.backup.batches import BATCH_BYTES, BATCH_MAX_COUNT, Batch, Link, batch_of
from replication.backup.bucket import Bucket, batch_at
from replication.backup.chains import AnotherHistory, Gap, following
from replication.backup.errors import BackupDamaged
from replication.backup.names import Stretch, of_stretch
from replication.engine.stamps import Stamp

READ_AT_ONCE: Final = 8


@dataclass(slots=True, kw_only=True)
class Merged:
    """What came of it. `alone`: objects that no other one is ever to be merged with: they are large enough, or what
    comes after them does not follow. `damaged`: what could not be read, the first of it."""

    made: list[Stretch] = field(default_factory=list[Stretch])
    objects: int = 0
    """So many were made one."""
    alone: set[Stretch] = field(default_factory=set[Stretch])
    damaged: BackupDamaged | None = None


@dataclass(slots=True)
class _Group:
    """What is to be in one object."""

    links: list[Link] = field(default_factory=list[Link])
    objects: list[Stretch] = field(default_factory=list[Stretch])
    size: int = 0

    def has_room(self, more: Sequence[Link]) -> bool:
        return self.size + _size(more) <= BATCH_BYTES and len(self.links) + len(more) <= BATCH_MAX_COUNT

    def add(self, stretch: Stretch, more: Sequence[Link]) -> None:
        self.links += more
        self.objects.append(stretch)
        self.size += _size(more)

    @property
    def is_large(self) -> bool:
        """No two such make one."""
        return 2 * self.size > BATCH_BYTES or 2 * len(self.links) > BATCH_MAX_COUNT


async def merge(bucket: Bucket, cluster: str, run: Sequence[Stretch]) -> Merged:
    """Makes as few objects as may be of these neighbours. Raises BackupUnreachable; then it can be done again."""
    found, group = Merged(), _Group()
    async for stretch, batch in _read(bucket, run):
        links: Sequence[Link] = ()
        if isinstance(batch, Batch):
            try:
                links = following(batch, group.links[-1].head) if group.links else batch.links
            except (Gap, AnotherHistory):
                await _make(bucket, cluster, group, found, follows=False)
                group, links = _Group(), batch.links
            if group.links and not group.has_room(links):
                await _make(bucket, cluster, group, found, follows=True)
                group, links = _Group(), batch.links
            group.add(stretch, links)
        else:  # it is gone, or damaged: nothing goes on from what was before
            await _make(bucket, cluster, group, found, follows=False)
            group = _Group()
            found.alone.add(stretch)
            found.damaged = found.damaged or batch
    await _make(bucket, cluster, group, found, follows=True)
    return found


async def parts_in(bucket: Bucket, large: Stretch, small: Sequence[Stretch]) -> list[Stretch]:
    """Which of the small objects begin and end with changesets of the large one, which is read for it; none if it is
    gone. Raises BackupUnreachable, BackupDamaged."""
    batch = await batch_at(bucket, large)
    if batch is None:
        return []
    ends: set[Stamp] = {link.upto for link in batch.links}
    return [one for one in small if one.first in ends and one.last in ends]


async def _read(bucket: Bucket, run: Sequence[Stretch]) -> AsyncIterator[tuple[Stretch, Batch | BackupDamaged | None]]:
    """In their order, some at a time."""

    async def read(one: Stretch) -> Batch | BackupDamaged | None:
        try:
            return await batch_at(bucket, one)
        except BackupDamaged as error:
            return error

    for some in itertools.batched(run, READ_AT_ONCE, strict=False):
        for one, batch in zip(some, await asyncio.gather(*map(read, some)), strict=True):
            yield one, batch


async def _make(bucket: Bucket, cluster: str, group: _Group, found: Merged, *, follows: bool) -> None:
    """Writes a group. `follows`: whether what comes after it joins, or may."""
    if not group.links:
        return
    batch = batch_of(cluster, group.objects[0].site, [link.encoded for link in group.links])
    if group.is_large or not follows:
        found.alone.add(batch.stretch)
    if len(group.objects) == 1:
        return
    sealed = await asyncio.to_thread(batches.encode, batch)
    await bucket.create(of_stretch(batch.stretch), sealed)  # if it is there, somebody made the same
    found.made.append(batch.stretch)
    found.objects += len(group.objects)


def _size(links: Sequence[Link]) -> int:
    return sum(len(link.encoded) for link in links)
