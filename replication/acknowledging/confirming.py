"""Waiting until peers have a write durably, and telling peers how far one has theirs.

Who waits casts to each peer what it waits for: `["want", [[site, stamp], ...]]`. A peer that has it durably casts back
how far it has those sites: `["has", [[site, stamp], ...]]`. Nothing polls: who lacks it keeps in mind that somebody
waits, and answers once it is merged and synced, many waits with one sync. A cast that is lost is repeated.

What a peer confirmed counts while it is up; a node that comes back may have another disk.

Who waits for the bucket asks no peer: this node's backup uploads at once, and says when it is there."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from cluster.tasks import ended
from replication.acknowledging.levels import Ack, is_enough, wanted
from replication.convergent.messages import Heads, NotAMessage, parse_stamps, plain_stamps
from replication.engine.sites import stamps_of
from replication.engine.stamps import Site, Stamp
from replication.errors import NotConfirmed
from replication.positions import Position, joined

log = logging.getLogger(__name__)

CONFIRMING: Final = "Confirming"
"""The actor's name on every node."""
REPEAT_S: Final = 0.25
RETRY_S: Final = 0.2
SITES_MAX: Final = 100
"""Of one message: a position of a write has one."""


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


class Cluster(Protocol):
    """What confirming needs of `cluster.Node`."""

    def peers(self) -> Sequence[Named]: ...
    def cast(self, node: str, actor: str, message: object) -> None: ...


class Moving(Protocol):
    """Of a change feed: the event that is set when something is folded or merged from now on."""

    @property
    def next_move(self) -> asyncio.Event: ...


class Replication(Protocol):
    """What confirming needs of this node's replication."""

    @property
    def feed(self) -> Moving: ...
    def stamps(self) -> Mapping[Site, Stamp]: ...
    async def heads_now(self) -> Heads | None: ...


class Backup(Protocol):
    """What confirming needs of this node's backup."""

    async def kept(self, position: Position) -> None:
        """Returns once a restore brings back all up to the position; it is uploaded at once."""
        ...

    @property
    def problem(self) -> str:
        """Why nothing is uploaded; "" if all is well."""
        ...


