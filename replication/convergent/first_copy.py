"""A node without a database fetches a physical copy of a peer's, before anything opens the file.

It asks who is there, takes the first that has a copy to give, and fetches it in pieces, some of them on their way at a
time. The file is written beside its place, and linked there when it is whole, has the
sender's hash, and has a site of its own. A file that has come to be there meanwhile is never replaced. What has been
written since is then asked for as ever."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from cluster.errors import CallError, Gone, NoSuchActor
from replication.convergent.asking import REPLICATION, Bus, ask
from replication.convergent.copies import PIECE_BYTES, digest_of
from replication.convergent.engine import Engine
from replication.convergent.messages import NotAMessage
from replication.convergent.parcels import ParcelError, unflat
from replication.engine.copying import make_own
from replication.engine.stamps import Site

log = logging.getLogger(__name__)

ARRIVING: Final = "arriving-"
"""What the name of the file begins with until it is whole: not with the database's, as SQLite's own files do."""
PIECES_UNDER_WAY: Final = 4
POLL_S: Final = 0.05
MAKING_TIMEOUT_S: Final = 600.0
PIECE_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 0.02
OTHERS_S: Final = 0.5
"""How long others are waited for after the first peer has come up."""


class Cluster(Bus, Protocol):
    """What is needed of a node that runs, with or without actors."""

    def peers(self) -> Sequence["Named"]:
        """The peers that are up."""
        ...


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


async def fetch_first_copy(
    bus: Cluster,
    path: Path,
    *,
    wait_s: float,
    engine: Engine,
    new_site: Callable[[], Site],
    new_nonce: Callable[[], bytes],
) -> bool:
    """Puts a peer's database at `path`, where nothing is. False if no peer that comes up within `wait_s` has one.

    Raises OSError and sqlite3.Error (the disk); nothing is at `path` then."""
    tried: set[str] = set()
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + wait_s
    while True:
        peer = next((peer.name for peer in bus.peers() if peer.name not in tried), None)
        if peer is None:
            if loop.time() >= deadline_s:
                return False
            await asyncio.sleep(LOOK_S)
            continue
        if not tried:
            deadline_s = min(deadline_s, loop.time() + OTHERS_S)
        tried.add(peer)
        try:
            if await _fetch(bus, peer, path, engine, new_site, new_nonce):
                return True
        except (CallError, ParcelError, NotAMessage, TimeoutError) as error:
            if isinstance(error, NoSuchActor) and error.reason is Gone.UNKNOWN:
                log.info("%s has no database to copy: it begins just now, or replicates nothing", peer)
            else:
                log.warning("the copy of %s's database did not arrive, the next peer is asked: %s", peer, error)


async def _fetch(
    bus: Bus,
    peer: str,
    path: Path,
    engine: Engine,
    new_site: Callable[[], Site],
    new_nonce: Callable[[], bytes],
) -> bool:
    began = unflat(await ask(bus, peer, ["copy"]))
    if not began:
        return False
    number = _number(began[0])
    size, digest = await _made(bus, peer, number)
    log.info("fetching a copy of %s's database: %.1f MB", peer, size / 1e6)
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_name(f"{ARRIVING}{path.name}")
    try:
        await _receive(bus, peer, number, size, arriving, engine)
        if await engine.run(lambda: digest_of(arriving)) != digest:
            raise NotAMessage("it is not what was sent")
        return await engine.run(lambda: _put_in_place(arriving, path, new_site, new_nonce))
    finally:
        await engine.run(lambda: arriving.unlink(missing_ok=True))


async def _made(bus: Bus, peer: str, number: int) -> tuple[int, bytes]:
    async with asyncio.timeout(MAKING_TIMEOUT_S):
        while True:
            match unflat(await ask(bus, peer, ["copy state", number])):
                case [bytes(size), bytes(digest)]:
                    return _number(size), digest
                case []:
                    await asyncio.sleep(POLL_S)
                case _:
                    raise NotAMessage("not the state of a copy")


async def _receive(bus: Bus, peer: str, number: int, size: int, arriving: Path, engine: Engine) -> None:
    file = await engine.run(lambda: arriving.open("wb"))
    try:
        offsets = iter(range(0, size, PIECE_BYTES))
        received = 0
        told = 0

        async def fetch() -> None:
            nonlocal received, told
            for offset in offsets:
                request = ["copy piece", number, offset]
                piece = await bus.call(peer, REPLICATION, request, timeout_s=PIECE_TIMEOUT_S)
                if not isinstance(piece, bytes) or len(piece) != min(PIECE_BYTES, size - offset):
                    raise NotAMessage("not a piece of the copy")
                await engine.run(lambda piece=piece, offset=offset: os.pwrite(file.fileno(), piece, offset))  # type: ignore[misc]
                received += len(piece)
                if received * 10 // size > told:
                    told = received * 10 // size
                    log.info("copy of %s's database: %d %%", peer, told * 10)

        async with asyncio.TaskGroup() as group:
            for _ in range(PIECES_UNDER_WAY):
                group.create_task(fetch())
    except* (CallError, NotAMessage) as errors:
        raise NotAMessage(str(errors.exceptions[0])) from errors
    finally:
        await engine.run(file.close)


def _put_in_place(arriving: Path, path: Path, new_site: Callable[[], Site], new_nonce: Callable[[], bytes]) -> bool:
    make_own(arriving, new_site=new_site, new_nonce=new_nonce())
    with arriving.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        os.link(arriving, path)
    except FileExistsError:
        log.warning("a database has come to be at %s meanwhile: it stays, and the copy is dropped", path)
        return False
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _number(item: object) -> int:
    if not isinstance(item, bytes) or len(item) != 8:
        raise NotAMessage("not a number")
    return int.from_bytes(item, "little")
