"""Whether a random share of a backup's objects is as it was written. No database is made.

What closes the snapshots is read in any case: it says which pieces there are to be. An object with changesets is read
with the one before it, so that it is seen whether they join."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from replication.backup.bucket import Bucket, batch_at, manifest_if_there, missing, whose
from replication.backup.chains import AnotherHistory, Gap, by_site, following, to_read
from replication.backup.errors import BackupDamaged, NothingToRestore
from replication.backup.looking import looked_for, seen
from replication.backup.manifests import Manifest
from replication.backup.names import CHANGESETS, SNAPSHOTS, Stretch, of_piece, of_stretch, snapshots_in, stretches_in
from replication.backup.pieces import piece
from replication.backup.restoring import Progress
from replication.backup.what_to_keep import is_in
from replication.engine.stamps import first_after

type _Piece = tuple[Manifest, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """`checked` of `total` objects that a restore may need. `problems`: what is wrong, each in a line."""

    checked: int
    total: int
    problems: tuple[str, ...]


async def sample(bucket: Bucket, count: int, *, rng: random.Random, progress: Progress) -> Sampled:
    """Reads so many objects, or all if there are fewer. Raises BackupError but BackupDamaged."""
    if await whose(bucket) is None:
        raise NothingToRestore(bucket.place())
    sampling = _Sampling(bucket)
    await sampling.look()
    objects: list[_Piece | Stretch] = [*sampling.pieces, *sampling.stretches]
    chosen = rng.sample(objects, min(count, len(objects)))
    progress.part, progress.objects_total = "reading", len(chosen)
    for one in chosen:
        await (sampling.check_stretch(one) if isinstance(one, Stretch) else sampling.check_piece(one))
        progress.objects += 1
    return Sampled(checked=len(chosen), total=len(objects), problems=tuple(sampling.problems))


@dataclass(slots=True)
class _Sampling:
    bucket: Bucket
    problems: list[str] = field(default_factory=list[str])
    snapshots: list[Manifest] = field(default_factory=list[Manifest])
    pieces: list[_Piece] = field(default_factory=list[_Piece])
    stretches: list[Stretch] = field(default_factory=list[Stretch])
    before: dict[Stretch, Stretch | None] = field(default_factory=dict[Stretch, Stretch | None])
    """What is read before an object."""

    async def look(self) -> None:
        """At what there is, and what is seen to be missing without reading it."""
        names = set(await self.bucket.names(SNAPSHOTS))
        numbers = snapshots_in(names)
        if not numbers:
            raise NothingToRestore(self.bucket.place())
        for number in numbers:
            try:
                closing = await manifest_if_there(self.bucket, number)
            except BackupDamaged as error:
                self.problems.append(str(error))
            else:
                self.snapshots += [] if closing is None else [closing]  # else it was too old, and went meanwhile
        for found in self.snapshots:
            for number in range(len(found.pieces)):
                name = of_piece(found.snapshot, number)
                if name in names:
                    self.pieces.append((found, number))
                elif await self._is_kept(found):
                    self.problems.append(str(missing(self.bucket, name)))
        there = await seen(self.bucket)
        oldest = self.snapshots[0] if self.snapshots else None
        needed = [one for one in there.unlisted if oldest is None or not is_in(one, oldest)]
        late, lost = await looked_for(self.bucket, replace(there, unlisted=needed))
        self.problems += [str(missing(self.bucket, one)) for one in lost]
        for site, stretches in by_site([*there.listed, *late]).items():
            if self.snapshots and site in self.snapshots[0].closed:
                continue  # all that counts of it is in the snapshots
            head = self.snapshots[0].vector.get(site) if self.snapshots else None
            order = to_read(stretches, first_after(site) if head is None else head.stamp)
            self.stretches += order
            self.before |= dict(zip(order, (None, *order), strict=False))

    async def check_piece(self, of: _Piece) -> None:
        """Whether it is the one that the snapshot was closed with."""
        try:
            await piece(self.bucket, *of)
        except BackupDamaged as error:
            if await self._is_kept(of[0]):
                self.problems.append(str(error))

    async def _is_kept(self, snapshot: Manifest) -> bool:
        """Whether it is there still: one that is too old goes."""
        return await manifest_if_there(self.bucket, snapshot.number) is not None

    async def check_stretch(self, stretch: Stretch) -> None:
        """Whether it is whole, and joins what comes before it."""
        before = self.before[stretch]
        head = self.snapshots[0].vector.get(stretch.site) if self.snapshots else None
        place = self.bucket.place(of_stretch(stretch))
        try:
            if before is not None:
                batch = await batch_at(self.bucket, before)
                if batch is None:
                    return await self._gone(before)
                head = batch.links[-1].head
            batch = await batch_at(self.bucket, stretch)
            if batch is None:
                return await self._gone(stretch)
            following(batch, head)
        except BackupDamaged as error:
            self.problems.append(str(error))
        except Gap as error:
            self.problems.append(str(BackupDamaged(place, str(error))))
        except AnotherHistory as error:
            if not self._is_closed(stretch):
                self.problems.append(f"{place} {error}: a restore leaves out what comes after")
        return None

    def _is_closed(self, stretch: Stretch) -> bool:
        """Whether it is known that there are two histories of its site; then a snapshot has both."""
        return bool(self.snapshots) and stretch.site in self.snapshots[-1].closed

    async def _gone(self, stretch: Stretch) -> None:
        """An object that was listed is not there: it was made part of a larger one, or is missing."""
        for other in await self._stretches():
            if other.site == stretch.site and other.first <= stretch.first and stretch.last <= other.last:
                return
        self.problems.append(str(missing(self.bucket, stretch)))

    async def _stretches(self) -> Sequence[Stretch]:
        return stretches_in(await self.bucket.names(CHANGESETS))
