"""A piece of a snapshot, read and checked."""

import asyncio

from replication.backup.bucket import Bucket, missing
from replication.backup.envelope import BadEnvelope, unseal
from replication.backup.errors import BackupDamaged
from replication.backup.manifests import PIECE_MAX_BYTES, Manifest
from replication.backup.names import of_piece
from replication.engine.changesets import digest


async def piece(bucket: Bucket, snapshot: Manifest, number: int) -> bytes:
    """What it holds. Raises BackupDamaged if it is not what the snapshot was closed with."""
    name = of_piece(snapshot.snapshot, number)
    sealed = await bucket.get(name, max_bytes=2 * PIECE_MAX_BYTES)
    if sealed is None:
        raise missing(bucket, name)
    expected = snapshot.pieces[number]

    def unsealed() -> bytes:
        content = unseal(sealed, max_bytes=expected.size)
        if digest(content) != expected.digest:
            raise BadEnvelope("is not the piece that the snapshot was closed with")
        return content

    try:
        return await asyncio.to_thread(unsealed)
    except BadEnvelope as error:
        raise BackupDamaged(bucket.place(name), str(error)) from None