class Confirming:
    """See the module. `start` once the node runs, `stop` before it stops. `backup`: None if there is none."""

    def __init__(self, replication: Replication, *, size: int, backup: Backup | None = None) -> None:
        self._replication = replication
        self._size = size
        self._backup = backup
        self._cluster: Cluster | None = None
        self._has: dict[str, dict[Site, Stamp]] = {}
        """What peers that are up have confirmed."""
        self._waiting: dict[asyncio.Future[None], tuple[Position, Ack]] = {}
        self._asked: dict[str, Position] = {}
        """What peers wait for, and are not told yet."""
        self._new_wait = asyncio.Event()
        self._new_want = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    def start(self, cluster: Cluster) -> None:
        """Begins to ask and to answer."""
        self._cluster = cluster
        self._tasks = [
            asyncio.create_task(self._ask_on(), name="confirming: asking"),
            asyncio.create_task(self._answer_on(), name="confirming: answering"),
        ]

    async def stop(self) -> None:
        """Who still waits waits until its time is over."""
        tasks, self._tasks = self._tasks, []
        await ended(tasks)

    # --- waiting ---

    def why_never(self, level: Ack) -> str:
        """Why nothing here will ever be as sure as that; "" if it may be."""
        if level is Ack.BUCKET and self._backup is None:
            return "bucket needs a backup: [backup] url"
        return ""

    async def confirmed(self, position: Position, level: Ack, *, timeout_s: float, result: object = None) -> None:
        """Returns once what was committed here at the position may be acknowledged. Raises NotConfirmed, which has the
        `result`."""
        if self._is_enough(position, level):
            return
        if level is Ack.BUCKET:
            await self._kept(position, timeout_s, result)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = (position, level)
        self._new_wait.set()
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            have, live = self._confirmed_by(position), self._live()
            where = wanted(level, live=live, size=self._size)
            raise NotConfirmed(position, result, f"{where}, and is on {len(have)}", timeout_s) from None
        finally:
            del self._waiting[future]

    async def _kept(self, position: Position, timeout_s: float, result: object) -> None:
        assert self._backup is not None, "why_never was asked before it was written"
        try:
            async with asyncio.timeout(timeout_s):
                await self._backup.kept(position)
        except TimeoutError:
            problem = self._backup.problem
            why = f", which stands still ({problem})" if problem else ", and what it depends on"
            raise NotConfirmed(position, result, f"in the backup{why}", timeout_s) from None

    def _is_enough(self, position: Position, level: Ack) -> bool:
        return level is Ack.LOCAL or is_enough(
            level, confirmed=self._confirmed_by(position), live=self._live(), size=self._size
        )

    def _confirmed_by(self, position: Position) -> list[str]:
        return [
            peer
            for peer, has in self._has.items()
            if all(has.get(site, -1) >= stamp for site, stamp in position.stamps.items())
        ]

    def _live(self) -> list[str]:
        return [] if self._cluster is None else [peer.name for peer in self._cluster.peers()]

    def _look(self) -> None:
        for future, (position, level) in self._waiting.items():
            if not future.done() and self._is_enough(position, level):
                future.set_result(None)

    async def _ask_on(self) -> None:
        """At once when somebody new waits, and again while anybody does."""
        while True:
            if not self._waiting:
                await self._new_wait.wait()
            self._new_wait.clear()
            sought = joined(position for position, _ in self._waiting.values())
            if sought:
                for peer in self._live():
                    self._cast(peer, "want", sought.stamps)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPEAT_S):
                    await self._new_wait.wait()

    # --- what the actor hands over; never raises, never waits ---

    def cast_from(self, peer: str, message: object) -> bool:
        """A peer waits for something, or has something. False if it says neither."""
        try:
            match message:
                case ["want", list(sites)]:
                    new = Position(_parsed(sites))
                    both = self._asked.get(peer, Position()) | new
                    self._asked[peer] = both if len(both.stamps) <= SITES_MAX else new
                    self._new_want.set()
                case ["has", list(sites)]:
                    self._note(peer, _parsed(sites))
                    self._look()
                case _:
                    return False
        except NotAMessage:
            return False
        return True

    def _note(self, peer: str, stamps: Mapping[Site, Stamp]) -> None:
        sought = {site for position, _ in self._waiting.values() for site in position.stamps}
        has = {site: stamp for site, stamp in self._has.get(peer, {}).items() if site in sought}
        self._has[peer] = has | {s: max(stamp, has.get(s, stamp)) for s, stamp in stamps.items() if s in sought}

    def went_down(self, peer: str) -> None:
        """A peer is gone, and what it confirmed with it. Who waits for all waits for one less."""
        self._has.pop(peer, None)
        self._asked.pop(peer, None)
        self._look()

    # --- answering ---

    async def _answer_on(self) -> None:
        while True:
            self._new_want.clear()
            move = self._replication.feed.next_move
            try:
                await self._answer()
            except (sqlite3.Error, OSError) as error:
                log.debug("nothing can be confirmed now: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            await self._until(move)

    async def _answer(self) -> None:
        here = self._replication.stamps()
        if not any(_part(position, here) for position in self._asked.values()):
            return
        heads = await self._replication.heads_now()
        if heads is None:
            return
        durable = stamps_of(heads.vector)
        for peer, position in list(self._asked.items()):
            reached = _part(position, durable)
            if reached:
                self._cast(peer, "has", {site: durable[site] for site in reached})
                rest = {site: stamp for site, stamp in position.stamps.items() if site not in reached}
                self._asked[peer] = Position(rest)
                if not rest:
                    del self._asked[peer]

    async def _until(self, move: asyncio.Event) -> None:
        """Returns when a peer wants something, or more is merged than before, if anybody waits for that."""
        waits = [asyncio.ensure_future(self._new_want.wait())]
        if self._asked:
            waits.append(asyncio.ensure_future(move.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _cast(self, peer: str, what: str, stamps: Mapping[Site, Stamp]) -> None:
        assert self._cluster is not None, "confirming was started"
        self._cluster.cast(peer, CONFIRMING, [what, plain_stamps(stamps)])


def _parsed(sites: list[Any]) -> dict[Site, Stamp]:
    if len(sites) > SITES_MAX:
        raise NotAMessage("too many sites")
    return parse_stamps(sites)


def _part(position: Position, here: Mapping[Site, Stamp]) -> list[Site]:
    """The sites of it that are reached."""
    return [site for site, stamp in position.stamps.items() if here.get(site, -1) >= stamp]
