"""What is in a bucket, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replication.backup.bucket import Bucket, manifest_if_there, whose
from replication.backup.chains import by_site
from replication.backup.looking import looked_for, seen
from replication.backup.manifests import Manifest
from replication.backup.names import SNAPSHOTS, Stretch, of_stretch, snapshots_in
from replication.backup.what_to_keep import is_in
from replication.engine.stamps import Site, ms_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """`cluster`: whose backup it is; None if nothing is there."""

    cluster: str | None
    snapshots: Sequence[Manifest] = ()
    """The complete ones, the newest last."""
    sites: Mapping[Site, Sequence[Stretch]]
    missing: Sequence[Stretch] = ()
    """Objects that were there when the backup was kept last, of which the oldest snapshot has not everything."""

    @property
    def span_ms(self) -> tuple[int, int] | None:
        """The first moment that can be restored, and that of the newest change there is; None if none can be.

        Any later one can be asked for, and has nothing more."""
        if not self.snapshots:
            return None
        ends = [one.last for stretches in self.sites.values() for one in stretches]
        return self.snapshots[0].from_ms, max(self.snapshots[-1].from_ms, *map(ms_of, ends), 0)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "cluster": self.cluster,
            "from_ms": self.span_ms[0] if self.span_ms else None,
            "newest_ms": self.span_ms[1] if self.span_ms else None,
            "snapshots": [
                {
                    "snapshot": one.number,
                    "taken_ms": one.taken_ms,
                    "node": one.node,
                    "bytes": one.size,
                    "pieces": len(one.pieces),
                    "sites": {site: head.stamp for site, head in sorted(one.vector.items())},
                }
                for one in self.snapshots
            ],
            "sites": {
                site: [{"first": one.first, "last": one.last} for one in stretches]
                for site, stretches in sorted(self.sites.items())
            },
            "missing": [of_stretch(one) for one in self.missing],
        }


async def listed(bucket: Bucket) -> Listed:
    """Asks the bucket. Raises BackupError."""
    cluster = await whose(bucket)
    if cluster is None:
        return Listed(cluster=None, sites={})
    found = await seen(bucket)
    numbers = snapshots_in(await bucket.names(SNAPSHOTS))
    snapshots = [one for one in [await manifest_if_there(bucket, number) for number in numbers] if one is not None]
    needed = [one for one in found.unlisted if not snapshots or not is_in(one, snapshots[0])]
    late, missing = await looked_for(bucket, replace(found, unlisted=needed))
    return Listed(cluster=cluster, snapshots=snapshots, sites=by_site(sorted([*found.listed, *late])), missing=missing)
