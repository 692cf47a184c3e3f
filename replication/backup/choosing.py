"""Which snapshot a restore begins with: the newest that has nothing beyond what is wanted."""

from replication.backup.bucket import Bucket, manifest_if_there
from replication.backup.cuts import AtMoment, Cut, Fit
from replication.backup.errors import NothingToRestore, NotInBackup
from replication.backup.manifests import Manifest
from replication.backup.moments import said
from replication.backup.names import SNAPSHOTS, snapshots_in


async def snapshot_for(bucket: Bucket, cut: Cut, *, now_ms: int) -> Manifest:
    """What closes it. Raises NothingToRestore if no snapshot is complete, and NotInBackup if all have more than is
    wanted, or the moment has not come yet."""
    if isinstance(cut, AtMoment) and cut.is_later_than(now_ms):
        problem = f"has nothing of {said(cut.ms)} yet, since it is {said(now_ms)} now"
        raise NotInBackup(bucket.place(), problem, "name a moment that has passed")
    numbers = snapshots_in(await bucket.names(SNAPSHOTS))
    if not numbers:
        raise NothingToRestore(bucket.place())
    nearly: Manifest | None = None
    found: Manifest | None = None
    for number in reversed(numbers):
        closing = await manifest_if_there(bucket, number)
        if closing is None:
            continue  # it was too old, and went meanwhile
        found = closing
        fit = cut.fits(found)
        if fit is Fit.YES:
            return found
        if fit is Fit.MORE and nearly is None:
            nearly = found
    if nearly is not None:
        return nearly
    if found is None:
        raise NothingToRestore(bucket.place())
    first = f"its first snapshot is of {said(found.from_ms)}"
    if isinstance(cut, AtMoment):
        problem, remedy = f"has nothing as early as {said(cut.ms)}", "name a moment from then until now"
    else:
        problem, remedy = "has nothing as early as that position", "name a later position, or a moment: --at"
    raise NotInBackup(bucket.place(), f"{problem}, {first}", remedy)
