"""What backup needs of a store: objects by name that are written once. And the rules of a place that is a backup's."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from replication.backup import batches, marker
from replication.backup.batches import CONTENT_MAX_BYTES, BadBatch, Batch
from replication.backup.errors import BackupDamaged, BackupRefused
from replication.backup.manifests import MANIFEST_MAX_BYTES, BadManifest, Manifest
from replication.backup.manifests import decode as decode_manifest
from replication.backup.names import MARKER, SNAPSHOTS, Stretch, is_key, of_closing, of_stretch, snapshots_in


class Lying(NamedTuple):
    """An object as it lies there: its name, its bytes, and when it was written, by the clock of the store."""

    name: str
    size: int
    written_ms: int


class Bucket(Protocol):
    """Objects under one url. All raise BackupUnreachable; then nobody knows whether it was done."""

    async def create(self, name: str, content: bytes) -> bool:
        """Writes an object if there is none of that name: whether there was none."""
        ...

    async def get(self, name: str, *, max_bytes: int) -> bytes | None:
        """What an object holds; None if there is none. Raises BackupDamaged if it is larger."""
        ...

    async def names(self, prefix: str) -> Sequence[str]:
        """The names of all objects that begin with the prefix, which is empty or ends with a slash."""
        ...

    async def listed(self, prefix: str) -> Sequence[Lying]:
        """As `names`, with what else a listing shows."""
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Removes objects. One that is not there is removed already."""
        ...

    async def put(self, name: str, content: bytes) -> None:
        """Writes an object over what is there. For the lease alone: all else is written once."""
        ...

    def place(self, name: str = "") -> str:
        """Where that is, for people; without any secret."""
        ...


async def whose(bucket: Bucket) -> str | None:
    """The cluster whose backup this is; None if nothing is there. Raises BackupRefused if it is something else."""
    content = await bucket.get(MARKER, max_bytes=marker.MARKER_MAX_BYTES)
    if content is None:
        there = [name for name in await bucket.names("") if not is_key(name)]  # who wrote that was stopped right then
        if there and MARKER not in there:
            remedy = "give the backup a folder of its own: [backup] url"
            raise BackupRefused(bucket.place(), f"holds something else ({there[0][:80]})", remedy)
        return None
    try:
        return marker.decode(content).cluster
    except marker.BadMarker as error:
        raise BackupRefused(bucket.place(MARKER), str(error), "name another place, or another litecast") from None


async def claim(bucket: Bucket, cluster: str) -> None:
    """From now on, if it was nobody's, the place is this cluster's. Raises BackupRefused if it is another's."""
    found = await whose(bucket)
    if found is None and not await bucket.create(MARKER, marker.encode(marker.Marker(cluster))):
        found = await whose(bucket)
    if found is not None:
        check_is_of(bucket, cluster, found=found)


def check_is_of(bucket: Bucket, cluster: str, *, found: str) -> None:
    """Raises BackupRefused if the place is another cluster's: `found` says whose."""
    if found != cluster:
        remedy = f"name another place in [backup] url, or {found!r} in [cluster] name"
        raise BackupRefused(bucket.place(), f"is the backup of cluster {found!r}, and this is {cluster!r}", remedy)


async def batch_at(bucket: Bucket, stretch: Stretch, *, cluster: str | None = None) -> Batch | None:
    """What the object of these changesets holds; None if there is none. Raises BackupDamaged if it is no batch, or not
    the one that its name says, or, if `cluster` is given, another cluster's."""
    name = of_stretch(stretch)
    sealed = await bucket.get(name, max_bytes=CONTENT_MAX_BYTES)
    if sealed is None:
        return None
    try:
        batch = await asyncio.to_thread(batches.decode, sealed)
    except BadBatch as error:
        raise BackupDamaged(bucket.place(name), str(error)) from None
    if batch.stretch != stretch or batch.cluster != (cluster or batch.cluster):
        raise BackupDamaged(bucket.place(name), "holds something else than its name says")
    return batch


def missing(bucket: Bucket, what: Stretch | str) -> BackupDamaged:
    """What is to be said of changesets, or of an object by its name, that should be there."""
    return BackupDamaged(bucket.place(what if isinstance(what, str) else of_stretch(what)), "is missing")


async def newest_snapshot(bucket: Bucket) -> Manifest | None:
    """What closes the newest complete snapshot; None if none is complete. Raises BackupDamaged."""
    complete = snapshots_in(await bucket.names(SNAPSHOTS))
    return await manifest(bucket, complete[-1]) if complete else None


async def oldest_snapshot(bucket: Bucket) -> Manifest | None:
    """What closes the oldest snapshot that is there; None if none is complete. Raises BackupDamaged."""
    complete = snapshots_in(await bucket.names(SNAPSHOTS))
    return await manifest(bucket, complete[0]) if complete else None


async def manifest(bucket: Bucket, number: int) -> Manifest:
    """What closes a snapshot. Raises BackupDamaged."""
    found = await manifest_if_there(bucket, number)
    if found is None:
        raise missing(bucket, of_closing(number))
    return found


async def manifest_if_there(bucket: Bucket, number: int) -> Manifest | None:
    """What closes a snapshot; None if nothing does. Raises BackupDamaged."""
    name = of_closing(number)
    content = await bucket.get(name, max_bytes=MANIFEST_MAX_BYTES)
    if content is None:
        return None
    try:
        found = decode_manifest(content)
    except BadManifest as error:
        raise BackupDamaged(bucket.place(name), str(error)) from None
    if found.number != number:
        raise BackupDamaged(bucket.place(name), f"is that of snapshot {found.number}")
    return found
