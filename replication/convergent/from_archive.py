"""Catching up from an archive where a peer's journal does not reach back far enough: the changesets that are missing,
as the peer's journal had them, and nothing else.

What is read ends where the peer has ended: so it is what the peer has merged, in the order of stamps, and merged in the
same way as if the peer had sent it. What a former primary wrote and nobody took over, its tail, lies in the archive as
well, beyond that; nor is a peer's word enough here that knows of an older epoch than others. Then the peer's journal
has the rest.

Whatever is wrong with the archive costs seconds: a snapshot comes instead, and the archive is left alone for a while.
What was merged by then stays."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from cluster.errors import CallError
from replication.convergent.archive import Archive, Offer, Weight, is_archive_cheaper, parse_weight
from replication.convergent.asking import Bus, ask
from replication.convergent.exchange import Exchange
from replication.convergent.messages import NotAMessage, plain_stamps
from replication.convergent.parcels import ParcelError
from replication.convergent.status import Progress, Tally
from replication.convergent.store import View
from replication.engine.changesets import ChangesetError
from replication.engine.stamps import Site, Stamp, epoch_of
from replication.errors import ReplicationError

log = logging.getLogger(__name__)

FROM: Final = "the backup"
"""Who sent what is read there, for people."""
LOOK_MAX_S: Final = 5.0
"""So long may looking take what is there."""
PART_MAX_S: Final = 20.0
"""So long may each part take to come: about a megabyte."""
AGAIN_S: Final = 60.0
"""So long an archive is left alone that was of no use."""


class Here(Protocol):
    """What this needs of the node's replication."""

    @property
    def archive(self) -> Archive | None:
        """Where changesets are kept for longer, if they are."""
        ...

    def view(self) -> View:
        """How the database is now."""
        ...

    def stamps(self) -> dict[Site, Stamp]:
        """How far each site is merged."""
        ...

    def lacks(self, peer: str, stamps: Mapping[Site, Stamp]) -> dict[Site, Stamp]:
        """What a peer has beyond these, as far as it said, and as far as it can be merged now."""
        ...

    def take_in(self, peer: str, encoded: bytes) -> None:
        """A changeset that was asked for. Raises ChangesetError."""
        ...

    async def settle(self) -> None:
        """Waits until all that can be merged is."""
        ...


class _OfNoUse(Exception):
    """What is in the archive does not lead where it seemed to."""


class FromArchive:
    """See the module. `page` asks a peer for a page of its journal, and takes it in."""

    def __init__(
        self,
        here: Here,
        bus: Bus,
        exchange: Exchange,
        tally: Tally,
        page: Callable[[str, Progress], Awaitable[object]],
    ) -> None:
        self._here = here
        self._bus = bus
        self._exchange = exchange
        self._tally = tally
        self._page = page
        self._not_before_s = 0.0

    async def catch_up(self, peer: str, under_way: Progress) -> bool:
        """Merges what a peer's journal has no longer, if an archive has it for less than a snapshot of the peer. False
        if not all of it came: then a snapshot brings it. Raises what asking and merging raise."""
        archive, wanted = self._here.archive, self._wanted(peer)
        if archive is None or not wanted or _now_s() < self._not_before_s:
            return False
        self._not_before_s = _now_s() + AGAIN_S
        try:
            async with asyncio.timeout(LOOK_MAX_S):
                offer = await archive.offer(self._here.view().vector, wanted)
            if offer is None:
                return False
            weight = await self._weigh(peer, offer)
            if weight is None or not is_archive_cheaper(offer, weight):
                return False
            self._tally.archive_reads += 1
            log.info(
                "%s's journal does not reach back far enough: reading %.1f MB of changesets in the backup, where a"
                " snapshot would be about %.1f MB",
                peer,
                offer.size / 1e6,
                weight.state_bytes / 1e6,
            )
            await self._merge(peer, offer, under_way)
        except TimeoutError:
            return self._fails("it does not answer in time")
        except (ReplicationError, ChangesetError, _OfNoUse, OSError) as error:
            return self._fails(str(error))
        finally:
            under_way.peer = peer
        self._not_before_s = 0.0
        log.info("what %s's journal does not have was merged from the backup", peer)
        return True

    def _fails(self, why: str) -> bool:
        self._tally.archive_fails += 1
        log.warning("what is missing here cannot be had from the backup, a snapshot of a peer is fetched: %s", why)
        return False

    def _wanted(self, peer: str) -> Mapping[Site, Stamp]:
        """What a peer has that is missing here; nothing if its word is not to be taken for what counts."""
        view = self._here.view()
        wanted = self._here.lacks(peer, self._here.stamps())
        if any(map(epoch_of, wanted)) and (view.tail or peer not in self._exchange.in_newest_epoch()):
            return {}
        return wanted

    async def _weigh(self, peer: str, offer: Offer) -> Weight | None:
        """None if the peer cannot say, as one of an older version."""
        would_have = {**self._here.stamps(), **offer.reaches}
        try:
            return parse_weight(await ask(self._bus, peer, ["weigh", plain_stamps(would_have)]))
        except (CallError, ParcelError, NotAMessage) as error:
            log.info("%s does not say what a snapshot of it weighs: %s", peer, error)
            return None

    async def _merge(self, peer: str, offer: Offer, under_way: Progress) -> None:
        async with contextlib.aclosing(offer.parts()) as parts:
            while True:
                under_way.peer, under_way.part = FROM, "changesets"
                async with asyncio.timeout(PART_MAX_S):
                    part = await anext(parts, None)
                if part is None:
                    break
                for encoded in part.changesets:
                    self._here.take_in(FROM, encoded)
                    under_way.add_bytes(len(encoded))
                under_way.changesets += len(part.changesets)
                await self._here.settle()
                if not self._has(part.reaches):  # it depends on what is so new that only the peer has it
                    under_way.peer = peer
                    await self._page(peer, under_way)
                    await self._here.settle()
                if not self._has(part.reaches):
                    raise _OfNoUse("what it has depends on what is nowhere, or is of another history")
        if not self._has(offer.reaches):
            raise _OfNoUse("it ends earlier than its names say")

    def _has(self, wanted: Mapping[Site, Stamp]) -> bool:
        stamps = self._here.stamps()
        return all(site in stamps and stamps[site] >= stamp for site, stamp in wanted.items())


def _now_s() -> float:
    return asyncio.get_running_loop().time()
