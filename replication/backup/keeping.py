"""Keeping the backup: small objects are made one, and what is not needed any more is removed. See `what_to_keep`.

One node at a time, that holds a lease in the bucket; it asks for it when there is something to do, so an idle cluster
asks for nothing. If two should keep at a time, or one stops anywhere, no harm is done: objects are created before
others are removed, and removed only if what is left has all that they had, or if they are older than the base.

    keeper/000000000001       the lease, see `cluster.lease.object_store`
    inventory/00000001        what was there when this was done, see `inventory`"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.errors import LeaseError, LeaseHeld, LeaseLost, LeaseUnusable
from cluster.lease.interface import Grant
from cluster.lease.object_store import ObjectStoreLease
from cluster.tasks import ended
from replication.backup import inventory
from replication.backup.bucket import Bucket, manifest_if_there, missing
from replication.backup.errors import BackupDamaged, BackupError
from replication.backup.inventory import Inventory
from replication.backup.lease_in_bucket import LEASE_TTL_S, LeaseInBucket
from replication.backup.looking import Seen, looked_for, lying_in_none, newest_inventory
from replication.backup.manifests import Manifest
from replication.backup.merging import merge, parts_in
from replication.backup.names import Stretch, of_closing, of_inventory, of_stretch
from replication.backup.status import Kept, Tally
from replication.backup.what_to_keep import (
    GRACE_S,
    PAUSE_S,
    There,
    covered,
    in_base,
    is_base,
    is_due,
    is_in,
    left_over,
    older_snapshots,
    oldest_ms,
    pieces_of,
    sorted_out,
    to_merge,
)
from replication.engine.stamps import ms_of

log = logging.getLogger(__name__)

INVENTORIES_KEPT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshots:
    """Those that stay, the newest first; which of them is the base; and whether there is none but those and older ones
    than the base."""

    kept: Sequence[Manifest]
    base: Manifest | None
    are_all: bool


class Keeper:
    """See the module. `clock` and `nonce` are the lease's."""

    def __init__(
        self,
        bucket: Bucket,
        tally: Tally,
        *,
        cluster: str,
        node: str,
        retention_s: float,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
        nonce: Callable[[], str],
        pause_s: float = PAUSE_S,
        grace_s: float = GRACE_S,
        lease_ttl_s: float = LEASE_TTL_S,
    ) -> None:
        self.problem = ""
        """What kept the last round from being done, or what it found missing; "" if all is well."""
        self.kept: Kept | None = None
        """How it was after the last round."""
        self._bucket = bucket
        self._tally = tally
        self._cluster = cluster
        self._node = node
        self._retention_s = retention_s
        self._now_ms = now_ms
        self._clock = clock
        self._pause_s = pause_s
        self._grace_s = grace_s
        self._lease = ObjectStoreLease(
            LeaseInBucket(bucket), cluster=cluster, node=node, ttl_s=lease_ttl_s, clock=clock, nonce=nonce
        )
        self._grant: Grant | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_s: float | None = None
        self._done_upto = (0, 0)
        """How many objects had been uploaded, and the newest snapshot, when the last round began."""
        self._manifests: dict[int, Manifest] = {}
        self._alone: set[Stretch] = set()
        self._other: set[Stretch] = set()
        """Objects that lie within others by their names, and not by what they hold."""

    # --- when ---

    def see_to_it(self, *, is_ours: bool, objects: int, snapshot: int) -> None:
        """Begins a round if one is due and it is this node that does it. `objects`: so many were uploaded by now, by
        anybody; `snapshot`: the newest one. Never waits, and what goes wrong is told in `problem`."""
        now_s = self._clock()
        if self._last_s is None:
            self._last_s, self._done_upto = now_s, (objects, snapshot)
        if self._task is not None and not self._task.done():
            return
        before, newest = self._done_upto
        if is_ours and is_due(
            since_s=now_s - self._last_s, objects=objects - before, is_new=snapshot != newest, pause_s=self._pause_s
        ):
            self._last_s = now_s
            self._task = asyncio.create_task(self._run((objects, snapshot)), name="keeping the backup")

    async def stop(self) -> None:
        """Ends a round that is under way, wherever it is."""
        if self._task is not None:
            await ended({self._task})

    def abandon(self) -> None:
        """Ends it at once, as a crash would."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, upto: tuple[int, int]) -> None:
        try:
            if await self.keep():
                self._done_upto = upto
        except (BackupError, LeaseError, LeaseUnusable) as error:
            self.problem = str(error)
            log.warning("the backup is not kept, which is tried again: %s", error)

    # --- a round ---

    async def keep(self) -> bool:
        """One round. False if another node is at it. Raises BackupError, LeaseError, LeaseUnusable; cancelled, or when
        it raises, the next round does what is left."""
        try:
            self._grant = await self._lease.acquire(above=0)
        except LeaseHeld:
            return False
        try:
            self.problem = await self._round()
        except LeaseLost:
            return False
        except (BackupError, LeaseError):
            await self._release()
            raise
        await self._release()
        self._tally.keepings += 1
        return True

    async def _round(self) -> str:
        """What was found to be wrong; "" if nothing was."""
        there = sorted_out(await self._bucket.listed(""))
        left = set(there.changesets)
        problem = await self._merge(there, left)
        problem = await self._remove_covered(there, left) or problem
        snapshots, unread = await self._snapshots(there)
        lost = await self._lost(left, snapshots.base)
        if lost:
            problem = str(missing(self._bucket, lost[0]))
        await self._remove_old(there, snapshots, left)
        await self._write_inventory(there, snapshots, sorted({*left, *lost}))
        if snapshots.kept:
            self.kept = Kept(
                at_ms=self._now_ms(),
                since_ms=ms_of(snapshots.kept[-1].clock),
                snapshots=len(snapshots.kept),
                objects=len(left),
            )
        return problem or unread

    async def _merge(self, there: There, left: set[Stretch]) -> str:
        problem = ""
        self._alone &= left
        for run in to_merge({one: lying.size for one, lying in there.changesets.items()}, self._alone):
            await self._hold()
            merged = await merge(self._bucket, self._cluster, run)
            self._alone |= merged.alone
            self._tally.merged += merged.objects
            left |= set(merged.made)
            problem = problem or ("" if merged.damaged is None else str(merged.damaged))
        return problem

    async def _remove_covered(self, there: There, left: set[Stretch]) -> str:
        """What lies in a larger object that was there for a while, and that is seen to be there, and sound."""
        problem = ""
        self._other &= left
        for large, small in covered(there.changesets, before_ms=there.store_ms - int(self._grace_s * 1000)).items():
            todo = [one for one in small if one not in self._other]
            if not todo:
                continue
            await self._hold()
            try:
                found = await parts_in(self._bucket, large, todo)
            except BackupDamaged as error:
                problem = problem or str(error)
                continue
            self._other |= set(todo) - set(found)
            await self._remove(found, left)
        return problem

    async def _snapshots(self, there: There) -> tuple[_Snapshots, str]:
        """Reads what closes them, from the newest to the base. And what cannot be read, in words."""
        since_ms = oldest_ms(there, now_ms=self._now_ms(), retention_s=self._retention_s)
        kept: list[Manifest] = []
        base: Manifest | None = None
        problem, is_sure = "", True
        # Also those that are not listed: a store that lists late may have them.
        for number in range(there.closed[-1], there.closed[0] - 1, -1) if there.closed else ():
            await self._hold()
            try:
                found = self._manifests.get(number) or await manifest_if_there(self._bucket, number)
            except BackupDamaged as error:
                problem, found = problem or str(error), None
            if found is None:
                is_sure = False
                continue
            kept.append(found)
            if is_base(found, there, since_ms=since_ms):
                base = found
                break
        self._manifests = {one.number: one for one in kept}
        return _Snapshots(kept=kept, base=base, are_all=is_sure), problem

    async def _lost(self, left: set[Stretch], base: Manifest | None) -> list[Stretch]:
        """What was there after the last round, and is not, nor in anything else."""
        before = await newest_inventory(self._bucket)
        listed = sorted(left)
        unlisted = [] if before is None else lying_in_none(before.changesets, listed)
        needed = [one for one in unlisted if base is None or not is_in(one, base)]
        late, lost = await looked_for(self._bucket, Seen(listed=listed, unlisted=needed))
        left |= set(late)
        return lost

    async def _remove_old(self, there: There, snapshots: _Snapshots, left: set[Stretch]) -> None:
        if snapshots.base is not None:
            old: list[Manifest] = []
            for number in older_snapshots(there, snapshots.base):
                await self._hold()
                with contextlib.suppress(BackupDamaged):  # its pieces are left over, then
                    found = await manifest_if_there(self._bucket, number)
                    old += [] if found is None else [found]
                await self._delete([of_closing(number)])
            await self._hold()
            await self._delete(pieces_of(there, old, snapshots.kept))
            await self._remove(in_base(sorted(left), snapshots.base), left)
        if snapshots.are_all:
            await self._hold()
            await self._delete(left_over(there, snapshots.kept))

    async def _write_inventory(self, there: There, snapshots: _Snapshots, changesets: Sequence[Stretch]) -> None:
        """If another node wrote one of that number, it is as good."""
        await self._hold()
        number = max(there.inventories, default=0) + 1
        found = Inventory(
            cluster=self._cluster,
            number=number,
            node=self._node,
            written_ms=self._now_ms(),
            snapshots=tuple(sorted(one.number for one in snapshots.kept)),
            changesets=tuple(changesets),
        )
        await self._bucket.create(of_inventory(number), await asyncio.to_thread(inventory.encode, found))
        await self._bucket.delete([of_inventory(one) for one in there.inventories if one <= number - INVENTORIES_KEPT])

    async def _remove(self, stretches: Sequence[Stretch], left: set[Stretch]) -> None:
        await self._delete([of_stretch(one) for one in stretches])
        left -= set(stretches)

    async def _delete(self, names: Sequence[str]) -> None:
        if names:
            await self._bucket.delete(names)
            self._tally.removed += len(names)

    async def _hold(self) -> None:
        """Before each step: the lease is this node's. Raises LeaseLost if it is not."""
        assert self._grant is not None, "a round begins with a grant"
        if self._clock() >= self._grant.renew_at_s:
            self._grant = await self._lease.renew(self._grant)

    async def _release(self) -> None:
        assert self._grant is not None, "a round begins with a grant"
        with contextlib.suppress(LeaseError):  # then it runs out
            await self._lease.release(self._grant)
