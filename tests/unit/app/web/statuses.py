"""What the replication of a node may say of itself."""

from replication.backup.status import BackupStatus, SiteStatus, Tally
from replication.convergent.status import Progress, ReplicationStatus
from replication.engine.stamps import Site, Stamp

WELL = ReplicationStatus(
    site="5" * 32,
    ready=True,
    joined=True,
    problem="",
    sites=3,
    behind={"beta": 0},
    waiting=0,
    waiting_bytes=0,
    catching_up=None,
)
LATE = ReplicationStatus(
    site="6" * 32,
    ready=False,
    joined=True,
    problem="merging stands still: disk full",
    sites=3,
    behind={"alpha": 2, "gamma": 3},
    waiting=7,
    waiting_bytes=700,
    catching_up=Progress(peer="gamma", since_s=1.0, changesets=1200, bytes=3_100_000, part="journal"),
    notes=("not replicated: table t has no key",),
    counts={"merged": 5},
)

OWN = Site("6" * 32)
UPLOADING = BackupStatus(
    url="s3://bucket/folder",
    problem="",
    doing="",
    snapshot=3,
    age_s=0.7,
    site=OWN,
    sites={OWN: SiteStatus(durable=Stamp(20), uploaded=Stamp(20), restorable=Stamp(10))},
    counts=Tally(objects=3).as_dict(),
)
