"""Copies of the database that peers without one fetch: made one at a time, read piece by piece, and removed.

Requests and answers, these of plain items (see `parcels.flat`) but for the pieces, which are bytes:

    ["copy"]                        begins one: its number; nothing if there is nothing to copy, or another peer's turn
    ["copy state", number]          its size and hash once it is made; nothing until then
    ["copy piece", number, offset]  up to a MiB from there on"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import xxhash

from replication.convergent.engine import Engine
from replication.convergent.messages import NotAMessage
from replication.engine.copying import copy_to

log = logging.getLogger(__name__)

COPY_FILE: Final = "copy-for-a-peer.db"
"""In the data directory, where it begins with no database's name."""
PIECE_BYTES: Final = 1024 * 1024
KEPT_S: Final = 30.0
"""A copy that nobody has asked for a piece of for so long is removed."""


@dataclass(slots=True)
class _Copy:
    number: int
    peer: str
    asked_s: float
    size: int = -1
    digest: bytes = b""
    failed: bool = False


class Copies:
    """See the module. Files are written and read in the thread of `engine`."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._path = folder / COPY_FILE
        self._engine = engine
        self._copy: _Copy | None = None
        self._count = 0
        self._making: asyncio.Task[None] | None = None

    async def begin(self, peer: str, open_reader: Callable[[], Awaitable[sqlite3.Connection]]) -> int | None:
        """Begins to make a copy of what the reader sees. None if another peer's is about."""
        now_s = asyncio.get_running_loop().time()
        if self._copy is not None and self._copy.peer != peer and self._copy.asked_s + KEPT_S > now_s:
            return None
        await self.stop()
        self._count += 1
        copy = self._copy = _Copy(number=self._count, peer=peer, asked_s=now_s)
        reader = await open_reader()
        self._making = asyncio.create_task(self._make(copy, reader), name="copy for a peer")
        return copy.number

    async def _make(self, copy: _Copy, reader: sqlite3.Connection) -> None:
        try:
            copy.size, copy.digest = await self._engine.run(lambda: self._write(reader))
        except Exception as error:
            copy.failed = True
            log.warning("a copy of the database for %s could not be made: %s", copy.peer, error)

    def _write(self, reader: sqlite3.Connection) -> tuple[int, bytes]:
        self._path.unlink(missing_ok=True)
        size = copy_to(reader, self._path)
        return size, digest_of(self._path)

    def state(self, number: object) -> tuple[int, bytes] | None:
        """Size and hash of a copy, once it is made. Raises NotAMessage if it is gone."""
        copy = self._asked_for(number)
        return None if copy.size < 0 else (copy.size, copy.digest)

    async def piece(self, number: object, offset: object) -> bytes:
        """Some of it. Raises NotAMessage if it is gone, or nothing is there."""
        copy = self._asked_for(number)
        if not isinstance(offset, int) or not 0 <= offset < copy.size:
            raise NotAMessage("not a place in the copy")
        return await self._engine.run(lambda: self._read(offset))

    def _read(self, offset: int) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), PIECE_BYTES, offset)

    def _asked_for(self, number: object) -> _Copy:
        if self._copy is None or number != self._copy.number or self._copy.failed:
            raise NotAMessage("no such copy; begin again")
        self._copy.asked_s = asyncio.get_running_loop().time()
        return self._copy

    async def forget_old(self) -> None:
        """Removes a copy that nobody fetches any more."""
        if self._copy is not None and self._copy.asked_s + KEPT_S < asyncio.get_running_loop().time():
            await self.stop()

    async def close(self) -> None:
        """Removes the copy, and ends the thread. May be called twice."""
        await self.stop()
        await self._engine.close()

    async def stop(self) -> None:
        """Removes the copy."""
        if self._making is not None:
            await asyncio.wait({self._making})
            self._making = None
        if self._copy is not None:
            self._copy = None
            with contextlib.suppress(OSError):
                await self._engine.run(lambda: self._path.unlink(missing_ok=True))


def digest_of(path: Path) -> bytes:
    """XXH3, 128 bits, of a file: to know that what arrived is what was sent."""
    found = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            found.update(piece)
    return found.digest()
