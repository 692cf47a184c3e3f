"""Taking a snapshot: a copy of the database in a file of this node's, uploaded piece by piece, and closed.

What its pieces are called depends on nothing but the copy. So a node that was stopped on the way finds its file when it
comes back, sees which pieces are there, and goes on with the others. Only the object that closes it makes it one.

Snapshots are numbered, and the store gives each number to whoever writes it first. So of two that were taken at the
same time one is the next, and the other, which may lack something that the first has, is none."""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from replication.backup import manifests
from replication.backup.bucket import Bucket
from replication.backup.envelope import seal
from replication.backup.fingerprints import row_digests
from replication.backup.manifests import PIECE_BYTES, Manifest, Piece
from replication.backup.names import SNAPSHOTS, of_closing, of_piece, snapshot_id
from replication.convergent.engine import Engine
from replication.convergent.schemas import schemas_of
from replication.engine import state
from replication.engine.changesets import digest
from replication.engine.copying import copy_to
from replication.engine.sites import known

COPY_MAX_AGE_S: Final = 24 * 3_600.0
"""So long after it was made a copy can be closed. What is older is made anew: its pieces may be removed soon, as
those of nobody. At 1 MB a second 80 GB are uploaded in that time."""
COPY_FILE: Final = "copy-for-the-backup.db"
"""In the data directory, where it begins with no database's name."""


def opened_as_it_is(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody writes, which leaves every byte of it as it is."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


@dataclass(slots=True)
class Taken:
    """How far it is, in bytes of the copy."""

    size: int = 0
    uploaded: int = 0


class Snapshots:
    """See the module. Files are written and read in the thread of `engine`."""

    def __init__(self, folder: Path, engine: Engine, bucket: Bucket, *, cluster: str, node: str) -> None:
        self._path = folder / COPY_FILE
        self._engine = engine
        self._bucket = bucket
        self._cluster = cluster
        self._node = node

    async def begun(self, taken_ms: int) -> Manifest | None:
        """What was copied in a former run, not long ago, and is not uploaded, perhaps; None if nothing was."""
        return await self._engine.run(lambda: None if self._is_old() else self._described(taken_ms))

    async def is_old(self) -> bool:
        """Whether what was copied is too old to be closed, or is not there."""
        return await self._engine.run(self._is_old)

    def _is_old(self) -> bool:
        try:
            age_s = time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return True
        return not -COPY_MAX_AGE_S < age_s < COPY_MAX_AGE_S

    async def copy(self, reader: sqlite3.Connection, taken_ms: int) -> Manifest:
        """Copies what the reader sees, and closes it. Raises sqlite3.Error, OSError."""

        def copied() -> Manifest:
            arriving = self._path.with_suffix(".new")
            arriving.unlink(missing_ok=True)
            copy_to(reader, arriving)
            with arriving.open("rb+") as file:
                os.fsync(file.fileno())  # what is found after a power cut has to be whole
            arriving.replace(self._path)
            return self._described(taken_ms)

        return await self._engine.run(copied)

    async def upload(self, manifest: Manifest, told: Callable[[Taken], None]) -> None:
        """Uploads what is not there. Raises BackupUnreachable, after which it can be called again."""
        snapshot = manifest.snapshot
        there = set(await self._bucket.names(f"{SNAPSHOTS}{snapshot}/"))
        taken = Taken(size=manifest.size)
        for number, piece in enumerate(manifest.pieces):
            name = of_piece(snapshot, number)
            if name not in there:
                sealed = await self._engine.run(lambda number=number: seal(self._piece(number)))  # type: ignore[misc]
                await self._bucket.create(name, sealed)
            taken.uploaded += piece.size
            told(taken)

    async def close_as(self, manifest: Manifest, number: int) -> bool:
        """Makes the pieces the snapshot of this number. False if there is one of that number."""
        sealed = manifests.encode(replace(manifest, number=number))
        return await self._bucket.create(of_closing(number), sealed)

    async def forget(self) -> None:
        """Removes the copy."""
        await self._engine.run(lambda: self._path.unlink(missing_ok=True))

    async def close(self) -> None:
        """Ends the thread. A copy that is not uploaded stays."""
        await self._engine.close()

    def _described(self, taken_ms: int) -> Manifest:
        with contextlib.closing(opened_as_it_is(self._path)) as connection:
            found, sites = state.read(connection), known(connection)
            assert found is not None, "what was copied is attached"
            content, schemas = row_digests(connection), schemas_of(connection)
        pieces = [Piece(size=len(one), digest=digest(one)) for one in self._pieces()]
        whole = hashlib.blake2b(b"".join(piece.digest for piece in pieces), digest_size=8).digest()
        return Manifest(
            snapshot=snapshot_id(found.clock, whole),
            number=1,
            cluster=self._cluster,
            node=self._node,
            taken_ms=taken_ms,
            clock=found.clock,
            pieces=tuple(pieces),
            vector=sites.vector,
            closed=sites.closed,
            schemas=schemas,
            content=content,
        )

    def _pieces(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def _piece(self, number: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(number * PIECE_BYTES)
            return file.read(PIECE_BYTES)
