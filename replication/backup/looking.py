"""Which objects with changesets there are: what a listing shows, and what the newest inventory names beside that.

Such a one may be there all the same, with a store that lists late. If it is not, and no other one has what it had, it
is missing; that is known before anything of it is looked for."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replication.backup.bucket import Bucket, batch_at
from replication.backup.chains import by_site
from replication.backup.errors import BackupDamaged
from replication.backup.inventory import INVENTORY_MAX_BYTES, BadInventory, Inventory, decode
from replication.backup.names import CHANGESETS, INVENTORIES, Stretch, inventories_in, of_inventory, stretches_in

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """`listed`: what the listing shows; `unlisted`: what the inventory names, and lies in none of those."""

    listed: Sequence[Stretch]
    unlisted: Sequence[Stretch]


async def seen(bucket: Bucket) -> Seen:
    """Asks the bucket: first for the inventory, so that what is removed after it was written is noticed. Raises
    BackupUnreachable."""
    inventory = await newest_inventory(bucket)
    names = await bucket.names(CHANGESETS)
    listed = stretches_in(names)
    return Seen(listed=listed, unlisted=[] if inventory is None else lying_in_none(inventory.changesets, listed))


async def newest_inventory(bucket: Bucket) -> Inventory | None:
    """The newest one that can be read; None if none can. Raises BackupUnreachable."""
    for number in reversed(inventories_in(await bucket.names(INVENTORIES))):
        try:
            content = await bucket.get(of_inventory(number), max_bytes=INVENTORY_MAX_BYTES)
            if content is not None:
                return decode(content)
        except (BadInventory, BackupDamaged) as error:
            log.warning("%s is of no use: %s", bucket.place(of_inventory(number)), error)
    return None


async def looked_for(bucket: Bucket, found: Seen) -> tuple[list[Stretch], list[Stretch]]:
    """Which of the unlisted are there all the same, and which are missing. Raises BackupUnreachable.

    One that is gone, of which both ends lie in others, is neither: what is between is seen where those are read."""
    there, lost, listed = list[Stretch](), list[Stretch](), by_site(found.listed)
    for one in found.unlisted:
        if await _is_there(bucket, one):
            there.append(one)
        elif not _may_lie_in(one, listed.get(one.site, ())):
            lost.append(one)
    return there, lost


def lying_in_none(named: Iterable[Stretch], listed: Sequence[Stretch]) -> list[Stretch]:
    """Those that are not listed, and of which no listed one has everything. Pure."""
    there = by_site(listed)
    return [one for of in by_site(named).values() for one in _not_in(of, there.get(of[0].site, ()))]


def _not_in(named: Sequence[Stretch], there: Sequence[Stretch]) -> list[Stretch]:
    found: list[Stretch] = []
    left = sorted(there, key=lambda one: one.first)
    index, last = 0, -1
    for one in sorted(named, key=lambda one: (one.first, -one.last)):
        while index < len(left) and left[index].first <= one.first:
            last = max(last, left[index].last)
            index += 1
        if one.last > last:
            found.append(one)
    return found


def _may_lie_in(stretch: Stretch, there: Sequence[Stretch]) -> bool:
    return all(any(one.first <= end <= one.last for one in there) for end in (stretch.first, stretch.last))


async def _is_there(bucket: Bucket, stretch: Stretch) -> bool:
    try:
        return await batch_at(bucket, stretch) is not None
    except BackupDamaged:
        return True  # who needs it reads it, and says what is wrong with it
