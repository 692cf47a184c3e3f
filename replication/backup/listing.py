"""What is in a bucket, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replication.backup.bucket import Bucket, manifest, whose
from replication.backup.chains import by_site
from replication.backup.manifests import Manifest
from replication.backup.names import Stretch, snapshots_in, stretch_of
from replication.engine.stamps import Site, ms_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """`cluster`: whose backup it is; None if nothing is there."""

    cluster: str | None
    snapshots: Sequence[Manifest] = ()
    """The complete ones, the newest last."""
    sites: Mapping[Site, Sequence[Stretch]]

    @property
    def span_ms(self) -> tuple[int, int] | None:
        """The first moment that can be restored, and that of the newest change there is; None if none can be.

        Any later one can be asked for, and has nothing more."""
        if not self.snapshots:
            return None
        ends = [one.last for stretches in self.sites.values() for one in stretches]
        return ms_of(self.snapshots[0].clock), ms_of(max([self.snapshots[-1].clock, *ends]))

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
        }


async def listed(bucket: Bucket) -> Listed:
    """Asks the bucket. Raises BackupError."""
    cluster = await whose(bucket)
    if cluster is None:
        return Listed(cluster=None, sites={})
    names = await bucket.names("")
    return Listed(
        cluster=cluster,
        snapshots=[await manifest(bucket, one) for one in snapshots_in(names)],
        sites=by_site(one for one in map(stretch_of, names) if one is not None),
    )
