"""A node's backup with all that it takes: a thread, the clock. And a database restored from it."""

import secrets
from pathlib import Path

from cluster.lease.boot_clock import boot_clock_s
from replication.backup.bucket import Bucket
from replication.backup.cuts import EVERYTHING, Cut
from replication.backup.keeping import Keeper
from replication.backup.restoring import Progress, Restored, restore
from replication.backup.taking import Snapshots
from replication.backup.uploading import Backup
from replication.backup.what_to_keep import GRACE_S, PAUSE_S
from replication.convergent.engine import ThreadEngine
from replication.convergent.for_file import new_nonce, now_ms
from replication.convergent.replication import Replication
from replication.database_file import new_site


def backup_for_node(
    replication: Replication,
    bucket: Bucket,
    *,
    cluster: str,
    node: str,
    data_dir: Path,
    interval_s: float,
    snapshot_interval_s: float = 3_600.0,
    retention_s: float = 604_800.0,
    keeping_pause_s: float = PAUSE_S,
    keeping_grace_s: float = GRACE_S,
) -> Backup:
    """Asks nobody yet."""
    return Backup(
        replication,
        bucket,
        Snapshots(data_dir, ThreadEngine("litecast backup"), bucket, cluster=cluster, node=node),
        lambda tally: Keeper(
            bucket,
            tally,
            cluster=cluster,
            node=node,
            retention_s=retention_s,
            now_ms=now_ms,
            clock=boot_clock_s,
            nonce=lambda: secrets.token_hex(16),
            pause_s=keeping_pause_s,
            grace_s=keeping_grace_s,
        ),
        cluster=cluster,
        interval_s=interval_s,
        snapshot_interval_s=snapshot_interval_s,
        now_ms=now_ms,
    )


async def restore_from(
    bucket: Bucket,
    target: Path,
    *,
    cut: Cut = EVERYTHING,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Makes the database at `target` from what is in the bucket. Raises as `restore` does."""
    engine = ThreadEngine("litecast restore")
    try:
        return await restore(
            bucket,
            target,
            engine=engine,
            now_ms=now_ms,
            new_site=new_site,
            new_nonce=new_nonce,
            cut=cut,
            cluster=cluster,
            progress=progress,
        )
    finally:
        await engine.close()
