"""A node's backup, from its settings: uploading while it runs, and a database from the bucket where it has none."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from app.config import Config, ConfigError
from app.standing import StatusOf
from replication.backup.bucket import Bucket
from replication.backup.errors import BackupUnreachable, BackupUrlError, NothingToRestore
from replication.backup.for_node import backup_for_node, restore_from
from replication.backup.restoring import Progress, Restored
from replication.backup.secured import SecuredBucket
from replication.backup.stored import StoredBucket
from replication.backup.uploading import Backup
from replication.convergent.for_file import told_to_the_operator
from replication.convergent.replication import Replication
from replication.convergent.status import ReplicationStatus

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 5.0
TOLD_S: Final = 5.0
"""How often a restore that takes long says how far it is."""


def bucket_of(config: Config, url: str, *, as_it_is: bool = False) -> Bucket:
    """The place at a url, plain or encrypted, as the settings say; `as_it_is`: for who only reads and was told to
    encrypt nothing, whatever it is, with the settings' secrets. Asks nobody yet. Raises BackupUrlError, for who only
    reads also if it is a folder that is not there, which opening it would make."""
    if as_it_is and url.startswith("file:///") and not (folder := Path(url2pathname(urlsplit(url).path))).is_dir():
        raise BackupUrlError(f"the backup's url {url!r} cannot be used: there is no folder {folder}; correct the url")
    secrets = [secret for secret in (config.bus.secret, config.backup.old_secret) if secret is not None]
    encrypt = None if as_it_is and not config.backup.encrypt else config.backup.encrypt
    return SecuredBucket(StoredBucket(url), secrets=secrets, encrypt=encrypt)


def url_of(config: Config, named: str | None) -> str:
    """Where the backup is: what was named, else what the settings say. Raises ConfigError."""
    url = named or config.backup.url
    if url is None:
        raise ConfigError("no backup is named: --from URL, or a file with [backup] url, --config FILE")
    return url


def backup_for(config: Config, replication: Replication | None, bucket: Bucket | None) -> Backup | None:
    """What uploads while the node runs; None if there is no backup. Asks nobody yet."""
    if bucket is None or replication is None:
        return None
    return backup_for_node(
        replication,
        bucket,
        cluster=config.cluster.name,
        node=config.node.name,
        data_dir=config.node.data_dir,
        interval_s=config.backup.interval_s,
        snapshot_interval_s=config.backup.snapshot_interval_s,
        retention_s=config.backup.retention_s,
    )


def with_backup(status: StatusOf | None, backup: Backup | None) -> StatusOf | None:
    """How replication stands, and the backup."""
    if status is None or backup is None:
        return status

    def both() -> ReplicationStatus:
        found, stands = status(), backup.status()
        notes = list(found.notes)
        if stands.problem:
            notes.append(f"the backup stands still: {stands.problem}")
        if stands.journal_note:
            notes.append(stands.journal_note)
        if stands.keeping_problem:
            notes.append(f"the backup is not kept as it should be: {stands.keeping_problem}")
        return replace(found, backup=stands, notes=tuple(notes))

    return both


async def first_database(
    config: Config, path: Path, bucket: Bucket | None, copy_of_a_peer: Callable[[], Awaitable[bool]]
) -> str:
    """Where the database of a node that has none comes from: a peer, else the bucket, else it begins anew. In words.

    While the bucket cannot be reached nothing is begun: it may hold all that there is, and what began anew would be
    another history. Raises BackupError but for that."""
    while True:
        if await copy_of_a_peer():
            return "the database is a copy of a peer's"
        if bucket is None:
            return "no peer has a database to copy: beginning anew"
        try:
            restored = await _restored(config, bucket, path)
        except NothingToRestore:
            return "neither a peer nor the backup has a database: beginning anew"
        except BackupUnreachable as error:
            log.warning(
                "no peer has a database, and whether the backup has one cannot be seen: it is asked again; to begin "
                "without what it may hold, take [backup] url out of the settings. %s",
                error,
            )
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return said_of(restored)


async def _restored(config: Config, bucket: Bucket, path: Path) -> Restored:
    progress = Progress()
    with told_to_the_operator(path, config.node.data_dir):
        restoring = asyncio.ensure_future(restore_from(bucket, path, cluster=config.cluster.name, progress=progress))
        try:
            while not (await asyncio.wait({restoring}, timeout=TOLD_S))[0]:
                log.info("restoring from the backup: %s", progress)
        finally:
            restoring.cancel()
            await asyncio.wait({restoring})
        return restoring.result()


def said_of(restored: Restored) -> str:
    """What was restored, in one line."""
    left = len(restored.left_out)
    return (
        f"the database was restored from the backup: snapshot {restored.snapshot.number} and {restored.changesets:,} "
        f"changesets, {restored.size / 1e6:,.1f} MB"
        + (f"; of {left} site(s) something that never got there whole is left out" if left else "")
    )
